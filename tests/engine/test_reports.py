"""Metrics of an evaluation, against formulas in NumPy over all predictions at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt.engine import scores
from arena_ckpt.errors import InvalidParameterError

RNG = np.random.default_rng(5)


def model_of(loss: str, unit: int, shape: str = "1:1:6", **properties: Any) -> ac.Model:
    """Return a model whose predictions have nothing to do with the labels."""
    model = ac.Model(seed=3)
    model.add_layer("input", name="in", input_shape=shape)
    model.add_layer("fully_connected", name="fc", unit=unit)
    model.add_layer(loss, name="loss", **properties)
    model.set_property(batch_size=7)  # the last pass of 100 samples is smaller
    model.initialize()
    return model


def approx(value: object) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


def judged_classes(truth: Any, guess: Any, n: int) -> dict[str, float]:
    """Return the means that scikit-learn makes, with 0 for what is not defined."""
    occur = [k for k in range(n) if (truth == k).any() or (guess == k).any()]
    hit = [np.sum((truth == k) & (guess == k)) for k in occur]
    labelled = [np.sum(truth == k) for k in occur]
    guessed = [np.sum(guess == k) for k in occur]
    precision = [h / g if g else 0 for h, g in zip(hit, guessed, strict=True)]
    recall = [h / t if t else 0 for h, t in zip(hit, labelled, strict=True)]
    f1 = [
        2 * p * r / (p + r) if p + r else 0
        for p, r in zip(precision, recall, strict=True)
    ]
    there = [r for r, t in zip(recall, labelled, strict=True) if t]
    return {
        "accuracy": np.mean(truth == guess),
        "majority_accuracy": max(labelled) / len(truth),
        "balanced_accuracy": np.mean(there),
        "precision": np.mean(precision),
        "recall": np.mean(recall),
        "f1": np.mean(f1),
    }


@pytest.mark.parametrize("n_classes", [3, 5, 130])
@pytest.mark.parametrize("one_hot", [False, True])
def test_classes(n_classes: int, one_hot: bool) -> None:
    x = RNG.normal(size=(100, 6)).astype(np.float32)
    y = RNG.integers(0, min(n_classes, 4), 100)
    model = model_of("cross_softmax", n_classes)
    guess = model.predict(x).reshape(100, -1).argmax(axis=1)
    labels = np.eye(n_classes, dtype=np.float32)[y] if one_hot else y
    found = model.evaluate((x, labels))

    assert found.metrics == approx(judged_classes(y, guess, n_classes))
    assert found.metrics["accuracy"] == found.metric
    report = found.report
    assert report is not None
    assert report.n_parts == n_classes
    assert len(report.rows) == min(n_classes, 100)
    for row in report.rows[:4]:
        k = int(row["class"])  # type: ignore[arg-type]
        assert row["count"] == np.sum(y == k)
        n_right = np.sum((y == k) & (guess == k))
        expected = n_right / np.sum(guess == k) if (guess == k).any() else None
        assert row["precision"] == (expected and approx(expected))
        expected = n_right / np.sum(y == k) if (y == k).any() else None
        assert row["recall"] == (expected and approx(expected))
    if n_classes > 100:
        assert report.confusion is None
        return
    matrix = [
        [np.sum((y == t) & (guess == g)) for g in range(n_classes)]
        for t in range(n_classes)
    ]
    assert report.confusion == tuple(map(tuple, matrix))


def test_tokens_leave_out_ignored_labels() -> None:
    model = model_of("cross_softmax", 4, "1:5:6", per_token=True, ignore_label=-1)
    x = RNG.normal(size=(40, 1, 5, 6)).astype(np.float32)
    y = RNG.integers(-1, 4, (40, 5))
    guess = model.predict(x).argmax(axis=-1).reshape(40, 5)
    counts = y != -1
    found = model.evaluate((x, y))
    assert found.metrics == approx(judged_classes(y[counts], guess[counts], 4))
    assert found.report is not None
    assert found.report.unit == "row"
    assert found.report.n_counted == counts.sum()
    nothing = model.evaluate((x, np.full((40, 5), -1)))
    assert all(math.isnan(value) for value in nothing.metrics.values())
    assert "–" in str(nothing)


@pytest.mark.filterwarnings("ignore:the loss reads")
def test_rows_of_one_hot_pixels_have_an_accuracy() -> None:
    model = model_of("cross_softmax", 3, "1:4:6")
    x = RNG.normal(size=(30, 1, 4, 6)).astype(np.float32)
    y = RNG.integers(0, 3, (30, 4))
    guess = model.predict(x).argmax(axis=-1).reshape(30, 4)
    found = model.evaluate((x, np.eye(3, dtype=np.float32)[y].reshape(30, 1, 4, 3)))
    assert found.metrics["accuracy"] == approx(np.mean(guess == y))
    assert found.metric_name == "mean_absolute_error"  # as it was before


def judged_area(score: Any, truth: Any) -> float:
    ones, zeros = score[truth == 1], score[truth == 0]
    wins = (ones[:, None] > zeros[None]).sum() + (
        ones[:, None] == zeros[None]
    ).sum() / 2
    return float(wins / (len(ones) * len(zeros)))


def test_rare_ones_do_not_hide_behind_the_accuracy() -> None:
    model = model_of("cross_sigmoid", 1)
    model.set_weights({"fc:bias": np.float32([-9])})  # always 0
    x = RNG.normal(size=(1000, 6)).astype(np.float32)
    y = (np.arange(1000) < 37).astype(np.float32)
    found = model.evaluate((x, y[:, None]))
    score = model.predict(x).reshape(-1)
    assert found.metrics["accuracy"] == found.metrics["majority_accuracy"] == 0.963
    assert found.metrics["balanced_accuracy"] == 0.5
    assert found.metrics["recall"] == 0
    assert math.isnan(found.metrics["precision"])  # nothing was predicted as 1
    assert found.metrics["auc"] == approx(judged_area(score, y))
    assert found.report is not None
    assert found.report.confusion == ((963, 0), (37, 0))
    assert found.report.majority == "0"
    lines = str(found).splitlines()
    assert ["accuracy", "96.30", "%"] in [line.split() for line in lines]
    assert ["majority", "accuracy", "96.30", "%"] in [line.split() for line in lines]


@pytest.mark.parametrize("shape", ["1:1:6", "3:4:6", "1:4:6"])
def test_ones_of_several_outputs_and_of_pixels(shape: str) -> None:
    model = model_of("cross_sigmoid", 5, shape)
    channels, height, _ = map(int, shape.split(":"))
    x = RNG.normal(size=(50, channels, height, 6)).astype(np.float32)
    score = model.predict(x)
    y = (RNG.random(score.shape) < 0.3).astype(np.float32)
    score = np.round(score, 1)
    found = model.evaluate((x, y))
    guess = model.predict(x) > 0.5
    right, ones = np.sum(guess & (y == 1)), np.sum(y)
    assert found.metrics["accuracy"] == approx(np.mean(guess == y))
    assert found.metrics["precision"] == approx(right / guess.sum())
    assert found.metrics["recall"] == approx(right / ones)
    assert found.metrics["f1"] == approx(2 * right / (guess.sum() + ones))
    if height == 1:
        groups = y.reshape(50, 5, 1)
    else:
        groups = y.reshape(50, channels, -1)
    scores_of_group = model.predict(x).reshape(groups.shape)
    areas = [
        judged_area(scores_of_group[:, k].reshape(-1), groups[:, k].reshape(-1))
        for k in range(groups.shape[1])
    ]
    assert found.metrics["auc"] == approx(np.mean(areas))
    assert found.report is not None
    if len(areas) > 1:
        assert [row["auc"] for row in found.report.rows] == approx(areas)


def test_the_area_counts_equal_scores_half() -> None:
    score, truth = RNG.integers(0, 5, 200) / 4, RNG.random(200) < 0.4
    found = scores.area_under_curve(score, truth)
    assert found == approx(judged_area(score, truth))
    assert scores.area_under_curve(score, truth | True) is None


def test_scores_are_kept_up_to_a_number_or_if_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("cross_sigmoid", 1)
    x = RNG.normal(size=(60, 6)).astype(np.float32)
    data = x, (np.arange(60) % 2).astype(np.float32)
    auc = model.evaluate(data).metrics["auc"]
    monkeypatch.setattr(scores, "MOST_RANKED", 50)
    assert math.isnan(model.evaluate(data).metrics["auc"])
    assert model.evaluate(data, metrics=["auc"]).metrics == {"auc": auc}


@pytest.mark.parametrize("shape", ["1:1:6", "2:3:6"])
def test_values(shape: str) -> None:
    model = model_of("mse", 3, shape)
    channels, height, _ = map(int, shape.split(":"))
    x = RNG.normal(size=(100, channels, height, 6)).astype(np.float32)
    guess = model.predict(x).astype(np.float64)
    y = (1e4 + RNG.normal(size=guess.shape)).astype(np.float32)
    parts = (100, 3, 1) if height == 1 else (100, channels, 9)
    y.reshape(parts)[:, 0] = 2.5  # labels that do not differ have no R²
    found = model.evaluate((x, y))
    error, truth = (guess - y).reshape(parts), y.reshape(parts).astype(np.float64)
    apart = truth - truth.mean(axis=(0, 2), keepdims=True)
    r2 = 1 - (error**2).sum(axis=(0, 2)) / np.maximum(
        (apart**2).sum(axis=(0, 2)), 1e-300
    )
    assert found.metrics == approx(
        {
            "mean_absolute_error": np.abs(error).mean(),
            "root_mean_squared_error": np.sqrt((error**2).mean()),
            "error_of_mean": np.sqrt((apart**2).mean()),
            "r2": np.mean(r2[1:]),
        }
    )
    assert found.report is not None
    rows = found.report.rows
    assert rows[0]["r2"] is None
    assert [row["r2"] for row in rows[1:]] == approx(r2[1:].tolist())
    assert [row["mean_absolute_error"] for row in rows] == approx(
        np.abs(error).mean(axis=(0, 2)).tolist()
    )


def test_names_of_classes_are_in_the_report() -> None:
    model = model_of("cross_softmax", 3)
    x = RNG.normal(size=(30, 6)).astype(np.float32)
    data = ac.Dataset("mine", x, np.arange(30) % 3, ("ant", "bee", "<i>"))
    for classes_of in ("data", "model"):
        found = model.evaluate(data)
        assert found.report is not None
        assert [row["class"] for row in found.report.rows] == ["ant", "bee", "<i>"]
        assert "bee" in str(found)
        assert "&lt;i&gt;" in found._repr_html_()
        assert "<i>" not in found._repr_html_()
        if classes_of == "data":
            model.train(data, epochs=1, progress=False)


def test_own_metrics_get_what_can_be_compared() -> None:
    seen: list[tuple[Any, Any]] = []

    def top_two(outputs: Any, labels: Any) -> float:
        seen.append((outputs, labels))
        best = np.argsort(-outputs, axis=1)[:, :2]
        return np.mean((best == labels[:, None]).any(axis=1))  # type: ignore[return-value]

    model = model_of("cross_softmax", 4)
    x = RNG.normal(size=(50, 6)).astype(np.float32)
    y = np.arange(50) % 4
    found = model.evaluate((x, y), metrics=["accuracy", top_two])
    (outputs, labels), *more = seen
    assert not more
    assert outputs.tobytes() == model.predict(x).tobytes()
    assert outputs.shape == (50, 4)
    assert np.array_equal(labels, y)
    assert list(found.metrics) == ["accuracy", "top_two"]
    assert found.metrics["top_two"] == top_two(outputs, y)
    assert "top two" in str(found)


@pytest.mark.parametrize(
    ("loss", "y", "expected"),
    [
        ("cross_sigmoid", np.zeros((9, 4)), (9, 4)),
        ("mse", np.linspace(0, 1, 36).reshape(9, 4), (9, 4)),
    ],
)
def test_own_metrics_of_values_get_labels_like_outputs(
    loss: str, y: Any, expected: tuple[int, ...]
) -> None:
    def shapes(outputs: Any, labels: Any) -> int:
        assert outputs.shape == labels.shape == expected
        return 1

    model = model_of(loss, 4)
    x = np.ones((9, 6), np.float32)
    assert model.evaluate((x, y), metrics=shapes).metrics == {"shapes": 1.0}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["rmse"], r"no metric 'rmse' \(here it is 'root_mean_squared_error'\)"),
        (["acuracy"], r"did you mean 'accuracy'"),
        (["accuracy", "accuracy"], "twice"),
        (["auc"], r"no 'auc' of these labels; there are 'accuracy'"),
        ([3], "metrics=3 is not possible"),
        (7, "metrics=7 is not possible"),
        ({"accuracy": 1}, "is not possible"),
        ([lambda outputs, labels: "much"], "returned 'much'; expected one number"),
        ([lambda outputs, labels: outputs], "expected one number"),
    ],
)
def test_metrics_that_cannot_be_are_refused(metrics: Any, message: str) -> None:
    model = model_of("cross_softmax", 3)
    x = np.ones((9, 6), np.float32)
    with pytest.raises(InvalidParameterError, match=message):
        model.evaluate((x, np.arange(9) % 3), metrics=metrics)


def test_a_history_keeps_the_metrics_of_all_epochs_and_the_last_report() -> None:
    model = model_of("cross_softmax", 3)
    x = RNG.normal(size=(30, 6)).astype(np.float32)
    data = x, np.arange(30) % 3
    reports = []
    history = model.train(
        data,
        validation=data,
        epochs=3,
        progress=False,
        on_epoch=lambda record: reports.append(record.validation.report),
    )
    validations = [record.validation for record in history.epochs]
    assert all(report is not None for report in reports)
    assert [one.report is None for one in validations if one] == [True, True, False]
    rows = history.to_rows(all_metrics=True)
    last = model.evaluate(data)
    assert rows[-1]["validation_f1"] == last.metrics["f1"]
    assert "validation_f1" not in history.to_rows()[0]
    assert str(last.report) in str(history)
    assert "confusion" in history._repr_html_()


def test_a_large_matrix_names_its_most_frequent_confusions() -> None:
    counts = scores.ClassScores(20, "sample")
    truth = np.array([3] * 8 + [5] * 2 + [7])
    guess = np.array([4] * 8 + [6] * 2 + [7])
    counts.add(np.eye(20)[guess], np.eye(20)[truth])
    lines = str(counts.report(None)).splitlines()
    assert lines[-3:] == [
        "most frequent confusions:",
        "  3 taken for 4: 8",
        "  5 taken for 6: 2",
    ]
