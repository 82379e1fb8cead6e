"""Numbers of samples by class, so that rare classes are seen before a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.short_repr import counted
from arena_ckpt.common.wording import shown

Counts = dict[str, int]

_MOST_COUNTED = 2**16
"""Labels below this are counted in an array by their numbers."""

_MOST_LISTED = 6
"""Maximum number of classes that a few words name."""


def class_counts(
    labels: npt.NDArray[Any] | None, names: Sequence[str] | None
) -> Counts | None:
    """Return the number of samples of each class, by its name or else its number.

    Parameters
    ----------
    labels : int64 array (n,), float32 array (n, …) or None
        Class numbers; or values, which are classes where each is a single 0 or 1.
    names : sequence of str or None
        Names of the classes, which are counted also where no sample has them.

    Returns
    -------
    dict or None
        In the order of the numbers; None where labels are no classes.
    """
    if labels is None:
        return None
    if labels.ndim != 1:
        if (
            labels.shape != (len(labels), 1)
            or not ((labels == 0) | (labels == 1)).all()
        ):
            return None
        labels = labels.reshape(-1)
    found = _counted(labels)
    if names is None:
        return {str(number): count for number, count in found.items()}
    return {name: found.get(number, 0) for number, name in enumerate(names)}


def _counted(labels: npt.NDArray[Any]) -> dict[int, int]:
    if labels.min() >= 0 and labels.max() < _MOST_COUNTED:  # without sorting them
        counts = np.bincount(labels.astype(np.int64, copy=False))
        numbers = np.flatnonzero(counts)
        counts = counts[numbers]
    else:
        numbers, counts = np.unique(labels, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def extent_text(counts: Counts) -> str:
    """Return the fewest and the most samples of a class, such as ``3 to 57``."""
    least, most = min(counts.values()), max(counts.values())
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def counts_text(counts: Counts) -> str:
    """Return counts in a few words, such as ``2 classes: no (291), yes (9)``."""
    n = counted(len(counts), "class", "classes")
    if len(counts) > _MOST_LISTED:
        return f"{n} of {extent_text(counts)} samples"
    parts = (f"{shown(name)} ({count:,})" for name, count in counts.items())
    return f"{n}: {', '.join(parts)}"
