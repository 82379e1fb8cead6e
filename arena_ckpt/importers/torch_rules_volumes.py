"""Rules for PyTorch's operations on volumes that are pictures in truth."""

from __future__ import annotations

from arena_ckpt.importers import emit_pictures
from arena_ckpt.importers.foreign_values import Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.torch_rules import Call, rule

Triple = tuple[int, int, int]


def _triple(value: int | tuple[int, ...]) -> Triple:
    if isinstance(value, int):
        return value, value, value
    return (value * 3)[:3] if len(value) == 1 else (value[0], value[1], value[2])


@rule("avg_pool3d", "max_pool3d")
def _pooling(call: Call) -> Value:
    """Pool along depth alone, as `local_response_norm` does, or along the others."""
    x, build = call.tensor("self"), call.build
    kind = "max" if call.node.op.startswith("max") else "average"
    size, padding = _triple(call["kernel_size"]), _triple(call["padding"])
    stride = _triple(call["stride"]) if call["stride"] else size
    if x.rank != 5 or _triple(call.get("dilation", 1)) != (1, 1, 1):
        raise UnsupportedOperation("its windows are dilated, or its input is no volume")
    if call.get("divisor_override") is not None:
        raise UnsupportedOperation("it divides by another number than the window has")
    batch, channels, depth, height, width = x.sizes
    if size[1:] == stride[1:] == (1, 1) and padding[1:] == (0, 0):
        area = height._replace(factor=height.factor * width.factor)
        sizes = [batch, channels, depth, area]
        pair, steps, margins = (size[0], 1), (stride[0], 1), (padding[0],) * 2 + (0, 0)
    elif (size[0], stride[0], padding[0]) == (1, 1, 0):
        slices = depth._replace(factor=channels.factor * depth.factor)
        sizes = [batch, slices, height, width]
        pair, steps = size[1:], stride[1:]
        margins = (padding[1], padding[1], padding[2], padding[2])
    else:
        raise UnsupportedOperation(
            f"windows of {size}; along depth alone, or without it, they have a layer"
        )
    flat = build.reshape(x, sizes)
    assert isinstance(flat, Tensor)
    made = emit_pictures.pooling(
        build,
        flat,
        kind,
        size=pair,
        stride=steps,
        padding=margins,
        count_padding=bool(call.get("count_include_pad", True)),
        rounds_up=bool(call["ceil_mode"]),
    )
    return build.reshape(made, list(call.node.result.shape))  # type: ignore[union-attr]
