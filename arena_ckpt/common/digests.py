"""Digests of arrays, which tell arrays with different contents apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_ROWS_AT_ONCE = 4096


def digest_arrays(
    arrays: Mapping[str, npt.NDArray[Any]],
    before: bytes = b"",
    dtypes: Mapping[str, npt.DTypeLike] | None = None,
) -> str:
    """Return the SHA-256 of arrays, in their order: names, dtypes, shapes and bits.

    Parameters
    ----------
    arrays : mapping from str to ndarray
    before : bytes
        Further bytes that the digest covers.
    dtypes : mapping from str to dtype, optional
        Of arrays that the digest takes for converted ones; that is done part by part.
    """
    found = hashlib.sha256(before)
    for name, array in arrays.items():
        dtype = np.dtype((dtypes or {}).get(name, array.dtype))
        found.update(f"\n{name} {dtype.str} {array.shape}\n".encode())
        if dtype == array.dtype:
            found.update(np.ascontiguousarray(array).data)
            continue
        for start in range(0, len(array), _ROWS_AT_ONCE):
            part = array[start : start + _ROWS_AT_ONCE]
            found.update(np.ascontiguousarray(part, dtype).data)
    return found.hexdigest()
