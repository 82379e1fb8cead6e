"""Reruns that make missing tensors, each of them once and as late as possible."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from arena_ckpt.graph.nodes import Node
from arena_ckpt.planning.recompute import (
    Rerun,
    backward_reads,
    forward_reads,
    remakable,
)


class Makers:
    """The layers of a stretch that can make tensors again.

    Parameters
    ----------
    nodes : sequence of Node
        In forward order.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = tuple(nodes)
        self._place = {node.name: place for place, node in enumerate(nodes)}
        self._maker = {tensor: node for node in nodes for tensor in remakable(node)}
        self._reads = {node.name: tuple(forward_reads(node)) for node in nodes}
        self._backward_reads = {node.name: backward_reads(node) for node in nodes}

    def made(self) -> tuple[str, ...]:
        """Return all tensors that the layers can make again, in forward order."""
        return tuple(self._maker)

    def missing(self, wanted: Iterable[str], available: Collection[str]) -> set[str]:
        """Return the tensors that must be made to have some, these included.

        A tensor that no layer here can make is assumed to be available.
        """
        found: set[str] = set()
        stack = list(wanted)
        while stack:
            tensor = stack.pop()
            if tensor in found or tensor in available or tensor not in self._maker:
                continue
            found.add(tensor)
            stack += self._reads[self._maker[tensor].name]
        return found

    def make(self, tensors: Collection[str], before: str) -> list[Rerun]:
        """Return the reruns that make some tensors, in forward order."""
        wanted: dict[str, list[str]] = {}
        for tensor in tensors:
            wanted.setdefault(self._maker[tensor].name, []).append(tensor)
        return [
            Rerun(before, layer, tuple(sorted(wanted[layer])))
            for layer in sorted(wanted, key=self._place.__getitem__)
        ]

    def for_backward(self, available: Collection[str]) -> list[Rerun]:
        """Return the reruns that the backward pass of all layers needs.

        Parameters
        ----------
        available : collection of str
            Tensors that are there; all others are made once, just before the first
            layer whose backward pass reads them, or what is made of them.
        """
        reads = self._backward_reads
        needed = self.missing(
            (tensor for node in self.nodes for tensor in reads[node.name]), available
        )
        there = set(available)
        reruns: list[Rerun] = []
        for node in reversed(self.nodes):
            missing = self.missing(reads[node.name], there)
            if missing:
                layers = {self._maker[tensor].name for tensor in missing}
                # A layer makes what others need as well in the same run.
                made = {t for t in needed - there if self._maker[t].name in layers}
                reruns += self.make(made, node.name)
                there |= made
        return reruns
