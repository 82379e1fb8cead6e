"""Finds what is dropped after the forward pass, and which layers make it again.

A list of `Rerun` says which layers run again, and so which tensors are dropped. Bytes
of a dropped tensor are free from its last reader until a rerun makes it again; a rerun
reads its inputs from their current live ranges. So every list is valid in which a layer
runs again before its own backward pass; lists differ in bytes and time only.

Checkpoint blocks *recompute on demand*: of each block only those layers run again whose
results the backward pass of the block really reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arena_ckpt.common.dtypes import FLOAT32, size_bytes
from arena_ckpt.common.names import tensor_name
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.short_repr import brief_repr
from arena_ckpt.graph.blocks import CheckpointBlock
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node


@dataclass(frozen=True, slots=True)
class Rerun:
    """The forward pass of one layer, run again in the backward pass.

    Attributes
    ----------
    before : str
        The layer before whose backward steps it runs.
    layer : str
        The layer that runs again. It does not stand behind `before` in forward order,
        as its weights have changed by then.
    tensors : tuple of str
        Tensors that it makes again, ``"fc1:out0"``; none for a layer of a checkpoint
        block that need not run, which has a number all the same.
    """

    before: str
    layer: str
    tensors: tuple[str, ...]

    __repr__ = brief_repr


Reruns = tuple[Rerun, ...]
"""Recomputes; those before the same layer stand in order of time."""


def remakable(node: Node) -> tuple[str, ...]:
    """Return the tensors of a layer that it can make again in the backward pass.

    This is the one rule of what may be dropped; choosing reruns and checking plans both
    ask it. No layer can make the samples of an input layer again. A loss may not run
    again, as each run adds its terms to the loss of the iteration.
    """
    if not node.inputs or node.layer.is_loss:
        return ()
    made = [output for output in node.outputs if output not in node.left_out]
    return (*made, *saved_tensors(node))


def possible_reruns(graph: Graph, reruns: Reruns) -> Reruns:
    """Return those of the given recomputes that a plan of the graph can have.

    A layer runs again at most before its own backward pass: behind that it has other
    weights. What it makes is `remakable`; nothing is, for a layer of a checkpoint block
    that is only counted.
    """
    place = {node.name: place for place, node in enumerate(graph.nodes)}
    return tuple(
        rerun
        for rerun in reruns
        if place.get(rerun.layer, len(place)) <= place.get(rerun.before, -1)
        and set(rerun.tensors) <= {*remakable(graph.node(rerun.layer))}
    )


def block_reruns(graph: Graph, blocks: Sequence[CheckpointBlock]) -> Reruns:
    """Return the recomputes of checkpoint blocks.

    All layers of a block precede the backward steps of its last one, in forward order.

    Parameters
    ----------
    graph : Graph
    blocks : sequence of CheckpointBlock
        Blocks of names of its nodes, in forward order.
    """
    again = find_recomputed(graph, blocks)
    return tuple(
        Rerun(block.layers[-1], name, tuple(sorted(again.get(name, ()))))
        for block in blocks
        for name in block.layers
    )


def find_recomputed(
    graph: Graph, blocks: Sequence[CheckpointBlock]
) -> dict[str, frozenset[str]]:
    """Return the tensors that each layer makes again in the backward pass.

    Parameters
    ----------
    graph : Graph
    blocks : sequence of CheckpointBlock

    Returns
    -------
    dict from str to frozenset of str
        Tensors by name, ``"fc1:out0"``.

    Notes
    -----
    Outputs that are read outside the block stay; and so does what their layer saves for
    backward, where that is no larger than the output. What is saved once for the whole
    batch, as the statistics of a batch normalization are, always stays. Everything else
    in the block that is `remakable` is dropped. O(connections).
    """
    read_backward: set[str] = set()
    for node in graph.nodes:
        read_backward.update(backward_reads(node))
    readers = graph.readers()
    again: dict[str, frozenset[str]] = {}
    for block in blocks:
        nodes = [graph.node(name) for name in block.layers]
        members = frozenset(block.layers)
        dropped = {name for node in nodes for name in _dropped(node, readers, members)}
        wanted = read_backward & dropped
        for node in reversed(nodes):
            mine = wanted.intersection(remakable(node))
            if not mine:
                continue
            again[node.name] = frozenset(mine)
            wanted.update(dropped.intersection(forward_reads(node)))
    return again


def saved_tensors(node: Node) -> tuple[str, ...]:
    """Return the names of the tensors that a layer saves for its backward steps."""
    return tuple(
        tensor_name(node.name, t.name) for t in node.spec.tensors if t.is_saved
    )


def backward_reads(node: Node) -> set[str]:
    """Return the tensors of the forward pass that a layer's backward steps read."""
    names: set[str] = set()
    for phase in (Phase.CALC_GRADIENT, Phase.CALC_DERIVATIVE):
        if not node.runs(phase):
            continue
        flag = phase.lifespan
        for index, source in enumerate(node.sources):
            if node.spec.reads_input(index, flag):
                names.add(source)
        if node.spec.output_lifespan & flag:
            names.update(node.outputs)
        for tensor in node.spec.tensors:
            if tensor.is_saved and tensor.lifespan & flag:
                names.add(tensor_name(node.name, tensor.name))
    return names


def forward_reads(node: Node) -> list[str]:
    """Return the outputs of other layers that a layer's forward pass reads."""
    return [
        source
        for index, source in enumerate(node.sources)
        if node.spec.reads_input(index, TensorLifespan.FORWARD)
    ]


def _dropped(
    node: Node,
    readers: Mapping[str, tuple[str, ...]],
    members: frozenset[str],
) -> set[str]:
    """Return the tensors of a layer in a block that its forward pass drops."""
    able = remakable(node)
    outputs = {
        output
        for output in node.outputs
        if output in able and members.issuperset(readers[output])
    }
    saved = [
        tensor
        for tensor in node.spec.tensors
        if tensor_name(node.name, tensor.name) in able and tensor.per_sample
    ]
    output_bytes = sum(size_bytes(s, FLOAT32) for s in node.spec.output_shapes)
    saved_bytes = sum(size_bytes(t.shape, t.dtype) for t in saved)
    if outputs or saved_bytes > output_bytes:
        return outputs.union(tensor_name(node.name, tensor.name) for tensor in saved)
    return outputs
