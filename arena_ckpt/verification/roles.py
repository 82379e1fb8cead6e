"""Operands that each step must have, derived anew from the layers' specifications.

The planner finds these by walking a timeline. Here each layer and phase is looked at
separately, without any of the planner's code. A `Need` is an operand that a step must
have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from arena_ckpt.common.names import (
    LABEL,
    discarded,
    gradient_of,
    input_role,
    output_role,
    tensor_name,
)
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.loss import Loss

_FLAGS = {
    Phase.FORWARD: TensorLifespan.FORWARD,
    Phase.RECOMPUTE: TensorLifespan.FORWARD,
    Phase.CALC_GRADIENT: TensorLifespan.CALC_GRADIENT,
    Phase.CALC_DERIVATIVE: TensorLifespan.CALC_DERIVATIVE,
}


@dataclass(frozen=True, slots=True)
class Need:
    """An operand that a step must have.

    Attributes
    ----------
    role : str
    tensors : tuple of str
        The names of tensors that may stand in it.
    reads, writes : bool
        Whether the step reads it, and whether it writes it.
    """

    role: str
    tensors: tuple[str, ...]
    reads: bool = True
    writes: bool = False


def needs_of(
    graph: Graph, node: Node, phase: Phase, *, is_inference: bool = False
) -> list[Need]:
    """Return the operands that a layer must have in a phase, or in inference.

    Gradients, derivatives and updates are left out.

    They depend on the order in which layers add to them, so `check_dataflow` counts
    them.
    """
    if phase not in _FLAGS:
        return []
    flag = _FLAGS[phase]
    is_forward = flag is TensorLifespan.FORWARD
    return [
        *_inputs(graph, node, flag, is_inference),
        *_weights(node, phase, flag),
        *(_results(node, phase) if is_forward else _backward_outputs(node, flag)),
        *_own_tensors(node, phase, flag),
    ]


def _inputs(
    graph: Graph, node: Node, flag: TensorLifespan, is_inference: bool
) -> Iterator[Need]:
    for place, source in enumerate(node.sources):
        if node.spec.reads_input(place, flag):
            yield Need(input_role(place), (graph.tables.get(source, source),))
    loss = node.layer
    if not isinstance(loss, Loss) or not loss.takes_label:
        return
    if loss.needs_label_to_predict or not is_inference:
        yield Need(LABEL, (tensor_name(node.name, LABEL),))


def _weights(node: Node, phase: Phase, flag: TensorLifespan) -> Iterator[Need]:
    for weight in node.spec.weights:
        if weight.lifespan & flag:
            moves = not weight.is_trained and phase is Phase.CALC_GRADIENT
            name = tensor_name(node.weights_of, weight.name)
            yield Need(weight.name, (name,), writes=moves)


def _results(node: Node, phase: Phase) -> Iterator[Need]:
    """Yield the outputs of a step; a recompute may leave some out."""
    for place, output in enumerate(() if node.layer.is_table else node.outputs):
        if output in node.left_out:
            continue
        if phase is Phase.FORWARD:
            yield Need(output_role(place), (output,), reads=False, writes=True)
        elif not node.spec.forward_skips_unwanted:
            names = (output, discarded(output))
            yield Need(output_role(place), names, reads=False, writes=True)


def _backward_outputs(node: Node, flag: TensorLifespan) -> Iterator[Need]:
    for place, output in enumerate(node.outputs):
        if node.spec.output_lifespan & flag:
            yield Need(output_role(place), (output,))
        if not node.layer.is_loss and output not in node.unread:
            role = gradient_of(output_role(place))
            yield Need(role, (gradient_of(output),))


def _own_tensors(node: Node, phase: Phase, flag: TensorLifespan) -> Iterator[Need]:
    for tensor in node.spec.tensors:
        if not tensor.lifespan & flag:
            continue
        name = tensor_name(node.name, tensor.name)
        if phase is Phase.RECOMPUTE:
            names = (name, discarded(name))
            yield Need(tensor.name, names, reads=False, writes=True)
        elif phase is Phase.FORWARD or not _is_there(node, tensor.lifespan, phase):
            yield Need(tensor.name, (name,), reads=False, writes=True)
        else:
            yield Need(tensor.name, (name,))


def _is_there(node: Node, lifespan: TensorLifespan, phase: Phase) -> bool:
    """Say whether an earlier phase of the layer has made one of its own tensors."""
    if lifespan & TensorLifespan.FORWARD:
        return True
    by_gradient = bool(lifespan & TensorLifespan.CALC_GRADIENT) and node.trains
    return phase is Phase.CALC_DERIVATIVE and by_gradient


def n_contributions(graph: Graph) -> dict[str, int]:
    """Return how many layers add to each derivative and weight gradient."""
    counts: dict[str, int] = {}
    for node in graph.nodes:
        for place in node.derived_inputs:
            name = gradient_of(node.sources[place])
            counts[name] = counts.get(name, 0) + 1
        for weight in node.spec.trained_weights if node.trains else ():
            name = tensor_name(node.weights_of, gradient_of(weight.name))
            counts[name] = counts.get(name, 0) + 1
    return counts


def state_moves(graph: Graph) -> dict[str, int]:
    """Return how often a pass changes each weight that is not trained."""
    counts: dict[str, int] = {}
    for node in graph.nodes:
        for need in needs_of(graph, node, Phase.CALC_GRADIENT) if node.trains else ():
            if need.writes and need.reads:
                counts[need.tensors[0]] = counts.get(need.tensors[0], 0) + 1
    return counts
