"""Finds writes of a step to anything that it does not declare to write."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import CONTROL
from arena_ckpt.engine.arena import Arena
from arena_ckpt.engine.debug.runner import Moment, Watcher
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.errors import CanaryError
from arena_ckpt.planning.tensors import Execution, Operand, TensorKind

Words = npt.NDArray[np.uint32]

_OWN = (TensorKind.ACTIVATION, TensorKind.RECOMPUTED, TensorKind.WORKSPACE)


def _are_equal(one: Words, other: Words) -> bool:
    """Say whether two arrays are equal; their addresses must agree modulo 8."""
    first = one.ctypes.data // 4 % 2
    last = first + (len(one) - first) // 2 * 2
    middle = slice(first, max(last, first))
    if not np.array_equal(one[middle].view(np.uint64), other[middle].view(np.uint64)):
        return False
    return np.array_equal(one[:first], other[:first]) and np.array_equal(
        one[last:], other[last:]
    )


class StrayWatch(Watcher):
    """Compares the whole arena before and after each step.

    Unlike canaries it finds writes at any distance, and writes to an operand that the
    step only reads. It cannot find a write that changes nothing, so it has to see the
    first run of a step. Each step takes O(arena) time.

    Parameters
    ----------
    views : TensorViews
    """

    def __init__(self, views: TensorViews) -> None:
        self._plan = views.plan
        self._views = views
        self._words = views.arena.span.view(np.uint32)
        self._before = Arena(4 * len(self._words)).bytes.view(np.uint32)
        self._extent = [(0, 0)] * len(self._plan.tensors)
        for buffer in self._plan.buffers:
            for index in buffer.tensors:
                start = views.offset_bytes(index)
                size_bytes = self._plan.tensors[index].size_bytes
                self._extent[index] = start, start + size_bytes
        self._control = next(
            extent
            for tensor, extent in zip(self._plan.tensors, self._extent, strict=True)
            if tensor.name == CONTROL
        )
        # Where debug mode sets canaries, and poisons what has died.
        self._renewed: dict[int, list[tuple[int, int]]] = {}
        for buffer in self._plan.buffers:
            extent = views.extent_of(buffer)
            for step in {buffer.start, buffer.stop}:
                self._renewed.setdefault(step, []).append(extent)
        self._last_step = len(self._plan.steps)
        self.n_steps = 0

    def before(self, moment: Moment) -> None:
        """Copy the arena: all of it where a pass begins, else the renewed parts."""
        if moment.step <= self._last_step or moment.step == self._plan.n_pass:
            np.copyto(self._before, self._words)
        else:
            for step in range(self._last_step + 1, moment.step + 1):
                self._remember(self._renewed.get(step, ()))
        self._last_step = moment.step

    def _remember(self, extents: Iterable[tuple[int, int]]) -> None:
        for start, stop in extents:
            self._before[start // 4 : stop // 4] = self._words[start // 4 : stop // 4]

    def after(self, moment: Moment) -> None:
        """Compare all bytes that are not results of the step.

        Raises
        ------
        CanaryError
        """
        self.n_steps += 1
        execution = moment.execution
        written = [self._control]
        if execution is not None:
            written += [
                self._extent[operand.tensor]
                for operand in execution.operands
                if operand.access.writes or self._is_own(execution, operand)
            ]
        place = 0
        for start, stop in [*sorted(written), (4 * len(self._words),) * 2]:
            if start > place:
                self._compare(moment, place // 4, start // 4)
            place = max(place, stop)
        self._remember(written)

    def _is_own(self, execution: Execution, operand: Operand) -> bool:
        """Say whether a tensor belongs to the layer, which may change it at will.

        Some layers turn what they have saved into what their derivative needs.
        """
        tensor = self._plan.tensors[operand.tensor]
        is_own = tensor.layer == execution.layer and tensor.kind in _OWN
        return is_own and not operand.is_output

    def _compare(self, moment: Moment, start: int, stop: int) -> None:
        now, before = self._words[start:stop], self._before[start:stop]
        if _are_equal(now, before):
            return
        changed = np.flatnonzero(now != before)
        byte = 4 * (start + int(changed[0]))
        name = self._tensor_at(byte, moment.step)
        raise CanaryError(
            f"{moment.doer} wrote {4 * len(changed):,} bytes into "
            f"{self._describe(name, byte, moment)}, which it does not declare (the "
            f"first is {self._views.describe_byte(byte)}); this is a defect of that "
            "layer's kernels. Weights are as before the iteration",
            step=moment.step,
            tensor=name,
        )

    def _describe(self, name: str | None, byte: int, moment: Moment) -> str:
        if name is None:
            return f"bytes where nothing lives{self._nearest(byte, moment.step)}"
        operands = moment.execution.operands if moment.execution else ()
        roles = [o.role for o in operands if self._plan.tensors[o.tensor].name == name]
        return f"{name}, its operand {roles[0]}" if roles else name

    def _nearest(self, byte: int, step: int) -> str:
        """Return a text that names the live tensor nearest to a byte."""
        alive = [b for b in self._plan.buffers if b.start <= step < b.stop]
        if not alive:
            return ""
        gaps = {
            index: max(start - byte, byte - start - b.size_bytes)
            for index, b in enumerate(alive)
            for start in [self._views.start_of(b)]
        }
        nearest = alive[min(gaps, key=lambda index: (gaps[index], index))]
        name, start = (
            self._plan.tensor_in(nearest, step).name,
            self._views.start_of(nearest),
        )
        if byte < start:
            return f", {start - byte} before {name}"
        return f", {byte - start - nearest.size_bytes} behind {name}"

    def _tensor_at(self, byte: int, step: int) -> str | None:
        """Return the live tensor whose buffer, canary included, holds a byte."""
        for buffer in self._plan.buffers:
            start, stop = self._views.extent_of(buffer)
            if buffer.start <= step < buffer.stop and start <= byte < stop:
                return self._plan.tensor_in(buffer, step).name
        return None
