"""Digests of arrays, which tell arrays with different contents apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def digest_arrays(arrays: Mapping[str, npt.NDArray[Any]], before: bytes = b"") -> str:
    """Return the SHA-256 of arrays, in their order: names, dtypes, shapes and bits.

    Parameters
    ----------
    arrays : mapping from str to ndarray
    before : bytes
        Further bytes that the digest covers.
    """
    found = hashlib.sha256(before)
    for name, array in arrays.items():
        found.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
