"""Regions read as NumPy's arrays do, before there is a memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_ckpt.common.dtypes import DTYPES
from arena_ckpt.common.memories import ARENA
from arena_ckpt.engine.arena import Arena
from arena_ckpt.errors import RegionError
from arena_ckpt.operations.regions import Region


def region(*shape: int, dtype: str = "float32", offset_bytes: int = 64) -> Region:
    return Region(ARENA, offset_bytes, shape, dtype)


def assert_same(ours: Region, theirs: Any, start: int) -> None:
    assert ours.shape == theirs.shape
    assert ours.size == theirs.size
    assert ours.nbytes == theirs.nbytes
    assert ours.ndim == theirs.ndim
    if theirs.size:
        assert ours.offset_bytes == theirs.ctypes.data - start


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from(sorted(DTYPES)),
    st.data(),
)
def test_parts_and_shapes_are_those_of_an_array(
    shape: list[int], dtype: str, data: st.DataObject
) -> None:
    arena = Arena(64 + 8 * 125)
    ours = region(*shape, dtype=dtype)
    start = arena.bytes.ctypes.data
    theirs = arena.at(ours)
    assert_same(ours, theirs, start)
    low, high = (data.draw(st.integers(-6, 6)) for _ in range(2))
    assert_same(ours[low:high], theirs[low:high], start)
    assert_same(ours[low:], theirs[low:], start)
    assert_same(ours.reshape(-1), theirs.reshape(-1), start)
    assert_same(ours.reshape(-1, shape[-1]), theirs.reshape(-1, shape[-1]), start)
    flat = ours.reshape(-1)
    assert_same(flat[1:].reshape((-1,)), theirs.reshape(-1)[1:], start)
    if flat.nbytes % 4 == 0:
        assert_same(flat.view("int32"), theirs.reshape(-1).view("int32"), start)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda r: r[0],
        lambda r: r[::2],
        lambda r: r[:, 0:1],
        lambda r: r.reshape(5, -1),
        lambda r: r.reshape(-1, -1),
        lambda r: r.reshape(7),
        lambda r: r.view("int32"),
        lambda r: r.reshape(-1)[:1].view("float64"),
    ],
)
def test_what_has_no_one_piece_is_refused(wrong: Any) -> None:
    with pytest.raises(RegionError) as e:
        wrong(region(2, 3))
    assert isinstance(e.value, TypeError)
    assert e.value.shape in ((2, 3), (1,))  # type: ignore[attr-defined]
