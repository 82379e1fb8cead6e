"""A table that was read: its numbers, its texts, and where each stands in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.wording import nearest, quote, quoted
from arena_ckpt.errors import (
    CorruptFileError,
    InvalidParameterError,
    MissingValueError,
    NonFiniteDataError,
)
from arena_ckpt.files.table_dialect import MISSING


@dataclass(slots=True, eq=False)
class Column:
    """What stands in a column beside numbers.

    Attributes
    ----------
    cells : dict from int to list of str
        The cells of some rows, by the number of the first: all rows with texts or truth
        values are among them, or all rows, where that was asked for.
    n_texts, n_bools : int
    first_text : int or None
        Row of the first text.
    """

    cells: dict[int, list[str]] = field(default_factory=dict)
    n_texts: int = 0
    n_bools: int = 0
    first_text: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table, read.

    Attributes
    ----------
    path : Path
    header : tuple of str
        Names of the columns; empty if the file has none.
    numbers : float64 array, shape (rows, columns)
        NaN where there is no value, or a text; TRUE is 1, FALSE is 0.
    columns : dict from int to Column
        Those with texts or truth values.
    lines : int64 array, shape (rows,)
        The line of the file on which each row ends, counted from 1.
    """

    path: Path
    header: tuple[str, ...]
    numbers: npt.NDArray[np.float64]
    columns: dict[int, Column]
    lines: npt.NDArray[np.int64]

    def place(self, row: int, column: int) -> str:
        """Return a text that says where a cell stands; lines and columns from 1."""
        return _place(int(self.lines[row]), column, self.header)

    def texts(self, column: int) -> list[str]:
        """Return the cells of a column as texts, empty where there is no value."""
        texts = [""] * len(self.numbers)
        for start, cells in self.columns[column].cells.items():
            texts[start : start + len(cells)] = [
                "" if cell.lower() in MISSING else cell
                for cell in map(str.strip, cells)
            ]
        return texts

    def require_numbers(self, columns: list[int]) -> None:
        """Refuse texts, infinity and numbers beyond float32 in some columns.

        Raises
        ------
        CorruptFileError, NonFiniteDataError
        """
        for column in columns:
            of = self.columns.get(column)
            if of is not None and of.first_text is not None:
                raise self._text_among_numbers(column, of.first_text)
        part = self.numbers[:, columns]
        usable = np.isnan(part) | (np.abs(part) <= np.finfo(np.float32).max)
        if usable.all():
            return
        n_bad = int(np.count_nonzero(~usable))
        row, place = divmod(int(np.argmin(usable)), len(columns))
        value, column = float(part[row, place]), columns[place]
        raise NonFiniteDataError(
            f"{self.path}: {self.place(row, column)} is {value}, the first of "
            f"{n_bad:,} cells that are infinite or beyond float32 (3.4e38); remove "
            "their rows or fill them in",
            path=str(self.path),
            line=int(self.lines[row]),
            column=column + 1,
            count=n_bad,
            value=value,
        )

    def refuse_missing(
        self, missing: npt.NDArray[np.bool_], columns: list[int], hint: str
    ) -> None:
        """Refuse cells without a value.

        Parameters
        ----------
        missing : bool array, shape (rows, len(columns))
        columns : list of int
        hint : str
            What to do next.

        Raises
        ------
        MissingValueError
        """
        count = int(np.count_nonzero(missing))
        if not count:
            return
        row, place = divmod(int(np.argmax(missing)), len(columns))
        raise MissingValueError(
            f"{self.path}: {self.place(row, columns[place])} is empty or NA, "
            f"{_among(missing)}; {hint}",
            path=str(self.path),
            line=int(self.lines[row]),
            column=columns[place] + 1,
            count=count,
        )

    def _text_among_numbers(self, column: int, row: int) -> CorruptFileError:
        of = self.columns[column]
        start = max(first for first in of.cells if first <= row)
        cell = of.cells[start][row - start].strip()
        return CorruptFileError(
            f"{self.path}: {self.place(row, column)} is {cell[:40]!r}, which is no "
            "number; every cell below the header must be a number. Names of classes "
            "belong into the label column (--label-column), names of rows into "
            "--index-column, which leaves the column out; other texts have to become "
            "numbers before",
            path=str(self.path),
            line=int(self.lines[row]),
            column=column + 1,
            cell=cell,
        )


def _among(missing: npt.NDArray[np.bool_]) -> str:
    """Return a text that says how many cells have no value."""
    count = int(np.count_nonzero(missing))
    if count == 1:
        return f"the only cell of {len(missing):,} rows without a value"
    n_rows = int(np.count_nonzero(missing.any(axis=1)))
    return (
        f"the first of {count:,} cells without a value in {n_rows:,} of "
        f"{len(missing):,} rows"
    )


def column_of(
    table_name: str,
    column: object,
    header: tuple[str, ...],
    n_columns: int,
    *,
    option: str,
    words: tuple[str, ...] = (),
) -> int:
    """Return the number of a column that is named, or numbered from 0.

    Parameters
    ----------
    table_name : str
        For messages.
    column : str or int
        A name in the header, or a number; negative ones count from the end. A text with
        a whole number is one, unless the header has it.
    header : tuple of str
    n_columns : int
    option : str
        Name of the parameter in messages.
    words : tuple of str
        Other values that there are.

    Raises
    ------
    InvalidParameterError
    """
    number: int | None = None
    if isinstance(column, str):
        if column.strip() in header:
            if header.count(column.strip()) > 1:
                raise InvalidParameterError(
                    f"{table_name}: {header.count(column.strip())} columns have the "
                    f"name {column.strip()!r}; give the number of one, from 0",
                    **{option: column},
                )
            return header.index(column.strip())
        try:
            number = int(column[:20])
        except ValueError:
            number = None
    elif isinstance(column, int | np.integer) and not isinstance(column, bool):
        number = int(column)
    if number is not None and -n_columns <= number < n_columns:
        return number % n_columns
    named = f", a name ({quote(header)})" if header else ""
    near = nearest(column, header) if isinstance(column, str) else ""
    flag = f" (--{option.replace('_', '-')})"
    raise InvalidParameterError(
        f"{table_name}: {option}={quoted(column)}{flag} is not possible{near}; expected"
        f" {''.join(f'{word!r}, ' for word in words)}a number from 0 to {n_columns - 1}"
        f", or from -1 to {-n_columns} from the end{named}",
        name=table_name,
        n_columns=n_columns,
        **{option: column},
    )


def _place(line: int, column: int, header: tuple[str, ...]) -> str:
    name = f" ({header[column]!r})" if header else ""
    return f"line {line}, column {column + 1}{name}"
