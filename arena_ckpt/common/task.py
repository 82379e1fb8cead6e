"""How far a piece of work is, and when it is time to show it again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Task:
    """A piece of work and how far it is.

    Attributes
    ----------
    description : str
    done : int
    total : int or None
        None where nothing is counted.
    text : str
        What is shown behind the numbers.
    began : float
        On the clock of `time.monotonic`.
    """

    description: str
    done: int = 0
    total: int | None = None
    text: str = ""
    began: float = field(default_factory=time.monotonic)

    def update(self, done: int, total: int, text: str) -> None:
        """Record how far the work is."""
        self.done, self.total, self.text = done, total, text

    @property
    def seconds(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self.began

    def line(self) -> str:
        """Return one line that says how far the work is."""
        of = "" if self.total is None else f": {self.done:,} of {self.total:,}"
        mark = "" if not self.text else " " if of else ": "
        return f"{self.description}{of}{mark}{self.text}"


class Pause:
    """Says whether enough time has passed since it last said so.

    Parameters
    ----------
    first : float
        Seconds until the first time.
    following : float, optional
        Seconds between later ones; by default as many.
    """

    def __init__(self, first: float, following: float | None = None) -> None:
        self._following = first if following is None else following
        self._next = time.monotonic() + first

    def is_over(self) -> bool:
        """Return whether the time has passed; if so, the next pause begins."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._following
        return True
