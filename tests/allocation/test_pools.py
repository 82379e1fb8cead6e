"""Pools: the preferred memory first, the rest spills."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from helpers.scale import how_many
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.allocation import allocate
from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.allocation.single import decide
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.errors import (
    CapacityError,
    InvalidBufferError,
    InvalidParameterError,
    TimeLimitError,
)

THREE = ([0, 0, 0], [2, 2, 2], [4, 6, 5])
"""All alive at once: 4, 6 and 5 bytes."""


def test_all_goes_into_the_first_pool_where_it_fits() -> None:
    layout = allocate(*THREE, pools=[15, None])
    assert layout.pool is not None
    assert layout.pool.tolist() == [0, 0, 0]
    assert layout.pool_heights_bytes == (15, 0)
    assert layout.stats["spilled_buffers"] == 0


def test_what_does_not_fit_spills() -> None:
    layout = allocate(*THREE, pools=[10, None])
    assert layout.pool is not None
    assert layout.pool.tolist() == [0, 0, 1]
    assert layout.pool_heights_bytes == (10, 5)
    assert layout.height_bytes == 15
    assert layout.stats["spilled_byte_steps"] == 10


def test_three_pools_are_filled_in_order() -> None:
    layout = allocate(*THREE, pools=[6, 5, 4])
    assert layout.pool is not None
    assert layout.pool.tolist() == [2, 0, 1]
    assert layout.offset.tolist() == [0, 0, 0]


def test_the_rest_must_fit_into_the_last() -> None:
    with pytest.raises(CapacityError, match="at least 15 B are needed") as caught:
        allocate(*THREE, pools=[6, 8])
    facts = vars(caught.value)
    assert facts["conflict"] == (0, 1, 2)
    assert (facts["proof"], facts["capacity_bytes"]) == ("live bytes", 14)
    assert (facts["pools"], facts["lower_bound_bytes"]) == ((6, 8), 15)


@pytest.mark.parametrize(
    ("pools", "words"),
    [
        ([], "empty"),
        ([0], "pool 0 has the size 0"),
        ([-1, None], "pool 0"),
        ([None, 4], "pool 0 has the size None"),
        ([4, 1.5], "pool 1 has the size 1.5"),
        ([True], "pool 0"),
    ],
)
def test_sizes_that_make_no_sense(pools: list[object], words: str) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        allocate(*THREE, pools=pools)  # type: ignore[arg-type]


def test_a_capacity_beside_pools_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="both given"):
        allocate(*THREE, pools=[4], capacity=4)


def test_a_fixed_offset_names_no_pool() -> None:
    with pytest.raises(InvalidBufferError, match="in which pool"):
        allocate(*THREE, pools=[40, 8], fixed_offset=[None, 4, None])


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[int]]:
    n = draw(st.integers(1, 14))
    lower = [draw(st.integers(0, 8)) for _ in range(n)]
    upper = [low + draw(st.integers(1, 6)) for low in lower]
    size = [draw(st.integers(1, 20)) for _ in range(n)]
    return lower, upper, size, [draw(st.integers(1, 60)), draw(st.integers(1, 60))]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(problems(), st.sampled_from((1, 4)), st.booleans())
def test_pools_keep_every_rule(
    problem: tuple[list[int], list[int], list[int], list[int]],
    alignment: int,
    limited: bool,
) -> None:
    lower, upper, size, two = problem
    pools = [*two, 30 if limited else None]
    group = ["a" if i in (1, 3) else None for i in range(len(size))]
    try:
        layout = allocate(
            lower,
            upper,
            size,
            alignment=alignment,
            group=group,
            pools=pools,
            node_limit=2000,
        )
    except CapacityError:
        assert limited
        return
    except TimeLimitError:
        assert limited
        return
    buffers = make_buffers(lower, upper, size, alignment=alignment, group=group)
    assert layout.pool is not None
    check_layout(
        buffers,
        layout.offset,
        layout.height_bytes,
        pool=layout.pool,
        pool_bytes=pools,
    )
    for index, height in enumerate(layout.pool_heights_bytes):
        inside = layout.pool == index
        ends = layout.offset[inside] + np.array(size)[inside]
        assert height == ends.max(initial=0)


# -- every choice of pools -------------------------------------------------------------


@dataclass(frozen=True)
class Ranges:
    """Live ranges to spread over pools, and what brute force says of them."""

    lower: tuple[int, ...]
    upper: tuple[int, ...]
    size: tuple[int, ...]
    alignment: tuple[int, ...]
    pools: tuple[int | None, ...]

    def fits(self, members: Sequence[int], room: int | None) -> bool:
        """Some order of first fit finds an optimal layout: try all."""
        if room is None:
            return True
        live = [
            sum(self.size[m] for m in members if self.lower[m] <= t < self.upper[m])
            for t in {self.lower[m] for m in members}
        ]
        if max(live, default=0) > room:
            return False
        return any(
            self.first_fit_height(order) <= room
            for order in itertools.permutations(members)
        )

    def first_fit_height(self, order: Sequence[int]) -> int:
        placed: list[tuple[int, int, int]] = []
        for m in order:
            beside = sorted(
                (start, end)
                for start, end, other in placed
                if self.lower[other] < self.upper[m]
                and self.lower[m] < self.upper[other]
            )
            offset = 0
            for start, end in beside:
                if offset + self.size[m] <= start:
                    break
                step = self.alignment[m]
                offset = max(offset, -(-end // step) * step)
            placed.append((offset, offset + self.size[m], m))
        return max((end for _, end, _ in placed), default=0)

    def spill(self, pool: Sequence[int]) -> tuple[int, ...]:
        """Bytes × steps beyond each pool but the last."""
        weights = [
            size * (upper - lower)
            for size, lower, upper in zip(
                self.size, self.lower, self.upper, strict=True
            )
        ]
        return tuple(
            sum(weight for weight, p in zip(weights, pool, strict=True) if p > last)
            for last in range(len(self.pools) - 1)
        )

    def least_spill(self) -> tuple[int, ...] | None:
        """The least over all choices of pools; None where none fits."""
        known: dict[tuple[int, int], bool] = {}

        def holds(pool: int, mask: int) -> bool:
            if (pool, mask) not in known:
                members = [m for m in range(len(self.size)) if mask >> m & 1]
                known[pool, mask] = self.fits(members, self.pools[pool])
            return known[pool, mask]

        n_pools = len(self.pools)
        choices = itertools.product(range(n_pools), repeat=len(self.size))
        for choice in sorted(choices, key=self.spill):
            masks = [
                sum(1 << m for m, p in enumerate(choice) if p == pool)
                for pool in range(n_pools)
            ]
            if all(holds(pool, mask) for pool, mask in enumerate(masks)):
                return self.spill(choice)
        return None


def random_ranges(seed: int) -> Ranges:
    """Up to seven live ranges, and pools that hold them barely or not at all."""
    generator = random.Random(seed)
    n = generator.choice((4, 5, 6, 6, 6, 7))
    steps = generator.choice((3, 6, 10))
    lower = tuple(generator.randrange(steps) for _ in range(n))
    upper = tuple(low + generator.randint(1, steps) for low in lower)
    sizes = generator.choice(((4, 6, 8, 12), tuple(range(1, 20)), (20, 30, 60, 100)))
    size = tuple(generator.choice(sizes) for _ in range(n))
    alignments = generator.choice(((1,), (1,), (4,), (1, 2, 8)))
    alignment = tuple(generator.choice(alignments) for _ in range(n))
    live = max(
        sum(b for a, z, b in zip(lower, upper, size, strict=True) if a <= t < z)
        for t in lower
    )
    share = generator.uniform(0.3, 0.8)
    first = max(1, round(live * share))
    rest = max(1, live - first + generator.randint(-2, live // 4))
    pools: tuple[int | None, ...] = generator.choice(
        ((first, None), (first, rest), (rest, first), (first, rest // 2 or 1, None))
    )
    if generator.random() < 0.2:
        pools = (max(1, first // 2), max(1, first - first // 2), rest)
    return Ranges(lower, upper, size, alignment, pools)


@pytest.mark.parametrize("part", range(4))
def test_nothing_small_is_missed_or_wrongly_called_impossible(part: int) -> None:
    n_spread = n_impossible = n_spilled = 0
    for seed in range(part, how_many(320, 6000), 4):
        ranges = random_ranges(seed)
        least = ranges.least_spill()
        try:
            layout = allocate(
                ranges.lower,
                ranges.upper,
                ranges.size,
                alignment=ranges.alignment,
                pools=ranges.pools,
                node_limit=100_000,
            )
        except CapacityError:
            n_impossible += 1
            if least is None:
                continue
            raise
        assert layout.pool is not None
        assert layout.stats["spill_proved_least"], (seed, ranges)
        assert ranges.spill(layout.pool.tolist()) == least, (seed, ranges)
        assert layout.stats["spilled_byte_steps"] == least[0], (seed, ranges)
        assert layout.lower_bound_bytes <= layout.height_bytes, (seed, ranges)
        n_spread += 1
        n_spilled += least[0] > 0
    assert n_impossible >= 10
    assert n_spread >= 40
    assert n_spilled >= 30


def test_what_was_called_impossible_and_fits() -> None:
    layout = allocate([0, 0, 1], [1, 10, 10], [12, 8, 8], pools=[16, 8])
    assert layout.pool is not None
    # 12 in step 0 and the second 8 from then on share pool 0.
    assert layout.pool.tolist() == [0, 1, 0]


def test_as_little_spills_as_can_be() -> None:
    buffers = [0, 0, 0, 2, 2], [2, 4, 4, 6, 6], [60, 100, 40, 60, 30]
    layout = allocate(*buffers, pools=[128, None])
    assert layout.stats["spilled_byte_steps"] == 520
    assert layout.stats["spill_proved_least"]


def test_no_choice_of_pools_is_proved_by_trying_all() -> None:
    """Three of 5 bytes: 15 in all, but no pool holds two of them."""
    with pytest.raises(CapacityError, match="whichever goes into which") as caught:
        allocate([0, 0, 0, 0], [2, 2, 2, 1], [5, 5, 5, 1], pools=[8, 8])
    facts = vars(caught.value)
    assert (facts["proof"], facts["conflict"]) == ("exhausted", (0, 1, 2))


def test_a_buffer_larger_than_every_pool() -> None:
    with pytest.raises(CapacityError, match=r"buffer 1 takes 9 B .* has 8 B") as caught:
        allocate([0, 2], [1, 3], [1, 9], pools=[8, 7])
    assert vars(caught.value)["conflict"] == (1,)


def test_what_was_not_looked_at_is_not_known() -> None:
    """The search may not begin: the same buffers as above, and no proof."""
    with pytest.raises(TimeLimitError, match="not known whether") as caught:
        allocate([0] * 3, [2] * 3, [5] * 3, pools=[8, 7], node_limit=0)
    facts = vars(caught.value)
    assert facts["layout"].pool_heights_bytes == (5, 10)
    assert (facts["capacity_bytes"], facts["pool"]) == (7, 1)
    assert len(facts["buffers"]) == 2


def test_many_buffers_without_a_place_are_not_called_impossible() -> None:
    """Of three each two meet, at no step all: too many bodies to try all choices."""
    lower = [3 * time + first for time in range(20) for first in (0, 1, 0)]
    upper = [3 * time + last for time in range(20) for last in (2, 3, 3)]
    gap = [[(low + 1, low + 2)] if i % 3 == 2 else None for i, low in enumerate(lower)]
    buffers = lower, upper, [5] * 60
    with pytest.raises(TimeLimitError, match="for at most 40 buffers") as caught:
        allocate(*buffers, gaps=gap, pools=[8, 7], node_limit=1000)  # type: ignore[arg-type]
    assert vars(caught.value)["layout"].pool_heights_bytes == (5, 10)


def test_of_many_buffers_those_of_the_fullest_step_are_proved_not_to_fit() -> None:
    """Each step has three of 5 bytes, and two pools hold one each."""
    lower = [step for step in range(20) for _ in range(3)]
    upper = [step + 1 for step in lower]
    with pytest.raises(CapacityError, match="whichever goes into which") as caught:
        allocate(lower, upper, [5] * 60, pools=[8, 7], node_limit=1000)
    facts = vars(caught.value)
    assert (facts["proof"], facts["conflict"]) == ("exhausted", (0, 1, 2))
    with pytest.raises(TimeLimitError, match="not known"):
        allocate(lower, upper, [5] * 60, pools=[8, 7], node_limit=0)


def test_the_greedy_engine_proves_nothing() -> None:
    with pytest.raises(TimeLimitError):
        allocate([0] * 3, [2] * 3, [5] * 3, pools=[8, 7], engine="greedy")
    layout = allocate(*THREE, pools=[10, None], engine="greedy")
    assert not layout.stats["spill_proved_least"]


def test_each_pool_may_end_off_its_alignment() -> None:
    """In one arena two of a byte, aligned to 64, take 65; in two pools a byte each."""
    layout = allocate([0, 0], [1, 1], [1, 1], alignment=64, pools=[1, 1])
    assert layout.height_bytes == 2
    assert layout.lower_bound_bytes <= 2


@pytest.mark.parametrize("seed", range(how_many(40, 600)))
def test_groups_and_gaps_are_spread_as_if_all_choices_were_tried(seed: int) -> None:
    generator = random.Random(seed)
    n = 5
    lower = [generator.randrange(4) for _ in range(n)]
    upper = [low + generator.randint(1, 5) for low in lower]
    size = [generator.choice((4, 6, 8, 12)) for _ in range(n)]
    group = [None, "g", None, "g", None]
    gaps = [
        [(low + 1, high - 1, 0, generator.choice((0, 4)))] if high - low > 2 else None
        for low, high in zip(lower, upper, strict=True)
    ]
    gaps[1] = gaps[3] = None
    pools = [generator.choice((12, 16, 20)), generator.choice((8, 12, None))]

    def fits(members: list[int], room: int | None) -> bool:
        def some(values: Sequence[object]) -> list[object]:
            return [values[m] for m in members]

        try:
            allocate(
                some(lower),  # type: ignore[arg-type]
                some(upper),  # type: ignore[arg-type]
                some(size),  # type: ignore[arg-type]
                group=some(group),  # type: ignore[arg-type]
                gaps=some(gaps),  # type: ignore[arg-type]
                capacity=room,
                node_limit=100_000,
            )
        except CapacityError:
            return False
        return True

    ranges = Ranges(tuple(lower), tuple(upper), tuple(size), (1,) * n, tuple(pools))
    choices = [
        choice
        for choice in itertools.product(range(2), repeat=n)
        if choice[1] == choice[3]
    ]
    least = next(
        (
            ranges.spill(choice)
            for choice in sorted(choices, key=ranges.spill)
            if all(
                fits([m for m in range(n) if choice[m] == pool], room)
                for pool, room in enumerate(pools)
            )
        ),
        None,
    )
    arguments = {"group": group, "gaps": gaps, "pools": pools, "node_limit": 100_000}
    if least is None:
        with pytest.raises(CapacityError):
            allocate(lower, upper, size, **arguments)  # type: ignore[arg-type]
        return
    layout = allocate(lower, upper, size, **arguments)  # type: ignore[arg-type]
    assert layout.pool is not None
    assert ranges.spill(layout.pool.tolist()) == least
    assert layout.stats["spill_proved_least"]


def test_a_set_that_is_not_decided_is_no_proof() -> None:
    """Greedy orders alone leave it open whether these fit."""
    generator = random.Random(59)
    lower = [generator.randrange(12) for _ in range(30)]
    upper = [low + generator.randint(1, 12) for low in lower]
    size = [generator.randint(1, 40) for _ in range(30)]
    buffers = make_buffers(lower, upper, size)
    greedy = allocate(lower, upper, size, engine="greedy")
    assert greedy.height_bytes > greedy.lower_bound_bytes
    decision = decide(
        buffers, greedy.height_bytes - 1, SearchOptions(engine="greedy", progress=False)
    )
    assert (decision.layout, decision.is_impossible) == (None, False)
    too_small = decide(buffers, greedy.lower_bound_bytes - 1, SearchOptions())
    assert (too_small.layout, too_small.is_impossible) == (None, True)
