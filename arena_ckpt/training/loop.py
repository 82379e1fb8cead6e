"""Epochs: the order of samples, what is recorded and saved, how Ctrl-C ends them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from arena_ckpt.common.user_line import warn_user
from arena_ckpt.data.samples import Samples
from arena_ckpt.engine.metric_names import OwnMetric
from arena_ckpt.errors import ModelWarning
from arena_ckpt.graph.hints import restart_hint
from arena_ckpt.training.best_state import BestState
from arena_ckpt.training.callbacks import Callbacks
from arena_ckpt.training.loss_sums import LossSums, terms_of
from arena_ckpt.training.records import (
    EpochRecord,
    History,
    RunProgress,
    appended,
)
from arena_ckpt.training.saved_run import SavedRun
from arena_ckpt.training.watching import Watcher, watch

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session

NO_CALLBACKS = Callbacks()


def train(
    session: Session,
    samples: Samples,
    validation: Samples | None,
    *,
    epochs: int,
    seed: int,
    shuffle: bool,
    drop_last: bool,
    progress: bool | None,
    on_epoch: Callable[[EpochRecord], bool | None] | None,
    callbacks: Callbacks = NO_CALLBACKS,
    metrics: Mapping[str, OwnMetric | None] | None = None,
    saved: SavedRun | None = None,
    warn_of_restart: bool = True,
) -> History:
    """Train `session` on `samples`, from where `saved` says; see `Model.train`."""
    best = BestState(session)
    fresh = RunProgress(
        epoch=1,
        epoch_iteration=session.iteration,
        n_batches=0,
        loss_sum=0.0,
        learning_rate=session.learning_rate,
        seconds=0.0,
        n_iterations=0,
        records=(),
        stopped=False,
    )
    is_scheduled = session.schedule is not None or callbacks.plateau is not None
    with (
        watch(progress, epochs, is_scheduled=is_scheduled) as watcher,
        interrupts(terminated=saved is not None) as interrupted,
        saved.held() if saved else nullcontext(),
        with_callbacks(session, best),
    ):
        begin = saved.begin(fresh, best) if saved else fresh
        at = begin
        session.rate_factor = callbacks.rate_factor(begin.records)
        watcher.begun(begin.records)
        n_batches = batches_of(samples.n_samples, session.plan.batch_size, drop_last)
        if warn_of_restart:
            _warn_of_restart(session, at, epochs, n_batches)
        if saved and at.epoch <= epochs and not at.stopped:
            saved.save(at)  # what cannot be written is found before anything is trained
        run = _Run(
            session,
            samples,
            validation,
            epochs,
            n_batches,
            watcher,
            interrupted,
            saved,
            callbacks,
            best,
            metrics,
        )
        while at.epoch <= epochs and not at.stopped:
            order = _order(samples.n_samples, seed, at.epoch_iteration, shuffle)
            at = run.finish_batches(at, order)
            if at.n_batches < run.n_batches:
                break  # interrupted
            at = run.finish_epoch(at, order, on_epoch)
        history = History(
            at.records,
            at.n_iterations,
            interrupted(),
            begin.n_iterations,
            callbacks.reason(at.records) if at.stopped else None,
            best.epoch,
        )
        watcher.ended(history)
        return history


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What stays the same through a training; `n_batches` are those of an epoch."""

    session: Session
    samples: Samples
    validation: Samples | None
    epochs: int
    n_batches: int
    watcher: Watcher
    interrupted: Callable[[], bool]
    saved: SavedRun | None
    callbacks: Callbacks
    best: BestState
    metrics: Mapping[str, OwnMetric | None] | None

    def finish_batches(self, begin: RunProgress, order: np.ndarray) -> RunProgress:
        """Train the rest of the epoch's batches, or those until Ctrl-C."""
        session, samples, saved = self.session, self.samples, self.saved
        batch_size, n_batches = session.plan.batch_size, self.n_batches
        total = self.epochs * n_batches
        started = time.perf_counter()
        sums = LossSums(begin.loss_sum, begin.loss_sums)
        rate = begin.learning_rate
        n_iterations, done = begin.n_iterations, begin.n_batches

        def reached() -> RunProgress:
            return replace(
                begin,
                n_batches=done,
                loss_sum=sums.total,
                loss_sums=sums.by_loss,
                learning_rate=rate,
                seconds=begin.seconds + time.perf_counter() - started,
                n_iterations=n_iterations,
            )

        while done < n_batches:
            if self.interrupted():
                if saved:
                    saved.save(reached())
                break
            rows = order[done * batch_size : (done + 1) * batch_size]
            rate = session.learning_rate
            loss = session.iterate(samples, rows)
            sums = sums.plus(session, samples, rows, loss)
            done += 1
            n_iterations += 1
            if saved and saved.every and n_iterations % saved.every == 0:
                saved.save(reached())
            self.watcher.iterated(n_iterations, total, begin.epoch, loss)
        return reached()

    def finish_epoch(
        self,
        at: RunProgress,
        order: np.ndarray,
        on_epoch: Callable[[EpochRecord], bool | None] | None,
    ) -> RunProgress:
        """Record an epoch whose batches are trained; return where the next begins."""
        started = time.perf_counter()
        trained = order[: self.n_batches * self.session.plan.batch_size]
        loss, losses = LossSums(at.loss_sum, at.loss_sums).means(
            self.session,
            self.samples.n_terms(trained),
            terms_of(self.session, self.samples, trained),
        )
        record = EpochRecord(
            at.epoch,
            loss,
            None
            if self.validation is None
            else self.session.evaluate(self.validation, self.metrics),
            at.learning_rate,
            at.seconds + time.perf_counter() - started,
            losses,
        )
        self.watcher.recorded(record)
        stopped = bool(on_epoch and on_epoch(record))
        records = appended(at.records, record)
        stopped = (
            after_epoch(self.session, self.callbacks, self.best, records) or stopped
        )
        if self.saved and self.best.epoch == record.epoch:
            self.saved.save_best(record.epoch, at.n_iterations)
        following = replace(
            at,
            epoch=at.epoch + 1,
            epoch_iteration=self.session.iteration,
            n_batches=0,
            loss_sum=0.0,
            loss_sums=(),
            seconds=0.0,
            records=records,
            stopped=stopped,
        )
        is_last = stopped or at.epoch == self.epochs
        if self.saved and (is_last or not self.saved.every):
            self.saved.save(following)
        return following


def after_epoch(
    session: Session,
    callbacks: Callbacks,
    best: BestState,
    records: tuple[EpochRecord, ...],
) -> bool:
    """Do what callbacks say after an epoch; return whether the training ends."""
    epoch = records[-1].epoch
    if callbacks.best_epoch(records) == epoch:
        best.take(epoch)
    session.rate_factor = callbacks.rate_factor(records)
    return callbacks.reason(records) is not None


@contextmanager
def with_callbacks(session: Session, best: BestState) -> Iterator[None]:
    """Undo, when the block ends, what callbacks changed: the rate; then the state."""
    try:
        yield
    finally:
        session.rate_factor = 1.0
        best.put_back()


def batches_of(n_samples: int, batch_size: int, drop_last: bool) -> int:
    """Return the number of batches of an epoch."""
    return n_samples // batch_size if drop_last else -(-n_samples // batch_size)


def _warn_of_restart(
    session: Session, at: RunProgress, epochs: int, n_batches: int
) -> None:
    """Warn where the learning rate starts again before the iterations to come end."""
    if at.stopped or at.epoch > epochs:
        return
    start = session.iteration
    stop = start + (epochs - at.epoch + 1) * n_batches - at.n_batches
    hint = restart_hint(session.schedule, start, stop)
    if hint is not None:
        warn_user(hint.message, ModelWarning)


def _order(n: int, seed: int, iteration: int, shuffle: bool) -> np.ndarray:
    """Return the order of samples of the epoch that begins at `iteration`."""
    if not shuffle:
        return np.arange(n)
    key = np.array([seed, iteration], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(n)


@contextmanager
def interrupts(terminated: bool) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question to ask between iterations.

    A second one interrupts at once. With `terminated` SIGTERM is heard as well, which
    clusters send before they kill. Outside the main thread signals cannot be caught;
    handlers of somebody else are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    seen: list[int] = []
    before: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler}
    if terminated:
        before[signal.SIGTERM] = signal.SIG_DFL
    before = {s: own for s, own in before.items() if signal.getsignal(s) is own}

    def remember(number: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    for number in before:
        signal.signal(number, remember)
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
