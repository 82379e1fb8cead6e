"""Reads examples with sizes from the command line: ``mobilenet_v2(width=0.35)``."""

from __future__ import annotations

import ast
import re
from typing import Any

from arena_ckpt.errors import InvalidParameterError

_CALL = re.compile(r"\s*([\w-]+)\s*\((.*)\)\s*", re.DOTALL)
_WORDS = {"true": True, "false": False}


def split_sizes(spec: str) -> tuple[str, dict[str, Any]] | None:
    """Return the name of an example and its sizes, or None for anything else.

    A value is a number, ``true`` or ``false``, a word, or a tuple in brackets.

    Parameters
    ----------
    spec : str
        ``"mobilenet_v2(width=0.35, size=96)"``; what has no brackets has no sizes.

    Raises
    ------
    InvalidParameterError
        What stands in the brackets are no sizes.
    """
    found = _CALL.fullmatch(spec)
    if found is None:
        return None
    name, text = found.groups()
    sizes = _keywords(text)
    if sizes is None:
        raise InvalidParameterError(
            f"{spec!r}: {text!r} are no sizes of an example; write each once as "
            f"NAME=VALUE, with commas between them, for example {name}(batch_size=2)",
            model=spec,
        )
    return name, sizes


def _keywords(text: str) -> dict[str, Any] | None:
    """Return what stands in the brackets of a call; None for anything else."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return None
        sizes = {str(k.arg): _value(k.value) for k in call.keywords if k.arg}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None
    return None if call.args or len(sizes) != len(call.keywords) else sizes


def _value(node: ast.expr) -> object:
    """Return what a value stands for; a bare word is a text."""
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id.lower(), node.id)
    return ast.literal_eval(node)
