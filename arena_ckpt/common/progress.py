"""Shows how far a piece of work is, where a person watches: a terminal or a notebook.

Progress is for the moment. Nothing of it stays in a terminal, and a notebook keeps a
short line of what took long. Where nobody watches, nothing is written.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from arena_ckpt.common.notebook import NotebookOutput, in_notebook
from arena_ckpt.common.task import Pause, Task

Update = Callable[[int, int, str], None]
"""A function that is told the amount done, the total, and a text to show."""

Relay = Callable[[str], None]
"""A function that hands a line of progress on, or "" where there is none any more."""

SHOWN_AFTER_SECONDS = 1.0
"""Seconds that work takes before a notebook shows how far it is."""

_SECONDS_BETWEEN = 0.2


@contextmanager
def progress_bar(
    description: str, show: bool | None, finished: str = ""
) -> Iterator[Update]:
    """Show a progress bar while the block runs.

    Parameters
    ----------
    description : str
    show : bool or None
        False shows none, also where a person watches.
    finished : str
        What a notebook says once the work is done, if it took long; by default the
        description.
    """
    task = Task(description)
    with _shown(task, show, finished) as look:

        def update(done: int, total: int, text: str) -> None:
            task.update(done, total, text)
            look()

        yield update


@contextmanager
def status_line(
    description: str, show: bool | None, finished: str = ""
) -> Iterator[Callable[[str], None]]:
    """Show a line of text that can be replaced, while the block runs.

    Parameters
    ----------
    description : str
    show : bool or None
        False shows none, also where a person watches.
    finished : str
        What a notebook says once the work is done, if it took long; by default the
        description.
    """
    task = Task(description)
    with _shown(task, show, finished) as look:

        def update(text: str) -> None:
            task.text = text
            look()

        yield update


@contextmanager
def compile_progress() -> Iterator[Callable[[int, int], None]]:
    """Show the number of kernels loaded; each is compiled when first used."""
    with progress_bar("loading kernels", None, "kernels loaded") as update:
        yield lambda done, total: update(done, total, "(compiled at first use)")


def relay_progress(relay: Relay | None) -> None:
    """Hand all progress of this process to a function, instead of showing it.

    A child process does so where its parent owns the terminal.
    """
    global _relay
    _relay = relay


_relay: Relay | None = None
_relayed_tasks: list[Task] = []


@contextmanager
def relayed_progress() -> Iterator[Relay]:
    """Show the lines of progress that another process relays, while the block runs."""
    task = Task("")
    with ExitStack() as shown:
        looks: list[Callable[[], None]] = []

        def hear(line: str) -> None:
            task.description = line or task.description
            if not line:
                looks.clear()
                shown.close()
            elif not looks:
                task.began = time.monotonic()
                looks.append(shown.enter_context(_shown(task, None, "")))
            else:
                looks[0]()

        yield hear


@contextmanager
def _shown(
    task: Task, show: bool | None, finished: str
) -> Iterator[Callable[[], None]]:
    """Show a task while the block runs; yield what to call when it has changed."""
    if show is False:
        yield _nothing
    elif _relay is not None:
        with _relayed(task, _relay) as look:
            yield look
    elif in_notebook():
        with _in_cell(task, finished) as look:
            yield look
    elif sys.stderr is not None and sys.stderr.isatty():
        from arena_ckpt.common.live_display import DISPLAY  # loads rich

        with DISPLAY.task(task):
            yield _nothing  # the display looks at the task by itself
    else:
        yield _nothing


def _nothing() -> None:
    pass


@contextmanager
def _relayed(task: Task, relay: Relay) -> Iterator[Callable[[], None]]:
    """Hand the line of a task on, at most a few times a second."""
    pause = Pause(_SECONDS_BETWEEN)
    _relayed_tasks.append(task)
    relay(task.line())
    try:
        yield lambda: relay(task.line()) if pause.is_over() else None
    finally:
        _relayed_tasks.remove(task)
        relay(_relayed_tasks[-1].line() if _relayed_tasks else "")


@contextmanager
def _in_cell(task: Task, finished: str) -> Iterator[Callable[[], None]]:
    """Show a task as a line in the output of a cell, once it has taken long."""
    output = NotebookOutput()
    pause = Pause(SHOWN_AFTER_SECONDS, _SECONDS_BETWEEN)

    def look() -> None:
        if pause.is_over():
            output.show_text(task.line())

    try:
        yield look
    except BaseException:
        if output.is_shown:
            output.show_text(f"{task.line()}; not finished")
        raise
    if output.is_shown:
        output.show_text(f"{finished or task.description}, {task.seconds:.1f} s")
