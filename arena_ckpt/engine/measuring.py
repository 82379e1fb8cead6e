"""How long each step takes on this machine, measured once and remembered on disk."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

import llvmlite.binding as llvm
import platformdirs

from arena_ckpt.common.phases import Phase
from arena_ckpt.engine.arena import check_fits
from arena_ckpt.engine.call_timing import time_calls
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.graph.build import Graph
from arena_ckpt.kernels.compiling import revision
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.costs import Costs
from arena_ckpt.planning.plan import MemoryPlan, memory_checksum

METHOD = 2
"""Changes with the way of measuring, so that seconds of an earlier one are not read."""


def measure_costs(
    graph: Graph,
    plan: MemoryPlan,
    optimizer: Optimizer,
    *,
    max_norm: float | None = None,
) -> Costs:
    """Return the seconds of every step of a plan.

    The steps run in an arena of their own, on random data. Seconds are kept in the
    user's cache folder, by everything that they depend on.

    Parameters
    ----------
    graph : Graph
    plan : MemoryPlan
        One that recomputes nothing.
    optimizer : Optimizer
    max_norm : float or None
        Where gradients are clipped.

    Returns
    -------
    Costs

    Raises
    ------
    ArenaTooLargeError
        The plan does not fit in the memory that is free.
    """
    counted = plan.counted_costs
    keys = list(counted.of_step)
    path = _cache_path(graph, plan, optimizer)
    seconds = _read(path, len(keys))
    if seconds is None:
        check_fits(plan.host_bytes, "measuring the plan that recomputes nothing")
        seconds = time_steps(graph, plan, optimizer, max_norm)
        _write(path, seconds)
    of_step = dict(zip(keys, seconds, strict=True))
    without_outputs = {
        layer: of_step[layer, Phase.FORWARD] * cost / counted.step(layer, Phase.FORWARD)
        for layer, cost in counted.without_outputs.items()
    }
    return Costs(of_step, without_outputs)


def time_steps(
    graph: Graph,
    plan: MemoryPlan,
    optimizer: Optimizer,
    max_norm: float | None = None,
) -> list[float]:
    """Return the seconds of each of a plan's executions, measured now.

    The shortest run counts, and of several micro-batches their mean. See `call_timing`.
    """
    times = time_calls(graph, plan, optimizer, max_norm=max_norm)
    of_step = dict.fromkeys((e.step for e in plan.executions), 0.0)
    for call, seconds in zip(times.calls, times.seconds.min(axis=0), strict=True):
        of_step[call.step] += float(seconds) / call.runs
    return [of_step[execution.step] for execution in plan.executions]


def _cache_path(graph: Graph, plan: MemoryPlan, optimizer: Optimizer) -> Path:
    facts = [
        METHOD,
        memory_checksum(plan),
        [repr(sorted(node.layer.given.items())) for node in graph.nodes],
        optimizer.type_name,
        graph.threads,
        llvm.get_host_cpu_name(),
        os.cpu_count(),
        revision(),
    ]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    return (
        Path(platformdirs.user_cache_dir("arena_ckpt")) / "step_times" / f"{key}.json"
    )


def _read(path: Path, n_steps: int) -> list[float] | None:
    """Return seconds measured before; None where they are missing or unusable."""
    try:
        seconds = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(seconds, list) or len(seconds) != n_steps:
        return None
    if not all(isinstance(s, float) and 0 <= s < 1e6 for s in seconds):
        return None
    return seconds


def _write(path: Path, seconds: list[float]) -> None:
    """Write measured seconds to the cache, if that is possible."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(json.dumps(seconds).encode()))
