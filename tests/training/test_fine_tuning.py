"""A trained model goes on as another one: frozen layers, a new head, its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.archives import read_npz
from helpers.command_line import run

import arena_ckpt as ac
from arena_ckpt.errors import (
    AfterInitializationError,
    InvalidParameterError,
    NonFiniteDataError,
    NotInitializedError,
    SavedStateMismatchError,
    UnknownLayerError,
)

# These trainings are too short for the moving statistics, which is said elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore:evaluated on its training data")

DIGITS = ac.load_digits()
X, Y = DIGITS.x[:128], DIGITS.y[:128]
HEAD = "fully_connected", ["name=head", "unit=3"]


def build(unit: int = 10) -> ac.Model:
    model = ac.Model(seed=4)
    model.add_layer("input", name="in", input_shape="1:8:8")
    model.add_layer("conv2d", name="conv1", filters=4, kernel_size="3,3")
    model.add_layer("batch_normalization", name="bn1")
    model.add_layer("activation", name="act1", activation="relu")
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="logits", unit=unit)
    model.add_layer("cross_softmax", name="loss")
    model.add_checkpoint_block(["conv1", "bn1", "act1"], name="first")
    model.set_property(batch_size=32)
    model.set_optimizer("adam", learning_rate=0.01)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = build()
    model.initialize()
    model.train((X, Y), epochs=2, progress=False)
    path = tmp_path_factory.mktemp("saved") / "m.safetensors"
    model.save(path)
    np.savez(path.with_suffix(".npz"), **model.weights())
    return path


def test_the_whole_way_trains_the_head_alone(saved: Path) -> None:
    model = ac.load(saved, initialize=False)
    assert not model.is_initialized
    assert model.freeze(["conv*", "bn*"]) == ("conv1", "bn1")
    model.replace_layer("logits", unit=3)
    plan = model.initialize()
    drawn = model.weights()
    taken = model.take_weights(saved)
    before = ac.load(saved).weights()
    assert taken.taken == tuple(n for n in before if not n.startswith("logits"))
    assert taken.unused == ()
    assert str(taken).splitlines() == [
        f"{len(taken.taken)} of {len(before)} weights taken from {saved}",
        "  logits:weight is as before: its shape is (144, 3), there it is (144, 10)",
        "  logits:bias is as before: its shape is (3,), there it is (10,)",
    ]
    model.train((X, Y % 3), epochs=2, progress=False)
    after = model.weights()
    for name, value in after.items():
        if name in taken.taken:
            assert value.tobytes() == before[name].tobytes()
        else:
            assert value.tobytes() != drawn[name].tobytes()
    states = [t.name for t in plan.tensors if t.name.endswith("_moment")]
    assert all(name.startswith("logits") for name in states)
    assert states


def test_frozen_layers_change_as_those_built_frozen(saved: Path) -> None:
    built = build()
    built.freeze("conv1")
    other = ac.Model(seed=4)
    for layer in build().layers:
        values = {"trainable": False} if layer.name == "conv1" else {}
        other.add_layer(layer, **values)
    other.add_checkpoint_block(["conv1", "bn1", "act1"], name="first")
    other.set_property(batch_size=32)
    other.set_optimizer("adam", learning_rate=0.01)
    assert built.make_plan() == other.make_plan()
    assert built.unfreeze("*") == ("conv1", "bn1", "logits")
    assert built.make_plan() == build().make_plan()


def test_states_and_iteration_begin_anew(saved: Path) -> None:
    fresh, used = build(), build()
    for model in (fresh, used):
        model.initialize()
    used.train((X, Y), epochs=1, progress=False)
    for model in (fresh, used):
        model.take_weights(saved)
    assert fresh.train_step(X[:32], Y[:32]) == used.train_step(X[:32], Y[:32])
    assert fresh.train_step(X[:32], Y[:32]) == used.train_step(X[:32], Y[:32])


def test_sources_are_files_models_and_arrays(saved: Path) -> None:
    trained = ac.load(saved)
    sources: list[Any] = [saved, saved.with_suffix(".npz"), trained, trained.weights()]
    for source in sources:
        model = trained.definition()
        model.initialize()
        assert len(model.take_weights(source).taken) == len(trained.weights())
        for name, value in model.weights().items():
            assert value.tobytes() == trained.weights()[name].tobytes()
    model = trained.definition()
    model.initialize()
    taken = model.take_weights(saved, exclude="logits:*")
    assert taken.left == {"logits:weight": "excluded", "logits:bias": "excluded"}
    taken = model.take_weights({**trained.weights(), "head:weight": np.zeros(3)})
    assert taken.unused == ("head:weight",)
    assert "not used of it: head:weight" in str(taken)


def test_what_does_not_fit_is_refused_and_changes_nothing(saved: Path) -> None:
    model = build(unit=3)
    with pytest.raises(NotInitializedError):
        model.take_weights(saved)
    model.initialize()
    before = {name: value.tobytes() for name, value in model.weights().items()}
    with pytest.raises(SavedStateMismatchError, match=r"take_weights\(path\)"):
        model.restore(saved)
    nan = {"logits:bias": np.full(3, np.nan)}
    refused: list[tuple[Any, type[Exception], str]] = [
        ({"fc:weight": X}, InvalidParameterError, "no weight of the given arrays fits"),
        ({"logits:bias": X}, InvalidParameterError, r"its shape is \(3,\)"),
        (nan, NonFiniteDataError, "logits:bias"),
        (3, InvalidParameterError, "is no source of weights"),
    ]
    for source, error, says in refused:
        with pytest.raises(error, match=says):
            model.take_weights(source)
    with pytest.raises(InvalidParameterError, match="matches no weight"):
        model.take_weights(saved, exclude="head")
    with pytest.raises(AfterInitializationError, match=r"model\.definition\(\)"):
        model.freeze("conv1")
    with pytest.raises(AfterInitializationError):
        model.replace_layer("logits", unit=2)
    assert {n: v.tobytes() for n, v in model.weights().items()} == before


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m: m.freeze("cnv1"), UnknownLayerError, "did you mean 'conv1'"),
        (lambda m: m.freeze("act1"), InvalidParameterError, "without weights"),
        (lambda m: m.freeze("conv1, no"), UnknownLayerError, "'no' matches no layer"),
        (lambda m: m.freeze([]), InvalidParameterError, "are no names of layers"),
        (lambda m: m.freeze([3]), InvalidParameterError, "are no names of layers"),
        (lambda m: m.replace_layer("head"), UnknownLayerError, "no layer 'head'"),
        (lambda m: m.replace_layer("logits"), InvalidParameterError, "changes nothing"),
        (
            lambda m: m.replace_layer("logits", ac.create_layer(*HEAD)),
            InvalidParameterError,
            "cannot rename",
        ),
        (lambda m: m.replace_layer("logits", units=3), InvalidParameterError, "unit"),
    ],
)
def test_a_wrong_change_of_layers_is_refused(
    call: Any, error: type[Exception], says: str
) -> None:
    model = build()
    layers = [repr(layer) for layer in model.layers]
    with pytest.raises(error, match=says):
        call(model)
    assert [repr(layer) for layer in model.layers] == layers


def test_a_layer_is_replaced_by_another_type_in_its_place() -> None:
    model = build()
    model.replace_layer("act1", "activation", activation="gelu")
    assert [layer.name for layer in model.layers] == [
        one.name for one in build().layers
    ]
    assert model.layers[3]["activation"] == "gelu"
    assert model.blocks[0].layers == ("conv1", "bn1", "act1")
    model.replace_layer("bn1", ac.create_layer("layer_normalization", axis=1))
    assert model.layers[2].type_name == "layer_normalization"
    model.initialize()


def test_statistics_of_the_inputs_go_with_the_weights(tmp_path: Path) -> None:
    model = build()
    model.standardize((X, Y))
    model.initialize()
    model.save(tmp_path / "m.safetensors")
    assert model.standardization is not None
    arrays = model.weights() | model.standardization.to_arrays()
    np.savez(tmp_path / "w.npz", **arrays)
    for source in (tmp_path / "m.safetensors", tmp_path / "w.npz", arrays, model):
        other = build(unit=3)
        other.initialize()
        taken = other.take_weights(source)
        assert other.standardization == model.standardization
        assert taken.unused == ()
        assert "statistics of its inputs: taken too" in str(taken)
        again = str(other.take_weights(source))
        assert "statistics of its inputs: the same as those of this model" in again


def test_statistics_that_are_not_taken_are_named() -> None:
    model, own = build(), build()
    model.standardize((X, Y))
    own.standardize((X * 2, Y))
    arrays = model.standardization.to_arrays()  # type: ignore[union-attr]
    before = own.standardization
    own.initialize()
    given = own.weights() | arrays
    assert own.take_weights(given).statistics == "not taken, as this model has its own"
    assert own.standardization == before
    wider = build()
    wider.initialize()
    several = {name: np.repeat(value, 5) for name, value in arrays.items()}
    taken = wider.take_weights(wider.weights() | several)
    assert taken.statistics.startswith("not taken (the statistics of 'in' are of 5")
    assert wider.standardization is None


def test_a_new_head_has_no_names_of_classes_from_before(tmp_path: Path) -> None:
    model = build()
    model.initialize()
    model._classes = tuple("abcdefghij")
    model.save(tmp_path / "m.safetensors")
    other = ac.load(tmp_path / "m.safetensors", initialize=False)
    assert other.classes == tuple("abcdefghij")
    other.replace_layer("logits", unit=3)
    assert other.classes is None


# -- the command line ------------------------------------------------------------------


def test_the_command_begins_with_weights_and_freezes(saved: Path) -> None:
    ini = saved.with_suffix(".ini")
    build().save_ini(ini)
    arguments = ("train", ini, "--data", "digits", "--epochs", 1)
    out = saved.parent / "out.npz"
    for source in (saved, saved.with_suffix(".npz")):
        result = run(
            *(*arguments, "--init", source, "--freeze", "conv*", "--freeze", "bn1"),
            *("--save-weights", out),
        )
        assert result.exit_code == 0, result.stderr
        assert f"8 of 8 weights taken from {source}" in result.stdout
        before, after = read_npz(saved.with_suffix(".npz")), read_npz(out)
        same = [n for n in before if before[n].tobytes() == after[n].tobytes()]
        assert sorted({name.partition(":")[0] for name in same}) == ["bn1", "conv1"]
    statistics = {"in:mean": [0.3], "in:deviation": [0.4]}
    beside = saved.with_name("statistics.npz")
    np.savez(beside, **before, **statistics)
    result = run(*arguments, "--init", beside, "--standardize")
    assert "statistics of its inputs: not taken, as this model has its own" in (
        result.stdout
    )
    result = run(*arguments, "--init", saved, "--json")
    assert len(json.loads(result.stdout)["init"]["taken"]) == 8
    result = run("train", saved, "--data", "digits", "--init", saved)
    assert result.exit_code == 2
    assert "has weights of its own" in result.stderr


def test_the_command_stops_early_with_the_best_weights() -> None:
    arguments = ("train", "digits_mlp", "--epochs", 60, "--validation-split", 0.2)
    rules = ("--early-stopping", 3, "--reduce-on-plateau", 2, "--keep-best")
    result = run(*arguments, *rules)
    assert result.exit_code == 0, result.stderr
    assert "stopped early because validation loss has not improved" in result.stdout
    document = json.loads(run(*arguments, *rules, "--json").stdout)
    losses = [epoch["validation"]["loss"] for epoch in document["epochs"]]
    assert document["best_epoch"] == int(np.argmin(losses)) + 1 == len(losses) - 3
    assert document["stopped_by"].startswith("validation loss has not improved for 3")
    assert f"the model is that of epoch {document['best_epoch']}" in result.stdout
    assert f"validation data: loss {min(losses):.4f}" in result.stdout
