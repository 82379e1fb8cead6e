"""A plan as rectangles of one tensor each, and the phase of each step, for pictures.

Operation in place lets several tensors share a buffer, so a buffer is cut in time where
the tensor changes whose bytes it holds.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.integers import Integers
from arena_ckpt.common.phases import Phase
from arena_ckpt.planning.plan import Buffer, MemoryPlan


class Band(enum.StrEnum):
    """The part of an iteration that a step belongs to, as pictures colour it."""

    FORWARD = "forward"
    RECOMPUTE = "recompute"
    BACKWARD = "backward"
    UPDATE = "update"


BANDS = tuple(Band)


@dataclass(frozen=True, slots=True)
class Segments:
    """Rectangles that do not overlap, in the order of the plan's buffers.

    Attributes
    ----------
    buffer, tensor : int64 array, shape (n,)
        Indexes into the plan's buffers and tensors.
    start, stop : int64 array, shape (n,)
        Steps, half-open.
    """

    buffer: Integers
    tensor: Integers
    start: Integers
    stop: Integers


def cut_segments(plan: MemoryPlan) -> Segments:
    """Return which tensor each buffer holds, and from which step to which.

    Parameters
    ----------
    plan : MemoryPlan

    Returns
    -------
    Segments
        As `MemoryPlan.tensor_in` says for every step of a buffer.

    Notes
    -----
    O(buffers + tensors), but for buffers of k tensors O(k²).
    """
    rows: list[tuple[int, int, int, int]] = []
    for index, buffer in enumerate(plan.buffers):
        if len(buffer.tensors) == 1:
            rows.append((index, buffer.tensors[0], buffer.start, buffer.stop))
        else:
            rows.extend((index, *piece) for piece in _pieces(plan, buffer))
    table = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return Segments(*(np.ascontiguousarray(column) for column in table))


def _pieces(plan: MemoryPlan, buffer: Buffer) -> Iterator[tuple[int, int, int]]:
    """Yield tensor, start and stop of each stretch of a shared buffer."""
    ranges = [plan.tensors[index] for index in buffer.tensors]
    edges = sorted(
        {buffer.start, buffer.stop}
        | {each.start for each in ranges if buffer.start < each.start < buffer.stop}
        | {each.stop for each in ranges if buffer.start < each.stop < buffer.stop}
    )
    index_of = {
        id(each): index for each, index in zip(ranges, buffer.tensors, strict=True)
    }
    tensor, since = None, buffer.start
    for edge in edges[:-1]:
        holder = index_of[id(plan.tensor_in(buffer, edge))]
        if tensor is not None and holder != tensor:
            yield tensor, since, edge
            since = edge
        tensor = holder
    assert tensor is not None
    yield tensor, since, buffer.stop


def step_bands(plan: MemoryPlan) -> npt.NDArray[np.int64]:
    """Return the index in `BANDS` of each step.

    Updates that follow a layer's gradients belong to the backward pass; those that are
    put off to the end of the iteration, and clipping, are a band of their own. A step
    that nobody uses belongs to the band before it.
    """
    bands: list[int] = []
    for index, step in enumerate(plan.steps):
        if index >= plan.n_pass:
            band = Band.UPDATE
        elif step is None:
            band = BANDS[bands[-1]] if bands else Band.FORWARD
        elif step.phase is Phase.FORWARD:
            band = Band.FORWARD
        elif step.phase is Phase.RECOMPUTE:
            band = Band.RECOMPUTE
        else:
            band = Band.BACKWARD
        bands.append(BANDS.index(band))
    return np.array(bands, dtype=np.int64)


def band_runs(plan: MemoryPlan) -> list[tuple[Band, int, int]]:
    """Return the stretches of steps of one band, as band, start and stop."""
    bands = step_bands(plan)
    edges = [0, *(np.flatnonzero(np.diff(bands)) + 1).tolist(), len(bands)]
    return [
        (BANDS[bands[start]], start, stop) for start, stop in itertools.pairwise(edges)
    ]
