"""Samples and labels for models of one input or several, as options name them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arena_ckpt.cli.data_options import load_data
from arena_ckpt.cli.models import LoadedModel
from arena_ckpt.common.named_errors import named_errors
from arena_ckpt.common.wording import quote
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.data.loaders import is_table, open_samples
from arena_ckpt.errors import (
    DataError,
    DataShapeError,
    EmptyDataError,
    InvalidParameterError,
)
from arena_ckpt.files.npz import INPUT, LABEL, read_arrays
from arena_ckpt.graph.weight_inputs import weight_inputs
from arena_ckpt.model import Model

LABELS = "y"
"""Name of the labels in an .npz that has an array for each of several inputs."""


@dataclass(frozen=True, slots=True)
class NamedData:
    """Samples, and labels where there are any, with a name for people.

    Attributes
    ----------
    name : str
    x : ndarray, or dict from input layer to ndarray
    y : ndarray or None
    classes : tuple of str or None
        Names of the classes, by the numbers in `y`.
    """

    name: str
    x: Any
    y: Any
    classes: tuple[str, ...] | None = None

    @property
    def labelled(self) -> Any:
        """The samples with their labels, as `Model.evaluate` takes them."""
        if self.classes is None:
            return self.x, self.y
        return Dataset(self.name, self.x, self.y, self.classes)

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(next(iter(self.x.values())) if isinstance(self.x, dict) else self.x)


def data_to_predict(
    loaded: LoadedModel,
    spec: str,
    data: str | None,
    *,
    has_labels: bool,
    tables: Mapping[str, Any],
) -> NamedData:
    """Return the samples that --data names, or else those that came with MODEL.

    Of the latter the ones for validation come first, as the model was not trained on
    them. `tables` are options of `load_csv` for data that are a table.
    """
    if data is not None:
        inputs = _inputs(loaded.model)
        if len(inputs) > 1:
            return _several(data, inputs, loaded.model)
        options = tables if is_table(data) else None
        found = open_samples(data, has_labels=has_labels, table_options=options)
        return _named(data, found)
    own = loaded.validation or loaded.data
    if own is None:
        raise _no_data(spec)
    return _named(own.name, own)


def data_to_evaluate(
    loaded: LoadedModel, spec: str, data: tuple[str, ...], tables: Mapping[str, Any]
) -> list[NamedData]:
    """Return the data that --data names, or else all that came with MODEL.

    Classes with names get the numbers that the model has for them; labels that no loss
    takes are left out. `tables` are options of `load_csv` for those data that are
    tables.

    Raises
    ------
    InvalidParameterError
        Neither is there.
    DataError
        Data that cannot be read, or without labels.
    """
    inputs = _inputs(loaded.model)
    if data:
        found = [
            _several(one, inputs, loaded.model)
            if len(inputs) > 1
            else _numbered(loaded.model, one, load_data(one, tables))
            for one in data
        ]
    else:
        own = {"training data": loaded.data, "validation data": loaded.validation}
        found = [
            _numbered(loaded.model, name, one)
            for name, one in own.items()
            if one is not None
        ]
    if not found:
        raise _no_data(spec)
    if not loaded.model.compile().takes_labels:
        return [replace(one, y=None, classes=None) for one in found]
    for one in found:
        if one.y is None:
            raise EmptyDataError(
                f"{one.name} has no labels to compare with; 'predict' takes samples "
                "alone",
                name=one.name,
            )
    return found


def named_data(data: NamedData) -> contextlib.AbstractContextManager[None]:
    """Begin the message of a `DataError` in the block with the name of its data."""
    return named_errors(data.name, DataError)


@contextlib.contextmanager
def named_samples(
    loaded: LoadedModel, data: NamedData, *, has_labels: bool
) -> Iterator[None]:
    """Do as `named_data`, and name --no-labels where one column is missing or over."""
    try:
        with named_data(data):
            yield
    except DataShapeError as error:
        hint = _column_hint(loaded.model, data, has_labels=has_labels)
        raise DataShapeError(f"{error}{hint}", **vars(error)) from error


def _column_hint(model: Model, data: NamedData, *, has_labels: bool) -> str:
    if not is_table(data.name):
        return ""
    graph = model.compile()
    wanted = math.prod(graph.node(_inputs(model)[0]).spec.output_shapes[0])
    n_more = data.x.shape[1] - wanted
    if has_labels and n_more == -1:
        return (
            ". Its last column was taken for the label; --no-labels makes it a value "
            "of the sample"
        )
    if not has_labels and n_more == 1:
        return ". If its last column is the label, leave out --no-labels"
    return ""


def _inputs(model: Model) -> list[str]:
    """Return the inputs that data have to bring; weights of samples need not be."""
    graph = model.compile()
    weights = {*weight_inputs(graph).values()}
    return [n.name for n in graph.nodes if n.is_data and n.name not in weights]


def _named(name: str, data: Dataset) -> NamedData:
    return NamedData(name, data.x, data.y, data.classes)


def _numbered(model: Model, name: str, data: Dataset) -> NamedData:
    """Return data with the numbers that a model has for its classes."""
    if data.classes and model.classes:
        data = data.with_classes(model.classes)
    return _named(name, data)


def _several(spec: str, inputs: list[str], model: Model) -> NamedData:
    """Read an array for each input, and labels where there are any."""
    wanted = f"an .npz with an array for each of {quote(INPUT + i for i in inputs)}"
    if Path(spec).suffix.lower() != ".npz":
        raise InvalidParameterError(
            f"the model has {len(inputs)} inputs, and {spec} would be one; give "
            f"{wanted}, and with labels {LABELS!r}",
            spec=spec,
        )
    # x:NAME as load_npz reads it; NAME alone was written before that
    given = read_arrays(spec)
    arrays = {name.removeprefix(INPUT): array for name, array in given.items()}
    missing = [name for name in inputs if name not in arrays]
    if missing:
        raise InvalidParameterError(
            f"{spec} has no {quote(INPUT + name for name in missing)}; it has "
            f"{quote(given)}, and the model needs {wanted}",
            spec=spec,
            missing=tuple(missing),
        )
    weights = weight_inputs(model.compile()).values()
    x = {name: arrays[name] for name in (*inputs, *weights) if name in arrays}
    by_loss = {
        name.removeprefix(LABEL): array
        for name, array in given.items()
        if name.startswith(LABEL)
    }
    return NamedData(spec, x, by_loss or arrays.get(LABELS))


def _no_data(spec: str) -> InvalidParameterError:
    return InvalidParameterError(
        f"{spec} comes without data; give --data, for example --data digits or --data "
        "test.npz",
        model=spec,
    )
