"""Margins, shuffles, adaptive pooling, and means that count padding: PyTorch, bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layer_probe import Probe, Shape, assert_is, needs_torch, run
from helpers.same_bits import assert_same_bits
from helpers.strategies import OPTIMIZERS, ModelSpec

from arena_ckpt import Model, load_ini
from arena_ckpt.errors import InvalidParameterError, ShapeMismatchError
from arena_ckpt.layers import create_layer

try:
    import torch
except ImportError:
    torch = None


@needs_torch
@pytest.mark.parametrize("mode", ["zero", "reflect", "replicate"])
@pytest.mark.parametrize("padding", [2, (1, 3), (0, 3, 2, 1), 0])
def test_pad(mode: str, padding: Any) -> None:
    values = {"padding": padding, "padding_mode": mode}
    given = create_layer("pad", **values)["padding"]
    top, bottom, left, right = (
        given if len(given) == 4 else (given[0], given[0], given[-1], given[-1])
    )

    def judge(x: Any, w: dict[str, Any]) -> Any:
        sides = (left, right, top, bottom)
        return torch.nn.functional.pad(x, sides, mode.replace("zero", "constant"))

    assert_is(Probe("pad", (2, 4, 5), values), judge)


@needs_torch
@pytest.mark.parametrize("kind", ["average", "max"])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 7, 5), (3, 2)),
        ((2, 6, 8), (3, 4)),  # windows
        ((1, 5, 5), (1, 1)),
        ((2, 3, 4), (5, 4)),  # larger than the input
        ((2, 6, 7), (3, 3)),
    ],
)
def test_adaptive_pooling(kind: str, shape: Shape, size: tuple[int, int]) -> None:
    values = {"pooling": f"adaptive_{kind}", "output_size": size}

    def judge(x: Any, w: dict[str, Any]) -> Any:
        name = {"average": "avg", "max": "max"}[kind]
        return getattr(torch.nn.functional, f"adaptive_{name}_pool2d")(x, size)

    assert_is(Probe("pooling2d", shape, values), judge)


@needs_torch
@pytest.mark.parametrize(
    "values",
    [
        {"pool_size": 3, "padding": 1},
        {"pool_size": (2, 3), "padding": (1, 1), "stride": (2, 1)},
        {"pool_size": 4, "padding": 2, "stride": 3},
        {"pool_size": 2},
    ],
    ids=str,
)
def test_a_mean_that_counts_padding(values: dict[str, Any]) -> None:
    values = {"pooling": "average", "count_include_pad": True, **values}
    given = create_layer("pooling2d", **values)

    def judge(x: Any, w: dict[str, Any]) -> Any:
        padding = given["padding"][0], given["padding"][-1]
        pool = torch.nn.functional.avg_pool2d
        return pool(x, given["pool_size"], given["stride"], padding)

    assert_is(Probe("pooling2d", (2, 7, 8), values), judge)


@needs_torch
@pytest.mark.parametrize(
    ("kind", "shape", "values"),
    [
        ("pixel_shuffle", (8, 3, 5), {"upscale_factor": 2}),
        ("pixel_shuffle", (9, 2, 9), {"upscale_factor": 3}),
        ("pixel_shuffle", (2, 2, 3), {"upscale_factor": 1}),
        ("channel_shuffle", (6, 2, 3), {"groups": 2}),
        ("channel_shuffle", (6, 1, 1), {"groups": 3}),
    ],
)
def test_shuffles(kind: str, shape: Shape, values: dict[str, Any]) -> None:
    (value,) = values.values()

    def judge(x: Any, w: dict[str, Any]) -> Any:
        if kind == "pixel_shuffle":
            return torch.pixel_shuffle(x, value)
        apart = x.reshape(len(x), value, -1, *shape[1:])
        return apart.transpose(1, 2).reshape(x.shape)

    assert_is(Probe(kind, shape, values), judge)


def test_the_first_of_equals_counts_in_a_share() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:5")
    model.add_layer("pooling2d", name="it", pooling="adaptive_max", output_size=(1, 2))
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=1)
    model.initialize()
    assert model.predict(np.array([[1, 3, 3, 2, 3.0]])).ravel().tolist() == [3, 3]
    values = {"pooling": "adaptive_max", "output_size": (1, 2)}
    ours = run(Probe("pooling2d", (1, 1, 5), values), np.full((5, 1, 1, 5), 2.0))
    dx = ours["dx"].reshape(5, 5)
    assert (dx[:, [1, 3, 4]] == 0).all()
    assert (dx[:, [0, 2]] == ours["dy"].reshape(5, 2)).all()


NETWORK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("input", {"name": "in", "input_shape": (2, 7, 6)}),
    ("pad", {"name": "a", "padding": (1, 0, 2, 1), "padding_mode": "reflect"}),
    ("conv2d", {"name": "b", "filters": 8, "kernel_size": 3, "activation": "relu"}),
    ("channel_shuffle", {"name": "c", "groups": 2}),
    ("pixel_shuffle", {"name": "d", "upscale_factor": 2}),
    (
        "pooling2d",
        {
            **{"name": "e", "pooling": "average", "pool_size": 3, "padding": 1},
            "count_include_pad": True,
        },
    ),
    ("pooling2d", {"name": "f", "pooling": "adaptive_max", "output_size": "5,4"}),
    ("pad", {"name": "g", "padding": 1, "padding_mode": "replicate"}),
    ("pooling2d", {"name": "h", "pooling": "adaptive_average", "output_size": "3,2"}),
    ("flatten", {"name": "i"}),
    ("fully_connected", {"name": "j", "unit": 3}),
    ("cross_softmax", {"name": "loss"}),
)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_same_bits(micro_batches: int) -> None:
    properties = {"batch_size": 5, "micro_batches": micro_batches}
    blocks = (("a", "b", "c", "d"), ("e", "f", "g", "h"))
    assert_same_bits(ModelSpec(NETWORK, blocks, properties, OPTIMIZERS[3]))


def test_properties_survive_being_written(tmp_path: Path) -> None:
    ModelSpec(NETWORK, properties={"batch_size": 2}).model().save_ini(
        tmp_path / "m.ini"
    )
    text = (tmp_path / "m.ini").read_text()
    assert {"padding_mode = reflect", "output_size = 5,4", "padding = 1,0,2,1"} <= set(
        text.lower().splitlines()
    )
    load_ini(tmp_path / "m.ini").save_ini(tmp_path / "again.ini")
    assert (tmp_path / "again.ini").read_text() == text


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("pad", {}, "has no padding"),
        (
            "pad",
            {"padding": (0, 4), "padding_mode": "reflect"},
            "cannot mirror 4 elements of a width of 4.*replicate",
        ),
        ("pixel_shuffle", {}, "has no upscale_factor"),
        (
            "pixel_shuffle",
            {"upscale_factor": 2},
            "makes pixels of 4 channels each .*do not divide its 6 channels",
        ),
        ("channel_shuffle", {}, "has no groups"),
        ("channel_shuffle", {"groups": 4}, "do not divide its 6 channels"),
        ("pooling2d", {"pooling": "adaptive_max"}, "has no output_size"),
        (
            "pooling2d",
            {"pooling": "adaptive_max", "output_size": 2, "stride": 2},
            "takes equal shares of the input, but stride is set",
        ),
        (
            "pooling2d",
            {"pooling": "max", "pool_size": 2, "output_size": 2},
            "has pooling=max, but output_size is set; leave it out, or set "
            "pooling=adaptive_max or adaptive_average",
        ),
        (
            "pooling2d",
            {"pooling": "max", "pool_size": 2, "count_include_pad": True},
            "has pooling=max, but count_include_pad is set",
        ),
    ],
    ids=str,
)
def test_wrong_use_is_named(kind: str, values: dict[str, Any], message: str) -> None:
    layer = create_layer(kind, name="it", **values)
    with pytest.raises(ShapeMismatchError, match=f"layer 'it' \\({kind}\\).*{message}"):
        layer.infer(((6, 5, 4),))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("pad", {"padding": "same"}),
        ("pad", {"padding": -1}),
        ("pad", {"padding_mode": "wrap"}),
        ("pooling2d", {"output_size": 0}),
        ("channel_shuffle", {"groups": 0}),
    ],
    ids=str,
)
def test_values_that_cannot_be_are_named(kind: str, values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(InvalidParameterError, match=f"{name}=.*is not possible"):
        create_layer(kind, name="it", **values)
