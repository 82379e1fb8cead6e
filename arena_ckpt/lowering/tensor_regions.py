"""Where the tensors of a plan lie."""

from __future__ import annotations

from arena_ckpt.common.names import CONTROL
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.plan import MemoryPlan


class TensorRegions:
    """The regions of the live ranges of a plan.

    Parameters
    ----------
    plan : MemoryPlan
    """

    def __init__(self, plan: MemoryPlan) -> None:
        self.plan = plan
        self._places = {
            tensor: (buffer.memory, buffer.offset_bytes)
            for buffer in plan.buffers
            for tensor in buffer.tensors
        }
        self._first = {
            tensor.name: index
            for index, tensor in enumerate(plan.tensors)
            if tensor.life == 0
        }

    def place(self, tensor: int) -> tuple[str, int]:
        """Return the memory that a live range lies in, and its offset there."""
        return self._places[tensor]

    def region(self, tensor: int, n_samples: int | None = None) -> Region:
        """Return the region of a live range, or of its first `n_samples` samples."""
        live_range = self.plan.tensors[tensor]
        shape = live_range.shape
        if n_samples is not None and live_range.per_sample:
            shape = (n_samples, *shape[1:])
        return Region(*self.place(tensor), shape, live_range.dtype)

    def named(self, name: str, n_samples: int | None = None) -> Region:
        """Return the region of the first live range of a tensor."""
        return self.region(self._first[name], n_samples)

    def control(self, place: int, length: int = 1) -> Region:
        """Return some of the scalars that change from step to step."""
        return self.named(CONTROL)[place : place + length]
