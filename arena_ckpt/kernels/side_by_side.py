"""Compiles entries side by side: worker processes fill the disk cache.

Three stages. What the disk cache holds is loaded; that takes no compiler, and a warm
start ends here. What it lacks is compiled by this process and by workers, the longest
first, all from one list, so that they finish together. Then this process loads what
the workers left on disk, and compiles what they could not: errors appear here.

A worker is this module as a program: told an entry on each line of its standard input,
it compiles it and answers with a line. It ends with its input. So a script without
``if __name__ == "__main__"`` is not run again, as `multiprocessing` would; and kernels
of people's own, which only this process can import for sure, are compiled here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numba

from arena_ckpt.errors import ArenaError
from arena_ckpt.kernels.compiling import has_disk_cache
from arena_ckpt.kernels.kernel import Kernel, Pattern, kernel_of
from arena_ckpt.operations import own
from arena_ckpt.operations.kernel_names import KernelName

Report = Callable[[int, int], None]
"""Told how many entries are ready, and of how many."""

Entry = tuple[KernelName, Pattern]
"""A kernel and which of its arguments are the same memory."""

PROCESSES_VARIABLE = "ARENA_CKPT_COMPILERS"
"""Environment variable with the number of processes that compile, this one included."""

MOST_PROCESSES = 4
"""Maximum number of processes that compile where nobody says: few entries are long."""

LEAST_BYTES = 3_000
"""Number of bytes of Python code that take as long to compile as a worker to start."""

_READY, _DONE, _FAILED = "ready", "done", "failed"


def make_ready(entries: Sequence[Entry], report: Report | None = None) -> None:
    """Load or compile entries, so that `Kernel.entry` finds them at once.

    Parameters
    ----------
    entries : sequence of (KernelName, Pattern)
        Each once.
    report : callable, optional
        Told how many entries are ready, or about to be, and of how many.

    Raises
    ------
    KernelCompileError
        A kernel cannot be compiled.
    """
    told = report or (lambda done, total: None)
    missing = [entry for entry in entries if not _load(entry)]
    missing.sort(key=lambda entry: -code_bytes(kernel_of(entry[0])))
    own_tasks = deque(entry for entry in missing if entry[0].family == own.FAMILY)
    tasks = deque(entry for entry in missing if entry[0].family != own.FAMILY)
    with _workers(tasks):
        while (entry := _next(own_tasks) or _next(tasks)) is not None:
            told(len(entries) - len(own_tasks) - len(tasks) - 1, len(entries))
            _compile(entry)
    for entry in missing:
        if not _load(entry):
            _compile(entry)
    told(len(entries), len(entries))


def code_bytes(kernel: Kernel) -> int:
    """Return how much Python code a kernel is made of, with all that it calls.

    The time to compile it grows with that: seconds for 10,000 bytes.
    """
    seen: set[Any] = set()
    ahead: list[Any] = [kernel.python]
    while ahead:
        function = ahead.pop()
        if function not in seen:
            seen.add(function)
            known = function.__globals__
            called = (known.get(name) for name in function.__code__.co_names)
            parts = (getattr(one, "py_func", None) for one in called)
            ahead += [part for part in parts if part is not None]
    return sum(len(function.__code__.co_code) for function in seen)


def _load(entry: Entry) -> bool:
    name, pattern = entry
    return kernel_of(name).load(pattern)


def _compile(entry: Entry) -> None:
    name, pattern = entry
    kernel_of(name).compile(pattern)


def _next(tasks: deque[Entry]) -> Entry | None:
    """Take the next task, if there is one; any thread may ask."""
    try:
        return tasks.popleft()
    except IndexError:
        return None


# -- the side of the process that needs the entries ------------------------------------


class _Worker:
    """A process that compiles tasks, and the thread that hands them to it."""

    def __init__(self, tasks: deque[Entry]) -> None:
        self._tasks = tasks
        self._is_busy = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for this process, which ends workers
        )
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        given, answers = self._process.stdin, self._process.stdout
        assert given is not None
        assert answers is not None
        with suppress(OSError, ValueError):  # it died, or was ended
            if answers.readline().strip() != _READY:
                return
            while (task := _next(self._tasks)) is not None:
                self._is_busy = True
                given.write(_line_of(task))
                given.flush()
                if not answers.readline():
                    return  # the task is compiled by this process, later
                self._is_busy = False

    def wait(self) -> None:
        """Wait for the task under way."""
        if self._is_busy:
            self._thread.join()

    def end(self) -> None:
        """End the process, whatever it does: files appear in the cache whole."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was written to a process that died
                pipe.close()


@contextmanager
def _workers(tasks: deque[Entry]) -> Iterator[None]:
    """Let workers take tasks while the body runs; wait for those they have begun."""
    workers: list[_Worker] = []
    try:
        with suppress(OSError):  # no process can be started: all is compiled here
            for _ in range(_n_workers(tasks)):
                workers.append(_Worker(tasks))
        yield
        for worker in workers:
            worker.wait()
    finally:
        for worker in workers:
            worker.end()


def _n_workers(tasks: Sequence[Entry]) -> int:
    """Return how many workers pay for these tasks, the longest of which is first."""
    kernels = [kernel_of(name) for name, _ in tasks]
    sizes = [code_bytes(kernel) for kernel in kernels]
    n_paid = sum(sizes[1:]) // LEAST_BYTES  # the longest is for this process
    if n_paid == 0 or not has_disk_cache(kernels[0].python):
        return 0
    return min(n_paid, n_processes() - 1)


def n_processes() -> int:
    """Return how many processes may compile, this one included."""
    if not _is_python(sys.executable):
        return 1
    asked = os.environ.get(PROCESSES_VARIABLE, "")
    if asked.isdecimal():
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_PROCESSES)
    return min(os.cpu_count() or 1, MOST_PROCESSES)


def _is_python(executable: str | None) -> bool:
    """Whether a program is Python, and not one with Python in it."""
    is_named = Path(executable or "").name.lower().startswith("python")
    return is_named and not getattr(sys, "frozen", False)


def _environment() -> dict[str, str]:
    """Return the environment of a worker: the same modules, and the same cache."""
    paths = [os.path.abspath(path) for path in sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    folder: str = getattr(numba.config, "CACHE_DIR", "")
    return environment | ({"NUMBA_CACHE_DIR": folder} if folder else {})


def _line_of(task: Entry) -> str:
    name, pattern = task
    return json.dumps([name.family, name.entry, name.variant, pattern]) + "\n"


# -- the side of a worker --------------------------------------------------------------


def _task_of(line: str) -> Entry:
    family, entry, variant, pattern = json.loads(line)
    return KernelName(family, entry, (), tuple(variant)), tuple(pattern)


def work(tasks: Iterable[str], answers: IO[str]) -> None:
    """Compile the entry that each line names; answer each with a line."""

    def answer(word: str) -> None:
        answers.write(word + "\n")
        answers.flush()

    answer(_READY)
    for line in tasks:
        try:
            _compile(_task_of(line))
        except (ArenaError, OSError):
            answer(_FAILED)
        else:
            answer(_DONE)


def _main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a module prints is taken for an answer
    work(sys.stdin, answers)


if __name__ == "__main__":
    _main()
