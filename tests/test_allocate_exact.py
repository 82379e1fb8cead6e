"""The engines against brute force, and what they promise: optimal, never worse."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.allocation import allocate
from arena_ckpt.allocation.allocator import allocate_buffers
from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.allocation.exact import ExactEngine
from arena_ckpt.allocation.minimalloc_csv import read_buffers
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.errors import CapacityError, InvalidParameterError, TimeLimitError

NODES = 200_000
HARD = Path(__file__).parents[2] / "shared/data/allocation/minimalloc"
Problem = dict[str, Any]


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
    with pytest.raises(CapacityError):
        allocate(**problem, capacity=optimum - 1, node_limit=NODES)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(problems(with_windows=False, with_groups=False))
def test_gaps_alignments_and_fixed_offsets_are_optimal(problem: Problem) -> None:
    check_against(problem, optimum_on_a_grid(problem))


@settings(derandomize=True, deadline=None, max_examples=120)
@given(problems(with_windows=True, with_groups=True))
def test_windows_and_groups_are_optimal(problem: Problem) -> None:
    check_against(problem, optimum_on_a_grid(problem))


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
    with pytest.raises(CapacityError) as caught:
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
    layout = allocate(*cut(n, seed), node_limit=400_000)
    assert layout.height_bytes == layout.lower_bound_bytes == 1000


@pytest.mark.parametrize("name", list("ABCDEFJ"))
def test_the_hard_instances_of_minimalloc_fit(name: str) -> None:
    path = HARD / f"{name}.1048576.csv"
    if not path.is_file():
        pytest.skip(f"the instances of minimalloc are absent: {path}")
    buffers = read_buffers(path).buffers
    layout = allocate_buffers(buffers, capacity=1 << 20, node_limit=400_000)
    assert layout.height_bytes <= 1 << 20
