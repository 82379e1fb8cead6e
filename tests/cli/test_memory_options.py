"""Options that say where buffers may lie, and budgets and RAMs of boards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.command_line import run

from arena_ckpt import MemoryPlan, load_board
from arena_ckpt.boards import board_names
from arena_ckpt.common.units import format_bytes

MODEL = """
import arena_ckpt as ac

def build():
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:16")
    model.add_layer("fully_connected", name="fc1", unit=64, trainable=False)
    model.add_layer("activation", name="act", activation="gelu")
    model.add_layer("fully_connected", name="fc2", unit=64)
    model.add_layer("activation", name="act2", activation="gelu")
    model.add_layer("fully_connected", name="out", unit=4)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=16)
    return model
"""
CONSTANTS = 16 * 64 * 4 + 64 * 4


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(MODEL)
    return f"{tmp_path / 'net.py'}:build"


def planned(*arguments: object) -> MemoryPlan:
    """Return the plan that the command writes."""
    target = Path(str(arguments[1]).partition(":")[0]).parent / "plan.json"
    result = run(*arguments, "-o", target)
    assert result.exit_code == 0, result.output
    return MemoryPlan.from_json(target.read_text())


def test_constants_in_flash_or_in_the_arena(model: str) -> None:
    apart = planned("plan", model)
    whole = planned("plan", model, "--constants", "arena")
    assert apart.constant_bytes == CONSTANTS
    assert whole.arena_bytes == apart.arena_bytes + CONSTANTS
    assert run("plan", model, "--constants", "rom").exit_code == 2


def test_rams_and_pins(model: str) -> None:
    plan = planned(
        *("plan", model, "--memories", "fast = 8KiB, slow=64KiB"),
        *("--pin", "fc2:weight=slow@640", "--pin", "*:bias=fast"),
    )
    assert {
        name: m.size_bytes for name, m in plan.memories.items() if m.size_bytes
    } == {
        "fast": 8192,
        "slow": 65536,
    }
    places = {b.tensor: (b.memory, b.offset_bytes) for b in plan.buffers}
    assert places["fc2:weight"] == ("slow", 640)
    assert places["fc2:bias"][0] == places["out:bias"][0] == "fast"
    assert places["fc1:bias"][0] == "fast"  # a constant that is pinned


def test_the_rams_of_a_board(model: str) -> None:
    portable = ("--arithmetic", "portable")  # as plans for a board are
    by_name = planned("plan", model, "--memories", "stm32h743", *portable)
    of_board = planned("plan", model, "--board", "stm32h743", "--memories", "board")
    assert by_name == of_board
    assert list(by_name.memories)[:2] == ["DTCM", "AXI SRAM"]


def test_budgets_of_boards_and_of_rams(model: str, tmp_path: Path) -> None:
    small = tmp_path / "small.toml"
    size = planned("plan", model).arena_bytes

    def budget_of(size: int) -> Path:
        ram = f'[[small.ram]]\nname = "RAM"\nsize = {size}\nrole = "arena"\n'
        small.write_text(f"[small]\n{ram}")
        return small

    for more in ([], ["--board", small]):
        budget = "board" if more else small
        budget_of(size)
        plan = planned("plan", model, "--budget", budget, *more)
        assert plan.arena_bytes == size
        budget_of(size - 64)
        refused = run("plan", model, "--budget", budget, *more)
        assert refused.exit_code == 1
        assert f"no plan fits in {format_bytes(size - 64)}" in refused.stderr
    plan = planned(
        *("plan", model, "--memories", "a=4KiB,b=64KiB", "--budget", "b=48KiB")
    )
    assert plan.rams[1].size_bytes == 48 * 1024


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--memories", "board"], "there is none; name it: --memories rp2350"),
        (["--budget", "board"], "there is none; name it: --budget rp2350"),
        (["--memories", "a=1KiB,a=2KiB"], "'a=2KiB' is no NAME=SIZE of its own"),
        (["--memories", "a=1KiB,b"], "'b' is no NAME=SIZE"),
        (["--budget", "a=1KiB,b"], "error: --budget: 'b' is no NAME=SIZE"),
        (["--memories", "rp2351"], "there is no board 'rp2351'"),
        (["--memories", "nosuch.toml"], "there is no file nosuch.toml"),
        (["--pin", "fc1:bias"], "is no TENSOR=RAM"),
        (["--pin", "fc1:bias=arena@x"], "is no TENSOR=RAM"),
        (["--pin", "fc1:bias=dtcm"], "cannot lie in 'dtcm'"),
        (["--budget", "sram=1KiB"], "the plan has no RAM 'sram'"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "verify"])
def test_what_cannot_be_is_refused(
    command: str, options: list[str], says: str, model: str
) -> None:
    result = run(command, model, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in " ".join(result.stderr.split())


def test_every_board_at_once(model: str) -> None:
    result = run("plan", model, "--board", "all", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["board"] is None
    rows = document["boards"]
    assert [row["name"] for row in rows] == list(board_names())
    plan = planned("plan", model)
    for row in rows:
        fit = load_board(row["name"]).check(plan)
        assert (row["way"] == "as planned") == fit.fits_ram
        assert row["constant_bytes"] == CONSTANTS
    table = run("plan", model, "--board", "all", "--brief").stdout
    assert all(f"\n{name} " in table for name in board_names())
    assert all(len(line.rstrip()) <= 80 for line in table.splitlines()[-12:])


def test_of_every_board_the_ways_to_fit() -> None:
    result = run("plan", "digits_cnn", "--batch-size", 16, "--board", "all", "--json")
    rows = {row["name"]: row for row in json.loads(result.stdout)["boards"]}
    assert rows["rp2350"]["way"] == "recomputing"
    assert 0 < rows["rp2350"]["overhead"] < 1
    assert rows["rp2350"]["arena_bytes"] <= rows["rp2350"]["available_bytes"]
    assert rows["esp32s3_psram"]["way"] == "several RAMs"
    assert rows["nrf52840"]["way"] is None
    assert not rows["nrf52840"]["fits"]
    assert rows["nrf52840"]["least_bytes"] > rows["nrf52840"]["available_bytes"]


def test_every_board_has_its_own_rams(model: str) -> None:
    result = run("plan", model, "--board", "all", "--memories", "a=1MiB")
    assert result.exit_code == 2
    assert "--board all takes the RAMs of each board" in result.stderr


def test_where_no_board_is_enough_the_exit_code_says_so() -> None:
    result = run("plan", "digits_mlp", "--batch-size", 400_000, "--board", "all")
    assert result.exit_code == 1
    assert "no: least" in result.stdout
