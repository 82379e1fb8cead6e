"""Lays out the steps of one training iteration, and the execution order of each layer.

Forward takes steps 0..n-1. Then layers are walked in reverse; each takes a step for
every rerun that precedes its backward pass, and for its weight gradient, its input
derivative and its update. With the reruns of checkpoint blocks the numbering is
NNTrainer's. Where gradients must outlive the backward pass (clipping by global norm,
accumulation over micro-batches) the update steps of the walk stay idle, and clipping
and updates follow at the end. Inference has the forward steps alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.phases import Phase
from arena_ckpt.common.short_repr import brief_repr

if TYPE_CHECKING:  # a plan that is read needs none of them
    from arena_ckpt.graph.build import Graph
    from arena_ckpt.graph.nodes import Node
    from arena_ckpt.planning.recompute import Rerun, Reruns
    from arena_ckpt.planning.settings import PlanSettings


@public_call
class ExecutionOrder(NamedTuple):
    """The steps at which one layer acts.

    `recompute` is the first recompute of the layer, or 0 where there is none. All but
    `forward` are 0 in a plan of inference.
    """

    forward: int
    recompute: int
    calc_gradient: int
    calc_derivative: int
    apply_gradient: int


@dataclass(frozen=True, slots=True)
class Step:
    """The phase and the layer of one tick of the timeline.

    Whether a kernel runs at it is decided with the live ranges.
    """

    phase: Phase
    layer: str

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True)
class Timeline:
    """The steps of one training iteration.

    Attributes
    ----------
    steps : tuple of Step or None
        The step at each tick; None is a tick that is numbered and not used.
    execution_order : dict from str to ExecutionOrder
        Execution order of each layer, in forward order.
    n_forward : int
        Number of steps before the backward pass; all steps of inference.
    n_pass : int
        Number of steps of one micro-batch; later steps run once in an iteration.
    remade : dict from int to frozenset of str
        The tensors that each step of a rerun makes again.
    """

    steps: tuple[Step | None, ...]
    execution_order: dict[str, ExecutionOrder]
    n_forward: int
    n_pass: int
    remade: dict[int, frozenset[str]]


def build_timeline(graph: Graph, reruns: Reruns, settings: PlanSettings) -> Timeline:
    """Return the steps of one training iteration in order of time.

    Parameters
    ----------
    graph : Graph
    reruns : tuple of Rerun
    settings : PlanSettings
        Where updates are deferred they follow the backward pass of all layers, and
        where gradients are clipped a step for their global norm precedes these.

    Returns
    -------
    Timeline

    Notes
    -----
    O(layers + reruns).
    """
    names = [node.name for node in graph.nodes]
    if settings.is_inference:
        return _forward_alone(names)
    steps: list[Step | None] = [Step(Phase.FORWARD, name) for name in names]
    preceding: dict[str, list[Rerun]] = {name: [] for name in names}
    for rerun in reruns:
        preceding[rerun.before].append(rerun)
    recompute: dict[str, int] = {}
    remade: dict[int, frozenset[str]] = {}
    backward: dict[str, tuple[int, int, int]] = {}
    for node in reversed(graph.nodes):
        for rerun in preceding[node.name]:
            recompute.setdefault(rerun.layer, len(steps))
            remade[len(steps)] = frozenset(rerun.tensors)
            steps.append(Step(Phase.RECOMPUTE, rerun.layer))
        first = len(steps)
        steps += backward_steps(node, settings)
        derivative = first + 1 if node.layer.is_trainable else first
        backward[node.name] = (first, derivative, len(steps) - 1)
    n_pass = len(steps)
    if settings.clip:
        steps.append(Step(Phase.CLIP_GRADIENTS, graph.loss.name))
    if settings.defers_updates:
        for node in reversed(graph.nodes):
            if node.updates:
                gradient, derivative, _ = backward[node.name]
                backward[node.name] = (gradient, derivative, len(steps))
                steps.append(Step(Phase.APPLY_GRADIENT, node.name))
    execution_order = {
        name: ExecutionOrder(index, recompute.get(name, 0), *backward[name])
        for index, name in enumerate(names)
    }
    return Timeline(tuple(steps), execution_order, len(names), n_pass, remade)


def _forward_alone(names: list[str]) -> Timeline:
    """Return the steps of inference, in which no layer has a number but for forward."""
    return Timeline(
        steps=tuple(Step(Phase.FORWARD, name) for name in names),
        execution_order={
            name: ExecutionOrder(index, 0, 0, 0, 0) for index, name in enumerate(names)
        },
        n_forward=len(names),
        n_pass=len(names),
        remade={},
    )


def backward_steps(node: Node, settings: PlanSettings) -> list[Step | None]:
    """Return the steps of a layer's gradient, derivative and update.

    A layer that is frozen with ``trainable=false`` has only the step of its derivative.
    An update that comes later, with all others or with that of a layer that shares the
    weights, leaves an idle step.
    """
    name = node.name
    if not node.layer.is_trainable:
        return [Step(Phase.CALC_DERIVATIVE, name)]
    shared = node.trains and not node.updates  # a later step updates the weights
    idle = settings.defers_updates or shared
    return [
        Step(Phase.CALC_GRADIENT, name),
        Step(Phase.CALC_DERIVATIVE, name),
        None if idle else Step(Phase.APPLY_GRADIENT, name),
    ]
