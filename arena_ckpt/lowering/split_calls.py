"""Splits kernel calls into parts that threads run side by side.

A part computes some of the samples, rows, elements, channels or filters of a call, by
the rules below, and there are as many as there are threads. Matrix products are split
by rules of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from arena_ckpt.common.dtypes import FLOAT32, item_bytes
from arena_ckpt.layers.spec import CACHE_LINE_BYTES
from arena_ckpt.lowering.call_parts import (
    Along,
    Attention,
    Range,
    Values,
    convolution_flops,
)
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.lowering.product_parts import PRODUCTS, product_parts
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.curves import SAVES, curve_kernels
from arena_ckpt.operations.families import (
    arithmetic,
    attention,
    blas,
    chains,
    convolution,
    curves,
    depthwise,
    direct,
    direct_depthwise,
    elementwise,
    grouped,
    normalization,
    pooling,
    rmsprop,
    tokens,
    updates,
)
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.portable import portable
from arena_ckpt.operations.sizes import TILE_ROWS

PLANE_COST = 4
"""How many times as long one takes in a convolution of each channel by itself."""

LINE_ELEMS = CACHE_LINE_BYTES // item_bytes(FLOAT32)
"""float32 elements of a cache line, which no two parts should write."""


def split_calls(calls: Iterable[KernelCall], threads: int) -> Iterator[KernelCall]:
    """Yield calls, those that pay as groups of parts.

    Parameters
    ----------
    calls : iterable of KernelCall
    threads : int
        Of the model, for which its workspaces are planned.
    """
    for call in calls:
        parts = list(parts_of(call, threads))
        if not parts:
            yield call
            continue
        yield replace(parts[0], beside=len(parts))
        yield from parts[1:]


def parts_of(call: KernelCall, threads: int) -> Iterator[KernelCall]:
    """Yield the parts of a call; none where it stays as it is."""
    if call.kernel in PRODUCTS and (threads > 1 or call.kernel.family == blas.name):
        yield from product_parts(call)
    elif threads > 1 and call.kernel in RULES:
        yield from RULES[call.kernel].parts(call, threads)


def _plane_flops(values: Values) -> int:
    """Return those of a convolution in groups; of channels of their own at least."""
    groups: int = values["groups"] if "groups" in values else values["channels"]
    return convolution_flops(values) // groups * PLANE_COST


def _normalized_samples(values: Values) -> int:
    """Return the samples of a batch whose channels are normalized."""
    return int(len(values["x"]) // (len(values["mean"]) * values["size"]))


def _flops_of_each(values: Values) -> int:
    sizes = values["rows"] * values["inner"] * values["columns"]
    return int(2 * values["n"] * sizes)


ROOM = ("pictures", "table")
"""The workspaces of convolutions."""


def _elements(kernel: KernelName) -> Along:
    """Return the rule of a kernel whose vectors have an element for each result."""
    vectors = tuple(name for name, kind in kernel.parameters if kind == "Vector")
    return Along(vectors, unit=LINE_ELEMS)


_ELEMENTWISE: tuple[KernelName, ...] = (
    *(arithmetic.subtract, arithmetic.multiply, arithmetic.multiply_derivatives),
    *(arithmetic.divide, arithmetic.divide_derivatives, arithmetic.divisor_derivative),
    *(arithmetic.negative, arithmetic.square_root, arithmetic.square_root_derivative),
    *(arithmetic.power, arithmetic.power_derivative, curves.affine),
    *(elementwise.copy, elementwise.add_to, elementwise.add),
    *(tokens.swiglu_forward, tokens.swiglu_derivatives),
    *(tokens.swiglu_gate_derivative, tokens.swiglu_value_derivative),
    *(updates.sgd, updates.sgd_momentum, updates.sgd_nesterov),
    *(updates.adam, updates.adamw, rmsprop.rmsprop, rmsprop.rmsprop_momentum),
    *(k for a in ACTIVATIONS.values() for k in (a.forward, a.backward)),
    *(kernel for name in SAVES for kernel in curve_kernels(name)),
)

RULES: dict[KernelName, Along | Range | Attention] = {
    **{
        kernel: _elements(kernel)
        for kernel in _ELEMENTWISE
        if all(kind != "Matrix" for _, kind in kernel.parameters)
    },
    **{
        kernel: Along(("x", "y"))
        for kernel in (
            elementwise.add_bias,
            *(a.bias_forward for a in ACTIVATIONS.values()),
        )
        if kernel is not None
    },
    normalization.layer_norm_forward: Along(("x", "mean", "inverse", "y")),
    normalization.layer_norm_derivative: Along(("x", "dy", "mean", "inverse", "dx")),
    normalization.rms_norm_forward: Along(("x", "inverse", "y")),
    normalization.rms_norm_derivative: Along(("x", "dy", "inverse", "dx")),
    normalization.batch_norm_forward: Along(("x", "y"), _normalized_samples),
    normalization.batch_norm_derivative: Along(("x", "dy", "dx"), _normalized_samples),
    convolution.conv_forward: Along(
        ("x", "y"), "n", ROOM, "samples", convolution_flops
    ),
    convolution.conv_derivative: Along(
        ("dy", "dx"), "n", ROOM, "samples", convolution_flops
    ),
    convolution.conv_gradient: Along(
        *(("dw",), "filters", ROOM, TILE_ROWS, convolution_flops),
        begin="first_filter",
    ),
    depthwise.depthwise_forward: Along(("x", "y"), "n", ROOM, 1, _plane_flops),
    depthwise.depthwise_derivative: Along(("dy", "dx"), "n", ROOM, 1, _plane_flops),
    depthwise.depthwise_gradient: Range(("x", "dy"), ROOM, _plane_flops),
    normalization.batch_norm_statistics: Range(("x",)),
    normalization.batch_norm_sums: Range(("x", "dy")),
    direct.direct_forward: Along(("x", "y"), "n", flops=convolution_flops),
    direct.direct_derivative: Along(("dy", "dx"), "n", flops=convolution_flops),
    **{
        kernel: Along(arrays, "n", flops=_plane_flops)
        for kernel, arrays in (
            (direct_depthwise.direct_depthwise_forward, ("x", "y")),
            (direct_depthwise.direct_depthwise_derivative, ("dy", "dx")),
            (grouped.grouped_forward, ("x", "y")),
            (grouped.grouped_derivative, ("dy", "dx")),
        )
    },
    pooling.average_forward: Along(("x", "y"), "planes"),
    pooling.plane_average_forward: Along(("x", "y"), "planes"),
    pooling.plane_average_derivative: Along(("dy", "dx"), "planes"),
    pooling.nearest_forward: Along(("x", "y"), "planes"),
    pooling.nearest_derivative: Along(("dy", "dx"), "planes"),
    pooling.bilinear_forward: Along(("x", "y"), "planes"),
    pooling.bilinear_derivative: Along(("dy", "dx"), "planes"),
    **{
        kernel: Along(("a", "b", "c"), "n", flops=_flops_of_each)
        for kernel in (blas.matmul_each, chains.chain_each)
    },
    **{
        twin: Attention(saved, room)
        for kernel, saved, room in (
            (attention.tiled_forward, ("lse",), "tile"),
            (attention.plain_forward, ("probabilities",), "tile"),
            (attention.tiled_backward, ("lse", "d_output"), "work"),
            (attention.plain_backward, ("probabilities", "d_output"), "work"),
        )
        for twin in (kernel, portable(kernel))
    },
}
