"""Batches on which a model is verified: from its data, or made up without data."""

from __future__ import annotations

from typing import Any

import numpy as np

from arena_ckpt.errors import EmptyDataError
from arena_ckpt.graph.build import Graph, loss_of
from arena_ckpt.graph.id_ranges import id_ranges
from arena_ckpt.graph.nodes import Node
from arena_ckpt.graph.weight_inputs import weight_inputs
from arena_ckpt.layers.spec import n_elems
from arena_ckpt.planning.batch_statistics import can_train_on

Batch = tuple[Any, Any]
"""The x and y of a batch, as `Model.train_step` takes them; inference reads no y."""


def smaller_batch(graph: Graph, batch_size: int, pass_samples: int) -> int:
    """Return the largest number of samples below a batch that the model can train on.

    A smaller batch runs a program of its own, which has to be verified too. If the
    model can train on none, the size of the whole batch is returned.
    """
    return next(
        (
            size
            for size in range(batch_size - 1, 0, -1)
            if can_train_on(graph, size, pass_samples)
        ),
        batch_size,
    )


def batches_of(
    x: Any,
    y: Any,
    batch_size: int,
    n_batches: int,
    last: int,
    *,
    needs_labels: bool = True,
) -> list[Batch]:
    """Return the first batches of data; the samples repeat if they are too few.

    Parameters
    ----------
    x : array_like, or dict from input layer to array_like
    y : array_like, or dict from loss to array_like
    batch_size, n_batches : int
    last : int
        Samples of the last batch.
    needs_labels : bool
        False leaves `y` alone.

    Raises
    ------
    EmptyDataError
    """
    inputs = {k: np.asarray(v) for k, v in _by_name(x).items()}
    labels: dict[str, Any] = {}
    if needs_labels and y is not None:
        labels = {k: np.asarray(v) for k, v in _by_name(y).items()}
    counted = next(iter(labels.values() if needs_labels else inputs.values()), None)
    n_samples = len(counted) if counted is not None and counted.ndim else 0
    arrays = (*inputs.values(), *labels.values())
    if not n_samples or any(v.ndim == 0 or len(v) != n_samples for v in arrays):
        raise EmptyDataError(
            "verifying needs as many samples as labels, and at least one; without data "
            "some are made up"
        )
    batches: list[Batch] = []
    for number in range(n_batches):
        size = last if number == n_batches - 1 else batch_size
        rows = (np.arange(size) + number * batch_size) % n_samples
        taken = {name: array[rows] for name, array in inputs.items()}
        wanted = {name: array[rows] for name, array in labels.items()}
        of_batch = wanted.get("") if "" in wanted or not wanted else wanted
        batches.append((taken if isinstance(x, dict) else taken[""], of_batch))
    return batches


def _by_name(x: Any) -> dict[str, Any]:
    return x if isinstance(x, dict) else {"": x}


def make_batches(
    graph: Graph,
    batch_size: int,
    n_batches: int,
    last: int | None = None,
    *,
    positive: bool = False,
) -> list[Batch]:
    """Make up batches from the shapes of the inputs and the kind of the loss.

    Parameters
    ----------
    graph : Graph
    batch_size, n_batches : int
    last : int, optional
        Samples of the last batch; by default `smaller_batch` of a batch that is not
        split.
    positive : bool
        Whether to draw values from 0.1 to 1 instead of normal ones, for layers that
        take roots.

    Returns
    -------
    list of (dict from str to array, array)
        The same numbers at every call; without a loss None stands for the labels.
    """
    if last is None:
        last = smaller_batch(graph, batch_size, batch_size)
    generator = np.random.default_rng(0)
    ranges, weights = id_ranges(graph), {*weight_inputs(graph).values()}
    batches: list[Batch] = []
    for number in range(n_batches):
        size = last if number == n_batches - 1 else batch_size
        x = {}
        for node in graph.nodes:
            if not node.is_data:
                continue
            shape = size, n_elems(node.spec.output_shapes[0])
            if node.name in ranges:
                valid = ranges[node.name]
                ids = generator.integers(valid.start, valid.stop, shape)
                x[node.name] = ids.astype(np.float32)
            elif positive or node.name in weights:
                x[node.name] = generator.uniform(0.1, 1, shape).astype(np.float32)
            else:
                x[node.name] = generator.standard_normal(shape, dtype=np.float32)
        batches.append((x, _labels(graph, size, generator)))
    return batches


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
