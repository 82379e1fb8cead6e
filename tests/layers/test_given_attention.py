"""Attention over given queries, keys and values: groups, masks, rotary positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.mixed_graphs import MixedSpec
from helpers.same_bits import assert_same_bits

from arena_ckpt import Model, load_ini, verify
from arena_ckpt.errors import ShapeMismatchError


def spec(
    mask: str | None = None, values: dict[str, Any] | None = None, **properties: Any
) -> MixedSpec:
    masks = (("input", {"name": "mask", "input_shape": mask}),) if mask else ()
    given = {"num_heads": 4, "num_heads_kv": 2, **(values or {})}
    sources = ["turned_q", "turned_k", "v", *(["mask"] if mask else [])]
    layers = (
        ("input", {"name": "in", "input_shape": (1, 5, 8)}),
        *masks,
        ("fully_connected", {"name": "q", "unit": 16, "input_layers": "in"}),
        ("rotary_embedding", {"name": "turned_q", "num_heads": 4}),
        ("fully_connected", {"name": "k", "unit": 8, "input_layers": "in"}),
        ("rotary_embedding", {"name": "turned_k", "num_heads": 2}),
        ("fully_connected", {"name": "v", "unit": 6, "input_layers": "in"}),
        ("attention", {"name": "attention", "input_layers": sources, **given}),
        ("fully_connected", {"name": "out", "unit": 2}),
        ("flatten", {"name": "flat"}),
        ("mse", {"name": "loss"}),
    )
    layers = tuple((k, _shaped(v)) for k, v in layers)
    block = ("q", "turned_q", "k", "turned_k", "v", "attention")
    adam = ("adam", {"learning_rate": 0.01})
    return MixedSpec(layers, (block,), {"batch_size": 4, **properties}, adam)


def _shaped(values: dict[str, Any]) -> dict[str, Any]:
    shape = values.get("input_shape")
    if isinstance(shape, str):
        return {**values, "input_shape": tuple(map(int, shape.split(":")))}
    return values


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"values": {"is_causal": True}},
    "one mask": {"mask": "1:5:5"},
    "a mask for each head": {"mask": "4:5:5", "values": {"is_causal": True}},
    "dropout": {"values": {"dropout_rate": 0.3}, "micro_batches": 2},
}


@pytest.mark.parametrize("case", CASES)
def test_it_trains_as_in_pytorch(case: str) -> None:
    pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    from helpers.torch_judge import TorchJudge

    model = spec(**CASES[case]).initialized(debug=True)
    judge = TorchJudge(model)
    x, y = spec(**CASES[case]).batch(4)
    if "mask" in x:
        hidden = np.random.default_rng(0).random(x["mask"].shape) < 0.4
        x["mask"] = np.where(hidden, -np.inf, 0).astype(np.float32)
        x["mask"][0, :10] = -np.inf  # rows that see nothing
    loss, gradients = model.compute_gradients(x, y)
    expected, theirs = judge.compute_gradients(x, y)
    assert loss == pytest.approx(expected, rel=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, theirs[name], rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("case", ["one mask", "dropout"])
def test_no_plan_changes_a_bit(case: str) -> None:
    assert_same_bits(spec(**CASES[case]))


def test_verify_finds_nothing() -> None:
    result = verify(spec(values={"is_causal": True}).model())
    assert result.passed, str(result)


def test_angles_lie_in_constants_and_are_shared_by_samples() -> None:
    plan = spec(batch_size=8).initialized().plan
    lies = {b.tensor: b.size_bytes for b in plan.buffers if b.memory == "constants"}
    assert lies == {"turned_q:turns": 4 * 5 * 4, "turned_k:turns": 4 * 5 * 4}


def test_a_constant_mask_is_read_by_every_sample() -> None:
    def model(kind: str, **values: Any) -> Model:
        made = Model(seed=0)
        made.set_property(batch_size=3)
        made.add_layer("input", name="in", input_shape=(1, 4, 6))
        made.add_layer(kind, name="mask", **values)
        sources = ["in", "in", "in", "mask"]
        made.add_layer("attention", name="attention", input_layers=sources, num_heads=2)
        made.add_layer("fully_connected", name="out", unit=1)
        made.add_layer("mse", name="loss")
        made.initialize()
        return made

    table = np.where(np.tri(4, dtype=bool), 0, -1e9).astype(np.float32)
    x = np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32)
    y = np.ones((3, 4), np.float32)
    constant = model("constant", dim=(1, 4, 4), value=table)
    given = model("input", input_shape=(1, 4, 4))
    masks = np.broadcast_to(table.reshape(1, 16), (3, 16))
    assert constant.train_step(x, y) == given.train_step({"in": x, "mask": masks}, y)


def test_properties_go_through_ini(tmp_path: Any) -> None:
    model = spec(values={"is_causal": True, "dropout_rate": 0.25}).model()
    model.save_ini(tmp_path / "model.ini")
    read = load_ini(tmp_path / "model.ini")
    assert [dict(a.given) for a in read.layers] == [dict(a.given) for a in model.layers]


@pytest.mark.parametrize(
    ("shapes", "values", "says"),
    [
        (
            [(1, 3, 8)] * 3,
            {"num_heads": 4, "num_heads_kv": 3},
            "4 heads.*kv=3.*divis",
        ),
        ([(1, 3, 8)] * 3, {"num_heads": 3}, "a query of shape 1:3:8.* for 3 heads"),
        ([(2, 3, 8)] * 3, {}, "a query of shape 2:3:8; expected 1:tokens"),
        ([(1, 3, 8), (1, 4, 8), (1, 5, 8)], {}, "equally many tokens"),
        ([(1, 3, 8), (1, 3, 6), (1, 3, 8)], {}, "same width, which are 8 and 6"),
        ([*[(1, 3, 8)] * 3, (1, 3, 4)], {}, "mask of shape 1:3:4; expected 1:3:3"),
    ],
)
def test_shapes_that_do_not_fit(shapes: Any, values: Any, says: str) -> None:
    model = Model()
    names = []
    for number, shape in enumerate(shapes):
        names.append(f"in{number}")
        model.add_layer("input", name=names[-1], input_shape=shape)
    model.add_layer("attention", name="attention", input_layers=names, **values)
    with pytest.raises(ShapeMismatchError, match=says):
        model.initialize(mode="inference")


@pytest.mark.parametrize(("shape", "n_heads"), [((1, 2, 6), 2), ((1, 2, 5), 1)])
def test_widths_without_pairs_are_refused(shape: Any, n_heads: int) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=shape)
    model.add_layer("rotary_embedding", name="turned", num_heads=n_heads)
    with pytest.raises(ShapeMismatchError, match="multiple of twice num_heads"):
        model.initialize(mode="inference")
