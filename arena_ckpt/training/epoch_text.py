"""Writes epochs and evaluations as text: lines for people, and tables."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from arena_ckpt.engine.evaluation import Evaluation

Row: TypeAlias = Mapping[str, int | float | None]
"""An epoch by the names of its columns; every row of a table has the same ones."""

MOST_ROWS = 12
"""Maximum number of epochs that a table shows; it leaves out those in the middle."""

_LEFT_OUT = "…"


def evaluation_text(evaluation: Evaluation) -> str:
    """Return an evaluation as text, for example ``"loss 0.1234, accuracy 95.00 %"``."""
    metric = evaluation.metric_name.replace("_", " ")
    value = value_text(evaluation.metric_name, evaluation.metric)
    return f"loss {evaluation.loss:.4f}, {metric} {value}"


def value_text(name: str, value: float | None) -> str:
    """Return the value of a column as text."""
    if value is None:
        return ""
    if name == "accuracy":
        return f"{100 * value:.2f} %"
    formats = {"epoch": "d", "seconds": ".3f", "loss": ".4f", "validation_loss": ".4f"}
    return format(value, formats.get(name, ".4g"))


def text_table(rows: Sequence[Row]) -> str:
    """Return a table of epochs as lines of text."""
    cells = _cells(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def html_table(rows: Sequence[Row]) -> str:
    """Return a table of epochs as HTML."""
    head, *body = _cells(rows)
    style = ' style="text-align:right;padding:0 0.5em"'

    def line(tag: str, cells: Sequence[str]) -> str:
        inner = "".join(f"<{tag}{style}>{html.escape(c)}</{tag}>" for c in cells)
        return f"<tr>{inner}</tr>"

    lines = "".join(line("td", cells) for cells in body)
    return f"<table><thead>{line('th', head)}</thead><tbody>{lines}</tbody></table>"


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return the header and the lines of a table that leaves out its middle."""
    names = list(rows[0])
    head = [name.replace("_", " ") for name in names]
    lines = [[value_text(name, row[name]) for name in names] for row in rows]
    if len(lines) > MOST_ROWS:
        half = MOST_ROWS // 2
        lines[half:-half] = [[_LEFT_OUT] * len(names)]
    return [head, *lines]
