"""Draws losses by epoch as a small SVG for notebooks.

Text and axes take the colour of the text around the picture, and the lines have colours
of middling lightness, so the picture can be read on a light page and on a dark one.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence

_WIDTH, _HEIGHT = 460, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 24, 28
_STROKES = ("#3b82f6", "#d97706")
_DASHES = ("", ' stroke-dasharray="5 3"')  # told apart without colours, too

_MOST_POINTS = 400
"""Maximum number of points of a line: two for each of its pieces, the extremes."""

_LOG_FROM = 30.0
"""Ratio of the largest loss to the smallest from which the axis is logarithmic."""


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
    lines = {
        name: [
            (epoch, value)
            for epoch, value in zip(epochs, values, strict=True)
            if value is not None and math.isfinite(value)
        ]
        for name, values in losses.items()
    }
    lines = {name: points for name, points in lines.items() if points}
    found = [value for points in lines.values() for _, value in points]
    if len(epochs) < 2 or not found:
        return ""
    low, high = min(found), max(found)
    is_log = low > 0 and high > _LOG_FROM * low
    x_of = _scale(epochs[0], epochs[-1], _LEFT, _WIDTH - _RIGHT)
    bottom = _HEIGHT - _BOTTOM
    if is_log:
        of_log = _scale(math.log(low), math.log(high), bottom, _TOP)
        height_of = {value: of_log(math.log(value)) for value in found}
        middle = math.sqrt(low * high)
    else:
        of_value = _scale(low, high, bottom, _TOP)
        height_of = {value: of_value(value) for value in found}
        middle = (low + high) / 2
    heights: list[tuple[float, float]] = [(low, bottom)]
    if high > low:
        heights += [(middle, (bottom + _TOP) / 2), (high, _TOP)]
    parts = [
        f'<path d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _RIGHT}" fill="none" '
        'stroke="currentColor" stroke-opacity="0.5"/>'
    ]
    for value, y in heights:
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.3g}", "end"))
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="currentColor" '
            'stroke-opacity="0.15"/>'
        )
    for epoch, anchor in ((epochs[0], "start"), (epochs[-1], "end")):
        parts.append(_text(x_of(epoch), bottom + 16, f"epoch {epoch}", anchor))
    if is_log:
        parts.append(_text(_WIDTH - _RIGHT, 14, "logarithmic", "end"))
    x = float(_LEFT)
    for (name, points), stroke, dash in zip(
        lines.items(), _STROKES, _DASHES, strict=False
    ):
        path = "L".join(
            f"{x_of(epoch):.1f} {height_of[value]:.1f}" for epoch, value in _few(points)
        )
        look = f'fill="none" stroke="{stroke}" stroke-width="2"{dash}'
        parts.append(f'<path d="M{path}" {look}/>')
        parts.append(f'<path d="M{x:.0f} 10h22" {look}/>')
        parts.append(_text(x + 28, 14, name, "start"))
        x += 48 + 7 * len(name)
    names = " and ".join(lines)
    label = html.escape(
        f"{names} by epoch, from {epochs[0]} to {epochs[-1]}", quote=True
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}" '
        'style="max-width:100%;height:auto;display:block" font-size="11" '
        'font-family="system-ui, sans-serif" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def _scale(
    start: float, stop: float, first: float, last: float
) -> Callable[[float], float]:
    """Return the linear function that takes `start` to `first`, `stop` to `last`."""
    reach = stop - start
    if reach <= 0:
        return lambda value: first
    return lambda value: first + (value - start) / reach * (last - first)


def _few(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return points in order, of many the lowest and the highest of each piece."""
    if len(points) <= _MOST_POINTS:
        return points
    n_pieces = _MOST_POINTS // 2
    kept: list[tuple[int, float]] = []
    for piece in range(n_pieces):
        start = piece * len(points) // n_pieces
        stop = (piece + 1) * len(points) // n_pieces
        of_piece = points[start:stop]
        extremes = {
            min(of_piece, key=lambda point: point[1]),
            max(of_piece, key=lambda point: point[1]),
        }
        kept += sorted(extremes)
    return kept


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{html.escape(text)}</text>"
    )
