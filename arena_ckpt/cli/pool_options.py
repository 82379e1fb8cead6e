"""Pools of memory on the command line and in files of buffers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.minimalloc_csv import BufferTable
from arena_ckpt.allocation.pool_rules import Pools, PoolSizes, make_pools
from arena_ckpt.common.units import format_bytes, parse_bytes
from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import BufferFileError, InvalidBufferError, InvalidParameterError

UNLIMITED = "unlimited"
"""What stands for the size of a last pool without a limit."""


def parse_pools(text: str) -> PoolSizes:
    """Return the pools of ``"dtcm=128KiB,sram=512KiB"`` or ``"128KiB,unlimited"``.

    Raises
    ------
    InvalidParameterError
        Some have names and some have not, or two have the same; a size that is none.
    """
    parts = [part.strip() for part in text.split(",")]
    pairs = [tuple(map(str.strip, part.split("=", 1))) for part in parts]
    n_named = sum(len(pair) == 2 for pair in pairs)
    if n_named not in (0, len(pairs)):
        raise InvalidParameterError(
            f"--pools is {quoted(text)}, where some pools have names and some have "
            "not; write all as in 'dtcm=128KiB,sram=512KiB', or none",
            text=text,
        )
    sizes = [None if pair[-1] == UNLIMITED else pair[-1] for pair in pairs]
    if not n_named:
        return [None if size is None else parse_bytes(size) for size in sizes]
    names = [pair[0] for pair in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidParameterError(
                f"--pools names {quoted(name)} twice in {quoted(text)}; give every "
                "pool a name of its own",
                name=name,
            )
        if len(name.split()) != 1:
            raise InvalidParameterError(
                f"--pools has the name {name[:60]!r} in {quoted(text)}; names are not "
                "empty and have no spaces",
                name=name,
            )
    return dict(zip(names, sizes, strict=True))


def pools_of_file(path: Path, table: BufferTable, sizes: PoolSizes) -> Pools:
    """Return the pools with what the columns of a file say of them.

    The column `pools` lists what is allowed for a buffer, `pool` pins it to one by its
    number, `weight` says what it costs one pool further down.

    Raises
    ------
    InvalidParameterError
        Sizes that make no sense.
    BufferFileError
        A pool that does not exist, or one that is not among those allowed.
    """
    try:
        pools = make_pools(table.buffers, sizes, _allowed(table, sizes), table.weight)
        if table.pool is not None and table.pools is not None:
            _refuse_strays(path, table, pools, sizes)
    except InvalidBufferError as error:
        index = vars(error)["buffers"][0]
        raise BufferFileError(
            f"{path}: {error}. In the file this buffer is {table.label(index)}",
            **{"path": str(path), "row": int(table.rows[index]), **vars(error)},
        ) from error
    return pools


def _allowed(table: BufferTable, sizes: PoolSizes) -> list[Any] | None:
    """Return the pools that are allowed for each buffer; `pool` comes first."""
    if table.pool is None and table.pools is None:
        return None
    n = len(table)
    pairs = zip(table.pool or [None] * n, table.pools or [None] * n, strict=True)
    return [pool if pool is not None else _listed(some, sizes) for pool, some in pairs]


def _listed(cell: Sequence[str] | None, sizes: PoolSizes) -> list[str | int] | None:
    """Return the pools that a cell lists; None allows all."""
    return None if cell is None else [_pool(each, sizes) for each in cell]


def _pool(text: str, sizes: PoolSizes) -> str | int:
    """Return the pool that a cell means: a name, or else a number."""
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    return int(text) if is_number and text not in sizes else text


def _refuse_strays(
    path: Path, table: BufferTable, pools: Pools, sizes: PoolSizes
) -> None:
    """Refuse buffers that stand in a pool which is not among those allowed."""
    listed = [_listed(some, sizes) for some in table.pools or ()]
    allowed = make_pools(table.buffers, sizes, listed).allowed
    for index, pool in enumerate(table.pool or ()):
        if pool is not None and not allowed[index, pool]:
            raise BufferFileError(
                f"{path}: {table.label(index)} is in {pools.label(pool)} by its cell "
                f"pool, which its cell pools does not allow; clear one of them",
                path=str(path),
                row=int(table.rows[index]),
                id=table.ids[index],
            )


# -- what is told ----------------------------------------------------------------------


def pool_lines(layout: Layout, pools: Pools) -> list[str]:
    """Return the lines of a summary that tell what lies in each pool, and the spill."""
    lines = []
    for each in pool_documents(layout, pools):
        size = (
            "any size"
            if each["size_bytes"] is None
            else format_bytes(each["size_bytes"])
        )
        name = pools.label(each["pool"])
        lines.append(
            f"{name + ':':<14}{format_bytes(each['height_bytes'])} of {size}, "
            f"{_buffers(each['n_buffers'])}"
        )
    stats = layout.stats
    weight = f"{stats['spilled_byte_steps']:,} B × steps"
    if pools.are_weighed:
        weight = f"a weight of {stats['spilled_weight']:,}"
    proof = "proved least" if stats["spill_proved_least"] else "not proved least"
    lines.append(
        f"spilled:      {_buffers(stats['spilled_buffers'])}, {weight}, {proof}"
    )
    return lines


def pool_documents(layout: Layout, pools: Pools) -> list[dict[str, Any]]:
    """Return what lies in each pool, for a document."""
    assert layout.pool is not None
    counts: Sequence[int] = np.bincount(layout.pool, minlength=len(pools)).tolist()
    return [
        {
            "pool": number,
            "name": pools.names[number] if pools.names else None,
            "size_bytes": size,
            "height_bytes": layout.pool_heights_bytes[number],
            "n_buffers": counts[number],
        }
        for number, size in enumerate(pools.sizes)
    ]


def _buffers(n: int) -> str:
    return f"{n:,} buffer{'' if n == 1 else 's'}"
