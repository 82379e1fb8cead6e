"""What a plan states of the model it was made from, beside shapes and steps.

Properties of layers, the optimizer and the arithmetic decide what is computed. They
stand in a plan as text, so that a change of them has a name even where no size changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from arena_ckpt.common.properties import Property, write_properties
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.layers.base import Layer
from arena_ckpt.optim.learning_rates import Schedule
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS, Optimizer

_FIELDS_OF_THEIR_OWN = ("name", "input_layers")
"""Properties of a layer that a plan states elsewhere."""


@dataclass(frozen=True, slots=True)
class PlanPart:
    """An optimizer or a learning-rate schedule as text.

    Attributes
    ----------
    type_name : str
        For example ``"adam"``.
    properties : dict from str to str
        Every property with its value, also where that is the default.
    """

    type_name: str
    properties: dict[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class PlanTraining:
    """How an iteration of training changes the weights.

    Attributes
    ----------
    optimizer : PlanPart
    schedule : PlanPart or None
        The learning-rate schedule; without one the optimizer has the rate.
    clip_grad_by_norm : float or None
        The global norm to which gradients are scaled down.
    """

    optimizer: PlanPart
    schedule: PlanPart | None
    clip_grad_by_norm: float | None

    @property
    def parts(self) -> tuple[PlanPart, ...]:
        """The optimizer, and the schedule where there is one."""
        return (self.optimizer, *([self.schedule] if self.schedule else ()))


def layer_properties(layer: Layer) -> dict[str, str]:
    """Return the properties of a layer that are not their defaults, as text.

    Its name and what it reads are left out. The order is the one of the declarations.
    """
    defaults = {declared.name: declared.default for declared in layer.properties}
    given = {
        name: value
        for name, value in layer.given.items()
        if name not in _FIELDS_OF_THEIR_OWN and value != defaults.get(name)
    }
    return _written(layer.properties, given)


def default_text(type_name: str, name: str) -> str | None:
    """Return the default of a property of a layer as text.

    None where the type is not known here, or has no such property; ``"none"`` where the
    property has no default.
    """
    known = LAYER_TYPES.get(type_name)
    declared = {own.name: own for own in known.properties} if known else {}
    if name not in declared:
        return None
    default = declared[name].default
    return "none" if default is None else str(declared[name].kind.write(default))


def training_facts(
    optimizer: Optimizer, schedule: Schedule | None, max_norm: float | None
) -> PlanTraining:
    """Return what a plan states of the updates.

    Parameters
    ----------
    optimizer : Optimizer
    schedule : Schedule or None
    max_norm : float or None
        Value of ``clip_grad_by_norm``.
    """
    schema = OPTIMIZER_SCHEMAS[optimizer.type_name]
    values = {declared.name: optimizer[declared.name] for declared in schema}
    return PlanTraining(
        PlanPart(optimizer.type_name, _written(schema, values)),
        None
        if schedule is None
        else PlanPart(schedule.type_name, _printable(schedule.to_properties())),
        max_norm,
    )


def _written(schema: Iterable[Property], values: Mapping[str, Any]) -> dict[str, str]:
    return _printable(write_properties(schema, values))


def _printable(texts: Mapping[str, str]) -> dict[str, str]:
    """Return texts in which escapes stand for what cannot be printed."""
    return {
        name: text if text.isprintable() else text.encode("unicode_escape").decode()
        for name, text in ((name, str(text)) for name, text in texts.items())
    }
