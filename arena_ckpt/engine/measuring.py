"""How long each step takes on this machine, measured once and remembered on disk."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

import llvmlite.binding as llvm
import platformdirs

from arena_ckpt.common.phases import Phase
from arena_ckpt.common.progress import compile_progress, status_line
from arena_ckpt.engine.arena import check_fits
from arena_ckpt.engine.locks import GATE
from arena_ckpt.engine.program import Program
from arena_ckpt.engine.views import TensorViews, arena_of
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.graph.build import Graph
from arena_ckpt.kernels.compiling import revision
from arena_ckpt.lowering.calls import LoweringSettings, mode_of
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.costs import Costs
from arena_ckpt.planning.plan import MemoryPlan, memory_checksum
from arena_ckpt.planning.tensors import Control

FEWEST_RUNS = 3
MOST_RUNS = 50
SECONDS_A_STEP = 0.01
"""Number of seconds after which a step is not run again; its shortest run counts."""


def measure_costs(
    graph: Graph,
    plan: MemoryPlan,
    optimizer: Optimizer,
    *,
    max_norm: float | None = None,
) -> Costs:
    """Return the seconds of every step of a plan.

    The steps run in an arena of their own, of zeros. Seconds are kept in the user's
    cache folder, by everything that they depend on.

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

    The steps run in an arena of their own, of zeros.
    """
    views = TensorViews(plan, arena_of(plan))
    with compile_progress() as report:
        program = Program(
            graph,
            views,
            optimizer,
            LoweringSettings(
                mode_of(plan),
                plan.pass_samples,
                seed=0,
                add_gradients=plan.micro_batches > 1,
                max_norm=max_norm,
            ),
            report=report,
        )
    views.control[Control.SCALE] = 1.0
    views.control[Control.LENGTH :] = 1.0
    seconds = []
    with status_line("measuring", None, "steps measured") as report_step:
        for index, execution in enumerate(plan.executions):
            report_step(f"step {index + 1} of {len(plan.executions)}")
            seconds.append(GATE.run(_shortest, program, execution.step))
    return seconds


def _shortest(program: Program, step: int) -> float:
    program.run(step, step + 1)  # the first touch of memory and caches
    shortest, total = float("inf"), 0.0
    for n in range(MOST_RUNS):
        if n >= FEWEST_RUNS and total >= SECONDS_A_STEP:
            break
        began = time.perf_counter()
        program.run(step, step + 1)
        took = time.perf_counter() - began
        shortest, total = min(shortest, took), total + took
    return shortest


def _cache_path(graph: Graph, plan: MemoryPlan, optimizer: Optimizer) -> Path:
    facts = [
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
