"""PyTorch modules as MODEL of the command line, and their state as an export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import run
from safetensors.numpy import load_file

pytest.importorskip("torch", reason="PyTorch is absent")

NET = """
import torch
from torch import nn


def net():
    return nn.Linear(4, 3), torch.randn(8, 4), "cross_softmax"


def lone():
    return nn.Linear(4, 3)


def known():
    module = nn.Linear(4, 3)
    module.example_input_array = torch.zeros(2, 4)
    return module
"""


@pytest.fixture
def net(tmp_path: Path) -> str:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return str(path)


def test_a_module_is_planned_with_its_inputs(net: str) -> None:
    result = run("plan", f"{net}:net")
    assert result.exit_code == 0, result.output
    assert "batch size 8" in result.stdout or "batch of 8" in result.stdout
    result = run("summary", f"{net}:known")
    assert result.exit_code == 0, result.output
    assert "fully_connected" in result.stdout
    result = run("summary", f"{net}:lone")
    assert result.exit_code != 0
    assert "returned a Linear, which is traced on example inputs" in result.output


def test_verify_says_what_was_compared_with_pytorch(net: str) -> None:
    result = run("verify", f"{net}:net")
    assert result.exit_code == 0, result.output
    (line,) = [one for one in result.stdout.splitlines() if "import, " in one]
    assert line.startswith("passed    import, as in PyTorch: 7 comparisons; worst")
    assert "(fully_connected:" in line


def test_a_trained_state_goes_back_by_its_names(net: str, tmp_path: Path) -> None:
    x, y = np.zeros((8, 4), np.float32), np.zeros(8, np.int64)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    saved, state = tmp_path / "net.safetensors", tmp_path / "state.safetensors"
    data = str(tmp_path / "data.npz")
    result = run(
        *("train", f"{net}:net", "--data", data, "--epochs", "1", "--save", str(saved))
    )
    assert result.exit_code == 0, result.output
    result = run("export", str(saved), "--to", "torch-state-dict", "-o", str(state))
    assert result.exit_code == 0, result.output
    found = load_file(state)
    assert {name: array.shape for name, array in found.items()} == {
        "weight": (3, 4),
        "bias": (3,),
    }
    result = run("export", "digits_mlp", "--to", "torch-state-dict")
    assert result.exit_code != 0
    assert "was not imported" in result.output
