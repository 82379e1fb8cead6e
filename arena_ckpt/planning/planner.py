"""Makes the memory plan of a graph: timeline, live ranges, layout and lower bounds.

The other modules of this folder are the stages. Nothing is allocated.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from arena_ckpt.common.memories import CONSTANTS
from arena_ckpt.common.names import input_role
from arena_ckpt.common.phases import Phase
from arena_ckpt.common.units import ALIGNMENT_BYTES, align_up, format_bytes
from arena_ckpt.errors import (
    ArenaTooLargeError,
    BudgetError,
    LayoutError,
    PlanMismatchError,
)
from arena_ckpt.graph.blocks import CheckpointBlock
from arena_ckpt.graph.build import Graph
from arena_ckpt.planning.live_ranges import Liveness, analyze
from arena_ckpt.planning.memory_use import constant_tensors
from arena_ckpt.planning.model_facts import layer_properties
from arena_ckpt.planning.placement import place
from arena_ckpt.planning.placing import Pin, describe_rams
from arena_ckpt.planning.plan import Buffer, MemoryPlan, PlanLayer, check_plan
from arena_ckpt.planning.recompute import Rerun, Reruns, block_reruns, possible_reruns
from arena_ckpt.planning.same_model import require_same_facts, stated_as_in
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.planning.tensors import Access, TensorKind
from arena_ckpt.planning.timeline import Timeline, build_timeline
from arena_ckpt.planning.touches import Touches

LARGEST_PLAN_BYTES = 2**60
"""Maximum number of bytes of all tensors together."""

LAYOUT_NODES = 50_000
"""Maximum number of nodes of the search for a layout.

It is no time, so that a model has the same plan on every machine.
"""

_ALWAYS_LIVE = (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE, TensorKind.WORKSPACE)
"""Kinds of tensors that can be alive during all steps."""

_DECIDED_BY_MODEL = (
    "mode",
    "batch_size",
    "micro_batches",
    "layers",
    "steps",
    "n_forward",
    "n_pass",
    "execution_order",
    "alignment_bytes",
    "naive_bytes",
    "constant_bytes",
    "local_lower_bound_bytes",
    "tensors",
    "executions",
)
"""Fields that are equal in all plans of a model with the same recomputes."""


def make_plan(
    graph: Graph,
    settings: PlanSettings,
    reruns: Reruns | None = None,
    layout_nodes: int = LAYOUT_NODES,
) -> MemoryPlan:
    """Return the memory plan of one training iteration, or of inference.

    Parameters
    ----------
    graph : Graph
    settings : PlanSettings
    reruns : tuple of Rerun, optional
        Recomputes of the plan; by default those of the checkpoint blocks of the graph.
        Inference has none.
    layout_nodes : int
        Maximum number of nodes of the search for a layout.

    Returns
    -------
    MemoryPlan

    Raises
    ------
    ArenaTooLargeError
        Sizes that no machine has; nothing is allocated here in any case.
    LossError
        A graph without a loss, to be trained.
    """
    planner = Planner(graph, settings)
    if reruns is None:
        return planner.plan_blocks(graph.blocks, layout_nodes)
    return planner.plan(reruns, layout_nodes)


class Planner:
    """Makes the memory plans of a graph that differ in what is recomputed.

    Parameters
    ----------
    graph : Graph
    settings : PlanSettings

    Attributes
    ----------
    touches : Touches
        What the steps touch, whatever is recomputed.

    Raises
    ------
    LossError
        A graph without a loss, to be trained.
    """

    def __init__(self, graph: Graph, settings: PlanSettings) -> None:
        if not settings.is_inference:
            graph.require_loss()
        self._graph = graph
        self._settings = settings
        self.touches = Touches(graph, settings)
        self._layers = _plan_layers(graph)

    def plan_blocks(
        self,
        blocks: tuple[CheckpointBlock, ...],
        layout_nodes: int = LAYOUT_NODES,
    ) -> MemoryPlan:
        """Return the plan that recomputes what checkpoint blocks say.

        Raises
        ------
        ArenaTooLargeError
        """
        return self._plan(block_reruns(self._graph, blocks), blocks, layout_nodes)

    def plan(self, reruns: Reruns, layout_nodes: int = LAYOUT_NODES) -> MemoryPlan:
        """Return the plan of some recomputes; see `make_plan`.

        Raises
        ------
        ArenaTooLargeError
        """
        return self._plan(reruns, (), layout_nodes)

    def _plan(
        self, reruns: Reruns, blocks: tuple[CheckpointBlock, ...], layout_nodes: int
    ) -> MemoryPlan:
        graph, settings = self._graph, self._settings
        if settings.is_inference:
            reruns = blocks = ()
        assert possible_reruns(graph, reruns) == reruns, reruns
        timeline = build_timeline(graph, reruns, settings)
        liveness = analyze(self.touches, timeline)
        constants = settings.constants_of(liveness.tensors, liveness.executions)
        taken = _taken_in_ram(liveness, settings, constants)
        placement = place(liveness, timeline, settings, constants, layout_nodes)
        bound = _local_lower_bound(graph, liveness, timeline, taken)
        return MemoryPlan(
            arena_bytes=placement.arena_bytes,
            live_lower_bound_bytes=placement.lower_bound_bytes,
            local_lower_bound_bytes=bound,
            naive_bytes=sum(taken),
            execution_order=timeline.execution_order,
            buffers=placement.buffers,
            tensors=liveness.tensors,
            executions=liveness.executions,
            layers=self._layers,
            blocks=blocks,
            steps=timeline.steps,
            n_forward=timeline.n_forward,
            n_pass=timeline.n_pass,
            batch_size=settings.batch_size,
            micro_batches=settings.micro_batches,
            ways=tuple(sorted(settings.ways)),
            alignment_bytes=ALIGNMENT_BYTES,
            canary_bytes=settings.canary_bytes,
            allocator=placement.allocator,
            constant_bytes=placement.constant_bytes,
            rams=placement.rams,
            mode=settings.mode,
            arithmetic=graph.arithmetic,
            training=settings.training,
        )


def _taken_in_ram(
    liveness: Liveness, settings: PlanSettings, constants: frozenset[int]
) -> list[int]:
    """Return the bytes of RAM of each tensor in a buffer of its own.

    Those of constants are 0.

    Raises
    ------
    ArenaTooLargeError
        The constants count as well.
    """
    taken = [
        align_up(tensor.size_bytes + settings.canary_bytes, ALIGNMENT_BYTES)
        for tensor in liveness.tensors
    ]
    together = sum(taken)
    if together > LARGEST_PLAN_BYTES:
        largest = max(liveness.tensors, key=lambda tensor: tensor.size_bytes)
        raise ArenaTooLargeError(
            f"the tensors of this model take {format_bytes(together)} together, "
            f"{largest.name} alone {format_bytes(largest.size_bytes)}; make batch_size "
            "or that layer smaller",
            arena_bytes=together,
            tensor=largest.name,
        )
    for index in constants:
        taken[index] = 0
    return taken


def reruns_of(plan: MemoryPlan) -> Reruns:
    """Return the recomputes of a plan, so that `make_plan` can plan the same."""
    makes = {
        execution.step: tuple(
            sorted(
                tensor.name
                for operand in execution.operands
                if operand.access is Access.WRITE
                and (tensor := plan.tensors[operand.tensor]).kind
                is TensorKind.RECOMPUTED
            )
        )
        for execution in plan.executions
        if execution.phase is Phase.RECOMPUTE
    }
    reruns: list[Rerun] = []
    waiting: list[tuple[str, tuple[str, ...]]] = []
    for index, step in enumerate(plan.steps):
        if step is None:
            continue
        if step.phase is Phase.RECOMPUTE:
            waiting.append((step.layer, makes.get(index, ())))
        else:
            reruns += [Rerun(step.layer, *one) for one in waiting]
            waiting.clear()
    return tuple(reruns)


def pins_of(plan: MemoryPlan) -> tuple[Pin, ...]:
    """Return the pins of constants that a plan keeps in RAM beside others in flash."""
    if not plan.constant_bytes:
        return ()
    unwritten = constant_tensors(plan.tensors, plan.executions)
    return tuple(
        Pin(glob.escape(buffer.tensor), buffer.memory)
        for buffer in plan.ram_buffers
        if unwritten.issuperset(buffer.tensors)
    )


def require_room(plan: MemoryPlan, settings: PlanSettings) -> None:
    """Refuse a plan whose last RAM would have to be longer than it is.

    Raises
    ------
    BudgetError
    """
    if has_room(plan, settings):
        return
    most, found = settings.rams[-1], plan.rams[-1]
    together = sum(ram.size_bytes for ram in settings.rams)
    least = plan.local_lower_bound_bytes
    advice = (
        f"A single step needs {format_bytes(least)}, so no recomputing helps: make the "
        "model or its batch smaller"
        if least > together
        else f"Choose what to recompute, for example budget={together}, or make "
        "batch_size smaller"
    )
    raise BudgetError(
        f"no placement was found in {describe_rams(settings.rams)}: {found.name} would "
        f"have to have {format_bytes(found.size_bytes)}, and "
        f"{format_bytes(plan.live_lower_bound_bytes)} live at one step "
        f"({plan.describe_step(plan.peak_step)}). {advice}",
        budget_bytes=together,
        least_bytes=plan.arena_bytes,
        lower_bound_bytes=least,
        step=plan.peak_step,
        memory=most.name,
        plan=plan,
    )


def has_room(plan: MemoryPlan, settings: PlanSettings) -> bool:
    """Tell whether every RAM holds what a plan puts there, canaries aside."""
    return bool(plan.canary_bytes) or plan.rams == settings.rams


def require_plan_of(graph: Graph, settings: PlanSettings, plan: MemoryPlan) -> None:
    """Refuse a plan that was made for another model.

    Parameters
    ----------
    graph : Graph
    settings : PlanSettings
        Settings with which the model is run.
    plan : MemoryPlan

    Raises
    ------
    PlanMismatchError
        The steps, tensors, live ranges or properties of layers of the plan are not
        those of this model with the same recomputes, its optimizer or arithmetic is
        another one, or the plan contradicts itself: buffers overlap, or totals are
        wrong.
    """
    if not 1 <= plan.micro_batches <= settings.batch_size:
        raise PlanMismatchError(
            f"the plan is not one of this model: it splits {settings.batch_size} "
            f"samples into {plan.micro_batches} micro-batches. Make a plan of this "
            "model with make_plan() or pareto()",
            what="micro_batches",
        )
    if plan.canary_bytes != settings.canary_bytes:
        raise _wrong_canaries(plan, settings)
    reruns = reruns_of(plan)
    _require_equal("recomputes", possible_reruns(graph, reruns), reruns)
    # Offsets are checked, not compared, so that no layout has to be searched for.
    own = make_plan(graph, replace(settings, rams=()), reruns, layout_nodes=0)
    own = stated_as_in(plan, own)
    require_same_facts(plan, own)
    for what in _DECIDED_BY_MODEL:
        _require_equal(what, getattr(own, what), getattr(plan, what))
    groups, own_groups = (
        sorted(
            (b.tensors, b.start, b.stop, b.size_bytes, b.tensor, b.kind, *_apart(b))
            for b in p.buffers
        )
        for p in (plan, own)
    )
    _require_equal("buffers", own_groups, groups)
    try:
        check_plan(plan)
    except (ValueError, LayoutError) as error:
        raise PlanMismatchError(
            f"the plan contradicts itself: {error}. Make it again with make_plan() or "
            "pareto()",
            what="layout",
        ) from None


def _apart(buffer: Buffer) -> tuple[str, ...]:
    """Return where a buffer of constants lies; RAMs can be chosen at will."""
    return (CONSTANTS, str(buffer.offset_bytes)) if buffer.is_constant else ()


def _wrong_canaries(plan: MemoryPlan, settings: PlanSettings) -> PlanMismatchError:
    found, expected = plan.canary_bytes, settings.canary_bytes
    if found and expected:
        problem = f"{found} bytes of canary behind each buffer; expected {expected}"
        advice = "make it again"
    elif expected:
        problem = (
            f"no canaries, and debug=True needs {expected} bytes behind each buffer"
        )
        advice = (
            "make it with make_plan(debug=True, …), or look for NaN alone, which takes "
            "any plan: initialize(plan=plan, check='all')"
        )
    else:
        problem = f"{found} bytes of canary behind each buffer: it is for debug=True"
        advice = "initialize(plan=plan, debug=True), or make it without debug"
    return PlanMismatchError(
        f"the plan has {problem}; {advice}",
        what="canary_bytes",
        expected=expected,
        found=found,
    )


def _require_equal(what: str, own: object, given: object) -> None:
    if own == given:
        return
    if isinstance(own, Sequence) and isinstance(given, Sequence):
        pairs = zip(own, given, strict=False)
        n_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        own, given = (
            f"{len(many)} of them, number {n_same} "
            + (f"being {many[n_same]}" if n_same < len(many) else "missing")
            for many in (own, given)
        )
    raise PlanMismatchError(
        f"the plan is not one of this model, which differs in {what}: in the plan "
        f"{given}, in the model {own}. Make a plan of this model with make_plan() or "
        "pareto()",
        what=what,
    )


def _local_lower_bound(
    graph: Graph, liveness: Liveness, timeline: Timeline, taken: list[int]
) -> int:
    """Return the RAM of weights and states plus that of the largest step.

    Every result is taken to overwrite an operand wherever its layer offers that, live
    or not, so that neither blocks nor other sharing can get below.

    Parameters
    ----------
    graph : Graph
    liveness : Liveness
    timeline : Timeline
    taken : list of int
        Bytes of RAM of each tensor.
    """
    n_steps = len(timeline.steps)
    always = {
        index
        for index, tensor in enumerate(liveness.tensors)
        if tensor.kind in _ALWAYS_LIVE and (tensor.start, tensor.stop) == (0, n_steps)
    }
    beside = [0 if index in always else size for index, size in enumerate(taken)]
    same_bytes = list(range(len(taken)))  # a view stands for the tensor it shows
    largest = 0
    for execution in liveness.executions:
        phase = execution.phase
        offered = Phase.FORWARD if phase is Phase.RECOMPUTE else phase
        touched = {same_bytes[operand.tensor] for operand in execution.operands}
        offers = (
            ()
            if phase is Phase.CLIP_GRADIENTS
            else graph.node(execution.layer).spec.in_place
        )
        for offer in offers:
            if offer.phase is not offered:
                continue
            result = execution.operand(offer.result)
            operand = next(filter(None, map(execution.operand, offer.operands)), None)
            if result and operand:
                touched.discard(result.tensor)
                touched.add(same_bytes[operand.tensor])
                if offer.is_view:
                    same_bytes[result.tensor] = same_bytes[operand.tensor]
        largest = max(largest, sum([beside[index] for index in touched]))
    return sum(taken[index] for index in always) + largest


def _plan_layers(graph: Graph) -> tuple[PlanLayer, ...]:
    """Return the layers as reports and exporters need them."""
    return tuple(
        PlanLayer(
            name=node.name,
            type_name=node.layer.type_name,
            inputs=tuple(source.layer for source in node.inputs),
            weights=tuple(weight.name for weight in node.spec.weights),
            is_trainable=node.layer.is_trainable,
            is_loss=node.layer.is_loss,
            output_shapes=node.spec.output_shapes,
            in_place=any(
                offer.phase is Phase.FORWARD and input_role(0) in offer.operands
                for offer in node.spec.in_place
            ),
            flops=node.spec.flops,
            properties=layer_properties(node.layer),
        )
        for node in graph.nodes
    )
