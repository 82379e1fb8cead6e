"""Names as parts of C identifiers, and texts as C string literals."""

from __future__ import annotations

import re
from collections.abc import Iterable


def identifier(name: str) -> str:
    """Return a name as a part of a C identifier, in capitals.

    Never empty, and with a letter in front, unlike names of the compiler's own.
    """
    safe = re.sub("[^A-Z0-9]+", "_", name.upper()).strip("_")
    return safe if safe[:1].isalpha() else f"X{safe}"


def unique_identifiers(names: Iterable[str]) -> list[str]:
    """Return a C identifier for each name; no two are equal."""
    taken: set[str] = set()
    result = []
    for name in names:
        stem, number = identifier(name), 2
        unique = stem
        while unique in taken:
            unique, number = f"{stem}_{number}", number + 1
        taken.add(unique)
        result.append(unique)
    return result


def string_literal(text: str) -> str:
    """Return a C string literal without trigraphs that is also safe in comments."""
    return f'"{escaped(text)}"'


def escaped(text: str) -> str:
    """Return a text as it stands in a C string literal or a comment."""
    return "".join(map(_escaped, text.encode()))


def _escaped(byte: int) -> str:
    plain = 32 <= byte < 127 and chr(byte) not in '"\\?*/'
    return chr(byte) if plain else f"\\{byte:03o}"
