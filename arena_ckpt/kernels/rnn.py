"""Plain recurrence over whole sequences: forward, states, backward.

    h' = hidden(x · weight_ih + h · weight_hh + bias) · mask

The product with weight_ih is one matrix product over all steps and stands before these
kernels, which make the states in its place. They are all that lives from forward to
backward: the slope of a state follows from its value, dropped or not. The backward may
write the derivatives of the sums before activation in their place, once
`rnn_previous` has set aside the state that each step began with.

See `lstm` for why a part of a step is written to the stack first.

References
----------
Elman, "Finding structure in time", 1990. NNTrainer, ``nntrainer/layers/rnn.cpp``.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from arena_ckpt.kernels.kernel import Kernel, kernel
from arena_ckpt.kernels.steps import clear_all, copy_all, make_kernels, row_of
from arena_ckpt.operations.array_types import Vector
from arena_ckpt.operations.portable import FAST

_SOURCE = '''
@part
def forward_part(x, a, bias, h, row_key, threshold, scale, start, width):
    h_lane = unit_lanes()
    x_part, a_part = view(x, start, width), view(a, start, width)
    b_part = view(bias, start, width)
    for j in range(width):
        h_lane[j] = {hidden}(x_part[j] + a_part[j] + b_part[j])
    mask_part(h_lane, row_key, threshold, scale, start, width)
    copy_part(h_lane, x_part, width)
    copy_part(h_lane, view(h, start, width), width)


@part
def backward_part(
    h, d, a, dh, dy, has_dy, row_key, threshold, scale, kept, start, width
):
    h_lane = unit_lanes()
    h_part = view(h, start, width)
    add_part(view(dh, start, width), view(dy, start, width), has_dy, h_lane, width)
    mask_part(h_lane, row_key, threshold, scale, start, width)
    for j in range(width):
        h_lane[j] = {hidden}_slope(kept * h_part[j], h_lane[j])
    copy_part(h_lane, view(d, start, width), width)
    copy_part(h_lane, view(a, start, width), width)


def {name}_forward(
    states: Vector, weight_hh: Vector, bias: Vector, h0: Vector, has_state: int,
    a: Vector, h: Vector, out: Vector, out_steps: int, out_width: int, out_start: int,
    is_reverse: int, n: int, steps: int, unit: int, counters: Doubles, key: int,
    rate: float,
) -> None:
    """States from products with weight_ih, in place; those of `out_steps` to `out`."""
    threshold, scale = drop_threshold(rate), np.float32(1.0 / (1.0 - rate))
    if has_state:
        copy_all(h0, h)
    else:
        clear_all(a)
    for step in range(steps):
        time = steps - 1 - step if is_reverse else step
        if step > 0 or has_state:
            multiply(
                False, False, (n, unit, unit), (h, 0, unit), (weight_hh, 0, unit), 0.0,
                (a, 0, unit),
            )
        for r in range(n):
            x_row, a_row = row_of(states, r * steps + time, unit), row_of(a, r, unit)
            h_row = row_of(h, r, unit)
            mask_key = step_key(key, counters, threshold, r, time + is_reverse * steps)
            for start in range(0, unit, UNITS):
                forward_part(
                    x_row, a_row, bias, h_row, mask_key, threshold, scale, start,
                    min(UNITS, unit - start),
                )
            write_output(
                h_row, out, r, time, steps, out_steps, out_width, out_start, unit
            )


def {name}_backward(
    states: Vector, weight_hh: Vector, d_states: Vector, a: Vector, dh: Vector,
    d_out: Vector, out_steps: int, out_width: int, out_start: int, sums: Doubles,
    is_reverse: int, n: int, steps: int, unit: int, counters: Doubles, key: int,
    rate: float,
) -> None:
    """Derivatives before activation; `d_states` may be `states`; sums for the bias.

    `dh` begins as the derivative of the last state, apart from `d_out`.
    """
    threshold, scale = drop_threshold(rate), np.float32(1.0 / (1.0 - rate))
    kept = np.float32(1.0 - rate)
    for j in range(sums.size):
        sums[j] = 0.0
    for step in range(steps - 1, -1, -1):
        time = steps - 1 - step if is_reverse else step
        if step < steps - 1:
            multiply(
                False, True, (n, unit, unit), (a, 0, unit), (weight_hh, 0, unit), 0.0,
                (dh, 0, unit),
            )
        has_dy = out_steps == steps or (out_steps == 1 and time == steps - 1)
        for r in range(n):
            h_row = row_of(states, r * steps + time, unit)
            d_row = row_of(d_states, r * steps + time, unit)
            a_row, dh_row = row_of(a, r, unit), row_of(dh, r, unit)
            dy_row = output_row(
                d_out, r, time, steps, out_steps, out_width, out_start, unit
            )
            mask_key = step_key(key, counters, threshold, r, time + is_reverse * steps)
            for start in range(0, unit, UNITS):
                backward_part(
                    h_row, d_row, a_row, dh_row, dy_row, has_dy, mask_key, threshold,
                    scale, kept, start, min(UNITS, unit - start),
                )
            add_sums(a_row, sums, 0, unit)
'''


@kernel
def rnn_previous(
    states: Vector,
    h0: Vector,
    has_state: int,
    hidden: Vector,
    is_reverse: int,
    n: int,
    steps: int,
    unit: int,
) -> None:
    """Copy `states` to the step that began with them: the next, or the one before."""
    for r in range(n):
        first = row_of(hidden, r * steps + (steps - 1 if is_reverse else 0), unit)
        if has_state:
            copy_all(row_of(h0, r, unit), first)
        else:
            clear_all(first)
        for step in range(1, steps):
            here = r * steps + (step if is_reverse else step - 1)
            after = here - 1 if is_reverse else here + 1
            copy_all(row_of(states, here, unit), row_of(hidden, after, unit))


class RnnKernels(NamedTuple):
    """The two kernels for one activation."""

    forward: Kernel
    backward: Kernel


@cache
def rnn_kernels(hidden: str, arithmetic: str = FAST) -> RnnKernels:
    """Return the kernels for one of `steps.STEP_ACTIVATIONS`."""
    functions, name = (hidden, hidden), f"rnn_{hidden}"
    made = make_kernels(__file__, __name__, _SOURCE, name, functions, arithmetic)
    return RnnKernels(**made)


variant = rnn_kernels
"""What `kernel.kernel_of` finds these kernels by."""
