"""How much of a large family of tests runs: a fixed sample, or all with --full."""

from __future__ import annotations

import os

FULL = os.environ.get("ARENA_CKPT_FULL") == "1"
"""`tools/test.sh --full` sets it."""


def how_many(sample: int, full: int) -> int:
    """Return how many members of a family run here: all only with --full."""
    return full if FULL else sample
