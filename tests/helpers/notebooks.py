"""Runs cells as a notebook does, and keeps all that a person sees meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import nbformat
from nbclient import NotebookClient


@dataclass(frozen=True, slots=True)
class Shown:
    """Something that a cell displayed.

    Attributes
    ----------
    is_replacement : bool
        It was put in the place of what was displayed before.
    html, text : str
    at : datetime
    """

    is_replacement: bool
    html: str
    text: str
    at: datetime


class WatchedNotebook(NotebookClient):
    """Runs cells in a new kernel.

    Attributes
    ----------
    shown : list of list of Shown
        For each cell what was displayed, in order.
    """

    def __init__(self, cells: Sequence[str], **options: Any) -> None:
        notebook = nbformat.v4.new_notebook()
        notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
        super().__init__(notebook, kernel_name="python3", timeout=600, **options)
        self.shown: list[list[Shown]] = [[] for _ in cells]

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        kind = msg["msg_type"]
        if kind in ("display_data", "update_display_data"):
            data = msg["content"]["data"]
            self.shown[cell_index].append(
                Shown(
                    kind == "update_display_data",
                    data.get("text/html", ""),
                    data.get("text/plain", ""),
                    msg["header"]["date"],
                )
            )
        return super().process_message(msg, cell, cell_index)

    def outputs(self, cell: int) -> list[Any]:
        """Return what stands below a cell at the end."""
        return list(self.nb.cells[cell].outputs)
