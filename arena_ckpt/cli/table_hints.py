"""Names the option that reads a table otherwise, where its data do not fit a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from arena_ckpt.common.short_repr import counted
from arena_ckpt.data.loaders import is_table
from arena_ckpt.errors import (
    DataError,
    DataShapeError,
    DataTypeError,
    LabelRangeError,
)
from arena_ckpt.graph.features import input_shapes
from arena_ckpt.model import Model


class Read(Protocol):
    """What was read of a table: a `Dataset`, or what the commands make of it."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def x(self) -> Any: ...  # noqa: D102

    @property
    def y(self) -> Any: ...  # noqa: D102

    @property
    def classes(self) -> tuple[str, ...] | None: ...  # noqa: D102


@contextmanager
def table_hints(model: Model, *data: tuple[str | None, Read | None]) -> Iterator[None]:
    """End the messages of errors in the block with an option, where one may help.

    Parameters
    ----------
    model : Model
    *data : pair of str or None, and Read or None
        What an option named, and what was read.
    """
    try:
        yield
    except DataError as error:
        tables = [read for spec, read in data if read and spec and is_table(spec)]
        hints = [hint for one in tables if (hint := _hint(error, one, model))]
        if not hints:
            raise
        raise type(error)(f"{error}. {hints[0]}", **vars(error)) from error


def _hint(error: DataError, data: Read, model: Model) -> str:
    if isinstance(error, LabelRangeError):
        return _renumbered(data)
    if isinstance(error, DataTypeError) and data.y is not None:
        return _label_first(data)
    if isinstance(error, DataShapeError):
        return _other_columns(data, model)
    return ""


def _label_first(data: Read) -> str:
    """Name the first column, where it looks like classes and the last does not."""
    first = data.x[:, 0]
    if data.y.dtype.kind != "f" or not _are_whole(first):
        return ""
    n_kinds = len(np.unique(first))
    if n_kinds == 1 or 2 * n_kinds > len(first):
        return ""
    return (
        f"The last column of {data.name} was taken for the labels, and the first has "
        f"{n_kinds:,} whole numbers: if they are the classes, say --label-column first"
    )


def _renumbered(data: Read) -> str:
    if data.classes is not None:
        return (
            f"{data.name} has names of {len(data.classes):,} classes; the last layer "
            "needs a unit for each"
        )
    return (
        f"If the {len(np.unique(data.y)):,} numbers in the label column of {data.name} "
        "are names of classes, --label-names numbers them from 0"
    )


def _other_columns(data: Read, model: Model) -> str:
    shapes = input_shapes(model.compile())
    if len(shapes) > 1 or isinstance(data.x, dict):
        return ""
    n_columns, wanted = data.x.shape[1], math.prod(next(iter(shapes.values())))
    if n_columns == wanted or data.y is None:
        return ""
    shown = (
        f"{data.name} has {counted(n_columns, 'column')} beside the labels, and the "
        f"model takes {wanted:,}"
    )
    if n_columns < wanted:
        return (
            f"{shown}: set input_shape=1:1:{n_columns} at its input layer, or say "
            "which column has the labels, --label-column NAME or none"
        )
    ways = [f"set input_shape=1:1:{n_columns} at its input layer"]
    n_more = n_columns - wanted
    if n_more == 1:
        ways.append("leave a column out with --index-column NAME")
    ways.append(
        f"take the last {n_more + 1} for values to predict with --targets {n_more + 1}"
    )
    return f"{shown}: {', or '.join(ways)}"


def _are_whole(values: Any) -> bool:
    return bool((np.trunc(values) == values).all())
