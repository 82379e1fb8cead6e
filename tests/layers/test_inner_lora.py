"""Heads that share a key and value, and low-rank products, inside attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.mixed_graphs import MixedSpec
from helpers.same_bits import assert_same_bits

from arena_ckpt import Model, load_ini, verify
from arena_ckpt.errors import ShapeMismatchError

LINEAR = ("query_fc", "key_fc", "value_fc", "fc")
RANK = {"lora_rank": 2, "lora_alpha": 3.0}


def spec(values: dict[str, Any] | None = None, **properties: Any) -> MixedSpec:
    """Return attention from one sequence to another, behind layers that train."""
    given = {"num_heads": 4, "num_heads_kv": 2, **(values or {})}
    layers = (
        ("input", {"name": "in", "input_shape": (1, 5, 8)}),
        ("fully_connected", {"name": "from", "unit": 8}),
        ("slice", {"name": "to", "axis": 2, "start_index": 1, "end_index": 4}),
        (
            "multi_head_attention",
            {"name": "it", "input_layers": ["to", "from"], "output_shape": 6, **given},
        ),
        ("fully_connected", {"name": "out", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    adam = ("adam", {"learning_rate": 0.01})
    return MixedSpec(layers, (("to", "it"),), {"batch_size": 4, **properties}, adam)


CASES: dict[str, dict[str, Any]] = {
    "grouped": {"attention": "plain", "projected_value_dim": 3, "dropout_rate": 0.3},
    "grouped tiled": {"attention": "tiled", "num_heads_kv": 1, "is_causal": True},
    "low rank": {"attention": "plain", "num_heads_kv": 4, **RANK},
    "both tiled": {"attention": "tiled", **RANK, "disable_bias": True},
    "frozen": {"trainable": False, **RANK},
}


def moved(model: Model) -> Model:
    """Give the second factors, which start from zeros, other values."""
    draw = np.random.default_rng(1)
    model.set_weights(
        {
            name: draw.normal(size=weight.shape).astype(np.float32)
            for name, weight in model.weights().items()
            if name.endswith("lora_b")
        }
    )
    return model


@pytest.mark.parametrize("case", CASES)
def test_it_trains_as_in_pytorch(case: str) -> None:
    pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    from helpers.torch_judge import TorchJudge

    model = moved(spec(CASES[case], micro_batches=2).initialized(debug=True))
    judge = TorchJudge(model)
    x, y = spec().batch(4)
    model.train_step(x, y)
    judge.train_step(x, y)
    _, gradients = model.compute_gradients(x, y)
    _, theirs = judge.compute_gradients(x, y)
    assert gradients.keys() == theirs.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, theirs[name], rtol=1e-3, atol=5e-6)


@pytest.mark.parametrize("case", ["grouped", "both tiled"])
def test_no_plan_changes_a_bit(case: str) -> None:
    assert_same_bits(spec(CASES[case]))


@pytest.mark.parametrize("case", ["grouped tiled", "both tiled"])
def test_verify_finds_nothing(case: str) -> None:
    result = verify(spec(CASES[case]).model())
    assert result.passed, str(result)


def test_keys_and_values_are_kept_once_for_the_heads_that_share_them() -> None:
    def kept(groups: int) -> dict[str, int]:
        plan = spec({"num_heads_kv": groups}, batch_size=1).model().make_plan()
        return {t.name: t.size_bytes for t in plan.tensors}

    few, all_heads = kept(1), kept(4)
    for part in ("key", "value"):
        name = f"it:projected_{part}"
        assert (few[name], all_heads[name]) == (4 * 5 * 2, 4 * 5 * 8)
        assert f"it:{part}_heads" in few
        assert f"it:{part}_heads" not in all_heads


def test_what_is_frozen_lies_in_constants_and_has_neither_gradient_nor_state() -> None:
    model = spec(RANK).initialized()
    frozen = {f"it:{n}_{kind}" for n in LINEAR for kind in ("weight", "bias")}
    constants = {b.tensor for b in model.plan.buffers if b.memory == "constants"}
    assert constants == frozen
    names = {tensor.name for tensor in model.plan.tensors}
    trained = {f"it:{n}_lora_{part}" for n in LINEAR for part in "ab"}
    for end in ("grad", "first_moment"):
        of_layer = {n for n in names if n.startswith("it:") and n.endswith(f":{end}")}
        assert of_layer - {"it:out0:grad"} == {f"{name}:{end}" for name in trained}
    before = model.weights()
    for _ in range(2):
        model.train_step(*spec().batch(4))
    after = model.weights()
    assert {n for n in before if (before[n] == after[n]).all()} == frozen
    totals = model.summary().to_totals()
    assert totals["frozen"] == sum(before[name].size for name in frozen)


def test_merged_weights_are_those_of_a_plain_model(tmp_path: Any) -> None:
    model, plain = moved(spec(RANK).initialized()), spec().initialized()
    x, y = spec().batch(4)
    for _ in range(3):
        model.train_step(x, y)
    merged = model.merge_lora()
    assert list(merged) == list(plain.weights())
    plain.set_weights(merged)
    np.testing.assert_allclose(plain.predict(x), model.predict(x), atol=1e-5)
    plain.save(tmp_path / "plain.safetensors")
    again = spec(RANK).initialized()
    again.take_weights(tmp_path / "plain.safetensors")
    np.testing.assert_allclose(again.predict(x), plain.predict(x), atol=1e-5)


def test_properties_go_through_ini(tmp_path: Any) -> None:
    model = spec(RANK).model()
    model.save_ini(tmp_path / "model.ini")
    read = load_ini(tmp_path / "model.ini")
    assert [dict(a.given) for a in read.layers] == [dict(a.given) for a in model.layers]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"num_heads_kv": 3}, "'it'.*4 heads and num_heads_kv=3.*make it a divisor"),
        ({"num_heads_kv": 8}, "'it'.*4 heads and num_heads_kv=8.*make it a divisor"),
        (
            {"num_heads_kv": 2, "lora_rank": 5},
            "'it'.*lora_rank=5 and a key_fc_weight of 8 inputs and 4 outputs, .* 4 at",
        ),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ShapeMismatchError, match=says):
        spec(values).model().make_plan()
