"""The kernel calls of a whole iteration, one execution after another.

Where an activation overwrites the output of a fully connected layer, the pass that adds
the bias applies the function as well; the bits are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from arena_ckpt.common.arithmetics import PORTABLE
from arena_ckpt.common.dtypes import FLOAT32
from arena_ckpt.common.names import gradient_of, share_of, tensor_name
from arena_ckpt.common.phases import Phase
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.base import Call
from arena_ckpt.layers.hooks import hook_calls
from arena_ckpt.layers.loss import Loss
from arena_ckpt.lowering.binding import RoleRegions, random_key
from arena_ckpt.lowering.kept_results import NOTHING_KEPT, kept_results
from arena_ckpt.lowering.kernel_call import KernelCall, Mode
from arena_ckpt.lowering.split_calls import split_calls
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.lowering.updates import UpdateCalls
from arena_ckpt.lowering.weighted_losses import has_sample_weights, weighted_calls
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.families import (
    elementwise,
    reductions,
    touched_rows,
    update_terms,
)
from arena_ckpt.operations.portable import portable
from arena_ckpt.operations.regions import Region
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.loss_places import SHARED, control_length, loss_places
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Control, Execution, TensorKind

BESIDE = "beside"
"""The name of a memory for gradients that an update makes in tiles."""


@dataclass(frozen=True, slots=True)
class LoweringSettings:
    """What decides the kernel calls beside graph, plan and optimizer.

    Attributes
    ----------
    mode : Mode
    n_samples : int
        Samples of the pass, at most those of the plan.
    seed : int
        With the name of a layer and the iteration it decides what is random.
    add_gradients : bool
        Weight gradients are added to those of earlier micro-batches.
    max_norm : float or None
        Where to clip the global norm of the gradients.
    keeps_outputs : bool
        Every output is there when its step has run: no pass adds a bias and goes on to
        the next layer.
    """

    mode: Mode
    n_samples: int
    seed: int
    add_gradients: bool = False
    max_norm: float | None = None
    keeps_outputs: bool = False


def mode_of(plan: MemoryPlan) -> Mode:
    """Return what the passes of a plan are run for, if nothing else is asked."""
    return Mode.PREDICT if plan.is_inference else Mode.TRAIN


def lower(
    graph: Graph, plan: MemoryPlan, optimizer: Optimizer, settings: LoweringSettings
) -> tuple[KernelCall, ...]:
    """Return the kernel calls of one pass, and of the update after it, in order.

    Parameters
    ----------
    graph : Graph
    plan : MemoryPlan
        Of this graph.
    optimizer : Optimizer
    settings : LoweringSettings

    Returns
    -------
    tuple of KernelCall
        By ascending step; steps with nothing to do have none.

    Raises
    ------
    OwnLayerError
        The code of an own layer names calls that cannot be.
    """
    lowering = Lowering(graph, plan, optimizer, settings)
    executions: Iterable[Execution] = plan.executions
    if settings.mode is Mode.PREDICT:
        executions = [e for e in executions if e.phase is Phase.FORWARD]
    calls = [
        KernelCall(execution.step, *call)
        for execution in executions
        for call in lowering.calls(execution)
    ]
    fused = calls if settings.keeps_outputs else _fuse_bias(calls)
    counted = lowering.with_count(fused)
    return tuple(split_calls(counted, graph.threads))


@dataclass(frozen=True, slots=True)
class TiledGradient:
    """A gradient that an update makes in tiles, made whole.

    Attributes
    ----------
    name : str
        The weight: ``"fc1:weight"``.
    shape : tuple of int
        Of the weight.
    gradient : Region
        Where the calls put it, in the memory `BESIDE`.
    calls : tuple of KernelCall
    """

    name: str
    shape: tuple[int, ...]
    gradient: Region
    calls: tuple[KernelCall, ...]


def lower_tiled_gradients(
    graph: Graph,
    plan: MemoryPlan,
    optimizer: Optimizer,
    settings: LoweringSettings,
    execution: Execution,
) -> Iterator[TiledGradient]:
    """Yield the calls that make the gradients of an update whole, beside the arena.

    Parameters
    ----------
    graph, plan, optimizer, settings
        As `lower` takes them.
    execution : Execution
        An update; the steps before it have run when the calls do.
    """
    lowering = Lowering(graph, plan, optimizer, settings)
    node, tensors = graph.node(execution.layer), lowering.bind(execution)
    for weight in node.spec.trained_weights:
        if tensors.is_wanted(gradient_of(weight.name)):
            continue
        gradient = Region(BESIDE, 0, tensors.matrix(weight.name).shape, FLOAT32)
        calls = lowering.updates.make_gradient(weight, tensors, gradient)
        calls = lowering.in_arithmetic(calls)
        yield TiledGradient(
            tensor_name(node.name, weight.name),
            weight.shape,
            gradient,
            tuple(
                split_calls(
                    (KernelCall(execution.step, *call) for call in calls), graph.threads
                )
            ),
        )


class Lowering:
    """Names the calls of single executions, of one pass in the order of time.

    Parameters
    ----------
    graph, plan, optimizer, settings
        As `lower` takes them.
    """

    def __init__(
        self,
        graph: Graph,
        plan: MemoryPlan,
        optimizer: Optimizer,
        settings: LoweringSettings,
    ) -> None:
        self._graph = graph
        self.plan = plan
        self.settings = settings
        self.regions = TensorRegions(plan)
        n_hyper = Control.LENGTH - Control.HYPER
        self._hyper = self.regions.control(Control.HYPER, n_hyper)
        self._fraction = self.regions.control(Control.FRACTION)
        self.updates = UpdateCalls(optimizer, self._hyper, self._fraction)
        self._begun_gradients: set[int] = set()
        self._kept = kept_results(plan)
        losses = [node.name for node in graph.losses]
        self._loss_places = loss_places(losses, control_length(graph))

    def calls(self, execution: Execution) -> list[Call]:
        """Return the calls of an execution, in the arithmetic of the graph."""
        return self.in_arithmetic(self._calls(execution))

    def in_arithmetic(self, calls: list[Call]) -> list[Call]:
        """Exchange kernels for their twins, if the graph is in portable arithmetic."""
        if self._graph.arithmetic != PORTABLE:
            return calls
        return [Call(portable(c.kernel), c.arguments) for c in calls]

    def _calls(self, execution: Execution) -> list[Call]:
        phase = execution.phase
        if phase is Phase.CLIP_GRADIENTS:
            return self._clip(execution)
        node = self._graph.node(execution.layer)
        tensors = self.bind(execution)
        if phase is Phase.APPLY_GRADIENT:
            return self._apply(node, tensors)
        if phase is Phase.FORWARD and self.plan.is_inference:
            return _predict(node, tensors)
        if has_sample_weights(node):
            calls = weighted_calls(node, phase, tensors)
        else:
            calls = hook_calls(node.layer, phase, tensors)
        if phase is Phase.FORWARD:
            return [*calls, *self._penalties(node, tensors)]
        if phase is Phase.CALC_GRADIENT:
            return [*calls, *self._penalty_gradients(node, tensors)]
        if phase is Phase.CALC_DERIVATIVE:
            return [*calls, *_totals(tensors)]
        return calls

    def bind(self, execution: Execution) -> RoleRegions:
        """Return the tensors of an execution by role."""
        return RoleRegions(
            self.regions,
            self._graph.node(execution.layer),
            execution,
            mode=self.settings.mode,
            n_samples=self.settings.n_samples,
            accumulate=self._accumulates(execution),
            random_key=random_key(self.settings.seed, execution.layer),
            arithmetic=self._graph.arithmetic,
            places=self._loss_places.get(execution.layer, SHARED),
            tables=self._graph.tables,
            made_before=self._kept.get(execution.step, NOTHING_KEPT),
        )

    def with_count(self, calls: list[KernelCall]) -> list[KernelCall]:
        """Count the iteration with its last update: both or neither are interrupted."""
        updates = [
            execution.step
            for execution in self.plan.executions
            if execution.phase is Phase.APPLY_GRADIENT
        ]
        if not updates or self.settings.mode is not Mode.TRAIN:
            return calls
        iteration = self.regions.control(Control.ITERATION)
        count = KernelCall(updates[-1], elementwise.count_up, (iteration,))
        return sorted([*calls, count], key=lambda call: call.step)

    def _accumulates(self, execution: Execution) -> bool:
        """Tell whether there are gradients already where this execution puts its own.

        They are of an earlier micro-batch, or of a layer that shares the weights.
        """
        if execution.phase is not Phase.CALC_GRADIENT:
            return False
        gradients = {
            o.tensor
            for o in execution.operands
            if self.plan.tensors[o.tensor].kind is TensorKind.GRADIENT
        }
        begun = bool(gradients & self._begun_gradients)
        self._begun_gradients |= gradients
        return begun or self.settings.add_gradients

    def _penalties(self, node: Node, tensors: RoleRegions) -> list[Call]:
        return [
            Call(
                reductions.l2_penalty,
                (
                    tensors.vector(w.name),
                    w.regularizer_constant,
                    self._fraction,
                    tensors.loss,
                ),
            )
            for w in node.own_weights
            if w.regularizer_constant and node.trains
        ]

    def _penalty_gradients(self, node: Node, tensors: RoleRegions) -> list[Call]:
        return [
            self.updates.add_penalty(
                w,
                self.regions.named(tensor_name(node.name, w.name)).reshape(-1),
                tensors.vector(gradient_of(w.name)),
            )
            for w in node.own_weights
            if w.regularizer_constant and tensors.is_wanted(gradient_of(w.name))
        ]

    def _clip(self, execution: Execution) -> list[Call]:
        max_norm = self.settings.max_norm
        assert max_norm is not None
        total = self.regions.control(Control.SQUARE_NORM)
        touched = {
            gradient_of(tensor_name(node.name, weight.name))
            for node in self._graph.nodes
            for weight in node.own_weights
            if weight.touched_rows is not None
        }
        gradients = [(self.regions.region(o.tensor), o) for o in execution.operands]
        return [
            Call(elementwise.fill_doubles, (0.0, total)),
            *(
                Call(touched_rows.touched_square_sum, (gradient, total))
                if operand.role in touched
                else Call(reductions.square_sum, (gradient.reshape(-1), total))
                for gradient, operand in gradients
            ),
            Call(reductions.clip_scale, (total, max_norm, self._hyper[1:2])),
        ]

    def _apply(self, node: Node, tensors: RoleRegions) -> list[Call]:
        calls: list[Call] = []
        # Layers that share weights may have decays of their own: the owner's holds.
        owner = self._graph.node(node.weights_of)
        for weight in owner.spec.trained_weights:
            calls += self.updates.apply(weight, tensors)
        factor = owner.layer.get("learning_rate_scale", 1.0)
        if factor == 1.0:
            return calls
        rate, kept = self._hyper[:1], self.regions.control(Control.LEARNING_RATE)
        return [
            Call(update_terms.scale_number, (rate, 1.0, kept)),
            Call(update_terms.scale_number, (kept, factor, rate)),
            *calls,
            Call(update_terms.scale_number, (kept, 1.0, rate)),
        ]


def _predict(node: Node, tensors: RoleRegions) -> list[Call]:
    """Return the calls of a forward pass of which nobody asks for the loss."""
    layer = node.layer
    is_predicted = isinstance(layer, Loss) and not layer.needs_label_to_predict
    hook = "predict" if is_predicted else ""
    if has_sample_weights(node):
        return weighted_calls(node, Phase.FORWARD, tensors, hook)
    return hook_calls(node.layer, Phase.FORWARD, tensors, hook)


def _totals(tensors: RoleRegions) -> list[Call]:
    """Add derivatives to those of readers that came before."""
    roles = [operand.role for operand in tensors.execution.operands]
    return [
        Call(elementwise.add_to, (tensors.vector(share), tensors.vector(total)))
        for total in roles
        if (share := share_of(total)) is not None
    ]


def _fuse_bias(calls: list[KernelCall]) -> list[KernelCall]:
    """Let one pass add the bias and apply an activation that overwrites its input."""
    fused_kernels = {a.forward: a.bias_forward for a in ACTIVATIONS.values()}
    result: list[KernelCall] = []
    for call in calls:
        fused = fused_kernels.get(call.kernel)
        if fused and result and result[-1].kernel == elementwise.add_bias:
            x, bias, sums = result[-1].operands
            if all(_is_same_place(sums, operand) for operand in call.operands):
                result[-1] = KernelCall(result[-1].step, fused, (x, bias, sums))
                continue
        result.append(call)
    return result


def _is_same_place(one: object, other: object) -> bool:
    return (
        isinstance(one, Region)
        and isinstance(other, Region)
        and (one.memory, one.offset_bytes) == (other.memory, other.offset_bytes)
    )
