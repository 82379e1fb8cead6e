"""Norms over groups and instances, without weights, shared, by moving statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layer_probe import Probe, Shape, assert_is, needs_torch, run
from helpers.same_bits import assert_same_bits
from helpers.strategies import OPTIMIZERS, ModelSpec

from arena_ckpt import Model, load_ini
from arena_ckpt.errors import (
    BatchStatisticsError,
    ShapeMismatchError,
    SharedWeightsError,
)
from arena_ckpt.layers import create_layer

try:
    import torch
except ImportError:
    torch = None

NORMS: list[tuple[str, Shape, dict[str, Any], int | None]] = [
    ("group_normalization", (6, 5, 7), {"num_groups": 3}, 3),
    ("group_normalization", (4, 9, 8), {"num_groups": 1}, 1),
    ("group_normalization", (4, 1, 40), {"num_groups": 2, "affine": False}, 2),
    ("group_normalization", (1, 1, 12), {"num_groups": 4, "epsilon": 0.1}, 4),
    ("instance_normalization", (3, 6, 7), {}, 3),
    ("instance_normalization", (2, 1, 65), {"affine": False}, 2),
    ("instance_normalization", (1, 1, 9), {}, None),
    ("layer_normalization", (2, 3, 5), {"affine": False}, None),
]


@needs_torch
@pytest.mark.parametrize(("kind", "shape", "values", "groups"), NORMS, ids=str)
def test_norms_are_those_of_pytorch(
    kind: str, shape: Shape, values: dict[str, Any], groups: int | None
) -> None:
    epsilon = values.get("epsilon", 1e-3)

    def judge(x: Any, w: dict[str, Any]) -> Any:
        gamma, beta = w.get("gamma"), w.get("beta")
        assert (gamma is None) == (values.get("affine") is False)
        if kind == "instance_normalization":
            instance_norm = torch.nn.functional.instance_norm
            return instance_norm(x, weight=gamma, bias=beta, eps=epsilon)
        if groups is None:
            return torch.nn.functional.layer_norm(x, shape[2:], eps=epsilon)
        rows = x[:, 0, 0] if shape[:2] == (1, 1) else x
        y = torch.nn.functional.group_norm(rows, groups, gamma, beta, epsilon)
        return y.reshape(x.shape)

    assert_is(Probe(kind, shape, values), judge)


@pytest.mark.parametrize("kind", ["layer_normalization", "instance_normalization"])
def test_a_norm_without_weights_is_one_with_ones_and_zeros(kind: str) -> None:
    probe = Probe(kind, (2, 3, 5), {"affine": False})
    plain = run(probe)
    assert not [name for name in plain if name.startswith("it:")]
    model = Probe(kind, (2, 3, 5), {}).spec.initialized()
    model.set_weights({"pre:weight": plain["pre:weight"]})
    assert model.predict(plain["x"]).tobytes() == plain["y"].tobytes()


def test_layers_far_from_0_keep_their_variance() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4, 6, 6)) + 3000
    y = run(Probe("group_normalization", (4, 6, 6), {"num_groups": 2}), x)
    rows = y["x"].astype(np.float64).reshape(5, 2, -1)
    exact = rows - rows.mean(-1, keepdims=True)
    exact /= np.sqrt(rows.var(-1, keepdims=True) + 1e-3)
    gamma, beta = (y[f"it:{name}"][:, None, None] for name in ("gamma", "beta"))
    expected = exact.reshape(5, 4, 6, 6) * gamma + beta
    np.testing.assert_allclose(y["y"], expected, atol=2e-3)


# -- batch normalization by its moving statistics --------------------------------------


def batch_net(**values: Any) -> Model:
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="2:3:4")
    model.add_layer("conv2d", name="conv", filters=3, kernel_size=1)
    model.add_layer("batch_normalization", name="bn", **values)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=4)
    model.set_optimizer("sgd", learning_rate=0.1)
    return model


def batch() -> tuple[Any, Any]:
    random = np.random.default_rng(2)
    return random.normal(size=(4, 2, 3, 4)), random.normal(size=(4, 3, 3, 4))


@needs_torch
def test_moving_statistics_normalize_a_training_that_trains_gamma_and_beta() -> None:
    model = batch_net(statistics="moving")
    model.initialize()
    given = {
        "bn:moving_mean": np.array([0.5, -1, 0], np.float32),
        "bn:moving_variance": np.array([2, 0.5, 1], np.float32),
    }
    model.set_weights(given)
    x, y = batch()
    before, (_, gradients) = model.weights(), model.compute_gradients(x, y)
    weights = {
        name: torch.tensor(value.astype(np.float64), requires_grad=name in gradients)
        for name, value in before.items()
    }
    bn = {name[3:]: value for name, value in weights.items() if name[:3] == "bn:"}
    out = torch.conv2d(torch.tensor(x), weights["conv:filter"], weights["conv:bias"])
    moving, given_affine = (
        (bn["moving_mean"], bn["moving_variance"]),
        (bn["gamma"], bn["beta"]),
    )
    out = torch.nn.functional.batch_norm(out, *moving, *given_affine, False, 0.0, 1e-3)
    torch.nn.functional.mse_loss(out, torch.tensor(y)).backward()
    assert set(gradients) == {"conv:filter", "conv:bias", "bn:gamma", "bn:beta"}
    for name, gradient in gradients.items():
        exact = weights[name].grad.numpy()
        np.testing.assert_allclose(gradient, exact, rtol=2e-5, atol=1e-6, err_msg=name)
    model.train_step(x, y)
    after = model.weights()
    assert all((after[name] == given[name]).all() for name in given)
    assert (after["bn:gamma"] != before["bn:gamma"]).all()


def test_what_moving_statistics_free_a_layer_of() -> None:
    """Nothing depends on the batch; the statistics are constants, as in flash."""

    def rows(batch_size: int, statistics: str) -> Any:
        model = Model()
        model.add_layer("input", name="in", input_shape="1:1:4")
        model.add_layer("batch_normalization", name="bn", statistics=statistics)
        model.add_layer("mse", name="loss")
        model.set_property(batch_size=batch_size)
        return model.make_plan()

    with pytest.raises(BatchStatisticsError, match="statistics=moving"):
        rows(1, "batch")
    assert rows(2, "batch").constant_bytes == 0
    assert rows(1, "moving").constant_bytes >= 2 * 4 * 4


def test_frozen_layers_take_the_moving_statistics() -> None:
    with pytest.raises(ShapeMismatchError, match="statistics=batch and trainable=fal"):
        batch_net(statistics="batch", trainable=False).make_plan()
    both = [batch_net(**v) for v in ({}, {"statistics": "moving"})]
    first, second = (
        batch_net(trainable=False, **values)
        for values in ({}, {"statistics": "moving"})
    )
    x, y = batch()
    losses = []
    for model in (first, second, *both):
        model.initialize()
        losses.append([model.train_step(x, y) for _ in range(2)])
    assert losses[0] == losses[1]
    assert losses[0][0] == losses[3][0] != losses[2][0]


# -- shared ----------------------------------------------------------------------------


@needs_torch
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("layer_normalization", {"axis": 1}),
        ("rms_norm", {}),
        ("group_normalization", {"num_groups": 3}),
        ("instance_normalization", {}),
        ("batch_normalization", {"momentum": 0.5}),
    ],
)
def test_a_norm_can_share_the_weights_of_another(
    kind: str, values: dict[str, Any]
) -> None:
    from helpers.torch_judge import TorchJudge

    layers: tuple[tuple[str, dict[str, Any]], ...] = (
        ("input", {"name": "in", "input_shape": (3, 2, 4)}),
        ("conv2d", {"name": "a", "filters": 3, "kernel_size": 1}),
        (kind, {"name": "b", **values}),
        ("activation", {"name": "c", "activation": "gelu"}),
        (kind, {"name": "d", "shared_from": "b", **values}),
        ("mse", {"name": "loss"}),
    )
    spec = ModelSpec(layers, (("b", "c", "d"),), {"batch_size": 4}, OPTIMIZERS[0])
    assert_same_bits(spec)
    model = spec.initialized()
    assert not [name for name in model.weights() if name.startswith("d:")]
    x, y = spec.batch(4)
    _, ours = model.compute_gradients(x, y)
    _, theirs = TorchJudge(model, "float64").compute_gradients(x, y)
    assert set(ours) == {f"a:{n}" for n in ("filter", "bias")} | {
        name for name in theirs if name.startswith("b:")
    }
    for name, gradient in ours.items():
        largest = np.abs(theirs[name]).max()
        error = np.abs(gradient - theirs[name]).max()
        assert error <= 1e-4 * largest + 1e-6, name


def test_norms_that_cannot_share_are_named() -> None:
    for values, error, message in (
        ({"num_groups": 2}, None, ""),
        ({"num_groups": 1}, None, ""),
        ({"num_groups": 2, "trainable": False}, SharedWeightsError, "frozen"),
        ({"num_groups": 2, "affine": False}, ShapeMismatchError, "no weights to share"),
    ):
        model = Model()
        model.add_layer("input", name="in", input_shape="4:2:2")
        model.add_layer("group_normalization", name="a", num_groups=2)
        model.add_layer("group_normalization", name="b", shared_from="a", **values)
        model.add_layer("mse", name="loss")
        if error is None:
            model.make_plan()
            continue
        with pytest.raises(error, match=message):
            model.make_plan()


# -- bits, files, wrong use ------------------------------------------------------------

NETWORK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("input", {"name": "in", "input_shape": (3, 5, 4)}),
    ("conv2d", {"name": "a", "filters": 4, "kernel_size": 3, "padding": 1}),
    ("group_normalization", {"name": "b", "num_groups": 2}),
    ("activation", {"name": "c", "activation": "gelu"}),
    ("instance_normalization", {"name": "d", "affine": False}),
    ("batch_normalization", {"name": "e", "statistics": "moving"}),
    ("layer_normalization", {"name": "f", "affine": False, "axis": (1, 3)}),
    ("flatten", {"name": "g"}),
    ("group_normalization", {"name": "h", "num_groups": 4, "affine": False}),
    ("fully_connected", {"name": "i", "unit": 3}),
    ("cross_softmax", {"name": "loss"}),
)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_same_bits(micro_batches: int) -> None:
    properties = {"batch_size": 5, "micro_batches": micro_batches}
    blocks = (("b", "c", "d"), ("e", "f", "g", "h"))
    assert_same_bits(ModelSpec(NETWORK, blocks, properties, OPTIMIZERS[3]))


def test_norms_survive_being_written(tmp_path: Path) -> None:
    ModelSpec(NETWORK, properties={"batch_size": 2}).model().save_ini(
        tmp_path / "m.ini"
    )
    text = (tmp_path / "m.ini").read_text()
    assert {"num_groups = 2", "affine = false", "statistics = moving"} <= set(
        text.lower().splitlines()
    )
    load_ini(tmp_path / "m.ini").save_ini(tmp_path / "again.ini")
    assert (tmp_path / "again.ini").read_text() == text


@pytest.mark.parametrize(
    ("kind", "shape", "values", "message"),
    [
        ("group_normalization", (4, 2, 2), {}, "has no num_groups"),
        (
            "group_normalization",
            (4, 2, 2),
            {"num_groups": 3},
            "has num_groups=3, which do not divide its 4 channels",
        ),
        (
            "group_normalization",
            (1, 1, 10),
            {"num_groups": 3},
            "has num_groups=3, which do not divide its 10 columns",
        ),
        ("instance_normalization", (4, 1, 1), {}, "normalizes groups of one value of"),
    ],
)
def test_groups_that_cannot_be_are_named(
    kind: str, shape: Shape, values: dict[str, Any], message: str
) -> None:
    layer = create_layer(kind, name="it", **values)
    with pytest.raises(
        ShapeMismatchError, match=f"layer 'it' \\({kind}\\):? {message}"
    ):
        layer.infer((shape,))
