"""Splits INI text into sections that know on which lines they stand.

In stages: bytes become text, and text becomes sections (`configparser`, fed with lines
whose comments and indentation are gone). Each section keeps the lines of its keys, so
that every error names its place.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from arena_ckpt.definition.ini_writer import MODEL, canonical_section
from arena_ckpt.errors import (
    CheckpointBlockError,
    DataError,
    DataFileNotFoundError,
    IniError,
    IniFileNotFoundError,
    InvalidParameterError,
    UnknownTypeError,
)
from arena_ckpt.files.source import read_whole

LARGEST_FILE_BYTES = 16 * 2**20

_SHOWN = 60  # characters of a line in a message


@dataclass(frozen=True, slots=True)
class Section:
    """A section as it stands in the file.

    `name` is canonical, `values` are texts by key in lower case, and `lines` counts
    from 1: the line of each key, and under ``""`` that of the header.
    """

    file: str
    name: str
    values: Mapping[str, str]
    lines: Mapping[str, int]

    def error(self, message: str, key: str = "", **facts: object) -> IniError:
        """Return an error at the line of a key, or of the section's header."""
        line = self.lines.get(key, self.lines[""])
        where = f"{self.file}, line {line}, [{self.name}]" + (f" {key}" if key else "")
        facts |= {"path": self.file, "section": self.name, "line": line}
        return IniError(f"{where}: {message}", **{"key": key or None, **facts})

    @contextmanager
    def building(self, key: str = "") -> Iterator[None]:
        """Add the line of the file to errors that are raised in the block."""
        try:
            yield
        except IniError:
            raise
        except InvalidParameterError as error:
            facts = dict(vars(error))
            named = str(facts.get("property", ""))
            if isinstance(error, UnknownTypeError) and not key:
                key = "type"
            elif isinstance(error, CheckpointBlockError):
                key = "layers"
            elif named in self.values:
                key = named
            raise self.error(str(error), key, **facts) from error

    def without(self, *keys: str) -> dict[str, str]:
        """Return the values of all keys but some."""
        return {key: value for key, value in self.values.items() if key not in keys}


def read_sections(file: str) -> list[Section]:
    """Return the sections of a file in their order.

    Raises
    ------
    IniError
        A file that cannot be read, or text that is no INI.

    Notes
    -----
    Linear in the length of the text.
    """
    return _parse(file, _read_text(file))


def _read_text(file: str) -> str:
    if os.path.isdir(file):
        raise IniError(f"{file} is a folder; name an INI file in it", path=file)
    try:
        data = read_whole(file, LARGEST_FILE_BYTES)
    except DataError as error:
        missing = isinstance(error, DataFileNotFoundError)
        kind = IniFileNotFoundError if missing else IniError
        raise kind(str(error), **{"path": file, **vars(error)}) from error
    if b"\0" in data:
        raise _not_text(file, data, data.index(b"\0"), "a NUL byte")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"the byte 0x{error.object[error.start]:02x}, which is no UTF-8"
        at = error.start + len(data) - len(error.object)  # the codec cuts a BOM off
        raise _not_text(file, data, at, found) from error


def _not_text(file: str, data: bytes, at: int, found: str) -> IniError:
    line = data.count(b"\n", 0, at) + 1
    return IniError(
        f"{file}, line {line}: {found}; save the file as plain text in UTF-8",
        path=file,
        line=line,
        offset=at,
    )


def _parse(file: str, text: str) -> list[Section]:
    lines = [_clean(line) for line in re.split(r"\r\n|\r|\n", text)]
    places = _find_places(file, lines)
    parser = configparser.RawConfigParser(
        delimiters=("=",),
        comment_prefixes=(),
        empty_lines_in_values=False,
        default_section="\0",  # [DEFAULT] is a name like any other
    )
    try:
        parser.read_file(lines, file)
    except configparser.DuplicateSectionError as error:
        raise _fault(
            file,
            error.lineno or 0,
            f"[{error.section}] is there twice, first in line "
            f"{places[error.section]['']}; keep one, or rename the layer",
            section=error.section,
        ) from error
    except configparser.DuplicateOptionError as error:
        raise _fault(
            file,
            error.lineno or 0,
            f"[{error.section}] {error.option} is given twice, first in line "
            f"{places[error.section][error.option]}; keep one",
            section=error.section,
            key=error.option,
        ) from error
    return [
        Section(file, name, dict(parser[name]), places[name])
        for name in parser.sections()
    ]


def _clean(line: str) -> str:
    """Return a line in a form that `configparser` cannot misread.

    To it an indented line continues the value above, and runs of spaces before ``=``
    cost it quadratic time.
    """
    line = re.split("[#;]", line, maxsplit=1)[0].strip()
    if line.startswith("["):
        closed = line.endswith("]")
        return f"[{canonical_section(line[1:-1])}]" if closed else line
    key, equals, value = line.partition("=")
    return f"{' '.join(key.split()).lower()} = {value.strip()}" if equals else line


def _find_places(file: str, lines: list[str]) -> dict[str, dict[str, int]]:
    """Return the line of each section (key ``""``) and key; refuse other lines."""
    places: dict[str, dict[str, int]] = {}
    section = None
    for number, line in enumerate(lines, 1):
        shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
        key, equals, _ = line.partition(" =")
        if line.startswith("["):
            if not line.endswith("]") or line == "[]":
                raise _fault(file, number, f"{shown!r} is no section; write [NAME]")
            section = line[1:-1]
            places.setdefault(section, {"": number})
        elif line and section is None:
            raise _fault(
                file,
                number,
                f"{shown!r} stands before any section; begin with [{MODEL}]",
                key=key if equals else None,
            )
        elif line and not (equals and key):
            raise _fault(
                file,
                number,
                f"[{section}] {shown!r} is neither a section nor a key; write "
                "key = value",
                section=section,
            )
        elif section is not None:
            places[section].setdefault(key, number)
    return places


def _fault(file: str, line: int, message: str, **facts: object) -> IniError:
    return IniError(
        f"{file}, line {line}: {message}", **{"path": file, "line": line, **facts}
    )
