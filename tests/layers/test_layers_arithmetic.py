"""Arithmetic, sums, shapes, parts and their losses as layers, alone and in models."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.kernel_calls import assert_same_bits, normal
from helpers.layer_calls import Run
from helpers.layer_judge import assert_near, judge_layer
from helpers.same_bits import assert_same_bits as assert_same_bits_in_all_modes
from helpers.scale import how_many
from helpers.strategies import OPTIMIZERS, ModelSpec, blocks_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from arena_ckpt import Model, load_ini
from arena_ckpt.errors import (
    ArenaError,
    CheckpointBlockError,
    DataShapeError,
    DataTypeError,
    InvalidParameterError,
    LabelRangeError,
    NonFiniteDataError,
    NonFiniteError,
    ShapeMismatchError,
)

torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
F = torch.nn.functional
Shape = tuple[int, int, int]

# -- what PyTorch makes of each layer: from its properties and inputs to its outputs ---


def _axes(values: dict[str, Any]) -> tuple[int, ...]:
    return (values["axis"],) if "axis" in values else (1, 2, 3)


def _split(values: dict[str, Any], x: Any) -> Any:
    n = values.get("split_number", x.shape[values["axis"]])
    return x.chunk(n, values["axis"])


def _slice(values: dict[str, Any], x: Any) -> Any:
    axis, start = values["axis"], values.get("start_index", 1) - 1
    stop = values.get("end_index", x.shape[axis] + 1) - 1
    return x.narrow(axis, start, stop - start)


JUDGES: dict[str, Callable[..., Any]] = {
    "addition": lambda values, *xs: sum(xs[1:], xs[0]),
    "add": lambda values, a, b: a + b,
    "subtract": lambda values, a, b: a - b,
    "multiply": lambda values, a, b: a * b,
    "divide": lambda values, a, b: a / b,
    "pow": lambda values, x: x ** values.get("exponent", 1.0),
    "sqrt": lambda values, x: torch.sqrt(x),
    "negative": lambda values, x: -x,
    "matmul": lambda values, a, b: a @ b,
    "reduce_sum": lambda values, x: x.sum(_axes(values), keepdim=True),
    "reduce_mean": lambda values, x: x.mean(_axes(values), keepdim=True),
    "concat": lambda values, *xs: torch.cat(
        xs, values.get("axis", 3 if xs[0].shape[1] > 1 else 1)
    ),
    "split": _split,
    "slice": _slice,
    "permute": lambda values, x: x.permute(0, *values["direction"]).contiguous(),
    "reshape": lambda values, x: x.reshape(len(x), *values["target_shape"]),
    "identity": lambda values, *xs: xs,
    "flatten": lambda values, x: x.reshape(len(x), 1, 1, -1),
}
POSITIVE = {"sqrt", "pow", "divide"}


def make_inputs(kind: str, shapes: tuple[Shape, ...], n: int) -> list[Any]:
    inputs = [normal(n, *shape, seed=i) for i, shape in enumerate(shapes)]
    return [np.abs(x) + np.float32(0.5) for x in inputs] if kind in POSITIVE else inputs


def judge(kind: str, shapes: tuple[Shape, ...], n: int = 3, **values: Any) -> Run:
    """Compare a layer with PyTorch, and all its ways to run in place with the plain."""
    inputs = make_inputs(kind, shapes, n)
    return judge_layer(kind, partial(JUDGES[kind], values), inputs, **values)


BINARY = ("add", "subtract", "multiply", "divide")
SHAPE_PAIRS = [
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (1, 1, 4)),
    ((1, 3, 1), (2, 3, 4)),
    ((2, 3, 4), (2, 1, 1)),
    ((2, 3, 4), (1, 3, 1)),
    ((1, 1, 1), (2, 3, 4)),
    ((2, 1, 4), (1, 3, 1)),
    ((1, 3, 4), (2, 1, 4)),
    ((1, 1, 1), (1, 1, 1)),
    ((3, 5, 40), (1, 5, 40)),
]


@pytest.mark.parametrize("shapes", SHAPE_PAIRS)
@pytest.mark.parametrize("kind", BINARY)
def test_two_operands(kind: str, shapes: tuple[Shape, Shape]) -> None:
    judge(kind, shapes)


@pytest.mark.parametrize("kind", ["sqrt", "negative", "flatten", "identity"])
def test_one_operand(kind: str) -> None:
    judge(kind, ((2, 3, 5),))


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 0.5, -0.5, -1.0, 1.7, -2.5])
def test_pow(exponent: float) -> None:
    judge("pow", ((2, 3, 5),), exponent=exponent)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (2, 3, 4, 5), (3, 1, 16, 9)])
def test_matmul(sizes: tuple[int, int, int, int]) -> None:
    channels, rows, inner, columns = sizes
    run = judge("matmul", ((channels, rows, inner), (channels, inner, columns)))
    assert run.spec.flops.forward == 2 * channels * rows * inner * columns


@pytest.mark.parametrize("axis", [None, 1, 2, 3])
@pytest.mark.parametrize("kind", ["reduce_sum", "reduce_mean"])
def test_sums_over_axes(kind: str, axis: int | None) -> None:
    values = {} if axis is None else {"axis": axis}
    judge(kind, ((3, 4, 5),), **values)
    judge(kind, ((1, 1, 1),), **values)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_parts(axis: int) -> None:
    one, other = [2, 4, 6], [2, 4, 6]
    other[axis - 1] = 3
    judge("concat", ((2, 4, 6), tuple(other), tuple(one)), axis=axis)  # type: ignore[arg-type]
    judge("concat", ((2, 4, 6),), axis=axis)
    judge("split", ((2, 4, 6),), axis=axis, split_number=2)
    judge("split", ((2, 4, 6),), axis=axis)
    judge("slice", ((2, 4, 6),), axis=axis, start_index=2)
    judge("slice", ((2, 4, 6),), axis=axis, end_index=2)
    judge("slice", ((2, 4, 6),), axis=axis, start_index=2, end_index=3)


def test_concat_without_an_axis_chooses_as_nntrainer_does() -> None:
    assert judge("concat", ((2, 1, 3), (2, 1, 3))).spec.output_shapes == ((2, 1, 6),)
    assert judge("concat", ((1, 2, 3), (1, 2, 3))).spec.output_shapes == ((2, 2, 3),)


@pytest.mark.parametrize(
    "direction",
    [(1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1)],
)
@pytest.mark.parametrize("shape", [(2, 3, 5), (9, 17, 8), (1, 4, 5), (3, 1, 1)])
def test_permute(shape: Shape, direction: tuple[int, int, int]) -> None:
    run = judge("permute", (shape,), direction=direction)
    longer = [axis for axis in direction if shape[axis - 1] > 1]
    assert bool(run.spec.in_place) == (longer == sorted(longer))


def test_reshape() -> None:
    judge("reshape", ((2, 3, 4),), target_shape=(4, 1, 6))
    for text, expected in (
        ("-1", (1, 1, 24)),
        ("2:-1", (1, 2, 12)),
        ("-1:3:2", (4, 3, 2)),
        ("1:4:6", (1, 4, 6)),
        ("1:2:3:4", (2, 3, 4)),
    ):
        run = Run("reshape", ((2, 3, 4),), 1, target_shape=text)
        assert run.spec.output_shapes == (expected,)
        kind = type(run.layer).properties[-1].kind
        assert (
            kind.parse(kind.write(run.layer["target_shape"]))
            == (run.layer["target_shape"])
        )


def test_identity_of_several_inputs() -> None:
    judge("identity", ((2, 3, 4), (1, 1, 2)))


# -- shapes by chance ------------------------------------------------------------------

sizes = st.one_of(st.integers(1, 5), st.sampled_from((8, 16, 17, 33)))
shapes_3 = st.tuples(sizes, sizes, sizes)
counts = st.integers(1, 4)


@settings(derandomize=True, deadline=None, max_examples=how_many(25, 60))
@given(st.data(), st.sampled_from(BINARY), shapes_3, counts)
def test_any_repetition(data: st.DataObject, kind: str, out: Shape, n: int) -> None:
    masks = [data.draw(st.sampled_from(("both", "first", "second"))) for _ in out]
    first = tuple(1 if m == "second" else s for m, s in zip(masks, out, strict=True))
    second = tuple(1 if m == "first" else s for m, s in zip(masks, out, strict=True))
    judge(kind, (first, second), n)  # type: ignore[arg-type]


@settings(derandomize=True, deadline=None, max_examples=how_many(25, 60))
@given(st.data(), shapes_3, counts)
def test_any_layer_of_one_input(data: st.DataObject, shape: Shape, n: int) -> None:
    kind = data.draw(st.sampled_from(
        ("pow", "sqrt", "negative", "reduce_sum", "reduce_mean", "split", "slice",
         "permute", "reshape")
    ))  # fmt: skip
    axis = data.draw(st.integers(1, 3))
    values: dict[str, Any] = {}
    if kind == "pow":
        values["exponent"] = data.draw(st.floats(-3, 3, width=16))
    elif kind.startswith("reduce"):
        values = {} if data.draw(st.booleans()) else {"axis": axis}
    elif kind in ("split", "slice"):
        size = shape[axis - 1]
        values["axis"] = axis
        if kind == "split":
            divisors = [d for d in range(1, size + 1) if size % d == 0]
            values["split_number"] = data.draw(st.sampled_from(divisors))
        else:
            start = data.draw(st.integers(1, size))
            values["start_index"] = start
            values["end_index"] = data.draw(st.integers(start + 1, size + 1))
    elif kind == "permute":
        values["direction"] = tuple(data.draw(st.permutations((1, 2, 3))))
    elif kind == "reshape":
        elems = math.prod(shape)
        first = data.draw(st.sampled_from([d for d in (1, 2, 4) if elems % d == 0]))
        values["target_shape"] = (first, elems // first, 1)
    judge(kind, (shape,), n, **values)


@settings(derandomize=True, deadline=None, max_examples=how_many(20, 40))
@given(st.data(), shapes_3, counts)
def test_any_inputs_joined(data: st.DataObject, shape: Shape, n: int) -> None:
    axis = data.draw(st.integers(1, 3))
    widths = data.draw(st.lists(sizes, min_size=1, max_size=4))
    shapes = []
    for width in widths:
        one = list(shape)
        one[axis - 1] = width
        shapes.append(tuple(one))
    judge("concat", tuple(shapes), n, axis=axis)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(shapes_3, sizes, counts)
def test_any_product_of_matrices(shape: Shape, columns: int, n: int) -> None:
    judge("matmul", (shape, (shape[0], shape[2], columns)), n)


# -- in models -------------------------------------------------------------------------


SLOW = ("sgd", {"learning_rate": 1e-5})


class TorchModel:
    """The layers of this file, fully connected ones and losses, in PyTorch."""

    def __init__(self, model: Model) -> None:
        assert model._graph is not None
        self.nodes = model._graph.nodes
        self.weights = {
            name: torch.tensor(w, requires_grad=True)
            for name, w in model.weights().items()
        }

    def predict(self, x: dict[str, Any]) -> Any:
        """Return the input of the loss."""
        outputs: dict[tuple[str, int], Any] = {}
        for node in self.nodes:
            layer, kind = node.layer, node.layer.type_name
            inputs = [outputs[o.layer, o.index] for o in node.inputs]
            if layer.is_loss:
                return inputs[0]
            made: Any
            if kind == "input":
                made = torch.tensor(x[node.name])
                made = made.reshape(-1, *node.spec.output_shapes[0])
            elif kind == "fully_connected":
                weight = self.weights[f"{node.name}:weight"]
                made = inputs[0] @ weight + self.weights[f"{node.name}:bias"]
            elif kind == "activation":
                made = torch.sigmoid(inputs[0])
                assert layer["activation"] == "sigmoid"
            elif kind == "multiout":
                made = inputs[0]
            else:
                values = {k: v for k, v in layer.given.items() if v is not None}
                made = JUDGES[kind](values, *inputs)
            many = made if isinstance(made, (tuple, list)) else [made]
            for index, one in enumerate(many):
                outputs[node.name, index] = one
        raise AssertionError("the model has no loss")


def mixed(*blocks: tuple[str, ...], loss: str = "mse", **properties: Any) -> ModelSpec:
    """A graph with every layer of this file; what divides or has roots is above 0."""

    def layer(kind: str, name: str, *sources: str, **values: Any) -> Any:
        given = {"name": name, **values}
        return kind, given | ({"input_layers": list(sources)} if sources else {})

    layers = (
        layer("input", "in", input_shape=(2, 3, 4)),
        layer("fully_connected", "fc1", unit=8),
        layer("activation", "act", activation="sigmoid"),
        layer("split", "split", axis=3, split_number=2),
        layer("multiply", "mul", "split", "split(1)"),
        layer("sqrt", "root"),
        layer("reduce_mean", "mean", axis=2),
        layer("divide", "div", "root", "mean"),
        layer("pow", "pow", "div", exponent=1.5),
        layer("permute", "turn", "pow", direction=(1, 3, 2)),
        layer("matmul", "product", "turn", "pow"),
        layer("reduce_sum", "sum", "product", axis=3),
        layer("subtract", "sub", "product", "sum"),
        layer("slice", "slice", "sub", axis=3, start_index=2, end_index=4),
        layer("negative", "neg", "slice"),
        layer("concat", "cat", "neg", "slice", "sub", axis=3),
        layer("reshape", "shape", target_shape=(1, 8, 8)),
        layer("identity", "same"),
        layer("add", "add", "same", "shape"),
        layer("activation", "tame", "add", activation="sigmoid"),
        layer("multiply", "square", "tame", "tame"),
        layer("addition", "total", "square", "same"),
        layer("fully_connected", "fc2", unit=5),
        layer(loss, "loss", **properties),
    )
    return ModelSpec(layers, blocks, {"batch_size": 4}, SLOW)


BLOCKS = [
    (),
    (("fc1", "act", "split", "mul", "root", "mean", "div"),),
    (("act", "split", "mul"), ("div", "pow", "turn", "product", "sum", "sub")),
    (("slice", "neg", "cat", "shape", "same", "add", "tame", "square", "total"),),
    (
        ("mul", "root", "mean", "div", "pow", "turn", "product", "sum", "sub", "slice"),
        ("cat", "shape", "same", "add", "tame", "square", "total", "fc2"),
    ),
    (
        ("in", "fc1", "act", "split", "mul", "root", "mean", "div", "pow", "turn",
         "product", "sum", "sub", "slice", "neg", "cat", "shape", "same", "add", "tame",
         "square", "total", "fc2", "loss"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("blocks", BLOCKS, ids=lambda blocks: f"{len(blocks)}")
def test_same_bits(blocks: tuple[tuple[str, ...], ...]) -> None:
    assert_same_bits_in_all_modes(mixed(*blocks))


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_gradients_of_a_model(micro_batches: int) -> None:
    spec = mixed(*BLOCKS[4]).with_properties(micro_batches=micro_batches)
    model = spec.initialized()
    x, y = spec.batch(4)
    loss, gradients = model.compute_gradients(x, y)
    judged = TorchModel(model)
    theirs = F.mse_loss(judged.predict(x).reshape(4, -1), torch.tensor(y))
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-5)
    for name, gradient in gradients.items():
        assert_near(gradient, judged.weights[name].grad, name)


class Drawn:
    """A random graph under construction: outputs by the text that reads them."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.layers: list[tuple[str, dict[str, Any]]] = []
        self.shapes: dict[str, Shape] = {}
        self.unread: dict[str, None] = {}

    def add(self, kind: str, *sources: str, **values: Any) -> str:
        """Add a layer; return what reads its first output."""
        name = f"n{len(self.layers)}"
        given = {"name": name, **values}
        shapes = tuple(self.shapes[source] for source in sources)
        if sources:
            given["input_layers"] = list(sources)
            for source in sources:
                self.unread.pop(source, None)
        self.layers.append((kind, given))
        if kind == "input":
            out = (values["input_shape"],)
        else:
            own = {k: v for k, v in given.items() if k not in ("name", "activation")}
            own.pop("input_layers", None)
            if kind == "activation":
                out = shapes
            else:
                out = Run(kind, shapes, 1, **own).spec.output_shapes
        for index, shape in enumerate(out):
            text = f"{name}({index})" if index else name
            self.shapes[text], self.unread[text] = shape, None
        return name

    def any_of(self, fits: Callable[[Shape], bool]) -> str:
        names = [name for name, shape in self.shapes.items() if fits(shape)]
        return self.draw(st.sampled_from(names))

    def above_zero(self, source: str) -> str:
        return self.add("activation", source, activation="sigmoid")

    def grow(self) -> None:
        """Add a random layer on what is there."""
        draw, axis = self.draw, self.draw(st.integers(1, 3))
        source = self.any_of(lambda shape: True)
        shape = self.shapes[source]
        kind = draw(st.sampled_from(
            ("fully_connected", "activation", *BINARY, "addition", "pow", "sqrt",
             "negative", "matmul", "reduce_sum", "reduce_mean", "concat", "split",
             "slice", "permute", "reshape", "identity", "flatten")
        ))  # fmt: skip
        if kind == "fully_connected":
            self.add(kind, source, unit=draw(st.integers(1, 5)))
        elif kind == "activation":
            self.above_zero(source)
        elif kind in BINARY:
            other = self.any_of(
                lambda s: all(
                    1 in p or p[0] == p[1] for p in zip(s, shape, strict=True)
                )
            )
            if kind == "divide":
                other = self.above_zero(other)
            self.add(kind, *draw(st.permutations((source, other))))
        elif kind == "addition":
            self.add(kind, source, self.any_of(lambda s: s == shape))
        elif kind == "matmul":
            turned = self.add("permute", source, direction=(1, 3, 2))
            self.add(kind, *draw(st.permutations((source, turned))))
        elif kind.startswith("reduce"):
            self.add(kind, source, **({"axis": axis} if draw(st.booleans()) else {}))
        elif kind == "concat":
            there = [*range(axis - 1), *range(axis, 3)]
            other = self.any_of(lambda s: all(s[i] == shape[i] for i in there))
            self.add(kind, source, other, axis=axis)
        elif kind == "split":
            self.add(kind, source, axis=axis)
        elif kind == "slice":
            start = draw(st.integers(1, shape[axis - 1]))
            self.add(kind, source, axis=axis, start_index=start)
        elif kind == "permute":
            self.add(kind, source, direction=tuple(draw(st.permutations((1, 2, 3)))))
        elif kind == "reshape":
            self.add(kind, source, target_shape=(shape[2], shape[0], shape[1]))
        elif kind == "identity":
            self.add(kind, source, self.any_of(lambda s: True))
        else:
            if kind in ("pow", "sqrt"):
                source = self.above_zero(source)
            values = {"exponent": 1.5} if kind == "pow" else {}
            self.add(kind, source, **values)


@st.composite
def graphs(draw: st.DrawFn) -> ModelSpec:
    drawn = Drawn(draw)
    small = st.integers(1, 3)
    first = drawn.add("input", input_shape=draw(st.tuples(small, small, small)))
    drawn.add("fully_connected", first, unit=draw(st.integers(1, 4)))
    for _ in range(draw(st.integers(1, 8))):
        drawn.grow()
    ends = []
    for text in list(drawn.unread):
        flat = drawn.add("flatten", text)
        ends.append(drawn.add("fully_connected", flat, unit=2))
    total = drawn.add("addition", *ends) if len(ends) > 1 else ends[0]
    drawn.add("mse", total)
    properties: dict[str, Any] = {"batch_size": draw(st.integers(1, 4))}
    if draw(st.booleans()):
        most = properties["batch_size"]
        properties["micro_batches"] = draw(st.integers(1, most))
    names = [values["name"] for _, values in drawn.layers]
    return ModelSpec(tuple(drawn.layers), draw(blocks_of(names)), properties, SLOW)


@settings(derandomize=True, deadline=None, max_examples=how_many(25, 60))
@given(graphs())
def test_any_graph(spec: ModelSpec) -> None:
    try:
        model = spec.initialized()
    except CheckpointBlockError:
        assume(False)
    assert_same_bits_in_all_modes(spec)
    x, y = spec.batch(spec.batch_size)
    try:
        _, gradients = model.compute_gradients(x, y)
    except NonFiniteError:
        assume(False)
    judged = TorchModel(model)
    F.mse_loss(judged.predict(x).reshape(len(y), -1), torch.tensor(y)).backward()
    for name, gradient in gradients.items():
        if np.isfinite(gradient).all():
            assert_near(gradient, judged.weights[name].grad, name, tolerance=1e-4)


def test_operands_that_are_one_tensor() -> None:
    for kind in BINARY:
        layers = (
            ("input", {"name": "in", "input_shape": (1, 2, 4)}),
            ("fully_connected", {"name": "a", "unit": 4, "activation": "sigmoid"}),
            (kind, {"name": "both", "input_layers": ["a", "a"]}),
            ("fully_connected", {"name": "b", "unit": 2}),
            ("mse", {"name": "loss"}),
        )
        blocks = (("a", "both"),)
        spec = ModelSpec(layers, blocks, {"batch_size": 3}, SLOW)
        assert_same_bits_in_all_modes(spec)


def test_a_model_of_all_layers_is_the_same_from_ini(tmp_path: Path) -> None:
    model = mixed(*BLOCKS[4]).model()
    model.save_ini(tmp_path / "mixed.ini")
    again = load_ini(tmp_path / "mixed.ini")
    assert again.make_plan().to_json() == model.make_plan().to_json()


def test_an_input_without_derivative() -> None:
    """Only one side of the arithmetic is derived; the other is data."""
    for kind, names in (
        *((kind, names) for kind in BINARY for names in (["a", "in"], ["in", "a"])),
        ("matmul", ["a", "in"]),
        ("concat", ["in", "a"]),
        ("concat", ["a", "in"]),
    ):
        layers = (
            ("input", {"name": "in", "input_shape": (2, 3, 3)}),
            ("fully_connected", {"name": "a", "unit": 3}),
            (kind, {"name": "both", "input_layers": names}),
            ("fully_connected", {"name": "b", "unit": 2}),
            ("mse", {"name": "loss"}),
        )
        spec = ModelSpec(layers, (("a", "both"),), {"batch_size": 3}, SLOW)
        assert_same_bits_in_all_modes(spec)
        model = spec.initialized()
        x, y = spec.batch(3)
        _, gradients = model.compute_gradients(x, y)
        judged = TorchModel(model)
        F.mse_loss(judged.predict(x).reshape(3, -1), torch.tensor(y)).backward()
        for name, gradient in gradients.items():
            assert_near(gradient, judged.weights[name].grad, f"{kind} {name}")


# -- losses ----------------------------------------------------------------------------


def per_token(*blocks: tuple[str, ...], **properties: Any) -> ModelSpec:
    layers = (
        ("input", {"name": "in", "input_shape": (2, 3, 4)}),
        ("fully_connected", {"name": "a", "unit": 6, "activation": "gelu"}),
        ("fully_connected", {"name": "b", "unit": 5}),
        ("cross_softmax", {"name": "loss", "per_token": True, **properties}),
    )
    return ModelSpec(layers, blocks, {"batch_size": 4}, OPTIMIZERS[0])


def token_batch(n: int = 4, ignored: int = -100, seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    x = {"in": generator.normal(size=(n, 24)).astype(np.float32)}
    y = generator.integers(0, 5, (n, 6))
    y[generator.random((n, 6)) < 0.4] = ignored
    return x, y


@pytest.mark.parametrize("ignored", [-100, 2, 255])
@pytest.mark.parametrize("micro_batches", [1, 2, 4])
def test_per_token_is_pytorchs_cross_entropy(micro_batches: int, ignored: int) -> None:
    given = {} if ignored == -100 else {"ignore_label": ignored}
    spec = per_token(("a", "b"), **given).with_properties(micro_batches=micro_batches)
    model = spec.initialized()
    x, y = token_batch(ignored=ignored)
    y[1] = ignored  # a micro-batch may have nothing that counts
    loss, gradients = model.compute_gradients(x, y)
    weights = {
        name: torch.tensor(w, requires_grad=True) for name, w in model.weights().items()
    }
    hidden = torch.tensor(x["in"]).reshape(4, 2, 3, 4) @ weights["a:weight"]
    hidden = F.gelu(hidden + weights["a:bias"])
    logits = (hidden @ weights["b:weight"] + weights["b:bias"]).reshape(-1, 5)
    labels = torch.tensor(y.reshape(-1))
    theirs = F.cross_entropy(logits, labels, ignore_index=ignored)
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-5)
    for name, gradient in gradients.items():
        assert_near(gradient, weights[name].grad, name)
    found = model.evaluate((x, y))
    counted = labels != ignored
    hits = (logits.argmax(1) == labels)[counted].float().mean().item()
    assert found.loss == pytest.approx(loss, rel=1e-6)
    assert found.metric_name == "accuracy"
    assert found.metric == pytest.approx(hits)
    prediction = model.predict(x)
    assert prediction.shape == (4, 2, 3, 5)
    assert_near(prediction.reshape(-1, 5), torch.softmax(logits, 1), "prediction")


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.reshape(4, 2, 3),
        lambda y: y.reshape(4, 2, 3, 1),
        lambda y: y.astype(np.float32),
        lambda y: y.astype(np.float64),
        lambda y: y.astype(np.int16),
        lambda y: y.tolist(),
    ],
)
def test_row_labels_may_have_other_forms(change: Callable[[Any], Any]) -> None:
    model = per_token().initialized()
    x, y = token_batch()
    assert model.compute_gradients(x, change(y))[0] == model.compute_gradients(x, y)[0]


def test_row_labels_take_one_number_a_row() -> None:
    plan = per_token().model().make_plan()
    (label,) = (tensor for tensor in plan.tensors if tensor.name == "loss:label")
    assert label.shape == (4, 2, 3, 1)


def test_nothing_counts() -> None:
    model = per_token().initialized()
    x, y = token_batch()
    y[:] = -100
    loss, gradients = model.compute_gradients(x, y)
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients.values())
    before = model.weights()
    assert model.train_step(x, y) == 0
    for name, weight in model.weights().items():
        assert_same_bits(weight, before[name])
    assert model.evaluate((x, y)).metric == 0


def test_epochs_count_rows() -> None:
    spec = per_token()
    model = spec.initialized()
    x, y = token_batch(10)
    history = model.train((x, y), epochs=2, shuffle=False, validation=(x, y))
    other = spec.initialized()
    total, counted = 0.0, 0
    for start in range(0, 10, 4):
        some = {"in": x["in"][start : start + 4]}
        rows = y[start : start + 4]
        n = int((rows != -100).sum())
        total, counted = total + n * other.train_step(some, rows), counted + n
    assert history.epochs[0].loss == pytest.approx(total / counted)


def test_per_token_has_the_same_bits_in_all_modes() -> None:
    x, y = token_batch()
    outcomes = []
    for spec in (
        per_token().with_properties(memory_optimization=False),
        per_token(),
        per_token(("a", "b")),
        per_token(("a", "b", "loss")),
    ):
        for debug in (False, True):
            model = spec.initialized(debug=debug)
            losses = [model.train_step(x, y) for _ in range(3)]
            weights = {name: w.tobytes() for name, w in model.weights().items()}
            outcomes.append((losses, weights, model.predict(x).tobytes()))
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_one_row_may_stand_alone() -> None:
    """With one row a sample, per_token is what class numbers are anyway."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 4)}),
        ("fully_connected", {"name": "a", "unit": 3}),
    )
    x = {"in": normal(5, 4)}
    y = np.array([0, 1, 2, 2, 1])
    results = []
    for values in ({}, {"per_token": True}):
        loss = ("cross_softmax", {"name": "loss", **values})
        model = ModelSpec((*layers, loss), (), {"batch_size": 5}).initialized()
        results.append(model.compute_gradients(x, y)[0])
    assert results[0] == pytest.approx(results[1], rel=1e-6)


def test_kld_is_pytorchs() -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (1, 2, 4)}),
        ("fully_connected", {"name": "a", "unit": 5}),
        ("activation", {"name": "soft", "activation": "softmax"}),
        ("kld", {"name": "loss"}),
    )
    spec = ModelSpec(layers, (("a", "soft"),), {"batch_size": 4, "micro_batches": 2})
    model = spec.initialized()
    x = {"in": normal(4, 8)}
    y = np.random.default_rng(1).uniform(0.1, 1, (4, 2, 5)).astype(np.float32)
    y[:, :, 0] = 0
    y /= y.sum(axis=-1, keepdims=True)
    loss, gradients = model.compute_gradients(x, y)
    weights = {
        name: torch.tensor(w, requires_grad=True) for name, w in model.weights().items()
    }
    logits = torch.tensor(x["in"]).reshape(4, 1, 2, 4) @ weights["a:weight"]
    logs = F.log_softmax(logits + weights["a:bias"], -1)
    theirs = F.kl_div(logs, torch.tensor(y)[:, None], reduction="batchmean")
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-5)
    for name, gradient in gradients.items():
        assert_near(gradient, weights[name].grad, name)


def kld_of_outputs(outputs: list[float]) -> Model:
    """Return a model that puts out its bias, whatever it reads."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 2)}),
        ("fully_connected", {"name": "a", "unit": len(outputs)}),
        ("kld", {"name": "loss"}),
    )
    model = ModelSpec(layers, (), {"batch_size": 2}).initialized()
    zeros = np.zeros((2, len(outputs)), np.float32)
    model.set_weights({"a:weight": zeros, "a:bias": outputs})
    return model


def test_kld_of_an_output_of_zero_is_infinite_under_a_label_and_nothing_else() -> None:
    x, y = np.ones((2, 2), np.float32), np.array([[0, 0.5, 0.5]] * 2, np.float32)
    model = kld_of_outputs([0.0, 0.5, 0.5])
    loss, gradients = model.compute_gradients(x, y)
    assert loss == 0
    assert gradients["a:bias"].tolist() == [0, -1, -1]
    for nothing in (0.0, -0.0):
        model = kld_of_outputs([0.5, nothing, 0.5])
        before = {name: w.tobytes() for name, w in model.weights().items()}
        assert model.evaluate((x, y)).loss == np.inf
        with pytest.raises(NonFiniteError, match="the loss is inf"):
            model.train_step(x, y)
        assert {n: w.tobytes() for n, w in model.weights().items()} == before


@pytest.mark.parametrize("units", [1, 10])
def test_cross_sigmoid_is_pytorchs_mean_over_all_elements(units: int) -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 3)}),
        ("fully_connected", {"name": "a", "unit": units}),
        ("cross_sigmoid", {"name": "loss"}),
    )
    for micro_batches in (1, 2):
        properties = {"batch_size": 4, "micro_batches": micro_batches}
        model = ModelSpec(layers, (), properties).initialized()
        for n in (4, 3):  # a smaller batch counts its own elements
            x = normal(n, 3)
            y = np.random.default_rng(1).uniform(size=(n, units)).astype(np.float32)
            loss, gradients = model.compute_gradients(x, y)
            w = {
                k: torch.tensor(v, requires_grad=True)
                for k, v in model.weights().items()
            }
            logits = torch.tensor(x) @ w["a:weight"] + w["a:bias"]
            theirs = F.binary_cross_entropy_with_logits(logits, torch.tensor(y))
            theirs.backward()
            assert loss == pytest.approx(theirs.item(), rel=1e-6)
            assert model.evaluate((x, y)).loss == pytest.approx(loss, rel=1e-6)
            for name, gradient in gradients.items():
                assert_near(gradient, w[name].grad, name)


def test_cross_sigmoid_of_logits_of_zero_is_the_logarithm_of_two() -> None:
    """Whatever the labels and however many outputs: every element is log 2."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 3)}),
        ("fully_connected", {"name": "a", "unit": 7, "weight_initializer": "zeros"}),
        ("cross_sigmoid", {"name": "loss"}),
    )
    model = ModelSpec(layers, (), {"batch_size": 2}).initialized()
    y = np.eye(7, dtype=np.float32)[:2]
    loss, gradients = model.compute_gradients(np.ones((2, 3)), y)
    assert loss == pytest.approx(np.log(2), rel=1e-7)
    expected = (0.5 * 2 - y.sum(axis=0)) / 14
    np.testing.assert_allclose(gradients["a:bias"], expected, rtol=1e-6)


# -- wrong use -------------------------------------------------------------------------

WRONG: list[tuple[str, tuple[Shape, ...], dict[str, Any], str]] = [
    ("add", ((1, 2, 3), (1, 2, 4)), {}, "x0 1:2:3, x1 1:2:4, whose widths are 3 and 4"),
    ("multiply", ((2, 2, 3), (4, 2, 3)), {}, "channels are 2 and 4"),
    (
        "matmul",
        ((1, 2, 3), (1, 4, 5)),
        {},
        "widths of the first and heights .* 3 and 4",
    ),
    ("matmul", ((2, 2, 3), (1, 3, 5)), {}, "channels are 2 and 1"),
    ("concat", ((1, 2, 3), (1, 3, 3)), {"axis": 3}, "along axis 3 .width. that differ"),
    ("split", ((1, 2, 3),), {}, "has no axis; set it"),
    ("split", ((1, 2, 6),), {"axis": 3, "split_number": 4}, "which is 6, into 4 equal"),
    ("slice", ((1, 2, 6),), {"axis": 3, "end_index": 8}, "end_index=8.*<= 7"),
    ("slice", ((1, 2, 6),), {"axis": 2, "start_index": 3}, "start_index=3"),
    ("slice", ((1, 2, 6),), {"axis": 3, "start_index": 3, "end_index": 3}, "is 6; set"),
    ("slice", ((1, 2, 6),), {}, "has no axis"),
    ("permute", ((1, 2, 3),), {}, "has no direction"),
    ("reshape", ((1, 2, 3),), {}, "has no target_shape"),
    ("reshape", ((1, 2, 3),), {"target_shape": "1:1:7"}, "into which the 6 elements"),
    ("reshape", ((1, 2, 3),), {"target_shape": "1:4:-1"}, "into which the 6 elements"),
]


@pytest.mark.parametrize(("kind", "shapes", "values", "message"), WRONG)
def test_shapes_that_do_not_fit(
    kind: str, shapes: tuple[Shape, ...], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeMismatchError, match=message) as caught:
        Run(kind, shapes, 1, **values)
    assert f"layer 'layer' ({kind})" in str(caught.value)
    assert isinstance(caught.value, ArenaError)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("concat", {"axis": 0}),
        ("reduce_mean", {"axis": 4}),
        ("permute", {"direction": "1,2"}),
        ("permute", {"direction": "1,2,2"}),
        ("permute", {"direction": "3:1:2"}),
        ("permute", {"direction": 7}),
        ("slice", {"axis": 1, "start_index": 0}),
        ("split", {"axis": 1, "split_number": 0}),
        ("reshape", {"target_shape": "-1:-1"}),
        ("reshape", {"target_shape": "0:3"}),
        ("pow", {"exponent": "nan"}),
        ("cross_softmax", {"ignore_label": 2**24 + 1}),
        ("cross_softmax", {"per_token": "maybe"}),
    ],
)
def test_values_that_cannot_be(kind: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError, match="is not possible; expected"):
        Run(kind, ((1, 2, 3),), 1, **values)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {(2, 4): 5},
            LabelRangeError,
            r"sample 2, row 4 \(y\[2, 4\]\) is 5.* 5 classes",
        ),
        ({(0, 0): -1}, LabelRangeError, r"sample 0, row 0 .* is -1.*labelled -100"),
        ({(1, 5): 0.5}, DataTypeError, r"y\[1, 5\] is 0.5; class numbers are whole"),
        ({(1, 5): np.nan}, NonFiniteDataError, r"y\[1, 5\]"),
    ],
)
def test_wrong_row_labels(
    change: dict[Any, float], error: type[ArenaError], message: str
) -> None:
    model = per_token().initialized()
    x, y = token_batch()
    y = y.astype(np.float64)
    for place, value in change.items():
        y[place] = value
    for call in (model.train_step, model.compute_gradients):
        with pytest.raises(error, match=message):
            call(x, y)
    with pytest.raises(error, match=message):
        model.evaluate((x, y))


def test_row_labels_of_another_shape() -> None:
    model = per_token().initialized()
    x, y = token_batch()
    with pytest.raises(DataShapeError, match=r"expected \(4, 6\), a class number"):
        model.train_step(x, y[:, :5])
    with pytest.raises(DataShapeError, match="one-hot labels need per_token=false"):
        model.train_step(x, np.zeros((4, 2, 3, 5)))
    with pytest.raises(DataShapeError):
        model.train_step(x, y[:3])


def test_a_root_of_what_is_negative_is_seen_in_the_loss() -> None:
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 2)}),
        ("fully_connected", {"name": "a", "unit": 2}),
        ("sqrt", {"name": "root"}),
        ("mse", {"name": "loss"}),
    )
    model = ModelSpec(layers, (), {"batch_size": 1}).initialized()
    model.set_weights({"a:bias": [-100.0, -100.0]})
    with pytest.raises(NonFiniteError):
        model.train_step({"in": np.ones((1, 2))}, np.ones((1, 2)))
