"""How an ONNX operation is turned into layers: the table of rules, and what one sees.

A rule is a function of an `OnnxCall` that returns a value, or a tuple of them. The
modules `onnx_rules_*` add theirs to `RULES`, by families of operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder, describe, sizes_of
from arena_ckpt.importers.onnx_folding import Known, shape_of
from arena_ckpt.importers.onnx_graph import OnnxNode
from arena_ckpt.importers.onnx_joined import JoinedTable

Array = npt.NDArray[Any]
OnnxValue = Tensor | Table | Known
Result = Value | Known
Rule = Callable[["OnnxCall"], Result | tuple[Result | None, ...]]


@dataclass(frozen=True, slots=True)
class OnnxCall:
    """An operation that is imported, and what it reads.

    Attributes
    ----------
    builder : ModelBuilder
    node : OnnxNode
    inputs : tuple of Tensor, Table, Known or None
        None where one is left out.
    opset : int
    wanted : tuple of bool
        Which outputs something reads.
    export_batch : int or None
        The number of samples that the file was written for, where it states one.
    is_of_torch : bool
        PyTorch wrote the file.
    read : set of str and int
        The attributes and the places of inputs that the rule has looked at. What it
        has not, it does not know.
    """

    builder: ModelBuilder
    node: OnnxNode
    inputs: tuple[OnnxValue | None, ...]
    opset: int
    wanted: tuple[bool, ...]
    export_batch: int | None
    is_of_torch: bool = False
    read: set[str | int] = field(default_factory=set)

    def has(self, place: int) -> bool:
        """Whether an input is given."""
        return self.given(place) is not None

    def given(self, place: int) -> OnnxValue | None:
        """Return an input, or None where it is left out."""
        self.read.add(place)
        return self.inputs[place] if place < len(self.inputs) else None

    def value(self, place: int) -> Value:
        """Return an input; numbers that are known are the same for all samples.

        Raises
        ------
        UnsupportedOperation
            It is missing, or its size depends on the number of samples.
        """
        given = self.given(place)
        if given is None:
            raise UnsupportedOperation(f"its input {place} is missing")
        if isinstance(given, Known):
            return as_fixed(given)
        if isinstance(given, JoinedTable) and self.node.op not in _TAKES_JOINED:
            raise UnsupportedOperation(
                f"its input {place} is joined out of several weights ({given.name})"
            )
        return given

    def tensor(self, place: int) -> Tensor:
        """Return an input that has samples.

        Raises
        ------
        UnsupportedOperation
            It is a weight or known.
        """
        given = self.value(place)
        if not isinstance(given, Tensor):
            raise UnsupportedOperation(
                f"its input {place} is a weight or a constant, and would have to "
                "depend on the inputs of the model"
            )
        return given

    def known(self, place: int) -> Known:
        """Return an input that is known at import.

        Raises
        ------
        UnsupportedOperation
        """
        given = self.given(place)
        if isinstance(given, Table):
            return Known.of(given.array)
        if not isinstance(given, Known):
            raise UnsupportedOperation(
                f"its input {place} depends on the data, and has to be a constant"
            )
        return given

    def array(self, place: int) -> Array:
        """Return an input that is known at import and the same for every batch."""
        return self.known(place).constant

    def table(self, place: int) -> Table | Fixed:
        """Return an input that is a weight or constant.

        Raises
        ------
        UnsupportedOperation
            It depends on the inputs of the model.
        """
        given = self.value(place)
        if isinstance(given, Tensor):
            raise UnsupportedOperation(
                f"its input {place} depends on the inputs of the model, and has to be "
                "a weight or a constant"
            )
        return given

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or what it is where it is left out."""
        self.read.add(name)
        return self.node.attributes.get(name, default)

    @property
    def ignored(self) -> list[str]:
        """What the rule has not looked at, and would have to."""
        names = [name for name in self.node.attributes if name not in self.read]
        places = [
            f"input {place}"
            for place, given in enumerate(self.inputs)
            if given is not None and place not in self.read
        ]
        return [name for name in names if name not in _WITHOUT_MEANING] + places

    def ints(self, name: str, place: int | None = None) -> tuple[int, ...] | None:
        """Return whole numbers of an input, or of an attribute; None if left out."""
        if place is not None and self.has(place):
            return tuple(int(n) for n in self.array(place).ravel())
        given = self.attribute(name)
        return None if given is None else tuple(int(n) for n in given)


def as_fixed(known: Known) -> Fixed:
    """Return known numbers that are the same for all samples.

    Raises
    ------
    UnsupportedOperation
        They depend on the number of samples.
    """
    try:
        return Fixed(known.constant)
    except ValueError as error:
        uniform = known.uniform
        if uniform is not None:  # of ones or zeros one is enough: it is broadcast
            rank = known.arrays[0].ndim
            return Fixed(np.full((1,) * rank, uniform, known.arrays[0].dtype))
        raise UnsupportedOperation(f"its {error}") from error


_TAKES_JOINED = frozenset(
    (
        *("Concat", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"),
        *("Transpose", "Unsqueeze", "RNN", "LSTM", "GRU"),
    )
)
"""Operations whose rules keep track of weights that are joined."""

_WITHOUT_MEANING = frozenset(
    (
        *("kernel_shape", "hidden_size", "seed", "stash_type", "storage_order"),
        *("spatial", "softmax_precision", "saturate", "round_mode"),
    )
)
"""Attributes that repeat what weights say, or that change no value here."""

RULES: dict[str, Rule] = {}
"""The rule of each operation, by its name in ONNX."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Return a decorator that makes a function the rule of operations."""

    def add(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return add


def known_shape(value: Value | Known) -> Known:
    """Return the shape of any value, as `Shape` does."""
    if isinstance(value, Known):
        return Known(
            (
                np.array(value.arrays[0].shape, np.int64),
                np.array(value.arrays[1].shape, np.int64),
            )
        )
    return shape_of([(size.factor, size.batched) for size in sizes_of(value)])


def known_sizes(known: Known) -> tuple[Size, ...]:
    """Return known numbers as sizes.

    Raises
    ------
    UnsupportedOperation
        One depends on the number of samples without being a multiple of it.
    """
    try:
        return tuple(Size(*extent) for extent in known.extents)
    except ValueError as error:
        raise UnsupportedOperation(str(error)) from error


def axes_in(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Return dimensions counted from the front.

    Raises
    ------
    UnsupportedOperation
        There is no such dimension.
    """
    found = []
    for axis in axes:
        if not -rank <= axis < rank:
            raise UnsupportedOperation(f"it has no dimension {axis} of {rank}")
        found.append(int(axis) % rank)
    return tuple(found)


def plain_sizes(value: Value, dims: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return sizes that do not depend on the batch, of all or of some dimensions.

    Raises
    ------
    UnsupportedOperation
    """
    sizes = sizes_of(value)
    chosen = sizes if dims is None else [sizes[i] for i in dims]
    if any(size.batched for size in chosen):
        raise UnsupportedOperation(
            f"it needs a size that does not depend on the batch, of {describe(sizes)}"
        )
    return tuple(size.factor for size in chosen)


def n_of(value: Value) -> int:
    """Return the number of elements of a sample."""
    return prod(size.factor for size in sizes_of(value))


def weight_of(call: OnnxCall, place: int) -> Table:
    """Return an input as a weight of a layer; a constant is one that is not trained.

    Raises
    ------
    UnsupportedOperation
        It depends on the inputs of the model.
    """
    given = call.table(place)
    if isinstance(given, Table):
        return given
    return Table.of(call.node.inputs[place], given.array, is_trained=False)
