"""Who may work when: threads in a model, models side by side, and forks between.

Iterations of models run side by side. A fork waits for those under way: the child gets
every model as its last iteration left it, and no lock that a thread holds which the
child does not have.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

from numba.core.compiler_lock import global_compiler_lock

from arena_ckpt.errors import StateError
from arena_ckpt.kernels.flags import run_by_default

Given = TypeVarTuple("Given")
Result = TypeVar("Result")

AT_MOST_SECONDS = 0.5
"""Maximum number of seconds that a waiting thread sleeps before it looks again.

Ctrl-C can come before the call that would wake it.
"""


class Gate:
    """Lets iterations run side by side, and forks come between them.

    Threads are known by their numbers.
    """

    def __init__(self) -> None:
        self._here: set[int] = set()  # those that wait, work or leave
        self._inside: set[int] = set()  # those that work
        self._is_closed = False
        self._renew()

    def _renew(self) -> None:
        # One that a thread can take again: a signal handler may fork.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def run(self, work: Callable[[*Given], Result], *arguments: *Given) -> Result:
        """Do a piece of work, between forks.

        Python's numbers, too, are computed under IEEE's default floating-point flags.

        Parameters
        ----------
        work : callable
            Leaves the model so that a fork, or a call from a signal handler, can come
            after it. Runs no other work through this gate.
        *arguments
            What to call it with.

        Raises
        ------
        StateError
            This thread is in the midst of other work: a signal handler asks.
        """
        me = threading.get_ident()
        if me in self._here:
            raise StateError(
                "this thread is in the midst of an iteration, where a signal handler "
                "must not use a model; let it leave a note for the code it interrupts"
            )
        try:
            self._here.add(me)
            with self._lock:
                while self._is_closed:
                    self._changed.wait(AT_MOST_SECONDS)
                self._inside.add(me)
            return run_by_default(work, *arguments)
        finally:
            try:
                self._inside.discard(me)
            finally:  # Ctrl-C can come after any call
                self._here.discard(me)
            if self._is_closed:
                self._wake()

    def _wake(self) -> None:
        with self._lock:
            self._changed.notify_all()

    # -- forks -------------------------------------------------------------------------

    def close(self) -> None:
        """Let nobody in, and wait until only the calling thread can be inside."""
        me = threading.get_ident()
        self._lock.acquire()
        self._is_closed = True
        while self._inside - {me}:
            self._changed.wait(AT_MOST_SECONDS)

    def open(self) -> None:
        """Go on after `close`, if that was not interrupted before it began."""
        if self._is_closed:
            self._is_closed = False
            self._changed.notify_all()
            self._lock.release()

    def forget_others(self) -> None:
        """Go on after `close` in a child, where no other thread is."""
        me = threading.get_ident()
        self._here &= {me}
        self._inside &= {me}
        if not self._is_closed:  # whoever has the lock is not here
            self._renew()
        self.open()


class ModelLock:
    """Lets one thread at a time work in a model."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # callbacks in training may use the model
        _locks.add(self)

    def take(self, what: str) -> None:
        """Take the lock for a call named `what`, or refuse at once.

        Raises
        ------
        StateError
            Another thread has it.
        """
        if not self._lock.acquire(blocking=False):
            raise StateError(
                f"{what}: another thread is using this model, and both would write "
                "into one arena; let them take turns, or build a model for each"
            )

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def forget_others(self) -> None:
        """Free the lock in the child of a fork, if no thread of it holds the lock."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


_locks: weakref.WeakSet[ModelLock] = weakref.WeakSet()
GATE = Gate()
"""The gate of this process."""


_compiler: Any = global_compiler_lock
_holds_compiler = False


def _before_fork() -> None:
    global _holds_compiler
    GATE.close()
    _compiler.acquire()
    _holds_compiler = True


def _free_compiler() -> None:
    """Give the lock of the compiler back, if waiting for it was not interrupted."""
    global _holds_compiler
    if _holds_compiler:
        _holds_compiler = False
        _compiler.release()


def _after_fork_in_parent() -> None:
    _free_compiler()
    GATE.open()


def _after_fork_in_child() -> None:
    _free_compiler()
    GATE.forget_others()
    for lock in _locks:
        lock.forget_others()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
