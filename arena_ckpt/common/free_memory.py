"""Asks the system how many bytes of memory are free."""

from __future__ import annotations

from pathlib import Path

import psutil


def available_bytes() -> int:
    """Return the bytes of free memory, within the limit of a container (cgroup v2)."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text()
        return available if limit == "max" else min(available, int(limit) - int(used))
    except (OSError, ValueError):  # no cgroup, or not of this kind
        return available
