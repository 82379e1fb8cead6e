"""The numbers that evaluate prints, and tables of data for evaluate and predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import run

MODEL = """\
[Model]
type = NeuralNetwork
epochs = 30
batch_size = 4
[Optimizer]
type = adam
learning_rate = 0.05
[in]
type = input
input_shape = 1:1:3
[fc]
type = fully_connected
unit = 3
[loss]
type = cross_softmax
"""
NAMES = ("ant", "bee", "cow")


def lines(kinds: Any, *, with_names: bool = True) -> list[str]:
    """Return samples of classes, with an index and the class in front."""
    rows = []
    for i, kind in enumerate(kinds):
        cells = [f"{(2.0 if k == kind else 0.1) + i / 100:.2f}" for k in range(3)]
        front = [f"row{i}", NAMES[kind]] if with_names else [f"row{i}"]
        rows.append(";".join([*front, *cells]).replace(".", ","))
    return rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    head = "name;kind;a;b;c"
    (folder / "m.ini").write_text(MODEL)
    train = [head, *lines([0, 1, 2] * 6)]
    (folder / "train.dat").write_text("\n".join(train) + "\n")
    rare = [head, *lines([2] * 9 + [1])]  # without the first class
    (folder / "rare.dat").write_text("\n".join(rare) + "\n")
    bare = ["name;a;b;c", *lines([2, 0, 1], with_names=False)]
    (folder / "bare.dat").write_text("\n".join(bare) + "\n")
    result = run(
        *("train", folder / "m.ini", "--data", folder / "train.dat", *TABLE),
        *("--save", folder / "m.safetensors", "--save-weights", folder / "w.npz"),
    )
    assert result.exit_code == 0, result.output
    last = result.stdout.splitlines()[-3]
    assert last.startswith("training data:   loss ")
    assert last.endswith(" (always the most frequent class: 33.33 %)")
    return folder


TABLE = ("--label-column", "kind", "--index-column", "name")


@pytest.fixture(autouse=True)
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


def json_of(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.partition("rror: ")[2]


def test_evaluate_prints_values_by_class_and_the_majority_beside() -> None:
    result = run("evaluate", "m.safetensors", "--data", "rare.dat", *TABLE)
    assert result.exit_code == 0, result.stderr
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["majority", "accuracy", "90.00", "%"] in words
    assert ["bee", "1", "1.0000", "1.0000", "1.0000"] in words
    assert ["ant", "0", "–", "–", "–"] in words
    assert "most frequent: cow" in result.stdout
    assert "\n\n\n" not in result.stdout
    at = words.index(["label", "ant", "bee", "cow"])
    assert words[at + 2 : at + 5] == [
        ["ant", "0", "0", "0"],
        ["bee", "0", "1", "0"],
        ["cow", "0", "0", "9"],
    ]


def test_names_of_classes_have_the_numbers_of_the_model() -> None:
    found = json_of("evaluate", "m.safetensors", "--data", "rare.dat", *TABLE)
    (one,) = found["evaluations"]
    assert one["metrics"]["accuracy"] == 1, "bee is 1 there and 0 among these data"
    assert one["report"]["names"] == [*NAMES]
    assert one["report"]["rows"][0] == {
        "class": "ant",
        "count": 0,
        "precision": None,
        "recall": None,
        "f1": None,
    }
    Path("worm.dat").write_text(Path("rare.dat").read_text().replace("bee", "worm"))
    message = refused("evaluate", "m.safetensors", "--data", "worm.dat", *TABLE)
    assert message.startswith("worm.dat: sample 9 has the class 'worm'")


def test_names_of_the_data_are_shown_where_the_model_knows_none() -> None:
    words = ("evaluate", "m.ini", "--weights", "w.npz", "--data", "train.dat", *TABLE)
    (one,) = json_of(*words)["evaluations"]
    assert one["report"]["names"] == [*NAMES]


def test_metrics_that_are_asked_for_are_printed_alone() -> None:
    words = ("evaluate", "m.safetensors", "--data", "rare.dat", *TABLE)
    result = run(*words, "--metrics", "f1, balanced_accuracy")
    shown = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert shown[-2][-2:] == ["f1", "1.0000"]
    assert shown[-1] == ["balanced", "accuracy", "100.00", "%"]
    (one,) = json_of(*words, "--metrics", "recall")["evaluations"]
    assert one["metrics"] == {"recall": 1.0}
    assert refused(*words, "--metrics", "f1,rmse").startswith(
        "there is no metric 'rmse' (here it is 'root_mean_squared_error')"
    )
    assert "there is no 'auc' of these labels" in refused(*words, "--metrics", "auc")


def test_predict_reads_tables_as_train_does() -> None:
    words = ("predict", "m.safetensors", "--index-column", "name", "--data")
    with_labels = json_of(*words, "train.dat", "--label-column", "kind")
    assert with_labels["classes"] == [0, 1, 2] * 6
    for option in (("--no-labels",), ("--label-column", "none")):
        assert json_of(*words, "bare.dat", *option)["classes"] == [2, 0, 1]


def test_a_column_too_few_is_explained_for_every_kind_of_table() -> None:
    message = refused(
        *("predict", "m.safetensors", "--index-column", "name"),
        *("--data", "bare.dat"),
    )
    assert "--no-labels makes it a value of the sample" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("predict", "m.safetensors", "--data", "bare.dat", "--no-labels", *TABLE),
            "--no-labels and --label-column exclude each other",
        ),
        (
            ("predict", "m.safetensors", "--data", "digits", "--header"),
            "--header: a table is read so, and none is named",
        ),
        (
            ("evaluate", "m.safetensors", "--data", "digits", "--missing", "drop"),
            "--missing: a table is read so, and none is named",
        ),
    ],
)
def test_options_without_a_table_to_read(words: tuple[str, ...], message: str) -> None:
    assert refused(*words).startswith(message)


def test_inputs_have_one_convention_of_names(tmp_path: Path) -> None:
    Path("two.py").write_text(
        "import arena_ckpt as ac\n\n"
        "def build():\n"
        "    model = ac.Model(seed=1)\n"
        "    model.add_layer('input', name='a', input_shape='4')\n"
        "    model.add_layer('input', name='b', input_shape='3')\n"
        "    model.add_layer('concat', name='c', input_layers='a,b', axis=3)\n"
        "    model.add_layer('fully_connected', name='fc', unit=2)\n"
        "    model.add_layer('mse', name='loss')\n"
        "    model.set_property(batch_size=4)\n"
        "    model.initialize()\n"
        "    return model\n"
    )
    rng = np.random.default_rng(0)
    a, b, y = rng.random((5, 4)), rng.random((5, 3)), rng.random((5, 2))
    np.savez("now.npz", **{"x:a": a, "x:b": b}, y=y)
    np.savez("before.npz", a=a, b=b, y=y)
    np.savez("half.npz", **{"x:a": a}, y=y)
    losses = [
        json_of("evaluate", "two.py:build", "--data", name)["evaluations"][0]["loss"]
        for name in ("now.npz", "before.npz")
    ]
    assert losses[0] == losses[1]
    message = refused("predict", "two.py:build", "--data", "half.npz")
    assert message.startswith(
        "half.npz has no 'x:b'; it has 'x:a', 'y', and the model needs an .npz with an "
        "array for each of 'x:a', 'x:b'"
    )


def test_a_curve_is_printed_where_it_is_asked_for() -> None:
    words = ("train", "m.ini", "--data", "train.dat", *TABLE, "--quiet")
    for option, is_there in (
        ((), False),
        (("--curve",), True),
        (("--no-curve",), False),
    ):
        result = run(*words, *option)
        assert result.exit_code == 0, result.stderr
        assert ("epoch 30\n" in result.stdout) is is_there
        assert any("\u2801" <= c <= "\u28ff" for c in result.stdout) is is_there
