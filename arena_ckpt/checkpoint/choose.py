"""Chooses the plan that a user asks for: within a budget, within an overhead, or all.

Bytes can be saved in other ways than by recomputing, namely by other settings of an
iteration. Each allowed set of settings has a front of its own. Settings that change no
bit of the result come first; others are tried only if the user allows them by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arena_ckpt.checkpoint.front import (
    CostFinder,
    Front,
    FrontPoint,
    Slot,
    best_points,
    smallest,
)
from arena_ckpt.checkpoint.policy import Patterns, find_policy
from arena_ckpt.common.units import LARGEST_BYTES, format_bytes, format_percent
from arena_ckpt.errors import BudgetError, PolicyError
from arena_ckpt.graph.build import Graph
from arena_ckpt.planning.batch_statistics import depends_on_split
from arena_ckpt.planning.planner import require_room
from arena_ckpt.planning.settings import WAYS, PlanSettings

ALLOWABLE = ("recompute", *WAYS, "micro_batch")
"""The names that `allow` may hold."""

DEFAULT_ALLOW = frozenset(("recompute", "in_place", "layerwise_update"))
"""The names that are allowed by default; none of them changes a bit of the result."""

NO_PATTERNS = Patterns()
"""What leaves every layer to the search."""

MOST_POINTS = 48
"""Maximum number of plans that are made for a whole front, spread evenly over its
budgets."""

MOST_SPARE = 24
"""Maximum number of additional plans whose estimates are worse than those of others."""

APART = 1.5
"""Factor up to which arenas are compared: a plan of a larger estimate can have a
smaller arena. It holds for the bytes without weights and all else that is always
alive."""

GraphMaker = Callable[[bool], Graph]
"""Returns the graph of the model, with tiled attention if the argument is True."""


@dataclass(frozen=True, slots=True)
class Loops:
    """The recurrent layers of a model that could be unrolled.

    Attributes
    ----------
    layers : tuple of str
        Their names.
    make_graph : callable
        As `GraphMaker`, with all of them unrolled; None where that cannot be planned.
    """

    layers: tuple[str, ...]
    make_graph: Callable[[bool], Graph | None]


class Chooser:
    """Chooses among the plans of one model.

    Parameters
    ----------
    make_graph : callable
        Called with True if attention is to be tiled, so that it keeps no probabilities.
    settings : PlanSettings
        The settings of the model.
    allow : frozenset of str
        Names out of `ALLOWABLE`.
    levels : int or None
        1 for what named checkpoint blocks can say.
    find_costs : callable, optional
        See `Front`.
    patterns : Patterns
        Layers that never run again, or are never kept.
    loops : Loops, optional
        The recurrent layers that could be unrolled; only advice goes by them.

    Raises
    ------
    UnknownLayerError, PolicyError
        See `find_policy`; or layers are to be dropped and none may run again.
    """

    def __init__(
        self,
        make_graph: GraphMaker,
        settings: PlanSettings,
        *,
        allow: frozenset[str] = DEFAULT_ALLOW,
        levels: int | None = None,
        find_costs: CostFinder | None = None,
        patterns: Patterns = NO_PATTERNS,
        loops: Loops | None = None,
    ) -> None:
        self.patterns = patterns
        self._loops = loops
        self._make_graph = make_graph
        self.settings = settings
        self.allow = allow
        self._levels = levels
        self._find_costs = find_costs
        self._reference_cost: float | None = None
        self._fronts: dict[PlanSettings, Front] = {}
        policy = find_policy(self.graph, patterns)
        if policy.drop and "recompute" not in allow:
            raise PolicyError(
                "what is dropped has to run again, and 'recompute' is not in allow; "
                "add it, or leave out drop",
                layers=tuple(sorted(policy.drop)),
            )

    # -- questions ---------------------------------------------------------------------

    def within_budget(self, budget_bytes: int) -> FrontPoint | None:
        """Return the fastest plan whose arena is within a budget, or None."""
        best = None
        for front in self._all_fronts():
            found = self._fastest_within(front, budget_bytes)
            if found and (best is None or found.overhead < best.overhead):
                best = found
            if best and best.overhead <= 0:
                break
        return best

    def within_overhead(self, max_overhead: float | None = None) -> FrontPoint:
        """Return the smallest plan whose overhead is within a limit.

        Raises
        ------
        BudgetError
            What is dropped takes more time to run again.
        """
        points: list[FrontPoint] = []
        for front in self._all_fronts():
            points += self._small(front, max_overhead)
        if not points:
            raise self._too_much_dropped(max_overhead)
        return smallest(points)

    def _too_much_dropped(self, max_overhead: float | None) -> BudgetError:
        fastest = self.within_budget(LARGEST_BYTES)
        assert fastest is not None, "some plan obeys every policy"
        assert max_overhead is not None
        return BudgetError(
            f"with {self.patterns} the fastest plan found takes "
            f"{format_percent(fastest.overhead)} more time in "
            f"{format_bytes(fastest.arena_bytes)}, {format_percent(max_overhead)} is "
            "asked; allow more overhead, or drop fewer layers",
            budget_bytes=None,
            least_bytes=fastest.arena_bytes,
            overhead=fastest.overhead,
        )

    def pareto(self) -> tuple[FrontPoint, ...]:
        """Return the plans that no other beats in bytes and time, smallest first.

        Raises
        ------
        BudgetError
            None was found that has room in the RAMs.
        """
        points: list[FrontPoint] = []
        for front in self._all_fronts():
            points += self._known(front) + self._spread(front)
        fitting = [point for point in points if point.has_room]
        if not fitting:
            require_room(smallest(points).plan, self.settings)
        return best_points(fitting)

    def fits(self, budget_bytes: int) -> bool:
        """Say whether a plan is within a budget; only the smallest plans are made.

        If one does, `within_budget` finds one as well.
        """
        return any(
            point.fits(budget_bytes)
            for front in self._all_fronts()
            if front.keep_all.plan.local_lower_bound_bytes <= budget_bytes
            for point in self._least(front, budget_bytes)
        )

    def least_bytes(self, budget_bytes: int) -> int:
        """Return the arena of the smallest plan that was made so far.

        Those that are close to the fewest bytes are made, with the layouts that a
        budget is worth.
        """
        return min(
            point.arena_bytes
            for front in self._all_fronts()
            for point in (*self._least(front, budget_bytes), *front.made)
        )

    def lower_bound_bytes(self) -> int:
        """Return the bytes that no plan is below, whatever is recomputed."""
        return min(
            front.keep_all.plan.local_lower_bound_bytes for front in self._all_fronts()
        )

    def changed(
        self,
        settings: PlanSettings | None = None,
        allow: frozenset[str] | None = None,
        patterns: Patterns | None = None,
    ) -> Chooser:
        """Return a chooser for the same model that is run in another way.

        Its costs are counted, because a model that cannot run cannot be measured, for
        example Adam without its states.
        """
        return Chooser(
            self._make_graph,
            self.settings if settings is None else settings,
            allow=self.allow if allow is None else allow,
            levels=self._levels,
            patterns=self.patterns if patterns is None else patterns,
            loops=self._loops,
        )

    @property
    def loops(self) -> tuple[str, ...]:
        """Names of the recurrent layers that could be unrolled."""
        return () if self._loops is None else self._loops.layers

    def unrolled(self) -> Chooser | None:
        """Return a chooser for the model with its recurrent layers unrolled.

        None where there is nothing to unroll, or too much to plan.
        """
        loops = self._loops
        if loops is None or loops.make_graph(False) is None:
            return None

        def make_graph(tiled_attention: bool) -> Graph:
            graph = loops.make_graph(tiled_attention)
            assert graph is not None, "it was made before"
            return graph

        return Chooser(
            make_graph,
            self.settings,
            allow=self.allow,
            levels=self._levels,
            patterns=self.patterns,
        )

    @property
    def keep_all(self) -> FrontPoint:
        """Plan that recomputes nothing, of the simplest way to run an iteration."""
        return next(self._all_fronts()).keep_all

    @property
    def graph(self) -> Graph:
        """Graph of the model as it was defined."""
        return self._make_graph(False)

    # -- fronts ------------------------------------------------------------------------

    def _front(self, settings: PlanSettings) -> Front:
        if settings not in self._fronts:
            graph = self._make_graph("tiled_attention" in settings.ways)
            front = Front(
                graph,
                settings,
                levels=self._levels,
                find_costs=self._find_costs,
                reference_cost=self._reference_cost,
                policy=find_policy(graph, self.patterns),
            )
            self._fronts[settings] = front
            self._reference_cost = front.reference_cost  # of the plainest, the first
        return self._fronts[settings]

    def _all_fronts(self) -> Iterator[Front]:
        """Yield a front for each way to run an iteration, the simplest first."""
        unsplit = unsplittable(self.graph)
        for settings in all_settings(self.settings, self.allow, unsplit):
            yield self._front(settings)

    def _known(self, front: Front) -> list[FrontPoint]:
        """Return the plans that need no search and obey the policy."""
        named = front.named_blocks if "recompute" in self.allow else None
        known = [front.keep_all, *([named] if named else [])]
        return [point for point in known if front.obeys(point)]

    def _slots(self, front: Front) -> list[Slot]:
        """Return the recompute schedules of a front by budget, the smallest first."""
        if "recompute" not in self.allow:
            return []
        best = _evenly(front.slots, MOST_POINTS)
        return sorted([*best, *_evenly(front.spare_slots, MOST_SPARE)])

    def _spread(
        self, front: Front, budget_bytes: int | None = None
    ) -> list[FrontPoint]:
        """Return the plans of recompute schedules that are spread over a front."""
        return [front.point(slot, budget_bytes) for slot in self._slots(front)]

    def _least(self, front: Front, budget_bytes: int) -> Iterator[FrontPoint]:
        """Yield plans of which one is close to the fewest bytes of a front."""
        yield from self._known(front)
        if "recompute" in self.allow and front.slots:
            yield front.point(front.slots[0], budget_bytes)

    def _fastest_within(self, front: Front, budget_bytes: int) -> FrontPoint | None:
        if front.keep_all.plan.local_lower_bound_bytes > budget_bytes:
            return None
        points = self._known(front)
        keeps_all = front.keep_all in points
        fits = keeps_all and front.keep_all.fits(budget_bytes)
        if not fits and "recompute" in self.allow:
            near = self._search(front, budget_bytes)
            if near is None:
                self._spread(front, budget_bytes)
            else:
                for slot in self._slots(front):
                    is_near = slot.budget_bytes <= APART * near.budget_bytes
                    if is_near and slot.time < near.time:
                        front.point(slot, budget_bytes)
            points += front.made
        fitting = [p for p in points if p.fits(budget_bytes)]
        return min(fitting, key=lambda p: (p.overhead, p.arena_bytes), default=None)

    def _search(self, front: Front, budget_bytes: int) -> Slot | None:
        """Make plans around the estimated limit; return the last that really fits.

        Estimates can be too high, and layouts can be higher than estimated. So the
        search starts at the estimated schedule and goes to larger ones in growing steps
        while plans fit, or to smaller ones until a plan fits.
        """
        slots, n = front.slots, len(front.slots)

        def fits(index: int) -> bool:
            return front.point(slots[index], budget_bytes).fits(budget_bytes)

        if not n:
            return None
        low = min(max(front.slot_within(budget_bytes), 0), n - 1)
        high, step = low + 1, 1
        if fits(low):
            while high < n and fits(high):
                low, high, step = high, min(n, high + step), 2 * step
        else:
            while low > 0 and not fits(low):
                high, low, step = low, max(0, low - step), 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return slots[low] if fits(low) else None

    def _small(self, front: Front, max_overhead: float | None) -> list[FrontPoint]:
        """Return plans of few bytes that are fast enough; the list may be empty."""
        points = self._known(front)
        if max_overhead is None:
            return points + self._spread(front)
        # Estimates of the time can be too high as well.
        longest = front.longest_time(2 * max_overhead + 0.02)
        fast = [slot for slot in self._slots(front) if slot.time <= longest]
        surely = front.longest_time(max_overhead)
        if "recompute" in self.allow:
            fast += [slot for slot in front.slots if slot.time <= surely][:1]
        sizes = [s.budget_bytes for s in fast if s.time <= surely]
        most_bytes = APART * min(sizes, default=math.inf)
        points += [front.point(s) for s in fast if s.budget_bytes <= most_bytes]
        return [point for point in points if point.overhead <= max_overhead + 1e-9]


def _evenly(slots: Sequence[Slot], most: int) -> list[Slot]:
    """Return at most `most` of some slots, spread evenly from the first to the last."""
    if len(slots) <= most:
        return [*slots]
    return [slots[int(place)] for place in np.linspace(0, len(slots) - 1, most).round()]


def unsplittable(graph: Graph) -> str | None:
    """Return a layer whose results depend on how a batch is split, or None."""
    return next((node.name for node in graph.nodes if depends_on_split(node)), None)


def all_settings(
    settings: PlanSettings, allow: Iterable[str], forbids_split: str | None
) -> list[PlanSettings]:
    """Return the settings of all ways to run an iteration, the simplest first.

    Parameters
    ----------
    settings : PlanSettings
    allow : iterable of str
    forbids_split : str or None
        A layer that forbids micro-batches, if there is one.
    """
    allow = frozenset(allow)
    plain = replace(settings, ways=allow.intersection(("in_place", "layerwise_update")))
    found = [plain]
    for way in ("tiled_attention", "tiled_update"):
        if way in allow:
            found += [replace(s, ways=s.ways | {way}) for s in found]
    # Updates of all layers at the end leave no gradient to be made in tiles.
    found = [s for s in found if s.tiles_updates or "tiled_update" not in s.ways]
    if "micro_batch" in allow and forbids_split is None:
        batch, now = settings.batch_size, settings.micro_batches
        more = [n for n in range(now + 1, batch + 1) if batch % n == 0]
        whole = [s for s in found if not s.tiles_updates]
        found += [replace(s, micro_batches=n) for n in more for s in whole]
    return found
