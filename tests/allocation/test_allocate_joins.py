"""Rectangles that were cut from one are joined again; others stay valid layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.allocation import allocate, cored
from arena_ckpt.allocation.bodies import Bodies, make_bodies
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import Buffers, make_buffers
from arena_ckpt.allocation.greedy import try_orders
from arena_ckpt.allocation.incumbent import Incumbent
from arena_ckpt.allocation.joins import can_join, join
from arena_ckpt.allocation.orders import Orders
from arena_ckpt.allocation.validate import check_layout

Rectangle = tuple[int, int, int, int]
"""First step, end of the last step, lowest byte, end of the highest byte."""

HEIGHT = 1 << 20


def buffers_of(rectangles: list[Rectangle], alignment: int = 1) -> Buffers:
    """Forget where the rectangles lay."""
    lower, upper, bottom, top = np.array(rectangles, dtype=np.int64).T
    return make_buffers(lower, upper, top - bottom, alignment=alignment)


def joined(buffers: Buffers) -> Bodies:
    return join(make_bodies(buffers), Budget(None, None))


def cut(n: int, seed: int, wheels: float, any_part: bool) -> list[Rectangle]:
    """Cut one rectangle into about `n`: in two, or in five around a core."""
    random = np.random.default_rng(seed)
    parts: list[Rectangle] = [(0, 1000 + 2 * n, 0, HEIGHT)]
    while len(parts) < n:
        place = int(random.integers(len(parts)))
        if not any_part:
            areas = [(b - a) * (d - c) for a, b, c, d in parts]
            place = int(np.argmax(areas))
        a, b, c, d = parts.pop(place)
        x = a + int((b - a) * random.uniform(0.25, 0.45))
        y = c + int((d - c) * random.uniform(0.25, 0.45))
        x_end = a + int((b - a) * random.uniform(0.55, 0.8))
        y_end = c + int((d - c) * random.uniform(0.55, 0.8))
        if random.random() < wheels and a < x < x_end < b and c < y < y_end < d:
            parts += [(a, x_end, c, y), (x_end, b, c, y_end), (x, b, y_end, d)]
            parts += [(a, x, y, d), (x, x_end, y, y_end)]
        elif random.random() < 0.5 and x > a:
            parts += [(a, x, c, d), (x, b, c, d)]
        elif y > c:
            parts += [(a, b, c, y), (a, b, y, d)]
        else:
            parts.append((a, b, c, d))
    return [parts[i] for i in random.permutation(len(parts))]


# -- joins to see ----------------------------------------------------------------------


def test_two_halves_become_one() -> None:
    bodies = joined(buffers_of([(0, 3, 0, 8), (3, 5, 0, 8)]))
    assert (len(bodies), bodies.size.tolist()) == (1, [8])
    assert bodies.buffer_offsets(np.array([0])).tolist() == [0, 0]


def test_a_stack_is_joined_with_what_is_as_high() -> None:
    """Beside 8 bytes go 3 and 5, one on the other."""
    bodies = joined(buffers_of([(0, 3, 0, 3), (0, 3, 3, 8), (3, 5, 0, 8)]))
    assert bodies.size.tolist() == [8]
    assert bodies.buffer_offsets(np.array([0])).tolist() == [0, 3, 0]


def test_a_pinwheel_becomes_one() -> None:
    r"""Over time, left to right::

    d d c c
    d k k b
    a a a b
    """
    wheel = [(0, 3, 0, 2), (3, 4, 0, 5), (1, 4, 5, 9), (0, 1, 2, 9), (1, 3, 2, 5)]
    bodies = joined(buffers_of(wheel))
    assert bodies.size.tolist() == [9]
    assert bodies.buffer_offsets(np.array([0])).tolist() == [0, 0, 5, 2, 2]


def test_members_are_joined_before_the_stacks_that_match_because_they_do() -> None:
    """5 beside 5 and 7 beside 7 lie in two places, and longer ones beside."""
    apart = [(2, 4, 0, 5), (4, 6, 0, 5), (2, 4, 0, 7), (4, 6, 0, 7)]
    ends = [(0, 2, 0, 5), (6, 9, 0, 7)]
    bodies = joined(buffers_of([*apart, *ends]))
    assert sorted(bodies.size.tolist()) == [5, 7]


def test_what_has_other_heights_stays_apart() -> None:
    assert len(joined(buffers_of([(0, 3, 0, 8), (3, 5, 0, 7)]))) == 2


def test_heights_count_rounded_up_to_the_alignment() -> None:
    """5 and 8 bytes both take 8, and what lies on the 5 begins at 8."""
    buffers = buffers_of([(0, 3, 0, 5), (0, 3, 0, 7), (3, 5, 0, 16)], 8)
    bodies = joined(buffers)
    assert len(bodies) == 1
    offset = bodies.buffer_offsets(np.array([0]))
    assert offset.tolist() == [0, 8, 0]
    check_layout(buffers, offset, bodies.height_bytes(np.array([0])))


def test_fixed_offsets_and_several_alignments_are_not_joined() -> None:
    assert not can_join(
        make_bodies(make_buffers([0, 1], [1, 2], [4, 4], alignment=[1, 2]))
    )
    fixed = make_buffers([0, 1], [1, 2], [4, 4], fixed_offset=[None, 4])
    assert not can_join(make_bodies(fixed))


# -- any rectangles --------------------------------------------------------------------


@st.composite
def rectangles(draw: st.DrawFn) -> list[Rectangle]:
    """Few steps and few heights, so that much matches by chance."""
    found = []
    for _ in range(draw(st.integers(2, 30))):
        lower = draw(st.integers(0, 8))
        upper = draw(st.integers(lower + 1, 9))
        found.append((lower, upper, 0, draw(st.integers(1, 6))))
    return found


@settings(derandomize=True, deadline=None, max_examples=100)
@given(rectangles(), st.sampled_from((1, 4)), st.integers(0, 2))
def test_layouts_of_joined_rectangles_are_layouts(
    ranges: list[Rectangle], alignment: int, attempt: int
) -> None:
    buffers = buffers_of(ranges, alignment)
    bodies = join(make_bodies(buffers), Budget(None, None), 0, attempt)
    best = Incumbent(np.zeros(len(bodies), dtype=np.int64), 2**62, 0, "", "")
    try_orders(bodies, Orders(bodies), best, Budget(None, None), 0)
    check_layout(buffers, bodies.buffer_offsets(best.offset), best.height_bytes)


# -- perfect packings ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("wheels", [0.0, 0.5])
def test_200_that_were_cut_from_one_are_placed_at_the_optimum(
    seed: int, wheels: float
) -> None:
    buffers = cut(200, seed, wheels, any_part=False)
    lower, upper, bottom, top = np.array(buffers).T
    layout = allocate(lower, upper, top - bottom, node_limit=200_000)
    assert layout.height_bytes == HEIGHT


@pytest.mark.parametrize("wheels", [0.0, 0.5])
def test_thousands_that_were_cut_from_one_are_placed_near_the_optimum(
    wheels: float,
) -> None:
    """Too many for the exact search: greedy orders alone stay 20 % above."""
    lower, upper, bottom, top = np.array(cut(3000, 1, wheels, any_part=False)).T
    layout = allocate(lower, upper, top - bottom, node_limit=100_000)
    assert layout.height_bytes <= 1.03 * HEIGHT
    assert layout.engine.startswith("joined:")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("wheels", [0.0, 0.5])
def test_thousands_cut_from_any_part_are_placed_near_the_optimum(
    wheels: float, seed: int
) -> None:
    """Many are a few steps or bytes large: joins get stuck, and a core is searched."""
    lower, upper, bottom, top = np.array(cut(3000, seed, wheels, any_part=True)).T
    layout = allocate(lower, upper, top - bottom, node_limit=100_000)
    assert layout.height_bytes <= 1.01 * HEIGHT


@pytest.mark.parametrize("alignment", [1, 64])
def test_layouts_around_a_core_are_layouts(alignment: int) -> None:
    buffers = buffers_of(cut(1000, 0, 0.5, any_part=True), alignment)
    bodies = make_bodies(buffers)
    best = Incumbent(np.zeros(len(bodies), dtype=np.int64), 2**62, 0, "", "")
    try_orders(bodies, Orders(bodies), best, Budget(None, None), 0)
    greedy_bytes = best.height_bytes
    cored.improve(bodies, best, Budget(200_000, None), HEIGHT, 0)
    check_layout(buffers, bodies.buffer_offsets(best.offset), best.height_bytes)
    assert best.height_bytes < greedy_bytes
    assert best.engine.startswith("core:")


def test_no_core_is_searched_where_many_are_equally_large() -> None:
    bodies = make_bodies(make_buffers([0] * 600, [1] * 600, [1] * 600))
    best = Incumbent(np.arange(600), 1000, 600, "", "")
    cored.improve(bodies, best, Budget(None, None), 600, 0)
    assert best.height_bytes == 1000


def test_the_same_nodes_give_the_same_layout() -> None:
    lower, upper, bottom, top = np.array(cut(2500, 1, 0.5, any_part=True)).T
    first, second = (
        allocate(lower, upper, top - bottom, node_limit=20_000) for _ in range(2)
    )
    assert first.offset.tolist() == second.offset.tolist()
    greedy = allocate(lower, upper, top - bottom, engine="greedy")
    assert first.height_bytes <= greedy.height_bytes


def test_without_time_nothing_is_joined() -> None:
    lower, upper, bottom, top = np.array(cut(300, 0, 0.5, any_part=False)).T
    layout = allocate(lower, upper, top - bottom, time_limit_seconds=0)
    assert not layout.engine.startswith("joined:")


def test_a_part_of_a_budget_ends_before_the_whole() -> None:
    budget = Budget(100, None)
    budget.spend(20, str)
    with budget.part(0.5):
        assert budget.nodes_left(1000) == 40
        budget.spend(40, str)
        assert budget.is_over
    assert budget.nodes_left(1000) == 40
    with budget.part(0.5, most_nodes=3):
        assert budget.nodes_left(1000) == 3
    assert not budget.is_over
