"""Elementary functions of float64 for kernels: those of `operations.elementary`.

Kernels get the functions themselves, and Numba compiles their source: the same steps,
and so the same bits, as in Python and in C. They are for a number a row or a column;
what runs over all elements takes the shorter ones of `vector_math`.
"""

from __future__ import annotations

from types import FunctionType

from numba.extending import register_jitable

from arena_ckpt.kernels.compiling import OPTIONS
from arena_ckpt.operations import elementary
from arena_ckpt.operations.elementary import cosine, log, power, sine

__all__ = ["cosine", "log", "power", "sine"]

for _function in vars(elementary).values():
    if isinstance(_function, FunctionType):
        register_jitable(**OPTIONS)(_function)
