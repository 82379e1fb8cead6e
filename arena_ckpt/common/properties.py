"""Properties of layers, optimizers, schedules and models, and their texts.

Every property is declared once, as a `Property`; keyword arguments, NNTrainer-style
``"key=value"`` strings and INI files are all read through the same declaration, and
written back through it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from arena_ckpt.common.aliases import PROPERTIES, VALUES, renamed
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.short_repr import brief_repr, shortened
from arena_ckpt.common.wording import (
    few,
    nearest,
    quoted,
    shown,
)
from arena_ckpt.errors import InvalidParameterError, UnknownPropertyError

_NUMBERED_OUTPUT = re.compile(r"\([0-9]+\)$")
"""End of a text that names a numbered output of a layer in ``input_layers``."""

LARGEST_INT = 2**40
"""Maximum of whole numbers, so that a product of two fits into 64 bits."""


@public_call
@dataclass(frozen=True, slots=True)
class Property:
    """A named value that can be set, with its kind and default.

    Attributes
    ----------
    name : str
        NNTrainer's name where it has one.
    kind : Kind
        Kind of the value: how it is read, written and described.
    default : object
        Already parsed; None where there is none.
    help : str
        One line for people.
    """

    name: str
    kind: Kind
    default: Any
    help: str

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value.

    `parse` raises ValueError, and `expects` completes "expected …". `words` are those
    of which the value is one, where it is a word.
    """

    expects: str
    parse: Callable[[object], Any]
    write: Callable[[Any], str] = str
    words: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Kind: {shortened(self.expects)}>"


def _parse_bool(value: object) -> bool:
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError


def _parse_int(value: object) -> int:
    if isinstance(value, bool):
        raise ValueError
    number = int(str(value).strip().replace("_", "x"))
    if abs(number) > LARGEST_INT:
        raise ValueError
    return number


def _parse_real(value: object) -> float:
    if isinstance(value, bool):
        raise ValueError
    number = float(str(value).strip().replace("_", "x"))
    if not math.isfinite(number):
        raise ValueError
    return number


def _where(parse: Callable[[object], Any], holds: Callable[[Any], bool]) -> Any:
    def checked(value: object) -> Any:
        parsed = parse(value)
        if not holds(parsed):
            raise ValueError
        return parsed

    return checked


def _parse_shape(value: object) -> tuple[int, int, int]:
    parts = (
        value.split(":")
        if isinstance(value, str)
        else few(value)
        if isinstance(value, Iterable) and not isinstance(value, Mapping)
        else [value]
    )
    if len(parts) == 4 and str(parts[0]).strip() == "1":
        parts = parts[1:]  # NNTrainer also writes the batch dimension
    if not 1 <= len(parts) <= 3:
        raise ValueError
    sizes = [_parse_int(part) for part in parts]
    if min(sizes) <= 0:
        raise ValueError
    channel, height, width = [1] * (3 - len(sizes)) + sizes
    return channel, height, width


def _parse_list(parse_item: Callable[[object], Any]) -> Callable[[object], Any]:
    def parse(value: object) -> tuple[Any, ...]:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, Iterable):
            items = [items]
        parsed = tuple(parse_item(item) for item in few(items))
        if not parsed:
            raise ValueError
        return parsed

    return parse


def _parse_name(value: object) -> str:
    if value is None or isinstance(value, bool):
        raise ValueError
    name = str(value).strip()
    if not name.isprintable() or not name or any(c in name for c in ",=[]#;:"):
        raise ValueError
    return name


def _parse_own_name(value: object) -> str:
    name = _parse_name(value)
    if _NUMBERED_OUTPUT.search(name):
        raise ValueError
    return name


def _write_list(values: tuple[Any, ...]) -> str:
    return ", ".join(_write_number(v) for v in values)


def _write_number(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def whole(least: int, most: int) -> Kind:
    """Return the kind of a whole number from `least` to `most`."""
    return Kind(
        f"a whole number from {least} to {most}",
        _where(_parse_int, lambda v: least <= v <= most),
    )


def choice(*options: str) -> Kind:
    """Return the kind of a word out of `options`, in upper or lower case."""

    def parse(value: object) -> str:
        word = str(value).strip().lower()
        if word not in options:
            raise ValueError
        return word

    return Kind(f"one of {', '.join(options)}", parse, words=options)


BOOLEAN = Kind("true or false", _parse_bool, lambda v: "true" if v else "false")
POSITIVE_INT = whole(1, LARGEST_INT)
COUNT = whole(0, LARGEST_INT)
REAL = Kind("a finite number", _parse_real, repr)
POSITIVE_REAL = Kind("a number above 0", _where(_parse_real, lambda v: v > 0), repr)
NONNEGATIVE_REAL = Kind(
    "a number of at least 0", _where(_parse_real, lambda v: v >= 0), repr
)
FRACTION = Kind(
    "a number of at least 0 and below 1",
    _where(_parse_real, lambda v: 0 <= v < 1),
    repr,
)
SHAPE = Kind(
    "channel:height:width, for example 1:1:784",
    _parse_shape,
    lambda shape: ":".join(str(size) for size in shape),
)
NAME = Kind(
    "a printable name without any of , = [ ] # ; : that does not end in a number in "
    "parentheses, which means an output: split(1) is output 1 of split",
    _parse_own_name,
)
NAMES = Kind("names, separated by commas", _parse_list(_parse_name), _write_list)
POSITIVE_REALS = Kind(
    "numbers above 0, separated by commas",
    _parse_list(POSITIVE_REAL.parse),
    _write_list,
)
NONNEGATIVE_REALS = Kind(
    "numbers of at least 0, separated by commas",
    _parse_list(NONNEGATIVE_REAL.parse),
    _write_list,
)
COUNTS = Kind(
    "whole numbers of at least 0, separated by commas",
    _parse_list(COUNT.parse),
    _write_list,
)


def split_strings(owner: str, strings: Iterable[str]) -> dict[str, str]:
    """Return properties written as in NNTrainer, ``["key=value", …]``, as a dict.

    Raises
    ------
    InvalidParameterError
        A string without ``=``, or a key given twice.
    """
    values: dict[str, str] = {}
    if isinstance(strings, str):
        strings = [strings]
    try:
        strings = few(strings)
    except (TypeError, ValueError):
        raise InvalidParameterError(
            f"{owner}: {shown(strings)} is no list of properties; write them as "
            "['key=value', …] or as keyword arguments",
            owner=owner,
        ) from None
    for string in strings:
        text = string if isinstance(string, str) else ""
        key, equals, value = text.partition("=")
        key = key.strip().lower()
        if not equals or not key:
            raise InvalidParameterError(
                f"{owner}: {quoted(string)} is no property; write it as 'key=value'",
                owner=owner,
                text=string,
            )
        if key in values:
            raise InvalidParameterError(
                f"{owner}: {shown(key)} is given twice ({quoted(values[key])} and "
                f"{quoted(value)}); keep one",
                owner=owner,
                property=key,
            )
        values[key] = value.strip()
    return values


def parse_properties(
    owner: str, schema: Iterable[Property], given: Mapping[str, object]
) -> dict[str, Any]:
    """Return the parsed values of the properties of `schema` that are `given`.

    Parameters
    ----------
    owner : str
        Owner of the properties in messages: ``"layer 'fc1' (fully_connected)"``.
    schema : iterable of Property
    given : mapping from str to object
        Values as Python objects or as text.

    Returns
    -------
    dict
        The parsed values of the properties that were given, in schema order.

    Raises
    ------
    UnknownPropertyError
        A key that is not in the schema; the nearest known one is named.
    InvalidParameterError
        A value that cannot be.
    """
    known = {declared.name: declared for declared in schema}
    for key in given:
        if key not in known:
            raise unknown_property(owner, key, known)
    return {
        name: _parse_value(owner, declared, given[name])
        for name, declared in known.items()
        if name in given
    }


def _parse_value(owner: str, declared: Property, value: object) -> Any:
    try:
        return declared.kind.parse(value)
    except (ValueError, TypeError, OverflowError):
        words = declared.kind.words
        # A word that is known, such as clamp without its numbers, is no other word.
        is_known = isinstance(value, str) and value.strip().lower() in words
        here = renamed(value, VALUES, words) if words and not is_known else ""
        near = ""
        if isinstance(value, str) and words and not is_known:
            near = nearest(value, words, 0.6)
        raise InvalidParameterError(
            f"{owner}: {declared.name}={shown(value)} is not possible{here or near}; "
            f"expected {declared.kind.expects}",
            owner=owner,
            property=declared.name,
            value=value,
        ) from None


def unknown_property(
    owner: str, key: str, known: Iterable[str]
) -> UnknownPropertyError:
    """Return the error for an unknown `key`, with the name that was probably meant."""
    known = sorted(known)
    hint = renamed(key, PROPERTIES, known) or nearest(shown(key), known)
    return UnknownPropertyError(
        f"{owner}: unknown property {quoted(key)}{hint}; known are {', '.join(known)}",
        owner=owner,
        property=key,
        known=tuple(known),
    )


def write_properties(
    schema: Iterable[Property], values: Mapping[str, Any]
) -> dict[str, str]:
    """Return the text form of `values`, in schema order; reading it gives them back."""
    return {
        declared.name: declared.kind.write(values[declared.name])
        for declared in schema
        if values.get(declared.name) is not None
    }
