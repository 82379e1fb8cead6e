"""Tables that do not fit a model: the error names the option that may help."""

from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import run

INI = """\
[Model]
type = NeuralNetwork
epochs = 1
batch_size = 4
[in]
type = input
input_shape = 1:1:4
[fc]
type = fully_connected
unit = {unit}
[loss]
type = cross_softmax
"""
GENERATOR = np.random.default_rng(0)
X = [",".join(f"{v:.3f}" for v in row) for row in GENERATOR.normal(size=(12, 4))]
KINDS = np.repeat([0, 1, 2], 4).tolist()


def rows(*labels: object) -> list[str]:
    return [f"{x},{label}" for x, label in zip(X, labels, strict=True)]


TABLES: dict[str, tuple[list[str], str, str]] = {
    "labels first": (
        [f"{k + 1},{x}" for x, k in zip(X, KINDS, strict=True)],
        "",
        "the first has 3 whole numbers: if they are the classes, say --label-column "
        "first",
    ),
    "classes from 1": (
        rows(*(k + 1 for k in KINDS)),
        "",
        "If the 3 numbers in the label column of t.csv are names of classes, "
        "--label-names numbers them from 0",
    ),
    "classes of -1 and 1": (rows(*[-1, 1] * 6), "", "--label-names numbers them"),
    "more names than units": (
        rows(*(f"kind{k}" for k in range(12))),
        "",
        "t.csv has names of 12 classes; the last layer needs a unit for each",
    ),
    "two targets": (
        [f"{x},1.5,2.5" for x in X],
        "",
        "t.csv has 5 columns beside the labels, and the model takes 4: set "
        "input_shape=1:1:5 at its input layer, or leave a column out with "
        "--index-column NAME, or take the last 2 for values to predict with --targets",
    ),
    "too few columns": (
        [x.rpartition(",")[0] + ",0" for x in X],
        "",
        "t.csv has 3 columns beside the labels, and the model takes 4: set "
        "input_shape=1:1:3 at its input layer, or say which column has the labels",
    ),
    "notes above": (
        ["# made by hand", "# cm", *rows(*KINDS)],
        "",
        "no part of the table are left out with --skip-rows 2",
    ),
    "an index of texts": (
        [f"x{i},{row}" for i, row in enumerate(rows(*KINDS))],
        "a,b,c,d,e,y",
        "names of rows into --index-column",
    ),
    "labels in the midst": (
        [f"kind{k},{x}" for x, k in zip(X, KINDS, strict=True)],
        "kind,a,b,c,d",
        "Names of classes belong into the label column (--label-column)",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_option_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines, header, message = TABLES[name]
    Path("m.ini").write_text(INI.format(unit=3))
    Path("t.csv").write_text("\n".join([header, *lines] if header else lines))
    commands: list[tuple[str, ...]] = [("train", "m.ini", "--data", "t.csv")]
    if name == "labels first":
        commands.append(("verify", "m.ini", "--data", "t.csv"))
    for words in commands:
        result = run(*words)
        assert result.exit_code == 2, result.output
        assert message in result.stderr


def test_an_option_is_named_for_each_of_two_tables_and_in_evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.ini").write_text(INI.format(unit=3))
    Path("t.csv").write_text("\n".join(rows(*KINDS)))
    Path("v.csv").write_text("\n".join(TABLES["labels first"][0]))
    words = ("train", "m.ini", "--data", "t.csv")
    result = run(*words, "--validation", "v.csv")
    assert result.exit_code == 2
    assert "The last column of v.csv was taken for the labels" in result.stderr
    assert run(*words, "--save-weights", "w.npz").exit_code == 0
    result = run("evaluate", "m.ini", "--weights", "w.npz", "--data", "v.csv")
    assert result.exit_code == 2
    assert "--label-column first" in result.stderr


def test_values_that_are_no_classes_name_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.ini").write_text(INI.format(unit=3))
    Path("t.csv").write_text("\n".join(rows(*(k + 0.5 for k in KINDS))))
    result = run("train", "m.ini", "--data", "t.csv")
    assert result.exit_code == 2
    assert "--label-column" not in result.stderr


def test_texts_in_an_archive_are_told_how_to_become_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", x=np.ones((2, 4)), y=np.array(["ant", "bee"]))
    result = run("train", "digits_mlp", "--data", tmp_path / "t.npz")
    assert result.exit_code == 2
    assert "numpy.unique(y, return_inverse=True)[1]" in result.stderr
