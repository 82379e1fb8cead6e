"""Reads tables of numbers as text, separated by commas, semicolons or tabs."""

from __future__ import annotations

import array
import csv
import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from arena_ckpt.errors import CorruptFileError, EmptyDataError, NonFiniteDataError
from arena_ckpt.files.source import corrupt, find_source, reading

LONGEST_LINE = 2**26
"""Maximum number of characters of a line; a longer one is no table and would be read in
one piece."""


def read_table(path: str | os.PathLike[str]) -> npt.NDArray[np.float64]:
    """Read a table of numbers, plain or compressed by gzip.

    The first line decides: it is a header if none of its cells is a number, and the
    cells are separated by tabs if it has one, else by semicolons if it has one, else
    by commas. Empty lines are passed over.

    Parameters
    ----------
    path : path

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
    source = find_source(path)
    with (
        reading(source.path, "a table of numbers as text"),
        source.open() as stream,
        io.TextIOWrapper(stream, "utf-8-sig", newline="") as text,
    ):
        return _read_rows(source.path, text)


def _read_rows(path: Path, text: TextIO) -> npt.NDArray[np.float64]:
    lines = _lines(path, text)
    n_blank = 0
    for first in lines:
        if first.strip():
            break
        n_blank += 1
    else:
        raise _no_rows(path)
    delimiter = next((mark for mark in "\t;" if mark in first), ",")
    reader = csv.reader(
        itertools.chain([first], lines), delimiter=delimiter, strict=True
    )
    header: list[str] = []
    n_columns = 0
    cells = array.array("d")
    line_of_row = array.array("q")
    for row in reader:
        line = n_blank + reader.line_num
        if not n_columns:
            n_columns = len(row)
            if any(row) and not any(_is_number(cell) for cell in row):
                header = row
                continue
        if len(row) <= 1 and not "".join(row).strip():
            continue
        if len(row) != n_columns:
            raise _ragged(path, line, n_columns, len(row))
        try:
            _refuse_underscores("".join(row))
            cells.extend(map(float, row))
        except ValueError:
            raise _bad_cell(path, line, row, header) from None
        line_of_row.append(line)
    if not line_of_row:
        raise _no_rows(path)
    table = np.frombuffer(cells, np.float64).reshape(-1, n_columns)
    _refuse_non_finite(path, table, line_of_row, header)
    return table


def _refuse_non_finite(
    path: Path,
    table: npt.NDArray[np.float64],
    line_of_row: Sequence[int],
    header: list[str],
) -> None:
    """Refuse a table with a cell that is no finite float32.

    Parameters
    ----------
    path : Path
    table : float64 array, shape (rows, columns)
    line_of_row : sequence of int
        The line of the file on which each row stands.
    header : list of str
        The names of the columns; empty if the file has none.
    """
    finite = np.abs(table) <= np.finfo(np.float32).max  # false for NaN
    if not finite.all():
        n_bad = int(np.count_nonzero(~finite))
        at_row, at_column = divmod(int(np.argmin(finite)), table.shape[1])
        value = float(table[at_row, at_column])
        line = line_of_row[at_row]
        raise NonFiniteDataError(
            f"{path}: {_place(line, at_column, header)} is {value}, the first of "
            f"{n_bad:,} cells that are NaN, infinite or beyond float32 (3.4e38); "
            "remove their rows or fill them in",
            path=str(path),
            line=line,
            column=at_column + 1,
            count=n_bad,
            value=value,
        )


def _lines(path: Path, text: TextIO) -> Iterator[str]:
    while line := text.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise corrupt(
                path,
                f"lines of at most {LONGEST_LINE:,} characters",
                "a longer one",
            )
        yield line


def _refuse_underscores(text: str) -> None:
    if "_" in text:  # float() takes 1_000, as Python does; no other program does
        raise ValueError


def _is_number(cell: str) -> bool:
    try:
        _refuse_underscores(cell)
        float(cell)
    except ValueError:
        return False
    return True


def _place(line: int, column: int, header: list[str]) -> str:
    """Return a text that says where a cell stands; lines and columns count from 1."""
    name = f" ({header[column]!r})" if header else ""
    return f"line {line}, column {column + 1}{name}"


def _bad_cell(
    path: Path, line: int, row: list[str], header: list[str]
) -> CorruptFileError:
    column, cell = next((i, cell) for i, cell in enumerate(row) if not _is_number(cell))
    what = f"{cell[:40]!r}, which is no number" if cell.strip() else "empty"
    return CorruptFileError(
        f"{path}: {_place(line, column, header)} is {what}; every cell below "
        "the header must be a number, and a line with numbers in it is no header",
        path=str(path),
        line=line,
        column=column + 1,
        cell=cell,
    )


def _ragged(path: Path, line: int, expected: int, found: int) -> CorruptFileError:
    return CorruptFileError(
        f"{path}: line {line} has {found} cells, the first line has {expected}; every "
        "line needs the same number",
        path=str(path),
        line=line,
        expected=expected,
        found=found,
    )


def _no_rows(path: Path) -> EmptyDataError:
    return EmptyDataError(
        f"{path}: there is no line of numbers; every line is one sample", path=str(path)
    )
