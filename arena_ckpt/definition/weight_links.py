"""Which part of a foreign weight is which of ours, in which order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Step:
    """A way to move the elements of an array.

    Attributes
    ----------
    kind : {"reshape", "permute", "slice", "take"}
    numbers : tuple of int
        The shape; the order of the axes; axis, start, stop and step; axis and indices.
    """

    kind: str
    numbers: tuple[int, ...]

    def __call__(self, array: Array) -> Array:
        """Return the array with its elements moved; a view where there can be one."""
        if self.kind == "reshape":
            return array.reshape(self.numbers)
        if self.kind == "permute":
            return array.transpose(self.numbers)
        axis, *rest = self.numbers
        if self.kind == "slice":
            place = [slice(None)] * array.ndim
            place[axis] = slice(*rest)
            return array[tuple(place)]
        return np.take(array, rest, axis)

    def __str__(self) -> str:
        """Write it as NumPy would."""
        inner = ", ".join(map(str, self.numbers))
        return f"{self.kind}({inner})"


@dataclass(frozen=True, slots=True)
class WeightLink:
    """A weight of ours, and the part of a foreign one that it is.

    Attributes
    ----------
    weight : str
        Ours, ``layer:weight``.
    foreign : str
        The name in the other framework.
    foreign_shape : tuple of int
    steps : tuple of Step
        How the foreign array becomes ours, apart from its shape.
    """

    weight: str
    foreign: str
    foreign_shape: tuple[int, ...]
    steps: tuple[Step, ...]

    def to_ours(self, array: Array) -> Array:
        """Return the elements of the foreign array that are ours, in our order."""
        return run_steps(self.steps, array)

    def put_back(self, ours: Array, foreign: Array) -> None:
        """Write a weight of ours to its places in a foreign array, C-contiguous."""
        index = self.to_ours(np.arange(foreign.size).reshape(foreign.shape))
        foreign.reshape(-1)[index.reshape(-1)] = ours.reshape(-1)


def run_steps(steps: Iterable[Step], array: Array) -> Array:
    """Return an array moved by one step after the other."""
    for step in steps:
        array = step(array)
    return array


def used_twice(links: Iterable[WeightLink]) -> tuple[str, ...]:
    """Return foreign weights of which two weights of ours hold the same element.

    Training would move the two apart.
    """
    by_name: dict[str, list[WeightLink]] = {}
    for link in links:
        by_name.setdefault(link.foreign, []).append(link)
    twice = []
    for name, of_one in by_name.items():
        size = math.prod(of_one[0].foreign_shape)
        whole = np.arange(size).reshape(of_one[0].foreign_shape)
        times = np.zeros(size, np.intp)
        for link in of_one:
            np.add.at(times, link.to_ours(whole).reshape(-1), 1)
        if times.max(initial=0) > 1:
            twice.append(name)
    return tuple(twice)


def to_foreign(
    links: Sequence[WeightLink],
    ours: Mapping[str, Array],
    foreign: Mapping[str, Array],
) -> dict[str, Array]:
    """Return foreign arrays with the values of our weights.

    Parameters
    ----------
    links : sequence of WeightLink
    ours : mapping of str to array
        Weights by ``layer:weight``.
    foreign : mapping of str to array
        Arrays of the other framework, of which parts without a link stay as they are.

    Returns
    -------
    dict
        A copy of each array that a link names, with its dtype.
    """
    filled: dict[str, Array] = {}
    for link in links:
        if link.foreign not in filled:
            filled[link.foreign] = np.array(foreign[link.foreign], order="C")
        link.put_back(ours[link.weight], filled[link.foreign])
    return filled
