"""Grouped-query heads: each head of key and value is for several heads of the query.

References
----------
Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from
Multi-Head Checkpoints", 2023.
"""

from __future__ import annotations

from arena_ckpt.common.properties import POSITIVE_INT, Property
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.operations.families import arithmetic

FourSizes = tuple[int, int, int, int]
"""Rows of all samples, groups, heads that share one, and width of a head."""

NUM_HEADS_KV = Property(
    "num_heads_kv",
    POSITIVE_INT,
    None,
    "heads of key and value, each for as many heads of the query; num_heads where "
    "absent",
)


def groups_of(layer: Layer) -> int:
    """Return the number of heads of key and value.

    Raises
    ------
    ShapeMismatchError
        It does not divide the number of heads of the query.
    """
    n_heads = int(layer["num_heads"])
    groups = int(layer["num_heads_kv"] or n_heads)
    if n_heads % groups:
        raise layer.mismatch(
            f"has {n_heads} heads and num_heads_kv={groups}; each head of key and "
            "value is for equally many of the query, so make it a divisor",
            num_heads=n_heads,
            num_heads_kv=groups,
        )
    return groups


def repeated_heads(
    tensors: Binding, source: str, target: str, sizes: FourSizes
) -> Call:
    """Return the call that gives each head of the query a copy of the head it reads.

    Parameters
    ----------
    tensors : Binding
    source, target : str
        Roles, shapes (rows, groups · width) and (rows, groups · shared · width).
    sizes : FourSizes
    """
    x, y = tensors.vector(source), tensors.vector(target)
    return Call(arithmetic.repeat, (x, 1.0, y, *sizes, *_steps(sizes)))


def summed_heads(tensors: Binding, source: str, target: str, sizes: FourSizes) -> Call:
    """Return the call that sums over the heads that share one: derivatives of copies.

    Parameters
    ----------
    tensors, sizes
        As in `repeated_heads`.
    source, target : str
        Roles, shapes (rows, groups · shared · width) and (rows, groups · width).
    """
    x, y = tensors.vector(source), tensors.vector(target)
    return Call(arithmetic.sum_plain, (x, 1.0, y, *sizes, *_steps(sizes)))


def _steps(sizes: FourSizes) -> FourSizes:
    """Return how far the smaller tensor moves along each axis of the larger one."""
    _, groups, _, width = sizes
    return groups * width, width, 0, 1
