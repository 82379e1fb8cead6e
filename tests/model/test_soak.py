"""The long runs of tools/soak.py, short: nothing grows, drifts or is left behind."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.modules import load_module

TOOL = Path(__file__).parents[2] / "tools" / "soak.py"


def soak(*arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, str(TOOL), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "WRONG" not in process.stdout
    return process.stdout


def test_many_steps_grow_nothing_and_end_with_the_same_bits_twice() -> None:
    report = soak("steps", "--steps", "1000", "--samples", "8")
    assert "same bits twice" in report
    assert "all losses are finite" in report
    assert report.endswith("nothing is wrong\n")


def test_models_of_changing_shapes_leave_nothing_behind() -> None:
    report = soak("changes", "--seed", "1", "--models", "13", "--different", "5")
    assert "those that came again were the same []" in report
    assert "every model and arena was freed []" in report
    assert "objects" in report
    assert report.endswith("nothing is wrong\n")


def test_growth_is_found(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.syspath_prepend(TOOL.parent)
    tool = load_module(TOOL)
    gc.freeze()  # else what other tests have loaded is searched at each look
    request.addfinalizer(gc.unfreeze)
    samples, findings, kept = tool.Samples(100), tool.Findings(), []
    for at in range(12):
        kept.append([[at] for _ in range(2000)])
        samples.take(at)
        samples.column("rss_bytes")[-1] = 2**20 * at
    findings.require_flat(samples, 2**20, "steps", 10)

    report = capsys.readouterr().out
    assert "WRONG  memory 0 -> 11,534,336 bytes over 11 steps: +1048576.000" in report
    assert any("objects" in what for what in findings.wrong)
    assert not any("files" in what for what in findings.wrong)
