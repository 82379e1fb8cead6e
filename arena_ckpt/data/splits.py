"""Chooses which samples are for training and which for validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.wording import quoted
from arena_ckpt.data.arrays import to_numbers
from arena_ckpt.errors import (
    DataError,
    DataShapeError,
    EmptyDataError,
    InvalidParameterError,
)

Parts = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Numbers of the samples for training, and of those for validation."""


def part_sizes(name: str, n_samples: int, fraction: object) -> tuple[int, int]:
    """Return how many samples are for training and for validation.

    Raises
    ------
    InvalidParameterError
        A fraction that cannot be.
    EmptyDataError
        A part would have no samples.
    """
    if not (_is_real(fraction) and 0 < fraction < 1):  # type: ignore[operator]
        raise InvalidParameterError(
            f"validation_fraction={quoted(fraction)} is not possible; "
            "expected a number above 0 and below 1",
            validation_fraction=fraction,
        )
    n_validation = round(n_samples * fraction)  # type: ignore[operator]
    n_training = n_samples - n_validation
    if not (n_validation and n_training):
        raise EmptyDataError(
            f"{name}: validation_fraction={fraction} of {n_samples} samples leaves "
            f"{n_training} for training and {n_validation} for validation; both need "
            "at least one",
            name=name,
            n_training=n_training,
            n_validation=n_validation,
        )
    return n_training, n_validation


def stratified(
    name: str,
    labels: npt.NDArray[Any] | None,
    n_validation: int,
    generator: np.random.Generator,
) -> Parts:
    """Choose samples so that each class has the same share in both parts.

    A class with a single sample is trained on; no class is left to validation alone.

    Raises
    ------
    DataError
        The labels are no class numbers, or too few samples are left for training.
    """
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{name}: stratify=True needs labels that are class numbers, whole numbers "
            "of shape (n,); leave it out, or split by groups=",
            name=name,
        )
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * (n_validation / len(labels))
    shares = np.minimum(np.floor(exact).astype(np.int64), counts - 1)
    # what is left goes to the classes with the largest remainders
    order = np.lexsort((classes, shares - exact))
    while (left := n_validation - int(shares.sum())) > 0:
        open_ones = [i for i in order if shares[i] < counts[i] - 1][:left]
        if not open_ones:
            raise DataError(
                f"{name}: {len(classes):,} classes of {len(labels):,} samples leave "
                f"{int(shares.sum()):,} for validation, as each class is trained on at "
                f"least once, fewer than the {n_validation:,} asked for; make the "
                "fraction smaller, or leave stratify out",
                name=name,
            )
        shares[open_ones] += 1
    chosen = np.zeros(len(labels), bool)
    for number, share in zip(classes, shares, strict=True):
        rows = np.flatnonzero(labels == number)
        chosen[generator.permutation(rows)[:share]] = True
    mixed = generator.permutation(len(labels))
    return mixed[~chosen[mixed]], mixed[chosen[mixed]]


def by_groups(
    name: str,
    groups: npt.ArrayLike,
    n_samples: int,
    n_validation: int,
    generator: np.random.Generator | None,
) -> Parts:
    """Choose whole groups, of about as many samples as asked for.

    Parameters
    ----------
    name : str
        Of the data set, for messages.
    groups : array_like, shape (n_samples,)
        Numbers or texts; samples with equal ones stay together.
    n_samples, n_validation : int
    generator : Generator or None
        Draws the groups; None takes the last ones, by their first samples.

    Raises
    ------
    DataShapeError
        Another number of groups than of samples.
    EmptyDataError
        There is only one group.
    """
    try:
        array = np.asarray(groups)
    except Exception as error:  # whatever the array of another library raises
        raise DataShapeError(
            f"{name}: groups are no array ({error}); give a number or a text for each "
            "sample",
            name=name,
        ) from error
    if array.dtype.kind not in "SUOM":
        array = to_numbers(array, f"{name}: groups")
    if array.shape != (n_samples,):
        raise DataShapeError(
            f"{name}: groups have the shape {array.shape}; expected ({n_samples},), a "
            "number or a text for each sample",
            name=name,
            expected=(n_samples,),
            found=array.shape,
        )
    if array.dtype.kind == "O":
        array = np.array([str(group) for group in array])
    _, first, group_of, counts = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True
    )
    n_groups = len(counts)
    if n_groups < 2:
        raise EmptyDataError(
            f"{name}: all {n_samples:,} samples are of one group; groups= needs at "
            "least two, one for each part",
            name=name,
        )
    by_place = np.argsort(first)[::-1]
    order = by_place if generator is None else generator.permutation(n_groups)
    is_validation = np.zeros(n_groups, bool)
    n_taken = 0
    for group in order[:-1]:
        after = n_taken + int(counts[group])
        is_nearer = abs(after - n_validation) < abs(n_taken - n_validation)
        if not n_taken or is_nearer:
            is_validation[group] = True
            n_taken = after
        elif generator is None:  # later ones alone
            break
    chosen = is_validation[group_of.reshape(-1)]
    rows = (
        np.arange(n_samples) if generator is None else generator.permutation(n_samples)
    )
    return rows[~chosen[rows]], rows[chosen[rows]]


def _is_real(value: object) -> bool:
    return isinstance(value, float | int | np.floating | np.integer) and not isinstance(
        value, bool
    )
