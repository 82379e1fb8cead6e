"""Pools: the preferred memory first, the rest spills."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.allocation import allocate
from arena_ckpt.allocation.buffers import make_buffers
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
    with pytest.raises(CapacityError, match="last pool, number 1") as caught:
        allocate(*THREE, pools=[6, 8])
    assert caught.value.conflict == (0, 2)  # type: ignore[attr-defined]


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
        allocate(*THREE, pools=[40], fixed_offset=[None, 4, None])


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
