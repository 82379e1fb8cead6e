"""Finds what a captured module changes in place and no graph of layers can follow.

An operation in place is the same as one that makes a new tensor, as long as nothing
reads the bytes that it changed by another name later. PyTorch's schemas say which
operations write, and which results share the bytes of an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from arena_ckpt.importers.foreign_graph import (
    ForeignInput,
    ForeignNode,
    ForeignTable,
    Ref,
    mentioned,
)
from arena_ckpt.importers.import_gaps import Gap

_COUNTER = "num_batches_tracked"
"""What batch normalization counts, and nothing reads while `momentum` is given."""


def gaps_of_writes(
    nodes: Sequence[ForeignNode],
    schemas: Mapping[str, Any],
    inputs: Sequence[ForeignInput],
    tables: Mapping[str, ForeignTable],
    outputs: tuple[Any, ...],
) -> tuple[Gap, ...]:
    """Return the writes of a graph that other names would have to see.

    Parameters
    ----------
    nodes : sequence of ForeignNode
        All that the graph has, those that reach no output too.
    schemas : mapping
        PyTorch's schema of each node by its name; None where there is none.
    inputs, tables
        Of the graph.
    outputs : tuple
        What the graph returns.
    """
    names = [*(one.name for one in inputs), *tables]
    root = {name: name for name in names}
    source: dict[str, str] = {}
    read_at: dict[str, list[int]] = {}
    writes: list[tuple[int, ForeignNode, str]] = []
    for place, node in enumerate(nodes):
        for name in mentioned(tuple(node.args.values())):
            read_at.setdefault(name, []).append(place)
        schema = schemas.get(node.name)
        shared = None if schema is None else _shared(node, schema)
        root[node.name] = node.name if shared is None else root.get(shared, shared)
        if shared is not None:
            source[node.name] = shared
        written = None if schema is None else _written(node, schema)
        if written is not None:
            writes.append((place, node, written))
    for name in mentioned(outputs):
        read_at.setdefault(name, []).append(len(nodes))
    user_inputs = {one.name for one in inputs}
    gaps = []
    for place, node, written in writes:
        origin = root.get(written, written)
        if origin in user_inputs:
            reason = f"changes the input {origin!r} in place; work on a copy of it"
        elif origin in tables:
            table = tables[origin].name
            if table.endswith(_COUNTER) and node.name not in read_at:
                continue
            reason = f"changes {table!r}, which belongs to the module, in place"
        else:
            others = [
                name
                for name, of in root.items()
                if of == origin and not _comes_from(name, node.name, source)
            ]
            if all(max(read_at.get(name, [0])) <= place for name in others):
                continue
            reason = "changes in place what is read again later by another name"
        gaps.append(Gap(node.variant, reason, node.where))
    return tuple(gaps)


def _shared(node: ForeignNode, schema: Any) -> str | None:
    """Return the argument whose bytes the result of an operation has, or None."""
    if not any(result.alias_info is not None for result in schema.returns):
        return None
    return _first(node, schema, lambda info: info is not None)


def _written(node: ForeignNode, schema: Any) -> str | None:
    """Return the argument that an operation changes, or None."""
    return _first(node, schema, lambda info: info is not None and info.is_write)


def _first(node: ForeignNode, schema: Any, fits: Any) -> str | None:
    for declared in schema.arguments:
        value = node.args.get(declared.name)
        if fits(declared.alias_info) and isinstance(value, Ref):
            return value.name
    return None


def _comes_from(name: str, ancestor: str, source: Mapping[str, str]) -> bool:
    """Return whether a tensor is another one, or was made as a view of it."""
    while name != ancestor:
        if name not in source:
            return False
        name = source[name]
    return True
