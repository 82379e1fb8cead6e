"""Outputs of inner layers: `predict(outputs=…)`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers.strategies import ModelSpec, chain

import arena_ckpt as ac
from arena_ckpt.errors import InvalidParameterError, UnknownLayerError


def model_of(mode: str = "train", **settings: Any) -> ac.Model:
    """Layers whose outputs are overwritten, moved, split and taken apart."""
    model = ac.Model(seed=2)
    model.add_layer("input", name="in", input_shape="2:4:4")
    model.add_layer("conv2d", name="conv", filters=3, kernel_size="3,3")
    model.add_layer("activation", name="act", activation="relu")
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="fc", unit=6, activation="tanh")
    model.add_layer("dropout", name="drop", dropout_rate=0.5)
    model.add_layer("split", name="halves", axis=3, split_number=2)
    model.add_layer("add", name="sum", input_layers=["halves(0)", "halves(1)"])
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.add_checkpoint_block(["conv", "act", "flat", "fc"])
    model.set_property(batch_size=3)
    model.initialize(mode=mode, **settings)
    return model


X = np.random.default_rng(0).normal(size=(7, 2, 4, 4)).astype(np.float32)
NAMES = ["out", "in", "conv", "act", "flat", "fc", "drop", "halves(1)", "sum", "loss"]


def expected_of(model: ac.Model) -> dict[str, np.ndarray]:
    """Compute the outputs from the weights, in float64."""
    w = {name: value.astype(np.float64) for name, value in model.weights().items()}
    filters, bias = (w[f"conv:{n}"] for n in ("filter", "bias"))
    windows = np.lib.stride_tricks.sliding_window_view(X, (3, 3), axis=(2, 3))
    made: dict[str, np.ndarray] = {"in": X}
    conv = np.einsum("nchwij,fcij->nfhw", windows, filters) + bias.reshape(1, -1, 1, 1)
    made["conv"], made["act"] = conv, conv.clip(0)
    flat = made["act"].reshape(7, -1)
    fc = np.tanh(flat @ w["fc:weight"] + w["fc:bias"])
    made |= {"flat": flat, "fc": fc, "drop": fc, "halves(1)": fc[:, 3:]}
    made["sum"] = fc[:, :3] + fc[:, 3:]
    made["out"] = made["sum"] @ w["out:weight"] + w["out:bias"]
    powers = np.exp(made["out"])
    made["loss"] = powers / powers.sum(axis=1, keepdims=True)
    return made


@pytest.mark.parametrize(
    ("mode", "settings"),
    [("train", {}), ("train", {"debug": True}), ("inference", {})],
    ids=str,
)
def test_they_are_what_the_layers_make(mode: str, settings: dict[str, Any]) -> None:
    model = model_of(mode, **settings)
    expected = expected_of(model)
    found = model.predict(X, outputs=NAMES)
    assert list(found) == NAMES
    for name, values in found.items():
        assert values.dtype == np.float32
        wanted = expected[name].reshape(values.shape)
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-6, err_msg=name)
    assert found["act"].shape == (7, 3, 2, 2)
    assert found["flat"].shape == (7, 1, 1, 12)
    prediction = model.predict(X)
    assert found["loss"].tobytes() == prediction.tobytes()
    assert model.predict(X, outputs=["fc"], squeeze=True)["fc"].shape == (7, 6)


def test_what_the_next_layer_overwrites_is_copied_before() -> None:
    """A pass that adds a bias and goes on to the activation leaves no sum behind."""
    spec = chain(5, "relu", 4, "tanh", 3, loss="cross_softmax")
    model = spec.initialized()
    x, y = spec.batch(8)
    weights = model.weights()
    found = model.predict(x, outputs=["fc1", "act1", "fc2"])
    sums = x["in"] @ weights["fc1:weight"] + weights["fc1:bias"]
    assert (sums < 0).any()
    np.testing.assert_allclose(found["fc1"][:, 0, 0], sums, rtol=1e-5, atol=1e-6)
    assert found["act1"].tobytes() == found["fc1"].clip(0).tobytes()
    # The prediction keeps its bits, and training goes on as if nothing had been asked.
    other = spec.initialized()
    assert model.predict(x).tobytes() == other.predict(x).tobytes()
    assert model.train_step(x, y) == other.train_step(x, y)


def test_a_layer_that_is_taken_apart_stands_for_its_end() -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (1, 3, 2)}),
        ("lstm", {"name": "lstm", "unit": 4, "unroll": True}),
        ("fully_connected", {"name": "lstm/head", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    model = ModelSpec(layers, (), {"batch_size": 2}).initialized()
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    found = model.predict(x, outputs=["lstm", "lstm/head"])
    weights = model.weights()
    head = found["lstm"][:, 0, 0] @ weights["lstm/head:weight"]
    head += weights["lstm/head:bias"]
    np.testing.assert_allclose(found["lstm/head"][:, 0, 0], head, atol=1e-6)
    assert found["lstm/head"].tobytes() == model.predict(x).tobytes()


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        (
            ["fc", "cnov"],
            UnknownLayerError,
            "'cnov', and no layer has that name (did you mean 'conv'?)",
        ),
        (["halves(2)"], UnknownLayerError, "'halves(2)'"),
        ("fc", InvalidParameterError, "outputs='fc' is no list of names of layers"),
        ([3], InvalidParameterError, "is no list of names"),
        ([], InvalidParameterError, "outputs is empty"),
        (["fc", "fc"], InvalidParameterError, "outputs has 'fc' twice"),
    ],
)
def test_names_that_cannot_be_are_refused(
    outputs: Any, error: type[Exception], message: str
) -> None:
    model = model_of()
    with pytest.raises(error, match=re.escape(message)):
        model.predict(X, outputs=outputs)


def test_the_same_for_all_samples_is_no_output() -> None:
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:3")
    model.add_layer("weight", name="shift", dim="1:1:3")
    model.add_layer("add", name="sum", input_layers=["in", "shift"])
    model.add_layer("mse", name="loss")
    model.initialize()
    with pytest.raises(InvalidParameterError, match="the same for all samples"):
        model.predict(np.zeros((2, 3)), outputs=["shift"])
