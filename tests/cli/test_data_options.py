"""Options of the command line that say how tables of data are read."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import run

import arena_ckpt as ac
from arena_ckpt.cli.data_options import TABLE

MODEL = """\
[Model]
type = NeuralNetwork
epochs = 3
batch_size = 4
[Optimizer]
type = adam
learning_rate = 0.05
[in]
type = input
input_shape = 1:1:4
[fc]
type = fully_connected
unit = {unit}
[loss]
type = {loss}
"""
NAMES = ("setosa", "versicolor", "virginica")


def flowers() -> tuple[list[list[str]], list[int]]:
    """Return twelve flowers of each of three kinds, sorted by kind."""
    generator = np.random.default_rng(4)
    kinds = np.repeat([0, 1, 2], 12)
    x = kinds[:, None] + generator.uniform(0.1, 0.9, (36, 4))
    return [[f"{v:.1f}" for v in row] for row in x], kinds.tolist()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.ini").write_text(MODEL.format(unit=3, loss="cross_softmax"))
    Path("r.ini").write_text(MODEL.format(unit=2, loss="mse"))


def write(name: str, lines: list[str]) -> None:
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def trained(*words: str, model: str = "m.ini") -> dict[str, object]:
    result = run("train", model, "--json", *words)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def refused(*words: str) -> str:
    result = run("train", "m.ini", *words)
    assert result.exit_code == 2, result.output
    return result.stderr


def test_the_options_are_the_arguments_of_load_csv() -> None:
    import inspect

    known = [*inspect.signature(ac.load_csv).parameters][1:]
    assert sorted(TABLE) == sorted(known)


def sources() -> dict[str, tuple[list[str], str, tuple[str, ...]]]:
    """Return files in the forms of well-known sources: lines, suffix, options."""
    x, y = flowers()
    rows = [[*row, str(kind)] for row, kind in zip(x, y, strict=True)]
    named = [[*row, NAMES[kind]] for row, kind in zip(x, y, strict=True)]
    of_r = [[f'"{i}"', *row[:4], f'"{row[4]}"'] for i, row in enumerate(named, start=1)]
    of_r[3][2] = "NA"
    comma = [";".join(cell.replace(".", ",") for cell in row) for row in named]
    return {
        "scikit-learn's iris": (
            [f"36,4,{','.join(NAMES)}", *map(",".join, rows)],
            "csv",
            ("--header",),
        ),
        "scikit-learn's wine": (
            ["36,4,class_0,class_1", *map(",".join, rows)],
            "csv",
            ("--skip-rows", "1"),
        ),
        "UCR": (
            ["\t".join([row[4], *row[:4]]) for row in rows],
            "tsv",
            ("--label-column", "first"),
        ),
        "statsmodels": (
            ['"","a","b","c","d","kind"', *map(",".join, of_r)],
            "csv",
            ("--missing", "mean"),
        ),
        "pandas": (
            ["0,1,2,3,4", *map(",".join, rows)],
            "csv",
            ("--header",),
        ),
        "a German spreadsheet": (["a;b;c;d;Art", *comma], "csv", ()),
        "UCI": ([" ".join(row) for row in rows], "data", ()),
    }


@pytest.mark.parametrize("source", sources())
def test_known_sources_load_with_at_most_two_options(source: str) -> None:
    lines, suffix, options = sources()[source]
    write(f"t.{suffix}", lines)
    assert len(options) <= 2
    document = trained("--data", f"t.{suffix}", *options, "--validation-split", "0.25")
    evaluation = document["training"]
    assert isinstance(evaluation, dict)
    assert evaluation["n_samples"] == 27
    if options:
        assert options[0] in refused("--data", f"t.{suffix}", *_only_needed(source))


def _only_needed(source: str) -> tuple[str, ...]:
    """Return what a refusal still needs, where the file alone is not refused."""
    return ("--label-column", "7") if source == "UCR" else ()


def test_names_of_classes_are_printed_and_saved() -> None:
    x, y = flowers()
    write(
        "t.csv",
        [
            "a,b,c,d,kind",
            *(",".join([*r, NAMES[k]]) for r, k in zip(x, y, strict=True)),
        ],
    )
    result = run(
        *("train", "m.ini", "--data", "t.csv", "--label-column", "kind"),
        *("--save", "m.safetensors", "--validation-split", "0.25"),
        *("--split", "stratified"),
    )
    assert result.exit_code == 0, result.output
    assert "0 setosa (9), 1 versicolor (9), 2 virginica (9)" in result.stdout
    assert ac.load("m.safetensors").classes == NAMES
    document = trained("--data", "t.csv")
    assert document["classes"] == [*NAMES]


def test_an_unknown_class_in_the_validation_data_is_named() -> None:
    x, y = flowers()
    rows = [",".join([*r, NAMES[k]]) for r, k in zip(x, y, strict=True)]
    write("t.csv", rows)
    write("v.csv", [rows[0], rows[30].replace("virginica", "virginia")])
    message = refused("--data", "t.csv", "--validation", "v.csv")
    assert "v.csv: sample 1 has the class 'virginia' (did you mean 'virginica'?)" in (
        message
    )
    write("v.csv", [rows[30], rows[0]])
    assert trained("--data", "t.csv", "--validation", "v.csv")["classes"] == [*NAMES]


def test_the_last_samples_can_be_put_aside() -> None:
    x, y = flowers()
    write("t.csv", [",".join([*r, NAMES[k]]) for r, k in zip(x, y, strict=True)])
    result = run(
        *("train", "m.ini", "--data", "t.csv", "--validation-split", "0.34"),
        *("--split", "last"),
    )
    assert result.exit_code == 0
    assert "have samples of 2 (virginica)" in result.stderr
    assert "--split stratified" in result.stderr


def test_targets_are_several_outputs() -> None:
    x, _ = flowers()
    write("t.csv", ["a,b,c,d,u,v", *(",".join([*r, *r[:2]]) for r in x)])
    trained("--data", "t.csv", "--targets", "2", model="r.ini")
    result = run("verify", "r.ini", "--data", "t.csv", "--targets", "2")
    assert result.exit_code == 0, result.output
    assert "on t.csv" in result.stdout


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--data", "digits", "--header"), "--header: a table is read so"),
        (("--data", "digits", "--no-header"), "--no-header: a table is read so"),
        (("--data", "t.csv", "--split", "last"), "--split says which samples"),
        (("--data", "t.csv", "--label-column", "kin"), "did you mean 'kind'"),
        (("--data", "t.csv", "--separator", "pipe"), "'pipe' is not one of"),
        (("--data", "t.csv", "--targets", "0"), "--targets"),
        (
            ("--data", "t.csv", "--targets", "1", "--label-column", "0"),
            "exclude each other",
        ),
    ],
)
def test_options_that_say_nothing_are_refused(
    words: tuple[str, ...], match: str
) -> None:
    write("t.csv", ["a,b,c,d,kind", "1,2,3,4,0"])
    assert match in refused(*words)


def test_statistics_of_the_training_part_go_with_weights_and_model() -> None:
    rows, kinds = flowers()
    scaled = [[*row[:3], f"{1000 * float(row[3]):.0f}"] for row in rows]
    lines = [",".join([*row, str(k)]) for row, k in zip(scaled, kinds, strict=True)]
    write("t.csv", lines)
    table = ("--data", "t.csv", "--no-header")
    document = trained(
        *table,
        *("--validation-split", "0.25", "--standardize", "--strict"),
        *("--save", "s.safetensors", "--save-weights", "w.npz"),
    )
    data = ac.load_csv("t.csv", header=False)
    training, _ = data.split(0.25, seed=0)
    x = training.x.astype(np.float64)
    statistics = document["standardization"]
    assert isinstance(statistics, dict)
    assert statistics["inputs"]["in"]["mean"] == pytest.approx(x.mean(axis=0))
    assert statistics["inputs"]["in"]["deviation"] == pytest.approx(x.std(axis=0))
    with np.load("w.npz") as arrays:
        assert arrays["in:mean"] == pytest.approx(x.mean(axis=0))
    expected = ac.load("s.safetensors").predict(data.x)
    np.savez("x.npz", x=data.x)
    for words in (("s.safetensors",), ("m.ini", "--weights", "w.npz")):
        result = run("predict", *words, "--data", "x.npz", "-o", "p.npy")
        assert result.exit_code == 0, result.output
        assert np.allclose(np.load("p.npy"), expected, rtol=1e-5, atol=1e-7)
    again = run("train", "s.safetensors", *table, "--standardize")
    assert again.exit_code == 2
    assert "saved with statistics of its own, which it keeps" in again.output
