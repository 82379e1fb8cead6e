"""Draws losses by epoch as a small SVG for notebooks, and as lines for a terminal.

Text and axes take the colour of the text around the picture, and the lines have colours
of middling lightness, so the picture can be read on a light page and on a dark one.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from arena_ckpt.common.curve_layout import (
    BOTTOM,
    DASHES,
    HEIGHT,
    LEFT,
    RIGHT,
    STROKES,
    TOP,
    WIDTH,
    curve_layout,
)

_MOST_COLUMNS, _ROWS = 48, 5
"""Characters of a curve in a terminal; each has 2 × 4 dots."""

_LEAST_COLUMNS = 16

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of the dots of a character of braille, by column and row."""


def curve_svg(
    epochs: Sequence[int], losses: Mapping[str, Sequence[float | None]]
) -> str:
    """Return an SVG of losses by epoch.

    Parameters
    ----------
    epochs : sequence of int
    losses : mapping from str to sequence of float or None
        At most two lines by their names, each with a loss for every epoch. What is no
        finite number is left out.

    Returns
    -------
    str
        Empty where there are no two epochs to draw a line between.
    """
    layout = curve_layout(epochs, losses)
    if layout is None:
        return ""
    bottom = HEIGHT - BOTTOM
    parts = [
        f'<path d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" '
        'stroke="currentColor" stroke-opacity="0.5"/>'
    ]
    for value, y in layout.heights:
        parts.append(_text(LEFT - 6, y + 4, f"{value:.3g}", "end"))
        parts.append(
            f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="currentColor" '
            'stroke-opacity="0.15"/>'
        )
    for epoch, side, anchor in zip(
        layout.epochs, (LEFT, WIDTH - RIGHT), ("start", "end"), strict=True
    ):
        parts.append(_text(side, bottom + 16, f"epoch {epoch}", anchor))
    if layout.is_log:
        parts.append(_text(WIDTH - RIGHT, 14, "logarithmic", "end"))
    for (x, name), stroke, dashes in zip(
        layout.legend(), STROKES, DASHES, strict=False
    ):
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in layout.lines[name])
        dash = f' stroke-dasharray="{dashes[0]:g} {dashes[1]:g}"' if dashes else ""
        look = f'fill="none" stroke="{stroke}" stroke-width="2"{dash}'
        parts.append(f'<path d="M{path}" {look}/>')
        parts.append(f'<path d="M{x:.0f} 10h22" {look}/>')
        parts.append(_text(x + 28, 14, name, "start"))
    label = html.escape(layout.title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{label}" '
        'style="max-width:100%;height:auto;display:block" font-size="11" '
        'font-family="system-ui, sans-serif" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def curve_lines(
    epochs: Sequence[int], losses: Sequence[float | None], *, width: int = 80
) -> list[str]:
    """Return a curve as lines of dots in characters of braille, for a terminal.

    Parameters
    ----------
    epochs : sequence of int
    losses : sequence of float or None
    width : int
        Columns of the terminal.

    Returns
    -------
    list of str
        Empty where there are no two epochs to draw a line between.
    """
    layout = curve_layout(epochs, {"loss": losses})
    if layout is None:
        return []
    low, high = layout.heights[0][0], layout.heights[-1][0]
    marks = {0: f"{high:.3g}", _ROWS - 1: f"{low:.3g}"}
    margin = max(map(len, marks.values()))
    n_columns = max(min(_MOST_COLUMNS, width - margin - 3), _LEAST_COLUMNS)
    rows = [[0x2800] * n_columns for _ in range(_ROWS)]
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    places = layout.lines["loss"]
    for (x, y), (to_x, to_y) in zip(places, places[1:] or places, strict=False):
        n_steps = 1 + 2 * (n_columns + 2 * _ROWS)  # dots of the longest line
        for step in range(n_steps + 1):
            share = step / n_steps
            across = (x + (to_x - x) * share - LEFT) / (right - LEFT)
            down = (y + (to_y - y) * share - TOP) / (bottom - TOP)
            column = round(across * (2 * n_columns - 1))
            row = round(down * (4 * _ROWS - 1))
            rows[row // 4][column // 2] |= _DOTS[column % 2][row % 4]
    lines = [
        f"{marks.get(i, ''):>{margin}} │{''.join(map(chr, row)).rstrip(chr(0x2800))}"
        for i, row in enumerate(rows)
    ]
    first, last = (f"epoch {epoch}" for epoch in layout.epochs)
    note = "loss (logarithmic)" if layout.is_log else "loss"
    foot = f"{first}{last:>{n_columns - len(first)}}"
    return [f"{'':>{margin}} {note}", *lines, f"{'':>{margin}}  {foot}"]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )
