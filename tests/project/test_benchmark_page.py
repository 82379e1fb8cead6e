"""The page of benchmark results says what the benchmarks wrote.

No second is timed here: ``tools/bench/all.sh`` measures.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.modules import load_module

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "tools" / "bench"
SVG = "{http://www.w3.org/2000/svg}"


def tool(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a benchmark as a module; its neighbours are found as when it is run."""
    monkeypatch.syspath_prepend(BENCH)
    return load_module(BENCH / f"{name}.py")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder as the benchmarks leave it: a network, three contestants."""
    results = tool("results", monkeypatch)
    from interleaved import Figures

    def figures(*ms: float) -> Any:
        us = tuple(1000 * one for one in ms)
        return Figures(us[0], us[0], {"bytes": 2_500_000}, us, tuple(u / 2 for u in us))

    made = {"arena": figures(1, 2, 4), "eager": figures(2, 2.5, 16)}
    file = results.ResultsFile(
        tmp_path / "networks.json",
        "networks",
        rounds=3,
        left_out={"jax": "jax cannot be imported"},
    )
    for threads in (1, 2):
        row = {"case": "a|b <c> *d*", "threads": threads, "steps_in_a_round": 1}
        row["contestants"] = results.contestants(made | {"blocks": figures(20, 1, 40)})
        file.add(
            row | {"failed": {"compile": "no <g++> | here"} if threads > 1 else {}}
        )
    row = {"case": "small", "threads": 1, "contestants": results.contestants(made)}
    results.ResultsFile(tmp_path / "step_time.json", "step_time", rounds=3).add(row)
    timed = {"what": "plan", "of": "CPU time", "s": results.spread([0.25, 0.5, 4.0])}
    results.ResultsFile(tmp_path / "startup.json", "startup", rounds=3).add(timed)
    (tmp_path / "parts.txt").write_text("networks 0 500\nstartup 124 80\n", "utf-8")
    return tmp_path


def written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Return the page and the plot that are written for a folder."""
    page = folder / "page.md"
    monkeypatch.setattr(sys, "argv", ["page.py", str(folder), "--page", str(page)])
    tool("page", monkeypatch).main()
    return page.read_text("utf-8"), page.with_suffix(".svg").read_text("utf-8")


def test_the_page_states_ratios_of_rounds_with_quartiles(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _ = written(folder, monkeypatch)
    # 1/2, 2/2.5 and 4/16 of the rounds; the ratio of the medians would be 0.80
    ratio = "0.50 (0.38–0.65)"
    name = r"a\|b &lt;c&gt; \*d\*"
    assert f"| {name} | 1 | {ratio} | – | – | 2.50 (1.45–6.25) | {ratio} |" in page
    assert (
        f"| {name} | 2 | ours | 2.00 (1.50–3.00) | 1.00 (0.75–1.50) | 2.5 | 3 |" in page
    )
    assert (
        f"| small | 1 | 2.00 (1.50–3.00) | 2.50 (2.25–9.25) | {ratio} | {ratio}" in page
    )
    assert "| plan | 0.50 (0.38–2.25) | CPU time |" in page
    assert "![Wall time of a step over that of PyTorch eager](page.svg)" in page


def test_the_page_says_machine_versions_and_what_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _ = written(folder, monkeypatch)
    machine = json.loads((folder / "networks.json").read_text("utf-8"))["machine"]
    assert f"| cores | {machine['cores']} |" in page
    assert f"| numpy | {np.__version__} |" in page
    assert "| time in all | 9.7 min |" in page
    assert "JAX (jit) is left out: jax cannot be imported." in page
    assert r"**torch.compile could not run a\|b" in page
    assert r"no &lt;g++&gt; \| here**" in page
    assert "**`startup` took too long (exit status 124): its rows are not" in page
    assert "Portable arithmetic" not in page


def test_a_page_without_results_says_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts.txt").write_text("networks 1 3\n", "utf-8")
    page, plot = written(tmp_path, monkeypatch)
    assert "**`networks` failed (exit status 1)" in page
    ElementTree.fromstring(plot)


def test_the_plot_has_a_bar_and_a_spread_for_each_ratio(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plot = written(folder, monkeypatch)
    drawn = ElementTree.fromstring(plot)
    words = [text.text for text in drawn.iter(f"{SVG}text")]
    assert words.count("a|b <c> *d*") == 1
    assert words.count("0.50") == words.count("2.50") == 2  # by threads
    bars = [r for r in drawn.iter(f"{SVG}rect") if r.get("height") == "10"]
    widths = {float(bar.get("width", 0)) for bar in bars}
    assert len(bars) == 4
    assert max(widths) == pytest.approx(5 * min(widths))
    spreads = [p for p in drawn.iter(f"{SVG}path") if p.get("class") == "spread"]
    assert len(spreads) == 4
    width, height = (float(drawn.get(key, 0)) for key in ("width", "height"))
    for text in drawn.iter(f"{SVG}text"):
        assert 0 < float(text.get("x", 0)) < width
        assert 0 < float(text.get("y", 0)) < height


@pytest.mark.parametrize(
    ("n_parameters", "losses", "says"),
    [
        (12, [2.0, 1.0], None),
        (12, [2.0001, 1.001], None),
        (13, [2.0, 1.0], "trains 13 weights, the example 12"),
        (12, [2.001, 1.0], "a loss of 2.001 in step 1, the example 2"),
        (12, [2.0, 1.01], "a loss of 1.01 in step 2, the example 1"),
        (12, [float("nan"), 1.0], "a loss of nan in step 1"),
    ],
)
def test_a_twin_that_is_another_network_is_refused(
    n_parameters: int,
    losses: list[float],
    says: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twins = tool("twins", monkeypatch)
    weights = {"a:weight": np.zeros((3, 4)), "a_bn:moving_mean": np.zeros(4)}
    arrays = weights, np.zeros(1), np.zeros(1)
    reference = twins.Reference("net", *arrays, (2.0, 1.0), False, {}, 0.0, 0, 0)
    if says is None:
        twins.require_same("JAX", n_parameters, losses, reference)
        return
    with pytest.raises(twins.DifferentNetworkError, match=says):
        twins.require_same("JAX", n_parameters, losses, reference)


def test_without_an_environment_the_command_says_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "tools/bench/all.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(BENCH / "all.sh", script)
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "run tools/test.sh (with PyTorch) or tools/demo.sh" in done.stderr
    assert not (tmp_path / "build").exists()


FAILS = """#!/usr/bin/env bash
echo "$*"
case $1 in *page.py) echo made ;; *portable.py) exit 3 ;; esac
"""
"""Stands for Python: all parts end well but one."""


def test_a_part_that_fails_leaves_the_others_and_the_page(tmp_path: Path) -> None:
    script = tmp_path / "tools/bench/all.sh"
    python = tmp_path / ".venv/bin/python"
    for path in (script, python):
        path.parent.mkdir(parents=True)
    shutil.copy(BENCH / "all.sh", script)
    python.write_text(FAILS, "utf-8")
    python.chmod(0o755)
    command = [script, tmp_path / "page.md", "--case", "small"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ran = (tmp_path / "build/bench/parts.txt").read_text("utf-8").split("\n")
    assert [line.rpartition(" ")[0] for line in ran] == [
        *("networks 0", "step_time 0", "portable 3", "startup 0", ""),
    ]
    assert done.returncode == 1
    given = (tmp_path / "build/bench/networks.log").read_text("utf-8")
    assert given.startswith("tools/bench/networks.py --rounds 5 --case small --json")
    assert "FAILED with exit status 3" in done.stderr
    assert "made" in done.stdout
