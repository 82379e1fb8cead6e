"""What a call with bad input may do at most; whatever else it does is a `Finding`."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # no such limits on Windows
    resource = None  # type: ignore[assignment]

from arena_ckpt import ArenaError
from arena_ckpt.errors import ArenaWarning, ModelWarning


class Finding(AssertionError):
    """A defect: what a call did that it may not do."""


class OutOfTime(BaseException):
    """Not an `Exception`, so that no handler of the code under test takes it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one input.

    Attributes
    ----------
    cpu_seconds : float
        Of processor time, so that other work on the machine counts for nothing.
    wall_seconds : float
        By the clock, for what waits: a pipe, a device.
    grown_bytes : int
        By which the address space of the process may grow.
    """

    cpu_seconds: float = 2.0
    wall_seconds: float = 60.0
    grown_bytes: int = 64 * 2**20


LIMITS = Limits()


@contextmanager
def guarded(limits: Limits, folder: Path) -> Iterator[None]:
    """Let the block raise our errors only, and keep it to the limits.

    Parameters
    ----------
    limits : Limits
    folder : Path
        Whose files must be there unchanged afterwards, and no others.

    Raises
    ------
    Finding
    """
    before = snapshot(folder)
    n_open = _n_open_files()
    try:
        with _limited_time(limits), _limited_memory(limits), warnings.catch_warnings():
            warnings.simplefilter("error")
            for said_on_purpose in (ArenaWarning, ModelWarning):
                warnings.simplefilter("ignore", said_on_purpose)
            yield
    except ArenaError as error:
        _require_message(error)
    except Finding:
        raise
    except OutOfTime as error:
        raise Finding(f"took more than {error}") from error
    except MemoryError as error:
        raise Finding(
            f"took more than {limits.grown_bytes:,} bytes: {error}"
        ) from error
    except Exception as error:
        raise Finding(f"{type(error).__name__} escaped: {error}") from error
    after = snapshot(folder)
    if after != before:
        changed = {
            name: (before.get(name), after.get(name))
            for name in before.keys() | after.keys()
            if before.get(name) != after.get(name)
        }
        raise Finding(f"files were left behind or changed: {changed}")
    if _n_open_files() > n_open:
        raise Finding("a file was left open")


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return size, time and mode of all that lies in a folder, by name."""
    found = {}
    for entry in os.scandir(folder):
        facts = entry.stat(follow_symlinks=False)
        found[entry.name] = (facts.st_size, facts.st_mtime_ns, facts.st_mode)
    return found


def _require_message(error: ArenaError) -> None:
    """Refuse a message that says nothing, or that would fill a screen many times."""
    text = str(error)
    if not text.strip() or len(text) > 20_000:
        raise Finding(
            f"{type(error).__name__} has a message of {len(text):,} characters"
        ) from error


def _n_open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


@contextmanager
def _limited_time(limits: Limits) -> Iterator[None]:
    def late(number: int, _: Any) -> None:
        if number == signal.SIGPROF:
            raise OutOfTime(f"{limits.cpu_seconds:g} s of processor time")
        raise OutOfTime(f"{limits.wall_seconds:g} s")

    timers = (
        (signal.ITIMER_PROF, signal.SIGPROF, limits.cpu_seconds),
        (signal.ITIMER_REAL, signal.SIGALRM, limits.wall_seconds),
    )
    old = [signal.signal(number, late) for _, number, _ in timers]
    try:
        for timer, _, seconds in timers:
            signal.setitimer(timer, seconds)
        yield
    finally:
        for (timer, number, _), handler in zip(timers, old, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


@contextmanager
def _limited_memory(limits: Limits) -> Iterator[None]:
    """Let the address space grow by so much only; more is a MemoryError."""
    taken = _taken_bytes()
    if resource is None or taken is None:
        yield
        return
    old, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + limits.grown_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (old, hard))


def _taken_bytes() -> int | None:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return None
