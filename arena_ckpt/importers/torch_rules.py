"""How an operation of PyTorch becomes layers: the table of rules, and what runs them.

A rule takes a `Call`, adds layers with the functions of the `emit_*` modules, and
returns what the operation stands for. Operations on numbers that are known, such as
masks and tables of positions, are run by PyTorch at the import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.common.wording import quoted
from arena_ckpt.importers.foreign_axes import BATCH, Size
from arena_ckpt.importers.foreign_graph import (
    ForeignNode,
    TensorType,
)
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder, sizes_of


@dataclass(frozen=True, slots=True)
class BatchSum:
    """A sum or a mean over the samples of what a layer makes of each.

    Attributes
    ----------
    of_sample : Tensor
        One number for each sample.
    is_mean : bool
    """

    of_sample: Tensor
    is_mean: bool


@dataclass(frozen=True, slots=True)
class Noise:
    """Random numbers that keep something with a probability, and drop it else.

    Attributes
    ----------
    keep : float or None
        The probability; None of numbers spread evenly from `shift` to `shift` + 1.
    shift : float
    factor : float
        What is kept is multiplied by this.
    sizes : tuple of Size
        The shape of the numbers.
    """

    keep: float | None
    shift: float
    factor: float
    sizes: tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """An operation that a rule turns into layers.

    Attributes
    ----------
    build : ModelBuilder
        Adds layers; functions of the `emit_*` modules take it.
    node : ForeignNode
    args : mapping
        Arguments by PyTorch's names: a `Tensor`, a `Table` or a `Fixed` for a tensor,
        Python's values for others, and a `Size` for a number of samples.
    parts_read : frozenset of int or None
        Which of several results are read; None where all are asked for as one.
    """

    build: ModelBuilder
    node: ForeignNode
    args: Mapping[str, Any]
    parts_read: frozenset[int] | None = None

    def __getitem__(self, name: str) -> Any:
        return self.args[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument, or a default where the operation does not have it."""
        return self.args.get(name, default)

    def tensor(self, name: str) -> Tensor:
        """Return an argument as the output of a layer.

        Each sample has its own copy of what is a parameter or known.

        Raises
        ------
        UnsupportedOperation
            It is none, is random, or is a sum over samples.
        """
        value = self.value(name)
        if isinstance(value, Tensor):
            return value
        made = self.build.sampled(value)
        result = self.node.result
        if isinstance(result, TensorType) and made.rank == len(result.shape):
            for dim, (size, wanted) in enumerate(
                zip(made.sizes, result.shape, strict=True)
            ):
                if size == Size(1) and wanted == Size(1, True):
                    return made.seen(made.view.with_dim(dim, (BATCH,)))
        return made

    def value(self, name: str) -> Value:
        """Return an argument as a value; a number becomes a `Fixed`.

        Raises
        ------
        UnsupportedOperation
            It is none, is random, or is a sum over samples.
        """
        return as_value(self.args[name], name)

    def table(self, name: str) -> Table | None:
        """Return an argument that is a parameter or a buffer, or None.

        Raises
        ------
        UnsupportedOperation
            It depends on the samples, or was computed.
        """
        return as_table(self.args[name], name)


def as_value(given: Any, name: str) -> Value:
    """Return an argument as a value; see `Call.value`."""
    if isinstance(given, Tensor | Table | Fixed):
        return given
    if isinstance(given, bool | int | float):
        return Fixed(np.array(given))
    if isinstance(given, BatchSum):
        raise UnsupportedOperation(
            "its input is reduced over the batch, and samples are trained one beside "
            "the other; only the loss is a mean over samples"
        )
    if isinstance(given, Noise):
        raise UnsupportedOperation(
            "its input is random; dropout, and what drops a branch, are imported as "
            "a product alone"
        )
    if isinstance(given, Size):
        raise UnsupportedOperation("it computes with the number of samples")
    raise UnsupportedOperation(f"its {name} is {quoted(given)}")


def as_table(given: Any, name: str) -> Table | None:
    """Return an argument that is a table or None; see `Call.table`."""
    if given is None or isinstance(given, Table):
        return given
    raise UnsupportedOperation(
        f"its {name} is computed; a weight has to be a parameter or buffer itself"
    )


Rule = Callable[[Call], Any]
RULES: dict[str, Rule] = {}
"""The rule of each operation, by its name without an underscore behind."""


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of some operations."""

    def put(function: Rule) -> Rule:
        for op in ops:
            assert op not in RULES, op
            RULES[op] = function
        return function

    return put


def pair(value: Any) -> tuple[int, int]:
    """Return two numbers where one or two are given; of one dimension the second."""
    numbers = value if isinstance(value, tuple) else (value, value)
    if len(numbers) == 1:
        return (int(numbers[0]), int(numbers[0]))
    return int(numbers[0]), int(numbers[1])


def dims_of(given: Any, rank: int) -> list[int]:
    """Return dimensions counted from the front; all where none are given."""
    if given is None or given == ():
        return list(range(rank))
    dims = given if isinstance(given, tuple) else (given,)
    return [dim % rank for dim in dims]


def sizes_from(given: Sequence[Any]) -> list[Size | None]:
    """Return sizes as the builder takes them; -1 is None."""
    sizes: list[Size | None] = []
    for one in given:
        if isinstance(one, Size):
            sizes.append(one)
        elif isinstance(one, Fixed):
            sizes.append(Size(int(one.array)))
        else:
            sizes.append(None if one == -1 else Size(int(one)))
    return sizes


def rank_of(value: Value) -> int:
    """Return the number of dimensions of a value."""
    return len(sizes_of(value))
