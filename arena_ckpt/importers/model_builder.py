"""Builds a model of ours out of operations on tensors of any rank.

The builder knows how tensors lie in memory and brings them into the order that a layer
needs. What the layers are is in the modules `emit_*`, by family: their functions take
the builder and values, and return values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from arena_ckpt.definition.weight_links import Step, WeightLink
from arena_ckpt.importers.foreign_axes import (
    BATCH,
    Axis,
    Size,
    View,
    axes_of,
    moves,
    resolved,
    size_of,
)
from arena_ckpt.importers.foreign_values import Array, Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.model import Model

Shape = tuple[int, int, int]

MIXES_SAMPLES = "it mixes samples, which are trained one beside the other"


class ModelBuilder:
    """Adds layers to a model, and remembers whose weights they have.

    Parameters
    ----------
    seed : int
        Of the model.

    Attributes
    ----------
    model : Model
    links : list of WeightLink
        A link for each weight that has a foreign one.
    start : dict from str to array
        What the weights start from.
    path : str
        Where in the foreign model the operation stands that is imported: the layers
        that are added are named after it.
    is_module : bool
        The operation is all that stands there, so a layer can have the path as name.
    """

    def __init__(self, seed: int = 0) -> None:
        self.model = Model(seed)
        self.links: list[WeightLink] = []
        self.start: dict[str, Array] = {}
        self.path = ""
        self.is_module = False
        self._names: set[str] = set()
        self._shapes: dict[str, Shape] = {}
        self._shaped: dict[tuple[str, Shape], str] = {}
        self._ordered: dict[tuple[str, tuple[Axis, ...], tuple[Axis, ...]], str] = {}
        self._tables: dict[object, str] = {}
        self._owners: dict[object, str] = {}

    # Layers

    def input(self, name: str, sizes: Sequence[int], *, is_whole: bool) -> Tensor:
        """Add an input; `sizes` is the shape of a sample in the other framework."""
        view = View.of_sample(sizes)
        shape = input_shape(sizes)
        source = self._add("input", name, (), shape, {"input_shape": shape})
        return Tensor(source, view, is_whole)

    def add(
        self,
        type_name: str,
        inputs: Sequence[str],
        shape: Shape,
        *,
        suffix: str = "",
        weights: Mapping[str, Table | Fixed] | None = None,
        states: Mapping[str, Table] | None = None,
        **properties: Any,
    ) -> str:
        """Add a layer and return its name.

        Parameters
        ----------
        type_name : str
        inputs : sequence of str
            Layers, or ``layer(k)``.
        shape : (channel, height, width)
            Of its first output.
        suffix : str
            What its name says beside the path, where it is not the module itself.
        weights : mapping of str to Table or Fixed, optional
            Its weights by our names, in our shapes. A layer of the same type that has
            them already is named in `shared_from`.
        states : mapping of str to Table, optional
            Weights that are never trained: running statistics.
        **properties

        Returns
        -------
        str
        """
        given = dict(weights or {})
        tables = {k: w for k, w in given.items() if isinstance(w, Table)}
        trained = {table.is_trained for table in tables.values()}
        given |= states or {}
        if len(trained) > 1 and LAYER_TYPES[type_name].trains_by_weight:
            properties["train"] = tuple(k for k, w in tables.items() if w.is_trained)
        elif len(trained) > 1:
            frozen = [t.name for t in tables.values() if not t.is_trained]
            raise UnsupportedOperation(
                f"{', '.join(frozen)} is frozen and its neighbours are trained; set "
                "requires_grad of all weights of a module alike"
            )
        if trained == {False}:
            properties["trainable"] = False
        key = (type_name, tuple((k, w.name, w.steps) for k, w in tables.items()))
        owner = self._owners.get(key) if tables else None
        if owner is not None:
            properties["shared_from"] = owner
        name = self._add(
            type_name, self._new_name(suffix or type_name), inputs, shape, properties
        )
        if owner is not None:
            return name
        if tables:
            self._owners[key] = name
        for ours, value in given.items():
            self._start_from(f"{name}:{ours}", value)
        return name

    def _start_from(self, weight: str, value: Table | Fixed) -> None:
        """Give a weight of ours its values, and remember whose they are."""
        self.start[weight] = np.ascontiguousarray(value.array, np.float32)
        if isinstance(value, Table):
            self.links.append(
                WeightLink(weight, value.name, value.whole_shape, value.steps)
            )

    def sampled(self, value: Table | Fixed) -> Tensor:
        """Return a table as a tensor of which each sample has a copy.

        None of its dimensions is the batch.
        """
        shape = input_shape(value.array.shape)
        source = self._add(
            "expand",
            self._helper_name("expand"),
            [self.table(value, shape)],
            shape,
            {},
        )
        dims = View.of_sample(value.array.shape).dims[1:]
        return Tensor(source, View(View((), dims).flat, dims))

    def _tied(self, weight: Table) -> str | None:
        if not _is_transposition(weight):
            return None
        key = ("embedding", (("weight", weight.name, weight.steps[:-1]),))
        return self._owners.get(key)

    def add_dense(
        self, inputs: Sequence[str], shape: Shape, weights: Mapping[str, Table]
    ) -> str:
        """Add a fully connected layer, tied to an embedding that has its weight."""
        weight = weights["weight"]
        more: dict[str, Any] = {"unit": shape[2]}
        if "bias" not in weights:
            more["bias"] = False
        tied = self._tied(weight)
        if tied is None:
            return self.add("fully_connected", inputs, shape, weights=weights, **more)
        name = self.add(
            "fully_connected", inputs, shape, shared_from=tied, transpose=True, **more
        )
        if "bias" in weights:
            bias = weights["bias"].reshaped((1, 1, shape[2]))
            self._start_from(f"{name}/bias:weight", bias)
        return name

    def shape_of(self, source: str) -> Shape:
        """Return the channel:height:width of an output."""
        return self._shapes[source]

    def output_of(self, name: str, number: int, shape: Shape) -> str:
        """Return the source of a further output of a layer."""
        source = name if number == 0 else f"{name}({number})"
        self._shapes[source] = shape
        return source

    def _add(
        self,
        type_name: str,
        name: str,
        inputs: Sequence[str],
        shape: Shape,
        properties: Mapping[str, Any],
    ) -> str:
        more = {"input_layers": list(inputs)} if inputs else {}
        self.model.add_layer(type_name, name=name, **more, **properties)
        self._names.add(name.lower())
        self._shapes[name] = shape
        return name

    def _new_name(self, suffix: str) -> str:
        """Return a name that no layer has: the path, or the path and more."""
        name = self.path
        if not self.is_module or not name or name.lower() in self._names:
            name = f"{self.path}/{suffix}" if self.path else suffix
        base, i = name, 1
        while name.lower() in self._names:
            i += 1
            name = f"{base}_{i}"
        return name

    # Memory

    def shaped(self, source: str, shape: Shape) -> str:
        """Return an output under another channel:height:width; no element moves."""
        if self._shapes[source] == shape:
            return source
        key = (source, shape)
        if key not in self._shaped:
            name = self._helper_name("reshape")
            self._shaped[key] = self._add(
                "reshape", name, [source], shape, {"target_shape": shape}
            )
        return self._shaped[key]

    def _helper_name(self, suffix: str) -> str:
        """Return a name for a layer that only brings an output into a form."""
        before, self.is_module = self.is_module, False
        try:
            return self._new_name(suffix)
        finally:
            self.is_module = before

    def ordered(self, x: Tensor, wanted: Sequence[Axis]) -> Tensor:
        """Return a tensor whose axes lie in memory in another order.

        Parameters
        ----------
        x : Tensor
        wanted : sequence of Axis
            All axes of its memory.
        """
        wanted = tuple(wanted)
        if wanted == x.view.order:
            return x
        key = (x.source, x.view.order, wanted)
        if key not in self._ordered:
            source = x.source
            for groups, permutation in moves(x.view.order, wanted):
                sizes = [size_of(group).factor for group in groups]
                lead = 3 - len(sizes)
                source = self._add(
                    "permute",
                    self._helper_name("permute"),
                    [self.shaped(source, padded(sizes))],
                    padded([sizes[i] for i in permutation]),
                    {
                        "direction": [
                            *range(1, lead + 1),
                            *(i + lead + 1 for i in permutation),
                        ]
                    },
                )
            self._ordered[key] = source
        return replace(x, source=self._ordered[key], view=View(wanted, x.view.dims))

    def written(self, x: Tensor) -> Tensor:
        """Return a tensor in which all that is repeated has a place in memory.

        A product with ones is exact, and its derivative is the sum over the repeats.
        """
        for axis in x.view.flat:
            if not axis.is_repeated:
                continue
            n, inner = axis.size, x.view.sample_size
            ones = self.table(Fixed(np.ones((1, n, 1), np.float32)), (1, n, 1))
            source = self._add(
                "multiply",
                self._helper_name("repeat"),
                [self.shaped(x.source, (1, 1, inner)), ones],
                (1, n, inner),
                {},
            )
            real = Axis(n)
            dims = tuple(
                tuple(real if a is axis else a for a in dim) for dim in x.view.dims
            )
            x = replace(x, source=source, view=View((real, *x.view.order), dims))
        return x

    def in_order(self, x: Tensor) -> Tensor:
        """Return a tensor whose axes lie as its dimensions, wherever the batch is."""
        x = self.written(x)
        return self.ordered(x, x.view.flat)

    def plain(self, x: Tensor) -> Tensor:
        """Return a tensor that lies in memory as a contiguous foreign one.

        Raises
        ------
        UnsupportedOperation
            The batch is not its first dimension, so this would mix samples.
        """
        if not x.view.batch_first:
            raise UnsupportedOperation(
                f"it needs the batch as first dimension, of {describe(x.sizes)}"
            )
        return self.in_order(x)

    def with_tail(self, x: Tensor, tail: Sequence[int]) -> Tensor:
        """Return a tensor in whose memory some dimensions come last, in this order.

        The others keep the order that they have.
        """
        self.require_no_batch(x, tail)
        x = self.written(x)
        last = [axis for i in tail for axis in x.view.dims[i]]
        return self.ordered(x, [a for a in x.view.order if a not in last] + last)

    def around(
        self, x: Tensor, dims: Sequence[int], *, any_order: bool = False
    ) -> tuple[Tensor, Shape]:
        """Return a tensor in which dimensions lie as one stretch, and its three sizes.

        Parameters
        ----------
        x : Tensor
        dims : sequence of int
        any_order : bool
            Their axes may lie in any order, as for a sum; else in that of `dims`.

        Returns
        -------
        (Tensor, (before, size, after))
            The stretch is the height of the shape.
        """
        self.require_no_batch(x, dims)
        x = self.written(x)
        wanted = [axis for i in dims for axis in x.view.dims[i]]
        found = [axis for axis in x.view.order if axis in wanted]
        first = x.view.order.index(found[0]) if found else len(x.view.order)
        last = first + len(found)
        is_one_stretch = list(x.view.order[first:last]) == found
        if not is_one_stretch or not (any_order or found == wanted):
            x = self.with_tail(x, dims)
            first, last = len(x.view.order) - len(found), len(x.view.order)
        order = x.view.order
        return x, (
            size_of(order[:first]).factor,
            size_of(order[first:last]).factor,
            size_of(order[last:]).factor,
        )

    def require_no_batch(self, x: Tensor, dims: Sequence[int]) -> None:
        """Refuse an operation along a dimension that holds samples.

        Raises
        ------
        UnsupportedOperation
        """
        for i in dims:
            if BATCH in x.view.dims[i]:
                raise UnsupportedOperation(f"{MIXES_SAMPLES} (dimension {i})")

    # Shapes

    def reshape(self, x: Value, sizes: Sequence[Size | None]) -> Value:
        """Return the same elements in other dimensions; None is worked out.

        Raises
        ------
        UnsupportedOperation
            A dimension would hold parts of several samples.
        """
        if not isinstance(x, Tensor):
            shape = [-1 if size is None else size.factor for size in sizes]
            return with_shape(x, np.empty(x.array.shape, bool).reshape(shape).shape)
        total = Size(
            size_of(x.view.flat).factor,
            any(BATCH in dim for dim in x.view.dims),
        )
        wanted = resolved(sizes, total)
        if wanted is None:
            raise UnsupportedOperation(
                f"{describe(x.sizes)} cannot become "
                f"{describe([Size(-1) if s is None else s for s in sizes])}"
            )
        view = x.view.regrouped(wanted)
        if view is None:
            # A file for one sample has the batch in no dimension.
            x = self.plain(x) if total.batched else self.in_order(x)
            view = _merged(x).regrouped(wanted)
        if view is None:
            raise UnsupportedOperation(
                f"{describe(x.sizes)} as {describe(wanted)}: {MIXES_SAMPLES}"
            )
        return x.seen(view)

    def permute(self, x: Value, order: Sequence[int]) -> Value:
        """Return a tensor with its dimensions in another order."""
        if isinstance(x, Tensor):
            return x.seen(x.view.permuted(order))
        if isinstance(x, Table):
            return x.permuted(order)
        return Fixed(x.array.transpose(order))

    def squeeze(self, x: Value, dims: Sequence[int]) -> Value:
        """Return a tensor without those of the dimensions that have size 1."""
        keep = [
            i for i, size in enumerate(sizes_of(x)) if i not in dims or size != Size(1)
        ]
        return self.reshape(x, [sizes_of(x)[i] for i in keep])

    def unsqueeze(self, x: Value, at: int) -> Value:
        """Return a tensor with a dimension of size 1 before the one numbered `at`."""
        sizes = list(sizes_of(x))
        sizes.insert(at, Size(1))
        return self.reshape(x, sizes)

    def expand(self, x: Value, sizes: Sequence[Size | None]) -> Value:
        """Return a tensor repeated along dimensions of size 1; None keeps a size."""
        if not isinstance(x, Tensor):
            shape = (1,) * (len(sizes) - x.array.ndim) + x.array.shape
            x = with_shape(x, shape)
            for i, size in enumerate(sizes):
                # Samples repeat a table by themselves.
                if size and not size.batched and shape[i] != size.factor:
                    x = _repeated(x, i, size.factor)
            return x
        view = x.view.with_rank(len(sizes))
        for i, size in enumerate(sizes):
            if size is None or view.sizes[i] == size:
                continue
            if (
                size == Size(1, True)
                and not view.dims[i]
                and BATCH not in sum(view.dims, ())
            ):
                view = view.with_dim(i, (BATCH,))  # each sample has it already
                continue
            if view.dims[i] or size.batched:
                raise UnsupportedOperation(
                    f"{describe(view.sizes)} cannot be repeated to "
                    f"{describe([s or Size(-1) for s in sizes])}"
                )
            view = view.repeated(i, size.factor)
        return x.seen(view)

    # Tables

    def table(self, value: Table | Fixed, shape: Shape) -> str:
        """Return the layer `weight` or `constant` that holds a table in a shape."""
        key: object
        if isinstance(value, Table):
            value = value.reshaped(shape)
            key = (value.name, value.steps)
        else:
            key = (shape, value.array.astype(np.float32).tobytes())
        if key in self._tables:
            return self._tables[key]
        constant = {"dim": shape, "value": value.array.astype(np.float32)}
        if isinstance(value, Fixed):
            own_name = self._helper_name("constant")
            name = self._add("constant", own_name, (), shape, constant)
        else:
            before = self.path, self.is_module
            self.path, self.is_module = value.name, True
            if value.is_trained:
                weights = {"weight": value}
                name = self.add("weight", (), shape, dim=shape, weights=weights)
            else:
                own_name = self._new_name("constant")
                name = self._add("constant", own_name, (), shape, constant)
                self._start_from(f"{name}:value", value)
            self.path, self.is_module = before
        self._tables[key] = name
        return name


def input_shape(sizes: Sequence[int]) -> Shape:
    """Return the channel:height:width of a sample of any rank, row by row."""
    front, rest = sizes[: max(0, len(sizes) - 2)], sizes[max(0, len(sizes) - 2) :]
    return padded([int(np.prod(front, dtype=int)), *rest] if front else list(rest))


def padded(sizes: Sequence[int]) -> Shape:
    """Return up to three sizes with ones in front."""
    one, two, three = (1,) * (3 - len(sizes)) + tuple(sizes)
    return one, two, three


def _is_transposition(weight: Table) -> bool:
    return bool(weight.steps) and weight.steps[-1] == Step("permute", (1, 0))


def _merged(x: Tensor) -> View:
    """Return the view of a plain tensor whose sample is one axis."""
    axes = axes_of(x.view.sample_size)
    return View(axes, ((BATCH,), axes) if x.view.batch_first else (axes,))


def _repeated(value: Table | Fixed, axis: int, size: int) -> Table | Fixed:
    if isinstance(value, Table):
        return value.taken(axis, [0] * size)
    return Fixed(np.repeat(value.array, size, axis))


def with_shape(value: Table | Fixed, shape: Sequence[int]) -> Table | Fixed:
    """Return a table or known numbers in another shape."""
    if isinstance(value, Table):
        return value.reshaped(shape)
    return Fixed(value.array.reshape(shape))


def sizes_of(value: Value) -> tuple[Size, ...]:
    """Return the shape of any value."""
    if isinstance(value, Tensor):
        return value.sizes
    return tuple(Size(n) for n in value.array.shape)


def describe(sizes: Sequence[Size]) -> str:
    """Write a shape for a message: ``(batch, 3, 32)``."""
    words = []
    for factor, batched in sizes:
        if not batched:
            words.append(str(factor))
        else:
            words.append("batch" if factor == 1 else f"{factor}*batch")
    return f"({', '.join(words)})"


def positive(dim: int, rank: int) -> int:
    """Return a dimension counted from the front."""
    return dim + rank if dim < 0 else dim
