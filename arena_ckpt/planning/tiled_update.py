"""Finds weights whose gradient is made and applied in tiles of rows, never whole.

A gradient that is one matrix product (`WeightSpec.gradient_factors`) can be made at the
update, a few rows at a time in a workspace of one tile, and the optimizer applied to
these rows. Plain SGD needs no workspace: the product is accumulated straight into the
weight. For that both factors live until the update.

The product of a part can round differently from the same part of the whole product, so
this is done only on demand. The tiles depend on nothing but the shape of the weight:
the bits are the same in every plan that has them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from arena_ckpt.common.dtypes import FLOAT32, size_bytes

if TYPE_CHECKING:  # a plan that is read needs neither
    from arena_ckpt.graph.build import Graph
    from arena_ckpt.layers.spec import WeightSpec

TILE_BYTES = 64 * 1024
"""Maximum number of bytes of a tile, unless `FEWEST_ROWS` rows take more."""

FEWEST_ROWS = 32
"""Minimum number of rows of a tile.

With fewer a matrix product takes much longer: at 16 rows of 1,024 a sixth of the
iteration was lost, at 32 a fifteenth.
"""


def tiled_weights(graph: Graph) -> dict[str, frozenset[str]]:
    """Return for each layer the names of its weights that are updated in tiles.

    Such a weight is trained, not shared between layers, and larger than a tile.
    """
    users = Counter(node.weights_of for node in graph.nodes)
    return {
        node.name: frozenset(
            weight.name
            for weight in node.spec.trained_weights
            if weight.gradient_factors and tile_rows(weight) < weight.shape[0]
        )
        for node in graph.nodes
        if node.updates and node.weights_of == node.name and users[node.name] == 1
    }


def accumulates(
    weight: WeightSpec, state_names: tuple[str, ...], *, clips_values: bool = False
) -> bool:
    """Tell whether the product is accumulated straight into a weight.

    A decay or a penalty is not: as a factor of the weight, ``1 - rate * decay`` would
    round to 1 where it is small. Nor is a gradient whose values are clipped.
    """
    changed = weight.decay or weight.regularizer_constant or clips_values
    return not (state_names or changed)


def clipped_parts(n_elems: int) -> Iterator[tuple[int, int]]:
    """Yield the half-open ranges of a whole gradient that are clipped one by one.

    The clipped values lie in the workspace of a tile: the gradient stays as it is.
    """
    step = TILE_BYTES // 4
    for start in range(0, n_elems, step):
        yield start, min(start + step, n_elems)


def tile_rows(weight: WeightSpec) -> int:
    """Return the number of rows of a tile of a weight's gradient."""
    rows, row_bytes = weight.shape[0], size_bytes(weight.shape[1:], FLOAT32)
    return min(rows, max(FEWEST_ROWS, TILE_BYTES // row_bytes))


def tiles(weight: WeightSpec) -> Iterator[tuple[int, int]]:
    """Yield the half-open range of rows of each tile."""
    rows, step = weight.shape[0], tile_rows(weight)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
