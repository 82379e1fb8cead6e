"""What the loops over time of recurrent layers share."""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import overload

from arena_ckpt.kernels import activations
from arena_ckpt.kernels.chains import fused
from arena_ckpt.kernels.compiling import OPTIONS, helper
from arena_ckpt.kernels.kernel import Kernel, float_pointer, kernel
from arena_ckpt.kernels.lanes import on_stack
from arena_ckpt.kernels.linking import linked
from arena_ckpt.kernels.random_bits import drop_threshold, keep, row_key, sample_key
from arena_ckpt.kernels.vector_math import (
    E0,
    E1,
    E2,
    E3,
    E4,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    ONE,
    ROUNDER,
    TWO,
    ZERO,
    power_of_two,
)
from arena_ckpt.kernels.windows import multiply_windows, multiply_windows_in_chains
from arena_ckpt.operations.array_types import Doubles, Vector
from arena_ckpt.operations.portable import FAST, PORTABLE
from arena_ckpt.operations.recurrent import STEP_ACTIVATIONS

_SIGMOID_MOST = np.float32(87.0)
_TANH_MOST = np.float32(10.0)  # tanh is 1 from here on

part: Any = functools.partial(linked, forceinline=True, **OPTIONS)
"""Compile a function on its own, for LLVM to inline: long texts compile much faster."""


# -- the two functions that gates are made of mostly -----------------------------------
# As in `vector_math` and `activations`, with fused multiply-adds and fewer clamps: a
# step is bound by instructions, and these take two thirds as many.


@helper
def _expm1_parts(x):
    """Return s and p with ``e**x = s + s * p``, for -87 <= x <= 87."""
    rounded = fused(x, LOG2_E, ROUNDER)
    n = rounded - ROUNDER
    r = fused(n, -LN2_LOW, fused(n, -LN2_HIGH, x))
    p = fused(r, fused(r, fused(r, fused(r, E4, E3), E2), E1), E0)
    return power_of_two(rounded), fused(r * r, p, r)


@helper
def _step_sigmoid(x):
    x = -_SIGMOID_MOST if x < -_SIGMOID_MOST else x
    x = _SIGMOID_MOST if x > _SIGMOID_MOST else x
    s, p = _expm1_parts(-x)
    return ONE / (ONE + fused(s, p, s))


@helper
def _step_tanh(x):
    x = -_TANH_MOST if x < -_TANH_MOST else x
    x = _TANH_MOST if x > _TANH_MOST else x
    s, p = _expm1_parts(x + x)
    e = fused(s, p, s - ONE)
    return e / (e + TWO)


UNITS = 128
"""Number of units in one part of a step, whose gates stand on the stack first."""


_units_on_stack = on_stack(types.float32, ir.FloatType(), UNITS)


def unit_lanes() -> Any:
    """Array of `UNITS` float32 on the stack, not initialized."""
    return np.empty(UNITS, np.float32)


@overload(unit_lanes, inline="always")  # the frame of the caller, as in `lanes`
def _compiled_unit_lanes() -> Any:
    return lambda: carray(_units_on_stack(), UNITS)


@part
def view(x, place, width):
    """View of `width` elements from `place` on, unchecked: a slice would clamp."""
    return carray(float_pointer(x.ctypes.data + 4 * place), width)


@part
def row_of(x, row, width):
    """View of one row of a flat array."""
    return view(x, row * width, width)


@part
def copy_all(x, y):
    """``y = x``."""
    for j in range(y.size):
        y[j] = x[j]


@part
def clear_all(y):
    """``y = 0``."""
    for j in range(y.size):
        y[j] = ZERO


@part
def copy_part(x, y, width):
    """Copy the first `width` elements."""
    for j in range(width):
        y[j] = x[j]


@part
def step_key(key, counters, threshold, sample, row):
    """Key of the mask of one step of a sample; counters as in `layers.Binding`."""
    if threshold == 0:
        return 0
    here = sample_key(key, int(counters[0]), int(counters[1]) + sample)
    return row_key(here, row)


@part
def mask_part(lane, mask_key, threshold, scale, start, width):
    """Drop elements, scale the others; nothing at threshold 0."""
    if threshold > 0:
        for j in range(width):
            lane[j] *= keep(mask_key, start + j, threshold, scale)


@part
def add_part(dh, dy, has_dy, lane, width):
    """``lane = dh``, plus `dy` where there is one."""
    copy_part(dh, lane, width)
    if has_dy:
        for j in range(width):
            lane[j] += dy[j]


@part
def add_sums(x, sums, place, width):
    """Add a row of float32 to sums in float64, from `place` on."""
    for j in range(width):
        sums[place + j] += np.float64(x[j])


@part
def output_row(out, sample, time, steps, out_steps, out_width, out_start, unit):
    """View of one step in an output that keeps all steps, or the last; else empty."""
    if out_steps == steps:
        return view(out, (sample * steps + time) * out_width + out_start, unit)
    if out_steps == 1 and time == steps - 1:
        return view(out, sample * out_width + out_start, unit)
    return view(out, 0, 0)


@part
def write_output(h, out, sample, time, steps, out_steps, out_width, out_start, unit):
    """Copy a hidden state to its row of the output, where that has one."""
    row = output_row(out, sample, time, steps, out_steps, out_width, out_start, unit)
    copy_all(h, row)


@kernel
def join_biases(
    bias_ih: Vector, bias_hh: Vector, n_biases: int, n_apart: int, joined: Vector
) -> None:
    """Add the biases that a step adds, but for the last `n_apart` elements.

    With n_biases 0 these are zeros, with 1 `bias_ih` alone. Elements of `bias_hh` that
    are left out of the sum stand behind it.
    """
    n_joined = joined.size - n_apart
    for j in range(joined.size):
        joined[j] = ZERO
    if n_biases > 0:
        for j in range(n_joined):
            joined[j] = bias_ih[j]
    if n_biases > 1:
        for j in range(n_joined - n_apart):
            joined[j] += bias_hh[j]
        for j in range(n_apart):
            joined[n_joined + j] = bias_hh[n_joined - n_apart + j]


@kernel
def bias_from_sums(sums: Doubles, beta: float, db: Vector) -> None:
    """``db = sums + beta * db``; at beta 0, db is only written."""
    if beta == 0.0:
        for j in range(db.size):
            db[j] = np.float32(sums[j])
    else:
        for j in range(db.size):
            db[j] = np.float32(np.float64(db[j]) + sums[j])


_NAMES: dict[str, Any] = {
    made.__name__: made
    for made in (
        *(drop_threshold, unit_lanes, view, row_of, copy_all, clear_all, copy_part),
        *(step_key, mask_part, add_part, add_sums, output_row, write_output),
    )
} | {
    f"apply_{name}{suffix}": getattr(activations, f"_{name}{suffix}")
    for name in STEP_ACTIVATIONS
    for suffix in ("", "_slope")
}
_NAMES |= {"apply_tanh": _step_tanh, "apply_sigmoid": _step_sigmoid}
_NAMES |= {"np": np, "part": part, "UNITS": UNITS}


def make_kernels(
    file: str,
    module: str,
    source: str,
    name: str,
    functions: tuple[str, str],
    arithmetic: str = FAST,
) -> dict[str, Kernel]:
    """Compile the text of a module for two activations; return its kernels by entry.

    The text calls the activations ``{hidden}``, ``{hidden}_slope``, ``{recurrent}`` and
    so on, and products of matrices `multiply`; its functions ``{name}_forward`` and the
    like are the kernels. In portable arithmetic only those are returned that multiply:
    the others are the same in both. (As text, for kernels that are closures over a
    helper would be compiled anew in every process; under the name of the file, which is
    where Numba keeps and stamps its cache.)
    """
    is_portable = arithmetic == PORTABLE
    name = f"{name}_{PORTABLE}" if is_portable else name
    hidden, recurrent = (f"apply_{function}" for function in functions)
    text = source.format(name=name, hidden=hidden, recurrent=recurrent)
    multiply = multiply_windows_in_chains if is_portable else multiply_windows
    made: dict[str, Any] = {**_NAMES, "multiply": multiply, "__name__": module}
    future = "from __future__ import annotations\n"
    exec(compile(future + text, file, "exec"), made)
    return {
        key.removeprefix(f"{name}_"): kernel(value)
        for key, value in made.items()
        if key.startswith(name) and isinstance(value, FunctionType)
        if not is_portable or "multiply" in value.__code__.co_names
    }
