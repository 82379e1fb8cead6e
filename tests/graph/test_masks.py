"""Masks that hold -inf, as the page on attention promises; all other data may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.strategies import normal

import arena_ckpt as ac
from arena_ckpt.errors import NonFiniteDataError, NonFiniteError
from arena_ckpt.graph.masks import mask_tensors

N, T, D = 3, 5, 4
CAUSAL = np.triu(np.full((T, T), -np.inf, np.float32), 1)


def masked_net(
    attention: str = "auto", *, through: tuple[str, ...] = (), **properties: Any
) -> ac.Model:
    """One self-attention with a mask that may first go through layers."""
    model = ac.Model(seed=1)
    model.add_layer("input", name="x", input_shape=(1, T, D))
    model.add_layer("input", name="mask", input_shape=(1, T, T))
    last = "mask"
    for kind in through:
        given = {"reshape": {"target_shape": (1, T, T)}, "permute": {"direction": MOVE}}
        model.add_layer(kind, name=kind, input_layers=last, **given.get(kind, {}))
        last = kind
    model.add_layer("fully_connected", name="fc", unit=D, input_layers="x")
    model.add_layer(
        "multi_head_attention",
        name="a",
        num_heads=2,
        attention=attention,
        input_layers=["fc", "fc", "fc", last],
    )
    model.add_layer("fully_connected", name="out", unit=2)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=N, **properties)
    model.set_optimizer("adam", learning_rate=1e-3)
    return model


MOVE = "1,3,2"


def data(mask: np.ndarray = CAUSAL) -> tuple[dict[str, np.ndarray], np.ndarray]:
    generator = np.random.default_rng(0)
    x = {
        "x": normal(generator, N, T * D),
        "mask": np.broadcast_to(mask, (N, T, T)).reshape(N, -1).copy(),
    }
    return x, normal(generator, N, T * 2)


def bits(model: ac.Model) -> dict[str, bytes]:
    return {name: weight.tobytes() for name, weight in model.weights().items()}


WAYS: dict[str, dict[str, Any]] = {
    "usual": {},
    "debug": {"debug": True},
    "check": {"check": "all"},
}


@pytest.mark.parametrize("attention", ["plain", "tiled"])
@pytest.mark.parametrize("way", WAYS)
def test_minus_infinity_is_what_is_causal(attention: str, way: str) -> None:
    masked = masked_net(attention)
    masked.initialize(**WAYS[way])
    causal = ac.Model(seed=1)
    for layer in masked.layers:
        if layer.name == "a":
            causal.add_layer(
                layer, is_causal=True, input_layers=["fc", "fc", "fc"], name="a"
            )
        elif layer.name != "mask":
            causal.add_layer(layer)
    causal.set_property(batch_size=N)
    causal.set_optimizer(masked.optimizer)
    causal.initialize()
    x, y = data()
    for _ in range(3):
        loss, gradients = masked.compute_gradients(x, y)
        expected, theirs = causal.compute_gradients(x["x"], y)
        assert loss == pytest.approx(expected, rel=1e-6)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, theirs[name], atol=1e-6)
        masked.train_step(x, y)
        causal.train_step(x["x"], y)
    predicted = masked.predict(x)
    np.testing.assert_allclose(predicted, causal.predict(x["x"]), atol=1e-5)
    history = masked.train((x, y), validation=(x, y), epochs=2)
    assert np.isfinite(history.epochs[-1].loss)


@pytest.mark.parametrize("attention", ["plain", "tiled"])
def test_a_row_masked_throughout_gives_zero_and_no_derivatives(attention: str) -> None:
    mask = CAUSAL.copy()
    mask[2] = -np.inf
    everything = np.full((T, T), -np.inf, np.float32)
    model = masked_net(attention)
    model.initialize(check="all")
    weights = model.weights()
    x, y = data(mask)
    bias = weights["a:fc_bias"] @ weights["out:weight"] + weights["out:bias"]
    np.testing.assert_allclose(model.predict(x)[:, 0, 2], bias[None].repeat(N, 0))
    # What only forbidden rows read gets no gradient, and it is 0, never NaN.
    loss, gradients = model.compute_gradients(data(everything)[0], y)
    assert np.isfinite(loss)
    for name, gradient in gradients.items():
        assert np.isfinite(gradient).all(), name
        if name.startswith(("fc:", "a:query", "a:key", "a:value", "a:fc_weight")):
            assert (gradient == 0).all(), name
    assert (gradients["out:bias"] != 0).any()


@pytest.mark.parametrize("attention", ["plain", "tiled"])
def test_pytorch_agrees(attention: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    generator = np.random.default_rng(3)
    mask = np.where(generator.random((T, T)) < 0.5, -np.inf, 0).astype(np.float32)
    mask[0] = -np.inf
    model = masked_net(attention)
    model.initialize()
    x, y = data(mask)
    loss, gradients = model.compute_gradients(x, y)
    w = {n: torch.tensor(v, requires_grad=True) for n, v in model.weights().items()}
    h = torch.tensor(x["x"]).reshape(N, T, D) @ w["fc:weight"] + w["fc:bias"]
    q, k, v = (
        (h @ w[f"a:{p}_fc_weight"] + w[f"a:{p}_fc_bias"])
        .reshape(N, T, 2, -1)
        .transpose(1, 2)
        for p in ("query", "key", "value")
    )
    attend = torch.nn.functional.scaled_dot_product_attention
    o = attend(q, k, v, torch.tensor(mask)).transpose(1, 2).reshape(N, T, -1)
    o = (o @ w["a:fc_weight"] + w["a:fc_bias"]) @ w["out:weight"] + w["out:bias"]
    expected = ((o.reshape(N, -1) - torch.tensor(y)) ** 2).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in gradients.items():
        theirs = w[name].grad.numpy()
        assert np.isfinite(theirs).all()
        np.testing.assert_allclose(gradient, theirs, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_that_moves_keeps_its_infinities(way: str) -> None:
    model = masked_net(through=("permute", "reshape", "identity"))
    model.add_checkpoint_block(["permute", "reshape", "identity", "fc"])
    tensors = mask_tensors(model.compile())
    assert {"mask:out0", "permute:out0"} <= tensors
    assert "fc:out0" not in tensors
    model.initialize(**WAYS[way])
    plain = masked_net()
    plain.initialize()
    x, y = data(CAUSAL.T.copy())
    straight, _ = data()
    assert model.train_step(x, y) == plain.train_step(straight, y)
    assert bits(model) == bits(plain)


def test_a_mask_of_doubles_is_cut_off_at_float32() -> None:
    model = masked_net()
    model.initialize()
    x, y = data()
    wide = {**x, "mask": np.where(np.isinf(x["mask"]), -1e300, 0.0)}
    assert model.evaluate((wide, y)).loss == model.evaluate((x, y)).loss


def test_verify_takes_masks_with_infinities() -> None:
    result = ac.verify(masked_net(), data(), command=("/no/such/program",))
    assert result.passed, [c for c in result.checks if c.passed is False]


# -- what is still refused -------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("where", "value"),
    [("mask", np.inf), ("mask", np.nan), ("x", -np.inf), ("x", np.nan)],
)
def test_all_else_is_refused(where: str, value: float, way: str) -> None:
    model = masked_net()
    model.initialize(**WAYS[way])
    before = bits(model)
    x, y = data()
    x[where][1, 3] = value
    for call in (
        lambda: model.train_step(x, y),
        lambda: model.compute_gradients(x, y),
        lambda: model.train((x, y)),
        lambda: model.evaluate((x, y)),
        lambda: model.predict(x),
    ):
        with pytest.raises(NonFiniteDataError, match=where) as caught:
            call()
        assert caught.value.count == 1
        assert tuple(caught.value.index) == (1, 3)
    assert bits(model) == before


def both_net() -> ac.Model:
    """What is read as a mask is read as numbers as well."""
    model = ac.Model(seed=1)
    model.add_layer("input", name="x", input_shape=(1, T, T))
    model.add_layer("input", name="mask", input_shape=(1, T, T))
    model.add_layer(
        "multi_head_attention",
        name="a",
        num_heads=1,
        input_layers=["x", "x", "x", "mask"],
    )
    model.add_layer("addition", name="sum", input_layers=["a", "mask"])
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=N)
    return model


def test_what_something_else_reads_too_keeps_the_check() -> None:
    model = both_net()
    assert mask_tensors(model.compile()) == frozenset()
    model.initialize()
    x = {"x": np.zeros((N, T * T)), "mask": data()[0]["mask"]}
    with pytest.raises(NonFiniteDataError, match="mask"):
        model.train_step(x, np.zeros((N, T * T)))
    with pytest.raises(NonFiniteDataError, match="mask"):
        model.evaluate((x, np.zeros((N, T * T))))


def test_a_mask_for_two_layers_is_one() -> None:
    model = ac.Model(seed=1)
    model.add_layer("input", name="x", input_shape=(1, T, D))
    model.add_layer("input", name="mask", input_shape=(1, T, T))
    last = "x"
    for name in ("a", "b"):
        sources = [last, last, last, "mask"]
        model.add_layer(
            "multi_head_attention", name=name, num_heads=2, input_layers=sources
        )
        last = name
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=N)
    assert mask_tensors(model.compile()) == {"mask:out0"}
    model.initialize(check="all")
    assert np.isfinite(model.train_step(data()[0], np.zeros((N, T * D))))


def test_a_mask_that_is_computed_is_looked_at_as_any_tensor() -> None:
    model = ac.Model(seed=1)
    model.add_layer("input", name="x", input_shape=(1, T, D))
    model.add_layer("input", name="raw", input_shape=(1, T, T))
    model.add_layer("pow", name="mask", exponent=3, input_layers="raw")
    model.add_layer(
        "multi_head_attention", name="a", num_heads=2, input_layers=["x"] * 3 + ["mask"]
    )
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=N)
    assert mask_tensors(model.compile()) == frozenset()
    model.initialize(check="all")
    x = {"x": data()[0]["x"], "raw": np.full((N, T * T), -1e30, np.float32)}
    with pytest.raises(NonFiniteError, match="mask:out0"):
        model.train_step(x, np.zeros((N, T * D)))
