"""Rules for convolutions, poolings and sizes of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from arena_ckpt.importers import emit_elements, emit_parts
from arena_ckpt.importers import emit_pictures as emit
from arena_ckpt.importers.emit_pictures import Margins, Pair
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder, describe
from arena_ckpt.importers.onnx_folding import Known
from arena_ckpt.importers.onnx_resizing import Resizing, resize_matrix, resizing_of
from arena_ckpt.importers.onnx_rules import (
    OnnxCall,
    Result,
    axes_in,
    plain_sizes,
    rule,
    weight_of,
)


def _pair(numbers: Sequence[int], before: int) -> Pair:
    """Return numbers for height and width; `before` where there is one dimension."""
    height, width = (before,) * (2 - len(numbers)) + tuple(numbers)
    return height, width


def _inner(x: Tensor) -> tuple[int, ...]:
    """Return the sizes behind batch and channels.

    Raises
    ------
    UnsupportedOperation
        There are more than two, or none.
    """
    if x.rank not in (3, 4):
        raise UnsupportedOperation(
            f"{describe(x.sizes)}: there are layers for one and two dimensions behind "
            "the channels"
        )
    return plain_sizes(x, range(2, x.rank))


def _numbers(call: OnnxCall, name: str, n: int, default: int) -> tuple[int, ...]:
    found = call.ints(name)
    if found is None:
        return (default,) * n
    if len(found) != n:
        raise UnsupportedOperation(f"its {name} has {len(found)} numbers, and not {n}")
    return found


def _margins(
    call: OnnxCall,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Return the padding before and behind each dimension."""
    n = len(sizes)
    auto = call.attribute("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = _numbers(call, "pads", 2 * n, 0) if auto == "NOTSET" else (0,) * 2 * n
        return list(pads[:n]), list(pads[n:])
    before, behind = [], []
    for size, taps, step, apart in zip(sizes, kernel, strides, dilations, strict=True):
        window = (taps - 1) * apart + 1
        total = max((-(-size // step) - 1) * step + window - size, 0)
        less, more = total // 2, total - total // 2
        before.append(more if auto == "SAME_LOWER" else less)
        behind.append(less if auto == "SAME_LOWER" else more)
    return before, behind


def _four(before: Sequence[int], behind: Sequence[int]) -> Margins:
    top, left = _pair(before, 0)
    bottom, right = _pair(behind, 0)
    return top, bottom, left, right


def _bias(call: OnnxCall) -> Table | None:
    """Return the bias of filters; zeros that an exporter made are none."""
    given = call.given(2)
    if given is None or (isinstance(given, Known) and given.uniform == 0.0):
        return None
    return weight_of(call, 2)


@rule("Conv")
def _convolution(call: OnnxCall) -> Result:
    x, weight = call.tensor(0), weight_of(call, 1)
    sizes = _inner(x)
    n = len(sizes)
    kernel = weight.array.shape[2:]
    strides, dilations = (
        _numbers(call, name, n, 1) for name in ("strides", "dilations")
    )
    before, behind = _margins(call, sizes, kernel, strides, dilations)
    padding = _four(before, behind)
    if min(padding) < 0:
        raise UnsupportedOperation("its padding is negative")
    groups = int(call.attribute("group", 1))
    if weight.array.shape[1] * groups != x.sizes[1].factor:
        raise UnsupportedOperation(
            f"filters of {weight.array.shape} and {groups} groups do not fit "
            f"{describe(x.sizes)}"
        )
    return emit.convolution(
        call.builder,
        x,
        weight,
        _bias(call),
        stride=_pair(strides, 1),
        padding=padding,
        dilation=_pair(dilations, 1),
        groups=groups,
    )


@rule("ConvTranspose")
def _transposed_convolution(call: OnnxCall) -> Result:
    x, weight = call.tensor(0), weight_of(call, 1)
    bias = _bias(call)
    sizes = _inner(x)
    n = len(sizes)
    kernel = weight.array.shape[2:]
    strides, dilations = (
        _numbers(call, name, n, 1) for name in ("strides", "dilations")
    )
    extra = list(_numbers(call, "output_padding", n, 0))
    auto = call.attribute("auto_pad", "NOTSET")
    pads = _numbers(call, "pads", 2 * n, 0)
    before, behind = list(pads[:n]), list(pads[n:])
    wanted = call.ints("output_shape")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(s * step for s, step in zip(sizes, strides, strict=True))
    if wanted is not None:
        for i, size in enumerate(wanted[-n:]):
            whole = strides[i] * (sizes[i] - 1) + (kernel[i] - 1) * dilations[i] + 1
            total = whole + extra[i] - size
            if total < 0:
                extra[i] -= total
                total = 0
            less, more = total // 2, total - total // 2
            upper = auto == "SAME_UPPER"
            before[i], behind[i] = (less, more) if upper else (more, less)
    groups = int(call.attribute("group", 1))
    parts: list[Value] = []
    channels = x.sizes[1].factor
    filters = weight.array.shape[1]
    if weight.array.shape[0] != channels or channels % groups:
        raise UnsupportedOperation(
            f"filters of {weight.array.shape} and {groups} groups do not fit "
            f"{describe(x.sizes)}"
        )
    inputs = emit_parts.split(call.builder, x, [channels // groups] * groups, 1)
    for i, part in enumerate(inputs):
        assert isinstance(part, Tensor)
        first = i * channels // groups
        own = weight.sliced(0, first, first + channels // groups)
        own_bias = bias and bias.sliced(0, i * filters, (i + 1) * filters)
        parts.append(
            emit.transposed_convolution(
                call.builder,
                part,
                own,
                own_bias,
                stride=_pair(strides, 1),
                padding=_four(before, behind),
                output_padding=_pair(extra, 0),
                dilation=_pair(dilations, 1),
            )
        )
    return emit_parts.concat(call.builder, parts, 1)


@rule("MaxPool", "AveragePool")
def _pooling(call: OnnxCall) -> Result:
    x = call.tensor(0)
    sizes = _inner(x)
    n = len(sizes)
    kernel = _numbers(call, "kernel_shape", n, 1)
    strides, dilations = (
        _numbers(call, name, n, 1) for name in ("strides", "dilations")
    )
    is_max = call.node.op == "MaxPool"
    if any(call.wanted[1:]):
        raise UnsupportedOperation("its places of the maxima are read")
    if any(apart != 1 for apart in dilations):
        raise UnsupportedOperation("windows with gaps (dilations)")
    before, behind = _margins(call, sizes, kernel, strides, dilations)
    counts = bool(call.attribute("count_include_pad", 0))
    for i in range(n):
        if not call.attribute("ceil_mode", 0):
            break
        spare = sizes[i] + before[i] + behind[i] - kernel[i]
        steps = -(-spare // strides[i])
        if steps * strides[i] >= sizes[i] + before[i]:
            steps -= 1
        more = steps * strides[i] - spare
        if more > 0 and counts and not is_max:
            raise UnsupportedOperation(
                "ceil_mode with count_include_pad: the last window lies beyond the edge"
            )
        # What lies beyond counts neither for a maximum nor for a mean.
        behind[i] += max(more, 0)
    return emit.pooling(
        call.builder,
        x,
        "max" if is_max else "average",
        size=_pair(kernel, 1),
        stride=_pair(strides, 1),
        padding=_four(before, behind),
        count_padding=counts,
    )


@rule("GlobalMaxPool", "GlobalAveragePool")
def _global_pooling(call: OnnxCall) -> Result:
    x = call.tensor(0)
    is_max = call.node.op == "GlobalMaxPool"
    if x.rank == 4:
        kind = "max" if is_max else "average"
        return emit.adaptive_pooling(call.builder, x, kind, (1, 1))
    kind = "reduce_max" if is_max else "reduce_mean"
    return emit_elements.reduce(call.builder, kind, x, range(2, x.rank), keepdim=True)


@rule("LpPool", "GlobalLpPool")
def _lp_pooling(call: OnnxCall) -> Result:
    x, p = call.tensor(0), int(call.attribute("p", 2))
    if p != 2 and p != 1:
        raise UnsupportedOperation(f"a norm of order {p}")
    build = call.builder
    if p == 1:
        powers = emit_elements.function(build, x, "abs")
    else:
        powers = emit_elements.unary(build, x, "pow", exponent=2.0)
    if call.node.op == "GlobalLpPool":
        total = emit_elements.reduce(
            build, "reduce_sum", powers, range(2, x.rank), keepdim=True
        )
    else:
        sizes = _inner(x)
        n = len(sizes)
        kernel = _numbers(call, "kernel_shape", n, 1)
        strides, dilations = (
            _numbers(call, name, n, 1) for name in ("strides", "dilations")
        )
        if any(d != 1 for d in dilations) or call.attribute("ceil_mode", 0):
            raise UnsupportedOperation("windows with gaps, or ceil_mode")
        before, behind = _margins(call, sizes, kernel, strides, dilations)
        mean = emit.pooling(
            build,
            powers,
            "average",
            size=_pair(kernel, 1),
            stride=_pair(strides, 1),
            padding=_four(before, behind),
            count_padding=True,
        )
        total = emit_elements.binary(
            build, "multiply", mean, Fixed(np.array(prod(kernel), np.float32))
        )
    return emit_elements.unary(build, total, "sqrt") if p == 2 else total


@rule("Resize")
def _resize(call: OnnxCall) -> Result:
    x = call.tensor(0)
    for name in ("extrapolation_value", "keep_aspect_ratio_policy"):
        call.attribute(name)  # has a meaning in some modes alone
    call.given(1)  # as has the region of interest
    given = call.ints("axes")
    axes = axes_in(given if given is not None else range(x.rank), x.rank)
    sizes = [size.factor if not size.batched else None for size in x.sizes]
    wanted = resizing_of(call, axes, sizes)
    wanted = {axis: one for axis, one in wanted.items() if not one.is_identity}
    for axis in wanted:
        if sizes[axis] is None:
            raise UnsupportedOperation("it changes the number of samples")
    if not wanted:
        return x
    layer = _as_layer(call.builder, x, wanted)
    if layer is not None:
        return layer
    for axis, one in wanted.items():
        # Any interpolation along an axis is a product with a matrix of constants.
        matrix = Fixed(resize_matrix(one))
        order = [i for i in range(x.rank) if i != axis] + [axis]
        last = call.builder.permute(x, order)
        made = emit_elements.matmul(call.builder, last, matrix)
        back = call.builder.permute(made, np.argsort(order).tolist())
        assert isinstance(back, Tensor)
        x = back
    return x


def _as_layer(
    build: ModelBuilder, x: Tensor, wanted: dict[int, Resizing]
) -> Tensor | None:
    """Return the layer upsample2d, where it does the same."""
    if not x.view.batch_first or x.rank not in (3, 4) or min(wanted) < 2:
        return None
    kinds = {one.repeats for one in wanted.values()}
    if len(kinds) != 1 or None in kinds:
        return None
    (kind,) = kinds
    assert kind is not None
    factors = [
        wanted[axis].new // wanted[axis].old if axis in wanted else 1
        for axis in range(2, x.rank)
    ]
    return emit.upsample(build, x, _pair(factors, 1), kind)
