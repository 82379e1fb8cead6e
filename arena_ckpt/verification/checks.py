"""The checks of `verify`: each returns a sentence on what it proved, or raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.common.memories import CONSTANTS
from arena_ckpt.common.names import tensor_name
from arena_ckpt.common.units import format_bytes
from arena_ckpt.common.wording import listed
from arena_ckpt.definition.model_definition import ModelDefinition
from arena_ckpt.engine.arena import CANARY_BYTES
from arena_ckpt.engine.debug.memory import MemoryGuard
from arena_ckpt.engine.debug.reads import ForeignReads
from arena_ckpt.engine.debug.values import FiniteWatch
from arena_ckpt.engine.program import StepNote
from arena_ckpt.engine.session import Session
from arena_ckpt.errors import (
    ArenaError,
    ArenaTooLargeError,
    CanaryError,
    NonFiniteError,
)
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.planner import make_plan, reruns_of
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.verification.batches import Batch
from arena_ckpt.verification.bits import (
    Array,
    Comparison,
    Record,
    first_difference,
)
from arena_ckpt.verification.dataflow import check_dataflow, memory_sizes
from arena_ckpt.verification.finite_differences import Verdict, measure_slopes
from arena_ckpt.verification.other_process import (
    BITS,
    PLAN,
    FailedThereError,
    NotThereError,
    ask_elsewhere,
    describe_run,
)
from arena_ckpt.verification.stray_writes import StrayWatch
from arena_ckpt.verification.trial import (
    open_session,
    plan_again,
    predictions,
    run_trial,
    unsettle,
)

MOST_SLOPES, FEWEST_SLOPES = 24, 3
"""Maximum and minimum number of weight tensors whose gradients are compared with
slopes."""

MOST_FLAT = 0.6
"""Maximum share of slopes that may be 0: a gradient of 0 everywhere agrees with them
and proves nothing. In the networks of `examples` up to a fifth of the slopes is 0."""
GAP_BYTES = 4096
"""Bytes of the canaries in the second layout in which foreign reads are looked for."""

SLOPE_OPERATIONS = 4e10
"""Maximum of the counted operations of an iteration times the number of weight tensors
that are compared."""


class DefectFound(Exception):
    """Raised by a check that failed; the text says what it found."""


class NothingToCheck(Exception):
    """Raised by a check that does not apply; the text says why."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Results of the run in which nothing is recomputed and no byte is used twice."""

    outcome: dict[str, Array]
    record: Record


class Checks:
    """The checks of one plan of one model.

    Parameters
    ----------
    model : ModelDefinition
        Not initialized.
    plan : MemoryPlan
        The plan to check, without canaries.
    batches : sequence of (x, y)
        To train on.
    replan : callable, optional
        Makes the plan again from scratch.
    command : sequence of str, optional
        See `ask_elsewhere`.

    Attributes
    ----------
    follow : callable or None
        Called with the plan of each session; returns the note for its steps.
    described : dict or None
        Hashes of the run of the plan, which another process compares with its own.
    lost : str or None
        Why there is no reference run, if there is none.
    """

    def __init__(
        self,
        model: ModelDefinition,
        plan: MemoryPlan,
        batches: Sequence[Batch],
        *,
        replan: Callable[[], MemoryPlan] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self.model = model
        self.plan = plan
        self.batches = batches
        self._replan = replan
        self._command = command
        self._debug_run: tuple[Comparison, dict[str, Array]] | None = None
        self.follow: Callable[[MemoryPlan], StepNote | None] | None = None
        self.described: dict[str, str] | None = None
        self.lost: str | None = None
        self._session: Session | None = None

    def all(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield the names and the checks in the order in which they should run."""
        yield "layout", self.layout
        yield "dataflow", self.dataflow
        yield "bounds", self.bounds
        yield "memory", self.memory
        yield "reads", self.reads
        yield "bits of debug mode", self.debug_bits
        yield "bits of the plan", self.planned_bits
        yield "bits without recomputing", self.kept_bits
        yield "bits without reuse", self.unshared_bits
        if self.plan.is_inference:
            yield "bits of training", self.trained_bits
        yield "gradients", self.gradients
        yield "processes", self.processes

    # -- plans -------------------------------------------------------------------------

    @cached_property
    def settings(self) -> PlanSettings:
        """Settings of an iteration that the plan was made for."""
        return ModelPlans(self.model).settings_of(self.plan)

    @cached_property
    def debug_plan(self) -> MemoryPlan:
        """Plan with canaries between the buffers."""
        return self._planned(self.debug_settings)

    @cached_property
    def debug_settings(self) -> PlanSettings:
        """Settings of an iteration in debug mode."""
        return ModelPlans(self.model).settings_of(self.plan, debug=True)

    @cached_property
    def kept_plan(self) -> MemoryPlan:
        """Plan that recomputes nothing."""
        return make_plan(ModelPlans(self.model).graph_of(self.plan), self.settings, ())

    @cached_property
    def unshared_plan(self) -> MemoryPlan:
        """Plan in which every tensor has bytes of its own."""
        return self._planned(replace(self.settings, share_memory=False, rams=()))

    def _planned(self, settings: PlanSettings) -> MemoryPlan:
        return plan_again(self.model, self.plan, settings)

    def layout(self) -> str:
        """Check the offsets with the validator of layouts."""
        for which in ("plan", "debug_plan"):
            plan: MemoryPlan = getattr(self, which)
            for name, size_bytes in memory_sizes(plan).items():
                _check_memory(plan, name, size_bytes)
        return (
            f"no two of {len(self.plan.buffers):,} buffers overlap while both live, "
            f"all begin at multiples of {self.plan.alignment_bytes} and end within "
            f"{_spaces(self.plan)}; with canaries too"
        )

    def bounds(self) -> str:
        """Count the bytes alive at each step, and plan the model again."""
        plan = self.plan
        change = np.zeros(len(plan.steps) + 1, dtype=np.int64)
        buffers = [b for b in plan.buffers if b.memory != CONSTANTS]
        taken = np.array([plan.taken_bytes(b.size_bytes) for b in buffers])
        np.add.at(change, [b.start for b in buffers], taken)
        np.add.at(change, [b.stop for b in buffers], -taken)
        live = int(change.cumsum().max())
        heights = _ram_heights(plan)
        if plan.rams and sum(heights.values()) != plan.arena_bytes:
            raise DefectFound(
                f"the RAMs are {heights} bytes high, and the plan says "
                f"{plan.arena_bytes:,} together"
            )
        if live != plan.live_lower_bound_bytes:
            raise DefectFound(
                f"{live:,} bytes live at once, and the plan says "
                f"{plan.live_lower_bound_bytes:,}"
            )
        naive = sum(
            plan.taken_bytes(plan.tensors[i].size_bytes)
            for b in buffers
            for i in b.tensors
        )
        sizes = {
            "local_lower_bound_bytes": plan.local_lower_bound_bytes,
            "live_lower_bound_bytes": live,
            "arena_bytes": plan.arena_bytes,
            "naive_bytes": naive,
        }
        if list(sizes.values()) != sorted(sizes.values()) or naive != plan.naive_bytes:
            raise DefectFound(
                f"the sizes do not ascend, or are not what the plan says: {sizes}"
            )
        again = self.plan if self._replan is None else self._replan()
        if again != plan:
            difference = _unlike(plan, again)
            raise DefectFound(
                f"planned again, the same model has another plan: {difference}"
            )
        return (
            f"arena {plan.arena_bytes:,} B, at least the {live:,} B that live at one "
            f"step and the {sizes['local_lower_bound_bytes']:,} B that one step "
            f"touches, at most the {naive:,} B of all tensors, as counted anew"
            + ("; planned again it is the same" if self._replan else "")
        )

    def dataflow(self) -> str:
        """Walk the bytes of the plan, and of the plans that it is compared with."""
        graph = ModelPlans(self.model).graph_of(self.plan)
        flow = check_dataflow(self.plan, graph)
        others = (self.debug_plan, self.kept_plan, self.unshared_plan)
        for other in others:  # made from the plan's recomputes, so only now
            check_dataflow(other, graph)
        return (
            f"all {flow.n_reads:,} reads of {flow.n_tensors:,} tensor lives over "
            f"{flow.n_steps} steps find the bytes that were meant, and "
            f"{flow.n_writes:,} writes stay within theirs; so in {len(others)} other "
            "plans of the model"
        )

    # -- runs --------------------------------------------------------------------------

    @cached_property
    def reference(self) -> Reference:
        """Results that all others are compared with."""
        if self.lost:
            raise DefectFound(f"the run to compare with did not end: {self.lost}")
        settings = replace(self.settings, share_memory=False, rams=())
        plan = make_plan(ModelPlans(self.model).graph_of(self.plan), settings, ())
        session = self._open(plan)
        record = Record(session.views)
        return Reference(run_trial(session, self.batches, [record]), record)

    def _open(self, plan: MemoryPlan) -> Session:
        note = self.follow(plan) if self.follow else None
        return open_session(self.model, plan, note)

    def require_reference(self) -> None:
        """Refuse data on which the loss of the model is not finite.

        Raises
        ------
        NonFiniteError
            The loss is not finite, and no kernel wrote outside its results, which could
            be the cause.
        """
        try:
            _ = self.reference
        except NonFiniteError:
            try:
                self.memory()
            except CanaryError:
                return
            except (ArenaError, DefectFound):
                pass
            raise

    def memory(self) -> str:
        """Train in debug mode, and compare the whole arena around each step."""
        session = self._open(self.debug_plan)
        session.watch(MemoryGuard(session.views))
        session.watch(FiniteWatch(session.views))
        strays = StrayWatch(session.views)
        record = None
        with suppress(ArenaError, DefectFound):  # then this run may say why
            record = self.reference.record
        comparison = Comparison(session.views, record)
        try:
            outcome = run_trial(session, self.batches, [comparison, strays])
        except ArenaError as error:
            if comparison.difference is None:
                raise
            # That came first.
            raise DefectFound(f"{comparison.difference}; later {error}") from error
        if record is not None:
            self._debug_run = comparison, outcome
        done = "predictions" if self.plan.is_inference else "iterations"
        return (
            f"{len(self.batches)} {done} in debug mode: canaries intact, no NaN "
            f"although dead bytes are filled with it; in {strays.n_steps} steps no "
            "kernel wrote what it does not declare"
        )

    def reads(self) -> str:
        """Train with each step run on two kinds of foreign bytes, in two layouts.

        A foreign read can find the right value by chance in one layout; and if buffers
        lie close, a read beyond one operand can hit the next one.
        """
        n_steps = n_operands = n_results = 0
        for canary_bytes in (CANARY_BYTES, GAP_BYTES):
            settings = replace(self.debug_settings, canary_bytes=canary_bytes)
            session = self._open(self._planned(settings))
            session.watch(MemoryGuard(session.views))
            try:
                foreign = ForeignReads(session.views)
            except ArenaTooLargeError as error:
                raise NothingToCheck(str(error)) from None
            session.watch(foreign)
            run_trial(session, self.batches)
            n_steps += foreign.n_steps
            n_operands += foreign.n_operands
            n_results += foreign.n_results
        return (
            f"{n_steps:,} steps with {n_operands:,} operands, each run three times, "
            "with all that it does not read (other tensors, gaps, rows behind a "
            "smaller batch, what a result or workspace held before) filled otherwise: "
            f"{n_results:,} results have the same bits"
        )

    def debug_bits(self) -> str:
        """Compare the run in debug mode with the reference."""
        if self._debug_run is None:
            raise NothingToCheck("the debug run did not end")
        return self._compare(*self._debug_run)

    def planned_bits(self) -> str:
        """Compare a run of the plan with the reference."""
        self._session, outcome, sentence = self._compared(self.plan)
        self.described = describe_run(plan_again(self.model, self.plan), outcome)
        return sentence

    def kept_bits(self) -> str:
        """Compare a run that recomputes nothing with the reference."""
        if not reruns_of(self.plan):
            raise NothingToCheck("the plan recomputes nothing")
        return self._compared(self.kept_plan)[2]

    def unshared_bits(self) -> str:
        """Compare a run in which no byte is used twice with the reference."""
        if not reruns_of(self.plan):
            raise NothingToCheck("the plan recomputes nothing: it is the reference")
        return self._compared(self.unshared_plan)[2]

    def _compared(self, plan: MemoryPlan) -> tuple[Session, dict[str, Array], str]:
        session = self._open(plan)
        comparison = Comparison(session.views, self.reference.record)
        try:
            outcome = run_trial(session, self.batches, [comparison])
        except ArenaError as error:  # the reference run raised none
            raise DefectFound(comparison.difference or str(error)) from error
        return session, outcome, self._compare(comparison, outcome)

    def _compare(self, comparison: Comparison, outcome: dict[str, Array]) -> str:
        expected = self.reference.outcome
        difference = comparison.difference or first_difference(outcome, expected)
        if difference:
            raise DefectFound(difference)
        kinds = "losses, gradients, predictions, weights and states"
        if self.plan.is_inference:
            kinds = "predictions and weights"
        return (
            f"{comparison.n_tensors:,} results of steps and {len(expected):,} "
            f"{kinds} are those of a run that "
            f"recomputes and reuses nothing ({format_bytes(comparison.n_bytes)} "
            "compared)"
        )

    def trained_bits(self) -> str:
        """Compare predictions with those of a plan that trains."""
        plans = ModelPlans(self.model)
        graph = plans.graph_of(self.plan)
        if not graph.has_loss:
            raise NothingToCheck("the model has no loss, so there is no plan to train")
        session = self._open(make_plan(graph, plans.settings(), ()))
        unsettle(session)
        expected = predictions(session, self.batches)
        difference = first_difference(self.reference.outcome, expected)
        if difference:
            raise DefectFound(f"{difference} of a plan that trains")
        return f"{len(expected)} predictions are those of a plan that trains"

    def gradients(self) -> str:
        """Compare gradients with slopes of the loss."""
        if self.plan.is_inference:
            raise NothingToCheck("inference has no gradients")
        session = self._session or self._open(self.plan)
        cost = self.plan.iteration_cost(self.plan.counted_costs)
        n_weights = int(np.clip(SLOPE_OPERATIONS / cost, FEWEST_SLOPES, MOST_SLOPES))
        slopes = measure_slopes(session, self.batches[0], n_weights)
        wrong = [s for s in slopes if s.verdict is Verdict.WRONG]
        if wrong:
            raise DefectFound(
                f"{max(wrong, key=lambda s: s.miss)}; {len(wrong)} of {len(slopes)} "
                "slopes differ"
            )
        if not slopes:
            raise NothingToCheck("the model has no weight to train")
        flat = [s for s in slopes if s.verdict is Verdict.FLAT]
        if len(flat) > MOST_FLAT * len(slopes):
            named = list(dict.fromkeys(s.weight for s in flat))
            raise DefectFound(
                f"{len(flat)} of {len(slopes)} slopes of the loss are flat, so little "
                "is proved: the loss does not depend on these weights, or by less than "
                f"float32 can tell ({', '.join(named[:3])}"
                f"{', …' if len(named) > 3 else ''}). Look for a layer that lets no "
                "derivative through: normalization over equal values, dead units, "
                "weights or data of zeros"
            )
        decided = [s for s in slopes if s.verdict is Verdict.RIGHT]
        if not decided:
            raise NothingToCheck("every slope that is not flat is too bent to tell")
        weights = dict.fromkeys(s.weight for s in decided)
        trained = {
            tensor_name(node.weights_of, weight.name)
            for node in ModelPlans(self.model).graph_of(self.plan).nodes
            for weight in (node.spec.trained_weights if node.trains else ())
        }
        worst = max(s.miss for s in decided)
        return (
            f"{len(decided)} slopes of the loss, of {len(weights)} of {len(trained)} "
            f"weight tensors, are what the gradients say, to {worst:.2%} beyond the "
            f"noise; {len(slopes) - len(decided)} are too flat or too bent to tell"
        )

    def processes(self) -> str:
        """Plan and train in another process, and compare the results."""
        here = self.described
        if here is None:
            raise NothingToCheck("the run of the plan did not end")
        try:
            there = ask_elsewhere(self.model, self.plan, self.batches, self._command)
        except NotThereError as error:
            raise NothingToCheck(str(error)) from None
        except FailedThereError as error:
            raise DefectFound(str(error)) from None
        others = [what for what in here if there.get(what) != here[what]]
        if PLAN in others:
            raise DefectFound(
                f"{PLAN} of another process differs: {str(there.get(PLAN))[:19]}…, "
                f"here {here[PLAN][:19]}…"
            )
        if others:
            raise DefectFound(
                f"{BITS} of another process differ, in {len(others) - 1} of "
                f"{len(here) - 2} results: {', '.join(others[1:4])}, …"
            )
        does = "predicts" if self.plan.is_inference else "trains to"
        return (
            f"another process makes the same plan ({here[PLAN][:19]}…) and {does} "
            f"the same bits ({here[BITS][:12]}…)"
        )


def _check_memory(plan: MemoryPlan, name: str, size_bytes: int) -> None:
    """Check the layout of one memory of a plan with the validator of layouts."""
    numbers = [i for i, b in enumerate(plan.buffers) if b.memory == name]
    buffers = [plan.buffers[number] for number in numbers]
    check_layout(
        make_buffers(
            [b.start for b in buffers],
            [b.stop for b in buffers],
            [plan.taken_bytes(b.size_bytes) for b in buffers],
            alignment=plan.alignment_bytes,
        ),
        [b.offset_bytes for b in buffers],
        size_bytes,
        label=lambda index: f"buffer {numbers[index]} ({buffers[index].tensor})",
    )


def _spaces(plan: MemoryPlan) -> str:
    """Name the memories of a plan: ``"the arena of 640 B"``."""
    names = [f"{ram.name} of {ram.size_bytes:,} B" for ram in plan.rams]
    names = names or [f"the arena of {plan.arena_bytes:,} B"]
    if plan.constant_bytes:
        names.append(f"the constants of {plan.constant_bytes:,} B")
    return listed(names)


def _ram_heights(plan: MemoryPlan) -> dict[str, int]:
    """Return the end of the highest buffer of each RAM, counted from the buffers."""
    heights = {ram.name: 0 for ram in plan.rams}
    for buffer in plan.buffers:
        if buffer.memory in heights:
            end = buffer.offset_bytes + plan.taken_bytes(buffer.size_bytes)
            heights[buffer.memory] = max(heights[buffer.memory], end)
    return heights


def _unlike(plan: MemoryPlan, again: MemoryPlan) -> str:
    """Return a text that says where two plans first differ."""
    for one, other in zip(plan.buffers, again.buffers, strict=False):
        if one != other:
            return (
                f"{one.tensor} with {one.size_bytes} bytes at {one.offset_bytes} in "
                f"steps [{one.start}, {one.stop}), and {other.tensor} with "
                f"{other.size_bytes} at {other.offset_bytes} in [{other.start}, "
                f"{other.stop})"
            )
    names = [f.name for f in fields(plan)]
    return next(n for n in names if getattr(plan, n) != getattr(again, n))
