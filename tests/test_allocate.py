"""Offsets for live ranges: cases to see, the validator, and random buffers."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arena_ckpt.allocate import Layout, allocate
from arena_ckpt.allocate.validate import check_layout
from arena_ckpt.errors import ArenaError, LayoutError

Range = tuple[int, int, int]
"""lower, upper, size."""

Placed = tuple[int, int, int, int]
"""lower, upper, size, offset."""

TOY = Path(__file__).parents[2] / "shared/data/allocation/minimalloc/input.12.csv"


def layout_of(*ranges: Range, alignment: int = 1) -> Layout:
    lower, upper, size = zip(*ranges, strict=True) if ranges else ((), (), ())
    return allocate(lower, upper, size, alignment=alignment)


def check(*placed: Placed, height: int, alignment: int = 1) -> None:
    columns = zip(*placed, strict=True) if placed else ((), (), (), ())
    check_layout(*columns, height, alignment)


# -- small layouts ---------------------------------------------------------------------


def test_no_buffers() -> None:
    layout = layout_of()
    assert (layout.offsets, layout.height_bytes, layout.lower_bound_bytes) == ((), 0, 0)
    assert layout.proved_optimal


def test_one_buffer_begins_at_zero() -> None:
    assert layout_of((3, 5, 100)).offsets == (0,)


def test_what_lives_at_once_is_stacked() -> None:
    """The larger one goes first: it is the harder one to place later."""
    layout = layout_of((0, 2, 4), (1, 3, 6))
    assert layout.offsets == (6, 0)
    assert layout.height_bytes == layout.lower_bound_bytes == 10


def test_what_ends_when_the_other_begins_shares_bytes() -> None:
    """Ranges are half-open: [0, 2) and [2, 4) never live at once."""
    layout = layout_of((0, 2, 4), (2, 4, 4))
    assert layout.offsets == (0, 0)
    assert layout.height_bytes == 4


def test_a_buffer_goes_into_the_gap_between_two() -> None:
    r"""Over time, left to right, with heights 4, 2 and 4::

    4 |  c c c c
    0 |  a a b b
    """
    layout = layout_of((0, 2, 4), (2, 4, 2), (0, 4, 4))
    assert layout.height_bytes == layout.lower_bound_bytes == 8
    check((0, 2, 4, 4), (2, 4, 2, 4), (0, 4, 4, 0), height=8)


def test_sizes_and_offsets_are_rounded_up_to_the_alignment() -> None:
    layout = layout_of((0, 2, 1), (0, 2, 65), (0, 2, 64), alignment=64)
    assert sorted(layout.offsets) == [0, 64, 192]
    assert layout.height_bytes == layout.lower_bound_bytes == 256


def test_equal_buffers_are_placed_in_the_order_given() -> None:
    assert layout_of(*[(0, 1, 8)] * 4).offsets == (0, 8, 16, 24)


def test_the_layout_says_which_search_found_it_and_whether_it_is_proved() -> None:
    layout = layout_of((0, 2, 4), (1, 3, 6))
    assert layout.engine.startswith("greedy:")
    assert layout.proved_optimal
    assert not Layout((0, 5), 9, 8, "by hand").proved_optimal


def test_the_toy_of_minimalloc() -> None:
    if not TOY.is_file():
        pytest.skip(f"the instances of minimalloc are absent: {TOY}")
    with TOY.open() as file:
        rows = list(csv.DictReader(file))
    ranges = [(int(r["lower"]), int(r["upper"]), int(r["size"])) for r in rows]
    layout = layout_of(*ranges)
    assert layout.height_bytes == 12
    assert layout.proved_optimal


# -- the validator ---------------------------------------------------------------------


def test_no_buffers_are_a_layout() -> None:
    check(height=0)


@pytest.mark.parametrize(
    ("rule", "buffers", "placed", "message"),
    [
        ("range", (1,), [(0, 1, 4, 0), (2, 2, 4, 0)], r"lives in \[2, 2\)"),
        ("range", (0,), [(3, 2, 4, 0)], r"lives in \[3, 2\)"),
        ("range", (0,), [(-1, 2, 4, 0)], r"lives in \[-1, 2\)"),
        ("bounds", (0,), [(0, 1, 4, -4)], r"bytes \[-4, 0\)"),
        ("bounds", (1,), [(0, 1, 4, 0), (1, 2, 9, 8)], r"\[8, 17\) of an arena of 16"),
        ("bounds", (0,), [(0, 1, 17, 0)], r"\[0, 17\) of an arena of 16"),
        ("alignment", (1,), [(0, 1, 4, 0), (0, 1, 4, 6)], "starts at 6, no multiple"),
        ("overlap", (0, 1), [(0, 2, 8, 0), (1, 3, 4, 4)], r"and buffer 1 takes"),
        ("overlap", (0, 1), [(0, 9, 16, 0), (3, 4, 4, 8)], r"steps \[0, 9\)"),
        ("overlap", (1, 0), [(5, 6, 4, 8), (4, 9, 16, 0)], "buffer 0 takes"),
        ("overlap", (0, 1), [(0, 1, 4, 0), (0, 1, 4, 0)], r"bytes \[0, 4\)"),
    ],
)
def test_the_broken_rule_is_named(
    rule: str, buffers: tuple[int, ...], placed: list[Placed], message: str
) -> None:
    with pytest.raises(LayoutError, match=message) as caught:
        check(*placed, height=16, alignment=4)
    assert (caught.value.rule, caught.value.buffers) == (rule, buffers)
    assert f"the rule of {rule}: buffer {buffers[0]} " in str(caught.value)
    assert isinstance(caught.value, ArenaError)
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize(
    "placed",
    [
        [(0, 2, 4, 0), (2, 4, 4, 0)],  # one after the other in time
        [(0, 2, 4, 0), (1, 4, 4, 4)],  # side by side in memory
        [(0, 2, 4, 12)],  # up to the last byte
        [(0, 2, 8, 4), (1, 3, 4, 0), (1, 3, 4, 12), (2, 3, 8, 4)],
    ],
)
def test_a_layout_that_keeps_every_rule(placed: list[Placed]) -> None:
    check(*placed, height=16, alignment=4)


def broken_pair(placed: list[Placed]) -> bool:
    """Whether any two of all pairs share a byte at one time, as the rule says it."""
    return any(
        max(a[0], b[0]) < min(a[1], b[1])
        and max(a[3], b[3]) < min(a[3] + a[2], b[3] + b[2])
        for i, a in enumerate(placed)
        for b in placed[:i]
    )


@st.composite
def placements(draw: st.DrawFn) -> list[Placed]:
    """Few steps and bytes, so that half of the layouts or so are valid."""
    n_steps = draw(st.integers(2, 12))
    placed = []
    for _ in range(draw(st.integers(1, 8))):
        lower = draw(st.integers(0, n_steps - 1))
        upper = draw(st.integers(lower + 1, n_steps))
        placed.append((lower, upper, draw(st.integers(0, 5)), draw(st.integers(0, 40))))
    return placed


@settings(derandomize=True, deadline=None, max_examples=1000)
@example([(0, 9, 10, 0), (0, 9, 0, 5), (1, 2, 2, 7)])  # an empty one in between
@given(placements())
def test_the_validator_against_all_pairs(placed: list[Placed]) -> None:
    if broken_pair(placed):
        with pytest.raises(LayoutError) as caught:
            check(*placed, height=45)
        assert caught.value.rule == "overlap"
        assert broken_pair([placed[i] for i in caught.value.buffers])
    else:
        check(*placed, height=45)


# -- random buffers --------------------------------------------------------------------


@st.composite
def live_ranges(draw: st.DrawFn) -> list[Range]:
    n_steps = draw(st.integers(1, 30))
    ranges = []
    for _ in range(draw(st.integers(0, 25))):
        lower = draw(st.integers(0, n_steps - 1))
        upper = draw(st.integers(lower + 1, n_steps))
        ranges.append((lower, upper, draw(st.integers(1, 1000))))
    return ranges


@settings(derandomize=True, deadline=None, max_examples=200)
@given(live_ranges(), st.sampled_from((1, 4, 64)))
def test_every_layout_is_valid_and_not_below_the_bound(
    ranges: list[Range], alignment: int
) -> None:
    layout = layout_of(*ranges, alignment=alignment)
    taken = [-(-size // alignment) * alignment for _, _, size in ranges]
    placed = [
        (lower, upper, size, offset)
        for (lower, upper, _), size, offset in zip(
            ranges, taken, layout.offsets, strict=True
        )
    ]
    assert not broken_pair(placed)
    assert all(offset % alignment == 0 <= offset for offset in layout.offsets)
    ends = [offset + size for _, _, size, offset in placed]
    assert layout.height_bytes == max(ends, default=0)
    live = [
        sum(size for lower, upper, size, _ in placed if lower <= step < upper)
        for step in range(30)
    ]
    assert layout.lower_bound_bytes == max(live)
    assert layout.lower_bound_bytes <= layout.height_bytes <= sum(taken)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(live_ranges())
def test_the_same_buffers_give_the_same_layout(ranges: list[Range]) -> None:
    assert layout_of(*ranges) == layout_of(*ranges)


def test_a_greedy_order_that_fails_is_repaired() -> None:
    """No static order reaches the bound here; moving the highest ahead does."""
    layout = layout_of((4, 6, 3), (1, 5, 2), (4, 5, 2), (0, 4, 4), (0, 6, 2))
    assert layout.engine.endswith("+repair")
    assert layout.proved_optimal
