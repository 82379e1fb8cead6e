"""Which foreign bytes a step has read: found by halves, and described."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arena_ckpt.common.dtypes import item_bytes
from arena_ckpt.common.names import CONTROL
from arena_ckpt.engine.arena import CANARY_BYTES
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.planning.plan import Buffer
from arena_ckpt.planning.tensors import CONTROL_DTYPE, Control, Execution

Extent = tuple[int, int]
"""The first of some bytes, and the one behind the last."""

_MOST_NAMED = 3
"""Maximum number of tensors that a message names as having stood at a place before."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """What a step has read.

    Attributes
    ----------
    text : str
    tensor : str or None
        Whose bytes they are, or were.
    byte : int or None
        The first of them in the arena.
    """

    text: str
    tensor: str | None
    byte: int | None


def parts_outside(whole: Extent, taken: Sequence[Extent]) -> list[Extent]:
    """Return what is left of a range without some others."""
    left = []
    place = whole[0]
    for start, stop in sorted(taken):
        if start > place:
            left.append((place, start))
        place = max(place, stop)
    if place < whole[1]:
        left.append((place, whole[1]))
    return left


def narrow(
    extents: Sequence[Extent], differs: Callable[[Sequence[Extent]], bool], unit: int
) -> Extent | None:
    """Return the smallest range found that makes a difference, by halves.

    Parameters
    ----------
    extents : sequence of Extent
        Apart, in order.
    differs : callable
        Tells whether changing such ranges changes a result.
    unit : int
        Ranges of this length are not halved.

    Returns
    -------
    Extent or None
        None where changing all makes no difference. Where only several parts together
        make one, the range around them.

    Notes
    -----
    Asks O(log n) times for n units.
    """
    if not extents or not differs(extents):
        return None
    while sum(stop - start for start, stop in extents) > unit:
        halves = _halves(extents, unit)
        found = next((half for half in halves if differs(half)), None)
        if found is None:
            break
        extents = found
    return extents[0][0], extents[-1][1]


def _halves(extents: Sequence[Extent], unit: int) -> tuple[list[Extent], list[Extent]]:
    n_units = sum(-(-(stop - start) // unit) for start, stop in extents)
    left = n_units // 2
    first: list[Extent] = []
    second: list[Extent] = []
    for start, stop in extents:
        middle = min(start + left * unit, stop)
        if middle > start:
            first.append((start, middle))
        if stop > middle:
            second.append((middle, stop))
        left -= -(-(middle - start) // unit)
    return first, second


def describe_culprit(
    views: TensorViews, execution: Execution, n_samples: int, byte: int
) -> Culprit:
    """Say what stands at a byte of the arena, seen from a step that has read it."""
    plan = views.plan
    for operand in reversed(execution.operands):  # results stand last
        tensor = plan.tensors[operand.tensor]
        whole = views.array(operand.tensor)
        elem, rest = divmod(byte - views.offset_bytes(operand.tensor), whole.itemsize)
        if rest or not 0 <= elem < whole.size:
            continue
        n_taken = views.array(operand.tensor, n_samples).size
        if elem >= n_taken:
            row = elem * len(whole) // whole.size
            text = f"row {row} of {tensor.name}, behind the {n_samples} samples"
        else:
            text = (
                f"what {tensor.name} ({operand.role}) held before the step, which only "
                f"writes it, at element {elem} of {n_taken}"
                f"{_before(views, byte, tensor.start)}"
            )
        return Culprit(text, tensor.name, byte)
    control = next(i for i, t in enumerate(plan.tensors) if t.name == CONTROL)
    place = (byte - views.offset_bytes(control)) // item_bytes(CONTROL_DTYPE)
    if 0 <= place < plan.tensors[control].shape[0]:
        return Culprit(f"{_name_of_scalar(place)} of {CONTROL}", CONTROL, byte)
    where = _nearest(views, execution, byte)
    there = _buffers_at(views, byte, execution.step)
    name = plan.tensor_in(there[0], execution.step).name if there else None
    if there and execution.step < there[0].stop:
        return Culprit(f"{where}, where {name} stands", name, byte)
    return Culprit(f"{where}{_before(views, byte, execution.step)}", name, byte)


def _before(views: TensorViews, byte: int, step: int) -> str:
    """Say what stood at a byte before a step; the last first."""
    there = _buffers_at(views, byte, step - 1)[:_MOST_NAMED]
    names = [views.plan.tensor_in(buffer, buffer.stop - 1).name for buffer in there]
    return f", where {', '.join(dict.fromkeys(names))} stood before" if names else ""


def _name_of_scalar(place: int) -> str:
    if place >= Control.LENGTH:
        return f"scalar {place - Control.LENGTH} of the losses"
    if place >= Control.HYPER:
        return f"hyperparameter {place - Control.HYPER}"
    names = {int(one): one.name.lower() for one in Control}
    return names.get(place, f"element {place}")


def _buffers_at(views: TensorViews, byte: int, step: int) -> list[Buffer]:
    """Return the buffers that took a byte up to a step, the last to live first."""
    found = [
        buffer
        for buffer in views.plan.buffers
        if buffer.start <= step
        and 0 <= byte - views.start_of(buffer) < buffer.size_bytes
    ]
    return sorted(found, key=lambda buffer: (-buffer.stop, buffer.tensors))


def constant_at(views: TensorViews, byte: int) -> str | None:
    """Return the constant whose bytes, canary included, hold a byte of the arena."""
    for buffer in views.plan.buffers:
        start, stop = views.extent_of(buffer)
        if buffer.is_constant and start <= byte < stop:
            return buffer.tensor
    return None


def _nearest(views: TensorViews, execution: Execution, byte: int) -> str:
    """Say which operand a byte is nearest to."""
    gaps = []
    for operand in execution.operands:
        start = views.offset_bytes(operand.tensor)
        stop = start + views.array(operand.tensor).nbytes
        name = views.plan.tensors[operand.tensor].name
        if byte < start:
            gaps.append((start - byte, f"{start - byte} bytes before {name}"))
        else:
            gaps.append((byte - stop, f"{byte - stop} bytes behind {name}"))
    where = min(gaps)[1] if gaps else views.describe_byte(byte)
    if not -CANARY_BYTES <= byte < len(views.arena.span):
        return f"{where}, outside the arena"
    return where
