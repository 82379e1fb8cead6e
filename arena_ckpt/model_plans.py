"""The memory plans of a model: of its blocks, within a budget, or all that are best.

Nothing here needs an arena, but to measure how long steps take.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from arena_ckpt.allocation.integers import is_whole
from arena_ckpt.checkpoint.batch_size import (
    MOST_SAMPLES,
    BatchSizeChoice,
    largest_batch,
)
from arena_ckpt.checkpoint.choose import Chooser
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.request import PlanRequest, parse_request
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.wording import quoted
from arena_ckpt.definition.model_definition import ModelDefinition
from arena_ckpt.engine.arena import CANARY_BYTES, check_fits
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.graph.build import Graph, build_graph
from arena_ckpt.lowering.calls import LoweringSettings, lower
from arena_ckpt.lowering.kernel_call import KernelCall, Mode
from arena_ckpt.planning.batch_statistics import can_train_on, require_trainable
from arena_ckpt.planning.costs import Costs
from arena_ckpt.planning.plan import MemoryPlan, require_plan
from arena_ckpt.planning.planner import make_plan, require_plan_of
from arena_ckpt.planning.settings import PlanSettings


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

    def make_plan(self, *, debug: bool = False, **request: Any) -> MemoryPlan:
        """Return the plan of the checkpoint blocks, or the one that is asked for.

        See `Model.make_plan`.
        """
        request = asked(**request)
        if request:
            return self.choose_plan(debug=debug, **request).plan
        return make_plan(self._definition.compile(), self._trainable_settings(debug))

    def choose_plan(self, *, debug: bool = False, **request: Any) -> FrontPoint:
        """Return the plan that answers a request best; see `Model.choose_plan`."""
        parsed = parse_request(**request)
        if not parsed.asks and parsed.patterns:
            raise InvalidParameterError(
                "keep and drop say how to choose, but not what for; give a budget, for "
                "example budget='256KiB', or budget='100%' of the arena that keeps all"
            )
        if not parsed.asks:
            raise InvalidParameterError(
                "allow, levels and measure say how to choose, but not what for; give "
                "a budget, for example budget='256KiB', or a max_overhead"
            )
        return parsed.choose(self._chooser(parsed, debug))

    def pareto(self, *, debug: bool = False, **request: Any) -> tuple[FrontPoint, ...]:
        """Return the plans that none other beats in bytes and time.

        See `Model.pareto`.
        """
        return self._chooser(parse_request(**request), debug).pareto()

    def choose_batch_size(
        self,
        *,
        budget: str | int,
        most: int | None = None,
        debug: bool = False,
        **request: Any,
    ) -> BatchSizeChoice:
        """Return the largest batch size that fits; see `Model.choose_batch_size`."""
        parsed = parse_request(budget=budget, **request)
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
        graph = self.graph_with(False)

        def can_train(batch_size: int) -> bool:
            samples = self._settings_at(batch_size, debug).pass_samples
            return can_train_on(graph, batch_size, samples)

        def chooser_of(batch_size: int) -> Chooser | None:
            if not can_train(batch_size):
                return None
            return self._chooser_with(self._settings_at(batch_size, debug), parsed)

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
        check_fits(plan.arena_bytes, "measuring")
        from arena_ckpt.engine.measuring import time_steps  # loads Numba

        seconds = [0.0] * len(plan.steps)
        timed = time_steps(
            self.graph_of(plan),
            plan,
            self._definition.optimizer,
            self._definition.get_property("threads"),
            self._definition.get_property("clip_grad_by_norm"),
        )
        for execution, took in zip(plan.executions, timed, strict=True):
            seconds[execution.step] = took
        return seconds

    def _chooser(self, request: PlanRequest, debug: bool) -> Chooser:
        return self._chooser_with(self._trainable_settings(debug), request)

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
        )

    def _measure(self, graph: Graph, plan: MemoryPlan) -> Costs:
        from arena_ckpt.engine.measuring import measure_costs  # loads Numba

        return measure_costs(
            graph,
            plan,
            self._definition.optimizer,
            threads=self._definition.get_property("threads"),
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
            Mode.TRAIN,
            plan.pass_samples,
            self._definition.seed,
            max_norm=self._definition.get_property("clip_grad_by_norm"),
        )
        return lower(self._graph_of(plan), plan, self._definition.optimizer, settings)

    @public_call
    def graph_with(self, tiled_attention: bool) -> Graph:
        """Return the graph, on demand with attention that keeps no probabilities."""
        graph = self._definition.compile()
        if not tiled_attention:
            return graph
        layers = [
            layer.with_values(attention="tiled") if layer.get("attention") else layer
            for layer in self._definition.layers
        ]
        return build_graph(layers, self._definition.blocks)

    @public_call
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
        require_trainable(graph, settings)

    def _graph_of(self, plan: MemoryPlan) -> Graph:
        return self.graph_with("tiled_attention" in plan.ways)

    def _settings_of(self, plan: MemoryPlan, debug: bool) -> PlanSettings:
        return replace(
            self.settings(debug=debug),
            micro_batches=plan.micro_batches,
            ways=frozenset(plan.ways),
        )

    def _trainable_settings(self, debug: bool) -> PlanSettings:
        """Return how an iteration is run, if the model can be trained so."""
        settings = self.settings(debug=debug)
        require_trainable(self._definition.compile(), settings)
        return settings

    @public_call
    def settings_of(self, plan: MemoryPlan, *, debug: bool = False) -> PlanSettings:
        """Return how an iteration is run by a plan of this model."""
        require_plan(plan)
        return self._settings_of(plan, debug)

    @public_call
    def settings(self, *, debug: bool = False) -> PlanSettings:
        """Return how an iteration of this model is run.

        Raises
        ------
        InvalidParameterError
            More micro-batches than samples.
        """
        _require_debug(debug)
        asked_for = self._definition.get_property
        micro, batch = asked_for("micro_batches"), asked_for("batch_size")
        if micro > batch:
            raise InvalidParameterError(
                f"micro_batches={micro} is more than batch_size={batch}: some passes "
                "would have no samples; make it smaller",
                micro_batches=micro,
                batch_size=batch,
            )
        return self._settings_at(batch, debug)

    def _settings_at(self, batch_size: int, debug: bool) -> PlanSettings:
        asked_for = self._definition.get_property
        return PlanSettings(
            batch_size=batch_size,
            micro_batches=asked_for("micro_batches"),
            state_names=self._definition.optimizer.state_names,
            clip=asked_for("clip_grad_by_norm") is not None,
            share_memory=asked_for("memory_optimization"),
            canary_bytes=CANARY_BYTES if debug else 0,
        )


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
