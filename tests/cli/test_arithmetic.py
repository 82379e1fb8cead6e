"""The arithmetic on the command line, and the one that boards take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from arena_ckpt.cli import main


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code in (0, 1), result.output
    return result.stdout


def document(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json"))
    return found


SMALL = ("plan", "digits_cnn", "--batch-size", "4")


def test_a_plan_says_its_arithmetic() -> None:
    assert document(*SMALL)["arithmetic"] == "fast"
    assert "arithmetic" not in run(*SMALL, "--brief")
    assert document(*SMALL, "--arithmetic", "portable")["arithmetic"] == "portable"
    said = run(*SMALL, "--arithmetic", "portable", "--brief")
    assert "portable arithmetic" in said
    assert "--board" not in said


def test_a_board_takes_the_portable_one_and_says_so() -> None:
    assert document(*SMALL, "--board", "rp2350")["arithmetic"] == "portable"
    assert "portable arithmetic, as --board asks" in run(*SMALL, "--board", "rp2350")
    given = (*SMALL, "--board", "rp2350", "--arithmetic", "fast")
    assert document(*given)["arithmetic"] == "fast"


def test_a_board_keeps_what_a_model_says(tmp_path: Path) -> None:
    path = tmp_path / "model.ini"
    path.write_text(
        "[Model]\nbatch_size = 4\narithmetic = fast\nloss = mse\n"
        "[in]\ntype = input\ninput_shape = 1:8:8\n"
        "[conv]\ntype = conv2d\nfilters = 3\nkernel_size = 3,3\n",
        "utf-8",
    )
    found = document("plan", str(path), "--board", "rp2350")
    assert found["arithmetic"] == "fast"
    assert "portable" not in run("plan", str(path), "--board", "rp2350", "--brief")


def test_other_commands_take_it(tmp_path: Path) -> None:
    smaller = tmp_path / "portable.json"
    larger = tmp_path / "fast.json"
    for path, name in ((smaller, "portable"), (larger, "fast")):
        command = ("export", *SMALL[1:], "--to", "json", "--arithmetic", name)
        run(*command, "-o", str(path))
    workspaces = [
        "forward_pictures" in path.read_text("utf-8") for path in (smaller, larger)
    ]
    assert workspaces == [False, True]
