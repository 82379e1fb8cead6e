"""Views of foreign tensors, against NumPy: what they say is where the elements are."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arena_ckpt.importers.foreign_axes import BATCH, Axis, Size, View, moves, resolved

SAMPLES = 3


def read(view: View, memory: np.ndarray) -> np.ndarray:
    """Return the foreign tensor that a view sees in memory, samples first."""
    axes = [BATCH, *view.order]
    sizes = [SAMPLES if axis is BATCH else axis.size for axis in axes]
    array = memory.reshape(sizes)
    flat = [axis for dim in view.dims for axis in dim]
    for axis in flat:
        if axis.is_repeated:
            axes.append(axis)
            array = np.repeat(array[..., None], axis.size, -1)
    array = array.transpose([axes.index(axis) for axis in flat])
    return array.reshape([f * (SAMPLES if b else 1) for f, b in view.sizes])


def factors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


@given(st.data())
def test_views_are_what_numpy_makes(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), max_size=4))
    view = View.of_sample(sizes)
    memory = np.arange(SAMPLES * prod(sizes)).reshape(SAMPLES, *sizes)
    array: Any = memory
    for _ in range(data.draw(st.integers(1, 6))):
        kind = data.draw(st.sampled_from(["permute", "insert", "repeat", "reshape"]))
        if kind == "permute":
            order = data.draw(st.permutations(range(view.rank)))
            view, array = view.permuted(order), array.transpose(order)
        elif kind == "insert":
            at = data.draw(st.integers(0, view.rank))
            view, array = view.inserted(at), np.expand_dims(array, at)
        elif kind == "repeat":
            ones = [i for i, dim in enumerate(view.dims) if not dim]
            if not ones or array.size > 2000:
                continue
            at = data.draw(st.sampled_from(ones))
            view, array = view.repeated(at, 2), np.repeat(array, 2, at)
        else:
            wanted = _any_sizes(data, view)
            again = view.regrouped(wanted)
            if again is None:
                continue
            view = again
            array = array.reshape([f * (SAMPLES if b else 1) for f, b in wanted])
        assert view.sizes == tuple(
            _size(n, dim) for n, dim in zip(array.shape, view.dims, strict=True)
        )
        np.testing.assert_array_equal(read(view, memory), array)


def _any_sizes(data: st.DataObject, view: View) -> list[Size]:
    """Draw dimensions of as many elements, the samples in one of them."""
    left = prod(size.factor for size in view.sizes)
    sizes = []
    while left > 1 or not sizes:
        factor = data.draw(st.sampled_from(factors(left)))
        if factor == 1 and len(sizes) > 3:
            factor = left
        sizes.append(Size(factor))
        left //= factor
    at = data.draw(st.integers(0, len(sizes) - 1))
    sizes[at] = Size(sizes[at].factor, True)
    return sizes


def _size(n: int, dim: tuple[Axis, ...]) -> Size:
    return Size(n // SAMPLES, True) if BATCH in dim else Size(n)


def test_heads_and_samples_become_one_and_part_again() -> None:
    view = View.of_sample([5, 8]).permuted([1, 0, 2])
    merged = view.regrouped([Size(5), Size(2, True), Size(4)])
    assert merged is not None
    assert merged.sizes == (Size(5), Size(2, True), Size(4))
    back = merged.regrouped([Size(5), Size(1, True), Size(8)])
    assert back is not None
    assert back.permuted([1, 0, 2]).is_plain


def test_samples_are_never_cut() -> None:
    view = View.of_sample([6])
    assert view.regrouped([Size(2), Size(3, True)]) is None
    assert view.permuted([1, 0]).regrouped([Size(6, True)]) is not None
    assert view.permuted([1, 0]).regrouped([Size(4), Size(3, True)]) is None


@given(st.permutations(range(5)))
def test_moves_lead_to_the_order_that_is_wanted(order: list[int]) -> None:
    axes = [Axis(n) for n in (2, 3, 4, 5, 7)]
    wanted = [axes[i] for i in order]
    memory = np.arange(prod(axis.size for axis in axes)).reshape(2, 3, 4, 5, 7)
    goal, at = memory.transpose(order).reshape(-1), memory.reshape(-1)
    steps = moves(axes, wanted)
    assert len(steps) <= 3
    for groups, permutation in steps:
        sizes = [prod(axis.size for axis in group) for group in groups]
        assert len(sizes) <= 3
        at = at.reshape(sizes).transpose(permutation).reshape(-1)
    np.testing.assert_array_equal(at, goal)


def test_the_size_left_out_is_worked_out() -> None:
    total = Size(24, True)
    assert resolved([None, Size(8)], total) == (Size(3, True), Size(8))
    assert resolved([Size(1, True), None], total) == (Size(1, True), Size(24))
    assert resolved([Size(2, True), Size(12)], total) == (Size(2, True), Size(12))
    assert resolved([Size(5), None], total) is None
    assert resolved([Size(24)], total) is None
