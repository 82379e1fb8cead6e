"""The table of a chain in which recomputed stages can be recomputed again."""

from __future__ import annotations

from typing import Any

import numpy as np

from arena_ckpt.checkpoint.chain_slots import (
    BACKWARD,
    CELL,
    CHECKPOINT,
    SAVE,
    SOLO,
    SWEEP,
    Records,
    append_action,
    first_slot,
    lower,
    lower_both,
    lower_plus,
    lower_to,
    need_of,
)
from arena_ckpt.kernels.hot_loops import compiled, routine
from arena_ckpt.operations.array_types import Doubles, Integers

_ROWS = 16


_NO_STAGE = -1


def cell_times(cell: Any, pool: Doubles, n_slots: int) -> Doubles:
    """Return the times of a cell for every slot."""
    times = np.full(n_slots, np.inf)
    least, enough, start = (int(cell[x]) for x in ("least", "enough", "start"))
    if least < n_slots:
        times[least:enough] = pool[start : start + enough - least]
        times[enough:] = cell["time"]
    return times


@routine
def _first_at_most(times: Doubles, bound: float, first: int) -> int:
    """Return the first place from `first` on with a time of at most `bound`."""
    low, high = first, times.size
    while low < high:
        middle = (low + high) >> 1
        if times[middle] <= bound:
            high = middle
        else:
            low = middle + 1
    return low


@routine
def _save_first(
    best: Doubles,
    moves: Records,
    t: int,
    column: Records,
    pool: Doubles,
    derivative_bytes: int,
    sizes: Integers,
) -> int:
    """Lower the best times to those of saving the first stage; return their slot."""
    n_slots = least = best.size
    for move in moves:
        if move["stop"] > t:
            continue
        tail, slots = column[move["stop"]], move["slots"]
        low = first_slot(need_of(move, derivative_bytes), sizes)
        low = max(low, tail["least"] + slots)
        if low >= n_slots:
            continue
        least = min(least, low)
        start = tail["start"] - tail["least"] - slots
        high = max(low, min(n_slots, tail["enough"] + slots))
        lower(best[low:high], move["time"], pool[start + low : start + high])
        lower_to(best[high:], move["time"] + tail["time"])
    return least


@routine
def _checkpoint_first(
    best: Doubles,
    s: int,
    t: int,
    column: Records,
    row: Records,
    pool: Doubles,
    cut_slots: Integers,
    sweep_time: Doubles,
    sweep_peak: Integers,
    derivative_bytes: int,
    sizes: Integers,
) -> int:
    """Lower the best times to those of a checkpoint first; return their least slot."""
    n_slots = least = best.size
    for p in range(s + 1, t + 1):
        tail, head = column[p], row[p - 1]
        slots, time = cut_slots[p], sweep_time[p]
        low = max(tail["least"] + slots, head["least"])
        if low >= n_slots:
            continue
        limit = (time + tail["time"]) + head["time"]
        if best[low] <= limit:
            continue
        low = max(low, first_slot(sweep_peak[p] + derivative_bytes, sizes))
        if low >= n_slots or best[low] <= limit:
            continue
        least = min(least, low)
        # From `stop` on nothing is gained. A tail or head that has enough takes one
        # time from there on.
        stop = _first_at_most(best, limit, low + 1)
        tail_enough = max(low, min(stop, tail["enough"] + slots))
        head_enough = max(low, min(stop, head["enough"]))
        both = min(tail_enough, head_enough)
        tail_start = tail["start"] - tail["least"] - slots
        head_start = head["start"] - head["least"]
        heads = pool[head_start + low : head_start + head_enough]
        tails = pool[tail_start + low : tail_start + tail_enough]
        lower_both(best[low:both], time, tails, heads)
        if both < tail_enough:
            lower_plus(best[both:tail_enough], time, tails[both - low :], head["time"])
        elif both < head_enough:
            lower(best[both:head_enough], time + tail["time"], heads[both - low :])
        lower_to(best[max(tail_enough, head_enough) : stop], limit)
    return least


@routine
def _do_alone(best: Doubles, moves: Records, derivative: int, sizes: Integers) -> int:
    """Lower the best times to those of doing one stage; return their least slot."""
    n_slots = sizes[0]
    least = n_slots
    for move in moves:
        slot = first_slot(need_of(move, derivative), sizes)
        if slot < n_slots:
            least = min(least, slot)
            lower_to(best[slot:], move["time"])
    return int(least)


@routine
def _with_room(pool: Doubles, used: int, size: int) -> Doubles:
    """Return the pool, or a larger copy if `size` more times do not fit."""
    if used + size <= pool.size:
        return pool
    larger = np.empty(pool.size + pool.size // 2)
    larger[:used] = pool[:used]
    return larger


@compiled
def solve_all_levels(
    sizes: Integers,
    derivative_bytes: Integers,
    cut_slots: Integers,
    sweep_bytes: Integers,
    forward_time: Doubles,
    saves: Records,
    first_save: Integers,
    solos: Records,
    first_solo: Integers,
) -> tuple[Records, Doubles]:
    """Return the cells of all pairs of stages, and the pool of their times.

    `_ROWS` first stages s are processed together for each last stage t, so that the
    times of the cells that end with t stay in the processor's cache.
    """
    n, n_slots = forward_time.size, sizes[0]
    cells = np.empty(n * (n + 1) // 2, dtype=CELL)
    rows = np.empty((_ROWS, n), dtype=CELL)
    pool = np.empty(16 * n * n_slots)
    used = 0
    best = np.empty(n_slots)
    sweep_time = np.zeros((_ROWS, n + 1))  # from stage s to a cut
    sweep_peak = np.zeros((_ROWS, n + 1), dtype=np.int64)
    for last in range(n - 1, -1, -_ROWS):
        first = max(0, last - _ROWS + 1)
        for s in range(first, last + 1):
            times, peaks = sweep_time[s - first], sweep_peak[s - first]
            times[s], peaks[s] = 0.0, 0
            for p in range(s + 1, n + 1):
                times[p] = times[p - 1] + forward_time[p - 1]
                peaks[p] = max(peaks[p - 1], sweep_bytes[s, p - 1])
        for t in range(first, n):
            column = cells[t * (t + 1) // 2 :]
            derivative = derivative_bytes[t + 1]
            for s in range(min(t, last), first - 1, -1):
                best[:] = np.inf
                if s < t:
                    moves = saves[first_save[s] : first_save[s + 1]]
                    least = _save_first(best, moves, t, column, pool, derivative, sizes)
                    least_beside = _checkpoint_first(
                        best,
                        s,
                        t,
                        column,
                        rows[s - first],
                        pool,
                        cut_slots[s],
                        sweep_time[s - first],
                        sweep_peak[s - first],
                        derivative,
                        sizes,
                    )
                    least = min(least, least_beside)
                elif s < n - 1:
                    moves = solos[first_solo[s] : first_solo[s + 1]]
                    least = _do_alone(best, moves, derivative, sizes)
                else:
                    moves = saves[first_save[s] : first_save[s + 1]]
                    least = _do_alone(best, moves, derivative, sizes)
                time = best[n_slots - 1]
                enough = _first_at_most(best, time, least)
                size = enough - least
                pool = _with_room(pool, used, size)
                pool[used : used + size] = best[least:enough]
                cell = column[s]
                cell["start"], cell["least"] = used, least
                cell["enough"], cell["time"] = enough, time
                rows[s - first, t] = cell
                used += size
    return cells, pool[:used]


@routine
def _time(cell: Any, pool: Doubles, slot: int) -> float:
    """Return the time of a cell within a number of slots, which may be negative."""
    time: float = np.inf
    if slot >= cell["enough"]:
        time = cell["time"]
    elif slot >= cell["least"]:
        time = pool[cell["start"] + slot - cell["least"]]
    return time


@routine
def _solo_of(
    solos: Records, derivative: int, sizes: Integers, slot: int, target: float
) -> int:
    """Return the index of a way to do one stage in the target time, or -1."""
    for i in range(solos.size):
        move = solos[i]
        need = first_slot(need_of(move, derivative), sizes)
        if need <= slot and move["time"] == target:
            return i
    return -1


@routine
def _save_of(
    saves: Records,
    s: int,
    t: int,
    column: Records,
    pool: Doubles,
    derivative: int,
    sizes: Integers,
    slot: int,
    target: float,
) -> int:
    """Return the index of a way to save the first of stages s … t, or -1.

    With it stages s … t take the target time. `column` begins at the cells that end
    with stage t.
    """
    for i in range(saves.size):
        move = saves[i]
        p, left = move["stop"], slot - move["slots"]
        if p > t > s or first_slot(need_of(move, derivative), sizes) > slot:
            continue
        time = move["time"]
        if s < t:
            time += _time(column[p], pool, left)
        if time == target:
            return i
    return -1


@routine
def _checkpoint_of(
    cells: Records,
    pool: Doubles,
    s: int,
    t: int,
    forward_time: Doubles,
    sweep_bytes: Integers,
    cut_slots: Integers,
    derivative: int,
    sizes: Integers,
    slot: int,
    target: float,
) -> int:
    """Return the stage whose input cut is the checkpoint of stages s … t, or -1.

    With it stages s … t take the target time. `sweep_bytes` and `cut_slots` are the
    rows of stage s.
    """
    column = t * (t + 1) // 2
    time, peak = 0.0, 0
    for p in range(s + 1, t + 1):
        time += forward_time[p - 1]
        peak = max(peak, sweep_bytes[p - 1])
        if first_slot(peak + derivative, sizes) > slot:
            return -1
        tail = _time(cells[column + p], pool, slot - cut_slots[p])
        head = _time(cells[(p - 1) * p // 2 + s], pool, slot)
        if (time + tail) + head == target:
            return p
    return -1


@compiled
def read_all_levels(
    sizes: Integers,
    derivative_bytes: Integers,
    cut_slots: Integers,
    sweep_bytes: Integers,
    forward_time: Doubles,
    saves: Records,
    first_save: Integers,
    solos: Records,
    first_solo: Integers,
    cells: Records,
    pool: Doubles,
    slot: int,
) -> Integers:
    """Return the actions (kind, stage, option) of the fastest schedule for a slot.

    Each choice is found again by the same sums as when the table was filled.
    """
    n = forward_time.size
    rows = np.empty((8 * n, 3), dtype=np.int64)
    n_rows = 0
    # What is yet to do, the next last: stages (s, t, slot), or a backward (stage,
    # _NO_STAGE, option).
    stack = np.empty((4 * n + 4, 3), dtype=np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, n - 1, slot
    height = 1
    while height:
        height -= 1
        s, t, slot = stack[height, 0], stack[height, 1], stack[height, 2]
        if t == _NO_STAGE:
            rows = append_action(rows, n_rows, BACKWARD, s, slot)
            n_rows += 1
            continue
        column = cells[t * (t + 1) // 2 :]
        target = _time(column[s], pool, slot)
        derivative = derivative_bytes[t + 1]
        if s == t < n - 1:
            moves = solos[first_solo[s] : first_solo[s + 1]]
            i = _solo_of(moves, derivative, sizes, slot, target)
            if i >= 0:
                rows = append_action(rows, n_rows, SOLO, s, moves[i]["option"])
                n_rows += 1
            continue
        moves = saves[first_save[s] : first_save[s + 1]]
        i = _save_of(moves, s, t, column, pool, derivative, sizes, slot, target)
        if i >= 0:
            move = moves[i]
            p = move["stop"]
            for stage in range(s, p):
                rows = append_action(rows, n_rows, SAVE, stage, move["option"])
                n_rows += 1
                stack[height, 0], stack[height, 1] = stage, _NO_STAGE
                stack[height, 2] = move["option"]
                height += 1
            if s < t:
                stack[height, 0], stack[height, 1] = p, t
                stack[height, 2] = slot - move["slots"]
                height += 1
            continue
        p = _checkpoint_of(
            cells,
            pool,
            s,
            t,
            forward_time,
            sweep_bytes[s],
            cut_slots[s],
            derivative,
            sizes,
            slot,
            target,
        )
        if p >= 0:
            for stage in range(s, p):
                kind = CHECKPOINT if stage == s else SWEEP
                rows = append_action(rows, n_rows, kind, stage, 0)
                n_rows += 1
            stack[height, 0], stack[height, 1], stack[height, 2] = s, p - 1, slot
            height += 1
            stack[height, 0], stack[height, 1] = p, t
            stack[height, 2] = slot - cut_slots[s, p]
            height += 1
    return rows[:n_rows].copy()
