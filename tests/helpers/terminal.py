"""Runs a command in a pseudo-terminal and says what a person would see there.

A pyte terminal reads what the command writes. `Session.moments` has what stood on it,
with what has scrolled away, each time that something came.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]
CTRL_C = b"\x03"

BAR = re.compile("[━╸╺]|^(loading kernels|measuring|placing|checking)|^training [0-9]")
"""What only a line of progress has."""


@dataclass
class Session:
    """What was seen of a command.

    Attributes
    ----------
    moments : list of list of str
        The lines of the terminal at each moment, from the oldest that scrolled away.
    status : int
        Exit status; negative for a signal.
    is_cursor_hidden : bool
        At the end.
    raw : bytes
        All that was written.
    """

    moments: list[list[str]] = field(default_factory=list)
    status: int = 0
    is_cursor_hidden: bool = False
    raw: bytes = b""

    @property
    def lines(self) -> list[str]:
        """The lines of the terminal at the end, without empty ones below."""
        return self.moments[-1]

    @property
    def bars(self) -> list[list[str]]:
        """The lines of progress of each moment that has some."""
        found = map(_of_progress, self.moments)
        return [lines for lines in found if lines]

    @property
    def bars_at_the_end(self) -> list[str]:
        """The lines of progress that were left."""
        return _of_progress(self.lines)


def run_in_terminal(
    command: Sequence[str],
    *,
    columns: int = 100,
    rows: int = 24,
    env: Mapping[str, str] | None = None,
    stdout: Path | None = None,
    stderr: Path | None = None,
    keys: Callable[[list[str]], bytes] | None = None,
    seconds: float = 300.0,
) -> Session:
    """Run a command whose terminal is a new pseudo-terminal.

    Parameters
    ----------
    command : sequence of str
    columns, rows : int
    env : mapping, optional
        Variables beside those of this process.
    stdout, stderr : Path, optional
        A file that takes the stream in place of the terminal.
    keys : callable, optional
        Given the lines of each moment; returns what the person types then.
    seconds : float
        After which the command is killed.
    """
    process, master = pty.fork()
    if process == 0:
        _become(command, env or {}, stdout, stderr, columns, rows)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    screen = pyte.HistoryScreen(columns, rows, history=100_000, ratio=0.5)
    stream = pyte.ByteStream(screen)
    session, until = Session(), time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                written = os.read(master, 65536)
            except OSError:  # Linux says so that nobody holds the other end any more
                break
            if not written:
                break
            session.raw += written
            stream.feed(written)
            session.moments.append(_lines(screen))
            typed = keys(session.moments[-1]) if keys else b""
            if typed:
                os.write(master, typed)
        else:
            os.kill(process, signal.SIGKILL)
    finally:
        os.close(master)
        session.status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    session.moments = session.moments or [[]]
    session.is_cursor_hidden = screen.cursor.hidden
    return session


def arena_ckpt(*arguments: str) -> list[str]:
    """Return the command that runs ``arena-ckpt``."""
    return [sys.executable, "-m", "arena_ckpt", *arguments]


def _become(
    command: Sequence[str],
    env: Mapping[str, str],
    stdout: Path | None,
    stderr: Path | None,
    columns: int,
    rows: int,
) -> None:
    """Turn the forked child into the command."""
    try:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(0, termios.TIOCSWINSZ, size)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, path in ((1, stdout), (2, stderr)):
            if path is not None:
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        left_out = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PYTEST", "COV")
        own = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
        own |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **env}
        os.execvpe(command[0], list(command), own)
    finally:
        os._exit(127)


def _of_progress(lines: list[str]) -> list[str]:
    return [line for line in lines if BAR.search(line)]


def _lines(screen: pyte.HistoryScreen) -> list[str]:
    """Return what has scrolled away and what stands on the screen, trimmed."""
    gone = [
        "".join(row[column].data for column in range(screen.columns)).rstrip()
        for row in screen.history.top
    ]
    lines = gone + [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return lines
