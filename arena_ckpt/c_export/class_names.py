"""The names of classes in the header of an exported program."""

from __future__ import annotations

from arena_ckpt.common.c_identifiers import string_literal


def class_names_text(name: str, classes: tuple[str, ...] | None) -> str:
    """Return a macro that initializes an array of names; nothing if there are none.

    Parameters
    ----------
    name : str
        With which names of the program begin.
    classes : tuple of str or None
        Names of the classes, by number.
    """
    if not classes:
        return ""
    rows = ", \\\n    ".join(map(string_literal, classes))
    return (
        f"\n/* The names of the classes, by number: const char *const names[] = "
        f"{name.upper()}_CLASS_NAMES; */"
        f"\n#define {name.upper()}_CLASS_NAMES {{ \\\n    {rows}}}"
    )
