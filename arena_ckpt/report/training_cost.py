"""What training costs above inference alone: the bytes of two plans of one model."""

from __future__ import annotations

from arena_ckpt.common.units import format_bytes
from arena_ckpt.planning.plan import MemoryPlan


def training_cost(training: MemoryPlan, inference: MemoryPlan) -> dict[str, int]:
    """Return how many bytes of RAM and of constants training takes above inference.

    Constants are fewer, as weights that are trained lie in RAM.
    """
    return {
        "arena_bytes": training.arena_bytes - inference.arena_bytes,
        "constant_bytes": training.constant_bytes - inference.constant_bytes,
    }


def training_cost_sentence(training: MemoryPlan, inference: MemoryPlan) -> str:
    """Return a sentence that says what training costs above inference."""
    above = training.arena_bytes - inference.arena_bytes
    frozen = training.constant_bytes
    beside = f" and {format_bytes(frozen)} of constants" if frozen else ""
    return (
        f"Inference alone takes {format_bytes(inference.arena_bytes)} of RAM and "
        f"{format_bytes(inference.constant_bytes)} of constants; training takes "
        f"{format_bytes(abs(above))} {'more' if above >= 0 else 'less'} RAM{beside}."
    )
