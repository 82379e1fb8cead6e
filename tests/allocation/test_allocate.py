"""Offsets for live ranges: cases to see, and random buffers."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arena_ckpt
from arena_ckpt.allocation import Layout, allocate
from arena_ckpt.errors import InvalidBufferError, InvalidParameterError

Range = tuple[int, int, int]
"""lower, upper, size."""

TOY = Path(__file__).parents[3] / "shared/data/allocation/minimalloc/input.12.csv"


def layout_of(*ranges: Range, alignment: int = 1) -> Layout:
    lower, upper, size = zip(*ranges, strict=True) if ranges else ((), (), ())
    return allocate(lower, upper, size, alignment=alignment, node_limit=20_000)


def offsets(layout: Layout) -> tuple[int, ...]:
    return tuple(layout.offset.tolist())


# -- small layouts ---------------------------------------------------------------------


def test_no_buffers() -> None:
    layout = layout_of()
    assert (len(layout.offset), layout.height_bytes, layout.lower_bound_bytes) == (
        0,
        0,
        0,
    )
    assert layout.proved_optimal


def test_one_buffer_begins_at_zero() -> None:
    assert offsets(layout_of((3, 5, 100))) == (0,)


def test_what_lives_at_once_is_stacked() -> None:
    """The larger one goes first: it is the harder one to place later."""
    layout = layout_of((0, 2, 4), (1, 3, 6))
    assert offsets(layout) == (6, 0)
    assert layout.height_bytes == layout.lower_bound_bytes == 10


def test_what_ends_when_the_other_begins_shares_bytes() -> None:
    """Ranges are half-open: [0, 2) and [2, 4) never live at once."""
    layout = layout_of((0, 2, 4), (2, 4, 4))
    assert offsets(layout) == (0, 0)
    assert layout.height_bytes == 4


def test_a_buffer_goes_into_the_gap_between_two() -> None:
    r"""Over time, left to right, with heights 4, 2 and 4::

    4 |  c c c c
    0 |  a a b b
    """
    layout = layout_of((0, 2, 4), (2, 4, 2), (0, 4, 4))
    assert layout.height_bytes == layout.lower_bound_bytes == 8


def test_offsets_are_multiples_of_the_alignment_and_the_top_is_not_padded() -> None:
    layout = layout_of((0, 2, 1), (0, 2, 65), (0, 2, 64), alignment=64)
    assert sorted(offsets(layout)) == [0, 128, 192]
    assert layout.height_bytes == layout.lower_bound_bytes == 193


def test_equal_buffers_are_placed_in_the_order_given() -> None:
    assert offsets(layout_of(*[(0, 1, 8)] * 4)) == (0, 8, 16, 24)


def test_the_layout_says_which_search_found_it_and_whether_it_is_proved() -> None:
    layout = layout_of((0, 2, 4), (1, 3, 6))
    assert layout.engine == "lowest-first:TWA"
    assert layout.stats["proof"] == "live bytes"
    assert layout.proved_optimal
    assert not Layout(np.array([0, 5]), 9, 8, "by hand").proved_optimal


def test_the_toy_of_minimalloc() -> None:
    if not TOY.is_file():
        pytest.skip(f"the instances of minimalloc are absent: {TOY}")
    with TOY.open() as file:
        rows = list(csv.DictReader(file))
    ranges = [(int(r["lower"]), int(r["upper"]), int(r["size"])) for r in rows]
    layout = layout_of(*ranges)
    assert layout.height_bytes == 12
    assert layout.proved_optimal


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
    placed = [
        (lower, upper, size, offset)
        for (lower, upper, size), offset in zip(ranges, offsets(layout), strict=True)
    ]
    for i, (lower, upper, size, offset) in enumerate(placed):
        assert offset % alignment == 0 <= offset
        for other_lower, other_upper, other_size, other_offset in placed[:i]:
            assert (
                max(lower, other_lower) >= min(upper, other_upper)
                or offset >= other_offset + other_size
                or other_offset >= offset + size
            )
    ends = [offset + size for _, _, size, offset in placed]
    assert layout.height_bytes == max(ends, default=0)
    live = [
        sum(size for lower, upper, size, _ in placed if lower <= step < upper)
        for step in range(30)
    ]
    assert max(live) <= layout.lower_bound_bytes <= layout.height_bytes


@settings(derandomize=True, deadline=None, max_examples=50)
@given(live_ranges())
def test_the_same_buffers_give_the_same_layout(ranges: list[Range]) -> None:
    assert offsets(layout_of(*ranges)) == offsets(layout_of(*ranges))


def test_an_order_that_fails_is_mended_by_the_search() -> None:
    ranges = [(4, 6, 3), (1, 5, 2), (4, 5, 2), (0, 4, 4), (0, 6, 2)]
    assert layout_of(*ranges).proved_optimal


def test_many_equal_live_ranges_are_near_linear_to_place() -> None:
    n = 20_000
    steps = np.arange(n)
    layout = allocate(steps, steps + 3, np.full(n, 64), engine="greedy")
    assert layout.height_bytes == layout.lower_bound_bytes == 192


def test_the_name_of_the_package_is_not_that_of_the_function() -> None:
    """Whatever is imported first, ``arena_ckpt.allocate`` is the function."""
    importlib.import_module("arena_ckpt.model")
    assert arena_ckpt.allocate is allocate


class Raising:
    """Looks like an array of another library, which fails in its own way."""

    def __array__(self, dtype: object = None, copy: object = None) -> None:
        raise KeyError("no array")


def test_arrays_that_fail_and_pools_without_end_are_refused() -> None:
    with pytest.raises(InvalidBufferError, match="upper is no array of integers"):
        allocate([0], Raising(), [1])
    for pools in (3, iter([1]), {1, 2}):
        with pytest.raises(InvalidBufferError, match="pools is"):
            allocate([0], [1], [1], pools=pools)
    for pools in ([2**62], [10**5000], ["1"]):
        with pytest.raises(InvalidParameterError, match=r"pool 0 .* below 2\*\*62"):
            allocate([0], [1], [1], pools=pools)
    for values in ({"engine": np.zeros(3)}, {"seed": "1"}, {"node_limit": "1"}):
        with pytest.raises(InvalidParameterError):
            allocate([0], [1], [1], **values)
