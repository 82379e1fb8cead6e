"""The texts of `templates/`, with their gaps filled."""

from __future__ import annotations

import functools
import string
from pathlib import Path

_FOLDER = Path(__file__).parent / "templates"


@functools.cache
def _template(file_name: str) -> string.Template:
    return string.Template((_FOLDER / file_name).read_text("utf-8"))


def filled(file_name: str, **values: object) -> str:
    """Return a text with its gaps filled; ``$name`` and ``$NAME`` are the prefix.

    A line that holds a gap alone goes where nothing fills it.
    """
    if "name" in values:
        values["NAME"] = str(values["name"]).upper()
    template = _template(file_name)
    empty = {f"${key}" for key, value in values.items() if value == ""}
    lines = template.template.split("\n")
    kept = [line for line in lines if line.strip() not in empty]
    return string.Template("\n".join(kept)).substitute(values)
