"""Hot loops of planning: plain Python for little work, compiled by Numba for much.

Loading Numba takes longer than planning most models does. So a loop decorated here is
kept as it was written and compiled at its first use as compiled code. Which of the two
runs is a matter of time alone: both give the same integers and the same floats.

A process rents plain Python until it has paid what Numba costs, then buys Numba: it
waits for either at most twice as long as it would have, had it known all its work.

What both need of a loop:

- a record is read as ``table[i]["field"]``, never as ``table[i].field``;
- sums stay within int64, for NumPy would warn where compiled code wraps around;
- a slice of an array or a record of a table is a view, and is meant as one.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar, cast

LOADING_SECONDS = 0.5
"""CPU time that loading Numba takes, and at most as much that plain loops may take."""

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_routines: set[Callable[..., Any]] = set()
_plain_seconds = 0.0


def load_numba() -> None:
    """Load Numba: from here on every loop is compiled."""
    importlib.import_module("numba")


def is_plain(seconds: float) -> bool:
    """Say whether a loop that takes so many seconds in plain Python runs there.

    It does while Numba is not loaded and all plain loops of this process together take
    less than loading Numba. They count as estimated, so that no clock decides.
    """
    return "numba" not in sys.modules and _plain_seconds + seconds <= LOADING_SECONDS


class HotLoop(Generic[P, R]):
    """A loop over arrays that callers can have plain or compiled.

    Attributes
    ----------
    plain : callable
        The function as it was written.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.plain = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the compiled loop."""
        return self.compiled(*args, **kwargs)

    @functools.cached_property
    def compiled(self) -> Callable[P, R]:
        """The loop that Numba compiles for the types of each call, or has on disk."""
        from arena_ckpt.kernels import compiling

        return compiling.compiled(_with_compiled_routines(self.plain))

    def taking(self, seconds: float) -> Callable[P, R]:
        """Return the plain loop, whose time then counts, or the compiled one.

        Parameters
        ----------
        seconds : float
            About how long one call takes in plain Python.
        """
        global _plain_seconds
        if not is_plain(seconds):
            return self.compiled
        _plain_seconds += seconds
        return self.plain


def compiled(function: Callable[P, R]) -> HotLoop[P, R]:
    """Make a hot loop of a function, which may call routines of its own module."""
    return HotLoop(function)


def routine(function: F) -> F:
    """Let hot loops and other routines call a function, plain or compiled."""
    _routines.add(function)
    return function


@functools.cache
def _compiled_routine(function: Callable[..., Any]) -> Any:
    from arena_ckpt.kernels import compiling

    return compiling.routine(_with_compiled_routines(function))


def _with_compiled_routines(function: Callable[P, R]) -> Callable[P, R]:
    """Return a copy of a function whose names of routines stand for compiled ones.

    The copy has the file, the line and the name of the function, by which Numba keeps
    compiled code on disk.
    """
    function = cast(FunctionType, function)
    names: dict[str, Any] = dict(function.__globals__)
    for name in function.__code__.co_names:
        if isinstance(names.get(name), FunctionType) and names[name] in _routines:
            names[name] = _compiled_routine(names[name])
    copy = FunctionType(function.__code__, names, function.__name__)
    copy.__qualname__ = function.__qualname__
    return cast(Callable[P, R], copy)
