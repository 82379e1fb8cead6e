"""Weights and constants that stand alone: every sample reads the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.same_bits import assert_same_bits
from helpers.strategies import ModelSpec

from arena_ckpt import Model, load, load_ini, verify
from arena_ckpt.errors import InvalidParameterError, ShapeMismatchError

LAYERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("input", {"name": "in", "input_shape": (1, 3, 4)}),
    ("fully_connected", {"name": "fc", "unit": 4, "activation": "tanh"}),
    ("weight", {"name": "w", "dim": (1, 3, 4)}),
    ("add", {"name": "placed", "input_layers": ["fc", "w"]}),
    ("constant", {"name": "c", "dim": (1, 1, 4), "value": (1.0, 2.0, 3.0, 0.5)}),
    ("multiply", {"name": "scaled", "input_layers": ["c", "placed"]}),
    ("weight", {"name": "k", "dim": (1, 4, 5), "weight_decay": 0.1}),
    ("matmul", {"name": "product", "input_layers": ["scaled", "k"]}),
    (
        "weight",
        {
            **{"name": "g", "dim": 1, "value": 2, "weight_regularizer": "l2norm"},
            **{"weight_regularizer_constant": 0.1},
        },
    ),
    ("divide", {"name": "divided", "input_layers": ["product", "g"]}),
    ("subtract", {"name": "moved", "input_layers": ["g", "divided"]}),
    ("weight", {"name": "least", "dim": (1, 3, 1), "value": -0.3}),
    ("maximum", {"name": "bounded", "input_layers": ["least", "moved"]}),
    ("weight", {"name": "most", "dim": (1, 3, 5), "value": 1.6}),
    ("minimum", {"name": "within", "input_layers": ["bounded", "most"]}),
    ("weight", {"name": "token", "dim": (1, 1, 5)}),
    ("concat", {"name": "first", "input_layers": ["token", "within"], "axis": 2}),
    ("constant", {"name": "ends", "dim": (1, 4, 2), "value": range(8)}),
    ("concat", {"name": "ended", "input_layers": ["first", "ends"], "axis": 3}),
    ("weight", {"name": "turned", "dim": (1, 7, 4)}),
    ("expand", {"name": "copies", "input_layers": ["turned"], "activation": "tanh"}),
    ("permute", {"name": "back", "direction": (1, 3, 2)}),
    ("addition", {"name": "sum", "input_layers": ["ended", "back"]}),
    ("flatten", {"name": "flat"}),
    ("fully_connected", {"name": "out", "unit": 2}),
    ("mse", {"name": "loss"}),
)
BLOCK = ("placed", "c", "scaled", "k", "product")


def spec(**properties: Any) -> ModelSpec:
    adam = ("adam", {"learning_rate": 0.01})
    return ModelSpec(LAYERS, (BLOCK,), {"batch_size": 6, **properties}, adam)


@pytest.mark.parametrize(
    "properties",
    [{}, {"micro_batches": 4}, {"micro_batches": 6, "clip_grad_by_norm": 0.1}],
    ids=str,
)
def test_no_plan_changes_a_bit(properties: dict[str, Any]) -> None:
    assert_same_bits(spec(**properties))


@pytest.mark.parametrize("micro_batches", [1, 4, 6])
def test_they_train_as_in_pytorch(micro_batches: int) -> None:
    pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    from helpers.torch_judge import TorchJudge

    model = spec(micro_batches=micro_batches).initialized()
    judge = TorchJudge(model)
    x, y = spec().batch(6)
    loss, gradients = model.compute_gradients(x, y)
    expected, theirs = judge.compute_gradients(x, y)
    assert loss == pytest.approx(expected, rel=1e-6)
    tables = {f"{name}:weight" for name in ("w", "k", "g", "token", "turned")}
    assert tables <= set(gradients) == set(theirs)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, theirs[name], rtol=1e-4, atol=1e-6)
    for _ in range(5):
        model.train_step(x, y)
        judge.train_step(x, y)
    for name, weight in model.weights().items():
        np.testing.assert_allclose(weight, judge.weights()[name], rtol=1e-3, atol=1e-5)


def test_there_is_no_copy_for_each_sample() -> None:
    plans = [spec(batch_size=n).initialized().plan for n in (1, 64)]
    for name in ("w:weight", "w:out0:grad", "w:weight:grad", "c:value"):
        one, many = (
            [t.size_bytes for t in plan.tensors if t.name == name] for plan in plans
        )
        assert one == many != [], name
    assert not [t for t in plans[1].tensors if t.name in ("w:out0", "c:out0")]


def test_what_is_not_trained_lies_in_constants() -> None:
    layers = [
        (kind, {**values, "trainable": False} if kind == "weight" else values)
        for kind, values in LAYERS
    ]
    plan = ModelSpec(tuple(layers), (), {}, ("sgd", {})).initialized().plan
    lies = {b.tensor for b in plan.buffers if b.memory == "constants"}
    names = ("w", "k", "g", "least", "most", "token", "turned")
    assert lies == {"c:value", "ends:value", *(f"{name}:weight" for name in names)}


def test_verify_finds_nothing() -> None:
    result = verify(spec(micro_batches=2).model())
    assert result.passed, str(result)


def test_a_budget_is_kept() -> None:
    free = spec(batch_size=64).without_blocks().initialized()
    model = spec(batch_size=64).without_blocks().model()
    model.initialize(budget=free.plan.arena_bytes - 1024)
    x, y = spec().batch(64)
    assert model.plan.arena_bytes < free.plan.arena_bytes
    assert model.train_step(x, y) == free.train_step(x, y)


def test_values_go_through_ini_and_saved_runs(tmp_path: Any) -> None:
    model = spec().initialized()
    x, y = spec().batch(6)
    model.train_step(x, y)
    model.save(tmp_path / "run.safetensors")
    again = load(tmp_path / "run.safetensors")
    assert again.train_step(x, y) == model.train_step(x, y)
    model.save_ini(tmp_path / "model.ini")
    text = (tmp_path / "model.ini").read_text()
    assert "1.0, 2.0, 3.0, 0.5" in text
    read = load_ini(tmp_path / "model.ini")
    for mine, theirs in zip(read.layers, model.layers, strict=True):
        assert dict(mine.given) == dict(theirs.given)


def test_an_array_is_a_value() -> None:
    model = Model()
    table = np.arange(6, dtype=np.float32).reshape(1, 2, 3) / 3
    model.add_layer("input", name="in", input_shape=(1, 2, 3))
    model.add_layer("constant", name="c", dim=table.shape, value=table)
    model.add_layer("add", name="sum", input_layers=["in", "c"])
    model.initialize(mode="inference")
    np.testing.assert_array_equal(model.weights()["c:value"], table)
    x = np.ones((2, 6), np.float32)
    np.testing.assert_array_equal(
        model.predict(x).reshape(2, 1, 2, 3), np.stack([1 + table] * 2)
    )


def with_reader(kind: str, sources: list[str], **values: Any) -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape=(1, 3, 4))
    model.add_layer("weight", name="w", dim=values.pop("dim", (1, 3, 4)))
    model.add_layer(kind, name="reader", input_layers=sources, **values)
    model.add_layer("addition", name="end", input_layers=["in", "reader"])
    model.add_layer("mse", name="loss")
    return model


@pytest.mark.parametrize(
    ("kind", "sources", "values", "says"),
    [
        ("activation", ["w"], {"activation": "relu"}, r"reads 'w' as in0.*add, sub"),
        ("addition", ["in", "w"], {}, r"reads 'w' as in1.*between"),
        ("concat", ["w", "w"], {"axis": 2}, r"reads 'w' as in0.*beside it an input"),
        ("matmul", ["w", "in"], {"dim": (1, 4, 3)}, r"as in0.*takes one as in1"),
        ("add", ["w", "w"], {}, r"reads 'w' as in0.*beside it an input with samples"),
    ],
)
def test_other_readers_are_refused(
    kind: str, sources: list[str], values: Any, says: str
) -> None:
    with pytest.raises(ShapeMismatchError, match=says) as caught:
        with_reader(kind, sources, **values).compile()
    assert caught.value.layer == "reader"
    assert caught.value.table == "w"


def test_what_has_samples_needs_no_copies() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=4)
    model.add_layer("expand", name="copies")
    model.add_layer("mse", name="loss")
    with pytest.raises(ShapeMismatchError, match="has samples already; leave"):
        model.compile()


def test_a_class_token_stands_before_the_tokens_of_every_sample() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=(1, 3, 4))
    model.add_layer("weight", name="token", dim=(1, 1, 4))
    model.add_layer("concat", name="all", axis=2, input_layers=["token", "in"])
    model.set_property(batch_size=2)
    model.initialize(mode="inference")
    x = np.arange(36, dtype=np.float32).reshape(3, 1, 3, 4)
    found = model.predict(x)
    token = model.weights()["token:weight"]
    np.testing.assert_array_equal(found[:, :, :1], np.stack([token] * 3))
    np.testing.assert_array_equal(found[:, :, 1:], x)
    assert not [t for t in model.plan.tensors if t.name == "token:out0"]


def test_ids_can_be_given_once() -> None:
    """A table of ids is expanded for an embedding, or for a gather."""
    model = Model(seed=2)
    model.add_layer("input", name="in", input_shape=(1, 5, 3))
    model.add_layer("constant", name="ids", dim=(1, 1, 4), value=[4, 0, 0, 2])
    model.add_layer("expand", name="each")
    model.add_layer("gather", name="some", axis=2, input_layers=["in", "each"])
    model.add_layer("embedding", name="rows", in_dim=5, out_dim=3, input_layers="each")
    model.add_layer("add", name="sum", input_layers=["some", "rows"])
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=2)
    model.initialize()
    x = np.arange(45, dtype=np.float32).reshape(3, 1, 5, 3)
    table = model.weights()["rows:weight"]
    expected = x[:, :, [4, 0, 0, 2]] + table[[4, 0, 0, 2]]
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        ("weight", {}, "has no dim"),
        ("constant", {"dim": 4}, "has no value"),
        ("constant", {"dim": 4, "value": [1, 2]}, "2 values for the 4 elements of 1:1"),
    ],
)
def test_what_is_missing_is_named(kind: str, values: Any, says: str) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=4)
    model.add_layer(kind, name="table", **values)
    model.add_layer("add", name="sum", input_layers=["in", "table"])
    model.add_layer("mse", name="loss")
    with pytest.raises(ShapeMismatchError, match=says):
        model.compile()


@pytest.mark.parametrize("value", ["", "a", "1,,2", float("nan"), 1e39, [], {}])
def test_values_that_cannot_be(value: Any) -> None:
    with pytest.raises(InvalidParameterError, match="value="):
        Model().add_layer("constant", name="c", dim=1, value=value)
