"""The best layout that is known while engines search."""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.allocation.integers import Integers


@dataclass(slots=True)
class Incumbent:
    """The best layout and the best proved lower bound so far; readable at any time.

    Attributes
    ----------
    offset : int64 array, shape (number of bodies,)
    height_bytes : int
    lower_bound_bytes : int
    engine : str
        Name of the engine that found the layout.
    proof : str
        Kind of the proof of the bound.
    """

    offset: Integers
    height_bytes: int
    lower_bound_bytes: int
    engine: str
    proof: str

    @property
    def is_optimal(self) -> bool:
        """Whether the height equals the lower bound."""
        return self.height_bytes <= self.lower_bound_bytes

    def offer(self, offset: Integers, height_bytes: int, engine: str) -> None:
        """Keep a layout if it is lower than the best one."""
        if height_bytes < self.height_bytes:
            # In this order, so that an interrupt between them leaves a whole layout.
            self.offset, self.height_bytes, self.engine = offset, height_bytes, engine

    def rule_out(self, capacity_bytes: int, unit_bytes: int) -> None:
        """Raise the lower bound: nothing fits, and heights are whole units."""
        least = (capacity_bytes // unit_bytes + 1) * unit_bytes
        if least > self.lower_bound_bytes:
            self.lower_bound_bytes, self.proof = least, "exhausted"

    def __str__(self) -> str:
        return f"best {self.height_bytes:,} B, at least {self.lower_bound_bytes:,} B"
