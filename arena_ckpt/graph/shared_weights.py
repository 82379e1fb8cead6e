"""Finds the owner of shared weights, and the layer whose step updates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from arena_ckpt.common.wording import nearest
from arena_ckpt.errors import SharedWeightsError
from arena_ckpt.graph.nodes import Node


def share_weights(
    nodes: list[Node], parts: Mapping[str, tuple[str, ...]]
) -> list[Node]:
    """Return nodes in which layers with ``shared_from`` use the weights of another.

    An unrolled layer has a part for each direction. The first part that has weights
    shares those of the first part of the other layer, the second those of the second.

    Parameters
    ----------
    nodes : list of Node
        Nodes in forward order, each with weights of its own.
    parts : mapping from str to tuple of str
        Names of the nodes that stand for each layer as it was added.

    Returns
    -------
    list of Node
        The same nodes with their final `weights_of` and `updates`.

    Raises
    ------
    SharedWeightsError
    """
    known = {node.name: node for node in nodes}
    whole = {part: name for name, many in parts.items() for part in many}
    owner_of: dict[str, str] = {}
    for node in nodes:
        if node.layer.get("shared_from") is not None:
            owner_of[node.name] = _find_owner(node.name, known, parts, whole)
    for name, owner in owner_of.items():
        _check_same_weights(known[name], known[owner])
    last: dict[str, str] = {}  # the first in forward order is the last in backward
    for node in reversed(nodes):
        if node.trains:
            last[owner_of.get(node.name, node.name)] = node.name
    return [
        replace(node, weights_of=owner, updates=last.get(owner) == node.name)
        for node in nodes
        for owner in (owner_of.get(node.name, node.name),)
    ]


def _find_owner(
    name: str,
    known: Mapping[str, Node],
    parts: Mapping[str, tuple[str, ...]],
    whole: Mapping[str, str],
) -> str:
    """Return the node at the end of a chain of layers that share weights.

    Raises
    ------
    SharedWeightsError
        The chain is a circle, or names a layer that does not exist.
    """
    seen = [name]
    while (named := known[seen[-1]].layer.get("shared_from")) is not None:
        found = _find_shared(seen[-1], named, known, parts, whole)
        if found is None or found in seen:
            problem = (
                "in a circle: "
                + " -> ".join([*seen[seen.index(found) :], found])
                + "; let one layer have weights of its own"
                if found
                else f"which does not exist{nearest(named, known)}"
            )
            raise SharedWeightsError(
                f"layer {seen[-1]!r} shares the weights of {named!r}, {problem}",
                layer=seen[-1],
                shared_from=named,
            )
        seen.append(found)
    return seen[-1]


def _find_shared(
    name: str,
    named: str,
    known: Mapping[str, Node],
    parts: Mapping[str, tuple[str, ...]],
    whole: Mapping[str, str],
) -> str | None:
    """Return the node that the ``shared_from`` of a node means, or None.

    Raises
    ------
    SharedWeightsError
        The layers have weights for different numbers of directions.
    """
    theirs = parts.get(named, (named,) if named in known else ())
    if not theirs or whole[theirs[0]] == whole[name]:
        return named if named in known else None
    owners = [n for n in theirs if _has_own_weights(known[n], whole)] or [theirs[0]]
    mine = [n for n in parts[whole[name]] if known[n].layer.get("shared_from") == named]
    if len(mine) != len(owners):
        raise SharedWeightsError(
            f"layer {whole[name]!r} cannot share the weights of {named!r}: it needs "
            f"{len(mine)} sets of weights, one for each direction, that layer has "
            f"{len(owners)}; make both bidirectional, or none, and unroll both",
            layer=name,
            shared_from=named,
        )
    return owners[mine.index(name)]


def _has_own_weights(node: Node, whole: Mapping[str, str]) -> bool:
    """Tell whether a part of a layer does not use the weights of another part."""
    named = node.layer.get("shared_from")
    return bool(node.spec.weights) and whole.get(named) != whole[node.name]


def _check_same_weights(node: Node, owner: Node) -> None:
    """Refuse a layer whose weights have other names or shapes than the owner's."""
    needs, has = (
        ", ".join(
            f"{w.name} {w.shape}{' frozen' * w.is_frozen}" for w in n.spec.weights
        )
        + ("" if n.layer.is_trainable else ", frozen")
        for n in (node, owner)
    )
    if needs != has:
        is_turned = node.layer.get("transpose")
        what = "transposed weight" if is_turned else "weights"
        advice = "Make them equal"
        if is_turned:
            advice += ": unit has to be its rows, the width of the input its columns"
        raise SharedWeightsError(
            f"layer {node.name!r} cannot share the {what} of {owner.name!r}: it needs "
            f"{needs}; that layer has {has}. {advice}",
            layer=node.name,
            shared_from=owner.name,
        )
