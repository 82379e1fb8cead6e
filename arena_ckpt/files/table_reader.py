"""Reads tables as text, separated by commas, semicolons, tabs or blanks.

A table of numbers alone is read by NumPy's parser. Whatever that refuses, and all that
has texts, truth values, missing cells or decimal commas, is read row by row, which also
finds the place of whatever is wrong.
"""

from __future__ import annotations

import array
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import (
    CorruptFileError,
    EmptyDataError,
    InvalidParameterError,
)
from arena_ckpt.files.source import Source, corrupt, find_source, reading
from arena_ckpt.files.table import Column, Table, column_of
from arena_ckpt.files.table_dialect import (
    BOOLS,
    DECIMALS,
    MISSING,
    SEPARATORS,
    Dialect,
    cells_of,
    find_dialect,
    has_header,
    kind_of,
    names_all_but_first,
    number_of,
)

LONGEST_LINE = 2**26
"""Maximum number of characters of a line; a longer one is no table and would be read in
one piece."""

_SAMPLE_LINES = 50
"""Number of lines from which the dialect is found out."""
_CHUNK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class TableForm:
    """What is known of how a table is written; None is found out.

    Attributes
    ----------
    header : bool or None
        Whether the first line has the names of the columns.
    skip_rows : int
        Number of lines at the top that are left out.
    separator : str or None
        A comma, tab, semicolon or space, or a name of `SEPARATORS`.
    decimal : str or None
        A point or a comma, or a name of `DECIMALS`.
    """

    header: bool | None = None
    skip_rows: int = 0
    separator: str | None = None
    decimal: str | None = None


def read_table(path: str | os.PathLike[str]) -> npt.NDArray[np.float64]:
    """Read a table of numbers, plain or compressed by gzip; see `read_columns`.

    Returns
    -------
    ndarray of float64
        (rows, columns), both at least 1; all values fit in float32.

    Raises
    ------
    DataFileNotFoundError
        There is no such file.
    CorruptFileError
        A cell that is empty or no number, or a line with more or fewer cells than the
        first; the place is named.
    NonFiniteDataError
        A cell that is NaN, infinite or beyond float32; the place is named.
    EmptyDataError
        No line of numbers.
    """
    table = read_columns(path)
    columns = [*range(table.numbers.shape[1])]
    table.require_numbers(columns)
    missing = np.isnan(table.numbers)
    table.refuse_missing(missing, columns, "remove their rows or fill them in")
    return table.numbers


def read_columns(
    path: str | os.PathLike[str],
    form: TableForm | None = None,
    *,
    texts_of: str | int | None = None,
) -> Table:
    """Read a table, plain or compressed by gzip.

    Cells are separated by tabs, semicolons, commas or blanks, whatever splits the first
    lines into the most numbers. Empty lines are passed over.

    Parameters
    ----------
    path : path
    form : TableForm, optional
        What is known of how it is written.
    texts_of : str or int, optional
        Name or number of a column whose cells are kept as texts, numbers too.

    Returns
    -------
    Table
        With at least one row.

    Raises
    ------
    DataFileNotFoundError
        There is no such file.
    AmbiguousTableError
        It can be read in several ways; the options that decide are named.
    CorruptFileError
        A line with more or fewer cells than the first, or no text at all.
    EmptyDataError
        No row.
    InvalidParameterError
        A form that cannot be.
    """
    source = find_source(path)
    form = _checked(form or TableForm())
    with _text(source) as text:
        head = _read_head(source.path, text, form)
    if head.is_plain and texts_of is None:
        with _text(source) as text:
            numbers = _read_plain(_lines(source.path, text), head)
        if numbers is not None:
            # a line of each row, where none is blank; nothing asks for them otherwise
            lines = head.first_line + np.arange(len(numbers))
            return Table(source.path, head.header, numbers, {}, lines)
    with _text(source) as text:
        return _read_rows(source.path, text, head, texts_of)


def _checked(form: TableForm) -> TableForm:
    """Return a form with marks instead of their names.

    Raises
    ------
    InvalidParameterError
    """
    skip = form.skip_rows
    if not isinstance(skip, int | np.integer) or isinstance(skip, bool) or skip < 0:
        raise InvalidParameterError(
            f"skip_rows={quoted(skip)} is not possible; expected a whole number of at "
            "least 0: lines at the top that are left out",
            skip_rows=skip,
        )
    if form.header is not None and not isinstance(form.header, bool):
        raise InvalidParameterError(
            f"header={quoted(form.header)} is not possible; expected True, False or "
            "None, which finds out",
            header=form.header,
        )
    separator = _mark("separator", form.separator, SEPARATORS)
    decimal = _mark("decimal", form.decimal, DECIMALS)
    if separator == decimal == ",":
        raise InvalidParameterError(
            "a comma cannot be both the separator and the decimal mark; give another "
            "separator, for example --separator semicolon (separator=';' in Python)",
            separator=form.separator,
            decimal=form.decimal,
        )
    return TableForm(form.header, int(skip), separator, decimal)


def _mark(name: str, value: object, known: dict[str, str]) -> str | None:
    if value is None or (isinstance(value, str) and value in known.values()):
        return value
    if isinstance(value, str) and value in known:
        return known[value]
    marks = ", ".join(map(repr, (*known.values(), *known)))
    raise InvalidParameterError(
        f"{name}={quoted(value)} is not possible; expected one of {marks}",
        **{name: value},
    )


@dataclass(frozen=True, slots=True)
class _Head:
    """What the first lines of a table say.

    Attributes
    ----------
    dialect : Dialect
    header : tuple of str
    n_columns : int
    n_before : int
        Lines before the first row: those left out and empty ones, without the header.
    first_line : int
        Number of the first line of the rows, counted from 1.
    is_plain : bool
        Whether the first lines have nothing but numbers below the header.
    """

    dialect: Dialect
    header: tuple[str, ...]
    n_columns: int
    n_before: int
    first_line: int
    is_plain: bool


@contextmanager
def _text(source: Source) -> Iterator[TextIO]:
    with (
        reading(source.path, "a table of numbers as text"),
        source.open() as stream,
        io.TextIOWrapper(stream, "utf-8-sig", newline="") as text,
    ):
        try:
            yield text
        except UnicodeDecodeError as error:
            raise corrupt(
                source.path,
                "a table of numbers as text in UTF-8",
                f"the byte {error.object[error.start]:#04x}, which does not belong "
                "there (spreadsheets write UTF-8 as 'CSV UTF-8')",
            ) from error


def _read_head(path: Path, text: TextIO, form: TableForm) -> _Head:
    """Find out how a table is written.

    Raises
    ------
    AmbiguousTableError, CorruptFileError, EmptyDataError
    """
    lines = _lines(path, text)
    for _ in zip(range(form.skip_rows), lines, strict=False):  # ends with it
        pass
    n_before = form.skip_rows
    sample: list[str] = []
    for line in lines:
        if line.strip():
            sample.append(line)
            if len(sample) == _SAMPLE_LINES:
                break
        elif not sample:
            n_before += 1
    if not sample:
        raise _no_rows(path)
    dialect = find_dialect(path, sample, form.separator, form.decimal)
    reader = cells_of(iter(sample), dialect.separator)
    rows = []
    n_header_lines = 0
    try:
        for row in reader:
            rows.append(row)
            n_header_lines = n_header_lines or reader.line_num  # type: ignore[attr-defined]
    except Exception:
        if not rows:
            raise
    if form.header is not False and names_all_but_first(rows[0], rows[1:]):
        rows[0].insert(0, "")  # as a column of row names has in the files of others
    n_columns = len(rows[0])
    even = [row for row in rows[1:] if len(row) == n_columns]
    if form.skip_rows == 0 and not even and len(rows) > 2:
        raise _ragged(path, n_before + 2, n_columns, len(rows[1]), after_first=True)
    header: tuple[str, ...] = ()
    with_header = form.header
    if with_header is None:
        with_header = has_header(path, rows[0], even, dialect.decimal, n_before + 1)
    if with_header:
        header = tuple(cell.strip() for cell in rows[0])
    body = even if with_header else [rows[0], *even]
    plain = dialect.decimal == "." and not any('"' in line for line in sample[1:])
    return _Head(
        dialect,
        header,
        n_columns,
        n_before,
        n_before + 1 + (n_header_lines if with_header else 0),
        plain
        and bool(body)
        and all(kind_of(cell, ".") == "number" for row in body for cell in row),
    )


def _read_plain(lines: Iterator[str], head: _Head) -> npt.NDArray[np.float64] | None:
    """Read a table of numbers alone; None where it is something else, or damaged."""
    separator = head.dialect.separator
    try:
        numbers = np.loadtxt(
            lines,
            np.float64,
            comments=None,
            delimiter=None if separator == " " else separator,
            skiprows=head.first_line - 1,
            ndmin=2,
        )
    except Exception:  # the other way finds the place, and the words
        return None
    if numbers.shape[1] != head.n_columns or not len(numbers):
        return None
    # also infinity, so that its line is found, which blank lines move
    is_usable = bool(np.isfinite(numbers).all())
    if is_usable and np.abs(numbers).max() <= np.finfo(np.float32).max:
        return numbers
    return None


def _read_rows(
    path: Path, text: TextIO, head: _Head, texts_of: str | int | None
) -> Table:
    lines = _lines(path, text)
    for _ in range(head.n_before):
        next(lines)
    kept = (
        None
        if texts_of is None
        else column_of(
            path.name, texts_of, head.header, head.n_columns, option="label_column"
        )
    )
    reader = cells_of(lines, head.dialect.separator)
    if head.header:
        next(reader)
    parts: list[npt.NDArray[np.float64]] = []
    columns: dict[int, Column] = {}
    line_of_row = array.array("q")
    n_columns, n_before = head.n_columns, head.n_before
    while True:
        rows = []
        for row in reader:
            if len(row) <= 1 and not "".join(row).strip():
                continue
            line = n_before + reader.line_num  # type: ignore[attr-defined]
            if len(row) != n_columns:
                raise _ragged(path, line, n_columns, len(row))
            rows.append(row)
            line_of_row.append(line)
            if len(rows) == _CHUNK_ROWS:
                break
        if not rows:
            break
        start = len(line_of_row) - len(rows)
        part = np.empty((len(rows), n_columns))
        for number, cells in enumerate(zip(*rows, strict=True)):
            part[:, number] = _numbers(
                cells, head.dialect.decimal, columns, number, start, number == kept
            )
        parts.append(part)
    if not parts:
        raise _no_rows(path)
    table = np.concatenate(parts)
    return Table(
        path, head.header, table, columns, np.frombuffer(line_of_row, np.int64)
    )


def _numbers(
    cells: tuple[str, ...],
    decimal: str,
    columns: dict[int, Column],
    number: int,
    start: int,
    keep: bool,
) -> array.array[float]:
    """Return the numbers of some cells; note in `columns` what is none."""
    if not keep and decimal == "." and "_" not in "".join(cells):
        try:
            return array.array("d", map(float, cells))
        except ValueError:
            pass
    column = Column()
    meanings: dict[str, float] = {}
    texts: set[str] = set()
    bools: set[str] = set()
    for cell in {*cells}:
        value = number_of(cell, decimal)
        if value is None:
            word = cell.strip().lower()
            value = BOOLS.get(word)
            if value is not None:
                bools.add(cell)
            elif word not in MISSING:
                texts.add(cell)
            value = np.nan if value is None else value
        meanings[cell] = value
    if texts or bools or keep:
        column = columns.setdefault(number, column)
        column.cells[start] = list(cells)
        column.n_texts += sum(cell in texts for cell in cells) if texts else 0
        column.n_bools += sum(cell in bools for cell in cells) if bools else 0
        if texts and column.first_text is None:
            column.first_text = start + next(
                i for i, cell in enumerate(cells) if cell in texts
            )
    return array.array("d", [meanings[cell] for cell in cells])


def _lines(path: Path, text: TextIO) -> Iterator[str]:
    while line := text.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise corrupt(
                path,
                f"lines of at most {LONGEST_LINE:,} characters",
                "a longer one",
            )
        yield line


def _ragged(
    path: Path, line: int, expected: int, found: int, *, after_first: bool = False
) -> CorruptFileError:
    hint = (
        "every line needs the same number; lines at the top that are no part of the "
        "table are left out with --skip-rows N (skip_rows=N in Python)"
        if after_first
        else "every line needs the same number; another separator is set with "
        "--separator (separator= in Python)"
        + (
            f", and lines at the top that are no part of the table are left out with "
            f"--skip-rows {line - 1} (skip_rows={line - 1})"
            if expected < found and line <= _SAMPLE_LINES
            else ""
        )
    )
    return CorruptFileError(
        f"{path}: line {line} has {found} cells, the first line has {expected}; {hint}",
        path=str(path),
        line=line,
        expected=expected,
        found=found,
    )


def _no_rows(path: Path) -> EmptyDataError:
    return EmptyDataError(
        f"{path}: there is no line of numbers; every line is one sample", path=str(path)
    )
