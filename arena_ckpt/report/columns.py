"""A memory plan as columns of integers and a list of words, for the viewer.

Small numbers pack well, so everything is sorted by time and stored relative to what it
belongs to: the stop of a segment to its start, the live range of a tensor to that of
its buffer, and uses to the live range of their tensor. ``viewer/decode.js`` undoes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from arena_ckpt.allocation.integers import Integers
from arena_ckpt.common.names import split_last
from arena_ckpt.common.phases import Phase
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Access, LiveRange, TensorKind
from arena_ckpt.report.durations import counted_operations
from arena_ckpt.report.packing import ColumnPacker
from arena_ckpt.report.segments import BANDS, cut_segments, step_bands
from arena_ckpt.report.stack import is_arena_alone, memory_numbers, stack_memories

PHASES = tuple(Phase)
KINDS = tuple(TensorKind)
ACCESSES = tuple(Access)


class _Words:
    """Numbers that stand for words, from 0 in the order in which words first occur."""

    def __init__(self) -> None:
        self._number: dict[Any, int] = {}

    def number(self, word: Any) -> int:
        return self._number.setdefault(word, len(self._number))

    def numbers(self, words: Iterable[Any]) -> list[int]:
        return [self.number(word) for word in words]

    def listed(self) -> list[Any]:
        return list(self._number)


def plan_columns(
    plan: MemoryPlan, step_seconds: Sequence[float] | None = None
) -> tuple[dict[str, Any], str]:
    """Return the data of a plan that the viewer needs.

    Parameters
    ----------
    plan : MemoryPlan
    step_seconds : sequence of float, length of `plan.steps`, optional
        Measured durations.

    Returns
    -------
    document : dict
        Plain values, with a description of the columns under ``contents``.
    blob : str
        The columns, gzipped and in base64.

    Notes
    -----
    O(n log n) in buffers, tensors and operands.
    """
    packer = ColumnPacker()
    words, shapes = _Words(), _Words()
    _add_buffers(packer, plan, words, shapes)
    _add_steps(packer, plan, words)
    _add_layers(packer, plan, words, shapes)
    packer.add("step_operations", np.rint(counted_operations(plan)))
    if step_seconds is not None:
        nanoseconds = np.rint(np.asarray(step_seconds, dtype=np.float64) * 1e9)
        packer.add("step_nanoseconds", nanoseconds)
    packer.add_texts("words", words.listed())
    packer.add_texts("shapes", [" × ".join(map(str, s)) for s in shapes.listed()])
    contents, blob = packer.finish()
    document = {
        "arena_bytes": plan.arena_bytes,
        "live_lower_bound_bytes": plan.live_lower_bound_bytes,
        "local_lower_bound_bytes": plan.local_lower_bound_bytes,
        "naive_bytes": plan.naive_bytes,
        "proved_optimal": plan.proved_optimal,
        "overhead": plan.overhead,
        "canary_bytes": plan.canary_bytes,
        "alignment_bytes": plan.alignment_bytes,
        "batch_size": plan.batch_size,
        "micro_batches": plan.micro_batches,
        "n_layers": len(plan.layers),
        "n_blocks": len(plan.blocks),
        "allocator": plan.allocator,
        "contents": contents,
    }
    if not is_arena_alone(plan):
        document["constant_bytes"] = plan.constant_bytes
        document["memories"] = _memories(plan)
    return document, blob


def _memories(plan: MemoryPlan) -> list[dict[str, Any]]:
    """Return what a plan takes of each memory, and where pictures show it."""
    return [
        {
            "name": memory.use.name,
            "height_bytes": memory.use.height_bytes,
            "size_bytes": memory.use.size_bytes,
            "is_constant": memory.use.is_constant,
            "touched_bytes": memory.use.touched_bytes,
            "low": memory.low,
            "high": memory.high,
        }
        for memory in stack_memories(plan).memories
    ]


def _add_buffers(
    packer: ColumnPacker, plan: MemoryPlan, words: _Words, shapes: _Words
) -> None:
    """Add the buffers, their segments, their tensors and the uses of these."""
    segments = cut_segments(plan)
    offset = np.array([b.offset_bytes for b in plan.buffers], dtype=np.int64)
    start = np.array([b.start for b in plan.buffers], dtype=np.int64)
    order = np.lexsort((offset, start))
    place = _inverse(order)
    size = np.array([b.size_bytes for b in plan.buffers], dtype=np.int64)[order]
    taken = np.array([plan.taken_bytes(n) for n in size.tolist()], dtype=np.int64)
    packer.add("buffer_offset", offset[order])
    packer.add("buffer_taken", taken)
    packer.add("buffer_spare", taken - size)
    if not is_arena_alone(plan):
        memory = np.array(memory_numbers(plan), dtype=np.int64)
        packer.add("buffer_memory", memory[order])

    by_place = np.lexsort((segments.start, place[segments.buffer]))
    buffer = place[segments.buffer][by_place]
    first, last = segments.start[by_place], segments.stop[by_place]
    packer.add("segment_buffer", buffer, differences=True)
    packer.add("segment_start", first, differences=True)
    packer.add("segment_steps", last - first)

    # tensors in the order in which buffers hold them
    index = np.array(
        [t for b in order.tolist() for t in plan.buffers[b].tensors], dtype=np.int64
    )
    holder = np.repeat(
        np.arange(len(order)), [len(plan.buffers[b].tensors) for b in order.tolist()]
    )
    tensor_place = _inverse(index)
    packer.add(
        "segment_tensor", tensor_place[segments.tensor][by_place], differences=True
    )
    tensors = [plan.tensors[t] for t in index.tolist()]
    packer.add("tensor_buffer", holder, differences=True)
    stop = np.array([b.stop for b in plan.buffers], dtype=np.int64)[order]
    lived = np.array([t.start for t in tensors], dtype=np.int64)
    ended = np.array([t.stop for t in tensors], dtype=np.int64)
    names = _Words()
    _add_facts(packer, tensors, size[holder], names, words, shapes)
    packer.add("tensor_start", lived - start[order][holder])
    packer.add("tensor_stop", ended - stop[holder])
    _add_names(packer, names, words)
    _add_uses(packer, plan, tensor_place, lived)


def _add_facts(
    packer: ColumnPacker,
    tensors: Sequence[LiveRange],
    holder_size: Integers,
    names: _Words,
    words: _Words,
    shapes: _Words,
) -> None:
    """Add name, kind, layer, shape, dtype and size of each live range of a tensor.

    Parameters
    ----------
    packer : ColumnPacker
    tensors : sequence of LiveRange, length n
    holder_size : int64 array, shape (n,)
        Bytes of the buffer that holds each.
    names, words, shapes : _Words
        The numbers that stand for names, for other words and for shapes.
    """
    packer.add("tensor_name", names.numbers(t.name for t in tensors), differences=True)
    packer.add("tensor_life", [t.life for t in tensors])
    packer.add("tensor_kind", [KINDS.index(t.kind) for t in tensors])
    packer.add(
        "tensor_layer", words.numbers(t.layer for t in tensors), differences=True
    )
    packer.add("tensor_shape", shapes.numbers(t.shape for t in tensors))
    packer.add("tensor_dtype", words.numbers(t.dtype for t in tensors))
    packer.add("tensor_size", [t.size_bytes for t in tensors] - holder_size)


def _add_names(packer: ColumnPacker, names: _Words, words: _Words) -> None:
    """Add names as pairs of words: ``fc1`` and ``out0`` for ``fc1:out0``."""
    pairs = [split_last(name) for name in names.listed()]
    packer.add("name_has_colon", [bool(head) for head, _ in pairs])
    packer.add("name_head", words.numbers(head for head, _ in pairs), differences=True)
    packer.add("name_tail", words.numbers(tail for _, tail in pairs))


def _add_uses(
    packer: ColumnPacker, plan: MemoryPlan, tensor_place: Integers, lived: Integers
) -> None:
    """Add the steps at which each tensor is used, and how."""
    table = np.array(
        [
            (
                tensor_place[operand.tensor],
                execution.step,
                ACCESSES.index(operand.access),
            )
            for execution in plan.executions
            for operand in execution.operands
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
    table = np.unique(table, axis=0)  # in the order of tensors, then of time
    tensor, step, access = table.T
    packer.add("use_count", np.bincount(tensor, minlength=len(lived)))
    packer.add("use_step", step - lived[tensor])
    packer.add("use_access", access)


def _add_steps(packer: ColumnPacker, plan: MemoryPlan, words: _Words) -> None:
    """Add phase, layer and band of each step; an unused step has the phase -1."""
    packer.add("step_phase", [PHASES.index(s.phase) if s else -1 for s in plan.steps])
    layers = words.numbers(s.layer if s else "" for s in plan.steps)
    packer.add("step_layer", layers, differences=True)
    packer.add("step_band", step_bands(plan))


def _add_layers(
    packer: ColumnPacker, plan: MemoryPlan, words: _Words, shapes: _Words
) -> None:
    """Add name, type, output shape, block and inputs of each layer.

    An input is stored as how many layers it stands before its reader, a block as its
    number from 1, with 0 for none.
    """
    place = {layer.name: index for index, layer in enumerate(plan.layers)}
    block = {
        name: number
        for number, each in enumerate(plan.blocks, 1)
        for name in each.layers
    }
    inputs = [
        [index - place[name] for name in dict.fromkeys(layer.inputs) if name in place]
        for index, layer in enumerate(plan.layers)
    ]
    packer.add("layer_name", words.numbers(layer.name for layer in plan.layers))
    packer.add("layer_type", words.numbers(layer.type_name for layer in plan.layers))
    packer.add(
        "layer_shape", shapes.numbers(layer.output_shape for layer in plan.layers)
    )
    packer.add("layer_block", [block.get(layer.name, 0) for layer in plan.layers])
    packer.add("layer_inputs", [len(each) for each in inputs])
    packer.add("layer_input", [back for each in inputs for back in each])
    packer.add("block_name", words.numbers(each.name for each in plan.blocks))


def _inverse(order: Integers) -> Integers:
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


def vocabulary() -> dict[str, list[str]]:
    """Return the meanings of the numbers of kinds, phases, accesses and bands."""
    return {
        "kinds": [kind.value for kind in KINDS],
        "phases": [phase.value for phase in PHASES],
        "accesses": [access.value for access in ACCESSES],
        "bands": [band.value for band in BANDS],
    }
