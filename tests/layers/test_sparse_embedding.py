"""Embeddings with sparse=true: gradients of the rows alone that a batch names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.mixed_graphs import MixedSpec
from helpers.same_bits import assert_same_bits

from arena_ckpt import Model, load_ini, verify
from arena_ckpt.errors import (
    InvalidParameterError,
    ShapeMismatchError,
    SharedWeightsError,
)

ROWS, WIDTH, LENGTH, BATCH = 40, 3, 6, 4
SGD = ("sgd", {"learning_rate": 0.5})
MOMENTUM = ("sgd", {"learning_rate": 0.5, "momentum": 0.9})
NESTEROV = ("sgd", {"learning_rate": 0.5, "momentum": 0.9, "nesterov": True})
ADAM = ("adam", {"learning_rate": 0.05})


def model(
    optimizer: tuple[str, dict[str, Any]] = SGD,
    *,
    sparse: bool = True,
    properties: dict[str, Any] | None = None,
    **values: Any,
) -> Model:
    made = Model(seed=0)
    made.set_property(**{"batch_size": BATCH, **(properties or {})})
    made.add_layer("input", name="ids", input_shape=(1, 1, LENGTH))
    given = {"in_dim": ROWS, "out_dim": WIDTH, "sparse": sparse, **values}
    made.add_layer("embedding", name="table", **given)
    made.add_layer("fully_connected", name="out", unit=2)
    made.add_layer("mse", name="loss")
    made.set_optimizer(optimizer[0], **optimizer[1])
    return made


def batches(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return batches in which ids repeat, and each names some rows only."""
    draw = np.random.default_rng(0)
    return [
        (
            draw.choice(draw.choice(ROWS, 9), (BATCH, LENGTH)).astype(np.float32),
            draw.normal(size=(BATCH, LENGTH * 2)).astype(np.float32),
        )
        for _ in range(n)
    ]


def trained(made: Model, n: int = 4) -> dict[str, np.ndarray]:
    for x, y in batches(n):
        made.train_step(x, y)
    return made.weights()


@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, NESTEROV], ids=str)
def test_sgd_gives_the_bits_of_whole_gradients(optimizer: Any) -> None:
    for values in ({}, {"padding_idx": int(batches(1)[0][0][0, 0])}):
        weights = []
        for sparse in (False, True):
            made = model(optimizer, sparse=sparse, **values)
            made.initialize()
            weights.append(trained(made))
        whole, touched = weights
        for name, weight in whole.items():
            assert weight.tobytes() == touched[name].tobytes(), (name, values)


@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, NESTEROV, ADAM], ids=str)
def test_it_trains_as_in_pytorch(optimizer: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    made = model(optimizer)
    made.initialize()
    before = made.weights()
    table = torch.nn.Embedding(ROWS, WIDTH, sparse=True)
    out = torch.nn.Linear(WIDTH, 2)
    for theirs, name in ((table.weight, "table:weight"), (out.bias, "out:bias")):
        theirs.data = torch.tensor(before[name])
    out.weight.data = torch.tensor(before["out:weight"].T.copy())
    given = dict(optimizer[1])
    rate = given.pop("learning_rate")
    if optimizer[0] == "sgd":
        steps = [
            torch.optim.SGD([*table.parameters(), *out.parameters()], rate, **given)
        ]
    else:
        steps = [
            torch.optim.SparseAdam(list(table.parameters()), rate, eps=1e-7),
            torch.optim.Adam(out.parameters(), rate, eps=1e-7),
        ]
    for x, y in batches(5):
        made.train_step(x, y)
        for step in steps:
            step.zero_grad()
        result = out(table(torch.tensor(x.astype(np.int64))))
        torch.nn.functional.mse_loss(result.flatten(1), torch.tensor(y)).backward()
        assert table.weight.grad.is_sparse
        for step in steps:
            step.step()
    after = made.weights()["table:weight"]
    np.testing.assert_allclose(after, table.weight.detach(), rtol=1e-5, atol=1e-6)
    named = {int(i) for x, _ in batches(5) for i in x.flat}
    moved = {int(i) for i in np.flatnonzero((after != before["table:weight"]).any(1))}
    assert moved == named


def test_gradients_are_given_whole() -> None:
    found = []
    for sparse in (False, True):
        made = model(sparse=sparse)
        made.initialize(debug=True)
        found.append(made.compute_gradients(*batches(1)[0]))
    assert found[0][0] == found[1][0]
    for name, gradient in found[0][1].items():
        assert gradient.tobytes() == found[1][1][name].tobytes()


def test_clipping_takes_the_norm_of_the_sums() -> None:
    """PyTorch's norm of a sparse gradient is that of its sums, too."""
    norm = {"clip_grad_by_norm": 0.05}
    weights = []
    for sparse in (False, True):
        made = model(sparse=sparse, properties=norm)
        made.initialize()
        weights.append(trained(made, 2))
    for name, weight in weights[0].items():
        np.testing.assert_allclose(weight, weights[1][name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("optimizer", "properties"),
    [(SGD, {}), (ADAM, {"clip_grad_by_norm": 0.1, "micro_batches": 2})],
    ids=str,
)
def test_no_plan_changes_a_bit(optimizer: Any, properties: dict[str, Any]) -> None:
    layers = (
        ("input", {"name": "ids", "input_shape": (1, 1, 5)}),
        ("embedding", {"name": "table", "in_dim": 9, "out_dim": 4, "sparse": True}),
        ("activation", {"name": "act", "activation": "tanh"}),
        ("fully_connected", {"name": "out", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    blocks = (("table", "act"),)
    assert_same_bits(
        MixedSpec(layers, blocks, {"batch_size": 4, **properties}, optimizer)
    )


def test_micro_batches_add_lines_and_add_to_them() -> None:
    weights = []
    for micro_batches in (1, 2):
        made = model(ADAM, properties={"micro_batches": micro_batches})
        made.initialize()
        weights.append(trained(made, 2)["table:weight"])
    np.testing.assert_allclose(*weights, rtol=1e-6, atol=1e-7)


def test_verify_finds_nothing() -> None:
    result = verify(model(ADAM))
    assert result.passed, str(result)


def test_the_plan_has_a_line_for_each_id_of_a_batch() -> None:
    def gradient(**values: Any) -> tuple[tuple[int, ...], int]:
        plan = model(**values).make_plan()
        found = next(t for t in plan.tensors if t.name == "table:weight:grad")
        return found.shape, found.size_bytes

    assert gradient(sparse=False) == ((ROWS, WIDTH), 4 * ROWS * WIDTH)
    lines, columns = BATCH * LENGTH, WIDTH + 3
    assert gradient() == ((lines, columns), 4 * lines * columns)
    halves = {"properties": {"micro_batches": 2}}
    assert gradient(**halves) == gradient()


def test_sparse_goes_through_ini(tmp_path: Any) -> None:
    made = model()
    made.save_ini(tmp_path / "model.ini")
    read = load_ini(tmp_path / "model.ini")
    assert read.layers[1]["sparse"] is True
    assert read.make_plan() == made.make_plan()


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "adamw": (
        lambda: model(("adamw", {})),
        InvalidParameterError,
        "'table' has sparse=true, and the optimizer adamw moves every row",
    ),
    "rmsprop": (
        lambda: model(("rmsprop", {})),
        InvalidParameterError,
        "'table' has sparse=true, and the optimizer rmsprop moves every row",
    ),
    "clipped values": (
        lambda: model(("adam", {"clip_value": 1.0})),
        InvalidParameterError,
        "'table' has sparse=true, and clip_value of the optimizer adam",
    ),
    "decay": (
        lambda: model(weight_decay=0.1),
        ShapeMismatchError,
        "'table'.*sparse=true and a weight_decay, which moves every row",
    ),
    "penalty": (
        lambda: model(weight_regularizer="l2norm"),
        ShapeMismatchError,
        "'table'.*sparse=true and a weight_regularizer, which moves every row",
    ),
    "too many ids": (
        lambda: model(properties={"batch_size": 2**22}),
        InvalidParameterError,
        "'table' has sparse=true and 25,165,824 ids in a batch, 16,777,216 at most",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_moves_all_rows_is_refused(case: str) -> None:
    make, kind, says = REFUSED[case]
    with pytest.raises(kind, match=says):
        make().make_plan()


def test_a_table_that_others_use_is_refused() -> None:
    made = Model()
    made.add_layer("input", name="ids", input_shape=(1, 1, LENGTH))
    made.add_layer("embedding", name="table", in_dim=9, out_dim=4, sparse=True)
    tied = {"shared_from": "table", "transpose": True, "bias": False}
    made.add_layer("fully_connected", name="head", unit=9, **tied)
    made.add_layer("cross_softmax", name="loss", per_token=True)
    says = "'table' has sparse=true, and 'head' uses its table as well"
    with pytest.raises(SharedWeightsError, match=says):
        made.make_plan()
    made.initialize(mode="inference")
