"""Convolutions, poolings and normalizations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from arena_ckpt.importers.foreign_axes import View
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder, Shape, describe

Pair = tuple[int, int]
Margins = tuple[int, int, int, int]
"""Padding at top, bottom, left and right."""


def picture(build: ModelBuilder, x: Tensor) -> tuple[Tensor, Shape]:
    """Return a tensor (batch, channels, …) as channel:height:width, and that shape.

    What has one dimension behind the channels is a picture of height 1.

    Raises
    ------
    UnsupportedOperation
        It has more than two, or the batch is not the first one.
    """
    if not 2 <= x.rank <= 4:
        raise UnsupportedOperation(
            f"{describe(x.sizes)}: there are layers for one and two dimensions "
            "behind the channels"
        )
    x = build.plain(x)
    sizes = [size.factor for size in x.sizes[1:]]
    channels, rest = sizes[0], sizes[1:]
    height, width = (1,) * (2 - len(rest)) + tuple(rest)
    return x, (channels, height, width)


def of_picture(source: str, x: Tensor, shape: Shape) -> Tensor:
    """Return an output channel:height:width as a foreign tensor of the rank of `x`."""
    sizes = [shape[0], *shape[1:][4 - x.rank :]]
    return Tensor(source, View.of_sample(sizes))


def _output(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1


def convolution(
    build: ModelBuilder,
    x: Tensor,
    weight: Table,
    bias: Table | None,
    *,
    stride: Pair = (1, 1),
    padding: Margins = (0, 0, 0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Add a convolution of two dimensions, or of one, where `x` has rank 3.

    Parameters
    ----------
    build : ModelBuilder
    x : Tensor
        (batch, channels, height, width) or (batch, channels, width)
    weight : Table
        (filters, channels / groups, height, width) or without the height.
    bias : Table or None
    stride, padding, dilation, groups
        Of one dimension the first numbers are 1 and 0.
    """
    x, (channels, height, width) = picture(build, x)
    if len(weight.array.shape) == 3:
        filters, inner, taps = weight.array.shape
        weight = weight.reshaped((filters, inner, 1, taps))
    filters, _, kernel_height, kernel_width = weight.array.shape
    top, bottom, left, right = padding
    shape = (
        filters,
        _output(height, kernel_height, stride[0], dilation[0], top + bottom),
        _output(width, kernel_width, stride[1], dilation[1], left + right),
    )
    weights = {"filter": weight} | ({} if bias is None else {"bias": bias})
    more: dict[str, Any] = {} if bias is not None else {"bias": False}
    source = build.shaped(x.source, (channels, height, width))
    if groups == channels and groups > 1:
        multiplier = filters // channels
        more |= {"depth_multiplier": multiplier} if multiplier > 1 else {}
        kind = "depthwiseconv2d"
    else:
        more |= {"filters": filters} | ({"groups": groups} if groups > 1 else {})
        kind = "conv2d"
    if any(padding):
        more["padding"] = padding
    if stride != (1, 1):
        more["stride"] = stride
    if dilation != (1, 1):
        more["dilation"] = dilation
    made = build.add(
        kind,
        [source],
        shape,
        weights=weights,
        kernel_size=(kernel_height, kernel_width),
        **more,
    )
    return of_picture(made, x, shape)


def transposed_convolution(
    build: ModelBuilder,
    x: Tensor,
    weight: Table,
    bias: Table | None,
    *,
    stride: Pair = (1, 1),
    padding: Margins = (0, 0, 0, 0),
    output_padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> Tensor:
    """Add a transposed convolution; the weight is (channels, filters, …)."""
    x, (channels, height, width) = picture(build, x)
    if len(weight.array.shape) == 3:
        weight = weight.reshaped((*weight.array.shape[:2], 1, weight.array.shape[2]))
    _, filters, *kernel = weight.array.shape
    total = (padding[0] + padding[1], padding[2] + padding[3])
    size = [
        (n - 1) * stride[i]
        + dilation[i] * (kernel[i] - 1)
        + 1
        + output_padding[i]
        - total[i]
        for i, n in enumerate((height, width))
    ]
    shape = (filters, size[0], size[1])
    weights = {"filter": weight} | ({} if bias is None else {"bias": bias})
    more: dict[str, Any] = {} if bias is not None else {"bias": False}
    made = build.add(
        "conv2dtranspose",
        [build.shaped(x.source, (channels, height, width))],
        shape,
        weights=weights,
        filters=filters,
        kernel_size=tuple(kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
        output_padding=output_padding,
        **more,
    )
    return of_picture(made, x, shape)


def pooling(
    build: ModelBuilder,
    x: Tensor,
    kind: str,
    *,
    size: Pair,
    stride: Pair,
    padding: Margins = (0, 0, 0, 0),
    count_padding: bool = True,
    rounds_up: bool = False,
) -> Tensor:
    """Add a pooling by windows, `kind` ``max`` or ``average``.

    Raises
    ------
    UnsupportedOperation
        Sizes are rounded up, and a last window would lie beyond the edge in part.
    """
    x, (channels, height, width) = picture(build, x)
    top, bottom, left, right = padding
    spare = [
        (n + margins - window) % step
        for n, margins, window, step in zip(
            (height, width), (top + bottom, left + right), size, stride, strict=True
        )
    ]
    if rounds_up and any(spare):
        raise UnsupportedOperation(
            f"ceil_mode of {height}x{width}: the last window would lie beyond the edge"
        )
    shape = (
        channels,
        _output(height, size[0], stride[0], 1, top + bottom),
        _output(width, size[1], stride[1], 1, left + right),
    )
    more: dict[str, Any] = {"padding": padding} if any(padding) else {}
    if kind == "average" and any(padding) and count_padding:
        more["count_include_pad"] = True
    made = build.add(
        "pooling2d",
        [build.shaped(x.source, (channels, height, width))],
        shape,
        pooling=kind,
        pool_size=size,
        stride=stride,
        **more,
    )
    return of_picture(made, x, shape)


def adaptive_pooling(build: ModelBuilder, x: Tensor, kind: str, size: Pair) -> Tensor:
    """Add a pooling to a size, `kind` ``max`` or ``average``."""
    x, (channels, height, width) = picture(build, x)
    shape = (channels, *size)
    source = build.shaped(x.source, (channels, height, width))
    if size == (1, 1):
        made = build.add("pooling2d", [source], shape, pooling=f"global_{kind}")
    else:
        made = build.add(
            "pooling2d",
            [source],
            shape,
            pooling=f"adaptive_{kind}",
            output_size=size,
        )
    return of_picture(made, x, shape)


def batch_norm(
    build: ModelBuilder,
    x: Tensor,
    weight: Table | None,
    bias: Table | None,
    mean: Table,
    variance: Table,
    *,
    momentum: float,
    epsilon: float,
    by_moving: bool,
    is_unbiased: bool = True,
) -> Tensor:
    """Add a batch normalization of the channels, dimension 1.

    Parameters
    ----------
    build : ModelBuilder
    x : Tensor
        (batch, channels) or more dimensions.
    weight, bias : Table or None
        Both or none.
    mean, variance : Table
        The running statistics.
    momentum : float
        The share of the old statistics that stays: 1 - momentum of PyTorch.
    epsilon : float
    by_moving : bool
        Training normalizes by the running statistics, and leaves them as they are.
    is_unbiased : bool
        The running variance is the unbiased one.
    """
    _require_both(weight, bias)
    x = build.plain(x)
    shape = _of_channels(x)
    weights: dict[str, Table | Fixed] = {}
    states = {"moving_mean": mean, "moving_variance": variance}
    more: dict[str, Any] = {}
    if weight is None or bias is None:
        n = mean.array.size
        weights = {
            "gamma": Fixed(np.ones(n, np.float32)),
            "beta": Fixed(np.zeros(n, np.float32)),
        }
        more["learning_rate_scale"] = 0.0
    elif by_moving or weight.is_trained or bias.is_trained:
        weights = {"gamma": weight, "beta": bias}
    else:
        # With trainable=false a layer would normalize by its running statistics.
        states |= {"gamma": weight, "beta": bias}
        more["learning_rate_scale"] = 0.0
    if by_moving:
        more["statistics"] = "moving"
    made = build.add(
        "batch_normalization",
        [build.shaped(x.source, shape)],
        shape,
        weights=weights,
        states=states,
        momentum=momentum,
        epsilon=epsilon,
        unbiased_variance=is_unbiased,
        **more,
    )
    return replace(x, source=made)


def _require_both(weight: Table | None, bias: Table | None) -> None:
    """Refuse a normalization that has one of two weights."""
    if (weight is None) != (bias is None):
        raise UnsupportedOperation("it has one of weight and bias alone")


def _of_channels(x: Tensor) -> Shape:
    """Return the shape in which a layer takes dimension 1 for the channels.

    A picture of one channel would have its columns normalized, each by itself.
    """
    channels, *rest = (size.factor for size in x.sizes[1:])
    inner = x.view.sample_size // channels
    if inner == 1:
        return 1, 1, channels
    if channels == 1 or len(rest) > 2:
        return channels, inner, 1
    height, width = (1,) * (2 - len(rest)) + tuple(rest)
    return channels, height, width


def layer_norm(
    build: ModelBuilder,
    x: Tensor,
    n_dims: int,
    weight: Table | None,
    bias: Table | None,
    *,
    epsilon: float,
    kind: str = "layer_normalization",
) -> Tensor:
    """Add a normalization over the last `n_dims` dimensions.

    `kind` ``rms_norm`` has no mean and no bias. A weight without a bias, or none where
    the layer has one, is filled up with numbers that are not trained.
    """
    tail = list(range(x.rank - n_dims, x.rank))
    x = build.with_tail(x, tail)
    width = int(np.prod([x.sizes[i].factor for i in tail]))
    rows = x.view.sample_size // width
    shape = (1, rows, width)
    weights: dict[str, Table | Fixed] = {}
    more: dict[str, Any] = {}
    if weight is not None:
        weights["gamma"] = weight.reshaped((width,))
    if bias is not None:
        weights["beta"] = bias.reshaped((width,))
    if kind == "layer_normalization":
        more["axis"] = 3
        _require_both(weight, bias)
        if weight is None:
            more["affine"] = False
    elif weight is None:
        weights["gamma"] = Fixed(np.ones(width, np.float32))
        more["trainable"] = False
    made = build.add(
        kind,
        [build.shaped(x.source, shape)],
        shape,
        weights=weights,
        epsilon=epsilon,
        **more,
    )
    return replace(x, source=made)


def group_norm(
    build: ModelBuilder,
    x: Tensor,
    groups: int,
    weight: Table | None,
    bias: Table | None,
    *,
    epsilon: float,
) -> Tensor:
    """Add a normalization of each group of channels of a sample; 0 for each channel."""
    _require_both(weight, bias)
    x = build.plain(x)
    shape = _of_channels(x)
    weights: dict[str, Table] = {}
    more: dict[str, Any] = {}
    if weight is not None and bias is not None:
        weights |= {"gamma": weight, "beta": bias}
    else:
        more["affine"] = False
    kind = "group_normalization" if groups else "instance_normalization"
    if groups:
        more["num_groups"] = groups
    made = build.add(
        kind,
        [build.shaped(x.source, shape)],
        shape,
        weights=weights,
        epsilon=epsilon,
        **more,
    )
    return replace(x, source=made)


def pad(build: ModelBuilder, x: Tensor, margins: Margins, mode: str = "zero") -> Tensor:
    """Add margins around the last two dimensions, or the last one."""
    shape = (1, 1, *(size.factor for size in x.sizes[1:]))[-3:] if x.rank <= 4 else ()
    if len(shape) != 3 or not x.view.batch_first:
        raise UnsupportedOperation(f"margins around {describe(x.sizes)}")
    x = build.plain(x)
    channels, height, width = shape
    top, bottom, left, right = margins
    result = (channels, height + top + bottom, width + left + right)
    made = build.add(
        "pad",
        [build.shaped(x.source, (channels, height, width))],
        result,
        padding=margins,
        padding_mode=mode,
    )
    sizes = result[3 - (x.rank - 1) :]
    return Tensor(made, View.of_sample(sizes))


def upsample(
    build: ModelBuilder, x: Tensor, factors: Pair, mode: str = "nearest"
) -> Tensor:
    """Repeat rows and columns, or take values between them (``bilinear``)."""
    x, (channels, height, width) = picture(build, x)
    shape = (channels, height * factors[0], width * factors[1])
    made = build.add(
        "upsample2d",
        [build.shaped(x.source, (channels, height, width))],
        shape,
        upsample=mode,
        kernel_size=factors,
    )
    return of_picture(made, x, shape)


def pixel_shuffle(build: ModelBuilder, x: Tensor, factor: int) -> Tensor:
    """Make a square of pixels of each factor² channels."""
    x, (channels, height, width) = picture(build, x)
    shape = (channels // factor**2, height * factor, width * factor)
    made = build.add(
        "pixel_shuffle",
        [build.shaped(x.source, (channels, height, width))],
        shape,
        upscale_factor=factor,
    )
    return of_picture(made, x, shape)


def channel_shuffle(build: ModelBuilder, x: Tensor, groups: int) -> Tensor:
    """Move channel i of group g to place i · groups + g."""
    x, shape = picture(build, x)
    made = build.add(
        "channel_shuffle", [build.shaped(x.source, shape)], shape, groups=groups
    )
    return of_picture(made, x, shape)


def dropout(
    build: ModelBuilder, x: Tensor, rate: float, kind: str = "dropout"
) -> Tensor:
    """Add dropout of elements, or of whole samples (``drop_path``)."""
    if rate == 0:
        return x
    source = build.add(kind, [x.source], build.shape_of(x.source), dropout_rate=rate)
    return replace(x, source=source)
