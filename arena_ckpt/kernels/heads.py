"""What attention does to given queries, keys and scores: rotary positions, masks.

References
----------
Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, float_lanes, most_of, total
from arena_ckpt.kernels.vector_math import ONE, ZERO, exp
from arena_ckpt.operations.array_types import Vector

_LEAST = np.float32(-3.4028234663852886e38)


@kernel
def rotate(
    x: Vector, turns: Vector, sign: float, y: Vector, t: int, heads: int, width: int
) -> None:
    """Turn the pairs of each head by the angles of their position; y may be x.

    Parameters
    ----------
    x, y : (samples, t, heads, width)
        Element j of the first half of a head and element j of the second are a pair.
    turns : (t, width)
        Of each position the cosines of the angles of its pairs, then their sines.
    sign : 1.0, or -1.0 to turn back
    """
    half, turned = width // 2, np.float32(sign)
    for r in range(x.size // (heads * width)):
        place = (r % t) * width
        cosines = turns[place : place + half]
        sines = turns[place + half : place + width]
        for h in range(heads):
            at = (r * heads + h) * width
            first, second = x[at : at + half], x[at + half : at + width]
            y_first, y_second = y[at : at + half], y[at + half : at + width]
            for j in range(half):
                a, b, sine = first[j], second[j], turned * sines[j]
                y_first[j] = a * cosines[j] - b * sine
                y_second[j] = b * cosines[j] + a * sine


@kernel
def masked_softmax(
    x: Vector,
    mask: Vector,
    y: Vector,
    heads: int,
    t: int,
    s: int,
    mask_sample: int,
    mask_head: int,
    has_mask: int,
    causal: int,
) -> None:
    """Softmax of ``x + mask`` in each row; 0 in rows that are forbidden; y may be x.

    Parameters
    ----------
    x, y : (samples, heads, t, s)
    mask : rows of s elements, t rows one after another
        Of the first sample and head; not read where `has_mask` is 0.
    mask_sample, mask_head
        Elements from one sample to the next, and from one head to the next; 0 where
        they share the mask.
    causal : where not 0, row i has the first i + 1 elements only
    """
    lanes = float_lanes()
    for r in range(x.size // s):
        i = r % t
        n_seen = min(s, i + 1) if causal != 0 else s
        row, source = y[r * s : (r + 1) * s], x[r * s : (r + 1) * s]
        seen = row[:n_seen]
        if has_mask != 0:
            place = r // (heads * t) * mask_sample + r // t % heads * mask_head + i * s
            added = mask[place : place + n_seen]
            for c in range(n_seen):
                seen[c] = source[c] + added[c]
        else:
            for c in range(n_seen):
                seen[c] = source[c]
        most = most_of(seen, lanes)
        if most < _LEAST:
            for c in range(s):
                row[c] = ZERO
            continue
        for c in range(n_seen):
            seen[c] = exp(seen[c] - most)
        clear(lanes)
        for start in range(0, n_seen, LANES):
            part = seen[start : start + LANES]
            for j in range(part.size):
                lanes[j] += part[j]
        inverse = ONE / total(lanes, n_seen)
        for c in range(n_seen):
            seen[c] *= inverse
        for c in range(n_seen, s):
            row[c] = ZERO
