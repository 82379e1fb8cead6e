"""The work of `arena-ckpt allocate`: places buffers of a file, or checks a layout."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from arena_ckpt.allocation.allocator import allocate_buffers
from arena_ckpt.allocation.bodies import make_bodies
from arena_ckpt.allocation.bounds import lower_bound
from arena_ckpt.allocation.integers import Integers
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.minimalloc_csv import (
    BufferTable,
    read_buffers,
    write_layout,
)
from arena_ckpt.allocation.pool_rules import Pools, PoolSizes
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.cli.failures import INTERRUPTED, OK, print_json
from arena_ckpt.cli.output import require_writable
from arena_ckpt.cli.pool_options import pool_documents, pool_lines, pools_of_file
from arena_ckpt.common.units import format_bytes
from arena_ckpt.errors import (
    ArenaError,
    BufferFileError,
    CapacityError,
    InvalidBufferError,
    LayoutError,
    TimeLimitError,
)
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.report.buffer_plan import plan_of_buffers, require_dump
from arena_ckpt.report.html import plan_html
from arena_ckpt.report.layout_png import layout_png, percent_above
from arena_ckpt.report.pillow import require_pillow

STANDARD_OUTPUT = Path("-")
LABELS_SHOWN = 12
"""Maximum number of buffers that a message names."""

PROOFS = {
    "live bytes": "the bytes alive in one step",
    "largest buffer": "the largest buffer or group",
    "fixed offset": "the highest fixed offset",
    "exhausted": "an exhaustive search",
}


def allocate_file(
    path: Path,
    output: Path | None,
    png: Path | None,
    html: Path | None,
    capacity: int | None,
    options: SearchOptions,
    *,
    pool_sizes: PoolSizes | None = None,
    as_json: bool,
) -> int:
    """Place the buffers of a file, write the requested files and print the result.

    Parameters
    ----------
    path : Path
        CSV, plain or in gzip.
    output : Path or None
        Where the CSV with offsets goes; "-" is standard output.
    png : Path or None
        Where the picture goes.
    html : Path or None
        Where the page of a dump of NNTrainer's goes.
    capacity : int or None
        Bytes that the layout has to fit in.
    options : SearchOptions
    pool_sizes : sequence or mapping, optional
        Sizes of several memories to spread the buffers over.
    as_json : bool
        Print a document instead of the summary.

    Returns
    -------
    int
        The exit code: 130 after Ctrl-C, which still writes the best layout so far.

    Raises
    ------
    BufferFileError
        Also for offsets that collide, with their rows.
    CapacityError
        Names rows and ids; `ids` and `rows` are added to what it carries.
    TimeLimitError
        Nothing is written.
    """
    _require_places(output, png, html)
    table = read_buffers(path)
    if html is not None:
        require_dump(str(path), table)
    pools = None if pool_sizes is None else pools_of_file(path, table, pool_sizes)
    try:
        layout = allocate_buffers(table.buffers, capacity, pools, options)
    except InvalidBufferError as error:
        raise _named(error, BufferFileError, path, table, "buffers") from error
    except CapacityError as error:
        raise _named(error, CapacityError, path, table, "conflict") from error
    except TimeLimitError as error:
        raise _not_known(error, path, table) from error
    text = io.StringIO(newline="")
    where = None if layout.pool is None else layout.pool.tolist()
    write_layout(text, table, layout.offset.tolist(), where)
    written = text.getvalue().encode()
    picture = None if png is None else layout_png(table.buffers, layout, path.name)
    page = None
    if html is not None:
        page = _page(
            path, table, layout.offset, layout.lower_bound_bytes, layout.engine
        )
    if output is not None and output != STANDARD_OUTPUT:
        write_whole(output, lambda file: file.write(written))
    _write_picture(png, picture)
    _write_picture(html, page)
    answer = _Answer(path, table, layout, capacity, output, png, html, pools)
    if as_json:
        print_json(answer.document())
    else:
        to_stderr = output == STANDARD_OUTPUT
        if to_stderr:
            click.echo(written, nl=False)
        click.echo(answer.summary(), err=to_stderr)
    return INTERRUPTED if layout.stats["interrupted"] else OK


def check_file(
    path: Path,
    capacity: int | None,
    png: Path | None,
    html: Path | None = None,
    *,
    pool_sizes: PoolSizes | None = None,
    as_json: bool,
) -> int:
    """Check the layout in a file and print its height.

    Parameters
    ----------
    path : Path
        CSV with a column `offset` and perhaps `pool`, and no cell of them empty.
    capacity : int or None
        Bytes that the layout has to fit in; for pools, their sum.
    png : Path or None
        Where the picture goes.
    html : Path or None
        Where the page of a dump of NNTrainer's goes.
    pool_sizes : sequence or mapping, optional
        Sizes that the pools may have; then the column `pools` is checked as well.
    as_json : bool
        Print a document instead of a line.

    Raises
    ------
    BufferFileError
        A column or cell is missing.
    LayoutError
        A rule is broken; its message names it with rows and ids.
    """
    _require_places(None, png, html)
    table = read_buffers(path, fixed=False)
    if html is not None:
        require_dump(str(path), table)
    if table.offset is None:
        raise BufferFileError(
            f"{path} has no column offset, so there is no layout to check; its columns "
            f"are {', '.join(table.columns)}",
            path=str(path),
            row=None,
        )
    offset = _filled(path, table, "offset", table.offset)
    has_pools = table.pool is not None and any(p is not None for p in table.pool)
    pool = _filled(path, table, "pool", table.pool or ()) if has_pools else None
    limits = _limits(path, table, pool, pool_sizes)
    heights = _pool_heights(table, offset, pool)
    height = sum(heights)
    try:
        check_layout(
            table.buffers,
            offset,
            height if capacity is None else capacity,
            pool=pool,
            label=table.label,
            **limits,
        )
    except LayoutError as error:
        facts = vars(error)
        raise LayoutError(
            f"{path}: {error}", **facts, **_places(table, facts["buffers"])
        ) from error
    if png is not None:
        # The part of a bound that comes from alignment is proved for one pool only.
        bound = 0 if pool is not None else _bound_bytes(table)
        layout = Layout(offset, height, bound, "file", pool, heights)
        _write_picture(png, layout_png(table.buffers, layout, path.name))
    if html is not None:
        _write_picture(html, _page(path, table, offset, _bound_bytes(table), "file"))
    if as_json:
        print_json(
            {
                "command": "allocate",
                "file": str(path),
                "valid": True,
                "n_buffers": len(table),
                "height_bytes": height,
                "capacity_bytes": capacity,
                "png_file": None if png is None else str(png),
                "html_file": None if html is None else str(html),
            }
        )
        return OK
    pools = "" if pool is None else f" in {len(heights)} pools"
    click.echo(f"valid: {len(table):,} buffers{pools}, height {format_bytes(height)}")
    if png is not None:
        click.echo(f"the picture is in {png}")
    if html is not None:
        click.echo(f"the page is in {html}")
    return OK


def _require_places(output: Path | None, png: Path | None, html: Path | None) -> None:
    """Refuse, before the work, files that could not be written after it."""
    if html is not None:
        require_writable(html)
    if output is not None and output != STANDARD_OUTPUT:
        require_writable(output)
    if png is not None:
        require_writable(png)
        require_pillow()


def _write_picture(png: Path | None, picture: bytes | None) -> None:
    if png is not None and picture is not None:
        write_whole(png, lambda file: file.write(picture))


def _page(
    path: Path, table: BufferTable, offset: Integers, bound: int, engine: str
) -> bytes:
    """Return a page of a layout, and of the one in the file where it is another."""
    facts: dict[str, Any] = {"lower_bound_bytes": bound}
    plan = plan_of_buffers(str(path), table, offset, engine=engine, **facts)
    before = None
    if (own := _own_layout(table)) is not None and engine != "file":
        before = plan_of_buffers(str(path), table, own, engine="file", **facts)
    page = plan_html(plan, path.name, before=before, before_title="in the file")
    return page.encode()


def _own_layout(table: BufferTable) -> Integers | None:
    """Return the offsets in a file, or None if they are no valid layout."""
    if table.offset is None or None in table.offset:
        return None
    offset = np.array(table.offset, dtype=np.int64)
    height = max(0, int((offset + table.buffers.size).max()))
    try:
        check_layout(table.buffers, offset, height)
    except LayoutError:
        return None
    return offset


# -- answers in a file -----------------------------------------------------------------


def _filled(
    path: Path, table: BufferTable, name: str, cells: tuple[int | None, ...]
) -> Integers:
    for index, cell in enumerate(cells):
        if cell is None:
            raise BufferFileError(
                f"{path}: {table.label(index)} has no {name}; a layout to check needs "
                "one for every buffer",
                path=str(path),
                row=int(table.rows[index]),
                id=table.ids[index],
                column=name,
            )
    return np.array(cells, dtype=np.int64)


def _limits(
    path: Path,
    table: BufferTable,
    pool: Integers | None,
    pool_sizes: PoolSizes | None,
) -> dict[str, Any]:
    """Return what a check knows of pools whose sizes are given."""
    if pool_sizes is None:
        return {}
    if pool is None:
        raise BufferFileError(
            f"{path} says in no column pool where a buffer lies, so --pools has "
            "nothing to check; give each buffer the number of its pool, or leave "
            "--pools out",
            path=str(path),
            row=None,
        )
    pools = pools_of_file(path, replace(table, pool=None), pool_sizes)
    return {
        "pool_bytes": pools.sizes,
        "allowed_pools": [np.flatnonzero(row).tolist() for row in pools.allowed],
    }


def _pool_heights(
    table: BufferTable,
    offset: Integers,
    pool: Integers | None,
) -> tuple[int, ...]:
    end = offset + table.buffers.size
    if pool is None:
        return (max(0, int(end.max())),)
    numbers, number = np.unique(pool, return_inverse=True)
    heights = np.zeros(len(numbers), dtype=np.int64)
    np.maximum.at(heights, number, end)
    return tuple(heights.tolist())


def _bound_bytes(table: BufferTable) -> int:
    return lower_bound(make_bodies(table.buffers)).height_bytes


# -- failures --------------------------------------------------------------------------


def _places(table: BufferTable, indexes: tuple[int, ...]) -> dict[str, Any]:
    return {
        "ids": tuple(table.ids[index] for index in indexes),
        "rows": tuple(int(table.rows[index]) for index in indexes),
    }


def _named(
    error: ArenaError,
    kind: type[ArenaError],
    path: Path,
    table: BufferTable,
    fact: str,
) -> ArenaError:
    """Return an error whose message names the rows of the buffers that `fact` holds."""
    facts = vars(error)
    indexes: tuple[int, ...] = facts[fact]
    if not indexes:
        return error
    places = _places(table, indexes)
    names = ", ".join(table.label(index) for index in indexes[:LABELS_SHOWN])
    more = len(indexes) - LABELS_SHOWN
    also = f" and {more:,} more" if more > 0 else ""
    if kind is BufferFileError:
        facts = {"path": str(path), "row": places["rows"][0], **facts}
    return kind(
        f"{path}: {error}. In the file these buffers are {names}{also}",
        **facts,
        **places,
    )


def _not_known(error: TimeLimitError, path: Path, table: BufferTable) -> TimeLimitError:
    facts = vars(error)
    layout: Layout = facts["layout"]
    interrupted = layout.stats["interrupted"]
    if layout.pool is not None:
        return TimeLimitError(
            f"{path}: {error}. Nothing was written. Raise --time-limit or "
            "--node-limit, or a size of --pools",
            interrupted=interrupted,
            **facts,
        )
    ended = "interrupted" if interrupted else "the limit was reached"
    return TimeLimitError(
        f"{path}: not known whether the {len(table):,} buffers fit in "
        f"{format_bytes(facts['capacity_bytes'])}: {ended} after {_effort(layout)}. "
        f"The best layout found takes {format_bytes(layout.height_bytes)}, and less "
        f"than {format_bytes(layout.lower_bound_bytes)} is impossible; nothing was "
        "written. Raise --time-limit or --node-limit, or the capacity",
        interrupted=interrupted,
        **facts,
    )


# -- what is told ----------------------------------------------------------------------


def _effort(layout: Layout) -> str:
    return f"{layout.stats['nodes']:,} nodes in {layout.stats['seconds']:.2f} s"


def _verdict(height: int, bound: int) -> str:
    if height == bound:
        return "proved optimal"
    return f"at most {percent_above(height, bound)} above the optimum"


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """A layout of the buffers of a file, and the files it was written to."""

    path: Path
    table: BufferTable
    layout: Layout
    capacity: int | None
    output: Path | None
    png: Path | None
    html: Path | None
    pools: Pools | None

    def summary(self) -> str:
        height, bound = self.layout.height_bytes, self.layout.lower_bound_bytes
        total = int(self.table.buffers.size.sum())
        saved_percent = 100 * (total - height) / total
        saved = f"{abs(saved_percent):.1f} % {'saved' if height <= total else 'more'}"
        proof = self.layout.stats["proof"]
        proved = f"proved by {PROOFS.get(proof, proof)}"
        lines = [f"{self.path}: {len(self.table):,} buffers"]
        if self.pools is not None:
            lines += pool_lines(self.layout, self.pools)
        else:
            lines += [
                f"height:       {format_bytes(height)}, {_verdict(height, bound)}",
                f"lower bound:  {format_bytes(bound)}, {proved}",
            ]
        if self.capacity is not None:
            lines.append(f"capacity:     {format_bytes(self.capacity)}, it fits")
        lines += [
            f"sum of sizes: {format_bytes(total)}, {saved}",
            f"engine:       {self.layout.engine}, {_effort(self.layout)}",
        ]
        if self.layout.stats["interrupted"]:
            lines.append(
                "warning: interrupted; this is the best layout found until then"
            )
        has_pools = any(pool is not None for pool in self.table.pool or ())
        if has_pools and self.pools is None:
            lines.append("warning: the column pool was not used; all are in one block")
        if self.output is not None and self.output != STANDARD_OUTPUT:
            lines.append(f"the layout is in {self.output}")
        if self.png is not None:
            lines.append(f"the picture is in {self.png}")
        if self.html is not None:
            lines.append(f"the page is in {self.html}")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        stats = dict(self.layout.stats)
        return {
            "command": "allocate",
            "file": str(self.path),
            "n_buffers": len(self.table),
            "height_bytes": self.layout.height_bytes,
            "lower_bound_bytes": self.layout.lower_bound_bytes,
            "proof": stats.pop("proof"),
            "proved_optimal": self.layout.proved_optimal,
            "sum_bytes": int(self.table.buffers.size.sum()),
            "capacity_bytes": self.capacity,
            "engine": self.layout.engine,
            "stats": stats,
            "output_file": None if self.output is None else str(self.output),
            "png_file": None if self.png is None else str(self.png),
            "html_file": None if self.html is None else str(self.html),
            **self._pools_document(),
            "offsets": self._offsets(),
        }

    def _pools_document(self) -> dict[str, Any]:
        if self.pools is None:
            return {}
        return {"pools": pool_documents(self.layout, self.pools)}

    def _offsets(self) -> list[dict[str, Any]]:
        offsets = [
            {"id": each, "offset": offset}
            for each, offset in zip(
                self.table.ids, self.layout.offset.tolist(), strict=True
            )
        ]
        if self.layout.pool is not None:
            for each, pool in zip(offsets, self.layout.pool.tolist(), strict=True):
                each["pool"] = pool
        return offsets
