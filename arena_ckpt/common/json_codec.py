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
from collections.abc import Callable
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
    kind = type(value)
    if kind in _PLAIN:
        return value
    if issubclass(kind, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(kind):
        return {
            field.name: encode(item)
            for field in dataclasses.fields(kind)
            for item in (getattr(value, field.name),)
            if not (is_optional(field) and item == field.default)
        }
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


_PLAIN = frozenset((str, int, float, bool, type(None)))

Where = str | tuple[Any, str | int]
"""Place in a document: its name, or the place around it and a key there."""

Reader = Callable[[Any, Where], Any]

_hints = functools.cache(typing.get_type_hints)


def decode(kind: Any, value: Any, where: str = "") -> Any:
    """Return `value`, as made by `encode`, as an object of type `kind`.

    Raises
    ------
    ValueError
        The value does not fit; the message says where.
    """
    return _reader(kind)(value, where)


@functools.cache
def _reader(kind: Any) -> Reader:
    """Return what reads values of one type."""
    if kind is Any:
        return lambda value, where: value
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(kind)
        read = _reader(next(o for o in options if o is not type(None)))
        if type(None) not in options:
            return read
        return lambda value, where: None if value is None else read(value, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return lambda value, where: kind(value)
    if dataclasses.is_dataclass(kind):
        return functools.partial(_read_fields, kind)
    if origin is dict:
        return functools.partial(_read_dict, typing.get_args(kind)[1])
    if origin is tuple or (isinstance(kind, type) and issubclass(kind, tuple)):
        return functools.partial(_read_tuple, kind)
    return functools.partial(_read_plain, kind)


def _read_plain(kind: type, value: Any, where: Where) -> Any:
    if type(value) is not kind:
        raise _misfit(f"a value of type {kind.__name__}", value, where)
    return value


def _read_dict(item_kind: Any, value: Any, where: Where) -> Any:
    if not isinstance(value, dict):
        raise _misfit("an object", value, where)
    read = _reader(item_kind)
    return {key: read(item, (where, key)) for key, item in value.items()}


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Reader], frozenset[str]]:
    """Return a reader for each field, and the names of those that JSON must have."""
    hints = _hints(kind)
    optional = {field.name for field in dataclasses.fields(kind) if is_optional(field)}
    readers = {name: _reader(hint) for name, hint in hints.items()}
    return readers, frozenset(hints.keys() - optional)


def _read_fields(kind: Any, value: Any, where: Where) -> Any:
    if not isinstance(value, dict):
        raise _misfit("an object", value, where)
    readers, needed = _fields(kind)
    if not value.keys() >= needed:
        missing = sorted(needed - value.keys())
        raise ValueError(f"{_text(where)} lacks {', '.join(missing)}")
    return kind(
        **{
            name: read(value[name], (where, name))
            for name, read in readers.items()
            if name in value
        }
    )


def _read_tuple(kind: Any, value: Any, where: Where) -> Any:
    if not isinstance(value, list):
        raise _misfit("a list", value, where)
    named = getattr(kind, "_fields", None)
    arguments = typing.get_args(kind)
    if not named and arguments[-1] is Ellipsis:
        read = _reader(arguments[0])
        return tuple([read(item, (where, i)) for i, item in enumerate(value)])
    hints = _hints(kind).values() if named else arguments
    if len(value) != len(hints):
        raise _misfit(f"{len(hints)} values", value, where)
    items = [
        _reader(hint)(item, (where, i))
        for i, (hint, item) in enumerate(zip(hints, value, strict=True))
    ]
    return kind(*items) if named else tuple(items)


def _misfit(expected: str, value: Any, where: Where) -> ValueError:
    return ValueError(f"{_text(where)}: expected {expected}, found {str(value)[:80]!r}")


def _text(where: Where) -> str:
    """Return a place as text: ``".layers[0].name"``."""
    keys: list[str] = []
    while not isinstance(where, str):
        where, key = where
        keys.append(f"[{key}]" if isinstance(key, int) else f".{key}")
    return "".join((where, *reversed(keys))) or "the document"
