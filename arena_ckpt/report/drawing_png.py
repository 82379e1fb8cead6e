"""Writes a drawing as PNG, with Pillow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from arena_ckpt.report.drawing import Dot, Drawing, Label, Line, Place
from arena_ckpt.report.pillow import font_of, png_bytes, require_pillow

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SCALE = 2
"""Pixels of a unit."""

SMOOTHING = 2
"""Dots are drawn so many times larger, as Pillow draws them with steps."""

_ANCHORS = {"left": "lm", "center": "mm", "right": "rm"}


def png_of(drawing: Drawing) -> bytes:
    """Return a drawing as PNG, with two pixels for each unit.

    Raises
    ------
    InvalidParameterError
        Pillow is not installed.
    """
    require_pillow()
    from PIL import Image, ImageDraw

    by = SCALE * SMOOTHING
    size = (drawing.width * by, drawing.height * by)
    image = Image.new("RGB", size, drawing.background or "#ffffff")
    draw = ImageDraw.Draw(image)
    for shape in drawing.shapes:
        match shape:
            case Line():
                _draw_line(draw, shape, by)
            case Dot():
                _draw_dot(draw, shape, by)
            case Label():
                _draw_label(image, draw, shape, by)
    return png_bytes(image.reduce(SMOOTHING))


def _draw_line(draw: ImageDraw, line: Line, by: int) -> None:
    width = max(1, round(line.width * by))
    if line.dashes is None:
        places = [(x * by, y * by) for x, y in line.places]
        draw.line(places, fill=line.stroke, width=width, joint="curve")
        return
    for start, stop in _dashes(line.places, line.dashes):
        ends = [(start[0] * by, start[1] * by), (stop[0] * by, stop[1] * by)]
        draw.line(ends, fill=line.stroke, width=width)


def _dashes(
    places: tuple[Place, ...], dashes: tuple[float, float]
) -> Iterator[tuple[Place, Place]]:
    """Yield the ends of the strokes of a dashed line, which begin at each corner."""
    for (x, y), (to_x, to_y) in itertools.pairwise(places):
        length = math.hypot(to_x - x, to_y - y)
        at = 0.0
        while at < length:
            end = min(at + dashes[0], length)
            start_share, stop_share = at / length, end / length
            yield (
                (x + (to_x - x) * start_share, y + (to_y - y) * start_share),
                (x + (to_x - x) * stop_share, y + (to_y - y) * stop_share),
            )
            at += sum(dashes)


def _draw_dot(draw: ImageDraw, dot: Dot, by: int) -> None:
    (x, y), radius = dot.centre, dot.radius
    box = [(x - radius) * by, (y - radius) * by, (x + radius) * by, (y + radius) * by]
    draw.ellipse(box, fill=dot.fill, outline=dot.stroke, width=round(1.5 * by))


def _draw_label(image: Image, draw: ImageDraw, label: Label, by: int) -> None:
    from PIL import Image, ImageDraw

    font = font_of(label.size * by)
    x, y = label.place[0] * by, label.place[1] * by
    if not label.is_turned:
        anchor = _ANCHORS[label.align]
        draw.text((x, y), label.text, fill=label.fill, font=font, anchor=anchor)
        return
    width, height = round(font.getlength(label.text)) + 2, label.size * by * 2
    flat = Image.new("L", (width, height))
    middle = (0, height / 2)
    ImageDraw.Draw(flat).text(middle, label.text, fill=255, font=font, anchor="lm")
    upright = flat.rotate(90, expand=True)
    above = {"left": width, "center": width / 2, "right": 0}[label.align]
    image.paste(label.fill, (round(x - height / 2), round(y - above)), upright)
