"""What a training has done so far, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.session import Evaluation


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    loss : float
        The mean over the samples (with class numbers for rows, over the rows that
        count), each counted as its batch was trained.
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
    """A training.

    Attributes
    ----------
    epochs : tuple of EpochRecord
        Those that were completed.
    n_iterations : int
        Of the whole run, with what came before it was resumed.
    interrupted : bool
        Ctrl-C ended it.
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
        if len(self.records) != self.epoch - 1:
            raise ValueError(
                f"there are records of {len(self.records)} epochs before epoch "
                f"{self.epoch}"
            )
