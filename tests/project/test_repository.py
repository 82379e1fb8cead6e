"""How the files of the repository lie together: tests, tools, and what they cite."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXTS = {".py", ".pyi", ".md", ".toml", ".sh", ".js", ".css", ".html", ".ini", ".json"}
FOLDERS = ("arena_ckpt", "tests", "tools", "docs", ".ci")
NOT_HERE = re.compile("DES" + "IGN")
"""A document that a clone does not hold."""

LOAD_ALL = """
import importlib.util, sys, traceback
for number, path in enumerate(sys.argv[1:]):
    sys.path.insert(0, path.rpartition("/")[0])  # where a program finds its neighbours
    spec = importlib.util.spec_from_file_location(f"tool_{number}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception:
        print(path, traceback.format_exc(), sep="\\n")
"""


def test_tests_share_through_helpers_only() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert settings["tool"]["pytest"]["ini_options"]["pythonpath"] == ["tests"]
    imports = re.compile(r"\b(?:from|import) +(?:\w+\.)*test_\w+")
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
        for match in imports.finditer(path.read_text("utf-8"))
    }
    assert not found, "move what they share to tests/helpers/"


def test_no_file_cites_a_document_that_a_clone_does_not_hold() -> None:
    files = [*ROOT.glob("*"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*"))]
    texts = [p for p in files if p.suffix in TEXTS]
    assert len(texts) > 300
    assert [p for p in texts if NOT_HERE.search(p.read_text("utf-8"))] == []


NEEDS = {"twins_jax.py": "jax"}
"""Tools that are for who has installed a library that no extra names."""


def test_every_tool_finds_what_it_imports() -> None:
    paths = sorted((ROOT / "tools").rglob("*.py"))
    tools = [
        str(path)
        for path in paths
        if path.name not in NEEDS or importlib.util.find_spec(NEEDS[path.name])
    ]
    assert len(tools) > 15
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL, *tools],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
