"""The commands evaluate and predict, and saved models in place of MODEL."""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.archives import read_npz
from helpers.command_line import run

import arena_ckpt as ac
from arena_ckpt.c_export.project import CProject
from arena_ckpt.cli.predictions import Predictions
from arena_ckpt.cli.predictions_by_loss import PredictionsByLoss

SCRIPT = """\
import arena_ckpt as ac

def two_inputs():
    model = ac.Model(seed=1)
    model.add_layer("input", name="a", input_shape="4")
    model.add_layer("input", name="b", input_shape="3")
    model.add_layer("concat", name="c", input_layers="a,b", axis=3)
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=4)
    return model

def initialized():
    model = two_inputs()
    model.initialize()
    return model

def one_unit():
    model = ac.Model(seed=3)
    model.add_layer("input", name="in", input_shape="64")
    model.add_layer("fully_connected", name="fc", unit=1)
    model.add_layer("cross_sigmoid", name="loss")
    model.initialize()
    return model

def without_loss():
    model = ac.Model(seed=1)
    model.add_layer("input", name="in", input_shape="64")
    model.add_layer("fully_connected", name="fc", unit=3, activation="softmax")
    model.initialize(mode="inference")
    return model
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a trained model, its weights and data."""
    folder = tmp_path_factory.mktemp("made")
    result = run(
        *("train", "digits_mlp", "--epochs", 1, "--quiet"),
        *("--save", folder / "m.safetensors", "--save-weights", folder / "w.npz"),
    )
    assert result.exit_code == 0, result.output
    (folder / "model.py").write_text(SCRIPT)
    ac.load_example("digits_mlp").model.save_ini(folder / "m.ini")
    x = ac.load_digits().x
    np.savez(folder / "x.npz", x=x[:5])
    np.savetxt(folder / "features.csv", x[:5], "%.9g", ",")
    picture = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (3, 8, 8))
    (folder / "images-idx3-ubyte").write_bytes(picture + bytes(3 * 64))
    rng = np.random.default_rng(0)
    arrays = {"a": rng.random((5, 4)), "b": rng.random((5, 3))}
    np.savez(folder / "two.npz", y=rng.random((5, 2)), **arrays)
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def json_of(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refused(*arguments: object, code: int = 2) -> str:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stderr.partition("error: ")[2]


# -- predict ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        ("m.safetensors",),
        ("digits_mlp", "--weights", "w.npz"),
        ("m.ini", "--weights", "w.npz"),
        ("m.safetensors", "--batch-size", 7),
        ("m.safetensors", "--debug"),
    ],
)
def test_predictions_have_the_bits_of_the_trained_model(
    model: tuple[Any, ...], folder: Path
) -> None:
    expected = ac.load("m.safetensors").predict(ac.load_digits().x)
    for name in ("p.npy", "p.npz", "p.csv"):
        result = run("predict", *model, "--data", "digits", "-o", name)
        assert result.exit_code == 0, result.stderr
        assert f"1,797 predictions of digits are in {name}\n" in result.stdout
    classes = expected.reshape(1797, 10).argmax(axis=1)

    assert np.load("p.npy").tobytes() == expected.tobytes()
    archive = read_npz("p.npz")
    assert archive["prediction"].tobytes() == expected.tobytes()
    assert np.array_equal(archive["class"], classes)
    assert np.array_equal(archive["probability"], expected.reshape(1797, 10).max(1))
    with Path("p.csv").open() as file:
        rows = list(csv.DictReader(file))
    read = [[row[f"output{i}"] for i in range(10)] for row in rows]
    assert np.array(read, np.float32).tobytes() == expected.tobytes()
    assert [int(row["class"]) for row in rows] == classes.tolist()
    assert [int(row["sample"]) for row in rows] == list(range(1797))


def test_names_of_classes_stand_beside_their_numbers(folder: Path) -> None:
    names = ("ant, red", 'the "bee"', "[bold]cow", *map(str, range(3, 10)))
    model = ac.load("m.safetensors")
    model._classes = names
    model.save("named.safetensors")
    x = read_npz("x.npz")["x"]
    numbers = model.predict(x, squeeze=True).argmax(axis=1)
    expected = [names[number] for number in numbers]
    words = ("predict", "named.safetensors", "--data", "x.npz")
    assert json_of(*words)["class_names"] == expected
    for out in ("n.csv", "n.npz"):
        assert run(*words, "-o", out).exit_code == 0
    with Path("n.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]][:4] == ["sample", "class", "class_name", "probability"]
    assert [row["class_name"] for row in rows] == expected
    assert [int(row["class"]) for row in rows] == numbers.tolist()
    assert read_npz("n.npz")["class_name"].tolist() == expected
    shown = run(*words).stdout
    assert "name" in shown
    assert all(name in shown for name in expected)
    nameless = json_of("predict", "m.safetensors", "--data", "x.npz")
    assert nameless["class_names"] is None


def test_classes_that_have_no_name_have_an_empty_one(tmp_path: Path) -> None:
    values = np.eye(3, dtype=np.float32).reshape(3, 1, 1, 3)
    found = Predictions(values, are_classes=True, names=("a", "b,c"))
    assert found.class_names is not None
    assert found.class_names.tolist() == ["a", "b,c", ""]
    found.write(tmp_path / "some.csv")
    assert (tmp_path / "some.csv").read_text().splitlines()[1:] == [
        "0,0,a,1,1,0,0",
        '1,1,"b,c",1,0,1,0',
        '2,2,"",1,0,0,1',
    ]


def test_pixels_have_the_class_that_their_channels_say() -> None:
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="3:2:5")
    model.add_layer("cross_softmax", name="loss", axis=1, per_token=True)
    model.initialize()
    x = np.random.default_rng(0).normal(size=(4, 3, 2, 5)).astype(np.float32)
    outputs = model.predict(x)
    (found,) = PredictionsByLoss.of(model.compile(), outputs).by_loss.values()
    assert (found.n_rows, found.n_lines) == (10, 40)
    assert found.classes is not None
    assert found.probabilities is not None
    assert found.classes.tolist() == x.argmax(axis=1).reshape(4, 10).tolist()
    wanted = outputs.max(axis=1).reshape(4, 10)
    assert found.probabilities.tolist() == wanted.tolist()


def test_the_first_predictions_are_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # those of who runs the tests
    result = run("predict", "m.safetensors", "--data", "digits", "--rows", 2)
    lines = [line.split() for line in result.stdout.splitlines()]
    probability = ac.load("m.safetensors").predict(ac.load_digits().x).max(axis=3)
    assert lines[0][-2:] == ["inference", "alone"]
    assert lines[1][0] == "arena"
    assert "constants," in lines[1]
    at = next(i for i, line in enumerate(lines) if line[:1] == ["sample"])
    assert lines[at] == ["sample", "class", "probability", "output"]
    assert [line[0] for line in lines[at + 2 : at + 4]] == ["0", "1"]
    assert lines[at + 2][2] == f"{probability.flat[0]:.4f}"
    assert result.stdout.splitlines()[-1] == (
        "2 of 1,797 samples of digits; -o OUT.csv writes all, also as .npz or .npy"
    )


def test_inference_takes_less_memory_than_training(folder: Path) -> None:
    predicted = json_of("predict", "m.safetensors", "--data", "digits")
    assert predicted["arena_bytes"] < ac.load("m.safetensors").plan.arena_bytes / 4
    assert predicted["constant_bytes"] > 0


def test_predictions_as_json(folder: Path) -> None:
    found = json_of("predict", "m.safetensors", "--data", "x.npz")
    expected = ac.load("m.safetensors").predict(read_npz("x.npz")["x"])
    assert found["command"] == "predict"
    assert found["output_shape"] == [1, 1, 10]
    assert np.array(found["predictions"], np.float32).tobytes() == expected.tobytes()
    assert found["classes"] == expected.reshape(5, 10).argmax(axis=1).tolist()
    written = json_of("predict", "m.safetensors", "--data", "x.npz", "-o", "q.npy")
    assert (written["predictions"], written["output_file"]) == (None, "q.npy")


def test_samples_need_no_labels(folder: Path) -> None:
    by_file = json_of("predict", "m.safetensors", "--data", "x.npz")["predictions"]
    by_table = json_of(
        "predict", "m.safetensors", "--data", "features.csv", "--no-labels"
    )
    assert by_table["predictions"] == by_file
    images = json_of("predict", "m.safetensors", "--data", "images-idx3-ubyte")
    assert images["n_samples"] == 3


def test_the_validation_data_of_the_model_are_the_default(folder: Path) -> None:
    found = json_of("predict", "digits_mlp", "--weights", "w.npz")
    assert found["n_samples"] == 359


def test_one_output_is_two_classes(folder: Path) -> None:
    found = json_of("predict", "model.py:one_unit", "--data", "x.npz")
    for value, number, probability in zip(
        np.ravel(found["predictions"]),
        found["classes"],
        found["probabilities"],
        strict=True,
    ):
        assert number == int(value > 0.5)
        assert probability == pytest.approx(max(value, 1 - value), rel=1e-6)


def test_a_softmax_without_a_loss_has_classes(folder: Path) -> None:
    found = json_of("predict", "model.py:without_loss", "--data", "x.npz")
    assert (
        found["classes"] == np.reshape(found["predictions"], (5, 3)).argmax(1).tolist()
    )


def test_each_row_of_a_sample_has_a_class(folder: Path) -> None:
    model = ac.load_example("char_transformer").model
    model.initialize(mode="inference")
    model.save("char.safetensors")
    ids = np.arange(128).reshape(2, 64) % 96
    np.savez("ids.npz", x=ids)
    expected = model.predict(ids)
    run("predict", "char.safetensors", "--data", "ids.npz", "-o", "ids_out.npz")
    found = read_npz("ids_out.npz")
    assert np.array_equal(found["class"], expected.reshape(2, 64, 96).argmax(2))
    shown = run("predict", "char.safetensors", "--data", "ids.npz", "--rows", 1)
    assert "1 of 128 rows of ids.npz" in shown.stdout
    run("predict", "char.safetensors", "--data", "ids.npz", "-o", "ids_out.csv")
    with Path("ids_out.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert (last["sample"], last["row"]) == ("1", "63")
    np.savez("wrong.npz", x=ids + 0.5)
    message = refused("predict", "char.safetensors", "--data", "wrong.npz")
    assert message.startswith("wrong.npz: layer 'tokens' (embedding) reads 0.5")


def test_a_model_of_several_inputs_reads_an_array_for_each(folder: Path) -> None:
    arrays = read_npz("two.npz")
    found = json_of("predict", "model.py:initialized", "--data", "two.npz")
    model = runpy.run_path("model.py")["initialized"]()
    x = {"a": arrays["a"], "b": arrays["b"]}
    assert np.array(found["predictions"], np.float32).tobytes() == (
        model.predict(x).tobytes()
    )
    evaluated = json_of("evaluate", "model.py:initialized", "--data", "two.npz")
    assert evaluated["evaluations"][0]["loss"] == model.evaluate((x, arrays["y"])).loss


# -- evaluate --------------------------------------------------------------------------


def test_evaluate_says_what_the_model_says(folder: Path) -> None:
    expected = ac.load("m.safetensors").evaluate(ac.load_digits())
    assert expected.report is not None
    for model in [("m.safetensors",), ("m.ini", "--weights", "w.npz")]:
        found = json_of("evaluate", *model, "--data", "digits", "--data", "digits")
        assert len(found["evaluations"]) == 2
        assert found["evaluations"][1] == {
            "data": "digits",
            "loss": expected.loss,
            "metric_name": "accuracy",
            "metric": expected.metric,
            "n_samples": 1797,
            "metrics": expected.metrics,
            "report": expected.report.to_dict(),
        }
    shown = run("evaluate", "m.safetensors", "--data", "digits").stdout.splitlines()
    accuracy = f"{100 * expected.metric:.2f}"
    row = ["digits", "1,797", f"{expected.loss:.4f}", "accuracy", accuracy, "%"]
    assert row in [line.split() for line in shown]


def test_evaluate_takes_all_data_of_the_model(folder: Path) -> None:
    found = json_of("evaluate", "digits_mlp", "--weights", "w.npz")["evaluations"]
    assert [one["data"] for one in found] == ["training data", "validation data"]
    assert [one["n_samples"] for one in found] == [1438, 359]


def test_a_model_saved_for_inference_can_be_evaluated(folder: Path) -> None:
    model = ac.load_example("digits_mlp").model
    model.initialize(mode="inference")
    model.set_weights(read_npz("w.npz"))
    model.save("inference.safetensors")
    expected = ac.load("m.safetensors").evaluate(ac.load_digits())
    assert expected.report is not None
    found = json_of("evaluate", "inference.safetensors", "--data", "digits")
    assert found["evaluations"][0]["loss"] == expected.loss
    went_on = run(
        *("train", "inference.safetensors", "--data", "digits"),
        *("--epochs", 1, "--quiet"),
    )
    assert went_on.exit_code == 0
    assert "warning: inference.safetensors was saved for inference" in went_on.stderr


# -- what cannot be --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits_mlp",), "digits_mlp has no trained weights; add --weights W.npz"),
        (("m.safetensors",), "m.safetensors comes without data; give --data"),
        (
            ("m.safetensors", "--data", "digits", "--weights", "w.npz"),
            "m.safetensors has weights of its own; leave out --weights",
        ),
        (
            ("digits_mlp", "--weights", "m.safetensors"),
            "m.safetensors is a saved model with its weights; name it in place of",
        ),
        (("digits_mlp", "--weights", "no.npz"), "no.npz does not exist"),
        (("digits_mlp", "--weights", "x.npz"), "x.npz has 'x', and digits_mlp has not"),
        (("digits_mlp", "--weights", "part.npz"), "part.npz has no 'fc1:bias', "),
        (
            ("digits_mlp", "--weights", "shape.npz"),
            "shape.npz: weight 'fc1:weight' has",
        ),
        (
            ("digits_mlp", "--weights", "nan_w.npz"),
            "nan_w.npz: weight 'fc1:weight' has",
        ),
        (
            ("w.npz",),
            "w.npz is no model: an .npz holds data, or weights without layers",
        ),
        (("no.safetensors",), "there is no file no.safetensors"),
        (("m.safetensors", "--data", "no.npz"), "no.npz does not exist"),
        (("m.safetensors", "--data", "nan.npz"), "nan.npz: x has 320 values that are"),
        (("m.safetensors", "--data", "empty.npz"), "empty.npz: there are no samples"),
        (
            ("m.safetensors", "--data", "small.npz"),
            "small.npz: x has the shape (5, 63)",
        ),
        (("model.py:initialized", "--data", "digits"), "the model has 2 inputs, and"),
        (("model.py:initialized", "--data", "x.npz"), "x.npz has no 'x:a', 'x:b'; it"),
        (("m.safetensors", "--data", "digits", "--batch-size", 0), "Invalid value for"),
    ],
)
def test_what_cannot_be_predicted_or_evaluated(
    arguments: tuple[Any, ...], message: str, folder: Path
) -> None:
    weights = read_npz("w.npz")
    first = {"fc1:weight": weights["fc1:weight"]}
    np.savez("part.npz", **first)
    np.savez("shape.npz", **weights | {"fc1:weight": np.zeros((2, 2))})
    np.savez("nan_w.npz", **weights | {"fc1:weight": first["fc1:weight"] * np.nan})
    np.savez("nan.npz", x=np.full((5, 64), np.nan), y=np.zeros(5, int))
    np.savez("empty.npz", x=np.zeros((0, 64)), y=np.zeros(0, int))
    np.savez("small.npz", x=np.zeros((5, 63)), y=np.zeros(5, int))
    for command in ("predict", "evaluate"):
        assert refused(command, *arguments).startswith(message)


def test_a_missing_or_surplus_column_is_explained(folder: Path) -> None:
    message = refused("predict", "m.safetensors", "--data", "features.csv")
    assert message.rstrip().endswith(
        "Its last column was taken for the label; --no-labels makes it a value of the "
        "sample"
    )
    Path("labelled.csv").write_text(
        "".join(f"{line},1\n" for line in Path("features.csv").read_text().split())
    )
    message = refused(
        "predict", "m.safetensors", "--data", "labelled.csv", "--no-labels"
    )
    assert "If its last column is the label, leave out --no-labels" in message


def test_a_model_without_a_loss_predicts_alone(folder: Path) -> None:
    message = refused("evaluate", "model.py:without_loss", "--data", "digits")
    assert message.startswith("model.py:without_loss has no loss, so there is nothing")
    assert run("predict", "model.py:without_loss", "--data", "x.npz").exit_code == 0


def test_evaluating_needs_labels(folder: Path) -> None:
    message = refused("evaluate", "m.safetensors", "--data", "x.npz")
    assert message.startswith("x.npz has no labels to compare with")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("p.txt", "'p.txt' names no format of predictions; end it with .npz, .npy or"),
        ("no/p.csv", "no/p.csv cannot be written: there is no folder no"),
        (".", "Invalid value for '-o'"),
    ],
)
def test_files_that_cannot_be_written_are_told_first(
    name: str, message: str, folder: Path
) -> None:
    assert refused("predict", "no.safetensors", "-o", name).startswith(message)


# -- saved models everywhere -----------------------------------------------------------


def test_a_saved_model_stands_for_model(folder: Path, tmp_path: Path) -> None:
    digits = ac.load_example("digits_mlp").model.make_plan()
    planned = json_of("plan", "m.safetensors")
    assert planned["plan"]["arena_bytes"] == digits.arena_bytes
    smaller = json_of("plan", "m.safetensors", "--batch-size", 8)["plan"]
    assert smaller["arena_bytes"] < digits.arena_bytes
    page, plan = tmp_path / "r.html", tmp_path / "p.json"
    assert json_of("report", "m.safetensors", "-o", page)["html_file"] == str(page)
    assert run("export", "m.safetensors", "--to", "json", "-o", plan).exit_code == 0
    assert ac.MemoryPlan.from_json(plan.read_text()).arena_bytes == digits.arena_bytes
    golden = tmp_path / "golden"
    golden.mkdir()
    assert run("golden", "update", golden, "--add", "m.safetensors").exit_code == 0
    assert run("golden", "check", golden).exit_code == 0
    verified = run("verify", "m.safetensors", "--batch-size", 2)
    assert verified.exit_code == 0, verified.output


def test_training_goes_on_as_the_loaded_model_does(
    folder: Path, tmp_path: Path
) -> None:
    end = tmp_path / "end.npz"
    result = run(
        *("train", "m.safetensors", "--data", "digits", "--epochs", 2),
        *("--save-weights", end),
    )
    assert result.exit_code == 0, result.output
    assert "goes on from iteration 12 of m.safetensors\n" in result.stdout
    model = ac.load("m.safetensors")
    model.train(ac.load_digits(), epochs=2)
    written = read_npz(end)
    for name, weight in model.weights().items():
        assert written[name].tobytes() == weight.tobytes()


def test_a_c_project_of_a_saved_model_begins_with_its_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arena_ckpt.device import export_c as module

    seen: list[dict[str, Any]] = []
    write = module.export_c

    def watched(model: ac.Model, *args: Any, **values: Any) -> CProject:
        seen.append(model.weights())
        return write(model, *args, **values)

    monkeypatch.setattr(module, "export_c", watched)
    for mode in ("train", "inference"):
        result = run(
            *("export", "m.safetensors", "--to", "c", "--mode", mode),
            *("--batch-size", 2, "-o", tmp_path / mode),
        )
        assert result.exit_code == 0, result.output
    expected = ac.load("m.safetensors").weights()
    for weights in seen:
        assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    assert len(seen) == 2


@pytest.mark.parametrize("command", ["plan", "train", "predict", "report"])
def test_damaged_saved_models_are_refused_as_by_load(
    command: str, folder: Path
) -> None:
    content = bytearray(Path("m.safetensors").read_bytes())
    Path("short.safetensors").write_bytes(content[:-100])
    content[-3] ^= 1
    Path("altered.safetensors").write_bytes(content)
    for name in ("short.safetensors", "altered.safetensors"):
        with pytest.raises(ac.ArenaError) as caught:
            ac.load(name)
        assert refused(command, name) == f"{caught.value}\n"


def test_a_plan_is_no_model(folder: Path) -> None:
    assert refused("train", "p.json").startswith("p.json is no model: a plan has no")
