"""What is installed: bounds in pyproject.toml, and the locks that keep to them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "tools" / "lock"
PYTHONS = ("3.11", "3.12", "3.13")
LOCKED = {
    "core": ("build", "core"),
    "ci": ("build", "core", "png", "board", "onnx", "test", "lint"),
    "lowest": ("core",),
    "docs": ("docs",),
    "judges": (),
    "torch": (),
    "torch-cpu": (),
}
"""The groups of pyproject.toml that each lock holds whole."""


def groups() -> dict[str, list[Requirement]]:
    """Return what pyproject.toml asks for, by extra; the build and the core as well."""
    said: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = {
        "build": said["build-system"]["requires"],
        "core": said["project"]["dependencies"],
        **said["project"]["optional-dependencies"],
    }
    return {name: [Requirement(line) for line in lines[name]] for name in lines}


def locked(name: str) -> list[tuple[Requirement, list[str]]]:
    """Return the entries of a lock, each with its hashes."""
    text = (LOCKS / f"{name}.txt").read_text().replace("\\\n", " ")
    entries = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            said, *hashes = re.split(r"\s+--hash=", line.strip())
            entries.append((Requirement(said), hashes))
    return entries


def versions(name: str, python: str) -> dict[str, str]:
    """Return what a lock installs on Linux for a Python, exactly one version each."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found: dict[str, str] = {}
    for requirement, _ in locked(name):
        if requirement.marker and not requirement.marker.evaluate(environment):
            continue
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement
        key = canonicalize_name(requirement.name)
        assert key not in found, f"{key} twice for Python {python}"
        found[key] = pin.version
    return found


def bounds(specifier: SpecifierSet) -> set[str]:
    return {part.operator for part in specifier}


@pytest.mark.parametrize("group", groups())
def test_every_dependency_has_a_lower_and_an_upper_bound(group: str) -> None:
    loose = [
        str(wanted)
        for wanted in groups()[group]
        if bounds(wanted.specifier) not in ({">=", "<"}, {"=="})
    ]
    assert loose == [], "write >=OLDEST,<NEXT, both tested"


@pytest.mark.parametrize("name", LOCKED)
def test_every_locked_file_has_hashes_and_no_host_is_named(name: str) -> None:
    entries = locked(name)
    assert entries
    for requirement, hashes in entries:
        assert requirement.url is None, requirement
        assert hashes, f"{requirement} has no hash"
        for one in hashes:
            assert re.fullmatch("sha256:[0-9a-f]{64}", one), (requirement, one)
    text = (LOCKS / f"{name}.txt").read_text()
    assert not re.search(r"://|index-url|find-links|trusted-host", text)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKED)
def test_what_is_locked_lies_within_the_bounds(name: str, python: str) -> None:
    """bash tools/lock.sh makes it so, after a bound was changed."""
    found, wanted = versions(name, python), groups()
    for group in LOCKED[name]:
        for requirement in wanted[group]:
            assert canonicalize_name(requirement.name) in found, requirement
    for requirement in (r for group in wanted.values() for r in group):
        version = found.get(canonicalize_name(requirement.name))
        if version is not None:
            assert requirement.specifier.contains(version), (requirement, version)


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_that_are_installed_together_agree(python: str) -> None:
    ci = versions("ci", python)
    for name in LOCKED.keys() - {"lowest"}:  # which has an environment of its own
        for package, version in versions(name, python).items():
            assert ci.get(package, version) == version, (name, package)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_oldest_numba_that_is_allowed_is_the_one_that_is_locked(
    python: str,
) -> None:
    (numba,) = (wanted for wanted in groups()["core"] if wanted.name == "numba")
    (oldest,) = (part.version for part in numba.specifier if part.operator == ">=")
    found = Version(versions("lowest", python)["numba"])
    assert found.release[:2] == Version(oldest).release
    text = (ROOT / "tools" / "test.sh").read_text()
    assert "install_locked lowest" in text
    assert "tests/kernels/test_kernels_recurrent.py" in text


def test_every_extra_that_the_tests_use_is_in_a_lock() -> None:
    wanted = groups()
    names = {canonicalize_name(requirement.name) for requirement in wanted["judge"]}
    in_locks = {
        package for name in ("judges", "torch") for package in versions(name, "3.11")
    }
    assert names <= in_locks
    assert (
        versions("torch-cpu", "3.11")["torch"].partition("+")[0]
        == (versions("torch", "3.11")["torch"])
    )


def test_the_scripts_install_nothing_that_is_not_locked() -> None:
    for script in ("setup_env.sh", "test.sh", "demo.sh"):
        text = (ROOT / "tools" / script).read_text()
        for line in text.splitlines():
            if re.search(r"\bpip\b.*\binstall\b", line) and not line.startswith("#"):
                assert line.startswith("install() {"), f"{script}: {line}"


# -- the wheel -------------------------------------------------------------------------


BUILD = """
import sys
import tarfile
sys.path.insert(0, "tools")
import build_backend
build_backend.build_wheel("../wheels")
print(build_backend.build_sdist("../wheels"))
"""


def test_a_wheel_holds_no_module_that_was_moved(tmp_path: Path) -> None:
    """What an earlier build left in ``build/`` stays out; all else comes in."""
    checkout, wheels = tmp_path / "checkout", tmp_path / "wheels"
    wheels.mkdir()
    shutil.copytree(
        ROOT / "arena_ckpt",
        checkout / "arena_ckpt",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    (checkout / "tools").mkdir()
    shutil.copy(ROOT / "tools/build_backend.py", checkout / "tools")
    old = checkout / "build" / "lib" / "arena_ckpt" / "old_place"
    old.mkdir(parents=True)
    (old / "__init__.py").write_text("")
    (old / "moved.py").write_text("HERE = 'no longer'\n")
    code = BUILD
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    (wheel,) = wheels.glob("arena_ckpt-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = checkout / "arena_ckpt"
    there = {
        path.relative_to(checkout).as_posix()
        for path in package.rglob("*")
        if path.is_file()
    }
    assert packed == there
    (source,) = wheels.glob("arena_ckpt-*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "tools/build_backend.py", "arena_ckpt/model.py"} <= names


# -- the audit, with a stand-in for pip-audit ------------------------------------------

STAND_IN = """#!/bin/sh
case "$2" in
venv)
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\n' >"$3/bin/pip"
    printf '#!/bin/sh\\n%s\\n' "$AUDIT" >"$3/bin/pip-audit"
    chmod +x "$3/bin/pip" "$3/bin/pip-audit" ;;
*) exec "$REAL_PYTHON" "$@" ;;
esac
"""
CLEAN = {"name": "a", "version": "1", "vulns": []}
KNOWN = {**CLEAN, "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([CLEAN], 0, "1 packages, 0 known vulnerabilities"),
        ([CLEAN, KNOWN], 1, "a 1: CVE-1, fixed in 2"),
        ([CLEAN, SKIPPED], 2, "NOT AUDITED: tools/lock/core.txt: 1 of 2 packages"),
        ([KNOWN, SKIPPED], 2, "NOT AUDITED: tools/lock/core.txt: 1 of 2 packages"),
        ([], 2, "NOT AUDITED: tools/lock/core.txt: 0 of 0 packages"),
        (None, 2, "NOT AUDITED: tools/lock/core.txt: nobody answered"),
    ],
)
def test_the_audit_says_what_it_could_not_ask(
    packages: list[Any] | None, code: int, said: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    answer = tmp_path / "answer.json"
    answer.write_text(
        "" if packages is None else json.dumps({"dependencies": packages})
    )
    process = subprocess.run(
        ["bash", str(ROOT / "tools" / "audit.sh")],
        env={
            **os.environ,
            "PYTHON": str(python),
            "REAL_PYTHON": sys.executable,
            "AUDIT": f"cat '{answer}'",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (code, "")
    assert said in process.stdout
