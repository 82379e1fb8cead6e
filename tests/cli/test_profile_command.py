"""``arena-ckpt profile``: the table, the JSON document, the trace, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import run

from arena_ckpt.engine import profiling
from arena_ckpt.engine.profile import MachineSpeed

SCRIPT = """\
from arena_ckpt import Model

def build():
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc1", unit=8)
    model.add_layer("activation", name="act1", activation="tanh")
    model.add_layer("fully_connected", name="fc2", unit=8)
    model.add_layer("activation", name="act2", activation="tanh")
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.add_checkpoint_block(["fc1", "act1", "fc2", "act2"])
    model.set_property(batch_size=4)
    model.set_optimizer("sgd")
    return model
"""
MODEL = "net.py:build"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        profiling, "measure_machine", lambda threads: MachineSpeed(threads, 1e11, 1e10)
    )
    (tmp_path / "net.py").write_text(SCRIPT)
    return tmp_path


def printed(*arguments: object) -> str:
    result = run("profile", *arguments, "--rounds", 1)
    assert result.exit_code == 0, result.output
    return result.stdout


def document(*arguments: object) -> Any:
    return json.loads(printed(*arguments, "--json"))


def refused(*arguments: object, code: int = 2) -> str:
    result = run("profile", *arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("view", "names"),
    [
        ("layer", {"fc1", "fc2", "out", "loss", "act1", "act2"}),
        ("phase", {"forward", "recompute", "calc_gradient", "apply_gradient"}),
        ("kernel", {"blas.matmul", "updates.sgd"}),
    ],
)
def test_a_table_of_each_view(view: str, names: set[str]) -> None:
    lines = printed(MODEL, "--by", view).splitlines()
    table = lines[2 : lines.index("", 2)]
    first = {line.split("  ")[0] for line in table}

    assert lines[0].startswith("net.py:build: 7 layers; batch size 4; checkpoint block")
    assert max(map(len, lines[2:])) <= 80
    assert table[0].split() == [
        *(view, "calls", "ms", "share", "GFLOP/s", "GB/s", "of", "machine")
    ]
    assert names | {"outside kernels", "whole step"} <= first
    shares = [float(line.split(" %")[0].split()[-1]) for line in table if " %" in line]
    assert sum(shares[:-1]) == pytest.approx(shares[-1], abs=0.1 * len(shares))
    said = " ".join(lines[lines.index("", 2) :])
    assert "The machine reaches 100 GFLOP/s" in said
    assert "takes the most of the step: " in said
    assert "Recomputing takes 0.0" in said
    assert said.endswith("% of the step.")


def test_top_and_no_blocks() -> None:
    text = printed(MODEL, "--top", 2, "--no-blocks")
    table = text.splitlines()[4:]
    assert [line.split("  ")[0] for line in table[2:4]] == ["4 more", "outside kernels"]
    assert text.endswith("Nothing is recomputed.\n")
    assert "checkpoint block" not in text


def test_json_is_the_document_of_the_file(folder: Path) -> None:
    found = document(MODEL, "--threads", 2, "-o", "profile.json")
    assert json.loads((folder / "profile.json").read_text()) == found
    assert (found["command"], found["model"]) == ("profile", MODEL)
    assert (found["mode"], found["rounds"], found["warnings"]) == ("train", 1, [])
    assert (found["batch_size"], found["machine"]["threads"]) == (4, 2)
    assert found["machine_one_thread"]["threads"] == 1
    assert found["recompute_share"] > 0
    kernels = sum(kernel["seconds"] for kernel in found["kernels"])
    assert kernels + found["outside_seconds"] == pytest.approx(found["seconds"])
    assert {call["phase"] for call in found["calls"]} >= {"forward", "recompute"}
    assert document(MODEL, "--no-blocks")["recompute_share"] == 0


def test_files_of_the_model_stay(folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    text = printed(MODEL, "--trace", "trace.json")
    trace = folder / "trace.json"
    assert "the trace is in trace.json; ui.perfetto.dev opens it" in text
    events = json.loads(trace.read_text())["traceEvents"]
    assert "blas.matmul" in {e["name"] for e in events if e.get("cat") == "kernel"}
    trace.unlink()
    assert before == {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_a_prediction_and_a_budget_are_profiled() -> None:
    found = document(MODEL, "--inference", "--batch-size", 1)
    assert (found["mode"], found["batch_size"]) == ("inference", 1)
    assert [phase["name"] for phase in found["phases"]] == ["forward"]
    assert document(MODEL, "--no-blocks", "--budget", "100%")["recompute_share"] == 0


def test_data_are_run(folder: Path) -> None:
    np.savez(folder / "d.npz", x=np.zeros((3, 6), np.float32), y=np.array([0, 1, 2]))
    assert document(MODEL, "--data", "d.npz")["batch_size"] == 4
    np.savez(folder / "w.npz", x=np.zeros((3, 7), np.float32), y=np.array([0, 1, 2]))
    assert "w.npz" in refused(MODEL, "--data", "w.npz")


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "0 is not in the range" in refused(MODEL, "--rounds", 0)
    assert "'nothing' is no model" in refused("nothing")
    assert "'layer', 'phase', 'kernel'" in refused(MODEL, "--by", "layers")
    assert "no folder gone" in refused(MODEL, "--trace", "gone/t.json")
    assert "a table is read so" in refused(MODEL, "--no-header")
    monkeypatch.setattr("arena_ckpt.engine.arena.available_bytes", lambda: 100)
    assert "profiling needs" in refused(MODEL, code=1)
