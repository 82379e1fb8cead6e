"""Hot loops give the same numbers plain and compiled; little work loads no Numba."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
from helpers.random_chains import random_chain
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.allocation import allocate, first_fit, lowest_first, search, validate
from arena_ckpt.allocation.bodies import Bodies, make_bodies
from arena_ckpt.allocation.buffers import Buffers, make_buffers
from arena_ckpt.allocation.instance import make_instance
from arena_ckpt.checkpoint.chain_dp import ChainTable, solve
from arena_ckpt.errors import LayoutError
from arena_ckpt.kernels.hot_loops import LOADING_SECONDS, HotLoop

T = TypeVar("T")
SEED = st.integers(0, 2**32 - 1)


def plain(work: Callable[[], T]) -> T:
    """Do a piece of work with every hot loop in plain Python, whatever it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HotLoop, "taking", lambda loop, seconds: loop.plain)
        return work()


def compiled(work: Callable[[], T]) -> T:
    """Do a piece of work with every hot loop compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HotLoop, "taking", lambda loop, seconds: loop.compiled)
        return work()


def random_buffers(seed: int, n: int, *, are_rectangles: bool) -> Buffers:
    """Return buffers of random lives, sizes and alignments, some with gaps or fixed."""
    random = np.random.default_rng(seed)
    lower = random.integers(0, 12, n)
    upper = lower + random.integers(1, 8, n)
    size = random.integers(1, 100, n)
    alignment = 2 ** random.integers(0, 4, n)
    if are_rectangles:
        return make_buffers(lower, upper, size, alignment=alignment)
    gaps = [
        [(low + 1, low + 2)] if high > low + 2 and random.random() < 0.4 else None
        for low, high in zip(lower.tolist(), upper.tolist(), strict=True)
    ]
    fixed = [None] * n
    fixed[0] = int(8 * random.integers(0, 10))
    return make_buffers(
        lower, upper, size, alignment=alignment, gaps=gaps, fixed_offset=fixed
    )


# -- the same numbers ------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SEED, st.integers(1, 30))
def test_lowest_first_places_alike(seed: int, n: int) -> None:
    bodies = make_bodies(random_buffers(seed, n, are_rectangles=True))
    rank = np.random.default_rng(seed).permutation(n)
    one, other = (
        run(lambda: lowest_first.lowest_first(bodies, rank))
        for run in (plain, compiled)
    )
    np.testing.assert_array_equal(one, other)


def test_lowest_first_places_alike_in_several_blocks() -> None:
    n = 3 * lowest_first.BLOCK + 5
    bodies = make_bodies(random_buffers(0, n, are_rectangles=True))
    rank = np.random.default_rng(0).permutation(n)
    one, other = (
        run(lambda: lowest_first.lowest_first(bodies, rank))
        for run in (plain, compiled)
    )
    np.testing.assert_array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(SEED, st.integers(1, 30), st.booleans(), st.sampled_from([200, 2**62]))
def test_first_fit_places_alike(
    seed: int, n: int, are_rectangles: bool, capacity_bytes: int
) -> None:
    bodies = make_bodies(random_buffers(seed, n, are_rectangles=are_rectangles))
    order = np.random.default_rng(seed).permutation(n)
    one, other = (
        run(lambda: first_fit.first_fit(bodies, order, capacity_bytes))
        for run in (plain, compiled)
    )
    np.testing.assert_array_equal(one, other)


@settings(max_examples=40, deadline=None)
@given(SEED, st.integers(1, 20), st.booleans())
def test_the_validator_finds_the_same_conflict(seed: int, n: int, valid: bool) -> None:
    buffers = random_buffers(seed, n, are_rectangles=False)
    bodies = make_bodies(buffers)
    offset = bodies.buffer_offsets(first_fit.first_fit(bodies, np.arange(n)))
    if not valid:
        chosen = int(np.random.default_rng(seed).integers(n))
        offset[chosen] = 0

    def verdict() -> Any:
        try:
            validate.check_layout(buffers, offset, 2**40)
        except LayoutError as error:
            return error.rule, error.buffers, str(error)
        return None

    assert plain(verdict) == compiled(verdict)


@settings(max_examples=20, deadline=None)
@given(SEED, st.integers(2, 12))
def test_the_search_takes_the_same_steps(seed: int, n: int) -> None:
    bodies = make_bodies(random_buffers(seed, n, are_rectangles=True))
    rank = np.random.default_rng(seed).permutation(n)
    capacity = int(bodies.extent.sum()) * 3 // 4

    def course() -> list[tuple[int, int, list[int]]]:
        one = search.Search(make_instance(bodies), rank, capacity)
        found = []
        for _ in range(20):
            outcome = one.run(7)
            found.append((outcome, one.nodes, one.offset.tolist()))
            if outcome != search.PAUSED:
                break
        return found

    assert plain(course) == compiled(course)


def test_a_search_goes_on_compiled_where_plain_python_left_it() -> None:
    bodies = hard_bodies()

    def nodes(*turns: Callable[..., Any]) -> list[Any]:
        one = search.Search(make_instance(bodies), np.arange(len(bodies)), 1000)
        for turn in turns:
            turn(lambda: one.run(10))
        return [one.nodes, one.offset.tolist()]

    assert nodes(plain, compiled) == nodes(compiled, plain) == nodes(plain, plain)


def hard_bodies() -> Bodies:
    """Return 40 bodies that take more than some nodes to place."""
    return make_bodies(random_buffers(3, 40, are_rectangles=True))


@settings(max_examples=10, deadline=None)
@given(SEED, st.integers(1, 14), st.booleans())
def test_allocation_gives_the_same_layout(
    seed: int, n: int, are_rectangles: bool
) -> None:
    some = random_buffers(seed, n, are_rectangles=are_rectangles)

    def layout() -> Any:
        found = allocate(
            some.lower, some.upper, some.size, alignment=some.alignment, node_limit=500
        )
        facts = {key: found.stats[key] for key in ("nodes", "proof")}
        return found.offset.tolist(), found.engine, found.lower_bound_bytes, facts

    assert plain(layout) == compiled(layout)


@settings(max_examples=10, deadline=None)
@given(SEED, st.integers(1, 7), st.integers(1, 60), st.sampled_from([1, None]))
def test_tables_of_chains_and_their_schedules_are_the_same(
    seed: int, n: int, n_slots: int, levels: int | None
) -> None:
    chain = random_chain(n, seed)
    most_bytes = 2 * sum(options[0].saved_bytes for options in chain.saves)

    def table() -> ChainTable:
        return solve(chain, most_bytes, n_slots, levels)

    one, other = plain(table), compiled(table)
    assert one.times.tobytes() == other.times.tobytes()
    for slot in one.front_slots:
        schedules = [
            plain(lambda: one.schedule(slot)),  # noqa: B023 - called at once
            compiled(lambda: other.schedule(slot)),  # noqa: B023 - called at once
        ]
        assert schedules[0] == schedules[1]


# -- when Numba is loaded --------------------------------------------------------------


def in_a_child(code: str) -> None:
    """Run Python code in a process of its own, in which warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_placing_few_buffers_leaves_numba_out() -> None:
    in_a_child(
        "import sys\n"
        "import arena_ckpt as ac\n"
        "n = 200\n"
        "layout = ac.allocate(range(n), range(5, n + 5), range(1, n + 1))\n"
        "assert layout.height_bytes >= layout.lower_bound_bytes > 0\n"
        "heavy = {'numba', 'networkx', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )


def test_many_buffers_are_placed_by_compiled_loops() -> None:
    in_a_child(
        "import sys\n"
        "import arena_ckpt as ac\n"
        "n = 10_000\n"
        "ac.allocate(range(n), range(5, n + 5), [1] * n, engine='greedy')\n"
        "assert 'numba' in sys.modules\n"
    )


def test_plain_loops_take_no_longer_in_all_than_loading_numba() -> None:
    in_a_child(
        "import sys\n"
        "from arena_ckpt.kernels.hot_loops import compiled, is_plain, LOADING_SECONDS\n"
        "@compiled\n"
        "def loop(n):\n"
        "    return n + 1\n"
        "assert not is_plain(1.01 * LOADING_SECONDS)\n"
        "for _ in range(3):\n"
        "    assert loop.taking(0.3 * LOADING_SECONDS) is loop.plain\n"
        "assert is_plain(0) and 'numba' not in sys.modules\n"
        "assert loop.taking(0.3 * LOADING_SECONDS) is loop.compiled\n"
        "assert not is_plain(0) and 'numba' in sys.modules\n"
        "assert loop.plain(1) == loop.compiled(1) == loop(1) == 2\n"
    )


def test_numba_is_used_for_all_once_it_is_loaded() -> None:
    import numba  # noqa: F401

    loop = first_fit._place
    assert loop.taking(0) is loop.compiled is not loop.plain
    assert LOADING_SECONDS > 0


def test_compiled_loops_call_compiled_routines_of_the_file_they_stand_in() -> None:
    """Numba keeps code on disk by file, line and name; all are those of the source."""
    dispatcher: Any = first_fit._place.compiled
    written = first_fit._place.plain.__code__
    assert dispatcher.py_func.__code__ is written
    assert dispatcher.py_func.__module__ == first_fit.__name__
    assert dispatcher.py_func.__qualname__.startswith("_place_")
    routine = dispatcher.py_func.__globals__["_lowest_free"]
    assert routine.py_func.__code__ is first_fit._lowest_free.__code__
    assert type(routine) is type(dispatcher)
