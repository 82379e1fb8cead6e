"""Long short-term memory over whole sequences: forward, states, backward.

With x = (n, steps, width) and gates in the order input, forget, memory cell, output::

    i, f, o = recurrent(a),  g = hidden(a),  a = x · weight_ih + h · weight_hh + bias
    c' = f · c + i · g       h' = o · hidden(c') · mask

The product with weight_ih is one matrix product over all steps and stands before these
kernels. What lives from forward to backward are the four activated gates of each step,
in the place of that product: cell and hidden states follow from them elementwise, and
`states` makes them again, the same bits, for the backward. The backward leaves the
derivative of a in the place of the gates, so that one product each over all steps makes
the gradients of the weights and the derivative of x.

A kernel holds the loop over time. A step is one small matrix product into a contiguous
workspace (n, ·), whose rows stand close together, then one pass over the gates in parts
of `UNITS` units. A part writes to the stack first: LLVM would have to check a dozen
rows for overlap, and rather not vectorizes. One loop for each gate is faster than one
for all, whose constants do not fit the registers.

Known shortcoming: BLAS packs weight_hh again in each step.

In portable arithmetic, forward and backward multiply by `chains`; see
`steps.make_kernels`.

References
----------
Hochreiter and Schmidhuber, "Long short-term memory", 1997; Gers et al., 2000.
NNTrainer, ``nntrainer/layers/lstm.cpp`` (order of gates, dropout of the hidden state).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from arena_ckpt.kernels.kernel import Kernel
from arena_ckpt.kernels.steps import make_kernels
from arena_ckpt.operations.portable import FAST, PORTABLE

_SOURCE = '''
@part
def forward_part(x, z, bias, c, h, row_key, threshold, scale, unit, start, width):
    i_lane, f_lane, g_lane, o_lane = (
        unit_lanes(), unit_lanes(), unit_lanes(), unit_lanes()
    )
    c_lane, h_lane = unit_lanes(), unit_lanes()
    i_x = view(x, start, width)
    f_x = view(x, unit + start, width)
    g_x = view(x, 2 * unit + start, width)
    o_x = view(x, 3 * unit + start, width)
    i_z = view(z, start, width)
    f_z = view(z, unit + start, width)
    g_z = view(z, 2 * unit + start, width)
    o_z = view(z, 3 * unit + start, width)
    i_b = view(bias, start, width)
    f_b = view(bias, unit + start, width)
    g_b = view(bias, 2 * unit + start, width)
    o_b = view(bias, 3 * unit + start, width)
    c_part = view(c, start, width)
    for j in range(width):
        i_lane[j] = {recurrent}(i_x[j] + i_z[j] + i_b[j])
    for j in range(width):
        f_lane[j] = {recurrent}(f_x[j] + f_z[j] + f_b[j])
    for j in range(width):
        g_lane[j] = {hidden}(g_x[j] + g_z[j] + g_b[j])
    for j in range(width):
        o_lane[j] = {recurrent}(o_x[j] + o_z[j] + o_b[j])
    for j in range(width):
        new = f_lane[j] * c_part[j] + i_lane[j] * g_lane[j]
        c_lane[j] = new
        h_lane[j] = o_lane[j] * {hidden}(new)
    mask_part(h_lane, row_key, threshold, scale, start, width)
    copy_part(i_lane, i_x, width)
    copy_part(f_lane, f_x, width)
    copy_part(g_lane, g_x, width)
    copy_part(o_lane, o_x, width)
    copy_part(c_lane, c_part, width)
    copy_part(h_lane, view(h, start, width), width)


@part
def states_part(x, c, new_c, new_h, row_key, threshold, scale, unit, start, width):
    c_lane, h_lane = unit_lanes(), unit_lanes()
    i_x = view(x, start, width)
    f_x = view(x, unit + start, width)
    g_x = view(x, 2 * unit + start, width)
    o_x = view(x, 3 * unit + start, width)
    c_part = view(c, start, width)
    for j in range(width):
        new = f_x[j] * c_part[j] + i_x[j] * g_x[j]
        c_lane[j] = new
        h_lane[j] = o_x[j] * {hidden}(new)
    mask_part(h_lane, row_key, threshold, scale, start, width)
    copy_part(c_lane, view(new_c, start, width), width)
    copy_part(h_lane, view(new_h, start, width), width)


@part
def backward_part(
    x, c, dh, dy, dc, has_dy, row_key, threshold, scale, unit, start, width
):
    i_lane, f_lane, g_lane, o_lane = (
        unit_lanes(), unit_lanes(), unit_lanes(), unit_lanes()
    )
    c_lane, h_lane = unit_lanes(), unit_lanes()
    i_x = view(x, start, width)
    f_x = view(x, unit + start, width)
    g_x = view(x, 2 * unit + start, width)
    o_x = view(x, 3 * unit + start, width)
    c_part = view(c, start, width)
    dc_part = view(dc, start, width)
    add_part(view(dh, start, width), view(dy, start, width), has_dy, h_lane, width)
    mask_part(h_lane, row_key, threshold, scale, start, width)
    for j in range(width):
        active = {hidden}(f_x[j] * c_part[j] + i_x[j] * g_x[j])
        o_lane[j] = {recurrent}_slope(o_x[j], h_lane[j] * active)
        c_lane[j] = dc_part[j] + {hidden}_slope(active, h_lane[j] * o_x[j])
    for j in range(width):
        i_lane[j] = {recurrent}_slope(i_x[j], c_lane[j] * g_x[j])
        f_lane[j] = {recurrent}_slope(f_x[j], c_lane[j] * c_part[j])
        g_lane[j] = {hidden}_slope(g_x[j], c_lane[j] * i_x[j])
        c_lane[j] *= f_x[j]
    copy_part(i_lane, i_x, width)
    copy_part(f_lane, f_x, width)
    copy_part(g_lane, g_x, width)
    copy_part(o_lane, o_x, width)
    copy_part(c_lane, dc_part, width)


def {name}_forward(
    gates: Vector, weight_hh: Vector, bias: Vector, h0: Vector, c0: Vector,
    n_states: int, z: Vector, h: Vector, c: Vector, out: Vector, out_steps: int,
    out_width: int, out_start: int, is_reverse: int, n: int, steps: int, unit: int,
    counters: Doubles, key: int, rate: float,
) -> None:
    """Gates from products with weight_ih; hidden states to `out`, last cells in `c`.

    Of the first states `h0` and `c0`, `n_states` are given; the others are zero.
    """
    threshold, scale = drop_threshold(rate), np.float32(1.0 / (1.0 - rate))
    if n_states > 0:
        copy_all(h0, h)
    else:
        clear_all(z)
    if n_states > 1:
        copy_all(c0, c)
    else:
        clear_all(c)
    for step in range(steps):
        time = steps - 1 - step if is_reverse else step
        if step > 0 or n_states > 0:
            multiply(
                False, False, (n, 4 * unit, unit), (h, 0, unit),
                (weight_hh, 0, 4 * unit), 0.0, (z, 0, 4 * unit),
            )
        for r in range(n):
            x_row = row_of(gates, r * steps + time, 4 * unit)
            z_row = row_of(z, r, 4 * unit)
            c_row, h_row = row_of(c, r, unit), row_of(h, r, unit)
            mask_key = step_key(key, counters, threshold, r, time + is_reverse * steps)
            for start in range(0, unit, UNITS):
                width = min(UNITS, unit - start)
                forward_part(
                    x_row, z_row, bias, c_row, h_row, mask_key, threshold, scale,
                    unit, start, width,
                )
            write_output(
                h_row, out, r, time, steps, out_steps, out_width, out_start, unit
            )


def {name}_states(
    gates: Vector, h0: Vector, c0: Vector, n_states: int, cells: Vector,
    hidden: Vector, is_reverse: int, n: int, steps: int, unit: int, counters: Doubles,
    key: int, rate: float,
) -> None:
    """The cell and the hidden state that each step began with, (n, steps, unit)."""
    threshold, scale = drop_threshold(rate), np.float32(1.0 / (1.0 - rate))
    for r in range(n):
        first = r * steps + (steps - 1 if is_reverse else 0)
        if n_states > 0:
            copy_all(row_of(h0, r, unit), row_of(hidden, first, unit))
        else:
            clear_all(row_of(hidden, first, unit))
        if n_states > 1:
            copy_all(row_of(c0, r, unit), row_of(cells, first, unit))
        else:
            clear_all(row_of(cells, first, unit))
        for step in range(steps - 1):
            time = steps - 1 - step if is_reverse else step
            here = r * steps + time
            after = here - 1 if is_reverse else here + 1
            x_row = row_of(gates, here, 4 * unit)
            c_row = row_of(cells, here, unit)
            new_c, new_h = row_of(cells, after, unit), row_of(hidden, after, unit)
            mask_key = step_key(key, counters, threshold, r, time + is_reverse * steps)
            for start in range(0, unit, UNITS):
                width = min(UNITS, unit - start)
                states_part(
                    x_row, c_row, new_c, new_h, mask_key, threshold, scale,
                    unit, start, width,
                )


def {name}_backward(
    gates: Vector, weight_hh: Vector, cells: Vector, dh: Vector, dc: Vector,
    d_out: Vector, out_steps: int, out_width: int, out_start: int, sums: Doubles,
    is_reverse: int, n: int, steps: int, unit: int, counters: Doubles, key: int,
    rate: float,
) -> None:
    """Gates to derivatives before activation; dc from that of the last to the first.

    `dh` begins as the derivative of the last hidden state, apart from `d_out`. `sums`
    are the derivative of a bias.
    """
    threshold, scale = drop_threshold(rate), np.float32(1.0 / (1.0 - rate))
    for j in range(sums.size):
        sums[j] = 0.0
    row_distance = 4 * unit * steps
    for step in range(steps - 1, -1, -1):
        time = steps - 1 - step if is_reverse else step
        after = time - 1 if is_reverse else time + 1
        if step < steps - 1:
            multiply(
                False, True, (n, unit, 4 * unit),
                (gates, 4 * unit * after, row_distance),
                (weight_hh, 0, 4 * unit), 0.0, (dh, 0, unit),
            )
        has_dy = out_steps == steps or (out_steps == 1 and time == steps - 1)
        for r in range(n):
            x_row = row_of(gates, r * steps + time, 4 * unit)
            c_row = row_of(cells, r * steps + time, unit)
            dh_row, dc_row = row_of(dh, r, unit), row_of(dc, r, unit)
            dy_row = output_row(
                d_out, r, time, steps, out_steps, out_width, out_start, unit
            )
            mask_key = step_key(key, counters, threshold, r, time + is_reverse * steps)
            for start in range(0, unit, UNITS):
                width = min(UNITS, unit - start)
                backward_part(
                    x_row, c_row, dh_row, dy_row, dc_row, has_dy, mask_key,
                    threshold, scale, unit, start, width,
                )
            add_sums(x_row, sums, 0, 4 * unit)
'''


class LstmKernels(NamedTuple):
    """The three kernels for one pair of activations."""

    forward: Kernel
    states: Kernel
    backward: Kernel


@cache
def lstm_kernels(hidden: str, recurrent: str, arithmetic: str = FAST) -> LstmKernels:
    """Return the kernels for two of `steps.STEP_ACTIVATIONS`."""
    functions = hidden, recurrent
    name = f"lstm_{hidden}_{recurrent}"
    made = make_kernels(__file__, __name__, _SOURCE, name, functions, arithmetic)
    if arithmetic == PORTABLE:
        return lstm_kernels(hidden, recurrent)._replace(**made)
    return LstmKernels(**made)


variant = lstm_kernels
"""What `kernel.kernel_of` finds these kernels by."""
