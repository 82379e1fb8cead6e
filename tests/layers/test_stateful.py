"""Recurrent layers whose states go on from batch to batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.same_bits import assert_same_bits
from helpers.strategies import OPTIMIZERS, Given, ModelSpec

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.errors import ArenaError

Array = npt.NDArray[np.float32]
STEPS, WIDTH, UNIT, ROWS = 3, 2, 4, 5
RATE = 0.25
KINDS = ("rnn", "lstm", "gru")


def stateful_model(kind: str, **values: Any) -> ModelSpec:
    """in - layer, whose last step is read, - head - mse."""
    layers: tuple[tuple[str, Given], ...] = (
        ("input", {"name": "in", "input_shape": (1, STEPS, WIDTH)}),
        (kind, {"name": "layer", "unit": UNIT, "stateful": ROWS, **values}),
        ("fully_connected", {"name": "head", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    optimizer = ("sgd", {"learning_rate": RATE})
    return ModelSpec(layers, (), {"batch_size": ROWS}, optimizer)


def started(spec: ModelSpec) -> Model:
    model = spec.initialized(debug=True)
    generator = np.random.default_rng(1)
    weights = {
        name: (generator.normal(size=w.shape) * 0.5).astype(np.float32)
        for name, w in model.weights().items()
        if "kept" not in name
    }
    model.set_weights(weights)
    return model


def batches() -> list[tuple[Array, Array]]:
    """Return four batches, of which the third has fewer samples."""
    generator = np.random.default_rng(2)
    return [
        (
            generator.normal(size=(n, STEPS * WIDTH)).astype(np.float32),
            generator.normal(size=(n, 2)).astype(np.float32),
        )
        for n in (ROWS, ROWS, ROWS - 2, ROWS)
    ]


def kept(model: Model) -> dict[str, Array]:
    return {name: w for name, w in model.weights().items() if "kept" in name}


@pytest.mark.parametrize("kind", KINDS)
def test_pytorch_with_its_states_handed_on_agrees(kind: str) -> None:
    """The samples that a batch lacks keep their states; no gradient goes back."""
    torch = pytest.importorskip("torch", reason="PyTorch is the outside judge")
    model = started(stateful_model(kind))
    gates = {"rnn": [0], "lstm": [0, 1, 2, 3], "gru": [1, 0, 2]}[kind]
    order = np.concatenate([np.arange(UNIT) + UNIT * gate for gate in gates])
    judge = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](
        WIDTH, UNIT, batch_first=True
    )
    head = torch.nn.Linear(UNIT, 2)
    given = model.weights()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    with torch.no_grad():
        for name in names:
            ours = given[f"layer:{name}"][..., order].T.copy()
            getattr(judge, f"{name}_l0").copy_(torch.tensor(ours))
        head.weight.copy_(torch.tensor(given["head:weight"].T.copy()))
        head.bias.copy_(torch.tensor(given["head:bias"]))
    sgd = torch.optim.SGD([*judge.parameters(), *head.parameters()], lr=RATE)
    states = [torch.zeros(1, ROWS, UNIT) for _ in range(2 if kind == "lstm" else 1)]
    for x, y in batches():
        n = len(x)
        begin = tuple(s[:, :n].clone() for s in states)
        out, last = judge(
            torch.tensor(x).reshape(n, STEPS, WIDTH),
            begin if kind == "lstm" else begin[0],
        )
        for state, new in zip(states, last if kind == "lstm" else [last], strict=True):
            state[:, :n] = new.detach()
        expected = torch.nn.functional.mse_loss(head(out[:, -1]), torch.tensor(y))
        sgd.zero_grad()
        expected.backward()
        sgd.step()
        found = model.train_step(x, y)
        assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    found_weights = model.weights()
    for name in names:
        theirs = getattr(judge, f"{name}_l0").detach().numpy().T
        ours = found_weights[f"layer:{name}"][..., order]
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for array, state in zip(kept(model).values(), states, strict=True):
        np.testing.assert_allclose(array, state[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits(kind: str) -> None:
    plain = stateful_model(kind, return_state=False, dropout_rate=0.25)
    block = ("layer", "head")
    assert_same_bits(ModelSpec(plain.layers, (block,), plain.properties, OPTIMIZERS[3]))


def test_only_training_moves_the_states(tmp_path: Path) -> None:
    """Predictions begin with zeros; a model that is read goes on with its states."""
    spec = stateful_model("lstm")
    model, batch = started(spec), batches()[0]
    before = model.predict(batch[0])
    model.train_step(*batch)
    states = {name: w.tobytes() for name, w in kept(model).items()}
    assert list(states) == ["layer:kept_hidden_state", "layer:kept_cell_state"]
    assert all(w.any(axis=1).all() for w in kept(model).values())
    model.predict(batch[0])
    model.evaluate(batch)
    model.compute_gradients(*batch)
    assert {name: w.tobytes() for name, w in kept(model).items()} == states

    layers = [(kind, dict(values)) for kind, values in spec.layers]
    del layers[1][1]["stateful"]
    plain = started(ModelSpec(tuple(layers), properties=spec.properties))
    assert plain.predict(batch[0]).tobytes() == before.tobytes()

    model.save(tmp_path / "model.safetensors")
    read = ac.load(tmp_path / "model.safetensors")
    assert read.train_step(*batch) == model.train_step(*batch)
    model.reset_states()
    assert not any(w.any() for w in kept(model).values())
    assert read.train_step(*batch) != model.train_step(*batch)


@pytest.mark.parametrize(
    ("values", "properties", "message"),
    [
        (
            {"bidirectional": True},
            {},
            "bidirectional=true, whose second direction begins",
        ),
        ({"unroll": True}, {}, "stateful=5 and unroll=true; leave one of them out"),
        ({"trainable": False}, {}, "trainable=false, and states change in training"),
        (
            {},
            {"batch_size": 6},
            "batch_size is 6: it keeps states of 5 samples",
        ),
        (
            {},
            {"micro_batches": 2},
            "micro_batches is 2: its states go on",
        ),
        ({"stateful": 0}, {}, "stateful=0"),
    ],
)
def test_wrong_use(values: Given, properties: Given, message: str) -> None:
    with pytest.raises(ArenaError) as caught:
        stateful_model("gru", **values).with_properties(**properties).initialized()
    assert message in str(caught.value)


def test_two_layers_cannot_keep_the_same_states() -> None:
    first, *others = stateful_model("gru", return_sequences=True).layers[1:]
    twin = {"unit": WIDTH, "input_layers": ["layer"], "shared_from": "layer"}
    first[1]["unit"] = WIDTH
    layers = (
        stateful_model("gru").layers[0],
        first,
        ("gru", {"name": "twin", "stateful": ROWS, **twin}),
        *others,
    )
    with pytest.raises(ArenaError, match="shared_from, so that two layers would have"):
        ModelSpec(layers).model().make_plan()
