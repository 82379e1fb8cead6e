"""Sums over planes and taps of pictures, in a fixed order and without a workspace.

For each place and output one chain of fused multiply-adds runs over (plane, row of the
taps, column of the taps). A convolution is such a sum, and so is the derivative of one
for each phase of its stride.

Stages: some planes of some samples are copied onto the stack with zeros around them;
their taps are taken `DEPTH` at a time; the weights of these are packed so that vectors
run along the outputs of one place; then tiles of places run over them. Between two
pieces the sums stand in the target. A picture that does not fit is taken in parts.
"""

from __future__ import annotations

from arena_ckpt.kernels.chains import DEPTH, PANEL, ROWS, fused
from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.direct_tiles import (
    ROOM,
    clear_beyond,
    copy_planes,
    panel_on_stack,
    places_on_stack,
    planes_on_stack,
    sums_on_stack,
    table_on_stack,
    tile_of,
    transpose_rows,
)
from arena_ckpt.kernels.transposition import transpose_square
from arena_ckpt.kernels.vector_math import ZERO


@helper
def _largest_part(size, step, reach, other):
    """Return how many outputs along an axis fit, where a line of them takes `other`."""
    fitting = (ROOM // other - reach - 1) // step + 1 if other <= ROOM else 0
    return min(size, fitting)


@routine
def _fill_untouched(
    init, has_init, n_outputs, n, n_rows, n_columns,
    y, y0, y_sample, y_plane, y_row, y_column,
):  # fmt: skip
    """Write what places begin at that no tap reaches."""
    for s in range(n):
        for o in range(n_outputs):
            value = init[o] if has_init else ZERO
            for r in range(n_rows):
                at = y0 + s * y_sample + o * y_plane + r * y_row
                for c in range(n_columns):
                    y[at + c * y_column] = value


@routine
def _list_taps(
    t0, depth, plane, columns, taps_h, taps_w, apart_h, apart_w,
    w_plane, w_row, w_column, table, weight_at,
):  # fmt: skip
    """Write where the taps from number t0 on read, and where their weights are."""
    n_taps = taps_h * taps_w
    for p in range(depth):
        k, tap = (t0 + p) // n_taps, (t0 + p) % n_taps
        i, j = tap // taps_w, tap % taps_w
        table[p] = k * plane + i * apart_h * columns + j * apart_w
        weight_at[p] = k * w_plane + i * w_row + j * w_column


@routine
def _pack_weights(w, base, weight_at, w_output, in_order, outputs, depth, panel):
    """``panel[p, o]`` = the weight of tap p and output o, 0 up to a whole vector.

    `in_order` says that the taps of an output lie one after another.
    """
    if in_order:
        transpose_rows(w, base + weight_at[0], w_output, outputs, depth, panel)
        return
    for p in range(depth):
        at = base + weight_at[p]
        for o in range(outputs):
            panel[p * PANEL + o] = w[at + o * w_output]
    clear_beyond(outputs, depth, panel)


@routine
def _place_tile(
    place, n_tile, rows, columns, sample_step, row_step, column_step, places,
    y0, y_sample, y_row, y_column, to,
):  # fmt: skip
    """Write where a tile's places begin in the planes, and where their sums go.

    The places are (sample, row, column) in order. Return whether the sums of an output
    lie one after another.
    """
    r, s = place // columns % rows, place // (rows * columns)
    c = place % columns
    for j in range(ROWS):
        places[j] = s * sample_step + r * row_step + c * column_step
        to[j] = y0 + s * y_sample + r * y_row + c * y_column
        if j < n_tile - 1:  # then the last one once more
            c += 1
            if c == columns:
                c = 0
                r += 1
                if r == rows:
                    r = 0
                    s += 1
    is_row = to[n_tile - 1] - to[0] == n_tile - 1 and y_column == 1
    return is_row and place // (rows * columns) == s


@routine
def _load_sums(y, to, y_plane, n_tile, outputs, sums):
    for j in range(n_tile):
        for o in range(outputs):
            sums[j * PANEL + o] = y[to[j] + o * y_plane]


@routine
def _spread(init, o0, n_tile, outputs, sums):
    """Let the sums of each output begin at its bias."""
    for j in range(n_tile):
        for o in range(outputs):
            sums[j * PANEL + o] = init[o0 + o]


@routine
def _store_sums(sums, n_tile, outputs, in_order, y, to, y_plane):
    whole = 0
    if in_order and n_tile == 8:
        whole = outputs - outputs % 8
        for o in range(0, whole, 8):
            transpose_square(sums, o, PANEL, y, to[0] + o * y_plane, y_plane)
    for j in range(n_tile):
        for o in range(whole, outputs):
            y[to[j] + o * y_plane] = sums[j * PANEL + o]


@routine
def correlate(
    x, n_planes, height, width, top, left, step_h, step_w,
    taps_h, taps_w, apart_h, apart_w,
    w, w_plane, w_output, w_first, w_row, w_column, init, has_init, n_outputs,
    n, n_rows, n_columns, y, y0, y_sample, y_plane, y_row, y_column,
):  # fmt: skip
    """For each place and output of n samples: the sum over planes and taps.

    Parameters
    ----------
    x : (n, n_planes, height, width)
    top, left : int
        Place (r, c) and tap (i, j) read row ``r step_h + i apart_h - top``, and a
        column likewise; 0 beyond the plane.
    taps_h, taps_w : int
    w : array of float32
        The weight of a tap is ``w[w_first + plane w_plane + output w_output
        + i w_row + j w_column]``.
    init, has_init
        What the sums of an output begin at, if not at 0.
    y : array of float32
        ``y[y0 + sample y_sample + output y_plane + r y_row + c y_column]``.
    """
    planes, panel, sums = planes_on_stack(), panel_on_stack(), sums_on_stack()
    table, places = table_on_stack(), places_on_stack()
    weight_at, to = table[DEPTH:], places[ROWS:]
    n_taps = taps_h * taps_w
    if n_taps == 0:
        _fill_untouched(
            init, has_init, n_outputs, n, n_rows, n_columns,
            y, y0, y_sample, y_plane, y_row, y_column,
        )  # fmt: skip
        return
    reach_h, reach_w = (taps_h - 1) * apart_h, (taps_w - 1) * apart_w
    whole_width = (n_columns - 1) * step_w + reach_w + 1
    part_w = n_columns
    if (reach_h + 1) * whole_width > ROOM:
        part_w = _largest_part(n_columns, step_w, reach_w, reach_h + 1)
    if part_w < 1:
        _correlate_far(
            x, n_planes, height, width, top, left, step_h, step_w,
            taps_h, taps_w, apart_h, apart_w,
            w, w_plane, w_output, w_first, w_row, w_column, init, has_init, n_outputs,
            n, n_rows, n_columns, y, y0, y_sample, y_plane, y_row, y_column,
        )  # fmt: skip
        return
    columns = (part_w - 1) * step_w + reach_w + 1
    part_h = max(1, _largest_part(n_rows, step_h, reach_h, columns))
    rows = (part_h - 1) * step_h + reach_h + 1
    plane = rows * columns
    together = min(n_planes, max(1, DEPTH // n_taps), max(1, ROOM // plane))
    sample = together * plane
    group = min(n, max(1, ROOM // sample))
    in_order = w_column == 1 and w_row == taps_w and w_plane == n_taps
    parts_w = (n_columns + part_w - 1) // part_w
    n_parts = (n_rows + part_h - 1) // part_h * parts_w
    for part in range((n + group - 1) // group * n_parts):
        n0, r0 = part // n_parts * group, part % n_parts // parts_w * part_h
        c0 = part % parts_w * part_w
        n_here, rows_here = min(group, n - n0), min(part_h, n_rows - r0)
        columns_here = min(part_w, n_columns - c0)
        first = y0 + n0 * y_sample + r0 * y_row + c0 * y_column
        for k0 in range(0, n_planes, together):
            k_here = min(together, n_planes - k0)
            for s in range(n_here):
                copy_planes(
                    x, ((n0 + s) * n_planes + k0) * height * width, k_here,
                    height, width, top - r0 * step_h, left - c0 * step_w,
                    rows, columns, planes, s * sample,
                )  # fmt: skip
            for t0 in range(0, k_here * n_taps, DEPTH):
                depth = min(DEPTH, k_here * n_taps - t0)
                _list_taps(
                    t0, depth, plane, columns, taps_h, taps_w, apart_h, apart_w,
                    w_plane, w_row, w_column, table, weight_at,
                )  # fmt: skip
                is_first = k0 == 0 and t0 == 0
                for o0 in range(0, n_outputs, PANEL):
                    outputs = min(PANEL, n_outputs - o0)
                    base = w_first + k0 * w_plane + o0 * w_output
                    _pack_weights(
                        w, base, weight_at, w_output, in_order, outputs, depth, panel
                    )
                    n_places = n_here * rows_here * columns_here
                    for place in range(0, n_places, ROWS):
                        n_tile = min(ROWS, n_places - place)
                        is_row = _place_tile(
                            place, n_tile, rows_here, columns_here, sample,
                            step_h * columns, step_w, places,
                            first + o0 * y_plane, y_sample, y_row, y_column, to,
                        )  # fmt: skip
                        if is_first and has_init:
                            _spread(init, o0, n_tile, outputs, sums)
                        elif not is_first:
                            _load_sums(y, to, y_plane, n_tile, outputs, sums)
                        fresh = 1 if is_first and not has_init else 0
                        tile_of(
                            planes, places, table, panel, sums, outputs, depth, fresh
                        )
                        _store_sums(sums, n_tile, outputs, is_row, y, to, y_plane)


@routine
def _correlate_far(
    x, n_planes, height, width, top, left, step_h, step_w,
    taps_h, taps_w, apart_h, apart_w,
    w, w_plane, w_output, w_first, w_row, w_column, init, has_init, n_outputs,
    n, n_rows, n_columns, y, y0, y_sample, y_plane, y_row, y_column,
):  # fmt: skip
    """Do what `_correlate` does, element by element: for taps very far apart."""
    for s in range(n):
        for o in range(n_outputs):
            for r in range(n_rows):
                for c in range(n_columns):
                    total = init[o] if has_init else ZERO
                    for k in range(n_planes):
                        source = (s * n_planes + k) * height * width
                        weight = w_first + k * w_plane + o * w_output
                        for i in range(taps_h):
                            row = r * step_h + i * apart_h - top
                            for j in range(taps_w):
                                column = c * step_w + j * apart_w - left
                                value = ZERO
                                if 0 <= row < height and 0 <= column < width:
                                    value = x[source + row * width + column]
                                factor = w[weight + i * w_row + j * w_column]
                                total = fused(factor, value, total)
                    at = y0 + s * y_sample + o * y_plane + r * y_row
                    y[at + c * y_column] = total
