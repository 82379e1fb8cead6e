"""Boards: the bundled table, files of one's own, and plans held against them."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from arena_ckpt import Model, load_board
from arena_ckpt.boards import board_names
from arena_ckpt.boards.board import Board, Ram
from arena_ckpt.cli import main
from arena_ckpt.errors import BoardError, BoardFileNotFoundError
from arena_ckpt.planning.plan import MemoryPlan

ROOT = Path(__file__).parents[2]
KIB = 1024
WANTED = {
    "stm32f746": (1024 * KIB, 320 * KIB),
    "stm32h743": (2048 * KIB, 512 * KIB),
    "nrf52840": (1024 * KIB, 256 * KIB),
    "nano_33_ble": (1024 * KIB, 256 * KIB),
    "esp32s3": (8192 * KIB, 416 * KIB),
    "esp32s3_psram": (8192 * KIB, 416 * KIB),
    "rp2040": (2048 * KIB, 264 * KIB),
    "rp2350": (4096 * KIB, 520 * KIB),
    "imxrt1062": (7936 * KIB, 512 * KIB),
    "pi_zero_2w": (None, 512 * KIB * KIB),
}


def small_plan(batch_size: int = 16) -> MemoryPlan:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:16")
    model.add_layer("fully_connected", name="fc", unit=16)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=batch_size)
    return model.make_plan()


PLAN = small_plan()
WEIGHTS = 16 * 16 * 4 + 16 * 4


def board(ram: int, flash: int | None = 4096, **values: Any) -> Board:
    return Board("b", "a board", (Ram("RAM", ram, True),), flash, **values)


# -- the table -------------------------------------------------------------------------


def test_the_table_has_the_boards_and_their_sizes() -> None:
    found = {
        name: (load_board(name).flash_bytes, load_board(name).arena_ram.size_bytes)
        for name in board_names()
    }
    assert found == WANTED


@pytest.mark.parametrize("name", WANTED)
def test_each_board_says_where_its_figures_come_from(name: str) -> None:
    one = load_board(name)
    assert one.url.startswith("https://")
    assert len(one.source) > 20
    assert len(one.reservations) > 20
    assert one.reserved_stack_bytes > 0
    assert all(ram.note for ram in one.ram)
    assert one.check(PLAN).fits


def test_memory_in_banks_is_not_added_up() -> None:
    chip = load_board("stm32h743")
    assert sum(ram.size_bytes for ram in chip.ram) == 1056 * KIB
    assert chip.arena_ram.name == "AXI SRAM"
    assert chip.reserved_ram_bytes == 0  # stack and heap are in DTCM
    assert chip.check(PLAN).available_bytes == 512 * KIB


# -- plans -----------------------------------------------------------------------------


def test_a_plan_that_just_fits() -> None:
    fit = board(
        PLAN.arena_bytes + 512, reserved_stack_bytes=256, reserved_heap_bytes=256
    ).check(PLAN)
    assert (fit.fits, fit.headroom_bytes) == (True, 0)
    assert fit.available_bytes == PLAN.arena_bytes
    text = "\n".join(fit.sentences())
    assert "The plan fits on a board." in text
    assert "stack and heap (512 B) in the same range: 0 B are left" in text


def test_a_plan_that_just_does_not_fit_says_what_would() -> None:
    fit = board(PLAN.arena_bytes + 511, reserved_stack_bytes=512).check(PLAN)
    assert (fit.fits, fit.headroom_bytes) == (False, -PLAN.alignment_bytes)
    assert fit.available_bytes == PLAN.arena_bytes - PLAN.alignment_bytes
    roomier = dataclasses.replace(fit, local_lower_bound_bytes=64)
    text = "\n".join(roomier.sentences())
    assert "does not fit" in text
    assert "64 B are missing" in text
    assert "at most" in text
    assert f"({fit.available_bytes:,} B) would fit" in text


def test_a_model_that_no_schedule_makes_fit_is_told_so() -> None:
    fit = board(1024).check(PLAN)
    assert "No schedule of this model fits" in "\n".join(fit.sentences())
    smaller = board(fit.local_lower_bound_bytes - 1).check(PLAN)
    assert "No schedule" in "\n".join(smaller.sentences())
    assert "No schedule" not in "\n".join(
        board(fit.local_lower_bound_bytes).check(PLAN).sentences()
    )


def test_flash_has_to_hold_the_initial_weights() -> None:
    fit = board(2**20, WEIGHTS + 100, reserved_flash_bytes=100).check(PLAN)
    assert (fit.weight_bytes, fit.flash_headroom_bytes, fit.fits) == (WEIGHTS, 0, True)
    full = board(2**20, WEIGHTS + 99, reserved_flash_bytes=100).check(PLAN)
    assert (full.fits_ram, full.fits_flash, full.fits) == (True, False, False)
    assert "1 B are missing; load them from elsewhere" in "\n".join(full.sentences())
    assert board(2**20, None).check(PLAN).flash_headroom_bytes is None
    text = board(2**20, None).check(PLAN).sentences()
    assert any("Storage is not checked" in sentence for sentence in text)


# -- files -----------------------------------------------------------------------------

GOOD = """\
[mine]
title = "My board"
flash = "512 KiB"
reserved_stack = 2048
reserved_heap = 0

[[mine.ram]]
name = "SRAM"
size = "64 KiB"
role = "arena"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text, "utf-8")
    return path


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    one = load_board(written(tmp_path, GOOD))
    assert (one.name, one.title, one.flash_bytes) == ("mine", "My board", 512 * KIB)
    assert one.ram == (Ram("SRAM", 64 * KIB, True),)
    assert (one.reserved_ram_bytes, one.reserved_flash_bytes) == (2048, 0)


@pytest.mark.parametrize("name", WANTED)
def test_an_entry_of_the_table_makes_a_file(name: str, tmp_path: Path) -> None:
    text = (ROOT / "arena_ckpt/boards/boards.toml").read_text("utf-8")
    entry = re.search(rf"^\[{name}\]\n.*?(?=^\[(?!\[)|\Z)", text, re.M | re.S)
    assert entry is not None
    assert load_board(written(tmp_path, entry[0])) == load_board(name)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[mine]", "[mine", "no TOML"),
        (GOOD, "", "0 boards (no [table])"),
        (GOOD, 'ram = "1"\n', "0 boards"),
        ("[mine]", '[yours]\ntitle = "x"\n[mine]', "2 boards (yours, mine)"),
        ("flash =", "flahs =", "unknown key 'flahs'"),
        ('"512 KiB"', '"512 KiBB"', "flash is '512 KiBB'"),
        ('"512 KiB"', "true", "flash is True"),
        ('"512 KiB"', "-5", "flash is -5"),
        ('"512 KiB"', "0", "flash is 0"),
        ('"512 KiB"', "1.5", "flash is 1.5"),
        ("2048", '"64 KiB"', "only has 65,536 B"),
        ('role = "arena"', 'role = "main"', "role is 'main'"),
        ('role = "arena"', 'role = "other"', "has 0 ranges"),
        ('role = "arena"', "", "role is None"),
        ('size = "64 KiB"\n', "", "size is None"),
        ('title = "My board"', "title = 3", "title is 3"),
        ("[[mine.ram]]", "[mine.ram]", "no [[mine.ram]]"),
        (
            "reserved_heap = 0",
            'reserved_in = "DTCM"',
            "no range of RAM",
        ),
        ("reserved_heap = 0", 'reserved_flash = "1 MiB"', "reserved_flash takes"),
    ],
    ids=lambda text: text[:30],
)
def test_a_bad_file_names_what_is_wrong(
    old: str, new: str, says: str, tmp_path: Path
) -> None:
    assert old in GOOD
    with pytest.raises(BoardError) as caught:
        load_board(written(tmp_path, GOOD.replace(old, new, 1)))
    assert says in str(caught.value)
    assert "board.toml" in str(caught.value)


def test_two_ranges_cannot_both_hold_the_arena(tmp_path: Path) -> None:
    more = GOOD + '[[mine.ram]]\nname = "B"\nsize = 64\nrole = "arena"\n'
    with pytest.raises(BoardError, match=r"2 ranges.*SRAM, B.*one\s+contiguous"):
        load_board(written(tmp_path, more))


def test_what_is_no_board() -> None:
    with pytest.raises(BoardError, match=r"'rp2400'.*did you mean 'rp20?3?40?5?0?'"):
        load_board("rp2400")
    with pytest.raises(BoardFileNotFoundError, match=r"arena-ckpt boards --help"):
        load_board("none.toml")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe[a]")
    with pytest.raises(BoardError, match="no TOML"):
        load_board(tmp_path / "b.toml")
    (tmp_path / "d.toml").mkdir()
    with pytest.raises(BoardError, match="cannot be read"):
        load_board(tmp_path / "d.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 3000 + "]" * 3000, "no TOML"),
        ("[b]\nflash = 0x" + "f" * 5000, "size"),
        ('[b]\nflash = "' + "9" * 5000 + '"', "size"),
        ("[b]\nflash = 9223372036854775808", "size"),
        ("#" + "x" * 2**20, "more than the 1,048,576"),
    ],
    ids=["deep", "hexadecimal", "digits", "2**63", "large"],
)
def test_texts_without_end_are_refused(tmp_path: Path, text: str, words: str) -> None:
    ram = '\n[[b.ram]]\nname = "r"\nsize = 1024\nrole = "arena"\n'
    (tmp_path / "b.toml").write_text(text + (ram if text[0] == "[" else ""))
    with pytest.raises(BoardError, match=words):
        load_board(tmp_path / "b.toml")


# -- the command line and the page -----------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["plan", "digits_mlp", *map(str, arguments)])


def test_the_command_says_whether_it_fits() -> None:
    fits = run("--board", "rp2350")
    assert fits.exit_code == 0
    assert "The plan fits on RP2350" in fits.stdout
    not_fits = run("--board", "rp2350", "--no-blocks", "--brief")
    assert not_fits.exit_code == 1
    assert "The plan does not fit on RP2350" in not_fits.stdout
    assert "504.00 KiB (516,096 B) would fit" in " ".join(not_fits.stdout.split())


def test_the_command_as_json(tmp_path: Path) -> None:
    result = run("--json", "--board", written(tmp_path, GOOD))
    document = json.loads(result.stdout)["board"]
    assert result.exit_code == 1
    assert (document["name"], document["fits"]) == ("mine", False)
    assert document["budget_bytes"] == 62 * KIB
    assert document["headroom_bytes"] == 62 * KIB - 514_368
    assert json.loads(run("--json").stdout)["board"] is None


def test_a_budget_makes_it_fit_and_a_front_is_no_plan() -> None:
    fits = run("--board", "rp2350", "--no-blocks", "--budget", "504KiB", "--brief")
    assert fits.exit_code == 0, fits.output
    both = run("--board", "rp2350", "--pareto")
    assert both.exit_code == 2
    assert "--board means nothing beside it" in both.stderr


def test_a_bad_board_is_told_before_anything_is_planned() -> None:
    result = run("--board", "rp2041")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "rp2040" in result.stderr


def test_the_page_shows_the_table_and_a_file_that_loads(tmp_path: Path) -> None:
    page = (ROOT / "docs/boards.md").read_text("utf-8")
    for name in WANTED:
        assert f"| `{name}` |" in page
    (example,) = re.findall(r"```toml[^\n]*\n(.*?)```", page, re.DOTALL)
    assert tomllib.loads(example)
    assert load_board(written(tmp_path, example)).check(PLAN).fits


# -- several ranges --------------------------------------------------------------------

TWO_RANGES = GOOD.replace('role = "arena"', 'role = "arena"\nspeed = 2') + (
    '[[mine.ram]]\nname = "TCM"\nsize = "16 KiB"\nrole = "other"\nspeed = 1\n'
)


def test_ranges_with_a_speed_are_memories_the_fastest_first(tmp_path: Path) -> None:
    one = load_board(written(tmp_path, TWO_RANGES))
    assert one.memories == {"TCM": 16 * KIB, "SRAM": 62 * KIB}
    assert list(one.memories) == ["TCM", "SRAM"]
    assert load_board("rp2350").memories == {"SRAM": 504 * KIB}
    with pytest.raises(BoardError, match=r"no range of RAM 'TMC' .did you mean 'TCM'"):
        one.free_bytes("TMC")


def test_a_plan_over_the_ranges_of_a_board(tmp_path: Path) -> None:
    one = load_board(written(tmp_path, TWO_RANGES))
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:64")
    model.add_layer("fully_connected", name="fc", unit=64)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=16)
    plan = model.make_plan(memories=one.memories)
    fit = one.check(plan)
    assert [m.name for m in fit.memories] == ["TCM", "SRAM"]
    assert fit.fits
    assert fit.arena_bytes == plan.arena_bytes
    assert fit.headroom_bytes == min(
        16 * KIB - plan.memories["TCM"].height_bytes,
        62 * KIB - plan.memories["SRAM"].height_bytes,
    )
    with pytest.raises(BoardError, match="has no range of RAM 'TCM'"):
        load_board("rp2350").check(plan)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("speed = 1", "speed = 2", "2 ranges of RAM with speed 2"),
        ("speed = 1", "speed = 0", "speed is 0"),
        ("speed = 1", 'speed = "fast"', "speed is 'fast'"),
        ("speed = 1", "address = -1", "address is -1"),
        ('"TCM"', '"SRAM"', "2 ranges of RAM with name 'SRAM'"),
    ],
)
def test_bad_ranges_name_what_is_wrong(
    old: str, new: str, says: str, tmp_path: Path
) -> None:
    assert old in TWO_RANGES
    with pytest.raises(BoardError, match=says):
        load_board(written(tmp_path, TWO_RANGES.replace(old, new, 1)))


def test_overlapping_ranges_are_refused(tmp_path: Path) -> None:
    text = TWO_RANGES.replace("speed = 2", "speed = 2\naddress = 0x20000000")
    near = text.replace("speed = 1", "speed = 1\naddress = 0x20010000")
    assert load_board(written(tmp_path, near)).ram[1].address == 0x20010000
    over = text.replace("speed = 1", "speed = 1\naddress = 0x2000FFFF")
    with pytest.raises(BoardError, match=r"SRAM takes .0x20000000, 0x20010000. and T"):
        load_board(written(tmp_path, over))


def test_constants_count_in_flash_once(tmp_path: Path) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:16")
    model.add_layer("fully_connected", name="fc1", unit=16, trainable=False)
    model.add_layer("fully_connected", name="fc2", unit=16)
    model.add_layer("mse", name="loss")
    plan = model.make_plan()
    fit = board(2**20, WEIGHTS + plan.constant_bytes).check(plan)
    assert (fit.weight_bytes, fit.constant_bytes) == (WEIGHTS, 1024 + 64)
    assert (fit.flash_headroom_bytes, fit.fits) == (0, True)
    assert "and the constants, which are read there, 1.06 KiB" in fit.sentences()[-1]
    less = board(2**20, WEIGHTS + plan.constant_bytes - 1).check(plan)
    assert not less.fits
    assert "make the model smaller" in less.sentences()[-1]
    whole = board(2**20, 4096).check(model.make_plan(constants="arena"))
    assert (whole.weight_bytes, whole.constant_bytes) == (2 * WEIGHTS, 0)


def test_what_fits_over_several_ranges_is_told(tmp_path: Path) -> None:
    one = load_board(written(tmp_path, TWO_RANGES))
    fit = dataclasses.replace(
        one.check(PLAN),
        local_lower_bound_bytes=70 * KIB,
        memories=(
            dataclasses.replace(one.check(PLAN).memories[0], height_bytes=2**17),
        ),
    )
    text = " ".join(fit.sentences())
    assert "plan for its 2 RAMs, TCM, SRAM, which have 78.00 KiB" in text


def test_of_inference_no_budget_is_advised() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:64")
    model.add_layer("fully_connected", name="fc", unit=64)
    model.set_property(batch_size=16)
    fit = board(1024).check(model.make_plan(mode="inference"))
    assert not fit.fits_ram
    text = " ".join(fit.sentences())
    assert "are available, and inference has nothing to recompute; make the" in text
    assert "--budget" not in text
