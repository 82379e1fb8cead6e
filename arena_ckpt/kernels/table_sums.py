"""Sums over samples: the derivative of what every sample reads."""

from __future__ import annotations

import numpy as np

from arena_ckpt.kernels.kernel import kernel
from arena_ckpt.kernels.lanes import LANES, clear, double_lanes
from arena_ckpt.operations.array_types import Vector


@kernel
def sum_samples(
    x: Vector,
    y: Vector,
    samples: int,
    x_sample: int,
    x_from: int,
    rows: int,
    x_row: int,
    width: int,
) -> None:
    """``y`` = rows of a part of each sample, summed over the samples in float64.

    Row r of sample i begins at x_from + i x_sample + r x_row.
    """
    lanes = double_lanes()
    for r in range(rows):
        for start in range(0, width, LANES):
            count = min(LANES, width - start)
            clear(lanes)
            for i in range(samples):
                at = x_from + i * x_sample + r * x_row + start
                part = x[at : at + count]
                for j in range(count):
                    lanes[j] += np.float64(part[j])
            y_part = y[r * width + start : r * width + start + count]
            for j in range(count):
                y_part[j] = np.float32(lanes[j])
