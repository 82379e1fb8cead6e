"""The pages of the documentation, and how one is run as a reader would run it.

From top to bottom, in one folder that is empty at first:

- ``python`` blocks share their names; ``sh`` blocks are commands.
- A block with a file name behind its language (``python net.py``) is written to it.
- A ``text`` block is what the block before it prints; ``...`` stands for anything. If
  it begins with an error (``BudgetError: ``, ``error: ``), the block has to fail so.
- ``<!-- not run: WHY -->`` above a block leaves it out, and ``<!-- needs: PROGRAM -->``
  where there is no such program. Both are skips that the tests report.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from click.testing import CliRunner

from arena_ckpt.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|needs): (?P<what>.*?) -->\n+)?"
    r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<code>.*?)^```$"
    r"(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
_ERROR = re.compile(r"(\w*Error|error): ")
_SHELL_SIGNS = set("|<>&;$`*")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    file: str | None
    code: str
    output: str | None
    """What it prints, where the page says so."""
    why_not: str | None
    """Why it is left out."""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def read_page(page: Path) -> list[Block]:
    """Return the blocks of a page that can be run or written."""
    text = page.read_text("utf-8")
    blocks = []
    for match in _BLOCK.finditer(text):
        why_not = match["what"]
        if match["mark"] == "needs":
            why_not = None if shutil.which(why_not) else f"needs {why_not}"
        line = text.count("\n", 0, match.start("code")) + 1
        block = Block(
            page,
            line,
            match["language"],
            match["file"],
            match["code"],
            match["output"],
            why_not,
        )
        blocks.append(block)
    return blocks


def run_page(page: Path) -> None:
    """Run a page in the working directory."""
    names: dict[str, object] = {"__name__": page.stem}
    for block in read_page(page):
        if block.why_not:
            continue
        if block.file:
            Path(block.file).write_text(block.code, "utf-8")
        elif block.language == "python":
            _compare(block, _run_python(block, names))
        else:
            assert block.language == "sh", f"{block}: nothing runs {block.language}"
            _compare(block, _run_shell(block))


def _fails(block: Block) -> bool:
    return bool(block.output and _ERROR.match(block.output))


def _compare(block: Block, printed: str) -> None:
    if block.output is None:
        return
    checker = doctest.OutputChecker()
    wanted, got = (
        "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())
        for text in (block.output, printed)
    )
    flags = doctest.ELLIPSIS | doctest.REPORT_NDIFF | doctest.DONT_ACCEPT_BLANKLINE
    if not checker.check_output(wanted, got, flags):
        example = doctest.Example(block.code, wanted)
        raise AssertionError(
            f"{block}: {checker.output_difference(example, got, flags)}"
        )


def _run_python(block: Block, names: dict[str, object]) -> str:
    code = compile("\n" * (block.line - 1) + block.code, block.page, "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(code, names)
        except Exception as error:
            if not _fails(block):
                raise
            return f"{printed.getvalue()}{type(error).__name__}: {error}"
    assert not _fails(block), f"{block}: no error"
    return printed.getvalue()


def _run_shell(block: Block) -> str:
    printed, failed = "", False
    lines = block.code.replace("\\\n", " ").splitlines()
    for is_ours, group in groupby(lines, _is_plain_command):
        assert not failed, f"{block}: a command before the last one failed"
        for command in group if is_ours else ["\n".join(group)]:
            output, code = _run_ours(command) if is_ours else _run_bash(command)
            printed, failed = printed + output, code != 0
            assert not failed or _fails(block), f"{block}: {command}\n{printed}"
    assert failed == _fails(block), f"{block}: no error\n{printed}"
    return printed


def _is_plain_command(line: str) -> bool:
    """Tell whether a line needs no shell: those run in this process, for speed."""
    return line.startswith("arena-ckpt ") and not _SHELL_SIGNS & set(line)


def _run_ours(command: str) -> tuple[str, int]:
    result = CliRunner().invoke(main, shlex.split(command, comments=True)[1:])
    return result.output, result.exit_code


def _run_bash(commands: str) -> tuple[str, int]:
    of_pytest = ("PYTEST", "COV")
    env = {k: v for k, v in os.environ.items() if not k.startswith(of_pytest)}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    env["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout, done.returncode
