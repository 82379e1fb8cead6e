"""Runs work in a child process, so that a crash there becomes a finding.

The child is forked, so it has the model as it is, with the user's own layers. It sends
messages through a pipe. Before each step, native code writes the step's number to
memory that parent and child share, so the parent knows at which step a child crashed.
If a system has no fork (Windows) or no process is left, the work is done in this
process.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn, Protocol, TypeVar

import numpy as np

from arena_ckpt.common.progress import relay_progress, relayed_progress
from arena_ckpt.engine.debug.runner import describe
from arena_ckpt.engine.program import StepNote
from arena_ckpt.errors import CrashError
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Access, Execution

AT_MOST_SECONDS = 3600.0
"""Seconds after which a child hangs, if it sends no message and ends no step
meanwhile."""

_LOOK_SECONDS = 1.0
"""Seconds between two looks of the parent at whether a step has ended."""

T = TypeVar("T")


class Voice(Protocol):
    """The channel through which work reports what it does."""

    is_apart: bool
    """Whether the work is done in another process."""

    def say(self, what: object) -> None:
        """Send a message, which must be picklable, to the process that waits."""

    def follow(self, plan: MemoryPlan) -> StepNote | None:
        """Return the note in which the steps of a plan record where they are."""


def run_apart(work: Callable[[Voice], None], hear: Callable[[Any], None]) -> None:
    """Do work in a child process, and receive its messages while it runs.

    Parameters
    ----------
    work : callable
        Its changes to objects are lost with the child; its messages are not.
    hear : callable
        Called in this process with each message of the work.

    Raises
    ------
    CrashError
        The child crashed, was killed, or hung.
    Exception
        The error that the work raised.
    """
    child = _Child.start(work)
    if child is None:
        work(_Here(hear))
        return
    try:
        with relayed_progress() as show:
            child.hear_all(hear, show)
    finally:
        child.end()


def call_apart(function: Callable[[], T]) -> T:
    """Return the result of a function that is called in a child process."""
    answers: list[T] = []
    run_apart(lambda voice: voice.say(function()), answers.append)
    return answers[0]


class _Here:
    """The channel of work in this process, on systems that cannot fork."""

    is_apart = False

    def __init__(self, hear: Callable[[Any], None]) -> None:
        self.say = hear

    def follow(self, plan: MemoryPlan) -> StepNote | None:
        return None


class _There:
    """The channel of work in a child process."""

    is_apart = True

    def __init__(self, sender: Connection, cell: np.ndarray) -> None:
        self._sender = sender
        self._cell = cell
        self._n_steps = 0

    def say(self, what: object) -> None:
        self._sender.send(("said", what))

    def follow(self, plan: MemoryPlan) -> StepNote | None:
        first, self._n_steps = self._n_steps, self._n_steps + len(plan.steps)
        texts = {e.step: _describe(plan, e) for e in plan.executions}
        self._sender.send(("steps", (first, texts)))
        return StepNote(self._cell, first)


def _describe(plan: MemoryPlan, execution: Execution) -> tuple[str, str]:
    """Return how messages name a step, and the tensors that it touches."""
    names = {
        is_written: ", ".join(
            plan.tensors[o.tensor].name
            for o in execution.operands
            if (o.access is Access.WRITE) == is_written
        )
        for is_written in (False, True)
    }
    touches = (
        f"it reads {names[False] or 'nothing'}, and only writes "
        f"{names[True] or 'nothing'}"
    )
    return describe(execution), touches


class _Child:
    """A child process, as its parent sees it."""

    def __init__(
        self, process: int, receiver: Connection, lifeline: int, cell: np.ndarray
    ) -> None:
        self._process = process
        self._receiver = receiver
        self._lifeline = lifeline
        self._cell = cell
        self._status: int | None = None
        self._firsts: list[int] = []
        self._texts: list[dict[int, tuple[str, str]]] = []

    @classmethod
    def start(cls, work: Callable[[Voice], None]) -> _Child | None:
        """Fork and do the work in the child; return None if forking fails."""
        if not hasattr(os, "fork"):
            return None
        cell = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), np.float64, 1)
        cell[0] = -1.0
        receiver, sender = Pipe(duplex=False)
        ours, lifeline = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # whatever stands there in its place
                stream.flush()
        try:
            with warnings.catch_warnings():
                # Python 3.12 and later warn if threads run; `locks` makes the fork
                # safe.
                warnings.simplefilter("ignore", DeprecationWarning)
                process = os.fork()
        except OSError:  # no more processes, or no memory for one
            for end in (ours, lifeline):
                os.close(end)
            receiver.close()
            sender.close()
            return None
        if process == 0:
            receiver.close()
            os.close(lifeline)
            _work_there(work, sender, cell, ours)
        sender.close()
        os.close(ours)
        return cls(process, receiver, lifeline, cell)

    def hear_all(
        self, hear: Callable[[Any], None], show: Callable[[str], None]
    ) -> None:
        """Hand on messages and progress of the child until its work is done."""
        while True:
            kind, value = self._next()
            if kind == "said":
                hear(value)
            elif kind == "shown":
                show(value)
            elif kind == "steps":
                self._firsts.append(value[0])
                self._texts.append(value[1])
            elif kind == "raised":
                error, trace = value
                error.add_note(f"In the process that ran the checks:\n{trace}")
                raise error
            else:
                return

    def _next(self) -> tuple[str, Any]:
        """Return the next message of the child.

        Raises
        ------
        CrashError
        """
        seen, since = self._cell[0], time.monotonic()
        while not self._receiver.poll(_LOOK_SECONDS):
            if self._cell[0] != seen:
                seen, since = self._cell[0], time.monotonic()
            elif time.monotonic() - since > AT_MOST_SECONDS:
                self.end()
                self._refuse(
                    f"did not end within {AT_MOST_SECONDS:,.0f} s and was stopped", None
                )
        try:
            message: tuple[str, Any] = self._receiver.recv()
        except (EOFError, OSError, pickle.UnpicklingError):  # cut short by its end
            self._refuse(*_how_it_ended(self.end()))
        return message

    def _refuse(self, how: str, by_signal: str | None) -> NoReturn:
        """Raise the error for a crash or a hang, with the step that was running."""
        number = float(self._cell[0])
        place = bisect_right(self._firsts, number) - 1
        step = int(number - self._firsts[place]) if place >= 0 else -1
        doer, touches = (
            self._texts[place].get(step, ("", "")) if place >= 0 else ("", "")
        )
        if doer and number.is_integer():
            message = f"{doer} {how}; {touches}"
        elif doer:
            message = f"the process {how}, after {doer}"
        else:
            message = f"the process {how}, before any step"
        raise CrashError(message, step=step if doer else None, signal=by_signal)

    def end(self) -> int:
        """End the child, if it still runs; return its exit code."""
        if self._status is None:
            os.close(self._lifeline)
            self._status = self._reap()
            self._receiver.close()
        return self._status

    def _reap(self) -> int:
        # One that has closed the pipe is about to end by itself.
        for _ in range(100):
            done, status = os.waitpid(self._process, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if not self._has_closed():
                break
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])

    def _has_closed(self) -> bool:
        try:
            return self._receiver.poll()
        except OSError:
            return True


def _work_there(
    work: Callable[[Voice], None], sender: Connection, cell: np.ndarray, ours: int
) -> NoReturn:
    """Do the work of a child process, then end the process."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is heard by the parent
        threading.Thread(target=_end_with_parent, args=(ours,), daemon=True).start()
        try:
            # A child that crashes must leave no bar and no hidden cursor behind.
            relay_progress(lambda line: sender.send(("shown", line)))
            work(_There(sender, cell))
            sender.send(("done", None))
        except BaseException as error:
            trace = "".join(traceback.format_exception(error))
            sender.send(("raised", (_portable(error), trace)))
        code = 0
    finally:
        os._exit(code)


def _end_with_parent(ours: int) -> None:
    """End this process when the other end of a pipe is closed."""
    with suppress(OSError):
        os.read(ours, 1)
    os._exit(1)


def _portable(error: BaseException) -> BaseException:
    """Return an error, or one with the same text if it cannot be pickled."""
    try:
        found = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an error of the user raises
        found = None
    if type(found) is type(error):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _how_it_ended(code: int) -> tuple[str, str | None]:
    """Return how a process has ended, and by which signal."""
    if code >= 0:
        return f"ended its process with exit code {code}", None
    name = signal_name(-code)
    if name == "SIGKILL":
        return (
            "was ended by SIGKILL from outside, perhaps for its memory: verify with a "
            "smaller batch_size",
            name,
        )
    return f"crashed with {name} ({signal.strsignal(-code)})", name


def signal_name(number: int) -> str:
    """Return the name of a signal, for example ``"SIGSEGV"``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
