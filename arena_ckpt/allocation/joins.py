"""Joins rectangles that look as if they were cut from one larger rectangle.

Where the best layout is nearly full, edges meet:

- *beside*: of two equally high *items* one ends in the section where the other begins;
- *pinwheel*: around a core lie four items, each beside the next, and all edges meet.

An item is one rectangle or a *stack* of several of one lifetime: a whole *bag* (all
rectangles of that lifetime) or a part of a small one. What is joined is a rectangle in
turn, so what straight cuts and pinwheels made of one rectangle grows together again.

1. Every item is looked up by (section, height) among those that end or begin there.
   What matches goes on a heap, the most credible first: the fewest such matches are to
   be expected by chance where few lifetimes meet, heights are large and there were few
   items to choose from. Stacks of which members match as well come after these.
2. The heap is worked off up to a limit; then pinwheels as credible are looked for in
   all bags; only when there is none the limit is raised.

Any layout of the joined rectangles is one of the bodies. Of 20,000 rectangles cut from
one commonly some dozens are left. Each of at most n - 1 joins costs O(log n), the items
of its bag and as many bytes as the bag is long; a round of pinwheels, for each bag, the
lifetimes that end or begin where it does.

Nothing is bounded: rectangles that are joined by chance may rule out every good layout,
and are not taken apart again; where rectangles are a few bytes high or many lifetimes
meet everywhere, chance wins. All must have one alignment; sizes count rounded up to it.
Of many equal matches only some are remembered.

Notes
-----
Our own; guillotine and pinwheel cuts are those of the literature on cutting stock
(Gilmore and Gomory, "Multistage cutting stock problems of two and more dimensions",
Operations Research 13, 1965).
"""

from __future__ import annotations

import gc
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import combinations

import numpy as np

from arena_ckpt.allocation.bodies import Bodies
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import FREE
from arena_ckpt.allocation.orders import noise

Item = tuple[int, ...]
"""Rectangles of one live range that can be stacked."""

Lifetime = tuple[int, int]
"""First section of a live range, and the section after its last."""

LARGEST_BAG = 6
"""Maximum number of rectangles of one live range of which every subset is an item."""

MOST_MATCHES = 8
"""Maximum number of matches that are remembered for an item; the latest are kept."""

CREDIBLE = 1e-2
"""Number of such matches that chance alone would bring, up to which joining begins."""

INCREDIBLE = 10.0
"""Number of such matches that chance alone would bring, above which joining ends."""

TRUST = 6.0
"""Width of the range of ln(factor) in which an attempt draws the factors that it trusts
matches by."""

NODES_PER_LOOK = 256
"""Number of matches after which the limit is looked at again."""


def can_join(bodies: Bodies) -> bool:
    """Say whether bodies are rectangles of one common alignment."""
    return (
        len(bodies) > 1
        and bodies.are_rectangles
        and bool((bodies.alignment == bodies.alignment[0]).all())
    )


def join(bodies: Bodies, budget: Budget, seed: int = 0, attempt: int = 0) -> Bodies:
    """Join rectangles until nothing matches or the limit is reached.

    Parameters
    ----------
    bodies : Bodies
        Rectangles of one alignment, see `can_join`.
    budget : Budget
        Each match that is looked at counts as one node.
    seed : int
    attempt : int
        The first, 0, trusts every match as estimated; others trust at random.

    Returns
    -------
    Bodies
        Rectangles; their `buffer_offsets` are the offsets of `bodies`.
    """
    assert can_join(bodies)
    with _no_collecting():
        joiner = _Joiner(bodies, seed, attempt)
        joiner.run(budget)
        return joiner.bodies()


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Switch the garbage collector off in the block: it would scan all items."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Joiner:
    """The rectangles so far by number, those of the bodies first."""

    def __init__(self, bodies: Bodies, seed: int, attempt: int) -> None:
        self._bodies = bodies
        self._seed, self._attempt = seed, attempt
        self._trust: list[float] = [1.0]
        if attempt:
            self._trust = np.exp(TRUST * (noise(4099, seed, attempt) - 0.5)).tolist()
        step = int(bodies.alignment[0])
        self._lower: list[int] = bodies.section_lower.tolist()
        self._upper: list[int] = bodies.section_upper.tolist()
        self._size: list[int] = (-(-bodies.size // step) * step).tolist()
        self._lifetime: list[int] = bodies.lifetime.tolist()
        self._is_free = [True] * len(bodies)
        # What a joined rectangle consists of: (item, bytes above its bottom).
        self._parts: list[list[tuple[Item, int]]] = [[] for _ in range(len(bodies))]
        self._bags: dict[Lifetime, list[int]] = {}
        self._heights_of: dict[Lifetime, dict[int, Item]] = {}
        self._uppers_from: defaultdict[int, set[int]] = defaultdict(set)
        self._lowers_to: defaultdict[int, set[int]] = defaultdict(set)
        # By height × _stride + section.
        self._stride = bodies.n_sections + 1
        self._beginning: dict[int, list[Item]] = {}
        self._ending: dict[int, list[Item]] = {}
        self._matches: list[tuple[float, int, Item, Item]] = []
        self._n_matches = 0
        for index in range(len(bodies)):
            self._put(index)
        for bag in list(self._bags.values()):
            self._offer(bag, _parts_of(bag))

    def bodies(self) -> Bodies:
        """Return the free rectangles as bodies that hold the original ones."""
        old = self._bodies
        free = [index for index, is_free in enumerate(self._is_free) if is_free]
        body = np.zeros(len(old), dtype=np.int64)
        base = np.zeros(len(old), dtype=np.int64)
        for new, root in enumerate(free):
            open_parts = [(root, 0)]
            while open_parts:
                index, bottom = open_parts.pop()
                if index < len(old):
                    body[index], base[index] = new, bottom
                for item, above in self._parts[index]:
                    end = bottom + above
                    for member in item:
                        open_parts.append((member, end))
                        end += self._size[member]

        def chosen(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            return np.array([values[index] for index in free], dtype=np.int64)

        # Without what rounding up added on top.
        n, size = len(free), np.zeros(len(free), dtype=np.int64)
        np.maximum.at(size, body, base + old.size)
        return Bodies(
            extent=size,
            alignment=np.full(n, old.alignment[0], dtype=np.int64),
            fixed_offset=np.full(n, FREE, dtype=np.int64),
            first_piece=np.arange(n + 1, dtype=np.int64),
            section_lower=chosen(self._lower),
            section_upper=chosen(self._upper),
            base=np.zeros(n, dtype=np.int64),
            size=size,
            n_sections=old.n_sections,
            lifetime=chosen(self._lifetime),
            body_of=body,
            base_of=base,
        )

    def run(self, budget: Budget) -> None:
        """Join items that match, those first that chance explains least."""
        limit = CREDIBLE
        while limit <= INCREDIBLE and not budget.is_over:
            self._join_beside(limit, budget)
            if self._join_pinwheels(limit, budget):
                limit = CREDIBLE
            else:
                limit *= 10

    # -- items -------------------------------------------------------------------------

    def _total(self, item: Iterable[int]) -> int:
        size = self._size
        return sum([size[index] for index in item])

    def _are_free(self, item: Item) -> bool:
        is_free = self._is_free
        for index in item:
            if not is_free[index]:
                return False
        return True

    def _choices(self, item: Item, bag: list[int]) -> int:
        """Return the number of items of one kind among which a bag lets choose."""
        if len(item) == len(bag):
            return 1
        return len(bag) if len(item) == 1 else 1 << min(len(bag), 2 * LARGEST_BAG)

    def _put(self, index: int) -> list[int]:
        """Add a rectangle to the bag of its live range; return the bag."""
        lower, upper = self._lower[index], self._upper[index]
        bag = self._bags.get((lower, upper))
        if bag is None:
            bag = self._bags[lower, upper] = []
            self._uppers_from[lower].add(upper)
            self._lowers_to[upper].add(lower)
        bag.append(index)
        self._heights_of.pop((lower, upper), None)
        return bag

    def _take(self, item: Item) -> list[int]:
        """Remove an item from its bag; return what is left of the bag."""
        lower, upper = self._lower[item[0]], self._upper[item[0]]
        bag = self._bags[lower, upper]
        self._heights_of.pop((lower, upper), None)
        for index in item:
            self._is_free[index] = False
            bag.remove(index)
        if not bag:
            del self._bags[lower, upper]
            self._uppers_from[lower].discard(upper)
            self._lowers_to[upper].discard(lower)
        return bag

    def _offer(self, bag: list[int], items: Iterable[Item]) -> None:
        """Look for matches of items of a bag with their neighbours in time."""
        lower, upper = self._lower[bag[0]], self._upper[bag[0]]
        beginning, ending, sizes = self._beginning, self._ending, self._size
        stride = self._stride
        for item in items:
            size = sizes[item[0]] if len(item) == 1 else self._total(item)
            key = size * stride + upper
            if key in beginning:
                for other in self._latest(beginning[key]):
                    self._remember(item, other, upper, size)
            if key in ending:
                ending[key].append(item)
            else:
                ending[key] = [item]
            key = size * stride + lower
            if key in ending:
                for other in self._latest(ending[key]):
                    self._remember(other, item, lower, size)
            if key in beginning:
                beginning[key].append(item)
            else:
                beginning[key] = [item]

    def _latest(self, items: list[Item]) -> list[Item]:
        """Forget items that are no longer free; return the latest that are."""
        free = [item for item in items if self._are_free(item)]
        if len(free) < len(items):
            items[:] = free
        return free[-MOST_MATCHES:]

    def _bag_of(self, item: Item) -> list[int]:
        return self._bags[self._lower[item[0]], self._upper[item[0]]]

    def _remember(self, left: Item, right: Item, section: int, size: int) -> None:
        """Put a match on the heap, ordered by the matches that chance would bring."""
        n_left, n_right = len(self._lowers_to[section]), len(self._uppers_from[section])
        choices = self._choices(left, self._bag_of(left))
        choices *= self._choices(right, self._bag_of(right))
        expected = n_left * n_right * choices / max(1, size)
        if len(left) > 1 and len(right) > 1:
            expected *= self._shared_height(left, right)
        self._n_matches += 1
        expected *= self._trust[self._n_matches % len(self._trust)]
        heapq.heappush(self._matches, (expected, self._n_matches, left, right))

    def _shared_height(self, left: Item, right: Item) -> int:
        """Return the largest height that members of both stacks have, or 1.

        Stacks match if members of them do, which may lie apart: those are to be joined
        first, and say as much as their height.
        """
        sizes = {self._size[index] for index in left}
        return max([h for i in right if (h := self._size[i]) in sizes], default=1)

    # -- joins -------------------------------------------------------------------------

    def _join(self, parts: list[tuple[Item, int]], size: int, lifetime: int) -> None:
        """Make one rectangle of items; the bytes below each item are given."""
        rests = [self._take(item) for item, _ in parts]
        self._lower.append(min([self._lower[item[0]] for item, _ in parts]))
        self._upper.append(max([self._upper[item[0]] for item, _ in parts]))
        self._size.append(size)
        self._lifetime.append(lifetime)
        self._is_free.append(True)
        self._parts.append(parts)
        new = len(self._size) - 1
        bag = self._put(new)
        for rest in rests:
            if rest and rest is not bag:
                self._offer(rest, [tuple(rest)])
        self._offer(bag, _parts_of(bag, new))

    def _join_beside(self, limit: float, budget: Budget) -> None:
        """Join pairs of which chance would bring fewer than `limit`."""
        looked_at = 0
        while self._matches and self._matches[0][0] <= limit:
            _, _, left, right = heapq.heappop(self._matches)
            looked_at += 1
            if looked_at % NODES_PER_LOOK == 0:
                if budget.is_over:
                    break
                budget.spend(NODES_PER_LOOK, self._progress)
            if self._are_free(left) and self._are_free(right):
                size = self._total(left)
                lifetime = self._lifetime[left[0]] + self._lifetime[right[0]]
                self._join([(left, 0), (right, 0)], size, lifetime)
        budget.spend(looked_at % NODES_PER_LOOK, self._progress)

    def _join_pinwheels(self, limit: float, budget: Budget) -> bool:
        """Join the pinwheels around all bags; return whether there was one."""
        found = False
        cores = list(self._bags)
        if self._attempt:
            moved = np.argsort(noise(len(cores), self._seed, self._attempt))
            cores = [cores[place] for place in moved]
        for looked_at, core in enumerate(cores):
            if looked_at % NODES_PER_LOOK == 0 and budget.is_over:
                break
            lower, upper = core
            starts = self._lowers_to[lower] & self._lowers_to[upper]
            if not starts:
                continue
            stops = self._uppers_from[lower] & self._uppers_from[upper]
            if not stops or core not in self._bags:
                continue
            wheel = self._pinwheel(core, starts, stops, limit)
            if wheel:
                size = wheel[1][1] + self._total(wheel[1][0])
                arms = wheel[2][0][0], wheel[3][0][0]
                lifetime = sum(self._lifetime[index] for index in arms)
                self._join(wheel, size, lifetime)
                budget.spend(1, self._progress)
                found = True
        return found

    def _pinwheel(
        self, core: Lifetime, starts: set[int], stops: set[int], limit: float
    ) -> list[tuple[Item, int]]:
        r"""Return the five items around a core with the bytes below each, or None.

        Over time, left to right; the other one that turns has the same lifetimes and
        heights::

            d d c c c
            d d k k b
            a a a a b
        """
        lower, upper = core
        cores = self._heights(core)
        for start in sorted(starts):
            lows = self._heights((start, upper))
            highs = self._heights((start, lower))
            for stop in sorted(stops):
                rights = self._heights((upper, stop))
                tops = self._heights((lower, stop))
                choices = len(starts) * len(stops) * len(rights) * len(tops)
                choices *= len(lows) * len(highs) * len(cores)
                if choices > limit * max(rights) * max(tops):
                    continue
                for low, a in lows.items():
                    for middle, k in cores.items():
                        b = rights.get(low + middle)
                        if b is None:
                            continue
                        for high, d in highs.items():
                            c = tops.get(high - middle)
                            if c is None:
                                continue
                            if choices <= limit * (low + middle) * (high - middle):
                                return [
                                    (k, low),
                                    (d, low),
                                    (a, 0),
                                    (b, 0),
                                    (c, low + middle),
                                ]
        return []

    def _heights(self, lifetime: Lifetime) -> dict[int, Item]:
        """Return the items of a bag by their heights in bytes."""
        heights = self._heights_of.get(lifetime)
        if heights is None:
            # The simplest last, so that it stays where heights are equal.
            parts = list(_parts_of(self._bags[lifetime]))[::-1]
            heights = {self._total(part): part for part in parts}
            self._heights_of[lifetime] = heights
        return heights

    def _progress(self) -> str:
        return f"joining: {sum(self._is_free):,} rectangles left"


def _parts_of(bag: list[int], with_one: int | None = None) -> Iterator[Item]:
    """Return the single rectangles of a bag, the whole bag, and subsets of a small one.

    All of them, or those that hold one rectangle.
    """
    rest = bag if with_one is None else [i for i in bag if i != with_one]
    must = () if with_one is None else (with_one,)
    if with_one is None:
        yield from zip(bag)
    else:
        yield must
    if len(bag) > 1:
        yield tuple(bag)
    if len(bag) <= LARGEST_BAG:
        for n_others in range(2 - len(must), len(bag) - len(must)):
            for others in combinations(rest, n_others):
                yield (*others, *must)
