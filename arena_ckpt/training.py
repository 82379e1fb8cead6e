"""Epochs: the order of samples, what is recorded, and how Ctrl-C ends them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from arena_ckpt.progress import progress_bar
from arena_ckpt.samples import Samples
from arena_ckpt.session import Evaluation, Session


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
    interrupted : bool
        Ctrl-C ended it.
    """

    epochs: tuple[EpochRecord, ...]
    n_iterations: int
    interrupted: bool


def train(
    session: Session,
    samples: Samples,
    validation: Samples | None,
    *,
    epochs: int,
    seed: int,
    shuffle: bool,
    progress: bool | None,
    on_epoch: Callable[[EpochRecord], bool | None] | None,
) -> History:
    """Train `session` on `samples`; see `Model.train`."""
    records: list[EpochRecord] = []
    n_iterations = 0
    batch_size = session.plan.batch_size
    n_batches = -(-samples.n_samples // batch_size)
    total = epochs * n_batches
    with progress_bar("training", progress) as update, _interrupts() as interrupted:
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            order = _order(samples.n_samples, seed, session.iteration, shuffle)
            loss_sum, rate = 0.0, session.learning_rate
            for start in range(0, samples.n_samples, batch_size):
                if interrupted():
                    return History(tuple(records), n_iterations, True)
                rows = order[start : start + batch_size]
                rate = session.learning_rate
                loss = session.iterate(samples, rows)
                loss_sum += loss * samples.n_terms(rows)
                n_iterations += 1
                update(n_iterations, total, f"epoch {epoch}, loss {loss:.4f}")
            record = EpochRecord(
                epoch,
                loss_sum / max(samples.n_terms(), 1),
                None if validation is None else session.evaluate(validation),
                rate,
                time.perf_counter() - started,
            )
            records.append(record)
            if on_epoch and on_epoch(record):
                break
        return History(tuple(records), n_iterations, interrupted())


def _order(n: int, seed: int, iteration: int, shuffle: bool) -> np.ndarray:
    """Return the order of samples of the epoch that begins at `iteration`."""
    if not shuffle:
        return np.arange(n)
    key = np.array([seed, iteration], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(n)


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question to ask between iterations.

    A second one interrupts at once. Outside the main thread signals cannot be caught,
    and nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def remember(number: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(seen)
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)
