"""Compares what two plans state of their models: properties, optimizer, arithmetic."""

from __future__ import annotations

from dataclasses import replace

from arena_ckpt.common.wording import shown
from arena_ckpt.errors import PlanMismatchError
from arena_ckpt.planning.model_facts import default_text
from arena_ckpt.planning.plan import MemoryPlan

_KERNEL_CHOICES = ("nesterov",)
"""Properties of optimizers that choose the kernel of the update; the others are
numbers, which a training may change as it goes on."""


def stated_as_in(plan: MemoryPlan, own: MemoryPlan) -> MemoryPlan:
    """Return `own` without what `plan` does not state.

    A plan that was read from a file of version 4 or 5 states neither properties nor
    arithmetic nor optimizer.
    """
    layers = tuple(
        replace(mine, properties=None) if stated.properties is None else mine
        for mine, stated in zip(own.layers, plan.layers, strict=False)
    )
    return replace(
        own,
        layers=(*layers, *own.layers[len(layers) :]),
        arithmetic=own.arithmetic if plan.arithmetic else None,
        training=own.training if plan.training else None,
    )


def require_same_facts(plan: MemoryPlan, own: MemoryPlan) -> None:
    """Refuse a plan whose layers have other properties, or that trains differently.

    Learning rates, schedules and other numbers of the optimizer may differ: the plan
    does not depend on them, and they may change while a training goes on.

    Raises
    ------
    PlanMismatchError
        With the name of the layer and of the property.
    """
    for mine, stated in zip(own.layers, plan.layers, strict=False):
        if (mine.name, mine.type_name) != (stated.name, stated.type_name):
            return  # whoever compares the layers tells more
        ours, theirs = mine.properties or {}, stated.properties or {}
        for name in ours | theirs:
            if ours.get(name) != theirs.get(name):
                raise _mismatch(
                    "layers",
                    f"{name} of layer {shown(mine.name)} ({mine.type_name})",
                    theirs.get(name) or default_text(mine.type_name, name),
                    ours.get(name) or default_text(mine.type_name, name),
                    layer=mine.name,
                    property=name,
                )
    if own.arithmetic != plan.arithmetic:
        raise _mismatch("arithmetic", "arithmetic", plan.arithmetic, own.arithmetic)
    if plan.training is None or own.training is None:
        return
    used, given = own.training.optimizer, plan.training.optimizer
    if used.type_name != given.type_name:
        raise _mismatch("training", "the optimizer", given.type_name, used.type_name)
    for name in _KERNEL_CHOICES:
        if used.properties.get(name) != given.properties.get(name):
            raise _mismatch(
                "training",
                f"{name} of the optimizer {used.type_name}",
                given.properties.get(name),
                used.properties.get(name),
                property=name,
            )


def _mismatch(
    what: str, of: str, given: str | None, own: str | None, **facts: str
) -> PlanMismatchError:
    there, here = ("its default" if v is None else shown(v) for v in (given, own))
    return PlanMismatchError(
        f"the plan is not one of this model, which differs in {of}: in the plan "
        f"{there}, in the model {here}. Make a plan of this model with make_plan() or "
        "pareto()",
        what=what,
        **facts,
    )
