"""Describes a model as plain data, with layers, optimizer and schedule as text.

Saved states hold it as JSON. Unlike an INI file it takes any name of a layer or block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from arena_ckpt.common.properties import write_properties
from arena_ckpt.common.wording import shown
from arena_ckpt.definition.model_definition import MODEL_PROPERTIES, ModelDefinition
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.layers import LAYER_TYPES, create_layer
from arena_ckpt.layers.base import Layer
from arena_ckpt.optim.learning_rates import Schedule, create_schedule
from arena_ckpt.optim.optimizers import create_optimizer

_DECIDING = {
    declared.name: "None"
    if declared.default is None
    else declared.kind.write(declared.default)
    for declared in MODEL_PROPERTIES
    if declared.name not in ("epochs", "memory_optimization", "threads")
}
"""Properties of a model on which the bits of a training depend, and their defaults."""

_FIXED = "drop_last"
"""Property that a training reads when it begins; later changes do not reach it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A layer, optimizer or schedule as text.

    Attributes
    ----------
    type_name : str
    properties : dict from str to str
        Properties that were set, as text.
    """

    type_name: str
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class BlockNames:
    """A checkpoint block: its name, and the names of its layers."""

    name: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """A model as plain data.

    Attributes
    ----------
    seed : int
    properties : dict from str to str
        Properties of the model that were set.
    layers : tuple of Part
        Layers in the order in which they were added.
    blocks : tuple of BlockNames
    optimizer : Part
    schedule : Part or None
    """

    seed: int
    properties: dict[str, str]
    layers: tuple[Part, ...]
    blocks: tuple[BlockNames, ...]
    optimizer: Part
    schedule: Part | None


def describe(model: ModelDefinition) -> Description:
    """Return a model as plain data.

    Raises
    ------
    InvalidParameterError
        A layer that `build` would not make again as it is.
    """
    return Description(
        int(model.seed),
        write_properties(MODEL_PROPERTIES, model.properties),
        tuple(_layer_as_text(layer) for layer in model.layers),
        tuple(BlockNames(block.name, tuple(block.layers)) for block in model.blocks),
        Part(model.optimizer.type_name, model.optimizer.to_properties()),
        _schedule_as_text(model.schedule),
    )


def describe_again(before: Description, model: ModelDefinition) -> Description:
    """Return the description of an initialized model, starting from an earlier one.

    Only its schedule and epochs can have changed for the training under way, and the
    layers need not be looked at.
    """
    properties = write_properties(MODEL_PROPERTIES, model.properties)
    properties.pop(_FIXED, None)
    if _FIXED in before.properties:
        properties[_FIXED] = before.properties[_FIXED]
    return replace(
        before,
        properties=properties,
        schedule=_schedule_as_text(model.schedule),
    )


def _schedule_as_text(schedule: Schedule | None) -> Part | None:
    if schedule is None:
        return None
    return Part(schedule.type_name, schedule.to_properties())


def _layer_as_text(layer: Layer) -> Part:
    text = write_properties(layer.properties, layer.given)
    known = LAYER_TYPES.get(layer.type_name)
    why = None
    if known is not None:  # otherwise it is up to whoever loads the model
        given = {k: value for k, value in layer.given.items() if value is not None}
        mine = type(layer)
        if (known.__module__, known.__qualname__) != (
            mine.__module__,
            mine.__qualname__,
        ):
            why = (
                f"it is a {mine.__qualname__}, and {layer.type_name!r} stands for "
                f"{known.__qualname__}; give the class a type_name of its own and "
                "register_layer"
            )
        else:
            try:
                again = create_layer(layer.type_name, _strings(text)).given
                if dict(again) != given:
                    why = f"{given} would be read back as {dict(again)}"
            except ValueError as error:
                why = str(error)
    if why is not None:
        raise InvalidParameterError(
            f"layer {layer.name!r} ({layer.type_name}) cannot be saved as text: {why}",
            layer=layer.name,
        )
    return Part(layer.type_name, text)


def build(description: Description, model: ModelDefinition) -> None:
    """Add all that a description says to a model that is empty.

    Raises
    ------
    InvalidParameterError
        A type or property that does not exist here, or a value that cannot be.
    """
    for layer in description.layers:
        model.add_layer(layer.type_name, _strings(layer.properties))
    for block in description.blocks:
        model.add_checkpoint_block(block.layers, block.name)
    model.set_property(_strings(description.properties))
    optimizer = description.optimizer
    model.set_optimizer(
        create_optimizer(optimizer.type_name, _strings(optimizer.properties))
    )
    model.set_learning_rate_scheduler(schedule_of(description))


def schedule_of(description: Description) -> Schedule | None:
    """Return the learning-rate schedule of a description, or None.

    Raises
    ------
    InvalidParameterError
    """
    part = description.schedule
    if part is None:
        return None
    return create_schedule(part.type_name, _strings(part.properties))


def first_difference(one: Description, other: Description) -> str | None:
    """Return the first difference of two models that changes bits, or None.

    Blocks, epochs and reuse of memory change none.
    """
    for field in fields(Description):
        mine, its = getattr(one, field.name), getattr(other, field.name)
        if field.name == "blocks":
            continue
        if field.name == "properties":
            for name, default in _DECIDING.items():
                a, b = mine.get(name, default), its.get(name, default)
                if a != b:
                    return f"its {name} is {shown(a)}, not {shown(b)}"
        elif field.name == "layers":
            for number, (a, b) in enumerate(zip(mine, its, strict=False)):
                if a != b:
                    return f"its layer {number} is {_shown(a)}, not {_shown(b)}"
            if len(mine) != len(its):
                return f"it has {len(mine)} layers, not {len(its)}"
        elif mine != its:
            return f"its {field.name} is {_shown(mine)}, not {_shown(its)}"
    return None


def _shown(value: object) -> str:
    if isinstance(value, Part):
        given = ", ".join(f"{key}={text}" for key, text in value.properties.items())
        return shown(f"{value.type_name}({given})")
    return "none" if value is None else shown(value)


def _strings(properties: Mapping[str, str]) -> list[str]:
    return [f"{key}={text}" for key, text in properties.items()]
