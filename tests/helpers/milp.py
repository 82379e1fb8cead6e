"""What is best to recompute, as a mixed-integer linear program: the outside judge.

The program is Checkmate's (Jain et al., "Checkmate: Breaking the Memory Wall with
Optimal Tensor Rematerialization", MLSys 2020): a stage for each layer of the backward
pass, which comes in its fixed order; in each stage every layer of the forward pass runs
again or not, in forward order and at most once; every tensor is kept to the next stage
or not. Bytes are counted at every step, and a tensor's are free after its last use.

It differs from the paper in what it counts, which is what `planning.live_ranges` does
without operation in place: tensors are rounded up to the alignment; a layer makes
several of them or some only; workspaces, derivatives and gradients take bytes too. So a
solution made into reruns gives a plan whose live bytes are those of the program.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from arena_ckpt import Model
from arena_ckpt.checkpoint.choose import DEFAULT_ALLOW
from arena_ckpt.common.phases import Phase
from arena_ckpt.common.units import ALIGNMENT_BYTES
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.recompute import (
    Rerun,
    Reruns,
    backward_reads,
    forward_reads,
    saved_tensors,
)
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.planning.tensors import LiveRange, TensorKind

TIME_LIMIT_SECONDS = 30.0

Row = dict[int, float]
"""A linear expression: factors by variable; the constant under -1."""

CONSTANT = -1


@dataclass(frozen=True)
class Solution:
    """What the solver found.

    Attributes
    ----------
    is_optimal : bool
        And not merely the best by the time limit.
    reruns : tuple of Rerun
    overhead : float
        Cost of the reruns as a share of everything else.
    peak_bytes : int
        The most bytes alive at a step, by the program's own count.
    """

    is_optimal: bool
    reruns: Reruns
    overhead: float
    peak_bytes: int


@dataclass
class _Program:
    """Variables between 0 and 1, and rows of constraints."""

    n: int = 0
    whole: list[int] = field(default_factory=list)
    rows: list[tuple[Row, float, float]] = field(default_factory=list)
    cost: dict[int, float] = field(default_factory=dict)

    def variable(self, *, is_whole: bool = True) -> int:
        self.whole.append(int(is_whole))
        self.n += 1
        return self.n - 1

    def require(self, row: Row, low: float, high: float) -> None:
        shift = row.get(CONSTANT, 0.0)
        rest = {place: v for place, v in row.items() if place != CONSTANT}
        self.rows.append((rest, low - shift, high - shift))

    def solve(self, time_limit: float) -> tuple[bool, np.ndarray | None]:
        """Return whether it is solved, and the values, None where none are found."""
        cost = np.zeros(self.n)
        for place, value in self.cost.items():
            cost[place] = value
        lines = [line for line, (row, _, _) in enumerate(self.rows) for _ in row]
        places = [place for row, _, _ in self.rows for place in row]
        values = [value for row, _, _ in self.rows for value in row.values()]
        matrix = csr_array((values, (lines, places)), (len(self.rows), self.n))
        result = milp(
            cost,
            integrality=self.whole,
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(
                matrix,
                [low for _, low, _ in self.rows],
                [high for _, _, high in self.rows],
            ),
            options={"time_limit": time_limit, "mip_rel_gap": 0},
        )
        # 0 is solved, 2 is proved to have no solution, 1 is out of time.
        return result.status in (0, 2), result.x


@dataclass
class _Stage:
    """The backward pass of one layer, and what runs again before it.

    Attributes
    ----------
    node : Node
    steps : list of int
        Of its backward pass, in the plan that keeps all.
    runs, makes, kept : dict
        Variables: of layers by place whether they run again, and of tensors whether
        they are made again, and whether they are there when the stage begins.
    """

    node: Node
    steps: list[int]
    runs: dict[int, int] = field(default_factory=dict)
    makes: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)


class Checkmate:
    """The program of one graph, for any budget.

    Parameters
    ----------
    graph : Graph
    settings : PlanSettings
        Without operation in place.
    """

    def __init__(self, graph: Graph, settings: PlanSettings) -> None:
        assert not settings.shares_in_place, "bytes in place are not counted"
        self.graph, self.settings = graph, settings
        self.plan: MemoryPlan = make_plan(graph, settings, ())
        self._costs = self.plan.counted_costs
        self._other_cost = self.plan.iteration_cost(self._costs)
        self._life = {life.name: life for life in self.plan.tensors}
        self._place = {node.name: place for place, node in enumerate(graph.nodes)}
        self._makes: dict[str, list[str]] = {
            node.name: [
                tensor
                for tensor in (*node.outputs, *saved_tensors(node))
                if tensor in self._life
            ]
            for node in graph.nodes
        }
        self._maker = {
            tensor: place
            for place, made in enumerate(self._makes.values())
            for tensor in made
        }
        self._program = _Program()
        self._memory: list[Row] = []
        self._last_uses: list[tuple[int, list[int]]] = []
        self._stages = self._find_stages()
        self._count_forward()
        for number in range(len(self._stages)):
            self._add_stage(number)

    def solve(
        self, budget_bytes: int, time_limit: float = TIME_LIMIT_SECONDS
    ) -> Solution | None:
        """Return the reruns of least cost within a budget, None where there are none.

        Parameters
        ----------
        budget_bytes : int
            Of the live bytes at every step.
        time_limit : float
            In seconds.
        """
        n_rows = len(self._program.rows)
        for row in self._memory:
            units = {place: value / ALIGNMENT_BYTES for place, value in row.items()}
            self._program.require(units, -np.inf, budget_bytes // ALIGNMENT_BYTES)
        is_solved, values = self._program.solve(time_limit)
        del self._program.rows[n_rows:]
        if values is None:
            return None
        x = self._tightened(np.round(values))
        cost = sum(value * x[place] for place, value in self._program.cost.items())
        peak = max(self._value(row, x) for row in self._memory)
        return Solution(is_solved, self._reruns(x), float(cost), round(peak))

    # -- variables ---------------------------------------------------------------------

    def _find_stages(self) -> list[_Stage]:
        backward: dict[str, list[int]] = defaultdict(list)
        for execution in self.plan.executions:
            if execution.phase is not Phase.FORWARD:
                backward[execution.layer].append(execution.step)
        stages = [
            _Stage(node, sorted(backward[node.name]))
            for node in reversed(self.graph.nodes)
            if node.name in backward
        ]
        for stage in stages:
            last = self._place[stage.node.name]
            for tensor, place in self._maker.items():
                if place <= last:
                    stage.kept[tensor] = self._program.variable()
            for place, node in enumerate(self.graph.nodes[: last + 1]):
                if not self._can_run_again(node):
                    continue
                stage.runs[place] = self._program.variable()
                for tensor in self._makes[node.name]:
                    if self._life[tensor].per_sample:
                        stage.makes[tensor] = self._program.variable()
        return stages

    def _can_run_again(self, node: Node) -> bool:
        return bool(node.inputs and self._makes[node.name] and not node.layer.is_loss)

    # -- constraints -------------------------------------------------------------------

    def _count_forward(self) -> None:
        first = self._stages[0]
        for execution in self.plan.executions:
            if execution.phase is not Phase.FORWARD:
                continue
            row: Row = defaultdict(float, {CONSTANT: self._fixed(execution.step)})
            here = self._place[execution.layer]
            for tensor, maker in self._maker.items():
                size = self._size(tensor)
                if maker > here and self.graph.nodes[maker].inputs:
                    continue
                if maker >= here or self._last_forward_read(tensor) >= here:
                    row[CONSTANT] += size
                else:
                    row[first.kept[tensor]] += size
            self._memory.append(row)

    def _last_forward_read(self, tensor: str) -> int:
        return max(self._readers(tensor), default=-1)

    def _readers(self, tensor: str) -> list[int]:
        """Return the places of the layers whose forward pass reads a tensor."""
        return [
            place
            for place, node in enumerate(self.graph.nodes)
            if not node.layer.is_alias and tensor in forward_reads(node)
        ]

    def _add_stage(self, number: int) -> None:
        stage = self._stages[number]
        program = self._program
        self._add_costs(stage)
        for tensor in stage.makes:
            run = stage.runs[self._maker[tensor]]
            program.require({run: 1, stage.makes[tensor]: -1}, 0, np.inf)
        for place, run in stage.runs.items():
            for tensor in set(forward_reads(self.graph.nodes[place])):
                program.require({**self._there(stage, tensor), run: -1}, 0, np.inf)
        for tensor in stage.kept:
            program.require(self._there(stage, tensor), -np.inf, 1)
            if later := self._kept_after(number, tensor):
                row = {**self._there(stage, tensor), later[0]: -1.0}
                program.require(row, 0, np.inf)
        for tensor in backward_reads(stage.node):
            program.require(self._there(stage, tensor), 1, np.inf)
        self._count_stage(number)

    def _there(self, stage: _Stage, tensor: str) -> Row:
        """Return whether a tensor is kept from before or made again."""
        row: Row = {stage.kept[tensor]: 1.0}
        if tensor in stage.makes:
            row[stage.makes[tensor]] = 1.0
        return row

    def _kept_after(self, number: int, tensor: str) -> list[int]:
        """Return the variable of a tensor that is kept, where that is possible."""
        if number + 1 == len(self._stages):
            return []
        kept = self._stages[number + 1].kept
        return [kept[tensor]] if tensor in kept else []

    def _add_costs(self, stage: _Stage) -> None:
        """Count a layer in full if it makes outputs, else what it takes without."""
        for place, run in stage.runs.items():
            layer = self.graph.nodes[place].name
            whole = self._costs.step(layer, Phase.FORWARD)
            least = self._costs.rerun(layer, ())
            self._program.cost[run] = least / self._other_cost
            if least == whole:
                continue
            full = self._program.variable()
            self._program.cost[full] = (whole - least) / self._other_cost
            for output in self.graph.nodes[place].outputs:
                row: Row = {full: 1, stage.makes[output]: -1}
                self._program.require(row, 0, np.inf)

    # -- bytes -------------------------------------------------------------------------

    def _size(self, tensor: str) -> int:
        return self.plan.taken_bytes(self._life[tensor].size_bytes)

    def _fixed_lives(self) -> Iterable[LiveRange]:
        return (t for t in self.plan.tensors if t.name not in self._maker)

    def _fixed(self, step: int, *, but_from: int | None = None) -> int:
        """Return the bytes at a step of all but the tensors of the forward pass.

        Of those only that are alive before step `but_from`, where that is given.
        """
        return sum(
            self.plan.taken_bytes(life.size_bytes)
            for life in self._fixed_lives()
            if life.start <= step < life.stop
            and (but_from is None or life.start < but_from)
        )

    def _workspace(self, node: Node) -> int:
        """Return the bytes of a layer's forward pass alone."""
        step = self.plan.execution_order[node.name].forward
        return sum(
            self.plan.taken_bytes(life.size_bytes)
            for life in self._fixed_lives()
            if life.kind is TensorKind.WORKSPACE
            and (life.start, life.stop) == (step, step + 1)
        )

    def _count_stage(self, number: int) -> None:
        stage = self._stages[number]
        first = stage.steps[0]
        uses = {tensor: self._uses(number, tensor) for tensor in stage.kept}
        for place, run in stage.runs.items():
            node = self.graph.nodes[place]
            row: Row = defaultdict(float)
            row[CONSTANT] = self._fixed(first, but_from=first)
            row[run] += self._workspace(node)
            for tensor in self._makes[node.name]:
                if tensor in node.outputs and node.spec.forward_skips_unwanted:
                    continue
                row[run] += self._size(tensor)  # made for nothing, unless it is wanted
                if tensor in stage.makes:
                    row[stage.makes[tensor]] -= self._size(tensor)
            for tensor in stage.kept:
                self._add_alive(row, stage, tensor, uses[tensor], place)
            self._memory.append(row)
        for step in stage.steps:
            row = defaultdict(float, {CONSTANT: self._fixed(step)})
            for tensor in stage.kept:
                if self._life[tensor].stop > step and tensor in self._read_from(
                    stage, step
                ):
                    row[CONSTANT] += self._size(tensor)
                else:
                    for later in self._kept_after(number, tensor):
                        row[later] += self._size(tensor)
            self._memory.append(row)

    def _read_from(self, stage: _Stage, step: int) -> set[str]:
        """Return what the layer's backward pass reads at a step or later."""
        return {
            self.plan.tensors[operand.tensor].name
            for execution in self.plan.executions
            if execution.step in stage.steps and execution.step >= step
            for operand in execution.operands
        }

    def _uses(self, number: int, tensor: str) -> list[tuple[int, Row]]:
        """Return from which place on a tensor is there to be read, and the last.

        Each entry holds up to its place: whether somebody there or later reads.
        """
        stage = self._stages[number]
        end = len(self.graph.nodes)
        if tensor in backward_reads(stage.node):
            return [(end, {CONSTANT: 1.0})]
        found = [(end, self._kept_after(number, tensor))]
        found[0:0] = [
            (place, [stage.runs[place]])
            for place in self._readers(tensor)
            if place in stage.runs
        ]
        uses: list[tuple[int, Row]] = []
        later: list[int] = []
        for place, variables in reversed(found):
            later = [*variables, *later]
            if len(later) > 1:
                most = self._program.variable(is_whole=False)
                self._last_uses.append((most, later))
                for one in later:
                    self._program.require({most: 1, one: -1}, 0, np.inf)
                later = [most]
            uses.insert(0, (place, dict.fromkeys(later, 1.0)))
        return uses

    def _add_alive(
        self,
        row: Row,
        stage: _Stage,
        tensor: str,
        uses: list[tuple[int, Row]],
        place: int,
    ) -> None:
        """Add the bytes that a tensor takes while a layer runs again."""
        maker = self._maker[tensor]
        if place < maker:
            alive: Row = {stage.kept[tensor]: 1.0}
        elif place == maker:
            alive = self._there(stage, tensor)
        else:
            alive = next(one for last, one in uses if last >= place)
        for variable, factor in alive.items():
            row[variable] += factor * self._size(tensor)

    # -- solutions ---------------------------------------------------------------------

    def _value(self, row: Mapping[int, float], x: np.ndarray) -> float:
        return sum(
            value * (1.0 if place == CONSTANT else x[place])
            for place, value in row.items()
        )

    def _tightened(self, x: np.ndarray) -> np.ndarray:
        """Return a solution without what is kept for nobody: budgets left room."""
        x = x.copy()
        for number in reversed(range(len(self._stages))):
            stage = self._stages[number]
            for tensor, kept in stage.kept.items():
                made = tensor in stage.makes and x[stage.makes[tensor]]
                readers = (p for p in self._readers(tensor) if p in stage.runs)
                wanted = (
                    tensor in backward_reads(stage.node)
                    or any(x[stage.runs[place]] for place in readers)
                    or any(x[later] for later in self._kept_after(number, tensor))
                )
                x[kept] = wanted and not made
        for most, uses in self._last_uses:
            x[most] = max(x[one] for one in uses)
        return x

    def _reruns(self, x: np.ndarray) -> Reruns:
        return tuple(
            Rerun(
                stage.node.name,
                self.graph.nodes[place].name,
                tuple(
                    sorted(
                        tensor
                        for tensor in self._makes[self.graph.nodes[place].name]
                        if tensor in stage.makes and x[stage.makes[tensor]]
                    )
                ),
            )
            for stage in self._stages
            for place, run in stage.runs.items()
            if x[run]
        )


# -- gaps ------------------------------------------------------------------------------

APART = frozenset(("recompute", "layerwise_update"))
"""What is allowed where no two tensors share bytes."""


@dataclass(frozen=True)
class Gap:
    """A plan that was chosen within a budget, and the best there is.

    Attributes
    ----------
    budget_bytes : int
    chosen, best : float
        Overheads.
    """

    budget_bytes: int
    chosen: float
    best: float

    @property
    def of_iteration(self) -> float:
        """How much longer the whole iteration takes."""
        return (1 + self.chosen) / (1 + self.best) - 1

    @property
    def of_overhead(self) -> float:
        """How much more is recomputed; of what the best plan recomputes."""
        return self.chosen / self.best - 1 if self.best else 0.0


def budgets_of(model: Model, n: int, allow: Collection[str] = APART) -> list[int]:
    """Return budgets from the least that is found up to where all is kept."""
    front = model.pareto(allow=allow)
    least, most = front[0].arena_bytes, front[-1].arena_bytes
    return sorted({least + (most - least) * i // n for i in range(n)} - {most})


def find_gaps(
    model: Model, n_budgets: int, time_limit: float = TIME_LIMIT_SECONDS
) -> tuple[list[Gap], int]:
    """Compare chosen plans with the best, and these with what they say of themselves.

    Returns
    -------
    gaps : list of Gap
    n_unsolved : int
        Budgets at which the time limit came first.
    """
    graph = model.compile()
    settings = replace(ModelPlans(model).settings(), ways=APART - {"recompute"})
    program = Checkmate(graph, settings)
    gaps, n_unsolved = [], 0
    for budget in budgets_of(model, n_budgets):
        best = program.solve(budget, time_limit)
        if best is None or not best.is_optimal:
            n_unsolved += 1
            continue
        plan = make_plan(graph, settings, best.reruns)
        assert plan.live_lower_bound_bytes == best.peak_bytes <= budget
        assert math.isclose(plan.overhead, best.overhead, rel_tol=1e-9, abs_tol=1e-12)
        chosen = model.choose_plan(budget=budget, allow=APART)
        gaps.append(Gap(budget, chosen.overhead, best.overhead))
    return gaps, n_unsolved


def find_least_gap(model: Model, time_limit: float = TIME_LIMIT_SECONDS) -> float:
    """Return by what share the smallest chosen plan is larger than the smallest."""
    graph = model.compile()
    settings = replace(ModelPlans(model).settings(), ways=APART - {"recompute"})
    program = Checkmate(graph, settings)
    chosen = model.pareto(allow=APART)[0].plan.live_lower_bound_bytes
    low, best = 0, chosen  # nothing is as small as the one, something as the other
    while best - low > ALIGNMENT_BYTES:
        middle = (low + best) // 2
        found = program.solve(middle, time_limit)
        if found is None:
            low = middle
        else:
            best = found.peak_bytes
    return chosen / best - 1


def find_gaps_in_place(
    model: Model, n_budgets: int, time_limit: float = TIME_LIMIT_SECONDS
) -> list[Gap]:
    """Compare chosen plans with the program's schedules, both with bytes shared.

    The program knows of no sharing: so these are good schedules, but not the best.
    """
    graph, settings = model.compile(), ModelPlans(model).settings()
    program = Checkmate(graph, replace(settings, ways=APART - {"recompute"}))
    plans = [make_plan(graph, settings, ())]
    for apart in budgets_of(model, 4 * n_budgets):
        found = program.solve(apart, time_limit)
        if found:
            plans.append(make_plan(graph, settings, found.reruns))
    gaps = []
    for budget in budgets_of(model, n_budgets, DEFAULT_ALLOW):
        fitting = [p.overhead for p in plans if p.arena_bytes <= budget]
        if fitting:
            chosen = model.choose_plan(budget=budget).overhead
            gaps.append(Gap(budget, chosen, min(fitting)))
    return gaps
