"""The largest batch size for which a plan within a budget exists.

Every size that is tried is planned: nothing is estimated, and only real arenas count.
The least arena of a model mostly grows with the batch, but not always: the layout, or
the schedule that is found, can be worse for one size than for the next. So a search by
halves finds an edge, a size that fits before one that does not, and then looks beyond
it: at the next sizes, and at some that are spread over all that may still fit. No plan
is below its local lower bound, which grows with the batch; that ends the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from arena_ckpt.checkpoint.choose import Chooser
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.refusal import does_not_fit, too_slow
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.units import format_bytes, format_percent
from arena_ckpt.errors import BudgetError
from arena_ckpt.planning.plan import MemoryPlan

MOST_SAMPLES = 65_536
"""Maximum batch size that is tried where the user names none: with micro-batches a
batch of any size can fit."""

NEXT_TRIED = 8
"""Number of sizes after an edge that are tried."""

BEFORE_TRIED = 4
"""Number of sizes before the largest that fits which are tried: one that does not fit
is worth knowing."""

SPREAD_TRIED = 8
"""Number of sizes that are tried beyond these, spread evenly."""

ChooserOf = Callable[[int], Chooser | None]
"""Returns what chooses plans of a batch size; None for one that cannot be trained."""


@dataclass(frozen=True, slots=True)
class TriedBatchSize:
    """A batch size that was tried.

    Attributes
    ----------
    batch_size : int
    least_bytes : int
        Arena of the smallest plan that was made for it: the smallest of all that the
        search knows where none fits.
    fits : bool
        Whether a plan is within the budget, and within the overhead if one is asked.
    """

    batch_size: int
    least_bytes: int
    fits: bool


@dataclass(frozen=True, eq=False)
class BatchSizeChoice:
    """The largest batch size that was found to fit, with its plan.

    Attributes
    ----------
    batch_size : int
    budget_bytes : int
    point : FrontPoint
        The fastest plan of that size within the budget.
    tried : tuple of TriedBatchSize
        All sizes that were planned, in ascending order.
    is_exhaustive : bool
        Whether every larger size was tried, or is excluded by its local lower bound. If
        not, a larger one may fit.
    """

    batch_size: int
    budget_bytes: int
    point: FrontPoint
    tried: tuple[TriedBatchSize, ...]
    is_exhaustive: bool

    def __repr__(self) -> str:
        return short_repr(
            self,
            "",
            f"batch size {self.batch_size:,}",
            f"arena {format_bytes(self.point.arena_bytes)}",
            f"budget {format_bytes(self.budget_bytes)}",
            f"{format_percent(self.point.overhead)} overhead",
            f"{counted(len(self.tried), 'size')} tried",
            "" if self.is_exhaustive else "larger ones may fit",
        )

    @property
    def plan(self) -> MemoryPlan:
        """Plan of that size, for `Model.initialize`."""
        return self.point.plan

    @property
    def smaller_that_need_more(self) -> tuple[TriedBatchSize, ...]:
        """Smaller batch sizes of which no plan was found within the budget."""
        return tuple(
            one
            for one in self.tried
            if one.batch_size < self.batch_size and one.least_bytes > self.budget_bytes
        )


def largest_batch(
    chooser_of: ChooserOf,
    budget_bytes: int,
    max_overhead: float | None,
    least: int,
    most: int,
) -> BatchSizeChoice:
    """Return the largest batch size for which a plan within a budget is found.

    Parameters
    ----------
    chooser_of : callable
        See `ChooserOf`.
    budget_bytes : int
    max_overhead : float or None
        Maximum additional time of an iteration, as a share.
    least, most : int
        First batch size that can be trained, and the last that may be tried.

    Returns
    -------
    BatchSizeChoice

    Raises
    ------
    BudgetError
        Not even the smallest batch fits.

    Notes
    -----
    O(log `most`) sizes are tried, and at most 16 for each edge that is found.
    """
    search = _Search(chooser_of, budget_bytes, max_overhead)
    stop = search.first_excluded(least, most)
    edge = least - 1
    while (size := next(filter(search.fits, _beyond(edge, stop)), None)) is not None:
        edge = search.edge(size, stop)
    if edge < least:
        raise search.refusal(least)
    for size in range(max(least, edge - BEFORE_TRIED), edge):
        search.fits(size)
    return BatchSizeChoice(
        edge,
        budget_bytes,
        search.points[edge],
        tuple(search.tried[size] for size in sorted(search.tried)),
        all(search.is_known(size) for size in range(edge + 1, stop)),
    )


def _beyond(edge: int, stop: int) -> Iterator[int]:
    """Yield the sizes to try after an edge: the next, then some up to the last."""
    near = min(stop, edge + 1 + NEXT_TRIED)
    yield from range(edge + 1, near)
    if near < stop:
        spread = np.linspace(near, stop - 1, SPREAD_TRIED).round()
        yield from dict.fromkeys(spread.astype(np.int64).tolist())


class _Search:
    """Tries batch sizes, and remembers what came of each."""

    def __init__(
        self, chooser_of: ChooserOf, budget_bytes: int, max_overhead: float | None
    ) -> None:
        self._chooser_of = chooser_of
        self._budget_bytes = budget_bytes
        self._max_overhead = max_overhead
        self.tried: dict[int, TriedBatchSize] = {}
        self.points: dict[int, FrontPoint] = {}

    def is_known(self, size: int) -> bool:
        """Tell whether a size was tried, or cannot be trained at all."""
        return size in self.tried or self._chooser_of(size) is None

    def fits(self, size: int) -> bool:
        """Plan a batch size; tell whether a plan is within what was asked."""
        if size in self.tried:
            return self.tried[size].fits
        chooser = self._chooser_of(size)
        if chooser is None:
            return False
        point = chooser.within_budget(self._budget_bytes)
        if point is not None:
            self.points[size] = point
        fits = point is not None and not self._is_slow(point)
        least_bytes = chooser.least_bytes(self._budget_bytes)
        self.tried[size] = TriedBatchSize(size, least_bytes, fits)
        return fits

    def _is_slow(self, point: FrontPoint) -> bool:
        return self._max_overhead is not None and point.overhead > self._max_overhead

    def first_excluded(self, least: int, most: int) -> int:
        """Return the first size that cannot fit, or `most` + 1.

        The bytes of a step grow with its samples: bounds never fall.
        """

        def is_open(size: int) -> bool:
            chooser = self._chooser_of(size)
            return chooser is None or chooser.lower_bound_bytes() <= self._budget_bytes

        low, high = least - 1, least
        while high <= most and is_open(high):
            low, high = high, 2 * high
        high = min(high, most + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if is_open(middle) else (low, middle)
        return high

    def edge(self, fits: int, stop: int) -> int:
        """Return a size that fits, `fits` or above, before one that does not.

        It doubles the step while sizes fit, then goes on by halves.
        """
        low, step = fits, 1
        while low + step < stop and self.fits(low + step):
            low, step = low + step, 2 * step
        high = min(stop, low + step)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.fits(middle) else (low, middle)
        return low

    def refusal(self, least: int) -> BudgetError:
        """Return the error that says what the smallest batch needs."""
        chooser = self._chooser_of(least)
        assert chooser is not None
        point = chooser.within_budget(self._budget_bytes)
        if point is not None and self._max_overhead is not None:
            return too_slow(point, self._budget_bytes, self._max_overhead)
        return does_not_fit(chooser, self._budget_bytes)
