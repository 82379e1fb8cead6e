"""Random numbers that are a function of where they are used, never of state.

A dropout decision is a function of (key of the layer, iteration, sample, row, element),
so a recompute replays it and nothing has to be kept. `row_key` mixes everything but the
element into 64 bits, once for a row of at most 2**32 elements; `keep` mixes the element
with both halves of these, in 32-bit arithmetic that LLVM vectorizes.

References
----------
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011 (counters).
Steele et al., "Fast splittable pseudorandom number generators", 2014 (`_mix`).
Wellons, "Prospecting for hash functions", 2018 (the multipliers of `keep`).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from arena_ckpt.kernels.compiling import helper
from arena_ckpt.kernels.kernel import typed_intrinsic

_RESOLUTION = 16777216.0  # 2**24: probabilities are multiples of its inverse


@typed_intrinsic
def _mix(typing_context: Any, state: Any, word: Any) -> Any:
    """Return 64 bits that depend on all bits of both."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def constant(value: int) -> Any:
            return ir.Constant(ir.IntType(64), value)

        word = builder.mul(
            builder.add(args[1], constant(1)), constant(0x9E3779B97F4A7C15)
        )
        x = builder.add(args[0], word)
        for shift, multiplier in (
            (30, 0xBF58476D1CE4E5B9),
            (27, 0x94D049BB133111EB),
        ):
            x = builder.xor(x, builder.lshr(x, constant(shift)))
            x = builder.mul(x, constant(multiplier))
        return builder.xor(x, builder.lshr(x, constant(31)))

    return types.int64(types.int64, types.int64), codegen


@typed_intrinsic
def _bits(typing_context: Any, key: Any, element: Any) -> Any:
    """Return 24 random bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = ir.IntType(32)
        low = builder.trunc(args[0], integer)
        high = builder.trunc(
            builder.lshr(args[0], ir.Constant(ir.IntType(64), 32)), integer
        )
        x = builder.xor(builder.trunc(args[1], integer), low)
        x = builder.xor(x, builder.lshr(x, integer(16)))
        x = builder.mul(x, integer(0x21F0AAAD))
        x = builder.xor(x, builder.lshr(x, integer(15)))
        x = builder.add(x, high)
        x = builder.mul(x, integer(0x735A2D97))
        x = builder.xor(x, builder.lshr(x, integer(15)))
        return builder.lshr(x, integer(8))

    return types.int32(types.int64, types.int64), codegen


@typed_intrinsic
def _select(typing_context: Any, bits: Any, threshold: Any, scale: Any) -> Any:
    """Return `scale` if ``bits >= threshold``, else 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        threshold = builder.trunc(args[1], ir.IntType(32))
        is_kept = builder.icmp_signed(">=", args[0], threshold)
        return builder.select(is_kept, args[2], ir.Constant(ir.FloatType(), 0.0))

    return types.float32(types.int32, types.int64, types.float32), codegen


@helper
def sample_key(key, iteration, sample):
    """Key of one sample in one iteration of one layer."""
    return _mix(_mix(_mix(0, key), iteration), sample)


@helper
def row_key(sample, row):
    """Key of one row of a sample, given the key of the sample."""
    return _mix(sample, row)


@helper
def drop_threshold(rate):
    """Return what `keep` compares with, to drop with probability `rate`."""
    return int(rate * _RESOLUTION + 0.5)


@helper
def keep(key, element, threshold, scale):
    """Return `scale` (float32), or 0 with the probability behind `threshold`."""
    return _select(_bits(key, element), threshold, scale)
