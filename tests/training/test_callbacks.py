"""Early stopping, plateaus and best weights, alone, together and resumed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.strategies import ModelSpec

import arena_ckpt as ac
from arena_ckpt import EarlyStopping, KeepBest, Model, ReduceOnPlateau
from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.errors import (
    InvalidParameterError,
    SavedStateMismatchError,
    SavedStateNotFoundError,
)
from arena_ckpt.training.callbacks import Callback
from arena_ckpt.training.records import EpochRecord, History

N_SAMPLES, EPOCHS = 24, 12

SPEC = ModelSpec(
    (
        ("input", {"name": "in", "input_shape": (1, 1, 6)}),
        ("fully_connected", {"name": "fc", "unit": 16, "activation": "relu"}),
        ("batch_normalization", {"name": "bn"}),
        ("fully_connected", {"name": "out", "unit": 3}),
        ("cross_softmax", {"name": "loss"}),
    ),
    properties={"batch_size": 8},
    optimizer=("adam", {"learning_rate": 0.05}),
)
ALL: tuple[Callback, ...] = (
    EarlyStopping(6),
    ReduceOnPlateau(patience=2, factor=0.5),
    KeepBest(),
)


class Stop(Exception):
    """What ends a run in the middle."""


def data(seed: int = 0) -> tuple[Any, Any]:
    """Return noise, which is learned by heart: the validation soon gets worse."""
    return SPEC.batch(N_SAMPLES, seed)


def build(schedule: bool = True) -> Model:
    model = SPEC.model()
    if schedule:
        model.set_learning_rate_scheduler(
            ac.create_schedule(
                "exponential", learning_rate=0.05, decay_rate=0.9, decay_steps=5
            )
        )
    model.initialize()
    return model


def train(model: Model, **values: Any) -> History:
    given = {"epochs": EPOCHS, "validation": data(1), "callbacks": ALL} | values
    return model.train(given.pop("data", data()), progress=False, **given)


def state(model: Model) -> tuple[dict[str, bytes], int]:
    session = model._session
    assert session is not None
    arrays = {name: view.tobytes() for name, view in session.persistent().items()}
    return arrays, session.iteration


def facts(history: History) -> list[Any]:
    return [
        [(r.epoch, r.loss, r.validation, r.learning_rate) for r in history.epochs],
        history.n_iterations,
        history.stopped_by,
        history.best_epoch,
    ]


def losses(history: History) -> list[float]:
    return [r.validation.loss for r in history.epochs if r.validation is not None]


def records(values: list[float], metric: str = "accuracy") -> list[EpochRecord]:
    return [
        EpochRecord(n, 1.0 / n, Evaluation(value, metric, value, 4), 0.1, 0.0)
        for n, value in enumerate(values, start=1)
    ]


# -- the rules -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "min_delta", "ends_after"),
    [
        ([3, 2, 2, 2], 0.0, 4),
        ([3, 2, 2, 1, 1, 1], 0.0, 6),
        ([3, 2.5, 2, 1.5, 1], 0.0, None),
        ([3, 2.9, 2.8, 1], 0.5, 3),
        ([math.nan, math.nan, 1], 0.0, 2),
        ([1, math.nan, 0.5, math.inf], 0.0, None),
    ],
)
def test_early_stopping_ends_after_as_many_epochs_without_improvement(
    values: list[float], min_delta: float, ends_after: int | None
) -> None:
    rule = EarlyStopping(2, min_delta, "validation_loss")
    reasons = [rule.reason(records(values)[:n]) for n in range(len(values) + 1)]
    ends = [n for n, reason in enumerate(reasons) if reason]
    assert ends[:1] == ([] if ends_after is None else [ends_after])
    if ends:
        said = reasons[ends[0]]
        assert said == "validation loss has not improved for 2 epochs"


def test_the_rate_falls_again_after_each_patience_and_stays_down() -> None:
    rule = ReduceOnPlateau(2, factor=0.5, monitor="validation_loss")
    of = records([3, 4, 4, 4, 4, 2, 4, 4])
    factors = [rule.rate_factor(of[:n]) for n in range(9)]
    assert factors == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


def test_the_best_epoch_is_the_first_with_the_best_number() -> None:
    of = records([3, 1, 2, 1, math.nan])
    assert KeepBest("validation_loss").best_epoch(of) == 2
    assert KeepBest("accuracy").best_epoch(of) == 1  # higher is better
    assert KeepBest("loss").best_epoch(of) == 5
    of = records([3, 1, 2], "mean_absolute_error")
    assert KeepBest("mean_absolute_error").best_epoch(of) == 2
    assert KeepBest("loss").best_epoch([]) is None


# -- in a training ---------------------------------------------------------------------


def test_a_training_ends_early_and_has_its_best_state() -> None:
    model = build()
    history = train(model)
    found = losses(history)
    best = int(np.argmin(found)) + 1
    assert history.best_epoch == best
    assert len(found) == best + 6 < EPOCHS
    assert history.stopped_by == "validation loss has not improved for 6 epochs"
    assert "stopped early because validation loss has not" in str(history)
    assert f"the model is that of epoch {best}" in repr(history)
    assert model.evaluate(data(1)).loss == found[best - 1] < found[-1]
    plain = build()  # the same training, ended after its best epoch
    train(plain, epochs=best)
    assert state(model) == state(plain)


def test_a_plateau_lowers_the_rate_of_the_schedule_for_this_training_only() -> None:
    model = build()
    history = train(model, callbacks=ReduceOnPlateau(2, factor=0.5))
    plain = train(build(), callbacks=())
    ratios = [
        one.learning_rate / other.learning_rate
        for one, other in zip(history.epochs, plain.epochs, strict=True)
    ]
    rule = ReduceOnPlateau(2, factor=0.5, monitor="validation_loss")
    expected = [rule.rate_factor(history.epochs[:n]) for n in range(EPOCHS)]
    assert ratios == pytest.approx(expected)
    assert expected[-1] < expected[0] == 1.0
    assert model._session is not None
    assert model._session.rate_factor == 1.0


def test_without_validation_the_loss_of_the_training_is_monitored() -> None:
    history = train(
        build(), validation=None, callbacks=[EarlyStopping(1, min_delta=10), KeepBest()]
    )
    assert len(history.epochs) == 2
    assert history.stopped_by == "loss has not improved for 1 epoch"
    assert history.best_epoch == 2


def test_batches_from_an_iterable_take_the_same_callbacks() -> None:
    x, y = data()
    x = x["in"]
    batches = [(x[n : n + 8], y[n : n + 8]) for n in (0, 8, 16)]
    one, other = build(), build()
    drawn = train(one, data=batches)
    whole = train(other, shuffle=False)
    assert facts(drawn) == facts(whole)
    assert state(one) == state(other)


def test_the_best_state_is_there_after_an_error() -> None:
    model = build()

    def fail(record: EpochRecord) -> None:
        if record.epoch == 9:
            raise Stop

    with pytest.raises(Stop):
        train(model, on_epoch=fail, callbacks=KeepBest())
    plain = build()
    train(plain, epochs=train(build(), epochs=8, callbacks=KeepBest()).best_epoch)
    assert state(model) == state(plain)


# -- resumed ---------------------------------------------------------------------------


def stop_after(model: Model, iterations: int) -> None:
    """Let a model fail after some iterations, as if its process were gone."""
    session = model._session
    assert session is not None
    iterate, left = session.iterate, [None] * iterations

    def limited(*given: Any, **values: Any) -> float:
        if not left:
            raise Stop
        left.pop()
        return iterate(*given, **values)

    session.iterate = limited  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def uninterrupted() -> tuple[Any, Any]:
    model = build()
    history = train(model)
    return state(model), facts(history)


@pytest.mark.parametrize("every", [None, 1, 4, 10])
@pytest.mark.parametrize("stop", [0, 2, 3, 4, 9, 14, 20])
def test_a_resumed_training_ends_with_the_same_bits(
    stop: int, every: int | None, tmp_path: Path, uninterrupted: tuple[Any, Any]
) -> None:
    saving = {"checkpoint": tmp_path / "run", "every": every, "resume": True}
    for n in (stop, 3):
        model = build()
        stop_after(model, n)
        with pytest.raises(Stop):
            train(model, **saving)
    model = build()
    history = train(model, **saving)
    assert (state(model), facts(history)) == uninterrupted
    again = build()  # the training has ended, and stays so
    assert (state(again), facts(train(again, **saving)))[1] == uninterrupted[1]
    assert state(again) == uninterrupted[0]
    best = [path.name for path in (tmp_path / "run").glob("best-*")]
    assert f"best-epoch-{history.best_epoch:06d}.safetensors" in best
    loaded = ac.load(
        tmp_path / "run" / f"best-epoch-{history.best_epoch:06d}.safetensors"
    )
    assert state(loaded) == uninterrupted[0]


def test_a_damaged_newest_state_costs_no_bits(
    tmp_path: Path, uninterrupted: tuple[Any, Any]
) -> None:
    saving = {"checkpoint": tmp_path, "resume": True}
    for n in (10, 4):  # resumed once, so that the older state is of another process
        model = build()
        stop_after(model, n)
        with pytest.raises(Stop):
            train(model, **saving)
    newest = max(tmp_path.glob("iteration-*"))
    newest.write_bytes(newest.read_bytes()[:-1])
    model = build()
    with pytest.warns(ac.ArenaWarning, match="damaged"):
        history = train(model, **saving)
    assert (state(model), facts(history)) == uninterrupted


def test_states_of_earlier_best_epochs_are_removed(tmp_path: Path) -> None:
    train(build(), epochs=9, callbacks=KeepBest("loss"), checkpoint=tmp_path)
    names = sorted(path.name for path in tmp_path.glob("best-*"))
    assert names == [f"best-epoch-{n:06d}.safetensors" for n in (8, 9)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"callbacks": ()}, "its callbacks are EarlyStopping(patience=6"),
        ({"callbacks": (EarlyStopping(7), *ALL[1:])}, "not EarlyStopping(patience=7"),
        ({"validation": data(2)}, "its callbacks monitored other validation data"),
    ],
)
def test_what_would_end_elsewhere_is_not_resumed(
    change: dict[str, Any], says: str, tmp_path: Path
) -> None:
    train(build(), epochs=2, checkpoint=tmp_path)
    with pytest.raises(SavedStateMismatchError, match=re.escape(says)):
        train(build(), checkpoint=tmp_path, resume=True, **change)


def test_a_missing_best_state_is_named_before_anything_changes(tmp_path: Path) -> None:
    train(build(), epochs=9, checkpoint=tmp_path)
    for path in tmp_path.glob("best-*"):
        path.unlink()
    model = build()
    before = state(model)
    with pytest.raises(SavedStateNotFoundError, match=r"best-epoch-\d+.* is missing"):
        train(model, checkpoint=tmp_path, resume=True)
    assert state(model) == before


# -- what makes no sense ---------------------------------------------------------------


def wrong() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"callbacks": print}, "is none of EarlyStopping, ReduceOnPlateau, KeepBest"
    yield {"callbacks": [KeepBest(), KeepBest()]}, "two of KeepBest"
    yield {"callbacks": 5}, "5 is none of"
    yield {"callbacks": EarlyStopping}, "is none of"
    monitor = KeepBest("mean_absolute_error")
    yield {"callbacks": monitor}, "has 'validation_loss', 'loss', 'accuracy'"
    monitor = KeepBest("validation_loss")
    yield {"callbacks": monitor, "validation": None}, "give validation data"


@pytest.mark.parametrize(("values", "says"), [*wrong()])
def test_callbacks_that_make_no_sense_are_refused(
    values: dict[str, Any], says: str
) -> None:
    model = build()
    before = state(model)
    with pytest.raises(InvalidParameterError, match=says):
        train(model, **values)
    assert state(model) == before


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (EarlyStopping, {"patience": 0}),
        (EarlyStopping, {"patience": True}),
        (EarlyStopping, {"patience": 2.5}),
        (EarlyStopping, {"min_delta": -1}),
        (EarlyStopping, {"min_delta": math.nan}),
        (EarlyStopping, {"monitor": "val_loss"}),
        (ReduceOnPlateau, {"factor": 1}),
        (ReduceOnPlateau, {"factor": "0.1"}),
        (KeepBest, {"monitor": []}),
        (KeepBest, {"patience": 3}),
    ],
)
def test_values_that_make_no_sense_are_refused(
    kind: Any, values: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameterError, match=next(iter(values))):
        kind(**values)
