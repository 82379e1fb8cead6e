"""Splits INI text into sections that know on which lines they stand.

In stages: bytes become text, and text becomes sections (`configparser`, fed with lines
whose comments, quotes and indentation are gone). Each section keeps the lines of its
keys, so that every error names its place.

What NNTrainer's reader takes is taken: quotes around values, lines that a backslash at
their end continues, sections that are there twice, which become one, and in them equal
keys, of which the last counts. Names of sections are equal in upper and lower case.

References
----------
N. Devillard, iniparser, src/iniparser.c, which NNTrainer reads its files with.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import listed
from arena_ckpt.definition.ini_writer import MODEL, canonical_section
from arena_ckpt.errors import (
    ArenaWarning,
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
    lines = [
        (number, _clean(file, number, line)) for number, line in _joined(file, text)
    ]
    lines = _under_one_spelling(lines)
    places = _find_places(file, lines)
    parser = configparser.RawConfigParser(
        delimiters=("=",),
        comment_prefixes=(),
        empty_lines_in_values=False,
        strict=False,  # sections are merged, and the last of equal keys counts
        default_section="\0",  # [DEFAULT] is a name like any other
    )
    parser.read_file([line for _, line in lines], file)
    return [
        Section(file, name, dict(parser[name]), places[name])
        for name in parser.sections()
    ]


def _joined(file: str, text: str) -> list[tuple[int, str]]:
    """Return the lines with their numbers; a backslash at the end joins the next one.

    As in NNTrainer's reader, iniparser, a comment that ends in a backslash takes the
    next line with it, which nobody means: it is warned of.
    """
    joined: list[tuple[int, str]] = []
    swallowing: list[int] = []
    parts: list[str] = []
    begun = 0
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        begun = begun or number
        line = line.rstrip()
        if line.endswith("\\"):
            parts.append(line[:-1])
            if _pair_in_quotes(line[:-1]) is None and re.search("[#;]", line):
                swallowing.append(number)
            continue
        joined.append((begun, "".join([*parts, line])))
        begun, parts = 0, []
    if begun:
        joined.append((begun, "".join(parts)))
    if swallowing:
        warn_user(
            f"{file}, line {listed(map(str, swallowing))}: a comment that ends in a "
            "backslash makes the next line a part of it, as in NNTrainer; take the "
            "backslash away",
            ArenaWarning,
        )
    return joined


_QUOTED = re.compile(r"""([^=#;]*)=\s*("[^"]*"|'[^']*')\s*(?:[#;].*)?""", re.DOTALL)


def _pair_in_quotes(line: str) -> tuple[str, str] | None:
    """Return key and value of a line whose value stands in quotes, else None."""
    found = _QUOTED.fullmatch(line)
    return found and (found[1], found[2][1:-1])


def _clean(file: str, number: int, line: str) -> str:
    """Return a line in a form that `configparser` cannot misread.

    For `configparser` an indented line continues the value above, and runs of spaces
    before ``=`` take it quadratic time. Quotes are no part of a value; within them,
    ``#`` and ``;`` begin no comment.
    """
    line = line.strip()
    if not line.startswith("[") and (pair := _pair_in_quotes(line)):
        key, value = pair
        return f"{' '.join(key.split()).lower()} = {value.strip()}"
    line = re.split("[#;]", line, maxsplit=1)[0].strip()
    if line.startswith("["):
        closed = line.endswith("]")
        return f"[{canonical_section(line[1:-1])}]" if closed else line
    key, equals, value = line.partition("=")
    key, value = " ".join(key.split()).lower(), value.strip()
    if equals and value[:1] in ("'", '"'):
        raise _fault(
            file,
            number,
            f"{key} = {_shortened(value)} begins with a quote; close it at the end of "
            "the value, or take it away",
            key=key,
        )
    return f"{key} = {value}" if equals else line


def _under_one_spelling(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the lines with equal headers for sections that differ in case alone."""
    spelled: dict[str, str] = {}
    return [
        (
            number,
            spelled.setdefault(line.lower(), line) if line.startswith("[") else line,
        )
        for number, line in lines
    ]


def _shortened(line: str) -> str:
    return repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")


def _find_places(file: str, lines: list[tuple[int, str]]) -> dict[str, dict[str, int]]:
    """Return the line of each section (key ``""``) and key; refuse other lines.

    Of keys given twice it is the line of the last, which counts.
    """
    places: dict[str, dict[str, int]] = {}
    twice: list[str] = []
    section = None
    for number, line in lines:
        key, equals, _ = line.partition(" =")
        if line.startswith("["):
            if not line.endswith("]") or line == "[]":
                raise _fault(
                    file, number, f"{_shortened(line)} is no section; write [NAME]"
                )
            section = line[1:-1]
            if section in places:
                twice.append(f"[{section}] in line {number}")
            places.setdefault(section, {"": number})
        elif line and section is None:
            raise _fault(
                file,
                number,
                f"{_shortened(line)} stands before any section; begin with [{MODEL}]",
                key=key if equals else None,
            )
        elif line and not (equals and key):
            raise _fault(
                file,
                number,
                f"[{section}] {_shortened(line)} is neither a section nor a key; write "
                "key = value",
                section=section,
            )
        elif line and section is not None:
            if key in places[section]:
                twice.append(f"[{section}] {key} in line {number}")
            places[section][key] = number
    if twice:  # a copied section whose name was not changed looks so as well
        warn_user(
            f"{file}: {listed(twice)} stood above already; sections of one name are "
            "one section, and of equal keys the last counts, as in NNTrainer",
            ArenaWarning,
        )
    return places


def _fault(file: str, line: int, message: str, **facts: object) -> IniError:
    return IniError(
        f"{file}, line {line}: {message}", **{"path": file, "line": line, **facts}
    )
