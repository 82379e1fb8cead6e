"""Runs checks in a child process, and goes on in another one after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from arena_ckpt.common.progress import status_line
from arena_ckpt.common.short_repr import brief_repr
from arena_ckpt.errors import ArenaError, CrashError
from arena_ckpt.verification.batches import Batch
from arena_ckpt.verification.checks import Checks, DefectFound, NothingToCheck
from arena_ckpt.verification.child_process import Voice, run_apart

_HERE = "processes"
"""Name of the check that runs in this process: it starts a process of its own, which
may crash."""

_NOT_APART = "; in this process, as there can be no other: a crash would have ended it"


FindBatches = Callable[[Voice], list[Batch]]


@dataclass(frozen=True, slots=True)
class Check:
    """A check and its result.

    Attributes
    ----------
    name : str
    finding : str
        What was proved, what is wrong, or why the check was left out.
    passed : bool or None
        None if the check was left out.
    seconds : float
    """

    name: str
    finding: str
    passed: bool | None
    seconds: float

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True)
class _Begun:
    """Message that a check begins."""

    name: str


@dataclass(frozen=True, slots=True)
class _Found:
    """Message that batches were found."""

    batches: list[Batch]


@dataclass(frozen=True, slots=True)
class _Ready:
    """Message that there is a reference run to compare with."""


@dataclass(frozen=True, slots=True)
class _Described:
    """Message with hashes of the run of the plan, which another process compares."""

    run: dict[str, str]


class CheckRunner:
    """Runs checks in child processes, a new one after each crash.

    Parameters
    ----------
    checks : Checks
    on_check : callable, optional
        Called with each `Check` when it has run.
    find_batches : callable, optional
        Tries batches and returns those to train on.
    """

    def __init__(
        self,
        checks: Checks,
        on_check: Callable[[Check], object] | None = None,
        find_batches: FindBatches | None = None,
    ) -> None:
        self._checks = checks
        self._on_check = on_check
        self._find_batches = find_batches
        self._waiting = [name for name, _ in checks.all() if name != _HERE]
        self._is_ready = False
        self._begun: tuple[str, float] | None = None
        self._done: list[Check] = []

    def run(self) -> tuple[Check, ...]:
        """Run all checks and return them with their results.

        Raises
        ------
        NonFiniteError
            See `Checks.require_reference`.
        """
        while self._waiting:
            try:
                run_apart(self._work, self._hear)
            except CrashError as crash:
                self._note_crash(crash)
        self._finish(run_check(_HERE, self._checks.processes))
        return tuple(self._done)

    # -- in the child ------------------------------------------------------------------

    def _work(self, voice: Voice) -> None:
        checks = self._checks
        checks.follow = voice.follow
        if self._find_batches is not None:
            checks.batches = self._find_batches(voice)
            voice.say(_Found(list(checks.batches)))
        if not self._is_ready:
            checks.require_reference()
            voice.say(_Ready())
        by_name = dict(checks.all())
        for name in tuple(self._waiting):  # `_hear` removes names from it
            voice.say(_Begun(name))
            done = run_check(name, by_name[name])
            if done.passed and name in ("memory", "reads") and not voice.is_apart:
                done = replace(done, finding=done.finding + _NOT_APART)
            if checks.described is not None and name == "bits of the plan":
                voice.say(_Described(checks.described))
            voice.say(done)

    # -- in the parent -----------------------------------------------------------------

    def _hear(self, what: _Begun | _Found | _Ready | _Described | Check) -> None:
        match what:
            case _Found(batches):
                self._find_batches = None
                self._checks.batches = batches
            case _Ready():
                self._is_ready = True
            case _Begun(name):
                self._begun = name, time.perf_counter()
            case _Described(run):
                self._checks.described = run
            case Check():
                self._waiting.remove(what.name)
                self._begun = None
                self._finish(what)

    def _note_crash(self, crash: CrashError) -> None:
        """Record a crash as the finding of the check that was running."""
        if self._find_batches is not None:
            self._find_batches = None  # the plan crashes on them, which its check says
            return
        if not self._is_ready:
            self._is_ready = True
            self._checks.lost = str(crash)
            return
        if not self._waiting:
            return
        name, started = self._begun or (self._waiting[0], time.perf_counter())
        self._hear(Check(name, str(crash), False, time.perf_counter() - started))

    def _finish(self, check: Check) -> None:
        self._done.append(check)
        if self._on_check:
            self._on_check(check)


def run_check(name: str, check: Callable[[], str]) -> Check:
    """Run one check; a defect that it finds is returned, not raised."""
    started = time.perf_counter()
    passed: bool | None = True
    try:
        with status_line("checking", None, f"checked {name}") as report:
            report(name)
            finding = check()
    except NothingToCheck as reason:
        passed, finding = None, str(reason)
    except (ArenaError, DefectFound) as defect:
        passed, finding = False, str(defect)
    return Check(name, finding, passed, time.perf_counter() - started)
