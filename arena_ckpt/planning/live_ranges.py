"""Finds the live range of every tensor, and the tensor in each role of every step.

A tensor that is dropped and recomputed has several live ranges. Each step that reads it
uses the current one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from arena_ckpt.common.phases import LIFESPANS
from arena_ckpt.planning.in_place import Groups, share
from arena_ckpt.planning.tensors import Execution, LiveRange, Operand
from arena_ckpt.planning.timeline import Timeline
from arena_ckpt.planning.touches import Begun, Touch, Touches

_NONE_REMADE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Uses:
    """The live ranges that `find_uses` finds, and the executions that use them.

    Attributes
    ----------
    tensors : tuple of LiveRange
    executions : tuple of Execution
        The steps at which kernels run, in order of time.
    """

    tensors: tuple[LiveRange, ...]
    executions: tuple[Execution, ...]


def find_uses(touches: Touches, timeline: Timeline) -> Uses:
    """Find the tensor in every role of every step; see `analyze`.

    Notes
    -----
    O(uses).
    """
    walk = _Walk(touches, timeline)
    for tensor in touches.persistent():
        walk.begin(tensor, is_persistent=True)
    for tensor in touches.labels():
        walk.begin(tensor)
    walk.run()
    walk.keep_predictions()
    return walk.closed()


def find_uses_of_stretch(
    touches: Touches,
    timeline: Timeline,
    *,
    begin: Iterable[LiveRange],
    end: Collection[str],
) -> Uses:
    """Find the tensor in every role of some steps, as if there were no others.

    Parameters
    ----------
    touches : Touches
        What the steps of the whole model touch.
    timeline : Timeline
        The steps to look at alone.
    begin : iterable of LiveRange
        Tensors whose bytes are there when the steps begin, weights included.
    end : collection of str
        Tensors that are read after the last step: they are live one step longer.
    """
    walk = _Walk(touches, timeline)
    for life in begin:
        walk.begin(_given(life))
    walk.run()
    for name in end:
        walk.keep_beyond(name)
    return walk.closed()


class _Walk:
    """Walks the timeline once and finds the tensor in every role of each execution.

    Attributes
    ----------
    begun : list of Begun
        The tensor of each live range; the lists behind it are as long.
    lives : list of int
        Number of each live range among those of its tensor.
    starts : list of int or None
        First step of each; None as long as nobody has used it.
    stops : list of int
        The step behind the last use.
    flags : list of int
        Value of the lifespan.
    """

    def __init__(self, touches: Touches, timeline: Timeline) -> None:
        self.touches = touches
        self.timeline = timeline
        self.begun: list[Begun] = []
        self.lives: list[int] = []
        self.starts: list[int | None] = []
        self.stops: list[int] = []
        self.flags: list[int] = []
        self.executions: list[Execution] = []
        self.current: dict[str, int] = {}
        self._n_persistent = 0

    def begin(self, tensor: Begun, *, is_persistent: bool = False) -> None:
        """Begin a live range of a tensor."""
        before = self.current.get(tensor.name)
        self.current[tensor.name] = len(self.begun)
        self.begun.append(tensor)
        self.lives.append(0 if before is None else self.lives[before] + 1)
        self.starts.append(0 if tensor.is_given or is_persistent else None)
        self.stops.append(0)
        self.flags.append(0)
        self._n_persistent += is_persistent

    def keep_beyond(self, name: str) -> None:
        """Extend the current live range of a tensor beyond the last step."""
        self.stops[self.current[name]] = len(self.timeline.steps) + 1

    def keep_predictions(self) -> None:
        """Extend the live range of what the model predicts to the last forward step."""
        for name in self.touches.graph.predictions:
            index = self.current[name]
            self.stops[index] = max(self.stops[index], self.timeline.n_forward)

    def closed(self) -> Uses:
        """Return the live ranges and executions that were found."""
        n_steps = len(self.timeline.steps)
        self.stops[: self._n_persistent] = [n_steps] * self._n_persistent
        tensors = tuple(
            LiveRange(
                name=tensor.name,
                life=life,
                kind=tensor.kind,
                layer=tensor.layer,
                shape=tensor.shape,
                per_sample=tensor.per_sample,
                dtype=tensor.dtype,
                size_bytes=tensor.size_bytes,
                start=start or 0,
                stop=stop or 1,
                lifespan=LIFESPANS[flags],
            )
            for tensor, life, start, stop, flags in zip(
                self.begun,
                self.lives,
                self.starts,
                self.stops,
                self.flags,
                strict=True,
            )
        )
        return Uses(tensors, tuple(self.executions))

    def run(self) -> None:
        """Add an execution for each step at which a layer touches a tensor."""
        for index, step in enumerate(self.timeline.steps):
            if step is None:
                continue
            remade = self.timeline.remade.get(index, _NONE_REMADE)
            touched = self.touches.of(step.phase, step.layer, remade)
            flag = step.phase.lifespan.value
            operands = self._used(index, flag, touched.always)
            for one in touched.sums:
                is_there = one.tensor in self.current
                operands += self._used(
                    index, flag, one.later if is_there else one.first
                )
            if operands:
                self.executions.append(
                    Execution(index, step.phase, step.layer, tuple(operands))
                )

    def _used(self, step: int, flag: int, touches: tuple[Touch, ...]) -> list[Operand]:
        """Note that a step touches tensors; return these as its operands."""
        operands = []
        for role, tensor, access, begins in touches:
            if begins is not None:
                self.begin(begins)
            index = self.current[tensor]
            if self.starts[index] is None:
                self.starts[index] = step
            self.stops[index] = step + 1
            self.flags[index] |= flag
            operands.append(Operand(role, index, access))
        return operands


def _given(life: LiveRange) -> Begun:
    """Return a tensor whose bytes are there before the first step."""
    return Begun(
        name=life.name,
        kind=life.kind,
        layer=life.layer,
        shape=life.shape,
        per_sample=life.per_sample,
        dtype=life.dtype,
        size_bytes=life.size_bytes,
        is_given=True,
    )


@dataclass(frozen=True, slots=True)
class Liveness:
    """The live ranges that `analyze` finds, and which of them share a buffer.

    Attributes
    ----------
    tensors : tuple of LiveRange
    executions : tuple of Execution
        The steps at which kernels run, in order of time.
    groups : tuple of tuple of int
        Tensors that share one buffer.
    """

    tensors: tuple[LiveRange, ...]
    executions: tuple[Execution, ...]
    groups: Groups


def analyze(touches: Touches, timeline: Timeline) -> Liveness:
    """Find the live ranges of all tensors of one training iteration.

    Parameters
    ----------
    touches : Touches
    timeline : Timeline

    Returns
    -------
    Liveness
    """
    uses = find_uses(touches, timeline)
    return Liveness(uses.tensors, uses.executions, group_tensors(touches, uses))


def group_tensors(touches: Touches, uses: Uses) -> Groups:
    """Return the groups of tensors that share their bytes.

    Without operation in place each tensor is a group of its own.
    """
    if touches.settings.shares_in_place:
        return share(touches.graph, uses.tensors, uses.executions)
    return tuple((index,) for index in range(len(uses.tensors)))
