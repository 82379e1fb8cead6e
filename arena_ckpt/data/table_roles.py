"""Makes samples and labels of a table: which column is what, classes, missing cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import quoted
from arena_ckpt.data.gaps import Gaps, observed_means, parse_means
from arena_ckpt.errors import (
    ArenaWarning,
    CorruptFileError,
    DataShapeError,
    EmptyDataError,
    InvalidParameterError,
    MissingValueError,
)
from arena_ckpt.files import Table, column_of

LABEL_WORDS = ("last", "first", "none")
MISSING_WAYS = ("drop", "mean")

_PANDAS_NAMES = ("", "unnamed: 0", "rownames", "row.names")
_COUNT_NAMES = ("id", "index", "obs")


@dataclass(frozen=True, slots=True)
class TableRoles:
    """What the columns of a table are, and what becomes of missing cells.

    Attributes
    ----------
    label_column : str or int
        A name, a number from 0 or from -1 at the end, or one of `LABEL_WORDS`.
    targets : int or None
        Number of columns at the end that are values to predict; then there is no label
        column.
    index_column : str, int or None
        A column that is left out; ``"none"`` leaves out none, None one that is plainly
        a number or name of the row.
    missing : {None, "drop", "mean"} or sequence of float
        None refuses missing cells; numbers are filled in, one for each column of the
        samples.
    label_names : bool
        Whether what stands in the label column are names of classes, numbers too.
    """

    label_column: str | int = "last"
    targets: int | None = None
    index_column: str | int | None = None
    missing: str | Sequence[float] | None = None
    label_names: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot be.

        Raises
        ------
        InvalidParameterError
        """
        is_way = self.missing is None or isinstance(self.missing, str)
        if not is_way:
            parse_means("missing", self.missing)
        elif self.missing not in (None, *MISSING_WAYS):
            raise InvalidParameterError(
                f"missing={quoted(self.missing)} is not possible; expected 'drop', "
                "which leaves rows out, 'mean', which fills in the mean of the column, "
                "or None, which refuses cells without a value",
                missing=self.missing,
            )
        if not isinstance(self.label_names, bool):
            raise InvalidParameterError(
                f"label_names={quoted(self.label_names)} is not possible; expected "
                "True or False",
                label_names=self.label_names,
            )
        if self.targets is None:
            return
        if (
            not isinstance(self.targets, int | np.integer)
            or isinstance(self.targets, bool)
            or self.targets < 1
        ):
            raise InvalidParameterError(
                f"targets={quoted(self.targets)} is not possible; expected a whole "
                "number of at least 1: columns at the end that are values to predict",
                targets=self.targets,
            )
        if self.label_column != "last" or self.label_names:
            raise InvalidParameterError(
                "targets (--targets) and label_column or label_names (--label-column, "
                "--label-names) exclude each other: the last columns are values, or "
                "one column is labels; keep one",
                targets=self.targets,
                label_column=self.label_column,
            )

    @property
    def texts_of(self) -> str | int | None:
        """The column whose cells have to be kept as texts."""
        if not self.label_names or self.label_column == "none":
            return None
        return {"last": -1, "first": 0}.get(str(self.label_column), self.label_column)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledTable:
    """Samples and labels of a table.

    Attributes
    ----------
    x : float64 array, shape (n, features)
    y : int64 array (n,), float64 array (n, targets), or None
    classes : tuple of str or None
        Names of the classes, where the labels are names.
    gaps : Gaps or None
        Where means are filled in.
    """

    x: npt.NDArray[np.float64]
    y: npt.NDArray[Any] | None
    classes: tuple[str, ...] | None
    gaps: Gaps | None


def labelled(table: Table, roles: TableRoles) -> LabelledTable:
    """Return the samples and labels of a table.

    Raises
    ------
    InvalidParameterError
        A column that the table does not have.
    DataShapeError
        No column is left for samples.
    CorruptFileError
        A text among numbers.
    MissingValueError
        Cells without a value.
    NonFiniteDataError
        A number beyond float32.
    EmptyDataError
        No row is left.
    """
    name, n_columns = table.path.name, table.numbers.shape[1]
    label = _label_column(table, roles, n_columns)
    index = _index_column(table, roles, label)
    rest = [i for i in range(n_columns) if i not in (label, index)]
    n_targets = roles.targets or 0
    features = rest[: max(len(rest) - n_targets, 0)]
    targets = rest[len(features) :]
    if not features or len(targets) < n_targets:
        raise _no_features(table, label, index, n_targets)
    names = None if label is None else _names(table, label, roles)
    if label is not None and names is None:
        targets = [label]
    numbers = [*features, *targets]
    table.require_numbers(numbers)
    chosen, kept, gaps = _filled(table, roles, features, targets, names)
    x, values = chosen[:, : len(features)], chosen[:, len(features) :]
    if not len(x):
        raise EmptyDataError(
            f"{name}: missing='drop' (--missing drop) leaves out all "
            f"{len(table.numbers):,} rows; missing='mean' fills cells in, and "
            "index_column (--index-column) leaves out a column",
            name=name,
        )
    if names is not None:
        known = [text for text, keep in zip(names, kept, strict=True) if keep]
        classes, numbers_of = _classes(known)
        return LabelledTable(x, numbers_of, classes, gaps)
    if not targets:
        return LabelledTable(x, None, None, gaps)
    y = values if n_targets else _as_labels(values[:, 0])
    return LabelledTable(x, y, None, gaps)


def _as_labels(values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    # whole numbers beyond 2**53 are no longer exact in the table
    if (np.trunc(values) == values).all() and np.abs(values).max() <= 2**53:
        return values.astype(np.int64)
    return values


def _label_column(table: Table, roles: TableRoles, n_columns: int) -> int | None:
    column = roles.label_column
    if roles.targets is not None or (isinstance(column, str) and column == "none"):
        return None
    if isinstance(column, str) and column in LABEL_WORDS:
        return 0 if column == "first" else n_columns - 1
    return column_of(
        table.path.name,
        column,
        table.header,
        n_columns,
        option="label_column",
        words=LABEL_WORDS,
    )


def _index_column(table: Table, roles: TableRoles, label: int | None) -> int | None:
    """Return the column that numbers or names the rows, if there is one."""
    name, n_columns = table.path.name, table.numbers.shape[1]
    column = roles.index_column
    if isinstance(column, str) and column == "none":
        return None
    if column is not None:
        found = column_of(
            name,
            column,
            table.header,
            n_columns,
            option="index_column",
            words=("none",),
        )
        if found == label:
            raise InvalidParameterError(
                f"{name}: index_column={quoted(column)} (--index-column) is the label "
                "column too; name another with label_column (--label-column)",
                index_column=column,
            )
        return found
    if label == 0 or n_columns < 3 or not _looks_like_an_index(table):
        return None
    warn_user(
        f"{name}: the first column ({table.header[0]!r}) numbers or names the rows and "
        "is left out; index_column=0 (--index-column 0) says so, and "
        "index_column='none' (--index-column none) keeps it",
        ArenaWarning,
    )
    return 0


def _looks_like_an_index(table: Table) -> bool:
    if not table.header:
        return False
    name = table.header[0].lower()
    column = table.columns.get(0)
    if column is not None and column.n_texts:
        return name in _PANDAS_NAMES
    values = table.numbers[:, 0]
    if np.isnan(values).any() or (np.trunc(values) != values).any():
        return False
    counts = values[0] in (0, 1) and bool((np.diff(values) == 1).all())
    # rows that were chosen or shuffled keep their numbers
    is_distinct = len(np.unique(values)) == len(values)
    return (name in _PANDAS_NAMES and is_distinct) or (
        name in _COUNT_NAMES and counts and len(values) > 1
    )


def _names(table: Table, label: int, roles: TableRoles) -> list[str] | None:
    """Return the names in the label column, or None where it has numbers."""
    column = table.columns.get(label)
    if roles.label_names:
        return table.texts(label)
    if column is None or not (column.n_texts or column.n_bools):
        return None
    n_values = int(np.count_nonzero(~np.isnan(table.numbers[:, label])))
    n_numbers = n_values - column.n_bools
    if not n_numbers:
        return table.texts(label)
    if not column.n_texts:  # truth values among numbers
        return None
    assert column.first_text is not None
    row = column.first_text
    start = max(first for first in column.cells if first <= row)
    cell = column.cells[start][row - start].strip()
    raise CorruptFileError(
        f"{table.path}: {table.place(row, label)} is {cell[:40]!r}, which is no number,"
        f" as {n_numbers:,} other labels are; every cell below the header must be a "
        "number, or all labels names. --label-names (label_names=True in Python) takes "
        "numbers for names too",
        path=str(table.path),
        line=int(table.lines[row]),
        column=label + 1,
        cell=cell,
    )


def _filled(
    table: Table,
    roles: TableRoles,
    features: list[int],
    targets: list[int],
    names: list[str] | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], Gaps | None]:
    """Return features and targets without missing cells, rows that are kept, gaps."""
    columns = [*features, *targets]
    part = table.numbers[:, columns]
    missing = np.isnan(part)
    nameless = (
        np.zeros((len(part), 0), bool)
        if names is None
        else np.array([[not name] for name in names])
    )
    kept: npt.NDArray[np.bool_] = np.ones(len(part), bool)
    labels = _label_place(table, roles)
    if roles.missing not in (None, "drop"):
        of_labels = np.concatenate([missing[:, len(features) :], nameless], axis=1)
        table.refuse_missing(
            of_labels,
            targets or labels,
            "a label cannot be filled in: leave the rows out with --missing drop "
            "(missing='drop' in Python)",
        )
        part = part.copy()
        gaps = _gaps(table, roles, part[:, : len(features)], features)
        return part, kept, gaps
    if not (missing.any() or nameless.any()):
        return part, kept, None
    if roles.missing == "drop":
        kept = ~np.logical_or(missing.any(axis=1), nameless.any(axis=1))
        return part[kept], kept, None
    table.refuse_missing(
        np.concatenate([missing, nameless], axis=1),
        [*columns, *(labels if names is not None else [])],
        "leave their rows out with --missing drop, or fill in the mean of the column "
        "with --missing mean (missing='drop' or 'mean' in Python)",
    )
    raise AssertionError("missing cells are refused")


def _gaps(
    table: Table, roles: TableRoles, x: npt.NDArray[np.float64], columns: list[int]
) -> Gaps:
    """Fill in means where samples have no value, and return what was done."""
    cells = np.isnan(x)
    if roles.missing == "mean":
        means = observed_means(x, cells, np.full(len(columns), np.nan))
        empty = np.flatnonzero(np.isnan(means))
        if len(empty):
            column = columns[int(empty[0])]
            raise MissingValueError(
                f"{table.path}: column {column + 1} has no value at all, so it has no "
                "mean; leave it out with --index-column "
                f"{column} (index_column={column} in Python)",
                path=str(table.path),
                line=int(table.lines[0]),
                column=column + 1,
                count=len(x),
            )
    else:
        means = parse_means("missing", roles.missing, len(columns))
    x[:] = np.where(cells, means, x)
    return Gaps(means, cells)


def _label_place(table: Table, roles: TableRoles) -> list[int]:
    column = _label_column(table, roles, table.numbers.shape[1])
    return [] if column is None else [column]


def _classes(names: list[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the sorted names of classes, numbers by their value, and class numbers."""
    classes = sorted({*names})
    try:
        classes.sort(key=float)
    except ValueError:
        pass
    number_of = {name: number for number, name in enumerate(classes)}
    return tuple(classes), np.array([number_of[name] for name in names], np.int64)


def _no_features(
    table: Table, label: int | None, index: int | None, n_targets: int
) -> DataShapeError:
    name, shape = table.path.name, table.numbers.shape
    if n_targets:
        what = f"targets={n_targets} (--targets) leave none of them"
    elif index is not None:
        what = "of which one is labels and one an index"
    else:
        what = "which is the labels"
    only = "only one column" if shape[1] == 1 else f"{shape[1]} columns"
    return DataShapeError(
        f"{name}: there is {only}, {what}; samples need at least one more, or "
        "label_column='none' (--label-column none)",
        name=name,
        found=shape,
    )
