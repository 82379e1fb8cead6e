"""Writes values and names for messages: quoted, listed, and cut where they are long."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from typing import Any

LONGEST_SHOWN = 200
"""Maximum number of characters of a value in a message."""


MOST_SHOWN = 100
"""Maximum number of names that a message lists."""


MOST_ITEMS = 2**16
"""Maximum number of items of a list that is given as one value."""


def few(values: Iterable[Any]) -> list[Any]:
    """Return the items of a list that a person can have meant.

    Raises
    ------
    ValueError
        There are more than `MOST_ITEMS`, or no end of them.
    TypeError
        The value has no items.
    """
    items = list(itertools.islice(values, MOST_ITEMS + 1))
    if len(items) > MOST_ITEMS:
        raise ValueError(f"more than {MOST_ITEMS:,} items")
    return items


def shown(value: object) -> str:
    """Return a value as text for a message, cut where it is long."""
    try:
        text = str(value)
        if not text.strip():
            text = repr(value)
    except Exception:  # whole numbers of thousands of digits, and what has no text
        return f"a {type(value).__name__} that cannot be written"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def quoted(value: object) -> str:
    """Return a value as `shown` does, and a text in quotes."""
    return repr(shown(value)) if isinstance(value, str) else shown(value)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return ``" (did you mean 'x'?)"``, or nothing where nothing is near.

    `cutoff` is the least share of letters in common, as difflib counts them.
    """
    lowered = {str(name).lower(): name for name in known}
    matches = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=cutoff)
    return f" (did you mean {lowered[matches[0]]!r}?)" if matches else ""


def quote(names: Iterable[str]) -> str:
    """Return names in quotes for a message, the first of them where there are many."""
    return listed([quoted(name) for name in names]) or "none"


def listed(parts: Iterable[str], mark: str = ", ") -> str:
    """Return parts of a message with commas, the first of them where there are many."""
    parts = list(parts)
    more = len(parts) - MOST_SHOWN
    rest = [f"… {more:,} more"] if more > 0 else []
    return mark.join([*parts[:MOST_SHOWN], *rest])


def listed_versions(versions: Iterable[int]) -> str:
    """Return version numbers as a list in words: ``"4, 5 and 6"``."""
    *first, last = map(str, versions)
    return f"{', '.join(first)} and {last}" if first else last
