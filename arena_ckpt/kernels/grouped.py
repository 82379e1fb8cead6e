"""Convolutions in groups: each filter reads the channels of its group alone.

A group of a sample is one convolution of its own, in the order of `direct` and without
a workspace in the arena, so that fast and portable arithmetic are the same here.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.direct import add_gradient, begin_gradient, convolve, derive
from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.operations.array_types import Vector

# With a plain 1 Numba would compile a function anew for that number.
_ONE = np.int64(1)


@kernel
def grouped_forward(
    x: Vector, weight: Vector, bias: Vector, has_bias: int, y: Vector,
    groups: int, n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``y[n, f] = bias[f] + Σ_c x[n, c] ⋆ weight[f, c]``, c in the group of f.

    The bias is only read where has_bias. Channels and filters are those of all groups.
    """
    k, f = channels // groups, filters // groups
    plane, out_plane = k * height * width, f * out_height * out_width
    n_weights = f * k * kernel_height * kernel_width
    for s in range(n * groups):
        g = s % groups
        convolve(
            x[s * plane : (s + 1) * plane], weight[g * n_weights : (g + 1) * n_weights],
            bias[g * f if has_bias != 0 else 0 :], has_bias,
            y[s * out_plane : (s + 1) * out_plane],
            _ONE, k, height, width, f, kernel_height, kernel_width,
            stride_height, stride_width, dilation_height, dilation_width,
            top, left, out_height, out_width,
        )  # fmt: skip


@kernel
def grouped_derivative(
    dy: Vector, weight: Vector, dx: Vector,
    groups: int, n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dx``: the derivative of `grouped_forward` for x."""
    k, f = channels // groups, filters // groups
    plane, out_plane = k * height * width, f * out_height * out_width
    n_weights = f * k * kernel_height * kernel_width
    for s in range(n * groups):
        g = s % groups
        w = weight[g * n_weights : (g + 1) * n_weights]
        derive(
            dy[s * out_plane : (s + 1) * out_plane], w, w, np.int64(0),
            dx[s * plane : (s + 1) * plane],
            _ONE, k, height, width, f, kernel_height, kernel_width,
            stride_height, stride_width, dilation_height, dilation_width,
            top, left, out_height, out_width,
        )  # fmt: skip


@kernel
def grouped_gradient(
    x: Vector, dy: Vector, beta: float, dw: Vector,
    groups: int, n: int, channels: int, height: int, width: int,
    filters: int, kernel_height: int, kernel_width: int,
    stride_height: int, stride_width: int,
    dilation_height: int, dilation_width: int,
    top: int, left: int, out_height: int, out_width: int,
) -> None:  # fmt: skip
    """``dw = the derivative of grouped_forward for the weight + beta * dw``.

    beta is 0 or 1; at 0, dw is only written.
    """
    k, f = channels // groups, filters // groups
    plane, out_plane = k * height * width, f * out_height * out_width
    n_weights = f * k * kernel_height * kernel_width
    begin_gradient(beta, dw)
    for s in range(n * groups):
        g = s % groups
        add_gradient(
            x[s * plane : (s + 1) * plane], dy[s * out_plane : (s + 1) * out_plane],
            dw[g * n_weights : (g + 1) * n_weights],
            _ONE, k, height, width, f, kernel_height, kernel_width,
            stride_height, stride_width, dilation_height, dilation_width,
            top, left, out_height, out_width,
        )  # fmt: skip
