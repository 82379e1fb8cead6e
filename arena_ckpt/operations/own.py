"""Kernels of people's own, by the names under which they were registered."""

from __future__ import annotations

from types import FunctionType

FAMILY = "own"
"""Family of all kernels of people's own."""

FUNCTIONS: dict[str, FunctionType] = {}
"""Function of each registered name."""


def register(function: FunctionType) -> str:
    """Keep a function under a name of its own, ``"my_layers.scale_forward"``.

    One that was defined before under the same name, as in a notebook, stays what it
    was for the calls that name it; the new one is ``"my_layers.scale_forward#2"``.
    """
    plain = f"{function.__module__}.{function.__qualname__}"
    name, number = plain, 1
    while name in FUNCTIONS:
        number += 1
        name = f"{plain}#{number}"
    FUNCTIONS[name] = function
    return name
