"""Places of the lines, marks and texts of a curve of losses by epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 190
LEFT, RIGHT, TOP, BOTTOM = 66, 12, 24, 28
STROKES = ("#3b82f6", "#d97706")
DASHES: tuple[tuple[float, float] | None, ...] = (None, (5, 3))
"""Strokes and gaps of the lines, which tell them apart without colours, too."""

_MOST_POINTS = 400
"""Maximum number of points of a line: two for each of its pieces, the extremes."""

_LOG_FROM = 30.0
"""Ratio of the largest loss to the smallest from which the axis is logarithmic."""

Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class CurveLayout:
    """Where everything of a curve stands, in units from the upper left corner.

    Attributes
    ----------
    lines : dict from str to list of places
    heights : tuple of (float, float)
        Losses that are marked at the axis, and where.
    epochs : tuple of int
        The first and the last.
    is_log : bool
        The axis of the losses is logarithmic.
    """

    lines: dict[str, list[Place]]
    heights: tuple[tuple[float, float], ...]
    epochs: tuple[int, int]
    is_log: bool

    @property
    def title(self) -> str:
        """What is drawn, for who cannot see it."""
        first, last = self.epochs
        return f"{' and '.join(self.lines)} by epoch, from {first} to {last}"

    def legend(self) -> list[tuple[float, str]]:
        """Return where the mark of each line begins, and its name."""
        x, marks = float(LEFT), []
        for name in self.lines:
            marks.append((x, name))
            x += 48 + 7 * len(name)
        return marks


def curve_layout(
    epochs: Sequence[int], losses: Mapping[str, Sequence[float | None]]
) -> CurveLayout | None:
    """Return where a curve has its lines; None without two epochs to draw between.

    Parameters
    ----------
    epochs : sequence of int
    losses : mapping from str to sequence of float or None
        At most two lines by their names, each with a loss for every epoch. What is no
        finite number is left out.
    """
    found = finite_points(epochs, losses)
    values = [value for points in found.values() for _, value in points]
    if len(epochs) < 2 or not values:
        return None
    low, high = min(values), max(values)
    is_log = low > 0 and high > _LOG_FROM * low
    x_of = _scale(epochs[0], epochs[-1], LEFT, WIDTH - RIGHT)
    bottom = HEIGHT - BOTTOM
    if is_log:
        of_log = _scale(math.log(low), math.log(high), bottom, TOP)
        height_of = {value: of_log(math.log(value)) for value in values}
        middle = math.sqrt(low * high)
    else:
        of_value = _scale(low, high, bottom, TOP)
        height_of = {value: of_value(value) for value in values}
        middle = (low + high) / 2
    heights: list[tuple[float, float]] = [(low, bottom)]
    if high > low:
        heights += [(middle, (bottom + TOP) / 2), (high, TOP)]
    lines = {
        name: [(x_of(epoch), height_of[value]) for epoch, value in _few(points)]
        for name, points in found.items()
    }
    return CurveLayout(lines, tuple(heights), (epochs[0], epochs[-1]), is_log)


def finite_points(
    epochs: Sequence[int], losses: Mapping[str, Sequence[float | None]]
) -> dict[str, list[tuple[int, float]]]:
    """Return epochs with the losses that are finite, by the name of the line."""
    lines = {
        name: [
            (epoch, value)
            for epoch, value in zip(epochs, values, strict=True)
            if value is not None and math.isfinite(value)
        ]
        for name, values in losses.items()
    }
    return {name: points for name, points in lines.items() if points}


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
