"""Faults on purpose: their lists fit the tree, and tools/mutants.py judges rightly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.modules import load_module

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "mutants.py"


def mutants(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_every_fault_fits_the_tree_and_names_tests_that_exist() -> None:
    done = mutants("--check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("faults in order\n")


# -- a project of one function, in which everything happens that can -------------------

SETTINGS = """\
[tool.pytest.ini_options]
addopts = "-p no:arena_ckpt.testing.plugin -p no:hypothesispytest -p no:xdist"
"""
"""Without plugins that would take longer to import than its tests to run."""

CODE = '''\
def clip(value, low, high):
    """Return the value, within bounds."""
    if value < low:
        return low
    return high if value > high else value
'''
TESTS = """\
import os

import pytest

from tiny.bounds import clip


@pytest.mark.parametrize("value", [1, 7])
def test_values_within_the_bounds_stay(value):
    assert clip(value, 0, 9) == value


def test_a_small_value_becomes_the_lower_bound():
    assert clip(-3, 0, 9) == 0


def test_nothing_of_it():
    assert True


@pytest.mark.skip(reason="the judge is not installed")
def test_that_skips():
    raise AssertionError


def test_that_fails_anyhow():
    assert clip(1, 0, 9) == 2
"""


def project(folder: Path, *faults: dict[str, object]) -> Path:
    """Write a package, its tests and a list of faults; a key of None is left out."""
    for name, text in {
        "tiny/__init__.py": "",
        "tiny/bounds.py": CODE,
        "tests/allocation/test_bounds.py": TESTS,
        "pyproject.toml": SETTINGS,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    lines = []
    for number, fault in enumerate(faults):
        whole = {
            "name": f"fault {number}",
            "file": "tiny/bounds.py",
            "tests": [
                "tests/allocation/test_bounds.py::test_values_within_the_bounds_stay"
            ],
            **fault,
        }
        lines.append("[[fault]]")
        lines += [f"{k} = {json.dumps(v)}" for k, v in whole.items() if v is not None]
    (folder / "tools" / "mutants").mkdir(parents=True)
    (folder / "tools" / "mutants" / "bounds.toml").write_text("\n".join(lines))
    return folder


KILLED = {"old": "value > high", "new": "value < high"}


def run_project(folder: Path) -> tuple[int, dict[str, dict[str, str]], str]:
    """Return the exit code, the verdicts by the name of their fault, what was said."""
    done = mutants("--root", str(folder), "--json", "--jobs", "1")
    found = json.loads(done.stdout)["verdicts"] if done.stdout else []
    return done.returncode, {v["fault"]["name"]: v for v in found}, done.stderr


def test_faults_are_told_apart_by_what_becomes_of_them(tmp_path: Path) -> None:
    test = "tests/allocation/test_bounds.py::test_"
    folder = project(
        tmp_path,
        {**KILLED, "name": "killed"},
        {
            "name": "survived",
            "old": "value < low",
            "new": "value <= low",
            "tests": [f"{test}nothing_of_it"],
        },
        {
            "name": "explained",
            "old": "value < low",
            "new": "value <= low",
            "survives": "the bound itself is returned either way",
        },
        {"name": "skipped", **KILLED, "tests": [f"{test}that_skips"]},
        {"name": "failed before", **KILLED, "tests": [f"{test}that_fails_anyhow"]},
        {"name": "explained in vain", **KILLED, "survives": "nobody looks"},
        {"name": "no import", "old": "def clip", "new": "def cut"},
        {
            "name": "a signal",
            "old": "    if value < low:",
            "new": "    import os\n    os.abort()\n    if value < low:",
        },
    )
    before = (folder / "tiny" / "bounds.py").read_text()
    code, verdicts, _ = run_project(folder)

    assert code == 1
    assert {name: verdict["word"] for name, verdict in verdicts.items()} == {
        "killed": "killed",
        "survived": "survived",
        "explained": "explained",
        "skipped": "skipped",
        "failed before": "broken",
        "explained in vain": "broken",
        "no import": "broken",
        "a signal": "killed",
    }
    assert verdicts["killed"]["detail"].endswith("_stay[1]")
    assert verdicts["failed before"]["detail"] == (
        f"fails without the fault: {test}that_fails_anyhow"
    )
    assert verdicts["a signal"]["detail"] == "died of signal 6"
    assert "pytest ended with" in verdicts["no import"]["detail"]
    assert (folder / "tiny" / "bounds.py").read_text() == before


def test_a_list_of_killed_faults_is_right_one_survivor_is_not(tmp_path: Path) -> None:
    alive = {"old": "value < low", "new": "value <= low"}
    faults = [{**KILLED, "name": f"killed {number}"} for number in range(2)]
    code, verdicts, _ = run_project(project(tmp_path / "all", *faults))
    assert (code, {v["word"] for v in verdicts.values()}) == (0, {"killed"})
    code, _, _ = run_project(project(tmp_path / "most", *faults, alive))
    assert code == 1


def test_two_faults_of_one_size_in_one_file_do_not_meet_compiled_files(
    tmp_path: Path,
) -> None:
    small = [
        "tests/allocation/test_bounds.py::test_a_small_value_becomes_the_lower_bound"
    ]
    folder = project(
        tmp_path,
        {"old": "return low", "new": "return 222", "tests": small},
        {"old": "Return the", "new": "return the", "tests": small},
        {"old": "return low", "new": "return 333", "tests": small},
    )
    _, verdicts, _ = run_project(folder)
    words = [verdicts[f"fault {number}"]["word"] for number in range(3)]
    assert words == ["killed", "survived", "killed"]


def test_a_fault_without_end_is_killed_by_its_limit(tmp_path: Path) -> None:
    tool = load_module(TOOL)
    spin = {
        "old": "    if value < low:",
        "new": "    while True:\n        pass\n    if 0:",
    }
    folder = project(tmp_path / "project", spin)
    fault = tool.read_faults(folder)[0]
    copy = tool.Copy(folder, tmp_path / "copy")
    with copy.edited(fault):
        outcome = copy.run(fault.tests, "-x", seconds=4.0)
    assert outcome.code is None
    assert outcome.said == "outlasted 4 s"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"old": "value", "new": "v"}, "bounds.py holds the text to replace 5 times"),
        ({"old": "gone", "new": "v"}, "bounds.py holds the text to replace 0 times"),
        ({"old": "low:", "new": "low:"}, "bounds.py stays as it is"),
        ({"old": "low:", "new": "low"}, "bounds.py is no Python any more"),
        ({**KILLED, "file": "tiny/gone.py"}, "tiny/gone.py does not exist"),
        (
            {**KILLED, "tests": ["tests/allocation/test_bounds.py::test_x"]},
            "no test tests/",
        ),
        ({**KILLED, "tests": ["tests/test_gone.py"]}, "no test tests/test_gone.py"),
        ({**KILLED, "tests": []}, "'tests' has to list"),
        ({"old": "low:", "new": None}, "'new' has to be text"),
        ({**KILLED, "survives": " "}, "'survives' has to say why"),
        ({**KILLED, "olds": "low:"}, "unknown key olds"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_before_anything_runs(
    tmp_path: Path, fault: dict[str, object], said: str
) -> None:
    code, verdicts, words = run_project(project(tmp_path, fault))
    assert code == 1
    assert not verdicts
    assert "bounds.toml: fault 'fault 0'" in words
    assert said in words


def test_two_faults_of_one_name_are_refused(tmp_path: Path) -> None:
    same = {**KILLED, "name": "same"}
    code, _, words = run_project(project(tmp_path, same, same))
    assert (code, words) == (1, "bounds.toml: two faults are called 'same'\n")
