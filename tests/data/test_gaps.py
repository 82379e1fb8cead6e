"""Cells without a value: the means of the training part stand in them, everywhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.archives import read_npz
from helpers.command_line import run

import arena_ckpt as ac
from arena_ckpt.data.gaps import Gaps
from arena_ckpt.errors import DataTypeError, InvalidParameterError, MissingValueError

INI = """\
[Model]
type = NeuralNetwork
batch_size = 4
[in]
type = input
input_shape = 1:1:2
[out]
type = fully_connected
unit = 2
[loss]
type = cross_softmax
"""
ROWS = ["a,b,y", "1,10,0", ",20,1", "3,30,0", "8,NA,1", "9,60,0", "10,80,1"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.ini").write_text(INI)
    Path("t.csv").write_text("\n".join(ROWS))
    Path("new.csv").write_text("a,b\nNA,5\n")


def model_of() -> ac.Model:
    model = ac.load_ini("m.ini")
    model.set_optimizer("sgd", learning_rate=1e-4)
    model.initialize()
    return model


def table() -> ac.Dataset:
    return ac.load_csv("t.csv", missing="mean")


def gaps_of(data: ac.Dataset) -> Any:
    assert data.gaps is not None
    return data.gaps


def test_a_split_takes_the_means_of_its_training_part() -> None:
    whole = table()
    assert gaps_of(whole).means == pytest.approx((6.2, 40))
    assert whole.x[1, 0] == np.float32(6.2)
    training, validation = whole.split(0.5, shuffle=False)
    assert training.x.tolist() == [[1, 10], [2, 20], [3, 30]]
    assert validation.x.tolist() == [[8, 20], [9, 60], [10, 80]]
    assert gaps_of(validation).means == gaps_of(training).means == (2, 20)
    for options in ({"seed": 3}, {"seed": 3, "stratify": True}):
        parts = whole.split(0.34, **options)  # type: ignore[arg-type]
        seen = parts[0].x[~gaps_of(parts[0]).cells[:, 0], 0]
        assert gaps_of(parts[1]).means[0] == pytest.approx(seen.mean())


def test_a_model_keeps_the_means_and_fills_in_later_data() -> None:
    training, _ = table().split(0.5, shuffle=False)
    model = model_of()
    assert model.column_means is None
    model.train(training, epochs=1, progress=False)
    assert model.column_means == (2, 20)
    later = table()  # with means of its own
    expected = model.evaluate((later.with_means((2, 20)).x, later.y)).loss
    assert model.evaluate(later).loss == expected != model.evaluate((later.x, later.y))
    model.save("m.safetensors")
    assert ac.load("m.safetensors").column_means == (2, 20)
    model.train(later, epochs=1, progress=False)
    assert model.column_means == (2, 20)
    one = ac.load_csv("new.csv", label_column="none", missing=model.column_means)
    assert one.x.tolist() == [[2, 5]]


def test_a_training_that_fails_leaves_no_means() -> None:
    model = model_of()
    with pytest.raises(InvalidParameterError):
        model.train(table(), validation=object(), progress=False)  # type: ignore[arg-type]
    assert model.column_means is None


@pytest.mark.parametrize(
    "means", [(1.0,), (1, 2, 3), "mean", (1, float("nan")), (1, 1e300), 7, ()]
)
def test_means_that_do_not_fit_are_refused(means: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"means=|the samples have 2"):
        table().with_means(means)
    if means != "mean":
        with pytest.raises(InvalidParameterError, match=r"missing=|the samples have 2"):
            ac.load_csv("t.csv", missing=means)
    plain = ac.Dataset("d", [[1.0, 2.0]], None)
    assert plain.with_means((1, 2)) is plain


def test_gaps_of_other_samples_are_refused() -> None:
    for gaps in (Gaps((1.0,), np.zeros((3, 1), bool)), "gaps"):
        with pytest.raises(DataTypeError, match="do not fit x"):
            ac.Dataset("d", np.ones((3, 2)), None, None, gaps)  # type: ignore[arg-type]


def test_the_command_line_uses_the_means_of_the_training_part() -> None:
    words = ("train", "m.ini", "--data", "t.csv", "--missing", "mean")
    files = ("--save", "s.safetensors", "--save-weights", "w.npz")
    result = run(*words, "--validation-split", "0.5", "--split", "last", *files)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "1 cell without a value is filled in with the mean of the column" in text
    assert read_npz(Path("w.npz"))["in:fill"].tolist() == [2, 20]
    for words in (("s.safetensors",), ("m.ini", "--weights", "w.npz")):
        result = run(
            *("predict", *words, "--data", "new.csv", "--no-labels"),
            *("--missing", "mean", "-o", "p.npy"),
        )
        assert result.exit_code == 0, result.output
        assert "warning" not in result.stderr
        expected = ac.load("s.safetensors").predict(np.float32([[2, 5]]))
        assert np.load("p.npy") == pytest.approx(expected, rel=1e-5)
        result = run("evaluate", *words, "--data", "t.csv", "--missing", "mean")
        assert result.exit_code == 0, result.output
    model = model_of()
    assert model.take_weights("w.npz").unused == ()
    assert model.column_means == (2, 20)


def test_a_model_without_means_says_whose_are_taken() -> None:
    train = ("train", "m.ini", "--data", "t.csv", "--missing", "drop")
    run(*train, "--save-weights=w.npz")
    words = ("predict", "m.ini", "--weights", "w.npz", "--missing", "mean")
    result = run(*words, "--data", "t.csv")
    assert result.exit_code == 0, result.output
    assert "warning: --missing mean: the model keeps no means" in result.stderr
    run(*train, "--standardize", "--save-weights=w.npz")
    result = run(*words, "--data", "new.csv", "--no-labels", "-o", "p.npy")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr


def test_a_column_without_any_value_needs_means() -> None:
    Path("new.csv").write_text("a,b\nNA,5\nNA,6\n")
    with pytest.raises(MissingValueError, match="column 1 has no value at all"):
        ac.load_csv("new.csv", label_column="none", missing="mean")
    Path("v.csv").write_text("a,b,y\nNA,5,1\n")
    result = run(
        *("train", "m.ini", "--data", "t.csv", "--validation", "v.csv"),
        *("--missing", "mean"),
    )
    assert result.exit_code == 0, result.output
