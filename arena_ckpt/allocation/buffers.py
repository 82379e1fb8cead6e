"""Buffers to place, as flat arrays that are checked when they are made.

A buffer lives in the half-open range [lower, upper) of steps and takes `size` bytes
from its offset on. In a *gap* of that range its bytes are free for others, all of them
or, with a *window*, all but [window lower, window upper) counted from its offset.
The members of a *group* stand one behind the other in the order of their indexes, with
no more between them than alignment asks for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence, Sized
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.integers import (
    LARGEST_SUM_BYTES,
    IntegerLike,
    Integers,
    Label,
    integer_of,
    integers_of,
    is_scalar,
    is_whole,
    items_of,
    shown,
)
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.errors import InvalidBufferError

Gap = tuple[int, int] | tuple[int, int, int, int]
"""(lower, upper) in steps, or (lower, upper, window lower, window upper)."""

FREE = -1
"""Stands in `Buffers.fixed_offset` for no fixed offset and in `Buffers.group` for no
group."""

LONGEST_BITS = 13_000
"""Maximum number of bits of an integer that a message prints in full: Python refuses to
print much longer ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Buffers:
    """Buffers to place, in arrays of one element per buffer.

    Attributes
    ----------
    lower, upper : int64 array, shape (n,)
        Half-open live ranges in steps.
    size, alignment : int64 array, shape (n,)
        Bytes.
    fixed_offset : int64 array, shape (n,)
        Bytes, or `FREE`.
    group : int64 array, shape (n,)
        Number of the group, or `FREE`.
    gap_owner, gap_lower, gap_upper : int64 array, shape (number of gaps,)
        The buffer each gap belongs to, and its steps; ascending by owner and step.
    window_lower, window_upper : int64 array, shape (number of gaps,)
        Bytes of the owner that stay taken; equal where none do.
    """

    lower: Integers
    upper: Integers
    size: Integers
    alignment: Integers
    fixed_offset: Integers
    group: Integers
    gap_owner: Integers
    gap_lower: Integers
    gap_upper: Integers
    window_lower: Integers
    window_upper: Integers

    def __len__(self) -> int:
        return len(self.size)

    def __repr__(self) -> str:
        n_gaps = len(self.gap_owner)
        return short_repr(
            self,
            "",
            counted(len(self), "buffer"),
            f"{int(self.size.sum()):,} B together",
            counted(n_gaps, "gap") if n_gaps else "",
        )

    @property
    def is_plain(self) -> bool:
        """Whether no buffer has a fixed offset, a group or gaps."""
        return not (
            len(self.gap_owner)
            or (self.fixed_offset != FREE).any()
            or (self.group != FREE).any()
        )

    def take(self, indexes: Integers, *, ignore_groups: bool = False) -> Buffers:
        """Return the buffers with these indexes, which must ascend."""
        new_index = np.full(len(self), FREE, dtype=np.int64)
        new_index[indexes] = np.arange(len(indexes))
        gaps = np.flatnonzero(new_index[self.gap_owner] != FREE)
        return Buffers(
            self.lower[indexes],
            self.upper[indexes],
            self.size[indexes],
            self.alignment[indexes],
            self.fixed_offset[indexes],
            np.full(len(indexes), FREE) if ignore_groups else self.group[indexes],
            new_index[self.gap_owner[gaps]],
            self.gap_lower[gaps],
            self.gap_upper[gaps],
            self.window_lower[gaps],
            self.window_upper[gaps],
        )

    def gaps_of(self, index: int) -> list[Gap]:
        """Return the gaps of a buffer, each with its window if it has one."""
        first, last = np.searchsorted(self.gap_owner, [index, index + 1])
        gaps: list[Gap] = []
        for i in range(int(first), int(last)):
            steps = int(self.gap_lower[i]), int(self.gap_upper[i])
            window = int(self.window_lower[i]), int(self.window_upper[i])
            gaps.append(steps if window[0] == window[1] else (*steps, *window))
        return gaps


def make_buffers(
    lower: IntegerLike,
    upper: IntegerLike,
    size: IntegerLike,
    *,
    alignment: int | IntegerLike = 1,
    fixed_offset: Sequence[int | None] | None = None,
    gaps: Sequence[Iterable[Gap] | None] | None = None,
    group: Sequence[Hashable | None] | None = None,
    label: Label = "buffer {}".format,
) -> Buffers:
    """Check the values that a user gives and return them as arrays.

    Parameters
    ----------
    lower, upper : sequence of int, length n
        Half-open live ranges in steps.
    size : sequence of int, length n
        Bytes.
    alignment : int or sequence of int
        What each offset is a multiple of, in bytes.
    fixed_offset : sequence of int or None, optional
        The offset a buffer must have, in bytes.
    gaps : sequence, optional
        For each buffer its gaps in ascending order, each ``(lower, upper)`` or
        ``(lower, upper, window_lower, window_upper)``.
    group : sequence of hashable or None, optional
        Buffers with equal values must be contiguous, in the order of their indexes.
    label : callable
        How messages call the buffer with an index.

    Returns
    -------
    Buffers

    Raises
    ------
    InvalidBufferError
        Names the first buffer at fault, the numbers, and what they must be.
    """
    lowers = integers_of(lower, "lower", label)
    uppers = integers_of(upper, "upper", label)
    sizes = integers_of(size, "size", label)
    n = len(sizes)
    alignments = (
        np.full(n, integer_of(alignment, "alignment"), dtype=np.int64)
        if is_scalar(alignment)
        else integers_of(alignment, "alignment", label)  # type: ignore[arg-type]
    )
    if fixed_offset is not None:
        fixed_offset = items_of(fixed_offset, "fixed_offset", "integers or None")  # type: ignore[assignment]
    if gaps is not None:
        gaps = items_of(gaps, "gaps", "lists of gaps")  # type: ignore[assignment]
    if group is not None:
        group = items_of(group, "group", "names")
    _require_lengths(
        n,
        lower=lowers,
        upper=uppers,
        alignment=alignments,
        fixed_offset=fixed_offset,
        gaps=gaps,
        group=group,
    )
    _check_numbers(lowers, uppers, sizes, alignments, label)
    fixed = _fixed_offsets(fixed_offset, n, label)
    _require(
        (fixed == FREE) | (fixed % alignments == 0),
        "has the fixed offset {}, which is no multiple of its alignment of {} bytes",
        label,
        fixed,
        alignments,
    )
    return Buffers(
        lowers,
        uppers,
        sizes,
        alignments,
        fixed,
        _groups(group, n, label),
        *_gap_arrays(gaps, lowers, uppers, sizes, label),
    )


def _require_lengths(n: int, **columns: Sized | None) -> None:
    """Refuse a column that has not one value for each of the n buffers."""
    for name, column in columns.items():
        if column is not None and len(column) != n:
            raise InvalidBufferError(
                f"there are {n} sizes but {len(column)} values of {name}; give one for "
                "each buffer",
                buffers=(),
            )


def _check_numbers(
    lowers: Integers,
    uppers: Integers,
    sizes: Integers,
    alignments: Integers,
    label: Label,
) -> None:
    """Refuse empty live ranges, and sizes and alignments that are not positive."""
    _require(sizes > 0, "has a size of {} bytes; it must be positive", label, sizes)
    _require(
        lowers < uppers,
        "lives in [{}, {}), which is empty; upper must be greater than lower",
        label,
        lowers,
        uppers,
    )
    _require(
        alignments > 0,
        "has an alignment of {} bytes; it must be positive",
        label,
        alignments,
    )
    _refuse_overflow(lowers, uppers, sizes, alignments, label)


def _require(
    holds: npt.NDArray[np.bool_], message: str, label: Label, *columns: Integers
) -> None:
    if holds.all():
        return
    index = int(np.argmin(holds))
    numbers = (int(column[index]) for column in columns)
    raise InvalidBufferError(
        f"{label(index)} {message.format(*numbers)}", buffers=(index,)
    )


def _refuse_overflow(
    lower: Integers, upper: Integers, size: Integers, alignment: Integers, label: Label
) -> None:
    """Refuse numbers whose sums could exceed int64."""
    for name, column in (("lower", lower), ("upper", upper)):
        _require(
            (-LARGEST_SUM_BYTES < column) & (column < LARGEST_SUM_BYTES),
            f"has {name} {{}}; steps must be within ±2**62",
            label,
            column,
        )
    total = 0
    for column in (size, alignment):
        # Exact: the parts are sums of at most 2**31 values below 2**32.
        total += (int((column >> 32).sum()) << 32) + int((column & 0xFFFFFFFF).sum())
    if total >= LARGEST_SUM_BYTES:
        # Of both, the largest one; sizes first where they are equal.
        is_size = size.max() >= alignment.max()
        kind, column = ("size", size) if is_size else ("alignment", alignment)
        index = int(np.argmax(column))
        raise InvalidBufferError(
            f"sizes and alignments add up to {total} bytes, which must stay below "
            f"2**62; the largest is the {kind} of {label(index)}, {column[index]} "
            "bytes",
            buffers=(index,),
            total_bytes=total,
        )


def _fixed_offsets(
    fixed_offset: Sequence[int | None] | None, n: int, label: Label
) -> Integers:
    fixed = np.full(n, FREE, dtype=np.int64)
    for index, value in enumerate(() if fixed_offset is None else fixed_offset):
        if value is None:
            continue
        if not is_whole(value):
            raise InvalidBufferError(
                f"{label(index)} has the fixed offset {shown(value)}; it must be an "
                "integer or None",
                buffers=(index,),
            )
        if not 0 <= value < LARGEST_SUM_BYTES:
            raise InvalidBufferError(
                f"{label(index)} has the fixed offset {shown(value)}; it must be at "
                "least 0 and below 2**62 (None leaves it free)",
                buffers=(index,),
            )
        fixed[index] = value
    return fixed


def _groups(group: Sequence[Hashable | None] | None, n: int, label: Label) -> Integers:
    """Return the number of each buffer's group; a group of one counts as no group."""
    numbers = np.full(n, FREE, dtype=np.int64)
    if group is None:
        return numbers
    members: dict[Hashable, list[int]] = {}
    for index, value in enumerate(group):
        if value is None:
            continue
        try:
            members.setdefault(value, []).append(index)
        except TypeError:
            raise InvalidBufferError(
                f"{label(index)} has the group {shown(value)}, which cannot be "
                "compared; name groups with texts or numbers",
                buffers=(index,),
            ) from None
    together = [indexes for indexes in members.values() if len(indexes) > 1]
    for number, indexes in enumerate(together):
        numbers[indexes] = number
    return numbers


def _gap_arrays(
    gaps: Sequence[Iterable[Gap] | None] | None,
    lower: Integers,
    upper: Integers,
    size: Integers,
    label: Label,
) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    rows: list[tuple[int, int, int, int, int]] = []
    for index, its_gaps in enumerate(() if gaps is None else gaps):
        before = int(lower[index])
        for gap in () if its_gaps is None else _gaps_of_one(its_gaps, index, label):
            start, stop, low, high = _gap_numbers(gap, index, label)
            if not start < stop:
                raise InvalidBufferError(
                    f"{label(index)} has the gap [{start}, {stop}), which is empty",
                    buffers=(index,),
                )
            if start < before:
                raise InvalidBufferError(
                    f"{label(index)} has the gap [{start}, {stop}), which begins "
                    f"before {before}: gaps lie inside [{lower[index]}, "
                    f"{upper[index]}), in ascending order and apart",
                    buffers=(index,),
                )
            if stop > upper[index]:
                raise InvalidBufferError(
                    f"{label(index)} has the gap [{start}, {stop}), which ends after "
                    f"the buffer does, at {upper[index]}",
                    buffers=(index,),
                )
            if not 0 <= low <= high <= size[index]:
                raise InvalidBufferError(
                    f"{label(index)} has a gap with the window [{low}, {high}), which "
                    f"does not lie in its {size[index]} bytes",
                    buffers=(index,),
                )
            rows.append((index, start, stop, low, high))
            before = stop
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), 5).T.copy()
    return columns[0], columns[1], columns[2], columns[3], columns[4]


def _gaps_of_one(its_gaps: object, index: int, label: Label) -> list[Gap]:
    try:
        return list(its_gaps)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise InvalidBufferError(
            f"{label(index)} has the gaps {shown(its_gaps)}; it must be a list of "
            "(lower, upper), or None",
            buffers=(index,),
        ) from None


def _gap_numbers(gap: Gap, index: int, label: Label) -> tuple[int, int, int, int]:
    try:
        numbers = tuple(gap)
    except TypeError:
        numbers = ()
    if (
        len(numbers) not in (2, 4)
        or not all(map(is_whole, numbers))
        or max(int(number).bit_length() for number in numbers) > LONGEST_BITS
    ):
        raise InvalidBufferError(
            f"{label(index)} has the gap {shown(gap)}; it must be (lower, upper) or "
            "(lower, upper, window lower, window upper), all integers",
            buffers=(index,),
        )
    whole = [int(number) for number in numbers]
    return (whole[0], whole[1], 0, 0) if len(whole) == 2 else tuple(whole)  # type: ignore[return-value]
