"""A plan with one field changed is refused, whichever field it is."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from helpers.strategies import chain

from arena_ckpt import Model, create_schedule
from arena_ckpt.errors import PlanMismatchError
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.memory_use import PlannedRam
from arena_ckpt.planning.plan import MemoryPlan

MODEL = chain(
    *(9, "gelu", 8, "relu", 3),
    blocks=(("fc1", "act1", "fc2"),),
    optimizer=("sgd", {"momentum": 0.9, "learning_rate": 0.1}),
)


def scheduled() -> Model:
    model = MODEL.model()
    schedule = create_schedule("constant", learning_rate=0.1)
    model.set_learning_rate_scheduler(schedule)
    return model


PLAN = scheduled().make_plan()
_A_NUMBER = "a number of the update, which may change while a training goes on"

FREE = {
    "allocator": "the engine that found the layout: any layout that holds is as good",
    "arena_bytes": "an arena may be larger than its layout",
    "blocks[0].name": "steps say what is recomputed, whoever chose it",
    "blocks[0].layers": "steps say what is recomputed, whoever chose it",
    "blocks": "steps say what is recomputed, whoever chose it",
    "training": "plans of version 5 do not state it",
    "training.optimizer.properties[learning_rate]": _A_NUMBER,
    "training.schedule.type_name": _A_NUMBER,
    "training.schedule.properties": _A_NUMBER,
    "training.schedule.properties[learning_rate]": _A_NUMBER,
    "training.clip_grad_by_norm": _A_NUMBER,
}
"""What may be anything, and why."""

TOLD = {
    "micro_batches": "steps",
    "ways": "steps",
    "ways[0]": "buffers",
    "live_lower_bound_bytes": "layout",
    "buffers[0].offset_bytes": "layout",
    "buffers[0].memory": "layout",
    "rams": "layout",
    "blocks[0].layers[0]": "layout",
}
"""What the error names, where it is not the field itself."""


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, enum.Flag):
        return ~value
    if isinstance(value, enum.Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, tuple):
        return value[:-1] if value else ("fc1",)
    if value is None:
        return 1.0
    assert isinstance(value, dict), value
    return dict(list(value.items())[:-1])


def changes(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all ways of changing one thing in a value, and where it is.

    Of several members of a sequence one stands for all.
    """
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            where = f"{path}.{field.name}" if path else field.name
            for place, changed in changes(inner, where):
                yield place, replace(value, **{field.name: changed})
        return
    yield path, other(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        for name in value._fields:
            changed = value._replace(**{name: getattr(value, name) + 1})
            yield f"{path}.{name}", changed
    elif isinstance(value, tuple):
        index = next((i for i, one in enumerate(value) if _is_rich(one)), 0)
        for place, changed in (
            changes(value[index], f"{path}[{index}]") if value else ()
        ):
            yield place, (*value[:index], changed, *value[index + 1 :])
    elif isinstance(value, dict):
        name = next(iter(value))
        for place, changed in changes(value[name], f"{path}[{name}]"):
            yield place, {**value, name: changed}


def _is_rich(value: Any) -> bool:
    """Tell whether a member of a sequence shows all that its siblings can hold."""
    return not dataclasses.is_dataclass(value) or all(
        getattr(value, field.name) not in ((), None)
        for field in dataclasses.fields(value)
    )


CHANGES = dict(changes(PLAN))
CHANGES["training"] = replace(PLAN, training=None)
CHANGES["rams"] = replace(PLAN, rams=(PlannedRam("dtcm", PLAN.arena_bytes),))


def test_every_field_is_changed() -> None:
    """Fields of a plan, a layer, a buffer, a tensor, a step, an operand, an order."""
    for fields in (
        {field.name for field in dataclasses.fields(MemoryPlan)},
        {"layers[1].flops.forward", "layers[1].output_shapes[0][0]"},
        {"buffers[0].tensors[0]", "buffers[0].offset_bytes", "buffers[0].kind"},
        {"tensors[0].dtype", "tensors[0].shape[0]", "tensors[0].lifespan"},
        {"executions[0].operands[0].access", "steps[0].phase"},
        {"execution_order[in].recompute"},
        {"layers[1].properties[unit]", "arithmetic", "training.optimizer.type_name"},
    ):
        assert fields <= set(CHANGES)
    assert set(FREE) <= set(CHANGES)


def test_the_plan_itself_is_taken() -> None:
    ModelPlans(scheduled()).require_own_plan(PLAN)
    for path in FREE:
        ModelPlans(scheduled()).require_own_plan(CHANGES[path])


@pytest.mark.parametrize("path", [path for path in CHANGES if path not in FREE])
def test_a_plan_of_which_one_field_is_another_is_refused(path: str) -> None:
    changed = CHANGES[path]
    assert changed != PLAN
    with pytest.raises(PlanMismatchError) as caught:
        ModelPlans(scheduled()).require_own_plan(changed)
    what = caught.value.what
    assert what == TOLD.get(path, what)
    assert path in TOLD or path.startswith(what)


def test_buffers_that_overlap_are_refused() -> None:
    first, second, *rest = PLAN.buffers
    over = replace(second, offset_bytes=first.offset_bytes)
    changed = replace(PLAN, buffers=(first, over, *rest))
    with pytest.raises(PlanMismatchError, match=r"contradicts itself: .* overlap"):
        ModelPlans(scheduled()).require_own_plan(changed)


def test_a_layout_above_the_arena_is_refused() -> None:
    changed = replace(PLAN, arena_bytes=PLAN.arena_bytes - 64)
    with pytest.raises(PlanMismatchError, match="contradicts itself"):
        ModelPlans(scheduled()).require_own_plan(changed)
