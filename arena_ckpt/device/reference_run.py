"""What a C project has to give: training on some batches with the engine here."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from arena_ckpt.c_export.exported_model import FloatArray, Reference, TestBatch
from arena_ckpt.data.samples import Samples
from arena_ckpt.engine.session import Session
from arena_ckpt.layers.spec import Shape
from arena_ckpt.training.device_states import state_of

Batch = tuple[Any, Any]
"""The x and y of a batch, as `Model.train_step` takes them."""


def run_reference(
    session: Session, batches: Sequence[Batch], n_steps: int
) -> Reference:
    """Train on some batches and return what there is to compare.

    Parameters
    ----------
    session : Session
        With the weights to begin with; its own change.
    batches : sequence of (x, y)
        Whole batches, which come again from the first on. Inference reads x alone.
    n_steps : int
        0 in inference.
    """
    state = state_of(session)
    losses, states = [], []
    for step in range(n_steps):
        losses.append(session.train_step(*batches[step % len(batches)]))
        states.append(state.checksum(session.iteration, session.persistent()))
    n_samples = session.pass_samples
    predictions = [
        b"".join(
            np.ascontiguousarray(of_loss[:n_samples]).tobytes()
            for of_loss in session.predictions(x).values()
        )
        for x, _ in batches
    ]
    return Reference(
        tuple(_in_arena(session, batch) for batch in batches),
        tuple(losses),
        tuple(states),
        tuple(map(zlib.crc32, predictions)),
    )


def _in_arena(session: Session, batch: Batch) -> TestBatch:
    """Return a batch as it lies in the arena."""
    x, y = batch
    samples = session.samples(x, None if session.plan.is_inference else y)
    inputs = (np.asarray(values, np.float32) for values in samples.inputs.values())
    heads = () if session.plan.is_inference else session.heads.all
    labels = (
        _labels(head.samples(samples), head.output_shape)
        if head.loss.takes_label
        else np.zeros((samples.n_samples, 0), np.float32)
        for head in heads
    )
    return TestBatch(tuple(inputs), tuple(labels))


def _labels(samples: Samples, output_shape: Shape) -> FloatArray:
    labels = samples.labels
    assert labels is not None
    if labels.ndim == 2:
        return labels
    one_hot = np.zeros((len(labels), int(np.prod(output_shape))), np.float32)
    one_hot[np.arange(len(labels)), labels] = 1
    return one_hot
