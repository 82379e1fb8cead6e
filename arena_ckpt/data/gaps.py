"""Cells of samples that had no value, and the means of columns that stand in them.

The means are those of the training data: a split takes them anew of its training part,
a model keeps them, and data that come later are filled in with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import tensor_name
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.wording import few, quoted
from arena_ckpt.errors import InvalidParameterError

_ROLE = "fill"
_LARGEST_FLOAT = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Gaps:
    """Which cells of samples had no value, and what was filled in.

    Attributes
    ----------
    means : tuple of float
        For each column.
    cells : bool array, shape (n, columns)
        True where there was no value.
    """

    means: tuple[float, ...]
    cells: npt.NDArray[np.bool_]

    def __repr__(self) -> str:
        n = int(np.count_nonzero(self.cells))
        return short_repr(
            self, "", counted(n, "cell"), counted(len(self.means), "column")
        )


def observed_means(
    x: npt.NDArray[Any], cells: npt.NDArray[np.bool_], otherwise: Iterable[float]
) -> tuple[float, ...]:
    """Return the mean of each column over those cells that have a value.

    Parameters
    ----------
    x : array, shape (n, columns)
    cells : bool array, shape (n, columns)
        True where there is no value.
    otherwise : iterable of float
        For columns without any value.
    """
    counts = (~cells).sum(axis=0)
    totals = np.where(cells, 0, x).sum(axis=0, dtype=np.float64)
    means = np.where(counts > 0, totals / np.maximum(counts, 1), [*otherwise])
    return tuple(means.tolist())


def filled(
    x: npt.NDArray[Any], gaps: Gaps, means: tuple[float, ...]
) -> tuple[npt.NDArray[Any], Gaps]:
    """Return samples in whose gaps other means stand, and gaps that say so."""
    values = np.where(gaps.cells, np.array(means, x.dtype), x)
    return values, Gaps(means, gaps.cells)


def means_to_arrays(
    input_name: str, means: tuple[float, ...] | None
) -> dict[str, npt.NDArray[np.float64]]:
    """Return means by their name for a file of weights, ``"in:fill"``."""
    if means is None:
        return {}
    return {tensor_name(input_name, _ROLE): np.array(means, np.float64)}


def take_means(
    arrays: dict[str, npt.NDArray[Any]], inputs: Iterable[str]
) -> tuple[float, ...] | None:
    """Take what `means_to_arrays` returned out of arrays, if it is there.

    Raises
    ------
    InvalidParameterError
        It cannot be means.
    """
    found = None
    for name in inputs:
        array = arrays.pop(tensor_name(name, _ROLE), None)
        if array is not None:
            found = parse_means("fill", np.asarray(array).reshape(-1).tolist())
    return found


def parse_means(
    option: str, means: object, n_columns: int | None = None
) -> tuple[float, ...]:
    """Read means that a user gave.

    Parameters
    ----------
    option : str
        How the argument is called.
    means : object
    n_columns : int, optional
        Number of columns of the samples.

    Raises
    ------
    InvalidParameterError
        They are no finite numbers, or not as many as columns.
    """
    try:
        if isinstance(means, str | bytes):
            raise TypeError
        found = tuple(float(value) for value in few(means))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = (math.nan,)
    if not found or not all(abs(value) <= _LARGEST_FLOAT for value in found):
        raise InvalidParameterError(
            f"{option}={quoted(means)} is not possible; expected a finite number for "
            "each column of the samples, for example model.column_means",
            **{option: means},
        )
    if n_columns is not None and len(found) != n_columns:
        raise InvalidParameterError(
            f"{option}= has {counted(len(found), 'mean')}, and the samples have "
            f"{counted(n_columns, 'column')}; give one for each",
            **{option: means},
            expected=n_columns,
            found=len(found),
        )
    return found
