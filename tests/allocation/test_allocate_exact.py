"""The engines against brute force, and what they promise: optimal, never worse."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.allocation import allocate
from arena_ckpt.allocation.allocator import allocate_buffers
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.allocation.exact import ExactEngine
from arena_ckpt.allocation.minimalloc_csv import read_buffers
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.errors import CapacityError, InvalidParameterError, TimeLimitError

NODES = 200_000
HARD = Path(__file__).parents[3] / "shared/data/allocation/minimalloc"

Problem = dict[str, Any]
Piece = tuple[int, int, int, int]


# -- brute force -----------------------------------------------------------------------


def taken_at(problem: Problem, b: int, step: int) -> tuple[int, int] | None:
    """The bytes of a buffer, from its offset on, that are taken at a step."""
    if not problem["lower"][b] <= step < problem["upper"][b]:
        return None
    for gap in problem["gaps"][b]:
        if gap[0] <= step < gap[1]:
            return (gap[2], gap[3]) if len(gap) == 4 else None
    return 0, problem["size"][b]


def is_valid(problem: Problem, offset: tuple[int, ...]) -> bool:
    n = len(offset)
    for b in range(n):
        fixed = problem["fixed_offset"][b]
        if offset[b] % problem["alignment"][b] or fixed not in (None, offset[b]):
            return False
    for name in {g for g in problem["group"] if g is not None}:
        members = [b for b in range(n) if problem["group"][b] == name]
        whole = np.lcm.reduce([problem["alignment"][b] for b in members])
        if len(members) > 1 and offset[members[0]] % whole:
            return False
        for a, b in itertools.pairwise(members):
            end, step = offset[a] + problem["size"][a], problem["alignment"][b]
            if offset[b] != -(-end // step) * step:
                return False
    for step in range(max(problem["upper"])):
        spans = sorted(
            (offset[b] + span[0], offset[b] + span[1])
            for b in range(n)
            if (span := taken_at(problem, b, step)) and span[0] < span[1]
        )
        if any(first[1] > second[0] for first, second in itertools.pairwise(spans)):
            return False
    return True


def optimum_on_a_grid(problem: Problem) -> int:
    """Least height, by trying every offset below a height that surely suffices."""
    sizes = problem["size"]
    highest = sum(sizes) + sum(problem["alignment"])
    fixed = [f for f in problem["fixed_offset"] if f is not None]
    highest += max(fixed, default=0)
    for height in range(max(sizes), highest + 1):
        places = [
            range(0, height - size + 1, step)
            for size, step in zip(sizes, problem["alignment"], strict=True)
        ]
        if any(is_valid(problem, offset) for offset in itertools.product(*places)):
            return height
    raise AssertionError("no layout")


def optimum_by_permutations(ranges: list[tuple[int, int, int]]) -> int:
    """Least height: first fit is optimal in the order of an optimal layout."""
    best = sum(size for _, _, size in ranges)
    for order in itertools.permutations(ranges):
        placed: list[tuple[int, int, int, int]] = []
        for lower, upper, size in order:
            beside = sorted(
                (at, end)
                for low, high, at, end in placed
                if low < upper and lower < high
            )
            offset = 0
            for at, end in beside:
                if offset + size <= at:
                    break
                offset = max(offset, end)
            placed.append((lower, upper, offset, offset + size))
        best = min(best, max(end for *_, end in placed))
    return best


def pieces_of(
    problem: Problem,
) -> tuple[list[list[Piece]], list[int], list[int | None]]:
    """The rigid bodies: (lower, upper, low, high) of their pieces, alignment, fixed."""
    n = len(problem["size"])
    bodies: dict[object, list[int]] = {}
    for b in range(n):
        name = problem["group"][b]
        bodies.setdefault(("alone", b) if name is None else name, []).append(b)
    all_pieces: list[list[Piece]] = []
    alignments: list[int] = []
    fixed: list[int | None] = []
    for members in bodies.values():
        pieces: list[Piece] = []
        end, its_fixed = 0, None
        for b in members:
            step = problem["alignment"][b]
            base = -(-end // step) * step
            end = base + problem["size"][b]
            if problem["fixed_offset"][b] is not None:
                its_fixed = problem["fixed_offset"][b] - base
            for at in range(problem["lower"][b], problem["upper"][b]):
                span = taken_at(problem, b, at)
                if span and span[0] < span[1]:
                    pieces.append((at, at + 1, base + span[0], base + span[1]))
        pieces.append((-1, -1, 0, end))  # the whole counts for the height
        all_pieces.append(pieces)
        alignments.append(math.lcm(*(problem["alignment"][b] for b in members)))
        fixed.append(its_fixed)
    return all_pieces, alignments, fixed


def optimum_by_orders(problem: Problem) -> int:
    """Least height, by trying for every two pieces that collide which is below.

    Each choice is a least distance between two bodies; the lowest offsets that keep
    all distances are a least fixed point.
    """
    all_pieces, alignments, fixed = pieces_of(problem)
    extents = [max(high for *_, high in pieces) for pieces in all_pieces]
    n = len(extents)
    best = sum(extents) + sum(alignments) + max((f or 0 for f in fixed), default=0) + 1
    choices: list[tuple[int, int, int]] = []

    def lowest() -> list[int] | None:
        offset = [f or 0 for f in fixed]
        moved = True
        while moved:
            moved = False
            for below, above, distance in choices:
                floor = offset[below] + distance
                if offset[above] < floor:
                    step = alignments[above]
                    offset[above] = -(-floor // step) * step
                    if fixed[above] is not None:
                        return None
                    if offset[above] + extents[above] >= best:
                        return None
                    moved = True
        return offset

    def collision(offset: list[int]) -> tuple[int, int, int, int] | None:
        for a, b in itertools.combinations(range(n), 2):
            for lower, upper, low, high in all_pieces[a]:
                for its_lower, its_upper, its_low, its_high in all_pieces[b]:
                    if (
                        max(lower, its_lower) < min(upper, its_upper)
                        and offset[a] + low < offset[b] + its_high
                        and offset[b] + its_low < offset[a] + high
                    ):
                        return a, b, high - its_low, its_high - low
        return None

    def search() -> None:
        nonlocal best
        offset = lowest()
        if offset is None:
            return
        found = collision(offset)
        if found is None:
            height = max(o + e for o, e in zip(offset, extents, strict=True))
            best = min(best, height)
            return
        a, b, a_below, b_below = found
        for choice in ((a, b, a_below), (b, a, b_below)):
            choices.append(choice)
            search()
            choices.pop()

    search()
    return best


@st.composite
def plain_ranges(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    ranges = []
    for _ in range(draw(st.integers(1, 7))):
        lower = draw(st.integers(0, 6))
        upper = lower + draw(st.integers(1, 5))
        ranges.append((lower, upper, draw(st.integers(1, 9))))
    return ranges


@st.composite
def problems(draw: st.DrawFn, *, with_windows: bool, with_groups: bool) -> Problem:
    n = draw(st.integers(1, 4))
    problem: Problem = {
        name: []
        for name in ("lower", "upper", "size", "alignment", "fixed_offset", "gaps")
    }
    problem["group"] = []
    for _ in range(n):
        lower = draw(st.integers(0, 3))
        upper = lower + draw(st.integers(1, 5))
        size = draw(st.integers(1, 4))
        gaps: list[tuple[int, ...]] = []
        if upper - lower > 2 and draw(st.booleans()):
            start = draw(st.integers(lower + 1, upper - 2))
            gaps.append((start, start + 1))
            if with_windows and draw(st.booleans()):
                low = draw(st.integers(0, size - 1))
                gaps[-1] = (start, start + 1, low, draw(st.integers(low + 1, size)))
        problem["lower"].append(lower)
        problem["upper"].append(upper)
        problem["size"].append(size)
        problem["alignment"].append(draw(st.sampled_from((1, 1, 2))))
        problem["fixed_offset"].append(None)
        problem["gaps"].append(gaps)
        problem["group"].append(
            draw(st.sampled_from((None, "a"))) if with_groups else None
        )
    if not with_groups and draw(st.booleans()):
        step = problem["alignment"][0]
        problem["fixed_offset"][0] = step * draw(st.integers(0, 3))
    return problem


@st.composite
def larger_problems(draw: st.DrawFn, *, most: int, with_groups: bool) -> Problem:
    """Up to `most` buffers with everything there is, in all mixtures."""
    n = draw(st.integers(2, most))
    lower = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    problem: Problem = {
        "lower": lower,
        "upper": [a + draw(st.integers(1, 5)) for a in lower],
        "size": draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)),
        "alignment": draw(
            st.lists(st.sampled_from((1, 1, 2, 3, 4, 6)), min_size=n, max_size=n)
        ),
        "fixed_offset": [None] * n,
        "gaps": [[] for _ in range(n)],
        "group": [None] * n,
    }
    for b in range(n):
        steps = range(problem["lower"][b], problem["upper"][b] + 1)
        ends = sorted(draw(st.sets(st.sampled_from(steps), max_size=4)))
        for start, stop in zip(ends[::2], ends[1::2], strict=False):
            low = draw(st.integers(0, problem["size"][b]))
            high = draw(st.integers(low, problem["size"][b]))
            window = (low, high) if with_groups and draw(st.booleans()) else ()
            problem["gaps"][b].append((start, stop, *window))
    if with_groups:
        names = st.sampled_from((None, None, "a", "b"))
        problem["group"] = draw(st.lists(names, min_size=n, max_size=n))
    if draw(st.booleans()):
        # The first of its group, so that no group begins below 0.
        name = problem["group"][0]
        members = [b for b in range(n) if problem["group"][b] == name]
        whole = problem["alignment"][0]
        if name is not None:
            whole = math.lcm(*(problem["alignment"][b] for b in members))
        problem["fixed_offset"][0] = whole * draw(st.integers(0, 3))
    return problem


def check_against(problem: Problem, optimum: int) -> None:
    layout = allocate(**problem, node_limit=NODES)
    assert is_valid(problem, tuple(layout.offset.tolist()))
    assert layout.height_bytes == optimum
    assert layout.proved_optimal
    fits = allocate(**problem, capacity=optimum, node_limit=NODES)
    assert fits.height_bytes == optimum
    with pytest.raises(CapacityError) as caught:
        allocate(**problem, capacity=optimum - 1, node_limit=NODES)
    conflict = caught.value.conflict  # type: ignore[attr-defined]
    assert conflict
    alone = {name: [values[b] for b in conflict] for name, values in problem.items()}
    with pytest.raises(CapacityError):
        allocate(**alone, capacity=optimum - 1, node_limit=NODES)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(plain_ranges())
def test_up_to_seven_rectangles_are_optimal(ranges: list[tuple[int, int, int]]) -> None:
    lower, upper, size = (list(column) for column in zip(*ranges, strict=True))
    problem: Problem = {"lower": lower, "upper": upper, "size": size}
    optimum = optimum_by_permutations(ranges)
    layout = allocate(**problem, node_limit=NODES)
    assert (layout.height_bytes, layout.proved_optimal) == (optimum, True)
    assert allocate(**problem, capacity=optimum, node_limit=NODES).height_bytes == (
        optimum
    )
    with pytest.raises(CapacityError) as caught:
        allocate(**problem, capacity=optimum - 1, node_limit=NODES)
    conflict = list(caught.value.conflict)  # type: ignore[attr-defined]
    assert optimum_by_permutations([ranges[b] for b in conflict]) >= optimum


@settings(derandomize=True, deadline=None, max_examples=120)
@given(problems(with_windows=False, with_groups=False))
def test_gaps_alignments_and_fixed_offsets_are_optimal(problem: Problem) -> None:
    check_against(problem, optimum_on_a_grid(problem))


@settings(derandomize=True, deadline=None, max_examples=120)
@given(problems(with_windows=True, with_groups=True))
def test_windows_and_groups_are_optimal(problem: Problem) -> None:
    check_against(problem, optimum_on_a_grid(problem))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(larger_problems(most=7, with_groups=False))
def test_seven_with_alignments_gaps_and_fixed_offsets_are_optimal(
    problem: Problem,
) -> None:
    check_against(problem, optimum_by_orders(problem))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(larger_problems(most=6, with_groups=True))
def test_six_with_windows_groups_and_all_else_are_optimal(problem: Problem) -> None:
    check_against(problem, optimum_by_orders(problem))


IDLE: dict[str, Problem] = {
    "three pieces for three bodies, two of one": {
        "lower": [0, 1, 0],
        "upper": [3, 3, 1],
        "size": [1, 2, 1],
        "gaps": [[(1, 2)], [], [(0, 1)]],
    },
    "the lower member of a group is idle": {
        "lower": [0, 0, 0],
        "upper": [1, 1, 1],
        "size": [1, 1, 2],
        "gaps": [[(0, 1)], [], []],
        "group": ["a", "a", None],
    },
    "a window is all that is taken": {
        "lower": [0, 0],
        "upper": [1, 1],
        "size": [3, 2],
        "gaps": [[(0, 1, 2, 3)], []],
    },
}


@pytest.mark.parametrize("option", [{}, {"engine": "greedy"}, {"capacity": 3}])
@pytest.mark.parametrize("name", IDLE)
def test_a_buffer_that_is_idle_all_its_life_spoils_nothing(
    name: str, option: Problem
) -> None:
    layout = allocate(**IDLE[name], node_limit=1000, **option)
    check_layout(make_buffers(**IDLE[name]), layout.offset, layout.height_bytes)
    assert layout.height_bytes == 3 or option == {"engine": "greedy"}


@pytest.mark.parametrize("capacity", [None, 6])
def test_a_buffer_that_is_idle_all_its_life_proves_nothing(
    capacity: int | None,
) -> None:
    """Four pieces for four bodies: the first has none, the third two."""
    problem: Problem = {
        "lower": [4, 4, 1, 2],
        "upper": [6, 5, 6, 4],
        "size": [2, 1, 3, 3],
        "fixed_offset": [None, 0, None, None],
        "gaps": [[(4, 6)], [], [(3, 4)], []],
    }
    layout = allocate(**problem, capacity=capacity, node_limit=NODES)
    assert layout.height_bytes == 6


def test_a_conflict_may_leave_out_a_whole_group() -> None:
    with pytest.raises(CapacityError):
        allocate(
            lower=[0, 0, 0, 2, 2, 3, 2],
            upper=[2, 1, 3, 4, 5, 6, 3],
            size=[3, 2, 3, 2, 3, 3, 3],
            alignment=[1, 1, 2, 1, 2, 1, 1],
            group=["a", "a", None, None, "b", "b", "b"],
            capacity=14,
            node_limit=NODES,
        )


def test_a_pool_may_take_a_whole_group() -> None:
    layout = allocate(
        lower=[0, 2, 1, 0],
        upper=[3, 4, 2, 2],
        size=[2, 2, 2, 4],
        alignment=[1, 2, 1, 1],
        group=["b", "b", "a", "a"],
        pools=[4, None],
        node_limit=NODES,
    )
    assert layout.pool is not None


@settings(derandomize=True, deadline=None, max_examples=60)
@given(problems(with_windows=True, with_groups=True))
def test_the_two_brute_forces_agree(problem: Problem) -> None:
    assert optimum_by_orders(problem) == optimum_on_a_grid(problem)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(larger_problems(most=5, with_groups=True), st.integers(0, 99))
def test_the_optimum_does_not_hang_on_the_seed(problem: Problem, seed: int) -> None:
    heights = {
        allocate(**problem, node_limit=NODES, seed=s, engine=engine).height_bytes
        for s in (0, seed)
        for engine in ("auto", "exact")
    }
    assert len(heights) == 1


# -- promises --------------------------------------------------------------------------


def random_problem(n: int, seed: int) -> Problem:
    random = np.random.default_rng(seed)
    lower = random.integers(0, 40, n)
    return {
        "lower": lower,
        "upper": lower + random.integers(1, 15, n),
        "size": random.integers(1, 100, n),
    }


@pytest.mark.parametrize("seed", range(8))
def test_no_limit_is_ever_worse_than_greedy(seed: int) -> None:
    problem = random_problem(60, seed)
    greedy = allocate(**problem, engine="greedy").height_bytes
    for node_limit in (0, 1, 50, 1000, 20_000):
        layout = allocate(**problem, node_limit=node_limit)
        assert layout.lower_bound_bytes <= layout.height_bytes <= greedy
        again = allocate(**problem, node_limit=node_limit)
        assert again.offset.tolist() == layout.offset.tolist()
    assert allocate(**problem, time_limit_seconds=0).height_bytes <= greedy


def odd_problem(n: int, seed: int, *, with_groups: bool) -> Problem:
    """Random buffers with gaps and alignments; with windows and groups on demand."""
    random = np.random.default_rng(seed)
    problem = random_problem(n, seed)
    problem["alignment"] = random.choice([1, 4, 16], n)
    problem["gaps"] = []
    for lower, upper, size in zip(
        problem["lower"], problem["upper"], problem["size"], strict=True
    ):
        gap: tuple[int, ...] = ()
        if upper - lower > 2 and random.random() < 0.5:
            gap = (int(lower) + 1, int(upper) - 1)
            if with_groups and random.random() < 0.5:
                gap = (*gap, 0, int(size) // 2)
        problem["gaps"].append([gap] if gap else None)
    if with_groups:
        problem["group"] = [b // 2 if b < n // 3 else None for b in range(n)]
    return problem


@pytest.mark.parametrize("with_groups", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_no_limit_is_ever_worse_than_greedy_whatever_there_is(
    seed: int, with_groups: bool
) -> None:
    problem = odd_problem(30, seed, with_groups=with_groups)
    buffers = make_buffers(**problem)
    greedy = allocate(**problem, engine="greedy").height_bytes
    for engine in ("auto", "exact", "large"):
        for node_limit in (0, 1, 50, 1000):
            limits: Problem = {"engine": engine, "node_limit": node_limit}
            layout = allocate(**problem, **limits)
            assert layout.lower_bound_bytes <= layout.height_bytes <= greedy
            check_layout(buffers, layout.offset, layout.height_bytes)
            again = allocate(**problem, **limits)
            assert again.offset.tolist() == layout.offset.tolist()


def unproved_problem() -> tuple[Problem, int, int]:
    """Buffers whose greedy height is above the bound, with both."""
    for seed in range(100):
        problem = random_problem(60, seed)
        greedy = allocate(**problem, engine="greedy")
        if not greedy.proved_optimal:
            return problem, greedy.height_bytes, greedy.lower_bound_bytes
    raise AssertionError("greedy is always optimal")


def test_a_limit_that_is_reached_is_not_called_impossible() -> None:
    problem, height, bound = unproved_problem()
    with pytest.raises(TimeLimitError, match="not known") as caught:
        allocate(**problem, capacity=bound, node_limit=1)
    layout = caught.value.layout  # type: ignore[attr-defined]
    assert layout.height_bytes == height
    check_layout(make_buffers(**problem), layout.offset, layout.height_bytes)


def test_an_interrupt_returns_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ExactEngine, "minimize", interrupt)
    problem, height, _ = unproved_problem()
    layout = allocate(**problem)
    assert layout.stats["interrupted"]
    assert layout.height_bytes == height


def test_an_interrupt_of_a_decision_is_not_called_impossible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ExactEngine, "decide", interrupt)
    problem, height, bound = unproved_problem()
    with pytest.raises(TimeLimitError, match=r"not known .* interrupted") as caught:
        allocate(**problem, capacity=bound)
    layout = caught.value.layout  # type: ignore[attr-defined]
    assert (layout.height_bytes, layout.stats["interrupted"]) == (height, True)
    check_layout(make_buffers(**problem), layout.offset, layout.height_bytes)


def test_an_interrupt_midway_keeps_what_was_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The third dive is interrupted; what the search found before is kept."""
    problem, height, _ = unproved_problem()
    dive, dives = ExactEngine.dive, itertools.count()

    def interrupted(self: ExactEngine, *given_: Any) -> int:
        if next(dives) == 3:
            raise KeyboardInterrupt
        return dive(self, *given_)

    monkeypatch.setattr(ExactEngine, "dive", interrupted)
    layout = allocate(**problem, node_limit=10**9)
    assert layout.height_bytes <= height
    check_layout(make_buffers(**problem), layout.offset, layout.height_bytes)
    assert layout.stats["interrupted"] or layout.proved_optimal


@pytest.mark.parametrize("engine", ["auto", "greedy", "exact", "large"])
def test_every_engine_keeps_the_rules(engine: str) -> None:
    problem = random_problem(80, 1)
    layout = allocate(**problem, engine=engine, node_limit=3000)
    check_layout(make_buffers(**problem), layout.offset, layout.height_bytes)


@pytest.mark.parametrize(
    "option",
    [
        {"capacity": -1},
        {"capacity": 1.5},
        {"node_limit": -1},
        {"time_limit_seconds": float("nan")},
        {"time_limit_seconds": -1},
        {"seed": -1},
        {"engine": "magic"},
    ],
)
def test_options_that_make_no_sense(option: Problem) -> None:
    name = next(iter(option))
    with pytest.raises(InvalidParameterError, match=name):
        allocate([0], [1], [1], **option)


def test_the_exact_engine_says_how_many_it_takes() -> None:
    n = 2001
    with pytest.raises(InvalidParameterError, match="at most 2000"):
        allocate(np.arange(n), np.arange(n) + 5, np.full(n, 3), engine="exact")


def test_the_largest_buffer_is_a_proof() -> None:
    with pytest.raises(CapacityError, match="Number 0 alone does not fit") as caught:
        allocate([0, 0], [1, 1], [9, 4], capacity=8)
    assert caught.value.conflict == (0,)  # type: ignore[attr-defined]


def cut(n: int, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Cut a rectangle of 1,000 bytes, always the largest part, into `n`."""
    random = np.random.default_rng(seed)
    parts = [(0, 1000, 0, 1000)]
    while len(parts) < n:
        parts.sort(key=lambda p: (p[1] - p[0]) * (p[3] - p[2]))
        a, b, c, d = parts.pop()
        if random.random() < 0.5:
            k = int(random.integers(a + 1, b))
            parts += [(a, k, c, d), (k, b, c, d)]
        else:
            k = int(random.integers(c + 1, d))
            parts += [(a, b, c, k), (a, b, k, d)]
    random.shuffle(parts)
    return [p[0] for p in parts], [p[1] for p in parts], [p[3] - p[2] for p in parts]


@pytest.mark.parametrize("n", [10, 30, 60])
@pytest.mark.parametrize("seed", range(4))
def test_perfect_packings_are_found(n: int, seed: int) -> None:
    layout = allocate(*cut(n, seed), node_limit=NODES)
    assert layout.height_bytes == layout.lower_bound_bytes == 1000


@pytest.mark.parametrize("name", list("ABCDEFJ"))
def test_the_hard_instances_of_minimalloc_fit(name: str) -> None:
    path = HARD / f"{name}.1048576.csv"
    if not path.is_file():
        pytest.skip(f"the instances of minimalloc are absent: {path}")
    buffers = read_buffers(path).buffers
    layout = allocate_buffers(buffers, 1 << 20, None, SearchOptions(node_limit=400_000))
    assert layout.height_bytes <= 1 << 20


def test_compiling_is_not_searching() -> None:
    budget = Budget(None, 0.05)
    with budget.stopped():
        time.sleep(0.1)
    assert not budget.is_over
    time.sleep(0.1)
    assert budget.is_over


@pytest.mark.parametrize("is_compiled", [True, False])
def test_time_counts_of_compiled_loops_alone(is_compiled: bool) -> None:
    budget = Budget(None, 0.05)

    def load() -> bool:
        time.sleep(0.1)
        return is_compiled

    with budget.counting_compiled(load):
        assert not budget.is_over
        time.sleep(0.1)
    assert budget.is_over is is_compiled
