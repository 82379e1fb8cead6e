"""Converts frozen dataclasses to plain JSON values and back, by their annotations.

A field of `may_be_left_out` is written only where its value is not the default, so that
a format can grow without a change to what it could say before.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from typing import Any

_LEFT_OUT = "left out of JSON if it has its default"


def may_be_left_out(default: Any, *, is_hashed: bool = True) -> Any:
    """Return a dataclass field that JSON holds only where it has another value.

    A field that holds a dict cannot be hashed.
    """
    counts = None if is_hashed else False
    return dataclasses.field(default=default, metadata={_LEFT_OUT: True}, hash=counts)


def is_optional(field: dataclasses.Field[Any]) -> bool:
    """Tell whether JSON may lack a field."""
    return bool(field.metadata.get(_LEFT_OUT))


def encode(value: Any) -> Any:
    """Return `value` as dicts, lists, strings and numbers.

    Parameters
    ----------
    value : object
        Dataclasses, named tuples, tuples, dicts with string keys, enums, str, int,
        float, bool or None.
    """
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {
            field.name: encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (is_optional(field) and getattr(value, field.name) == field.default)
        }
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


_hints = functools.cache(typing.get_type_hints)


def decode(kind: Any, value: Any, where: str = "") -> Any:
    """Return `value`, as made by `encode`, as an object of type `kind`.

    Raises
    ------
    ValueError
        The value does not fit; the message says where.
    """
    if kind is Any:
        return value
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        kind = next(option for option in options if option is not type(None))
        origin = typing.get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if dataclasses.is_dataclass(kind):
        return _decode_fields(kind, value, where)
    if origin is dict:
        _expect(isinstance(value, dict), "an object", value, where)
        item_kind = typing.get_args(kind)[1]
        return {k: decode(item_kind, v, f"{where}.{k}") for k, v in value.items()}
    if origin is tuple or (isinstance(kind, type) and issubclass(kind, tuple)):
        return _decode_tuple(kind, value, where)
    _expect(type(value) is kind, f"a value of type {kind.__name__}", value, where)
    return value


def _decode_fields(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), "an object", value, where)
    hints = _hints(kind)
    optional = {field.name for field in dataclasses.fields(kind) if is_optional(field)}
    missing = sorted(hints.keys() - value.keys() - optional)
    if missing:
        raise ValueError(f"{where or 'the document'} lacks {', '.join(missing)}")
    return kind(
        **{
            name: decode(hint, value[name], f"{where}.{name}")
            for name, hint in hints.items()
            if name in value
        }
    )


def _decode_tuple(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, list), "a list", value, where)
    named = getattr(kind, "_fields", None)
    arguments = typing.get_args(kind)
    if named:
        hints = list(_hints(kind).values())
    elif arguments[-1] is Ellipsis:
        hints = [arguments[0]] * len(value)
    else:
        hints = list(arguments)
    _expect(len(value) == len(hints), f"{len(hints)} values", value, where)
    items = [
        decode(hint, item, f"{where}[{i}]")
        for i, (hint, item) in enumerate(zip(hints, value, strict=True))
    ]
    return kind(*items) if named else tuple(items)


def _expect(holds: bool, expected: str, value: Any, where: str) -> None:
    if not holds:
        raise ValueError(
            f"{where or 'the document'}: expected {expected}, found {str(value)[:80]!r}"
        )
