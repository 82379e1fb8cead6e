"""Convolutions in groups, and depthwise ones with several filters of each channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layer_probe import N, Probe, Shape, assert_is, needs_torch, run
from helpers.same_bits import assert_same_bits
from helpers.strategies import OPTIMIZERS, ModelSpec

from arena_ckpt import Model, load_ini
from arena_ckpt.errors import ShapeMismatchError
from arena_ckpt.layers import create_layer

try:
    import torch
except ImportError:
    torch = None

CASES: list[tuple[str, Shape, dict[str, Any], int]] = [
    ("conv2d", (6, 7, 9), {"filters": 4, "groups": 2, "padding": 1}, 2),
    ("conv2d", (6, 8, 5), {"filters": 9, "groups": 3, "stride": "2,1"}, 3),
    ("conv2d", (4, 6, 6), {"filters": 8, "groups": 4, "padding": 1}, 4),
    ("conv2d", (4, 6, 6), {"filters": 4, "groups": 4, "padding": 1}, 4),
    ("conv2d", (4, 6, 6), {"filters": 6, "groups": 2, "kernel_size": 1}, 2),
    ("conv2d", (8, 9, 9), {"filters": 2, "groups": 2, "dilation": 2, "bias": False}, 2),
    ("conv1d", (6, 1, 15), {"filters": 4, "groups": 2, "kernel_size": 4}, 2),
    ("depthwiseconv2d", (3, 7, 7), {"depth_multiplier": 2, "padding": 1}, 3),
    ("depthwiseconv2d", (1, 6, 7), {"depth_multiplier": 3, "stride": "2,2"}, 1),
    (
        "depthwiseconv2d",
        (2, 7, 6),
        {"depth_multiplier": 4, "filters": 8, "bias": False},
        2,
    ),
]


@needs_torch
@pytest.mark.parametrize(("kind", "shape", "values", "groups"), CASES, ids=str)
def test_groups_are_those_of_pytorch(
    kind: str, shape: Shape, values: dict[str, Any], groups: int
) -> None:
    values = {"kernel_size": 3} | values
    given = create_layer(kind, **values)
    stride, dilation, padding = (given[n] for n in ("stride", "dilation", "padding"))
    if kind == "conv1d":
        stride, dilation, padding = (1, stride), (1, dilation), (0, 0, 0, 0)

    def judge(x: Any, w: dict[str, Any]) -> Any:
        assert tuple(w["filter"].shape)[1] == shape[0] // groups
        return torch.conv2d(
            *(x, w["filter"], w.get("bias"), stride),
            *((padding[0], padding[-1]), dilation, groups),
        )

    assert_is(Probe(kind, shape, values), judge)


def test_groups_of_one_channel_are_a_depthwise_convolution() -> None:
    """The same kernels, so the same bits, and a workspace of one channel."""
    window = {"kernel_size": 3, "padding": 1}
    first = run(Probe("depthwiseconv2d", (5, 9, 8), window))
    values = {**window, "filters": 5, "groups": 5}
    second = run(Probe("conv2d", (5, 9, 8), values))
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_a_group_counts_for_itself_alone() -> None:
    model = Model()
    model.set_property(batch_size=N)
    model.add_layer("input", name="in", input_shape="4:5:5")
    model.add_layer("conv2d", name="it", filters=6, kernel_size=3, groups=2)
    model.add_layer("mse", name="loss")
    model.initialize()
    x = np.random.default_rng(0).normal(size=(N, 4, 5, 5)).astype(np.float32)
    before = model.predict(x)
    x[:, 2:] += 1
    after = model.predict(x)
    assert before.shape == (N, 6, 3, 3)
    assert (before[:, :3] == after[:, :3]).all()
    assert (before[:, 3:] != after[:, 3:]).all()
    assert model.weights()["it:filter"].shape == (6, 2, 3, 3)


NETWORK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("input", {"name": "in", "input_shape": (4, 8, 7)}),
    (
        "conv2d",
        {
            "name": "a",
            "filters": 6,
            "kernel_size": 3,
            "groups": 2,
            "activation": "relu",
        },
    ),
    ("depthwiseconv2d", {"name": "b", "kernel_size": 3, "depth_multiplier": 2}),
    ("conv2d", {"name": "c", "filters": 12, "kernel_size": 3, "groups": 12}),
    ("flatten", {"name": "d"}),
    ("fully_connected", {"name": "e", "unit": 3}),
    ("cross_softmax", {"name": "loss"}),
)


@pytest.mark.parametrize("arithmetic", ["fast", "portable"])
def test_same_bits(arithmetic: str) -> None:
    properties = {"batch_size": 4, "micro_batches": 2, "arithmetic": arithmetic}
    blocks = (("a", "b", "c"),)
    assert_same_bits(ModelSpec(NETWORK, blocks, properties, OPTIMIZERS[3]))


def test_groups_survive_being_written(tmp_path: Path) -> None:
    ModelSpec(NETWORK, properties={"batch_size": 2}).model().save_ini(
        tmp_path / "m.ini"
    )
    text = (tmp_path / "m.ini").read_text()
    assert "groups = 2" in text.lower()
    assert "depth_multiplier = 2" in text.lower()
    load_ini(tmp_path / "m.ini").save_ini(tmp_path / "again.ini")
    assert (tmp_path / "again.ini").read_text() == text


def test_operations_are_those_of_a_group() -> None:
    def flops(**values: Any) -> int:
        layer = create_layer("conv2d", kernel_size=3, filters=8, **values)
        return layer.infer(((8, 6, 6),)).flops.forward

    assert flops(groups=4) * 4 == flops()


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (
            "conv2d",
            {"filters": 6, "groups": 3},
            "has groups=3, which do not divide its 4 channels; set groups to a divisor",
        ),
        (
            "conv2d",
            {"filters": 6, "groups": 4},
            "has groups=4, which do not divide its 6 filters",
        ),
        (
            "conv1d",
            {"filters": 6, "groups": 4},
            "has groups=4, which do not divide its 6 filters",
        ),
        (
            "depthwiseconv2d",
            {"filters": 6, "depth_multiplier": 2},
            "has filters=6, but 2 filters for each of 4 channels",
        ),
    ],
    ids=str,
)
def test_groups_that_do_not_divide_are_named(
    kind: str, values: dict[str, Any], message: str
) -> None:
    layer = create_layer(kind, name="it", kernel_size=1, **values)
    with pytest.raises(ShapeMismatchError, match=f"layer 'it' \\({kind}\\): {message}"):
        layer.infer(((4, 1, 5),))
