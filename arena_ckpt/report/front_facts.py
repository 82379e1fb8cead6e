"""What pictures and tables say of the plans of a front, and its axes.

The words and the ticks are the same in a terminal, in pictures and in the viewer:
``arena`` in bytes to the right, ``overhead`` as a share upwards.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from arena_ckpt.common.arguments import require_value
from arena_ckpt.common.short_repr import counted, few_names
from arena_ckpt.common.units import format_bytes, format_percent, parse_bytes
from arena_ckpt.planning.plan import MemoryPlan, require_plan
from arena_ckpt.report.axes import short_bytes
from arena_ckpt.report.summary import recomputed_layers

MOST_TICKS = 8
"""Maximum number of ticks of an axis."""

BYTES_NAME, SHARE_NAME = "arena", "overhead"
"""The names of the axes."""


class FrontPoint(Protocol):
    """A plan among others of the same model, of which none is better in both numbers.

    Attributes
    ----------
    arena_bytes : int
    overhead : float
        As `MemoryPlan.overhead`.
    label : str
    plan : MemoryPlan
    """

    @property
    def arena_bytes(self) -> int: ...  # noqa: D102
    @property
    def overhead(self) -> float: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def plan(self) -> MemoryPlan: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class FrontFact:
    """What is said of one plan of a front.

    Attributes
    ----------
    label : str
    arena_bytes, live_lower_bound_bytes, local_lower_bound_bytes : int
    overhead : float
    again : tuple of str
        Layers that run again, in order of time; each as often as it does.
    n_blocks, micro_batches : int
    reason : str
        What is recomputed, and why no other plan beats it.
    """

    label: str
    arena_bytes: int
    live_lower_bound_bytes: int
    local_lower_bound_bytes: int
    overhead: float
    again: tuple[str, ...]
    n_blocks: int
    micro_batches: int
    reason: str

    @property
    def text(self) -> str:
        """The plan in one line: label, bytes, overhead and reason."""
        return f"{self.name}: {self.numbers}"

    @property
    def numbers(self) -> str:
        """Bytes, overhead and reason."""
        return (
            f"{BYTES_NAME} {format_bytes(self.arena_bytes)}, "
            f"{format_percent(self.overhead)} {SHARE_NAME}; {self.reason}"
        )

    @property
    def name(self) -> str:
        """The label, with the number of micro-batches if there are several."""
        split = self.micro_batches
        return self.label + (f", {split} micro-batches" if split > 1 else "")


def points_of(front: object) -> Sequence[FrontPoint]:
    """Return the points of a front in the order of bytes, or refuse what is no front.

    Raises
    ------
    InvalidParameterError
    """
    is_front = isinstance(front, Sequence) and all(
        hasattr(point, name)
        for point in front
        for name in ("label", "arena_bytes", "overhead", "plan")
    )
    expected = "points of a front, as pareto() returns them"
    require_value("front", front, fits=is_front, expected=expected)
    points = cast(Sequence[FrontPoint], front)
    for point in points:
        require_plan(point.plan)
    return points


def front_facts(points: Sequence[FrontPoint]) -> tuple[FrontFact, ...]:
    """Return the facts of each point, in the order of the points.

    Parameters
    ----------
    points : sequence of FrontPoint
        In any order; `Model.pareto` returns the smallest first.
    """
    order = sorted(points, key=lambda point: (point.arena_bytes, -point.overhead))
    following = {id(p): after for p, after in itertools.pairwise(order)}
    facts = []
    for point in points:
        plan = point.plan
        again = recomputed_layers(plan)
        why = _why(point, point is order[0], following.get(id(point)))
        facts.append(
            FrontFact(
                point.label,
                point.arena_bytes,
                plan.live_lower_bound_bytes,
                plan.local_lower_bound_bytes,
                point.overhead,
                again,
                len(plan.blocks),
                plan.micro_batches,
                f"{_what(plan, again)}; {why}",
            )
        )
    return tuple(facts)


def _what(plan: MemoryPlan, again: Sequence[str]) -> str:
    layers = tuple(dict.fromkeys(again))
    parts = [f"recomputes {few_names(layers)}" if layers else "recomputes nothing"]
    if len(again) > len(layers):
        parts.append(f"{len(again)} times together")
    if plan.blocks:
        parts.append(counted(len(plan.blocks), "block"))
    if plan.micro_batches > 1:
        parts.append(f"{plan.micro_batches} micro-batches")
    parts += [way.replace("_", " ") for way in plan.ways if way.startswith("tiled_")]
    return ", ".join(parts)


def _why(point: FrontPoint, is_first: bool, following: FrontPoint | None) -> str:
    if following is None:
        return "no plan is smaller or faster" if is_first else "no plan is faster"
    less = format_bytes(following.arena_bytes - point.arena_bytes)
    more = format_percent(point.overhead - following.overhead)
    saved = f"{less} less than the next for {more} more time"
    return f"no plan is smaller, {saved}" if is_first else saved


def fastest_within(facts: Sequence[FrontFact], budget_bytes: int | None) -> int | None:
    """Return the index of the fastest plan within a budget, or None."""
    fitting = [
        index
        for index, fact in enumerate(facts)
        if budget_bytes is not None and fact.arena_bytes <= budget_bytes
    ]
    return min(
        fitting, key=lambda i: (facts[i].overhead, facts[i].arena_bytes), default=None
    )


def front_rows(points: Sequence[FrontPoint]) -> list[dict[str, Any]]:
    """Return a row of plain values for each point; see `ParetoFront.to_rows`."""
    return [
        {
            "label": fact.label,
            "arena_bytes": fact.arena_bytes,
            "overhead": fact.overhead,
            "live_lower_bound_bytes": fact.live_lower_bound_bytes,
            "local_lower_bound_bytes": fact.local_lower_bound_bytes,
            "n_recomputes": len(fact.again),
            "recomputed": ";".join(dict.fromkeys(fact.again)),
            "blocks": ";".join(block.name for block in point.plan.blocks),
            "ways": ";".join(point.plan.ways),
            "micro_batches": fact.micro_batches,
            "reason": fact.reason,
        }
        for point, fact in zip(points, front_facts(points), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class FrontAxes:
    """The ranges of both axes of a front, with their ticks.

    Attributes
    ----------
    low_bytes, high_bytes : float
        Ends of the axis of bytes; it begins at 0 unless the plans are close together.
    top : float
        End of the axis of overheads, a share; it begins at 0.
    byte_ticks : tuple of (int, str)
    share_ticks : tuple of (float, str)
    """

    low_bytes: float
    high_bytes: float
    top: float
    byte_ticks: tuple[tuple[int, str], ...]
    share_ticks: tuple[tuple[float, str], ...]


def front_axes(
    facts: Sequence[FrontFact], budget_bytes: int | None = None
) -> FrontAxes:
    """Return the axes on which a front can be drawn, with its bounds and a budget."""
    arenas = [fact.arena_bytes for fact in facts]
    bounds = [fact.local_lower_bound_bytes for fact in facts]
    least, most = min(*arenas, *bounds), max(arenas)
    if budget_bytes is not None:
        least = min(least, budget_bytes)
        most = max(most, min(budget_bytes, 2 * most))  # more would press plans together
    room = 0.06 * ((most - least) or most or 1)
    low = 0.0 if least - room < 0.33 * most else least - room
    top = 1.12 * max(0.01, *(fact.overhead for fact in facts))
    return FrontAxes(
        low, most + room, top, _byte_ticks(low, most + room), _share_ticks(top)
    )


def _byte_ticks(low: float, high: float) -> tuple[tuple[int, str], ...]:
    apart = 2 ** max(0, math.ceil(math.log2((high - low) / MOST_TICKS)))
    first = math.ceil(low / apart)
    places = [k * apart for k in range(first, math.floor(high / apart) + 1)]
    return tuple((place, short_bytes(place)) for place in places)


def _share_ticks(top: float) -> tuple[tuple[float, str], ...]:
    rough = top / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    n = math.floor(top / apart + 1e-9)
    shares = (k * apart for k in range(n + 1))
    return tuple((share, f"{float(f'{100 * share:.3g}'):g} %") for share in shares)


def front_document(
    points: Sequence[FrontPoint], first_plan: int, budget: str | int | None
) -> dict[str, Any]:
    """Return what the viewer needs to draw a front.

    Parameters
    ----------
    points : sequence of FrontPoint
        May be empty.
    first_plan : int
        Number of the plan of the first point among those of the page.
    budget : str, int or None
    """
    budget_bytes = None if budget is None else parse_bytes(budget)
    if not points:
        return {"front": [], "front_axes": None}
    facts = front_facts(points)
    axes = front_axes(facts, budget_bytes)
    return {
        "front": [
            {
                "label": fact.name,
                "arena_bytes": fact.arena_bytes,
                "live_lower_bound_bytes": fact.live_lower_bound_bytes,
                "overhead": fact.overhead,
                "reason": fact.reason,
                "plan": first_plan + index,
            }
            for index, fact in enumerate(facts)
        ],
        "front_axes": {
            **dataclasses.asdict(axes),
            "bytes_name": BYTES_NAME,
            "share_name": SHARE_NAME,
            "local_lower_bound_bytes": min(f.local_lower_bound_bytes for f in facts),
            "budget_bytes": budget_bytes,
            "fastest": fastest_within(facts, budget_bytes),
        },
    }
