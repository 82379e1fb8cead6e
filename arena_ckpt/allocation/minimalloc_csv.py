"""Reads and writes buffers as CSV, in google/minimalloc's format with more columns.

The header names the columns, in any order: `id,lower,upper,size` and, where wanted,
`alignment`, `hint`, `gaps` and `offset`. Of our own are `group`, `pool`, `pools`, which
lists the pools that a buffer may lie in, and `weight`, what it costs to spill it. Of
the older names, `end` differs in more than its name: it is the last step, not the one
after it, and so are the ends of gaps beside it. What is written is always half-open.

NNTrainer's dumps of tensors are read as well, `name,bytes,start,end_excl,offset` and
columns that are passed over. Their offsets are an answer of its planner, and so are
never taken as fixed.

Rows are parsed in chunks, a column at a time; only a chunk that does not parse is gone
through cell by cell, to name the first one at fault.

References
----------
google/minimalloc, README.md, "Input format" and src/converter.cc.
"""

from __future__ import annotations

import array
import csv
import io
import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from arena_ckpt.allocation.buffers import Buffers, make_buffers
from arena_ckpt.allocation.csv_cells import KINDS, NUMBER, CellKind
from arena_ckpt.allocation.integers import Integers
from arena_ckpt.common.wording import nearest
from arena_ckpt.errors import (
    BufferFileError,
    InvalidBufferError,
    InvalidParameterError,
)
from arena_ckpt.files.source import find_source, reading

OLDER_NAMES = {
    "begin": "lower",
    "start": "lower",
    "end": "upper",
    "buffer": "id",
    "buffer_id": "id",
}
NNTRAINER_NAMES = {"name": "id", "bytes": "size", "end_excl": "upper"}
"""Columns of NNTrainer's dumps of tensors that have another name there."""

NNTRAINER_MARK = "end_excl"
"""The column by which a dump of NNTrainer's is told."""

NNTRAINER_OTHERS = ("is_wgrad", "lifespan", "exec_order")
"""Columns of such a dump that are passed over."""

_MEANINGS = {**OLDER_NAMES, **NNTRAINER_NAMES}
REQUIRED = ("id", "lower", "upper", "size")

ROWS_AT_ONCE = 512
"""Number of rows that are parsed together. More would not be faster: with 2**16 the
garbage collector scans the rows again and again, and reading takes four times as
long."""

LONGEST_SHOWN = 60
"""Maximum number of characters of a cell that a message repeats."""


@dataclass(frozen=True, slots=True, eq=False)
class BufferTable:
    """The content of a file of buffers, one element per row in each field.

    Attributes
    ----------
    columns : tuple of str
        The columns of the file in its order, in their newer names.
    rows : int64 array, shape (n,)
        The line each buffer stands on, as editors count: the header is on line 1.
    ids : tuple of str
        No two are equal.
    buffers : Buffers
    hint : tuple of int, or None
        minimalloc's, -1 for none; we only keep it. None where the column is missing.
    group : tuple of (str or None), or None
        As written, members alone included.
    offset, pool : tuple of (int or None), or None
        None for an empty cell, and for all where the column is missing.
    pools : tuple of (tuple of str or None), or None
        Names or numbers of the pools that a buffer may lie in; None for an empty cell,
        and for all where the column is missing.
    weight : tuple of (int or float), or None
        None where the column is missing.
    """

    columns: tuple[str, ...]
    rows: Integers
    ids: tuple[str, ...]
    buffers: Buffers
    hint: tuple[int, ...] | None
    group: tuple[str | None, ...] | None
    offset: tuple[int | None, ...] | None
    pool: tuple[int | None, ...] | None
    pools: tuple[tuple[str, ...] | None, ...] | None = None
    weight: tuple[int | float, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def label(self, index: int) -> str:
        """Return how messages name a buffer, for example ``"row 17 (id 'b3')"``."""
        return _place(int(self.rows[index]), self.ids[index])


def read_buffers(path: Path, *, fixed: bool = True) -> BufferTable:
    """Read buffers from a CSV file, plain or compressed by gzip.

    Parameters
    ----------
    path : Path
        UTF-8 with or without byte order mark, lines ending in LF or CRLF. Spaces around
        cells and empty lines are passed over.
    fixed : bool
        What the column `offset` holds: offsets that buffers must have, or else an
        answer to check, which then stands in the table only and not in its buffers.

    Returns
    -------
    BufferTable

    Raises
    ------
    DataFileNotFoundError
        There is no such file.
    CorruptFileError
        A gzip that cannot be unpacked.
    BufferFileError
        A column, row or cell that cannot be used; the place and the value are named.

    Notes
    -----
    O(n) in the size of the file; a million rows of four columns take 2 to 3
    seconds, of all ten with gaps in every fifth row about 12.
    """
    source = find_source(path)
    with reading(source.path, "a CSV of buffers"), source.open() as stream:
        data = stream.read()
    with io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="") as text:
        try:
            names, rows, cells = _read_columns(source.path, text)
        except UnicodeDecodeError:
            raise _not_utf8(source.path, data) from None
    columns = tuple(_MEANINGS.get(name, name) for name in names)
    fixed = fixed and NNTRAINER_MARK not in names
    if "end" in names:
        _make_half_open(cells)
    ids: list[str] = cells["id"]
    _refuse_duplicates(source.path, rows, ids)
    buffers = _checked_buffers(source.path, rows, cells, fixed=fixed)
    return BufferTable(
        columns,
        rows,
        tuple(ids),
        buffers,
        *(
            tuple(cells[name]) if name in cells else None
            for name in ("hint", "group", "offset", "pool", "pools", "weight")
        ),
    )


def write_layout(
    file: TextIO,
    table: BufferTable,
    offset: Iterable[int | None],
    pool: Iterable[int | None] | None = None,
) -> None:
    """Write a table of buffers with their offsets.

    Parameters
    ----------
    file : TextIO
        Opened with ``newline=""``.
    table : BufferTable
        Its columns are written in the order of the file they come from, in their newer
        names, half-open; only `offset` and `pool` are not taken from it.
    offset : iterable of int or None, length n
        Bytes; None leaves the cell empty.
    pool : iterable of int or None, optional
        Without it no column `pool` is written.

    Raises
    ------
    InvalidParameterError
        Not one offset or pool for each buffer; nothing is written.
    """
    buffers = table.buffers
    written: dict[str, Sequence[object]] = {
        "id": table.ids,
        "lower": buffers.lower.tolist(),
        "upper": buffers.upper.tolist(),
        "size": buffers.size.tolist(),
        "alignment": buffers.alignment.tolist(),
        "gaps": _gap_cells(buffers),
        "hint": table.hint or (),
        "group": table.group or (),
        "pools": [" ".join(some or ()) for some in table.pools or ()],
        "weight": table.weight or (),
        "offset": _answers(table, "offsets", offset),
    }
    if pool is not None:
        written["pool"] = _answers(table, "pools", pool)
    names = [name for name in table.columns if name in written]
    names += [name for name in ("offset", "pool") if name in written.keys() - names]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*(written[name] for name in names), strict=True))


# -- reading ---------------------------------------------------------------------------

_TEXT = CellKind("any text", str, list)
"""The kind of a column that is passed over."""

Record = tuple[int, list[str]]
"""Number of the line on which a record begins, and its cells."""


def _read_columns(
    path: Path, text: TextIO
) -> tuple[list[str], Integers, dict[str, Any]]:
    """Return the column names, the line of each buffer and the parsed columns."""
    records = _records(path, text)
    header = next(records, None)
    if header is None:
        raise BufferFileError(
            f"{path} is empty; it must begin with the header {','.join(REQUIRED)}",
            path=str(path),
            row=None,
        )
    names = _read_header(path, *header)
    kinds = {name: KINDS.get(_MEANINGS.get(name, name), _TEXT) for name in names}
    cells: dict[str, Any] = {
        _MEANINGS.get(name, name): array.array("q") if kind is NUMBER else []
        for name, kind in kinds.items()
    }
    rows = array.array("q")
    while chunk := list(itertools.islice(records, ROWS_AT_ONCE)):
        try:
            parsed = _parse_chunk(kinds, chunk)
        except ValueError:
            raise _fault(path, kinds, chunk) from None
        for column, more in zip(cells.values(), parsed, strict=True):
            column.extend(more)
        rows.extend([row for row, _ in chunk])
    if not rows:
        raise BufferFileError(
            f"{path} has no buffers, only the header on row {header[0]}; give each "
            "buffer a row below it",
            path=str(path),
            row=header[0],
        )
    return names, np.frombuffer(rows, np.int64), cells


def _records(path: Path, text: TextIO) -> Iterator[Record]:
    """Yield the records of all lines that are not empty."""
    reader = csv.reader(text, skipinitialspace=True, strict=True)
    row = 1
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield row, cells
            row = reader.line_num + 1
    except csv.Error as error:
        raise BufferFileError(
            f"{path}: row {row} cannot be split into cells ({error}); quotes must be "
            f"closed, and a cell may have up to {csv.field_size_limit():,} characters",
            path=str(path),
            row=row,
        ) from None


def _read_header(path: Path, row: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    facts: dict[str, Any] = {"path": str(path), "row": row, "columns": tuple(names)}
    place = f"{path}: row {row}, the header,"
    there = _shown(",".join(names))
    advice = (
        f"it must name {', '.join(REQUIRED)} and may name "
        f"{', '.join(name for name in KINDS if name not in REQUIRED)}, with commas "
        "between them"
    )
    known = [*KINDS, *_MEANINGS]
    if NNTRAINER_MARK in names:
        known += NNTRAINER_OTHERS
    for name in names:
        if name not in known:
            raise BufferFileError(
                f"{place} has the unknown column {_shown(name)}{nearest(name, known)} "
                f"in {there}; {advice}",
                name=name,
                **facts,
            )
    first: dict[str, str] = {}
    for name in names:
        meaning = _MEANINGS.get(name, name)
        if meaning in first:
            raise BufferFileError(
                f"{place} has {first[meaning]!r} and {name!r} in {there}, which are "
                f"one column, {meaning}; keep one",
                name=name,
                **facts,
            )
        first[meaning] = name
    missing = tuple(name for name in REQUIRED if name not in first)
    if missing:
        raise BufferFileError(
            f"{place} lacks {', '.join(missing)} in {there}; {advice}",
            missing=missing,
            **facts,
        )
    return names


def _parse_chunk(kinds: dict[str, CellKind], chunk: list[Record]) -> list[list[Any]]:
    """Parse records column by column; raise ValueError if a record cannot be parsed."""
    columns = list(zip(*[cells for _, cells in chunk], strict=True))
    return [
        kind.parse_column(cells)
        for kind, cells in zip(kinds.values(), columns, strict=True)
    ]


def _fault(
    path: Path, kinds: dict[str, CellKind], chunk: list[Record]
) -> BufferFileError:
    """Return the error for the first record that does not parse."""
    at_id = next(i for i, name in enumerate(kinds) if _MEANINGS.get(name, name) == "id")
    for row, cells in chunk:
        buffer_id = cells[at_id].strip() if at_id < len(cells) else ""
        place = f"{path}: {_place(row, buffer_id)}"
        facts: dict[str, Any] = {"path": str(path), "row": row, "id": buffer_id}
        if len(cells) != len(kinds):
            return BufferFileError(
                f"{place} has {len(cells)} cells, the header has {len(kinds)} "
                f"({', '.join(kinds)}); every row needs the same number",
                expected=len(kinds),
                found=len(cells),
                **facts,
            )
        for (name, kind), cell in zip(kinds.items(), cells, strict=True):
            try:
                kind.parse(cell)
            except ValueError:
                has = f"has {name} {_shown(cell)}" if cell.strip() else f"has no {name}"
                return BufferFileError(
                    f"{place} {has}; it must be {kind.must_be}",
                    column=name,
                    value=cell,
                    **facts,
                )
    raise AssertionError("a chunk failed to parse whose cells all parse")


def _make_half_open(cells: dict[str, Any]) -> None:
    """Turn the inclusive ends of live ranges and gaps into half-open ones."""
    cells["upper"] = np.frombuffer(cells["upper"], np.int64) + 1
    if "gaps" in cells:
        cells["gaps"] = [
            gaps and [(gap[0], gap[1] + 1, *gap[2:]) for gap in gaps]
            for gaps in cells["gaps"]
        ]


def _refuse_duplicates(path: Path, rows: Integers, ids: list[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    first: dict[str, int] = {}
    for row, buffer_id in zip(rows.tolist(), ids, strict=True):
        if buffer_id in first:
            raise BufferFileError(
                f"{path}: {_place(row, buffer_id)} has the id of row "
                f"{first[buffer_id]}; ids must differ",
                path=str(path),
                row=row,
                id=buffer_id,
                first_row=first[buffer_id],
            )
        first[buffer_id] = row


def _checked_buffers(
    path: Path, rows: Integers, cells: dict[str, Any], *, fixed: bool
) -> Buffers:
    ids = cells["id"]

    def label(index: int) -> str:
        return _place(int(rows[index]), ids[index])

    try:
        return make_buffers(
            *(np.asarray(cells[name]) for name in ("lower", "upper", "size")),
            alignment=np.asarray(cells["alignment"]) if "alignment" in cells else 1,
            fixed_offset=cells.get("offset") if fixed else None,
            gaps=cells.get("gaps"),
            group=cells.get("group"),
            label=label,
        )
    except InvalidBufferError as error:
        (index,) = vars(error)["buffers"]
        raise BufferFileError(
            f"{path}: {error}", path=str(path), row=int(rows[index]), id=ids[index]
        ) from error


def _not_utf8(path: Path, data: bytes) -> BufferFileError:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        byte = data[error.start]
    row = before.count(b"\n") + 1
    return BufferFileError(
        f"{path}: row {row} has the byte {byte:#04x}, which is not UTF-8; save the "
        "file as CSV in UTF-8",
        path=str(path),
        row=row,
    )


def _place(row: int, buffer_id: str) -> str:
    return f"row {row} (id {_shown(buffer_id)})" if buffer_id else f"row {row}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")


# -- writing ---------------------------------------------------------------------------


def _answers(
    table: BufferTable, what: str, answers: Iterable[int | None]
) -> list[int | None]:
    """Return the offset or pool of each buffer, None where a cell is to stay empty."""
    numbers = [None if each is None else operator.index(each) for each in answers]
    if len(numbers) != len(table):
        raise InvalidParameterError(
            f"there are {len(table)} buffers but {len(numbers)} {what}; give one for "
            "each buffer"
        )
    return numbers


def _gap_cells(buffers: Buffers) -> list[str]:
    cells = [""] * len(buffers)
    for owner, lower, upper, low, high in zip(
        buffers.gap_owner.tolist(),
        buffers.gap_lower.tolist(),
        buffers.gap_upper.tolist(),
        buffers.window_lower.tolist(),
        buffers.window_upper.tolist(),
        strict=True,
    ):
        gap = f"{lower}-{upper}" + (f"@{low}:{high}" if low < high else "")
        cells[owner] += f" {gap}" if cells[owner] else gap
    return cells
