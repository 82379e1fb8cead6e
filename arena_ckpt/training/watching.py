"""Shows a training under way: in a terminal, in a notebook, or as lines for a log.

In a terminal a bar is shown while the training runs, and nothing of it stays. In a
notebook the output of the cell has a line and the curve of losses, which are replaced
as the training goes on; the finished curve stays.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from arena_ckpt.common.notebook import NotebookOutput, in_notebook
from arena_ckpt.common.progress import Update, progress_bar
from arena_ckpt.common.task import Pause
from arena_ckpt.training.epoch_text import loss_text
from arena_ckpt.training.records import (
    EpochRecord,
    History,
    epoch_line,
    loss_curve,
    summary_of,
)

_SECONDS_BETWEEN = 0.2


class Watcher:
    """Is told how a training goes on; this one shows nothing."""

    def begun(self, records: tuple[EpochRecord, ...]) -> None:
        """Hear of the epochs from before the training was resumed."""

    def iterated(self, done: int, total: int, epoch: int, loss: float) -> None:
        """Hear of an iteration: how many of the run are done, and its loss."""

    def recorded(self, record: EpochRecord) -> None:
        """Hear of an epoch that has ended."""

    def ended(self, history: History) -> None:
        """Hear that the training has ended."""


@contextmanager
def watch(
    progress: bool | None, n_epochs: int, *, is_scheduled: bool
) -> Iterator[Watcher]:
    """Show the training that runs in the block.

    Parameters
    ----------
    progress : bool or None
        False shows nothing. True prints a line for each epoch to standard error, but
        not in a notebook, which shows the same with None.
    n_epochs : int
    is_scheduled : bool
        Whether a schedule decides the learning rate, so that lines have it.
    """
    if progress is False:
        yield Watcher()
    elif in_notebook():
        watcher = _InCell(n_epochs)
        try:
            yield watcher
        except BaseException:
            watcher.failed()
            raise
    else:
        with progress_bar("training", progress) as update:
            yield _InTerminal(update, n_epochs, progress is True, is_scheduled)


class _InTerminal(Watcher):
    """Moves a bar, and prints a line for each epoch where that is asked for."""

    def __init__(
        self, update: Update, n_epochs: int, has_lines: bool, is_scheduled: bool
    ) -> None:
        self._update = update
        self._n_epochs = n_epochs
        self._has_lines = has_lines
        self._is_scheduled = is_scheduled

    def iterated(self, done: int, total: int, epoch: int, loss: float) -> None:
        self._update(done, total, f"epoch {epoch}, loss {loss_text(loss)}")

    def recorded(self, record: EpochRecord) -> None:
        if self._has_lines and sys.stderr is not None:
            line = epoch_line(record, self._n_epochs, shows_rate=self._is_scheduled)
            sys.stderr.write(
                f"{line}\n"
            )  # at once: lines of several threads stay whole
            sys.stderr.flush()


class _InCell(Watcher):
    """Shows a line and the curve in the output of a cell, and replaces them."""

    def __init__(self, n_epochs: int) -> None:
        self._output = NotebookOutput()
        self._pause = Pause(0.0, _SECONDS_BETWEEN)
        self._n_epochs = n_epochs
        self._records: tuple[EpochRecord, ...] = ()
        self._line = "training"

    def begun(self, records: tuple[EpochRecord, ...]) -> None:
        self._records = records

    def iterated(self, done: int, total: int, epoch: int, loss: float) -> None:
        if not self._pause.is_over():
            return
        self._line = (
            f"epoch {epoch} of {self._n_epochs}, iteration {done:,} of {total:,}, "
            f"loss {loss_text(loss)}"
        )
        self._show(self._line, f'<progress value="{done}" max="{total}"></progress> ')

    def recorded(self, record: EpochRecord) -> None:
        self._records = (*self._records, record)

    def ended(self, history: History) -> None:
        self._show(summary_of(history))
        self._output.stands_for(history.epochs)

    def failed(self) -> None:
        """Say that an error has ended the training."""
        self._show(f"{self._line}; not finished")

    def _show(self, line: str, bar: str = "") -> None:
        curve = loss_curve(self._records)
        self._output.show(f"<div>{curve}{bar}{html.escape(line)}</div>", line)
