"""Functions of elements, choices between them, and layers along an axis."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers.kernel_calls import normal
from helpers.layer_calls import Run
from helpers.layer_judge import judge_layer
from helpers.same_bits import assert_same_bits
from helpers.strategies import ModelSpec

import arena_ckpt as ac
from arena_ckpt.errors import IdRangeError, InvalidParameterError, ShapeMismatchError
from arena_ckpt.layers import ACTIVATION, LAYER_TYPES, create_layer
from arena_ckpt.layers.functions import FUNCTIONS, numbers_of

torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
F = torch.nn.functional
Shape = tuple[int, int, int]

# -- functions -------------------------------------------------------------------------

CURVES: dict[str, Any] = {
    "relu6": F.relu6,
    "clamp(min=-0.5, max=1.5)": lambda x: x.clamp(-0.5, 1.5),
    "clamp(min=0)": lambda x: x.clamp(0),
    "clamp(max=1)": lambda x: x.clamp(max=1),
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "exp": torch.exp,
    "log": torch.log,
    "abs": torch.abs,
    "sigmoid_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "leaky_relu(negative_slope=0.3)": lambda x: F.leaky_relu(x, 0.3),
    "elu(alpha=1.7)": lambda x: F.elu(x, 1.7),
}


@pytest.mark.parametrize("text", CURVES)
def test_functions_that_take_numbers(text: str) -> None:
    x = normal(3, 2, 3, 17)
    x.reshape(-1)[:4] = 0.0, -3.0, 3.0, 6.5  # where slopes change, and beyond
    if text == "log":
        x = np.abs(x) + np.float32(0.01)
    if text == "tan":
        x = x / 2
    judge_layer("activation", CURVES[text], [x], activation=text)


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 6, 40), (40, 1, 1)])
def test_softmax_along_an_axis(shape: Shape, axis: int) -> None:
    softmax = partial(torch.softmax, dim=axis)
    text = f"softmax(axis={axis})"
    judge_layer("activation", softmax, [normal(2, *shape)], activation=text)


def test_logarithms_of_edges() -> None:
    edges = [0.0, -1.0, np.inf, np.nan, 1e-40, 1.0, -0.0]
    run = Run("activation", ((1, 1, len(edges)),), 1, activation="log")
    x = np.array(edges, np.float32).reshape(1, 1, 1, -1)
    with np.errstate(all="ignore"):
        expected = np.log(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(run.forward([x])[0], expected, rtol=1e-6)


def test_one_text_for_one_function() -> None:
    for given, text in {
        "leaky_relu(0.2)": "leaky_relu(negative_slope=0.2)",
        "LEAKY_RELU( negative_slope = 0.2 )": "leaky_relu(negative_slope=0.2)",
        "leaky_relu(0.01)": "leaky_relu",
        "leaky_relu()": "leaky_relu",
        "elu(1)": "elu",
        "clamp(-1, 1)": "clamp(min=-1, max=1)",
        "clamp(max=1, min=-1)": "clamp(min=-1, max=1)",
        "clamp(-1, max=0.5)": "clamp(min=-1, max=0.5)",
        "softmax(axis=3)": "softmax",
        "softmax(1)": "softmax(axis=1)",
    }.items():
        assert ACTIVATION.parse(given) == text
        assert ACTIVATION.parse(text) == text
    for name in FUNCTIONS:
        if name != "clamp":
            assert ACTIVATION.parse(name) == name
    assert numbers_of("clamp(min=2)") == (2.0, np.inf)


@pytest.mark.parametrize(
    "text",
    ["clamp", "clamp()", "clamp(2, 1)", "clamp(nan, 1)", "clamp(inf, 1)",
     "clamp(1,2,3)", "clamp(low=1)", "clamp(max=1, 0)", "clamp(1, min=2)",
     "leaky_relu(-0.1)",
     "leaky_relu(1_0)", "elu(alpha=-1)", "softmax(axis=0)", "softmax(axis=1.5)",
     "relu(1)", "relu(", "none(1)", "clamp(min=1", "leaky_relu(x)"],
)  # fmt: skip
def test_what_is_no_function(text: str) -> None:
    with pytest.raises(
        InvalidParameterError, match=r"clamp\(min=-1, max=1\) and softmax"
    ):
        create_layer("activation", name="a", activation=text)


def test_a_number_goes_through_an_ini_file(tmp_path: Any) -> None:
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="2:3:4")
    model.add_layer("batch_normalization", name="bn", activation="clamp(0, 1)")
    model.add_layer("activation", name="soft", activation="softmax(axis=1)")
    model.add_layer("maximum", name="most", value=0.25)
    model.add_layer("prelu", name="p", num_parameters=2, init=0.5)
    path = tmp_path / "model.ini"
    model.save_ini(path)
    assert "activation = clamp(min=0, max=1)" in path.read_text()
    again = ac.load_ini(path)
    assert [layer.given for layer in again.layers] == [
        layer.given for layer in model.layers
    ]


# -- choices ---------------------------------------------------------------------------

PAIRS = [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (1, 1, 4)),
    ((1, 3, 1), (2, 3, 4)),
    ((2, 1, 4), (1, 3, 1)),
    ((1, 1, 1), (3, 5, 40)),
]


@pytest.mark.parametrize("shapes", PAIRS)
@pytest.mark.parametrize("kind", ["maximum", "minimum"])
def test_extremes_of_two(kind: str, shapes: tuple[Shape, Shape]) -> None:
    inputs = [normal(3, *shape, seed=i) for i, shape in enumerate(shapes)]
    inputs = [np.round(x) for x in inputs]  # some are equal: each has half
    judge_layer(kind, getattr(torch, kind), inputs)


def test_extremes_of_nan_are_nan() -> None:
    a = np.array([np.nan, 1, np.nan, 2], np.float32).reshape(1, 1, 1, 4)
    b = np.array([1, np.nan, np.nan, 3], np.float32).reshape(1, 1, 1, 4)
    for kind, last in (("maximum", 3), ("minimum", 2)):
        (y,) = Run(kind, ((1, 1, 4), (1, 1, 4)), 1).forward([a, b])
        assert np.isnan(y[..., :3]).all()
        assert y[..., 3] == last


@pytest.mark.parametrize("first", [(2, 3, 4), (1, 3, 1), (1, 1, 1)])
@pytest.mark.parametrize("shapes", PAIRS)
def test_where(first: Shape, shapes: tuple[Shape, Shape]) -> None:
    if max(shapes)[0] == 3:
        first = (3, 5, 40) if first == (2, 3, 4) else (1, 5, 1)
    condition = (normal(3, *first) > 0).astype(np.float32)
    condition[0] *= 5  # whatever is not 0 counts
    inputs = [condition, *(normal(3, *s, seed=i) for i, s in enumerate(shapes, 1))]
    judge_layer("where", lambda c, a, b: torch.where(c != 0, a, b), inputs)


NUMBERS: dict[str, Any] = {
    "add": lambda x: x + 2.5,
    "subtract": lambda x: x - 2.5,
    "multiply": lambda x: x * 2.5,
    "divide": lambda x: x / 2.5,
    "maximum": lambda x: x.clamp(min=2.5),
    "minimum": lambda x: x.clamp(max=2.5),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_number_in_place_of_an_input(kind: str) -> None:
    run = judge_layer(kind, NUMBERS[kind], [normal(3, 2, 3, 5, spread=3)], value=2.5)
    n_inputs = 1 if kind in ("maximum", "minimum") else 0  # what the derivative reads
    reads = run.spec.input_lifespan & ac.TensorLifespan.CALC_DERIVATIVE
    assert bool(reads) == bool(n_inputs)


@pytest.mark.parametrize(
    ("shapes", "values", "message"),
    [
        (((1, 1, 2),), {}, r"1 input\(s\) and no value; give it two inputs, or one"),
        (((1, 1, 2),) * 2, {"value": 1}, r"2 input\(s\) and value=1.0"),
        (((1, 1, 2),), {"value": 0}, "value=0.0, by which nothing is divided"),
    ],
)
def test_wrong_numbers(shapes: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ShapeMismatchError, match=message):
        Run("divide", shapes, 1, **values)


def test_wrong_conditions() -> None:
    with pytest.raises(ShapeMismatchError, match="channels are 2, 1, 3; make those"):
        Run("where", ((2, 1, 4), (1, 1, 4), (3, 1, 4)), 1)


# -- along an axis ---------------------------------------------------------------------

AXES: list[int | None] = [None, 1, 2, 3]


def _axes(axis: int | None) -> tuple[int, ...]:
    return (1, 2, 3) if axis is None else (axis,)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("kind", ["reduce_max", "reduce_min"])
def test_extremes_along_an_axis(kind: str, axis: int | None) -> None:
    x = np.round(normal(3, 3, 4, 5))  # equal extremes share the derivative
    extreme = torch.amax if kind == "reduce_max" else torch.amin
    values = {} if axis is None else {"axis": axis}
    function = partial(extreme, dim=_axes(axis), keepdim=True)
    judge_layer(kind, function, [x], **values)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_products_along_an_axis(zeros: int, axis: int | None) -> None:
    x = normal(3, 2, 3, 4, spread=1.0)
    x[0, 0, 0, :zeros] = 0

    def product(x: Any) -> Any:
        for one in _axes(axis):
            x = x.prod(one, keepdim=True)
        return x

    judge_layer("reduce_prod", product, [x], **({"axis": axis} if axis else {}))


@pytest.mark.parametrize("axis", AXES)
def test_norms(axis: int | None) -> None:
    x = normal(3, 3, 4, 5)
    x[0] = 0
    function = partial(torch.linalg.vector_norm, dim=_axes(axis), keepdim=True)
    judge_layer("norm", function, [x], **({"axis": axis} if axis else {}))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_running_sums(axis: int) -> None:
    function = partial(torch.cumsum, dim=axis)
    judge_layer("cumsum", function, [normal(3, 3, 4, 5)], axis=axis)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_gathering(axis: int) -> None:
    x = normal(3, 3, 4, 5)
    ids = np.random.default_rng(0).integers(0, x.shape[axis], (3, 1, 1, 6))

    def gather(x: Any, ids: Any) -> Any:
        rows = [
            one.index_select(axis - 1, i.reshape(-1).int())
            for one, i in zip(x, ids, strict=True)
        ]
        return torch.stack(rows)

    judge_layer("gather", gather, [x, ids.astype(np.float32)], axis=axis)


def test_places_that_are_not_there_are_refused() -> None:
    model = ac.Model(seed=1)
    model.add_layer("input", name="x", input_shape="1:4:3")
    model.add_layer("input", name="ids", input_shape="1:1:2")
    model.add_layer("gather", name="some", input_layers="x, ids")
    model.add_layer("fully_connected", name="fc", unit=1)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=2)
    model.initialize()
    x = {"x": np.ones((2, 4, 3), np.float32), "ids": np.array([[0, 3], [1, 4]])}
    with pytest.raises(IdRangeError, match="4"):
        model.train_step(x, np.zeros((2, 2), np.float32))
    with pytest.raises(ShapeMismatchError, match="expected 1:1:ids or 1:ids:1"):
        Run("gather", ((1, 2, 3), (1, 2, 2)), 1)


@pytest.mark.parametrize("axis", AXES)
def test_cosines(axis: int | None) -> None:
    inputs = [normal(3, 2, 3, 4), normal(3, 2, 3, 4, seed=1)]
    inputs[0][0] = 0

    def cosine(a: Any, b: Any) -> Any:
        if axis is None:
            flat = F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)
            return flat.reshape(-1, 1, 1, 1)
        return F.cosine_similarity(a, b, dim=axis).unsqueeze(axis)

    judge_layer("cosine_similarity", cosine, inputs, **({"axis": axis} if axis else {}))


def test_cosines_of_different_shapes_are_refused() -> None:
    with pytest.raises(ShapeMismatchError, match="x0 1:1:2, x1 1:1:3"):
        Run("cosine_similarity", ((1, 1, 2), (1, 1, 3)), 1)


# -- in models -------------------------------------------------------------------------


def network(*blocks: tuple[str, ...], **properties: Any) -> ModelSpec:
    """A model of the layers of this file, most with an activation given on them."""

    def layer(kind: str, name: str, *sources: str, **values: Any) -> Any:
        given = {"name": name, **values}
        return kind, given | ({"input_layers": list(sources)} if sources else {})

    layers = (
        layer("input", "in", input_shape=(2, 3, 4)),
        layer("fully_connected", "fc1", unit=8, activation="hard_swish"),
        layer("batch_normalization", "bn", activation="sin"),
        layer("prelu", "slopes", num_parameters=2),
        layer("drop_path", "path", dropout_rate=0.3),
        layer("addition", "skip", "path", "slopes", activation="sigmoid_gelu"),
        layer("activation", "soft", activation="softmax(axis=1)"),
        layer("maximum", "most", "skip", "soft", activation="sin"),
        layer("minimum", "least", "most", value=0.5),
        layer("where", "chosen", "in0_like", "least", "skip"),
        layer("cumsum", "sums", axis=2, activation="leaky_relu(0.2)"),
        layer("norm", "norm", axis=3, activation="elu(0.5)"),
        layer("reduce_max", "greatest", "sums", axis=3, activation="relu6"),
        layer("cosine_similarity", "alike", "sums", "chosen", axis=3),
        layer("concat", "all", "norm", "greatest", "alike", axis=3),
        layer("multiply", "twice", value=2.0, activation="clamp(-3, 3)"),
        layer("fully_connected", "fc2", unit=3),
        layer("mse", "loss"),
    )
    condition = ("slice", layer("slice", "in0_like", "in", axis=3, end_index=2)[1])
    layers = (layers[0], condition, *layers[1:])
    layers = tuple(
        (kind, values | ({"input_layers": ["in"]} if values["name"] == "fc1" else {}))
        for kind, values in layers
    )
    return ModelSpec(layers, blocks, {"batch_size": 4, **properties})


NETWORK_BLOCKS = (
    ("fc1", "bn", "slopes", "path", "skip", "soft"),
    ("most", "least", "chosen", "sums", "norm", "greatest", "alike"),
)


def test_no_plan_changes_a_bit() -> None:
    assert_same_bits(network(*NETWORK_BLOCKS))


TABLES = (
    ("input", {"name": "in", "input_shape": (2, 3, 4)}),
    ("fully_connected", {"name": "fc", "unit": 4}),
    ("weight", {"name": "w", "dim": "2:3:4"}),
    ("weight", {"name": "column", "dim": "1:3:1"}),
    ("constant", {"name": "c", "dim": "1:1:4", "value": "0, 1, 0, 2"}),
    ("maximum", {"name": "most", "input_layers": ["fc", "w"]}),
    ("minimum", {"name": "least", "input_layers": ["column", "most"]}),
    ("where", {"name": "chosen", "input_layers": ["c", "least", "w"]}),
    ("fully_connected", {"name": "out", "unit": 2}),
    ("mse", {"name": "loss"}),
)


def test_weights_that_stand_alone_are_read_by_every_sample() -> None:
    """What they are not given is not read: three samples, one weight."""
    from helpers.torch_judge import TorchJudge

    spec = ModelSpec(TABLES, (), {"batch_size": 3})
    assert_same_bits(spec)
    model = spec.initialized(debug=True)
    x, y = spec.batch(3)
    loss, gradients = model.compute_gradients(x, y)
    expected, theirs = TorchJudge(model, "float32").compute_gradients(x, y)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert {"w:weight", "column:weight"} < set(gradients)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, theirs[name], rtol=1e-4, atol=1e-6)


WITHOUT = {
    *("input", "constant", "weight", "split", "identity", "multiout"),
    *("rnn", "lstm", "gru", "rnncell", "lstmcell", "grucell"),
}
"""Layers that bring data or tables in, hand tensors on, or have functions inside."""


def test_every_layer_that_makes_an_output_takes_an_activation() -> None:
    ours = {n: kind for n, kind in LAYER_TYPES.items() if not kind.is_loss}
    takes = {
        n for n, k in ours.items() if "activation" in {p.name for p in k.properties}
    }
    assert set(ours) - takes == WITHOUT
    for kind, values in (
        ("batch_normalization", {}),
        ("pooling2d", {"pooling": "global_max"}),
        ("reshape", {"target_shape": "-1"}),
        ("dropout", {}),
        ("prelu", {}),
        ("embedding", {"in_dim": 3, "out_dim": 2}),
    ):
        model = ac.Model()
        model.add_layer("input", name="in", input_shape="1:1:4")
        model.add_layer(kind, name="a", activation="relu6", **values)
        model.add_layer("mse", name="loss")
        names = [node.name for node in model.compile().nodes]
        assert names == ["in", "a", "a/activation_realized", "loss"]


def test_models_follow_pytorch() -> None:
    from helpers.torch_judge import TorchJudge

    model = network(*NETWORK_BLOCKS, micro_batches=1).initialized()
    judge = TorchJudge(model, "float32")
    x, y = network().batch(4)
    for _ in range(3):
        loss, gradients = model.compute_gradients(x, y)
        expected, theirs = judge.compute_gradients(x, y)
        assert loss == pytest.approx(expected, rel=1e-5)
        for name, gradient in gradients.items():
            scale = float(np.abs(theirs[name]).max())
            assert np.abs(gradient - theirs[name]).max() <= 2e-5 * scale + 1e-6, name
        model.train_step(x, y)
        judge.train_step(x, y)


def test_slopes_start_and_are_trained() -> None:
    spec = network()
    model = spec.initialized()
    assert model.weights()["slopes:weight"].tolist() == [0.25, 0.25]
    model.train_step(*spec.batch(4))
    assert 0.25 not in model.weights()["slopes:weight"].tolist()
    with pytest.raises(
        ShapeMismatchError, match="num_parameters=3 for 2 channels; set"
    ):
        create_layer("prelu", name="p", num_parameters=3).infer(((2, 3, 4),))


def test_a_path_is_dropped_for_whole_samples() -> None:
    model = ac.Model(seed=3)
    model.add_layer("input", name="in", input_shape="1:1:50")
    model.add_layer("fully_connected", name="fc", unit=50)
    model.add_layer("drop_path", name="path", dropout_rate=0.4)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=400)
    run = Run("drop_path", ((1, 1, 50),), 400, dropout_rate=0.4)
    (y,) = run.forward([np.ones((400, 1, 1, 50), np.float32)])
    rows = y.reshape(400, 50)
    assert (rows == rows[:, :1]).all()
    assert set(rows[:, 0].tolist()) == {0.0, float(np.float32(1 / 0.6))}
    assert 0.3 < (rows[:, 0] == 0).mean() < 0.5
    model.initialize()
    x = np.ones((400, 50), np.float32)
    first = model.predict(x)
    assert (first == first[0]).all()  # nothing is dropped in prediction
