"""Layers that a plan never runs again, and layers whose results it never keeps.

A user names them by patterns. A *kept* layer has no recompute: what is needed of it
again stays from the forward pass on. A *dropped* layer leaves nothing for the backward
pass: each of its results is free after its last reader of the forward pass, and what is
needed of it again is recomputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from arena_ckpt.common.names import tensor_name
from arena_ckpt.common.wording import few, nearest, quote, quoted
from arena_ckpt.errors import InvalidParameterError, PolicyError, UnknownLayerError
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.planner import reruns_of
from arena_ckpt.planning.recompute import backward_reads, forward_reads, remakable


@dataclass(frozen=True, slots=True)
class Patterns:
    """What a user asked for: patterns of names of layers, as fnmatch reads them.

    Attributes
    ----------
    keep : tuple of str
        Layers that never run again.
    drop : tuple of str
        Layers whose results are never kept for the backward pass.
    """

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keep or self.drop)

    def __str__(self) -> str:
        parts = [("keep", self.keep), ("drop", self.drop)]
        return " and ".join(f"{name} {quote(some)}" for name, some in parts if some)

    def without(self, other: Patterns) -> Patterns:
        """Return the patterns without the kinds that another has."""
        return Patterns(
            () if other.keep else self.keep, () if other.drop else self.drop
        )


def parse_patterns(what: str, given: object) -> tuple[str, ...]:
    """Return the patterns that a user gave: several, one text with commas, or none.

    Raises
    ------
    InvalidParameterError
        Something else than texts.
    """
    if given is None:
        return ()
    try:
        names = given.split(",") if isinstance(given, str) else few(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        names = [None]
    patterns = [n.strip() if isinstance(n, str) else "" for n in names]
    if not all(patterns):
        raise InvalidParameterError(
            f"{what}={quoted(given)} is not possible; give patterns of names of "
            "layers, for example ['*attn*', 'fc1']",
            **{what: given},
        )
    return tuple(dict.fromkeys(patterns))


@dataclass(frozen=True, slots=True)
class Policy:
    """The layers of one graph that are kept or dropped, and their tensors.

    Attributes
    ----------
    keep, drop : frozenset of str
        Layers.
    kept_tensors : frozenset of str
        All results of kept layers that could be made again.
    held_tensors : frozenset of str
        Those of them that the backward pass may need, so that they stay.
    dropped_tensors : frozenset of str
        Results of dropped layers. Statistics of a whole batch are not among them; no
        plan drops these.
    """

    keep: frozenset[str] = frozenset()
    drop: frozenset[str] = frozenset()
    kept_tensors: frozenset[str] = frozenset()
    held_tensors: frozenset[str] = frozenset()
    dropped_tensors: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.keep or self.drop)

    def obeyed_by(self, plan: MemoryPlan) -> bool:
        """Tell whether a plan runs no kept layer again and keeps nothing dropped."""
        if any(run.tensors and run.layer in self.keep for run in reruns_of(plan)):
            return False
        return all(
            live.life or live.stop <= plan.n_forward
            for live in plan.tensors
            if live.name in self.dropped_tensors
        )

    def held_for(self, node: Node) -> set[str]:
        """Return the held tensors that a layer may read once its backward pass nears.

        It does so in its backward steps, and in a recompute.
        """
        read = backward_reads(node)
        if node.name not in self.keep and remakable(node):
            read.update(forward_reads(node))
        return read & self.held_tensors

    def without_holding(self) -> Policy:
        """Return the policy where no recompute schedule runs over a kept layer."""
        return replace(self, kept_tensors=frozenset(), held_tensors=frozenset())


def find_policy(graph: Graph, patterns: Patterns) -> Policy:
    """Return the layers of a graph that patterns name.

    Parameters
    ----------
    graph : Graph
    patterns : Patterns
        Of names as plans list them; the name of an unrolled layer stands for all of its
        parts.

    Raises
    ------
    UnknownLayerError
        A pattern matches no layer that makes a result.
    PolicyError
        A layer is to be both kept and dropped, or an input or a loss is to be dropped.
    """
    keep = _matches(graph, "keep", patterns.keep)
    drop = _matches(graph, "drop", patterns.drop)
    both = [node.name for node in graph.nodes if node.name in keep & drop]
    if both:
        raise PolicyError(
            f"keep {quote(patterns.keep)} and drop {quote(patterns.drop)} both match "
            f"{quote(both)}; a layer either never runs again or never keeps its "
            "results: narrow one of the patterns",
            layers=tuple(both),
        )
    fixed = [n for n in graph.nodes if n.name in drop and not remakable(n)]
    if fixed:
        inputs = [node.name for node in fixed if not node.inputs]
        why = (
            f"no layer makes the samples of {quote(inputs)} again"
            if inputs
            else "a loss adds its terms to the loss of the iteration each time it runs"
        )
        raise PolicyError(
            f"drop {quote(patterns.drop)} matches {quote(n.name for n in fixed)}, "
            f"which cannot run again: {why}; narrow the pattern",
            layers=tuple(node.name for node in fixed),
        )
    return _policy(graph, keep, drop)


def wider(graph: Graph, policy: Policy) -> Policy:
    """Return a policy that keeps what else only makes sense to keep.

    Of a layer that is kept, a result that no backward step reads is held for reruns of
    its readers alone. To keep its readers as well takes fewer bytes in some models.
    """
    read = _read_backward(graph)
    keep = set(policy.keep)
    for node in graph.nodes:
        held_for_it = any(
            source.partition(":")[0] in keep and source not in read
            for source in forward_reads(node)
        )
        if held_for_it and remakable(node) and node.name not in policy.drop:
            keep.add(node.name)
    return _policy(graph, frozenset(keep), policy.drop)


def _policy(graph: Graph, keep: frozenset[str], drop: frozenset[str]) -> Policy:
    needed = _read_backward(graph)
    for node in graph.nodes:
        if node.name not in keep and remakable(node):
            needed.update(forward_reads(node))
    kept = {t for node in graph.nodes if node.name in keep for t in remakable(node)}
    dropped = {
        tensor
        for node in graph.nodes
        if node.name in drop
        for tensor in _droppable(node)
    }
    return Policy(
        keep, drop, frozenset(kept), frozenset(kept & needed), frozenset(dropped)
    )


def _read_backward(graph: Graph) -> set[str]:
    return {tensor for node in graph.nodes for tensor in backward_reads(node)}


def _droppable(node: Node) -> Iterator[str]:
    once = {
        tensor_name(node.name, tensor.name)
        for tensor in node.spec.tensors
        if not tensor.per_sample
    }
    return (tensor for tensor in remakable(node) if tensor not in once)


def _matches(graph: Graph, what: str, patterns: Iterable[str]) -> frozenset[str]:
    """Return the layers that patterns match; each pattern matches one at least."""
    layers = {node.name for node in graph.nodes}
    called: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        whole = node.name.partition("/")[0]
        if not (node.layer.is_alias or node.layer.is_table):  # neither makes anything
            called[node.name] = (node.name, *(() if whole in layers else (whole,)))
    found: set[str] = set()
    for pattern in patterns:
        some = {
            layer
            for layer, names in called.items()
            if any(fnmatchcase(name, pattern) for name in names)
        }
        if not some:
            known = tuple(dict.fromkeys(n for names in called.values() for n in names))
            raise UnknownLayerError(
                f"{what}: no layer that makes a result matches {quoted(pattern)}"
                f"{nearest(pattern.strip('*?'), known)}; the model has {quote(known)}",
                pattern=pattern,
                known=known,
            )
        found |= some
    return frozenset(found)
