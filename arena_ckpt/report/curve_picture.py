"""Draws losses by epoch as SVG, PNG or PDF, on a white page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from arena_ckpt.common.curve_layout import (
    BOTTOM,
    DASHES,
    HEIGHT,
    LEFT,
    RIGHT,
    STROKES,
    TOP,
    WIDTH,
    CurveLayout,
    curve_layout,
)
from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import EmptyDataError, InvalidParameterError
from arena_ckpt.report.drawing import Drawing, Label, Line, Shape
from arena_ckpt.report.drawing_formats import FORMATS

if TYPE_CHECKING:
    from PIL.Image import Image

_INK, _FAINT = "#1f2937", "#e5e7eb"
_SIZE = 11


def curve_file(
    epochs: Sequence[int], losses: Mapping[str, Sequence[float | None]], suffix: str
) -> bytes:
    """Return a picture of losses by epoch, for a file with a suffix.

    Raises
    ------
    InvalidParameterError
        The suffix is not .svg, .png or .pdf, or Pillow is not installed.
    EmptyDataError
        There are no two epochs to draw a line between.
    """
    draw = FORMATS.get(suffix.lower())
    if draw is None:
        raise InvalidParameterError(
            f"{quoted(suffix) if suffix else 'no suffix'} says no format of a picture; "
            "end the name with .svg, .png or .pdf",
            suffix=suffix,
            known=tuple(FORMATS),
        )
    return draw(_drawing(_layout(epochs, losses)))


def curve_image(
    epochs: Sequence[int], losses: Mapping[str, Sequence[float | None]]
) -> Image:
    """Return a picture of losses by epoch, as an image of Pillow; see `curve_file`."""
    png = curve_file(epochs, losses, ".png")
    from PIL import Image

    image = Image.open(io.BytesIO(png), formats=["PNG"])
    image.load()
    return image


def _layout(
    epochs: Sequence[int], losses: Mapping[str, Sequence[float | None]]
) -> CurveLayout:
    layout = curve_layout(epochs, losses)
    if layout is None:
        raise EmptyDataError(
            f"there is no curve to draw: {len(epochs)} epochs were completed, and a "
            "line needs two with finite losses",
            epochs=len(epochs),
        )
    return layout


def _drawing(layout: CurveLayout) -> Drawing:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    shapes: list[Shape] = []
    for value, y in layout.heights:
        shapes.append(Line(((LEFT, y), (right, y)), _FAINT, 1))
        shapes.append(Label((LEFT - 6, y), f"{value:.3g}", _SIZE, _INK, "right"))
    frame = ((LEFT, TOP), (LEFT, bottom), (right, bottom))
    shapes.append(Line(frame, _INK, 1))
    first, last = (f"epoch {epoch}" for epoch in layout.epochs)
    shapes.append(Label((LEFT, bottom + 12), first, _SIZE, _INK))
    shapes.append(Label((right, bottom + 12), last, _SIZE, _INK, "right"))
    if layout.is_log:
        shapes.append(Label((right, 10), "logarithmic", _SIZE, _INK, "right"))
    for (x, name), stroke, dashes in zip(
        layout.legend(), STROKES, DASHES, strict=False
    ):
        places = tuple(layout.lines[name])
        # Dashes begin anew at each corner: between many epochs only a line shows.
        is_long = len(places) > 60
        shapes.append(Line(places, stroke, 2, None if is_long else dashes))
        shapes.append(Line(((x, 10), (x + 22, 10)), stroke, 2, dashes))
        shapes.append(Label((x + 28, 10), name, _SIZE, _INK))
    return Drawing(WIDTH, HEIGHT, layout.title, "#ffffff", tuple(shapes))
