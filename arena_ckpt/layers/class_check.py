"""Refuses classes of layers that the package could not use."""

from __future__ import annotations

import inspect

from arena_ckpt.common.properties import Kind, Property
from arena_ckpt.common.wording import quote, quoted
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.layers.base import COMMON_PROPERTIES, Layer

_HOOKS = {
    "__init__": "(self, given)",
    "expand": "(self, input_shapes)",
    "infer": "(self, input_shapes)",
    "forward": "(self, tensors)",
    "calc_gradient": "(self, tensors)",
    "calc_derivative": "(self, tensors)",
}
"""What the package calls of a layer, and with which arguments."""


def check_class(layer: type[Layer]) -> None:
    """Refuse a class of which the package could not use the layers.

    Raises
    ------
    InvalidParameterError
    """
    who = f"{layer.__name__} ({layer.type_name})"
    if missing := sorted(getattr(layer, "__abstractmethods__", ())):
        raise InvalidParameterError(
            f"{who} has no {quote(missing)}; write infer(self, input_shapes), which "
            "returns a LayerSpec",
            type_name=layer.type_name,
            missing=tuple(missing),
        )
    for hook, usage in _HOOKS.items():
        try:
            inspect.signature(getattr(layer, hook)).bind(None, None)
        except TypeError:
            raise InvalidParameterError(
                f"{who}: {hook} is called with {usage}; write it so",
                type_name=layer.type_name,
                hook=hook,
            ) from None
    properties = layer.properties
    if not isinstance(properties, tuple | list) or not all(
        isinstance(declared, Property) for declared in properties
    ):
        raise InvalidParameterError(
            f"{who}.properties is {quoted(properties)}; expected a tuple of Property",
            type_name=layer.type_name,
        )
    for declared in properties:
        if not isinstance(declared.kind, Kind):
            raise InvalidParameterError(
                f"{who}: the property {quoted(declared.name)} is of the kind "
                f"{quoted(declared.kind)}; take one of arena_ckpt.common.properties, "
                "such as POSITIVE_INT, REAL or BOOLEAN",
                type_name=layer.type_name,
                property=declared.name,
            )
    names = [declared.name for declared in properties]
    lost = [p.name for p in COMMON_PROPERTIES if p.name not in names]
    if lost or len(set(names)) < len(names):
        problem = f"lack {quote(lost)}" if lost else "name one twice"
        raise InvalidParameterError(
            f"{who}.properties {problem}; begin them with *COMMON_PROPERTIES",
            type_name=layer.type_name,
        )
    if not isinstance(layer.n_inputs, int | range | None):
        raise InvalidParameterError(
            f"{who}.n_inputs is {quoted(layer.n_inputs)}; expected a whole number, a "
            "range, or None for one or more",
            type_name=layer.type_name,
        )
