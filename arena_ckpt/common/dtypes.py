"""The dtypes that a planned tensor can have, and all that is known of each.

Each dtype is one line of `DTYPES`. Sizes in bytes, debug mode and messages about layers
of one's own ask that table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOAT32 = "float32"
FLOAT64 = "float64"
INT32 = "int32"


@dataclass(frozen=True, slots=True)
class Dtype:
    """What is known of a dtype.

    Attributes
    ----------
    name : str
        NumPy's name.
    item_bytes : int
        Bytes of one element.
    is_float : bool
        Whether it has a NaN, with which debug mode fills dead bytes.
    read_by : tuple of str
        The methods of `layers.base.Binding` that return an array of it.
    """

    name: str
    item_bytes: int
    is_float: bool
    read_by: tuple[str, ...]


DTYPES: dict[str, Dtype] = {
    dtype.name: dtype
    for dtype in (
        Dtype(FLOAT32, 4, is_float=True, read_by=("vector", "matrix")),
        Dtype(FLOAT64, 8, is_float=True, read_by=("doubles",)),
        Dtype(INT32, 4, is_float=False, read_by=("indexes",)),
    )
}
"""Every dtype by its name."""


def item_bytes(dtype: str) -> int:
    """Return the number of bytes of one element."""
    return DTYPES[dtype].item_bytes


def size_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Return the number of bytes of an array."""
    return math.prod(shape) * item_bytes(dtype)
