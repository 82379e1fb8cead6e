"""Offsets for live ranges in one block of memory.

`allocator` is the entry; `buffers` describes what is to be placed and `bodies` what the
engines see of it; `greedy`, `exact` and `disjunctive` are the engines, `bounds` what
none can beat; `validate` checks every layout and shares no code with them.
"""

from __future__ import annotations

from arena_ckpt.allocation.allocator import allocate
from arena_ckpt.allocation.layout import Layout

__all__ = ["Layout", "allocate"]
