"""Recurrent layers that read the length of each sequence, against PyTorch's packing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.same_bits import assert_same_bits
from helpers.strategies import OPTIMIZERS, Given, ModelSpec

from arena_ckpt import Model
from arena_ckpt.errors import ArenaError, IdRangeError

Array = npt.NDArray[np.float32]
STEPS, WIDTH, UNIT, BATCH = 5, 3, 4, 6
LENGTHS = np.array([[3], [5], [1], [4], [5], [2]], np.float32)


class WithLengths(ModelSpec):
    """A model with the inputs ``in`` and ``lengths``."""

    def batch(self, n: int, seed: int = 0) -> tuple[Any, Any]:
        x, y = super().batch(n, seed)
        return {**x, "lengths": LENGTHS[np.arange(n) % len(LENGTHS)]}, y


def lengths_model(kind: str, **values: Any) -> WithLengths:
    """(in - fc, lengths) - layer, whose outputs are flattened, joined, - head - mse."""
    n_states = (2 if kind == "lstm" else 1) if values.get("return_state") else 0
    flat = [f"flat{i}" for i in range(1 + n_states)]
    layers: tuple[tuple[str, Given], ...] = (
        ("input", {"name": "in", "input_shape": (1, STEPS, WIDTH)}),
        ("fully_connected", {"name": "fc", "unit": WIDTH}),
        ("input", {"name": "lengths", "input_shape": (1, 1, 1)}),
        (
            kind,
            {
                "name": "layer",
                "unit": UNIT,
                "input_layers": ["fc", "lengths"],
                **values,
            },
        ),
        *(
            ("flatten", {"name": name, "input_layers": [f"layer({i})"]})
            for i, name in enumerate(flat)
        ),
        ("concat", {"name": "joined", "axis": 3, "input_layers": flat}),
        ("fully_connected", {"name": "head", "unit": 3}),
        ("mse", {"name": "loss"}),
    )
    if n_states == 0:
        layers = (*layers[:5], *layers[6:])
    return WithLengths(layers, properties={"batch_size": BATCH})


def started(spec: ModelSpec) -> Model:
    """Initialized, with weights of which no bias is zero."""
    model = spec.initialized(debug=True)
    generator = np.random.default_rng(1)
    model.set_weights(
        {
            name: (generator.normal(size=w.shape) * 0.4).astype(np.float32)
            for name, w in model.weights().items()
        }
    )
    return model


def assert_near(found: Any, expected: Any, what: str) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    scale = max(1e-3, float(np.abs(expected).max()))
    assert np.abs(found - expected).max() <= 1e-5 * scale, what


def columns_order(kind: str) -> Any:
    """Our columns in PyTorch's order of gates."""
    gates = {"rnn": [0], "lstm": [0, 1, 2, 3], "gru": [1, 0, 2]}[kind]
    return np.concatenate([np.arange(UNIT) + UNIT * gate for gate in gates])


def judged(torch: Any, model: Model, kind: str, values: Given, x: Any) -> Any:
    """Return the outputs of PyTorch's layer for packed sequences, and its weights."""
    both, order = bool(values.get("bidirectional")), columns_order(kind)
    made = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]
    judge, weights = made(WIDTH, UNIT, batch_first=True, bidirectional=both), {}
    given = {n: torch.tensor(w) for n, w in model.weights().items()}
    with torch.no_grad():
        for suffix, prefix in (("", ""), ("_reverse", "reverse_"))[: 1 + both]:
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                ours = f"layer:{prefix}{name}"
                weights[ours] = getattr(judge, f"{name}_l0{suffix}")
                ordered = given[ours].numpy()[..., order].T.copy()
                weights[ours].copy_(torch.tensor(ordered))
    for name in ("fc:weight", "fc:bias", "head:weight", "head:bias"):
        weights[name] = given[name].requires_grad_()
    fc = torch.tensor(x["in"]).reshape(-1, STEPS, WIDTH) @ weights["fc:weight"]
    lengths = torch.tensor(x["lengths"][:, 0].astype(np.int64))
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        fc + weights["fc:bias"], lengths, batch_first=True, enforce_sorted=False
    )
    out, states = judge(packed)
    out, _ = torch.nn.utils.rnn.pad_packed_sequence(
        out, batch_first=True, total_length=STEPS
    )
    if not values.get("return_sequences"):
        out = out[torch.arange(len(lengths)), lengths - 1]
    outputs = [out.reshape(len(lengths), -1)]
    if values.get("return_state"):
        states = states if kind == "lstm" else (states,)
        outputs += [s.transpose(0, 1).reshape(len(lengths), -1) for s in states]
    head = torch.cat(outputs, 1) @ weights["head:weight"] + weights["head:bias"]
    return outputs, weights, head


BOTH = {"bidirectional": True}
STATE = {"return_state": True}
CASES: list[tuple[str, Given]] = [
    (kind, {**values, "return_sequences": keeps_all})
    for kind in ("rnn", "lstm", "gru")
    for values in ({}, BOTH, STATE, {**BOTH, **STATE})
    for keeps_all in (True, False)
]


@pytest.mark.parametrize(("kind", "values"), CASES, ids=str)
def test_pytorch_agrees(kind: str, values: Given) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    spec = lengths_model(kind, **values)
    model = started(spec)
    x, y = spec.batch(BATCH)
    outputs, weights, head = judged(torch, model, kind, values, x)
    expected = torch.nn.functional.mse_loss(head, torch.tensor(y))
    expected.backward()

    loss, gradients = model.compute_gradients(x, y)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    assert set(gradients) == set(weights)
    order = columns_order(kind)
    for name, gradient in gradients.items():
        theirs = weights[name].grad.numpy()
        if name.startswith("layer:"):
            gradient, theirs = gradient[..., order], theirs.T
        assert_near(gradient, theirs, name)
    found = model.predict(x, outputs=["layer"])["layer"].reshape(BATCH, -1)
    assert_near(found, outputs[0].detach().numpy(), "output")
    if values["return_sequences"]:
        rows = found.reshape(BATCH, STEPS, -1)
        masked = np.arange(STEPS) >= LENGTHS
        assert (rows[masked] == 0).all()
        assert (rows[~masked] != 0).all()


MORE: list[tuple[str, Given]] = [
    ("lstm", {**BOTH, **STATE, "dropout_rate": 0.3, "return_sequences": True}),
    ("lstm", {**STATE, "recurrent_activation": "relu"}),
    ("gru", {**BOTH, "reset_after": False, "dropout_rate": 0.3}),
    ("rnn", {**BOTH, **STATE, "dropout_rate": 0.3, "return_sequences": True}),
    ("lstm", {**BOTH, "trainable": False}),
]
"""What PyTorch's layers do not have, of which the slopes of the loss are the judge."""


@pytest.mark.parametrize(("kind", "values"), MORE, ids=str)
def test_same_bits_and_slopes(kind: str, values: Given) -> None:
    plain = lengths_model(kind, **values)
    given = {"batch_size": BATCH, "micro_batches": 2}
    block = ("fc", "lengths", "layer", "flat0")
    assert_same_bits(WithLengths(plain.layers, (block,), given, OPTIMIZERS[3]))
    model = started(plain)
    x, y = plain.batch(BATCH)
    gradients, start = model.compute_gradients(x, y)[1], model.weights()
    generator, loss = np.random.default_rng(0), []
    for name, gradient in gradients.items():
        way = generator.normal(size=gradient.shape).astype(np.float32)
        for sign in (1, -1):
            model.set_weights({name: start[name] + sign * np.float32(1e-2) * way})
            loss.append(model.compute_gradients(x, y)[0])
        model.set_weights({name: start[name]})
        slope = (loss[-2] - loss[-1]) / 2e-2
        expected = float((gradient * way).sum())
        assert slope == pytest.approx(expected, rel=0.02, abs=2e-3), name


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_what_stands_in_masked_steps_is_not_read(kind: str) -> None:
    """Numbers that overflow there leave the bits of loss and gradients alone."""
    given = {**BOTH, **STATE, "hidden_state_activation": "relu"}
    model = started(lengths_model(kind, return_sequences=True, **given))
    spec = lengths_model(kind)
    x, y = spec.batch(BATCH)
    results = []
    for filler in (0, 1e30):
        rows = x["in"].reshape(BATCH, STEPS, WIDTH).copy()
        rows[np.arange(STEPS) >= LENGTHS] = filler
        loss, gradients = model.compute_gradients({**x, "in": rows}, y)
        del gradients["fc:weight"]  # its factor is the input itself, times 0
        results.append((loss, {n: g.tobytes() for n, g in gradients.items()}))
    assert results[0] == results[1]


def test_whole_sequences_have_the_bits_of_a_layer_without_lengths() -> None:
    spec = lengths_model("lstm", **BOTH, **STATE, return_sequences=True)
    layers = [(kind, dict(values)) for kind, values in spec.layers]
    layers[3][1]["input_layers"] = ["fc"]
    del layers[2]
    without = ModelSpec(tuple(layers), properties=spec.properties)
    x, y = without.batch(BATCH)
    full = {**x, "lengths": np.full((BATCH, 1), STEPS, np.float32)}
    found, expected = started(spec), started(without)
    loss, gradients = found.compute_gradients(full, y)
    expected_loss, others = expected.compute_gradients(x, y)
    assert loss == expected_loss
    for name, gradient in gradients.items():
        assert (gradient == others[name]).all(), name


@pytest.mark.parametrize("wrong", [0, STEPS + 1, 2.5])
def test_a_length_out_of_range_is_named(wrong: float) -> None:
    spec = lengths_model("gru")
    model = spec.initialized()
    x, y = spec.batch(BATCH)
    x["lengths"] = LENGTHS.copy()
    x["lengths"][2] = wrong
    before = {name: w.tobytes() for name, w in model.weights().items()}
    for use in (lambda: model.train_step(x, y), lambda: model.evaluate((x, y))):
        with pytest.raises(
            IdRangeError,
            match=rf"'layer' \(gru\) reads {wrong:g} in sample 2, place 0; lengths are "
            r"whole numbers from 1 to 5\. 1 lengths of this pass are none: correct",
        ) as caught:
            use()
        assert (caught.value.least, caught.value.n_ids) == (1, STEPS + 1)
    assert {name: w.tobytes() for name, w in model.weights().items()} == before


@pytest.mark.parametrize(
    ("shape", "values", "message"),
    [
        (
            (1, STEPS, 1),
            {},
            "the length of each sequence, 1:1:1, and has the shape 1:5",
        ),
        ((1, 1, 1), {"unroll": True}, "unroll=true and a second input, the lengths"),
    ],
)
def test_wrong_use(shape: tuple[int, int, int], values: Given, message: str) -> None:
    layers = list(lengths_model("lstm", **values).layers)
    layers[2] = ("input", {"name": "lengths", "input_shape": shape})
    with pytest.raises(ArenaError) as caught:
        ModelSpec(tuple(layers)).model().make_plan()
    assert message in str(caught.value)
