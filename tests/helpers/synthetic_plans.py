"""Plans of any size whose buffers are random: for pictures, not for training."""

from __future__ import annotations

import numpy as np

from arena_ckpt.allocation.allocator import allocate_buffers
from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.planning.plan import Buffer, MemoryPlan, PlanLayer
from arena_ckpt.planning.tensors import (
    Access,
    Execution,
    LiveRange,
    Operand,
    TensorKind,
)
from arena_ckpt.planning.timeline import ExecutionOrder, Step

KINDS = tuple(TensorKind)
SIZES = (1024, 4096, 9216, 65536, 100352, 262144, 802816)


def synthetic_plan(n_buffers: int, seed: int = 0) -> MemoryPlan:
    """Return a plan of random lives, each used three times, under a valid layout."""
    rng = np.random.default_rng(seed)
    n_layers = max(n_buffers // 8, 2)
    n_steps = 4 * n_layers
    start = np.sort(rng.integers(0, n_steps - 1, n_buffers))
    length = np.minimum(rng.geometric(1 / 40, n_buffers), n_steps - start)
    stop = start + length
    size = rng.choice(SIZES, n_buffers) + 4 * rng.integers(0, 64, n_buffers)
    taken = -(-size // 64) * 64
    layout = allocate_buffers(
        make_buffers(start, stop, taken, alignment=64),
        None,
        None,
        SearchOptions(node_limit=0, engine="greedy"),
    )
    names = [f"block{i // 12}_part{i % 12}" for i in range(n_layers)]
    kind = rng.integers(0, len(KINDS), n_buffers)
    tensors = tuple(
        LiveRange(
            name=f"{names[s % n_layers]}:tensor{i}",
            life=0,
            kind=KINDS[k],
            layer=names[s % n_layers],
            shape=(int(n) // 4,),
            per_sample=False,
            dtype="float32",
            size_bytes=int(n),
            start=int(s),
            stop=int(e),
            lifespan=TensorLifespan.FORWARD,
        )
        for i, (s, e, n, k) in enumerate(zip(start, stop, size, kind, strict=True))
    )
    uses: list[list[Operand]] = [[] for _ in range(n_steps)]
    for i, (s, e) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        uses[s].append(Operand("out0", i, Access.WRITE))
        for step in {(s + e) // 2, e - 1} - {s}:
            uses[step].append(Operand("in0", i, Access.READ))
    phases = [Phase.FORWARD] * n_layers + [Phase.CALC_DERIVATIVE] * (n_steps - n_layers)
    steps = tuple(Step(p, names[i % n_layers]) for i, p in enumerate(phases))
    live = np.zeros(n_steps + 1, dtype=np.int64)
    np.add.at(live, start, taken)
    np.add.at(live, stop, -taken)
    bound = int(live.cumsum().max())
    return MemoryPlan(
        arena_bytes=layout.height_bytes,
        live_lower_bound_bytes=bound,
        local_lower_bound_bytes=bound // 2,
        naive_bytes=int(taken.sum()),
        execution_order={
            name: ExecutionOrder(i, 0, n_layers + i, n_layers + i, n_layers + i)
            for i, name in enumerate(names)
        },
        buffers=tuple(
            Buffer(t.name, t.kind, t.start, t.stop, int(offset), t.size_bytes, (i,))
            for i, (t, offset) in enumerate(zip(tensors, layout.offset, strict=True))
        ),
        tensors=tensors,
        executions=tuple(
            Execution(i, step.phase, step.layer, tuple(operands))
            for i, (step, operands) in enumerate(zip(steps, uses, strict=True))
            if operands
        ),
        layers=tuple(
            PlanLayer(
                name=name,
                type_name="fully_connected",
                inputs=(),
                weights=(),
                is_trainable=True,
                is_loss=False,
                output_shapes=((1, 1, 1),),
                in_place=False,
                flops=Flops(1, 1, 1),
            )
            for name in names
        ),
        blocks=(),
        steps=steps,
        n_forward=n_layers,
        n_pass=n_steps,
        batch_size=1,
        micro_batches=1,
        ways=(),
        alignment_bytes=64,
        canary_bytes=0,
        allocator=layout.engine,
    )
