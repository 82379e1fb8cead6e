"""Weights of samples are a second input of any loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.errors import (
    InvalidParameterError,
    LabelRangeError,
    ShapeMismatchError,
)

GENERATOR = np.random.default_rng(3)
N = 10
X = GENERATOR.standard_normal((N, 6)).astype(np.float32)
WEIGHTS = GENERATOR.uniform(0, 2, N).astype(np.float32)

LOSSES: dict[str, tuple[dict[str, Any], Any]] = {
    "mse": ({}, GENERATOR.standard_normal((N, 4)).astype(np.float32)),
    "huber": ({}, GENERATOR.standard_normal((N, 4)).astype(np.float32)),
    "cross_softmax": ({}, GENERATOR.integers(0, 4, N)),
    "cross_sigmoid": ({}, GENERATOR.integers(0, 2, (N, 4)).astype(np.float32)),
}


def model_of(kind: str = "mse", **properties: object) -> Model:
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc", unit=4)
    model.add_layer("input", name="trust", input_shape="1:1:1")
    given = LOSSES[kind][0]
    model.add_layer(kind, name="loss", input_layers="fc,trust", **given)
    model.set_property(**{"batch_size": N, **properties})
    model.set_optimizer("sgd", learning_rate=0.1)
    return model


def initialized(*arguments: Any, **properties: Any) -> Model:
    model = model_of(*arguments, **properties)
    model.initialize()
    return model


def bits(model: Model) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.weights().items()}


@pytest.mark.parametrize("kind", LOSSES)
def test_terms_count_as_much_as_the_weights_of_their_samples(kind: str) -> None:
    y = LOSSES[kind][1]
    model = initialized(kind)
    alone = [model.evaluate((X[i : i + 1], y[i : i + 1])).loss for i in range(N)]
    assert model.evaluate((X, y)).loss == pytest.approx(np.mean(alone), rel=1e-6)
    found = model.evaluate((X, y, WEIGHTS)).loss
    assert found == pytest.approx(np.mean(WEIGHTS * alone), rel=1e-6)
    gradients = [
        model.compute_gradients(X[i : i + 1], y[i : i + 1])[1]["fc:weight"]
        for i in range(N)
    ]
    x = {"in": X, "trust": WEIGHTS}
    gradient = model.compute_gradients(x, y)[1]["fc:weight"]
    expected = np.tensordot(WEIGHTS, np.array(gradients), 1) / N
    assert np.allclose(gradient, expected, atol=1e-6)


def test_the_plan_and_its_gradients_are_verified() -> None:
    y = LOSSES["mse"][1]
    result = ac.verify(model_of(micro_batches=3), (X, y, WEIGHTS))
    assert result.passed, str(result)


class Batches:
    """Batches with weights, as often as they are asked for."""

    def __iter__(self) -> Iterator[Any]:
        for start in (0, 5):
            part = slice(start, start + 5)
            yield X[part], LOSSES["mse"][1][part], WEIGHTS[part]


def test_weights_beside_labels_and_as_an_input_give_the_same_bits(
    tmp_path: Path,
) -> None:
    y = LOSSES["mse"][1]
    path = tmp_path / "data.npz"
    np.savez(path, **{"x:in": X, "x:trust": WEIGHTS}, y=y)
    named = {"in": X, "trust": WEIGHTS.reshape(N, 1)}
    sources = [
        *((X, y, WEIGHTS), (X, y, {"loss": WEIGHTS}), (named, y)),
        *(ac.Dataset("mine", named, y), ac.load_npz(path), Batches()),
    ]
    found = []
    for data in sources:
        model = initialized(batch_size=5)
        history = model.train(data, epochs=2, shuffle=False, progress=False)
        found.append((history.epochs[-1].loss, bits(model)))
    assert all(one == found[0] for one in found)
    plain = initialized(batch_size=5)
    plain.train((X, y), epochs=2, shuffle=False, progress=False)
    assert bits(plain) != found[0][1]


def test_a_model_predicts_and_standardizes_without_weights() -> None:
    y = LOSSES["mse"][1]
    model = initialized()
    model.standardize((X * 30, y, WEIGHTS))
    assert list(model.standardization.inputs) == ["in"]
    assert model.predict(X).shape == (N, 1, 1, 4)
    alone = model_of()
    alone.initialize(mode="inference")
    alone.set_weights(model.weights())
    alone.standardize((X * 30, None))
    assert np.array_equal(alone.predict(X), model.predict(X))


def test_wrong_weights_are_refused() -> None:
    y = LOSSES["mse"][1]
    model = initialized()
    below = WEIGHTS.copy()
    below[7] = -0.5
    with pytest.raises(LabelRangeError, match=r"sample 7 for the loss 'loss'.* -0\.5"):
        model.train((X, y, below), progress=False)
    with pytest.raises(InvalidParameterError, match="weights of no loss 'lost'"):
        model.evaluate((X, y, {"lost": WEIGHTS}))
    with pytest.raises(ac.errors.DataError):
        model.evaluate((X, y, WEIGHTS[:3]))
    plain = Model()
    plain.add_layer("input", name="in", input_shape="1:1:6")
    plain.add_layer("mse", name="loss")
    plain.initialize()
    with pytest.raises(InvalidParameterError, match="no loss of the model reads any"):
        plain.evaluate((X, X, WEIGHTS))


def test_a_second_input_of_another_shape_is_refused() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("input", name="other", input_shape="1:1:6")
    model.add_layer("mse", name="loss", input_layers="in,other")
    with pytest.raises(ShapeMismatchError, match="a weight for each sample, 1:1:1"):
        model.compile()
