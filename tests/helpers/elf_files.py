"""Small ELF files, made by hand: sections and the segments that load them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
SEGMENT = struct.Struct("<IIIIIIII")
SECTION = struct.Struct("<IIIIIIIIII")

EXECUTABLE, OBJECT = 2, 1
ALLOC, WRITE, CODE, THREADS = 0x2, 0x1, 0x4, 0x400
PROGBITS, STRINGS, NOBITS = 1, 3, 8
ARM = 40


@dataclass(frozen=True)
class Part:
    """A section: its bytes are zeros; `stored_at` is its load address."""

    name: str
    address: int
    n_bytes: int
    flags: int = ALLOC
    has_bytes: bool = True
    stored_at: int | None = None


def elf_bytes(parts: list[Part], kind: int = EXECUTABLE) -> bytes:
    """Return a 32-bit little-endian file with a segment for each section."""
    names = b"\0"
    places = []
    for name in [*(part.name for part in parts), ".shstrtab"]:
        places.append(len(names))
        names += name.encode() + b"\0"
    start = HEADER.size + SEGMENT.size * len(parts)
    body, offsets = b"", []
    for part in parts:
        offsets.append(start + len(body))
        body += bytes(part.n_bytes if part.has_bytes else 0)
    names_offset = start + len(body)
    table = names_offset + len(names)
    segments = b"".join(
        SEGMENT.pack(
            *(1, offset, part.address),
            part.address if part.stored_at is None else part.stored_at,
            *(part.n_bytes if part.has_bytes else 0, part.n_bytes, 7, 4),
        )
        for part, offset in zip(parts, offsets, strict=True)
    )
    sections = bytes(SECTION.size)
    for part, place, offset in zip(parts, places, offsets, strict=False):
        what = PROGBITS if part.has_bytes else NOBITS
        sections += SECTION.pack(
            *(place, what, part.flags, part.address, offset, part.n_bytes),
            *(0, 0, 4, 0),
        )
    sections += SECTION.pack(
        places[-1], STRINGS, 0, 0, names_offset, len(names), 0, 0, 1, 0
    )
    header = HEADER.pack(
        *(b"\x7fELF\x01\x01\x01" + bytes(9), kind, ARM, 1),
        *(parts[0].address if parts else 0, HEADER.size, table, 0, HEADER.size),
        *(SEGMENT.size, len(parts), SECTION.size, len(parts) + 2, len(parts) + 1),
    )
    return header + segments + body + names + sections
