"""What commands print in narrow terminals, and where standard output takes no more."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers.terminal import ROOT, arena_ckpt, run_in_terminal


def test_words_of_tables_stay_whole_in_40_columns() -> None:
    seen = run_in_terminal(arena_ckpt("summary", "digits_mlp"), columns=40)
    assert seen.status == 0
    text = "\n".join(seen.lines)
    assert "fc1: type fully_connected; output\n  1:1:64; parameters 4,160;" in text
    assert text.count("type fully_connected") == 7
    assert all(len(line) <= 40 for line in seen.lines)


def test_a_table_that_fits_stays_a_table() -> None:
    seen = run_in_terminal(arena_ckpt("summary", "digits_mlp"), columns=80)
    assert seen.lines[0].split() == (
        "layer type output parameters activations weights block".split()
    )


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (("boards",), 40),
        (("boards", "rp2350"), 40),
        (("plan", "digits_mlp"), 40),
        (("plan", "digits_mlp", "--brief"), 60),
        (("plan", "nine_layer_mlp", "--pareto"), 40),
    ],
)
def test_lines_are_broken_between_words(
    arguments: tuple[str, ...], columns: int
) -> None:
    narrow = run_in_terminal(arena_ckpt(*arguments), columns=columns)
    wide = run_in_terminal(arena_ckpt(*arguments), columns=400)
    assert narrow.status == 0
    assert words_of(narrow.lines) <= words_of(wide.lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "digits_mlp", "--budget", "3KiB"),
        ("plan", "digits_mlp", "--board", "no_such_board"),
        ("train", "digits_mlp", "--no-such-option"),
    ],
)
def test_errors_are_broken_between_words(arguments: tuple[str, ...]) -> None:
    narrow = run_in_terminal(arena_ckpt(*arguments), columns=50)
    wide = run_in_terminal(arena_ckpt(*arguments), columns=2000)
    assert narrow.status == 2 - ("3KiB" in arguments)
    assert words_of(narrow.lines) == words_of(wide.lines)
    assert max(map(len, narrow.lines)) <= 50


def words_of(lines: list[str]) -> set[str]:
    """Return the words of lines, without addresses, which no terminal can break."""
    words = {word.strip(":;─") for line in lines for word in line.split()}
    return {word for word in words if "/" not in word}


def test_in_a_pipe_the_first_line_is_whole() -> None:
    done = subprocess.run(
        arena_ckpt("plan", "digits_mlp", "--brief"),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.splitlines()[0].endswith("checkpoint block third (fc5 act5)")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "arguments", [("boards",), ("summary", "digits_mlp", "--json"), ("--help",)]
)
def test_a_full_disk_is_one_message(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            arena_ckpt(*arguments), stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output cannot be written: No space left on device; "
        "make room there\n"
    )


def test_a_closed_output_is_no_error() -> None:
    command = " ".join(arena_ckpt("boards"))
    done = subprocess.run(
        ["sh", "-c", f"{command} >&-"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
