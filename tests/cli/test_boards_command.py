"""The command boards, and training for a board."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import run

import arena_ckpt as ac
from arena_ckpt.boards import board_names
from arena_ckpt.cli.commands.boards import EXAMPLE
from arena_ckpt.common.units import format_bytes


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def json_of(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


# -- boards ----------------------------------------------------------------------------


def test_every_board_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    lines = run("boards").stdout.splitlines()
    for name in board_names():
        board = ac.load_board(name)
        line = next(line for line in lines if line.startswith(f"{name} "))
        size = board.arena_ram.size_bytes
        unit, letters = (2**20, "MiB") if size >= 2**20 else (2**10, "KiB")
        assert f" {size // unit} {letters} " in line
        assert board.core in line
        assert board.title in line
        assert board.core, "each bundled board says what runs on it"
    esp32 = next(line for line in lines if line.startswith("esp32s3_psram "))
    assert " 8 MiB; 32, 64, 8, 8 KiB " in esp32


def test_names_stay_whole_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("boards").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    starts = {line.split(" ")[0] for line in lines}
    assert starts.issuperset(board_names())


def test_a_board_is_shown_with_its_memories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    out = run("boards", "stm32h743").stdout
    rows = [line.split() for line in out.splitlines()]
    dtcm = next(row for row in rows if row[:1] == ["DTCM"])
    assert dtcm[1:9] == ["128", "KiB", "0x20000000", "16", "KiB", "112", "KiB", "1"]
    flash = next(row for row in rows if row[:1] == ["flash"])
    assert flash[1:8] == ["2", "MiB", "0x08000000", "128", "KiB", "1.875", "MiB"]
    board = ac.load_board("stm32h743")
    flowing = " ".join(out.split())
    assert f"Reserved: {board.reservations}." in flowing
    assert f"Source: {board.source}." in flowing
    assert out.splitlines()[-1] == board.url


def test_boards_as_json() -> None:
    everything = json_of("boards")
    assert [board["name"] for board in everything["boards"]] == list(board_names())
    [one] = json_of("boards", "imxrt1062")["boards"]
    assert one == next(b for b in everything["boards"] if b["name"] == "imxrt1062")
    board = ac.load_board("imxrt1062")
    assert one["core"] == board.core
    for found, ram in zip(one["ram"], board.ram, strict=True):
        assert found["size_bytes"] == ram.size_bytes
        assert found["free_bytes"] == board.free_bytes(ram.name)
        assert found["address"] == ram.address
    assert one["flash_bytes"] == board.flash_bytes


def test_the_help_has_a_board_that_can_be_read(folder: Path) -> None:
    out = run("boards", "--help").stdout
    assert max(map(len, out.splitlines())) <= 88
    start = out.index("    [my_board]\n")
    stop = out.index("  Of the board:")
    shown = textwrap.dedent(out[start:stop]).strip()
    assert shown == EXAMPLE.strip()
    (folder / "my_board.toml").write_text(shown)
    [board] = json_of("boards", "my_board.toml")["boards"]
    assert board["name"] == "my_board"
    assert [ram["name"] for ram in board["ram"]] == ["SRAM", "DTCM"]
    assert board["ram"][1]["reserved_bytes"] == 4096
    fit = json_of(
        *("plan", "digits_mlp", "--batch-size", 4, "--board", "my_board.toml")
    )["board"]
    assert fit["name"] == "my_board"


def test_the_help_names_every_key() -> None:
    from arena_ckpt.boards import board_files

    out = run("boards", "--help").stdout.partition("Of the board:")[2]
    names = (*board_files._SIZES, *board_files._TEXTS, *board_files._RAM_KEYS)
    for key in (*names, "flash_address"):
        assert key in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rp2351", "there is no board 'rp2351' (did you mean 'rp2350'?)"),
        ("no.toml", "there is no file no.toml; 'arena-ckpt boards --help' shows"),
        ("bad.toml", "bad.toml, [b] has no [[b.ram]]; give at least one"),
    ],
)
def test_what_is_no_board_is_told(name: str, message: str, folder: Path) -> None:
    (folder / "bad.toml").write_text("[b]\ntitle = 'B'\n")
    result = run("boards", name)
    assert result.exit_code == 2
    assert message in result.stderr


# -- train --board ---------------------------------------------------------------------


def test_train_for_a_board_says_that_it_fits() -> None:
    arguments = ("digits_mlp", "--batch-size", 8, "--board", "rp2350")
    trained = run("train", *arguments, "--epochs", 1)
    assert trained.exit_code == 0
    assert "portable arithmetic, as --board asks for" in trained.stdout
    planned = run("plan", *arguments, "--brief").stdout
    verdict = planned[planned.index("The plan fits on RP2350") :].strip()
    assert verdict in trained.stdout
    assert trained.stdout.index(verdict) < trained.stdout.index("epoch 1/1")


def test_train_for_a_board_agrees_with_plan_for_it() -> None:
    arguments = ("digits_mlp", "--batch-size", 8, "--board", "rp2350")
    trained = json_of("train", *arguments, "--epochs", 1)
    planned = json_of("plan", *arguments)
    assert trained["board"] == planned["board"]
    assert trained["plan"] == planned["plan"]


def test_train_recomputes_until_it_fits() -> None:
    arguments = ("digits_cnn", "--batch-size", 16, "--board", "stm32h743")
    assert not run("plan", *arguments, "--brief").exit_code == 0
    found = json_of("train", *arguments, "--epochs", 1)
    board = ac.load_board("stm32h743")
    assert found["board"]["fits"]
    assert found["plan"]["arena_bytes"] <= board.free_bytes(board.arena_ram.name)


def test_train_takes_several_rams_of_a_board() -> None:
    found = json_of(
        *("train", "digits_cnn", "--batch-size", 16, "--board", "esp32s3_psram"),
        *("--memories", "board", "--epochs", 1),
    )
    assert found["board"]["fits"]
    assert [m["name"] for m in found["board"]["memories"]] == ["SRAM 1", "PSRAM"]


def test_the_largest_batch_of_a_board_is_trained() -> None:
    found = json_of(
        *("train", "digits_mlp", "--batch-size", "auto", "--board", "rp2350"),
        *("--epochs", 1),
    )
    assert found["board"]["fits"]
    assert found["plan"]["batch_size"] == found["batch_size_choice"]["batch_size"]


@pytest.mark.parametrize("extra", [(), ("--budget", "1MiB"), ("--max-overhead", "5%")])
def test_what_does_not_fit_is_not_trained(extra: tuple[str, ...], folder: Path) -> None:
    result = run(
        *("train", "digits_mlp", "--board", "rp2040", *extra),
        *("--save", "m.safetensors"),
    )
    assert result.exit_code == 1
    assert result.stdout == ""
    board = ac.load_board("rp2040")
    assert f"error: The plan does not fit on {board.title}. RAM: " in result.stderr
    assert "are missing" in result.stderr
    assert "Nothing was trained" in result.stderr
    assert not (folder / "m.safetensors").exists()
    if not extra:
        free = format_bytes(board.free_bytes("SRAM"))
        assert f"Recomputing is not enough: no plan fits in {free}" in result.stderr


def test_a_failure_to_fit_is_json_too() -> None:
    result = run("train", "digits_mlp", "--board", "rp2040", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["type"] == "BoardFitError"
