"""Finds the tensors that are masks, which only the scores of attention read.

Of all data only masks may hold -inf, which forbids. So an input is a mask if every
reader adds it to scores, at once or through layers that only move elements. An input
that something else reads as well keeps the checks of all data.
"""

from __future__ import annotations

from arena_ckpt.graph.build import Graph


def mask_tensors(graph: Graph) -> frozenset[str]:
    """Return the outputs of layers that are masks and nothing else.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    frozenset of str
        ``"mask:out0"``; those of input layers and of layers that move elements.

    Notes
    -----
    O(layers + connections): readers come before what they read.
    """
    read_as_mask: set[str] = set()
    read_otherwise: set[str] = set()
    masks: set[str] = set()
    for node in reversed(graph.nodes):
        if node.layer.is_alias:
            continue
        is_mover = node.layer.moves_elements
        if is_mover or node.is_data:
            masks |= read_as_mask.intersection(node.outputs) - read_otherwise
        moves_masks = is_mover and masks.issuperset(node.outputs)
        for index, source in enumerate(node.sources):
            is_mask = moves_masks or index in node.spec.mask_inputs
            (read_as_mask if is_mask else read_otherwise).add(source)
    return frozenset(masks)
