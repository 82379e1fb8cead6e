"""The memory plans of a model: of its blocks, within a budget, or all that are best.

Nothing here needs an arena, but to measure how long steps take.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arena_ckpt.allocation.integers import is_whole
from arena_ckpt.checkpoint.batch_size import (
    MOST_SAMPLES,
    BatchSizeChoice,
    largest_batch,
)
from arena_ckpt.checkpoint.choose import Chooser, Loops
from arena_ckpt.checkpoint.front import FrontPoint, best_points
from arena_ckpt.checkpoint.inference import plan_inference
from arena_ckpt.checkpoint.pareto_front import ParetoFront
from arena_ckpt.checkpoint.request import PlanRequest, parse_request
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.collection import without_collection
from arena_ckpt.common.wording import quote, quoted
from arena_ckpt.definition.model_definition import ModelDefinition
from arena_ckpt.engine.arena import CANARY_BYTES, check_fits
from arena_ckpt.errors import ArenaError, InvalidParameterError, PlanMismatchError
from arena_ckpt.graph.build import Graph, build_graph
from arena_ckpt.layers.base import Layer
from arena_ckpt.lowering.calls import LoweringSettings, lower, mode_of
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.planning.batch_statistics import can_train_on, require_trainable
from arena_ckpt.planning.costs import Costs
from arena_ckpt.planning.kept_states import require_rows
from arena_ckpt.planning.model_facts import training_facts
from arena_ckpt.planning.placing import Placing, parse_placing, within_budget
from arena_ckpt.planning.plan import MemoryPlan, require_plan
from arena_ckpt.planning.planner import (
    make_plan,
    pins_of,
    require_plan_of,
    require_room,
)
from arena_ckpt.planning.settings import (
    DEFAULT_WAYS,
    INFERENCE,
    INFERENCE_WAYS,
    MODES,
    TRAIN,
    PlanSettings,
)
from arena_ckpt.planning.sparse_gradients import require_touched_rows
from arena_ckpt.planning.training_facts import PlanTraining

if TYPE_CHECKING:
    from arena_ckpt.data.samples import Samples
    from arena_ckpt.data.standardization import Standardization
    from arena_ckpt.engine.profile import Profile
    from arena_ckpt.engine.session import Session

MOST_UNROLLED = 128
"""Maximum number of layers of a model whose unrolling is planned for advice."""

PLACING = ("constants", "memories", "pin")
"""The arguments of a plan that say where buffers may lie."""


class ModelPlans:
    """Makes the memory plans of one model, and holds nothing but the definition.

    Parameters
    ----------
    definition : ModelDefinition
        The model as it is defined when a method is called; `arena_ckpt.Model` is one.

    Notes
    -----
    What users ask for is documented at `Model`, which hands it on to here.
    """

    def __init__(self, definition: ModelDefinition) -> None:
        self._definition = definition

    @without_collection
    def make_plan(
        self, *, debug: bool = False, mode: str = TRAIN, **request: Any
    ) -> MemoryPlan:
        """Return the plan of the checkpoint blocks, or the one that is asked for.

        See `Model.make_plan`.
        """
        placing, request = _parted(request)
        request = asked(**request)
        if mode != TRAIN:
            settings = self.settings(debug=debug, mode=mode, **placing)
            plan = self._inference_plan(settings, request)
            require_room(plan, settings)
            return plan
        if request:
            return self.choose_plan(debug=debug, **placing, **request).plan
        settings = self._trainable_settings(debug, placing)
        plan = make_plan(self._definition.compile(), settings)
        require_room(plan, settings)
        return plan

    def _inference_plan(
        self, settings: PlanSettings, request: dict[str, Any]
    ) -> MemoryPlan:
        """Return the plan of inference; it can be held against a budget.

        Raises
        ------
        InvalidParameterError
            A request that is about recomputing.
        BudgetError
        """
        others = tuple(name for name in request if name != "budget")
        if others:
            raise InvalidParameterError(
                f"{quote(others)} cannot go with mode='inference': it says what may be "
                "recomputed, and inference recomputes nothing; leave it out",
                request=others,
            )
        parsed = parse_request(**request)
        if parsed.budget_share is not None:
            raise InvalidParameterError(
                f"budget={quoted(request['budget'])} is a share of the arena that "
                "keeps all for the backward pass, and inference has none; give bytes",
                budget=request["budget"],
            )
        budget_bytes = parsed.budget_bytes
        return plan_inference(self._definition.compile(), settings, budget_bytes)

    @without_collection
    def choose_plan(self, *, debug: bool = False, **request: Any) -> FrontPoint:
        """Return the plan that answers a request best; see `Model.choose_plan`."""
        placing, request = _parted(request)
        parsed = parse_request(**request)
        if not parsed.asks and parsed.patterns:
            raise InvalidParameterError(
                "keep and drop say how to choose, but not what for; give a budget, for "
                "example budget='256KiB' (--budget 256KiB), or budget='100%' of the "
                "arena that keeps all"
            )
        if not parsed.asks:
            raise InvalidParameterError(
                "allow, levels and measure say how to choose, but not what for; give "
                "a budget, for example budget='256KiB' (--budget 256KiB), or a "
                "max_overhead (--max-overhead)"
            )
        return parsed.choose(self._chooser(parsed, debug, placing))

    @without_collection
    def pareto(self, *, debug: bool = False, **request: Any) -> ParetoFront:
        """Return the plans that none other beats in bytes and time.

        See `Model.pareto`.
        """
        return ParetoFront(self.chooser(debug=debug, **request).pareto())

    @without_collection
    def pareto_around(
        self, *, debug: bool = False, **request: Any
    ) -> tuple[ParetoFront, int | None]:
        """Return the front with the plan that `choose_plan` answers a request with.

        Returns
        -------
        front : ParetoFront
            The chosen plan is one of its points, unless another one is as fast and
            smaller.
        budget_bytes : int or None

        Raises
        ------
        BudgetError
            No plan fits.
        """
        placing, request = _parted(request)
        parsed = parse_request(**request)
        chooser = self._chooser(parsed, debug, placing)
        chosen = parsed.choose(chooser)
        points = best_points([*chooser.pareto(), chosen])
        return ParetoFront(points), parsed.in_bytes(chooser).budget_bytes

    def chooser(self, *, debug: bool = False, **request: Any) -> Chooser:
        """Return what answers many questions about budgets of one model.

        Parameters
        ----------
        debug : bool
        **request
            As `Model.pareto` takes it.
        """
        placing, request = _parted(request)
        return self._chooser(parse_request(**request), debug, placing)

    @without_collection
    def choose_batch_size(
        self,
        *,
        budget: str | int | Mapping[str, str | int],
        most: int | None = None,
        debug: bool = False,
        **request: Any,
    ) -> BatchSizeChoice:
        """Return the largest batch size that fits; see `Model.choose_batch_size`."""
        placing, request = _parted({"budget": budget, **request})
        parsed = parse_request(**request)
        if budget is None:
            raise InvalidParameterError(
                "budget=None is not possible; give bytes, for example 262144 or "
                "'256KiB'",
                budget=budget,
            )
        if parsed.budget_bytes is None:
            raise InvalidParameterError(
                f"budget={quoted(budget)} bounds no batch size: what keeps all grows "
                "with the batch, and so does a share of it; give bytes, for example "
                "'256KiB'",
                budget=budget,
            )
        _require_debug(debug)
        places = parse_placing(**placing)
        graph = self.graph_with(False)

        def settings_at(batch_size: int) -> PlanSettings:
            return self._settings_at(batch_size, debug, places, TRAIN)

        def can_train(batch_size: int) -> bool:
            samples = settings_at(batch_size).pass_samples
            return can_train_on(graph, batch_size, samples)

        def chooser_of(batch_size: int) -> Chooser | None:
            if not can_train(batch_size):
                return None
            return self._chooser_with(settings_at(batch_size), parsed)

        micro = self._definition.get_property("micro_batches")
        least = next(filter(can_train, itertools.count(micro)))
        last: int = MOST_SAMPLES if most is None else most
        if not is_whole(last) or last < least:
            raise InvalidParameterError(
                f"most={quoted(most)} is not possible; give the largest batch size to "
                f"try, a whole number of at least {least}",
                most=most,
            )
        return largest_batch(
            chooser_of, parsed.budget_bytes, parsed.max_overhead, least, int(last)
        )

    def step_seconds(self, plan: MemoryPlan) -> list[float]:
        """Return how many seconds each step takes; see `Model.step_seconds`."""
        require_plan(plan)
        self.require_own_plan(plan, debug=plan.canary_bytes > 0)
        check_fits(plan.host_bytes, "measuring")
        from arena_ckpt.engine.measuring import time_steps  # loads Numba

        seconds = [0.0] * len(plan.steps)
        timed = time_steps(
            self.graph_of(plan),
            plan,
            self._definition.optimizer,
            self._definition.get_property("clip_grad_by_norm"),
        )
        for execution, took in zip(plan.executions, timed, strict=True):
            seconds[execution.step] = took
        return seconds

    def profile(
        self,
        plan: MemoryPlan | None,
        *,
        rounds: int | None,
        standardization: Standardization | None,
        samples_of: Callable[[Session], Samples | None],
    ) -> Profile:
        """Return where the time of a step by a plan goes; see `Model.profile`."""
        if rounds is not None and (not is_whole(rounds) or rounds < 1):
            raise InvalidParameterError(
                f"rounds={quoted(rounds)} is not possible; give how often to run the "
                "step, a whole number of at least 1, or leave it out",
                rounds=rounds,
            )
        if plan is None:
            plan = self.make_plan()
        require_plan(plan)
        self.require_own_plan(plan, debug=plan.canary_bytes > 0)
        from arena_ckpt.engine.profiling import profile_plan  # loads Numba

        return profile_plan(
            self.graph_of(plan),
            plan,
            self._definition.optimizer,
            max_norm=self._definition.get_property("clip_grad_by_norm"),
            rounds=rounds,
            standardization=standardization,
            samples_of=samples_of,
        )

    def _chooser(
        self, request: PlanRequest, debug: bool, placing: dict[str, Any]
    ) -> Chooser:
        return self._chooser_with(self._trainable_settings(debug, placing), request)

    def _chooser_with(self, settings: PlanSettings, request: PlanRequest) -> Chooser:
        if not settings.share_memory:
            raise InvalidParameterError(
                "memory_optimization=false gives every tensor bytes of its own, so "
                "there is nothing to choose; leave it out to ask for a budget"
            )
        return Chooser(
            self.graph_with,
            settings,
            allow=request.allow,
            levels=request.levels,
            find_costs=self._measure if request.measure else None,
            patterns=request.patterns,
            loops=self._loops(),
        )

    def _loops(self) -> Loops | None:
        """Return the recurrent layers that are not unrolled; None without any."""
        layers = self._definition.layers
        names = tuple(layer.name for layer in layers if layer.get("unroll") is False)
        if not names:
            return None

        @functools.cache
        def make_graph(tiled_attention: bool) -> Graph | None:
            unrolled = [
                layer.with_values(unroll=True) if layer.name in names else layer
                for layer in layers
            ]
            try:
                graph = self._graph_of_layers(unrolled, tiled_attention)
            except ArenaError:  # too many steps, for example
                return None
            return graph if len(graph.nodes) <= MOST_UNROLLED else None

        return Loops(names, make_graph)

    def _measure(self, graph: Graph, plan: MemoryPlan) -> Costs:
        from arena_ckpt.engine.measuring import measure_costs  # loads Numba

        return measure_costs(
            graph,
            plan,
            self._definition.optimizer,
            max_norm=self._definition.get_property("clip_grad_by_norm"),
        )

    @public_call
    def graph_of(self, plan: MemoryPlan) -> Graph:
        """Return the graph that a plan of this model is for."""
        require_plan(plan)
        return self._graph_of(plan)

    def kernel_calls(self, plan: MemoryPlan) -> tuple[KernelCall, ...]:
        """Return the kernel calls of an iteration; see `Model.kernel_calls`."""
        require_plan(plan)
        self.require_own_plan(plan, debug=plan.canary_bytes > 0)
        settings = LoweringSettings(
            mode_of(plan),
            plan.pass_samples,
            self._definition.seed,
            max_norm=self._definition.get_property("clip_grad_by_norm"),
        )
        return lower(self._graph_of(plan), plan, self._definition.optimizer, settings)

    @public_call
    def graph_with(self, tiled_attention: bool) -> Graph:
        """Return the graph, on demand with attention that keeps no probabilities."""
        if not tiled_attention:
            return self._definition.compile()
        return self._graph_of_layers(self._definition.layers, tiled_attention)

    def _graph_of_layers(self, layers: Sequence[Layer], tiled_attention: bool) -> Graph:
        """Return the graph of other layers than the model has."""
        graph = self._definition.compile()
        if tiled_attention:
            layers = [
                layer.with_values(attention="tiled")
                if layer.get("attention")
                else layer
                for layer in layers
            ]
        return build_graph(
            layers,
            self._definition.blocks,
            needs_loss=graph.has_loss,
            arithmetic=graph.arithmetic,
            threads=graph.threads,
        )

    @public_call
    @without_collection
    def require_own_plan(self, plan: MemoryPlan, *, debug: bool = False) -> None:
        """Refuse a plan that was made for another model.

        Raises
        ------
        PlanMismatchError
        BatchStatisticsError
            A pass of it would leave batch normalization one value a channel.
        """
        require_plan(plan)
        graph, settings = self._graph_of(plan), self._settings_of(plan, debug)
        require_plan_of(graph, settings, plan)
        if not plan.is_inference:
            require_trainable(graph, settings)
            require_rows(graph, settings)
            optimizer = self._definition.optimizer
            require_touched_rows(graph, optimizer, settings.batch_size)

    @staticmethod
    def require_mode_of(plan: MemoryPlan, mode: object) -> None:
        """Refuse a plan that is for another mode than the one asked for.

        Raises
        ------
        InvalidParameterError, PlanMismatchError
        """
        require_mode(mode)
        require_plan(plan)
        if plan.mode != mode:
            raise PlanMismatchError(
                f"the plan is for mode={plan.mode!r}, and mode={mode!r} is asked for; "
                f"initialize(plan=plan, mode={plan.mode!r}), or make one with "
                f"make_plan(mode={mode!r})",
                what="mode",
                expected=mode,
                found=plan.mode,
            )

    def _graph_of(self, plan: MemoryPlan) -> Graph:
        return self.graph_with("tiled_attention" in plan.ways)

    def _settings_of(self, plan: MemoryPlan, debug: bool) -> PlanSettings:
        return replace(
            self.settings(debug=debug),
            micro_batches=plan.micro_batches,
            ways=frozenset(plan.ways),
            constants_apart=plan.constant_bytes > 0,
            rams=plan.rams,
            pins=pins_of(plan),
            mode=INFERENCE if plan.is_inference else TRAIN,
            training=None if plan.is_inference else self._training(),
        )

    def _trainable_settings(self, debug: bool, placing: dict[str, Any]) -> PlanSettings:
        """Return how an iteration is run, if the model can be trained so."""
        settings = self.settings(debug=debug, **placing)
        graph = self._definition.compile()
        graph.require_loss()
        require_trainable(graph, settings)
        require_rows(graph, settings)
        require_touched_rows(graph, self._definition.optimizer, settings.batch_size)
        return settings

    @public_call
    def settings_of(self, plan: MemoryPlan, *, debug: bool = False) -> PlanSettings:
        """Return how an iteration is run by a plan of this model."""
        require_plan(plan)
        return self._settings_of(plan, debug)

    @public_call
    def settings(
        self, *, debug: bool = False, mode: str = TRAIN, **placing: Any
    ) -> PlanSettings:
        """Return how an iteration of this model is run.

        Parameters
        ----------
        debug : bool
        **placing
            As `parse_placing` takes it.

        Raises
        ------
        InvalidParameterError
            More micro-batches than samples, an unknown mode, or memories that cannot
            be.
        """
        require_mode(mode)
        places = parse_placing(**placing)
        _require_debug(debug)
        asked_for = self._definition.get_property
        most, norm = self._definition.optimizer["clip_value"], "clip_grad_by_norm"
        if most is not None and asked_for(norm) is not None:
            raise InvalidParameterError(
                f"the optimizer has clip_value={most!r} and the model "
                f"{norm}={asked_for(norm)!r}: gradients are clipped by value or by "
                "their norm, not by both; leave one out",
                clip_value=most,
                clip_grad_by_norm=asked_for(norm),
            )
        micro, batch = asked_for("micro_batches"), asked_for("batch_size")
        if micro > batch:
            raise InvalidParameterError(
                f"micro_batches={micro} is more than batch_size={batch}: some passes "
                "would have no samples; make it smaller",
                micro_batches=micro,
                batch_size=batch,
            )
        return self._settings_at(batch, debug, places, mode)

    def _settings_at(
        self, batch_size: int, debug: bool, places: Placing, mode: str
    ) -> PlanSettings:
        asked_for = self._definition.get_property
        return PlanSettings(
            batch_size=batch_size,
            micro_batches=asked_for("micro_batches"),
            state_names=self._definition.optimizer.state_names,
            clip=asked_for("clip_grad_by_norm") is not None,
            clip_values=self._definition.optimizer["clip_value"] is not None,
            share_memory=asked_for("memory_optimization"),
            canary_bytes=CANARY_BYTES if debug else 0,
            constants_apart=places.constants_apart,
            rams=places.rams,
            pins=places.pins,
            ways=DEFAULT_WAYS if mode == TRAIN else INFERENCE_WAYS,
            mode=mode,
            training=self._training() if mode == TRAIN else None,
        )

    def _training(self) -> PlanTraining:
        """Return what a plan states of the updates."""
        model = self._definition
        max_norm = model.get_property("clip_grad_by_norm")
        return training_facts(model.optimizer, model.schedule, max_norm)


def require_mode(mode: object) -> None:
    """Refuse a mode that there is not.

    Raises
    ------
    InvalidParameterError
    """
    if not isinstance(mode, str) or mode not in MODES:
        raise InvalidParameterError(
            f"mode={quoted(mode)} is not possible; give 'train', or 'inference' for "
            "forward steps alone, which can only predict",
            mode=mode,
        )


def _parted(request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments that say where buffers may lie, and the others.

    A budget by memory says both: how long RAMs are, and the bytes of all together.
    """
    placing = {name: request[name] for name in PLACING if name in request}
    others = {n: value for n, value in request.items() if n not in PLACING}
    if isinstance(others.get("budget"), Mapping):
        placing, others["budget"] = _by_memory(placing, others["budget"])
    return placing, others


def _by_memory(
    placing: dict[str, Any], budget: Mapping[str, str | int]
) -> tuple[dict[str, Any], int]:
    """Return RAMs that are as small as a budget says, and their bytes together."""
    rams = within_budget(parse_placing(**placing), budget).rams
    together = sum(ram.size_bytes for ram in rams)
    if placing.get("memories") is None:
        return placing, together
    return {**placing, "memories": {r.name: r.size_bytes for r in rams}}, together


def _require_debug(debug: object) -> None:
    if not isinstance(debug, bool):
        raise InvalidParameterError(
            f"debug={quoted(debug)} is not possible; give True or False",
            debug=debug,
        )


def asked(**request: Any) -> dict[str, Any]:
    """Return those arguments of `Model.choose_plan` that ask for something."""
    return {
        name: value
        for name, value in request.items()
        if not (
            value is None
            or (name == "measure" and value is False)
            or (
                name in ("keep", "drop")
                and isinstance(value, list | tuple)
                and not value
            )
        )
    }
