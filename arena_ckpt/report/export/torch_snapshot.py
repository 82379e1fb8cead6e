"""Exports a plan as a snapshot for PyTorch's visualizer at pytorch.org/memory_viz.

The arena is one segment at address 0, so that addresses are offsets. Other memories
follow it, each a segment of its own, and so do several RAMs each other; an address is
then the start of the segment plus the offset. The trace has an
allocation where each buffer begins and a free where it ends; those of a step's dead
come before those of its newborn. What is alive in the last step is in the segment's
final state. PyTorch is not needed to write it.

The viewer colours by `category`; it stumbles over traces with categories among which
none is ``"unknown"``, so the event of the segment has that one. It merges a
``free_requested`` with the ``free_completed`` right after it by writing into the first,
which therefore must not be one object with the second. Frames of certain names are not
shown, so names that contain one are broken by a space of no width.

References
----------
PyTorch 2.13, ``torch/cuda/_memory_viz.py`` and ``torch/utils/viz/MemoryViz.js``.
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

from arena_ckpt.common.memories import ARENA
from arena_ckpt.planning.plan import Buffer, MemoryPlan
from arena_ckpt.report.export.live_range_ids import buffer_id, main_live_range
from arena_ckpt.report.stack import is_arena_alone

ZERO_WIDTH_SPACE = "\u200b"
HIDDEN_NAMES = (
    "unwind::unwind",
    "CapturedTraceback::gather",
    "gather_with_cpp",
    "_start",
    "__libc_start_main",
    "PyEval_",
    "PyObject_",
    "PyFunction_",
)
PROTOCOL = 4


def torch_snapshot_bytes(plan: MemoryPlan) -> bytes:
    """Return a snapshot as a pickle (protocol 4) of dicts, lists, texts and numbers."""
    return pickle.dumps(_interned(torch_snapshot(plan)), protocol=PROTOCOL)


def _interned(value: Any) -> Any:
    """Return a copy of a snapshot in which equal strings are one object.

    A pickle writes an object once; without this it would depend on which strings of the
    plan happen to be the same object.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {_interned(key): _interned(item) for key, item in value.items()}
    return [_interned(item) for item in value] if isinstance(value, list) else value


def torch_snapshot(plan: MemoryPlan) -> dict[str, Any]:
    """Return what `torch.cuda.memory._snapshot` would if CUDA held the arena.

    Parameters
    ----------
    plan : MemoryPlan

    Returns
    -------
    dict
        `segments` and `device_traces`, of one device. Times are steps.
    """
    buffers = [b for b in plan.buffers if b.size_bytes]
    last = len(plan.steps) - 1
    kept = sorted((b for b in buffers if b.stop > last), key=lambda b: b.offset_bytes)
    segments = _segments(plan)
    return {
        "segments": [
            _segment(plan, start, height, [b for b in kept if b.memory == name])
            for name, (start, height) in segments.items()
        ],
        "device_traces": [_trace(plan, buffers, segments)],
        "allocator_settings": {"arena_ckpt_allocator": plan.allocator},
    }


def _segments(plan: MemoryPlan) -> dict[str, tuple[int, int]]:
    """Return the address and the bytes of each memory in which anything lies."""
    if is_arena_alone(plan):
        return {ARENA: (0, plan.arena_bytes)}
    found, end = {}, 0
    for use in plan.memories.values():
        if use.height_bytes:
            found[use.name] = (end, use.height_bytes)
            end += use.height_bytes
    return found


def _segment(
    plan: MemoryPlan, start: int, height_bytes: int, kept: list[Buffer]
) -> dict[str, Any]:
    """Return a memory as it is in the last step; its blocks cover it without gaps."""
    blocks: list[dict[str, Any]] = []
    end = start
    for buffer in kept:
        taken = plan.taken_bytes(buffer.size_bytes)
        address = start + buffer.offset_bytes
        if address > end:
            blocks.append(_free_block(end, address))
        block = _block(address, taken, buffer.size_bytes)
        blocks.append(
            {**block, "state": "active_allocated", "frames": _frames(plan, buffer)}
        )
        end = address + taken
    if end < start + height_bytes:
        blocks.append(_free_block(end, start + height_bytes))
    active = sum(plan.taken_bytes(b.size_bytes) for b in kept)
    return {
        "device": 0,
        "address": start,
        "total_size": height_bytes,
        "allocated_size": active,
        "active_size": active,
        "requested_size": sum(b.size_bytes for b in kept),
        "stream": 0,
        "segment_type": "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": [],
        "blocks": blocks,
    }


def _free_block(start: int, stop: int) -> dict[str, Any]:
    return {**_block(start, stop - start, 0), "state": "inactive", "frames": []}


def _block(address: int, size: int, requested: int) -> dict[str, Any]:
    return {"address": address, "size": size, "requested_size": requested}


def _trace(
    plan: MemoryPlan, buffers: list[Buffer], segments: dict[str, tuple[int, int]]
) -> list[dict[str, Any]]:
    """Return the events by time; in each step, what dies comes before what begins."""
    events = [
        _event("segment_alloc", start, height_bytes, 0, [], "unknown")
        for start, height_bytes in segments.values()
    ]
    n_steps = len(plan.steps)
    placed = [(segments[b.memory][0] + b.offset_bytes, b) for b in buffers]
    changes = [(b.stop, 0, address, b) for address, b in placed if b.stop < n_steps]
    changes += [(b.start, 1, address, b) for address, b in placed]
    for step, is_birth, address, buffer in sorted(changes, key=lambda c: c[:3]):
        kind, size = main_live_range(plan, buffer).kind.value, buffer.size_bytes
        for action in ("alloc",) if is_birth else ("free_requested", "free_completed"):
            frames = _frames(plan, buffer)
            events.append(_event(action, address, size, step, frames, kind))
    return events


def _event(
    action: str,
    address: int,
    size: int,
    step: int,
    frames: list[dict[str, Any]],
    category: str,
) -> dict[str, Any]:
    return {
        "action": action,
        "addr": address,
        "size": size,
        "stream": 0,
        "time_us": step,
        "frames": frames,
        "category": category,
    }


def _frames(plan: MemoryPlan, buffer: Buffer) -> list[dict[str, Any]]:
    """Return tensor, layer and kind of a buffer in place of a Python stack."""
    main = main_live_range(plan, buffer)
    steps = f"steps {buffer.start} to {buffer.stop}"
    memory = [] if is_arena_alone(plan) else [_frame("memory", 0, buffer.memory)]
    return [
        _frame(steps, main.life, buffer_id(plan, buffer)),
        _frame("layer", 0, main.layer or "model"),
        _frame("kind", 0, main.kind.value),
        *memory,
    ]


def _frame(file: str, line: int, name: str) -> dict[str, Any]:
    for hidden in HIDDEN_NAMES:
        name = name.replace(hidden, hidden[0] + ZERO_WIDTH_SPACE + hidden[1:])
    return {"filename": file, "line": line, "name": name}
