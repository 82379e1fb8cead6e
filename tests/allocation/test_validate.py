"""The validator of layouts: cases to see, an oracle, and seeded violations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.allocation.buffers import Gap, make_buffers
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.errors import LayoutError

RULES = ("pool", "height", "alignment", "fixed", "group", "overlap", "gap")
"""In the order in which they are checked; the last two are one check."""

Finding = tuple[str, frozenset[int]]
"""A rule and the buffers that break it."""


@dataclass(frozen=True)
class Placed:
    """A buffer and where it stands."""

    lower: int
    upper: int
    size: int
    offset: int
    alignment: int = 1
    fixed: int | None = None
    gaps: tuple[Gap, ...] = ()
    group: str | None = None
    pool: int = 0


@dataclass(frozen=True)
class Case:
    """A layout; without `pool_bytes` it has no pools."""

    placed: tuple[Placed, ...]
    height: int
    pool_bytes: tuple[int | None, ...] | None = None

    def changed(self, index: int, **values: Any) -> Case:
        placed = list(self.placed)
        placed[index] = replace(placed[index], **values)
        return replace(self, placed=tuple(placed))

    def with_more(self, *placed: Placed) -> Case:
        return replace(self, placed=(*self.placed, *placed))


def check(case: Case) -> None:
    placed = case.placed
    buffers = make_buffers(
        [b.lower for b in placed],
        [b.upper for b in placed],
        [b.size for b in placed],
        alignment=[b.alignment for b in placed],
        fixed_offset=[b.fixed for b in placed],
        gaps=[b.gaps for b in placed],
        group=[b.group for b in placed],
    )
    pools = None if case.pool_bytes is None else [b.pool for b in placed]
    check_layout(
        buffers,
        [b.offset for b in placed],
        case.height,
        pool=pools,
        pool_bytes=case.pool_bytes,
    )


def refused(case: Case) -> LayoutError:
    with pytest.raises(LayoutError) as caught:
        check(case)
    return caught.value


def finding(case: Case) -> Finding:
    error: Any = refused(case)
    return error.rule, frozenset(error.buffers)


# -- cases to see ----------------------------------------------------------------------


def test_no_buffers_are_a_layout() -> None:
    check(Case((), height=0))
    check(Case((), height=0, pool_bytes=()))
    assert finding(Case((), height=0).with_more(Placed(0, 1, 1, 0)))[0] == "height"


B = Placed  # lower, upper, size, offset


@pytest.mark.parametrize(
    ("placed", "height"),
    [
        ([B(0, 2, 4, 12)], 16),  # up to the last byte
        ([B(0, 2, 4, 0)], 1000),  # the height is an upper limit
        ([B(0, 2, 4, 0), B(2, 4, 4, 0)], 4),  # one after the other in time
        ([B(0, 2, 4, 0), B(1, 4, 4, 4)], 8),  # side by side in memory
        ([B(0, 2, 8, 4), B(1, 3, 4, 0), B(1, 3, 4, 12), B(2, 3, 8, 4)], 16),
        ([B(-5, -2, 4, 0), B(-2, 3, 4, 0)], 4),  # steps below zero
        ([B(1 - 2**62, 0, 4, 0), B(0, 2**62 - 1, 4, 0)], 4),  # far apart
        ([B(0, 1, 4, 2**62)], 2**62 + 4),
        ([B(0, 1, 4, 2**63 - 5)], 2**70),
        ([B(0, 2, 4, 8, alignment=8), B(0, 2, 4, 12, alignment=4)], 16),
        ([B(0, 2, 4, 8, fixed=8)], 16),
        ([B(0, 2, 4, 0, fixed=0)], 4),
    ],
)
def test_a_layout_that_keeps_every_rule(placed: list[Placed], height: int) -> None:
    check(Case(tuple(placed), height))


@pytest.mark.parametrize(
    ("rule", "buffers", "placed", "message"),
    [
        ("height", (0,), [B(0, 1, 4, -4)], "takes bytes [-4, 0), which begin below 0"),
        ("height", (0,), [B(0, 1, 4, -1)], "takes bytes [-1, 3), which begin below 0"),
        ("height", (1,), [B(0, 1, 4, 0), B(1, 2, 9, 8)], "[8, 17) of an arena of 16"),
        ("height", (0,), [B(0, 1, 17, 0)], "takes bytes [0, 17) of an arena of 16"),
        ("height", (0,), [B(0, 1, 9, 2**63 - 1)], "of an arena of 16"),
        (
            "alignment",
            (1,),
            [B(0, 1, 4, 0), B(0, 1, 4, 6, alignment=4)],
            "starts at 6, no multiple of 4",
        ),
        (
            "fixed",
            (1,),
            [B(0, 1, 4, 0), B(0, 1, 4, 4, fixed=8)],
            "starts at 4, not at its fixed offset 8",
        ),
        ("fixed", (0,), [B(0, 1, 4, 4, fixed=0)], "not at its fixed offset 0"),
        ("overlap", (0, 1), [B(0, 2, 8, 0), B(1, 3, 4, 4)], "and buffer 1 takes"),
        ("overlap", (0, 1), [B(0, 2, 8, 0), B(1, 3, 4, 7)], "takes bytes [7, 11)"),
        ("overlap", (0, 1), [B(0, 2, 8, 4), B(1, 3, 5, 0)], "takes bytes [0, 5)"),
        ("overlap", (0, 1), [B(0, 9, 16, 0), B(3, 4, 4, 8)], "in steps [0, 9)"),
        ("overlap", (1, 0), [B(5, 6, 4, 8), B(4, 9, 16, 0)], "buffer 0 takes"),
        ("overlap", (0, 1), [B(0, 1, 4, 0), B(0, 1, 4, 0)], "bytes [0, 4)"),
        ("overlap", (0, 1), [B(-9, -7, 4, 0), B(-8, 2, 4, 3)], "steps [-8, 2)"),
    ],
)
def test_the_broken_rule_is_named(
    rule: str, buffers: tuple[int, ...], placed: list[Placed], message: str
) -> None:
    error: Any = refused(Case(tuple(placed), height=16))
    assert (error.rule, error.buffers) == (rule, buffers)
    assert f"breaks the rule of {rule}: buffer {buffers[0]} " in str(error)
    assert message in str(error)
    assert "defect" not in str(error)


def test_the_earliest_overlap_is_named() -> None:
    """Buffers 0 and 1 meet at step 8, buffers 2 and 3 at step 3."""
    placed = (B(0, 9, 4, 0), B(8, 9, 4, 0), B(1, 9, 4, 8), B(3, 4, 4, 8))
    assert finding(Case(placed, height=12)) == ("overlap", frozenset({2, 3}))


def test_messages_call_buffers_by_their_label() -> None:
    buffers = make_buffers([0, 1], [2, 3], [8, 4])
    names = ["weights", "gradient"]
    with pytest.raises(
        LayoutError, match=r"overlap: weights takes .* and gradient takes"
    ):
        check_layout(buffers, [0, 4], 8, label=names.__getitem__)


HOST = B(0, 10, 8, 0, gaps=((3, 6),))
r"""Over time, with eight bytes, free in the steps 3, 4 and 5::

    a a a . . . a a a a
"""

WINDOWED = B(0, 10, 8, 0, gaps=((3, 6, 2, 5),))
"""In the gap it keeps its bytes 2, 3 and 4."""


@pytest.mark.parametrize(
    ("host", "guests"),
    [
        (HOST, [B(3, 6, 8, 0)]),  # all of the gap
        (HOST, [B(3, 5, 8, 0), B(5, 6, 4, 4)]),  # one after the other
        (HOST, [B(3, 6, 4, 0), B(3, 6, 4, 4)]),  # side by side
        (HOST, [B(4, 5, 12, 0), B(0, 4, 4, 8)]),  # and beyond its end
        (HOST, [B(0, 10, 4, 8)]),  # beside it all the time
        (WINDOWED, [B(3, 6, 2, 0), B(3, 6, 3, 5)]),  # on both sides of the window
        (WINDOWED, [B(4, 5, 7, 5)]),
        (WINDOWED, [B(3, 6, 3, 5), B(6, 8, 4, 8), B(0, 3, 4, 8)]),
        (B(0, 10, 8, 0, gaps=((0, 4),)), [B(-3, 4, 8, 0)]),  # before it is written
        (B(0, 10, 8, 0, gaps=((4, 10),)), [B(4, 20, 8, 0)]),
        (B(0, 10, 8, 0, gaps=((0, 10),)), [B(0, 10, 8, 0)]),  # a gap and no more
        (B(0, 9, 8, 0, gaps=((3, 6), (6, 8, 0, 4))), [B(3, 8, 4, 4)]),  # two that touch
        (B(0, 9, 8, 0, gaps=((3, 6, 0, 4), (6, 8, 4, 8))), [B(3, 6, 4, 4)]),
        (  # two buffers take turns
            B(0, 9, 8, 0, gaps=((2, 4), (6, 8))),
            [B(2, 8, 8, 0, gaps=((4, 6),))],
        ),
        (B(0, 9, 8, 0, gaps=((3, 6, 0, 8),)), [B(3, 6, 8, 8)]),  # the window is all
    ],
)
def test_gaps_may_be_used(host: Placed, guests: list[Placed]) -> None:
    check(Case((host, *guests), height=16))
    check(Case((*guests, host), height=16))


@pytest.mark.parametrize(
    ("host", "guest", "message"),
    [
        (HOST, B(3, 7, 8, 0), "steps [6, 10); buffer 1 lives in the gap [3, 6)"),
        (HOST, B(2, 6, 8, 0), "buffer 1 lives in the gap [3, 6) of buffer 0"),
        (HOST, B(0, 10, 1, 7), "buffer 1 takes bytes [7, 8)"),
        (WINDOWED, B(3, 6, 3, 0), "the gap [3, 6) without its bytes [2, 5)"),
        (WINDOWED, B(3, 6, 4, 4), "buffer 0 takes bytes [2, 5) in steps [3, 6)"),
        (WINDOWED, B(4, 5, 1, 3), "buffer 1 takes bytes [3, 4) in steps [4, 5)"),
        (WINDOWED, B(3, 7, 3, 5), "buffer 0 takes bytes [0, 8) in steps [6, 10)"),
        (
            B(0, 9, 8, 0, gaps=((2, 4), (6, 8))),
            B(2, 8, 8, 0, gaps=((4, 5),)),
            "lives in the gap [2, 4) of buffer 0",
        ),
    ],
)
def test_a_gap_used_wrongly(host: Placed, guest: Placed, message: str) -> None:
    case = Case((host, guest), height=16)
    assert finding(case) == ("gap", frozenset({0, 1}))
    assert message in str(refused(case))


def test_an_overlap_away_from_every_gap_is_no_wrong_use_of_one() -> None:
    assert finding(Case((HOST, B(6, 9, 4, 0)), height=8))[0] == "overlap"
    assert finding(Case((HOST, B(1, 3, 4, 0)), height=8))[0] == "overlap"


def group(*sizes_and_offsets: tuple[int, int], alignment: int = 1) -> list[Placed]:
    return [
        B(0, 2, size, offset, alignment=alignment, group="g")
        for size, offset in sizes_and_offsets
    ]


@pytest.mark.parametrize(
    "placed",
    [
        group((4, 0), (3, 4), (5, 7)),
        group((4, 3), (3, 7)),
        group((3, 4), (3, 8), (4, 12), alignment=4),  # padded, as alignment asks
        [*group((4, 4)), B(0, 2, 4, 0), *group((4, 8))],  # a stranger before them
        [*group((4, 9)), B(0, 2, 4, 0)],  # one alone
        [B(0, 2, 3, 0, group="g"), B(0, 2, 4, 4, alignment=4, group="g")],
        [B(0, 2, 4, 0, group="g"), B(0, 2, 4, 4, fixed=4, group="g")],
        [B(0, 2, 4, 0, group="g"), B(2, 4, 4, 4, group="g")],  # never live together
    ],
)
def test_groups_that_stand_together(placed: list[Placed]) -> None:
    check(Case(tuple(placed), height=16))


@pytest.mark.parametrize(
    ("placed", "pair", "message"),
    [
        (group((4, 0), (3, 5)), (0, 1), "it must start at 4"),
        (group((4, 4), (4, 0)), (0, 1), "it must start at 8"),  # the order of indexes
        (group((4, 0), (4, 4), (4, 12)), (1, 2), "next in its group, bytes [12, 16)"),
        (group((3, 0), (3, 8), alignment=4), (0, 1), "it must start at 4"),
        (
            [B(0, 2, 4, 0, group="g"), B(0, 2, 4, 4), B(2, 4, 4, 0, group="g")],
            (0, 2),
            "buffer 0 takes bytes [0, 4), and buffer 2, next in its group",
        ),
    ],
)
def test_groups_that_do_not(
    placed: list[Placed], pair: tuple[int, int], message: str
) -> None:
    case = Case(tuple(placed), height=16)
    assert finding(case) == ("group", frozenset(pair))
    assert message in str(refused(case))


def in_pools(*placed: Placed, sizes: tuple[int | None, ...], height: int) -> Case:
    return Case(placed, height, sizes)


FIRST, SECOND = B(0, 2, 8, 0), B(0, 2, 8, 0, pool=1)
THIRD = B(1, 4, 8, 7, pool=1)


@pytest.mark.parametrize(
    "case",
    [
        in_pools(FIRST, SECOND, sizes=(8, 8), height=16),  # same bytes, other pool
        in_pools(FIRST, SECOND, sizes=(None, None), height=16),
        in_pools(SECOND, sizes=(0, 8), height=8),  # an empty pool
        in_pools(FIRST, SECOND, sizes=(100, None), height=20),
        in_pools(FIRST, B(2, 4, 8, 0), SECOND, sizes=(8, None), height=16),
    ],
)
def test_pools(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("case", "rule", "buffers", "message"),
    [
        (
            in_pools(FIRST, SECOND, sizes=(8, 7), height=16),
            "pool",
            {1},
            "takes bytes [0, 8) of pool 1, of 7 bytes",
        ),
        (in_pools(B(0, 1, 9, 2**63 - 1), sizes=(8,), height=8), "pool", {0}, "8 bytes"),
        (in_pools(B(0, 1, 9, 2**63 - 1), sizes=(None,), height=8), "height", {0}, "8"),
        (in_pools(FIRST, SECOND, sizes=(8,), height=16), "pool", {1}, "pool 1 of 1"),
        (in_pools(replace(FIRST, pool=-1), sizes=(8,), height=8), "pool", {0}, "-1"),
        (
            in_pools(FIRST, SECOND, sizes=(8, None), height=15),
            "height",
            {0, 1},
            "at 16 bytes together, above the height of 15",
        ),
        (
            in_pools(FIRST, SECOND, THIRD, sizes=(8, 20), height=99),
            "overlap",
            {1, 2},
            "both in pool 1",
        ),
        (
            in_pools(
                replace(FIRST, group="g"), replace(SECOND, offset=8, group="g"),
                sizes=(None, None), height=99,
            ),
            "group",
            {0, 1},
            "bytes [8, 16) of pool 1; it must start at 8",
        ),
    ],
)  # fmt: skip
def test_pools_used_wrongly(
    case: Case, rule: str, buffers: set[int], message: str
) -> None:
    assert finding(case) == (rule, buffers)
    assert message in str(refused(case))


def test_pools_without_sizes_are_unlimited() -> None:
    buffers = make_buffers([0, 0, 0], [2, 2, 2], [8, 8, 4])
    check_layout(buffers, [0, 0, 8], 20, pool=[0, 7, 7])
    with pytest.raises(LayoutError, match="pool -3"):
        check_layout(buffers, [0, 0, 8], 20, pool=[0, 7, -3])


def test_offsets_may_be_any_integers() -> None:
    buffers = make_buffers([0, 0], [2, 2], [8, 8])
    for dtype in (np.int16, np.uint64, np.int64):
        check_layout(buffers, np.array([8, 0], dtype=dtype), 16)
    check_layout(buffers, [np.int32(8), 0], 16)


@pytest.mark.parametrize(
    ("offset", "rule", "message"),
    [
        ([0], "count", "2 buffers, and 1 values of offset for them"),
        ([0, 8, 16], "count", "there are 2 buffers, and 3 values"),
        ([0, None], "count", "buffer 1 has the offset None, which is no integer"),
        ([0, 8.0], "count", "buffer 1 has the offset 8.0"),
        (["0", 8], "count", "buffer 0 has the offset '0'"),
        ([0, True], "count", "buffer 1 has the offset True"),
        (np.array([0.0, 8.0]), "count", "buffer 0 has the offset"),
        (np.array([[0], [8]]), "count", "buffer 0 has the offset"),
        ([0, 2**63], "height", "buffer 1 has the offset 9223372036854775808"),
        ([0, -(2**80)], "height", "buffer 1 has the offset -1208925819614629174706176"),
    ],
)
def test_offsets_that_are_none(offset: Any, rule: str, message: str) -> None:
    buffers = make_buffers([0, 0], [2, 2], [8, 8])
    with pytest.raises(LayoutError) as caught:
        check_layout(buffers, offset, 16)
    assert caught.value.rule == rule  # type: ignore[attr-defined]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("pool", "rule"), [([0], "count"), ([0, None], "pool"), ([0, 2**70], "pool")]
)
def test_pools_that_are_none(pool: Any, rule: str) -> None:
    buffers = make_buffers([0, 0], [2, 2], [8, 8])
    with pytest.raises(LayoutError) as caught:
        check_layout(buffers, [0, 0], 16, pool=pool)
    assert caught.value.rule == rule  # type: ignore[attr-defined]


# -- the oracle ------------------------------------------------------------------------

Cell = tuple[int, int, int]
"""A byte of a pool at a step."""


def cells(b: Placed) -> frozenset[Cell]:
    """Return what a buffer takes, counted out."""
    taken = {
        step: range(b.offset, b.offset + b.size) for step in range(b.lower, b.upper)
    }
    for lower, upper, *window in b.gaps:
        low, high = window or (0, 0)
        for step in range(lower, upper):
            taken[step] = range(b.offset + low, b.offset + high)
    return frozenset((b.pool, step, byte) for step in taken for byte in taken[step])


def lives_in_a_gap_of(host: Placed, guest: Placed) -> bool:
    return any(
        gap[0] <= step < gap[1]
        for gap in host.gaps
        for step in range(guest.lower, guest.upper)
    )


def tops_of(placed: Sequence[Placed]) -> dict[int, int]:
    tops: dict[int, int] = {}
    for b in placed:
        tops[b.pool] = max(tops.get(b.pool, 0), b.offset + b.size)
    return tops


def findings(case: Case) -> set[Finding]:
    """Return every violation, each rule written down as it is said."""
    placed = case.placed
    found: set[Finding] = set()
    for i, b in enumerate(placed):
        end = b.offset + b.size
        if case.pool_bytes is not None:
            limit = (
                case.pool_bytes[b.pool] if 0 <= b.pool < len(case.pool_bytes) else -1
            )
            if limit is not None and end > limit:
                found.add(("pool", frozenset({i})))
        if b.offset < 0 or end > case.height:
            found.add(("height", frozenset({i})))
        if b.offset % b.alignment:
            found.add(("alignment", frozenset({i})))
        if b.fixed is not None and b.offset != b.fixed:
            found.add(("fixed", frozenset({i})))
    if sum(tops_of(placed).values()) > case.height:
        found.add(("height", frozenset(range(len(placed)))))
    for name in {b.group for b in placed} - {None}:
        members = [i for i, b in enumerate(placed) if b.group == name]
        for i, j in pairwise(members):
            a, b = placed[i], placed[j]
            start = a.offset + a.size
            while start % b.alignment:
                start += 1
            if b.offset != start or a.pool != b.pool:
                found.add(("group", frozenset({i, j})))
    taken = [cells(b) for b in placed]
    for j, b in enumerate(placed):
        for i, a in enumerate(placed[:j]):
            if taken[i] & taken[j]:
                misused = lives_in_a_gap_of(a, b) or lives_in_a_gap_of(b, a)
                found.add(("gap" if misused else "overlap", frozenset({i, j})))
    return found


def first_step(case: Case, pair: frozenset[int]) -> int:
    i, j = pair
    shared = cells(case.placed[i]) & cells(case.placed[j])
    return min(step for _, step, _ in shared)


def assert_agreement(case: Case) -> None:
    """The validator accepts what the oracle does, and else names a first rule of it."""
    expected = findings(case)
    if not expected:
        check(case)
        return
    rule, buffers = finding(case)
    broken = {name for name, _ in expected}
    assert rule in broken
    if rule in ("overlap", "gap"):
        assert broken <= {"overlap", "gap"}
        assert (rule, buffers) in expected
        earliest = min(first_step(case, pair) for _, pair in expected)
        assert first_step(case, buffers) == earliest
        return
    assert rule == min(broken, key=RULES.index)
    if rule != "height" or len(buffers) == 1:  # else of pools together
        assert (rule, buffers) in expected


# -- random layouts --------------------------------------------------------------------

SIZES = st.sampled_from((4, 6, 1, 2, 3, 5, 7))  # lists would mostly be short

PROPERTY = settings(derandomize=True, deadline=None, max_examples=150)


@st.composite
def gaps_of(draw: st.DrawFn, lower: int, upper: int, size: int) -> tuple[Gap, ...]:
    points = draw(st.sets(st.integers(lower, upper), max_size=4))
    gaps: list[Gap] = []
    for start, stop in pairwise(sorted(points)):
        kind = draw(st.sampled_from(("live", "gap", "window")))
        if kind == "gap":
            gaps.append((start, stop))
        elif kind == "window":
            low = draw(st.integers(0, size))
            gaps.append((start, stop, low, draw(st.integers(low, size))))
    return tuple(gaps)


@st.composite
def buffers(draw: st.DrawFn, n_pools: int = 2) -> Placed:
    """A buffer that is nowhere yet, at offset 0."""
    lower = draw(st.integers(-3, 8))
    upper = draw(st.integers(lower + 1, 10))
    size = draw(st.integers(1, 6))
    return Placed(
        lower,
        upper,
        size,
        0,
        alignment=draw(st.sampled_from((1, 1, 2, 3, 4))),
        gaps=draw(gaps_of(lower, upper, size)),
        group=draw(st.sampled_from((None, None, "g", "h"))),
        pool=draw(st.integers(0, n_pools - 1)),
    )


def units(placed: Sequence[Placed]) -> Iterator[list[int]]:
    """Yield the buffers alone and the groups, by their first member."""
    for i, b in enumerate(placed):
        members = [j for j, other in enumerate(placed) if other.group == b.group]
        if b.group is None:
            yield [i]
        elif members[0] == i:
            yield members


def first_fit(placed: Sequence[Placed]) -> list[Placed]:
    """Place each unit at the lowest offset that is free, in its first one's pool."""
    result = list(placed)
    taken: set[Cell] = set()
    for unit in units(placed):
        for start in count(0):
            offset, trial = start, []
            for i in unit:
                offset += -offset % placed[i].alignment
                trial.append(
                    replace(placed[i], offset=offset, pool=placed[unit[0]].pool)
                )
                offset += placed[i].size
            needed = frozenset().union(*(cells(b) for b in trial))
            if trial[0].offset == start and not needed & taken:
                break
        taken |= needed
        for i, b in zip(unit, trial, strict=True):
            result[i] = b
    return result


@st.composite
def valid_cases(draw: st.DrawFn) -> Case:
    n_pools = draw(st.sampled_from((1, 1, 2, 3)))
    placed = first_fit([draw(buffers(n_pools)) for _ in range(draw(SIZES))])
    for i, is_fixed in enumerate(draw(st.tuples(*[st.booleans()] * len(placed)))):
        if is_fixed:
            placed[i] = replace(placed[i], fixed=placed[i].offset)
    tops = tops_of(placed)
    height = sum(tops.values()) + draw(st.sampled_from((0, 0, 1, 7)))
    if n_pools == 1 and draw(st.booleans()):
        return Case(tuple(placed), height)
    sizes = [
        draw(st.sampled_from((None, tops.get(p, 0), tops.get(p, 0) + 3)))
        for p in range(n_pools)
    ]
    return Case(tuple(placed), height, tuple(sizes))


@st.composite
def anywhere(draw: st.DrawFn) -> Case:
    """Buffers at random offsets: most break a rule, with few buffers some do not."""
    placed = []
    for b in [draw(buffers()) for _ in range(draw(SIZES))]:
        start = draw(st.integers(0, 15)) * b.alignment
        offset = start - draw(st.sampled_from((0,) * 9 + (1,)))
        fixed = draw(st.sampled_from((None, None, None, start)))
        group_name = draw(st.sampled_from((None, None, None, b.group)))
        placed.append(replace(b, offset=offset, fixed=fixed, group=group_name))
    if draw(st.booleans()):
        return Case(tuple(replace(b, pool=0) for b in placed), height=50)
    return Case(tuple(placed), height=80, pool_bytes=(None, 40))


@PROPERTY
@given(valid_cases())
def test_what_first_fit_places_is_valid(case: Case) -> None:
    assert findings(case) == set()
    check(case)


@settings(PROPERTY, max_examples=600)
@given(anywhere())
def test_the_validator_against_the_oracle(case: Case) -> None:
    assert_agreement(case)


@settings(PROPERTY, max_examples=600)
@given(valid_cases(), st.data())
def test_the_validator_against_the_oracle_next_to_valid_layouts(
    case: Case, data: st.DataObject
) -> None:
    """One number of one buffer is changed: some of the layouts are valid still."""
    i = data.draw(st.integers(0, len(case.placed) - 1))
    b = case.placed[i]
    gaps_left = [g for g in b.gaps if data.draw(st.booleans())]
    changes: dict[str, Any] = {
        "offset": b.offset + data.draw(st.sampled_from((-4, -1, 1, 2, 4, 12))),
        "lower": data.draw(st.integers(-3, b.gaps[0][0] if b.gaps else b.upper - 1)),
        "upper": data.draw(st.integers(b.gaps[-1][1] if b.gaps else b.lower + 1, 10)),
        "size": b.size + data.draw(st.integers(1, 3)),
        "gaps": tuple(gaps_left),
        "pool": b.pool if case.pool_bytes is None else data.draw(st.integers(-1, 3)),
    }
    field = data.draw(st.sampled_from(sorted(changes)))
    assert_agreement(
        replace(case.changed(i, **{field: changes[field]}), height=case.height + 20)
    )


# -- seeded violations: each is caught, under its name ---------------------------------


def roomy(case: Case) -> Case:
    """Return the same layout where neither the height nor a pool's size is near."""
    sizes = None if case.pool_bytes is None else (None,) * len(case.pool_bytes)
    return replace(case, height=case.height + 1000, pool_bytes=sizes)


def above(case: Case, alignment: int = 1) -> int:
    """Return an offset at which every pool is free."""
    top = max(tops_of(case.placed).values())
    return top + -top % alignment


Draw = Callable[[st.SearchStrategy[Any]], Any]


def too_low_an_arena(case: Case, draw: Draw) -> tuple[Case, str, int]:
    missing = draw(st.integers(1, 5))
    height = sum(tops_of(case.placed).values()) - missing
    return replace(case, height=height), "height", 0


def below_zero(case: Case, draw: Draw) -> tuple[Case, str, int]:
    i = draw(st.integers(0, len(case.placed) - 1))
    down = draw(st.integers(1, 3)) * case.placed[i].alignment
    return case.changed(i, offset=-down), "height", i


def off_its_alignment(case: Case, draw: Draw) -> tuple[Case, str, int]:
    i = draw(st.integers(0, len(case.placed) - 1))
    b = case.placed[i]
    step = draw(st.integers(2, 5))
    alignment = b.alignment * step
    aside = draw(st.integers(1, alignment - 1))
    offset = draw(st.integers(0, 9)) * alignment + aside
    fixed = None if b.fixed is None else 0
    case = case.changed(i, alignment=alignment, offset=offset, fixed=fixed)
    return roomy(case), "alignment", i


def off_its_fixed_offset(case: Case, draw: Draw) -> tuple[Case, str, int]:
    i = draw(st.integers(0, len(case.placed) - 1))
    b = case.placed[i]
    up = draw(st.integers(1, 9)) * b.alignment
    if b.fixed is None or draw(st.booleans()):
        return roomy(case.changed(i, fixed=b.offset + up)), "fixed", i
    return roomy(case.changed(i, offset=b.offset + up)), "fixed", i


def torn_group(case: Case, draw: Draw) -> tuple[Case, str, int]:
    """Above everything a group of three; a later member is moved up or away."""
    alignment = draw(st.sampled_from((1, 2, 4)))
    offset, members = above(case), []
    for _ in range(3):
        offset += -offset % alignment
        size = draw(st.integers(1, 6))
        members.append(Placed(0, 3, size, offset, alignment=alignment, group="torn"))
        offset += size
    case = roomy(case.with_more(*members))
    assert findings(case) == set()
    i = len(case.placed) - draw(st.integers(1, 2))
    if case.pool_bytes is not None and len(case.pool_bytes) > 1 and draw(st.booleans()):
        return case.changed(i, pool=1), "group", i
    up = draw(st.integers(1, 9)) * alignment
    return case.changed(i, offset=case.placed[i].offset + up), "group", i


def no_such_pool(case: Case, draw: Draw) -> tuple[Case, str, int]:
    sizes = case.pool_bytes or (None,)
    case = replace(case, pool_bytes=sizes)
    i = draw(st.integers(0, len(case.placed) - 1))
    pool = draw(st.sampled_from((-1, -(2**40), len(sizes), len(sizes) + 7, 2**40)))
    return case.changed(i, pool=pool), "pool", i


def above_its_pool(case: Case, draw: Draw) -> tuple[Case, str, int]:
    sizes = list(case.pool_bytes or (None,))
    i = draw(st.integers(0, len(case.placed) - 1))
    b = case.placed[i]
    sizes[b.pool] = b.offset + b.size - draw(st.integers(1, b.size))
    for other in case.placed[:i]:  # the first one is named
        if other.pool == b.pool and other.offset + other.size > sizes[b.pool]:
            i = min(i, case.placed.index(other))
    return replace(case, pool_bytes=tuple(sizes)), "pool", i


def on_a_taken_byte(case: Case, draw: Draw) -> tuple[Case, str, int]:
    """One byte for one step, where somebody is."""
    everywhere = sorted(frozenset().union(*(cells(b) for b in case.placed)))
    if not everywhere:
        case = case.with_more(Placed(0, 1, 1, above(case)))
        everywhere = sorted(cells(case.placed[-1]))
    pool, step, byte = draw(st.sampled_from(everywhere))
    case = case.with_more(Placed(step, step + 1, 1, byte, pool=pool))
    host = next(b for b in case.placed if (pool, step, byte) in cells(b))
    in_gap = lives_in_a_gap_of(host, case.placed[-1])
    return roomy(case), "gap" if in_gap else "overlap", len(case.placed) - 1


def wrong_guest(case: Case, draw: Draw) -> tuple[Case, str, int]:
    """Above everything a host with a gap, and in the gap a guest with a bad habit."""
    low = draw(st.integers(1, 4))
    high = draw(st.integers(low + 1, 7))
    start = above(case)
    window = (low, high) if draw(st.booleans()) else ()
    host = Placed(-5, 15, 8, start, gaps=((0, 8, *window),))  # type: ignore[arg-type]
    guest = draw(
        st.sampled_from(
            (
                Placed(draw(st.integers(0, 7)), draw(st.integers(9, 20)), 1, start),
                Placed(draw(st.integers(-9, -1)), draw(st.integers(1, 8)), 1, start),
                Placed(-9, 20, 8, start + 7),
                *([Placed(3, 4, high - low, start + low)] if window else ()),
                *([Placed(0, 8, 8 - high + 1, start + high - 1)] if window else ()),
                *([Placed(0, 8, low + 1, start)] if window else ()),
            )
        )
    )
    pair = (host, guest) if draw(st.booleans()) else (guest, host)
    return roomy(case.with_more(*pair)), "gap", len(case.placed)


SEEDS = (
    too_low_an_arena,
    below_zero,
    off_its_alignment,
    off_its_fixed_offset,
    torn_group,
    no_such_pool,
    above_its_pool,
    on_a_taken_byte,
    wrong_guest,
)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seeded_violation_is_caught(
    seed: Callable[[Case, Draw], tuple[Case, str, int]],
) -> None:
    @PROPERTY
    @given(valid_cases(), st.data())
    def run(case: Case, data: st.DataObject) -> None:
        seeded, rule, index = seed(case, data.draw)
        found, buffers_named = finding(seeded)
        assert found == rule
        assert seed is too_low_an_arena or index in buffers_named

    run()


# -- many buffers ----------------------------------------------------------------------


def columns(n: int, n_columns: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Return lower, upper, size, offset: columns without a free byte or step between.

    Each column is as wide as all its buffers, which follow each other in time; so all
    neighbours touch. The buffers are shuffled.
    """
    rng = np.random.default_rng(3)
    height = n // n_columns
    duration = rng.integers(1, 1000, (n_columns, height))
    upper = duration.cumsum(axis=1)
    width = rng.integers(1, 1000, n_columns)
    size = np.repeat(width, height)
    offset = np.repeat(width.cumsum() - width, height)
    order = rng.permutation(n)
    ranges = (upper - duration).ravel(), upper.ravel(), size, offset
    return tuple(column[order] for column in ranges)


def test_a_hundred_thousand_buffers_and_one_byte() -> None:
    lower, upper, size, offset = columns(100_000, 100)
    height = int((offset + size).max())
    buffers = make_buffers(lower, upper, size)
    check_layout(buffers, offset, height)

    everywhere = upper.reshape(-1) < 400_000  # all columns live until then
    for moved in np.flatnonzero(everywhere & (offset > 0))[::2000].tolist():
        wrong = offset.copy()
        wrong[moved] -= 1
        with pytest.raises(LayoutError) as caught:
            check_layout(buffers, wrong, height)
        i, j = caught.value.buffers  # type: ignore[attr-defined]
        assert moved in (i, j)
        assert max(lower[i], lower[j]) < min(upper[i], upper[j])
        end = min(wrong[i] + size[i], wrong[j] + size[j])
        assert end - max(wrong[i], wrong[j]) == 1
