"""Chains: known values, replays, and searches of all schedules of small ones."""

import heapq
import itertools
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from helpers import TESTS
from helpers.random_chains import fingerprint, random_chain
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.checkpoint.chain import (
    Action,
    ActionKind,
    Chain,
    ImpossibleActionError,
    SaveOption,
    SoloOption,
    replay,
)
from arena_ckpt.checkpoint.chain_dp import ChainTable, solve
from arena_ckpt.checkpoint.chain_merge import merge_stages
from arena_ckpt.checkpoint.front import FrontPoint, best_points

CHECKPOINT, SWEEP, SAVE, BACKWARD, SOLO = ActionKind
OUT_OF_REACH = 10**6


def unit_chain(n: int, can_save: bool = True) -> Chain:
    """Return n stages whose forward takes 1 and backward 0, where all sizes are 1.

    The input is not counted. A stage that runs holds its input and its output, so a
    sweep takes 1 from a cut that is held and 2 further on; a backward needs the input
    alone, and 1 to run forward for it. What a stage saves is its output.
    """
    save, last = SaveOption(1, 1, 1, 0.0), SaveOption(1, 1, 1, 0.0)
    if not can_save:
        save = SaveOption(1, OUT_OF_REACH, 1, 0.0)
    ones = np.ones((n + 1, n + 1), dtype=np.int64)
    return Chain(
        cut_bytes=np.triu(ones, 1),
        derivative_bytes=np.zeros(n + 1, dtype=np.int64),
        sweep_bytes=(np.triu(ones) + np.triu(ones, 1))[:n, :n],
        forward_time=np.ones(n),
        saves=((save,),) * (n - 1) + ((last,),),
        solos=((SoloOption(1, 1.0),),) * (n - 1) + ((),),
    )


@pytest.mark.parametrize(
    ("n", "counts"),
    [
        (5, [14, 8, 7, 5, 5]),
        (10, [54, 26, 19, 17, 15, 14, 13, 12, 10, 10]),
        (20, [209, 79, 55, 46, 38]),
    ],
)
def test_unit_chains_take_the_known_number_of_forwards(
    n: int, counts: list[int]
) -> None:
    table = solve(unit_chain(n), max_bytes=len(counts) + 1)

    assert table.slot_bytes == 1
    assert table.least_slot == 2
    assert table.times[2:].tolist() == counts


@pytest.mark.parametrize("levels", [None, 1])
def test_the_slot_of_a_budget_is_the_last_within_it(levels: int | None) -> None:
    table = solve(random_chain(6), max_bytes=40 * 2**20, n_slots=50, levels=levels)
    budgets = table.budgets.tolist()
    assert len(budgets) == 50
    for slot, budget in enumerate(budgets):
        assert table.slot_of(budget) == slot
        assert table.slot_of(budget - 1) == (slot - 1 if slot else None)
    assert table.slot_of(budgets[-1] + 10**12) == 49


def test_a_front_begins_with_the_first_schedule_and_goes_on_where_time_falls() -> None:
    table = solve(unit_chain(10), max_bytes=12)
    # inf, inf, 54, 26, 19, 17, 15, 14, 13, 12, 10, 10, 10
    assert table.front_slots == (2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert table.least_slot == 2


def test_of_plans_only_those_that_none_beats_are_points() -> None:
    plan: Any = None
    given = [(12, 0.3), (10, 0.5), (14, 0.1), (10, 0.3), (15, 0.1), (16, 0.2)]
    points = [FrontPoint(f"{i}", *point, plan) for i, point in enumerate(given)]
    assert [point.label for point in best_points(points)] == ["3", "2"]
    assert best_points([]) == ()


def test_unit_chains_equal_another_programs() -> None:
    peer = pytest.importorskip(
        "checkpoint_schedules", reason="pip install checkpoint-schedules (LGPL)"
    )
    mixed = pytest.importorskip("checkpoint_schedules.mixed").optimal_steps_mixed
    for n in range(2, 41):
        both = solve(unit_chain(n), max_bytes=n)
        revolve = solve(unit_chain(n, can_save=False), max_bytes=n)
        for m in range(2, n + 1):
            assert both.times[m] == mixed(n, m - 1)
            assert revolve.times[m] == peer.optimal_steps_binomial(n, m - 1)


# -- random chains ---------------------------------------------------------------------


@st.composite
def chains(draw: st.DrawFn, largest: int = 5) -> Chain:
    """Draw chains of small whole numbers, with skip connections."""
    n = draw(st.integers(1, largest))
    small, times = st.integers(0, 4), st.integers(0, 6).map(float)
    # A tensor lies in the cuts of a range; cut_bytes[i, j] are those in j and not in i.
    tensors = [(j, j, draw(st.integers(1, 4))) for j in range(n + 1)]
    for _ in range(draw(st.integers(0, 2))):
        ends = sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))
        tensors.append((ends[0], ends[1], draw(small)))
    cut = np.zeros((n + 1, n + 1), dtype=np.int64)
    for i, j in itertools.combinations_with_replacement(range(n + 1), 2):
        cut[i, j] = sum(z for a, b, z in tensors if a <= j <= b and not a <= i <= b)
    derivative = np.array([draw(small) for _ in range(n + 1)])
    sweep = np.zeros((n, n), dtype=np.int64)
    for i, s in itertools.combinations_with_replacement(range(n), 2):
        sweep[i, s] = cut[i, s] + cut[s, s + 1] + draw(st.integers(0, 2))
    saves, solos = [], []
    for s in range(n):
        out = int(cut[s, s + 1])
        beside = int(derivative[s] + derivative[s + 1])
        options = []
        for dropped in range(draw(st.integers(1, 3))):
            saved = out + draw(small)
            forward = saved + draw(small)
            backward = saved + beside + draw(small)
            time = dropped + draw(times)
            options.append(SaveOption(saved, forward, backward, time))
        saves.append(tuple(sorted(options, key=lambda o: o.backward_time)))
        alone = [
            SoloOption(beside + draw(small), draw(times))
            for _ in range(draw(st.integers(1, 2)) if s < n - 1 else 0)
        ]
        solos.append(tuple(sorted(alone, key=lambda o: o.time)))
    forward = np.array([draw(times) for _ in range(n)])
    return Chain(cut, derivative, sweep, forward, tuple(saves), tuple(solos))


def enough_bytes(chain: Chain) -> int:
    """Return bytes in which every schedule fits that holds each stage once."""
    peaks = [
        max(save.saved_bytes, save.forward_bytes, save.backward_bytes)
        for options in chain.saves
        for save in options
    ]
    alone = [solo.peak_bytes for options in chain.solos for solo in options]
    return sum(peaks) + sum(alone) + int(chain.derivative_bytes.max())


def check_slots(table: ChainTable) -> None:
    """Check that the schedules are what the table says they are."""
    for slot, claim in enumerate(table.times.tolist()):
        if not np.isfinite(claim):
            with pytest.raises(ValueError, match="no schedule within"):
                table.schedule(slot)
            continue
        result = replay(table.chain, table.schedule(slot))
        assert result.time == pytest.approx(claim, rel=1e-9)
        assert result.peak_bytes <= table.budgets[slot]


# A state of the search: stages to do, and the entries held: (from cut, to cut, the
# option that saved it or None), and whether the last was just run to.
Held = tuple[int, int, int | None]
State = tuple[int, tuple[Held, ...], bool]


def least_time(chain: Chain, capacity: int, persistent: bool) -> float:
    """Return the least time within `capacity`, by Dijkstra's search of all states.

    With `persistent`, a cut is swept on from only at once after it was made, and what
    is held stays until its stage goes backward. Without, anything on top may be dropped
    at any time, and any stage may save.
    """
    n = len(chain)
    start: State = (n, (), False)
    best = {start: 0.0}
    ids = itertools.count()
    queue = [(0.0, next(ids), start)]
    while queue:
        time, _, state = heapq.heappop(queue)
        if state[0] == 0:
            return time
        if time > best[state]:
            continue
        for peak, extra, following in moves(chain, state, persistent):
            if peak <= capacity and time + extra < best.get(following, np.inf):
                best[following] = time + extra
                heapq.heappush(queue, (time + extra, next(ids), following))
    return float("inf")


def moves(
    chain: Chain, state: State, persistent: bool
) -> list[tuple[int, float, State]]:
    """Return what can be done in a state: peak bytes, time and the state after it."""
    todo, held, fresh = state
    n, derivative = len(chain), int(chain.derivative_bytes[todo])
    at = held[-1][1] if held else 0
    base = sum(entry_bytes(chain, entry) for entry in held)
    found: list[tuple[int, float, State]] = []
    if held and held[-1][2] is None and (not persistent or at >= todo):
        found.append((0, 0.0, (todo, held[:-1], False)))
    if held and held[-1][2] is not None and not persistent:
        found.append((0, 0.0, (todo, held[:-1], False)))
    if held and held[-1][2] is not None and at == todo:
        save = chain.saves[at - 1][held[-1][2]]
        below = base - entry_bytes(chain, held[-1])
        peak = below + save.backward_bytes
        found.append((peak, save.backward_time, (at - 1, held[:-1], False)))
    if at >= todo:
        return found
    if at + 1 == todo < n:
        for solo in chain.solos[at]:
            found.append((base + solo.peak_bytes, solo.time, (at, held, False)))
    forward = float(chain.forward_time[at])
    if at + 1 < todo:
        peak = base + int(chain.sweep_bytes[at, at]) + derivative
        after = (*held, (at, at + 1, None))
        found.append((peak, forward, (todo, after, True)))
        if held and held[-1][2] is None and (fresh or not persistent):
            origin = held[-1][0]
            below = base - entry_bytes(chain, held[-1])
            peak = below + int(chain.sweep_bytes[origin, at]) + derivative
            after = (*held[:-1], (origin, at + 1, None))
            found.append((peak, forward, (todo, after, True)))
    if at + 1 < todo or at == n - 1 or not persistent:
        for option, save in enumerate(chain.saves[at]):
            peak = base + save.forward_bytes + derivative
            after = (*held, (at, at + 1, option))
            found.append((peak, forward, (todo, after, False)))
    return found


def entry_bytes(chain: Chain, entry: Held) -> int:
    origin, cut, option = entry
    if option is None:
        return int(chain.cut_bytes[origin, cut])
    return chain.saves[origin][option].saved_bytes


@settings(max_examples=60, deadline=None)
@given(chains())
def test_with_slots_of_a_byte_nothing_persistent_is_faster(chain: Chain) -> None:
    most = enough_bytes(chain)
    table = solve(chain, most, n_slots=most)
    assert table.slot_bytes == 1
    check_slots(table)
    for slot in range(0, most + 1, max(1, most // 12)):
        assert table.times[slot] == least_time(chain, slot, persistent=True)
        assert table.times[slot] >= least_time(chain, slot, persistent=False)


@settings(max_examples=60, deadline=None)
@given(
    chains(largest=9), st.integers(1, 30), st.integers(0, 9), st.sampled_from([1, None])
)
def test_rounded_schedules_stay_within_their_slots(
    chain: Chain, n_slots: int, less: int, levels: int | None
) -> None:
    most = max(0, enough_bytes(chain) - less)
    table = solve(chain, most, n_slots, levels)
    exact = solve(chain, most, max(1, most), levels)

    assert len(table.times) <= n_slots + 1
    assert table.budgets[-1] == most
    check_slots(table)
    for slot, budget in enumerate(table.budgets.tolist()):
        within = exact.slot_of(budget)
        assert within is not None
        assert table.times[slot] >= exact.times[within]


def block_partitions(first: int, n: int) -> list[list[tuple[int, int]]]:
    """Return all ways to leave stages alone (s, s) or drop blocks (s, p), p < n."""
    if first == n:
        return [[]]
    found = [[(first, first), *rest] for rest in block_partitions(first + 1, n)]
    for p in range(first + 1, n):
        found += [[(first, p), *rest] for rest in block_partitions(p, n)]
    return found


def one_level(parts: list[tuple[int, int]]) -> list[Action]:
    """Return the schedule of a partition."""
    forward, backward = [], []
    for first, stop in parts:
        if first == stop:
            forward.append(Action(SAVE, first))
            backward = [Action(BACKWARD, first), *backward]
            continue
        for stage in range(first, stop):
            forward.append(Action(SWEEP if stage > first else CHECKPOINT, stage))
        again = [Action(SAVE, stage) for stage in range(first, stop - 1)]
        ends = [Action(BACKWARD, s) for s in reversed(range(first, stop - 1))]
        backward = [*again, Action(SOLO, stop - 1), *ends, *backward]
    return [*forward, *backward]


@settings(max_examples=60, deadline=None)
@given(chains())
def test_one_level_is_the_best_way_to_part_a_chain_into_blocks(chain: Chain) -> None:
    most = enough_bytes(chain)
    table = solve(chain, most, n_slots=most, levels=1)
    check_slots(table)
    results = [
        replay(chain, one_level(parts)) for parts in block_partitions(0, len(chain))
    ]
    best = [
        min((r.time for r in results if r.peak_bytes <= budget), default=np.inf)
        for budget in table.budgets.tolist()
    ]
    assert table.times.tolist() == best
    every_level = solve(chain, most, n_slots=most)
    assert (every_level.times <= table.times).all()


@settings(max_examples=40, deadline=None)
@given(chains(largest=8), st.sampled_from([1, None]))
def test_more_bytes_never_take_more_time(chain: Chain, levels: int | None) -> None:
    table = solve(chain, enough_bytes(chain), n_slots=40, levels=levels)

    assert (np.diff(table.times[np.isfinite(table.times)]) <= 0).all()
    assert np.isfinite(table.times[-1])
    least = table.least_slot
    assert least is not None
    assert np.isinf(table.times[:least]).all()
    assert table.front_slots[0] == least
    assert table.times[table.front_slots[-1]] == table.times[-1]


def test_too_few_bytes_are_visible() -> None:
    table = solve(unit_chain(6), max_bytes=1)

    assert table.least_slot is None
    assert table.front_slots == ()
    assert table.slot_of(-1) is None
    with pytest.raises(ValueError, match="no schedule within 1 bytes"):
        table.schedule(1)


def keep_all_bytes(chain: Chain) -> int:
    """Return bytes that suffice to recompute nothing."""
    saved = sum(options[0].saved_bytes for options in chain.saves)
    return saved + max(options[0].backward_bytes for options in chain.saves)


def test_saving_together_loses_a_slot_and_not_one_a_stage() -> None:
    chain = random_chain(60)
    least = float(chain.forward_time.sum()) + sum(
        options[0].backward_time for options in chain.saves
    )
    table = solve(chain, keep_all_bytes(chain), n_slots=80)
    assert table.times[-1] == pytest.approx(least)
    check_slots(table)


@settings(max_examples=60, deadline=None)
@given(chains(largest=9), st.integers(1, 4), st.sampled_from([1, None]))
def test_merged_schedules_are_schedules_of_the_original(
    chain: Chain, together: int, levels: int | None
) -> None:
    merged = merge_stages(chain, together)
    assert len(merged.chain) == -(-len(chain) // together)

    most = enough_bytes(chain)
    table = solve(merged.chain, most, n_slots=most, levels=levels)
    exact = solve(chain, most, n_slots=most)
    check_slots(table)
    assert (table.times >= exact.times).all()
    for slot in table.front_slots:
        actions = table.schedule(slot)
        result = replay(chain, merged.expand(actions))
        coarse = replay(merged.chain, actions)
        assert result.time == table.times[slot]
        assert result.peak_bytes == coarse.peak_bytes <= table.budgets[slot]
    if together == 1 and levels is None:
        assert (table.times == exact.times).all()


def test_a_thousand_stages_are_merged_and_their_schedules_expanded() -> None:
    chain = random_chain(1000)
    merged = merge_stages(chain, 5)
    table = solve(merged.chain, keep_all_bytes(chain), n_slots=250)

    for slot in table.front_slots[:: len(table.front_slots) // 5]:
        result = replay(chain, merged.expand(table.schedule(slot)))
        assert result.time == pytest.approx(table.times[slot], rel=1e-9)
        assert result.peak_bytes <= table.budgets[slot]


def test_every_process_finds_the_same_schedules() -> None:
    here = fingerprint()
    for seed in ("1", "2"):
        there = subprocess.run(
            [
                sys.executable,
                "-c",
                "from helpers.random_chains import fingerprint; print(fingerprint())",
            ],
            capture_output=True,
            text=True,
            check=True,
            cwd=TESTS,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert there.stdout.strip() == here


# -- replay and chains refuse what cannot be -------------------------------------------


@pytest.mark.parametrize(
    "actions",
    [
        [Action(SOLO, 2)],
        [Action(SWEEP, 0)],
        [Action(CHECKPOINT, 1)],
        [Action(SAVE, 0), Action(SAVE, 1), Action(BACKWARD, 1)],
        [Action(SAVE, 0), Action(SWEEP, 1)],
        [Action(SAVE, 0), Action(SAVE, 1), Action(SAVE, 2), Action(BACKWARD, 2, 1)],
        [Action(SAVE, 0), Action(SAVE, 1), Action(SAVE, 2), Action(BACKWARD, 2)],
    ],
)
def test_replay_refuses_what_is_impossible(actions: list[Action]) -> None:
    with pytest.raises(ImpossibleActionError, match=r"impossible|ends before stage 1"):
        replay(unit_chain(3), actions)


def test_replay_adds_up_what_is_held_what_runs_and_the_derivative() -> None:
    """Two stages; numbers of other sizes are told apart by their digits."""
    chain = Chain(
        cut_bytes=np.triu(np.full((3, 3), 3), 1),
        derivative_bytes=np.array([0, 10_000, 500]),
        sweep_bytes=np.triu(np.full((2, 2), 2_000)),
        forward_time=np.array([1.0, 2.0]),
        saves=(
            (SaveOption(20, 70, 40, 8.0),),
            (SaveOption(30, 60, 50, 16.0),),
        ),
        solos=((SoloOption(90, 4.0),), ()),
    )
    save_all = [Action(SAVE, 0), Action(SAVE, 1), Action(BACKWARD, 1)]
    # forward of stage 0: 70 and the derivative at the end; of stage 1 beside 20
    assert replay(chain, [*save_all, Action(BACKWARD, 0)]) == (20 + 60 + 500, 27.0, 1)
    sweep = [Action(CHECKPOINT, 0), Action(SAVE, 1), Action(BACKWARD, 1)]
    # the sweep: 2,000 and the derivative at the end
    assert replay(chain, [*sweep, Action(SOLO, 0)]) == (2_000 + 500, 23.0, 0)
    for n_done in (2, 3):
        with pytest.raises(ImpossibleActionError, match="ends before stage"):
            replay(chain, save_all[:n_done])


def test_replay_says_where_the_peak_is() -> None:
    actions = [
        Action(CHECKPOINT, 0),
        Action(SWEEP, 1),
        Action(SAVE, 2),
        Action(BACKWARD, 2),
        Action(SAVE, 0),
        Action(SOLO, 1),
        Action(BACKWARD, 0),
    ]
    assert replay(unit_chain(3), actions) == (2, 5.0, 1)


@pytest.mark.parametrize("budget", [(-1, 5, None), (5, 0, None), (5, 5, 2)])
def test_impossible_questions_are_refused(budget: tuple[int, int, int | None]) -> None:
    with pytest.raises(ValueError, match=r"bytes in|levels is 1 or None"):
        solve(unit_chain(3), *budget)


def test_chains_whose_numbers_do_not_match_are_refused() -> None:
    chain = unit_chain(3)
    fields = {name: getattr(chain, name) for name in Chain.__dataclass_fields__}
    for name, value, says in [
        ("forward_time", np.ones(4), "of a chain of 4 stages"),
        ("forward_time", np.array([1, np.nan, 1]), r"forward_time\[1\] is nan"),
        ("cut_bytes", -chain.cut_bytes, r"cut_bytes\[0, 1\] is -1"),
        ("saves", ((),) * 3, "stage 0 of 3 has 0 save options"),
        ("saves", chain.saves[:2], "save options for 2"),
        ("solos", ((),) * 3, "and 0 solo options"),
        ("solos", ((SoloOption(-1, 1.0),),) * 2 + ((),), "peak_bytes=-1"),
        ("saves", ((SaveOption(1, 1, 1, np.inf),),) * 3, "backward_time=inf"),
    ]:
        with pytest.raises(ValueError, match=says):
            Chain(**{**fields, name: value})
