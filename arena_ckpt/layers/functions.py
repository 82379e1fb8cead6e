"""The functions that ``activation`` can be set to, and what their texts mean.

Some take numbers, written behind their names: ``leaky_relu(negative_slope=0.2)``, or
``leaky_relu(0.2)``. A text that was read is written in one way: numbers by name, and
none that is the default.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

from arena_ckpt.common.properties import Kind, Property
from arena_ckpt.layers.base import COMMON_PROPERTIES
from arena_ckpt.operations.activations import ACTIVATIONS, Activation
from arena_ckpt.operations.curves import SAVES, curve_kernels

WIDTH = 3
"""NNTrainer's number of the last axis."""


@dataclass(frozen=True, slots=True)
class _Number:
    """A number that a function takes.

    Attributes
    ----------
    name : str
    default : float
        What holds where it is not given; infinite where that means no bound.
    least, most : float
        The bounds of what is possible.
    is_whole : bool
    """

    name: str
    default: float
    least: float = -math.inf
    most: float = math.inf
    is_whole: bool = False


_NUMBERS: dict[str, tuple[_Number, ...]] = {
    "leaky_relu": (_Number("negative_slope", 0.01, 0.0),),
    "elu": (_Number("alpha", 1.0, 0.0),),
    "clamp": (_Number("min", -math.inf), _Number("max", math.inf)),
    "softmax": (_Number("axis", WIDTH, 1, WIDTH, is_whole=True),),
}
"""The numbers that functions take, in order; PyTorch's names."""

FUNCTIONS: tuple[str, ...] = tuple(dict.fromkeys((*ACTIVATIONS, *SAVES)))
"""The names of all functions but ``none``."""

_TEXT = re.compile(r"(\w+)\s*(?:\(([^()]*)\))?")


@functools.lru_cache(1024)
def numbers_of(text: str) -> tuple[float, ...]:
    """Return the numbers of a function, those that the text leaves out by default.

    Raises
    ------
    ValueError
        There is no such function, or it does not take such numbers.
    """
    found = _TEXT.fullmatch(text.strip().lower())
    if found is None or found[1] not in (*FUNCTIONS, "none"):
        raise ValueError
    declared = _NUMBERS.get(found[1], ())
    given: dict[str, float] = {}
    inside = (found[2] or "").strip()
    for place, part in enumerate(inside.split(",") if inside else ()):
        name, equals, number = part.rpartition("=")
        if place >= len(declared):
            raise ValueError
        name = name.strip() if equals else declared[place].name
        if name in given:
            raise ValueError
        given[name] = float(number.strip().replace("_", "x"))
    values = tuple(given.pop(one.name, one.default) for one in declared)
    for one, value in zip(declared, values, strict=True):
        is_possible = one.least <= value <= one.most and (
            math.isfinite(value) or value == one.default
        )
        if not is_possible or (one.is_whole and value != int(value)):
            raise ValueError
    no_bounds = (-math.inf, math.inf)
    if given or (
        found[1] == "clamp" and (values == no_bounds or values[0] > values[1])
    ):
        raise ValueError
    return values


def name_of(text: str) -> str:
    """Return the name of a function: ``"leaky_relu"`` of ``"leaky_relu(0.2)"``."""
    return text.partition("(")[0].strip()


def _parse(value: object) -> str:
    text = str(value).strip().lower()
    values, name = numbers_of(text), name_of(text)
    told = ", ".join(
        f"{one.name}={int(value) if value == int(value) else value!r}"
        for one, value in zip(_NUMBERS.get(name, ()), values, strict=True)
        if value != one.default
    )
    return f"{name}({told})" if told else name


ACTIVATION = Kind(
    f"one of {', '.join((*FUNCTIONS, 'none'))}; of these, leaky_relu(negative_slope="
    "0.2), elu(alpha=1.5), clamp(min=-1, max=1) and softmax(axis=1) take numbers",
    _parse,
    words=(*FUNCTIONS, "none"),
)
"""The kind of a property that names a function."""

ACTIVATION_PROPERTY = Property(
    "activation", ACTIVATION, "none", "becomes a layer of its own"
)
"""What every layer that makes one output can be followed by."""

OUTPUT_PROPERTIES: tuple[Property, ...] = (*COMMON_PROPERTIES, ACTIVATION_PROPERTY)
"""Properties of layers that make one output and have nothing between these two."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of every element, or of every line along an axis.

    Attributes
    ----------
    kernels : Activation
        Its kernels, and what backward reads.
    numbers : tuple of float
        What the kernels are given behind the first operand.
    axis : int or None
        The axis of a softmax; None where elements are apart.
    """

    kernels: Activation
    numbers: tuple[float, ...] = ()
    axis: int | None = None


@functools.lru_cache(1024)
def function_of(text: str) -> Function:
    """Return the function that a text means, as `ACTIVATION` reads it; not ``none``."""
    name, values = name_of(text), numbers_of(text)
    if name == "softmax":
        return Function(ACTIVATIONS[name], axis=int(values[0]))
    defaults = tuple(one.default for one in _NUMBERS.get(name, ()))
    if name in ACTIVATIONS and values == defaults:
        return Function(ACTIVATIONS[name])
    forward, backward = curve_kernels(name)
    numbers = (*values, 0.0, 0.0)[:2]
    return Function(Activation(forward, backward, None, SAVES[name]), numbers)
