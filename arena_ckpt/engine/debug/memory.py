"""Guards what lives in the arena, and poisons what is dead.

Canaries stand behind each buffer and before the first; they are looked at after every
step. A buffer that dies is filled with NaN.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from arena_ckpt.engine.debug.runner import Moment, Watcher
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.errors import CanaryError
from arena_ckpt.planning.plan import Buffer


class MemoryGuard(Watcher):
    """Lets no stray write and no stale byte pass unseen.

    Parameters
    ----------
    views : TensorViews
        Of a plan with canaries; weights are already in place.
    """

    def __init__(self, views: TensorViews) -> None:
        self._plan = views.plan
        self._views = views
        self._arena = views.arena
        self._n_steps = len(self._plan.steps)
        self._starting: Mapping[int, list[Buffer]] = defaultdict(list)
        self._ending: Mapping[int, list[Buffer]] = defaultdict(list)
        lasting = []
        for buffer in self._plan.buffers:
            if buffer.is_constant:  # set once: it may be read-only later
                self._guard(buffer)
                continue
            self._starting[buffer.start].append(buffer)
            if (buffer.start, buffer.stop) == (0, self._n_steps):
                lasting.append(buffer)
            else:
                self._poison(buffer)
                if buffer.stop < self._n_steps:  # what lives to the end is kept
                    self._ending[buffer.stop].append(buffer)
        for buffer in lasting:
            self._guard(buffer)
        self._arena.guard_front()
        self._starts = np.array([buffer.start for buffer in self._plan.buffers])
        self._stops = np.array([buffer.stop for buffer in self._plan.buffers])
        canaries = [self._canary_of(buffer) for buffer in self._plan.buffers]
        self._sizes = np.array([size_bytes for _, size_bytes in canaries])
        self._places = np.concatenate(
            [np.arange(start, start + size_bytes) for start, size_bytes in canaries]
        )

    def before(self, moment: Moment) -> None:
        """Set the canaries of what begins to live."""
        if moment.step == self._plan.n_forward:
            self._poison_dead(moment.step)  # the prediction could still be read
        for buffer in self._starting.get(moment.step, ()):
            self._guard(buffer)

    def after(self, moment: Moment) -> None:
        """Look at all canaries.

        Raises
        ------
        CanaryError
            A kernel wrote past the end of a buffer, or before its start.
        """
        if not self._arena.is_front_intact():
            first = min(
                self._plan.buffers, key=lambda b: (self._views.start_of(b), b.start)
            )
            raise CanaryError(
                f"{moment.doer} wrote before the start of the arena, where "
                f"{first.tensor} begins; {_ADVICE}",
                step=moment.step,
                tensor=first.tensor,
            )
        if self._are_all_intact(moment.step):
            return
        for buffer in self._plan.buffers:
            if not buffer.start <= moment.step < buffer.stop:
                continue
            if not self._arena.is_guard_intact(*self._canary_of(buffer)):
                name = self._name_in(buffer, moment)
                raise CanaryError(
                    f"{moment.doer} wrote past the end of {name} "
                    f"({buffer.size_bytes} bytes at {buffer.offset_bytes})"
                    f"{self._neighbour(buffer, moment)}; {_ADVICE}",
                    step=moment.step,
                    tensor=buffer.tensor,
                )

    def _are_all_intact(self, step: int) -> bool:
        """Look at the canaries of all that lives, at once."""
        is_alive = (self._starts <= step) & (step < self._stops)
        places = self._places[np.repeat(is_alive, self._sizes)]
        return self._arena.are_guards_intact(places)

    def leave(self, moment: Moment) -> None:
        """Poison what has died."""
        if moment.step + 1 != self._plan.n_forward:
            self._poison_dead(moment.step + 1)

    def _canary_of(self, buffer: Buffer) -> tuple[int, int]:
        """Return where the canary begins, and its bytes: all up to what comes next."""
        start, stop = self._views.extent_of(buffer)
        end = start + buffer.size_bytes
        return end, stop - end

    def _guard(self, buffer: Buffer) -> None:
        self._arena.guard(*self._canary_of(buffer))

    def _name_in(self, buffer: Buffer, moment: Moment) -> str:
        """Name what the step touches in a buffer, else the tensor that it is for."""
        operands = moment.execution.operands if moment.execution else ()
        touched = [o.tensor for o in operands if o.tensor in buffer.tensors]
        return self._plan.tensors[touched[-1]].name if touched else buffer.tensor

    def _neighbour(self, buffer: Buffer, moment: Moment) -> str:
        _, stop = self._views.extent_of(buffer)
        for other in self._plan.buffers:
            is_next = self._views.start_of(other) == stop
            if is_next and other.start <= moment.step < other.stop:
                return f" or before the start of {self._name_in(other, moment)}"
        return ""

    def _poison_dead(self, step: int) -> None:
        for buffer in self._ending.get(step, ()):
            self._poison(buffer)

    def _poison(self, buffer: Buffer) -> None:
        dtype = self._plan.tensors[buffer.tensors[0]].dtype
        self._arena.poison(self._views.start_of(buffer), buffer.size_bytes, dtype)


_ADVICE = (
    "this is a defect of that layer's kernels, please report it. Weights are as before "
    "the iteration"
)
