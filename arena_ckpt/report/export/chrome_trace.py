"""Exports a training iteration in the Trace Event Format, which Perfetto opens.

One process with threads of complete slices: the phases, in them the layers, and where
they were timed the kernel calls of each. Beside them stand counters of the live bytes
of each kind, and of each RAM where there are several. Constants are alive all the time,
so they have a number and no counter. Without measured times a step lasts one
millisecond, so that the time axis shows steps.

References
----------
"Trace Event Format", Google, 2016. Perfetto reads it but for a few event types, none of
which is used here; slices of a thread have to nest.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from arena_ckpt.common.phases import Phase
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.durations import (
    TimedCall,
    require_durations,
    require_timed_calls,
)

STEP_NANOSECONDS = 1_000_000
"""Nanoseconds that a step takes if no durations are given."""

SHORTEST_NANOSECONDS = 2
"""Minimum nanoseconds of a step. A reader that rounds to nanoseconds must find the end
of a step before the next start."""

PROCESS, PHASES, LAYERS, KERNELS = 1, 1, 2, 3


def chrome_trace_bytes(
    plan: MemoryPlan,
    step_seconds: Sequence[float] | None = None,
    timed_calls: Sequence[TimedCall] | None = None,
) -> bytes:
    """Return a trace of one training iteration as JSON.

    Parameters
    ----------
    plan : MemoryPlan
    step_seconds : sequence of float, length of `plan.steps`, optional
        Measured durations; None gives each step one millisecond.
    timed_calls : sequence of TimedCall, optional
        Kernel calls with their durations, in place of those of the steps.

    Raises
    ------
    InvalidParameterError
        Not one duration for each step, or one that is negative or not finite; or calls
        of another plan.
    """
    lengths = None
    if timed_calls is not None:
        require_timed_calls(plan, timed_calls)
        lengths = [_nanoseconds(call.seconds) for call in timed_calls]
    starts = _starts(plan, step_seconds, timed_calls, lengths)
    is_measured = step_seconds is not None or timed_calls is not None
    document = {
        "displayTimeUnit": "ns" if is_measured else "ms",
        "otherData": {
            "arena_bytes": plan.arena_bytes,
            **_other_memories(plan),
            "live_lower_bound_bytes": plan.live_lower_bound_bytes,
            "time": "measured" if is_measured else "one millisecond a step",
        },
        "traceEvents": [
            *_metadata(has_kernels=timed_calls is not None),
            *_phases(plan, starts),
            *_layers(plan, starts),
            *_kernels(starts, timed_calls or (), lengths or ()),
            *_counters(plan, starts),
            *_ram_counters(plan, starts),
        ],
    }
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _other_memories(plan: MemoryPlan) -> dict[str, Any]:
    """Return the bytes of the memories beside one arena; empty where there are none."""
    found: dict[str, Any] = {}
    if plan.constant_bytes:
        found["constant_bytes"] = plan.constant_bytes
    if plan.rams:
        uses = plan.memories
        found["ram_bytes"] = {
            ram.name: uses[ram.name].height_bytes for ram in plan.rams
        }
    return found


def _nanoseconds(seconds: float) -> int:
    return max(SHORTEST_NANOSECONDS, round(seconds * 1e9))


def _starts(
    plan: MemoryPlan,
    step_seconds: Sequence[float] | None,
    timed_calls: Sequence[TimedCall] | None,
    lengths: Sequence[int] | None,
) -> list[int]:
    """Return the start of each step, and the end of the last, in nanoseconds."""
    n_steps = len(plan.steps)
    if timed_calls is not None and lengths is not None:
        of_step = [0] * n_steps
        for call, length in zip(timed_calls, lengths, strict=True):
            of_step[call.step] += length
        of_step = [length or SHORTEST_NANOSECONDS for length in of_step]
    elif step_seconds is not None:
        require_durations(plan, step_seconds)
        of_step = [_nanoseconds(seconds) for seconds in step_seconds]
    else:
        of_step = [STEP_NANOSECONDS] * n_steps
    return [0, *itertools.accumulate(of_step)]


def _event(phase: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"ph": phase, "name": name, "pid": PROCESS, **fields}


def _slice(
    name: str, thread: int, start: int, stop: int, **fields: Any
) -> dict[str, Any]:
    """Return a slice of the trace; it ends a nanosecond early, so that none overlap."""
    times = {"ts": start / 1000, "dur": (stop - start - 1) / 1000}
    return _event("X", name, tid=thread, **times, **fields)


def _metadata(*, has_kernels: bool) -> Iterator[dict[str, Any]]:
    yield _event("M", "process_name", tid=0, args={"name": "arena_ckpt"})
    threads = [(PHASES, "phases"), (LAYERS, "layers")]
    for thread, name in [*threads, *[(KERNELS, "kernels")] * has_kernels]:
        yield _event("M", "thread_name", tid=thread, args={"name": name})
        yield _event("M", "thread_sort_index", tid=thread, args={"sort_index": thread})


def _phases(plan: MemoryPlan, starts: list[int]) -> Iterator[dict[str, Any]]:
    """Yield slices of the forward pass, the backward pass and updates after it."""
    n_steps = len(plan.steps)
    bands = (
        ("forward", 0, plan.n_forward),
        ("backward", plan.n_forward, plan.n_pass),
        ("update", plan.n_pass, n_steps),
    )
    for name, start, stop in bands:
        if start < stop:
            yield _slice(name, PHASES, starts[start], starts[stop], cat="phase")


def _layers(plan: MemoryPlan, starts: list[int]) -> Iterator[dict[str, Any]]:
    """Yield a slice for each step at which kernels run; recomputes have a category."""
    types = {layer.name: layer.type_name for layer in plan.layers}
    for execution in plan.executions:
        step, phase = execution.step, execution.phase
        names = {
            access: [
                plan.tensors[o.tensor].name
                for o in execution.operands
                if o.access.value == access
            ]
            for access in ("read", "write", "update")
        }
        is_global = phase is Phase.CLIP_GRADIENTS
        yield _slice(
            phase.value if is_global else f"{execution.layer} {phase.value}",
            LAYERS,
            starts[step],
            starts[step + 1],
            cat=phase.value,
            args={
                "step": step,
                "layer": execution.layer,
                "type": types[execution.layer],
                **{access: ", ".join(of) for access, of in names.items() if of},
            },
        )


def _kernels(
    starts: Sequence[int], calls: Sequence[TimedCall], lengths: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield a slice for each timed call, one after another within their step."""
    step, start = -1, 0
    for call, length in zip(calls, lengths, strict=True):
        if call.step != step:
            step, start = call.step, starts[call.step]
        yield _slice(
            call.kernel,
            KERNELS,
            start,
            start + length,
            cat="kernel",
            args={"step": step},
        )
        start += length


def _counters(plan: MemoryPlan, starts: list[int]) -> Iterator[dict[str, Any]]:
    """Yield the live bytes of each kind at every change, and at the end."""
    n_steps = len(plan.steps)
    changes: dict[int, Counter[TensorKind]] = {0: Counter(), n_steps: Counter()}
    for buffer in plan.ram_buffers:
        taken = plan.taken_bytes(buffer.size_bytes)
        edges = {buffer.start, buffer.stop}
        for index in buffer.tensors:  # kinds take turns within a buffer
            edges |= {plan.tensors[index].start, plan.tensors[index].stop}
        for start, stop in itertools.pairwise(sorted(edges)):
            kind = plan.tensor_in(buffer, start).kind
            changes.setdefault(start, Counter())[kind] += taken
            if stop < n_steps:
                changes.setdefault(stop, Counter())[kind] -= taken
    live = dict.fromkeys(TensorKind, 0)
    for step in sorted(changes):
        for kind, difference in changes[step].items():
            live[kind] += difference
        time = starts[step] / 1000
        values = {kind.value: taken for kind, taken in live.items()}
        yield _event("C", "live bytes", ts=time, args=values)
        yield _event("C", "arena", ts=time, args={"live": sum(values.values())})


def _ram_counters(plan: MemoryPlan, starts: list[int]) -> Iterator[dict[str, Any]]:
    """Yield the live bytes of each RAM with a name at every change, and at the end."""
    n_steps = len(plan.steps)
    for ram in plan.rams:
        changes = Counter({0: 0, n_steps: 0})
        for buffer in plan.ram_buffers:
            if buffer.memory == ram.name:
                taken = plan.taken_bytes(buffer.size_bytes)
                changes[buffer.start] += taken
                if buffer.stop < n_steps:
                    changes[buffer.stop] -= taken
        live = 0
        for step in sorted(changes):
            live += changes[step]
            time = starts[step] / 1000
            yield _event("C", f"RAM {ram.name}", ts=time, args={"live": live})
