"""Finds the inputs of a model that bring nothing but weights of samples."""

from __future__ import annotations

from typing import Any

from arena_ckpt.data.weighted_samples import with_weights
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.lone_samples import with_absent_labels


def weight_inputs(graph: Graph) -> dict[str, str]:
    """Return for each loss the input layer of its sample weights.

    Losses without are left out, and inputs that something else reads as well. An input
    of weights may be left out of the data: each sample counts once then.
    """
    inputs = {node.outputs[0]: node.name for node in graph.nodes if node.is_data}
    others = {
        source
        for node in graph.nodes
        if not node.layer.is_alias
        for index, source in enumerate(node.sources)
        if not (node.layer.is_loss and index == 1)
    }
    return {
        node.name: inputs[node.sources[1]]
        for node in graph.losses
        if len(node.sources) > 1
        and node.sources[1] in inputs
        and node.sources[1] not in others
    }


def weighted_pair(graph: Graph, data: Any) -> Any:
    """Return ``(x, y)`` with weights among x for ``(x, y, weights)``.

    Other data are returned as they are, but see `with_absent_labels`.

    Raises
    ------
    InvalidParameterError
        No loss reads weights, or they are for other losses.
    """
    data = with_absent_labels(graph, data)
    if not isinstance(data, tuple) or len(data) != 3:
        return data
    x, y, weights = data
    inputs = [node.name for node in graph.nodes if node.is_data]
    return with_weights(x, weights, inputs, weight_inputs(graph)), y
