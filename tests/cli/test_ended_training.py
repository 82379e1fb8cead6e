"""How ``train`` ends: exit code, and what is written, where the loss is of no use."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.archives import read_npz
from helpers.command_line import run

from arena_ckpt.model import Model

INI = """\
[Model]
type = NeuralNetwork
epochs = {epochs}
batch_size = 4
[Optimizer]
type = sgd
learning_rate = {rate}
[in]
type = input
input_shape = 1:1:4
[fc]
type = fully_connected
unit = 1
[loss]
type = mse
"""
FILES = ("--save", "s.safetensors", "--save-weights", "w.npz")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(4, 4))
    np.savez("t.npz", x=x, y=np.ones((4, 1)))
    for name in ("s.safetensors", "w.npz"):
        Path(name).write_text("good")


def trained(rate: str, *words: str, epochs: int = 1) -> Any:
    Path("m.ini").write_text(INI.format(rate=rate, epochs=epochs))
    return run("train", "m.ini", "--data", "t.npz", "--quiet", *FILES, *words)


def good_ones_are_kept() -> bool:
    return all(Path(name).read_bytes() == b"good" for name in FILES[1::2])


@pytest.mark.parametrize(
    ("rate", "epochs", "loss"),
    [
        ("1e25", 1, "beyond float32, so"),  # shows after the last update alone
        ("1e18", 3, "is nan, so"),
    ],
)
def test_a_loss_that_is_no_number_is_an_error_and_nothing_is_written(
    rate: str, epochs: int, loss: str
) -> None:
    result = trained(rate, epochs=epochs)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert loss in result.stderr
    assert "so w.npz, s.safetensors are not written" in result.stderr
    assert "lower the learning rate" in result.stderr
    assert good_ones_are_kept()
    document = json.loads(trained(rate, "--json", epochs=epochs).stdout)
    assert document["error"]["type"] == "NonFiniteError"
    assert document["error"]["exit_code"] == 1


def test_a_loss_that_only_the_last_update_made_large_is_named() -> None:
    result = trained("1e10")
    assert result.exit_code == 0
    assert "times that of a model that predicts nothing, about 1" in result.stderr
    assert "fc:weight" in read_npz(Path("w.npz"))


def test_strict_decides_before_anything_is_written() -> None:
    result = trained("1e10", "--strict")
    assert result.exit_code == 2
    assert "error: the training has ended with a loss of" in result.stderr
    assert good_ones_are_kept()
    assert trained("0.1", "--strict").exit_code == 0
    assert not good_ones_are_kept()


def test_ctrl_c_while_the_end_is_judged_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "evaluate", interrupted)
    assert trained("0.1").exit_code == 130
    assert "fc:weight" in read_npz(Path("w.npz"))


def test_warnings_about_data_are_in_the_document() -> None:
    np.savez(
        "raw.npz",
        x=np.random.default_rng(0).normal(size=(40, 4)) * [1, 1000, 1, 1],
        y=np.ones((40, 1)),
    )
    Path("m.ini").write_text(INI.format(rate=1e-9, epochs=1))
    result = run("train", "m.ini", "--data", "raw.npz", "--json")
    assert result.exit_code == 0, result.output
    of_data, of_end = json.loads(result.stdout)["warnings"]
    assert (of_data["kind"], of_data["layers"]) == ("unlike_features", ["in"])
    assert of_end["kind"] == "diverged"
    for found in (of_data, of_end):
        assert f"warning: {found['message']}\n" in result.stderr
