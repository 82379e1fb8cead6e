"""Draws a memory plan as PNG or SVG: steps to the right, bytes upwards.

Above the map stand the bytes alive at each step and the phases, below it the layers.
Both formats are drawn by the same code with a pen of their own.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import numpy as np

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.units import format_bytes
from arena_ckpt.planning.plan import MemoryPlan, require_plan, require_title
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.axes import byte_ticks, short_bytes, step_ticks
from arena_ckpt.report.layout_png import percent_above
from arena_ckpt.report.palette import LIGHT, parse_colour
from arena_ckpt.report.pens import HEIGHT, WIDTH, Pen, PngPen, SvgPen
from arena_ckpt.report.pillow import png_bytes, require_pillow
from arena_ckpt.report.raster import Pixels, Rectangles, paint
from arena_ckpt.report.segments import Band, Segments, band_runs, cut_segments
from arena_ckpt.report.stack import (
    Floats,
    StackedMemory,
    describe_memory,
    is_arena_alone,
    stack_memories,
)

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""

LEFT, RIGHT = 112, 1580
CURVE_TOP, CURVE_BOTTOM = 96, 190
BANDS_TOP, MAP_TOP, MAP_BOTTOM = 202, 226, 754
LEGEND_Y = 876
ROOM_ABOVE = 1.03
LINE_PIXELS, CHARACTER_PIXELS = 17, 8.2
"""Height of a line of text, and about the width of a character."""

LOWEST_WITH_TICKS = 60
"""Minimum height in pixels of a memory with ticks; a lower one has its name there."""

LEAST_HATCHED = 5
"""Minimum width and height in pixels of a rectangle with hatching."""

GAUGE_WIDTH = 7

MOST_VECTORS = 20_000
"""Maximum number of rectangles that an SVG holds as shapes; more are put into it as
pixels, which needs Pillow."""

BAND_FILLS = {
    Band.FORWARD: "#ededec",
    Band.RECOMPUTE: "#dce9c3",
    Band.BACKWARD: "#dcdcdd",
    Band.UPDATE: "#f5f5f4",
}

P = TypeVar("P", bound=Pen)


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
    picture = _Picture(plan, SvgPen())
    pen = picture.pen
    pen.rect(0, 0, WIDTH, HEIGHT, LIGHT.page)
    if len(picture.segments.start) <= MOST_VECTORS:
        picture.draw_background()
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

    picture = _Picture(plan, PngPen())
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
        self.stack = stack_memories(plan)
        self.top_bytes = self.stack.top * ROOM_ABOVE
        self.n_steps = max(len(plan.steps), 1)

    def x(self, step: float) -> float:
        return LEFT + step / self.n_steps * (RIGHT - LEFT)

    def y(self, n_bytes: float) -> float:
        return MAP_BOTTOM - n_bytes / self.top_bytes * (MAP_BOTTOM - MAP_TOP)

    def boxes(self) -> tuple[Floats, Floats]:
        """Return the ends of the segments on the axis of bytes."""
        held_by = self.segments.buffer
        return self.stack.low[held_by], self.stack.high[held_by]

    def kinds(self) -> list[TensorKind]:
        """Kind of each segment, as a number."""
        return [self.plan.tensors[t].kind for t in self.segments.tensor.tolist()]

    def pixels(self) -> Pixels:
        """Return the map of the memories as pixels."""
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
        return paint(rectangles, colours, self._free_rows(rows))

    def backgrounds(self) -> list[tuple[float, float, str]]:
        """Return top, bottom and colour of the free memory of each memory, from below.

        What is above the last memory looks like it.
        """
        lows = [self.y(memory.low) for memory in self.stack.memories]
        tops = [*lows[1:], float(MAP_TOP)]
        return [
            (top, bottom, LIGHT.memories[index % len(LIGHT.memories)])
            for index, (top, bottom) in enumerate(zip(tops, lows, strict=True))
        ]

    def draw_background(self) -> None:
        """Draw the free memory."""
        for top, bottom, fill in self.backgrounds():
            self.pen.rect(LEFT, top, RIGHT - LEFT, bottom - top, fill)

    def _free_rows(self, rows: int) -> Pixels:
        """Return the colour of the free memory in each row of pixels."""
        colours = np.empty((rows, 3), dtype=np.uint8)
        for top, bottom, fill in self.backgrounds():
            colours[round(top) - MAP_TOP : round(bottom) - MAP_TOP] = parse_colour(fill)
        return colours

    def _rectangles(self) -> Iterator[tuple[TensorKind, Box]]:
        """Yield the kind of each segment, and its left, top, width and height."""
        low, high = self.boxes()
        for kind, start, stop, bottom, top in zip(
            self.kinds(),
            self.segments.start.tolist(),
            self.segments.stop.tolist(),
            low.tolist(),
            high.tolist(),
            strict=True,
        ):
            left, upper = self.x(start), self.y(top)
            yield kind, (left, upper, self.x(stop) - left, self.y(bottom) - upper)

    def draw_hatching(self) -> None:
        """Draw lines over the recomputed activations that are large enough for them."""
        for kind, (left, top, width, height) in self._rectangles():
            if kind is not TensorKind.RECOMPUTED:
                continue
            if min(width - 2, height - 2) >= LEAST_HATCHED:
                box = (left + 1, top + 1, width - 2, height - 2)
                self.pen.hatch(*box, LIGHT.hatch)

    def draw_segments(self) -> None:
        """Draw the map as rectangles, with gaps between large ones."""
        for kind, (left, top, width, height) in self._rectangles():
            gap = 0.75 if min(width, height) > 4 else 0
            self.pen.rect(left, top + gap, width - gap, height - gap, LIGHT.kinds[kind])

    def draw_around(self, title: str) -> None:
        """Draw everything but the rectangles of the map."""
        self.draw_hatching()
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
        lines = [parts]
        if len(plan.rams) > 1:  # chosen for what they are touched, not for the sum
            parts.remove(proof)
        if not is_arena_alone(plan):
            uses = [memory.use for memory in self.stack.memories]
            lines.append([describe_memory(use) for use in uses if use.size_bytes])
            if plan.constant_bytes:
                lines[-1].append(f"constants {format_bytes(plan.constant_bytes)}")
        self.pen.text(LEFT, 30, title, size=24)
        for y, line in zip((62,) if len(lines) == 1 else (55, 77), lines, strict=True):
            self.pen.text(LEFT, y, "  ·  ".join(line), fill=LIGHT.pale_ink)

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
        if not plan.proved_optimal and len(plan.rams) < 2:
            y = self.y(plan.live_lower_bound_bytes)
            self.pen.line((LEFT, y), (RIGHT, y), LIGHT.bound, dashed=True)

    def _draw_memories(self) -> None:
        """Draw where memories end, and the ticks or the name of each at its left."""
        stack = self.stack
        if is_arena_alone(self.plan):
            self._draw_ticks(byte_ticks(self.top_bytes), 0)
            return
        if stack.gap:
            below, above = map(self.y, stack.gap)
            top = self.y(stack.top)
            for start, stop in ((above, below), (MAP_TOP, top)):
                self.pen.rect(LEFT, start, RIGHT - LEFT, stop - start, LIGHT.page)
            self.pen.line((LEFT, below), (RIGHT, below), LIGHT.ink)
        for memory in stack.memories:
            end = self.y(memory.high)
            self._draw_gauge(memory)
            if not memory.use.is_constant:
                self.pen.line((LEFT, end), (RIGHT, end), LIGHT.ink)
            if memory.use.is_constant or self.height(memory) < LOWEST_WITH_TICKS:
                self._write_beside(memory)
            else:
                self._write_along(memory)
                self._draw_ticks(self._ticks_within(memory), memory.low)

    def _draw_gauge(self, memory: StackedMemory) -> None:
        """Draw a strip that is filled as far as a memory with a size is."""
        use = memory.use
        if not use.size_bytes:
            return
        top, bottom = self.y(memory.high), self.y(memory.low) - 2  # apart from the next
        if top >= bottom:
            return
        taken = min(use.height_bytes / use.size_bytes, 1) * (bottom - top)
        self.pen.rect(RIGHT + 5, top, GAUGE_WIDTH, bottom - top, LIGHT.rule)
        self.pen.rect(RIGHT + 5, bottom - taken, GAUGE_WIDTH, taken, LIGHT.pale_ink)

    def _ticks_within(self, memory: StackedMemory) -> list[int]:
        """Return the ticks of a memory that touch no label of those beside it."""
        room = LINE_PIXELS / 2 * self.top_bytes / (MAP_BOTTOM - MAP_TOP)
        first, last = room if memory.low else 0, memory.high - memory.low - room
        return [n for n in byte_ticks(self.top_bytes) if first <= n <= last]

    def height(self, memory: StackedMemory) -> float:
        """Return the height of a memory in pixels."""
        return self.y(memory.low) - self.y(memory.high)

    def _draw_ticks(self, ticks: Sequence[int], low: float) -> None:
        """Draw ticks of bytes that are counted from a place on the axis."""
        pale = LIGHT.pale_ink
        for n_bytes in ticks:
            y = self.y(low + n_bytes)
            self.pen.line((LEFT - 6, y), (LEFT, y), pale)
            self.pen.text(LEFT - 11, y, short_bytes(n_bytes), align="right", fill=pale)

    def _write_beside(self, memory: StackedMemory) -> None:
        """Write a memory and its size in one line or two, as many as fit.

        Right above and below constants there is nothing that they could touch.
        """
        room = self.height(memory) + LINE_PIXELS * memory.use.is_constant
        lines = [_shortened(memory.use.name), short_bytes(memory.use.height_bytes)]
        lines = lines[: int(room // LINE_PIXELS)]
        y = (self.y(memory.low) + self.y(memory.high)) / 2
        y -= LINE_PIXELS * (len(lines) - 1) / 2
        for line in lines:
            self.pen.text(LEFT - 11, y, line, align="right")
            y += LINE_PIXELS

    def _write_along(self, memory: StackedMemory) -> None:
        """Write a memory, its size and its fill level upwards, or what fits of that."""
        whole = describe_memory(memory.use)
        shorter = describe_memory(memory.use, with_fill=False)
        for text in (whole, shorter, _shortened(memory.use.name)):
            if CHARACTER_PIXELS * len(text) <= self.height(memory):
                y = (self.y(memory.low) + self.y(memory.high)) / 2
                self.pen.text(LEFT - 94, y, text, align="center", turned=True)
                return

    def _draw_axes(self) -> None:
        pale = LIGHT.pale_ink
        self.pen.line((LEFT, MAP_BOTTOM), (RIGHT, MAP_BOTTOM), pale)
        self._draw_memories()
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
            name = _shortened(before)
            self.pen.text(x, MAP_BOTTOM + 8, name, size=13, align="right", turned=True)

    def _draw_legend(self) -> None:
        x = float(LEFT)
        for kind in TensorKind:
            text = kind.value.replace("_", " ")
            self.pen.rect(x, LEGEND_Y - 8, 16, 16, LIGHT.kinds[kind])
            if kind is TensorKind.RECOMPUTED:
                self.pen.hatch(x, LEGEND_Y - 8, 16, 16, LIGHT.hatch)
            self.pen.text(x + 24, LEGEND_Y, text)
            x += 24 + CHARACTER_PIXELS * len(text) + 28


def _shortened(name: str) -> str:
    return name if len(name) <= 10 else name[:9] + "…"
