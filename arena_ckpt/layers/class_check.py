"""Checks a class of layers when it is registered."""

from __future__ import annotations

import inspect

from arena_ckpt.common.properties import Kind, Property
from arena_ckpt.common.wording import quote, quoted
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.layers.base import COMMON_PROPERTIES, Layer
from arena_ckpt.layers.loss import Loss

_HOOKS = {
    "__init__": "(self, given)",
    "expand": "(self, input_shapes)",
    "infer": "(self, input_shapes)",
    "forward": "(self, tensors)",
    "calc_gradient": "(self, tensors)",
    "calc_derivative": "(self, tensors)",
}
"""Methods that the package calls on a layer, and the arguments of each."""

_HOOKS_OF_LOSS = {"predict": "(self, tensors)"}
"""Those that it calls on a loss as well."""

_WRITE = {
    "infer": "infer(self, input_shapes), which returns a LayerSpec",
    "term_scale": "term_scale(self, shape, n_terms), which returns the factor of each "
    "term of the loss",
}
"""What to write where an abstract method is missing."""

_FLAGS = ("is_loss", "is_alias", "is_table", "moves_elements", "keeps_axes")
_READS = ("pictures", "sequences", None)


def check_class(layer: type[Layer]) -> None:
    """Refuse a class whose layers the package could not use.

    Parameters
    ----------
    layer : subclass of Layer
        A class with a valid `type_name`.

    Raises
    ------
    InvalidParameterError
        A hook is missing or takes other arguments, `properties` is no tuple of
        `Property` that begins with `COMMON_PROPERTIES`, or an attribute has a value
        that is not possible; the message names it.
    """
    _check_hooks(layer)
    _check_properties(layer)
    if not isinstance(layer.n_inputs, int | range | None):
        raise InvalidParameterError(
            f"{_described(layer)}.n_inputs is {quoted(layer.n_inputs)}; expected a "
            "whole number, a range, or None for one or more",
            type_name=layer.type_name,
        )
    _check_facts(layer)


def _described(layer: type[Layer]) -> str:
    return f"{layer.__name__} ({layer.type_name})"


def _check_hooks(layer: type[Layer]) -> None:
    """Refuse hooks that are missing or cannot be called as the package calls them."""
    if missing := sorted(getattr(layer, "__abstractmethods__", ())):
        advice = " and ".join(_WRITE.get(name, name) for name in missing)
        raise InvalidParameterError(
            f"{_described(layer)} has no {quote(missing)}; write {advice}",
            type_name=layer.type_name,
            missing=tuple(missing),
        )
    hooks = _HOOKS | (_HOOKS_OF_LOSS if issubclass(layer, Loss) else {})
    for hook, usage in hooks.items():
        try:
            inspect.signature(getattr(layer, hook)).bind(None, None)
        except TypeError:
            raise InvalidParameterError(
                f"{_described(layer)}: {hook} is called with {usage}; write it so",
                type_name=layer.type_name,
                hook=hook,
            ) from None


def _check_properties(layer: type[Layer]) -> None:
    """Refuse `properties` that is no tuple of them, or lacks what all layers have."""
    who, properties = _described(layer), layer.properties
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
                f"{quoted(declared.kind)}; take one of arena_ckpt.layers, such as "
                "POSITIVE_INT, REAL or BOOLEAN",
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


def _check_facts(layer: type[Layer]) -> None:
    """Refuse facts of the class with a value that is not possible."""
    for flag in _FLAGS:
        if not isinstance(getattr(layer, flag), bool):
            raise InvalidParameterError(
                f"{_described(layer)}.{flag} is {quoted(getattr(layer, flag))}; "
                "expected True or False",
                type_name=layer.type_name,
            )
    if layer.reads not in _READS:
        raise InvalidParameterError(
            f"{_described(layer)}.reads is {quoted(layer.reads)}; expected 'pictures', "
            "'sequences' or None",
            type_name=layer.type_name,
        )
    if layer.is_loss != issubclass(layer, Loss):
        raise InvalidParameterError(
            f"{_described(layer)}.is_loss is {layer.is_loss}; derive losses, and only "
            "these, from arena_ckpt.layers.Loss",
            type_name=layer.type_name,
        )
