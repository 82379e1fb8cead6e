"""Projects in C for boards: what fits, and what the linker is told and says."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.c_nets import NETS

from arena_ckpt.boards import Board, Ram, load_board
from arena_ckpt.c_export.project import write_project
from arena_ckpt.cli import main
from arena_ckpt.device.export_c import export_c, make_c_project
from arena_ckpt.errors import BoardError, BoardFitError

KIB = 1024
START = 0x20000000


def board(n_bytes: int = 64 * KIB, **values: object) -> Board:
    ram = (Ram("SRAM", n_bytes, True, address=START),)
    given = {
        "flash_addresses": (0x08000000,),
        "reserved_stack_bytes": 2 * KIB,
        "reserved_heap_bytes": 2 * KIB,
        **values,
    }
    return Board("small", "A small board", ram, 128 * KIB, **given)  # type: ignore[arg-type]


def script_of(target: Board, **request: object) -> str:
    project = make_c_project(
        NETS["dense"](), name="net", steps=1, board=target, **request
    )
    return project.files[f"board/{target.name}.ld"].decode()


# -- what fits -------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_with_numbers(tmp_path: Path) -> None:
    arena = NETS["dense"]().make_plan().arena_bytes
    with pytest.raises(BoardFitError) as caught:
        export_c(NETS["dense"](), tmp_path / "c", board=board(arena + 4 * KIB - 64))
    message = str(caught.value)
    assert "does not fit on A small board. RAM: the arena takes" in message
    assert "64 B are missing" in message
    assert message.endswith("Nothing was written")
    assert caught.value.board == "small"  # type: ignore[attr-defined]
    assert not caught.value.fit.fits_ram  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())

    export_c(NETS["dense"](), tmp_path / "c", board=board(arena + 4 * KIB))
    assert (tmp_path / "c/board/small.ld").exists()


def test_flash_that_does_not_hold_the_weights_is_refused(tmp_path: Path) -> None:
    small = replace(board(), flash_bytes=KIB)
    with pytest.raises(BoardFitError, match="Flash: the initial weights take"):
        export_c(NETS["dense"](), tmp_path / "c", board=small)


def test_memories_that_a_board_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="'dtcm'"):
        export_c(
            NETS["dense"](),
            tmp_path / "c",
            board=board(),
            memories={"dtcm": "64KiB"},
        )


def test_a_board_is_named_or_loaded_from_a_file(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '["my own"]\nflash = "1 MiB"\n[["my own".ram]]\nname = "R"\n'
        'size = "64 KiB"\nrole = "arena"\naddress = 0x20000020\n'
    )
    for spec, name in (("rp2350", "rp2350"), (own, "my_own")):
        project = export_c(
            NETS["dense"](), tmp_path / name, steps=1, board=spec, name="net"
        )
        assert f"board/{name}.ld" in project.files
        readme = project.files["README.md"].decode()
        assert f"board-check firmware.elf --board {spec}" in readme
    # The first aligned address of the range.
    assert "ORIGIN = 0x20000040" in project.files["board/my_own.ld"].decode()


def test_the_command_line_refuses_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["export", "digits_mlp", "--to", "c", "-o", "c", "--board", "rp2040"]
    result = CliRunner().invoke(main, [*command, "--batch-size", "64"])
    assert result.exit_code == 1
    assert "does not fit on RP2040" in result.stderr
    assert "make the model or its batch smaller" in result.stderr
    assert not list(tmp_path.iterdir())
    command[-1] = "rp2350"
    options = ["--batch-size", "64", "--budget", "board"]
    assert CliRunner().invoke(main, [*command, *options]).exit_code == 0
    assert Path("c/board/rp2350.ld").exists()


# -- the linker ------------------------------------------------------------------------

SCRIPT = """
MEMORY
{{
    FLASH (rx) : ORIGIN = 0x08000000, LENGTH = {flash}
    RAM (rwx) : ORIGIN = {start:#x}, LENGTH = {length}
}}
ENTRY(main)
SECTIONS
{{
    .text : {{ *(.text*) *(.rodata*) }} > FLASH
    .data : {{ *(.data*) }} > RAM AT > FLASH
    .bss : {{ bss_start = .; *(.bss*) *(COMMON) bss_end = .; }} > RAM
    end = .;
    .stack (NOLOAD) : {{ . = . + 64; }} > RAM
}}
"""
PROGRAM = """
#include "net.h"
int some = 3;
char zeros[ZEROS];
int main(void)
{
    double loss;
    net_init();
    zeros[5] = (char)some;
    return net_step(&loss);
}
"""


class Linked:
    """A program around a project, linked for a board."""

    def __init__(self, folder: Path, target: Board, **request: object) -> None:
        gcc = shutil.which("arm-none-eabi-gcc")
        if gcc is None:
            pytest.skip("arm-none-eabi-gcc is not there: nothing was linked")
        self.folder, self.gcc = folder, gcc
        project = make_c_project(
            NETS["dense"](), name="net", steps=1, board=target, **request
        )
        write_project(project, folder / "net")
        self.script = project.files[f"board/{target.name}.ld"].decode()
        (folder / "main.c").write_text(PROGRAM)

    def link(
        self,
        start: int,
        length: int,
        *flags: str,
        zeros: int = 100,
        flash: int = 128 * KIB,
    ) -> str:
        """Link; return what the linker complains of."""
        script = SCRIPT.format(start=start, length=length, flash=flash)
        (self.folder / "your.ld").write_text(script)
        cpu = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
        (ours,) = (self.folder / "net/board").glob("*.ld")
        sources = sorted((self.folder / "net/src").glob("*.c"))
        command = [self.gcc, *cpu, "-Os", "-nostartfiles", "-Inet/src", *flags]
        command += [f"-DZEROS={zeros}", "main.c", *map(str, sources)]
        command += ["-T", str(ours), "-T", "your.ld", "-o", "fw.elf"]
        done = subprocess.run(
            command, cwd=self.folder, check=False, capture_output=True, text=True
        )
        assert (done.returncode == 0) == (done.stderr == ""), done.stderr
        return done.stderr

    def symbols(self) -> dict[str, int]:
        """Return the addresses of the symbols of the program."""
        nm = self.gcc.replace("gcc", "nm")
        lines = subprocess.run(
            [nm, "fw.elf"], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        return {line.split()[2]: int(line.split()[0], 16) for line in lines}


def rest_of(script: str) -> tuple[int, int]:
    found = re.search(r"_REST : ORIGIN = (\w+), LENGTH = (\d+)", script)
    assert found
    return int(found[1], 16), int(found[2])


def test_the_linker_places_the_arena_and_leaves_the_rest(tmp_path: Path) -> None:
    linked = Linked(tmp_path, board())
    start, length = rest_of(linked.script)
    assert linked.link(start, length) == ""
    found = linked.symbols()
    plan = NETS["dense"]().make_plan()
    assert found["net_arena"] == START
    assert start == START + plan.arena_bytes
    assert start + length == START + 64 * KIB
    # What the program's own script says of its memory stays as it was.
    assert start < found["bss_start"] < found["bss_end"] <= found["end"]
    assert found["bss_end"] - found["bss_start"] == 100


def test_the_linker_says_what_is_wrong(tmp_path: Path) -> None:
    linked = Linked(tmp_path, board())
    start, length = rest_of(linked.script)
    assert ".data overlaps net_arena" in linked.link(START, 64 * KIB)
    said = linked.link(start, length, zeros=length - 2 * KIB)
    assert "variables and stack do not fit beside net_arena in SRAM" in said
    assert linked.link(start, length, zeros=length - 2 * KIB - 64) == ""
    said = linked.link(start, length, "-DNET_ARENA_SECTION=")
    assert "net_arena is not the one planned" in said
    weights = '-DNET_ARENA_SECTION=__attribute__((section(".bss.net_arena")))'
    assert linked.link(start, length, weights) == ""


def test_the_linker_looks_at_flash(tmp_path: Path) -> None:
    linked = Linked(tmp_path, replace(board(), flash_bytes=8 * KIB))
    start, length = rest_of(linked.script)
    said = linked.link(start, length, flash=256 * KIB)
    assert "program and weights do not fit in 8192 bytes of flash" in said


def test_each_memory_of_a_plan_has_its_place(tmp_path: Path) -> None:
    target = load_board("stm32h743")
    memories = {"DTCM": "4KiB", "AXI SRAM": "512KiB"}
    linked = Linked(tmp_path, target, memories=memories)
    assert linked.link(0x30000000, 288 * KIB, flash=2048 * KIB) == ""
    found = linked.symbols()
    assert found["net_dtcm"] == 0x20000000
    assert found["net_axi_sram"] == 0x24000000
    assert "NET_DTCM_REST" in linked.script
    assert "NET_AXI_SRAM_REST" not in linked.script


def test_a_range_without_an_address_is_left_to_the_program(tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not there")
    project = make_c_project(
        NETS["dense"](), name="net", steps=1, board=load_board("pi_zero_2w")
    )
    script = project.files["board/pi_zero_2w.ld"].decode()
    assert "The address of SDRAM is not known: your script places net_arena" in script
    write_project(project, tmp_path / "net")
    sources = sorted((tmp_path / "net/src").glob("*.c"))
    command = [gcc, "-Inet/src", "net/example/main.c", *map(str, sources)]
    command += ["-T", "net/board/pi_zero_2w.ld", "-o", "run"]
    subprocess.run(command, cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "run"], check=True, capture_output=True).stdout
    assert b"the first output is" in said


def test_a_board_that_was_exported_for_before_is_replaced(tmp_path: Path) -> None:
    for target in (board(), replace(board(), name="other"), None):
        project = make_c_project(NETS["dense"](), name="net", steps=1, board=target)
        write_project(project, tmp_path / "net")
        found = [path.name for path in (tmp_path / "net").glob("board/*")]
        assert found == ([] if target is None else [f"{target.name}.ld"])


def test_titles_cannot_leave_a_comment() -> None:
    target = replace(board(), title='evil */ ENTRY(x) /* "quoted"\nline')
    script = script_of(target)
    assert script.count("*/") == script.count("/*")
    assert "evil */" not in script


# -- the arena -------------------------------------------------------------------------

DIRTY = """
#include <string.h>
#define NET_OFFSETS
#include "net.h"
#include "data.h"

/* An arena that no start-up code has cleared changes nothing. */
int main(void)
{
    double loss, first;
    int i;
    for (i = 0; i < 2; i++) {
        memset((char *)net_input(0) - NET_IN_OUT0, i ? 0xa5 : 0, NET_ARENA_BYTES);
        net_init();
        memcpy(net_input(0), test_input0, sizeof(float) * NET_BATCH * 12);
        memcpy(net_label(), test_label, sizeof(float) * NET_BATCH * 5);
        if (net_step(&loss) != NET_OK) {
            return 2;
        }
        if (i == 0) {
            first = loss;
        }
    }
    return memcmp(&first, &loss, sizeof loss) != 0;
}
"""


def test_an_arena_need_not_be_cleared(tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not there")
    write_project(
        make_c_project(NETS["dense"](), name="net", steps=1), tmp_path / "net"
    )
    (tmp_path / "main.c").write_text(DIRTY)
    sources = [*(tmp_path / "net/src").glob("*.c"), tmp_path / "net/test/data.c"]
    include = ["-Inet/src", "-Inet/test"]
    command = [gcc, "-O1", *include, "main.c", *map(str, sources), "-o", "run"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "run"], check=False).returncode == 0
