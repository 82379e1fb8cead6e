"""A file of ONNX is a MODEL of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from arena_ckpt.cli import main
from arena_ckpt.cli.loss_option import parse_loss
from arena_ckpt.errors import InvalidParameterError

pytest.importorskip("onnx", reason="the package onnx is absent")

from helpers.onnx_files import evaluated, mlp_model, normal, write


def test_a_file_is_planned_and_predicts_with_its_weights(tmp_path: Path) -> None:
    model = mlp_model()
    path = str(write(tmp_path / "net.onnx", model))
    planned = CliRunner().invoke(main, ["plan", path, "--loss", "mse"])
    assert planned.exit_code == 0, planned.output
    assert "5 layers; batch size 1" in planned.stdout
    x = normal(5, 4)
    np.savez(tmp_path / "data.npz", x=x)
    out = tmp_path / "y.npy"
    run = ["predict", path, "--data", str(tmp_path / "data.npz"), "-o", str(out)]
    predicted = CliRunner().invoke(main, run)
    assert predicted.exit_code == 0, predicted.output
    assert np.allclose(np.load(out).reshape(5, 3), evaluated(model, x=x), atol=1e-6)


def test_a_loss_is_for_files_that_bring_none() -> None:
    refused = CliRunner().invoke(main, ["plan", "digits_mlp", "--loss", "mse"])
    assert refused.exit_code == 2
    assert "digits_mlp has its own, so leave it out" in refused.output


def test_a_loss_is_a_type_or_a_type_with_properties() -> None:
    assert parse_loss("mse") == "mse"
    assert parse_loss("huber(delta=2)") == ("huber", {"delta": "2"})
    both = "cross_softmax(class_weight=1, 2, per_token = true)"
    expected = {"class_weight": "1, 2", "per_token": "true"}
    assert parse_loss(both) == ("cross_softmax", expected)
    for text in ("", "mse(", "mse(delta)", "a b"):
        with pytest.raises(InvalidParameterError, match="write a type, mse"):
            parse_loss(text)
