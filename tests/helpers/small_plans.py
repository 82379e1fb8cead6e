"""Plans of a few layers of four features, and what a reader looks up in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from arena_ckpt import MemoryPlan, Model, Phase

Spec = tuple[str, dict[str, Any]]
Range = tuple[int, int]
DATA: Spec = ("input", {"name": "in", "input_shape": "1:1:4"})
LOSS: Spec = ("mse", {"name": "loss"})


def fc(name: str, *inputs: str, **values: Any) -> Spec:
    sources = {"input_layers": inputs} if inputs else {}
    return "fully_connected", {"name": name, "unit": 4, **sources, **values}


def act(name: str, function: str) -> Spec:
    return "activation", {"name": name, "activation": function}


def add(name: str, *inputs: str) -> Spec:
    return "addition", {"name": name, "input_layers": inputs}


def build(
    *specs: Spec, blocks: Iterable[Sequence[str]] = (), **properties: Any
) -> Model:
    model = Model()
    for type_name, values in specs:
        model.add_layer(type_name, **values)
    for block in blocks:
        model.add_checkpoint_block(block)
    model.set_property(batch_size=2)
    model.set_property(**properties)
    return model


def plan_of(
    *specs: Spec, blocks: Iterable[Sequence[str]] = (), **properties: Any
) -> MemoryPlan:
    return build(*specs, blocks=blocks, **properties).make_plan()


def lives(plan: MemoryPlan, name: str) -> list[Range]:
    """Return the live ranges of a tensor, one for each life."""
    found = [t for t in plan.tensors if t.name == name]
    assert [t.life for t in found] == list(range(len(found)))
    return [(t.start, t.stop) for t in found]


def sharers(plan: MemoryPlan, name: str, life: int = 0) -> set[str]:
    """Return the tensors in the buffer of a tensor life; ``"x#1"`` is its second."""
    written = {
        index: t.name + (f"#{t.life}" if t.life else "")
        for index, t in enumerate(plan.tensors)
    }
    wanted = name + (f"#{life}" if life else "")
    (buffer,) = [b for b in plan.buffers if wanted in {written[i] for i in b.tensors}]
    return {written[i] for i in buffer.tensors}


def steps(plan: MemoryPlan, phase: Phase) -> list[tuple[int, str]]:
    return [(e.step, e.layer) for e in plan.executions if e.phase is phase]
