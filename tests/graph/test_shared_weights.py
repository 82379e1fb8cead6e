"""Layers that share weights: one tensor, the sum of the gradients, one update."""

from typing import Any

import numpy as np
import pytest

from arena_ckpt import Model
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import SharedWeightsError
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.planning.timeline import Step

Given = dict[str, Any]


def build(
    *layers: Given, blocks: tuple[tuple[str, ...], ...] = (), **given: Any
) -> Model:
    """fully_connected layers of 4 units in a chain, tanh between them."""
    model = Model(seed=3)
    model.add_layer("input", name="in", input_shape="1:1:4")
    for values in layers:
        model.add_layer("fully_connected", unit=4, activation="tanh", **values)
    model.add_layer("mse", name="loss")
    for block in blocks:
        model.add_checkpoint_block(block)
    model.set_property(batch_size=6, **given)
    model.set_optimizer("adam", learning_rate=0.05)
    return model


SHARED: tuple[Given, ...] = (
    {"name": "a"},
    {"name": "b", "shared_from": "a"},
    {"name": "c"},
    {"name": "d", "shared_from": "b"},
)
ALONE: tuple[Given, ...] = tuple({"name": values["name"]} for values in SHARED)


def data() -> tuple[np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    return x, y


def test_gradients_are_summed() -> None:
    shared, alone = build(*SHARED), build(*ALONE)
    shared.initialize()
    alone.initialize()
    weights = shared.weights()
    assert list(weights) == ["a:weight", "a:bias", "c:weight", "c:bias"]
    alone.set_weights(
        {
            f"{name}:{w}": weights[f"{owner}:{w}"]
            for name, owner in (("a", "a"), ("b", "a"), ("c", "c"), ("d", "a"))
            for w in ("weight", "bias")
        }
    )
    loss, found = shared.compute_gradients(*data())
    same_loss, parts = alone.compute_gradients(*data())
    assert loss == same_loss
    assert list(found) == list(weights)
    for w in ("weight", "bias"):
        total = parts[f"d:{w}"] + parts[f"b:{w}"] + parts[f"a:{w}"]
        np.testing.assert_allclose(found[f"a:{w}"], total, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(found[f"c:{w}"], parts[f"c:{w}"])


@pytest.mark.parametrize(
    "given",
    [{}, {"micro_batches": 3}, {"clip_grad_by_norm": 0.1}],
    ids=["plain", "micro-batches", "clipped"],
)
def test_the_same_bits_with_blocks_without_reuse_and_in_debug_mode(
    given: Given,
) -> None:
    results = []
    for blocks, reuse, debug in (
        ((), True, False),
        ((("a", "b"), ("c", "d")), True, False),
        ((("a", "b", "c", "d"),), True, True),
        ((), False, False),
    ):
        model = build(*SHARED, blocks=blocks, memory_optimization=reuse, **given)
        model.initialize(debug=debug)
        losses = [model.train_step(*data()) for _ in range(4)]
        results.append((losses, {n: w.tobytes() for n, w in model.weights().items()}))
    assert results[0][0][-1] < results[0][0][0]
    assert all(result == results[0] for result in results)


def sgd(*layers: Given, **given: Any) -> Model:
    model = build(*layers, **given)
    model.set_optimizer("sgd", learning_rate=1.0)
    model.initialize()
    return model


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_the_norm_to_clip_counts_a_shared_gradient_once(micro_batches: int) -> None:
    """A step of rate 1 is the whole gradient, scaled down to the norm."""
    model = sgd(*SHARED, clip_grad_by_norm=0.01, micro_batches=micro_batches)
    _, gradients = model.compute_gradients(*data())
    norm = np.sqrt(sum(np.square(g, dtype=float).sum() for g in gradients.values()))
    assert norm > 0.02
    before = model.weights()
    model.train_step(*data())
    for name, weight in model.weights().items():
        expected = gradients[name] * (0.01 / norm)
        np.testing.assert_allclose(
            before[name] - weight, expected, rtol=1e-3, atol=1e-7
        )


@pytest.mark.parametrize("owner_first", [True, False])
def test_clipping_reads_every_gradient_once(owner_first: bool) -> None:
    a, b, *others = SHARED
    layers = (a, b, *others) if owner_first else (b, a, *others)
    plan = build(*layers, clip_grad_by_norm=1.0).make_plan()
    (clip,) = [e for e in plan.executions if e.phase is Phase.CLIP_GRADIENTS]
    names = ["a:weight:grad", "a:bias:grad", "c:weight:grad", "c:bias:grad"]
    assert [operand.role for operand in clip.operands] == names
    assert [plan.tensors[o.tensor].name for o in clip.operands] == names


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_the_penalty_of_a_shared_weight_counts_once(micro_batches: int) -> None:
    penalty = {"weight_regularizer": "l2norm", "weight_regularizer_constant": 0.25}
    owner, *others = SHARED
    for layers in (
        ({**owner, **penalty}, *others),
        (
            {**owner, **penalty},
            *({**other, **penalty} for other in others[:1]),
            *others[1:],
        ),
    ):
        plain = sgd(*SHARED, micro_batches=micro_batches)
        model = sgd(*layers, micro_batches=micro_batches)
        weights = model.weights()
        plain.set_weights(weights)
        loss, gradients = model.compute_gradients(*data())
        plain_loss, plain_gradients = plain.compute_gradients(*data())
        square = np.square(weights["a:weight"], dtype=float).sum()
        assert loss - plain_loss == pytest.approx(0.25 / 2 * square, rel=1e-5)
        assert model.evaluate(data()).loss == pytest.approx(loss, rel=1e-6)
        for name, gradient in gradients.items():
            more = 0.25 * weights[name] if name == "a:weight" else 0.0
            expected = plain_gradients[name] + more
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_there_is_one_weight_one_gradient_and_one_update() -> None:
    plan = build(*SHARED).make_plan()
    names = [t.name for t in plan.tensors if t.kind is TensorKind.WEIGHT]
    assert names == ["a:weight", "a:bias", "c:weight", "c:bias"]
    gradient = [t for t in plan.tensors if t.name == "a:weight:grad"]
    assert len(gradient) == 1
    order = plan.execution_order
    assert gradient[0].start == order["d"].calc_gradient
    assert gradient[0].stop == order["a"].apply_gradient + 1
    for name, updates in (("a", True), ("b", False), ("c", True), ("d", False)):
        step = plan.steps[order[name].apply_gradient]
        assert step == (Step(Phase.APPLY_GRADIENT, name) if updates else None)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (({"name": "a", "shared_from": "nobody"},), "'nobody', which does not exist"),
        (({"name": "a", "shared_from": "a"},), "in a circle"),
        (
            ({"name": "a", "shared_from": "b"}, {"name": "b", "shared_from": "a"}),
            "in a circle",
        ),
        (
            ({"name": "a"}, {"name": "b", "shared_from": "a", "disable_bias": True}),
            "it needs .* that layer has",
        ),
        (
            ({"name": "a"}, {"name": "b", "shared_from": "a", "trainable": False}),
            "it needs .* that layer has",
        ),
    ],
)
def test_what_cannot_be_shared(layers: tuple[Given, ...], says: str) -> None:
    with pytest.raises(SharedWeightsError, match=says) as caught:
        build(*layers).compile()
    assert caught.value.shared_from == layers[-1]["shared_from"] or len(layers) == 2


@pytest.mark.parametrize("owner_first", [True, False])
def test_the_decay_is_that_of_the_owner_wherever_it_stands(owner_first: bool) -> None:
    """It was once that of the layer which runs first."""
    owner, guest = {"weight_decay": 0.5, "bias_decay": 0.25}, {"shared_from": "own"}
    layers = {"own": owner, "guest": guest}
    order = ("own", "guest") if owner_first else ("guest", "own")
    model = Model(seed=3)
    model.add_layer("input", name="in", input_shape="1:1:4")
    for name in order:
        model.add_layer("fully_connected", name=name, unit=4, **layers[name])
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=6)
    model.set_optimizer("sgd", learning_rate=1.0)
    model.initialize()
    model.set_weights({"own:bias": np.ones(4)})
    before, (_, gradients) = model.weights(), model.compute_gradients(*data())
    model.train_step(*data())
    for name, decay in (("own:weight", 0.5), ("own:bias", 0.25)):
        expected = before[name] - gradients[name] - np.float32(decay) * before[name]
        np.testing.assert_allclose(model.weights()[name], expected, rtol=1e-5)


# -- unrolled layers -------------------------------------------------------------------

X, Y = (
    np.random.default_rng(1).normal(size=shape).astype(np.float32)
    for shape in ((3, 4 * 6), (3, 4 * 6))
)


def recurrent(kind: str, first: Given, second: Given, **both: Any) -> Model:
    """Two recurrent layers, one after the other, of which the second shares."""
    model = Model(seed=5)
    model.add_layer("input", name="in", input_shape="1:4:6")
    for name, values in (("one", first), ("two", second)):
        model.add_layer(kind, name=name, return_sequences=True, **both, **values)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=3)
    return model


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("unrolled", [(True, True), (True, False), (False, True)])
def test_an_unrolled_layer_can_give_and_take(
    kind: str, unrolled: tuple[bool, bool]
) -> None:
    """A layer is named as it was added, not by the part that has the weights."""
    first, second = ({"unroll": unroll} for unroll in unrolled)
    model = recurrent(kind, first, {**second, "shared_from": "one"}, unit=6)
    model.initialize()
    owner = "one/t0" if unrolled[0] else "one"
    assert {name.rpartition(":")[0] for name in model.weights()} == {owner}
    fused = recurrent(kind, {}, {"shared_from": "one"}, unit=6)
    fused.initialize()
    weights = model.weights()
    fused.set_weights(
        {name.replace(owner, "one"): weight for name, weight in weights.items()}
    )
    loss, gradients = model.compute_gradients(X, Y)
    same_loss, expected = fused.compute_gradients(X, Y)
    assert loss == pytest.approx(same_loss, rel=1e-6)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(
            gradient, expected[name.replace(owner, "one")], rtol=1e-4, atol=1e-6
        )


def test_each_direction_shares_with_the_same_of_the_other_layer() -> None:
    """Both directions once took the weights of the forward one."""
    both = {"unit": 3, "unroll": True, "bidirectional": True}
    model = recurrent("lstm", {}, {"shared_from": "one"}, **both)
    model.compile()
    assert model._graph is not None
    owners = {
        node.name: node.weights_of
        for node in model._graph.nodes
        if node.layer.type_name == "lstmcell"
    }
    assert owners == {
        f"{layer}/{letter}{t}": f"one/{letter}{start}"
        for layer in ("one", "two")
        for letter, start in (("t", 0), ("r", 3))
        for t in range(4)
    }


@pytest.mark.parametrize(
    ("first", "named"),
    [
        ({"bidirectional": True, "unroll": True}, "one/t0"),
        ({"bidirectional": False, "unit": 6}, "one"),
        ({"bidirectional": True}, "one"),
    ],
    ids=str,
)
def test_directions_of_different_number_cannot_share(first: Given, named: str) -> None:
    second = {"bidirectional": True, "unroll": True, "shared_from": named, "unit": 3}
    model = recurrent("lstm", {"unit": 3, **first}, second)
    with pytest.raises(SharedWeightsError, match=r"'two'.*2 sets.*has 1; make both"):
        model.compile()


def test_unrolled_layers_cannot_share_in_a_circle() -> None:
    first, second = ({"shared_from": name, "unroll": True} for name in ("two", "one"))
    with pytest.raises(SharedWeightsError, match="in a circle"):
        recurrent("rnn", first, second, unit=6).compile()
