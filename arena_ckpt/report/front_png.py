"""Draws a front of plans: overhead to the right, arena bytes upwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from arena_ckpt.report.axes import byte_ticks, short_bytes, step_ticks
from arena_ckpt.report.layout_png import INK, PALE_INK
from arena_ckpt.report.pillow import font_of, png_bytes, require_pillow

WIDTH, HEIGHT = 1200, 750
LEFT, TOP, RIGHT, BOTTOM = 130, 90, 60, 90

_LINE = (93, 116, 156)
_NAMED = (194, 112, 100)
_GRID = (226, 225, 220)
_PAPER = (252, 251, 248)


class Point(Protocol):
    """The facts about a plan that the picture shows."""

    @property
    def label(self) -> str:
        """Text that says what the plan is."""

    @property
    def arena_bytes(self) -> int:
        """Height of its layout in bytes."""

    @property
    def overhead(self) -> float:
        """Additional time of an iteration, as a share."""


def front_png(points: Sequence[Point], title: str) -> bytes:
    """Return a PNG of a front of plans, the smallest plan first.

    Parameters
    ----------
    points : sequence of Point
        At least one; ascending in bytes.
    title : str

    Raises
    ------
    InvalidParameterError
        Pillow is not installed.
    """
    require_pillow()
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    draw = ImageDraw.Draw(image)
    large, small = map(font_of, (24, 16))
    most_bytes = max(point.arena_bytes for point in points) * 1.05
    most_overhead = max(0.05, max(point.overhead for point in points)) * 1.05

    def place(overhead: float, n_bytes: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * overhead / most_overhead
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * n_bytes / most_bytes

    for percent in step_ticks(0, int(100 * most_overhead)):
        x, _ = place(percent / 100, 0)
        draw.line([(x, TOP), (x, HEIGHT - BOTTOM)], fill=_GRID)
        below = (x, HEIGHT - BOTTOM + 12)
        draw.text(below, f"{percent} %", PALE_INK, small, anchor="ma")
    for n_bytes in byte_ticks(most_bytes):
        _, y = place(0, n_bytes)
        draw.line([(LEFT, y), (WIDTH - RIGHT, y)], fill=_GRID)
        beside = (LEFT - 12, y)
        draw.text(beside, short_bytes(n_bytes), PALE_INK, small, anchor="rm")
    corners: list[tuple[float, float]] = []
    for point in points:  # a plan serves all overheads from its own to the next
        here = place(point.overhead, point.arena_bytes)
        corners += [(corners[-1][0], here[1])] if corners else []
        corners.append(here)
    if len(corners) > 1:
        draw.line(corners, fill=_LINE, width=2)
    for point in points:
        x, y = place(point.overhead, point.arena_bytes)
        colour = _NAMED if point.label == "named blocks" else _LINE
        draw.ellipse([(x - 5, y - 5), (x + 5, y + 5)], fill=colour)
    draw.text((LEFT, 28), title, INK, large)
    draw.text((LEFT, 60), "bytes of the arena", PALE_INK, small)
    below = (WIDTH - RIGHT, HEIGHT - 34)
    draw.text(below, "more time for an iteration", PALE_INK, small, anchor="ra")
    return png_bytes(image)
