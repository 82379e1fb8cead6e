"""An output layer that is the transposed embedding: one weight, gradients of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.mixed_graphs import MixedSpec
from helpers.same_bits import assert_same_bits

from arena_ckpt import Model, load, load_ini, verify
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import ShapeMismatchError, SharedWeightsError

TIED = {"shared_from": "table", "transpose": True, "bias": False}


def spec(
    head: dict[str, Any] | None = None,
    table: dict[str, Any] | None = None,
    **values: Any,
) -> MixedSpec:
    layers = (
        ("input", {"name": "ids", "input_shape": (1, 1, 5)}),
        ("embedding", {"name": "table", "in_dim": 7, "out_dim": 4, **(table or {})}),
        ("fully_connected", {"name": "hidden", "unit": 4, "activation": "tanh"}),
        ("fully_connected", {"name": "head", "unit": 7, **TIED, **(head or {})}),
        ("cross_softmax", {"name": "loss", "per_token": True}),
    )
    adam = ("adam", {"learning_rate": 0.01})
    return MixedSpec(layers, (("hidden", "head"),), {"batch_size": 4, **values}, adam)


@pytest.mark.parametrize("padding_idx", [None, 3])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_it_trains_as_in_pytorch(micro_batches: int, padding_idx: int | None) -> None:
    pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    from helpers.torch_judge import TorchJudge

    table = {} if padding_idx is None else {"padding_idx": padding_idx}
    model = spec(table=table, micro_batches=micro_batches).initialized()
    if padding_idx is not None:
        assert not model.weights()["table:weight"][padding_idx].any()
    judge = TorchJudge(model)
    x, y = spec().batch(4)
    loss, gradients = model.compute_gradients(x, y)
    expected, theirs = judge.compute_gradients(x, y)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert list(gradients) == ["table:weight", "hidden:weight", "hidden:bias"]
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, theirs[name], rtol=1e-4, atol=1e-6)
    for _ in range(5):
        model.train_step(x, y)
        judge.train_step(x, y)
    for name, weight in model.weights().items():
        np.testing.assert_allclose(weight, judge.weights()[name], rtol=1e-3, atol=1e-5)


def test_a_padding_row_without_a_head_stays_zero() -> None:
    model = Model(seed=0)
    model.add_layer("input", name="ids", input_shape=(1, 1, 3))
    model.add_layer("embedding", name="table", in_dim=5, out_dim=2, padding_idx=1)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=2, micro_batches=2)
    model.initialize()
    ids = np.array([[1, 2, 1], [1, 1, 4]], np.float32)
    before = model.weights()["table:weight"].copy()
    model.train_step(ids, np.ones((2, 6), np.float32))
    moved = np.flatnonzero((model.weights()["table:weight"] != before).any(1))
    assert moved.tolist() == [2, 4]
    assert not model.weights()["table:weight"][1].any()


@pytest.mark.parametrize("values", [{}, {"micro_batches": 3}], ids=str)
def test_no_plan_changes_a_bit(values: Any) -> None:
    assert_same_bits(spec(table={"padding_idx": 0}, **values))


def test_verify_finds_nothing() -> None:
    result = verify(spec(table={"padding_idx": 2}).model())
    assert result.passed, str(result)


def test_the_plan_has_one_weight_in_steps_of_both() -> None:
    plan = spec().initialized().plan
    assert [t.name for t in plan.tensors if t.name.endswith(":weight")] == [
        "table:weight",
        "hidden:weight",
    ]
    users = {
        (e.layer, e.phase)
        for e in plan.executions
        for o in e.operands
        if plan.tensors[o.tensor].name.startswith("table:weight")
    }
    assert users == {
        *(("table", p) for p in (Phase.FORWARD, Phase.CALC_GRADIENT)),
        *(("head", p) for p in (Phase.FORWARD, Phase.CALC_GRADIENT)),
        *(("head", Phase.CALC_DERIVATIVE), ("table", Phase.APPLY_GRADIENT)),
    }


def test_an_autoencoder_turns_its_encoder_back() -> None:
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape=(1, 1, 6))
    model.add_layer("fully_connected", name="encode", unit=3, bias=False)
    tied = {"shared_from": "encode", "transpose": True, "bias": False}
    model.add_layer("fully_connected", name="decode", unit=6, **tied)
    model.add_layer("mse", name="loss")
    model.initialize()
    x = np.random.default_rng(0).normal(size=(1, 6)).astype(np.float32)
    weight = model.weights()["encode:weight"]
    np.testing.assert_allclose(model.predict(x)[0, 0], x @ weight @ weight.T, rtol=1e-5)


def test_shapes_that_do_not_fit_are_refused_by_name() -> None:
    says = (
        r"'head' cannot share the transposed weight of 'table': it needs weight "
        r"\(8, 4\); that layer has weight \(7, 4\). .*unit has to be its rows"
    )
    with pytest.raises(SharedWeightsError, match=says) as caught:
        spec({"unit": 8}).model().compile()
    assert (caught.value.layer, caught.value.shared_from) == ("head", "table")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"shared_from": None}, "has transpose=true, which .*set shared_from"),
        ({"bias": True, "lora_rank": 1}, "lora_rank and a bias .*set bias=false"),
    ],
    ids=str,
)
def test_a_transposed_weight_is_that_of_another_layer(values: Any, says: str) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=4)
    model.add_layer("fully_connected", name="own", unit=3)
    given = {k: v for k, v in {**TIED, "shared_from": "own", **values}.items() if v}
    model.add_layer("fully_connected", name="head", unit=4, **given)
    model.add_layer("mse", name="loss")
    with pytest.raises(ShapeMismatchError, match=f"'head'.*{says}"):
        model.compile()


BIASED: dict[str, Any] = {
    **{"bias": True, "activation": "tanh", "bias_initializer": "ones"},
    **{"bias_decay": 0.1, "learning_rate_scale": 0.5},
}


def test_a_head_has_a_bias_of_its_own() -> None:
    pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    from helpers.torch_judge import TorchJudge

    model = spec(BIASED, micro_batches=3).initialized()
    bias = model.weights()["head/bias:weight"]
    np.testing.assert_array_equal(bias, np.ones((1, 1, 7), np.float32))
    judge = TorchJudge(model)
    x, y = spec().batch(4)
    _, gradients = model.compute_gradients(x, y)
    theirs = judge.compute_gradients(x, y)[1]
    np.testing.assert_allclose(
        gradients["head/bias:weight"], theirs["head/bias:weight"], atol=1e-6
    )
    for _ in range(5):
        model.train_step(x, y)
        judge.train_step(x, y)
    for name, weight in model.weights().items():
        np.testing.assert_allclose(weight, judge.weights()[name], rtol=1e-3, atol=1e-5)
    assert_same_bits(spec(BIASED).without_blocks())


def test_a_bias_of_its_own_is_saved_and_frozen(tmp_path: Path) -> None:
    model = spec(BIASED).without_blocks().initialized()
    model.save(tmp_path / "run.safetensors")
    x, y = spec().batch(4)
    assert load(tmp_path / "run.safetensors").train_step(x, y) == model.train_step(x, y)
    model.save_ini(tmp_path / "net.ini")
    read = load_ini(tmp_path / "net.ini")
    assert read.layers[-2].given == model.layers[-2].given
    assert read.make_plan() == model.plan
    frozen = {"trainable": False}
    plan = spec({**BIASED, **frozen}, frozen).without_blocks().initialized().plan
    assert {"table:weight", "head/bias:weight"} <= {
        b.tensor for b in plan.buffers if b.memory == "constants"
    }


def test_a_padding_row_that_is_not_there() -> None:
    with pytest.raises(
        ShapeMismatchError, match=r"padding_idx 7 and in_dim 7; .*0 to 6"
    ):
        spec(table={"padding_idx": 7}).model().compile()
