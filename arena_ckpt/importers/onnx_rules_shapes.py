"""Rules for what moves, cuts and joins elements, and for lookups."""

from __future__ import annotations

from math import prod

import numpy as np

from arena_ckpt.importers import emit_parts
from arena_ckpt.importers.emit_pictures import Margins, pad, pixel_shuffle
from arena_ckpt.importers.foreign_axes import BATCH, Size
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import describe, sizes_of
from arena_ckpt.importers.onnx_folding import Known
from arena_ckpt.importers.onnx_joined import joined
from arena_ckpt.importers.onnx_rules import (
    OnnxCall,
    Result,
    axes_in,
    known_shape,
    known_sizes,
    plain_sizes,
    rule,
)


@rule("Shape")
def _shape(call: OnnxCall) -> Result:
    given = call.given(0)
    assert given is not None
    shape = known_shape(given)
    start, end = call.attribute("start", 0), call.attribute("end")
    return Known((shape.arrays[0][start:end], shape.arrays[1][start:end]))


@rule("Size")
def _size(call: OnnxCall) -> Result:
    given = call.given(0)
    assert given is not None
    one, other = known_shape(given).arrays
    return Known((np.array(one.prod()), np.array(other.prod())))


@rule("Reshape")
def _reshape(call: OnnxCall) -> Result:
    x, given = call.value(0), known_sizes(call.known(1))
    old = sizes_of(x)
    sizes: list[Size | None] = []
    keeps_zeros = bool(call.attribute("allowzero", 0))
    for i, size in enumerate(given):
        if size == Size(-1):
            sizes.append(None)
        elif size.factor == 0 and not keeps_zeros:
            if i >= len(old):
                raise UnsupportedOperation(f"it has no dimension {i} to take over")
            sizes.append(old[i])
        else:
            sizes.append(size)
    if any(size is not None and size.factor < 1 for size in sizes):
        raise UnsupportedOperation("it has a size of 0")
    return call.builder.reshape(x, _with_batch(call, x, sizes))


def _with_batch(
    call: OnnxCall, x: Value, sizes: list[Size | None]
) -> list[Size | None]:
    """Take the number of samples that the file was written for as the batch.

    Only where the batch is the first dimension, before and behind.
    """
    n = call.export_batch
    if (
        n is None
        or not isinstance(x, Tensor)
        or not x.view.batch_first
        or not sizes
        or any(size is not None and size.batched for size in sizes)
        or sizes[0] is None
        or sizes[0].factor % n
    ):
        return sizes
    return [Size(sizes[0].factor // n, True), *sizes[1:]]


@rule("Flatten")
def _flatten(call: OnnxCall) -> Result:
    x = call.value(0)
    sizes = sizes_of(x)
    axis = int(call.attribute("axis", 1))
    axis += len(sizes) * (axis < 0)
    front, back = sizes[:axis], sizes[axis:]
    return call.builder.reshape(x, [_together(front), _together(back)])


def _together(sizes: tuple[Size, ...]) -> Size:
    return Size(prod(s.factor for s in sizes), any(s.batched for s in sizes))


@rule("Squeeze")
def _squeeze(call: OnnxCall) -> Result:
    x = call.value(0)
    sizes = sizes_of(x)
    given = call.ints("axes", 1)
    if given is None:
        axes = tuple(i for i, size in enumerate(sizes) if size == Size(1))
    else:
        axes = axes_in(given, len(sizes))
    for axis in axes:
        if sizes[axis] != Size(1):
            raise UnsupportedOperation(
                f"dimension {axis} of {describe(sizes)} is not of size 1"
            )
    return call.builder.squeeze(x, axes)


@rule("Unsqueeze")
def _unsqueeze(call: OnnxCall) -> Result:
    x = call.value(0)
    given = call.ints("axes", 1) or ()
    sizes = list(sizes_of(x))
    for axis in sorted(axes_in(given, len(sizes) + len(given))):
        sizes.insert(axis, Size(1))
    return call.builder.reshape(x, sizes)


@rule("Transpose")
def _transpose(call: OnnxCall) -> Result:
    x = call.value(0)
    rank = len(sizes_of(x))
    order = call.ints("perm")
    return call.builder.permute(x, range(rank)[::-1] if order is None else order)


@rule("Expand")
def _expand(call: OnnxCall) -> Result:
    x, wanted = call.value(0), known_sizes(call.known(1))
    old = sizes_of(x)
    rank = max(len(old), len(wanted))
    padded = (Size(1),) * (rank - len(old)) + tuple(old)
    sizes = [None] * (rank - len(wanted)) + [
        None if size == Size(1) else size for size in wanted
    ]
    if isinstance(x, Tensor):
        n = call.export_batch
        for i, size in enumerate(sizes):
            if size is not None and padded[i].batched and size in (Size(n or 0),):
                sizes[i] = None
    return call.builder.expand(x, sizes)


@rule("Tile")
def _tile(call: OnnxCall) -> Result:
    x, repeats = call.value(0), known_sizes(call.known(1))
    build = call.builder
    for i, (count, batched) in enumerate(repeats):
        if (count, batched) == (1, False):
            continue
        if batched:
            # A table is repeated for each sample by whatever reads it.
            if isinstance(x, Tensor) or sizes_of(x)[i] != Size(1) or count != 1:
                raise UnsupportedOperation("it repeats samples")
            continue
        sizes = sizes_of(x)
        if isinstance(x, Tensor):
            build.require_no_batch(x, [i])
        x = build.reshape(x, [*sizes[:i], Size(1), *sizes[i:]])
        x = build.expand(x, [*(None for _ in range(i)), Size(count), *_none(sizes[i:])])
        whole = Size(sizes[i].factor * count)
        x = build.reshape(x, [*sizes[:i], whole, *sizes[i + 1 :]])
    return x


def _none(sizes: tuple[Size, ...]) -> list[None]:
    return [None] * len(sizes)


@rule("Concat")
def _concat(call: OnnxCall) -> Result:
    values = [call.value(place) for place in range(len(call.inputs))]
    axis = int(call.attribute("axis", 0))
    if all(isinstance(value, Table) for value in values):
        tables = [value for value in values if isinstance(value, Table)]
        return joined(tables, axes_in([axis], tables[0].array.ndim)[0])
    return emit_parts.concat(call.builder, values, axis)


@rule("Split")
def _split(call: OnnxCall) -> Result | tuple[Result | None, ...]:
    x = call.value(0)
    n = len(call.node.outputs)
    (axis,) = axes_in([int(call.attribute("axis", 0))], len(sizes_of(x)))
    (size,) = plain_sizes(x, [axis])
    parts, wanted = call.ints("split", 1), int(call.attribute("num_outputs", n))
    if parts is None:
        part = -(-size // wanted)
        parts = tuple(min(part, size - part * i) for i in range(n))
    if len(parts) != n or sum(parts) != size or min(parts) < 1:
        raise UnsupportedOperation(f"parts of {parts} elements out of {size}")
    found = emit_parts.split(call.builder, x, parts, axis, call.wanted)
    return tuple(found)


@rule("Slice")
def _slice(call: OnnxCall) -> Result:
    x = call.value(0)
    rank = len(sizes_of(x))
    starts, ends = (call.ints("", place) or () for place in (1, 2))
    axes = axes_in(call.ints("", 3) or range(len(starts)), rank)
    steps = call.ints("", 4) or (1,) * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = sizes_of(x)[axis]
        whole = slice(start, end, step)
        if size.batched and start == 0 and end >= (call.export_batch or 2**31 - 1):
            continue
        if isinstance(x, Tensor):
            call.builder.require_no_batch(x, [axis])
        places = range(size.factor)[whole]
        if not places:
            raise UnsupportedOperation(f"nothing is left of {describe(sizes_of(x))}")
        x = chosen(call, x, axis, np.array(places))
    return x


def chosen(
    call: OnnxCall,
    x: Value,
    axis: int,
    places: np.ndarray[tuple[int], np.dtype[np.intp]],
) -> Value:
    """Return the elements at some places of a dimension, in their order."""
    build = call.builder
    n = sizes_of(x)[axis].factor
    first, last = int(places[0]), int(places[-1])
    if not isinstance(x, Tensor):
        if isinstance(x, Table):
            return x.taken(axis, places)
        return Fixed(np.take(x.array, places, axis))
    step = int(places[1]) - first if len(places) > 1 else 1
    if step == 1 and np.array_equal(places, np.arange(first, last + 1)):
        return emit_parts.cut(build, x, axis, first, last + 1)
    even = step > 1 and np.array_equal(places, np.arange(first, n, step))
    if even and n % step == 0:
        return emit_parts.cut(build, x, axis, first, n, step)
    parts = [emit_parts.cut(build, x, axis, i, i + 1) for i in places.tolist()]
    if len(parts) > 64:
        raise UnsupportedOperation(f"it takes {len(parts)} places one by one")
    return emit_parts.concat(build, parts, axis)


@rule("Gather")
def _gather(call: OnnxCall) -> Result:
    x = call.value(0)
    rank = len(sizes_of(x))
    (axis,) = axes_in([int(call.attribute("axis", 0))], rank)
    indices = call.given(1)
    build = call.builder
    if isinstance(indices, Tensor):
        if isinstance(x, Table) and axis == 0 and rank == 2:
            return emit_parts.embedding(build, indices, x)
        raise UnsupportedOperation(
            "ids that come from the data name rows of a table; of other tensors there "
            "is no layer that takes them for every sample"
        )
    (n,) = plain_sizes(x, [axis])
    places = call.array(1).astype(np.int64)
    if places.size and not (-n <= places.min() and places.max() < n):
        raise UnsupportedOperation(f"it takes a place beyond {n}")
    places = np.where(places < 0, places + n, places)
    if places.size == 0:
        raise UnsupportedOperation("it takes nothing")
    if isinstance(x, Tensor):
        build.require_no_batch(x, [axis])
    found = chosen(call, x, axis, places.reshape(-1))
    sizes = sizes_of(found)
    inner = [Size(n) for n in places.shape]
    return build.reshape(found, [*sizes[:axis], *inner, *sizes[axis + 1 :]])


_MODES = {"constant": "zero", "reflect": "reflect", "edge": "replicate"}


@rule("Pad")
def _pad(call: OnnxCall) -> Result:
    x = call.tensor(0)
    mode = call.attribute("mode", "constant")
    value = float(call.array(2).ravel()[0]) if call.has(2) else 0.0
    if mode not in _MODES:
        raise UnsupportedOperation(f"mode {mode} of margins")
    margins = call.ints("pads", 1) or ()
    axes = axes_in(call.ints("", 3) or range(x.rank), x.rank)
    before, after = margins[: len(axes)], margins[len(axes) :]
    around = {
        axis: (a, b)
        for axis, a, b in zip(axes, before, after, strict=True)
        if (a, b) != (0, 0)
    }
    for axis, (a, b) in list(around.items()):
        if min(a, b) < 0:
            n = x.sizes[axis].factor
            cut = emit_parts.cut(call.builder, x, axis, max(0, -a), n - max(0, -b))
            assert isinstance(cut, Tensor)
            x = cut
            around[axis] = (max(0, a), max(0, b))
    around = {axis: both for axis, both in around.items() if both != (0, 0)}
    if not around:
        return x
    if mode == "constant" and value == 0 and set(around) <= {x.rank - 2, x.rank - 1}:
        pass
    elif mode == "constant":
        for axis, (a, b) in around.items():
            x = _with_margin(call, x, axis, a, b, value)
        return x
    others = set(around) - {x.rank - 2, x.rank - 1}
    if others:
        raise UnsupportedOperation(
            f"margins of mode {mode} around dimension {min(others)}; the last two can "
            "have some"
        )
    top, bottom = around.get(x.rank - 2, (0, 0))
    left, right = around.get(x.rank - 1, (0, 0))
    return _padded(call, x, (top, bottom, left, right), _MODES[mode])


def _padded(call: OnnxCall, x: Tensor, margins: Margins, mode: str) -> Tensor:
    if x.rank <= 4 and x.view.batch_first:
        return pad(call.builder, x, margins, mode)
    # Everything before the last two dimensions is a channel.
    if any(BATCH in dim for dim in x.view.dims[-2:]):
        raise UnsupportedOperation("margins around samples")
    if mode != "zero":
        raise UnsupportedOperation(f"margins of mode {mode} around {describe(x.sizes)}")
    top, bottom, left, right = margins
    x = _with_margin(call, x, x.rank - 2, top, bottom, 0.0)
    return _with_margin(call, x, x.rank - 1, left, right, 0.0)


def _with_margin(
    call: OnnxCall, x: Tensor, axis: int, before: int, after: int, value: float
) -> Tensor:
    """Join a tensor with numbers before and behind it along a dimension."""
    call.builder.require_no_batch(x, [axis])
    shape = [1 if size.batched else size.factor for size in x.sizes]
    values: list[Value] = [x]
    for n, at in ((before, 0), (after, len(values) + 1)):
        if n:
            shape[axis] = n
            values.insert(at, Fixed(np.full(shape, value, np.float32)))
    found = emit_parts.concat(call.builder, values, axis)
    assert isinstance(found, Tensor)
    return found


@rule("DepthToSpace")
def _depth_to_space(call: OnnxCall) -> Result:
    x, n = call.tensor(0), int(call.attribute("blocksize", 1))
    if call.attribute("mode", "DCR") == "CRD" and x.view.batch_first:
        return pixel_shuffle(call.builder, x, n)
    batch, channels, height, width = x.sizes
    block = Size(n)
    inner = Size(channels.factor // n**2)
    build = call.builder
    if call.attribute("mode", "DCR") == "CRD":
        parted = build.reshape(x, [batch, inner, block, block, height, width])
        moved = build.permute(parted, (0, 1, 4, 2, 5, 3))
    else:
        parted = build.reshape(x, [batch, block, block, inner, height, width])
        moved = build.permute(parted, (0, 3, 4, 1, 5, 2))
    return build.reshape(
        moved, [batch, inner, Size(height.factor * n), Size(width.factor * n)]
    )


@rule("SpaceToDepth")
def _space_to_depth(call: OnnxCall) -> Result:
    x, n = call.tensor(0), int(call.attribute("blocksize", 1))
    batch, channels, height, width = x.sizes
    rows, columns = Size(height.factor // n), Size(width.factor // n)
    block, build = Size(n), call.builder
    parted = build.reshape(x, [batch, channels, rows, block, columns, block])
    order = (0, 3, 5, 1, 2, 4)
    if call.attribute("mode", "DCR") == "CRD":
        order = (0, 1, 3, 5, 2, 4)
    moved = build.permute(parted, order)
    return build.reshape(moved, [batch, Size(channels.factor * n**2), rows, columns])
