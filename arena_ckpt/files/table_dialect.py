"""Finds out how a table is written: its separator, its decimal mark and its header.

Only what the first lines leave no doubt about is found out. Where they can be read in
two ways, an `AmbiguousTableError` names the options that decide.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from arena_ckpt.errors import AmbiguousTableError

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "space": " "}
"""Separators of cells by their names; a space stands for any number of blanks."""

DECIMALS = {"point": ".", "comma": ","}
"""Decimal marks by their names."""

MISSING = frozenset(
    ("", "na", "n/a", "#n/a", "nan", "-nan", "null", "none", "?", "<na>", ".")
)
"""Cells without a value, in lower case."""

BOOLS = {"true": 1.0, "false": 0.0}
"""Numbers of the cells TRUE and FALSE, in lower case."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_PRECEDENCE = "\t;,"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a table are written.

    Attributes
    ----------
    separator : str
        ``","``, tab, ``";"``, or ``" "`` for any number of blanks.
    decimal : str
        ``"."`` or ``","``.
    """

    separator: str
    decimal: str


def number_of(cell: str, decimal: str) -> float | None:
    """Return the number that a cell holds, or None; ``nan`` and TRUE are none."""
    if decimal == ",":
        if "." in cell or cell.count(",") > 1:
            return None
        cell = cell.replace(",", ".")
    if "_" in cell:  # float() takes 1_000, as Python does; no other program does
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if value != value else value


def kind_of(cell: str, decimal: str) -> str:
    """Return what a cell is: a number, a bool, empty, missing or a text."""
    if number_of(cell, decimal) is not None:
        return "number"
    word = cell.strip().lower()
    if word in BOOLS:
        return "bool"
    if not word:
        return "empty"
    return "missing" if word in MISSING else "text"


def cells_of(lines: Iterable[str], separator: str) -> Iterator[list[str]]:
    """Yield the cells of each row; see `csv.reader`."""
    if separator != " ":
        return csv.reader(lines, delimiter=separator, strict=True)
    return csv.reader(map(_with_single_blanks, lines), delimiter=" ", strict=True)


def _with_single_blanks(line: str) -> str:
    """Return a line with one space for each run of blanks outside its quotes."""
    if '"' not in line:
        return " ".join(line.split())
    parts = line.split('"')
    parts[::2] = [re.sub(r"\s+", " ", part) for part in parts[::2]]
    return '"'.join(parts).strip()


def find_dialect(
    path: Path, sample: Sequence[str], separator: str | None, decimal: str | None
) -> Dialect:
    """Return how a table is written, from its first lines.

    Parameters
    ----------
    path : Path
        For messages.
    sample : sequence of str
        The first lines with cells, at least one.
    separator, decimal : str or None
        As in `Dialect`, where they are given.

    Raises
    ------
    AmbiguousTableError
        Commas in numbers can be decimal marks, or group thousands.
    """
    if separator is None:
        separator = _separator(sample, decimal)
    if decimal is None:
        decimal = _decimal(path, _rows(sample, separator))
    return Dialect(separator, decimal)


def _separator(sample: Sequence[str], decimal: str | None) -> str:
    """Return the separator that splits the most lines into the most numbers.

    Where several do, and where none does, the first line decides: a tab comes before a
    semicolon, and that before a comma.
    """
    present = [mark for mark in _PRECEDENCE if mark in sample[0]]
    candidates = [mark for mark in _PRECEDENCE if any(mark in s for s in sample)]
    candidates = sorted(candidates, key=lambda mark: mark not in present)
    scores = {
        mark: _numbers_in(_rows(sample, mark), decimal, mark)
        for mark in (*candidates, " ")
    }
    best = max(scores, key=scores.__getitem__)
    if scores[best] > (scores[candidates[0]] if candidates else 0):
        return best
    return candidates[0] if candidates else ","


def _numbers_in(rows: list[list[str]], decimal: str | None, separator: str) -> int:
    """Return how many cells are numbers; 0 where the rows are of unequal length."""
    if not rows or len(rows[0]) < 2:
        return 0
    if len({*map(len, rows)}) > 1 and not names_all_but_first(rows[0], rows[1:]):
        return 0
    # between commas an unquoted number cannot hold one
    marks = (decimal,) if decimal else (".",) if separator == "," else (".", ",")
    return sum(
        any(
            number_of(cell, mark) is not None
            and (mark == "." or "," not in cell or _is_decimal(cell))
            for mark in marks
        )
        for row in rows
        for cell in row
    )


def _is_decimal(cell: str) -> bool:
    return _DECIMAL_COMMA.fullmatch(cell.strip()) is not None


def _rows(sample: Sequence[str], separator: str) -> list[list[str]]:
    rows = []
    try:
        for row in cells_of(sample, separator):
            rows.append(row)
    except csv.Error:  # such as a quoted cell of which the sample has only a part
        rows = rows[:-1]
    return rows


def _decimal(path: Path, rows: list[list[str]]) -> str:
    """Return the decimal mark: a comma where numbers have commas and no points."""
    cells = [cell.strip() for row in rows for cell in row]
    commas = [cell for cell in cells if _is_decimal(cell)]
    if not commas:
        return "."
    points = [c for c in cells if "." in c and number_of(c, ".") is not None]
    if points:
        raise AmbiguousTableError(
            f"{path}: {commas[0]!r} and {points[0]!r} are numbers with different "
            "decimal marks; write all in one way, or say which is right, with "
            "--decimal point or --decimal comma (decimal='.' or ',' in Python)",
            path=str(path),
            options=("--decimal",),
        )
    if all(_THOUSANDS.fullmatch(cell) for cell in commas):
        raise AmbiguousTableError(
            f"{path}: {commas[0]!r} can be {commas[0].replace(',', '.')} or "
            f"{commas[0].replace(',', '')}; give --decimal comma (decimal=',' in "
            "Python) for the former, and take the commas out for the latter",
            path=str(path),
            options=("--decimal",),
        )
    return ","


def names_all_but_first(first: list[str], rest: list[list[str]]) -> bool:
    """Tell whether the first row names all columns but the first, as R's `write.table`.

    It has nothing but texts, and is one cell shorter than all others, which do not just
    end in a separator.
    """
    return (
        bool(rest)
        and {len(row) for row in rest} == {len(first) + 1}
        and all(kind_of(cell, mark) == "text" for cell in first for mark in ".,")
        and any(row[-1].strip() for row in rest)
    )


def has_header(
    path: Path, first: list[str], rest: list[list[str]], decimal: str, line: int
) -> bool:
    """Tell whether the first row of a table is a header.

    It is if it has texts and no number. It is none if all its cells are of the kinds
    below it.

    Parameters
    ----------
    path : Path
        For messages.
    first : list of str
    rest : list of list of str
        Some of the rows that follow.
    decimal : str
    line : int
        Number of the first line in the file, counted from 1.

    Raises
    ------
    AmbiguousTableError
        It has numbers that may be names: whole numbers in a row, as pandas names
        columns that have no names, or whole numbers above numbers with fractions, or
        beside a text that no line below has; or texts above numbers, and numbers beside
        them.
    """
    kinds = [kind_of(cell, decimal) for cell in first]
    below = [{kind_of(row[i], decimal) for row in rest} for i in range(len(first))]
    has_values = "number" in kinds or "bool" in kinds
    if "text" in kinds:
        texts = [i for i, kind in enumerate(kinds) if kind == "text"]
        if not has_values:
            is_sample = "missing" in kinds and all("text" in below[i] for i in texts)
            if is_sample:
                raise _unsure(
                    path, line, first, "it has texts and cells without a value"
                )
            return True
        odd = [i for i in texts if not ("text" in below[i] or "bool" in below[i])]
        if not rest and len(texts) == 1:
            odd = []
        if odd:
            column, cell = odd[0], first[odd[0]]
            raise _unsure(
                path,
                line,
                first,
                f"line {line}, column {column + 1} is {cell[:40]!r}, above numbers",
                column=column + 1,
                cell=cell,
            )
    if "number" in kinds and (reason := _names_in_numbers(first, rest, kinds, decimal)):
        raise _unsure(path, line, first, reason)
    return False


def _names_in_numbers(
    first: list[str], rest: list[list[str]], kinds: list[str], decimal: str
) -> str | None:
    """Return why a row of numbers, and perhaps texts, may name the columns, or None."""
    cells = [cell.strip() for cell in first]
    texts = [i for i, kind in enumerate(kinds) if kind == "text"]
    places = [i for i, cell in enumerate(cells) if i not in texts and (cell or i)]
    names = [cells[i] for i in places]
    if not all(re.fullmatch(r"\d+", name) for name in names):
        return None
    numbers = [int(name[:18]) for name in names]
    n = len(numbers)
    starts_as_pandas_does = numbers[0] == 0 and n > 1
    if numbers == [*range(numbers[0], numbers[0] + n)] and (
        starts_as_pandas_does or n > 3 or (n > 1 and not cells[0])
    ):
        return "it has consecutive whole numbers"
    if len({*numbers}) < n:
        return None
    below = [*zip(*rest, strict=True)] if rest else [()] * len(cells)
    for i in texts:
        counts = Counter(cell.strip() for cell in below[i])
        if cells[i] not in counts and len(rest) > 3 and min(counts.values()) > 1:
            return f"{cells[i][:40]!r} stands in no line below it"
    if n < 3 or len(rest) < 3:
        return None
    mark = re.compile(r"\d*" + re.escape(decimal) + r"\d|\d[eE]-")
    n_whole = sum(not all(mark.search(cell) for cell in below[i]) for i in places)
    if n_whole <= (0 if texts else 1):
        return "it has whole numbers, and the lines below it have fractions"
    return None


def _unsure(
    path: Path, line: int, first: list[str], reason: str, **facts: object
) -> AmbiguousTableError:
    shown = ", ".join(cell.strip()[:20] for cell in first[:6])
    shown += ", …" if len(first) > 6 else ""
    return AmbiguousTableError(
        f"{path}: the first line ({shown}) may be a header or a sample: {reason}; say "
        "--header or --no-header (header=True or False in Python), or leave it out "
        "with --skip-rows 1",
        path=str(path),
        options=("--header", "--no-header", "--skip-rows"),
        line=line,
        **facts,
    )
