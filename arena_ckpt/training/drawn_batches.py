"""Trains on batches that are drawn one by one, from a generator or another iterable.

Nothing is known of the batches to come, so each is checked when it is drawn. What was
trained before a batch that cannot be used is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import add
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from arena_ckpt.common.wording import quoted
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.data.samples import Samples
from arena_ckpt.engine.metric_names import OwnMetric
from arena_ckpt.errors import (
    DataError,
    EmptyDataError,
    InvalidParameterError,
    UnevenBatchesError,
)
from arena_ckpt.graph.lone_samples import with_absent_labels
from arena_ckpt.graph.weight_inputs import weighted_pair
from arena_ckpt.training.best_state import BestState
from arena_ckpt.training.callbacks import Callbacks
from arena_ckpt.training.loop import (
    NO_CALLBACKS,
    after_epoch,
    interrupts,
    with_callbacks,
)
from arena_ckpt.training.loss_sums import LossSums, terms_of
from arena_ckpt.training.records import EpochRecord, History, appended
from arena_ckpt.training.watching import watch

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session

XY = tuple[Any, Any] | tuple[Any, Any, Any] | Dataset


def is_samples(data: XY | Iterable[Any]) -> TypeGuard[XY]:
    """Tell whether data are samples and labels, or no data at all, not batches to draw.

    A pair is samples and labels, unless it is a list of two pairs, each a tuple.
    """
    if isinstance(data, Dataset | Mapping | str | bytes | np.ndarray):
        return True
    if isinstance(data, list) and data:
        return not all(isinstance(one, tuple) and len(one) == 2 for one in data)
    return isinstance(data, tuple | list) or not isinstance(data, Iterable)


def train_batches(
    session: Session,
    batches: Iterable[Any],
    validation: Samples | None,
    *,
    epochs: int,
    drop_last: bool,
    progress: bool | None,
    on_epoch: Callable[[EpochRecord], bool | None] | None,
    callbacks: Callbacks = NO_CALLBACKS,
    metrics: Mapping[str, OwnMetric | None] | None = None,
    look_at: Callable[[Samples], object] = lambda first: None,
) -> History:
    """Train `session` on batches in the order in which they are drawn.

    The first one is given to `look_at` before it is trained on.

    Raises
    ------
    InvalidParameterError
        More than one epoch of what can be gone through once.
    UnevenBatchesError
        A batch cannot be used, or there are fewer than the length says, or none.
    NonFiniteError
        A loss that is NaN or infinite; no weight was changed by its iteration.
    """
    if epochs > 1 and isinstance(batches, Iterator):
        raise InvalidParameterError(
            f"epochs={epochs} of a {type(batches).__name__}, which ends after one; set "
            "epochs=1, or give an object that can be gone through again, such as a "
            "list of batches or a class with __iter__",
            epochs=epochs,
        )
    records: tuple[EpochRecord, ...] = ()
    expected = _length(batches)
    total = None if expected is None else epochs * expected
    n_iterations = 0
    best = BestState(session)
    is_scheduled = session.schedule is not None or callbacks.plateau is not None

    def ended() -> History:
        history = History(
            records,
            n_iterations,
            interrupted(),
            0,
            callbacks.reason(records),
            best.epoch,
        )
        watcher.ended(history)
        return history

    with (
        watch(progress, epochs, is_scheduled=is_scheduled) as watcher,
        interrupts(terminated=False) as interrupted,
        with_callbacks(session, best),
    ):
        watcher.begun(())
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            sums, n_terms, n_batches = LossSums(), 0.0, 0
            terms: tuple[float, ...] = ()
            rate = session.learning_rate
            before = n_iterations
            for drawn in _drawn(batches, epoch, n_iterations):
                if interrupted():
                    return ended()
                n_batches += 1
                samples = _checked(session, drawn, epoch, n_batches, n_iterations)
                if drop_last and samples.n_samples < session.plan.batch_size:
                    continue
                if not n_iterations:
                    look_at(samples)
                rate = session.learning_rate
                loss = session.iterate(samples, None)
                sums = sums.plus(session, samples, None, loss)
                n_terms += samples.n_terms()
                found = terms_of(session, samples)
                terms = tuple(map(add, terms or (0,) * len(found), found))
                n_iterations += 1
                watcher.iterated(n_iterations, total or n_iterations, epoch, loss)
            if not n_batches or (expected is not None and n_batches < expected):
                raise _ended(batches, epoch, n_batches, expected, n_iterations)
            if n_iterations == before:
                raise EmptyDataError(
                    f"drop_last leaves out all {n_batches:,} batches of epoch {epoch}, "
                    f"because none has batch_size={session.plan.batch_size} samples; "
                    "make batch_size smaller, or set drop_last=false",
                    batch_size=session.plan.batch_size,
                )
            mean, losses = sums.means(session, n_terms, terms)
            records = appended(
                records,
                EpochRecord(
                    epoch,
                    mean,
                    None
                    if validation is None
                    else session.evaluate(validation, metrics),
                    rate,
                    time.perf_counter() - started,
                    losses,
                ),
            )
            is_enough = bool(on_epoch and on_epoch(records[-1]))
            watcher.recorded(records[-1])
            is_over = after_epoch(session, callbacks, best, records)
            if is_enough or is_over:
                break
        return ended()


def _drawn(batches: Iterable[Any], epoch: int, n_iterations: int) -> Iterator[Any]:
    try:
        return iter(batches)
    except TypeError as error:
        raise UnevenBatchesError(
            f"the batches of epoch {epoch} cannot be drawn ({error}); "
            f"{_kept(n_iterations)}",
            epoch=epoch,
            batch=1,
            n_iterations=n_iterations,
        ) from error


def _checked(
    session: Session, drawn: Any, epoch: int, batch: int, n_iterations: int
) -> Samples:
    """Return a batch as samples that the model can be trained on in one iteration.

    Raises
    ------
    UnevenBatchesError
    """
    facts = {"epoch": epoch, "batch": batch, "n_iterations": n_iterations}
    where = f"batch {batch} of epoch {epoch}"
    if isinstance(drawn, Dataset):
        drawn = (drawn.x, drawn.y)
    drawn = with_absent_labels(session.graph, drawn)
    is_weighted = isinstance(drawn, tuple) and len(drawn) == 3
    is_pair = isinstance(drawn, tuple | list) and len(drawn) == 2
    is_whole = is_weighted or is_pair
    if not is_whole or (drawn[1] is None and session.graph.takes_labels):
        found = (
            f"{len(drawn)} values"
            if isinstance(drawn, tuple | list) and not (is_weighted or is_pair)
            else "a pair without labels"
            if isinstance(drawn, tuple | list)
            else f"a {type(drawn).__name__}"
        )
        raise UnevenBatchesError(
            f"{where} is {found}; expected (x, y), with at most "
            f"{session.plan.batch_size} samples. {_kept(n_iterations)}",
            **facts,
        )
    try:
        samples = session.samples(*weighted_pair(session.graph, drawn))
        session.require_batch(samples)
    except (DataError, InvalidParameterError) as error:
        inputs = ", ".join(
            f"{name} (n, {', '.join(map(str, shape))})"
            for name, shape in session.inputs.items()
        )
        raise UnevenBatchesError(
            f"{where} cannot be trained on: {error}. The inputs of the model are "
            f"{inputs}. {_kept(n_iterations)}",
            **facts,
        ) from error
    return samples


def _length(batches: object) -> int | None:
    try:
        return len(batches)  # type: ignore[arg-type]
    except Exception:  # without a length, or one that is not known
        return None


def _ended(
    batches: object, epoch: int, found: int, expected: int | None, n_iterations: int
) -> UnevenBatchesError:
    name = type(batches).__name__
    counted = f" of the {expected:,} that its length says" if expected else ""
    again = (
        "; an object that can be gone through once has no second epoch"
        if epoch > 1 and not found
        else ""
    )
    return UnevenBatchesError(
        f"the {quoted(name)} ended in epoch {epoch} after {found:,} batches{counted}"
        f"{again}. {_kept(n_iterations)}",
        epoch=epoch,
        batch=found + 1,
        n_iterations=n_iterations,
    )


def _kept(n_iterations: int) -> str:
    if not n_iterations:
        return "No weight was changed"
    iterations = "iteration" if n_iterations == 1 else f"{n_iterations:,} iterations"
    return f"The {iterations} before are kept, and the model stays usable"
