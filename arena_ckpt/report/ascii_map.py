"""A memory plan as a map of letters in the columns of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.memory_use import MemoryUse
from arena_ckpt.planning.plan import MemoryPlan, require_plan
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.axes import short_bytes
from arena_ckpt.report.raster import add_areas
from arena_ckpt.report.segments import Band, cut_segments, step_bands
from arena_ckpt.report.stack import describe_memory, is_arena_alone

LETTERS = {
    TensorKind.WEIGHT: "W",
    TensorKind.GRADIENT: "G",
    TensorKind.OPTIMIZER_STATE: "O",
    TensorKind.ACTIVATION: "a",
    TensorKind.RECOMPUTED: "r",
    TensorKind.DERIVATIVE: "d",
    TensorKind.WORKSPACE: "k",
    TensorKind.DATA: "i",
}
BAND_LETTERS = (
    ("F", Band.FORWARD),
    ("R", Band.RECOMPUTE),
    ("B", Band.BACKWARD),
    ("U", Band.UPDATE),
)
FREE = "."
LABEL_COLUMNS = 11
KINDS = tuple(TensorKind)


MOST_CELLS = 10_000
"""Maximum number of columns, and of rows, of a map."""


@public_call
def plan_ascii(plan: MemoryPlan, columns: int = 80, rows: int = 24) -> str:
    """Draw a plan as a map of letters.

    Parameters
    ----------
    plan : MemoryPlan
    columns : int
        Columns of the terminal, the sizes at the left included; 1 to 10,000.
    rows : int
        Rows of the map of the RAM alone; 1 to 10,000. Several RAMs share them by their
        heights, and each has at least one.

    Returns
    -------
    str
        Lines of at most `columns` characters. A cell has the letter of the kind that
        takes most of it, or a dot where more is free. Where the arena is not all there
        is, a line with its name and size stands above each memory; constants, on top,
        have a single row.
    """
    require_plan(plan)
    for name, n in (("columns", columns), ("rows", rows)):
        if not isinstance(n, int) or not 1 <= n <= MOST_CELLS:
            raise InvalidParameterError(
                f"{name}={quoted(n)} is not possible; expected a whole number from 1 "
                f"to {MOST_CELLS:,}",
                **{name: n},
            )
    width = max(columns - LABEL_COLUMNS - 1, 8)
    lines = [_row("phase", _bands(plan, width))]
    uses = list(plan.memories.values())
    for use, n_rows in reversed([*zip(uses, _rows_of(uses, rows), strict=True)]):
        lines += _memory_lines(plan, use, n_rows, width)
    peak = min(int((plan.peak_step + 0.5) * width / len(plan.steps)), width - 1)
    lines.append(_row("peak", " " * peak + "^"))
    lines.append(_row("step", _ends(len(plan.steps), width)))
    lines.append("")
    lines += _legend(plan, columns)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _rows_of(uses: Sequence[MemoryUse], rows: int) -> list[int]:
    """Return the number of rows of each memory.

    What rounding down leaves goes to the RAMs that it took the most from.
    """
    heights = [0 if use.is_constant else use.height_bytes for use in uses]
    shares = [rows * height / max(sum(heights), 1) for height in heights]
    whole = [int(share) for share in shares]
    by_rest = sorted(range(len(shares)), key=lambda i: (whole[i] - shares[i], i))
    for index in by_rest[: rows - sum(whole)]:
        whole[index] += 1
    return [max(n, bool(use.height_bytes)) for n, use in zip(whole, uses, strict=True)]


def _memory_lines(
    plan: MemoryPlan, use: MemoryUse, rows: int, width: int
) -> Iterator[str]:
    """Yield the rows of a memory, and above them its name where it needs one."""
    is_alone = is_arena_alone(plan)
    height_bytes = plan.arena_bytes if is_alone else use.height_bytes
    if not is_alone:
        yield _row("", f"-- {describe_memory(use)} ".ljust(width, "-")[:width])
    cells = _cells(plan, use.name, height_bytes, width, rows)
    for row in range(rows):
        is_labelled = not use.is_constant and (row % 6 == 0 or row == rows - 1)
        n_bytes = height_bytes * (rows - row) / rows if row < rows - 1 else 0
        yield _row(short_bytes(round(n_bytes)) if is_labelled else "", cells[row])


def _cells(
    plan: MemoryPlan, memory: str, height_bytes: int, width: int, rows: int
) -> list[str]:
    """Return the rows of the map of a memory, the one of the highest bytes first."""
    if not rows:
        return []
    segments = cut_segments(plan)
    is_here = np.array([b.memory == memory for b in plan.buffers])[segments.buffer]
    buffer, tensor = segments.buffer[is_here], segments.tensor[is_here]
    low = np.array([b.offset_bytes for b in plan.buffers], dtype=np.float64)
    high = low + [plan.taken_bytes(b.size_bytes) for b in plan.buffers]
    kind = np.array([KINDS.index(plan.tensors[t].kind) for t in tensor.tolist()])
    per_step = width / len(plan.steps)
    per_byte = rows / max(height_bytes, 1)
    changes = np.zeros((len(KINDS), (rows + 2) * (width + 2)))
    add_areas(
        changes,
        width,
        np.asarray(segments.start[is_here] * per_step, dtype=np.float64),
        np.asarray(segments.stop[is_here] * per_step, dtype=np.float64),
        low[buffer] * per_byte,
        high[buffer] * per_byte,
        [(kind == k).astype(np.float64) for k in range(len(KINDS))],
    )
    shares = (
        changes.reshape(len(KINDS), rows + 2, width + 2).cumsum(axis=1).cumsum(axis=2)
    )
    shares = shares[:, :rows, :width]
    free = 1 - shares.sum(axis=0, keepdims=True)
    # Sums in another order differ in their last bits, which must not choose a letter.
    most = np.concatenate((shares, free)).round(9).argmax(axis=0)
    letters = [LETTERS[k] for k in KINDS] + [FREE]
    return ["".join(letters[k] for k in row) for row in most[::-1]]


def _bands(plan: MemoryPlan, width: int) -> str:
    """Return the phase at the middle of each column."""
    bands = step_bands(plan)
    at = ((np.arange(width) + 0.5) * len(bands) / width).astype(int)
    return "".join(BAND_LETTERS[b][0] for b in bands[at].tolist())


def _ends(n_steps: int, width: int) -> str:
    last = f"{n_steps - 1:,}"
    return "0" + last.rjust(width - 1)


def _row(label: str, text: str) -> str:
    return f"{label:>{LABEL_COLUMNS - 1}}  {text}"


def _legend(plan: MemoryPlan, columns: int) -> list[str]:
    """Return the lines that explain the letters that occur, and the peak."""
    used = {tensor.kind for tensor in plan.tensors}
    parts = [
        f"{LETTERS[kind]} {kind.value.replace('_', ' ')}"
        for kind in KINDS
        if kind in used
    ]
    parts.append(f"{FREE} free")
    present = set(step_bands(plan).tolist())
    phases = [
        f"{letter} {band.value}"
        for i, (letter, band) in enumerate(BAND_LETTERS)
        if i in present
    ]
    lines = [*_filled(parts, columns), *_filled(phases, columns)]
    lines.append(f"peak: {plan.describe_step(plan.peak_step)}"[:columns])
    return lines


def _filled(parts: list[str], columns: int) -> list[str]:
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= columns:
            lines[-1] += "   " + part
        else:
            lines.append(part)
    return lines
