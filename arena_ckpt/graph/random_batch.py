"""A batch of random numbers that fits a graph, for runs without data."""

from __future__ import annotations

from typing import Any

import numpy as np

from arena_ckpt.graph.build import Graph, loss_of
from arena_ckpt.graph.id_ranges import id_ranges
from arena_ckpt.graph.nodes import Node
from arena_ckpt.graph.weight_inputs import weight_inputs
from arena_ckpt.layers.spec import n_elems


def random_batch(
    graph: Graph,
    n_samples: int,
    generator: np.random.Generator,
    *,
    positive: bool = False,
) -> tuple[dict[str, Any], Any]:
    """Draw samples and labels by the shapes of the inputs and the kind of the loss.

    Parameters
    ----------
    graph : Graph
    n_samples : int
    generator : Generator
    positive : bool
        Whether to draw values from 0.1 to 1 instead of normal ones, for layers that
        take roots.

    Returns
    -------
    x : dict from str to float32 array
        By input layer; ids are whole numbers in the range that their readers take.
    y : array, dict from str to array, or None
        Without a loss that takes labels None.
    """
    ranges, weights = id_ranges(graph), {*weight_inputs(graph).values()}
    x = {}
    for node in graph.nodes:
        if not node.is_data:
            continue
        shape = n_samples, n_elems(node.spec.output_shapes[0])
        if node.name in ranges:
            valid = ranges[node.name]
            ids = generator.integers(valid.start, valid.stop, shape)
            x[node.name] = ids.astype(np.float32)
        elif positive or node.name in weights:
            x[node.name] = generator.uniform(0.1, 1, shape).astype(np.float32)
        else:
            x[node.name] = generator.standard_normal(shape, dtype=np.float32)
    return x, _labels(graph, n_samples, generator)


def _labels(graph: Graph, n: int, generator: np.random.Generator) -> Any:
    """Return labels, of several losses a dict with those of each."""
    if not graph.has_loss:
        return None
    made = {
        node.name: _labels_of(node, n, generator)
        for node in graph.losses
        if loss_of(node).takes_label
    }
    return made if graph.has_several_losses else made.get(graph.loss.name)


def _labels_of(node: Node, n: int, generator: np.random.Generator) -> Any:
    loss, shape = loss_of(node), node.spec.output_shapes[0]
    axis = loss.class_axis
    width = shape[axis - 1]
    n_rows = n_elems(shape) // width
    if loss.ignored_label is not None:
        return generator.integers(0, width, (n, n_rows))
    if not loss.takes_probabilities:
        return generator.standard_normal((n, n_elems(shape)), dtype=np.float32)
    if loss.takes_class_numbers and n_rows == 1:
        return generator.integers(0, width, n)
    if not loss.rows_are_distributions:
        return generator.integers(0, 2, (n, n_elems(shape))).astype(np.float32)
    shares = generator.uniform(0.1, 1, (n, *shape))
    shares /= shares.sum(axis=axis, keepdims=True)
    return shares.astype(np.float32).reshape(n, -1)
