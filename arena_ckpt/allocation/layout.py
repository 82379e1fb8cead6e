"""The result of an allocation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from arena_ckpt.allocation.integers import Integers
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.units import format_bytes


@public_call
@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """An offset in bytes for every buffer, with the height and its lower bound.

    Attributes
    ----------
    offset : int64 array, shape (n,)
        Bytes from the start of the arena or, with pools, of the buffer's pool.
    height_bytes : int
        The largest end of a buffer: what the arena must hold. With pools, the sum of
        their heights.
    lower_bound_bytes : int
        No layout of these buffers is lower.
    engine : str
        The placement and the order that found it, ``"lowest-first:TWA"`` or
        ``"exact:ATW"``.
    pool : int64 array, shape (n,), or None
        The pool of each buffer, where there are pools.
    pool_heights_bytes : tuple of int
        What each pool must hold; one number without pools.
    pool_names : tuple of str
        The names of the pools, if they have names.
    stats : dict
        ``nodes`` looked at, ``seconds``, ``proof`` of the lower bound (``"live
        bytes"``, ``"largest buffer"``, ``"fixed offset"`` or ``"exhausted"``), and
        whether the search was ``interrupted``. With pools also ``spilled_buffers`` and
        ``spilled_byte_steps`` (size × live range of what is not in the first), and
        whether it is proved that no layout spills less, ``spill_proved_least``. With
        weights for the spill also ``spilled_weight``, the sum of the weights of what is
        not in the first pool; it is these that are then proved least.
    """

    offset: Integers
    height_bytes: int
    lower_bound_bytes: int
    engine: str
    pool: Integers | None = None
    pool_heights_bytes: tuple[int, ...] = ()
    pool_names: tuple[str, ...] = ()
    stats: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        proved = "proved optimal" if self.proved_optimal else ""
        n_pools = len(self.pool_heights_bytes)
        return short_repr(
            self,
            "",
            counted(len(self.offset), "buffer"),
            f"height {format_bytes(self.height_bytes)}",
            proved or f"lower bound {format_bytes(self.lower_bound_bytes)}",
            counted(n_pools, "pool") if n_pools > 1 else "",
            f"by {self.engine}",
        )

    @property
    def proved_optimal(self) -> bool:
        """Whether the height equals the lower bound."""
        return self.height_bytes == self.lower_bound_bytes
