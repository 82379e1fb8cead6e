"""Several losses in one model: their weighted sum is trained, each is shown by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.errors import (
    DataShapeError,
    DataTypeError,
    InvalidParameterError,
    LossError,
)
from arena_ckpt.planning.tensors import Control

GENERATOR = np.random.default_rng(5)
X = GENERATOR.standard_normal((22, 6)).astype(np.float32)
Y = {
    "digit": GENERATOR.integers(0, 3, 22),
    "angle": GENERATOR.standard_normal((22, 2)).astype(np.float32),
}
WEIGHT = 0.25


def heads(
    weight: float = WEIGHT, *, blocks: bool = False, **properties: object
) -> Model:
    """Return a body that a classifier and a regression read."""
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="body", unit=8)
    model.add_layer("activation", name="act", activation="tanh")
    model.add_layer("fully_connected", name="classes", unit=3)
    model.add_layer("cross_softmax", name="digit")
    model.add_layer("fully_connected", name="values", unit=2, input_layers="act")
    model.add_layer("mse", name="angle", weight=weight)
    if blocks:
        model.add_checkpoint_block(["body", "act"])
    model.set_property(**{"batch_size": 8, **properties})
    model.set_optimizer("sgd", learning_rate=0.1)
    return model


def initialized(*arguments: Any, **properties: Any) -> Model:
    model = heads(*arguments, **properties)
    model.initialize()
    return model


def some(rows: slice) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return X[rows], {name: array[rows] for name, array in Y.items()}


def bits(model: Model) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.weights().items()}


# -- what is trained -------------------------------------------------------------------


def test_pytorch_trains_to_the_same_losses_and_weights() -> None:
    torch = pytest.importorskip("torch")
    model = initialized()
    values = {
        name: torch.tensor(array, requires_grad=True)
        for name, array in model.weights().items()
    }
    for start in (0, 8, 16):
        x, y = some(slice(start, start + 8))
        hidden = torch.tanh(
            torch.tensor(x) @ values["body:weight"] + values["body:bias"]
        )
        digit = torch.nn.functional.cross_entropy(
            hidden @ values["classes:weight"] + values["classes:bias"],
            torch.tensor(y["digit"]),
        )
        angle = torch.nn.functional.mse_loss(
            hidden @ values["values:weight"] + values["values:bias"],
            torch.tensor(y["angle"]),
        )
        expected = digit + WEIGHT * angle
        for value in values.values():
            value.grad = None
        expected.backward()
        found = model.train_step(x, y)
        assert found == pytest.approx(float(expected.detach()), rel=1e-6)
        with torch.no_grad():
            for value in values.values():
                value -= 0.1 * value.grad
    for name, array in model.weights().items():
        assert np.allclose(array, values[name].detach().numpy(), atol=1e-6), name


def test_a_weight_scales_what_is_trained_and_not_what_is_shown() -> None:
    parts = {w: initialized(w) for w in (0.0, 0.25, 1.0)}
    shown = {w: model.evaluate((X, Y)) for w, model in parts.items()}
    digit, angle = shown[1.0].losses["digit"], shown[1.0].losses["angle"]
    for weight, evaluation in shown.items():
        assert evaluation.losses == {"digit": digit, "angle": angle}
        assert evaluation.loss == digit + weight * angle
    gradients = {w: m.compute_gradients(*some(slice(8)))[1] for w, m in parts.items()}
    whole = gradients[1.0]["values:weight"]
    assert np.array_equal(gradients[0.25]["values:weight"], 0.25 * whole)
    assert not gradients[0.0]["values:weight"].any()


def test_the_weight_of_a_single_loss_scales_it() -> None:
    models = []
    for weight in (1, 2):
        model = Model(seed=0)
        model.add_layer("input", name="in", input_shape="1:1:6")
        model.add_layer("fully_connected", name="fc", unit=2)
        model.add_layer("mse", name="angle", weight=weight)
        model.set_property(batch_size=8)
        model.initialize()
        models.append(model)
    one, two = models
    x, y = X[:8], Y["angle"][:8]
    assert two.evaluate((x, y)).loss == 2 * one.evaluate((x, y)).loss
    gradient, doubled = (m.compute_gradients(x, y)[1]["fc:weight"] for m in models)
    assert np.array_equal(doubled, 2 * gradient)
    control = {t.name: t for t in one.plan.tensors}["model:control"]
    assert control.shape == (Control.LENGTH,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: initialized(blocks=True),
        lambda: initialized(clip_grad_by_norm=1e9),
        lambda: planned(budget="minimum"),
        lambda: planned(debug=True),
    ],
    ids=["block", "deferred", "budget", "debug"],
)
def test_the_bits_do_not_depend_on_the_plan(make: Callable[[], Model]) -> None:
    expected, found = initialized(), make()
    for model in (expected, found):
        losses = [model.train_step(*some(slice(s, s + 8))) for s in (0, 8, 16)]
        model_bits = losses, bits(model)
        if model is expected:
            kept = model_bits
    assert model_bits == kept
    for name, prediction in expected.predict(X).items():
        assert np.array_equal(prediction, found.predict(X)[name])


def planned(budget: str | None = None, debug: bool = False) -> Model:
    model = heads()
    least = min(point.arena_bytes for point in heads().pareto())
    model.initialize(budget=least if budget else None, debug=debug)
    return model


def test_micro_batches_give_the_loss_of_the_batch() -> None:
    whole, parts = initialized(), initialized(micro_batches=3)
    x, y = some(slice(8))
    assert parts.train_step(x, y) == pytest.approx(whole.train_step(x, y), rel=1e-6)


def test_execution_orders_count_all_losses() -> None:
    orders = heads().make_plan().execution_order
    assert orders["angle"][:1] + orders["angle"][2:] == (7, 8, 9, 10)
    assert orders["digit"][:1] + orders["digit"][2:] == (5, 14, 15, 16)


def test_two_losses_of_one_output_and_a_frozen_head() -> None:
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="frozen", unit=3, trainable=False)
    model.add_layer("cross_softmax", name="digit")
    model.add_layer("fully_connected", name="fc", unit=2, input_layers="in")
    model.add_layer("mse", name="angle")
    model.add_layer("mse", name="again", input_layers="fc", weight=2)
    model.set_property(batch_size=8)
    result = ac.verify(model)
    assert result.passed, str(result)
    model.initialize()
    labels = {**Y, "again": Y["angle"]}
    found = model.evaluate((X, labels))
    assert found.losses["again"] == found.losses["angle"]
    predicted = model.predict(X)
    assert np.allclose(predicted["digit"].sum(axis=-1), 1, atol=1e-6)
    assert np.array_equal(predicted["angle"], predicted["again"])


def test_inference_predicts_for_every_loss() -> None:
    trained, model = initialized(), heads()
    model.initialize(mode="inference")
    model.set_weights(trained.weights())
    expected = trained.predict(X)
    assert list(expected) == ["digit", "angle"]
    for name, prediction in model.predict(X).items():
        assert np.array_equal(prediction, expected[name])


# -- what is shown ---------------------------------------------------------------------


def test_a_history_shows_each_loss_and_their_sum() -> None:
    model = initialized()
    history = model.train((X, Y), validation=(X, Y), epochs=2, progress=False)
    row = history.to_rows()[-1]
    assert list(row) == [
        *("epoch", "loss", "digit_loss", "angle_loss"),
        *("validation_loss", "validation_digit_loss", "validation_angle_loss"),
        *("digit_accuracy", "angle_mean_absolute_error", "learning_rate", "seconds"),
    ]
    record = history.epochs[-1]
    losses = record.losses
    assert record.loss == pytest.approx(losses["digit"] + WEIGHT * losses["angle"])
    assert row["digit_loss"] == losses["digit"]
    validation = model.evaluate((X, Y))
    assert row["validation_angle_loss"] == validation.losses["angle"]
    assert f"(digit {losses['digit']:.4f}, angle {losses['angle']:.4f})" in repr(record)
    text = str(history)
    for word in ("digit loss", "angle loss", "digit, validation", "angle, validation"):
        assert word in text


def test_the_mean_of_an_epoch_counts_every_sample_once() -> None:
    model = initialized()
    model.set_learning_rate_scheduler(
        ac.create_schedule("constant", learning_rate=1e-30)
    )
    record = model.train((X, Y), epochs=1, progress=False).epochs[0]
    expected = model.evaluate((X, Y))
    assert record.losses == pytest.approx(expected.losses)
    assert record.loss == pytest.approx(expected.loss)


def test_an_evaluation_has_the_metrics_of_every_loss() -> None:
    model = initialized()
    found = model.evaluate((X, Y))
    guess = model.predict(X)["digit"].reshape(22, 3).argmax(axis=1)
    assert found.metrics["digit_accuracy"] == np.mean(guess == Y["digit"])
    error = np.abs(model.predict(X)["angle"].reshape(22, 2) - Y["angle"]).mean()
    assert found.metrics["angle_mean_absolute_error"] == pytest.approx(error)
    assert found.by_loss["digit"].report is not None
    text = str(found)
    assert f"{100 * found.metrics['digit_accuracy']:.2f} %" in text
    assert "angle:" in text
    assert "angle loss" in text


def test_metrics_are_asked_for_by_plain_names_and_functions() -> None:
    def spread(outputs: Any, labels: Any) -> float:
        return float(np.ptp(outputs) + labels.shape[0])

    found = initialized().evaluate((X, Y), metrics=["f1", "r2", spread])
    names = ["digit_f1", "digit_spread", "angle_r2", "angle_spread"]
    assert sorted(found.metrics) == sorted(names)
    with pytest.raises(InvalidParameterError, match="there is no 'auc'"):
        initialized().evaluate((X, Y), metrics=["auc"])


def test_metrics_of_epochs_are_shown_saved_and_monitored(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        **{"validation": (X, Y), "metrics": ["f1"], "progress": False},
        **{"callbacks": ac.KeepBest("digit_f1"), "checkpoint": tmp_path},
    }
    history = initialized().train((X, Y), epochs=3, **given)
    again = initialized().train((X, Y), epochs=3, resume=True, **given)
    for found in (history, again):
        rows = found.to_rows()
        best = max(rows, key=lambda row: row["validation_digit_f1"] or 0.0)
        assert found.best_epoch == best["epoch"]
        assert "digit f1 0." in repr(found.epochs[-1])
    assert again.to_rows() == history.to_rows()
    for monitor in ("digit_majority_accuracy", "digit", "angle_f2"):
        with pytest.raises(InvalidParameterError, match="digit_accuracy"):
            ac.KeepBest(monitor)


# -- where labels come from ------------------------------------------------------------


class Batches:
    """Batches in order, as often as they are asked for."""

    def __iter__(self) -> Iterator[Any]:
        for start in (0, 8, 16):
            yield some(slice(start, start + 8))


def test_arrays_a_data_set_a_file_and_batches_give_the_same_bits(
    tmp_path: Path,
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=X, **{f"y:{name}": array for name, array in Y.items()})
    sources = [(X, Y), ac.Dataset("mine", X, Y), ac.load_npz(path), Batches()]
    found = []
    for data in sources:
        model = initialized()
        history = model.train(data, epochs=2, shuffle=False, progress=False)
        found.append((history.epochs[-1].losses, history.epochs[-1].loss, bits(model)))
    assert all(one == found[0] for one in found)


def test_a_data_set_is_split_with_all_its_labels() -> None:
    data = ac.Dataset("mine", X, Y)
    assert "digit (22,), angle (22, 2)" in repr(data)
    training, validation = data.split(0.25, seed=0)
    order = np.concatenate([training.x, validation.x])
    rows = [int(np.argmax((X == row).all(axis=1))) for row in order]
    for name, array in Y.items():
        joined = np.concatenate([training.y[name], validation.y[name]])
        assert np.array_equal(joined, array[rows])


def test_a_training_is_resumed_with_the_losses_of_earlier_epochs(
    tmp_path: Path,
) -> None:
    whole = initialized()
    expected = whole.train((X, Y), validation=(X, Y), epochs=3, progress=False)
    given: dict[str, Any] = {"validation": (X, Y), "progress": False}
    first = initialized()
    stop = iter([False, True])
    first.train(
        (X, Y),
        epochs=3,
        checkpoint=tmp_path,
        every=2,
        on_epoch=lambda record: next(stop),
        **given,
    )
    again = initialized()
    states = sorted(tmp_path.glob("iteration-*"))
    states[-1].unlink()  # the one before is in the middle of an epoch
    history = again.train((X, Y), epochs=3, checkpoint=tmp_path, resume=True, **given)
    assert bits(again) == bits(whole)
    for one, other in zip(history.epochs, expected.epochs, strict=True):
        assert (one.losses, one.loss) == (other.losses, other.loss)
        assert one.validation is not None
        assert other.validation is not None
        assert one.validation.losses == other.validation.losses


def test_an_ini_text_keeps_the_weight(tmp_path: Path) -> None:
    path = tmp_path / "heads.ini"
    heads().save_ini(path)
    assert "weight = 0.25" in path.read_text()
    assert ac.load_ini(path).make_plan().to_json() == heads().make_plan().to_json()


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y["digit"], "2 losses .*'digit', 'angle'.*and y is a ndarray for all of them"),
        ({"digit": Y["digit"]}, "y has no labels for 'angle'"),
        ({**Y, "angel": Y["angle"]}, "labels of no loss 'angel' .*mean 'angle'"),
        ({}, "y has nothing"),
    ],
)
def test_labels_of_other_losses_are_refused(labels: Any, message: str) -> None:
    model = initialized()
    before = bits(model)
    for call in (
        lambda: model.train_step(X[:8], labels),
        lambda: model.train((X, labels), progress=False),
        lambda: model.evaluate((X, labels)),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            call()
    assert bits(model) == before


def test_labels_that_do_not_fit_are_named_by_their_loss() -> None:
    model = initialized()
    with pytest.raises(DataShapeError, match=r"y\['angle'\] has the shape \(22, 3\)"):
        model.evaluate((X, {**Y, "angle": np.zeros((22, 3))}))
    with pytest.raises(DataShapeError, match=r"mine: y\['digit'\] has the shape"):
        ac.Dataset("mine", X, {"digit": np.zeros(3)})
    with pytest.raises(DataTypeError, match="y is a dict with nothing"):
        ac.Dataset("mine", X, {})
    wrong = Y["angle"].copy()
    wrong[3, 1] = math.nan
    with pytest.raises(ac.errors.DataError, match=r"y\['angle'\] has 1 values"):
        model.train_step(X[:8], {"digit": Y["digit"][:8], "angle": wrong[:8]})


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "much"])
def test_a_weight_that_cannot_be_is_refused(weight: object) -> None:
    with pytest.raises(InvalidParameterError, match=r"weight.*a number of at least 0"):
        heads(weight)  # type: ignore[arg-type]


def test_a_loss_in_the_middle_is_refused() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("mse", name="first")
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="second")
    with pytest.raises(LossError, match=r"'first' is read by 'fc'.*input_layers"):
        model.compile()
