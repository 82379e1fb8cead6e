"""Two outside judges of what spills least: brute force, and a linear program.

Neither shares code with the allocator. Brute force tries every choice of pools, the one
that spills least first, and for each pool every order in which first fit could place
its buffers: some order makes every buffer as low as in the best layout. The program,
solved by HiGHS, has a variable for the pool of each buffer, its offset, and which one
of two buffers lies below the other.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

Spill = tuple[float, ...]
"""The weight beyond each pool but the last; compared in this order."""


@dataclass(frozen=True)
class PoolCase:
    """Buffers to spread over pools, in the terms of `allocate`."""

    lower: tuple[int, ...]
    upper: tuple[int, ...]
    size: tuple[int, ...]
    pools: tuple[int | None, ...]
    allowed: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    fixed: tuple[int | None, ...]
    alignment: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.size)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `allocate`."""
        everywhere = tuple(range(len(self.pools)))
        return {
            "lower": self.lower,
            "upper": self.upper,
            "size": self.size,
            "pools": self.pools,
            "allowed_pools": [None if a == everywhere else a for a in self.allowed],
            "spill_weights": self.weights,
            "fixed_offset": self.fixed,
            "alignment": self.alignment,
        }

    def spill(self, pool: Sequence[int]) -> Spill:
        """Return what a choice of pools spills."""
        return tuple(
            sum(w for w, p in zip(self.weights, pool, strict=True) if p > last)
            for last in range(len(self.pools) - 1)
        )

    def meet(self, a: int, b: int) -> bool:
        """Say whether two buffers live at the same step."""
        return self.lower[a] < self.upper[b] and self.lower[b] < self.upper[a]


def random_case(
    generator: random.Random, n: int, *, n_pools: int, pinned: float = 0.3
) -> PoolCase:
    """Return a case whose pools hold the buffers barely or not at all."""
    steps = generator.choice((3, 6, 10))
    lower = tuple(generator.randrange(steps) for _ in range(n))
    upper = tuple(low + generator.randint(1, steps) for low in lower)
    sizes = generator.choice(((4, 6, 8, 12), tuple(range(1, 20)), (20, 30, 60, 100)))
    size = tuple(generator.choice(sizes) for _ in range(n))
    alignment = tuple(generator.choice((1, 1, 1, 4)) for _ in range(n))
    live = max(
        sum(b for a, z, b in zip(lower, upper, size, strict=True) if a <= t < z)
        for t in lower
    )
    first = max(1, round(live * generator.uniform(0.3, 0.7)))
    rest = max(1, live - first + generator.randint(-live // 8, live // 3))
    pools: list[int | None] = [first, generator.choice((rest, rest, None))]
    if n_pools == 3:
        half = max(1, first // 2)
        pools = [half, max(1, first - half), generator.choice((rest, rest, None))]
    if generator.random() < 0.3 and pools[-1] is not None:
        generator.shuffle(pools)
    allowed, fixed = [], []
    for index in range(n):
        choice = list(range(n_pools))
        if generator.random() < pinned:
            choice = generator.sample(choice, generator.randint(1, n_pools))
        allowed.append(tuple(sorted(choice)))
        room = pools[choice[0]] or live
        is_fixed = len(choice) == 1 and generator.random() < 0.4
        is_fixed = is_fixed and size[index] <= room
        slots = max(0, room - size[index]) // alignment[index]
        offset = generator.randint(0, slots) * alignment[index]
        fixed.append(offset if is_fixed else None)
    weights = generator.choice(
        (
            tuple(float(generator.randint(0, 9)) for _ in range(n)),
            tuple(b * generator.choice((1, 2, 3, 8)) for b in size),
            tuple(generator.random() for _ in range(n)),
        )
    )
    return PoolCase(
        lower,
        upper,
        size,
        tuple(pools),
        tuple(allowed),
        weights,
        tuple(fixed),
        alignment,
    )


# -- brute force -----------------------------------------------------------------------


def least_spill(case: PoolCase) -> Spill | None:
    """Return the least that must spill, None where no choice of pools fits."""
    known: dict[tuple[int, tuple[int, ...]], bool] = {}

    def holds(pool: int, choice: Sequence[int]) -> bool:
        members = tuple(b for b, p in enumerate(choice) if p == pool)
        if (pool, members) not in known:
            known[pool, members] = _fits(case, members, case.pools[pool])
        return known[pool, members]

    choices = sorted(itertools.product(*case.allowed), key=case.spill)
    for choice in choices:
        if all(holds(pool, choice) for pool in range(len(case.pools))):
            return case.spill(choice)
    return None


def _fits(case: PoolCase, members: Sequence[int], room: int | None) -> bool:
    """Say whether some buffers fit in one pool."""
    size = sum(case.size) * 8 if room is None else room
    fixed = [(b, offset) for b in members if (offset := case.fixed[b]) is not None]
    if any(offset + case.size[b] > size for b, offset in fixed):
        return False
    for (a, at), (b, to) in itertools.combinations(fixed, 2):
        if case.meet(a, b) and at < to + case.size[b] and to < at + case.size[a]:
            return False
    if room is None:
        return True
    free = [b for b in members if case.fixed[b] is None]
    for step in {case.lower[b] for b in members}:
        live = [b for b in members if case.lower[b] <= step < case.upper[b]]
        if sum(case.size[b] for b in live) > size:
            return False
    return _can_place(case, dict(fixed), free, size)


def _can_place(
    case: PoolCase, placed: dict[int, int], free: Sequence[int], size: int
) -> bool:
    """Say whether some order of first fit puts all free buffers below a size."""
    if not free:
        return True
    lowest = {b: _first_fit(case, placed, b) for b in free}
    if any(offset + case.size[b] > size for b, offset in lowest.items()):
        return False  # placing more never makes room
    return any(
        _can_place(case, {**placed, b: lowest[b]}, [c for c in free if c != b], size)
        for b in free
    )


def _first_fit(case: PoolCase, placed: dict[int, int], buffer: int) -> int:
    step, offset = case.alignment[buffer], 0
    for start, end in sorted(
        (at, at + case.size[b]) for b, at in placed.items() if case.meet(b, buffer)
    ):
        if offset + case.size[buffer] <= start:
            break
        offset = max(offset, -(-end // step) * step)
    return offset


# -- a linear program ------------------------------------------------------------------


def program_spill(case: PoolCase, time_limit: float = 30.0) -> Spill | None:
    """Return the least that must spill, solved pool by pool as spills are compared.

    Raises
    ------
    AssertionError
        The time was not enough.
    """
    program = _Program(case)
    spill: list[float] = []
    for last in range(len(case.pools) - 1):
        beyond = program.beyond(last)
        value = program.least(beyond, time_limit)
        if value is None:
            assert last == 0
            return None
        spill.append(value)
        program.require(beyond, -np.inf, value + 1e-6)
    return tuple(spill)


Row = dict[int, float]


class _Program:
    """Variables: pool of each buffer (0 or 1), offset, and which of two is below."""

    def __init__(self, case: PoolCase) -> None:
        self._case = case
        roomy = sum(case.size) + sum(case.alignment) + max(f or 0 for f in case.fixed)
        self._size = [roomy if size is None else size for size in case.pools]
        self._high: list[float] = []
        self._is_whole: list[bool] = []
        self._rows: list[tuple[Row, float, float]] = []
        self._in = [[self._new(1) for _ in case.pools] for _ in case.size]
        self._offset = [self._new(max(self._size), is_whole=False) for _ in case.size]
        for b in range(len(case)):
            self._place(b)
        for a, b in itertools.combinations(range(len(case)), 2):
            if case.meet(a, b):
                self._keep_apart(a, b)
        for step in sorted(set(case.lower)):
            self._stay_within(step)

    def require(self, row: Row, low: float, high: float) -> None:
        self._rows.append((row, low, high))

    def beyond(self, last: int) -> Row:
        """Return the weight that lies beyond a pool."""
        return {
            column: float(weight)
            for columns, weight in zip(self._in, self._case.weights, strict=True)
            for column in columns[last + 1 :]
        }

    def least(self, cost: Row, time_limit: float) -> float | None:
        """Return the least value of a row, None where there is no solution."""
        n = len(self._high)
        matrix = lil_array((len(self._rows), n))
        for line, (row, _, _) in enumerate(self._rows):
            for column, factor in row.items():
                matrix[line, column] = factor
        costs = np.zeros(n)
        for column, factor in cost.items():
            costs[column] = factor
        result = milp(
            costs,
            integrality=np.array(self._is_whole, dtype=int),
            bounds=Bounds(0, self._high),
            constraints=LinearConstraint(
                matrix.tocsr(),
                [low for _, low, _ in self._rows],
                [high for _, _, high in self._rows],
            ),
            options={"time_limit": time_limit, "mip_rel_gap": 0},
        )
        # 0 is solved, 2 is proved to have no solution, 1 is out of time.
        assert result.status in (0, 2), result.message
        return None if result.status == 2 else float(result.fun)

    def _place(self, b: int) -> None:
        case, columns = self._case, self._in[b]
        self.require(dict.fromkeys(columns, 1.0), 1, 1)
        for pool, column in enumerate(columns):
            if pool not in case.allowed[b]:
                self.require({column: 1.0}, 0, 0)
        ends = {
            column: -float(size)
            for column, size in zip(columns, self._size, strict=True)
        }
        self.require({self._offset[b]: 1.0, **ends}, -np.inf, -case.size[b])
        if (offset := case.fixed[b]) is not None:
            self.require({self._offset[b]: 1.0}, offset, offset)
        elif (step := case.alignment[b]) > 1:
            count = self._new(max(self._size) // step)
            self.require({self._offset[b]: 1.0, count: -float(step)}, 0, 0)

    def _new(self, high: float, *, is_whole: bool = True) -> int:
        self._high.append(high)
        self._is_whole.append(is_whole)
        return len(self._high) - 1

    def _keep_apart(self, a: int, b: int) -> None:
        """Of two that meet in a pool one lies below the other."""
        a_below, b_below = self._new(1), self._new(1)
        for in_a, in_b in zip(self._in[a], self._in[b], strict=True):
            self.require({in_a: 1, in_b: 1, a_below: -1, b_below: -1}, -np.inf, 1)
        top = max(self._size)
        for low, high, below in ((a, b, a_below), (b, a, b_below)):
            row = {self._offset[low]: 1.0, self._offset[high]: -1.0}
            row[below] = float(top)
            self.require(row, -np.inf, top - self._case.size[low])

    def _stay_within(self, step: int) -> None:
        """The live bytes of a step fit in every pool: implied, but it helps."""
        case = self._case
        live = [b for b in range(len(case)) if case.lower[b] <= step < case.upper[b]]
        for pool, size in enumerate(case.pools):
            if size is not None:
                row = {self._in[b][pool]: float(case.size[b]) for b in live}
                self.require(row, -np.inf, size)
