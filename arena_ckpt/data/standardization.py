"""Standardization: each feature of the inputs less its mean, over its deviation.

The statistics are those of the training data, and a model holds them. All data that it
is given are raw: whatever loads samples into the arena subtracts and scales them there,
in float32, so that training, evaluation, prediction and exported C do the same.

Stages: samples are read in parts, in float64; a first pass finds the means, a second
one the deviations from them (a single pass would cancel where a mean is large).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import tensor_name
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.wording import quote
from arena_ckpt.errors import InvalidParameterError

Shape = tuple[int, int, int]
FloatArray = npt.NDArray[np.float32]

COLUMN = "column"
"""Each place along the width is a feature: columns of a table, values of a series."""
CHANNEL = "channel"
"""Each channel is a feature, as of pictures."""

_PART_ELEMS = 1 << 20
"""Number of values that are converted to float64 together."""

_ROLES = ("mean", "deviation")

_LEAST_DEVIATION = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, repr=False)
class InputStatistics:
    """Mean and standard deviation of each feature of an input.

    Attributes
    ----------
    axis : {"column", "channel"}
        What a feature is.
    mean : tuple of float
    deviation : tuple of float
        Of all values, not estimated from a sample of them (NumPy's ``std``); 1 where a
        feature is constant, which so becomes 0.

    Raises
    ------
    InvalidParameterError
        Numbers that cannot be statistics.
    """

    axis: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        largest = float(np.finfo(np.float32).max)
        means_fit = all(abs(value) <= largest for value in self.mean)
        deviations_fit = all(
            _LEAST_DEVIATION <= value <= largest for value in self.deviation
        )
        if (
            self.axis not in (COLUMN, CHANNEL)
            or len(self.mean) != len(self.deviation)
            or not (self.mean and means_fit and deviations_fit)
        ):
            raise InvalidParameterError(
                f"statistics of {len(self.mean)} means and {len(self.deviation)} "
                f"deviations, for each {self.axis!r}; expected as many finite means as "
                "deviations above 0, for each 'column' or 'channel'"
            )

    def __repr__(self) -> str:
        return short_repr(self, "", counted(len(self.mean), self.axis))

    def by_feature(self) -> tuple[FloatArray, FloatArray]:
        """Return for each feature what to subtract, and then the factor."""
        factor = 1 / np.array(self.deviation, np.float64)
        return np.array(self.mean, np.float32), factor.astype(np.float32)

    def by_element(self, shape: Shape) -> tuple[FloatArray, FloatArray]:
        """Return for each element of a sample what to subtract, and then the factor.

        Parameters
        ----------
        shape : Shape
            Channels, height and width of the input.
        """
        place = (slice(None), None, None) if self.axis == CHANNEL else slice(None)
        mean, factor = (values[place] for values in self.by_feature())
        return (
            np.broadcast_to(mean, shape).reshape(-1).copy(),
            np.broadcast_to(factor, shape).reshape(-1).copy(),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Standardization:
    """Statistics of the inputs of a model.

    Attributes
    ----------
    inputs : dict from str to InputStatistics
        By input layer. Inputs of ids and masks are not among them.
    """

    inputs: dict[str, InputStatistics] = field(hash=False)

    def __repr__(self) -> str:
        parts = [
            f"{name} {counted(len(one.mean), one.axis)}"
            for name, one in self.inputs.items()
        ]
        return short_repr(self, "", *parts)

    def to_arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the statistics by names for a file of weights, ``"in:mean"``."""
        return {
            tensor_name(name, role): np.array(getattr(one, role), np.float64)
            for name, one in self.inputs.items()
            for role in _ROLES
        }

    @classmethod
    def take_from(
        cls, arrays: dict[str, npt.NDArray[Any]], axes: Mapping[str, str]
    ) -> Standardization | None:
        """Take what `to_arrays` returned out of arrays, if it is there.

        Parameters
        ----------
        arrays : dict from str to array
        axes : mapping
            What a feature is, for those inputs that can be standardized.

        Raises
        ------
        InvalidParameterError
            Arrays that cannot be statistics.
        """
        found = {}
        for name, axis in axes.items():
            names = [tensor_name(name, role) for role in _ROLES]
            if all(one in arrays for one in names):
                mean, deviation = (
                    tuple(arrays.pop(one).astype(np.float64).reshape(-1).tolist())
                    for one in names
                )
                found[name] = InputStatistics(axis, mean, deviation)
        return cls(found) if found else None

    def require_fit(self, shapes: Mapping[str, Shape]) -> None:
        """Refuse inputs that have other features.

        Raises
        ------
        InvalidParameterError
        """
        for name, one in self.inputs.items():
            if name not in shapes:
                raise InvalidParameterError(
                    f"the statistics are of the input {name!r}, and the model has "
                    f"{quote(shapes)}; call standardize again",
                    layer=name,
                )
            expected = shapes[name][0 if one.axis == CHANNEL else 2]
            if len(one.mean) != expected:
                raise InvalidParameterError(
                    f"the statistics of {name!r} are of "
                    f"{counted(len(one.mean), one.axis)}, and it has {expected}; call "
                    "standardize again",
                    layer=name,
                    expected=expected,
                    found=len(one.mean),
                )

    def by_element(
        self, shapes: Mapping[str, Shape]
    ) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Return for each input what to subtract from its elements, and the factor."""
        return {name: one.by_element(shapes[name]) for name, one in self.inputs.items()}


def statistics_of(
    samples: Mapping[str, npt.NDArray[Any]],
    shapes: Mapping[str, Shape],
    axes: Mapping[str, str],
) -> Standardization:
    """Return the statistics of samples.

    Parameters
    ----------
    samples : mapping from str to array, shape (n, elements)
        By input layer; finite.
    shapes : mapping
        Shape of a sample, by input layer.
    axes : mapping
        What a feature is, for those inputs that are standardized.

    Notes
    -----
    O(values), in parts of a bounded size.
    """
    return Standardization(
        {
            name: _statistics(samples[name], shapes[name], axis)
            for name, axis in axes.items()
        }
    )


def _statistics(values: npt.NDArray[Any], shape: Shape, axis: str) -> InputStatistics:
    others = (0, 2, 3) if axis == CHANNEL else (0, 1, 2)
    n_rows = max(1, _PART_ELEMS // math.prod(shape))
    starts = range(0, len(values), n_rows)

    def part(start: int) -> npt.NDArray[np.float64]:
        rows = np.asarray(values[start : start + n_rows], np.float32)
        return rows.reshape(-1, *shape).astype(np.float64)

    first = part(0)
    n_features = shape[0 if axis == CHANNEL else 2]
    count = len(values) * math.prod(shape) // n_features
    least, most = first.min(axis=others), first.max(axis=others)
    total = np.zeros(n_features)
    for start in starts:
        these = part(start)
        total += these.sum(axis=others)
        least = np.minimum(least, these.min(axis=others))
        most = np.maximum(most, these.max(axis=others))
    mean = total / count
    # A mean of equal values is rounded, and has to be that value.
    mean = np.clip(mean, least, most)
    place = (slice(None), None, None) if axis == CHANNEL else slice(None)
    squares = np.zeros(n_features)
    for start in starts:
        squares += ((part(start) - mean[place]) ** 2).sum(axis=others)
    deviation = np.sqrt(squares / count)
    deviation[deviation < _LEAST_DEVIATION] = 1.0
    return InputStatistics(axis, tuple(mean.tolist()), tuple(deviation.tolist()))
