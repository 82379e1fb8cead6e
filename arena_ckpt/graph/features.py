"""Finds the inputs whose values are quantities, and what a feature of them is."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from arena_ckpt.common.wording import quote
from arena_ckpt.data.samples import Samples
from arena_ckpt.data.standardization import (
    CHANNEL,
    COLUMN,
    Standardization,
    statistics_of,
)
from arena_ckpt.data.weighted_samples import by_input
from arena_ckpt.errors import InvalidParameterError, StateError
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.hints import Facts
from arena_ckpt.graph.masks import mask_tensors
from arena_ckpt.graph.weight_inputs import weight_inputs
from arena_ckpt.layers.shape import Input
from arena_ckpt.layers.spec import Shape


def feature_axes(graph: Graph) -> dict[str, str]:
    """Return for each input of quantities what a feature is.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    dict from str to str
        By input layer: ``"channel"`` where a layer of pictures reads it, else
        ``"column"``. Ids, masks and weights of samples are no quantities and left out.

    Notes
    -----
    O(layers + connections).
    """
    facts = Facts(graph)
    left_out = mask_tensors(graph) | _id_tensors(graph)
    left_out |= {f"{name}:out0" for name in weight_inputs(graph).values()}
    found = {}
    for node in graph.nodes:
        if node.is_data and node.outputs[0] not in left_out:
            is_picture = node.outputs[0] in facts.read_as_picture
            found[node.name] = CHANNEL if is_picture else COLUMN
    return found


def input_shapes(graph: Graph) -> dict[str, Shape]:
    """Return the shape of a sample of each input layer."""
    return {n.name: n.spec.output_shapes[0] for n in graph.nodes if n.is_data}


def asked_inputs(graph: Graph) -> tuple[str, ...]:
    """Return the inputs that have ``standardization=true``.

    Raises
    ------
    InvalidParameterError
        One of them is ids or a mask.
    """
    asked = tuple(
        node.name
        for node in graph.nodes
        if isinstance(node.layer, Input) and node.layer["standardization"]
    )
    if not asked:
        return asked
    unfit = [name for name in asked if name not in feature_axes(graph)]
    if unfit:
        raise InvalidParameterError(
            f"the inputs {quote(unfit)} are ids or masks, which are not standardized; "
            "take standardization=true away from them",
            layers=tuple(unfit),
        )
    return asked


def require_statistics(graph: Graph, held: Standardization | None, what: str) -> None:
    """Refuse to load samples that are to be standardized while nobody knows how.

    Parameters
    ----------
    graph : Graph
    held : Standardization or None
        The statistics that the model has.
    what : str
        What is called, for the message.

    Raises
    ------
    StateError
        An input has ``standardization=true``, and no statistics yet.
    """
    missing = _without_statistics(graph, held)
    if missing:
        raise StateError(
            f"{what} needs the statistics of {quote(missing)}, which has "
            "standardization=true and was not trained yet: they are those of the data "
            "that train() is given first; call train() or standardize(training_data) "
            "before, or begin with a saved model that was trained",
            what=what,
            layers=missing,
        )


def with_asked_statistics(
    graph: Graph, held: Standardization | None, x: Any
) -> Standardization | None:
    """Return the statistics of a model at its first training.

    Parameters
    ----------
    graph : Graph
    held : Standardization or None
        Statistics that the model has already, and keeps.
    x : array_like or dict of array_like
        The samples of that training.

    Raises
    ------
    DataError, InvalidParameterError
        See `standardization_of`.
    """
    missing = _without_statistics(graph, held)
    if not missing:
        return held
    found = standardization_of(graph, x, missing)
    return found if held is None else Standardization(held.inputs | found.inputs)


def _without_statistics(graph: Graph, held: Standardization | None) -> tuple[str, ...]:
    known = held.inputs if held is not None else {}
    return tuple(name for name in asked_inputs(graph) if name not in known)


def standardization_of(
    graph: Graph, x: Any, only: Collection[str] | None = None
) -> Standardization:
    """Return the statistics of samples that a model is to be trained on.

    Parameters
    ----------
    graph : Graph
    x : array_like or dict of array_like
    only : collection of str, optional
        Inputs to take statistics of; by default all of quantities.

    Raises
    ------
    DataError
        They do not fit the model, or hold NaN or infinity.
    InvalidParameterError
        The model has no input of quantities.
    """
    shapes, axes = input_shapes(graph), feature_axes(graph)
    if only is not None:
        axes = {name: axis for name, axis in axes.items() if name in only}
    if not axes:
        raise InvalidParameterError(
            f"the inputs {quote(shapes)} are ids or masks, which are not standardized"
        )
    if weights := weight_inputs(graph):
        x = by_input(x, shapes, weights)
        for name in {*weights.values()}:
            x.pop(name, None)
            del shapes[name]
    masks = frozenset(n for n in shapes if f"{n}:out0" in mask_tensors(graph))
    samples = Samples.check(
        x,
        None,
        inputs=shapes,
        output_shape=graph.prediction_shape,
        loss=None,
        reading=None,
        masks=masks,
    )
    if samples.is_looked_at_later:
        samples.raise_nonfinite()
    return statistics_of(samples.inputs, shapes, axes)


def _id_tensors(graph: Graph) -> set[str]:
    """Return the outputs of layers that bring ids; only movers may stand between."""
    ids: set[str] = set()
    for node in reversed(graph.nodes):
        for one in node.spec.id_inputs:
            ids.add(node.sources[one.index])
        if not ids.isdisjoint(node.outputs):
            ids.update(node.sources)
    return ids
