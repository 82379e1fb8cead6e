"""The memory plans of a model: of its blocks, within a budget, or all that are best.

Nothing here needs an arena, but to measure how long steps take.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

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
from arena_ckpt.planning.batch_statistics import require_trainable
from arena_ckpt.planning.costs import Costs
from arena_ckpt.planning.plan import MemoryPlan, require_plan
from arena_ckpt.planning.planner import make_plan, require_plan_of
from arena_ckpt.planning.settings import PlanSettings


class ModelPlans(ModelDefinition):
    """A model that can be planned.

    Parameters
    ----------
    seed : int
        See `ModelDefinition`.
    """

    @public_call
    def make_plan(
        self,
        *,
        debug: bool = False,
        budget: str | int | None = None,
        max_overhead: str | float | None = None,
        allow: str | Iterable[str] | None = None,
        levels: int | None = None,
        measure: bool = False,
    ) -> MemoryPlan:
        """Return the memory plan without allocating anything.

        Parameters
        ----------
        debug : bool
            With room for canaries.
        budget, max_overhead, allow, levels, measure
            See `choose_plan`. Without them the checkpoint blocks of the model say what
            is recomputed.

        Raises
        ------
        GraphError, UnknownLayerError, CheckpointBlockError
            See `compile`.
        InvalidParameterError
            More micro-batches than samples, or a request that makes no sense.
        BatchStatisticsError
            A pass would leave batch normalization one value a channel.
        BudgetError
            No plan within the budget was found.
        """
        request = asked(
            budget=budget,
            max_overhead=max_overhead,
            allow=allow,
            levels=levels,
            measure=measure,
        )
        if request:
            return self.choose_plan(debug=debug, **request).plan
        return make_plan(self.compile(), self._trainable_settings(debug))

    @public_call
    def step_seconds(self, plan: MemoryPlan) -> list[float]:
        """Measure how long each step of a plan of this model takes.

        Parameters
        ----------
        plan : MemoryPlan
            Made by this model. Its steps run in an arena of zeros.

        Returns
        -------
        list of float
            An element for each step; 0 where no kernel runs.

        Raises
        ------
        ArenaTooLargeError
            The arena is larger than the memory that is free.
        PlanMismatchError
            The plan is one of another model.
        """
        require_plan(plan)
        self.require_own_plan(plan, debug=plan.canary_bytes > 0)
        check_fits(plan.arena_bytes, "measuring")
        from arena_ckpt.engine.measuring import time_steps  # loads Numba

        seconds = [0.0] * len(plan.steps)
        timed = time_steps(
            self.graph_of(plan),
            plan,
            self._optimizer,
            self.get_property("threads"),
            self.get_property("clip_grad_by_norm"),
        )
        for execution, took in zip(plan.executions, timed, strict=True):
            seconds[execution.step] = took
        return seconds

    @public_call
    def choose_plan(
        self,
        *,
        budget: str | int | None = None,
        max_overhead: str | float | None = None,
        allow: str | Iterable[str] | None = None,
        levels: int | None = None,
        measure: bool = False,
        debug: bool = False,
    ) -> FrontPoint:
        """Choose what to recompute; allocates nothing.

        The checkpoint blocks of the model are set aside, unless they are the best
        choice.

        Parameters
        ----------
        budget : str or int, optional
            The arena is at most so large, for example ``"256KiB"``; of the plans that
            fit, the fastest is taken.
        max_overhead : str or float, optional
            An iteration takes at most this share longer, for example 0.2 or ``"20%"``.
            Without a budget the plan of the fewest bytes is taken.
        allow : iterable of str, optional
            How bytes may be saved; by default recompute, in_place and layerwise_update,
            which change no bit. tiled_attention, tiled_update and micro_batch can
            round differently.
        levels : {None, 1}
            1 takes what named checkpoint blocks can say.
        measure : bool
            Measure the time of each kernel on this machine, instead of counting
            operations and bytes.
        debug : bool
            With room for canaries.

        Returns
        -------
        FrontPoint

        Raises
        ------
        InvalidParameterError
            Neither budget nor max_overhead, or a value that makes no sense.
        BatchStatisticsError
            A pass would leave batch normalization one value a channel.
        BudgetError
            No plan within the budget was found.
        """
        request = parse_request(
            budget=budget,
            max_overhead=max_overhead,
            allow=allow,
            levels=levels,
            measure=measure,
        )
        if not request.asks:
            raise InvalidParameterError(
                "allow, levels and measure say how to choose, but not what for; give "
                "a budget, for example budget='256KiB', or a max_overhead"
            )
        return request.choose(self._chooser(request, debug))

    @public_call(hint="a budget or an overhead is for choose_plan and make_plan")
    def pareto(
        self,
        *,
        allow: str | Iterable[str] | None = None,
        levels: int | None = None,
        measure: bool = False,
        debug: bool = False,
    ) -> tuple[FrontPoint, ...]:
        """Return all plans that none other beats in bytes and time.

        Parameters
        ----------
        allow, levels, measure, debug
            See `choose_plan`.

        Returns
        -------
        tuple of FrontPoint
            From the fewest bytes to the least time.
        """
        request = parse_request(allow=allow, levels=levels, measure=measure)
        return self._chooser(request, debug).pareto()

    def _chooser(self, request: PlanRequest, debug: bool) -> Chooser:
        settings = self._trainable_settings(debug)
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
        )

    def _measure(self, graph: Graph, plan: MemoryPlan) -> Costs:
        from arena_ckpt.engine.measuring import measure_costs  # loads Numba

        return measure_costs(
            graph,
            plan,
            self._optimizer,
            threads=self.get_property("threads"),
            max_norm=self.get_property("clip_grad_by_norm"),
        )

    @public_call
    def graph_of(self, plan: MemoryPlan) -> Graph:
        """Return the graph that a plan of this model is for."""
        require_plan(plan)
        return self.graph_with("tiled_attention" in plan.ways)

    @public_call
    def kernel_calls(self, plan: MemoryPlan) -> tuple[KernelCall, ...]:
        """Return what an engine runs in a training iteration by a plan of this model.

        Nothing is allocated or compiled. With micro-batches these are the calls of the
        first, and of the updates after the last; the others add their gradients.

        Raises
        ------
        PlanMismatchError
            The plan is one of another model.
        """
        self.require_own_plan(plan, debug=plan.canary_bytes > 0)
        settings = LoweringSettings(
            Mode.TRAIN,
            plan.pass_samples,
            self._seed,
            max_norm=self.get_property("clip_grad_by_norm"),
        )
        return lower(self.graph_of(plan), plan, self._optimizer, settings)

    @public_call
    def graph_with(self, tiled_attention: bool) -> Graph:
        """Return the graph, on demand with attention that keeps no probabilities."""
        graph = self.compile()
        if not tiled_attention:
            return graph
        layers = [
            layer.with_values(attention="tiled") if layer.get("attention") else layer
            for layer in self.layers
        ]
        return build_graph(layers, self._blocks)

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
        graph, settings = self.graph_of(plan), self.settings_of(plan, debug=debug)
        require_plan_of(graph, settings, plan)
        require_trainable(graph, settings)

    def _trainable_settings(self, debug: bool) -> PlanSettings:
        """Return how an iteration is run, if the model can be trained so."""
        settings = self.plan_settings(debug=debug)
        require_trainable(self.compile(), settings)
        return settings

    @public_call
    def settings_of(self, plan: MemoryPlan, *, debug: bool = False) -> PlanSettings:
        """Return how an iteration is run by a plan of this model."""
        require_plan(plan)
        return replace(
            self.plan_settings(debug=debug),
            micro_batches=plan.micro_batches,
            ways=frozenset(plan.ways),
        )

    @public_call
    def plan_settings(self, *, debug: bool = False) -> PlanSettings:
        """Return how an iteration of this model is run.

        Raises
        ------
        InvalidParameterError
            More micro-batches than samples.
        """
        if not isinstance(debug, bool):
            raise InvalidParameterError(
                f"debug={quoted(debug)} is not possible; give True or False",
                debug=debug,
            )
        micro, batch = (
            self.get_property("micro_batches"),
            self.get_property("batch_size"),
        )
        if micro > batch:
            raise InvalidParameterError(
                f"micro_batches={micro} is more than batch_size={batch}: some passes "
                "would have no samples; make it smaller",
                micro_batches=micro,
                batch_size=batch,
            )
        return PlanSettings(
            batch_size=batch,
            micro_batches=micro,
            state_names=self._optimizer.state_names,
            clip=self.get_property("clip_grad_by_norm") is not None,
            share_memory=self.get_property("memory_optimization"),
            canary_bytes=CANARY_BYTES if debug else 0,
        )


def asked(**request: Any) -> dict[str, Any]:
    """Return those arguments of `ModelPlans.choose_plan` that ask for something."""
    return {
        name: value
        for name, value in request.items()
        if not (value is None or (name == "measure" and value is False))
    }
