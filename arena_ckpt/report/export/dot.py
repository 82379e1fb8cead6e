"""Exports the graph of layers for Graphviz, with checkpoint blocks as clusters."""

from __future__ import annotations

from collections.abc import Iterator

from arena_ckpt.common.units import format_bytes
from arena_ckpt.planning.plan import MemoryPlan, PlanLayer
from arena_ckpt.report.summary import recomputed_layers


def dot_bytes(plan: MemoryPlan) -> bytes:
    """Return the graph as a digraph in DOT, in UTF-8.

    A node is a layer, with its execution order; an edge carries the shape of one
    sample. Layers that are recomputed are filled.
    """
    return ("\n".join(_lines(plan)) + "\n").encode()


def _lines(plan: MemoryPlan) -> Iterator[str]:
    nodes = {layer.name: f"n{i}" for i, layer in enumerate(plan.layers)}
    layers = {layer.name: layer for layer in plan.layers}
    again = frozenset(recomputed_layers(plan))
    in_blocks = {name for block in plan.blocks for name in block.layers}
    yield "digraph plan {"
    sizes = [f"arena {format_bytes(plan.arena_bytes)}"]
    if plan.constant_bytes:
        sizes.append(f"constants {format_bytes(plan.constant_bytes)}")
    title = f"{', '.join(sizes)}, batch size {plan.batch_size}"
    yield f"  graph [label={_quoted(title)}, labelloc=t, fontname=sans];"
    yield "  node [shape=box, fontname=sans];"
    yield "  edge [fontname=sans, fontsize=10];"
    for i, block in enumerate(plan.blocks):
        yield f"  subgraph cluster_{i} {{"
        yield f"    label={_quoted(f'checkpoint block {block.name}'.rstrip())};"
        yield "    style=rounded;"
        for name in block.layers:
            yield f"    {nodes[name]} {_node(plan, layers[name], name in again)};"
        yield "  }"
    for layer in plan.layers:
        if layer.name not in in_blocks:
            yield f"  {nodes[layer.name]} {_node(plan, layer, layer.name in again)};"
    for layer in plan.layers:
        for source in layer.inputs:
            shape = _shape(layers[source].output_shape)
            edge = f"{nodes[source]} -> {nodes[layer.name]}"
            yield f"  {edge} [label={_quoted(shape)}];"
    yield "}"


def _node(plan: MemoryPlan, layer: PlanLayer, is_recomputed: bool) -> str:
    orders = ", ".join(map(str, plan.execution_order[layer.name]))
    label = _quoted(layer.name, layer.type_name, f"({orders})")
    style = ', style=filled, fillcolor="#fde5bd"' if is_recomputed else ""
    return f"[label={label}{style}]"


def _shape(shape: tuple[int, int, int]) -> str:
    return "×".join(map(str, shape))


def _quoted(*lines: str) -> str:
    r"""Return a quoted label of several lines, in which nothing acts as markup.

    Graphviz reads ``\`` as an escape and ``&lt;`` as a character, in labels too.
    """
    safe = (
        line.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
        for line in lines
    )
    return '"' + "\\n".join(safe) + '"'
