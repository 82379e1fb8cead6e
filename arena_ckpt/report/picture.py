"""Draws a memory plan as PNG or SVG: steps to the right, bytes upwards.

Above the map stand the bytes alive at each step and the phases, below it the layers.
Both formats are drawn by the same code with a pen of their own.
"""

from __future__ import annotations

import base64
import html
from typing import Generic, Protocol, TypeVar

import numpy as np

from arena_ckpt.allocation.integers import Integers
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.units import format_bytes
from arena_ckpt.planning.plan import MemoryPlan, require_plan, require_title
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.axes import byte_ticks, short_bytes, step_ticks
from arena_ckpt.report.layout_png import percent_above
from arena_ckpt.report.palette import LIGHT, parse_colour
from arena_ckpt.report.pillow import png_bytes, require_pillow
from arena_ckpt.report.raster import Pixels, Rectangles, paint
from arena_ckpt.report.segments import Band, Segments, band_runs, cut_segments

WIDTH, HEIGHT = 1600, 900
LEFT, RIGHT = 112, 1580
CURVE_TOP, CURVE_BOTTOM = 96, 190
BANDS_TOP, MAP_TOP, MAP_BOTTOM = 202, 226, 754
LEGEND_Y = 876
ROOM_ABOVE = 1.03
MOST_VECTORS = 20_000
"""Maximum number of rectangles that an SVG holds as shapes; more are put into it as
pixels, which needs Pillow."""

BAND_FILLS = {
    Band.FORWARD: "#ededec",
    Band.RECOMPUTE: "#dce9c3",
    Band.BACKWARD: "#dcdcdd",
    Band.UPDATE: "#f5f5f4",
}


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


P = TypeVar("P", bound=Pen)


class _SvgPen:
    """Draws by collecting SVG elements."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
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
        dashes = ' stroke-dasharray="8 6"' if dashed else ""
        self.parts.append(
            f'<line x1="{start[0]:.2f}" y1="{start[1]:.2f}" x2="{end[0]:.2f}" '
            f'y2="{end[1]:.2f}" stroke="{stroke}" stroke-width="1.5"{dashes}/>'
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
        anchor = {"left": "start", "center": "middle", "right": "end"}[align]
        turn = f' transform="rotate(-90 {x:.2f} {y:.2f})"' if turned else ""
        self.parts.append(
            f'<text x="{x:.2f}" y="{y:.2f}" dy="0.35em" font-size="{size}" '
            f'fill="{fill}" text-anchor="{anchor}"{turn}>{_xml_text(text)}</text>'
        )

    def finish(self) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
            f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'shape-rendering="crispEdges" '
            'font-family="system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif">\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


class _PngPen:
    """Draws with Pillow."""

    def __init__(self) -> None:
        from PIL import Image, ImageDraw

        self.image = Image.new("RGB", (WIDTH, HEIGHT), LIGHT.page)
        self._draw = ImageDraw.Draw(self.image)

    def rect(self, x: float, y: float, width: float, height: float, fill: str) -> None:
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
        if not dashed:
            self._draw.line([start, end], fill=stroke, width=2)
            return
        for x in range(round(start[0]), round(end[0]), 14):
            self._draw.line([(x, start[1]), (x + 8, start[1])], fill=stroke, width=2)

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
        from PIL import Image, ImageDraw, ImageFont

        font = ImageFont.load_default(size)
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
        self.image.paste(fill, (round(x - height / 2), round(y)), upright)


@public_call
def plan_svg(plan: MemoryPlan, title: str = "memory plan") -> str:
    """Return a picture of a plan as SVG.

    Parameters
    ----------
    plan : MemoryPlan
    title : str
        What stands before the numbers above the picture.

    Raises
    ------
    InvalidParameterError
        The plan has more than 20,000 rectangles, which only Pillow can draw, and Pillow
        is not installed.
    """
    require_plan(plan)
    require_title("title", title)
    picture = _Picture(plan, _SvgPen())
    pen = picture.pen
    pen.rect(0, 0, WIDTH, HEIGHT, LIGHT.page)
    if len(picture.segments.start) <= MOST_VECTORS:
        pen.rect(LEFT, MAP_TOP, RIGHT - LEFT, MAP_BOTTOM - MAP_TOP, LIGHT.free)
        picture.draw_segments()
    else:
        require_pillow()
        from PIL import Image

        content = png_bytes(Image.fromarray(picture.pixels()))
        text = base64.b64encode(content).decode("ascii")
        pen.parts.append(
            f'<image x="{LEFT}" y="{MAP_TOP}" width="{RIGHT - LEFT}" '
            f'height="{MAP_BOTTOM - MAP_TOP}" href="data:image/png;base64,{text}"/>'
        )
    picture.draw_around(title)
    return pen.finish()


@public_call
def plan_png(plan: MemoryPlan, title: str = "memory plan") -> bytes:
    """Return a picture of a plan as a PNG of 1600×900 pixels.

    Parameters
    ----------
    plan : MemoryPlan
    title : str
        What stands before the numbers above the picture.

    Raises
    ------
    InvalidParameterError
        Pillow is not installed.
    """
    require_plan(plan)
    require_title("title", title)
    require_pillow()
    from PIL import Image

    picture = _Picture(plan, _PngPen())
    image = picture.pen.image
    image.paste(Image.fromarray(picture.pixels()), (LEFT, MAP_TOP))
    picture.draw_around(title)
    return png_bytes(image)


class _Picture(Generic[P]):
    """A plan and the pen that draws it."""

    def __init__(self, plan: MemoryPlan, pen: P) -> None:
        self.plan = plan
        self.pen = pen
        self.segments: Segments = cut_segments(plan)
        self.top_bytes = max(plan.arena_bytes, 1) * ROOM_ABOVE
        self.n_steps = max(len(plan.steps), 1)

    def x(self, step: float) -> float:
        return LEFT + step / self.n_steps * (RIGHT - LEFT)

    def y(self, n_bytes: float) -> float:
        return MAP_BOTTOM - n_bytes / self.top_bytes * (MAP_BOTTOM - MAP_TOP)

    def boxes(self) -> tuple[Integers, Integers]:
        """Offsets and ends of the segments in bytes."""
        buffers = self.plan.buffers
        low = np.array([b.offset_bytes for b in buffers], dtype=np.int64)
        taken = [self.plan.taken_bytes(b.size_bytes) for b in buffers]
        return low[self.segments.buffer], (low + taken)[self.segments.buffer]

    def kinds(self) -> list[TensorKind]:
        """Kind of each segment, as a number."""
        return [self.plan.tensors[t].kind for t in self.segments.tensor.tolist()]

    def pixels(self) -> Pixels:
        """Return the map of the arena as pixels."""
        rows, columns = MAP_BOTTOM - MAP_TOP, RIGHT - LEFT
        low, high = self.boxes()
        rectangles = Rectangles(
            np.arange(len(low)),
            self.segments.start * columns / self.n_steps,
            self.segments.stop * columns / self.n_steps,
            low * rows / self.top_bytes,
            high * rows / self.top_bytes,
            (rows, columns),
        )
        colours = np.array(
            [parse_colour(LIGHT.kinds[kind]) for kind in self.kinds()], dtype=np.uint8
        ).reshape(-1, 3)
        return paint(rectangles, colours, parse_colour(LIGHT.free))

    def draw_segments(self) -> None:
        """Draw the map as rectangles, with gaps between large ones."""
        low, high = self.boxes()
        for kind, start, stop, bottom, top in zip(
            self.kinds(),
            self.segments.start.tolist(),
            self.segments.stop.tolist(),
            low.tolist(),
            high.tolist(),
            strict=True,
        ):
            width = self.x(stop) - self.x(start)
            height = self.y(bottom) - self.y(top)
            gap = 0.75 if min(width, height) > 4 else 0
            self.pen.rect(
                self.x(start),
                self.y(top) + gap,
                width - gap,
                height - gap,
                LIGHT.kinds[kind],
            )

    def draw_around(self, title: str) -> None:
        """Draw everything but the map."""
        self._draw_title(title)
        self._draw_curve()
        self._draw_bands()
        self._draw_levels()
        self._draw_axes()
        self._draw_layers()
        self._draw_legend()

    def _draw_title(self, title: str) -> None:
        plan = self.plan
        arena, bound = plan.arena_bytes, plan.live_lower_bound_bytes
        proof = (
            "proved optimal"
            if plan.proved_optimal
            else f"at most {percent_above(arena, bound)} above the optimum"
        )
        parts = [
            f"arena {format_bytes(arena)}",
            f"live lower bound {format_bytes(bound)}",
            proof,
            f"peak at {plan.describe_step(plan.peak_step)}",
        ]
        self.pen.text(LEFT, 30, title, size=24)
        self.pen.text(LEFT, 62, "  ·  ".join(parts), fill=LIGHT.pale_ink)

    def _draw_curve(self) -> None:
        """Draw the curve of live bytes, for each column of pixels the maximum."""
        live = self.plan.live_bytes()
        scale = (CURVE_BOTTOM - CURVE_TOP) / max(self.plan.arena_bytes, 1)
        n_columns = min(RIGHT - LEFT, self.n_steps)
        edges = np.linspace(0, self.n_steps, n_columns + 1).astype(int)
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            height = max(live[start:stop], default=0) * scale
            x = self.x(start)
            self.pen.rect(
                x, CURVE_BOTTOM - height, self.x(stop) - x, height, LIGHT.rule
            )
        self.pen.line((LEFT, CURVE_TOP), (RIGHT, CURVE_TOP), LIGHT.ink)
        at = LEFT - 11
        pale = LIGHT.pale_ink
        self.pen.text(at, CURVE_TOP, "arena", align="right", fill=pale)
        middle = (CURVE_TOP + CURVE_BOTTOM) / 2
        self.pen.text(at, middle, "live bytes", align="right", fill=pale)

    def _draw_bands(self) -> None:
        for band, start, stop in band_runs(self.plan):
            x, width = self.x(start), self.x(stop) - self.x(start)
            self.pen.rect(
                x, BANDS_TOP, width, MAP_TOP - BANDS_TOP - 2, BAND_FILLS[band]
            )
            text = band.value if width > 9 * len(band.value) else band.value[0].upper()
            if width > 16:
                self.pen.text(x + width / 2, BANDS_TOP + 11, text, align="center")

    def _draw_levels(self) -> None:
        plan = self.plan
        y = self.y(plan.arena_bytes)
        self.pen.line((LEFT, y), (RIGHT, y), LIGHT.ink)
        if not plan.proved_optimal:
            y = self.y(plan.live_lower_bound_bytes)
            self.pen.line((LEFT, y), (RIGHT, y), LIGHT.bound, dashed=True)

    def _draw_axes(self) -> None:
        pale = LIGHT.pale_ink
        self.pen.line((LEFT, MAP_BOTTOM), (RIGHT, MAP_BOTTOM), pale)
        for n_bytes in byte_ticks(self.top_bytes):
            y = self.y(n_bytes)
            self.pen.line((LEFT - 6, y), (LEFT, y), pale)
            self.pen.text(LEFT - 11, y, short_bytes(n_bytes), align="right", fill=pale)
        self.pen.text(LEFT - 11, MAP_BOTTOM + 92, "step", align="right", fill=pale)
        for step in step_ticks(0, self.n_steps - 1):
            x = self.x(step + 0.5)
            self.pen.text(x, MAP_BOTTOM + 92, f"{step:,}", align="center", fill=pale)

    def _draw_layers(self) -> None:
        """Write the names of layers under their steps, as many as fit."""
        shown_to = -100.0
        before = None
        for step, running in enumerate(self.plan.steps):
            if running is None or running.layer == before:
                continue
            before = running.layer
            x = self.x(step + 0.5)
            if x - shown_to < 17:
                continue
            shown_to = x
            name = before if len(before) <= 10 else before[:9] + "…"
            self.pen.text(x, MAP_BOTTOM + 8, name, size=13, align="right", turned=True)

    def _draw_legend(self) -> None:
        x = float(LEFT)
        for kind in TensorKind:
            text = kind.value.replace("_", " ")
            self.pen.rect(x, LEGEND_Y - 8, 16, 16, LIGHT.kinds[kind])
            self.pen.text(x + 24, LEGEND_Y, text)
            x += 24 + 8.2 * len(text) + 28


def _xml_text(text: str) -> str:
    """Escape a text for XML and drop the characters that XML cannot hold."""
    readable = "".join(
        c if c >= " " or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return html.escape(readable)
