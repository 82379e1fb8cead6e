"""Small networks of all kinds, and plans of them with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from arena_ckpt import Phase
from arena_ckpt.planning.plan import Buffer, MemoryPlan
from arena_ckpt.planning.tensors import Access, Execution, LiveRange, Operand
from helpers.strategies import ModelSpec, chain

ADAM = ("adam", {"learning_rate": 0.01})
MOMENTUM = ("sgd", {"learning_rate": 0.05, "momentum": 0.9})
Layers = list[tuple[str, dict[str, Any]]]


def _net(
    layers: Layers, *blocks: tuple[str, ...], batch_size: int = 4, **properties: object
) -> ModelSpec:
    given = {"batch_size": batch_size, **properties}
    return ModelSpec(tuple(layers), blocks, given, MOMENTUM)


def _input(*shape: int) -> tuple[str, dict[str, Any]]:
    return "input", {"name": "in", "input_shape": shape}


def _layer(kind: str, name: str, **values: Any) -> tuple[str, dict[str, Any]]:
    return kind, {"name": name, **values}


def _mlp(activation: str, **properties: object) -> ModelSpec:
    return chain(
        *(16, activation, 16, activation, 12, activation, 5),
        width=24,
        blocks=(("fc1", "act1", "fc2", "act2"),),
        optimizer=ADAM,
        **properties,
    )


NETS: dict[str, ModelSpec] = {
    "mlp": _mlp("gelu"),
    "relu": _mlp("relu"),
    "micro": _mlp("gelu", micro_batches=3),
    "clip": _mlp("gelu", clip_grad_by_norm=0.01),
    "cnn": _net(
        [
            _input(2, 8, 8),
            _layer("conv2d", "conv1", filters=4, kernel_size=(3, 3), padding="same"),
            _layer("batch_normalization", "bn1"),
            _layer("activation", "act1", activation="relu"),
            _layer("conv2d", "conv2", filters=4, kernel_size=(3, 3), padding="same"),
            _layer("batch_normalization", "bn2"),
            _layer("activation", "act2", activation="gelu"),
            _layer("pooling2d", "pool", pooling="max", pool_size=(2, 2), stride=(2, 2)),
            _layer("flatten", "flat"),
            _layer("fully_connected", "out", unit=5),
            _layer("cross_softmax", "loss"),
        ],
        ("conv1", "bn1", "act1", "conv2", "bn2", "act2"),
    ),
    "transformer": _net(
        [
            _input(1, 6, 8),
            _layer("layer_normalization", "ln1", axis=3),
            _layer("multi_head_attention", "mha", num_heads=2),
            _layer("addition", "add1", input_layers=["mha", "in"]),
            _layer("layer_normalization", "ln2", axis=3),
            _layer("fully_connected", "fc1", unit=16),
            _layer("activation", "gelu", activation="gelu"),
            _layer("dropout", "drop", dropout_rate=0.25),
            _layer("fully_connected", "fc2", unit=8),
            _layer("addition", "add2", input_layers=["fc2", "add1"]),
            _layer("fully_connected", "out", unit=3),
            _layer("mse", "loss"),
        ],
        ("ln2", "fc1", "gelu", "drop", "fc2"),
    ),
    "recurrent": _net(
        [
            _input(1, 4, 6),
            _layer("lstm", "lstm", unit=5, return_sequences=True),
            _layer("activation", "act", activation="tanh"),
            _layer("gru", "gru", unit=5, return_sequences=True),
            _layer("fully_connected", "out", unit=3),
            _layer("mse", "loss"),
        ],
        ("lstm", "act", "gru"),
    ),
    "residual": _net(
        [
            _input(1, 1, 12),
            _layer("fully_connected", "a", unit=12),
            _layer("activation", "act_a", activation="gelu"),
            _layer("fully_connected", "b", unit=12),
            _layer("activation", "act_b", activation="gelu"),
            _layer("addition", "sum", input_layers=["act_b", "act_a"]),
            _layer("fully_connected", "c", unit=4),
            _layer("mse", "loss"),
        ],
        ("a", "act_a"),
    ),
    "shared": _net(
        [
            _input(1, 1, 8),
            _layer("fully_connected", "first", unit=8),
            _layer("activation", "act", activation="gelu"),
            _layer("fully_connected", "second", unit=8, shared_from="first"),
            _layer("fully_connected", "out", unit=3),
            _layer("mse", "loss"),
        ],
        ("first", "act"),
    ),
    "frozen": _net(
        [
            _input(2, 8, 8),
            _layer("conv2d", "conv1", filters=4, kernel_size=(3, 3), padding="same"),
            _layer("activation", "act1", activation="gelu"),
            _layer(
                *("conv2d", "conv2"),
                filters=4,
                kernel_size=(3, 3),
                padding="same",
                trainable=False,
            ),
            _layer("batch_normalization", "bn2", trainable=False),
            _layer("activation", "act2", activation="gelu"),
            _layer("flatten", "flat"),
            _layer("fully_connected", "out", unit=5),
            _layer("cross_softmax", "loss"),
        ],
        ("conv1", "act1", "conv2", "bn2"),
    ),
    "chosen": chain(*([16, "gelu"] * 8), 4, width=16, optimizer=ADAM, batch_size=32),
}
"""By what is special about them; all but the last have checkpoint blocks."""


@cache
def plan_of(net: str) -> MemoryPlan:
    """Return the plan of a net; that of the last is chosen by its budget."""
    model = NETS[net].model()
    if net != "chosen":
        return model.make_plan()
    return model.pareto()[0].plan


# -- finding ---------------------------------------------------------------------------


def life(plan: MemoryPlan, name: str, number: int = 0) -> int:
    """Return the index of a life of a tensor."""
    return next(
        index
        for index, tensor in enumerate(plan.tensors)
        if (tensor.name, tensor.life) == (name, number)
    )


def place_of(plan: MemoryPlan, name: str, number: int = 0) -> int:
    """Return the index of the buffer of a life."""
    index = life(plan, name, number)
    return next(i for i, b in enumerate(plan.buffers) if index in b.tensors)


def step_of(plan: MemoryPlan, phase: Phase, layer: str) -> int:
    """Return the index of an execution in `MemoryPlan.executions`."""
    return next(
        index
        for index, e in enumerate(plan.executions)
        if (e.phase, e.layer) == (phase, layer)
    )


# -- changing --------------------------------------------------------------------------


def with_buffer(plan: MemoryPlan, place: int, **changes: Any) -> MemoryPlan:
    buffers = list(plan.buffers)
    buffers[place] = replace(buffers[place], **changes)
    return replace(plan, buffers=tuple(buffers))


def with_life(plan: MemoryPlan, index: int, **changes: Any) -> MemoryPlan:
    tensors: list[LiveRange] = list(plan.tensors)
    tensors[index] = replace(tensors[index], **changes)
    return replace(plan, tensors=tuple(tensors))


def with_executions(plan: MemoryPlan, executions: list[Execution]) -> MemoryPlan:
    ordered = sorted(executions, key=lambda e: e.step)
    return replace(plan, executions=tuple(ordered))


def without(plan: MemoryPlan, phase: Phase, layer: str) -> MemoryPlan:
    """Drop an execution."""
    executions = list(plan.executions)
    del executions[step_of(plan, phase, layer)]
    return with_executions(plan, executions)


def exchanged(
    plan: MemoryPlan, one: tuple[Phase, str], other: tuple[Phase, str]
) -> MemoryPlan:
    """Let two executions take each other's steps; lives are as long as both need."""
    executions = list(plan.executions)
    i, j = step_of(plan, *one), step_of(plan, *other)
    first, second = executions[i], executions[j]
    executions[i] = replace(first, step=second.step)
    executions[j] = replace(second, step=first.step)
    steps = list(plan.steps)
    steps[first.step], steps[second.step] = steps[second.step], steps[first.step]
    return stretched(replace(with_executions(plan, executions), steps=tuple(steps)))


def stretched(plan: MemoryPlan) -> MemoryPlan:
    """Let every life reach as far as its uses, so that ranges alone betray nothing."""
    spans = {
        index: [tensor.start, tensor.stop] for index, tensor in enumerate(plan.tensors)
    }
    for execution in plan.executions:
        for operand in execution.operands:
            span = spans[operand.tensor]
            span[0] = min(span[0], execution.step)
            span[1] = max(span[1], execution.step + 1)
    for index, (start, stop) in spans.items():
        plan = with_life(plan, index, start=start, stop=stop)
    for place, buffer in enumerate(plan.buffers):
        start = min(spans[i][0] for i in buffer.tensors)
        stop = max(spans[i][1] for i in buffer.tensors)
        start, stop = min(start, buffer.start), max(stop, buffer.stop)
        plan = with_buffer(plan, place, start=start, stop=stop)
    return apart(plan)


def apart(plan: MemoryPlan) -> MemoryPlan:
    """Put buffers that overlap others on top."""
    for place, buffer in enumerate(plan.buffers):
        end = buffer.offset_bytes + plan.taken_bytes(buffer.size_bytes)
        if any(
            buffer.start < other.stop
            and other.start < buffer.stop
            and buffer.offset_bytes < other.offset_bytes + other.size_bytes
            and other.offset_bytes < end
            for other in plan.buffers[:place]
        ):
            plan = on_top(plan, buffer)
    return plan


def counted(plan: MemoryPlan) -> MemoryPlan:
    """Let the plan know how many bytes its buffers take, as a wrong planner would."""
    return replace(plan, live_lower_bound_bytes=max(plan.live_bytes()))


def with_tensor(plan: MemoryPlan, tensor: LiveRange) -> MemoryPlan:
    """Add a tensor life in a buffer of its own."""
    buffer = Buffer(
        tensor.name,
        tensor.kind,
        tensor.start,
        tensor.stop,
        0,
        tensor.size_bytes,
        (len(plan.tensors),),
    )
    tensors, buffers = (*plan.tensors, tensor), (*plan.buffers, buffer)
    return on_top(replace(plan, tensors=tensors, buffers=buffers), buffer)


def with_operands(
    plan: MemoryPlan,
    phase: Phase,
    layer: str,
    change: Callable[[Operand], Operand | None],
) -> MemoryPlan:
    """Change or drop operands of an execution."""
    executions = list(plan.executions)
    place = step_of(plan, phase, layer)
    changed = [change(operand) for operand in executions[place].operands]
    operands = tuple(operand for operand in changed if operand is not None)
    executions[place] = replace(executions[place], operands=operands)
    return with_executions(plan, executions)


def bound_to(
    plan: MemoryPlan, phase: Phase, layer: str, role: str, tensor: int
) -> MemoryPlan:
    """Let another life stand in a role."""
    return with_operands(
        plan,
        phase,
        layer,
        lambda o: replace(o, tensor=tensor) if o.role == role else o,
    )


def accessed(
    plan: MemoryPlan, phase: Phase, layer: str, role: str, access: Access
) -> MemoryPlan:
    """Let a step do something else to a role."""
    return with_operands(
        plan,
        phase,
        layer,
        lambda o: replace(o, access=access) if o.role == role else o,
    )


def unbound(plan: MemoryPlan, phase: Phase, layer: str, role: str) -> MemoryPlan:
    """Leave a role out."""
    return with_operands(plan, phase, layer, lambda o: None if o.role == role else o)


def with_operand(
    plan: MemoryPlan, phase: Phase, layer: str, operand: Operand
) -> MemoryPlan:
    """Add an operand to an execution."""
    executions = list(plan.executions)
    place = step_of(plan, phase, layer)
    operands = (*executions[place].operands, operand)
    executions[place] = replace(executions[place], operands=operands)
    return stretched(with_executions(plan, executions))


def merged(plan: MemoryPlan, name: str, into: str, *lives: int) -> MemoryPlan:
    """Let a life take the bytes of another, as in place; `lives` are their numbers."""
    numbers = lives or (0, 0)
    mine, theirs = place_of(plan, name, numbers[0]), place_of(plan, into, numbers[1])
    gone, kept = plan.buffers[mine], plan.buffers[theirs]
    together: Buffer = replace(
        kept,
        start=min(gone.start, kept.start),
        stop=max(gone.stop, kept.stop),
        tensors=tuple(sorted((*gone.tensors, *kept.tensors))),
    )
    buffers = list(plan.buffers)
    buffers[theirs] = together
    del buffers[mine]
    return on_top(replace(plan, buffers=tuple(buffers)), together)


def on_top(plan: MemoryPlan, buffer: Buffer) -> MemoryPlan:
    """Put a buffer behind all others, so that it overlaps none of them."""
    place = plan.buffers.index(buffer)
    offset, taken = plan.arena_bytes, plan.taken_bytes(buffer.size_bytes)
    return with_buffer(
        replace(plan, arena_bytes=offset + taken), place, offset_bytes=offset
    )


def swapped_offsets(plan: MemoryPlan) -> MemoryPlan:
    """Swap the offsets of two buffers of different size; both fit the arena then."""
    for i, one in enumerate(plan.buffers):
        for j, other in enumerate(plan.buffers[:i]):
            large, small = sorted((one, other), key=lambda b: -b.size_bytes)
            end = small.offset_bytes + plan.taken_bytes(large.size_bytes)
            inside = large.size_bytes > small.size_bytes and end <= plan.arena_bytes
            if inside and any(
                b not in (one, other)
                and b.start < large.stop
                and large.start < b.stop
                and b.offset_bytes < end
                and small.offset_bytes < b.offset_bytes + b.size_bytes
                for b in plan.buffers
            ):
                plan = with_buffer(plan, i, offset_bytes=other.offset_bytes)
                return with_buffer(plan, j, offset_bytes=one.offset_bytes)
    raise AssertionError("no two buffers whose swap would break the layout")
