"""The table of a chain whose stages are dropped in blocks and recomputed once."""

from __future__ import annotations

from typing import Any

import numpy as np

from arena_ckpt.checkpoint.chain_slots import (
    BACKWARD,
    CHECKPOINT,
    SAVE,
    SOLO,
    SWEEP,
    Records,
    first_slot,
    lower,
    lower_to,
    need_of,
)
from arena_ckpt.kernels.hot_loops import compiled, routine
from arena_ckpt.operations.array_types import Doubles, Integers


@routine
def _blocks(
    s: int,
    sizes: Integers,
    derivative_bytes: Integers,
    sweep_bytes: Integers,
    forward_time: Doubles,
    saves: Records,
    first_save: Integers,
    solos: Records,
    first_solo: Integers,
    need: Integers,
    time: Doubles,
) -> None:
    """Set the slots and the time of dropping stages s … p-1 and running them again.

    When the stages run again they keep all; that is counted in exact bytes, not in
    slots.
    """
    n = forward_time.size
    sweep_peak, sweep_time = 0, 0.0
    held, kept_time = 0, 0.0
    forward_peak = backward_peak = -(2**62)
    for p in range(s + 1, n):
        stage = p - 1
        sweep_peak = max(sweep_peak, sweep_bytes[s, stage])
        sweep_time += forward_time[stage]
        solo = solos[first_solo[stage]]
        peak = max(sweep_peak + derivative_bytes[n], held + solo["backward_bytes"])
        peak = max(peak, max(forward_peak + derivative_bytes[p], backward_peak))
        need[p] = first_slot(peak, sizes)
        time[p] = sweep_time + (kept_time + solo["time"])
        save = saves[first_save[stage]]
        forward_peak = max(forward_peak, held + save["forward_bytes"])
        backward_peak = max(backward_peak, held + save["backward_bytes"])
        held += save["saved_bytes"]
        kept_time += save["time"]


@compiled
def solve_one_level(
    sizes: Integers,
    derivative_bytes: Integers,
    cut_slots: Integers,
    sweep_bytes: Integers,
    forward_time: Doubles,
    saves: Records,
    first_save: Integers,
    solos: Records,
    first_solo: Integers,
) -> Doubles:
    """Return the least times of stages s … S-1 for every slot, for all s."""
    n, n_slots = forward_time.size, sizes[0]
    times = np.full((n, n_slots), np.inf)
    block_need = np.empty(n, dtype=np.int64)
    block_time = np.empty(n)
    for s in range(n - 1, -1, -1):
        best = times[s]
        for i in range(first_save[s], first_save[s + 1]):
            move = saves[i]
            p, slots = move["stop"], move["slots"]
            low = first_slot(need_of(move, derivative_bytes[n]), sizes)
            if s == n - 1 and low < n_slots:
                lower_to(best[low:], move["time"])
            low = max(low, slots)
            if p < n and low < n_slots:
                tail = times[p, low - slots : n_slots - slots]
                lower(best[low:], move["time"], tail)
        _blocks(
            s,
            sizes,
            derivative_bytes,
            sweep_bytes,
            forward_time,
            saves,
            first_save,
            solos,
            first_solo,
            block_need,
            block_time,
        )
        for p in range(s + 1, n):
            slots = cut_slots[s, p]
            low = max(block_need[p], slots)
            if low < n_slots:
                tail = times[p, low - slots : n_slots - slots]
                lower(best[low:], block_time[p], tail)
    return times.reshape(-1)


@compiled
def read_one_level(
    sizes: Integers,
    derivative_bytes: Integers,
    cut_slots: Integers,
    sweep_bytes: Integers,
    forward_time: Doubles,
    saves: Records,
    first_save: Integers,
    solos: Records,
    first_solo: Integers,
    pool: Doubles,
    slot: int,
) -> Integers:
    """Return the actions (kind, stage, option) of the fastest schedule for a slot."""
    n, n_slots = forward_time.size, sizes[0]
    times = pool.reshape((n, n_slots))
    block_need = np.empty(n, dtype=np.int64)
    block_time = np.empty(n)
    is_block = np.zeros(n + 1, dtype=np.bool_)  # from a stage that begins one
    next_stop = np.zeros(n + 1, dtype=np.int64)
    s = 0
    while s < n:
        target = times[s, slot]
        stop = 0
        for i in range(first_save[s], first_save[s + 1]):
            move = saves[i]
            p, left = move["stop"], slot - move["slots"]
            if first_slot(need_of(move, derivative_bytes[n]), sizes) > slot:
                continue
            time = move["time"]
            if p < n:
                time += times[p, left] if left >= 0 else np.inf
            if (p < n or s == n - 1) and time == target:
                stop = p
                break
        if not stop:
            _blocks(
                s,
                sizes,
                derivative_bytes,
                sweep_bytes,
                forward_time,
                saves,
                first_save,
                solos,
                first_solo,
                block_need,
                block_time,
            )
            for p in range(s + 1, n):
                left = slot - cut_slots[s, p]
                fits = left >= 0 and block_need[p] <= slot
                if fits and block_time[p] + times[p, left] == target:
                    stop = p
                    break
            is_block[s] = True
        next_stop[s] = stop
        s, slot = stop, left
    return _one_level_actions(is_block, next_stop)


@routine
def _one_level_actions(is_block: Any, next_stop: Integers) -> Integers:
    """Return the actions for stages that are saved and blocks that run again."""
    n = next_stop.size - 1
    begins = np.empty(n, dtype=np.int64)
    rows = np.empty((4 * n, 3), dtype=np.int64)
    rows[:, 2] = 0
    n_rows = n_parts = s = 0
    while s < n:
        for stage in range(s, next_stop[s]):
            kind = SAVE if not is_block[s] else SWEEP if stage > s else CHECKPOINT
            rows[n_rows, 0], rows[n_rows, 1] = kind, stage
            n_rows += 1
        begins[n_parts] = s
        n_parts += 1
        s = next_stop[s]
    for part in range(n_parts - 1, -1, -1):
        s = begins[part]
        stop = next_stop[s]
        if is_block[s]:
            for stage in range(s, stop - 1):
                rows[n_rows, 0], rows[n_rows, 1] = SAVE, stage
                n_rows += 1
        for stage in range(stop - 1, s - 1, -1):
            alone = is_block[s] and stage == stop - 1
            rows[n_rows, 0], rows[n_rows, 1] = SOLO if alone else BACKWARD, stage
            n_rows += 1
    return rows[:n_rows].copy()
