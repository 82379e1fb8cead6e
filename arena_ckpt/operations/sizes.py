"""Sizes that kernels of convolution, pooling and attention agree on with their layers.

They decide how large workspaces are, so they are part of what a plan holds.
"""

from __future__ import annotations

VECTOR_WIDTH = 8
"""Number of float32 elements of a vector."""

TILE_ROWS = 4
"""Number of rows of a tile of a matrix product."""

TILE_VECTORS = 3
"""Number of vectors in a row of a tile."""

DOTS = 9
"""Number of sums that a depthwise kernel makes together: the taps of a 3 × 3 filter."""

MOST_IN_BYTES = 256
"""Maximum number of elements of a pooling window whose places are kept in bytes."""

MARGIN_ZERO, MARGIN_REFLECT, MARGIN_REPLICATE = range(3)
"""What stands in the margins of a padded plane, as kernels take it."""

TOUCHED_COLUMNS = 3
"""Number of columns before the values in a line of a gradient of touched rows."""


def attention_work_elems(
    t: int, s: int, heads: int, dk: int, dv: int, rows: int, columns: int | None
) -> int:
    """Return the elements of the workspace of an attention's backward pass.

    Parameters
    ----------
    t, s : int
        Rows of the queries and of the keys.
    heads, dk, dv : int
        Heads, and the width of one head's keys and values.
    rows : int
        Rows of queries that are handled together.
    columns : int or None
        Keys that are handled together; None for `plain_backward`, which takes all.
    """
    tiles = rows * s if columns is None else 2 * rows * columns
    return t * heads * dv + s * (dk + dv) + rows * (dk + 1) + tiles
