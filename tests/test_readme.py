"""What the README shows works as shown."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from arena_ckpt.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text("utf-8"), re.DOTALL)


PYTHON = [
    pytest.param(code, id=f"{path.name}-{i}")
    for path in PAGES
    if path.name != "own_layer.md"  # tests/test_own_layer.py runs that as a module
    for i, code in enumerate(blocks(path, "python"))
]
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for block in blocks(ROOT / "README.md", "sh")
        for line in block.splitlines()
        if line.startswith("arena-ckpt")
    }
)


@pytest.mark.parametrize("code", PYTHON)
def test_python_blocks_run(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    assert result.output


def test_the_first_commands_are_scripts_that_can_run() -> None:
    first = blocks(ROOT / "README.md", "sh")[0]
    scripts = re.findall(r"^(tools/\S+\.sh)", first, re.MULTILINE)
    assert scripts == ["tools/demo.sh", "tools/test.sh"]
    assert all((ROOT / script).stat().st_mode & 0o111 for script in scripts)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), (page.name, target)
