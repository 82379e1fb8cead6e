"""Parts of tensors and their joining: slices, splits, concatenations, lookups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from arena_ckpt.importers.foreign_axes import Size, View, axes_of
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import (
    ModelBuilder,
    Shape,
    describe,
    positive,
    sizes_of,
)


def cut(
    build: ModelBuilder, x: Value, dim: int, start: int, stop: int, step: int = 1
) -> Value:
    """Return the elements from `start` up to `stop` of a dimension, every `step`-th.

    Raises
    ------
    UnsupportedOperation
        Samples are left out, or the steps do not divide the dimension.
    """
    dim = positive(dim, len(sizes_of(x)))
    size = sizes_of(x)[dim]
    n = size.factor
    start, stop, _ = slice(start, stop, step).indices(n)
    if not isinstance(x, Tensor):
        if isinstance(x, Table):
            return x.sliced(dim, start, stop, step)
        place = [slice(None)] * x.array.ndim
        place[dim] = slice(start, stop, step)
        return Fixed(x.array[tuple(place)])
    build.require_no_batch(x, [dim])
    if step != 1:
        return _strided(build, x, dim, start, stop, step)
    if (start, stop) == (0, n):
        return x
    if stop <= start:
        raise UnsupportedOperation(f"nothing is left of {describe(x.sizes)}")
    x, shape = build.around(x, [dim])
    return _slice(build, x, dim, shape, start, stop)


def _slice(
    build: ModelBuilder, x: Tensor, dim: int, shape: Shape, start: int, stop: int
) -> Tensor:
    size = stop - start
    source = build.add(
        "slice",
        [build.shaped(x.source, shape)],
        (shape[0], size, shape[2]),
        axis=2,
        start_index=start + 1,
        end_index=stop + 1,
    )
    return replace(x, source=source, view=x.view.resized(dim, size))


def _strided(
    build: ModelBuilder, x: Tensor, dim: int, start: int, stop: int, step: int
) -> Value:
    n = x.sizes[dim].factor
    if step < 0 or n % step or (stop - start + step - 1) // step != n // step:
        raise UnsupportedOperation(
            f"every {step}th of {n} elements from {start} to {stop}; steps have to "
            "divide the dimension"
        )
    parted = [*x.sizes[:dim], Size(n // step), Size(step), *x.sizes[dim + 1 :]]
    return select(build, build.reshape(x, parted), dim + 1, start)


def select(build: ModelBuilder, x: Value, dim: int, index: int) -> Value:
    """Return one element of a dimension, without that dimension."""
    dim = positive(dim, len(sizes_of(x)))
    index = positive(index, sizes_of(x)[dim].factor)
    part = cut(build, x, dim, index, index + 1)
    sizes = sizes_of(part)
    return build.reshape(part, [*sizes[:dim], *sizes[dim + 1 :]])


def split(
    build: ModelBuilder,
    x: Value,
    sizes: Sequence[int],
    dim: int,
    used: Sequence[bool] | None = None,
) -> list[Value]:
    """Return the parts of a dimension, one behind the other.

    Parameters
    ----------
    build : ModelBuilder
    x : Value
    sizes : sequence of int
        Of the parts.
    dim : int
    used : sequence of bool, optional
        Which parts somebody reads. Equal parts that are all read are one layer.
    """
    dim = positive(dim, len(sizes_of(x)))
    stops = np.cumsum(sizes).tolist()
    read = [True] * len(sizes) if used is None else used
    if (
        not isinstance(x, Tensor)
        or len(set(sizes)) > 1
        or len(sizes) == 1
        or not all(read)
    ):
        return [
            cut(build, x, dim, stop - size, stop) if is_read else x
            for size, stop, is_read in zip(sizes, stops, read, strict=True)
        ]
    x, shape = build.around(x, [dim])
    part = (shape[0], sizes[0], shape[2])
    name = build.add(
        "split",
        [build.shaped(x.source, shape)],
        part,
        axis=2,
        split_number=len(sizes),
    )
    return [
        replace(
            x,
            source=build.output_of(name, i, part),
            view=x.view.resized(dim, sizes[0]),
        )
        for i in range(len(sizes))
    ]


def concat(build: ModelBuilder, values: Sequence[Value], dim: int) -> Value:
    """Return values one behind the other along a dimension.

    Tables and known numbers are repeated for each sample.
    """
    if not any(isinstance(value, Tensor) for value in values):
        if all(isinstance(value, Fixed) for value in values):
            return Fixed(np.concatenate([v.array for v in values], dim))  # type: ignore[union-attr]
        raise UnsupportedOperation("it joins parameters, without any sample")
    rank = len(sizes_of(values[0]))
    dim = positive(dim, rank)
    ready = [build.in_order(v) if isinstance(v, Tensor) else v for v in values]
    first = next(value for value in ready if isinstance(value, Tensor))
    build.require_no_batch(first, [dim])
    for value in ready:
        _require_like(first, value, dim)
    if len(ready) == 1:
        return first
    before, after = 1, 1
    for i, size in enumerate(first.sizes):
        before *= size.factor if i < dim else 1
        after *= size.factor if i > dim else 1
    lengths = [sizes_of(value)[dim].factor for value in ready]
    sources = [
        build.shaped(value.source, (before, length, after))
        if isinstance(value, Tensor)
        else build.table(value, (before, length, after))
        for value, length in zip(ready, lengths, strict=True)
    ]
    total = sum(lengths)
    source = build.add("concat", sources, (before, total, after), axis=2)
    dims = first.view.with_dim(dim, axes_of(total)).dims
    is_whole = all(isinstance(v, Tensor) and v.is_whole for v in ready)
    return Tensor(source, View(View((), dims).flat, dims), is_whole)


def _require_like(first: Tensor, value: Value, dim: int) -> None:
    """Refuse a value of other sizes; a table has size 1 where there are samples."""
    sizes = sizes_of(value)
    if len(sizes) == first.rank and all(
        size == other or (size == Size(1) and other == Size(1, True))
        for i, (size, other) in enumerate(zip(sizes, first.sizes, strict=True))
        if i != dim
    ):
        return
    raise UnsupportedOperation(
        f"{describe(first.sizes)} and {describe(sizes)} along dimension {dim}: "
        "unequal sizes"
    )


def embedding(
    build: ModelBuilder, ids: Value, table: Table, padding: int | None = None
) -> Value:
    """Return the rows of a table that ids name.

    Parameters
    ----------
    build : ModelBuilder
    ids : Value
        Of any shape.
    table : Table
        (rows, width)
    padding : int or None
        An id whose row gets no gradient.
    """
    rows, width = table.array.shape
    if isinstance(ids, Fixed):
        return table.taken(0, ids.array)
    if isinstance(ids, Table):
        if ids.is_trained:
            raise UnsupportedOperation("ids are trained")
        return table.taken(0, ids.array.astype(np.int64))
    x = build.in_order(ids)
    n = x.view.sample_size
    more: dict[str, Any] = (
        {} if padding is None or padding < 0 else {"padding_idx": padding}
    )
    source = build.add(
        "embedding",
        [build.shaped(x.source, (1, 1, n))],
        (1, n, width),
        weights={"weight": table},
        in_dim=rows,
        out_dim=width,
        **more,
    )
    last = axes_of(width)
    return Tensor(source, View((*x.view.order, *last), (*x.view.dims, last)))
