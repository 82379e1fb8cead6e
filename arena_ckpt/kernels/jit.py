"""The one decorator that every kernel of the package wears.

Options, and why:

``cache=True``
    The first use in a fresh installation compiles; later processes load from disk.
``error_model="numpy"``
    Python's division checks would keep LLVM from vectorizing the loops.
``nogil=True``
    A kernel touches no Python object, so other threads may run beside it.
``fastmath`` stays off: results are the same bits on every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` lazily, for the argument types of its first call.

    Parameters
    ----------
    function : callable
        Loops over contiguous NumPy arrays; no Python objects.

    Returns
    -------
    callable
        The Numba dispatcher.
    """
    return cast(F, numba.njit(cache=True, error_model="numpy", nogil=True)(function))


def helper(function: F) -> F:
    """Compile `function` for inlining into the kernels of its own file."""
    return cast(F, numba.njit(error_model="numpy", nogil=True)(function))
