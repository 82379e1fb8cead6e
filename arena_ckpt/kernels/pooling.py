"""Pooling over (sample, channel, height, width), and its opposite, upsampling.

A maximum remembers where it stood: its place in the window, a byte for each output
where windows have at most `MOST_IN_BYTES` elements. To find it again in backward
would need the input, which is several times larger. Among equals the first counts, and
NaN is greater than everything, as in PyTorch. Padding is never the maximum, and an
average does not count it.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.compiling import helper, routine
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes, total
from arena_ckpt.kernels.pooling_vectors import max_of_squares, spread_squares
from arena_ckpt.kernels.vector_math import ONE, ZERO
from arena_ckpt.kernels.vectors import WIDTH, choose
from arena_ckpt.operations.array_types import Indexes, Vector
from arena_ckpt.operations.sizes import MOST_IN_BYTES

_SHIFT = 40
"""Number of bits of a quotient: places in a window, and its width, are below 2²⁰."""

_LEAST = np.float32(-np.inf)


@helper
def _first_tap(out, stride, before):
    """Return the first element of a window that is not padding."""
    return max(0, before - out * stride)


@helper
def _last_tap(out, stride, before, size, kernel):
    """Return one more than the last element that is not padding."""
    return min(kernel, size + before - out * stride)


@helper
def _outs(tap, stride, before, size, n_outs):
    """Return which outputs have no padding at `tap`: first, and beyond the last."""
    first, last = 0, n_outs
    if tap < before:  # divisions are slow, and seldom needed
        first = (before - tap + stride - 1) // stride
    if (n_outs - 1) * stride + tap - before >= size:
        last = (size - 1 + before - tap) // stride + 1
    return first, last


@helper
def _greatest(x, step, tap, best, place):
    for i in range(best.size):
        v, so_far = x[i * step], best[i]
        is_greater = (v > so_far) | (v != v)
        best[i] = choose(is_greater, v, so_far)
        place[i] = choose(is_greater, place.dtype.type(tap), place[i])


@helper
def _keep_greatest(x, step, tap, best, place):
    # Steps that the compiler knows become vectors.
    if step == 1:
        _greatest(x, 1, tap, best, place)
    elif step == 2:
        _greatest(x, 2, tap, best, place)
    else:
        _greatest(x, step, tap, best, place)


@helper
def _max_of_squares(above, below, best, place):
    """Whole windows of 2 × 2 side by side: by far the most frequent pooling."""
    n = best.size
    if n >= WIDTH:
        # A row ends in a vector that repeats some columns.
        for start in range(0, n, WIDTH):
            max_of_squares(above, below, min(start, n - WIDTH), best, place)
        return
    zero, one, two, three = np.uint8(0), np.uint8(1), np.uint8(2), np.uint8(3)
    for i in range(n):
        a, b, c, d = above[2 * i], above[2 * i + 1], below[2 * i], below[2 * i + 1]
        b_is_greater = (b > a) | (b != b)
        upper = choose(b_is_greater, b, a)
        upper_place = choose(b_is_greater, one, zero)
        d_is_greater = (d > c) | (d != d)
        lower = choose(d_is_greater, d, c)
        lower_place = choose(d_is_greater, three, two)
        lower_is_greater = (lower > upper) | (lower != lower)
        best[i] = choose(lower_is_greater, lower, upper)
        place[i] = choose(lower_is_greater, lower_place, upper_place)


@helper
def _are_squares(
    kernel_height, kernel_width, stride_height, stride_width, top, left, out_width,
    width,
):  # fmt: skip
    return (
        kernel_height == kernel_width == stride_height == stride_width == 2
        and top == left == 0
        and 2 * out_width <= width
    )


@routine
def _max_plane(
    x, height, width, kernel_height, kernel_width, stride_height, stride_width,
    top, left, out_height, out_width, y, place,
):  # fmt: skip
    is_squares = place.itemsize == 1 and _are_squares(
        kernel_height, kernel_width, stride_height, stride_width, top, left,
        out_width, width,
    )  # fmt: skip
    for r in range(out_height):
        best = y[r * out_width : (r + 1) * out_width]
        places = place[r * out_width : (r + 1) * out_width]
        if is_squares and 2 * r + 2 <= height:
            above = x[2 * r * width : (2 * r + 1) * width]
            below = x[(2 * r + 1) * width : (2 * r + 2) * width]
            _max_of_squares(above, below, best, places)
            continue
        first_row = _first_tap(r, stride_height, top)
        for i in range(out_width):
            best[i] = _LEAST
            tap = first_row * kernel_width + _first_tap(i, stride_width, left)
            places[i] = tap
        for a in range(
            first_row, _last_tap(r, stride_height, top, height, kernel_height)
        ):
            row = (r * stride_height + a - top) * width
            for b in range(kernel_width):
                begin, end = _outs(b, stride_width, left, width, out_width)
                if begin < end:
                    _keep_greatest(
                        x[row + begin * stride_width + b - left :],
                        stride_width,
                        a * kernel_width + b,
                        best[begin:end],
                        places[begin:end],
                    )


@kernel
def max_forward(
    x: Vector, y: Vector, place: Indexes, planes: int, height: int, width: int,
    kernel_height: int, kernel_width: int, stride_height: int, stride_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``y`` = the greatest of each window, ``place`` = which it is (see the module)."""
    out_plane = out_height * out_width
    in_bytes = place.view(np.uint8)
    for p in range(planes):
        _max_plane(
            x[p * height * width : (p + 1) * height * width], height, width,
            kernel_height, kernel_width, stride_height, stride_width, top, left,
            out_height, out_width, y[p * out_plane : (p + 1) * out_plane],
            in_bytes[p * out_plane : (p + 1) * out_plane],
        )  # fmt: skip
    for i in range(planes * out_plane, in_bytes.size):
        in_bytes[i] = 0  # what the last element has to spare


@kernel
def max_forward_wide(
    x: Vector, y: Vector, place: Indexes, planes: int, height: int, width: int,
    kernel_height: int, kernel_width: int, stride_height: int, stride_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """`max_forward` for windows of more than `MOST_IN_BYTES` elements."""
    out_plane = out_height * out_width
    for p in range(planes):
        _max_plane(
            x[p * height * width : (p + 1) * height * width], height, width,
            kernel_height, kernel_width, stride_height, stride_width, top, left,
            out_height, out_width, y[p * out_plane : (p + 1) * out_plane],
            place[p * out_plane : (p + 1) * out_plane],
        )  # fmt: skip


@helper
def _spread_squares(dy, place, above, below):
    """Write the four elements of each window: one gets the derivative."""
    n = dy.size
    if n >= WIDTH:
        for start in range(0, n, WIDTH):
            spread_squares(dy, place, min(start, n - WIDTH), above, below)
        return
    for i in range(n):
        value, at = dy[i], place[i]
        above[2 * i] = choose(at == 0, value, ZERO)
        above[2 * i + 1] = choose(at == 1, value, ZERO)
        below[2 * i] = choose(at == 2, value, ZERO)
        below[2 * i + 1] = choose(at == 3, value, ZERO)


@helper
def _add_to_places(
    dy, place, dx, width, kernel_width, per_row, stride_width, row
):  # fmt: skip
    for i in range(dy.size):
        tap = np.int64(place[i])
        a = tap * per_row >> _SHIFT
        dx[row + i * stride_width + tap + a * (width - kernel_width)] += dy[i]


@kernel
def max_derivative(
    dy: Vector, place: Indexes, dx: Vector, planes: int, height: int, width: int,
    kernel_height: int, kernel_width: int, stride_height: int, stride_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dx``: each derivative goes to the place that `max_forward` noted."""
    in_bytes = place.view(np.uint8)
    is_small = kernel_height * kernel_width <= MOST_IN_BYTES
    is_squares = _are_squares(
        kernel_height, kernel_width, stride_height, stride_width, top, left,
        out_width, width,
    )  # fmt: skip
    # A division for each output would take longer than all else: tap // kernel_width
    # is tap * per_row >> _SHIFT.
    per_row = ((1 << _SHIFT) + kernel_width - 1) // kernel_width
    for p in range(planes):
        plane = dx[p * height * width : (p + 1) * height * width]
        out = p * out_height * out_width
        if is_squares and 2 * out_height <= height:
            for r in range(out_height):
                part, at = dy[out : out + out_width], in_bytes[out : out + out_width]
                above = plane[2 * r * width : (2 * r + 1) * width]
                below = plane[(2 * r + 1) * width : (2 * r + 2) * width]
                _spread_squares(part, at, above, below)
                out += out_width
                above[2 * out_width :] = ZERO
                below[2 * out_width :] = ZERO
            plane[2 * out_height * width :] = ZERO
            continue
        plane[:] = ZERO
        for r in range(out_height):
            row = (r * stride_height - top) * width - left
            part = dy[out : out + out_width]
            if is_small:
                _add_to_places(
                    part, in_bytes[out : out + out_width], plane, width,
                    kernel_width, per_row, stride_width, row,
                )  # fmt: skip
            else:
                _add_to_places(
                    part, place[out : out + out_width], plane, width,
                    kernel_width, per_row, stride_width, row,
                )  # fmt: skip
            out += out_width


@helper
def _add_row(x, x_step, y, y_step, n):
    # Steps that the compiler knows become vectors.
    if x_step == 1 and y_step == 1:
        for i in range(n):
            y[i] += x[i]
    elif x_step == 2 and y_step == 1:
        for i in range(n):
            y[i] += x[2 * i]
    else:
        for i in range(n):
            y[i * y_step] += x[i * x_step]


@kernel
def average_forward(
    x: Vector, y: Vector, planes: int, height: int, width: int,
    kernel_height: int, kernel_width: int, stride_height: int, stride_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``y`` = the mean of what is not padding in each window."""
    y[:] = ZERO
    for p in range(planes):
        for r in range(out_height):
            first = _first_tap(r, stride_height, top)
            last = _last_tap(r, stride_height, top, height, kernel_height)
            out = (p * out_height + r) * out_width
            for a in range(first, last):
                row = (p * height + r * stride_height + a - top) * width - left
                for b in range(kernel_width):
                    begin, end = _outs(b, stride_width, left, width, out_width)
                    if begin < end:
                        _add_row(
                            x[row + begin * stride_width + b :], stride_width,
                            y[out + begin :], 1, end - begin,
                        )  # fmt: skip
            for c in range(out_width):
                n = _last_tap(c, stride_width, left, width, kernel_width)
                n -= _first_tap(c, stride_width, left)
                y[out + c] /= np.float32((last - first) * n)


@kernel
def average_derivative(
    dy: Vector, row_of_dy: Vector, dx: Vector, planes: int, height: int, width: int,
    kernel_height: int, kernel_width: int, stride_height: int, stride_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dx``: each window's elements share its derivative. A row of y is workspace."""
    dx[:] = ZERO
    for p in range(planes):
        for r in range(out_height):
            first = _first_tap(r, stride_height, top)
            last = _last_tap(r, stride_height, top, height, kernel_height)
            out = (p * out_height + r) * out_width
            for c in range(out_width):
                n = _last_tap(c, stride_width, left, width, kernel_width)
                n -= _first_tap(c, stride_width, left)
                row_of_dy[c] = dy[out + c] / np.float32((last - first) * n)
            for a in range(first, last):
                row = (p * height + r * stride_height + a - top) * width - left
                for b in range(kernel_width):
                    begin, end = _outs(b, stride_width, left, width, out_width)
                    if begin < end:
                        _add_row(
                            row_of_dy[begin:], 1,
                            dx[row + begin * stride_width + b :], stride_width,
                            end - begin,
                        )  # fmt: skip


@kernel
def plane_max_forward(
    x: Vector, y: Vector, place: Indexes, planes: int, size: int
) -> None:
    """``y`` = the greatest of each plane, ``place`` = where it stands."""
    for p in range(planes):
        plane = x[p * size : (p + 1) * size]
        best, at = plane[0], 0
        for i in range(1, size):
            v = plane[i]
            if v > best or v != v:
                best, at = v, i
        y[p] = best
        place[p] = at


@kernel
def plane_max_derivative(
    dy: Vector, place: Indexes, dx: Vector, planes: int, size: int
) -> None:
    """``dx``: each derivative goes to the place that `plane_max_forward` noted."""
    dx[:] = ZERO
    for p in range(planes):
        dx[p * size + place[p]] = dy[p]


@kernel
def plane_average_forward(x: Vector, y: Vector, planes: int, size: int) -> None:
    """``y`` = the mean of each plane, summed in float64."""
    lanes = double_lanes()
    for p in range(planes):
        plane = x[p * size : (p + 1) * size]
        clear(lanes)
        for start in range(0, size, LANES):
            part = plane[start : start + LANES]
            for j in range(part.size):
                lanes[j] += np.float64(part[j])
        y[p] = np.float32(total(lanes, LANES) / size)


@kernel
def plane_average_derivative(dy: Vector, dx: Vector, planes: int, size: int) -> None:
    """``dx``: each plane's elements share its derivative."""
    for p in range(planes):
        share = dy[p] / np.float32(size)
        plane = dx[p * size : (p + 1) * size]
        for i in range(size):
            plane[i] = share


# -- upsampling -----------------------------------------------------------------------


@kernel
def nearest_forward(
    x: Vector, y: Vector, planes: int, height: int, width: int,
    factor_height: int, factor_width: int,
) -> None:  # fmt: skip
    """``y``: each element, `factor_height` × `factor_width` times."""
    out_width = width * factor_width
    for r in range(planes * height):
        source = x[r * width : (r + 1) * width]
        for a in range(factor_height):
            at = (r * factor_height + a) * out_width
            target = y[at : at + out_width]
            for b in range(factor_width):
                for i in range(width):
                    target[i * factor_width + b] = source[i]


@kernel
def nearest_derivative(
    dy: Vector, dx: Vector, planes: int, height: int, width: int,
    factor_height: int, factor_width: int,
) -> None:  # fmt: skip
    """``dx``: the sum of an element's copies."""
    out_width = width * factor_width
    dx[:] = ZERO
    for r in range(planes * height):
        target = dx[r * width : (r + 1) * width]
        for a in range(factor_height):
            at = (r * factor_height + a) * out_width
            source = dy[at : at + out_width]
            for b in range(factor_width):
                for i in range(width):
                    target[i] += source[i * factor_width + b]


@helper
def _between(out, factor, size):
    """Return the two inputs that an output lies between, and the second's share."""
    at = max(0.0, (out + 0.5) / factor - 0.5)
    low = np.int64(at)
    return low, min(low + 1, size - 1), np.float32(at - low)


@kernel
def bilinear_forward(
    x: Vector, y: Vector, planes: int, height: int, width: int,
    factor_height: int, factor_width: int,
) -> None:  # fmt: skip
    """``y``: between the four nearest; pixels are areas, and edges are held."""
    out_height, out_width = height * factor_height, width * factor_width
    for p in range(planes):
        for r in range(out_height):
            a, b, down = _between(r, factor_height, height)
            above = x[(p * height + a) * width :][:width]
            below = x[(p * height + b) * width :][:width]
            target = y[(p * out_height + r) * out_width :][:out_width]
            for c in range(out_width):
                i, j, right = _between(c, factor_width, width)
                upper = (ONE - right) * above[i] + right * above[j]
                lower = (ONE - right) * below[i] + right * below[j]
                target[c] = (ONE - down) * upper + down * lower


@kernel
def bilinear_derivative(
    dy: Vector, dx: Vector, planes: int, height: int, width: int,
    factor_height: int, factor_width: int,
) -> None:  # fmt: skip
    """``dx``: what each element gave, weighted as in `bilinear_forward`."""
    out_height, out_width = height * factor_height, width * factor_width
    dx[:] = ZERO
    for p in range(planes):
        for r in range(out_height):
            a, b, down = _between(r, factor_height, height)
            above = dx[(p * height + a) * width :][:width]
            below = dx[(p * height + b) * width :][:width]
            source = dy[(p * out_height + r) * out_width :][:out_width]
            for c in range(out_width):
                i, j, right = _between(c, factor_width, width)
                upper, lower = (ONE - down) * source[c], down * source[c]
                above[i] += (ONE - right) * upper
                above[j] += right * upper
                below[i] += (ONE - right) * lower
                below[j] += right * lower
