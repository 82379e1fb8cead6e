"""Rules for normalizations and dropout."""

from __future__ import annotations

from math import prod

import numpy as np

from arena_ckpt.importers import emit_elements
from arena_ckpt.importers import emit_pictures as emit
from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import with_shape
from arena_ckpt.importers.onnx_rules import (
    OnnxCall,
    Result,
    axes_in,
    plain_sizes,
    rule,
    weight_of,
)


@rule("BatchNormalization")
def _batch_norm(call: OnnxCall) -> Result:
    if any(call.wanted[1:]):
        raise UnsupportedOperation("its running statistics are read as outputs")
    gamma, beta, mean, variance = (weight_of(call, place) for place in range(1, 5))
    return emit.batch_norm(
        call.builder,
        call.tensor(0),
        gamma,
        beta,
        mean,
        variance,
        momentum=float(call.attribute("momentum", 0.9)),
        epsilon=float(call.attribute("epsilon", 1e-5)),
        by_moving=not call.attribute("training_mode", 0),
        is_unbiased=call.is_of_torch,
    )


@rule(
    "LayerNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "com.microsoft.SimplifiedLayerNormalization",
)
def _layer_norm(call: OnnxCall) -> Result | tuple[Result | None, ...]:
    x, build = call.tensor(0), call.builder
    (axis,) = axes_in([int(call.attribute("axis", -1))], x.rank)
    axes = range(axis, x.rank)
    epsilon = float(call.attribute("epsilon", 1e-5))
    sizes = plain_sizes(x, axes)
    has_mean = call.node.op == "LayerNormalization"
    gamma = call.table(1)
    beta = call.table(2) if has_mean and call.has(2) else None
    whole = all(
        isinstance(table, Table) and table.array.size == prod(sizes)
        for table in (gamma, beta)
        if table is not None
    )
    kind = "layer_normalization" if has_mean else "rms_norm"
    if whole and (beta is not None or not has_mean):
        assert isinstance(gamma, Table)
        assert beta is None or isinstance(beta, Table)
        y = emit.layer_norm(
            build, x, x.rank - axis, gamma, beta, epsilon=epsilon, kind=kind
        )
    else:
        y = emit.layer_norm(
            build, x, x.rank - axis, None, None, epsilon=epsilon, kind=kind
        )
        y = emit_elements.binary(build, "multiply", y, gamma)
        if beta is not None:
            y = emit_elements.binary(build, "add", y, beta)
    if not any(call.wanted[1:]):
        return y
    mean = emit_elements.reduce(build, "reduce_mean", x, axes, keepdim=True)
    apart = emit_elements.binary(build, "subtract", x, mean)
    squares = emit_elements.unary(build, apart, "pow", exponent=2.0)
    variance = emit_elements.reduce(build, "reduce_mean", squares, axes, keepdim=True)
    above = emit_elements.binary(
        build, "add", variance, Fixed(np.array(epsilon, np.float32))
    )
    return y, mean, emit_elements.unary(build, above, "pow", exponent=-0.5)


@rule("InstanceNormalization")
def _instance_norm(call: OnnxCall) -> Result:
    return emit.group_norm(
        call.builder,
        call.tensor(0),
        0,
        weight_of(call, 1),
        weight_of(call, 2),
        epsilon=float(call.attribute("epsilon", 1e-5)),
    )


@rule("GroupNormalization")
def _group_norm(call: OnnxCall) -> Result:
    x, build = call.tensor(0), call.builder
    groups = int(call.attribute("num_groups", 1))
    epsilon = float(call.attribute("epsilon", 1e-5))
    gamma, beta = call.table(1), call.table(2)
    (channels,) = plain_sizes(x, [1])
    if gamma.array.size == channels and call.opset >= 21:
        return emit.group_norm(
            build, x, groups, weight_of(call, 1), weight_of(call, 2), epsilon=epsilon
        )
    # Until opset 20 there is a scale for each group, not for each channel.
    y: Value = emit.group_norm(build, x, groups, None, None, epsilon=epsilon)
    sizes = x.sizes
    inner = prod(size.factor for size in sizes[1:]) // groups
    y = build.reshape(y, [sizes[0], Size(groups), Size(inner)])
    for kind, table in (("multiply", gamma), ("add", beta)):
        column = with_shape(table, (groups, 1))
        y = emit_elements.binary(build, kind, y, column)
    return build.reshape(y, sizes)


@rule("Dropout")
def _dropout(call: OnnxCall) -> Result:
    if any(call.wanted[1:]):
        raise UnsupportedOperation("its mask is read")
    x = call.value(0)
    trains = call.has(2) and bool(call.array(2).ravel()[0])
    rate = float(call.array(1).ravel()[0]) if call.has(1) else 0.5
    if not trains or not isinstance(x, Tensor):
        return x
    return emit.dropout(call.builder, x, rate)


@rule("LRN")
def _local_response(call: OnnxCall) -> Result:
    """Divide by a power of the mean square of neighbouring channels."""
    x, build = call.tensor(0), call.builder
    size = int(call.attribute("size", 1))
    alpha, beta, bias = (
        float(call.attribute(name, default))
        for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    (channels,) = plain_sizes(x, [1])
    places = np.arange(channels)
    before, behind = (size - 1) // 2, size - 1 - (size - 1) // 2
    apart = places[:, None] - places[None, :]  # of the channel that is read
    band = ((-before <= apart) & (apart <= behind)).astype(np.float32)
    squares = emit_elements.unary(build, x, "pow", exponent=2.0)
    last = build.permute(squares, [0, *range(2, x.rank), 1])
    matrix = Fixed(band * np.float32(alpha / size))
    total: Value = emit_elements.matmul(build, last, matrix)
    total = build.permute(total, [0, x.rank - 1, *range(1, x.rank - 1)])
    base = emit_elements.binary(build, "add", total, Fixed(np.array(bias, np.float32)))
    factor = emit_elements.unary(build, base, "pow", exponent=-beta)
    return emit_elements.binary(build, "multiply", x, factor)
