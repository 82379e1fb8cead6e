"""Makes a profile of a plan: times its kernel calls, and the machine beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from arena_ckpt.common.phases import Phase
from arena_ckpt.data.samples import Samples
from arena_ckpt.data.standardization import Standardization
from arena_ckpt.engine.arena import check_fits
from arena_ckpt.engine.call_timing import time_calls
from arena_ckpt.engine.machine_speed import measure_machine
from arena_ckpt.engine.profile import Profile, ProfiledCall
from arena_ckpt.engine.session import Session
from arena_ckpt.graph.build import Graph
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.plan import MemoryPlan


def profile_plan(
    graph: Graph,
    plan: MemoryPlan,
    optimizer: Optimizer,
    *,
    max_norm: float | None,
    rounds: int | None,
    standardization: Standardization | None,
    samples_of: Callable[[Session], Samples | None],
) -> Profile:
    """Return where the time of an iteration by a plan goes.

    Parameters are those of `time_calls`.

    Raises
    ------
    ArenaTooLargeError
        The plan does not fit in the memory that is free.
    """
    check_fits(plan.host_bytes, "profiling")
    one = measure_machine(1)
    machine = one if graph.threads == 1 else measure_machine(graph.threads)
    times = time_calls(
        graph,
        plan,
        optimizer,
        max_norm=max_norm,
        rounds=rounds,
        standardization=standardization,
        samples_of=samples_of,
        times_outside=True,
    )
    seconds = np.median(times.seconds, axis=0)
    executions = {execution.step: execution for execution in plan.executions}
    calls = []
    for call, took in zip(times.calls, seconds.tolist(), strict=True):
        execution = executions[call.step]
        is_global = execution.phase is Phase.CLIP_GRADIENTS
        calls.append(
            ProfiledCall(
                call.step,
                None if is_global else execution.layer,
                execution.phase,
                call.kernel,
                took,
                call.runs,
                call.n_flops,
                call.n_bytes,
                min(took, machine.least_seconds(call.n_flops, call.n_bytes)),
            )
        )
    return Profile(
        calls=tuple(calls),
        outside_seconds=float(np.median(times.outside_seconds)),
        n_steps=len(plan.steps),
        batch_size=plan.batch_size,
        micro_batches=plan.micro_batches,
        mode=plan.mode,
        arithmetic=graph.arithmetic,
        rounds=len(times.seconds),
        clock_seconds=times.clock_seconds,
        machine=machine,
        machine_one_thread=one,
    )
