"""Which input layers bring ids or lengths, and what these may be."""

from __future__ import annotations

from arena_ckpt.graph.build import Graph


def id_ranges(graph: Graph) -> dict[str, range]:
    """Return for each input layer that brings ids those that all readers know."""
    found: dict[str, range] = {}
    for node in graph.nodes:
        for ids in node.spec.id_inputs:
            waiting = [node.inputs[ids.index].layer]
            while waiting:
                source = graph.node(waiting.pop())
                if source.is_data:
                    before = found.get(source.name, ids.valid)
                    found[source.name] = range(
                        max(ids.least, before.start), min(ids.n_ids, before.stop)
                    )
                elif source.layer.moves_elements or source.layer.is_alias:
                    waiting += [one.layer for one in source.inputs]  # ids stay ids
    return found
