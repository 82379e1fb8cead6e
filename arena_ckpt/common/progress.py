"""Shows progress on standard error, where that is a terminal, loading rich for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Update = Callable[[int, int, str], None]
"""A function that is told the amount done, the total, and a text to show."""


@contextmanager
def progress_bar(description: str, show: bool | None) -> Iterator[Update]:
    """Show a progress bar while the block runs.

    Parameters
    ----------
    description : str
    show : bool or None
        None shows it where standard error is a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda done, total, text: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}"),
        console=Console(stderr=True),
        redirect_stdout=False,  # what goes to a file must go on going there
        transient=show is None,
    )
    with bar:
        task = bar.add_task(description, total=None, text="")
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total, text=text
        )


@contextmanager
def status_line(description: str, show: bool | None) -> Iterator[Callable[[str], None]]:
    """Show a line of text that can be replaced, while the block runs.

    Parameters
    ----------
    description : str
    show : bool or None
        None shows it where standard error is a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda text: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(description) as status:
        yield lambda text: status.update(f"{description}: {text}")


@contextmanager
def compile_progress() -> Iterator[Callable[[int, int], None]]:
    """Show the number of kernels loaded; each is compiled when first used."""
    with progress_bar("loading kernels", None) as update:
        yield lambda done, total: update(done, total, "(compiled at first use)")
