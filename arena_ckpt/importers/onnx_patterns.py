"""Joins operations that exporters write one layer as.

Before opset 20 a GELU is ``x (1 + erf(x / √2)) / 2`` in five operations, and there is
no layer for an error function by itself. A linear layer over sequences is a product and
a sum.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from arena_ckpt.importers.onnx_graph import Array, OnnxGraph, OnnxNode

LINEAR = "arena_ckpt.Linear"
"""What a product of matrices and the sum with a bias are called as one."""


def joined_patterns(graph: OnnxGraph) -> OnnxGraph:
    """Return a graph in which each GELU and each linear layer is one operation."""
    maker = {name: node for node in graph.nodes for name in node.outputs}
    readers: dict[str, list[OnnxNode]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    numbers = _numbers(graph)
    gone: set[int] = set()
    new: dict[int, OnnxNode] = {}
    n_reads = Counter(name for node in graph.nodes for name in node.inputs)
    n_reads.update(graph.outputs)
    for node in graph.nodes:
        found = _gelu(node, maker, readers, numbers, n_reads)
        if found is not None:
            x, last, parts = found
            gone.update(part.position for part in parts)
            new[last.position] = OnnxNode(
                "Gelu", node.name, (x,), last.outputs, {}, last.position
            )
        after = _biased(node, graph, readers, n_reads)
        if after is not None:
            last, bias = after
            gone.update((node.position, last.position))
            new[last.position] = OnnxNode(
                LINEAR,
                node.name,
                (*node.inputs, bias),
                last.outputs,
                {},
                last.position,
            )
    nodes = tuple(
        new.get(node.position, node)
        for node in graph.nodes
        if node.position in new or node.position not in gone
    )
    return replace(graph, nodes=nodes)


def _biased(
    product: OnnxNode,
    graph: OnnxGraph,
    readers: Mapping[str, list[OnnxNode]],
    n_reads: Mapping[str, int],
) -> tuple[OnnxNode, str] | None:
    """Return the sum that alone reads a product, and the vector that it adds."""
    if product.op != "MatMul":
        return None
    after = _only_reader(product, readers, n_reads)
    if after is None or after.op != "Add":
        return None
    for name in after.inputs:
        vector = graph.initializers.get(name)
        if vector is not None and vector.ndim == 1 and vector.size > 1:
            return after, name
    return None


def _numbers(graph: OnnxGraph) -> dict[str, float]:
    found = {}
    arrays: dict[str, Array] = dict(graph.initializers)
    for node in graph.nodes:
        if node.op == "Constant" and "value" in node.attributes:
            arrays[node.outputs[0]] = np.asarray(node.attributes["value"])
    for name, array in arrays.items():
        if array.size == 1 and array.dtype.kind == "f":
            found[name] = float(array.ravel()[0])
    return found


def _gelu(
    erf: OnnxNode,
    maker: Mapping[str, OnnxNode],
    readers: Mapping[str, list[OnnxNode]],
    numbers: Mapping[str, float],
    n_reads: Mapping[str, int],
) -> tuple[str, OnnxNode, list[OnnxNode]] | None:
    """Return what a GELU reads, its last operation, and those before; None if none."""
    if erf.op != "Erf":
        return None
    scaled = maker.get(erf.inputs[0])
    if scaled is None:
        return None
    x = _other(scaled, "Div", numbers, math.sqrt(2)) or _other(
        scaled, "Mul", numbers, math.sqrt(0.5)
    )
    above = _only_reader(erf, readers, n_reads)
    if x is None or above is None or _other(above, "Add", numbers, 1.0) is None:
        return None
    parts = [erf, above]
    left = {"x", "half"}
    last = above
    while left:
        after = _only_reader(last, readers, n_reads)
        if after is None or after.op != "Mul":
            return None
        own = last.outputs[0]
        others = [name for name in after.inputs if name != own]
        if len(others) != 1:
            return None
        other = others[0]
        half = maker.get(other)
        if other == x and "x" in left:
            left.remove("x")
        elif _is(numbers, other, 0.5) and "half" in left:
            left.remove("half")
        elif (
            half is not None
            and _other(half, "Mul", numbers, 0.5) == x
            and len(left) == 2
        ):
            left.clear()
            parts += [half] if n_reads[other] == 1 else []
        else:
            return None
        parts.append(after)
        last = after
    if n_reads[scaled.outputs[0]] == 1:
        parts.append(scaled)
    return x, last, parts


def _only_reader(
    node: OnnxNode, readers: Mapping[str, list[OnnxNode]], n_reads: Mapping[str, int]
) -> OnnxNode | None:
    name = node.outputs[0]
    return readers[name][0] if n_reads[name] == 1 and name in readers else None


def _is(numbers: Mapping[str, float], name: str, number: float) -> bool:
    return name in numbers and math.isclose(numbers[name], number, rel_tol=1e-5)


def _other(
    node: OnnxNode, op: str, numbers: Mapping[str, float], number: float
) -> str | None:
    """Return what an operation combines with a number; None if it does not."""
    if node.op != op or len(node.inputs) != 2:
        return None
    one, other = node.inputs
    if _is(numbers, other, number):
        return one
    if op != "Div" and _is(numbers, one, number):
        return other
    return None
