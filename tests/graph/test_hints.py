"""Warnings with a name: right where they are given, and given where they are due."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import run
from helpers.mixed_graphs import mixed_graphs
from helpers.scale import how_many
from hypothesis import given, settings

import arena_ckpt as ac
from arena_ckpt.cli.models import warnings_of
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.errors import ArenaWarning, DataShapeError, ModelWarning
from arena_ckpt.examples import EXAMPLES
from arena_ckpt.graph.hints import Facts, Hint, restart_hint
from arena_ckpt.model import copy_of, without_blocks
from arena_ckpt.optim.learning_rates import Schedule, create_schedule

Layers = tuple[tuple[str, dict[str, Any]], ...]


def build(*layers: tuple[str, dict[str, Any]], **properties: object) -> ac.Model:
    model = ac.Model(seed=0)
    for type_name, values in layers:
        model.add_layer(type_name, **values)
    model.set_property(**{"batch_size": 4, **properties})
    return model


def inputs(shape: str = "1:1:8", name: str = "in") -> tuple[str, dict[str, Any]]:
    return "input", {"name": name, "input_shape": shape}


def dense(name: str, unit: int = 10, **values: object) -> tuple[str, dict[str, Any]]:
    return "fully_connected", {"name": name, "unit": unit, **values}


def layer(type_name: str, name: str, **values: object) -> tuple[str, dict[str, Any]]:
    return type_name, {"name": name, **values}


def loss(kind: str = "cross_softmax", **values: object) -> tuple[str, dict[str, Any]]:
    return kind, {"name": "loss", **values}


CONV = layer("conv2d", "c", filters=4, kernel_size="3,3")
POOL = layer("pooling2d", "p", pooling="global_average")
SOFT = layer("activation", "soft", activation="softmax")
BN = layer("batch_normalization", "bn")
FLAT = layer("flatten", "flat")


def kinds(model: ac.Model) -> list[tuple[str, tuple[str, ...]]]:
    return [(hint.kind, hint.layers) for hint in model.warnings()]


def only(model: ac.Model) -> Hint:
    (hint,) = model.warnings()
    return hint


# -- a softmax or sigmoid twice --------------------------------------------------------


@pytest.mark.parametrize(
    "between",
    [
        (),
        (FLAT,),
        (layer("reshape", "r", target_shape="1:1:10"),),
        (layer("identity", "i"), layer("dropout", "d", dropout_rate=0.1)),
        (layer("permute", "t", direction="1,2,3"), layer("flatten", "f")),
        (layer("activation", "none", activation="none"),),
    ],
)
def test_a_softmax_before_cross_softmax(between: Layers) -> None:
    hint = only(build(inputs(), dense("out", activation="softmax"), *between, loss()))
    assert (hint.kind, hint.layers) == ("squashed_twice", ("out", "loss"))
    assert hint.message == (
        "layer 'out' ends with a softmax, and the loss 'loss' (cross_softmax) applies "
        "a softmax of its own: no class of 10 can get more than 23 %; set "
        "activation=none at 'out', predict gives probabilities all the same"
    )
    model = build(inputs(), dense("out"), SOFT, *between, loss())
    assert "; leave 'soft' out, predict" in only(model).message
    assert kinds(model) == [("squashed_twice", ("soft", "loss"))]


@pytest.mark.parametrize(
    ("activation", "kind", "said"),
    [
        ("sigmoid", "cross_sigmoid", "a sigmoid of its own: every output stays betw"),
        ("softmax", "cross_sigmoid", "a sigmoid to that: every output stays between"),
        ("sigmoid", "cross_softmax", "a softmax to that: no class of 3 can get more "),
    ],
)
def test_every_squashing_before_a_cross_entropy(
    activation: str, kind: str, said: str
) -> None:
    model = build(inputs(), dense("out", 3, activation=activation), loss(kind))
    assert said in only(model).message
    assert kinds(model) == [("squashed_twice", ("out", "loss"))]


def test_the_share_that_is_named_cannot_be_exceeded() -> None:
    """Push the class as far as it goes: the message says how far that is."""
    model = build(inputs("1:1:1"), dense("out", 10, activation="softmax"), loss())
    with pytest.warns(ModelWarning, match="no class of 10 can get more than 23 %"):
        model.initialize()
    weight = np.full((1, 10), -1e4, np.float32)
    weight[0, 3] = 1e4
    model.set_weights(
        {"out:weight": weight.reshape(model.weights()["out:weight"].shape)}
    )
    prediction = model.predict(np.ones((1, 1), np.float32)).ravel()
    assert prediction[3] == pytest.approx(np.e / (np.e + 9))
    assert 0.225 < prediction[3] < 0.235


@pytest.mark.parametrize(
    "layers",
    [
        (dense("out"), loss()),
        (dense("out", activation="softmax"), loss("mse")),
        (dense("out", activation="softmax"), loss("kld")),
        (dense("out", activation="relu"), loss()),
        (dense("out", activation="sigmoid"), dense("last"), loss()),
        (dense("h", activation="softmax"), layer("negative", "minus"), loss()),
    ],
)
def test_no_word_where_nothing_is_applied_twice(layers: Layers) -> None:
    assert kinds(build(inputs(), *layers)) == []


def test_each_output_of_an_identity_is_traced_to_its_own_input() -> None:
    model = build(
        inputs(),
        dense("first", activation="softmax"),
        dense("second", input_layers="in"),
        layer("identity", "both", input_layers="first, second"),
        layer("addition", "sum", input_layers="both(0), both(1)"),
        loss(),
    )
    facts = Facts(model.compile())
    makers = [
        facts.maker(f"both:out{k}", lambda layer: layer.moves_elements).name
        for k in range(2)
    ]
    assert makers == ["first/activation_realized", "second"]


# -- rows ------------------------------------------------------------------------------


def test_a_missing_flatten_is_named_before_any_data_are() -> None:
    hint = only(build(inputs("1:8:8"), CONV, POOL, dense("o"), loss()))
    assert (hint.kind, hint.layers) == ("missing_flatten", ("o", "loss"))
    assert hint.message.startswith(
        "the loss reads 'o' as 4 × 1 rows of 10; add flatten before 'o'"
    )
    flat = build(inputs("1:8:8"), CONV, POOL, FLAT, dense("o"), loss())
    assert kinds(flat) == []


@pytest.mark.parametrize(
    ("shape", "layers", "rows"),
    [
        ("1:8:8", (), "1 × 8"),
        ("3:8:8", (dense("h", activation="relu"),), "3 × 8"),
        ("1:8:8", (CONV,), "4 × 6"),
        ("1:8:8", (layer("conv2d", "c", filters=1, kernel_size="3,3"),), "1 × 6"),
        ("1:1:8", (layer("conv1d", "c", filters=3, kernel_size=3),), "3 × 1"),
        ("1:8:8", (CONV, layer("batch_normalization", "b")), "4 × 6"),
    ],
)
def test_rows_of_pictures_and_of_inputs(shape: str, layers: Layers, rows: str) -> None:
    model = build(inputs(shape), *layers, dense("o", activation="gelu"), loss())
    assert f"the loss reads 'o' as {rows} rows of 10; " in only(model).message


@pytest.mark.parametrize(
    "layers",
    [
        # every row has a class of its own
        (inputs("1:5:8"), dense("o"), loss(per_token=True)),
        (inputs("1:8:8"), CONV, dense("o"), loss(per_token=True)),
        # rows are places in a sequence
        (
            inputs("1:5:8"),
            layer("gru", "g", unit=6, return_sequences=True),
            dense("o"),
            loss(),
        ),
        (
            inputs("1:5:8"),
            layer("multi_head_attention", "a", num_heads=2),
            dense("o"),
            loss(),
        ),
        # rows are meant: somebody has put them there
        (
            inputs("1:8:8"),
            CONV,
            layer("permute", "t", direction="2,3,1"),
            dense("o"),
            loss(),
        ),
        (
            inputs("1:1:8"),
            dense("h", 12),
            layer("reshape", "r", target_shape="1:3:4"),
            loss(),
        ),
        (inputs("1:8:8"), CONV, layer("permute", "t", direction="2,3,1"), loss()),
        (inputs("1:5:8"), dense("o"), loss("mse")),
        (inputs("1:5:8"), dense("o"), loss("cross_sigmoid")),
    ],
)
def test_rows_that_are_meant(layers: Layers) -> None:
    assert kinds(build(*layers)) == []


def test_dense_layers_of_rows_of_pictures_are_named() -> None:
    model = build(inputs("1:8:8"), CONV, dense("h", 7), FLAT, dense("o"), loss())
    hint = only(model)
    assert (hint.kind, hint.layers) == ("dense_of_rows", ("h",))
    assert hint.message.startswith(
        "layer 'h' (fully_connected) reads pictures 4:6:6 and takes each of their 24 "
        "rows of 6 by itself; add flatten before it, so that all 144 values count"
    )
    behind = layer("batch_normalization", "b", activation="relu")
    layers = (CONV, behind, FLAT, dense("h", 7, activation="relu"), dense("o"))
    assert kinds(build(inputs("1:8:8"), *layers, loss())) == []


def test_labels_for_rows_name_the_layer_and_flatten() -> None:
    model = build(inputs("1:8:8"), CONV, POOL, dense("o"), loss(), batch_size=8)
    with pytest.warns(ModelWarning, match="add flatten before 'o'"):
        model.initialize()
    digits = ac.load_digits()
    reading = "the loss reads 'o' as 4 × 1 rows of 10; add flatten before 'o'"
    for train in (
        lambda: model.train(digits, epochs=1),
        lambda: model.train_step(digits.x[:8], digits.y[:8]),
        lambda: model.evaluate(digits),
        lambda: model.train_step(digits.x[:8], digits.y[:8, None]),
    ):
        with pytest.raises(DataShapeError, match="class numbers do not fit") as caught:
            train()
        assert reading in str(caught.value)
        assert "need the loss cross_softmax" not in str(caught.value)
    one_hot = np.eye(10, dtype=np.float32)[digits.y[:8]]
    with pytest.raises(DataShapeError, match=re.escape(reading)):
        model.train_step(digits.x[:8], one_hot)


@pytest.mark.parametrize(
    ("before", "way_out"),
    [
        (
            layer("gru", "g", unit=10, return_sequences=True),
            "'g' as 1 × 5 rows of 10; set return_sequences=false at 'g'",
        ),
        (
            layer("multi_head_attention", "a", num_heads=2),
            "'a' as 1 × 5 rows of 8; add flatten before 'loss'",
        ),
    ],
)
def test_labels_for_rows_of_sequences(
    before: tuple[str, dict[str, Any]], way_out: str
) -> None:
    model = build(inputs("1:5:8"), before, loss())
    model.initialize()
    with pytest.raises(DataShapeError, match=re.escape(way_out)):
        model.train_step(np.zeros((4, 40), np.float32), np.zeros(4, np.int64))


def test_a_softmax_over_the_width_of_a_picture() -> None:
    conv = layer("conv2d", "c", filters=10, kernel_size="3,3")
    for per_token in (False, True):
        hint = only(build(inputs("1:8:8"), conv, loss(per_token=per_token)))
        assert (hint.kind, hint.layers) == ("softmax_over_width", ("c", "loss"))
        assert "over the 6 columns of 'c', a picture 10:6:6, and not over its 10 " in (
            hint.message
        )
        assert "set axis=1 at 'loss', and per_token=true" in hint.message
    # what the message says to do: classes along the channels, one for each pixel
    model = build(inputs("1:8:8"), conv, loss(axis=1, per_token=True))
    assert kinds(model) == []
    model.initialize()
    x = np.zeros((4, 64), np.float32)
    assert model.predict(x).shape == (4, 10, 6, 6)
    model.train_step(x, np.zeros((4, 6, 6), np.int64))


def test_a_softmax_over_a_single_value() -> None:
    conv = layer("conv2d", "c", filters=10, kernel_size="3,3")
    hint = only(build(inputs("1:8:8"), conv, POOL, loss()))
    assert hint.kind == "softmax_over_width"
    assert hint.message == (
        "the loss reads 'p' as 10 × 1 rows of 1; add flatten before 'loss': the "
        "softmax of a single value is always 1"
    )
    assert kinds(build(inputs("1:8:8"), conv, POOL, FLAT, loss())) == []


# -- batch normalization ---------------------------------------------------------------

ONE = layer("conv2d", "one", filters=1, kernel_size="3,3")


@pytest.mark.parametrize(
    "layers",
    [
        (inputs("1:6:8"), BN, CONV, FLAT),
        (inputs("1:6:8"), BN, layer("activation", "a", activation="relu"), CONV, FLAT),
        (inputs("1:6:8"), ONE, BN, FLAT),
        (inputs("2:6:8"), ONE, layer("dropout", "d", dropout_rate=0.1), BN, FLAT),
        (inputs("1:8:8"), BN, FLAT),
    ],
)
def test_columns_of_a_picture_are_no_features(layers: Layers) -> None:
    hint = only(build(*layers, dense("o"), loss()))
    assert (hint.kind, hint.layers) == ("columns_as_features", ("bn",))
    assert "columns by itself; for one mean and variance" in hint.message


@pytest.mark.parametrize(
    "layers",
    [
        (inputs("1:6:8"), BN, FLAT),  # six steps of eight features
        (inputs("1:1:8"), BN),
        (inputs("1:6:8"), CONV, BN, FLAT),
        (inputs("1:8:8"), layer("flatten", "f"), BN),
        (inputs("1:8:8"), BN, layer("gru", "g", unit=3)),
        (inputs("1:8:8"), BN, layer("multi_head_attention", "a", num_heads=2), FLAT),
        (inputs("1:8:8"), dense("h", 8), BN, FLAT),
        (inputs("1:8:1"), BN, FLAT),
    ],
)
def test_features_and_channels_are_normalized_as_they_should(layers: Layers) -> None:
    assert kinds(build(*layers, dense("o"), loss())) == []


def test_reshaping_gives_one_mean_for_the_whole_picture() -> None:
    """What the message says to do, done."""
    message = only(build(inputs("1:8:8"), BN, FLAT, dense("o"), loss())).message
    assert "reshape it to 1:64:1 before and back to 1:8:8 behind" in message
    model = build(
        inputs("1:8:8"),
        layer("reshape", "r", target_shape="1:64:1"),
        BN,
        layer("reshape", "back", target_shape="1:8:8"),
        FLAT,
        dense("o"),
        loss(),
    )
    assert kinds(model) == []
    model.initialize()
    assert model.weights()["bn:moving_mean"].shape == (1,)


# -- schedules -------------------------------------------------------------------------


def cosine(decay_steps: int, lowest: float = 0.0) -> Schedule:
    return create_schedule(
        "cosine",
        max_learning_rate=0.1,
        min_learning_rate=lowest,
        decay_steps=decay_steps,
    )


def test_a_schedule_that_restarts_for_certain() -> None:
    model = build(inputs(), dense("o"), loss(), epochs=12)
    for schedule, warned in ((cosine(12), False), (cosine(11), True)):
        model.set_learning_rate_scheduler(schedule)
        assert [hint.kind for hint in model.warnings()] == [
            "schedule_restarts"
        ] * warned
    assert "starts again at iteration 11, where the learning rate rises from " in (
        only(model).message
    )
    assert "and 12 epochs have at least 12 iterations: what" in only(model).message
    assert only(model).layers == ()
    linear = {"max_learning_rate": 0.1, "min_learning_rate": 0.0, "decay_steps": 3}
    model.set_learning_rate_scheduler(create_schedule("linear", **linear))
    assert kinds(model) == []


@pytest.mark.parametrize(
    ("n_iterations", "decay_steps", "restarts"),
    [(3712, 3700, True), (3700, 3700, False), (3701, 3700, True)],
)
def test_restarts_are_counted_exactly(
    n_iterations: int, decay_steps: int, restarts: bool
) -> None:
    schedule = cosine(decay_steps)
    hint = restart_hint(schedule, 0, n_iterations)
    assert (hint is not None) == restarts
    rates = [schedule.learning_rate_at(i) for i in range(n_iterations)]
    assert any(b > a for a, b in itertools.pairwise(rates)) == restarts
    if hint is not None:
        assert f"Set decay_steps={n_iterations} for a single fall" in hint.message
        assert restart_hint(cosine(n_iterations), 0, n_iterations) is None


def test_a_flat_schedule_does_not_restart() -> None:
    assert restart_hint(cosine(3, lowest=0.1), 0, 10) is None
    assert restart_hint(None, 0, 10) is None


def test_a_training_does_not_repeat_what_compile_has_said() -> None:
    x, y = np.zeros((8, 8), np.float32), np.zeros(8, np.int64)
    for epochs, at_compile in ((5, 1), (2, 0)):
        model = build(inputs(), dense("o"), loss(), epochs=epochs)
        model.set_learning_rate_scheduler(cosine(3))
        assert len(issued(model.initialize)) == at_compile
        assert len(issued(lambda m=model: m.train((x, y)))) == 1 - at_compile


# -- when and where they are issued ----------------------------------------------------

TWICE = (inputs(), dense("out", activation="softmax"), loss())


def issued(call: Any) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


def test_each_is_issued_once_for_a_model_at_the_line_of_the_user() -> None:
    model = build(*TWICE)
    assert issued(model.warnings) == []
    (caught,) = issued(model.compile)
    assert caught.category is ModelWarning
    assert issubclass(ModelWarning, UserWarning)
    assert caught.filename == __file__
    assert str(caught.message) == only(model).message
    later = (
        model.compile,
        model.make_plan,
        lambda: model.choose_plan(max_overhead=1.0),
        lambda: copy_of(model).make_plan(),
        lambda: without_blocks(model).make_plan(),
        lambda: copy.deepcopy(model).make_plan(),
        lambda: pickle.loads(pickle.dumps(model)).make_plan(),
        model.initialize,
    )
    for call in later:
        assert issued(call) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.make_plan(),
        lambda model: model.choose_plan(max_overhead=1.0),
        lambda model: model.pareto(),
        lambda model: model.initialize(),
        lambda model: ac.verify(model, (np.zeros((9, 8)), np.zeros(9, int))),
    ],
)
def test_whatever_compiles_issues_it(call: Any) -> None:
    assert [c.category for c in issued(lambda: call(build(*TWICE)))] == [ModelWarning]


def test_what_is_added_later_is_issued_later() -> None:
    model = build(*TWICE, epochs=9)
    assert len(issued(model.compile)) == 1
    model.set_learning_rate_scheduler(cosine(4))
    (caught,) = issued(model.make_plan)
    assert "starts again at iteration 4" in str(caught.message)


def test_as_an_error_it_says_all_and_leaves_the_model_as_it_was() -> None:
    model = build(inputs("1:8:8"), CONV, POOL, dense("o", activation="softmax"), loss())
    for _ in range(2):
        with pytest.raises(ModelWarning) as caught:
            model.initialize()
        assert "add flatten before 'o'" in str(caught.value)
        assert "ends with a softmax" in str(caught.value)
        assert not model.is_initialized
    assert len(issued(model.initialize)) == 2


def test_own_warnings_point_outside_the_package() -> None:
    (caught,) = issued(lambda: warn_user("a text", ArenaWarning))
    assert (caught.filename, caught.category) == (__file__, ArenaWarning)


def test_a_loaded_model_has_its_warnings(tmp_path: Path) -> None:
    model = build(*TWICE)
    with pytest.warns(ModelWarning):
        model.initialize()
    model.save(tmp_path / "state.safetensors")
    model.save_ini(tmp_path / "model.ini")
    for load in (
        lambda: ac.load(tmp_path / "state.safetensors"),
        lambda: ac.load_ini(tmp_path / "model.ini").compile(),
    ):
        (caught,) = issued(load)
        assert (caught.filename, caught.category) == (__file__, ModelWarning)


# -- few, and right --------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_example_has_one(name: str) -> None:
    example = ac.load_example(name)
    assert warnings_of(example.model, example.data) == ()


def test_random_graphs_rarely_have_one() -> None:
    found: list[int] = []

    @settings(
        max_examples=how_many(60, 2000), deadline=None, derandomize=True, database=None
    )
    @given(mixed_graphs())
    def look(spec: Any) -> None:
        kinds = [hint.kind for hint in spec.model().warnings()]
        # dense layers do stand behind convolutions in these graphs, flatten rarely
        found.append(len(kinds) - kinds.count("dense_of_rows"))

    look()
    assert sum(map(bool, found)) <= len(found) / 40


# -- the command line ------------------------------------------------------------------

SCRIPT = """\
import arena_ckpt as ac

def twice():
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:64")
    model.add_layer("fully_connected", name="out", unit=10, activation="softmax")
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=64)
    return model, ac.load_digits()

def right():
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:64")
    model.add_layer("fully_connected", name="out", unit=10)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=64)
    return model, ac.load_digits()

def restarts():
    model, digits = right()
    model.set_learning_rate_scheduler(ac.create_schedule(
        "cosine", max_learning_rate=0.1, min_learning_rate=0.0, decay_steps=28))
    return model, digits
"""
COMMANDS = (
    ("plan", "--brief"),
    ("plan", "--pareto"),
    ("train", "--epochs=1", "--quiet"),
    ("verify",),
    ("report", "--ascii"),
    ("export", "--to=dot"),
)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SCRIPT)
    return "net.py"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_says_it_in_one_line(script: str, command: tuple[str, ...]) -> None:
    result = run(command[0], f"{script}:twice", *command[1:])
    assert result.exit_code == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if "softmax" in line]
    assert len(said) == 1
    assert said[0].startswith("warning: layer 'out' ends with a softmax, and the loss")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_strict_makes_it_an_error(script: str, command: tuple[str, ...]) -> None:
    result = run(command[0], f"{script}:twice", *command[1:], "--strict")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: layer 'out' ends with a softmax, and the")
    assert "Traceback" not in result.output
    assert run("plan", f"{script}:right", "--strict").exit_code == 0


def test_strict_holds_for_one_command_only(script: str) -> None:
    assert run("plan", f"{script}:twice", "--strict").exit_code == 2
    assert run("plan", f"{script}:twice").exit_code == 0


def test_json_lists_them(script: str) -> None:
    for command in (("plan",), ("plan", "--pareto"), ("train",), ("verify",)):
        result = run(command[0], f"{script}:twice", *command[1:], "--json")
        (warning,) = json.loads(result.stdout)["warnings"]
        assert (warning["kind"], warning["layers"]) == (
            "squashed_twice",
            ["out", "loss"],
        )
        assert warning["message"].startswith("layer 'out' ends with a softmax")
    right = json.loads(run("plan", f"{script}:right", "--json").stdout)
    assert right["warnings"] == []
    strict = run("plan", f"{script}:twice", "--json", "--strict")
    error = json.loads(strict.stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("ModelWarning", 2)
    assert error["message"].startswith("layer 'out' ends with a softmax")


def test_plan_counts_the_iterations_of_the_data_that_come_with_a_model(
    script: str,
) -> None:
    """1,797 digits in batches of 64 are 29 iterations."""
    said = "starts again at iteration 28, where the learning rate rises from "
    result = run("plan", f"{script}:restarts", "--brief")
    assert said in result.stderr
    assert result.exit_code == 0
    document = json.loads(run("plan", f"{script}:restarts", "--json").stdout)
    (warning,) = document["warnings"]
    assert (warning["kind"], warning["layers"]) == ("schedule_restarts", [])
    strict = run("plan", f"{script}:restarts", "--strict")
    assert (strict.exit_code, said in strict.stderr) == (2, True)
    assert (
        run("plan", f"{script}:restarts", "--strict", "--batch-size=65").exit_code == 0
    )


def test_strict_covers_what_training_issues(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(model: ac.Model, *_: object, **__: object) -> None:
        warn_user("found while it trains", ModelWarning)
        raise AssertionError("trained in spite of it")

    monkeypatch.setattr(ac.Model, "train", train)
    result = run("train", f"{script}:right", "--strict")
    assert result.exit_code == 2
    assert result.stderr == "error: found while it trains\n"
