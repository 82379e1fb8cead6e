"""Leaves the garbage collector out where many objects are made that all stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Keep the garbage collector from looking for circles; also a decorator.

    Graphs and plans are trees of hundreds of thousands of frozen objects. The collector
    goes through all of them again and again while they are made, which takes a third of
    the time, and they have no circles to be found.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
