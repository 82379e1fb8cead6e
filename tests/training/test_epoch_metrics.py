"""Metrics of the validation after each epoch: asked for, shown, saved and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import run

import arena_ckpt as ac
from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.training.metric_tables import (
    metric_names,
    to_metric_table,
    with_metrics,
)
from arena_ckpt.training.records import EpochRecord, from_table, to_table
from arena_ckpt.training.saved_state import read_state

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0.8).astype(int)
TRAINING = ac.Dataset("t", X[:40], Y[:40], classes=("no", "yes"))
VALIDATION = ac.Dataset("v", X[40:], Y[40:], classes=("no", "yes"))


def build(*, starts: bool = True) -> ac.Model:
    model = ac.Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=10, epochs=3)
    model.set_optimizer("adam", learning_rate=0.1)
    if starts:
        model.initialize()
    return model


def ones(outputs: Any, labels: Any) -> float:
    return float(outputs.argmax(1).sum())


def train(model: ac.Model, **values: Any) -> ac.Model:
    return model.train(TRAINING, validation=VALIDATION, **{"progress": False, **values})


def test_epochs_have_what_an_evaluation_has() -> None:
    asked = ["f1", ones, "recall"]
    model, found = build(), []
    history = train(
        model,
        metrics=asked,
        on_epoch=lambda _: found.append(None),
    )
    last = history.epochs[-1].validation
    assert list(last.metrics) == ["f1", "ones", "recall"]
    assert last.metrics == model.evaluate(VALIDATION, metrics=asked).metrics
    assert len(found) == 3


def test_what_is_asked_for_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    history = train(build(), metrics=["f1", "accuracy"], progress=True)
    f1 = history.epochs[0].validation.metrics["f1"]
    first = capsys.readouterr().err.splitlines()[0]
    assert f" %, f1 {f1:.4f}  (" in first
    assert first.count("accuracy") == 1
    head, _, row = str(history).splitlines()[:3]
    assert head.split()[-2:] == ["validation", "f1"]
    assert row.split()[-1] == f"{f1:.4f}"
    assert list(history.to_rows()[0])[-1] == "validation_f1"
    assert "validation_f1" not in train(build()).to_rows()[0]


@pytest.mark.parametrize("wrong", ["r2", ["f1", "auc"]])
def test_metrics_of_other_labels_are_refused_before_a_step(wrong: Any) -> None:
    model = build()
    before = model.weights()
    for data in (TRAINING, iter([(X[:10], Y[:10])])):
        with pytest.raises(InvalidParameterError, match="of these labels"):
            model.train(data, validation=VALIDATION, metrics=wrong, epochs=1)
    for name, weight in model.weights().items():
        assert weight.tobytes() == before[name].tobytes()


def test_without_validation_there_are_none() -> None:
    with pytest.raises(InvalidParameterError, match="give validation="):
        build().train(TRAINING, metrics="f1")


def test_batches_that_are_drawn_have_them_too() -> None:
    batches = [(X[:10], Y[:10]), (X[10:20], Y[10:20])]
    history = build().train(
        batches, validation=VALIDATION, metrics="f1", epochs=2, progress=False
    )
    assert [list(e.validation.metrics) for e in history.epochs] == [["f1"]] * 2


@pytest.mark.parametrize("metrics", [None, ["recall", ones]])
def test_a_resumed_history_has_those_from_before(metrics: Any, tmp_path: Path) -> None:
    whole = train(build(), metrics=metrics, epochs=4)
    train(build(), metrics=metrics, epochs=2, checkpoint=tmp_path)
    resumed = train(
        build(), metrics=metrics, epochs=4, checkpoint=tmp_path, resume=True
    )
    for mine, theirs in zip(resumed.epochs, whole.epochs, strict=True):
        assert mine.validation.metrics == theirs.validation.metrics
        assert mine.validation.metrics
        assert mine.validation.asked == theirs.validation.asked
    seconds = {"seconds": 0}
    assert [row | seconds for row in resumed.to_rows(all_metrics=True)] == [
        row | seconds for row in whole.to_rows(all_metrics=True)
    ]


def test_others_can_be_asked_for_afterwards(tmp_path: Path) -> None:
    train(build(), metrics=["f1"], epochs=1, checkpoint=tmp_path)
    history = train(
        build(), metrics=["recall"], epochs=2, checkpoint=tmp_path, resume=True
    )
    rows = history.to_rows()
    assert rows[0]["validation_f1"] is not None
    assert rows[0]["validation_recall"] is None
    assert rows[1]["validation_f1"] is None
    assert [list(e.validation.metrics) for e in history.epochs] == [["f1"], ["recall"]]


@pytest.mark.parametrize("metrics", [None, ["f1", ones]])
def test_the_best_by_a_metric_is_kept_also_where_it_is_resumed(
    metrics: Any, tmp_path: Path
) -> None:
    rules = {"metrics": metrics, "callbacks": ac.KeepBest("f1")}
    history = train(model := build(), epochs=6, **rules)
    values = [epoch.validation.metrics["f1"] for epoch in history.epochs]
    assert history.best_epoch == 1 + int(np.argmax(values))
    assert len(set(values)) > 1
    assert model.evaluate(VALIDATION).metrics["f1"] == max(values)
    folder = {"checkpoint": tmp_path, **rules}
    train(build(), epochs=5, **folder)
    resumed = train(again := build(), epochs=6, resume=True, **folder)
    assert resumed.best_epoch == history.best_epoch
    for name, weight in again.weights().items():
        assert weight.tobytes() == model.weights()[name].tobytes()


@pytest.mark.parametrize(
    ("callback", "metrics", "said"),
    [
        (ac.KeepBest("f1"), ["recall", ones], "'accuracy', 'recall'"),
        (ac.KeepBest("auc"), None, "'balanced_accuracy', 'precision', 'recall', 'f1'"),
    ],
)
def test_a_metric_that_is_not_made_is_not_monitored(
    callback: Any, metrics: Any, said: str
) -> None:
    with pytest.raises(InvalidParameterError, match=f"this training has .*{said}$"):
        train(build(), callbacks=callback, metrics=metrics)


@pytest.mark.parametrize("name", ["majority_accuracy", "error_of_mean", "ones"])
def test_what_no_training_changes_is_not_monitored(name: str) -> None:
    with pytest.raises(InvalidParameterError, match="monitor"):
        ac.EarlyStopping(monitor=name)


def test_states_without_metrics_are_read(tmp_path: Path) -> None:
    """As those were that earlier versions wrote."""
    build().train(TRAINING, epochs=1, checkpoint=tmp_path, progress=False)
    (*_, path) = sorted(tmp_path.iterdir())
    state = read_state(path)
    assert state.document.metrics == ()
    assert state.records[0].validation is None


def record(epoch: int, metrics: dict[str, float] | None, *asked: str) -> EpochRecord:
    of = None
    if metrics is not None:
        of = Evaluation(0.5, "accuracy", 0.5, 4, metrics, None, asked)
    return EpochRecord(epoch, 1.0, of, 0.1, 0.0)


def test_tables_hold_what_is_absent_undefined_and_asked_for() -> None:
    records = (
        record(1, None),
        record(2, {"f1": float("nan"), "auc": 0.25}),
        record(3, {}),
        record(4, {"own": float("inf")}, "own"),
    )
    names, table = metric_names(records), to_metric_table(records)
    assert names == ("f1", "auc", "own")
    back = with_metrics(from_table(to_table(records)), names, table)
    for one, other in zip(back, records, strict=True):
        assert repr(one.validation and one.validation.metrics) == repr(
            other.validation and other.validation.metrics
        )
        assert (one.validation and one.validation.asked) == (
            other.validation and other.validation.asked
        )


@pytest.mark.parametrize(
    ("names", "table"),
    [
        (("f1",), None),
        ((), np.zeros((2, 1, 2))),
        (("f1",), np.zeros((1, 1, 2))),
        (("f1",), np.zeros((2, 1, 2), np.float32)),
        (("f1",), np.full((2, 1, 2), 0.5)),
        (("f1",), np.full((2, 1, 2), np.nan)),
        (("f1",), np.ones((2, 1, 2))),  # the first epoch has no validation
    ],
)
def test_numbers_that_are_no_metrics(names: Any, table: Any) -> None:
    with pytest.raises(ValueError, match="metrics"):
        with_metrics((record(1, None), record(2, {})), names, table)


def test_the_command_line_prints_them_and_the_samples_of_each_class(
    tmp_path: Path,
) -> None:
    build(starts=False).save_ini(tmp_path / "m.ini")
    lines = [
        ",".join([*(f"{v:.3f}" for v in x), "yes" if y else "no"])
        for x, y in zip(X, Y, strict=True)
    ]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,c,d,label", *lines]))
    words = ["train", tmp_path / "m.ini", "--data", tmp_path / "d.csv"]
    split = ["--validation-split", 0.5, "--split", "stratified"]
    n = int(Y.sum())
    result = run(*words, *split, "--metrics", "f1, recall")
    assert result.exit_code == 0, result.output
    said = result.output.splitlines()
    assert f"2 classes with their samples: 0 no ({30 - n // 2}), 1 yes ({n // 2})" in (
        said
    )
    assert f"for validation: 0 no ({30 - n + n // 2}), 1 yes ({n - n // 2})" in said
    assert ", f1 0." in next(line for line in said if line.startswith("epoch 1/3"))
    assert ", recall " in said[-1]
    document = json.loads(run(*words, *split, "--metrics", "f1", "--json").stdout)
    assert document["class_counts"]["training"] == {"no": 30 - n // 2, "yes": n // 2}
    assert document["class_counts"]["validation"]["yes"] == n - n // 2
    assert [list(e["validation"]["metrics"]) for e in document["epochs"]] == (
        [["f1"]] * 3
    )
    refused = run(*words, "--metrics", "f1")
    assert refused.exit_code == 2
    assert "give --validation or --validation-split" in refused.output
