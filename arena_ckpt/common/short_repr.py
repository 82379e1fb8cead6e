"""Short forms of objects for people: one line, with the numbers that matter."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

LONGEST_TEXT = 48
"""Maximum number of characters of one text in a short form."""

LONGEST_VALUE = 64
"""Maximum number of characters of the value of a field."""

LONGEST = 260
"""Maximum number of characters of a whole short form."""


def shortened(text: str, most: int = LONGEST_TEXT) -> str:
    """Return a text on one line, without its middle where it is long."""
    line = text
    if not text.isprintable():
        words = " ".join(text.split())
        line = "".join(c if c.isprintable() else REPLACEMENT for c in words)
    if len(line) <= most:
        return line
    head = (most - 1) * 2 // 3
    return f"{line[:head]}…{line[len(line) - (most - 1 - head) :]}"


def few_names(names: Sequence[str], most: int = 3) -> str:
    """Return the first names with commas, and how many more there are."""
    first = ", ".join(shortened(name, 24) for name in names[:most])
    more = len(names) - most
    return f"{first} and {more:,} more" if more > 0 else first


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return ``"1 layer"`` or ``"1,200 layers"``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def short_repr(owner: object, head: str, *facts: str) -> str:
    """Return ``"<Model digits: 3 layers, batch size 8>"``; empty facts are left out.

    Parameters
    ----------
    owner : object
        Its class names the object.
    head : str
        What tells this object from others of the class; may be empty.
    *facts : str
    """
    name = type(owner).__name__ + (f" {shortened(head)}" if head else "")
    said = ", ".join(fact for fact in facts if fact)
    line = f"{name}: {said}" if said else name
    return f"<{line[: LONGEST - 1]}…>" if len(line) > LONGEST else f"<{line}>"


def brief_repr(data: Any) -> str:
    """Return the form of a dataclass with long values cut and defaults left out.

    A dataclass takes it by ``__repr__ = brief_repr``.
    """
    parts = []
    for field in dataclasses.fields(data):
        value = getattr(data, field.name, None)
        if field.repr and not _is_default(field, value):
            parts.append(f"{field.name}={brief(value)}")
    name = type(data).__name__
    line = f"{name}({', '.join(parts)})"
    while len(line) > LONGEST and parts:
        parts.pop()
        line = f"{name}({', '.join([*parts, '…'])})"
    return line


def _is_default(field: dataclasses.Field[Any], value: object) -> bool:
    default = field.default
    if isinstance(default, str | int | float | tuple | frozenset | None):
        return type(value) is type(default) and value == default
    return False


def brief(value: object) -> str:
    """Return a value as a short text: large ones by their size alone."""
    if isinstance(value, str):
        return repr(shortened(value))
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None and len(shape):
        if not isinstance(dtype, str):  # an array; a region shows itself
            return f"array of {dtype} {shape}"
    if isinstance(value, Mapping):
        return _within("{", _pairs(value), "}", len(value), "entry", "entries")
    if isinstance(value, tuple | list | frozenset | set):
        opened, closed = _BRACKETS.get(type(value), ("{", "}"))
        return _within(opened, map(brief, value), closed, len(value), _noun(value))
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


_BRACKETS = {tuple: ("(", ")"), list: ("[", "]")}


def _pairs(values: Mapping[Any, Any]) -> Iterable[str]:
    return (f"{brief(key)}: {brief(value)}" for key, value in values.items())


def _noun(values: Collection[object]) -> str:
    kinds = {type(value).__name__ for value in values}
    kind = kinds.pop() if len(kinds) == 1 else "item"
    return kind if kind[:1].isupper() else "item"


def _within(
    opened: str,
    parts: Iterable[str],
    closed: str,
    number: int,
    noun: str,
    plural: str = "",
) -> str:
    """Return all items where they are short, else how many there are."""
    text = ""
    for index, part in enumerate(parts):
        text += f", {part}" if index else part
        if len(text) > LONGEST_VALUE:
            return f"{opened}{counted(number, noun, plural)}{closed}"
    comma = "," if opened == "(" and number == 1 else ""
    return f"{opened}{text}{comma}{closed}"
