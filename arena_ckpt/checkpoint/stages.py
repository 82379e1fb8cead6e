"""Cuts a graph into a chain of stages.

A *cut* stands between two layers that follow each other; its tensors are those made
before it and read by the forward pass behind it. With the tensors of a cut held, all
behind it can run, so what lies before can be dropped. If a single tensor crosses, and
the backward pass reads it anyway, holding it costs nothing, so these cuts are taken. If
a long stretch has none, as beside the skips of a U-Net, cuts of several tensors are
taken, the narrowest first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from arena_ckpt.common.phases import Phase
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.planning.recompute import backward_reads, forward_reads

WIDEST = 3
"""Maximum number of tensors of a cut within a branch, where blocks are to spare a
layer."""

LONGEST_STAGE = 12
"""Maximum number of layers of a stage; in longer ones, cuts of several tensors are
tried."""

TOGETHER = (2, 3)
"""Numbers of neighbouring stages that `groupings` joins into one."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The layers between two cuts.

    Attributes
    ----------
    nodes : tuple of Node
        In forward order.
    cut_before, cut_after : tuple of str
        Tensors of the cuts, in the order in which they are made. The samples of input
        layers are always held and in no cut.
    """

    nodes: tuple[Node, ...]
    cut_before: tuple[str, ...]
    cut_after: tuple[str, ...]


def cut_graph(
    graph: Graph, dropped: Collection[str] = (), widest: int = 1
) -> tuple[Stage, ...]:
    """Cut a graph into stages.

    Parameters
    ----------
    graph : Graph
    dropped : collection of str
        Tensors that are not to be held, so that they are in no cut.
    widest : int
        Maximum number of tensors of a cut that holds nothing but what the backward pass
        reads anyway.

    Returns
    -------
    tuple of Stage
        At least one; together they have all layers, in forward order.

    Notes
    -----
    O(layers × width of the cuts).
    """
    cuts, not_held = _crossing(graph.nodes), frozenset(dropped)
    read_backward: set[str] = set()
    for node in graph.nodes:
        read_backward |= backward_reads(node)
    places = [
        place
        for place, cut in enumerate(cuts)
        if 1 <= len(cut) <= widest
        and read_backward.issuperset(cut)
        and graph.nodes[place].runs(Phase.FORWARD)  # else the cut behind is the same
        and not_held.isdisjoint(cut)
    ]
    places = _narrow(places, cuts, len(graph.nodes), not_held)
    ends = [*places, len(graph.nodes)]
    starts = [0, *ends[:-1]]
    return tuple(
        Stage(
            graph.nodes[start:stop],
            cuts[start] if start else (),
            cuts[stop] if stop < len(graph.nodes) else (),
        )
        for start, stop in zip(starts, ends, strict=True)
    )


def groupings(stages: Sequence[Stage]) -> Iterator[tuple[Stage, ...]]:
    """Yield the stages again, each time with some neighbours joined into one.

    A chain holds the tensors of every cut that it passes. Within joined stages these
    tensors can be dropped and made again for a single reader. Neighbours are joined in
    twos, then in threes, from each possible first stage; they stay separate if together
    they have more layers than `LONGEST_STAGE`.

    Parameters
    ----------
    stages : sequence of Stage
    """
    seen = {tuple(stages)}
    for together in TOGETHER:
        for first in range(together):
            starts = [*range(first, len(stages), together)]
            runs = [stages[:first], *(stages[i : i + together] for i in starts)]
            grouped = tuple(
                stage
                for run in runs
                for stage in (
                    [_joined(run)]
                    if run and sum(len(s.nodes) for s in run) <= LONGEST_STAGE
                    else run
                )
            )
            if grouped not in seen:
                seen.add(grouped)
                yield grouped


def _joined(stages: Sequence[Stage]) -> Stage:
    return Stage(
        tuple(node for stage in stages for node in stage.nodes),
        stages[0].cut_before,
        stages[-1].cut_after,
    )


def _crossing(nodes: Sequence[Node]) -> list[tuple[str, ...]]:
    """Return for each place the tensors that a cut before its layer has to keep."""
    last_reader: dict[str, int] = {}
    for place, node in enumerate(nodes):
        if node.inputs and not node.layer.is_alias:
            for source in forward_reads(node):
                last_reader[source] = place
    crossing: dict[str, None] = {}
    cuts = []
    for place, node in enumerate(nodes):
        for tensor in [t for t in crossing if last_reader[t] < place]:
            del crossing[tensor]
        cuts.append(tuple(crossing))
        if node.inputs:  # samples are held anyway
            for output in node.outputs:
                if last_reader.get(output, -1) > place:
                    crossing[output] = None
    return cuts


def _narrow(
    places: list[int],
    cuts: Sequence[tuple[str, ...]],
    n_nodes: int,
    dropped: frozenset[str],
) -> list[int]:
    """Add cuts in long stages: at the narrowest places, then at the most central."""
    found = set(places)
    ends = [*places, n_nodes]
    stack = list(zip([0, *ends[:-1]], ends, strict=True))
    while stack:
        start, stop = stack.pop()
        if stop - start <= LONGEST_STAGE:
            continue
        inside = [
            place
            for place in range(start + 2, stop - 1)
            if cuts[place]
            and cuts[place] != cuts[start]
            and dropped.isdisjoint(cuts[place])
        ]
        if not inside:
            continue
        middle = (start + stop) / 2
        best = min(inside, key=lambda p: (len(cuts[p]), abs(p - middle), p))
        found.add(best)
        stack += [(start, best), (best, stop)]
    return sorted(found)
