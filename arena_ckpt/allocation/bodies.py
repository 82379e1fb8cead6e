"""Rigid bodies over sections of time: the form of the buffers that engines place.

A *body* moves as one: a buffer, or a whole group. It consists of *pieces*, rectangles
of (steps × bytes) at a fixed height above its offset; a buffer with gaps has several.

A *section* is a maximal set of pieces that are alive at the same step. A step with a
subset of those pieces adds no condition to a layout, so time is counted in sections:
each piece spans a run of sections.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.buffers import FREE, Buffers, make_buffers
from arena_ckpt.allocation.integers import Integers, Label
from arena_ckpt.common.units import align_up
from arena_ckpt.errors import InvalidBufferError

LARGEST_ALIGNMENT_BYTES = 2**40
"""Maximum alignment of a group in bytes: its members' alignments may have a large
common multiple."""


@dataclass(frozen=True, slots=True, eq=False)
class Bodies:
    """Rigid bodies and their pieces, in flat arrays.

    Attributes
    ----------
    extent : int64 array, shape (n,)
        Bytes from a body's offset to the end of its highest piece.
    alignment, fixed_offset : int64 array, shape (n,)
        Bytes; `FREE` where the offset may be chosen.
    first_piece : int64 array, shape (n + 1,)
        Body `b` has the pieces ``first_piece[b]`` to ``first_piece[b + 1]``.
    section_lower, section_upper : int64 array, shape (pieces,)
        Half-open runs of sections.
    base, size : int64 array, shape (pieces,)
        Bytes above the body's offset, and bytes taken.
    n_sections : int
    lifetime : int64 array, shape (n,)
        Steps in which any byte of a body is taken.
    body_of, base_of : int64 array, shape (number of buffers,)
        Where each buffer is: its body, and the bytes above that body's offset.
    """

    extent: Integers
    alignment: Integers
    fixed_offset: Integers
    first_piece: Integers
    section_lower: Integers
    section_upper: Integers
    base: Integers
    size: Integers
    n_sections: int
    lifetime: Integers
    body_of: Integers
    base_of: Integers

    def __len__(self) -> int:
        return len(self.extent)

    @property
    def are_flat(self) -> bool:
        """Whether every piece reaches from the bottom of its body to its top."""
        owner = self.piece_owner()
        return bool((self.base == 0).all() and (self.size == self.extent[owner]).all())

    @property
    def are_rectangles(self) -> bool:
        """Whether every body is one full piece without a fixed offset."""
        one_each = bool((np.diff(self.first_piece) == 1).all())
        return one_each and self.are_flat and bool((self.fixed_offset == FREE).all())

    def piece_owner(self) -> Integers:
        """Return the body of each piece."""
        return np.repeat(np.arange(len(self)), np.diff(self.first_piece))

    def buffer_offsets(self, body_offset: Integers) -> Integers:
        """Return the offsets of all buffers, given the offsets of the bodies."""
        return body_offset[self.body_of] + self.base_of

    def rectangles(self, chosen: Integers) -> Bodies:
        """Return some of the bodies, which must be rectangles, as a new set."""
        assert self.are_rectangles
        n = len(chosen)
        lower, upper = _sections(self.section_lower[chosen], self.section_upper[chosen])
        return Bodies(
            extent=self.extent[chosen],
            alignment=self.alignment[chosen],
            fixed_offset=self.fixed_offset[chosen],
            first_piece=np.arange(n + 1, dtype=np.int64),
            section_lower=lower,
            section_upper=upper,
            base=np.zeros(n, dtype=np.int64),
            size=self.size[chosen],
            n_sections=int(upper.max(initial=0)),
            lifetime=self.lifetime[chosen],
            body_of=np.arange(n, dtype=np.int64),
            base_of=np.zeros(n, dtype=np.int64),
        )

    def height_bytes(self, body_offset: Integers) -> int:
        """Return the end of the highest body in bytes."""
        return int((body_offset + self.extent).max()) if len(self) else 0


def make_bodies(buffers: Buffers, label: Label = "buffer {}".format) -> Bodies:
    """Make bodies of buffers: join groups, and turn steps into sections.

    Raises
    ------
    InvalidBufferError
        A group whose fixed offsets contradict each other.
    """
    body_of, base_of, alignment, fixed_offset = _join_groups(buffers, label)
    piece_buffer, lower, upper, window_base, size = _pieces(buffers)
    owner = body_of[piece_buffer]
    base = base_of[piece_buffer] + window_base
    if not buffers.is_plain:
        order = np.lexsort((base, lower, owner))
        owner, lower, upper = owner[order], lower[order], upper[order]
        base, size = base[order], size[order]
        owner, lower, upper, base, size = _stack_equal(owner, lower, upper, base, size)
    n = len(alignment)
    extent = np.zeros(n, dtype=np.int64)
    np.maximum.at(extent, body_of, base_of + buffers.size)
    first_piece = np.searchsorted(owner, np.arange(n + 1)).astype(np.int64)
    section_lower, section_upper = _sections(lower, upper)
    lifetime = np.zeros(n, dtype=np.int64)
    np.add.at(lifetime, owner, upper - lower)
    return Bodies(
        extent=extent,
        alignment=alignment,
        fixed_offset=fixed_offset,
        first_piece=first_piece,
        section_lower=section_lower,
        section_upper=section_upper,
        base=base,
        size=size,
        n_sections=int(section_upper.max(initial=0)),
        lifetime=lifetime,
        body_of=body_of,
        base_of=base_of,
    )


def _join_groups(
    buffers: Buffers, label: Label
) -> tuple[Integers, Integers, Integers, Integers]:
    """Return body and base of each buffer, alignment and fixed offset of each body."""
    n = len(buffers)
    base_of = np.zeros(n, dtype=np.int64)
    group = buffers.group
    if not n or group.max() == FREE:
        return np.arange(n), base_of, buffers.alignment, buffers.fixed_offset
    leader = np.arange(n)  # the first member stands for the group
    alignment, fixed_offset = buffers.alignment.copy(), buffers.fixed_offset.copy()
    by_group = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[by_group], np.arange(int(group.max()) + 2))
    for first, last in itertools.pairwise(starts.tolist()):
        members = by_group[first:last]
        if not len(members):  # buffers taken out of a larger set may lack a group
            continue
        head = int(members[0])
        leader[members] = head
        whole = math.lcm(*(int(a) for a in buffers.alignment[members]))
        if whole > LARGEST_ALIGNMENT_BYTES:
            raise InvalidBufferError(
                f"the group of {label(head)} must begin at a multiple of {whole} bytes "
                "to align all its members; give them alignments that divide each other",
                buffers=tuple(members.tolist()),
            )
        alignment[head] = whole
        end = 0
        wanted: tuple[int, int] | None = None
        for member in members.tolist():
            base_of[member] = align_up(end, int(buffers.alignment[member]))
            end = int(base_of[member] + buffers.size[member])
            if buffers.fixed_offset[member] == FREE:
                continue
            start = int(buffers.fixed_offset[member] - base_of[member])
            if start < 0 or start % whole or (wanted and start != wanted[1]):
                raise InvalidBufferError(
                    f"{label(member)} has the fixed offset "
                    f"{buffers.fixed_offset[member]}, which puts its group at {start}: "
                    f"it must be at a multiple of {whole}, at least 0, and the same "
                    "for all members",
                    buffers=(member, *(() if wanted is None else wanted[:1])),
                )
            wanted = member, start
        fixed_offset[head] = FREE if wanted is None else wanted[1]
    heads, body_of = np.unique(leader, return_inverse=True)
    return body_of, base_of, alignment[heads], fixed_offset[heads]


def _pieces(
    buffers: Buffers,
) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    """Return the pieces of all buffers as five columns.

    The columns are buffer, lower, upper, base and size.
    """
    n = len(buffers)
    if not len(buffers.gap_owner):
        zeros = np.zeros(n, dtype=np.int64)
        return np.arange(n), buffers.lower, buffers.upper, zeros, buffers.size
    rows: list[tuple[int, int, int, int, int]] = []
    has_gaps = np.zeros(n, dtype=bool)
    has_gaps[buffers.gap_owner] = True
    for index in range(n):
        size = int(buffers.size[index])
        start, stop = int(buffers.lower[index]), int(buffers.upper[index])
        for gap in buffers.gaps_of(index) if has_gaps[index] else ():
            if start < gap[0]:
                rows.append((index, start, gap[0], 0, size))
            if len(gap) == 4:
                rows.append((index, gap[0], gap[1], gap[2], gap[3] - gap[2]))
            start = gap[1]
        if start < stop:
            rows.append((index, start, stop, 0, size))
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 5).T.copy()
    return table[0], table[1], table[2], table[3], table[4]


def _stack_equal(
    owner: Integers, lower: Integers, upper: Integers, base: Integers, size: Integers
) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    """Join pieces of one body that live together and touch into one rectangle."""
    rows: list[list[int]] = []
    for row in zip(
        *(c.tolist() for c in (owner, lower, upper, base, size)), strict=True
    ):
        last = rows[-1] if rows else None
        if last and last[:3] == list(row[:3]) and last[3] + last[4] == row[3]:
            last[4] += row[4]
        elif (
            last and last[0] == row[0] and last[2] == row[1] and last[3:] == [*row[3:]]
        ):
            last[2] = row[2]
        else:
            rows.append(list(row))
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 5).T.copy()
    return table[0], table[1], table[2], table[3], table[4]


def _sections(lower: Integers, upper: Integers) -> tuple[Integers, Integers]:
    """Return the first section and the end of the sections of each piece.

    A new section begins at the first start after an end, if the steps are walked in
    order and ends count before starts of the same step.
    """
    if not len(lower):
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty
    starts = np.unique(lower)
    stops = np.unique(upper)
    ended = np.searchsorted(stops, starts, side="right")  # ends at or before a start
    opens = np.empty(len(starts), dtype=bool)
    opens[0] = True
    opens[1:] = ended[1:] > ended[:-1]
    section_of_start = np.cumsum(opens) - 1
    section_lower = section_of_start[np.searchsorted(starts, lower)]
    started = np.searchsorted(starts, upper, side="left")  # starts before an end
    section_upper = section_of_start[started - 1] + 1
    return section_lower, section_upper


def section_bytes(
    bodies: Bodies, piece_bytes: npt.NDArray[np.int64] | None = None
) -> Integers:
    """Return the bytes that pieces take in each section.

    Parameters
    ----------
    bodies : Bodies
    piece_bytes : int64 array, shape (pieces,), optional
        What each piece counts for, instead of its size.
    """
    return running_total(
        bodies.section_lower,
        bodies.section_upper,
        bodies.size if piece_bytes is None else piece_bytes,
        bodies.n_sections,
    )


def section_needs(bodies: Bodies) -> Integers:
    """Return the bytes of each body in each section, shape (bodies, sections)."""
    needs = np.zeros((len(bodies), bodies.n_sections), dtype=np.int64)
    owner = bodies.piece_owner()
    for piece in range(len(owner)):
        sections = slice(bodies.section_lower[piece], bodies.section_upper[piece])
        needs[owner[piece], sections] += bodies.size[piece]
    return needs


def running_total(
    lower: Integers, upper: Integers, amount: Integers, n: int
) -> Integers:
    """Return for each place below `n` the sum of the amounts whose range covers it."""
    change = np.zeros(n + 1, dtype=np.int64)
    np.add.at(change, lower, amount)
    np.subtract.at(change, upper, amount)
    return np.cumsum(change)[:n]


def two_bodies() -> Bodies:
    """Return two bodies, the smallest input with which a loop is compiled."""
    return make_bodies(make_buffers([0, 0], [2, 1], [1, 1]))
