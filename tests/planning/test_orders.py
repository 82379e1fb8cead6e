"""Orders of bodies, bounds and conflicts, for a few buffers that can be drawn by hand.

Four buffers over seven steps::

    steps   0 1 2 3 4 5 6
    a       ■ ■ ■ ■ ■ ■ ■   10 bytes
    b       ■ ■ ■           30 bytes
    c             ■ ■       20 bytes
    d               ■ ■     50 bytes
"""

from __future__ import annotations

import numpy as np
import pytest

from arena_ckpt.allocation import allocate
from arena_ckpt.allocation.bodies import make_bodies
from arena_ckpt.allocation.bounds import live_bytes, lower_bound
from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.allocation.orders import Orders, noise, range_maximum, rank_of
from arena_ckpt.errors import CapacityError

LOWER, UPPER, SIZE = [0, 0, 3, 4], [7, 3, 5, 6], [10, 30, 20, 50]


def orders() -> Orders:
    return Orders(make_bodies(make_buffers(LOWER, UPPER, SIZE)))


def names(letters: str) -> str:
    return "".join("abcd"[index] for index in orders().order(letters))


@pytest.mark.parametrize(
    ("letters", "order"),
    [
        ("W", "abcd"),  # 7, 3, 2, 2 steps; equals in the order given
        ("S", "dbca"),  # 50, 30, 20, 10 bytes
        ("A", "dbac"),  # 100, 90, 70, 40 bytes × steps
        ("T", "acdb"),  # of 80, 80, 80 bytes in step 4, and 40 in steps 0 to 2
        ("E", "abcd"),  # steps 0, 0, 3, 4
        ("TS", "dcab"),
        ("WS", "abdc"),
        ("TWA", "adcb"),
    ],
)
def test_bodies_are_ordered_by_one_measure_then_by_the_next(
    letters: str, order: str
) -> None:
    assert names(letters) == order
    rank = orders().rank(letters)
    assert [int(rank["abcd".index(name)]) for name in order] == [0, 1, 2, 3]


def test_the_rank_is_the_place_in_the_order() -> None:
    assert rank_of(np.array([2, 0, 1])).tolist() == [1, 2, 0]


def test_the_maximum_of_every_range() -> None:
    values = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    ranges = [(i, j) for i in range(8) for j in range(i + 1, 9)]
    lower, upper = np.array(ranges).T
    expected = [max(values[i:j]) for i, j in ranges]
    assert range_maximum(values, lower, upper).tolist() == expected


def test_noise_is_the_same_everywhere_and_another_for_each_seed_and_stream() -> None:
    first = noise(1000, 1, 1)
    assert ((first >= 0) & (first < 1)).all()
    assert abs(first.mean() - 0.5) < 0.05
    assert (noise(1000, 1, 1) == first).all()
    assert noise(3, 0, 0).tolist() == [
        0.8833108082136426,
        0.43152799704850997,
        0.026433771592597743,
    ]
    for other in (noise(1000, 2, 1), noise(1000, 1, 2)):
        assert np.count_nonzero(other == first) == 0


def test_the_bytes_alive_at_every_step() -> None:
    arrays = (np.array(x) for x in (LOWER, UPPER, SIZE))
    assert live_bytes(*arrays).tolist() == [40, 40, 40, 30, 80, 60, 10]


@pytest.mark.parametrize(
    ("given", "height_bytes", "reason"),
    [
        ({}, 80, "live bytes"),
        ({"fixed_offset": [None, 90, None, None]}, 120, "fixed offset"),
        ({"fixed_offset": [None, 10, None, None]}, 80, "live bytes"),
        ({"alignment": 32}, 32 + 32 + 64 - 22, "live bytes"),
    ],
)
def test_the_lower_bound_says_why(
    given: dict[str, object], height_bytes: int, reason: str
) -> None:
    """Of an alignment of 32 all but the topmost of a, c and d take 32 or 64 bytes.

    In step 4 they take 32 + 32 + 64, of which the topmost can leave 22 at most.
    """
    bound = lower_bound(make_bodies(make_buffers(LOWER, UPPER, SIZE, **given)))  # type: ignore[arg-type]
    assert (bound.height_bytes, bound.reason) == (height_bytes, reason)


def test_a_bound_is_the_height_of_a_layout() -> None:
    for given in ({}, {"alignment": 32}, {"fixed_offset": [None, 90, None, None]}):
        bound = lower_bound(make_bodies(make_buffers(LOWER, UPPER, SIZE, **given)))  # type: ignore[arg-type]
        layout = allocate(LOWER, UPPER, SIZE, node_limit=10_000, **given)  # type: ignore[arg-type]
        assert bound.height_bytes <= layout.height_bytes
        assert layout.lower_bound_bytes <= layout.height_bytes


def test_buffers_in_conflict_are_no_more_than_it_takes() -> None:
    """In step 4 the largest two of 50, 20 and 10 bytes are above 65 already."""
    for capacity, conflict in (
        (79, (0, 2, 3)),
        (70, (0, 2, 3)),
        (65, (2, 3)),
        (49, (3,)),
    ):
        with pytest.raises(CapacityError) as caught:
            allocate(LOWER, UPPER, SIZE, capacity=capacity)
        assert tuple(sorted(caught.value.conflict)) == conflict
    assert allocate(LOWER, UPPER, SIZE, capacity=80).height_bytes == 80
