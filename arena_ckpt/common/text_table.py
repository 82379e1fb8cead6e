"""Tables in plain text and in HTML, for what shows itself to people.

Commands print their tables with rich, which knows the terminal. A text that an object
returns knows none: its lines have a width of their own, with no colour and no wrapping.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arena_ckpt.common.short_repr import shortened

TEXT_COLUMNS = 100
"""Number of columns that a table keeps to, where its numbers leave room for names."""

NARROWEST = 8
"""Minimum number of characters that are left of a name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    head : str
    is_number : bool
        Aligned to the right, and never cut.
    """

    head: str
    is_number: bool = False


Rows = Sequence[Sequence[str]]


def used_columns(
    columns: Sequence[Column], rows: Rows
) -> tuple[list[Column], list[list[str]]]:
    """Return the columns in which any row has something, and the rows of them."""
    used = [k for k in range(len(columns)) if any(row[k] for row in rows)]
    return [columns[k] for k in used], [[row[k] for k in used] for row in rows]


def text_table(
    columns: Sequence[Column], rows: Rows, *, most: int = TEXT_COLUMNS
) -> list[str]:
    """Return the lines of a table: heads, a rule, and a line for each row.

    Names are cut in their middle, the longest first, until a line has at most `most`
    columns.
    """
    cells = [[column.head for column in columns]]
    cells += [[shortened(cell, 200) for cell in row] for row in rows]
    widths = [max(map(_width, many)) for many in zip(*cells, strict=True)]
    least = [
        width if column.is_number else max(_width(column.head), NARROWEST)
        for column, width in zip(columns, widths, strict=True)
    ]
    while sum(widths) + 2 * len(widths) - 2 > most:
        spare = [w - m for w, m in zip(widths, least, strict=True)]
        if max(spare) <= 0:
            break
        longest = max(range(len(widths)), key=lambda k: (spare[k] > 0, widths[k]))
        widths[longest] -= 1
    lines = [_line(columns, widths, row) for row in cells]
    rule = "  ".join("─" * width for width in widths)
    return [lines[0], rule, *lines[1:]]


def _line(columns: Sequence[Column], widths: Sequence[int], row: Sequence[str]) -> str:
    parts = []
    for column, width, cell in zip(columns, widths, row, strict=True):
        cut = cell
        most = width
        while _width(cut) > width:
            cut = shortened(cell, most)
            most -= 1
        space = " " * (width - _width(cut))
        parts.append(space + cut if column.is_number else cut + space)
    return "  ".join(parts).rstrip()


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )  # fmt: skip


def html_table(
    columns: Sequence[Column],
    rows: Rows,
    *,
    caption: str = "",
    foot: Iterable[str] = (),
) -> str:
    """Return a table as HTML that is read on light and dark pages, for a notebook."""

    def cell(tag: str, column: Column, text: str) -> str:
        side = "right;white-space:nowrap" if column.is_number else "left"
        style = f"padding:2px 8px;text-align:{side}"
        return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'

    def line(tag: str, row: Sequence[str]) -> str:
        made = (cell(tag, c, t) for c, t in zip(columns, row, strict=True))
        return f"<tr>{''.join(made)}</tr>"

    head = line("th", [column.head for column in columns])
    body = "\n".join(line("td", row) for row in rows)
    said = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    under = "\n".join(html.escape(text) for text in foot)
    under = f'<pre style="color:inherit">{under}</pre>' if under else ""
    return (
        f'<div style="overflow-x:auto"><table style="color:inherit;font:inherit">{said}'
        f"<thead>{head}</thead>"
        f"<tbody>\n{body}\n</tbody></table>{under}</div>"
    )
