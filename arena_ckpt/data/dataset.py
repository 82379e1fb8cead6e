"""A data set: samples and their labels, as training and evaluation take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.wording import quoted, shown
from arena_ckpt.data.arrays import require_room
from arena_ckpt.errors import (
    DataShapeError,
    DataTypeError,
    EmptyDataError,
    InvalidParameterError,
)


@public_call(
    hint="a name for messages comes first, as in Dataset('mine', x, y); train, "
    "evaluate and verify also take (x, y), and load_csv, load_digits, load_idx and "
    "load_npz make one of files"
)
@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples and, where there are any, their labels.

    Attributes
    ----------
    name : str
        Name in messages and reports.
    x : ndarray of float32
        ``(n, …)``, C-contiguous.
    y : ndarray or None
        Class numbers, int64 ``(n,)``, or targets, float32 ``(n, units)``;
        C-contiguous.

    Raises
    ------
    DataTypeError, DataShapeError, EmptyDataError
        The arrays are not as described.
    """

    name: str
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None

    def __repr__(self) -> str:
        labels = (
            "no labels"
            if self.y is None
            else f"{'classes' if self.y.ndim == 1 else 'values'} {self.y.shape}"
        )
        n = counted(len(self.x), "sample")
        return short_repr(self, repr(self.name), n, f"x {self.x.shape}", labels)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise DataTypeError(
                f"the name of a data set is a {type(self.name).__name__}; expected a "
                "text for messages, as in Dataset('mine', x, y)",
                name=self.name,
            )
        for name, array in (("x", self.x), ("y", self.y)):
            if not isinstance(array, np.ndarray) and (name, array) != ("y", None):
                raise DataTypeError(
                    f"{shown(self.name)}: {name} is a {type(array).__name__}; expected "
                    "an array of NumPy",
                    name=self.name,
                )
        _require_layout(f"{self.name}: x", self.x, (np.float32,))
        if self.x.ndim < 2 or 0 in self.x.shape[1:]:
            raise DataShapeError(
                f"{self.name}: x has the shape {self.x.shape}; expected (n, …) with at "
                "least one value for each sample",
                name=self.name,
                found=self.x.shape,
            )
        if not self.n_samples:
            raise EmptyDataError(f"{self.name}: there are no samples", name=self.name)
        if self.y is None:
            return
        _require_layout(f"{self.name}: y", self.y, (np.int64, np.float32))
        y_ndim = 1 if self.y.dtype == np.int64 else 2
        if self.y.ndim != y_ndim or len(self.y) != self.n_samples:
            expected = f"({self.n_samples}{', units)' if y_ndim == 2 else ',)'}"
            raise DataShapeError(
                f"{self.name}: y has the shape {self.y.shape} for {self.n_samples:,} "
                f"samples in x; expected {expected}, one label for each sample",
                name=self.name,
                expected=self.n_samples,
                found=self.y.shape,
            )

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.x)

    @public_call
    def take(self, indices: npt.ArrayLike) -> Dataset:
        """Return the samples with the given numbers, in the given order.

        Parameters
        ----------
        indices : array_like of int
            From 0; one-dimensional; repetitions are allowed.

        Raises
        ------
        EmptyDataError
            No index.
        InvalidParameterError
            An index that is no whole number, or outside ``[0, n_samples)``.
        """
        index = _to_indices(indices, self.name)
        if index.size == 0:
            raise EmptyDataError(
                f"{self.name}: no sample is taken; give at least one index",
                name=self.name,
            )
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise InvalidParameterError(
                f"{self.name}: indices of {index.dtype} and shape {index.shape}; "
                "expected whole numbers in one dimension",
                name=self.name,
                found=index.shape,
            )
        require_room(index.shape, 8 + self.x[0].nbytes, f"{self.name}: indices")
        outside = (index < 0) | (index >= self.n_samples)
        if outside.any():
            value = int(index[np.argmax(outside)])
            raise InvalidParameterError(
                f"{self.name}: there is no sample {value}; samples are numbered 0 to "
                f"{self.n_samples - 1}",
                name=self.name,
                index=value,
                n_samples=self.n_samples,
            )
        return Dataset(
            self.name, self.x[index], None if self.y is None else self.y[index]
        )

    @public_call
    def split(self, validation_fraction: float, seed: int) -> tuple[Dataset, Dataset]:
        """Return two data sets with the samples in a random order.

        Parameters
        ----------
        validation_fraction : float
            Above 0 and below 1; the part's size is rounded to the nearest whole number.
        seed : int
            At least 0; the same seed gives the same parts.

        Returns
        -------
        training, validation : Dataset

        Raises
        ------
        InvalidParameterError
            A fraction or a seed that cannot be.
        EmptyDataError
            A part would have no samples.
        """
        if not (_is_real(validation_fraction) and 0 < validation_fraction < 1):
            raise InvalidParameterError(
                f"validation_fraction={quoted(validation_fraction)} is not possible; "
                "expected a number above 0 and below 1",
                validation_fraction=validation_fraction,
            )
        if not is_whole(seed) or seed < 0:
            raise InvalidParameterError(
                f"seed={quoted(seed)} is not possible; expected a whole number of at "
                "least 0",
                seed=seed,
            )
        n_validation = round(self.n_samples * validation_fraction)
        n_training = self.n_samples - n_validation
        if not (n_validation and n_training):
            raise EmptyDataError(
                f"{self.name}: validation_fraction={validation_fraction} of "
                f"{self.n_samples} samples leaves {n_training} for training and "
                f"{n_validation} for validation; both need at least one",
                name=self.name,
                n_training=n_training,
                n_validation=n_validation,
            )
        order = np.random.default_rng(seed).permutation(self.n_samples)
        return self.take(order[:n_training]), self.take(order[n_training:])


def _to_indices(indices: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(indices)
    except Exception as error:  # whatever the array of another library raises
        raise InvalidParameterError(
            f"{name}: {quoted(indices)} are no numbers of samples ({error}); give a "
            "list of whole numbers",
            name=name,
        ) from error


def _is_real(value: object) -> bool:
    return isinstance(value, float | np.floating) or is_whole(value)


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _require_layout(
    name: str, array: npt.NDArray[Any], dtypes: tuple[type[np.generic], ...]
) -> None:
    if array.dtype not in dtypes or not array.flags.c_contiguous:
        order = "C-contiguous" if array.flags.c_contiguous else "not C-contiguous"
        expected = " or ".join(dtype.__name__ for dtype in dtypes)
        raise DataTypeError(
            f"{name} is {array.dtype}, {order}; expected {expected}, C-contiguous: use "
            "numpy.ascontiguousarray(array, dtype)",
            name=name,
            dtype=str(array.dtype),
        )
