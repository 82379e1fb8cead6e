"""Recurrent layers and cells in models, against PyTorch and each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.same_bits import assert_same_bits
from helpers.strategies import OPTIMIZERS, Given, ModelSpec

from arena_ckpt import Model
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import ArenaError, ShapeMismatchError
from arena_ckpt.planning.tensors import TensorKind

Array = npt.NDArray[np.float32]
STEPS, WIDTH, UNIT, BATCH = 5, 4, 6, 7


def sequence_model(kind: str, *, after: str = "flatten", **values: Any) -> ModelSpec:
    """in - fc - layer - flatten - head - mse; the gradient of fc shows d in0."""
    layers: tuple[tuple[str, Given], ...] = (
        ("input", {"name": "in", "input_shape": (1, STEPS, WIDTH)}),
        ("fully_connected", {"name": "fc", "unit": WIDTH}),
        (kind, {"name": "layer", "unit": UNIT, **values}),
        ("flatten", {"name": "flat"}),
        ("fully_connected", {"name": "head", "unit": 3}),
        ("mse", {"name": "loss"}),
    )
    return ModelSpec(layers, properties={"batch_size": BATCH})


def started(spec: ModelSpec, **options: Any) -> Model:
    """Initialized, with weights of which no bias is zero."""
    model = spec.initialized(**options)
    generator = np.random.default_rng(1)
    model.set_weights(
        {
            name: (generator.normal(size=w.shape) * 0.4).astype(np.float32)
            for name, w in model.weights().items()
        }
    )
    return model


def assert_near(found: Any, expected: Any, what: str, tolerance: float = 1e-5) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    scale = max(1e-4, float(np.abs(expected).max()))
    assert np.abs(found - expected).max() <= tolerance * scale, what


def columns_order(kind: str) -> npt.NDArray[np.int64]:
    """Our columns in PyTorch's order of gates."""
    u = UNIT
    if kind == "gru":
        return np.r_[u : 2 * u, :u, 2 * u : 3 * u]
    return np.arange({"lstm": 4, "rnn": 1}[kind] * u)


class TorchSequence:
    """The same model in PyTorch."""

    def __init__(self, torch: Any, model: Model, kind: str, values: Given) -> None:
        self.torch, self.kind, self.values = torch, kind, values
        self.weights = {n: torch.tensor(w) for n, w in model.weights().items()}
        made = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]
        self.both = bool(values.get("bidirectional"))
        options = (
            {"nonlinearity": "relu"} if "hidden_state_activation" in values else {}
        )
        self.judge = made(
            WIDTH, UNIT, batch_first=True, bidirectional=self.both, **options
        )
        with torch.no_grad():
            for name, (ours, take) in self.names().items():
                parameter = getattr(self.judge, name)
                if ours in self.weights:
                    parameter.copy_(take(self.weights[ours].numpy()))
                else:
                    parameter.zero_()
        for name in ("fc", "head"):
            for weight in ("weight", "bias"):
                self.weights[f"{name}:{weight}"].requires_grad_()

    def names(self) -> dict[str, tuple[str, Any]]:
        """For each parameter of the judge ours, and how it is made of it."""
        order = columns_order(self.kind)

        def take(value: Array) -> Any:
            return self.torch.tensor(value[..., order].T.copy())

        integrated = self.values.get("integrate_bias")
        result = {}
        for suffix, prefix in (("", ""), ("_reverse", "reverse_"))[: 1 + self.both]:
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                ours = "bias_h" if integrated and name == "bias_ih" else name
                result[f"{name}_l0{suffix}"] = (f"layer:{prefix}{ours}", take)
        return result

    def loss(self, x: Array, y: Array) -> Any:
        torch, w = self.torch, self.weights
        fc = torch.tensor(x).reshape(-1, STEPS, WIDTH) @ w["fc:weight"] + w["fc:bias"]
        out, _ = self.judge(fc)
        if not self.values.get("return_sequences"):
            out = out[:, -1]
        out = out.reshape(len(x), -1) @ w["head:weight"] + w["head:bias"]
        return torch.nn.functional.mse_loss(out, torch.tensor(y))


CASES: list[tuple[str, Given]] = [
    (kind, {**values, "return_sequences": keeps_all})
    for keeps_all in (True, False)
    for kind, values in (
        ("rnn", {}),
        ("rnn", {"hidden_state_activation": "relu", "integrate_bias": True}),
        ("lstm", {}),
        ("lstm", {"bidirectional": True}),
        ("lstm", {"bidirectional": True, "integrate_bias": True}),
        ("lstm", {"disable_bias": True}),
        ("gru", {}),
        ("gru", {"disable_bias": True}),
        ("gru", {"bidirectional": True}),
        ("rnn", {"bidirectional": True}),
    )
]


@pytest.mark.parametrize(("kind", "values"), CASES, ids=str)
def test_pytorch_agrees(kind: str, values: Given) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    spec = sequence_model(kind, **values)
    model = started(spec)
    judge = TorchSequence(torch, model, kind, values)
    x, y = spec.batch(BATCH)
    loss, gradients = model.compute_gradients(x, y)
    expected = judge.loss(x["in"], y)
    expected.backward()

    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for name in ("fc:weight", "fc:bias", "head:weight", "head:bias"):
        assert_near(gradients[name], judge.weights[name].grad.numpy(), name)
    checked = set()
    for name, (ours, _) in judge.names().items():
        if ours in gradients:
            theirs = getattr(judge.judge, name).grad.numpy().T
            assert_near(gradients[ours][..., columns_order(kind)], theirs, ours)
            checked.add(ours)
    assert checked == {name for name in gradients if name.startswith("layer:")}


MORE: list[tuple[str, Given]] = [
    ("rnn", {"dropout_rate": 0.3, "return_sequences": True}),
    ("lstm", {"dropout_rate": 0.3, "bidirectional": True}),
    ("gru", {"dropout_rate": 0.3, "return_sequences": True}),
    ("gru", {"reset_after": False}),
    ("gru", {"bidirectional": True, "reset_after": False, "dropout_rate": 0.2}),
    ("rnn", {"bidirectional": True, "return_sequences": True, "trainable": False}),
    ("gru", {"reset_after": False, "integrate_bias": True, "dropout_rate": 0.2}),
    ("gru", {"integrate_bias": True}),
    ("lstm", {"trainable": False}),
    ("rnn", {"trainable": False}),
    ("gru", {"trainable": False, "return_sequences": True}),
    ("lstm", {"weight_regularizer": "l2norm", "weight_decay": 0.1}),
]
BLOCKS = {
    "around": ("fc", "layer", "flat"),
    "before": ("fc", "layer"),
    "behind": ("layer", "flat", "head"),
}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("kind", "values"), CASES[:9:2] + MORE, ids=str)
def test_same_bits(kind: str, values: Given, block: str) -> None:
    plain = sequence_model(kind, **values)
    assert_same_bits(
        ModelSpec(plain.layers, (BLOCKS[block],), plain.properties, OPTIMIZERS[3])
    )


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_micro_batches_and_clipping(kind: str) -> None:
    plain = sequence_model(kind, return_sequences=True, dropout_rate=0.25)
    given = {"batch_size": BATCH, "micro_batches": 3, "clip_grad_by_norm": 0.05}
    assert_same_bits(ModelSpec(plain.layers, (BLOCKS["around"],), given, OPTIMIZERS[1]))


SMOOTH = [case for case in CASES if case[1].get("hidden_state_activation") != "relu"]


@pytest.mark.parametrize(("kind", "values"), SMOOTH[::3] + MORE[:6], ids=str)
def test_gradients_are_slopes_of_the_loss(kind: str, values: Given) -> None:
    spec = sequence_model(kind, **values)
    assert_slopes(started(spec), *spec.batch(BATCH))


def assert_slopes(model: Model, x: Any, y: Array) -> None:
    gradients, start = model.compute_gradients(x, y)[1], model.weights()
    generator = np.random.default_rng(0)
    for name, gradient in gradients.items():
        direction = generator.normal(size=gradient.shape).astype(np.float32)
        found = []
        for sign in (1, -1):
            model.set_weights({name: start[name] + sign * np.float32(1e-2) * direction})
            found.append(model.compute_gradients(x, y)[0])
        model.set_weights({name: start[name]})
        slope = (found[0] - found[1]) / 2e-2
        expected = float((gradient * direction).sum())
        assert slope == pytest.approx(expected, rel=0.02, abs=2e-3), name


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_nobody_is_dropped_where_the_model_predicts(kind: str) -> None:
    spec = sequence_model(kind, return_sequences=True)
    dropped = sequence_model(kind, return_sequences=True, dropout_rate=0.5)
    x, y = spec.batch(BATCH)
    predictions = [started(one).predict(x) for one in (spec, dropped)]
    assert predictions[0].tobytes() == predictions[1].tobytes()
    losses = [started(one).compute_gradients(x, y)[0] for one in (spec, dropped)]
    assert losses[0] != losses[1]


# -- the states behind the last step ---------------------------------------------------


FLAT = (("flat0", "layer"), ("flat1", "layer(1)"), ("flat2", "layer(2)"))


def states_model(kind: str, **values: Any) -> ModelSpec:
    """in - fc - layer, whose outputs are flattened and joined, - head - mse."""
    flat = FLAT[: 3 if kind == "lstm" else 2]
    joined = {"name": "joined", "axis": 3}
    names = tuple(name for name, _ in flat)
    layers: tuple[tuple[str, Given], ...] = (
        ("input", {"name": "in", "input_shape": (1, STEPS, WIDTH)}),
        ("fully_connected", {"name": "fc", "unit": WIDTH}),
        (kind, {"name": "layer", "unit": UNIT, "return_state": True, **values}),
        *(("flatten", {"name": name, "input_layers": (of,)}) for name, of in flat),
        ("concat", {**joined, "input_layers": names}),
        ("fully_connected", {"name": "head", "unit": 3}),
        ("mse", {"name": "loss"}),
    )
    return ModelSpec(layers, properties={"batch_size": BATCH})


STATES: list[tuple[str, Given]] = [
    ("rnn", {"return_sequences": True}),
    ("rnn", {"bidirectional": True}),
    ("gru", {"bidirectional": True, "return_sequences": True}),
    ("gru", {"reset_after": False, "trainable": False}),
    ("lstm", {"bidirectional": True, "return_sequences": True}),
    ("lstm", {"bidirectional": True, "dropout_rate": 0.2}),
]


@pytest.mark.parametrize(("kind", "values"), STATES, ids=str)
def test_last_states_in_any_plan(kind: str, values: Given) -> None:
    spec = states_model(kind, **values)
    block = ("fc", "layer", *(name for name, _ in FLAT[: 3 if kind == "lstm" else 2]))
    assert_same_bits(ModelSpec(spec.layers, (block,), spec.properties, OPTIMIZERS[3]))
    assert_slopes(started(spec), *spec.batch(BATCH))


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_last_states_are_those_of_pytorch(kind: str) -> None:
    """Those of the reverse direction stand behind the first step of the sequence."""
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    spec = states_model(kind, bidirectional=True)
    model = started(spec)
    x, y = spec.batch(BATCH)
    judge = TorchSequence(torch, model, kind, {"bidirectional": True})
    w = judge.weights
    fc = torch.tensor(x["in"]).reshape(-1, STEPS, WIDTH) @ w["fc:weight"] + w["fc:bias"]
    out, states = judge.judge(fc)
    states = states if kind == "lstm" else (states,)
    rows = [out[:, -1], *(s.transpose(0, 1).reshape(BATCH, -1) for s in states)]
    found = torch.cat(rows, 1) @ w["head:weight"] + w["head:bias"]
    loss, gradients = model.compute_gradients(x, y)
    expected = torch.nn.functional.mse_loss(found, torch.tensor(y))
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, (ours, _) in judge.names().items():
        theirs = getattr(judge.judge, name).grad.numpy().T
        assert_near(gradients[ours][..., columns_order(kind)], theirs, ours)
    assert_near(gradients["fc:weight"], w["fc:weight"].grad.numpy(), "fc:weight")


# -- cells and unrolled layers ---------------------------------------------------------

UNROLLED: list[tuple[str, Given]] = [
    ("rnn", {"return_sequences": True}),
    ("rnn", {"hidden_state_activation": "elu", "trainable": False}),
    ("lstm", {"return_sequences": True}),
    ("lstm", {"trainable": False}),
    ("lstm", {"bidirectional": True, "return_sequences": True}),
    ("lstm", {"bidirectional": True, "integrate_bias": True}),
    ("gru", {"return_sequences": True}),
    ("gru", {"reset_after": False, "disable_bias": True}),
    ("gru", {"trainable": False}),
    ("gru", {"bidirectional": True}),
    ("rnn", {"bidirectional": True, "return_sequences": True}),
]


@pytest.mark.parametrize(("kind", "values"), UNROLLED, ids=str)
def test_unrolled_is_the_same_function(kind: str, values: Given) -> None:
    fused = started(sequence_model(kind, **values))
    spec = sequence_model(kind, unroll=True, **values)
    unrolled = spec.initialized()
    own = {}
    for name, value in fused.weights().items():
        layer, _, weight = name.partition(":")
        if layer == "layer":
            first = "t0"
            if weight.startswith("reverse_"):
                first, weight = f"r{STEPS - 1}", weight.removeprefix("reverse_")
            name = f"layer/{first}:{weight}"
        own[name] = value
    assert sorted(own) == sorted(unrolled.weights())
    unrolled.set_weights(own)
    x, y = spec.batch(BATCH)
    loss, gradients = fused.compute_gradients(x, y)
    loss_unrolled, found = unrolled.compute_gradients(x, y)
    assert loss_unrolled == pytest.approx(loss, rel=1e-6)
    names = dict(zip(fused.weights(), own, strict=True))
    assert sorted(found) == sorted(names[name] for name in gradients)
    for name, gradient in gradients.items():
        assert_near(found[names[name]], gradient, name)
    assert_near(unrolled.predict(x), fused.predict(x), "prediction")


@pytest.mark.parametrize(
    "block", [("layer/t0", "layer/t1", "layer/t2"), ("layer", "flat"), ("fc", "layer")]
)
@pytest.mark.parametrize(("kind", "values"), UNROLLED[::2], ids=str)
def test_unrolled_in_blocks(kind: str, values: Given, block: tuple[str, ...]) -> None:
    plain = sequence_model(kind, unroll=True, dropout_rate=0.2, **values)
    assert_same_bits(ModelSpec(plain.layers, (block,), plain.properties, OPTIMIZERS[3]))


def test_an_unrolled_layer_of_one_step() -> None:
    layers: tuple[tuple[str, Given], ...] = (
        ("input", {"name": "in", "input_shape": (1, 1, 3)}),
        ("lstm", {"name": "a", "unit": 4, "unroll": True, "bidirectional": True}),
        ("fully_connected", {"name": "head", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    spec = ModelSpec(layers, (("a", "head"),), {"batch_size": 3})
    names = [layer.name for layer in spec.model().make_plan().layers]
    assert names == ["in", "a/t0", "a/r0", "a/both", "head", "loss"]
    assert_same_bits(spec)


def test_cells_by_hand() -> None:
    """Two inputs, states from layers, both outputs of an lstmcell read."""
    layers: tuple[tuple[str, Given], ...] = (
        ("input", {"name": "x", "input_shape": (1, 1, 3)}),
        ("input", {"name": "state", "input_shape": (1, 1, 4)}),
        ("fully_connected", {"name": "h", "unit": 4, "input_layers": ["state"]}),
        ("fully_connected", {"name": "c", "unit": 4, "input_layers": ["state"]}),
        ("lstmcell", {"name": "a", "unit": 4, "input_layers": ["x", "h", "c"]}),
        ("lstmcell", {"name": "b", "unit": 4, "input_layers": ["x", "a"]}),
        ("addition", {"name": "all", "input_layers": ["a(1)", "b", "b(1)"]}),
        ("grucell", {"name": "g", "unit": 4, "input_layers": ["x", "all"]}),
        ("rnncell", {"name": "r", "unit": 4, "input_layers": ["g", "state"]}),
        ("mse", {"name": "loss"}),
    )
    spec = ModelSpec(layers, (("a", "b", "all"), ("g", "r")), {"batch_size": 5})
    assert_same_bits(spec)
    assert_slopes(started(spec), *spec.batch(5))


# -- wrong use -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("lstm", {"unit": None}, "'layer' (lstm): has no unit; set it"),
        ("gru", {"hidden_state_activation": "softmax"}, "expected one of tanh"),
        ("rnncell", {"bidirectional": True}, "unknown property 'bidirectional'"),
        (
            "gru",
            {"return_state": True, "unroll": True},
            "its states are those of the cell layer/t4",
        ),
        ("gru", {"dropout_rate": 1.0}, "at least 0 and below 1"),
        ("rnncell", {}, f"reads 1:{STEPS}:{WIDTH} and needs one step, 1:1:width"),
    ],
    ids=str,
)
def test_wrong_use(kind: str, values: Given, message: str) -> None:
    given = {name: value for name, value in values.items() if value is not None}
    spec = sequence_model(kind, **given)
    if values.get("unit", 1) is None:
        layers = [
            (name, {k: v for k, v in props.items() if k != "unit" or name != kind})
            for name, props in spec.layers
        ]
        spec = ModelSpec(tuple(layers), properties=spec.properties)
    with pytest.raises(ArenaError) as caught:
        spec.model().make_plan()
    assert message in str(caught.value)


def test_shapes_that_do_not_fit() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=(2, 3, 4))
    model.add_layer("gru", name="a", unit=3)
    model.add_layer("mse", name="loss")
    with pytest.raises(
        ShapeMismatchError, match=r"reads 2:3:4 and needs 1:steps:width"
    ):
        model.make_plan()
    model = Model()
    model.add_layer("input", name="in", input_shape=(1, 1, 4))
    model.add_layer("lstmcell", name="a", unit=3, input_layers=["in", "in"])
    model.add_layer("addition", name="b", input_layers=["a", "a(1)"])
    model.add_layer("mse", name="loss")
    with pytest.raises(
        ShapeMismatchError,
        match=r"state of shape 1:1:4 as input 1; with unit=3 .*1:1:3",
    ):
        model.make_plan()


def test_what_lives_from_forward_to_backward() -> None:
    for kind, saved in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        plan = sequence_model(kind).model().make_plan()
        backward = next(
            e.step
            for e in plan.executions
            if e.layer == "head" and e.phase is Phase.CALC_GRADIENT
        )
        alive = [
            t.name
            for t in plan.tensors
            if t.layer == "layer"
            and t.kind is TensorKind.ACTIVATION
            and t.start < backward < t.stop
            and not t.name.endswith(":out0")
        ]
        shape = next(t.shape for t in plan.tensors if t.name == alive[0])
        assert len(alive) == 1
        assert shape == (BATCH, STEPS, saved * UNIT)
