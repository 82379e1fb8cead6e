"""Sums that vectorize without reordering.

A sum runs in `LANES` partial sums that are combined in order, so its bits are those of
the source text, whatever vectors the machine has. The partial sums stand on the stack.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from arena_ckpt.kernels.jit import helper

LANES = 32


def _on_stack(numba_type: Any, llvm_type: Any, n: int = LANES) -> Any:
    typed_intrinsic: Any = intrinsic  # typed in some Numba releases, not in others

    @typed_intrinsic
    def on_stack(typing_context: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            memory = cgutils.alloca_once(builder, ir.ArrayType(llvm_type, n))
            memory.align = 64
            return builder.bitcast(memory, llvm_type.as_pointer())

        return types.CPointer(numba_type)(), codegen

    return on_stack


_floats_on_stack = _on_stack(types.float32, ir.FloatType())
_doubles_on_stack = _on_stack(types.float64, ir.DoubleType())


def float_lanes() -> Any:
    """Array of `LANES` float32 on the stack, not initialized."""
    return np.empty(LANES, np.float32)


def double_lanes() -> Any:
    """Array of `LANES` float64 on the stack, not initialized."""
    return np.empty(LANES)


@overload(float_lanes, inline="always")
def _compiled_float_lanes() -> Any:
    return lambda: carray(_floats_on_stack(), LANES)


@overload(double_lanes, inline="always")
def _compiled_double_lanes() -> Any:
    return lambda: carray(_doubles_on_stack(), LANES)


@helper
def clear(lanes):
    """Set all to 0."""
    for j in range(LANES):
        lanes[j] = lanes.dtype.type(0.0)


@helper
def total(lanes, width):
    """Combine the first `width` lanes, in order."""
    combined = lanes.dtype.type(0.0)
    for j in range(min(width, LANES)):
        combined += lanes[j]
    return combined
