"""The cells of a CSV of buffers: what each column may hold and how it is parsed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from arena_ckpt.allocation.buffers import Gap
from arena_ckpt.allocation.integers import LARGEST_SUM_BYTES

_WHOLE = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_GAP = re.compile(r"(-?[0-9]+)-(-?[0-9]+)(?:@([0-9]+):([0-9]+))?")


def _whole(cell: str) -> int:
    cell = cell.strip()
    if not _WHOLE.fullmatch(cell):
        raise ValueError
    number = int(cell)  # ValueError where Python finds it too long
    if abs(number) >= LARGEST_SUM_BYTES:
        raise ValueError
    return number


def _wholes(cells: Sequence[str]) -> Iterable[int]:
    """Parse a column of integers; does the same as `_whole`, several times faster."""
    text = "".join(cells)
    if "_" in text or not text.isascii():  # int() takes 1_000 and digits of all scripts
        return map(_whole, cells)
    try:
        numbers = list(map(int, cells))
    except ValueError:  # also for separators that only strip() takes for spaces
        return map(_whole, cells)
    if max(-min(numbers), max(numbers)) >= LARGEST_SUM_BYTES:
        raise ValueError
    return numbers


def _whole_or_none(cell: str) -> int | None:
    return _whole(cell) if cell.strip() else None


def _wholes_or_none(cells: Sequence[str]) -> Iterable[int | None]:
    filled = [cell for cell in cells if cell.strip()]
    if not filled:
        return [None] * len(cells)
    numbers = iter(_wholes(filled))
    return [next(numbers) if cell.strip() else None for cell in cells]


def _name(cell: str) -> str:
    cell = cell.strip()
    if not cell:
        raise ValueError
    return cell


def _names(cells: Sequence[str]) -> Iterable[str]:
    names = [cell.strip() for cell in cells]
    if not all(names):
        raise ValueError
    return names


def _name_or_none(cell: str) -> str | None:
    return cell.strip() or None


def _gaps(cell: str) -> tuple[Gap, ...] | None:
    if not cell:
        return None
    gaps: list[Gap] = []
    for text in cell.split():
        match = _GAP.fullmatch(text)
        if not match:
            raise ValueError
        lower, upper, *window = (int(part) for part in match.groups() if part)
        gaps.append((lower, upper, *window) if window else (lower, upper))  # type: ignore[arg-type]
    return tuple(gaps) or None


def _pools(cell: str) -> tuple[str, ...] | None:
    return tuple(cell.split()) or None


def _weight(cell: str) -> int | float:
    cell = cell.strip()
    if not _REAL.fullmatch(cell):
        raise ValueError
    weight = int(cell) if _WHOLE.fullmatch(cell) else float(cell)
    if not 0 <= weight < LARGEST_SUM_BYTES:
        raise ValueError
    return weight


@dataclass(frozen=True, slots=True)
class CellKind:
    """A kind of cell: how to parse it, and what a message says it must be.

    `parse` raises ValueError; `must_be` completes the sentence "it must be …".
    """

    must_be: str
    parse: Callable[[str], Any]
    parse_all: Callable[[Sequence[str]], Iterable[Any]] | None = None
    """Parses a whole column at once, if there is a faster way than cell by cell."""

    def parse_column(self, cells: Sequence[str]) -> list[Any]:
        """Parse all cells of a column; raise ValueError if one cannot be parsed."""
        return list(self.parse_all(cells) if self.parse_all else map(self.parse, cells))


NUMBER = CellKind("a whole number between -2**62 and 2**62", _whole, _wholes)
_OPTIONAL_NUMBER = CellKind(
    f"empty or {NUMBER.must_be}", _whole_or_none, _wholes_or_none
)
KINDS = {
    "id": CellKind("a name", _name, _names),
    "lower": NUMBER,
    "upper": NUMBER,
    "size": NUMBER,
    "alignment": NUMBER,
    "hint": NUMBER,
    "gaps": CellKind(
        "empty or gaps with spaces between them, each lower-upper or "
        "lower-upper@windowlow:windowhigh, as in '3-5 8-9@0:64'",
        _gaps,
    ),
    "offset": _OPTIONAL_NUMBER,
    "group": CellKind("text", _name_or_none),
    "pool": _OPTIONAL_NUMBER,
    "pools": CellKind(
        "empty or pools with spaces between them, each a name or a number, as in "
        "'dtcm sram'",
        _pools,
    ),
    "weight": CellKind("a number of at least 0 and below 2**62", _weight),
}
