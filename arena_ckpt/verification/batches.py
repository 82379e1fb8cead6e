"""Batches on which a model is verified: from its data, or made up without data."""

from __future__ import annotations

from typing import Any

import numpy as np

from arena_ckpt.errors import EmptyDataError
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.random_batch import random_batch
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
    sizes = [batch_size] * (n_batches - 1) + [last]
    return [
        random_batch(graph, size, generator, positive=positive)
        for size in sizes[:n_batches]
    ]
