"""Changes of layers that a model has: which are frozen, and one in place of another.

Everything here makes new layers and leaves the model as it is, so that a change that is
refused has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from arena_ckpt.common.properties import split_strings
from arena_ckpt.common.wording import few, listed, nearest, quote, quoted
from arena_ckpt.errors import InvalidParameterError, UnknownLayerError
from arena_ckpt.layers import create_layer
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.partial import TRAIN, has_part

_FREEZES = "trainable"
"""Property of the layers that can be frozen."""


def with_trainable(
    layers: Mapping[str, Layer], given: object, trainable: bool
) -> dict[str, Layer]:
    """Return the layers that patterns match, made to be trained or not.

    Parameters
    ----------
    layers : dict from str to Layer
        Layers of a model by name.
    given : str or iterable of str
        Patterns of names, as `fnmatch` reads them; one text can hold several, with
        commas.
    trainable : bool

    Returns
    -------
    dict from str to Layer
        The matched layers that have weights, in the order of the model.

    Raises
    ------
    UnknownLayerError
        A pattern matches no layer.
    InvalidParameterError
        A pattern matches only layers without weights, or is no text.
    """
    verb = "unfreeze" if trainable else "freeze"
    try:
        patterns = given.split(",") if isinstance(given, str) else few(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        patterns = [None]
    patterns = [p.strip() if isinstance(p, str) else "" for p in patterns]
    if not patterns or not all(patterns):
        raise InvalidParameterError(
            f"{verb}: {quoted(given)} are no names of layers; give them or patterns of "
            f"them, for example {verb}(['conv*', 'fc1'])",
            patterns=given,
        )
    found: set[str] = set()
    freezable = [name for name, layer in layers.items() if _can_be_frozen(layer)]
    for pattern in patterns:
        matched = [name for name in layers if fnmatchcase(name, pattern)]
        if not matched:
            raise UnknownLayerError(
                f"{verb}: {quoted(pattern)} matches no layer"
                f"{nearest(pattern, layers)}; the model has {listed(layers)}",
                pattern=pattern,
            )
        able = [name for name in matched if name in freezable]
        if not able:
            raise InvalidParameterError(
                f"{verb}: {quoted(pattern)} matches {quote(matched)}, without weights "
                "that can be frozen; those with the property trainable are "
                f"{quote(freezable) or 'none here'}",
                pattern=pattern,
                layers=tuple(matched),
            )
        found.update(able)
    return {
        name: layer
        if layer.is_trainable == trainable and not (trainable and has_part(layer))
        else _whole(layer, trainable)
        for name, layer in layers.items()
        if name in found
    }


def replacement(
    layers: Mapping[str, Layer],
    name: object,
    layer: Layer | str | None,
    properties: Sequence[str],
    values: Mapping[str, object],
) -> Layer:
    """Return the layer that takes the place, the name and the inputs of another.

    Parameters
    ----------
    layers : dict from str to Layer
        Layers of a model by name.
    name : str
        The layer to replace.
    layer : Layer, str or None
        The new layer or its type; None takes the type and properties of the old one.
    properties, values
        Properties of the new layer.

    Raises
    ------
    UnknownLayerError
        There is no layer of this name.
    InvalidParameterError
        An unknown type or property, an impossible value, or another name.
    """
    if isinstance(layer, str):
        create_layer(layer, properties, **values)  # what is wrong in itself comes first
    if not isinstance(name, str) or name not in layers:
        near = nearest(name, layers) if isinstance(name, str) else ""
        raise UnknownLayerError(
            f"replace_layer: there is no layer {quoted(name)}{near}; the model has "
            f"{listed(layers)}",
            layer=name,
        )
    old = layers[name]
    type_name = old.type_name if layer is None else layer
    if isinstance(type_name, Layer):
        given, type_name = dict(type_name.given), type_name.type_name
    else:
        given = dict(old.given) if layer is None else {}
    changes = split_strings(f"layer of type {type_name}", properties) | dict(values)
    if layer is None and not changes:
        raise InvalidParameterError(
            f"replace_layer({name!r}) changes nothing; give a layer, a type or "
            f"properties, for example replace_layer({name!r}, unit=3)",
            layer=name,
        )
    inputs = old["input_layers"]
    stays = {"name": name} | ({} if inputs is None else {"input_layers": inputs})
    # A layer that is given may come with no name: None there stands for the old one.
    given = {key: value for key, value in given.items() if value is not None}
    new = create_layer(type_name, (), **{**stays, **given, **changes})
    if new.name != name:
        raise InvalidParameterError(
            f"replace_layer({name!r}) cannot rename the layer to {new.name!r}, because "
            "others read it by its name; leave name out",
            layer=name,
            name=new.name,
        )
    return new


def _whole(layer: Layer, trainable: bool) -> Layer:
    """Return a layer of which all weights are trained, or none."""
    given = {name: v for name, v in layer.given.items() if name != TRAIN.name}
    return type(layer)({**given, _FREEZES: trainable})


def _can_be_frozen(layer: Layer) -> bool:
    return any(declared.name == _FREEZES for declared in layer.properties)
