"""``board/BOARD.ld``: places the memories of a plan on a board, for the linker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from arena_ckpt.c_export.memory_map import MemoryMap, Ram
from arena_ckpt.c_export.templates_of import filled
from arena_ckpt.common.c_identifiers import escaped, identifier
from arena_ckpt.common.units import align_up


@dataclass(frozen=True, slots=True)
class TargetRange:
    """A range of RAM that a memory of a plan goes into.

    Attributes
    ----------
    name : str
        Of the range, for people.
    memory : str
        The memory of the plan: ``"arena"``.
    address : int or None
        Where the range begins; None where that is not known.
    size_bytes : int
    reserved_bytes : int
        For stack and heap, in the same range.
    stack_bytes : int
        For the stack alone; variables come out of what is for the heap.
    """

    name: str
    memory: str
    address: int | None
    size_bytes: int
    reserved_bytes: int
    stack_bytes: int


@dataclass(frozen=True, slots=True)
class Target:
    """A board that a project is linked for.

    Attributes
    ----------
    name, title : str
    spec : str
        What `load_board` loads it by, a name or a path.
    ranges : tuple of TargetRange
    flash_address, flash_bytes : int or None
    """

    name: str
    title: str
    spec: str
    ranges: tuple[TargetRange, ...]
    flash_address: int | None
    flash_bytes: int | None

    @property
    def file_stem(self) -> str:
        """The name as it stands in names of files."""
        return identifier(self.name).lower()

    @property
    def path(self) -> str:
        """Where the linker script of a project lies."""
        return f"board/{self.file_stem}.ld"


_ENDS = (
    "ADDR(.text) + SIZEOF(.text)",
    "LOADADDR(.data) + SIZEOF(.data)",
)
"""Where flash ends in a usual script: sections that it may not have are no words here,
since a linker refuses them."""


def linker_text(target: Target, places: MemoryMap, name: str) -> str:
    """Return the linker script that goes before one of the user's own.

    Parameters
    ----------
    target : Target
    places : MemoryMap
        Of the plan.
    name : str
        Of the project.
    """
    rows = [_Row(target, ram, places) for ram in places.rams]
    placed = [row for row in rows if row.address is not None]
    flash = f"{name.upper()}_FLASH"
    regions = [line for row in placed for line in row.regions()]
    asserts = [line for row in rows for line in row.asserts(name)]
    if target.flash_address is not None and target.flash_bytes is not None:
        regions.append(
            f"    {flash} : ORIGIN = {target.flash_address:#010x}, "
            f"LENGTH = {target.flash_bytes}"
        )
        ends = (f"{word} <= ORIGIN({flash}) + LENGTH({flash})" for word in _ENDS)
        asserts.append(
            _assert(
                "\n    && ".join(ends),
                f"{name}: program and weights do not fit in {target.flash_bytes} "
                "bytes of flash",
            )
        )
    unplaced = "\n".join(
        f" *\n * The address of {escaped(row.range.name)} is not known: your script "
        f"places {row.ram.array}."
        for row in rows
        if row.address is None
    )
    if not placed:
        # Only a script that inserts something goes together with another one.
        sections = f"    .{name}_board 0 (NOLOAD) : {{ }}"
    else:
        sections = "\n".join(line for row in placed for line in row.section())
    return filled(
        "board.ld",
        name=name,
        title=escaped(target.title),
        board=target.file_stem,
        unplaced=unplaced,
        regions="\n".join(regions),
        sections=sections,
        asserts="\n".join(asserts),
    )


def rest_lines(target: Target, places: MemoryMap) -> str:
    """Return what a README says of where RAM begins in a script of the user's own."""
    lines = []
    for ram in places.rams:
        row = _Row(target, ram, places)
        if row.address is not None and row.range.reserved_bytes:
            lines.append(
                f"In `your.ld` the RAM of variables, stack and heap begins at "
                f"{row.rest_address:#010x} and has\n{row.rest_bytes:,} bytes: it is "
                f"the region `{row.region}_REST` of this file. What overlaps is an "
                "error\nof the linker.\n"
            )
    return "\n".join([*lines, "When all is linked,"])


class _Row:
    """A memory of a plan in its range."""

    def __init__(self, target: Target, ram: Ram, places: MemoryMap) -> None:
        self.ram = ram
        (self.range,) = (one for one in target.ranges if one.memory == ram.name)
        self._alignment = places.plan.alignment_bytes
        self.region = ram.section.removesuffix("_SECTION")

    @property
    def address(self) -> int | None:
        """Where the memory begins: at the first aligned address of the range."""
        start = self.range.address
        return None if start is None else align_up(start, self._alignment)

    @property
    def rest_address(self) -> int:
        """Where the rest of the range begins."""
        assert self.address is not None
        return align_up(self.address + self.ram.height_bytes, 8)

    @property
    def rest_bytes(self) -> int:
        assert self.range.address is not None
        return max(0, self.range.address + self.range.size_bytes - self.rest_address)

    def regions(self) -> Iterator[str]:
        name = escaped(self.range.name)
        yield f"    /* The memory {escaped(self.ram.name)!r} of the plan, in {name}. */"
        yield (
            f"    {self.region} : ORIGIN = {self.address:#010x}, "
            f"LENGTH = {self.ram.height_bytes}"
        )
        if self.range.reserved_bytes:
            yield f"    /* What is left of {name}, for variables, stack and heap. */"
            yield (
                f"    {self.region}_REST : ORIGIN = {self.rest_address:#010x}, "
                f"LENGTH = {self.rest_bytes}"
            )

    def section(self) -> Iterator[str]:
        yield f"    .{self.ram.array} (NOLOAD) : ALIGN({self._alignment})"
        yield "    {"
        yield f"        *({self.ram.input_section})"
        yield f"    }} > {self.region}"

    def asserts(self, name: str) -> Iterator[str]:
        array, height = self.ram.array, self.ram.height_bytes
        where = identifier(self.range.name)
        if self.address is not None:
            yield _assert(
                f"SIZEOF(.{array}) == {height}",
                f"{name}: {array} is not the one planned; compile src/{name}.c of the "
                "same export",
            )
            for section in (".data", ".bss"):
                yield _assert(
                    f"SIZEOF({section}) == 0\n"
                    f"    || ADDR({section}) + SIZEOF({section}) <= {self.address:#x}\n"
                    f"    || ADDR({section}) >= {self.address + height:#x}",
                    f"{name}: {section} overlaps {array}; let RAM begin at "
                    f"{self.rest_address:#010x} in your script",
                )
        reserved = self.range.reserved_bytes
        yield _assert(
            f"{height} + {reserved} <= {self.range.size_bytes}",
            f"{name}: {array} does not fit in {where} beside stack and heap",
        )
        if self.address is not None and reserved:
            yield _assert(
                f"{self._taken('.data')}\n    + {self._taken('.bss')}\n"
                f"    + {self.range.stack_bytes} <= LENGTH({self.region}_REST)",
                f"{name}: variables and stack do not fit beside {array} in {where}",
            )

    def _taken(self, section: str) -> str:
        """Return an expression for what a section takes of the rest."""
        start, stop = self.rest_address, self.rest_address + self.rest_bytes
        return (
            f"(ADDR({section}) >= {start:#x} && ADDR({section}) < {stop:#x} "
            f"? SIZEOF({section}) : 0)"
        )


def _assert(condition: str, message: str) -> str:
    return f'ASSERT({condition},\n    "{message}")'
