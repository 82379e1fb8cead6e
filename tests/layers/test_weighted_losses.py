"""Losses with weights of classes, over pictures, and of values with outliers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.strategies import Given, ModelSpec

import arena_ckpt as ac
from arena_ckpt.device.export_c import export_c
from arena_ckpt.engine.metric_names import METRIC_NAMES
from arena_ckpt.errors import (
    ArenaError,
    CExportError,
    InvalidParameterError,
    LabelRangeError,
    ShapeMismatchError,
)

WEIGHTS = "1, 4, 0.5"
ROWS = (3, 2, 1)
"""Channels, height and width of pixels with three classes."""

CASES: dict[str, tuple[str, Given]] = {
    "mae": ("mae", {}),
    "huber": ("huber", {"delta": 0.4}),
    "weights": ("cross_softmax", {"class_weight": WEIGHTS}),
    "smoothing": ("cross_softmax", {"label_smoothing": 0.2}),
    "both": ("cross_softmax", {"class_weight": WEIGHTS, "label_smoothing": 0.2}),
    "pixels": ("cross_softmax", {"axis": 1, "per_token": True}),
    "weights of pixels": (
        *("cross_softmax",),
        {"axis": 1, "per_token": True, "class_weight": WEIGHTS, "label_smoothing": 0.1},
    ),
    "rows in the middle": (
        *("cross_softmax",),
        {"axis": 2, "per_token": True, "class_weight": "3, 0"},
    ),
    "shares of pixels": ("cross_softmax", {"axis": 1, "class_weight": WEIGHTS}),
    "one positive weight": ("cross_sigmoid", {"pos_weight": 3}),
    "positive weights": ("cross_sigmoid", {"pos_weight": "1, 4"}),
    "positive weights of pixels": ("cross_sigmoid", {"axis": 1, "pos_weight": WEIGHTS}),
}


def spec_of(case: str, **properties: Any) -> ModelSpec:
    """A layer of six outputs, which the loss reads as a row or as pixels."""
    loss, values = CASES[case]
    layers: list[tuple[str, Given]] = [
        ("input", {"name": "in", "input_shape": (1, 1, 5)}),
        ("fully_connected", {"name": "a", "unit": 8, "activation": "tanh"}),
    ]
    if case in ("weights", "smoothing", "both"):
        layers.append(("fully_connected", {"name": "b", "unit": 3}))
    else:
        shape = (1, 3, 2) if case == "positive weights" else ROWS
        layers += [
            ("fully_connected", {"name": "b", "unit": 6}),
            ("reshape", {"name": "rows", "target_shape": shape}),
        ]
    layers.append((loss, {"name": "loss", **values}))
    given = {"batch_size": 8, **properties}
    sgd = ("sgd", {"learning_rate": 0.1})
    return ModelSpec(tuple(layers), (("a", "b"),), given, sgd)


def batch_of(case: str, n: int = 8, seed: int = 0) -> tuple[Any, Any]:
    """Samples, and labels that fit the loss."""
    generator = np.random.default_rng(seed)
    x = {"in": generator.normal(size=(n, 5)).astype(np.float32)}
    loss, values = CASES[case]
    if values.get("per_token"):
        n_classes = ROWS[values["axis"] - 1]
        y = generator.integers(0, n_classes, (n, 6 // n_classes))
        y[0, 0], y[1] = -100, -100
        return x, y
    if case == "shares of pixels":
        shares = generator.uniform(0.1, 1, (n, *ROWS))
        shares /= shares.sum(axis=1, keepdims=True)
        return x, shares.reshape(n, 6).astype(np.float32)
    if loss == "cross_softmax":
        return x, generator.integers(0, 3, n)
    if loss == "cross_sigmoid":
        return x, generator.integers(0, 2, (n, 6)).astype(np.float32)
    return x, generator.normal(size=(n, 6)).astype(np.float32)


# -- the outside judge -----------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_pytorch_agrees(case: str) -> None:
    pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    from helpers.torch_judge import TorchJudge

    spec = spec_of(case, micro_batches=3)
    model = spec.initialized()
    judge = TorchJudge(model, "float64")
    x, y = batch_of(case)
    loss, gradients = model.compute_gradients(x, y)
    expected, expected_gradients = judge.compute_gradients(x, y)
    assert loss == pytest.approx(expected, rel=1e-6)
    for name, gradient in gradients.items():
        wanted = expected_gradients[name]
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.predict(x), judge.predict(x), atol=1e-6)
    evaluated = judge.evaluate((x, y))
    found = model.evaluate((x, y))
    assert found.loss == pytest.approx(evaluated.loss, rel=1e-6)
    for step in range(4):
        some = batch_of(case, 8 - step, seed=step)
        ours, theirs = model.train_step(*some), judge.train_step(*some)
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_the_mean_is_that_of_cross_entropy_as_pytorch_takes_it() -> None:
    """The judge divides by itself; here PyTorch's own mean is asked."""
    torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    generator = np.random.default_rng(1)
    pictures = generator.normal(size=(4, 3, 5, 9)).astype(np.float32)
    labels = generator.integers(0, 3, (4, 5, 9))
    labels[0, 0, :4] = -100
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="3:5:9")
    model.add_layer(
        *("cross_softmax",),
        name="loss",
        axis=1,
        per_token=True,
        class_weight=WEIGHTS,
        label_smoothing=0.2,
    )
    model.set_property(batch_size=3)
    model.initialize()
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(pictures),
        torch.tensor(labels),
        weight=torch.tensor([1, 4, 0.5]),
        label_smoothing=0.2,
    )
    assert model.evaluate((pictures, labels)).loss == pytest.approx(expected.item())
    guess = pictures.argmax(axis=1)
    counted = labels != -100
    hits = (guess == labels)[counted].mean()
    found = model.evaluate((pictures, labels))
    assert found.metric == pytest.approx(hits)
    confusion = found.report.confusion
    for label in range(3):
        for prediction in range(3):
            of_both = (labels == label) & (guess == prediction)
            assert confusion[label][prediction] == of_both.sum()
    assert set(found.metrics) <= set(METRIC_NAMES)


def test_segmentation_learns_the_class_of_each_pixel() -> None:
    model = ac.Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:6:6")
    model.add_layer("conv2d", name="conv", filters=2, kernel_size="3,3", padding="same")
    model.add_layer("cross_softmax", name="loss", axis=1, per_token=True)
    model.set_property(batch_size=16)
    model.set_optimizer("adam", learning_rate=0.1)
    model.initialize()
    x = np.random.default_rng(0).normal(size=(16, 1, 6, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    for _ in range(60):
        model.train_step(x, y)
    assert model.evaluate((x, y)).metric > 0.95
    assert (model.predict(x).argmax(axis=1) == y).mean() > 0.95


# -- what weights mean -----------------------------------------------------------------


def test_weights_of_one_change_nothing_that_can_be_seen() -> None:
    x, y = batch_of("weights")
    losses = []
    for weights in (None, "1, 1, 1", "7, 7, 7"):
        layers = spec_of("weights").layers
        given = {"name": "loss"} | ({"class_weight": weights} if weights else {})
        spec = ModelSpec(
            (*layers[:-1], ("cross_softmax", given)), (), {"batch_size": 8}
        )
        losses.append(spec.initialized().compute_gradients(x, y)[0])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_labels_without_weight_leave_the_weights_alone() -> None:
    case = "rows in the middle"
    model = spec_of(case).initialized()
    x, y = batch_of(case)
    y[y == 0] = 1  # the class that weighs nothing
    before = model.weights()
    assert model.train_step(x, y) == 0
    for name, weight in model.weights().items():
        assert weight.tobytes() == before[name].tobytes()


def test_an_epoch_is_weighted_as_its_batches_are() -> None:
    x, y = batch_of("weights", 8)
    model, other = (spec_of("weights").with_properties(batch_size=3) for _ in "ab")
    history = model.initialized().train((x, y), epochs=1, shuffle=False)
    stepped, total, of_all = other.initialized(), 0.0, 0.0
    for start in (0, 3, 6):
        some = {"in": x["in"][start : start + 3]}, y[start : start + 3]
        weight = np.array([1, 4, 0.5])[some[1]].sum()
        total += weight * stepped.train_step(*some)
        of_all += weight
    assert history.epochs[0].loss == pytest.approx(total / of_all)


@pytest.mark.parametrize("case", ["huber", "weights of pixels", "positive weights"])
def test_the_bits_are_the_same_in_all_modes(case: str) -> None:
    x, y = batch_of(case)
    outcomes = []
    spec = spec_of(case)
    for made in (spec.with_properties(memory_optimization=False), spec):
        for debug in (False, True):
            model = made.initialized(debug=debug)
            losses = [model.train_step(x, y) for _ in range(3)]
            weights = {name: w.tobytes() for name, w in model.weights().items()}
            outcomes.append((losses, weights, model.predict(x).tobytes()))
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_they_stand_in_an_ini_file(tmp_path: Path) -> None:
    for case in ("huber", "weights of pixels", "positive weights of pixels"):
        model = spec_of(case).model()
        model.save_ini(tmp_path / "net.ini")
        read = ac.load_ini(tmp_path / "net.ini")
        assert read.layers[-1].given == model.layers[-1].given
        assert read.make_plan() == model.make_plan()


# -- wrong use -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "values", "error", "message"),
    [
        (
            *("cross_softmax", {"class_weight": "1, 4, 0.5, 2"}, ShapeMismatchError),
            "layer 'loss' (cross_softmax): class_weight has 4 numbers, but there are 3 "
            "classes (the columns of 1:1:3), so it gives class 3, which is not there",
        ),
        (
            *("cross_softmax", {"class_weight": "1"}, ShapeMismatchError),
            "so it gives no weight to class 1; write one number for each class",
        ),
        (
            *("cross_softmax", {"class_weight": "1, 4", "axis": 1}, ShapeMismatchError),
            "there are 1 classes (the channels of 1:1:3)",
        ),
        (
            *("cross_sigmoid", {"pos_weight": "1, 2"}, ShapeMismatchError),
            "pos_weight has 2 numbers, but there are 3 classes",
        ),
        (
            *("cross_softmax", {"class_weight": "1, -4, 2"}, InvalidParameterError),
            "class_weight=1, -4, 2 is not possible; expected numbers of at least 0",
        ),
        (
            *("cross_softmax", {"class_weight": "1, nan, 2"}, InvalidParameterError),
            "class_weight=1, nan, 2 is not possible",
        ),
        (
            *("cross_softmax", {"label_smoothing": 1}, InvalidParameterError),
            "label_smoothing=1 is not possible",
        ),
        ("cross_softmax", {"axis": 4}, InvalidParameterError, "axis=4"),
        ("huber", {"delta": 0}, InvalidParameterError, "delta=0 is not possible"),
        ("l1_loss", {}, ArenaError, "mae"),
    ],
)
def test_wrong_use_is_named(
    loss: str, values: Given, error: type[ArenaError], message: str
) -> None:
    spec: tuple[tuple[str, Given], ...] = (
        ("input", {"name": "in", "input_shape": (1, 1, 3)}),
        (loss, {"name": "loss", **values}),
    )
    with pytest.raises(error, match=re.escape(message)):
        ModelSpec(spec, (), {}).model().compile()


def test_labels_of_pixels_that_are_no_class_are_named() -> None:
    model = spec_of("pixels").initialized()
    x, y = batch_of("pixels")
    y[2, 1] = 3
    with pytest.raises(
        LabelRangeError, match=r"sample 2, row 1 .*3 classes \(0 to 2\)"
    ):
        model.train_step(x, y)


def test_a_device_cannot_weigh_labels_of_later_micro_batches(tmp_path: Path) -> None:
    model = spec_of("weights", micro_batches=2).initialized()
    with pytest.raises(CExportError, match="weights of the classes of all labels"):
        export_c(model, tmp_path / "c")
