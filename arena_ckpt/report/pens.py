"""The same drawing as SVG and, with Pillow, in pixels."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from typing import Protocol

from arena_ckpt.report.palette import LIGHT
from arena_ckpt.report.pillow import font_of

WIDTH, HEIGHT = 1600, 900
"""Size of a picture in pixels."""


HATCH_APART = 9
"""Pixels from one line of a hatching to the next, along an edge."""


def hatch_lines(
    x: float, y: float, width: float, height: float
) -> Iterator[tuple[float, float, float, float]]:
    """Yield the slanted lines over a rectangle, as x and y of both ends.

    They are parts of lines over the whole picture, so neighbours go on in each other.
    """
    first = math.ceil((x + y) / HATCH_APART)
    last = math.ceil((x + width + y + height) / HATCH_APART)
    for total in range(first * HATCH_APART, last * HATCH_APART, HATCH_APART):
        left = max(x, total - y - height)
        right = min(x + width, total - y)
        if left < right:
            yield left, total - left, right, total - right


class Pen(Protocol):
    """Draws in pixels from the upper left corner; colours are ``#rrggbb``."""

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """Fill a rectangle."""

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        stroke: str,
        *,
        dashed: bool = False,
    ) -> None:
        """Draw a straight line, horizontal or vertical."""

    def hatch(
        self, x: float, y: float, width: float, height: float, stroke: str
    ) -> None:
        """Draw slanted lines over a rectangle."""

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 15,
        fill: str = LIGHT.ink,
        align: str = "left",
        turned: bool = False,
    ) -> None:
        """Write a text with its middle at y; turned text is read upwards."""


class SvgPen:
    """Draws by collecting SVG elements."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """Fill a rectangle."""
        self.parts.append(
            f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" '
            f'height="{max(height, 0):.2f}" fill="{fill}"/>'
        )

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        stroke: str,
        *,
        dashed: bool = False,
    ) -> None:
        """Draw a straight line, horizontal or vertical."""
        dashes = ' stroke-dasharray="8 6"' if dashed else ""
        self.parts.append(
            f'<line x1="{start[0]:.2f}" y1="{start[1]:.2f}" x2="{end[0]:.2f}" '
            f'y2="{end[1]:.2f}" stroke="{stroke}" stroke-width="1.5"{dashes}/>'
        )

    def hatch(
        self, x: float, y: float, width: float, height: float, stroke: str
    ) -> None:
        """Draw slanted lines over a rectangle."""
        path = "".join(
            f"M{a:.2f} {b:.2f}L{c:.2f} {d:.2f}"
            for a, b, c, d in hatch_lines(x, y, width, height)
        )
        if path:
            self.parts.append(
                f'<path class="hatch" d="{path}" stroke="{stroke}" fill="none"/>'
            )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 15,
        fill: str = LIGHT.ink,
        align: str = "left",
        turned: bool = False,
    ) -> None:
        """Write a text with its middle at y; turned text is read upwards."""
        anchor = {"left": "start", "center": "middle", "right": "end"}[align]
        turn = f' transform="rotate(-90 {x:.2f} {y:.2f})"' if turned else ""
        self.parts.append(
            f'<text x="{x:.2f}" y="{y:.2f}" dy="0.35em" font-size="{size}" '
            f'fill="{fill}" text-anchor="{anchor}"{turn}>{xml_text(text)}</text>'
        )

    def finish(self) -> str:
        """Return the SVG of all that was drawn."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
            f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'shape-rendering="crispEdges" '
            'font-family="system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif">\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


class PngPen:
    """Draws with Pillow."""

    def __init__(self) -> None:
        from PIL import Image, ImageDraw

        self.image = Image.new("RGB", (WIDTH, HEIGHT), LIGHT.page)
        self._draw = ImageDraw.Draw(self.image)

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        """Fill a rectangle."""
        if width > 0 and height > 0:
            box = [round(x), round(y), round(x + width) - 1, round(y + height) - 1]
            box[2], box[3] = max(box[2], box[0]), max(box[3], box[1])
            self._draw.rectangle(box, fill=fill)

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        stroke: str,
        *,
        dashed: bool = False,
    ) -> None:
        """Draw a straight line, horizontal or vertical."""
        if not dashed:
            self._draw.line([start, end], fill=stroke, width=2)
            return
        for x in range(round(start[0]), round(end[0]), 14):
            self._draw.line([(x, start[1]), (x + 8, start[1])], fill=stroke, width=2)

    def hatch(
        self, x: float, y: float, width: float, height: float, stroke: str
    ) -> None:
        """Draw slanted lines over a rectangle."""
        for a, b, c, d in hatch_lines(x, y, width - 1, height - 1):
            self._draw.line([(a, b), (c, d)], fill=stroke, width=1)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 15,
        fill: str = LIGHT.ink,
        align: str = "left",
        turned: bool = False,
    ) -> None:
        """Write a text with its middle at y; turned text is read upwards."""
        from PIL import Image, ImageDraw

        font = font_of(size)
        if not turned:
            anchor = {"left": "lm", "center": "mm", "right": "rm"}[align]
            self._draw.text((x, y), text, fill=fill, font=font, anchor=anchor)
            return
        width, height = round(font.getlength(text)) + 2, size + 6
        flat = Image.new("L", (width, height))
        ImageDraw.Draw(flat).text(
            (width, height / 2), text, fill=255, font=font, anchor="rm"
        )
        upright = flat.rotate(90, expand=True)
        above = {"left": width, "center": width / 2, "right": 0}[align]
        self.image.paste(fill, (round(x - height / 2), round(y - above)), upright)


def xml_text(text: str) -> str:
    """Escape a text for XML and drop the characters that XML cannot hold."""
    readable = "".join(
        c if c >= " " or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return html.escape(readable)
