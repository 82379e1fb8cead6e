"""Locks of folders in which only one training may work at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextmanager
def hold(folder: Path) -> Iterator[bool]:
    """Lock a folder while the block runs; yield False if somebody else has the lock.

    The system ends the hold with the process, however that ends, or with the last of
    those that were forked from it in the meantime. Where it has no such locks (Windows,
    some network file systems), everybody gets True.

    Raises
    ------
    OSError
        There is no such folder, or it may not be read.
    """
    if sys.platform == "win32":
        yield True
        return
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _lock(number)
    finally:
        with suppress(OSError):  # closing is not enough where a process was forked
            fcntl.flock(number, fcntl.LOCK_UN)
        os.close(number)


def _lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        pass
    return True
