"""The ticks of pictures and their labels."""

from __future__ import annotations

import math


def step_ticks(first: int, last: int) -> list[int]:
    """Return about ten round steps at which the time axis has ticks."""
    rough = max((last - first) / 10, 1)
    power = 10 ** int(math.log10(rough))
    apart = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return list(range(-(-first // apart) * apart, last + 1, apart))


def byte_ticks(top_bytes: float) -> list[int]:
    """Return at most nine multiples of a power of two for ticks of the byte axis."""
    apart = 2 ** max(0, math.ceil(math.log2(top_bytes / 9)))
    return list(range(0, int(top_bytes) + 1, apart))


def short_bytes(n_bytes: int) -> str:
    """Return a size as a short label, for example ``"2.5 KiB"``."""
    for suffix, unit in (
        ("TiB", 2**40),
        ("GiB", 2**30),
        ("MiB", 2**20),
        ("KiB", 2**10),
    ):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.4g} {suffix}"
    return f"{n_bytes} B"
