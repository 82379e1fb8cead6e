"""A front as a table: with rich for a terminal, in plain text, and in HTML."""

from __future__ import annotations

from collections.abc import Sequence

from arena_ckpt.common.short_repr import counted
from arena_ckpt.common.text_table import Column, html_table, text_table, used_columns
from arena_ckpt.common.units import format_bytes, format_percent
from arena_ckpt.report.drawing_svg import svg_of
from arena_ckpt.report.front_facts import (
    BYTES_NAME,
    SHARE_NAME,
    FrontPoint,
    fastest_within,
    front_facts,
)
from arena_ckpt.report.front_picture import ANYWHERE, drawing_of_front

COLUMNS = (
    Column(BYTES_NAME, is_number=True),
    Column("of the largest", is_number=True),
    Column(SHARE_NAME, is_number=True),
    Column("reruns", is_number=True),
    Column("plan"),
    Column("in budget"),
)
"""Columns of the table; the last is used where there is a budget."""

FASTEST = "fastest"
"""What the last column says of one plan."""

MOST_LINES = 40
"""Maximum number of plans that a text has lines for; those in the middle are left
out."""


def front_cells(
    points: Sequence[FrontPoint], budget_bytes: int | None = None
) -> tuple[list[Column], list[list[str]]]:
    """Return the columns of a front and the cells of each plan.

    Parameters
    ----------
    points : sequence of FrontPoint
    budget_bytes : int, optional
        The fastest plan within it is marked.
    """
    facts = front_facts(points)
    most = max((fact.arena_bytes for fact in facts), default=1) or 1
    answer = fastest_within(facts, budget_bytes)
    rows = [
        [
            format_bytes(fact.arena_bytes),
            f"{100 * fact.arena_bytes / most:.1f} %",
            format_percent(fact.overhead),
            str(len(fact.again)),
            fact.name,
            FASTEST if index == answer else "",
        ]
        for index, fact in enumerate(facts)
    ]
    return used_columns(COLUMNS, rows) if rows else ([*COLUMNS[:-1]], [])


def front_text(points: Sequence[FrontPoint]) -> str:
    """Return a front as lines of plain text."""
    columns, rows = front_cells(points)
    lines = [f"{counted(len(points), 'plan')} that none other beats in bytes and time"]
    if not rows:
        return lines[0]
    head, rule, *table = text_table(columns, rows)
    left_out = len(table) - MOST_LINES
    if left_out > 0:
        half = MOST_LINES // 2
        between = f"… {left_out:,} more: to_rows() has all"
        table = [*table[:half], between, *table[-half:]]
    return "\n".join([*lines, head, rule, *table])


def front_html(points: Sequence[FrontPoint]) -> str:
    """Return the curve of a front above its table, for a notebook."""
    if not points:
        return "<p>no plans</p>"
    curve = svg_of(drawing_of_front(points, "Pareto front", colours=ANYWHERE))
    columns, rows = front_cells(points)
    columns = [*columns, Column("reason")]
    reasons = [fact.reason for fact in front_facts(points)]
    cells = [[*row, reason] for row, reason in zip(rows, reasons, strict=True)]
    return f"<div>{curve}{html_table(columns, cells)}</div>"
