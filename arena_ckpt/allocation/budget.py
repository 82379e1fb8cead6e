"""The limits of a search: a number of nodes, or a number of seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

Report = Callable[[str], None]
"""Called now and then with a text that says what the search is doing."""


class Budget:
    """Counts the nodes of a search, watches the clock and reports progress.

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
        self._part_node_limit: int | None = None
        self._part_deadline: float | None = None
        self._report = report
        self._next_report = now + 0.5
        self.nodes = 0

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock while the block runs, because compiling is not searching."""
        began = time.monotonic()
        try:
            yield
        finally:
            lost = time.monotonic() - began
            if self._deadline is not None:
                self._deadline += lost
            if self._part_deadline is not None:
                self._part_deadline += lost

    @contextmanager
    def counting_compiled(self, load: Callable[[], bool]) -> Iterator[None]:
        """Load a loop, and count the time of the block if that is compiled.

        A plain loop runs in the time that loading Numba would have taken, which would
        not count either.

        Parameters
        ----------
        load : callable
            Loads what is to be loaded and says whether the loop is compiled.
        """
        with self.stopped():
            is_compiled = load()
        with nullcontext() if is_compiled else self.stopped():
            yield

    @contextmanager
    def part(self, share: float, most_nodes: int | None = None) -> Iterator[None]:
        """Limit the block to a share of what is left, and to a number of nodes."""
        assert self._part_node_limit is self._part_deadline is None
        limits = [] if most_nodes is None else [self.nodes + most_nodes]
        if self._node_limit is not None:
            limits.append(self.nodes + int(share * (self._node_limit - self.nodes)))
        self._part_node_limit = min(limits, default=None)
        if self._deadline is not None:
            now = time.monotonic()
            self._part_deadline = now + share * (self._deadline - now)
        try:
            yield
        finally:
            self._part_node_limit = self._part_deadline = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of the whole limit or of the current part."""
        if self._part_node_limit is not None and self.nodes >= self._part_node_limit:
            return True
        if self._node_limit is not None:
            return self.nodes >= self._node_limit
        if self._deadline is None:
            return False
        now = time.monotonic()
        return now >= self._deadline or (
            self._part_deadline is not None and now >= self._part_deadline
        )

    @property
    def seconds_left(self) -> float:
        """Seconds until the limit; infinite if the limit counts nodes."""
        if self._deadline is None:
            return math.inf
        return max(0.0, self._deadline - time.monotonic())

    def nodes_left(self, wanted: int) -> int:
        """Return how many of the `wanted` nodes the limit still allows."""
        for limit in (self._node_limit, self._part_node_limit):
            if limit is not None:
                wanted = min(wanted, limit - self.nodes)
        return wanted

    def spend(self, nodes: int, what: Callable[[], str]) -> None:
        """Count nodes, and report progress if it is time to."""
        self.nodes += nodes
        if self._report is not None and time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + 0.2
            self._report(what())
