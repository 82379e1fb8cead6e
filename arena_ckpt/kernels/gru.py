"""Gated recurrent units over whole sequences: forward, states, backward.

With x = (n, steps, width), gates in the order update, reset, memory cell, and
a = x · weight_ih + bias::

    z, r = recurrent(a + h · weight_hh)
    g = hidden(a + r · (h · weight_hh + hidden bias))     reset_after, as in PyTorch
    g = hidden(a + (r · h) · weight_hh)                   otherwise
    h' = (z · h + (1 - z) · g) · mask

The product with weight_ih is one matrix product over all steps and stands before these
kernels. What lives from forward to backward are the three activated gates of each step,
in the place of that product: hidden states follow from them elementwise, and `states`
makes them again, the same bits, for the backward. With reset_after, the backward also
wants h · weight_hh of the memory cell: one matrix product over all steps makes it
again, which is cheaper than a third more bytes from forward to backward. The backward
leaves the derivative of a in the place of the gates.

See `lstm` for why a part of a step is written to the stack first.

References
----------
Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014 (v1:
reset_after, v3: before). NNTrainer, ``nntrainer/layers/gru.cpp``.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from arena_ckpt.kernels.kernel import Kernel
from arena_ckpt.kernels.steps import make_kernels
from arena_ckpt.operations.portable import FAST, PORTABLE

_SOURCE = '''
@part
def gates_part(x, a, bias, h, reset_after, unit, start, width):
    z_lane, r_lane, g_lane = unit_lanes(), unit_lanes(), unit_lanes()
    z_x, r_x = view(x, start, width), view(x, unit + start, width)
    z_a, r_a = view(a, start, width), view(a, unit + start, width)
    z_b, r_b = view(bias, start, width), view(bias, unit + start, width)
    for j in range(width):
        z_lane[j] = {recurrent}(z_x[j] + z_a[j] + z_b[j])
        r_lane[j] = {recurrent}(r_x[j] + r_a[j] + r_b[j])
    g_a = view(a, 2 * unit + start, width)
    if reset_after:
        g_b = view(bias, 3 * unit + start, width)
        for j in range(width):
            g_lane[j] = r_lane[j] * (g_a[j] + g_b[j])
    else:
        h_part = view(h, start, width)
        for j in range(width):
            g_lane[j] = r_lane[j] * h_part[j]
    copy_part(z_lane, z_x, width)
    copy_part(r_lane, r_x, width)
    copy_part(g_lane, g_a, width)


@part
def state_part(x, a, bias, h, row_key, threshold, scale, unit, start, width):
    g_lane, h_lane = unit_lanes(), unit_lanes()
    z_x, g_x = view(x, start, width), view(x, 2 * unit + start, width)
    g_a, g_b = view(a, start, width), view(bias, 2 * unit + start, width)
    h_part = view(h, start, width)
    for j in range(width):
        g = {hidden}(g_x[j] + g_a[j] + g_b[j])
        g_lane[j] = g
        h_lane[j] = g + z_x[j] * (h_part[j] - g)
    mask_part(h_lane, row_key, threshold, scale, start, width)
    copy_part(g_lane, g_x, width)
    copy_part(h_lane, h_part, width)


@part
def next_part(x, h, new_h, row_key, threshold, scale, unit, start, width):
    h_lane = unit_lanes()
    z_x, g_x = view(x, start, width), view(x, 2 * unit + start, width)
    h_part = view(h, start, width)
    for j in range(width):
        h_lane[j] = g_x[j] + z_x[j] * (h_part[j] - g_x[j])
    mask_part(h_lane, row_key, threshold, scale, start, width)
    copy_part(h_lane, view(new_h, start, width), width)


@part
def backward_part(
    x, a, bias, h, product, dh, dy, has_dy, reset_after, row_key, threshold, scale,
    unit, start, width,
):
    z_lane, r_lane, g_lane, p_lane, h_lane = (
        unit_lanes(), unit_lanes(), unit_lanes(), unit_lanes(), unit_lanes()
    )
    z_x, r_x = view(x, start, width), view(x, unit + start, width)
    g_x, h_part = view(x, 2 * unit + start, width), view(h, start, width)
    dh_part, p_part = view(dh, start, width), view(product, start, width)
    add_part(dh_part, view(dy, start, width), has_dy, h_lane, width)
    mask_part(h_lane, row_key, threshold, scale, start, width)
    for j in range(width):
        d, z, g = h_lane[j], z_x[j], g_x[j]
        z_lane[j] = {recurrent}_slope(z, d * (h_part[j] - g))
        g_lane[j] = {hidden}_slope(g, d - d * z)
        h_lane[j] = d * z
    copy_part(z_lane, z_x, width)
    copy_part(z_lane, view(a, start, width), width)
    copy_part(h_lane, dh_part, width)
    if reset_after:
        g_b = view(bias, 3 * unit + start, width)
        for j in range(width):
            r, g = r_x[j], g_lane[j]
            r_lane[j] = {recurrent}_slope(r, g * (p_part[j] + g_b[j]))
            p_lane[j] = g * r
        copy_part(r_lane, r_x, width)
        copy_part(r_lane, view(a, unit + start, width), width)
        copy_part(p_lane, p_part, width)
        copy_part(p_lane, view(a, 2 * unit + start, width), width)
    else:
        copy_part(g_lane, view(a, 2 * unit + start, width), width)
    copy_part(g_lane, g_x, width)


@part
def reset_part(x, a, h, d_product, dh, unit, start, width):
    r_lane, h_lane = unit_lanes(), unit_lanes()
    r_x, h_part = view(x, unit + start, width), view(h, start, width)
    p_part, dh_part = view(d_product, start, width), view(dh, start, width)
    for j in range(width):
        r_lane[j] = {recurrent}_slope(r_x[j], p_part[j] * h_part[j])
        h_lane[j] = dh_part[j] + p_part[j] * r_x[j]
    copy_part(r_lane, r_x, width)
    copy_part(r_lane, view(a, unit + start, width), width)
    copy_part(h_lane, dh_part, width)


def {name}_forward(
    gates: Vector, weight_hh: Vector, bias: Vector, h0: Vector, has_state: int,
    a: Vector, h: Vector, product: Vector, out: Vector, out_steps: int,
    out_width: int, out_start: int, reset_after: int, is_reverse: int, n: int,
    steps: int, unit: int, counters: Doubles, key: int, rate: float,
) -> None:
    """Gates from products with weight_ih; hidden states to `out`, the last in `h`."""
    threshold, scale = drop_threshold(rate), np.float32(1.0 / (1.0 - rate))
    if has_state:
        copy_all(h0, h)
    else:
        clear_all(h)
        clear_all(a)
        clear_all(product)
    n_before = 3 * unit if reset_after else 2 * unit
    for step in range(steps):
        time = steps - 1 - step if is_reverse else step
        knows_state = step > 0 or has_state
        if knows_state:
            multiply(
                False, False, (n, n_before, unit), (h, 0, unit),
                (weight_hh, 0, 3 * unit), 0.0, (a, 0, 3 * unit),
            )
        for r in range(n):
            x_row, a_row = row_of(gates, r * steps + time, 3 * unit), row_of(
                a, r, 3 * unit
            )
            h_row = row_of(h, r, unit)
            for start in range(0, unit, UNITS):
                gates_part(
                    x_row, a_row, bias, h_row, reset_after, unit, start,
                    min(UNITS, unit - start),
                )
        if knows_state and not reset_after:
            multiply(
                False, False, (n, unit, unit), (a, 2 * unit, 3 * unit),
                (weight_hh, 2 * unit, 3 * unit), 0.0, (product, 0, unit),
            )
        for r in range(n):
            x_row, h_row = row_of(gates, r * steps + time, 3 * unit), row_of(h, r, unit)
            a_row = row_of(product, r, unit)
            if reset_after:
                a_row = view(a, (3 * r + 2) * unit, unit)
            mask_key = step_key(key, counters, threshold, r, time + is_reverse * steps)
            for start in range(0, unit, UNITS):
                state_part(
                    x_row, a_row, bias, h_row, mask_key, threshold, scale, unit, start,
                    min(UNITS, unit - start),
                )
            write_output(
                h_row, out, r, time, steps, out_steps, out_width, out_start, unit
            )


def {name}_states(
    gates: Vector, h0: Vector, has_state: int, hidden: Vector, product: Vector,
    reset_after: int, is_reverse: int, n: int, steps: int, unit: int,
    counters: Doubles, key: int, rate: float,
) -> None:
    """The hidden state h that each step began with; without reset_after, r · h."""
    threshold, scale = drop_threshold(rate), np.float32(1.0 / (1.0 - rate))
    for r in range(n):
        first = r * steps + (steps - 1 if is_reverse else 0)
        if has_state:
            copy_all(row_of(h0, r, unit), row_of(hidden, first, unit))
        else:
            clear_all(row_of(hidden, first, unit))
        for step in range(steps):
            time = steps - 1 - step if is_reverse else step
            here = r * steps + time
            x_row, h_row = row_of(gates, here, 3 * unit), row_of(hidden, here, unit)
            if step < steps - 1:
                new_h = row_of(hidden, here - 1 if is_reverse else here + 1, unit)
                mask_key = step_key(
                    key, counters, threshold, r, time + is_reverse * steps
                )
                for start in range(0, unit, UNITS):
                    next_part(
                        x_row, h_row, new_h, mask_key, threshold, scale, unit, start,
                        min(UNITS, unit - start),
                    )
            if not reset_after:
                r_x, out = view(x_row, unit, unit), row_of(product, here, unit)
                for j in range(unit):
                    out[j] = r_x[j] * h_row[j]


def {name}_backward(
    gates: Vector, weight_hh: Vector, bias: Vector, hidden: Vector, product: Vector,
    a: Vector, dh: Vector, d_product: Vector, d_out: Vector, out_steps: int,
    out_width: int, out_start: int, sums: Doubles, wants_state: int, reset_after: int,
    is_reverse: int, n: int, steps: int, unit: int, counters: Doubles, key: int,
    rate: float,
) -> None:
    """Gates to derivatives before activation; dh from that of the last state,
    apart from `d_out`, to that of the first.

    With reset_after, `product` is h · weight_hh of the memory cell, without its bias,
    and becomes its derivative. `sums` are those of the derivatives of z, r, of g before
    the reset gate and behind it.
    """
    threshold, scale = drop_threshold(rate), np.float32(1.0 / (1.0 - rate))
    for j in range(sums.size):
        sums[j] = 0.0
    n_before = 3 * unit if reset_after else 2 * unit
    for step in range(steps - 1, -1, -1):
        time = steps - 1 - step if is_reverse else step
        has_dy = out_steps == steps or (out_steps == 1 and time == steps - 1)
        for r in range(n):
            here = r * steps + time
            x_row, a_row = row_of(gates, here, 3 * unit), row_of(a, r, 3 * unit)
            h_row, p_row = row_of(hidden, here, unit), row_of(product, here, unit)
            dh_row = row_of(dh, r, unit)
            dy_row = output_row(
                d_out, r, time, steps, out_steps, out_width, out_start, unit
            )
            mask_key = step_key(key, counters, threshold, r, time + is_reverse * steps)
            for start in range(0, unit, UNITS):
                backward_part(
                    x_row, a_row, bias, h_row, p_row, dh_row, dy_row, has_dy,
                    reset_after, mask_key, threshold, scale, unit, start,
                    min(UNITS, unit - start),
                )
        if not reset_after:
            multiply(
                False, True, (n, unit, unit), (a, 2 * unit, 3 * unit),
                (weight_hh, 2 * unit, 3 * unit), 0.0, (d_product, 0, unit),
            )
            for r in range(n):
                here = r * steps + time
                x_row, a_row = row_of(gates, here, 3 * unit), row_of(a, r, 3 * unit)
                h_row, dh_row = row_of(hidden, here, unit), row_of(dh, r, unit)
                dp_row = row_of(d_product, r, unit)
                for start in range(0, unit, UNITS):
                    reset_part(
                        x_row, a_row, h_row, dp_row, dh_row, unit, start,
                        min(UNITS, unit - start),
                    )
        for r in range(n):
            x_row, a_row = row_of(gates, r * steps + time, 3 * unit), row_of(
                a, r, 3 * unit
            )
            add_sums(x_row, sums, 0, 3 * unit)
            add_sums(view(a_row, 2 * unit, unit), sums, 3 * unit, unit)
        if step > 0 or wants_state:
            multiply(
                False, True, (n, unit, n_before), (a, 0, 3 * unit),
                (weight_hh, 0, 3 * unit), 1.0, (dh, 0, unit),
            )
'''


class GruKernels(NamedTuple):
    """The three kernels for one pair of activations."""

    forward: Kernel
    states: Kernel
    backward: Kernel


@cache
def gru_kernels(hidden: str, recurrent: str, arithmetic: str = FAST) -> GruKernels:
    """Return the kernels for two of `steps.STEP_ACTIVATIONS`."""
    functions = hidden, recurrent
    name = f"gru_{hidden}_{recurrent}"
    made = make_kernels(__file__, __name__, _SOURCE, name, functions, arithmetic)
    if arithmetic == PORTABLE:
        return gru_kernels(hidden, recurrent)._replace(**made)
    return GruKernels(**made)


variant = gru_kernels
"""What `kernel.kernel_of` finds these kernels by."""
