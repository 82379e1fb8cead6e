"""Arrays over the arena for the tensors of a plan."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from arena_ckpt.common.names import CONTROL
from arena_ckpt.engine.arena import Arena
from arena_ckpt.lowering.tensor_regions import TensorRegions
from arena_ckpt.planning.plan import MemoryPlan


class TensorViews:
    """The tensors of a plan as arrays in an arena.

    Parameters
    ----------
    plan : MemoryPlan
    arena : Arena
    """

    def __init__(self, plan: MemoryPlan, arena: Arena) -> None:
        self.plan = plan
        self.arena = arena
        self._regions = TensorRegions(plan)

    def offset_bytes(self, tensor: int) -> int:
        """Return where a live range begins in the arena."""
        return self._regions.offset_bytes(tensor)

    def array(self, tensor: int, n_samples: int | None = None) -> npt.NDArray[Any]:
        """Return the view of a live range, or of its first `n_samples` samples."""
        return self.arena.at(self._regions.region(tensor, n_samples))

    def named(self, name: str, n_samples: int | None = None) -> npt.NDArray[Any]:
        """Return the view of the first live range of a tensor."""
        return self.arena.at(self._regions.named(name, n_samples))

    @property
    def control(self) -> npt.NDArray[Any]:
        """The float64 scalars that change from step to step; see `Control`."""
        return self.named(CONTROL)
