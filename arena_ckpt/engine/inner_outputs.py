"""Outputs of inner layers, which a prediction copies before their bytes are reused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from arena_ckpt.common.phases import Phase
from arena_ckpt.common.wording import nearest, quoted
from arena_ckpt.errors import InvalidParameterError, UnknownLayerError
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.connections import Output
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.spec import Shape
from arena_ckpt.planning.plan import MemoryPlan


@dataclass(frozen=True, slots=True)
class InnerOutput:
    """An output of a layer, and where in a forward pass it can be read.

    Attributes
    ----------
    name : str
        As it is asked for: ``"fc1"``, ``"split(1)"``.
    tensor : str
        The tensor that holds it.
    shape : tuple of int
        Shape of one sample.
    step : int
        The step after which it is complete; later ones may overwrite it.
    """

    name: str
    tensor: str
    shape: Shape
    step: int


class Watched(NamedTuple):
    """Outputs to look at during a forward pass, in the order of their steps.

    Attributes
    ----------
    outputs : sequence of InnerOutput
    take : callable
        Told an output that is complete, the number of the first sample of the pass and
        how many samples it has.
    """

    outputs: Sequence[InnerOutput]
    take: Callable[[InnerOutput, int, int], None]


def find_inner_outputs(
    graph: Graph, plan: MemoryPlan, layers: Sequence[str], asked: Sequence[str]
) -> tuple[InnerOutput, ...]:
    """Return the outputs that are asked for by name, in the order of their steps.

    Parameters
    ----------
    graph : Graph
    plan : MemoryPlan
    layers : sequence of str
        Names of the layers as they were added, before some were taken apart.
    asked : sequence of str
        Names of layers, of parts (``"fc1/activation_realized"``) or of outputs
        (``"split(1)"``).

    Raises
    ------
    InvalidParameterError
        The names are no list of names, or one stands there twice.
    UnknownLayerError
        No layer has such a name, or such an output.
    """
    if isinstance(asked, str) or not all(isinstance(name, str) for name in asked):
        raise InvalidParameterError(
            f"outputs={asked!r} is no list of names of layers; give one, such as "
            "outputs=['fc1']",
            outputs=asked,
        )
    twice = sorted({name for name in asked if list(asked).count(name) > 1})
    if twice or not asked:
        problem = f"has {twice[0]!r} twice" if twice else "is empty"
        raise InvalidParameterError(
            f"outputs {problem}; name each layer once", outputs=tuple(asked)
        )
    known, steps = _outputs_by_name(graph, layers), _steps_of(graph, plan)
    found = [_find(graph, known, steps, name) for name in asked]
    return tuple(sorted(found, key=lambda one: one.step))


def _find(
    graph: Graph, known: Mapping[str, Output], steps: Mapping[str, int], name: str
) -> InnerOutput:
    output = known.get(name)
    if output is None:
        raise UnknownLayerError(
            f"outputs names {quoted(name)}, and no layer has that name"
            f"{nearest(name, known)}; write the name of a layer, or LAYER(1) for its "
            "output 1",
            name=name,
        )
    node = graph.node(output.layer)
    tensor = node.sources[0] if node.layer.is_alias else node.outputs[output.index]
    shape = node.spec.output_shapes[output.index]
    if tensor in node.left_out:
        raise InvalidParameterError(
            f"outputs names {quoted(name)}, which is not made as no layer reads it; "
            "let one read it, or name another output",
            name=name,
        )
    if tensor not in steps:
        raise InvalidParameterError(
            f"outputs names {quoted(name)}, which is the same for all samples; read it "
            "with weights()",
            name=name,
        )
    return InnerOutput(name, tensor, shape, steps[tensor])


def _outputs_by_name(graph: Graph, layers: Sequence[str]) -> dict[str, Output]:
    """Return what makes each output that can be named.

    A layer that was taken apart stands for its last part, as for those who read it.
    """
    makers: dict[str, Node] = {}
    users = sorted(layers, key=len, reverse=True)
    for node in graph.nodes:
        if node.name.partition("/generated_out_")[1]:
            continue  # it only hands on what another layer makes
        whole = next(
            (u for u in users if node.name == u or node.name.startswith(f"{u}/")),
            node.name,
        )
        makers[node.name] = makers[whole] = node
    known = {}
    for name, node in makers.items():
        for index in range(len(node.spec.output_shapes)):
            known[f"{name}({index})"] = Output(node.name, index)
        known[name] = Output(node.name)
    return known


def _steps_of(graph: Graph, plan: MemoryPlan) -> dict[str, int]:
    """Return the forward step that makes each tensor that has a row for each sample."""
    made = {
        execution.layer: execution.step
        for execution in plan.executions
        if execution.phase is Phase.FORWARD
    }
    of_samples = {tensor.name for tensor in plan.tensors if tensor.per_sample}
    return {
        tensor: made[node.name]
        for node in graph.nodes
        if not node.layer.is_alias and node.name in made
        for tensor in node.outputs
        if tensor in of_samples
    }
