"""Recurrent layers of which the states alone are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.same_bits import assert_same_bits
from helpers.strategies import OPTIMIZERS, Given, ModelSpec

from arena_ckpt.errors import DanglingOutputError, InvalidParameterError

STEPS, WIDTH, UNIT, BATCH = 4, 3, 2, 5
FC: tuple[str, Given] = ("fully_connected", {"name": "fc", "unit": WIDTH})


class Encoder(ModelSpec):
    """A model that may have an input ``lengths``."""

    def batch(self, n: int, seed: int = 0) -> tuple[Any, Any]:
        x, y = super().batch(n, seed)
        if "lengths" in x:
            x["lengths"] = (np.arange(n, dtype=np.float32) % STEPS + 1)[:, None]
        return x, y


def encoder(
    kind: str, *, reads: tuple[int, ...], has_lengths: bool = False, **values: Any
) -> Encoder:
    """in - fc - layer, of which some outputs are flattened and joined, - mse."""
    names = [f"flat{i}" for i in reads]
    given = {"name": "layer", "unit": UNIT, "return_state": True, **values}
    lengths = ("input", {"name": "lengths", "input_shape": (1, 1, 1)})
    layers: tuple[tuple[str, Given], ...] = (
        ("input", {"name": "in", "input_shape": (1, STEPS, WIDTH)}),
        FC,
        *((lengths,) if has_lengths else ()),
        (kind, {**given, "input_layers": ["fc", "lengths"][: 1 + has_lengths]}),
        *(
            ("flatten", {"name": f"flat{i}", "input_layers": [f"layer({i})"]})
            for i in reads
        ),
        ("concat", {"name": "joined", "axis": 3, "input_layers": names}),
        ("fully_connected", {"name": "head", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    return Encoder(layers, (), {"batch_size": BATCH}, OPTIMIZERS[1])


CASES: list[tuple[str, Given]] = [
    ("rnn", {"return_sequences": True}),
    ("rnn", {"bidirectional": True}),
    ("lstm", {"bidirectional": True, "return_sequences": True}),
    ("lstm", {"has_lengths": True, "bidirectional": True}),
    ("gru", {}),
    ("gru", {"has_lengths": True, "return_sequences": True}),
]


@pytest.mark.parametrize(("kind", "values"), CASES, ids=str)
def test_states_alone_train_as_beside_an_output_of_no_weight(
    kind: str, values: Given
) -> None:
    """The same network that reads the first output as well, times 0, is the judge."""
    states = (1, 2) if kind == "lstm" else (1,)
    spec = encoder(kind, reads=states, **values)
    alone = spec.initialized(debug=True)
    whole = encoder(kind, reads=(0, *states), **values).initialized(debug=True)
    weights = alone.weights()
    given = {name: w for name, w in weights.items() if name != "head:weight"}
    head = np.zeros_like(whole.weights()["head:weight"])
    n_states = len(weights["head:weight"])
    head[-n_states:] = weights["head:weight"]
    whole.set_weights({**given, "head:weight": head})
    x, y = spec.batch(BATCH)
    loss, gradients = alone.compute_gradients(x, y)
    expected_loss, expected = whole.compute_gradients(x, y)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, gradient in gradients.items():
        other = expected[name][-n_states:] if name == "head:weight" else expected[name]
        np.testing.assert_allclose(gradient, other, atol=1e-6, err_msg=name)
    is_made = kind == "rnn" and "bidirectional" not in values  # it holds the states
    names = {tensor.name for tensor in alone.plan.tensors}
    assert ("layer:out0" in names) == is_made
    assert "layer:out0:grad" not in names
    lengths = ("lengths",) if values.get("has_lengths") else ()
    blocks = (("fc", *lengths, "layer", "flat1"),)
    assert_same_bits(Encoder(spec.layers, blocks, spec.properties, OPTIMIZERS[3]))


def test_states_have_to_be_read_and_what_is_not_made_cannot_be_asked_for() -> None:
    with pytest.raises(DanglingOutputError, match="nobody reads output 2 of 'layer'"):
        encoder("lstm", reads=(1,)).model().make_plan()
    model = encoder("gru", reads=(1,)).initialized()
    x, _ = encoder("gru", reads=(1,)).batch(2)
    with pytest.raises(InvalidParameterError, match="'layer', which is not made as no"):
        model.predict(x, outputs=["layer"])
    found = model.predict(x, outputs=["layer(1)"])["layer(1)"]
    assert found.shape == (2, 1, 1, UNIT)
