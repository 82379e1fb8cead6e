"""The types of layers that what grows random graphs can add, read from its text."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable
from typing import Any


def words_of(growing: type, growths: Iterable[str]) -> set[str]:
    """Return all texts in the methods of growths, and in those that they call.

    Drawing would take seconds until what is rare has come, and prove no more.

    Parameters
    ----------
    growing : type
        A `Growing`.
    growths : iterable of str
        Names of its methods, without the underscore in front.
    """
    words: set[str] = set()
    wanted, seen = {f"_{name}" for name in growths} | {"finish"}, set[str]()
    while wanted:
        name = wanted.pop()
        seen.add(name)
        for kind in growing.__mro__:
            if name in vars(kind):
                found, called = _read(vars(kind)[name])
                words |= found
                wanted |= called - seen
    return words


def _read(method: Any) -> tuple[set[str], set[str]]:
    """Return the texts in a method, and the methods that it names."""
    words, called = set[str](), set[str]()
    values = vars(sys.modules[method.__module__])
    for part in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(method)))):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            words.add(part.value)
        elif isinstance(part, ast.Name) and isinstance(values.get(part.id), tuple):
            words |= {word for word in values[part.id] if isinstance(word, str)}
        elif isinstance(part, ast.Attribute) and part.attr.startswith("_"):
            called.add(part.attr)
    return words, called
