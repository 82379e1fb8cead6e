"""Kernel calls as text for people and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from arena_ckpt.lowering.kernel_call import KernelCall, Operand
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.plan import MemoryPlan

FORMAT_VERSION = 1
"""The version of what `calls_document` returns."""


def calls_document(plan: MemoryPlan, calls: Sequence[KernelCall]) -> dict[str, Any]:
    """Return kernel calls as data that JSON can hold.

    Parameters
    ----------
    plan : MemoryPlan
        The plan that they were lowered from.
    calls : sequence of KernelCall

    Returns
    -------
    dict
        ``"version"``, ``"memories"`` with their bytes, and ``"calls"``, each with its
        ``"step"``, ``"kernel"`` and ``"operands"`` by name: a number, or a dict of
        memory, offset in bytes, shape and dtype. An array that an own layer keeps
        beside all memories has None for its memory and offset. The first of calls that
        may run side by side has ``"beside"``, how many they are.
    """
    return {
        "version": FORMAT_VERSION,
        "memories": {
            name: memory.height_bytes for name, memory in plan.memories.items()
        },
        "calls": [
            {
                "step": call.step,
                "kernel": str(call.kernel),
                "operands": {
                    name: _operand_document(operand) for name, operand in _named(call)
                },
                **({"beside": call.beside} if call.beside > 1 else {}),
            }
            for call in calls
        ],
    }


def call_lines(plan: MemoryPlan, calls: Sequence[KernelCall]) -> Iterator[str]:
    """Yield one line for each step that has calls, and one for each of its calls.

    ``blas.matmul a=arena[0:512] 8×16 float32, …``: the bytes are half-open.
    """
    step = None
    for call in calls:
        if call.step != step:
            step = call.step
            yield plan.describe_step(step)
        written = ", ".join(
            f"{name}={_operand_text(operand)}" for name, operand in _named(call)
        )
        yield f"  {call.kernel} {written}"


def _named(call: KernelCall) -> Iterator[tuple[str, Operand]]:
    for (name, _), operand in zip(call.kernel.parameters, call.operands, strict=True):
        yield name, operand


def _operand_document(operand: Operand) -> Any:
    if isinstance(operand, int | float):
        return operand
    if isinstance(operand, Region):
        memory, offset_bytes = operand.memory, operand.offset_bytes
    else:
        memory, offset_bytes = None, None
    return {
        "memory": memory,
        "offset_bytes": offset_bytes,
        "shape": list(operand.shape),
        "dtype": str(operand.dtype),
    }


def _operand_text(operand: Operand) -> str:
    if isinstance(operand, int | float):
        return f"{operand:g}" if isinstance(operand, float) else str(operand)
    shape = "×".join(map(str, operand.shape))
    if not isinstance(operand, Region):
        return f"(an array of the layer's own) {shape} {operand.dtype}"
    start, stop = operand.offset_bytes, operand.offset_bytes + operand.nbytes
    return f"{operand.memory}[{start}:{stop}] {shape} {operand.dtype}"
