"""Finds the inputs whose values are quantities, and what a feature of them is."""

from __future__ import annotations

from typing import Any

from arena_ckpt.common.wording import quote
from arena_ckpt.data.samples import Samples
from arena_ckpt.data.standardization import (
    CHANNEL,
    COLUMN,
    Standardization,
    statistics_of,
)
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.hints import Facts
from arena_ckpt.graph.masks import mask_tensors
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
        ``"column"``. Ids and masks are no quantities and left out.

    Notes
    -----
    O(layers + connections).
    """
    facts = Facts(graph)
    left_out = mask_tensors(graph) | _id_tensors(graph)
    found = {}
    for node in graph.nodes:
        if node.is_data and node.outputs[0] not in left_out:
            is_picture = node.outputs[0] in facts.read_as_picture
            found[node.name] = CHANNEL if is_picture else COLUMN
    return found


def input_shapes(graph: Graph) -> dict[str, Shape]:
    """Return the shape of a sample of each input layer."""
    return {n.name: n.spec.output_shapes[0] for n in graph.nodes if n.is_data}


def standardization_of(graph: Graph, x: Any) -> Standardization:
    """Return the statistics of samples that a model is to be trained on.

    Raises
    ------
    DataError
        They do not fit the model, or hold NaN or infinity.
    InvalidParameterError
        The model has no input of quantities.
    """
    shapes, axes = input_shapes(graph), feature_axes(graph)
    if not axes:
        raise InvalidParameterError(
            f"the inputs {quote(shapes)} are ids or masks, which are not standardized"
        )
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
