"""What named checkpoint blocks can say of a policy.

A block drops all inside of it, and runs again what its backward pass needs. So a
dropped layer has to be in a block with all its readers, and a block must not need a
kept layer again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import dropwhile

from arena_ckpt.checkpoint.policy import Policy
from arena_ckpt.checkpoint.stages import Stage
from arena_ckpt.common.names import layer_of
from arena_ckpt.common.wording import quote
from arena_ckpt.errors import PolicyError
from arena_ckpt.graph.blocks import CheckpointBlock
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.planning.recompute import (
    Reruns,
    backward_reads,
    block_reruns,
    forward_reads,
)

Blocks = tuple[tuple[str, ...], ...]
"""Layers of checkpoint blocks, by name and in forward order."""


def swept_layers(nodes: Iterable[Node]) -> tuple[str, ...]:
    """Return the layers of a block over some nodes: those behind leading inputs."""
    return tuple(node.name for node in dropwhile(lambda n: not n.inputs, nodes))


def reruns_of_blocks(graph: Graph, blocks: Iterable[Collection[str]]) -> Reruns:
    """Return what checkpoint blocks of some layers run again."""
    made = tuple(CheckpointBlock(tuple(names)) for names in blocks)
    reruns = block_reruns(graph, made)
    return tuple(rerun for rerun in reruns if rerun.tensors)


def blocks_within(graph: Graph, stage: Stage, policy: Policy) -> Blocks:
    """Return the smallest blocks that drop the dropped layers of a stage.

    Raises
    ------
    PolicyError
        One of them would run a kept layer again.
    """
    place = {node.name: place for place, node in enumerate(stage.nodes)}
    readers = graph.readers()
    ends = {  # places of the last readers
        node.name: max(place[name] for t in node.outputs for name in readers[t])
        for node in stage.nodes
        if node.name in policy.drop
    }
    wanted = {t for node in graph.nodes for t in backward_reads(node)}
    blocks: Blocks = ()
    while True:
        inside = {layer_of(t) for t in wanted & policy.dropped_tensors} & ends.keys()
        joined: list[list[int]] = []
        for layer in sorted(inside, key=place.__getitem__):
            first, last = place[layer], ends[layer]
            if joined and first <= joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], last)
            else:
                joined.append([first, last])
        found = tuple(
            tuple(node.name for node in stage.nodes[first : last + 1])
            for first, last in joined
        )
        if found == blocks:
            break
        blocks = found
        again = reruns_of_blocks(graph, blocks)
        # What runs again reads its inputs in the backward pass as well.
        wanted = wanted.union(*(forward_reads(graph.node(r.layer)) for r in again))
    _refuse_kept(graph, blocks, policy)
    return blocks


def _refuse_kept(graph: Graph, blocks: Blocks, policy: Policy) -> None:
    for block in blocks:
        again = {rerun.layer for rerun in reruns_of_blocks(graph, (block,))}
        kept = [name for name in block if name in again & policy.keep]
        if kept:
            dropped = [name for name in block if name in policy.drop]
            raise PolicyError(
                f"named checkpoint blocks cannot drop {quote(dropped)} and keep "
                f"{quote(kept)}: a block that drops the former reaches from "
                f"{block[0]!r} to {block[-1]!r} and runs the latter again; leave out "
                "levels=1, or narrow a pattern",
                layers=(*dropped, *kept),
            )


def last_sweeps(graph: Graph, stages: Sequence[Stage], policy: Policy) -> list[int]:
    """Return for each stage the end of the longest block from there on.

    Returns
    -------
    list of int
        The first stage behind it. Any longer block runs a kept layer again.

    Notes
    -----
    What a block runs again is run again by longer ones as well, so that the first block
    that needs a kept layer is followed by no better one.
    """
    has_kept = [any(n.name in policy.keep for n in stage.nodes) for stage in stages]
    ends = []
    for first in range(len(stages)):
        nodes: list[Node] = []
        stop, seen = first, False
        while stop < len(stages):
            nodes += stages[stop].nodes
            seen = seen or has_kept[stop]
            if seen and _runs_kept(graph, swept_layers(nodes), policy):
                break
            stop += 1
        ends.append(stop)
    return ends


def _runs_kept(graph: Graph, layers: tuple[str, ...], policy: Policy) -> bool:
    if len(layers) < 2:
        return False
    again = reruns_of_blocks(graph, (layers,))
    return any(rerun.layer in policy.keep for rerun in again)
