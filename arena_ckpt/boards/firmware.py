"""Firmware on a board: what the sections of an ELF file take of flash and RAM.

A section that is loaded takes flash, where its bytes are stored, and RAM, where it is
used, such as initial values of variables. One without bytes (``.bss``) takes RAM alone.
Stack and heap that have sections of their own, told by their names, count as what the
board reserves for them; the larger of both counts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena_ckpt.boards.board import Board, Ram
from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.units import format_bytes
from arena_ckpt.common.wording import listed, quoted, shown
from arena_ckpt.errors import DataError, InvalidParameterError
from arena_ckpt.files.source import corrupt, path_text, read_whole, reading

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

LARGEST_FILE_BYTES = 2**30
"""Maximum number of bytes of a file with its debugging information."""

MOST_SECTIONS = 65_535
MOST_SEGMENTS = 1_000
"""More than linkers write, in a file that is damaged."""

SHF_WRITE, SHF_ALLOC, SHF_TLS = 0x1, 0x2, 0x400
"""Flags of a section: the program writes it, it takes memory, every thread has one."""

FLASH = "flash"

_EXPECTED = "a linked ELF file"
_ARCHIVES = (b"!<arch>\n", b"!<thin>\n")
_STACKS_AND_HEAPS = ("stack", "heap")


@dataclass(frozen=True, slots=True)
class FirmwareSection:
    """A section of an ELF file that takes memory.

    Attributes
    ----------
    name : str
    address : int
        Where the program uses it.
    load_address : int
        Where its bytes are stored before the program starts.
    size_bytes : int
    is_loaded : bool
        The file has bytes for it; without, it is cleared or left as it is.
    is_writable : bool
    """

    name: str
    address: int
    load_address: int
    size_bytes: int
    is_loaded: bool
    is_writable: bool

    @property
    def is_stack_or_heap(self) -> bool:
        """Whether it only keeps room for stack or heap."""
        name = self.name.lower()
        return not self.is_loaded and any(word in name for word in _STACKS_AND_HEAPS)


@dataclass(frozen=True, slots=True)
class FirmwareMemory:
    """What firmware takes of a memory of a board.

    Attributes
    ----------
    name : str
        ``"flash"``, or a range of RAM.
    size_bytes : int
    used_bytes : int
        Of all sections, but those of stack and heap.
    reserved_bytes : int
        For stack and heap: of their sections, or what the board reserves, if that is
        more.
    sections : tuple of FirmwareSection
        By ascending address.
    """

    name: str
    size_bytes: int
    used_bytes: int
    reserved_bytes: int
    sections: tuple[FirmwareSection, ...]

    @property
    def left_bytes(self) -> int:
        """Bytes that are left; negative where it does not fit."""
        return self.size_bytes - self.used_bytes - self.reserved_bytes


@dataclass(frozen=True, slots=True)
class FirmwareFit:
    """Whether firmware fits on a board, with the numbers behind it.

    Attributes
    ----------
    board : Board
    path : str
    memories : tuple of FirmwareMemory
        Flash, where it limits, and every range of RAM whose place is known.
    elsewhere : tuple of FirmwareSection
        Those that lie in no memory of the board.
    """

    board: Board
    path: str
    memories: tuple[FirmwareMemory, ...]
    elsewhere: tuple[FirmwareSection, ...]

    @property
    def fits(self) -> bool:
        """Whether everything lies in the board's memories, with room to run."""
        return not self.elsewhere and all(m.left_bytes >= 0 for m in self.memories)

    def summary(self) -> dict[str, Any]:
        """Return the result as plain values; ``docs/boards.md`` lists the keys."""
        return {
            "board": self.board.name,
            "title": self.board.title,
            "fits": self.fits,
            "memories": [
                {
                    "name": memory.name,
                    "size_bytes": memory.size_bytes,
                    "used_bytes": memory.used_bytes,
                    "reserved_bytes": memory.reserved_bytes,
                    "left_bytes": memory.left_bytes,
                    "sections": [_plain(section) for section in memory.sections],
                }
                for memory in self.memories
            ],
            "elsewhere": [_plain(section) for section in self.elsewhere],
        }

    def sentences(self) -> list[str]:
        """Return sentences on what fits, and the numbers of each memory."""
        verdict = "fits" if self.fits else "does not fit"
        found = [f"{self.path} {verdict} on {self.board.title}."]
        found += [_sentence(memory) for memory in self.memories]
        if self.board.flash_bytes is None:
            found.append("Storage is not checked.")
        if self.elsewhere:
            names = listed([f"{s.name} at {s.address:#x}" for s in self.elsewhere])
            found.append(
                f"In no memory of this board: {names}. It is linked for another one, "
                "or the board has more; a file of your own can say so "
                "(docs/boards.md)."
            )
        return found


def _plain(section: FirmwareSection) -> dict[str, Any]:
    return {
        "name": section.name,
        "address": section.address,
        "size_bytes": section.size_bytes,
    }


def _sentence(memory: FirmwareMemory) -> str:
    name = "Flash" if memory.name == FLASH else memory.name
    sections = listed([f"{s.name} {s.size_bytes:,} B" for s in memory.sections])
    what = (
        f"{format_bytes(memory.used_bytes)} are taken ({sections})"
        if memory.sections
        else "nothing lies there"
    )
    reserved = (
        f", {format_bytes(memory.reserved_bytes)} are for stack and heap"
        if memory.reserved_bytes
        else ""
    )
    left = memory.left_bytes
    rest = f"{format_bytes(abs(left))} are {'left' if left >= 0 else 'missing'}"
    return f"{name}, {format_bytes(memory.size_bytes)}: {what}{reserved}; {rest}."


@public_call
def check_firmware(path: str | Path, board: Board) -> FirmwareFit:
    """Return what linked firmware takes of the memories of a board.

    Parameters
    ----------
    path : path
        An ELF file, as compilers link it.
    board : Board

    Returns
    -------
    FirmwareFit

    Raises
    ------
    InvalidParameterError
        The optional pyelftools is not installed.
    DataFileNotFoundError, DataError
        There is no such file, or it cannot be read, or is not linked.
    CorruptFileError
        It is no ELF file, or a damaged one.
    """
    is_board = isinstance(board, Board)
    require_value("board", board, fits=is_board, expected="what load_board returns")
    sections = read_sections(path)
    in_ram: dict[str, list[FirmwareSection]] = {ram.name: [] for ram in board.ram}
    in_flash, elsewhere = [], []
    for section in sections:
        ram = _ram_of(section.address, section, board)
        if ram is not None:
            in_ram[ram.name].append(section)
        elif not _is_in_flash(section.address, section, board):
            elsewhere.append(section)
        if section.is_loaded and _placed(section.load_address, board) is None:
            in_flash.append(section)
    memories = [
        _ram_use(ram, in_ram[ram.name], board)
        for ram in board.ram
        if ram.address is not None or ram.holds_arena
    ]
    if board.flash_bytes is not None:
        memories.insert(0, _flash_use(in_flash, board))
    return FirmwareFit(board, path_text(path), tuple(memories), tuple(elsewhere))


def _placed(address: int, board: Board) -> tuple[Ram, int] | None:
    """Return the range with an address, and the offset in it."""
    for ram in board.ram:
        starts = () if ram.address is None else (ram.address, *ram.aliases)
        for start in starts:
            if start <= address < start + ram.size_bytes:
                return ram, address - start
    return None


def _ram_of(address: int, section: FirmwareSection, board: Board) -> Ram | None:
    """Return the range of RAM that a section lies in.

    What lies in none with an address is in the arena's where that has none, unless it
    stays in flash.
    """
    placed = _placed(address, board)
    if placed is not None:
        return placed[0]
    if board.arena_ram.address is not None or _is_in_flash(address, section, board):
        return None
    return board.arena_ram


def _is_in_flash(address: int, section: FirmwareSection, board: Board) -> bool:
    if board.flash_bytes is None:
        return False
    if not board.flash_addresses:
        return section.is_loaded and not section.is_writable
    return any(
        start <= address < start + board.flash_bytes for start in board.flash_addresses
    )


def _ram_use(
    ram: Ram, sections: Sequence[FirmwareSection], board: Board
) -> FirmwareMemory:
    own = [_range_in(s, board) for s in sections if not s.is_stack_or_heap]
    kept = [_range_in(s, board) for s in sections if s.is_stack_or_heap]
    return FirmwareMemory(
        ram.name,
        ram.size_bytes,
        _covered_bytes(own),
        max(_covered_bytes(kept), board.reserved_bytes_in(ram)),
        tuple(sections),
    )


def _range_in(section: FirmwareSection, board: Board) -> tuple[int, int]:
    """Return the bytes that a section takes, half-open, whichever bus shows them."""
    placed = _placed(section.address, board)
    start = section.address if placed is None else placed[1]
    return start, start + section.size_bytes


def _flash_use(sections: Sequence[FirmwareSection], board: Board) -> FirmwareMemory:
    assert board.flash_bytes is not None
    ranges = [(s.load_address, s.load_address + s.size_bytes) for s in sections]
    used = _covered_bytes(ranges)
    if sections and len(board.flash_addresses) == 1:
        # A boot loader lies before the program.
        before = min(ranges)[0] - board.flash_addresses[0]
        used += before if 0 <= before < board.flash_bytes else 0
    return FirmwareMemory(FLASH, board.flash_bytes, used, 0, tuple(sections))


def _covered_bytes(ranges: Sequence[tuple[int, int]]) -> int:
    """Return how many bytes lie in some of the half-open ranges."""
    covered = end = 0
    for start, stop in sorted(ranges):
        start = max(start, end)
        covered += max(0, stop - start)
        end = max(end, stop)
    return covered


# -- the file --------------------------------------------------------------------------


def require_pyelftools() -> None:
    """Refuse to go on if the optional pyelftools is not installed."""
    try:
        import elftools  # noqa: F401
    except ImportError:
        raise InvalidParameterError(
            "reading firmware needs pyelftools, which is not installed; install it "
            "with 'pip install arena-ckpt[board]'"
        ) from None


def read_sections(path: str | Path) -> tuple[FirmwareSection, ...]:
    """Return the sections of an ELF file that take memory, by ascending address.

    Raises
    ------
    InvalidParameterError
        The optional pyelftools is not installed.
    DataFileNotFoundError, DataError
        There is no such file, or it cannot be read, or is not linked.
    CorruptFileError
        It is no ELF file, or a damaged one.
    """
    require_pyelftools()
    from elftools.elf.elffile import ELFFile

    file = Path(path_text(path))
    content = read_whole(file, LARGEST_FILE_BYTES)
    if content.startswith(_ARCHIVES):
        raise _not_linked(file, "an archive of object files")
    with reading(file, _EXPECTED):
        elf = ELFFile(io.BytesIO(content))
        kind = elf["e_type"]
        if kind not in ("ET_EXEC", "ET_DYN"):
            what = "an object file" if kind == "ET_REL" else f"of type {quoted(kind)}"
            raise _not_linked(file, what)
        found = tuple(sorted(_sections(file, elf), key=lambda s: (s.address, s.name)))
    if not found:
        raise corrupt(file, _EXPECTED, "one without sections")
    return found


def _not_linked(file: Path, what: str) -> DataError:
    return DataError(
        f"{file} is {what}; link the firmware, and give the ELF file that comes out",
        path=str(file),
    )


def _sections(file: Path, elf: ELFFile) -> Iterator[FirmwareSection]:
    if elf.num_sections() > MOST_SECTIONS or elf.num_segments() > MOST_SEGMENTS:
        raise corrupt(file, _EXPECTED, f"{elf.num_sections():,} sections")
    segments = [s.header for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
    for section in elf.iter_sections():
        flags, size = section["sh_flags"], section["sh_size"]
        is_loaded = section["sh_type"] != "SHT_NOBITS"
        is_of_threads = flags & SHF_TLS and not is_loaded
        if not flags & SHF_ALLOC or not size or is_of_threads:
            continue
        if is_loaded and section["sh_offset"] + size > elf.stream_len:
            raise corrupt(file, _EXPECTED, f"{shown(section.name)} beyond its end")
        yield FirmwareSection(
            shown(section.name),
            section["sh_addr"],
            _load_address(section, segments, is_loaded),
            size,
            is_loaded,
            bool(flags & SHF_WRITE),
        )


def _load_address(section: Any, segments: Sequence[Any], is_loaded: bool) -> int:
    """Return where the bytes of a section are stored; its address where none are."""
    offset = section["sh_offset"]
    for segment in segments if is_loaded else ():
        beyond = offset - segment["p_offset"]
        if 0 <= beyond < segment["p_filesz"]:
            return int(segment["p_paddr"] + beyond)
    return int(section["sh_addr"])
