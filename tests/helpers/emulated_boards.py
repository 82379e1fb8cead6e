"""Boards that QEMU emulates: projects in C are built for them, and tested there.

What runs before `main` of a board, its linker scripts and its programs stand in
``tests/c_export/boards``. A project is built there as on a real board, by its own
Makefile; nothing is linked but it, the program and what the compiler itself brings.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "c_export" / "boards"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
NAME = "net"
"""What the projects are called that run here."""


@dataclass(frozen=True, slots=True)
class Board:
    """A machine that QEMU emulates.

    Attributes
    ----------
    emulator : str
        The program.
    machine : tuple of str
        Its options.
    prefix : str
        Of the compiler and its tools.
    flags : tuple of str
        Of the processor.
    script : str
        For the linker.
    """

    emulator: str
    machine: tuple[str, ...]
    prefix: str
    flags: tuple[str, ...]
    script: str

    @property
    def missing(self) -> list[str]:
        """Programs that are not there."""
        wanted = (self.emulator, f"{self.prefix}gcc", "make")
        return [program for program in wanted if shutil.which(program) is None]


_ARM = ("-mthumb", "-mfloat-abi=hard")
_TIMER = "-DBOARD_TIMER=0x40000000"

BOARDS: dict[str, Board] = {
    "cortex-m4f": Board(
        "qemu-system-arm",
        ("-M", "mps2-an386"),
        "arm-none-eabi-",
        (*("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"), *_ARM, _TIMER),
        "mps2_an386.ld",
    ),
    "cortex-m7": Board(
        "qemu-system-arm",
        ("-M", "mps2-an500"),
        "arm-none-eabi-",
        (*("-mcpu=cortex-m7", "-mfpu=fpv5-d16"), *_ARM, _TIMER),
        "mps2_an500.ld",
    ),
    "cortex-m55": Board(
        "qemu-system-arm",
        ("-M", "mps3-an547"),
        "arm-none-eabi-",
        ("-mcpu=cortex-m55", *_ARM),
        "mps3_an547.ld",
    ),
    "risc-v": Board(
        "qemu-system-riscv32",
        ("-M", "virt", "-bios", "none"),
        "riscv64-unknown-elf-",
        ("-march=rv32imafdc", "-mabi=ilp32d", "-mcmodel=medany", "-ffreestanding"),
        "riscv_virt.ld",
    ),
}


def require(name: str) -> Board:
    """Return a board; skip the test loudly where it cannot be emulated."""
    board = BOARDS[name]
    if board.missing:
        pytest.skip(
            f"{', '.join(board.missing)} missing: NOTHING RUNS ON {name.upper()}; "
            "on Debian install qemu-system-arm gcc-arm-none-eabi "
            "libnewlib-arm-none-eabi, for RISC-V qemu-system-misc "
            "gcc-riscv64-unknown-elf"
        )
    return board


@dataclass(frozen=True, slots=True)
class Firmware:
    """A program for a board.

    Attributes
    ----------
    board : Board
    elf : Path
    library : Path
        The project alone.
    flash_bytes : int
        Code and constants of the project, and what its code needs of the compiler, but
        neither weights nor what the board and the test bring.
    """

    board: Board
    elf: Path
    library: Path
    flash_bytes: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a program did.

    Attributes
    ----------
    code : int
        0 says that all is well.
    text : str
        What it has said.
    """

    code: int
    text: str

    def number(self, name: str) -> int:
        """Return a number that the program has said."""
        found = re.search(rf"^{name} (\d+)$", self.text, re.MULTILINE)
        assert found is not None, self.text
        return int(found[1])


def build(
    board: Board, project: Path, program: str = "run_test", optimize: str = "-Os"
) -> Firmware:
    """Build a project and a program for a board.

    Parameters
    ----------
    board : Board
    project : Path
        A project called `NAME`. It is copied.
    program : str
        One of ``tests/c_export/boards``.
    optimize : str
        How the compiler optimizes.
    """
    folder = project.with_name(f"{project.name}_{program}_{board.script}{optimize}")
    shutil.copytree(project, folder)
    section = '__attribute__((section(".bss.large")))'
    define = f"-D{NAME.upper()}_ARENA_SECTION={section}"
    flags = [optimize, *board.flags]
    cflags = shlex.join([*flags, "-Werror", define])
    tool = board.prefix
    run(
        [
            *("make", "-s", f"build/lib{NAME}.a", f"CC={tool}gcc", f"AR={tool}ar"),
            f"CFLAGS={cflags}",
        ],
        folder,
    )
    library = folder / "build" / f"lib{NAME}.a"
    around = [SOURCES / "start.c", SOURCES / "semihosting.c", SOURCES / f"{program}.c"]
    around.append(folder / "test" / "data.c")
    if program == "run_test":
        around.append(folder / "test" / "test.c")
    objects = [folder / f"{source.stem}.o" for source in around]
    places = [f"-I{place}" for place in (SOURCES, folder / "src", folder / "test")]
    for source, built in zip(around, objects, strict=True):
        loops = ["-fno-tree-loop-distribute-patterns"]  # memset is there
        command = [f"{tool}gcc", *flags, *loops, *WARNINGS, *places]
        run([*command, "-c", str(source), "-o", str(built)], folder)
    elf = folder / f"{program}.elf"
    run(
        [
            *(f"{tool}gcc", *flags, "-nostdlib", "-nostartfiles"),
            *("-T", str(SOURCES / board.script), f"-L{SOURCES}"),
            *("-Wl,--no-warn-rwx-segments", "-Wl,--fatal-warnings"),
            *(*map(str, objects), str(library), "-lgcc", "-o", str(elf)),
        ],
        folder,
    )
    weights = folder / "build" / f"{NAME}_weights.o"
    rest = [weights, *objects]
    flash = text_bytes(board, elf) - sum(text_bytes(board, file) for file in rest)
    return Firmware(board, elf, library, flash)


def compile_alone(
    board: Board, files: Mapping[str, str], program: str, folder: Path, *flags: str
) -> Firmware:
    """Build a program with some sources, by name, beside it."""
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    sources = [SOURCES / "start.c", SOURCES / "semihosting.c", SOURCES / f"{program}.c"]
    sources += [folder / name for name in files if name.endswith(".c")]
    elf = folder / f"{program}.elf"
    run(
        [
            *(f"{board.prefix}gcc", *board.flags, *flags, *WARNINGS),
            *(f"-I{SOURCES}", f"-I{folder}", "-fno-tree-loop-distribute-patterns"),
            *("-nostdlib", "-nostartfiles", "-T", str(SOURCES / board.script)),
            *(f"-L{SOURCES}", "-Wl,--no-warn-rwx-segments", *map(str, sources)),
            *("-lgcc", "-o", str(elf)),
        ],
        folder,
    )
    return Firmware(board, elf, elf, text_bytes(board, elf))


def emulator_command(firmware: Firmware, *more: str) -> list[str]:
    """Return the command that runs a program; it may use files of its folder."""
    board = firmware.board
    return [
        *(board.emulator, *board.machine, "-display", "none", "-serial", "none"),
        *("-monitor", "none", "-semihosting-config", "enable=on,target=native"),
        *(*more, "-kernel", str(firmware.elf)),
    ]


def emulate(firmware: Firmware, timeout: float = 600) -> Run:
    """Run a program; one instruction takes a nanosecond of the board's time."""
    done = subprocess.run(
        emulator_command(firmware, "-icount", "shift=0"),
        cwd=firmware.elf.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Run(done.returncode, done.stdout)


def text_bytes(board: Board, file: Path) -> int:
    """Return the bytes of code and constants of an object file or a program."""
    lines = run([f"{board.prefix}size", str(file)], file.parent).splitlines()
    return int(lines[1].split()[0])


def symbols(board: Board, file: Path) -> list[tuple[str, str, int]]:
    """Return name, kind and size of each symbol; the size of undefined ones is 0."""
    text = run([f"{board.prefix}nm", "-S", "-P", str(file)], file.parent)
    found = []
    for line in text.splitlines():
        name, *facts = line.split()
        if facts:  # else the line names a member of a library
            size = int(facts[2], 16) if len(facts) > 2 else 0
            found.append((name, facts[0], size))
    return found


def run(command: Sequence[str], folder: Path) -> str:
    """Run a tool; return what it wrote."""
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout
