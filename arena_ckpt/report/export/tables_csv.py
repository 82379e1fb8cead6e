"""Exports buffers as CSV, for google/minimalloc and with all that is known of them."""

from __future__ import annotations

import csv
import io

from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.allocation.minimalloc_csv import BufferTable, write_layout
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.export.live_range_ids import (
    buffer_id,
    live_range_id,
    main_live_range,
)
from arena_ckpt.report.stack import is_arena_alone, memory_numbers

COLUMNS = (
    "id",
    "tensor",
    "life",
    "kind",
    "layer",
    "dtype",
    "shape",
    "start_step",
    "stop_step",
    "offset_bytes",
    "size_bytes",
    "taken_bytes",
    "shared_with",
)

MEMORY_COLUMN = "memory"
"""The last column where the arena is not the only memory: the one that a buffer is
in."""


def minimalloc_bytes(plan: MemoryPlan) -> bytes:
    """Return live ranges and layout as CSV that ``arena-ckpt allocate`` reads.

    Sizes are those taken in memory, canaries and alignment included. Where the arena is
    not the only memory, the column `pool` has the number of the one that a buffer is
    in, in the order of `MemoryPlan.memories`.
    """
    buffers = make_buffers(
        [b.start for b in plan.buffers],
        [b.stop for b in plan.buffers],
        [plan.taken_bytes(b.size_bytes) for b in plan.buffers],
        alignment=plan.alignment_bytes,
    )
    table = BufferTable(
        columns=("id", "lower", "upper", "size", "alignment", "offset"),
        rows=buffers.lower,
        ids=tuple(buffer_id(plan, buffer) for buffer in plan.buffers),
        buffers=buffers,
        hint=None,
        group=None,
        offset=None,
        pool=None,
    )
    text = io.StringIO(newline="")
    write_layout(
        text,
        table,
        [b.offset_bytes for b in plan.buffers],
        None if is_arena_alone(plan) else memory_numbers(plan),
    )
    return text.getvalue().encode()


def csv_bytes(plan: MemoryPlan) -> bytes:
    """Return a CSV with one row per buffer, in the order of their offsets.

    Shapes are written ``32x1x1x64``; `shared_with` names the other live ranges in the
    same bytes, separated by ``;``. Where the arena is not the only memory, rows stand
    memory by memory, with its name in a column `memory`.
    """
    is_named = not is_arena_alone(plan)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, MEMORY_COLUMN) if is_named else COLUMNS)
    pairs = zip(memory_numbers(plan), plan.buffers, strict=True)
    for _, buffer in sorted(
        pairs, key=lambda pair: (pair[0], pair[1].offset_bytes, pair[1].start)
    ):
        main = main_live_range(plan, buffer)
        others = [plan.tensors[i] for i in buffer.tensors if plan.tensors[i] != main]
        writer.writerow(
            (
                live_range_id(main),
                main.name,
                main.life,
                main.kind.value,
                main.layer,
                main.dtype,
                "x".join(map(str, main.shape)),
                buffer.start,
                buffer.stop,
                buffer.offset_bytes,
                buffer.size_bytes,
                plan.taken_bytes(buffer.size_bytes),
                ";".join(map(live_range_id, others)),
                *([buffer.memory] if is_named else []),
            )
        )
    return text.getvalue().encode()
