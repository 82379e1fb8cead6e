"""What a training has done so far, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.data.samples import METRICS
from arena_ckpt.engine.evaluation import Evaluation

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What is recorded of one epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    loss : float
        The mean over the samples that were trained on (with class numbers for rows,
        over the rows that count), each counted as its batch was trained.
    validation : Evaluation or None
    learning_rate : float
        Of the last iteration.
    seconds : float
    """

    epoch: int
    loss: float
    validation: Evaluation | None
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class History:
    """Records of a training: its epochs, and how it ended.

    Attributes
    ----------
    epochs : tuple of EpochRecord
        Those that were completed.
    n_iterations : int
        Of the whole run, with what came before it was resumed.
    interrupted : bool
        Ctrl-C ended it, or SIGTERM where its states were saved.
    n_resumed : int
        Of the iterations, those made before the training was resumed.
    """

    epochs: tuple[EpochRecord, ...]
    n_iterations: int
    interrupted: bool
    n_resumed: int = 0


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Where a training is: all that it needs to go on, beside the model.

    Attributes
    ----------
    epoch : int
        The one under way, from 1.
    epoch_iteration : int
        Iterations of the model when it began; with the seed they decide its order of
        samples.
    n_batches : int
        Of this epoch, that were trained.
    loss_sum : float
        Over the samples of these.
    learning_rate : float
        Of the last of them.
    seconds : float
        That these took.
    n_iterations : int
        Of the whole run.
    records : tuple of EpochRecord
        Of the epochs before.
    stopped : bool
        The callback has ended the training.
    """

    epoch: int
    epoch_iteration: int
    n_batches: int
    loss_sum: float
    learning_rate: float
    seconds: float
    n_iterations: int
    records: tuple[EpochRecord, ...]
    stopped: bool

    def __post_init__(self) -> None:
        """Refuse numbers that no training comes to."""
        counts = self.epoch_iteration, self.n_batches, self.n_iterations
        if not 0 <= min(counts) <= max(counts) < 2**53 or self.epoch < 1:
            raise ValueError(f"no training comes to {self}")


def to_table(records: Sequence[EpochRecord]) -> Table:
    """Return records as an array of numbers, one record a row, from epoch 1 on."""
    table = np.zeros((len(records), 7))
    for row, record in zip(table, records, strict=True):
        row[:3] = record.loss, record.learning_rate, record.seconds
        if (of := record.validation) is not None:
            row[3:] = of.loss, METRICS.index(of.metric_name), of.metric, of.n_samples
    return table


def from_table(table: npt.NDArray[Any]) -> tuple[EpochRecord, ...]:
    """Return the records that `to_table` made a table of.

    Raises
    ------
    ValueError
        It is no such table.
    """
    if table.dtype != np.float64 or table.ndim != 2 or table.shape[1] != 7:
        raise ValueError(f"its records are {table.dtype} of shape {table.shape}")
    names = range(len(METRICS))
    records = []
    for epoch, row in enumerate(table.tolist(), start=1):
        loss, rate, seconds, *of = row
        validation = None
        if of[3]:
            if of[1] not in names or not 0 < of[3] < 2**53:
                raise ValueError(f"its record of epoch {epoch} is {row}")
            validation = Evaluation(of[0], METRICS[int(of[1])], of[2], int(of[3]))
        records.append(EpochRecord(epoch, loss, validation, rate, seconds))
    return tuple(records)
