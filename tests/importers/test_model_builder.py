"""Random programs on tensors of any rank, built as a model and run by NumPy."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from arena_ckpt.importers import emit_elements, emit_parts
from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder

SAMPLES = 3
PROGRAMS = 400 if os.environ.get("ARENA_CKPT_FULL") else 60

Array = np.ndarray


@dataclass
class Program:
    """A model under construction, and what NumPy makes of the same operations."""

    rng: np.random.Generator
    build: ModelBuilder = field(default_factory=ModelBuilder)
    data: dict[str, Array] = field(default_factory=dict)
    values: list[tuple[Tensor, Array]] = field(default_factory=list)
    n_tables: int = 0

    def input(self) -> None:
        name = f"x{len(self.data)}"
        sizes = self.rng.choice([1, 2, 3, 4, 6], self.rng.integers(1, 4)).tolist()
        array = self.rng.normal(size=(SAMPLES, *sizes)).astype(np.float32)
        self.data[name] = array
        self.values.append((self.build.input(name, sizes, is_whole=False), array))

    def any(self) -> tuple[Tensor, Array]:
        newest = len(self.values) - 1
        at = newest if self.rng.random() < 0.7 else self.rng.integers(newest + 1)
        return self.values[at]

    def table(self, shape: tuple[int, ...]) -> tuple[Table | Fixed, Array]:
        array = self.rng.normal(size=shape).astype(np.float32)
        if self.rng.random() < 0.5:
            return Fixed(array), array
        self.n_tables += 1
        name = f"table{self.n_tables}"
        is_trained = bool(self.rng.random() < 0.5)
        return Table.of(name, array, is_trained=is_trained), array

    def keep(self, x: Any, array: Array) -> None:
        assert isinstance(x, Tensor)
        sizes = tuple(f * (SAMPLES if b else 1) for f, b in x.sizes)
        assert sizes == array.shape
        self.values.append((x, array))

    def batch_dim(self, x: Tensor) -> int:
        return next(i for i, size in enumerate(x.sizes) if size.batched)

    def free_dims(self, x: Tensor) -> list[int]:
        return [i for i, size in enumerate(x.sizes) if not size.batched]


def permute(p: Program) -> None:
    x, a = p.any()
    order = p.rng.permutation(x.rank).tolist()
    p.keep(p.build.permute(x, order), a.transpose(order))


def unsqueeze(p: Program) -> None:
    x, a = p.any()
    if x.rank < 5:
        at = int(p.rng.integers(x.rank + 1))
        p.keep(p.build.unsqueeze(x, at), np.expand_dims(a, at))


def expand(p: Program) -> None:
    x, a = p.any()
    ones = [i for i, size in enumerate(x.sizes) if size == Size(1)]
    if ones and a.size < 500:
        at = ones[0]
        sizes: list[Size | None] = [None] * x.rank
        sizes[at] = Size(2)
        p.keep(p.build.expand(x, sizes), np.repeat(a, 2, at))


def merge(p: Program) -> None:
    x, a = p.any()
    if x.rank > 2:
        at = int(p.rng.integers(x.rank - 1))
        one, two = x.sizes[at : at + 2]
        merged = Size(one.factor * two.factor, one.batched or two.batched)
        sizes = [*x.sizes[:at], merged, *x.sizes[at + 2 :]]
        shape = [f * (SAMPLES if b else 1) for f, b in sizes]
        p.keep(p.build.reshape(x, sizes), a.reshape(shape))


def part(p: Program) -> None:
    x, a = p.any()
    even = [i for i in p.free_dims(x) if x.sizes[i].factor % 2 == 0]
    if even:
        at = even[0]
        halves = [Size(2), Size(x.sizes[at].factor // 2)]
        sizes = [*x.sizes[:at], *halves, *x.sizes[at + 1 :]]
        shape = [f * (SAMPLES if b else 1) for f, b in sizes]
        p.keep(p.build.reshape(x, sizes), a.reshape(shape))


def shuffle(p: Program) -> None:
    """Exchange the outer and the inner part of a dimension."""
    x, a = p.any()
    even = [i for i in p.free_dims(x) if x.sizes[i].factor in (4, 6)]
    if even:
        at = even[0]
        n = x.sizes[at].factor
        order = [*range(at), at + 1, at, *range(at + 2, x.rank + 1)]
        sizes = [*x.sizes[:at], Size(2), Size(n // 2), *x.sizes[at + 1 :]]
        y = p.build.permute(p.build.reshape(x, sizes), order)
        shape = [f * (SAMPLES if b else 1) for f, b in sizes]
        p.keep(
            p.build.reshape(y, x.sizes),
            a.reshape(shape).transpose(order).reshape(a.shape),
        )


ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
}


def with_table(p: Program) -> None:
    x, a = p.any()
    shape = [
        1 if size.batched or p.rng.random() < 0.4 else size.factor for size in x.sizes
    ]
    shape = [
        int(p.rng.integers(1, 3))
        if n == 1 and not size.batched and size.factor == 1
        else n
        for n, size in zip(shape, x.sizes, strict=True)
    ]
    lead = min(p.batch_dim(x) + 1, x.rank) if p.rng.random() < 0.3 else 0
    shape = shape[lead:] if all(n == 1 for n in shape[:lead]) else shape
    table, b = p.table(tuple(shape))
    name = str(p.rng.choice(list(ARITHMETIC)))
    if p.rng.random() < 0.5:
        p.keep(emit_elements.binary(p.build, name, x, table), ARITHMETIC[name](a, b))
    else:
        p.keep(emit_elements.binary(p.build, name, table, x), ARITHMETIC[name](b, a))


def with_number(p: Program) -> None:
    x, a = p.any()
    name = str(p.rng.choice(list(ARITHMETIC)))
    number = Fixed(np.array(0.5, np.float32))
    function = ARITHMETIC[name]
    if p.rng.random() < 0.5:
        y, b = emit_elements.binary(p.build, name, x, number), function(a, number.array)
    else:
        y, b = emit_elements.binary(p.build, name, number, x), function(number.array, a)
    p.keep(y, b)


def with_another(p: Program) -> None:
    x, a = p.any()
    name = str(p.rng.choice(list(ARITHMETIC)))
    for y, b in p.values:
        try:
            result = ARITHMETIC[name](a, b)
        except ValueError:
            continue
        if result.size > 3000 or p.rng.random() < 0.3:
            continue
        p.keep(emit_elements.binary(p.build, name, x, y), result)
        return


def with_its_mean(p: Program) -> None:
    x, a = p.any()
    dims = [i for i in p.free_dims(x) if p.rng.random() < 0.6]
    if dims:
        mean = emit_elements.reduce(p.build, "reduce_mean", x, dims, keepdim=True)
        p.keep(
            emit_elements.binary(p.build, "subtract", x, mean),
            a - a.mean(tuple(dims), keepdims=True),
        )


REDUCTIONS: dict[str, Callable[..., Array]] = {
    "reduce_sum": np.sum,
    "reduce_mean": np.mean,
    "reduce_max": np.max,
    "norm": lambda a, dims, keepdims: np.sqrt((a * a).sum(dims, keepdims=keepdims)),
}


def reduce(p: Program) -> None:
    x, a = p.any()
    dims = [i for i in p.free_dims(x) if p.rng.random() < 0.5]
    if dims and x.rank - len(dims) >= 2:
        name = str(p.rng.choice(list(REDUCTIONS)))
        keep = bool(p.rng.random() < 0.5)
        p.keep(
            emit_elements.reduce(p.build, name, x, dims, keepdim=keep),
            REDUCTIONS[name](a, tuple(dims), keepdims=keep),
        )


def softmax(p: Program) -> None:
    x, a = p.any()
    if p.free_dims(x):
        dim = int(p.rng.choice(p.free_dims(x)))
        powers = np.exp(a - a.max(dim, keepdims=True))
        p.keep(
            emit_elements.softmax(p.build, x, dim),
            powers / powers.sum(dim, keepdims=True),
        )


def relu(p: Program) -> None:
    x, a = p.any()
    p.keep(emit_elements.function(p.build, x, "relu"), np.maximum(a, 0))


def cut(p: Program) -> None:
    x, a = p.any()
    wide = [i for i in p.free_dims(x) if x.sizes[i].factor > 1]
    if wide:
        dim = int(p.rng.choice(wide))
        n = x.sizes[dim].factor
        start = int(p.rng.integers(n))
        stop = int(p.rng.integers(start + 1, n + 1))
        place = (slice(None),) * dim
        if p.rng.random() < 0.3:
            p.keep(emit_parts.select(p.build, x, dim, start), a[(*place, start)])
        elif n % 2 == 0 and p.rng.random() < 0.4:
            p.keep(
                emit_parts.cut(p.build, x, dim, start % 2, n, 2),
                a[(*place, slice(start % 2, n, 2))],
            )
        else:
            p.keep(
                emit_parts.cut(p.build, x, dim, start, stop),
                a[(*place, slice(start, stop))],
            )


def split(p: Program) -> None:
    x, a = p.any()
    wide = [i for i in p.free_dims(x) if x.sizes[i].factor > 1]
    if wide:
        dim = int(p.rng.choice(wide))
        n = x.sizes[dim].factor
        sizes = [n // 2] * 2 if n % 2 == 0 else [n - 1, 1]
        parts = emit_parts.split(p.build, x, sizes, dim)
        pieces = np.split(a, [sizes[0]], dim)
        for part, piece in zip(parts, pieces, strict=True):
            p.keep(part, piece)
        # Each part has to be read by somebody.
        p.keep(
            emit_parts.concat(p.build, [parts[1], parts[0]], dim),
            np.concatenate([pieces[1], pieces[0]], dim),
        )


def concat(p: Program) -> None:
    x, a = p.any()
    if p.free_dims(x) and a.size < 1000:
        dim = int(p.rng.choice(p.free_dims(x)))
        y = emit_elements.function(p.build, x, "tanh")
        p.keep(
            emit_parts.concat(p.build, [x, y, x], dim),
            np.concatenate([a, np.tanh(a), a], dim),
        )


def linear(p: Program) -> None:
    x, a = p.any()
    if x.sizes[-1].batched:
        return
    width = x.sizes[-1].factor
    p.n_tables += 1
    weight = p.rng.normal(size=(3, width)).astype(np.float32)
    bias = p.rng.normal(size=3).astype(np.float32)
    y = emit_elements.linear(
        p.build,
        x,
        Table.of(f"w{p.n_tables}", weight, is_trained=True),
        Table.of(f"b{p.n_tables}", bias, is_trained=True),
    )
    p.keep(y, a @ weight.T + bias)


def product_with_itself(p: Program) -> None:
    x, a = p.any()
    if x.rank > 2 and p.batch_dim(x) < x.rank - 2 and a.size < 300:
        order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
        p.keep(
            emit_elements.matmul(p.build, x, p.build.permute(x, order)),
            a @ a.transpose(order),
        )


OPERATIONS = (
    *(permute, permute, unsqueeze, expand, merge, part, shuffle),
    *(with_table, with_number, with_another, with_its_mean),
    *(reduce, softmax, relu, cut, split, concat, linear, product_with_itself),
)


def run(seed: int, n_operations: int = 8) -> bool:
    """Run a program; return whether all its operations could be taken."""
    p = Program(np.random.default_rng(seed))
    p.input()
    if p.rng.random() < 0.4:
        p.input()
    for _ in range(n_operations):
        operation = OPERATIONS[p.rng.integers(len(OPERATIONS))]
        try:
            operation(p)
        except UnsupportedOperation:
            return False
    build = p.build
    read = [build.in_order(x) for x, _ in p.values]
    wanted = [in_memory(x, a) for x, (_, a) in zip(read, p.values, strict=True)]
    sources = dict.fromkeys(x.source for x in read)
    for source in sources:
        flat = build.shaped(source, (1, 1, int(np.prod(build.shape_of(source)))))
        build.model.add_layer(
            "mse", name=f"loss{len(build.model.layers)}", input_layers=flat
        )
    losses = [layer.name for layer in build.model.layers if layer.type_name == "mse"]
    build.model.start_from(build.start)
    build.model.set_property(batch_size=SAMPLES)
    build.model.initialize(mode="inference")
    shapes = {name: build.shape_of(name) for name in p.data}
    x = {name: a.reshape(SAMPLES, *shapes[name]) for name, a in p.data.items()}
    made: Any = build.model.predict(x if len(x) > 1 else next(iter(x.values())))
    if not isinstance(made, dict):
        made = {losses[0]: made}
    by_source = dict(zip(sources, (made[name] for name in losses), strict=True))
    for tensor, array in zip(read, wanted, strict=True):
        np.testing.assert_allclose(
            by_source[tensor.source].reshape(SAMPLES, -1),
            array,
            rtol=0,
            atol=1e-5 * max(1.0, *(float(np.abs(a).max()) for a in wanted)),
        )
    return True


def in_memory(x: Tensor, array: Array) -> Array:
    """Return the rows of samples that a tensor in the order of its dimensions has."""
    sizes: list[int] = []
    at = -1
    for dim in x.view.dims:
        for axis in dim:
            if axis.size == 0:
                at = len(sizes)
            sizes.append(axis.size or SAMPLES)
    whole = np.moveaxis(array.reshape(sizes), at, 0)
    return whole.reshape(SAMPLES, -1)


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_a_program_computes_what_numpy_does(seed: int) -> None:
    run(seed)


def test_few_programs_are_refused() -> None:
    assert sum(run(seed, n_operations=2) for seed in range(10)) >= 9
