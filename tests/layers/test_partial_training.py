"""Some weights of a layer are trained and the others frozen: biases, or by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.mixed_graphs import MixedSpec

import arena_ckpt as ac
from arena_ckpt import Model, load_ini, verify
from arena_ckpt.errors import InvalidParameterError, ShapeMismatchError

SAME = {"kernel_size": "3,3", "padding": "same"}

CONVOLUTIONS = (
    ("conv2d", "conv", {"filters": 4, **SAME}),
    ("depthwiseconv2d", "deep", SAME),
    ("conv2d", "groups", {"filters": 4, "groups": 2, **SAME}),
    ("conv2dtranspose", "back", {"filters": 3, "kernel_size": "2,2"}),
)
NORMS = (
    ("fully_connected", "first", {"unit": 8}),
    ("batch_normalization", "batch", {}),
    ("batch_normalization", "moving", {"statistics": "moving"}),
    ("layer_normalization", "layer", {}),
    ("layer_normalization", "strided", {"axis": 1}),
    ("group_normalization", "group", {"num_groups": 3}),
)
ATTENTION = (
    ("multi_head_attention", "it", {"num_heads": 2, "attention": "tiled"}),
    ("multi_head_attention", "plain", {"num_heads": 2, "attention": "plain"}),
)
NETWORKS: dict[str, tuple[tuple[int, int, int], tuple[Any, ...]]] = {
    "convolutions": ((4, 6, 6), CONVOLUTIONS),
    "norms": ((3, 4, 8), NORMS),
    "attention": ((1, 5, 8), ATTENTION),
}
CASES = {
    "convolutions": {"trainable": "bias"},
    "norms": {"train": ["beta"]},
    "gamma": {"train": "gamma"},
    "attention": {"trainable": "bias"},
    "keys": {"train": "key_fc_weight,fc_bias"},
}
OF = {"gamma": "norms", "keys": "attention"}


def spec(case: str, *, part: bool = True, **properties: Any) -> MixedSpec:
    """Return a network in which the layers in the middle train some weights."""
    shape, middle = NETWORKS[OF.get(case, case)]
    chosen = CASES[case] if part else {}
    layers = [("input", {"name": "in", "input_shape": shape})]
    for kind, name, values in middle:
        own = {} if kind == "fully_connected" else chosen
        layers.append((kind, {"name": name, **values, **own}))
    layers += [
        ("activation", {"name": "act", "activation": "tanh"}),
        ("flatten", {"name": "flat"}),
        ("fully_connected", {"name": "out", "unit": 3}),
        ("mse", {"name": "loss"}),
    ]
    block = tuple(name for _, name, _ in middle[:2])
    adam = ("adam", {"learning_rate": 0.01})
    return MixedSpec(tuple(layers), (block,), {"batch_size": 4, **properties}, adam)


def moved(model: Model) -> Model:
    """Give all weights values of no symmetry; variances stay above 0."""
    draw = np.random.default_rng(1)
    model.set_weights(
        {
            name: (0.2 + np.abs(draw.normal(size=w.shape))).astype(np.float32)
            if "variance" in name
            else (0.4 * draw.normal(size=w.shape)).astype(np.float32)
            for name, w in model.weights().items()
        }
    )
    return model


@pytest.mark.parametrize("case", CASES)
def test_what_is_trained_has_the_gradients_of_full_training(case: str) -> None:
    x, y = spec(case).batch(4)
    whole = moved(spec(case, part=False).initialized())
    some = moved(spec(case).initialized(debug=True))
    _, all_gradients = whole.compute_gradients(x, y)
    _, gradients = some.compute_gradients(x, y)
    assert 0 < len(gradients) < len(all_gradients)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, all_gradients[name], err_msg=name)
    before = some.weights()
    some.train_step(x, y)
    for name, after in some.weights().items():
        changes = name in gradients or name.startswith("batch:moving")
        assert (before[name] == after).all() != changes, name


@pytest.mark.parametrize("case", CASES)
def test_it_trains_as_in_pytorch(case: str) -> None:
    pytest.importorskip("torch", reason="PyTorch, the outside judge, is absent")
    from helpers.torch_judge import TorchJudge

    micro = 1 if OF.get(case, case) == "norms" else 2
    model = moved(spec(case, micro_batches=micro).initialized(debug=True))
    judge = TorchJudge(model)
    x, y = spec(case).batch(4)
    model.train_step(x, y)
    judge.train_step(x, y)
    _, gradients = model.compute_gradients(x, y)
    _, theirs = judge.compute_gradients(x, y)
    assert gradients.keys() == theirs.keys()
    for name, gradient in gradients.items():
        np.testing.assert_allclose(
            gradient, theirs[name], rtol=1e-3, atol=2e-5, err_msg=name
        )


@pytest.mark.parametrize("case", ["convolutions", "norms"])
def test_it_passes_verification(case: str) -> None:
    result = verify(spec(case).model())
    assert result.passed, str(result)


@pytest.mark.parametrize("case", CASES)
def test_an_ini_file_says_what_is_trained(case: str, tmp_path: Path) -> None:
    model = spec(case).model()
    model.save_ini(tmp_path / "m.ini")
    again = load_ini(tmp_path / "m.ini")
    assert again.make_plan().to_json() == model.make_plan().to_json()
    trained = {t.name for t in model.make_plan().tensors if t.name.endswith(":grad")}
    assert "conv:filter:grad" not in trained


def pictures(**values: Any) -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape="3:16:16")
    for name in ("a", "b", "c"):
        model.add_layer(
            "conv2d",
            name=name,
            **{"filters": 8, **SAME, "activation": "sigmoid", **values},
        )
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=8)
    return model


def test_a_bias_alone_holds_no_input() -> None:
    full, bias = pictures().make_plan(), pictures(trainable="bias").make_plan()
    assert bias.arena_bytes < full.arena_bytes
    read = [
        bias.tensors[operand.tensor].name
        for e in bias.executions
        if e.phase is ac.Phase.CALC_GRADIENT and e.layer == "b"
        for operand in e.operands
    ]
    assert not any(name.endswith(":out0") for name in read)
    names = {t.name for t in bias.tensors}
    assert "b:bias:grad" in names
    assert "b:filter:grad" not in names
    assert not any(name.startswith("b:filter:") for name in names)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"train": "bais"}, "no weight 'bais'"),
        ({"train": "bais"}, "it has 'filter', 'bias'"),
        (
            {"trainable": "bias", "disable_bias": True},
            "trainable=bias, but no bias",
        ),
        ({"train": "bias", "trainable": True}, "leave one of the two out"),
        (
            {"trainable": "bias", "lora_rank": 2, "kernel_size": 1},
            "has trainable=bias and lora_rank",
        ),
    ],
)
def test_wrong_use_is_refused_by_name(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ShapeMismatchError, match=says):
        pictures(**values).make_plan()


def test_a_recurrent_layer_trains_all_or_nothing() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:5:4")
    model.add_layer("gru", name="gru", unit=3, trainable="bias")
    model.add_layer("mse", name="loss")
    with pytest.raises(ShapeMismatchError, match="all of its weights or none"):
        model.make_plan()


def test_another_word_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"all \(or true\), bias or none"):
        pictures(trainable="some")


@pytest.mark.parametrize(
    ("word", "same"), [("all", True), ("none", False), ("TRUE", True), (False, False)]
)
def test_all_and_none_are_true_and_false(word: object, same: bool) -> None:
    plan = pictures(trainable=word).make_plan()
    assert plan.to_json() == pictures(trainable=same).make_plan().to_json()


def test_a_name_of_each_weight_trains_all() -> None:
    plan = pictures(train="filter,bias").make_plan()
    assert plan.arena_bytes == pictures().make_plan().arena_bytes


def test_layers_that_share_weights_train_the_same() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="a", unit=4)
    model.add_layer(
        "fully_connected", name="b", unit=4, shared_from="a", trainable="bias"
    )
    model.add_layer("mse", name="loss")
    with pytest.raises(ac.errors.SharedWeightsError, match="frozen"):
        model.make_plan()


def test_unfreezing_trains_all_and_freezing_none() -> None:
    model = pictures(train="bias")
    model.unfreeze("a")
    model.freeze("b")
    given = {layer.name: dict(layer.given) for layer in model.layers}
    assert (given["a"]["trainable"], given["b"]["trainable"]) == (True, False)
    assert "train" not in given["a"]
    assert "train" not in given["b"]
    assert given["c"]["train"] == ("bias",)


def test_a_saved_run_goes_on(tmp_path: Path) -> None:
    model = pictures(trainable="bias")
    model.set_optimizer("adam")
    model.initialize()
    path = tmp_path / "m.safetensors"
    model.save(path)
    again = ac.load(path)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(8, 3, 16, 16)).astype(np.float32)
    y = draw.integers(0, 3, 8)
    assert again.train_step(x, y) == model.train_step(x, y)
    assert again.plan.arena_bytes == model.plan.arena_bytes
    for name, weight in model.weights().items():
        np.testing.assert_array_equal(again.weights()[name], weight)
