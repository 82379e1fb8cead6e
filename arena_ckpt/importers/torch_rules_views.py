"""Rules for PyTorch's views, parts, joins and factories."""

from __future__ import annotations

from typing import Any

import numpy as np

from arena_ckpt.importers import emit_elements, emit_parts
from arena_ckpt.importers.foreign_axes import BATCH, Axis, Size
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import describe, sizes_of
from arena_ckpt.importers.torch_rules import (
    Call,
    as_value,
    dims_of,
    rank_of,
    rule,
    sizes_from,
)

_END = 2**62
"""Ends behind this are PyTorch's way to say: to the end."""


@rule("view", "reshape", "_unsafe_view")
def _reshape(call: Call) -> Value:
    sizes = call.get("size", call.get("shape"))
    if sizes is None:
        raise UnsupportedOperation("it sees the bytes as another dtype")
    return call.build.reshape(call.value("self"), sizes_from(sizes))


@rule("view_as", "reshape_as")
def _view_as(call: Call) -> Value:
    return call.build.reshape(call.value("self"), list(sizes_of(call.value("other"))))


@rule("flatten")
def _flatten(call: Call) -> Value:
    x = call.value("self")
    sizes: list[Size | None] = list(sizes_of(x))
    first, last = dims_of((call["start_dim"], call["end_dim"]), max(1, len(sizes)))
    if not sizes:
        return call.build.reshape(x, [Size(1)])
    inner = [size for size in sizes[first : last + 1] if size is not None]
    whole = Size(
        int(np.prod([size.factor for size in inner])), any(s.batched for s in inner)
    )
    return call.build.reshape(x, [*sizes[:first], whole, *sizes[last + 1 :]])


@rule("unflatten")
def _unflatten(call: Call) -> Value:
    x = call.value("self")
    sizes: list[Size | None] = list(sizes_of(x))
    (dim,) = dims_of(call["dim"], len(sizes))
    parts = sizes_from(call["sizes"])
    if None in parts:
        whole = sizes[dim]
        assert whole is not None
        known = int(np.prod([part.factor for part in parts if part is not None]))
        is_batched = whole.batched and not any(p.batched for p in parts if p)
        missing = Size(whole.factor // known, is_batched)
        parts = [missing if part is None else part for part in parts]
    return call.build.reshape(x, [*sizes[:dim], *parts, *sizes[dim + 1 :]])


@rule("permute")
def _permute(call: Call) -> Value:
    x = call.value("self")
    return call.build.permute(x, dims_of(call["dims"], rank_of(x)))


@rule("transpose", "swapaxes", "swapdims")
def _transpose(call: Call) -> Value:
    x = call.value("self")
    rank = rank_of(x)
    one = call.get("dim0", call.get("axis0"))
    two = call.get("dim1", call.get("axis1"))
    first, second = dims_of((one, two), rank)
    order = list(range(rank))
    order[first], order[second] = second, first
    return call.build.permute(x, order)


@rule("t", "numpy_T", "mT")
def _t(call: Call) -> Value:
    x = call.value("self")
    rank = rank_of(x)
    if call.node.op == "mT":
        return call.build.permute(x, [*range(rank - 2), rank - 1, rank - 2])
    return call.build.permute(x, list(range(rank))[::-1])


@rule("movedim", "moveaxis")
def _movedim(call: Call) -> Value:
    x = call.value("self")
    rank = rank_of(x)
    sources = dims_of(call["source"], rank)
    goals = dims_of(call["destination"], rank)
    order = [dim for dim in range(rank) if dim not in sources]
    for goal, source in sorted(zip(goals, sources, strict=True)):
        order.insert(goal, source)
    return call.build.permute(x, order)


@rule("squeeze")
def _squeeze(call: Call) -> Value:
    x = call.value("self")
    return call.build.squeeze(x, dims_of(call.get("dim"), rank_of(x)))


@rule("unsqueeze")
def _unsqueeze(call: Call) -> Value:
    x = call.value("self")
    (dim,) = dims_of(call["dim"], rank_of(x) + 1)
    return call.build.unsqueeze(x, dim)


@rule("expand")
def _expand(call: Call) -> Value:
    return call.build.expand(call.value("self"), sizes_from(call["size"]))


@rule("expand_as")
def _expand_as(call: Call) -> Value:
    return call.build.expand(call.value("self"), list(sizes_of(call.value("other"))))


@rule("contiguous", "clone", "alias", "lift_fresh_copy", "positive")
def _same(call: Call) -> Any:
    found = call.args.get("self", call.args.get("input"))
    return found


@rule("detach")
def _detach(call: Call) -> Any:
    value = call["self"]
    if isinstance(value, Tensor) or (isinstance(value, Table) and value.is_trained):
        raise UnsupportedOperation(
            "it stops gradients, and all gradients are taken; set requires_grad=False "
            "on parameters that shall not be trained"
        )
    return value


@rule("to", "_to_copy", "type_as", "float", "long")
def _to(call: Call) -> Any:
    value = call["self"]
    wanted = call.get("dtype")
    if isinstance(value, Fixed) and isinstance(wanted, str):
        return Fixed(value.array.astype(wanted))
    if isinstance(value, Tensor):
        result = call.node.result
        was_whole = value.is_whole
        is_float = getattr(result, "dtype", "float32").startswith("float")
        if not was_whole and not is_float:
            raise UnsupportedOperation("it rounds values to whole numbers")
        return Tensor(value.source, value.view, was_whole and not is_float)
    return value


@rule("slice")
def _slice(call: Call) -> Value:
    x = call.value("self")
    (dim,) = dims_of(call["dim"], rank_of(x))
    start, end, step = call["start"], call["end"], call["step"]
    size = sizes_of(x)[dim]
    is_all = end is None or end == size or (isinstance(end, int) and end >= _END)
    if start in (None, 0) and is_all and step == 1:
        return x
    if isinstance(start, Size) or isinstance(end, Size) or size.batched:
        raise UnsupportedOperation("it takes some of the samples, which mixes them")
    stop = size.factor if end is None else min(end, size.factor)
    return emit_parts.cut(call.build, x, dim, start or 0, stop, step)


@rule("select")
def _select(call: Call) -> Value:
    x = call.value("self")
    (dim,) = dims_of(call["dim"], rank_of(x))
    if sizes_of(x)[dim].batched:
        raise UnsupportedOperation("it takes one of the samples, which mixes them")
    return emit_parts.select(call.build, x, dim, call["index"])


@rule("narrow")
def _narrow(call: Call) -> Value:
    start, length = call["start"], call["length"]
    return emit_parts.cut(
        call.build, call.value("self"), call["dim"], start, start + length
    )


def _parts(call: Call, x: Value, sizes: list[int], dim: int) -> tuple[Value, ...]:
    read = call.parts_read
    used = None if read is None else [i in read for i in range(len(sizes))]
    return tuple(emit_parts.split(call.build, x, sizes, dim, used))


@rule("split", "split_with_sizes")
def _split(call: Call) -> tuple[Value, ...]:
    x = call.value("self")
    (dim,) = dims_of(call["dim"], rank_of(x))
    given = call.get("split_size", call.get("split_sizes"))
    total = sizes_of(x)[dim]
    if total.batched:
        raise UnsupportedOperation("it parts the samples, which mixes them")
    if isinstance(given, tuple):
        return _parts(call, x, list(given), dim)
    n = total.factor
    sizes = [min(given, n - start) for start in range(0, n, given)]
    return _parts(call, x, sizes, dim)


@rule("chunk", "tensor_split")
def _chunk(call: Call) -> tuple[Value, ...]:
    x = call.value("self")
    (dim,) = dims_of(call["dim"], rank_of(x))
    total = sizes_of(x)[dim]
    if total.batched:
        raise UnsupportedOperation("it parts the samples, which mixes them")
    n = total.factor
    if call.node.op == "chunk":
        size = -(-n // call["chunks"])
        return _parts(
            call, x, [min(size, n - start) for start in range(0, n, size)], dim
        )
    sections = call.get("sections")
    if not isinstance(sections, int):
        raise UnsupportedOperation("it is given places, not a number of parts")
    small, more = divmod(n, sections)
    return _parts(call, x, [small + (i < more) for i in range(sections)], dim)


@rule("unbind")
def _unbind(call: Call) -> tuple[Value, ...]:
    x = call.value("self")
    (dim,) = dims_of(call["dim"], rank_of(x))
    size = sizes_of(x)[dim]
    if size.batched:
        raise UnsupportedOperation("it takes single samples, which mixes them")
    parts = _parts(call, x, [1] * size.factor, dim)
    read = call.parts_read
    return tuple(
        call.build.squeeze(part, [dim]) if read is None or i in read else part
        for i, part in enumerate(parts)
    )


@rule("getitem")
def _getitem(call: Call) -> Any:
    return call["0"][call["1"]]


@rule("cat", "concat", "concatenate")
def _cat(call: Call) -> Value:
    values = [as_value(one, "tensors") for one in call["tensors"]]
    values = [v for v in values if sizes_of(v) != (Size(0),)]
    return emit_parts.concat(call.build, values, call["dim"])


@rule("stack")
def _stack(call: Call) -> Value:
    values = [as_value(one, "tensors") for one in call["tensors"]]
    (dim,) = dims_of(call["dim"], rank_of(values[0]) + 1)
    raised = [call.build.unsqueeze(value, dim) for value in values]
    return emit_parts.concat(call.build, raised, dim)


@rule("repeat", "tile")
def _repeat(call: Call) -> Value:
    x = call.value("self")
    counts = call.get("repeats", call.get("dims"))
    if not isinstance(x, Tensor):
        return _repeated_table(call, x, counts)
    view = x.view
    for _ in range(len(counts) - view.rank):
        view = view.inserted(0)
    for dim, count in enumerate(counts, view.rank - len(counts)):
        if count == 1:
            continue
        if isinstance(count, Size) or BATCH in view.dims[dim]:
            raise UnsupportedOperation("it repeats samples, which mixes them")
        view = view.with_dim(dim, (Axis(count, True), *view.dims[dim]))
    return x.seen(view)


def _repeated_table(call: Call, x: Table | Fixed, counts: Any) -> Value:
    """Repeat a table; samples repeat it by themselves."""
    shape = (1,) * (len(counts) - x.array.ndim) + x.array.shape
    value = call.build.reshape(x, [Size(n) for n in shape])
    for dim, count in enumerate(counts, len(shape) - len(counts)):
        if isinstance(count, Size):
            if shape[dim] != 1 or count != Size(1, True):
                raise UnsupportedOperation("it repeats samples, which mixes them")
            continue
        if count != 1:
            places = np.tile(np.arange(shape[dim]), count)
            if isinstance(value, Table):
                value = value.taken(dim, places)
            else:
                assert isinstance(value, Fixed)
                value = Fixed(value.array.take(places, dim))
    return value


@rule("repeat_interleave")
def _repeat_interleave(call: Call) -> Value:
    x, count = call.value("self"), call.get("repeats")
    if not isinstance(count, int) or call["dim"] is None:
        raise UnsupportedOperation("it repeats each element by another number")
    (dim,) = dims_of(call["dim"], rank_of(x))
    if not isinstance(x, Tensor):
        places = np.repeat(np.arange(x.array.shape[dim]), count)
        if isinstance(x, Table):
            return x.taken(dim, places)
        return Fixed(x.array.take(places, dim))
    if BATCH in x.view.dims[dim]:
        raise UnsupportedOperation("it repeats samples, which mixes them")
    view = x.view.with_dim(dim, (*x.view.dims[dim], Axis(count, True)))
    return x.seen(view)


@rule("roll")
def _roll(call: Call) -> Value:
    x = call.tensor("self")
    if call["dims"] == ():
        raise UnsupportedOperation("it rolls all dimensions as one")
    value: Value = x
    for shift, dim in zip(call["shifts"], dims_of(call["dims"], x.rank), strict=True):
        size = x.sizes[dim]
        if size.batched:
            raise UnsupportedOperation("it moves samples, which mixes them")
        n = size.factor
        if shift % n:
            at = n - shift % n
            parts = [
                emit_parts.cut(call.build, value, dim, at, n),
                emit_parts.cut(call.build, value, dim, 0, at),
            ]
            value = emit_parts.concat(call.build, parts, dim)
    return value


def _take(call: Call, x: Value, dim: int, index: np.ndarray[Any, Any]) -> Value:
    """Return elements of a dimension, by indices that are known, in their order."""
    size = sizes_of(x)[dim]
    if size.batched:
        raise UnsupportedOperation("it picks samples, which mixes them")
    places = np.where(index < 0, index + size.factor, index)
    if isinstance(x, Table):
        if x.is_trained and np.unique(places).size < places.size:
            return _repeated_rows(call, x, dim, places)
        return x.taken(dim, places)
    if isinstance(x, Fixed):
        return Fixed(x.array.take(places, dim))
    flat = places.reshape(-1)
    if flat.size == 0:
        raise UnsupportedOperation(f"nothing is left of {describe(x.sizes)}")
    runs = np.split(flat, np.flatnonzero(np.diff(flat) != 1) + 1)
    if len(runs) > 16:
        raise UnsupportedOperation(
            f"it picks elements in {len(runs)} runs; slices have a layer, one for "
            "each run"
        )
    parts = [
        emit_parts.cut(call.build, x, dim, int(run[0]), int(run[-1]) + 1)
        for run in runs
    ]
    made = parts[0] if len(parts) == 1 else emit_parts.concat(call.build, parts, dim)
    sizes = sizes_of(made)
    inner = [Size(n) for n in places.shape]
    return call.build.reshape(made, [*sizes[:dim], *inner, *sizes[dim + 1 :]])


def _repeated_rows(
    call: Call, table: Table, dim: int, places: np.ndarray[Any, Any]
) -> Value:
    """Take elements of a parameter several times: a product with ones and zeros.

    Two weights for one element would be trained apart.
    """
    rank = table.array.ndim
    order = [i for i in range(rank) if i != dim] + [dim]
    shape = table.array.shape
    x = call.build.sampled(table.permuted(order))
    chosen = np.zeros((shape[dim], places.size), np.float32)
    chosen[places.reshape(-1), np.arange(places.size)] = 1.0
    made = emit_elements.matmul(call.build, x, Fixed(chosen))
    back = list(range(rank - 1))
    back.insert(dim, rank - 1)
    turned = call.build.permute(made, back)
    sizes = [Size(n) for n in (*shape[:dim], *places.shape, *shape[dim + 1 :])]
    return call.build.reshape(turned, sizes)


@rule("index")
def _index(call: Call) -> Value:
    x = call.value("self")
    given = [(i, one) for i, one in enumerate(call["indices"]) if one is not None]
    if len(given) != 1:
        raise UnsupportedOperation(
            "it picks by several indices at once; one dimension at a time has layers"
        )
    dim, index = given[0]
    if isinstance(index, Table) and not index.is_trained:
        index = Fixed(index.array)
    if not isinstance(index, Fixed):
        if isinstance(index, Tensor) and isinstance(x, Table) and dim == 0:
            return _rows(call, x, index)
        raise UnsupportedOperation(
            "it picks by indices that depend on the inputs; an embedding does so by "
            "ids, from the first dimension of a parameter"
        )
    array = index.array
    if array.dtype == bool:
        if array.ndim != 1:
            raise UnsupportedOperation("it picks by a mask of several dimensions")
        array = np.flatnonzero(array)
    return _take(call, x, dim, array)


def _rows(call: Call, table: Table, ids: Tensor) -> Value:
    shape = table.array.shape
    flat = table.reshaped((shape[0], int(np.prod(shape[1:]))))
    made = emit_parts.embedding(call.build, ids, flat)
    assert isinstance(made, Tensor)
    return call.build.reshape(made, [*ids.sizes, *(Size(n) for n in shape[1:])])


@rule("index_select")
def _index_select(call: Call) -> Value:
    index = call.value("index")
    x = call.value("self")
    (dim,) = dims_of(call["dim"], rank_of(x))
    if isinstance(index, Tensor) or (isinstance(index, Table) and index.is_trained):
        raise UnsupportedOperation("it picks by indices that depend on the inputs")
    return _take(call, x, dim, index.array)


@rule("flip")
def _flip(call: Call) -> Value:
    x = call.value("self")
    for dim in dims_of(call["dims"], rank_of(x)):
        x = _take(call, x, dim, np.arange(sizes_of(x)[dim].factor)[::-1])
    return x


_FILLS = {"zeros": 0.0, "ones": 1.0, "new_zeros": 0.0, "new_ones": 1.0}


@rule("zeros", "ones", "full", "new_zeros", "new_ones", "new_full")
def _filled(call: Call) -> Fixed:
    """Numbers that are the same for all samples, which repeat them by themselves."""
    value = _FILLS.get(call.node.op)
    if value is None:
        value = call.value("fill_value").array.item()  # type: ignore[union-attr]
    return _full(call, call["size"], value)


@rule("zeros_like", "ones_like", "full_like")
def _filled_like(call: Call) -> Fixed:
    value = {"zeros_like": 0.0, "ones_like": 1.0}.get(call.node.op)
    if value is None:
        value = call["fill_value"]
    return _full(call, sizes_of(call.value("self")), value)


def _full(call: Call, sizes: Any, value: float) -> Fixed:
    dtype = getattr(call.node.result, "dtype", "float32")
    shape = []
    for size in sizes_from(sizes):
        assert size is not None
        if size.batched and size.factor > 1:
            raise UnsupportedOperation("its size is several times the batch")
        shape.append(1 if size.batched else size.factor)
    return Fixed(np.full(shape, value, dtype))
