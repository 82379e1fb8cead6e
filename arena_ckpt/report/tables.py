"""Tables of a memory plan for people, made with rich.

Everything is read from `MemoryPlan` objects. Cells are `Text`, because rich would take
``:label:`` in the name of a tensor for an emoji.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from arena_ckpt.common.text_table import Column
from arena_ckpt.common.units import format_bytes
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.axes import short_bytes
from arena_ckpt.report.front_facts import FrontPoint
from arena_ckpt.report.front_table import front_cells
from arena_ckpt.report.summary import recomputed_layers

if TYPE_CHECKING:
    from arena_ckpt.definition.model_summary import ModelSummary

_TOTALS = (
    ("arena", "arena_bytes"),
    ("constants", "constant_bytes"),
    ("live lower bound", "live_lower_bound_bytes"),
    ("local lower bound", "local_lower_bound_bytes"),
    ("sum without reuse", "naive_bytes"),
)


def totals_table(plan: MemoryPlan) -> Table:
    """Return a table of the arena, its bounds and the bytes without any reuse.

    Constants have a line where there are any.
    """
    proof = "proved optimal" if plan.proved_optimal else "not proved optimal"
    what = "RAM" if plan.constant_bytes else "the one allocation"
    meanings = {
        "arena": "all RAMs together" if len(plan.rams) > 1 else f"{what}, {proof}",
        "constants": "what no step writes, beside the arena",
        "live lower bound": "the most bytes alive at one step",
        "local lower bound": "working set of the hungriest step",
        "sum without reuse": "each tensor in bytes of its own",
    }
    table = make_table("", ("total", "left"), ("size", "right"), ("", "left"))
    table.show_header = False
    for label, attribute in _totals_of(plan):
        add_row(table, label, format_bytes(getattr(plan, attribute)), meanings[label])
    return table


def _totals_of(*plans: MemoryPlan) -> list[tuple[str, str]]:
    """Return names and attributes of the totals that any of the plans has."""
    has_constants = any(plan.constant_bytes for plan in plans)
    return [total for total in _TOTALS if has_constants or total[1] != "constant_bytes"]


def memory_table(plan: MemoryPlan) -> Table:
    """Return a table of what a plan takes of each memory, the fastest first.

    What an iteration, or inference, reads and writes there stands beside it.
    """
    is_limited = bool(plan.rams)
    table = make_table(
        "Memories",
        ("memory", "left"),
        ("taken", "right"),
        *([("of", "right")] if is_limited else []),
        ("touched" if plan.is_inference else "touched an iteration", "right"),
    )
    for use in plan.memories.values():
        size = short_bytes(use.size_bytes) if use.size_bytes else ""
        add_row(
            table,
            use.name,
            format_bytes(use.height_bytes),
            *([size] if is_limited else []),
            format_bytes(use.touched_bytes),
        )
    return table


def kind_table(plan: MemoryPlan) -> Table:
    """Return a table of the bytes of each kind of tensor at the peak, largest first."""
    step = plan.peak_step
    title = f"At the peak: {plan.describe_step(step)}"
    table = make_table(title, ("kind", "left"), ("size", "right"), ("share", "right"))
    kinds = plan.bytes_by_kind(step)
    total = sum(kinds.values())
    for kind in sorted(kinds, key=lambda kind: (-kinds[kind], kind)):
        if kinds[kind]:
            share = f"{100 * kinds[kind] / total:.1f} %"
            add_row(table, kind.value, format_bytes(kinds[kind]), share)
    table.add_section()
    add_row(table, "together", format_bytes(total), "100.0 %")
    return table


def biggest_table(plan: MemoryPlan, n_rows: int) -> Table:
    """Return a table of the largest buffers in RAM alive at the peak.

    Of several RAMs it names the one that each lies in.

    Parameters
    ----------
    plan : MemoryPlan
    n_rows : int
        At most so many.
    """
    step = plan.peak_step
    alive = plan.alive_at(step)
    title = f"The largest of {len(alive)} tensors at the peak"
    table = make_table(
        title,
        ("tensor", "left"),
        ("kind", "left"),
        ("size", "right"),
        ("steps", "right"),
        *([("memory", "left")] if len(plan.rams) > 1 else []),
    )
    for buffer in alive[:n_rows]:
        steps = f"[{buffer.start}, {buffer.stop})"
        tensor = plan.tensor_in(buffer, step)
        row = [tensor.name, tensor.kind.value, format_bytes(buffer.size_bytes), steps]
        if len(plan.rams) > 1:  # five columns have to fit into 80 characters
            row = [*row[:2], f"{buffer.size_bytes:,} B", steps, buffer.memory]
        add_row(table, *row)
    return table


def comparison_table(before: MemoryPlan, after: MemoryPlan) -> Table:
    """Return a table with two plans of one model side by side.

    Parameters
    ----------
    before : MemoryPlan
        Nothing is recomputed.
    after : MemoryPlan
        With checkpoint blocks, or as chosen.
    """
    table = make_table(
        "Without and with recomputing",
        ("bytes", "left"),
        ("without", "right"),
        ("with", "right"),
        ("difference", "right"),
    )

    def add(label: str, first: int, second: int) -> None:
        add_row(table, label, f"{first:,}", f"{second:,}", _difference(second - first))

    for label, attribute in _totals_of(before, after):
        add(label, getattr(before, attribute), getattr(after, attribute))
    heights = [
        {use.name: use.height_bytes for use in plan.memories.values() if use.size_bytes}
        for plan in (before, after)
    ]
    for name in heights[0] | heights[1]:
        add(name, heights[0].get(name, 0), heights[1].get(name, 0))
    table.add_section()
    add_row(table, "at the peak, step", str(before.peak_step), str(after.peak_step), "")
    first = before.bytes_by_kind(before.peak_step)
    second = after.bytes_by_kind(after.peak_step)
    for kind in TensorKind:
        if first[kind] or second[kind]:
            add(kind.value, first[kind], second[kind])
    return table


def front_table(points: Sequence[FrontPoint], budget_bytes: int | None = None) -> Table:
    """Return a table of the plans of a front, the smallest first.

    Parameters
    ----------
    points : sequence of FrontPoint
    budget_bytes : int, optional
        The fastest plan within it is marked.
    """
    return _table_of(*front_cells(points, budget_bytes))


def summary_table(summary: ModelSummary) -> Table:
    """Return a table of the layers of a model."""
    return _table_of(*summary.cells())


def _table_of(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    sides = {True: "right", False: "left"}
    table = make_table("", *((c.head, sides[c.is_number]) for c in columns))
    for row in rows:
        add_row(table, *row)
    return table


def execution_order_table(plan: MemoryPlan) -> Table:
    """Return a table of the steps of each layer and the block it is in.

    The recompute step of a layer that need not run again stands in parentheses.
    """
    table = make_table(
        "Execution order",
        ("layer", "left"),
        ("type", "left"),
        ("forward", "right"),
        ("recompute", "right"),
        ("calc\ngradient", "right"),
        ("calc\nderivative", "right"),
        ("apply\ngradient", "right"),
        ("block", "left"),
    )
    table.padding = 0  # eight columns have to fit into 80 characters
    block_of = {name: block.name for block in plan.blocks for name in block.layers}
    again = recomputed_layers(plan)
    for layer in plan.layers:
        order = plan.execution_order[layer.name]
        idle = layer.name in block_of and layer.name not in again
        steps = plan.recompute_steps(layer.name) or (0,)
        recompute = f"({order.recompute})" if idle else ", ".join(map(str, steps))
        add_row(
            table,
            layer.name,
            layer.type_name,
            str(order.forward),
            recompute,
            str(order.calc_gradient),
            str(order.calc_derivative),
            str(order.apply_gradient),
            block_of.get(layer.name, ""),
        )
    return table


def _difference(value_bytes: int) -> str:
    if not value_bytes:
        return "0 B"
    return ("+" if value_bytes > 0 else "-") + format_bytes(abs(value_bytes))


def make_table(title: str, *columns: tuple[str, Any]) -> Table:
    """Return an empty table; each column has a header and how to justify it."""
    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        title_style="bold",
        min_width=len(title),  # rich folds a title that is wider than its table
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for header, justify in columns:
        table.add_column(Text(header), justify=justify, overflow="fold")
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain texts to a table."""
    table.add_row(*(Text(cell) for cell in cells))
