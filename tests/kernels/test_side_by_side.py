"""The disk cache is filled by several processes, and what fails there is done here."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import pytest

from arena_ckpt.errors import KernelCompileError
from arena_ckpt.kernels import side_by_side
from arena_ckpt.kernels.kernel import Kernel, kernel_of
from arena_ckpt.kernels.side_by_side import Entry, make_ready
from arena_ckpt.operations import own
from arena_ckpt.operations.array_types import Vector
from arena_ckpt.operations.families import elementwise
from arena_ckpt.operations.kernel_names import KernelName

ENTRIES: list[Entry] = [
    (elementwise.add, (0, 1, 2)),
    (elementwise.add, (0, 1, 0)),
    (elementwise.add_to, (0, 1)),
    (elementwise.fill, (0, 1)),
]


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is compiled, neither here nor on disk; two processes may compile."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv(side_by_side.PROCESSES_VARIABLE, "2")
    monkeypatch.setattr(side_by_side, "LEAST_BYTES", 1)
    forget(monkeypatch)
    return tmp_path / "cache"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what is compiled in this process."""
    for name, _ in ENTRIES:
        monkeypatch.setattr(kernel_of(name), "_entries", {})


def check_sum() -> None:
    x = np.array([1.5, 2.0], np.float32)
    y = np.zeros(2, np.float32)
    add = kernel_of(elementwise.add)
    add(x, x, y)
    assert y.tolist() == [3.0, 4.0]


def files(cache: Path) -> list[str]:
    return sorted(path.suffix for path in cache.rglob("elementwise.*"))


def check_whole(cache: Path) -> None:
    """Each entry has an index that names one file of code, which is there."""
    assert files(cache) == [".nbc"] * len(ENTRIES) + [".nbi"] * len(ENTRIES)
    for index in cache.rglob("elementwise.*.nbi"):
        with index.open("rb") as file:
            pickle.load(file)
            _, overloads = pickle.load(file)
        (data,) = overloads.values()
        assert (index.parent / data).stat().st_size > 0


def test_each_entry_is_compiled_once(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker and this process share the list, and all is there afterwards."""
    handed: list[Entry] = []
    is_handed = threading.Event()
    line_of, compile_here = side_by_side._line_of, Kernel.compile
    done_here: list[tuple[str, tuple[int, ...]]] = []

    def hand(task: Entry) -> str:
        handed.append(task)
        is_handed.set()
        return line_of(task)

    def compile_(kernel: Kernel, pattern: tuple[int, ...]) -> None:
        is_handed.wait(60)  # as slow as a long kernel: the worker has started by then
        done_here.append((kernel.name, pattern))
        compile_here(kernel, pattern)

    monkeypatch.setattr(side_by_side, "_line_of", hand)
    monkeypatch.setattr(Kernel, "compile", compile_)
    told: list[tuple[int, int]] = []
    make_ready(ENTRIES, lambda done, total: told.append((done, total)))
    monkeypatch.undo()
    asked = Counter((name.entry, pattern) for name, pattern in ENTRIES)
    by_worker = [(name.entry, pattern) for name, pattern in handed]
    assert Counter([*by_worker, *done_here]) == asked
    assert by_worker
    assert done_here
    assert told == sorted(told)
    assert told[-1] == (4, 4)
    check_whole(fresh)


def test_a_warm_start_starts_no_process(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on disk is loaded; nothing is compiled, no process started."""
    monkeypatch.setenv(side_by_side.PROCESSES_VARIABLE, "1")
    make_ready(ENTRIES)
    check_whole(fresh)
    forget(monkeypatch)
    monkeypatch.setenv(side_by_side.PROCESSES_VARIABLE, "2")

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a process is started, or a kernel compiled")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(side_by_side, "_compile", refuse)
    make_ready(ENTRIES)
    check_sum()


def test_processes_fill_one_cache_at_once(fresh: Path) -> None:
    """Two processes compile the same entries, and leave each whole."""
    lines = "".join(side_by_side._line_of(entry) for entry in ENTRIES)
    workers = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", side_by_side.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=side_by_side._environment(),
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(lines)
        worker.stdin.flush()
    for worker in workers:
        answers, _ = worker.communicate()
        assert answers.split() == ["ready", *["done"] * len(ENTRIES)]
        assert worker.returncode == 0
    check_whole(fresh)
    assert all(side_by_side._load(entry) for entry in ENTRIES)
    check_sum()


BAD_WORKERS = {
    "cannot start": "exit 1",
    "dies at its first task": "echo ready; read line; exit 1",
    "fails at every task": "echo ready; while read line; do echo failed; done",
    "is no program": None,
}


def bad_python(folder: Path, script: str | None) -> str:
    """Return a program by the name of Python that runs a line of shell instead."""
    path = folder / "python"
    if script is not None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize("script", BAD_WORKERS.values(), ids=list(BAD_WORKERS))
def test_what_a_worker_fails_at_is_compiled_here(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    """All entries are ready, with the same results, whatever becomes of the worker."""
    monkeypatch.setattr(sys, "executable", bad_python(tmp_path, script))
    make_ready(ENTRIES[:2])
    assert all(pattern in kernel_of(name)._entries for name, pattern in ENTRIES[:2])
    check_sum()


def test_ctrl_c_ends_workers(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process is left behind, and the interrupt goes on."""
    monkeypatch.setattr(sys, "executable", bad_python(tmp_path, "exec sleep 20"))
    started: list[subprocess.Popen[str]] = []
    popen: Callable[..., subprocess.Popen[str]] = subprocess.Popen

    def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
        started.append(popen(*arguments, **options))
        return started[-1]

    def interrupt(entry: Entry) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(side_by_side, "_compile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_ready(ENTRIES)
    assert [process.poll() for process in started] == [-9]


def test_few_entries_are_compiled_here(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker would take longer to start than these take."""
    monkeypatch.setattr(side_by_side, "LEAST_BYTES", 3_000)
    assert side_by_side._n_workers(ENTRIES) == 0
    monkeypatch.setattr(side_by_side, "LEAST_BYTES", 1)
    assert side_by_side._n_workers(ENTRIES) == 1
    monkeypatch.setenv(side_by_side.PROCESSES_VARIABLE, "1")
    assert side_by_side._n_workers(ENTRIES) == 0


def test_without_a_cache_all_is_compiled_here(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no folder can be written, workers would have nowhere to leave code."""
    monkeypatch.setattr(side_by_side, "has_disk_cache", lambda function: False)
    assert side_by_side._n_workers(ENTRIES) == 0


def test_the_environment_stays(fresh: Path) -> None:
    """A worker is told where to keep code; this process's environment is not."""
    before = dict(os.environ)
    given = side_by_side._environment()
    assert given["NUMBA_CACHE_DIR"] == str(fresh)
    assert dict(os.environ) == before
    assert "" not in given["PYTHONPATH"].split(os.pathsep)


def double(x: Vector, y: Vector) -> None:
    for i in range(x.size):
        y[i] = x[i] + x[i]


def wrong(x: Vector) -> None:
    x[0] = unknown  # noqa: F821


def own_entry(function: Callable[..., None]) -> Entry:
    return KernelName(own.FAMILY, own.register(function), ()), (0, 1)  # type: ignore[arg-type]


def test_own_kernels_are_compiled_here(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker is asked, which might not find the module; nor told of errors."""
    handed: list[Entry] = []
    monkeypatch.setattr(
        side_by_side, "_n_workers", lambda tasks: handed.extend(tasks) or 0
    )
    entry = own_entry(double)
    make_ready([entry, ENTRIES[0]])
    assert handed == [ENTRIES[0]]
    name, pattern = own_entry(wrong)
    with pytest.raises(KernelCompileError, match="unknown"):
        make_ready([(name, pattern[:1])])
