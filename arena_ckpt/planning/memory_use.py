"""The memories that a plan places buffers in, and which tensors may be constants.

A plan has one RAM, the arena, or the RAMs that were asked for, the fastest first. What
no step of an iteration writes lies in a read-only memory beside them, `CONSTANTS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arena_ckpt.common.short_repr import brief_repr
from arena_ckpt.planning.tensors import Access, Execution, LiveRange, TensorKind


@dataclass(frozen=True, slots=True)
class PlannedRam:
    """A RAM that was asked for: its name, and its size in bytes."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What a plan takes of one memory.

    Attributes
    ----------
    name : str
        ``"arena"``, ``"constants"``, or the name of a RAM that was asked for.
    height_bytes : int
        Bytes from its start to the end of the highest buffer in it.
    size_bytes : int or None
        Bytes that it has; None where the plan has no limit for it.
    is_constant : bool
        Nothing writes there: it may be flash.
    touched_bytes : int
        Bytes that one iteration reads and writes there: those of each operand of each
        step, twice where a step updates it.
    """

    name: str
    height_bytes: int
    size_bytes: int | None
    is_constant: bool
    touched_bytes: int

    __repr__ = brief_repr


def constant_tensors(
    tensors: Sequence[LiveRange], executions: Iterable[Execution]
) -> frozenset[int]:
    """Return which tensors no step writes: weights that are frozen, as indices."""
    written = {
        operand.tensor
        for execution in executions
        for operand in execution.operands
        if operand.access is not Access.READ
    }
    return frozenset(
        index
        for index, tensor in enumerate(tensors)
        if tensor.kind is TensorKind.WEIGHT and index not in written
    )


def touched_bytes(
    tensors: Sequence[LiveRange],
    executions: Iterable[Execution],
    *,
    n_pass: int,
    n_passes: int,
) -> list[int]:
    """Return the bytes that an iteration reads and writes of each tensor.

    Parameters
    ----------
    tensors : sequence of LiveRange
    executions : iterable of Execution
    n_pass : int
        Number of steps that each pass runs; later ones run once.
    n_passes : int
        Number of passes of an iteration.
    """
    times = [0] * len(tensors)
    for execution in executions:
        times_run = n_passes if execution.step < n_pass else 1
        for operand in execution.operands:
            both = 2 if operand.access is Access.UPDATE else 1
            times[operand.tensor] += both * times_run
    return [n * tensor.size_bytes for n, tensor in zip(times, tensors, strict=True)]
