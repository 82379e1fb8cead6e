"""What benchmarks measured as JSON: figures, beside the machine and the versions.

A file is written anew after each row, so that what was measured stays when a later row
fails or the time is over.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from interleaved import Figures

FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "amx_tile", "asimd", "sve")
"""What processors say of their vector units."""

PACKAGES = (
    *("arena-ckpt", "numpy", "numba", "llvmlite", "scipy-openblas32"),
    *("torch", "jax", "jaxlib"),
)
"""Packages whose versions are written down, where they are installed."""


class ResultsFile:
    """A JSON file of a benchmark's rows; without a path nothing is written."""

    def __init__(self, path: Path | None, tool: str, **options: Any) -> None:
        self._path = path
        self._content = {
            "tool": tool,
            "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "options": options,
            "rows": [],
        }
        self._write()

    def add(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self._content["rows"].append(row)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._content, indent=1, ensure_ascii=False)
            self._path.write_text(text + "\n", "utf-8")


def contestants(figures: Mapping[str, Figures]) -> dict[str, Any]:
    """Return the times of all contestants, in microseconds a step, and their bytes."""
    return {
        name: {
            "rounds": len(one.walls),
            "bytes": one.facts.get("bytes"),
            "wall_us": spread(one.walls),
            "cpu_us": spread(one.cpus),
        }
        for name, one in figures.items()
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median and quartiles, and the values in the order of the rounds."""
    several = len(values) > 1
    quartiles = statistics.quantiles(values, method="inclusive") if several else values
    return {
        "median": statistics.median(values),
        "quartiles": [quartiles[0], quartiles[-1]],
        "values": list(values),
    }


def machine() -> dict[str, Any]:
    """Return what the times depend on and a reader can compare with their own."""
    told = _processor()
    names = set((told.get("flags") or told.get("Features") or "").split())
    return {
        "processor": told.get("model name") or platform.processor() or "not known",
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in names],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": list(os.getloadavg()),
    }


def _processor() -> dict[str, str]:
    """Return what Linux says of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return {}
    first = text.partition("\n\n")[0]
    return dict(re.findall(r"^(.*?)\s*: (.*)$", first, re.MULTILINE))


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages; None where one is missing."""
    found: dict[str, str | None] = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
