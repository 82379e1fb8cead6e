"""A layout of the tensors in a dump of NNTrainer's as a plan, for the viewer to show.

A dump says when tensors live and not what runs. Their names, ``fc1:out0:grad``, say the
kinds, and the steps at which outputs and gradients of weights begin are those of their
layers. The plan has no list of layers and no uses, which the dump does not say.
"""

from __future__ import annotations

import re

import numpy as np

from arena_ckpt.allocation.integers import Integers
from arena_ckpt.allocation.minimalloc_csv import BufferTable
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.errors import BufferFileError
from arena_ckpt.planning.plan import Buffer, MemoryPlan
from arena_ckpt.planning.tensors import LiveRange, TensorKind
from arena_ckpt.planning.timeline import Step

MOST_STEPS = 200_000
"""Maximum number of steps that a page shows."""

_FIRST_LIFE = "_initial"
"""End of the name of an output, in NNTrainer, that is recomputed later."""

_OUTPUT = re.compile(r"(out|input)\d+")


def plan_of_buffers(
    file: str,
    table: BufferTable,
    offset: Integers,
    *,
    lower_bound_bytes: int,
    engine: str,
) -> MemoryPlan:
    """Return a plan that has the tensors of a dump at offsets.

    Parameters
    ----------
    file : str
        For the message of an error.
    table : BufferTable
    offset : int64 array, shape (n,)
        Bytes; the layout is valid, in one block.
    lower_bound_bytes : int
        Bytes that no layout can go below.
    engine : str
        What found the layout.

    Raises
    ------
    BufferFileError
        The file is no dump of NNTrainer's, or has more than `MOST_STEPS` steps.
    """
    require_dump(file, table)
    buffers = table.buffers
    begin, n_steps = _span(table)
    names = set(table.ids)
    tensors = tuple(
        LiveRange(
            name=name,
            life=0,
            kind=_kind(name, names),
            layer=name.partition(":")[0],
            shape=(size,),
            per_sample=False,
            dtype="uint8",
            size_bytes=size,
            start=lower - begin,
            stop=upper - begin,
            lifespan=TensorLifespan(0),
        )
        for name, lower, upper, size in zip(
            table.ids,
            buffers.lower.tolist(),
            buffers.upper.tolist(),
            buffers.size.tolist(),
            strict=True,
        )
    )
    return MemoryPlan(
        arena_bytes=int((offset + buffers.size).max()),
        live_lower_bound_bytes=lower_bound_bytes,
        local_lower_bound_bytes=int(np.max(buffers.size)),
        naive_bytes=int(buffers.size.sum()),
        execution_order={},
        buffers=tuple(
            Buffer(t.name, t.kind, t.start, t.stop, at, t.size_bytes, (index,))
            for index, (t, at) in enumerate(zip(tensors, offset.tolist(), strict=True))
        ),
        tensors=tensors,
        executions=(),
        layers=(),
        blocks=(),
        steps=_steps(tensors, n_steps),
        n_forward=_first_backward(tensors, n_steps),
        n_pass=n_steps,
        batch_size=1,
        micro_batches=1,
        ways=(),
        alignment_bytes=1,
        canary_bytes=0,
        allocator=engine,
    )


def require_dump(file: str, table: BufferTable) -> None:
    """Refuse files that no page can show.

    Raises
    ------
    BufferFileError
        See `plan_of_buffers`.
    """
    is_named = all(":" in name for name in table.ids)
    if not is_named or not any(_OUTPUT.match(name.split(":")[1]) for name in table.ids):
        raise BufferFileError(
            f"{file} does not say what its buffers are, which a page shows: it is for "
            "NNTrainer's dumps of tensors, whose names hold layer and part; --png "
            "draws any file",
            path=file,
            row=None,
        )
    _, n_steps = _span(table)
    if n_steps > MOST_STEPS:
        raise BufferFileError(
            f"{file}: its buffers live through {n_steps:,} steps, and a page shows "
            f"{MOST_STEPS:,}; --png draws any number",
            path=file,
            row=None,
        )


def _span(table: BufferTable) -> tuple[int, int]:
    """Return the first step at which a buffer lives, and the number of steps."""
    begin = int(table.buffers.lower.min())
    return begin, int(table.buffers.upper.max()) - begin


def _steps(tensors: tuple[LiveRange, ...], n_steps: int) -> tuple[Step | None, ...]:
    """Return the steps that begin a tensor of their layer; None for all others."""
    phases = {
        TensorKind.ACTIVATION: Phase.FORWARD,
        TensorKind.RECOMPUTED: Phase.RECOMPUTE,
        TensorKind.GRADIENT: Phase.CALC_GRADIENT,
    }
    steps: list[Step | None] = [None] * n_steps
    for tensor in tensors:
        if tensor.kind in phases and steps[tensor.start] is None:
            steps[tensor.start] = Step(phases[tensor.kind], tensor.layer)
    return tuple(steps)


def _first_backward(tensors: tuple[LiveRange, ...], n_steps: int) -> int:
    backward = (TensorKind.DERIVATIVE, TensorKind.GRADIENT)
    return min((t.start for t in tensors if t.kind in backward), default=n_steps)


def _kind(name: str, names: set[str]) -> TensorKind:
    """Return the kind that a name of NNTrainer's says; workspace for any other name."""
    _, *parts = name.split(":")
    if not parts:
        return TensorKind.WORKSPACE
    of_output = _OUTPUT.fullmatch(parts[0].removesuffix(_FIRST_LIFE)) is not None
    if parts[-1] == "grad":
        return TensorKind.DERIVATIVE if of_output else TensorKind.GRADIENT
    if not of_output:
        return TensorKind.WEIGHT if len(parts) == 1 else TensorKind.OPTIMIZER_STATE
    is_again = f"{name}{_FIRST_LIFE}" in names
    return TensorKind.RECOMPUTED if is_again else TensorKind.ACTIVATION
