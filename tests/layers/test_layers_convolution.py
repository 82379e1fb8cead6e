"""Convolutions, pooling and upsampling as layers: PyTorch, recordings, same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layer_probe import (
    N,
    Probe,
    Shape,
    assert_is,
    assert_near,
    needs_torch,
    padded,
    run,
)
from helpers.recordings import RECORDINGS, counted_arrays
from helpers.same_bits import assert_same_bits
from helpers.strategies import OPTIMIZERS, ModelSpec

from arena_ckpt import Model, load_ini
from arena_ckpt.errors import InvalidParameterError, ShapeMismatchError
from arena_ckpt.layers import create_layer

try:
    import torch
except ImportError:
    torch = None


# -- against PyTorch -------------------------------------------------------------------

CONVOLUTIONS: list[tuple[Shape, dict[str, Any], tuple[int, int, int, int]]] = [
    ((3, 9, 11), {"filters": 5, "kernel_size": "3,3"}, (0, 0, 0, 0)),
    ((3, 9, 11), {"filters": 5, "kernel_size": (3, 3), "padding": 1}, (1, 1, 1, 1)),
    ((9, 8, 8), {"filters": 8, "kernel_size": "3,3", "padding": "1,1"}, (1, 1, 1, 1)),
    (
        (2, 7, 20),
        {"filters": 3, "kernel_size": "2,4", "padding": "0,1,2,3"},
        (0, 1, 2, 3),
    ),
    ((16, 4, 4), {"filters": 6, "kernel_size": "3,3", "padding": "same"}, (1, 1, 1, 1)),
    ((2, 6, 6), {"filters": 4, "kernel_size": "2,4", "padding": "same"}, (0, 1, 1, 2)),
    (
        (3, 10, 13),
        {"filters": 4, "kernel_size": "3,3", "stride": "2,3", "padding": "same"},
        (0, 1, 1, 1),
    ),
    (
        (3, 12, 12),
        {"filters": 4, "kernel_size": "3,2", "dilation": "2,3", "padding": "valid"},
        (0, 0, 0, 0),
    ),
    (
        (8, 12, 12),
        {"filters": 4, "kernel_size": "3,3", "dilation": "2,2", "stride": "3,2"},
        (0, 0, 0, 0),
    ),
    ((12, 6, 6), {"filters": 7, "kernel_size": "1,1"}, (0, 0, 0, 0)),
    ((5, 2, 2), {"filters": 4, "kernel_size": 1, "bias": False}, (0, 0, 0, 0)),
    ((4, 9, 9), {"filters": 6, "kernel_size": "1,1", "stride": "2,2"}, (0, 0, 0, 0)),
    ((3, 5, 5), {"filters": 1, "kernel_size": "5,5"}, (0, 0, 0, 0)),
    ((1, 6, 33), {"filters": 2, "kernel_size": "3,3", "padding": 4}, (4, 4, 4, 4)),
]


@needs_torch
@pytest.mark.parametrize(
    ("shape", "values", "padding"), CONVOLUTIONS, ids=[str(c[:2]) for c in CONVOLUTIONS]
)
def test_conv2d(shape: Shape, values: Any, padding: tuple[int, int, int, int]) -> None:
    given = create_layer("conv2d", **values)

    def judge(x: Any, w: dict[str, Any]) -> Any:
        return torch.conv2d(
            padded(x, *padding),
            *(w["filter"], w.get("bias"), given["stride"], 0, given["dilation"]),
        )

    assert_is(Probe("conv2d", shape, values), judge)


@needs_torch
@pytest.mark.parametrize(
    ("values", "padding"),
    [
        ({}, (0, 0)),
        ({"padding": 2}, (2, 2)),
        ({"padding": "1,3"}, (1, 3)),
        ({"padding": "same"}, (1, 1)),
        ({"padding": "causal"}, (2, 0)),
        ({"padding": "causal", "dilation": 3}, (6, 0)),
        ({"padding": "same", "stride": 2}, (1, 1)),
        ({"padding": "valid", "stride": 3}, (0, 0)),
    ],
    ids=str,
)
def test_conv1d(values: dict[str, Any], padding: tuple[int, int]) -> None:
    values = {"filters": 4, "kernel_size": 3, **values}
    given = create_layer("conv1d", **values)

    def judge(x: Any, w: dict[str, Any]) -> Any:
        x = torch.nn.functional.pad(x, padding)
        stride, dilation = (1, given["stride"]), (1, given["dilation"])
        return torch.conv2d(x, w["filter"], w["bias"], stride, 0, dilation)

    assert_is(Probe("conv1d", (3, 1, 15), values), judge)


@needs_torch
@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ((6, 16, 16), {"kernel_size": "3,3", "padding": 1}),
        ((5, 9, 13), {"kernel_size": "3,3", "padding": 1, "stride": "2,2"}),
        ((3, 4, 4), {"kernel_size": "3,3", "padding": 1, "bias": "false"}),
        ((3, 10, 12), {"kernel_size": "5,4", "padding": "2,1", "filters": 3}),
        ((2, 10, 12), {"kernel_size": "2,3", "dilation": "3,2", "stride": "2,3"}),
        ((2, 9, 9), {"kernel_size": "5,5", "padding": "2,2", "stride": "2,2"}),
        ((2, 7, 7), {"kernel_size": "4,4", "padding": "1,1", "stride": "2,2"}),
        ((2, 2, 3), {"kernel_size": "1,1", "stride": "5,4"}),
    ],
    ids=str,
)
def test_depthwise(shape: Shape, values: dict[str, Any]) -> None:
    given = create_layer("depthwiseconv2d", **values)
    padding = given["padding"]

    def judge(x: Any, w: dict[str, Any]) -> Any:
        return torch.conv2d(
            *(x, w["filter"], w.get("bias"), given["stride"]),
            *((padding[0], padding[-1]), given["dilation"], shape[0]),
        )

    assert_is(Probe("depthwiseconv2d", shape, values), judge)


@needs_torch
@pytest.mark.parametrize("debug", [False, True])
def test_depthwise_layers_that_end_at_4_x_4_train_as_in_pytorch(debug: bool) -> None:
    """28 → 14 → 7 → 4: the last has phases of 4 columns and of 3."""
    model = Model()
    model.set_property(batch_size=8)
    model.add_layer("input", name="in", input_shape="2:28:28")
    for k in range(3):
        model.add_layer(
            "depthwiseconv2d", name=f"d{k}", kernel_size=5, stride=2, padding="same"
        )
    model.add_layer("mse", name="loss")
    model.initialize(debug=debug)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 2, 28, 28)).astype(np.float32)
    target = generator.normal(size=(8, 2, 4, 4)).astype(np.float32)
    loss, gradients = model.compute_gradients(x, target)

    weights = {
        n: torch.tensor(w, requires_grad=True) for n, w in model.weights().items()
    }
    y = torch.tensor(x)
    for k, (before, after) in enumerate([(1, 2), (1, 2), (2, 2)]):
        y = torch.nn.functional.conv2d(
            padded(y, before, after, before, after),
            *(weights[f"d{k}:filter"], weights[f"d{k}:bias"], 2, 0, 1, 2),
        )
    expected = ((y - torch.tensor(target)) ** 2).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, weight in weights.items():
        assert_near(gradients[name].reshape(weight.shape), weight.grad, name)


@needs_torch
@pytest.mark.parametrize(
    ("values", "padding"),
    [
        ({"kernel_size": "2,2", "stride": "2,2"}, (0, 0)),
        ({"kernel_size": "3,3", "stride": "2,2", "padding": 1}, (1, 1)),
        (
            {
                "kernel_size": "3,3",
                "stride": "2,2",
                "padding": 1,
                "output_padding": "1,1",
            },
            (1, 1),
        ),
        ({"kernel_size": "4,4", "stride": "2,2", "padding": "same"}, (1, 1)),
        ({"kernel_size": "3,2", "dilation": "1,2", "padding": "1,0"}, (1, 0)),
        ({"kernel_size": "1,1", "stride": "3,2", "output_padding": "2,1"}, (0, 0)),
        ({"kernel_size": "3,3", "bias": False}, (0, 0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("filters", [1, 5])
def test_transposed(values: dict[str, Any], padding: Any, filters: int) -> None:
    values = {"filters": filters, **values}
    given = create_layer("conv2dtranspose", **values)

    def judge(x: Any, w: dict[str, Any]) -> Any:
        return torch.nn.functional.conv_transpose2d(
            *(x, w["filter"], w.get("bias"), given["stride"], padding),
            *(given["output_padding"], 1, given["dilation"]),
        )

    assert_is(Probe("conv2dtranspose", (6, 7, 9), values), judge)


@needs_torch
@pytest.mark.parametrize(
    ("shape", "values", "padding"),
    [
        ((3, 8, 16), {"pool_size": "2,2", "stride": "2,2"}, (0, 0)),
        ((3, 9, 7), {"pool_size": "2,2", "stride": "2,2"}, (0, 0)),
        ((3, 9, 9), {"pool_size": "3,3", "stride": "2,2", "padding": 1}, (1, 1)),
        ((2, 7, 8), {"pool_size": "3,2"}, (0, 0)),
        ((2, 8, 7), {"pool_size": "3,3", "padding": "same"}, (1, 1)),
        ((1, 40, 40), {"pool_size": "20,19", "stride": "3,3"}, (0, 0)),
    ],
    ids=str,
)
@pytest.mark.parametrize("function", ["max", "average"])
def test_pooling(
    shape: Shape, values: dict[str, Any], padding: Any, function: str
) -> None:
    given = create_layer("pooling2d", pooling=function, **values)

    def judge(x: Any, w: dict[str, Any]) -> Any:
        where = (given["pool_size"], given["stride"], padding)
        if function == "max":
            return torch.nn.functional.max_pool2d(x, *where)
        return torch.nn.functional.avg_pool2d(x, *where, count_include_pad=False)

    assert_is(Probe("pooling2d", shape, {"pooling": function, **values}), judge)


@needs_torch
@pytest.mark.parametrize("function", ["global_max", "global_average"])
@pytest.mark.parametrize("shape", [(3, 7, 5), (2, 1, 1), (1, 40, 9)])
def test_global_pooling(function: str, shape: Shape) -> None:
    name = {"global_max": "max", "global_average": "avg"}[function]
    pool = getattr(torch.nn.functional, f"adaptive_{name}_pool2d")
    probe = Probe("pooling2d", shape, {"pooling": function})
    assert_is(probe, lambda x, w: pool(x, 1))


@needs_torch
@pytest.mark.parametrize("factors", [(2, 2), (3, 1), (1, 4)])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling(mode: str, factors: tuple[int, int]) -> None:
    corners = {} if mode == "nearest" else {"align_corners": False}

    def judge(x: Any, w: dict[str, Any]) -> Any:
        return torch.nn.functional.interpolate(
            x, scale_factor=factors, mode=mode, **corners
        )

    values = {"upsample": mode, "kernel_size": factors}
    assert_is(Probe("upsample2d", (3, 5, 6), values), judge)


# -- what formulas leave open ----------------------------------------------------------


def test_the_first_of_equal_elements_is_the_maximum() -> None:
    for pooling, values in (
        ("max", {"pool_size": "2,2", "stride": "2,2"}),
        ("global_max", {}),
    ):
        shape = (1, 2, 2)
        found = run(
            Probe("pooling2d", shape, {"pooling": pooling, **values}),
            np.ones((N, *shape), np.float32),
        )
        dx = found["dx"].reshape(N, 4)
        np.testing.assert_array_equal(dx[:, 0], found["dy"].reshape(N))
        assert not dx[:, 1:].any()


@pytest.mark.parametrize("function", ["max", "average", "global_max"])
def test_nan_goes_through_pooling(function: str) -> None:
    values = {} if function == "global_max" else {"pool_size": "2,2", "stride": "2,2"}
    layers = (
        ("input", {"name": "in", "input_shape": (1, 4, 16)}),
        ("fully_connected", {"name": "plus", "unit": 16}),
        ("fully_connected", {"name": "minus", "unit": 16, "input_layers": "in"}),
        ("addition", {"name": "sum", "input_layers": "plus,minus"}),
        ("pooling2d", {"name": "it", "pooling": function, **values}),
        ("mse", {"name": "loss"}),
    )
    model = ModelSpec(layers).initialized()
    # Two products, since fused multiply-add makes no NaN of infinity and a large one.
    weight = np.zeros((16, 16), dtype=np.float32)
    weight[0, 3] = 3e38
    model.set_weights({"plus:weight": weight, "minus:weight": -weight})
    x = np.zeros((1, 1, 4, 16), np.float32)
    x[0, 0, 1, 0] = 1e20  # infinity minus infinity, in column 3
    y = model.predict(x).reshape(-1)
    expected = np.isnan(y)
    assert expected.sum() == 1
    assert expected[0 if function == "global_max" else 1]


def test_a_sample_has_the_same_bits_in_any_batch() -> None:
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape=(8, 4, 4))
    for i in range(2):
        model.add_layer("conv2d", name=f"c{i}", filters=9, kernel_size="3,3", padding=1)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=13)
    model.initialize()
    x = np.random.default_rng(0).normal(size=(13, 8, 4, 4)).astype(np.float32)
    together = model.predict(x)
    for i in range(13):
        np.testing.assert_array_equal(model.predict(x[i : i + 1])[0], together[i])


# -- NNTrainer's recordings ------------------------------------------------------------


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"absent: {RECORDINGS}")
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("conv2d_mb_minimum", {"filters": 3, "kernel_size": "2,2"}),
        (
            "conv2d_mb_same_remain",
            {"filters": 2, "kernel_size": "3,3", "padding": "same"},
        ),
    ],
)
def test_convolutions_are_as_recorded(name: str, values: dict[str, Any]) -> None:
    path = RECORDINGS / f"layers/{name}.nnlayergolden"
    w, b, x, y, dw, db, _, _, dx = counted_arrays(path, 0)
    spec = Probe("conv2d", (1, 4, 4), values).spec.with_properties(batch_size=3)
    model = spec.initialized()
    shapes = {key: value.shape for key, value in model.weights().items()}
    model.set_weights(
        {
            "pre:weight": np.eye(4, dtype=np.float32),
            "it:filter": w.reshape(shapes["it:filter"]),
            "it:bias": b,
        }
    )
    x = x.reshape(3, 1, 4, 4)
    prediction = model.predict(x)
    # mse hands 2 · (prediction − label) / elements to the layer: here 2 everywhere
    _, gradients = model.compute_gradients(x, prediction - prediction.size)
    assert model._session is not None
    found = {
        "y": (prediction, y),
        "dw": (gradients["it:filter"], dw),
        "db": (gradients["it:bias"], db),
        "dx": (model._session.views.named("pre:out0:grad"), dx),
    }
    for what, (ours, recorded) in found.items():
        np.testing.assert_allclose(
            *(ours.ravel(), recorded), rtol=1e-5, atol=1e-5, err_msg=what
        )


# -- blocks, memory reuse and debug mode -----------------------------------------------

NETWORK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("input", {"name": "in", "input_shape": (2, 12, 10)}),
    (
        "conv2d",
        {
            "name": "a",
            "filters": 6,
            "kernel_size": "3,3",
            "padding": "same",
            "activation": "relu",
        },
    ),
    (
        "depthwiseconv2d",
        {"name": "b", "kernel_size": "3,3", "padding": 1, "stride": "1,2"},
    ),
    ("pooling2d", {"name": "c", "pooling": "max", "pool_size": "3,2", "stride": "2,1"}),
    ("conv2d", {"name": "d", "filters": 5, "kernel_size": "1,1", "activation": "gelu"}),
    (
        "conv2dtranspose",
        {"name": "e", "filters": 3, "kernel_size": "3,3", "stride": "2,2"},
    ),
    ("upsample2d", {"name": "f", "upsample": "bilinear", "kernel_size": "1,2"}),
    (
        "pooling2d",
        {"name": "g", "pooling": "average", "pool_size": "2,2", "padding": 1},
    ),
    (
        "conv2d",
        {"name": "h", "filters": 4, "kernel_size": "3,3", "dilation": "2,2"},
    ),
    ("pooling2d", {"name": "i", "pooling": "global_average"}),
    ("flatten", {"name": "flat"}),
    ("fully_connected", {"name": "j", "unit": 3}),
    ("cross_softmax", {"name": "loss"}),
)


@pytest.mark.parametrize(
    "blocks",
    [
        (("a", "b", "c"), ("d", "e", "f")),
        (("b", "c", "d", "e", "f", "g", "h", "i"),),
        (("c", "d"), ("g", "h")),
    ],
    ids=str,
)
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_same_bits(blocks: tuple[tuple[str, ...], ...], micro_batches: int) -> None:
    properties = {"batch_size": 7, "micro_batches": micro_batches}
    assert_same_bits(ModelSpec(NETWORK, blocks, properties, OPTIMIZERS[3]))


def test_same_bits_along_a_line() -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (3, 1, 20)}),
        (
            "conv1d",
            {"name": "a", "filters": 4, "kernel_size": 3, "padding": "causal"},
        ),
        ("activation", {"name": "b", "activation": "relu"}),
        ("conv1d", {"name": "c", "filters": 2, "kernel_size": 4, "stride": 2}),
        ("pooling2d", {"name": "d", "pooling": "global_max"}),
        ("flatten", {"name": "e"}),
        ("cross_softmax", {"name": "loss"}),
    )
    blocks = (("a", "b", "c", "d"),)
    assert_same_bits(ModelSpec(layers, blocks, {"batch_size": 4}, OPTIMIZERS[0]))


def test_a_frozen_convolution_still_hands_on_derivatives() -> None:
    layers = (NETWORK[0], NETWORK[1])
    frozen = {"name": "b", "filters": 3, "kernel_size": "3,3", "trainable": False}
    layers += (("conv2d", frozen), ("mse", {"name": "loss"}))
    spec = ModelSpec(layers, properties={"batch_size": 2})
    _, gradients = spec.initialized().compute_gradients(*spec.batch(2))
    assert sorted(gradients) == ["a:bias", "a:filter"]
    assert np.abs(gradients["a:filter"]).max() > 0


# -- wrong use -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "shape", "values", "message"),
    [
        ("conv2d", (1, 4, 4), {"kernel_size": "3,3"}, "has no filters"),
        ("conv2d", (1, 4, 4), {"filters": 2}, "has no kernel_size"),
        (
            "conv2d",
            (1, 4, 4),
            {"filters": 2, "kernel_size": "3,7", "padding": 1},
            "spans a width of 7, but the input has 4 and padding 1 \\+ 1",
        ),
        (
            "conv2d",
            (1, 4, 4),
            {"filters": 2, "kernel_size": "3,3", "dilation": "2,1"},
            "spans a height of 5, but the input has 4",
        ),
        (
            "conv1d",
            (1, 2, 4),
            {"filters": 2, "kernel_size": 3},
            "reads inputs of height 1, but 1:2:4 has 2",
        ),
        (
            "depthwiseconv2d",
            (3, 4, 4),
            {"filters": 2, "kernel_size": "3,3"},
            "has filters=2, but one filter for each of 3 channels",
        ),
        (
            "conv2dtranspose",
            (3, 4, 4),
            {"filters": 2, "kernel_size": "3,3", "output_padding": "1,0"},
            "has output_padding 1 for its height; make it smaller than the stride",
        ),
        (
            "conv2dtranspose",
            (3, 1, 4),
            {"filters": 2, "kernel_size": "3,3", "padding": "2,0"},
            "padding takes 4 of a height of 3",
        ),
        ("pooling2d", (3, 4, 4), {}, "has no pooling; set it"),
        ("pooling2d", (3, 4, 4), {"pooling": "max"}, "has no pool_size"),
        (
            "pooling2d",
            (3, 4, 4),
            {"pooling": "max", "pool_size": "5,2"},
            "window has a height of 5, but the input has 4",
        ),
        (
            "pooling2d",
            (3, 4, 4),
            {"pooling": "average", "pool_size": "2,2", "padding": "0,2"},
            "padding 2 \\+ 2 of its width leaves windows of 2 with nothing in them",
        ),
        (
            "pooling2d",
            (3, 4, 4),
            {"pooling": "global_max", "pool_size": "2,2"},
            "takes the whole input, but pool_size is set",
        ),
        (
            "pooling2d",
            (3, 4, 4),
            {"pooling": "global_average", "stride": "2,2"},
            "takes the whole input, but stride is set",
        ),
        ("upsample2d", (3, 4, 4), {}, "has no kernel_size"),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    kind: str, shape: Shape, values: dict[str, Any], message: str
) -> None:
    layer = create_layer(kind, name="it", **values)
    with pytest.raises(ShapeMismatchError, match=f"layer 'it' \\({kind}\\).*{message}"):
        layer.infer((shape,))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("conv2d", {"kernel_size": "0,3"}),
        ("conv2d", {"kernel_size": "3,3,3"}),
        ("conv2d", {"padding": "1,2,3"}),
        ("conv2d", {"padding": "causal"}),
        ("conv2d", {"padding": -1}),
        ("conv2d", {"filters": 0}),
        ("conv1d", {"padding": "1,2,3,4"}),
        ("conv1d", {"kernel_size": "3,3"}),
        ("pooling2d", {"pooling": "median"}),
        ("upsample2d", {"upsample": "cubic"}),
        ("conv2dtranspose", {"output_padding": "1"}),
    ],
    ids=str,
)
def test_values_that_cannot_be_are_named(kind: str, values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(InvalidParameterError, match=f"{name}=.*is not possible"):
        create_layer(kind, name="it", **values)


def test_properties_survive_being_written(tmp_path: Path) -> None:
    spec = ModelSpec(NETWORK, properties={"batch_size": 2})
    model = spec.model()
    model.save_ini(tmp_path / "model.ini")
    load_ini(tmp_path / "model.ini").save_ini(tmp_path / "again.ini")
    text = (tmp_path / "again.ini").read_text()
    assert text == (tmp_path / "model.ini").read_text()
    assert "padding = same" in text.lower()


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"stride": 2}, [1, 3, 5, 7]),
        ({"stride": 3}, [1, 4, 7]),
        ({"stride": 2, "dilation": 2}, [1, 3, 5, 7]),
        ({"stride": 2, "padding": "2,0"}, [0, 2, 4, 6]),  # as Keras' causal
    ],
)
def test_a_causal_window_ends_where_the_documentation_says(
    given: dict[str, Any], ends: list[int]
) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=(1, 1, 8))
    values = {"filters": 1, "kernel_size": 3, "padding": "causal", **given}
    model.add_layer("conv1d", name="it", disable_bias=True, **values)
    model.add_layer("mse", name="loss")
    model.initialize()
    model.set_weights({"it:filter": np.array([0, 0, 1]).reshape(1, 1, 1, 3)})
    assert model.predict(np.arange(8.0)[None]).reshape(-1).tolist() == ends
