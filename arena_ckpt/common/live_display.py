"""Live lines at the bottom of the terminal on standard error, drawn by rich.

There is one display for the whole process, so that work in several threads, or within
other work, shares the bottom of the terminal. While something is shown, what is written
to standard error, and to standard output where that is the same terminal, goes above
it. Standard output that goes elsewhere gets the same bytes as without a display.
"""

from __future__ import annotations

import atexit
import io
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from arena_ckpt.common.task import Task

_SECONDS_BETWEEN = 0.1
"""Seconds from one picture to the next, and before the first: short work shows none."""

_SECONDS_ASIDE = 0.15
"""Seconds for which the tasks are hidden while a pipe may print to the terminal."""

_WIDEST_BAR, _NARROWEST_BAR = 40, 6

_FREE_COLUMNS = 4
"""Columns that stay free on the right: the terminal itself writes ``^C`` there, which
must not begin a new line."""


class LiveDisplay:
    """Shows the tasks under way, a line for each."""

    def __init__(self) -> None:
        self._begin_anew()
        atexit.register(self._stop)  # where Ctrl-C came amid the end of a task
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._tasks: list[Task] = []
        self._console: Console | None = None  # while there are tasks to show
        self._live: Live | None = None  # while something is drawn
        self._ended = threading.Event()
        self._stand_ins: list[_StandIn] = []
        self._aside_until = 0.0

    def _forget(self) -> None:
        """Leave the terminal to the parent, in a child that was just forked."""
        self._give_streams_back()
        self._begin_anew()

    @contextmanager
    def task(self, task: Task) -> Iterator[None]:
        """Show a task while the block runs."""
        try:
            with self._lock:
                self._tasks.append(task)
                if self._console is None:
                    self._start()
            yield
        finally:
            with self._lock:
                self._tasks = [other for other in self._tasks if other is not task]
                if not self._tasks:
                    self._stop()

    def write(self, stand_in: _Above, text: str) -> None:
        """Write text above the tasks, where a line appears once it is whole.

        While nothing is drawn the text goes straight to the terminal.
        """
        with self._lock:
            lines, newline, rest = text.rpartition("\n")
            whole = stand_in.begun_line + lines
            stand_in.begun_line = rest if newline else stand_in.begun_line + rest
            if self._live is None:
                stand_in.stream.write(text)
            elif newline:
                # The terminal folds what is too long; rich would fold at words.
                self._live.console.print(Text.from_ansi(whole), soft_wrap=True)

    def flush(self, stand_in: _Above) -> None:
        """Show a line that was begun, without the tasks, until it has ended.

        The cursor is behind it meanwhile.
        """
        with self._lock:
            if self._live is not None and stand_in.begun_line:
                self._erase()
            stand_in.stream.flush()

    def step_aside(self) -> None:
        """Hide the tasks for a moment."""
        with self._lock:
            now = time.monotonic()
            was_shown = now >= self._aside_until
            self._aside_until = now + _SECONDS_ASIDE
            if was_shown and self._live is not None:
                self._live.refresh()

    def _start(self) -> None:
        console = Console(file=sys.stderr)
        if not console.is_interactive:  # TERM=dumb: what is drawn could not be erased
            return
        self._console, self._aside_until = console, 0.0
        self._stand_ins = [_Above(sys.stderr, self)]
        if _is_same_terminal(sys.stdout, sys.stderr):
            self._stand_ins.append(_Above(sys.stdout, self))
        elif _is_pipe(sys.stdout):
            self._stand_ins.append(_Aside(sys.stdout, self))
        sys.stderr = self._stand_ins[0]
        if len(self._stand_ins) > 1:
            sys.stdout = self._stand_ins[1]
        self._ended = threading.Event()
        threading.Thread(
            target=self._keep_drawing, args=(self._ended,), daemon=True
        ).start()

    def _stop(self) -> None:
        self._ended.set()
        self._console = None
        try:
            self._erase()
        finally:
            self._give_streams_back()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.refresh()
        elif not any(one.begun_line for one in self._stand_ins):
            self._live = Live(
                get_renderable=self._picture,
                console=self._console,
                auto_refresh=False,  # by a thread that holds our lock
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start(refresh=True)

    def _erase(self) -> None:
        live, self._live = self._live, None
        self._aside_until = 0.0
        if live is not None:
            live.stop()
            for stand_in in self._stand_ins:
                stand_in.stream.write(stand_in.begun_line)
                stand_in.stream.flush()

    def _give_streams_back(self) -> None:
        stand_ins, self._stand_ins = self._stand_ins, []
        for stand_in in stand_ins:
            if sys.stderr is stand_in:
                sys.stderr = stand_in.stream
            if sys.stdout is stand_in:
                sys.stdout = stand_in.stream
            stand_in.end()

    def _keep_drawing(self, ended: threading.Event) -> None:
        while not ended.wait(_SECONDS_BETWEEN):
            with self._lock:
                if not ended.is_set():
                    self._draw()

    def _picture(self) -> Group:
        is_aside = time.monotonic() < self._aside_until
        return Group(*([] if is_aside else map(_Line, self._tasks)))


class _StandIn(io.TextIOBase):
    """Stands in for a stream while the display shows something.

    Afterwards it writes to the stream, for those who have kept it.
    """

    def __init__(self, stream: TextIO, display: LiveDisplay) -> None:
        self.stream = stream
        self.begun_line = ""
        self._display: LiveDisplay | None = display

    def end(self) -> None:
        """Write through from now on."""
        self._display = None

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def writable(self) -> bool:
        return True

    # `io.TextIOBase` has these without a value, and click would go around this object.
    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.stream.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Above(_StandIn):
    """Writes to the terminal, above what the display shows there."""

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._display is None:
            return self.stream.write(text)
        self._display.write(self, text)
        return len(text)

    def flush(self) -> None:
        if self._display is None:
            self.stream.flush()
        else:
            self._display.flush(self)

    def end(self) -> None:
        super().end()
        self.begun_line = ""


class _Aside(_StandIn):
    """Writes to a pipe, whose other end may print to the terminal, as ``tee`` does."""

    def write(self, text: str) -> int:
        if self._display is not None:
            self._display.step_aside()
        return self.stream.write(text)

    def flush(self) -> None:
        if self._display is not None:
            self._display.step_aside()
        self.stream.flush()


class _Line:
    """A task as a line that fits the terminal: what is less needed gives way."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        task, room = self._task, max(options.max_width - _FREE_COLUMNS, 1)
        seconds = int(task.seconds)
        clock = f"{seconds // 60}:{seconds % 60:02d}"
        if task.total is None:
            yield _cut(f"{task.line()} {clock}", room)
            return
        counts = f"{task.done:,}/{task.total:,}"
        head, tail = Text(task.description), Text(f"{counts} {clock} {task.text}")
        if head.cell_len + 1 + tail.cell_len > room:
            tail = Text(f"{counts} {task.text}")
        width = min(room - head.cell_len - tail.cell_len - 2, _WIDEST_BAR)
        if width < _NARROWEST_BAR:
            yield _cut(f"{head} {tail}", room)
            return
        yield Text(f"{head} ", end="")
        yield ProgressBar(task.total, task.done, width=width)
        yield Text(f" {tail}")


def _cut(line: str, room: int) -> Text:
    """Return a line that takes at most so many columns."""
    text = Text(line, no_wrap=True)
    text.truncate(room, overflow="ellipsis")
    return text


def _is_same_terminal(one: TextIO | None, other: TextIO) -> bool:
    """Return whether two streams are one terminal."""
    if one is None or not one.isatty():
        return False
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError):  # a stand-in of somebody else, without a file
        return True


def _is_pipe(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


DISPLAY = LiveDisplay()
"""The display of this process."""
