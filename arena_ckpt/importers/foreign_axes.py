"""How a tensor of any rank lies in one of ours.

A tensor of another framework has any number of dimensions, and the batch can be any of
them, or a part of one. Ours is one block of memory for each sample. A `View` says which
axes a sample has in memory, and of which axes each dimension of the foreign tensor is
made. Reshaping, transposing and repeating are functions of views: no element moves, and
no layer is needed, until an operation asks for another order in memory.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import NamedTuple


class Size(NamedTuple):
    """A number of elements that may depend on the batch.

    Attributes
    ----------
    factor : int
    batched : bool
        It is this many times the number of samples.
    """

    factor: int
    batched: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Axis:
    """A part of a dimension that was never cut; equal to itself alone.

    Attributes
    ----------
    size : int
        Elements along it; 0 of the batch.
    is_repeated : bool
        The elements are the same all along it: it has no place in memory.
    """

    size: int
    is_repeated: bool = False


BATCH = Axis(0)
"""The samples: the outermost axis of all memory."""

Dimension = tuple[Axis, ...]
"""The axes of a dimension, the slowest first; none if its size is 1."""


def size_of(dimension: Iterable[Axis]) -> Size:
    """Return the size of a dimension."""
    axes = tuple(dimension)
    return Size(prod(axis.size for axis in axes if axis is not BATCH), BATCH in axes)


def axes_of(size: int) -> Dimension:
    """Return a new dimension of a size."""
    return () if size == 1 else (Axis(size),)


@dataclass(frozen=True, slots=True)
class View:
    """A foreign tensor in the memory of one of ours.

    Attributes
    ----------
    order : tuple of Axis
        Axes of a sample in memory, the slowest first; the batch stands before them.
    dims : tuple of tuple of Axis
        The dimensions of the foreign tensor.
    """

    order: tuple[Axis, ...]
    dims: tuple[Dimension, ...] = field(repr=False)

    @classmethod
    def of_sample(cls, sizes: Sequence[int]) -> View:
        """Return the view of a batch of samples of a shape, as it lies in memory."""
        dims = tuple(axes_of(size) for size in sizes)
        return cls(tuple(itertools.chain(*dims)), ((BATCH,), *dims))

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The shape of the foreign tensor."""
        return tuple(size_of(dim) for dim in self.dims)

    @property
    def rank(self) -> int:
        """The number of dimensions of the foreign tensor."""
        return len(self.dims)

    @property
    def sample_size(self) -> int:
        """The elements of a sample in memory."""
        return prod(axis.size for axis in self.order)

    @property
    def flat(self) -> tuple[Axis, ...]:
        """The axes of a sample in the order of the dimensions."""
        return tuple(axis for dim in self.dims for axis in dim if axis is not BATCH)

    @property
    def is_plain(self) -> bool:
        """A sample lies in memory as in a contiguous foreign tensor, batch first."""
        return self.order == self.flat and self.batch_first

    @property
    def batch_first(self) -> bool:
        """The first dimension is the batch alone, and no other has it."""
        return bool(self.dims) and self.dims[0] == (BATCH,)

    def permuted(self, order: Sequence[int]) -> View:
        """Return the view whose dimension i is `order[i]` of this one."""
        return replace(self, dims=tuple(self.dims[i] for i in order))

    def with_dim(self, at: int, dimension: Dimension) -> View:
        """Return the view with another dimension in the place of one."""
        return replace(self, dims=(*self.dims[:at], dimension, *self.dims[at + 1 :]))

    def inserted(self, at: int) -> View:
        """Return the view with a dimension of size 1 before the one numbered `at`."""
        return replace(self, dims=(*self.dims[:at], (), *self.dims[at:]))

    def with_rank(self, rank: int) -> View:
        """Return the view with dimensions of size 1 in front, up to a number of all."""
        return replace(self, dims=((),) * (rank - self.rank) + self.dims)

    def resized(self, at: int, size: int) -> View:
        """Return the view one of whose dimensions has another size, where it lies."""
        old, new = set(self.dims[at]), axes_of(size)
        order: list[Axis] = []
        for axis in self.order:
            if axis not in old:
                order.append(axis)
            elif new and new[0] not in order:
                order.append(new[0])
        if new and new[0] not in order:  # it had size 1, and no place
            order.append(new[0])
        dims = (*self.dims[:at], new, *self.dims[at + 1 :])
        return View(tuple(order), dims)

    def without(self, at: int) -> View:
        """Return the view without a dimension of size 1."""
        return replace(self, dims=(*self.dims[:at], *self.dims[at + 1 :]))

    def repeated(self, at: int, size: int) -> View:
        """Return the view whose dimension of size 1 is repeated."""
        return self.with_dim(at, () if size == 1 else (Axis(size, True),))

    def regrouped(self, sizes: Sequence[Size]) -> View | None:
        """Return the view of other dimensions over the same elements in their order.

        Parameters
        ----------
        sizes : sequence of Size
            Their product is that of the dimensions of this view.

        Returns
        -------
        View or None
            None if a new dimension would begin or end within the batch or within an
            axis that does not divide there: then the elements have to move first.
        """
        left = [axis for dim in self.dims for axis in dim]
        left.reverse()
        cuts: dict[Axis, tuple[Axis, Axis]] = {}
        dims = []
        for factor, batched in sizes:
            dimension = []
            while factor > 1 or batched:
                if not left:
                    return None
                axis = left.pop()
                if axis is BATCH:
                    if not batched:
                        return None
                    batched = False
                elif factor % axis.size == 0:
                    factor //= axis.size
                elif axis.size % factor == 0 and factor > 1:
                    outer = Axis(factor, axis.is_repeated)
                    inner = Axis(axis.size // factor, axis.is_repeated)
                    cuts[axis] = (outer, inner)
                    left.append(inner)
                    axis, factor = outer, 1
                else:
                    return None
                dimension.append(axis)
            dims.append(tuple(dimension))
        if left:
            return None
        return View(_cut(self.order, cuts), tuple(dims))

    def refined(self, cuts: dict[Axis, tuple[Axis, Axis]]) -> View:
        """Return the view with axes cut in two."""
        return View(_cut(self.order, cuts), tuple(_cut(dim, cuts) for dim in self.dims))


def _cut(axes: Iterable[Axis], cuts: dict[Axis, tuple[Axis, Axis]]) -> tuple[Axis, ...]:
    """Return axes with each that was cut replaced by its parts, again and again."""
    done: list[Axis] = []
    left = list(axes)
    left.reverse()
    while left:
        axis = left.pop()
        if axis in cuts:
            left.extend(reversed(cuts[axis]))
        else:
            done.append(axis)
    return tuple(done)


def resolved(sizes: Sequence[Size | None], total: Size) -> tuple[Size, ...] | None:
    """Return sizes with the one that is None worked out from the product of all.

    None if there is no such size.
    """
    known = [size for size in sizes if size is not None]
    factor = prod(size.factor for size in known)
    batched = sum(size.batched for size in known)
    if None not in sizes:
        fits = factor == total.factor and batched == total.batched
        return tuple(known) if fits else None
    if batched > total.batched or factor == 0 or total.factor % factor:
        return None
    missing = Size(total.factor // factor, total.batched and not batched)
    return tuple(missing if size is None else size for size in sizes)


Groups = tuple[int, ...]


def moves(
    order: Sequence[Axis], wanted: Sequence[Axis]
) -> list[tuple[tuple[tuple[Axis, ...], ...], tuple[int, ...]]]:
    """Return the fewest exchanges of up to three groups that lead to another order.

    Parameters
    ----------
    order, wanted : sequence of Axis
        The same axes.

    Returns
    -------
    list of (groups, permutation)
        Groups of axes that stand one behind the other, and which of them comes where.
    """
    runs = _runs(order, wanted)
    place = {axis: i for i, axis in enumerate(wanted)}
    start = tuple(range(len(runs)))
    goal = tuple(sorted(start, key=lambda run: place[runs[run][0]]))
    came: dict[Groups, tuple[Groups, tuple[Groups, ...], tuple[int, ...]]] = {}
    queue = deque([start])
    seen = {start}
    while queue and goal not in seen:
        state = queue.popleft()
        for groups, permutation in _exchanges(state):
            after = tuple(itertools.chain(*(groups[i] for i in permutation)))
            if after not in seen:
                seen.add(after)
                came[after] = (state, groups, permutation)
                queue.append(after)
    steps = []
    state = goal
    while state != start:
        state, groups, permutation = came[state]
        axes = tuple(
            tuple(itertools.chain(*(runs[run] for run in group))) for group in groups
        )
        steps.append((axes, permutation))
    return steps[::-1]


def _runs(order: Sequence[Axis], wanted: Sequence[Axis]) -> list[tuple[Axis, ...]]:
    """Return the longest parts that are the same in both orders."""
    place = {axis: i for i, axis in enumerate(wanted)}
    runs: list[tuple[Axis, ...]] = []
    for axis in order:
        if runs and place[axis] == place[runs[-1][-1]] + 1:
            runs[-1] = (*runs[-1], axis)
        else:
            runs.append((axis,))
    return runs


def _exchanges(
    state: Groups,
) -> Iterable[tuple[tuple[Groups, ...], tuple[int, ...]]]:
    """Return all ways to cut a sequence in two or three and to put the parts anew."""
    n = len(state)
    for i in range(1, n):
        yield (state[:i], state[i:]), (1, 0)
        for j in range(i + 1, n):
            groups = (state[:i], state[i:j], state[j:])
            for permutation in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
                yield groups, permutation
