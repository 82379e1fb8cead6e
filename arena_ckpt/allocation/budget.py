"""How long to search: so many nodes, or so many seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str], None]
"""Told now and then what the search is at."""


class Budget:
    """Counts nodes, watches the clock and tells how it goes.

    Parameters
    ----------
    node_limit : int or None
        Nodes of the search tree; with it the clock is not looked at, so the result is
        the same on every machine.
    time_limit_seconds : float or None
    report : callable, optional
        Told a line of text about five times a second.
    """

    def __init__(
        self,
        node_limit: int | None,
        time_limit_seconds: float | None,
        report: Report | None = None,
    ) -> None:
        self._node_limit = node_limit
        now = time.monotonic()
        self._deadline = (
            None
            if time_limit_seconds is None or node_limit is not None
            else now + time_limit_seconds
        )
        self._report = report
        self._next_report = now + 0.5
        self.nodes = 0

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock while the block runs: compiling is not searching."""
        began = time.monotonic()
        try:
            yield
        finally:
            if self._deadline is not None:
                self._deadline += time.monotonic() - began

    @property
    def is_over(self) -> bool:
        """Nothing is left."""
        if self._node_limit is not None:
            return self.nodes >= self._node_limit
        return self._deadline is not None and time.monotonic() >= self._deadline

    def nodes_left(self, wanted: int) -> int:
        """Return how many of the `wanted` nodes may be looked at."""
        if self._node_limit is None:
            return wanted
        return min(wanted, self._node_limit - self.nodes)

    def spend(self, nodes: int, what: Callable[[], str]) -> None:
        """Count nodes, and report `what` is going on if it is time to."""
        self.nodes += nodes
        if self._report is not None and time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + 0.2
            self._report(what())
