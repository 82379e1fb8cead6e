"""Operations element by element, reductions, and products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from arena_ckpt.importers.foreign_axes import (
    BATCH,
    Axis,
    Dimension,
    Size,
    View,
    axes_of,
    size_of,
)
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import (
    MIXES_SAMPLES,
    ModelBuilder,
    Shape,
    describe,
    padded,
    positive,
    sizes_of,
    with_shape,
)


def function(build: ModelBuilder, x: Tensor, text: str, suffix: str = "") -> Tensor:
    """Add an activation function, ``relu`` or ``leaky_relu(0.2)``, of each element."""
    return unary(
        build,
        x,
        "activation",
        suffix=suffix or text.partition("(")[0],
        activation=text,
    )


def unary(
    build: ModelBuilder,
    x: Tensor,
    type_name: str,
    *,
    suffix: str = "",
    **properties: Any,
) -> Tensor:
    """Add a layer that works on each element, whatever the shape."""
    source = build.add(
        type_name,
        [x.source],
        build.shape_of(x.source),
        suffix=suffix,
        **properties,
    )
    return replace(x, source=source, is_whole=False)


def softmax(build: ModelBuilder, x: Tensor, dim: int) -> Tensor:
    """Add a softmax along a dimension."""
    x, shape = build.around(x, [positive(dim, x.rank)])
    axis = 3 if shape[2] == 1 else 2
    shape = (1, shape[0], shape[1]) if axis == 3 else shape
    source = build.add(
        "activation",
        [build.shaped(x.source, shape)],
        shape,
        suffix="softmax",
        activation=f"softmax(axis={axis})",
    )
    return replace(x, source=source)


def binary(build: ModelBuilder, type_name: str, left: Value, right: Value) -> Tensor:
    """Add arithmetic on two values, broadcast as NumPy does.

    Parameters
    ----------
    build : ModelBuilder
    type_name : {"add", "subtract", "multiply", "divide", "maximum", "minimum"}
    left, right : Value
        One of them is a tensor.

    Raises
    ------
    UnsupportedOperation
        Samples are combined with one another, or more than three groups of axes are
        repeated in turns.
    """
    for number, other, is_left in ((right, left, False), (left, right, True)):
        if isinstance(number, Fixed) and number.array.size == 1:
            assert isinstance(other, Tensor)
            rank = max(number.array.ndim, other.rank)
            x = other.seen(other.view.with_rank(rank))
            return _with_number(build, type_name, x, number.array.item(), is_left)
    values, dims, order = _aligned(build, [left, right])
    sources, shape = _broadcast(build, values, dims, order)
    source = build.add(type_name, sources, shape)
    whole = all(
        np.issubdtype(v.array.dtype, np.integer)
        if not isinstance(v, Tensor)
        else v.is_whole
        for v in (left, right)
    )
    return Tensor(source, View(order, dims), whole and type_name != "divide")


def where(build: ModelBuilder, condition: Value, yes: Value, no: Value) -> Tensor:
    """Add a choice of elements of two values by a third one that is 0 or not."""
    values, dims, order = _aligned(build, [condition, yes, no])
    sources, shape = _broadcast(build, values, dims, order)
    return Tensor(build.add("where", sources, shape), View(order, dims))


def _with_number(
    build: ModelBuilder, type_name: str, x: Tensor, value: float, is_left: bool
) -> Tensor:
    """Add arithmetic with one number; `is_left` says on which side it stands."""
    whole = x.is_whole and float(value).is_integer()
    if is_left and type_name == "subtract":
        x, type_name = unary(build, x, "negative"), "add"
    elif is_left and type_name == "divide":
        x, type_name = unary(build, x, "pow", exponent=-1.0), "multiply"
    neutral = 0.0 if type_name in ("add", "subtract") else 1.0
    if value == neutral and type_name in ("add", "subtract", "multiply", "divide"):
        return x
    y = unary(build, x, type_name, value=float(value))
    return replace(y, is_whole=whole and type_name != "divide")


def _aligned(
    build: ModelBuilder, values: Sequence[Value]
) -> tuple[list[Value], tuple[Dimension, ...], tuple[Axis, ...]]:
    """Give values the same dimensions, and all tensors the same axes and order.

    Returns
    -------
    (values, dims, order)
        `dims` and `order` are those of the result.
    """
    rank = max(len(sizes_of(value)) for value in values)
    tensors = [i for i, value in enumerate(values) if isinstance(value, Tensor)]
    same = list(values)
    repeats: dict[int, Dimension] = {}
    for i in tensors:
        x = _tensor(values[i])
        x = x.seen(x.view.with_rank(rank))
        for at, dim in enumerate(x.view.dims):
            if dim and all(axis.is_repeated for axis in dim):
                # Nobody writes out what arithmetic repeats by itself.
                repeats[at] = dim
                x = x.seen(x.view.with_dim(at, ()))
        same[i] = build.written(x)
    first = _tensor(same[tensors[0]])
    for i in tensors[1:]:
        first, other = _same_axes(build, first, _tensor(same[i]))
        for j in tensors[: tensors.index(i)]:
            before = _tensor(same[j])
            same[j] = first if j == tensors[0] else _like(build, before, first)
        same[i] = other
    dims = list(first.view.dims)
    order = list(first.view.order)
    for value in same:
        for at in range(rank):
            if dims[at]:
                continue
            if isinstance(value, Tensor) and value.view.dims[at]:
                dims[at] = value.view.dims[at]
            elif not isinstance(value, Tensor):
                shape = (1,) * (rank - value.array.ndim) + value.array.shape
                dims[at] = axes_of(shape[at])
    new = [a for dim in dims for a in dim if a is not BATCH and a not in order]
    for at, dim in repeats.items():
        dims[at] = dims[at] or dim
    if new:
        # New axes stand where the dimensions say; then all lie as the dimensions do.
        flat = [axis for dim in dims for axis in dim]
        order = [a for a in flat if a is not BATCH and not a.is_repeated]
    for i in tensors:
        x = _tensor(same[i])
        own = set(x.view.order)
        same[i] = build.ordered(x, [a for a in order if a in own])
    return same, tuple(dims), tuple(order)


def _tensor(value: Value) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _same_axes(build: ModelBuilder, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors of one rank that share the axes that both have."""
    where_a = [i for i, dim in enumerate(a.view.dims) if BATCH in dim]
    where_b = [i for i, dim in enumerate(b.view.dims) if BATCH in dim]
    if where_a != where_b and where_a and where_b:
        raise UnsupportedOperation(
            f"{describe(a.sizes)} with {describe(b.sizes)}: {MIXES_SAMPLES}"
        )
    for at in range(a.rank):
        mine, other = a.view.dims[at], b.view.dims[at]
        if mine == (BATCH,) and other == (BATCH,):
            continue
        if mine and other and a.sizes[at] != b.sizes[at]:
            raise UnsupportedOperation(
                f"{describe(a.sizes)} with {describe(b.sizes)}: unequal sizes"
            )
    merged = _refined(a, b)
    if merged is None:
        # No common cuts: both as contiguous tensors, whose dimensions are one axis.
        a, b = _whole_axes(build, a), _whole_axes(build, b)
        merged = _refined(a, b)
        assert merged is not None
    a, b = merged
    # Both can be views of one tensor, in which an axis stands in different places.
    names = {axis: Axis(axis.size) for axis in b.view.order if axis in a.view.order}
    for mine, other in zip(a.view.dims, b.view.dims, strict=True):
        if mine and other:
            names.update(zip(other, mine, strict=True))
    view = View(
        tuple(names.get(axis, axis) for axis in b.view.order),
        tuple(tuple(names.get(axis, axis) for axis in dim) for dim in b.view.dims),
    )
    return a, b.seen(view)


def _refined(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor] | None:
    """Cut the axes of two tensors where the other's begin; None if they do not fit."""
    view_a, view_b = a.view, b.view
    for at in range(a.rank):
        if not (view_a.dims[at] and view_b.dims[at]):
            continue
        sizes_a = [axis.size for axis in view_a.dims[at]]
        sizes_b = [axis.size for axis in view_b.dims[at]]
        if sizes_a == sizes_b:
            continue
        common = _common_cuts(sizes_a, sizes_b)
        if common is None:
            return None
        view_a = _cut_to(view_a, at, common)
        view_b = _cut_to(view_b, at, common)
    return a.seen(view_a), b.seen(view_b)


def _common_cuts(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """Return the sizes that both lists can be cut into, the samples' 0 as it is."""
    if (0 in a) != (0 in b):
        return None
    left, right = list(reversed(a)), list(reversed(b))
    common = []
    while left and right:
        mine, other = left.pop(), right.pop()
        if mine == other:
            common.append(mine)
        elif 0 in (mine, other):
            return None
        elif mine % other == 0:
            common.append(other)
            left.append(mine // other)
        elif other % mine == 0:
            common.append(mine)
            right.append(other // mine)
        else:
            return None
    return None if left or right else common


def _cut_to(view: View, at: int, sizes: Sequence[int]) -> View:
    parts = [Size(1, True) if size == 0 else Size(size) for size in sizes]
    others = view.sizes
    whole = view.regrouped([*others[:at], *parts, *others[at + 1 :]])
    assert whole is not None
    dim = tuple(axis for i in range(len(parts)) for axis in whole.dims[at + i])
    return View(whole.order, (*whole.dims[:at], dim, *whole.dims[at + len(parts) :]))


def _whole_axes(build: ModelBuilder, x: Tensor) -> Tensor:
    """Return a tensor in memory order whose dimensions are one axis each."""
    x = build.in_order(x)
    dims = []
    for dim, size in zip(x.view.dims, x.sizes, strict=True):
        if BATCH in dim and dim != (BATCH,):
            raise UnsupportedOperation(
                f"{describe(x.sizes)}: the batch is a part of a dimension"
            )
        dims.append(dim if BATCH in dim else axes_of(size.factor))
    order = tuple(axis for dim in dims for axis in dim if axis is not BATCH)
    return x.seen(View(order, tuple(dims)))


def _like(build: ModelBuilder, x: Tensor, like: Tensor) -> Tensor:
    """Return a tensor with the axes of another one where both have some."""
    return _same_axes(build, like, x)[1]


def _broadcast(
    build: ModelBuilder,
    values: Sequence[Value],
    dims: Sequence[Dimension],
    order: Sequence[Axis],
) -> tuple[list[str], Shape]:
    """Return the layers to read, in shapes that broadcast, and the shape of the result.

    Neighbouring axes that the same values have become one.
    """
    owned = []
    for value in values:
        if isinstance(value, Tensor):
            owned.append(set(value.view.order))
        else:
            lead = len(dims) - value.array.ndim
            if any(
                BATCH in dims[lead + i] and n > 1
                for i, n in enumerate(value.array.shape)
            ):
                raise UnsupportedOperation(
                    "a table has a size of its own along the batch"
                )
            owned.append(
                {
                    axis
                    for i, n in enumerate(value.array.shape)
                    if n > 1
                    for axis in dims[lead + i]
                }
            )
    groups: list[list[Axis]] = []
    for axis in order:
        having = [axis in own for own in owned]
        if groups and having == [groups[-1][0] in own for own in owned]:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) > 3:
        raise UnsupportedOperation(
            f"{' with '.join(describe(sizes_of(value)) for value in values)} repeat "
            "in more than three turns"
        )
    sources = []
    for value, own in zip(values, owned, strict=True):
        sizes = [size_of(group).factor if group[0] in own else 1 for group in groups]
        shape = padded(sizes)
        if isinstance(value, Tensor):
            sources.append(build.shaped(value.source, shape))
        else:
            sources.append(build.table(_table_in(value, dims, order), shape))
    return sources, padded([size_of(group).factor for group in groups])


def _table_in(
    value: Table | Fixed, dims: Sequence[Dimension], order: Sequence[Axis]
) -> Table | Fixed:
    """Return a table with its axes in the order of the memory that reads it."""
    lead = len(dims) - value.array.ndim
    axes: list[Axis | None] = []
    shape: list[int] = []
    for i, n in enumerate(value.array.shape):
        own = [axis for axis in dims[lead + i] if axis is not BATCH] if n > 1 else []
        axes.extend(own or [None])
        shape.extend([axis.size for axis in own] or [1])
    value = with_shape(value, shape)
    places = [axes.index(axis) for axis in order if axis in axes]
    rest = [i for i, axis in enumerate(axes) if axis is None]
    if isinstance(value, Table):
        return value.permuted([*rest, *places])
    return Fixed(value.array.transpose([*rest, *places]))


def reduce(
    build: ModelBuilder,
    type_name: str,
    x: Tensor,
    dims: Sequence[int],
    *,
    keepdim: bool = False,
) -> Tensor:
    """Add a reduction over dimensions.

    Parameters
    ----------
    build : ModelBuilder
    type_name : str
        ``reduce_sum``, ``reduce_mean``, ``reduce_max``, ``reduce_min``,
        ``reduce_prod`` or ``norm``.
    x : Tensor
    dims : sequence of int
    keepdim : bool
        They stay as dimensions of size 1.
    """
    over = sorted({positive(dim, x.rank) for dim in dims})
    x, (before, size, after) = build.around(x, over, any_order=True)
    if size > 1:
        axis = 3 if after == 1 else 2
        shape = (1, before, size) if axis == 3 else (before, size, after)
        result = (1, before, 1) if axis == 3 else (before, 1, after)
        source = build.add(
            type_name, [build.shaped(x.source, shape)], result, axis=axis
        )
        gone = {part for i in over for part in x.view.dims[i]}
        left = tuple(part for part in x.view.order if part not in gone)
        kept = tuple(() if i in over else dim for i, dim in enumerate(x.view.dims))
        x = replace(x, source=source, view=View(left, kept))
    elif type_name == "norm":
        x = function(build, x, "abs")
    if not keepdim:
        dims_left = tuple(dim for i, dim in enumerate(x.view.dims) if i not in over)
        x = x.seen(View(x.view.order, dims_left))
    return x


def linear(
    build: ModelBuilder,
    x: Tensor,
    weight: Table,
    bias: Table | None,
    *,
    is_transposed: bool = True,
) -> Tensor:
    """Add a fully connected layer over the last dimension.

    Parameters
    ----------
    build : ModelBuilder
    x : Tensor
    weight : Table
        (out, in), or (in, out) where it is not transposed.
    bias : Table or None
        (out,)
    is_transposed : bool
    """
    x = build.with_tail(x, [x.rank - 1])
    ours = weight.permuted((1, 0)) if is_transposed else weight
    width, unit = ours.array.shape
    rows = x.view.sample_size // width
    weights = {"weight": ours}
    if bias is not None:
        weights["bias"] = bias.reshaped((unit,))
    source = build.add_dense(
        [build.shaped(x.source, (1, rows, width))], (1, rows, unit), weights
    )
    return Tensor(source, x.view.resized(x.rank - 1, unit))


def matmul(build: ModelBuilder, left: Value, right: Value) -> Tensor:
    """Add a product of matrices, (…, M, K) by (…, K, N).

    Raises
    ------
    UnsupportedOperation
        The dimensions before are not the same on both sides.
    """
    if isinstance(right, Table) and isinstance(left, Tensor) and right.array.ndim == 2:
        return linear(build, left, right, None, is_transposed=False)
    if isinstance(right, Fixed) and isinstance(left, Tensor) and right.array.ndim == 2:
        return _by_constant(build, left, right)
    if not (isinstance(left, Tensor) and isinstance(right, Tensor)):
        raise UnsupportedOperation(
            "a product with a table takes a table of two dimensions on the right"
        )
    lead = max(left.rank, right.rank) - 2
    left, right = (x.seen(x.view.with_rank(lead + 2)) for x in (left, right))
    a = build.with_tail(left, [lead, lead + 1])
    b = build.with_tail(right, [lead, lead + 1])
    sizes = [s.factor for s in a.sizes[-2:]] + [b.sizes[-1].factor]
    if a.sizes[:-2] != b.sizes[:-2] or a.sizes[-1] != b.sizes[-2]:
        raise UnsupportedOperation(
            f"{describe(left.sizes)} by {describe(right.sizes)}: unequal sizes"
        )
    outer = [axis for dim in a.view.dims[:-2] for axis in dim if axis is not BATCH]
    others = [axis for dim in b.view.dims[:-2] for axis in dim if axis is not BATCH]
    a = build.ordered(a, [*outer, *a.view.dims[-2], *a.view.dims[-1]])
    b = build.ordered(b, [*others, *b.view.dims[-2], *b.view.dims[-1]])
    if _batch_places(a.view) != _batch_places(b.view):
        raise UnsupportedOperation(MIXES_SAMPLES)
    rows, inner, columns = sizes
    n = size_of(outer).factor
    source = build.add(
        "matmul",
        [
            build.shaped(a.source, (n, rows, inner)),
            build.shaped(b.source, (n, inner, columns)),
        ],
        (n, rows, columns),
    )
    return Tensor(source, a.view.resized(a.rank - 1, columns))


def _batch_places(view: View) -> list[tuple[int, ...]]:
    """Return how many elements of each dimension stand around the samples."""
    places = []
    for dim in view.dims[:-2]:
        if BATCH in dim:
            at = dim.index(BATCH)
            places.append(
                tuple(prod(a.size for a in p) for p in (dim[:at], dim[at + 1 :]))
            )
        else:
            places.append(())
    return places


def _by_constant(build: ModelBuilder, x: Tensor, right: Fixed) -> Tensor:
    x = build.with_tail(x, [x.rank - 1])
    inner, columns = right.array.shape
    rows = x.view.sample_size // inner
    source = build.add(
        "matmul",
        [
            build.shaped(x.source, (1, rows, inner)),
            build.table(right, (1, inner, columns)),
        ],
        (1, rows, columns),
    )
    return Tensor(source, x.view.resized(x.rank - 1, columns))
