"""Linked firmware against boards: what its sections take of flash and RAM."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.elf_files import ALLOC, CODE, OBJECT, THREADS, WRITE, Part, elf_bytes

from arena_ckpt.boards import check_firmware, load_board
from arena_ckpt.boards.board import Board, Ram
from arena_ckpt.boards.firmware import FirmwareMemory
from arena_ckpt.cli import main
from arena_ckpt.errors import (
    ArenaError,
    CorruptFileError,
    DataError,
    DataFileNotFoundError,
    InvalidParameterError,
)

pytest.importorskip("elftools", reason="firmware is read with pyelftools")

KIB = 1024
FLASH, RAM, FAST = 0x08000000, 0x24000000, 0x20000000
DATA = ALLOC | WRITE

PARTS = [
    Part(".text", FLASH, 400, ALLOC | CODE),
    Part(".rodata", FLASH + 400, 100),
    Part(".data", RAM, 40, DATA, stored_at=FLASH + 500),
    Part(".bss", RAM + 40, 2000, DATA, has_bytes=False),
    Part(".net_arena", RAM + 4096, 8192, DATA, has_bytes=False),
]


def two_rams(**values: object) -> Board:
    ram = (
        Ram("SRAM", 16 * KIB, True, address=RAM),
        Ram("FAST", 4 * KIB, False, address=FAST, aliases=(0x10000000,)),
    )
    given = {"reserved_stack_bytes": 1024, "flash_addresses": (FLASH,), **values}
    return Board("b", "a board", ram, 4 * KIB, **given)  # type: ignore[arg-type]


def written(folder: Path, parts: list[Part], **values: int) -> Path:
    path = folder / "firmware.elf"
    path.write_bytes(elf_bytes(parts, **values))
    return path


def memories_of(
    folder: Path, parts: list[Part], board: Board
) -> dict[str, FirmwareMemory]:
    fit = check_firmware(written(folder, parts), board)
    return {memory.name: memory for memory in fit.memories}


def test_sections_count_where_they_lie_and_where_they_are_stored(
    tmp_path: Path,
) -> None:
    fit = check_firmware(written(tmp_path, PARTS), two_rams())
    found = {memory.name: memory for memory in fit.memories}

    assert fit.fits
    assert fit.elsewhere == ()
    assert list(found) == ["flash", "SRAM", "FAST"]
    assert found["flash"].used_bytes == 540  # .data is stored there
    assert found["SRAM"].used_bytes == 40 + 2000 + 8192
    assert found["SRAM"].reserved_bytes == 1024
    assert found["SRAM"].left_bytes == 16 * KIB - 10232 - 1024
    assert found["FAST"].left_bytes == 4 * KIB
    assert [s.name for s in found["flash"].sections] == [".text", ".rodata", ".data"]


def test_what_does_not_fit_says_how_much_is_missing(tmp_path: Path) -> None:
    parts = [*PARTS[:4], Part(".net_arena", RAM + 4096, 14000, DATA, has_bytes=False)]
    fit = check_firmware(written(tmp_path, parts), two_rams())
    sram = fit.memories[1]

    assert not fit.fits
    assert sram.left_bytes == 16 * KIB - 40 - 2000 - 14000 - 1024
    assert fit.sentences()[2].endswith("680 B are missing.")


def test_flash_can_be_too_small(tmp_path: Path) -> None:
    parts = [
        Part(".text", FLASH, 4 * KIB, ALLOC | CODE),
        Part(".data", RAM, 40, DATA, stored_at=FLASH + 4 * KIB),
    ]
    found = memories_of(tmp_path, parts, two_rams())
    assert found["flash"].left_bytes == -40


def test_a_boot_loader_before_the_program_counts(tmp_path: Path) -> None:
    parts = [Part(".text", FLASH + 1024, 400, ALLOC | CODE)]
    assert memories_of(tmp_path, parts, two_rams())["flash"].used_bytes == 1424


def test_sections_for_the_stack_replace_what_is_reserved(tmp_path: Path) -> None:
    for n_bytes, counted in ((256, 1024), (3000, 3000)):
        stack = Part("._user_heap_stack", RAM + 13000, n_bytes, DATA, has_bytes=False)
        sram = memories_of(tmp_path, [*PARTS, stack], two_rams())["SRAM"]
        assert sram.reserved_bytes == counted
        assert sram.used_bytes == 40 + 2000 + 8192


def test_bytes_that_two_buses_show_count_once(tmp_path: Path) -> None:
    parts = [
        Part(".iram", 0x10000000, 512, ALLOC | CODE, stored_at=FLASH),
        Part(".dram_dummy", FAST, 512, DATA, has_bytes=False),
        Part(".dram", FAST + 512, 100, DATA, has_bytes=False),
    ]
    found = memories_of(tmp_path, parts, two_rams())
    assert found["FAST"].used_bytes == 612
    assert found["flash"].used_bytes == 512


def test_what_lies_in_no_memory_does_not_fit(tmp_path: Path) -> None:
    ccm = Part(".ccmram", 0x10010000, 64, DATA, has_bytes=False)
    fit = check_firmware(written(tmp_path, [*PARTS, ccm]), two_rams())
    assert not fit.fits
    assert [section.name for section in fit.elsewhere] == [".ccmram"]
    assert "In no memory of this board: .ccmram at 0x10010000" in fit.sentences()[-1]


def test_what_takes_no_memory_is_left_out(tmp_path: Path) -> None:
    parts = [
        *PARTS,
        Part(".comment", 0, 100, 0),
        Part(".tbss", RAM, 64, DATA | THREADS, has_bytes=False),
        Part(".empty", 0x50000000, 0, DATA),
    ]
    assert memories_of(tmp_path, parts, two_rams()) == memories_of(
        tmp_path, PARTS, two_rams()
    )


def test_a_board_without_addresses_tells_by_what_sections_are(tmp_path: Path) -> None:
    board = Board("b", "a board", (Ram("RAM", 16 * KIB, True),), 4 * KIB)
    found = memories_of(tmp_path, PARTS, board)
    assert found["flash"].used_bytes == 540
    assert found["RAM"].used_bytes == 40 + 2000 + 8192


def test_where_storage_does_not_limit_code_takes_ram(tmp_path: Path) -> None:
    board = Board("b", "a board", (Ram("RAM", 16 * KIB, True),), None)
    fit = check_firmware(written(tmp_path, PARTS), board)
    assert [memory.name for memory in fit.memories] == ["RAM"]
    assert fit.memories[0].used_bytes == 540 + 2000 + 8192
    assert "Storage is not checked." in fit.sentences()


# -- bad files -------------------------------------------------------------------------


def test_files_that_are_no_firmware(tmp_path: Path) -> None:
    board = two_rams()
    path = tmp_path / "x"
    with pytest.raises(DataFileNotFoundError):
        check_firmware(path, board)
    with pytest.raises(DataError, match="is a folder"):
        check_firmware(tmp_path, board)
    for content in (b"", b"\x7fELF", b"int main(void);\n" * 9):
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match="expected a linked ELF file"):
            check_firmware(path, board)
    path.write_bytes(b"!<arch>\n")
    with pytest.raises(DataError, match="an archive of object files; link"):
        check_firmware(path, board)
    path.write_bytes(elf_bytes(PARTS, OBJECT))
    with pytest.raises(DataError, match="an object file; link"):
        check_firmware(path, board)
    path.write_bytes(elf_bytes([]))
    with pytest.raises(CorruptFileError, match="one without sections"):
        check_firmware(path, board)
    with pytest.raises(InvalidParameterError, match="what load_board returns"):
        check_firmware(path, "rp2350")  # type: ignore[arg-type]


def test_a_damaged_file_is_read_or_refused(tmp_path: Path) -> None:
    whole, path = elf_bytes(PARTS), tmp_path / "x"
    board = two_rams()
    n_refused = 0
    ends = [whole[:length] for length in range(0, len(whole), 7)]
    interesting = [*range(52 + 32 * len(PARTS)), *range(len(whole) - 330, len(whole))]
    flipped = [
        whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :]
        for place in interesting
        for bits in (0xFF, 0x01)
    ]
    for content in (*ends, *flipped):
        path.write_bytes(content)
        try:
            check_firmware(path, board)
        except ArenaError:
            n_refused += 1
    assert n_refused > len(ends)


def test_without_pyelftools_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, PARTS)
    monkeypatch.setitem(sys.modules, "elftools", None)
    with pytest.raises(InvalidParameterError, match=r"pip install arena-ckpt\[board\]"):
        check_firmware(path, two_rams())


# -- the command -----------------------------------------------------------------------


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["board-check", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_each_memory(tmp_path: Path) -> None:
    path = written(tmp_path, PARTS)
    code, out, err = run(path, "--board", "stm32h743")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert "fits on STM32H743xI. Flash, 2.00 MiB" in words
    assert ".net_arena 8,192 B" in words
    assert "DTCM, 128.00 KiB (131,072 B): nothing lies there, 8.00 KiB" in words


def test_the_command_as_json(tmp_path: Path) -> None:
    path = written(tmp_path, PARTS)
    code, out, _ = run(path, "--board", "stm32h743", "--json")
    document = json.loads(out)
    assert code == 0
    assert list(document) == [
        *("command", "file", "board", "title", "fits", "memories", "elsewhere")
    ]
    flash, axi, *_ = document["memories"]
    assert flash["used_bytes"] == 540
    assert axi["sections"][0] == {"name": ".data", "address": RAM, "size_bytes": 40}
    fits = {"fits": True, "elsewhere": [], "board": "stm32h743"}
    assert document | fits == document


def test_the_command_fails_where_it_does_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path, PARTS)
    assert run(path, "--board", "rp2350")[0] == 1
    large = [*PARTS, Part(".big", RAM + 16384, 2**20, DATA, has_bytes=False)]
    code, out, _ = run(written(tmp_path, large), "--board", "stm32h743", "--json")
    assert code == 1
    assert json.loads(out)["memories"][1]["left_bytes"] < 0


def test_the_command_refuses_bad_input(tmp_path: Path) -> None:
    path = written(tmp_path, PARTS)
    for arguments, words in [
        ((path, "--board", "rp235"), "did you mean 'rp2350'?"),
        ((path,), "--board"),
        ((tmp_path, "--board", "rp2350"), "is a folder"),
        ((tmp_path / "none", "--board", "rp2350"), "does not exist"),
        ((__file__, "--board", "rp2350"), "expected a linked ELF file"),
    ]:
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert words in " ".join(err.split())


# -- what a linker writes --------------------------------------------------------------

SCRIPT = """
MEMORY
{
    FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 2048K
    RAM (rwx) : ORIGIN = 0x24000000, LENGTH = 512K
    DTCM (rwx) : ORIGIN = 0x20000000, LENGTH = 128K
}
ENTRY(main)
SECTIONS
{
    .text : { *(.text*) *(.rodata*) } > FLASH
    .data : { *(.data*) } > RAM AT > FLASH
    .bss : { *(.bss*) *(COMMON) } > RAM
    .fast (NOLOAD) : { *(.fast) } > DTCM
    .stack (NOLOAD) : { . = . + 9000; } > DTCM
}
"""
PROGRAM = """
int values[5] = {1, 2, 3, 4, 5};
int zeros[1000];
__attribute__((section(".fast"))) int fast[250];
int main(void) { return values[0] + zeros[1] + fast[2]; }
"""


def test_firmware_that_a_linker_wrote(tmp_path: Path) -> None:
    gcc = shutil.which("arm-none-eabi-gcc")
    if gcc is None:
        pytest.skip("arm-none-eabi-gcc is not there: no firmware was linked")
    (tmp_path / "main.c").write_text(PROGRAM)
    (tmp_path / "net.ld").write_text(SCRIPT)
    cpu = ["-mcpu=cortex-m7", "-mthumb"]
    build = [gcc, *cpu, "-nostdlib", "-g", "main.c", "-T", "net.ld", "-o", "fw.elf"]
    subprocess.run(build, cwd=tmp_path, check=True)
    fit = check_firmware(tmp_path / "fw.elf", load_board("stm32h743"))
    found = {memory.name: memory for memory in fit.memories}

    assert fit.fits
    assert found["AXI SRAM"].used_bytes == 20 + 4000
    assert found["DTCM"].used_bytes == 1000
    assert found["DTCM"].reserved_bytes == 9000
    text = next(s for s in found["flash"].sections if s.name == ".text")
    data = next(s for s in found["flash"].sections if s.name == ".data")
    assert text.load_address == 0x08000000
    assert 0x08000000 < data.load_address < 0x08001000
    assert found["flash"].used_bytes >= text.size_bytes + 20

    for extra, words in (("-c", "an object file"), ("-r", "an object file")):
        subprocess.run(
            [gcc, *cpu, "-nostdlib", extra, "main.c", "-o", "main.o"],
            cwd=tmp_path,
            check=True,
        )
        with pytest.raises(DataError, match=words):
            check_firmware(tmp_path / "main.o", load_board("stm32h743"))
