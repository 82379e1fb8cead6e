"""Lines as wide as the terminal, broken between words; in files they stay whole."""

from __future__ import annotations

import sys
import textwrap
from shutil import get_terminal_size

TEXT_COLUMNS = 80


def filled(text: str) -> str:
    """Return a paragraph in lines of at most 80 columns that fit the terminal."""
    return textwrap.fill(text, min(TEXT_COLUMNS, get_terminal_size().columns))


def fitted(text: str, *, err: bool = False) -> str:
    """Return lines, each broken between words where it is wider than the terminal.

    A word that is wider, such as a path, stays whole. In a file the text stays as it
    is, for scripts.

    Parameters
    ----------
    text : str
    err : bool
        Whether it goes to standard error.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None or not stream.isatty():
        return text
    columns = get_terminal_size().columns
    return "\n".join(_broken(line, columns) for line in text.split("\n"))


def _broken(line: str, columns: int) -> str:
    if len(line) <= columns:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line,
        columns,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
