"""All plans of one model that trade bytes against time, with real layouts.

Tables of several chains of the same layers hold a recompute schedule for every budget
in estimated bytes. The plan of a schedule is made when it is first needed, and only the
bytes of its real arena count.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from arena_ckpt.checkpoint.chain import Action, ActionKind, replay
from arena_ckpt.checkpoint.chain_dp import ChainTable, solve
from arena_ckpt.checkpoint.chain_merge import MergedChain, merge_stages
from arena_ckpt.checkpoint.linearize import KnownStage, Linearized
from arena_ckpt.checkpoint.needs import Needs
from arena_ckpt.checkpoint.policy import Policy, wider
from arena_ckpt.checkpoint.stage_options import EVERYTHING
from arena_ckpt.checkpoint.stages import WIDEST, Stage, cut_graph, groupings
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.units import format_bytes, format_percent
from arena_ckpt.graph.blocks import CheckpointBlock
from arena_ckpt.graph.build import Graph
from arena_ckpt.planning.costs import Costs, other_cost
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.planner import LAYOUT_NODES, Planner, has_room, reruns_of
from arena_ckpt.planning.recompute import Reruns
from arena_ckpt.planning.settings import PlanSettings

CostFinder = Callable[[Graph, MemoryPlan], Costs]
"""Returns the costs of a plan's steps, for example by measuring them."""

KEEP_ALL = "keep all"
NAMED_BLOCKS = "named blocks"
CHOSEN = "chosen"
CHOSEN_BLOCKS = "chosen blocks"

STRONGER_LAYOUT_NODES = 500_000
"""Maximum number of nodes of the search for a better layout, which runs if a layout
exceeds the budget and its lower bound does not."""

MOST_STAGES = 240
"""Maximum number of stages of a chain; in longer ones neighbours are merged, because
the time of the search grows with the cube of it."""

MOST_CELLS = 12_000_000
"""Maximum of slots × stages²; the fewer stages there are, the finer are the budgets
that are told apart."""

MOST_SLOTS = 4_000
FEWEST_SLOTS = 500


@dataclass(frozen=True, eq=False)
class FrontPoint:
    """A plan with its bytes and its time.

    Attributes
    ----------
    label : str
        ``"keep all"``, ``"named blocks"`` (those of the model), ``"chosen"`` or
        ``"chosen blocks"``.
    arena_bytes : int
    overhead : float
        Additional cost of an iteration relative to the plainest one, as a share; see
        `arena_ckpt.planning.costs`.
    plan : MemoryPlan
    has_room : bool
        Every RAM that was asked for holds what the plan puts there.
    """

    label: str
    arena_bytes: int
    overhead: float
    plan: MemoryPlan
    has_room: bool = True

    def __repr__(self) -> str:
        n_reruns = sum(bool(rerun.tensors) for rerun in self.reruns)
        return short_repr(
            self,
            self.label,
            f"arena {format_bytes(self.arena_bytes)}",
            f"{format_percent(self.overhead)} overhead",
            counted(n_reruns, "recompute") if n_reruns else "",
            counted(self.plan.micro_batches, "micro-batch", "micro-batches")
            if self.plan.micro_batches > 1
            else "",
            "" if self.has_room else "more than its RAMs hold",
        )

    def fits(self, budget_bytes: int) -> bool:
        """Tell whether the plan is within a budget, and within each of its RAMs."""
        return self.has_room and self.arena_bytes <= budget_bytes

    @property
    def blocks(self) -> tuple[CheckpointBlock, ...]:
        """Checkpoint blocks that give the same plan; empty if no blocks can."""
        return self.plan.blocks

    @property
    def reruns(self) -> Reruns:
        """Everything that the plan recomputes, in order of time."""
        return reruns_of(self.plan)


class Slot(NamedTuple):
    """A recompute schedule with its estimated bytes and time, and where it is found."""

    budget_bytes: int
    time: float
    search: int
    slot: int


class _Search(NamedTuple):
    """A chain of stages with its fastest recompute schedules for all budgets."""

    linearized: Linearized
    merged: MergedChain
    table: ChainTable


class Front:
    """The plans of one model under given settings.

    Parameters
    ----------
    graph : Graph
        With the checkpoint blocks that the user named, if any.
    settings : PlanSettings
    levels : int or None
        1 for what named checkpoint blocks can say; None recomputes within recomputes.
    find_costs : callable, optional
        Returns the costs of the steps of a plan; counted ones by default.
    reference_cost : float, optional
        Time of the iteration that overheads are relative to; by default `keep_all`'s.
    policy : Policy
        What may be kept and run again in the plans of recompute schedules; `obeys` says
        it of the others.

    Attributes
    ----------
    costs : Costs
    reference_cost : float
    keep_all : FrontPoint
        Nothing is recomputed.
    """

    def __init__(
        self,
        graph: Graph,
        settings: PlanSettings,
        *,
        levels: int | None = None,
        find_costs: CostFinder | None = None,
        reference_cost: float | None = None,
        policy: Policy = EVERYTHING,
    ) -> None:
        self.graph = graph
        self._policy = policy
        self.settings = settings
        self._levels = levels
        self._planner = Planner(graph, settings)
        plan = self._planner.plan(())
        self.costs = find_costs(graph, plan) if find_costs else plan.counted_costs
        own_cost = plan.iteration_cost(self.costs)
        self.reference_cost = own_cost if reference_cost is None else reference_cost
        self.keep_all = self._measure(KEEP_ALL, plan)
        self._points: dict[Slot, FrontPoint] = {}

    @cached_property
    def named_blocks(self) -> FrontPoint | None:
        """Plan with the checkpoint blocks that the user named, or None."""
        if not self.graph.blocks:
            return None
        plan = self._planner.plan_blocks(self.graph.blocks)
        return self._measure(NAMED_BLOCKS, plan)

    def obeys(self, point: FrontPoint) -> bool:
        """Tell whether a plan obeys the policy."""
        return not self._policy or self._policy.obeyed_by(point.plan)

    @cached_property
    def _needs(self) -> Needs:
        return Needs(self._planner.touches)

    @cached_property
    def _searches(self) -> list[_Search]:
        """Searches of the chain of all stages, then with neighbours joined."""
        stages = cut_graph(self.graph, self._policy.dropped_tensors)
        chains = [stages]
        if self._levels != 1:  # blocks of joined stages are blocks of stages
            chains += groupings(stages)
        elif self._policy:  # short blocks run fewer layers again
            chains.append(cut_graph(self.graph, self._policy.dropped_tensors, WIDEST))
        n_slots = MOST_CELLS // min(len(stages), MOST_STAGES) ** 2
        n_slots = max(FEWEST_SLOTS, min(MOST_SLOTS, n_slots))
        policies = [self._policy]
        if self._policy.keep and self._levels != 1:
            policies.append(wider(self.graph, self._policy))
        known: dict[Hashable, KnownStage] = {}
        return [
            self._search(chain, n_slots, known, policy)
            for policy in dict.fromkeys(policies)
            for chain in chains
        ]

    def _search(
        self,
        stages: Sequence[Stage],
        n_slots: int,
        known: dict[Hashable, KnownStage],
        policy: Policy,
    ) -> _Search:
        linearized = Linearized(
            stages,
            self._needs,
            self.costs,
            self.settings,
            known,
            policy,
            self.graph if self._levels == 1 and policy else None,
        )
        whole = linearized.chain
        merged = merge_stages(whole, -(-len(whole) // MOST_STAGES))
        chain = merged.chain
        most_bytes = replay(chain, _saving_all(len(chain))).peak_bytes
        table = solve(chain, most_bytes, n_slots, self._levels)
        if table.least_slot is None:
            # Where all stages must save, rounding up takes up to a slot for each.
            most_bytes += len(chain) * (most_bytes // n_slots + 1)
            table = solve(chain, most_bytes, n_slots, self._levels)
        return _Search(linearized, merged, table)

    @cached_property
    def _all_slots(self) -> list[Slot]:
        return sorted(
            Slot(int(s.table.budgets[slot]), float(s.table.times[slot]), number, slot)
            for number, s in enumerate(self._searches)
            for slot in s.table.front_slots
        )

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Recompute schedules that no other beats by estimates, smallest first."""
        best: list[Slot] = []
        for one in self._all_slots:
            if not best or one.time < best[-1].time:
                best.append(one)
        return tuple(best)

    @cached_property
    def spare_slots(self) -> tuple[Slot, ...]:
        """Other recompute schedules, the smallest first; estimates can be too high."""
        best = frozenset(self.slots)
        return tuple(slot for slot in self._all_slots if slot not in best)

    @property
    def made(self) -> list[FrontPoint]:
        """Plans that were made so far."""
        return [*self._points.values()]

    def slot_within(self, arena_bytes: int) -> int:
        """Return the index in `slots` of the last that is estimated to fit, or -1."""
        budget = arena_bytes - self._needs.base_bytes
        return sum(slot.budget_bytes <= budget for slot in self.slots) - 1

    def longest_time(self, most: float) -> float:
        """Return the longest time of a schedule whose overhead is within a limit."""
        plan = self.keep_all.plan
        late = [e for e in plan.executions if e.step >= plan.n_pass]
        after = other_cost(late, self.costs)
        time = (self.reference_cost * (1 + most) - after) / plan.micro_batches
        return time * (1 + 1e-9)

    def point(self, slot: Slot, budget_bytes: int | None = None) -> FrontPoint:
        """Return the plan of a recompute schedule; it is made at the first call.

        Parameters
        ----------
        slot : Slot
        budget_bytes : int, optional
            Search longer for a layout if that could bring the arena below this size.
        """
        if slot not in self._points:
            self._points[slot] = self._make(slot)
        point = self._points[slot]
        bound = point.plan.live_lower_bound_bytes
        could_fit = budget_bytes is not None and bound <= budget_bytes
        if could_fit and not point.fits(budget_bytes or 0):
            stronger = self._make(slot, STRONGER_LAYOUT_NODES)
            if _rank(stronger) < _rank(point):
                self._points[slot] = point = stronger
        return point

    def _make(self, slot: Slot, layout_nodes: int = LAYOUT_NODES) -> FrontPoint:
        search = self._searches[slot.search]
        actions = search.merged.expand(search.table.schedule(slot.slot))
        if self._levels != 1:
            reruns = search.linearized.reruns(actions)
            plan = self._planner.plan(reruns, layout_nodes)
            point = self._measure(CHOSEN, plan)
        else:
            blocks = search.linearized.blocks(actions)
            plan = self._planner.plan_blocks(blocks, layout_nodes)
            point = self._measure(CHOSEN_BLOCKS, plan)
        assert self.obeys(point), point.reruns
        return point

    def _measure(self, label: str, plan: MemoryPlan) -> FrontPoint:
        cost = plan.iteration_cost(self.costs)
        more = cost / self.reference_cost - 1 if self.reference_cost else 0.0
        room = has_room(plan, self.settings)
        return FrontPoint(label, plan.arena_bytes, more, plan, room)


def _rank(point: FrontPoint) -> tuple[bool, int, float]:
    """Return what orders plans: those with room first, then those of few bytes."""
    return not point.has_room, point.arena_bytes, point.overhead


def smallest(points: Iterable[FrontPoint]) -> FrontPoint:
    """Return the plan of the fewest bytes; one that has room comes first."""
    return min(points, key=_rank)


def _saving_all(n_stages: int) -> list[Action]:
    stages = range(n_stages)
    return [
        *(Action(ActionKind.SAVE, stage) for stage in stages),
        *(Action(ActionKind.BACKWARD, stage) for stage in reversed(stages)),
    ]


def best_points(points: Sequence[FrontPoint]) -> tuple[FrontPoint, ...]:
    """Return the points that no other beats in bytes and time, the smallest first.

    Those that have no room come last, and only where no other is as fast.
    """
    best: list[FrontPoint] = []
    for point in sorted(points, key=_rank):
        if not best or point.overhead < best[-1].overhead:
            best.append(point)
    return tuple(best)
