"""Shows things in the output of a notebook's cell, and replaces them there."""

from __future__ import annotations

import html
import importlib
import sys
from typing import Any


def notebook_shell() -> Any | None:
    """Return the shell of the notebook that runs this process, if one does.

    A process that runs no notebook never imports IPython for this.
    """
    ipython = sys.modules.get("IPython")
    find = getattr(ipython, "get_ipython", None)
    shell = find() if callable(find) else None
    # The shell of a terminal has no kernel.
    return shell if getattr(shell, "kernel", None) is not None else None


def in_notebook() -> bool:
    """Return whether a notebook runs this process."""
    return notebook_shell() is not None


class NotebookOutput:
    """A place in the output of the running cell whose content can be replaced."""

    def __init__(self) -> None:
        self._handle: Any = None

    @property
    def is_shown(self) -> bool:
        """Something was shown."""
        return self._handle is not None

    def show(self, html_text: str, plain_text: str) -> None:
        """Show HTML, and a text for where HTML is not shown, in place of the last."""
        data = {"text/html": html_text, "text/plain": plain_text}
        if self._handle is None:
            display = importlib.import_module("IPython.display").display
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def stands_for(self, value: object) -> None:
        """Record that what is shown says the same as a value of the running cell."""
        global _standing
        shell = notebook_shell()
        _standing = (self, value, shell and shell.execution_count)

    def show_text(self, line: str) -> None:
        """Show a line of text in place of the last."""
        self.show(f"<div>{html.escape(line)}</div>", line)


_standing: tuple[NotebookOutput, object, Any] | None = None
"""The last output that stands for a value, the value, and the number of its cell."""


def hide_in_cell(value: object) -> None:
    """Empty the output that stands for a value, if the running cell has shown it."""
    shell = notebook_shell()
    if shell is None or _standing is None:
        return
    output, stands_for, cell = _standing
    if stands_for is value and cell == shell.execution_count:
        output.show("", "")
