"""Draws a front of plans: bytes of the arena to the right, overhead upwards.

The line through the plans is the least overhead of every budget. Left of it stand the
bounds: what the layout of each plan cannot be below, and what no plan of the graph can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.short_repr import counted, shortened
from arena_ckpt.common.units import format_bytes, format_percent, parse_bytes
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.plan import require_title
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.axes import short_bytes
from arena_ckpt.report.drawing import Dot, Drawing, Label, Line, Place, Shape
from arena_ckpt.report.drawing_pdf import pdf_of
from arena_ckpt.report.drawing_png import png_of
from arena_ckpt.report.drawing_svg import svg_of
from arena_ckpt.report.front_facts import (
    BYTES_NAME,
    SHARE_NAME,
    FrontFact,
    FrontPoint,
    fastest_within,
    front_axes,
    front_facts,
    points_of,
)
from arena_ckpt.report.palette import LIGHT

WIDTH, HEIGHT = 960, 600
LEFT, TOP, RIGHT, BOTTOM = 86, 108, 924, 510
LEGEND_Y = 576
_CHARACTER = 7.0
"""About the width of a character of the legend."""


@dataclass(frozen=True, slots=True)
class Colours:
    """The colours of a front."""

    page: str | None
    ink: str
    pale: str
    grid: str
    plan: str
    named: str
    fastest: str
    bound: str


ON_PAPER = Colours(
    LIGHT.page,
    LIGHT.ink,
    LIGHT.pale_ink,
    LIGHT.rule,
    LIGHT.kinds[TensorKind.WEIGHT],
    LIGHT.kinds[TensorKind.WORKSPACE],
    LIGHT.kinds[TensorKind.DERIVATIVE],
    LIGHT.bound,
)
ANYWHERE = Colours(
    page=None,
    ink="currentColor",
    pale="#808488",
    grid="#80848855",
    plan="#4f86d0",
    named="#b0649a",
    fastest="#e0912f",
    bound="#cf5364",
)
"""Colours that are read on light and dark pages, for notebooks."""


@public_call
def front_svg(
    front: Sequence[FrontPoint],
    title: str = "Pareto front",
    *,
    budget: str | int | None = None,
) -> str:
    """Return a picture of a front as SVG; a pointer on a plan is told its reason.

    Parameters
    ----------
    front : sequence of FrontPoint
        What `Model.pareto` returns.
    title : str
        What stands above the picture.
    budget : str or int, optional
        Bytes, for example ``"256KiB"``: they are marked, with the fastest of the plans
        within them.

    Raises
    ------
    InvalidParameterError
        No points, or a budget that is no size.
    """
    return svg_of(drawing_of_front(front, title, _bytes_of(budget)))


@public_call
def front_png(
    front: Sequence[FrontPoint],
    title: str = "Pareto front",
    *,
    budget: str | int | None = None,
) -> bytes:
    """Return a picture of a front as a PNG of 1920×1200 pixels.

    Parameters
    ----------
    front, title, budget
        See `front_svg`.

    Raises
    ------
    InvalidParameterError
        No points, a budget that is no size, or Pillow is not installed.
    """
    return png_of(drawing_of_front(front, title, _bytes_of(budget)))


@public_call
def front_pdf(
    front: Sequence[FrontPoint],
    title: str = "Pareto front",
    *,
    budget: str | int | None = None,
) -> bytes:
    """Return a picture of a front as a PDF of one page, with vectors and text.

    Parameters
    ----------
    front, title, budget
        See `front_svg`. Characters beyond Windows-1252 become question marks.

    Raises
    ------
    InvalidParameterError
        No points, or a budget that is no size.
    """
    return pdf_of(drawing_of_front(front, title, _bytes_of(budget)))


def _bytes_of(budget: str | int | None) -> int | None:
    return None if budget is None else parse_bytes(budget)


def drawing_of_front(
    front: Sequence[FrontPoint],
    title: str,
    budget_bytes: int | None = None,
    *,
    colours: Colours = ON_PAPER,
) -> Drawing:
    """Return a front as shapes.

    Parameters
    ----------
    front : sequence of FrontPoint
        At least one; ascending in bytes.
    title : str
    budget_bytes : int, optional
    colours : Colours
    """
    points = sorted(points_of(front), key=lambda point: point.arena_bytes)
    require_title("title", title)
    if not points:
        raise InvalidParameterError(
            "front=() has no points to draw; give what pareto() returns", front=front
        )
    picture = _Picture(front_facts(points), budget_bytes, colours)
    shapes = (*picture.around(title), *picture.requests(), *picture.curves())
    name = f"{title}: {picture.subtitle()}"
    return Drawing(WIDTH, HEIGHT, name, colours.page, (*shapes, *picture.legend()))


class _Picture:
    def __init__(
        self,
        facts: Sequence[FrontFact],
        budget_bytes: int | None,
        colours: Colours,
    ) -> None:
        self.facts = facts
        self.budget_bytes = budget_bytes
        self.colours = colours
        self.axes = front_axes(facts, budget_bytes)
        self.fastest = fastest_within(facts, budget_bytes)
        self.bound_bytes = min(fact.local_lower_bound_bytes for fact in facts)
        self.has_gaps = any(f.live_lower_bound_bytes < f.arena_bytes for f in facts)

    def x(self, n_bytes: float) -> float:
        low, high = self.axes.low_bytes, self.axes.high_bytes
        return LEFT + (n_bytes - low) / (high - low) * (RIGHT - LEFT)

    def y(self, share: float) -> float:
        return BOTTOM - share / self.axes.top * (BOTTOM - TOP)

    def subtitle(self) -> str:
        first, last = self.facts[0], self.facts[-1]
        if first is last:
            return f"one plan, {format_bytes(first.arena_bytes)}"
        least, most = (
            f"{short_bytes(fact.arena_bytes)} with {format_percent(fact.overhead)}"
            for fact in (first, last)
        )
        n = counted(len(self.facts), "plan")
        return f"{n}, from {least} {SHARE_NAME} to {most}"

    def around(self, title: str) -> list[Shape]:
        """Return titles, grid and axes."""
        ink, pale, grid = self.colours.ink, self.colours.pale, self.colours.grid
        shapes: list[Shape] = [
            Label((LEFT, 32), shortened(title, 70), 22, ink),
            Label((LEFT, 62), self.subtitle(), 14, pale),
            Label((LEFT, TOP - 18), SHARE_NAME, 14, pale),
            Label((RIGHT, BOTTOM + 40), BYTES_NAME, 14, pale, "right"),
        ]
        for n_bytes, text in self.axes.byte_ticks:
            x = self.x(n_bytes)
            shapes.append(Line(((x, TOP), (x, BOTTOM)), grid, 1))
            shapes.append(Label((x, BOTTOM + 16), text, 14, pale, "center"))
        for share, text in self.axes.share_ticks:
            y = self.y(share)
            shapes.append(Line(((LEFT, y), (RIGHT, y)), grid, 1))
            shapes.append(Label((LEFT - 10, y), text, 14, pale, "right"))
        return [*shapes, Line(((LEFT, BOTTOM), (RIGHT, BOTTOM)), pale)]

    def requests(self) -> list[Shape]:
        """Return the local lower bound, and what was asked for."""
        colours = self.colours
        bound = f"local lower bound {short_bytes(self.bound_bytes)}"
        shapes = self._upright(self.bound_bytes, bound, colours.bound, (2, 4), -9)
        if self.budget_bytes is not None and self.budget_bytes <= self.axes.high_bytes:
            text = f"budget {short_bytes(self.budget_bytes)}"
            apart = abs(self.x(self.budget_bytes) - self.x(self.bound_bytes))
            aside = 10 if apart < 26 else -9
            shapes += self._upright(
                self.budget_bytes, text, colours.fastest, None, aside
            )
        return shapes

    def _upright(
        self,
        n_bytes: int,
        text: str,
        colour: str,
        dashes: tuple[float, float] | None,
        aside: float,
    ) -> list[Shape]:
        x = self.x(n_bytes)
        beside = (x + aside, TOP + 4)
        return [
            Line(((x, TOP), (x, BOTTOM)), colour, 2, dashes),
            Label(beside, text, 13, self.colours.ink, "right", is_turned=True),
        ]

    def curves(self) -> list[Shape]:
        """Return the staircases of plans and of live lower bounds, and the plans."""
        colours = self.colours
        shapes: list[Shape] = []
        if self.has_gaps:
            bounds = self._stairs([f.live_lower_bound_bytes for f in self.facts])
            shapes.append(Line(bounds, colours.bound, 1.5, (7, 5)))
        stairs = self._stairs([fact.arena_bytes for fact in self.facts])
        shapes.append(Line(stairs, colours.plan, 2))
        for index, fact in enumerate(self.facts):
            place = (self.x(fact.arena_bytes), self.y(fact.overhead))
            if index == self.fastest:
                shapes.append(Dot(place, 9, colours.fastest, colours.ink, fact.text))
            else:
                fill = colours.named if fact.label == "named blocks" else colours.plan
                shapes.append(Dot(place, 5, fill, fill, fact.text))
        return shapes

    def _stairs(self, sizes: Sequence[int]) -> tuple[Place, ...]:
        """Return the corners of a staircase: a plan serves all sizes up to the next."""
        overheads = [fact.overhead for fact in self.facts]
        # Bounds need not ascend as arenas do: the least of all that are not faster.
        least = [min(sizes[index:]) for index in range(len(sizes))]
        places = [(self.x(least[0]), float(TOP))]
        for n_bytes, overhead in zip(least, overheads, strict=True):
            places.append((self.x(n_bytes), places[-1][1]))
            places.append((self.x(n_bytes), self.y(overhead)))
        return (*places, (float(RIGHT), places[-1][1]))

    def legend(self) -> list[Shape]:
        """Return what marks mean, in a row below the axes."""
        colours = self.colours
        entries: list[tuple[Shape, str]] = []
        middle = (0.0, float(LEGEND_Y))
        ends = ((-10.0, float(LEGEND_Y)), (12.0, float(LEGEND_Y)))
        entries.append((Dot(middle, 5, colours.plan, colours.plan), "plan"))
        if any(fact.label == "named blocks" for fact in self.facts):
            dot = Dot(middle, 5, colours.named, colours.named)
            entries.append((dot, "the model's own blocks"))
        if self.budget_bytes is not None:
            dot = Dot(middle, 8, colours.fastest, colours.ink)
            entries.append((dot, self._answer()))
        if self.has_gaps:
            line = Line(ends, colours.bound, 1.5, (7, 5))
            entries.append((line, "live lower bound of each plan"))
        line = Line(ends, colours.bound, 2, (2, 4))
        entries.append((line, "no plan is smaller"))
        shapes: list[Shape] = []
        x = LEFT + 10.0
        for mark, text in entries:
            shapes.append(_moved(mark, x))
            shapes.append(Label((x + 20, LEGEND_Y), text, 13, colours.pale))
            x += 20 + _CHARACTER * len(text) + 34
        return shapes

    def _answer(self) -> str:
        if self.fastest is None:
            return "no plan within the budget"
        size = short_bytes(self.facts[self.fastest].arena_bytes)
        return f"fastest within the budget: {size}"


def _moved(mark: Shape, x: float) -> Shape:
    """Return a mark of the legend at its place."""
    if isinstance(mark, Dot):
        return replace(mark, centre=(x, mark.centre[1]))
    assert isinstance(mark, Line)
    return replace(mark, places=tuple((x + dx, y) for dx, y in mark.places))
