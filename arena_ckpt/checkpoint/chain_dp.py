"""The fastest schedule of a chain within any number of bytes: one table for all.

With C(s, t, m) the least time to take stages s … t forward and backward, while cut s is
held (not counted), the derivative of cut t+1 is there (counted), and m bytes are free:

- a single stage goes backward from its input cut by one of its solo options, or, at the
  end of the chain, runs forward and then backward by one of its save options;
- *save*: the first stages run forward and save; what follows does with less; then they
  go backward;
- *checkpoint* a later cut p: run forward to it keeping no other, do p … t beside it,
  drop it, and do s … p-1 with all of m.

So a checkpoint stays until the stage before it goes backward: the schedules are
*persistent*, and among these the answer is optimal where no size was rounded. (Others
can be better; no polynomial algorithm is known for them.)

Sizes are rounded up to slots and capacities lie a whole number of slots below the most
bytes asked for, so a schedule never takes more than its budget. The loss is less than a
slot for each entry held at once. To keep it small where many stages save, runs of 2, 4,
8, … stages may save together and are rounded as one, if that takes fewer slots.

Time is O(S³ · slots) at worst. For a pair (s, t) only the slots between the first that
is enough and the first that all of the time needs are kept and added up; and a
checkpoint is tried only at slots where the best so far is above the least it could
ever give. The values are the same as without.

References
----------
Beaumont, Eyraud-Dubois, Herrmann, Joly, Shilova: "Optimal checkpointing for
heterogeneous chains: how to train deep neural networks with limited memory",
RR-9302, Inria, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.checkpoint.chain import Action, ActionKind, Chain
from arena_ckpt.kernels.jit import Doubles, Integers, compiled, routine

Records = np.ndarray[Any, Any]

_CELL = np.dtype(
    [
        ("start", np.int64),  # of its times in the pool
        ("least", np.int64),  # the first slot that is enough
        ("enough", np.int64),  # the first slot beyond which no time is gained
        ("time", np.float64),  # there
    ],
    align=True,
)
"""Of stages s … t, at place t (t + 1) / 2 + s; in a row, at place t."""

_MOVE = np.dtype(
    [
        ("stop", np.int64),  # the first stage after those that save together
        ("option", np.int64),  # or the last of a stage, if it has fewer
        ("saved_bytes", np.int64),
        ("slots", np.int64),  # for these
        ("forward_bytes", np.int64),
        ("backward_bytes", np.int64),
        ("time", np.float64),  # forward and backward
    ],
    align=True,
)
"""A way to save some stages, or to do a single one."""

_ROWS = 16
_NO_STAGE = -1
_KINDS = tuple(ActionKind)
_CHECKPOINT, _SWEEP, _SAVE, _BACKWARD, _SOLO = range(5)
assert [kind.name for kind in _KINDS] == [
    "CHECKPOINT",
    "SWEEP",
    "SAVE",
    "BACKWARD",
    "SOLO",
]


@dataclass(frozen=True, eq=False)
class ChainTable:
    """The fastest schedule of a chain for each of many budgets.

    Attributes
    ----------
    chain : Chain
    slot_bytes : int
        Between one budget and the next.
    budgets : int64 array, shape (slots,)
        Bytes beside the model's input, ascending; the last is what was asked for.
    times : float64 array, shape (slots,)
        Least time found within each; infinite where none was found.
    levels : int or None
        1 if no stage is recomputed twice within a block.
    """

    chain: Chain
    slot_bytes: int
    budgets: Integers
    times: Doubles
    levels: int | None
    _grid: _Grid
    _cells: Records
    _pool: Doubles

    @property
    def least_slot(self) -> int | None:
        """The first slot with a schedule; ``None`` if no slot has one."""
        found = np.flatnonzero(np.isfinite(self.times))
        return int(found[0]) if len(found) else None

    @property
    def table_bytes(self) -> int:
        """Bytes that the table holds."""
        return self._cells.nbytes + self._pool.nbytes

    @property
    def front_slots(self) -> tuple[int, ...]:
        """The slots with less time than the one before: other schedules begin there."""
        before = np.concatenate([[np.inf], self.times[:-1]])
        return tuple(np.flatnonzero(self.times < before).tolist())

    def slot_of(self, budget_bytes: int) -> int | None:
        """Return the last slot within a budget, or ``None`` if the first is above."""
        slot = int(np.searchsorted(self.budgets, budget_bytes, side="right")) - 1
        return slot if slot >= 0 else None

    def schedule(self, slot: int) -> tuple[Action, ...]:
        """Return a schedule of the slot's time within the slot's bytes.

        Of schedules with the same time it prefers saving to checkpoints, then the lower
        option, then the earlier cut.

        Raises
        ------
        ValueError
            A slot for which there is none.
        """
        if not np.isfinite(self.times[slot]):
            raise ValueError(
                f"no schedule within {self.budgets[slot]} bytes; the first slot with "
                f"one is {self.least_slot}"
            )
        grid = self._grid
        if self.levels == 1:
            tables: tuple[Any, ...] = (self._pool,)
            read: Any = _read_one_level
        else:
            tables, read = (self._cells, self._pool), _read_all_levels
        rows = read(*grid.arguments(), *tables, slot)
        actions: dict[tuple[int, ...], Action] = {}
        schedule = []
        for kind, stage, run_option in rows.tolist():
            option = run_option
            if kind in (_SAVE, _BACKWARD):
                option = min(option, len(self.chain.saves[stage]) - 1)
            action = actions.get((kind, stage, option))
            if action is None:
                action = Action(_KINDS[kind], stage, option)
                actions[kind, stage, option] = action
            schedule.append(action)
        return tuple(schedule)


def solve(
    chain: Chain, max_bytes: int, n_slots: int = 500, levels: int | None = None
) -> ChainTable:
    """Find the fastest schedules of a chain for all budgets up to `max_bytes`.

    Parameters
    ----------
    chain : Chain
    max_bytes : int
        The largest budget, beside the model's input.
    n_slots : int
        Budgets to tell apart, at most; there are fewer where a slot of whole bytes is
        larger than that.
    levels : 1 or None
        1 for what named checkpoint blocks can say: at the top stages save by option 0
        or are dropped from one cut to a later; whatever was dropped runs again once,
        saves by option 0, and its last stage goes backward by solo option 0.

    Returns
    -------
    ChainTable

    Raises
    ------
    ValueError
        A negative budget, no slots, or other levels.

    Notes
    -----
    Takes up to 4 S² (slots + 4) bytes, a third of that if `max_bytes` is just enough to
    keep all. O(S² · slots) time where `levels` is 1. From some 500 stages on merge
    stages first (`merge_stages`).
    """
    if max_bytes < 0 or n_slots < 1:
        raise ValueError(f"{max_bytes} bytes in {n_slots} slots")
    if levels not in (None, 1):
        raise ValueError(f"levels is 1 or None, not {levels}")
    grid = _make_grid(chain, max_bytes, n_slots, 1 if levels == 1 else None)
    cells = np.empty(0, dtype=_CELL)
    if levels == 1:
        pool = _solve_one_level(*grid.arguments())
        times = pool[: grid.n_slots].copy()
    else:
        cells, pool = _solve_all_levels(*grid.arguments())
        times = _times(cells[-len(chain)], pool, grid.n_slots)
    budgets = grid.first_bytes + grid.slot_bytes * np.arange(grid.n_slots)
    return ChainTable(chain, grid.slot_bytes, budgets, times, levels, grid, cells, pool)


@dataclass(frozen=True, eq=False)
class _Grid:
    """A chain in slots, in arrays for compiled functions."""

    n_slots: int
    slot_bytes: int
    first_bytes: int
    derivative_bytes: Integers
    cut_slots: Integers
    sweep_bytes: Integers
    forward_time: Doubles
    saves: Records
    first_save: Integers
    solos: Records
    first_solo: Integers

    def arguments(self) -> tuple[Any, ...]:
        """Return what every compiled function here begins with."""
        return (
            np.array([self.n_slots, self.slot_bytes, self.first_bytes]),
            self.derivative_bytes,
            self.cut_slots,
            self.sweep_bytes,
            self.forward_time,
            self.saves,
            self.first_save,
            self.solos,
            self.first_solo,
        )


def _make_grid(
    chain: Chain, max_bytes: int, n_slots: int, n_options: int | None
) -> _Grid:
    """Round a chain to slots, with no more than `n_options` ways to do each thing."""
    slot_bytes = max(1, -(-max_bytes // n_slots))
    saves = _save_moves(chain, slot_bytes, n_options)
    solos, first_solo = [], [0]
    for stage, options in enumerate(chain.solos):
        # The peak of a solo option counts the derivative already.
        derivative = int(chain.derivative_bytes[stage + 1])
        solos += [
            (stage + 1, option, 0, 0, -derivative, solo.peak_bytes, solo.time)
            for option, solo in enumerate(options[:n_options])
        ]
        first_solo.append(len(solos))
    return _Grid(
        n_slots=max_bytes // slot_bytes + 1,
        slot_bytes=slot_bytes,
        first_bytes=max_bytes % slot_bytes,
        derivative_bytes=np.ascontiguousarray(chain.derivative_bytes),
        cut_slots=np.ascontiguousarray(-(-chain.cut_bytes // slot_bytes)),
        sweep_bytes=np.ascontiguousarray(chain.sweep_bytes),
        forward_time=np.ascontiguousarray(chain.forward_time),
        saves=np.array([row for rows in saves for row in rows], dtype=_MOVE),
        first_save=np.cumsum([0, *map(len, saves)]),
        solos=np.array(solos, dtype=_MOVE),
        first_solo=np.array(first_solo),
    )


Move = tuple[int, int, int, int, int, int, float]


def _save_moves(
    chain: Chain, slot_bytes: int, n_options: int | None
) -> list[list[Move]]:
    """Return for each first stage the ways to save it alone, then those in runs.

    A stage that has fewer options than the run's takes its last.
    """
    n = len(chain)
    count = np.array([len(options[:n_options]) for options in chain.saves])
    alone: list[list[Move]] = [[] for _ in range(n)]
    runs: list[list[Move]] = [[] for _ in range(n)]
    for option in range(int(count.max())):
        saves = [
            options[min(option, most - 1)]
            for options, most in zip(chain.saves, count.tolist(), strict=True)
        ]
        held = np.array([save.saved_bytes for save in saves])
        forward = np.array([save.forward_bytes for save in saves])
        backward = np.array([save.backward_bytes for save in saves])
        time = chain.forward_time + [save.backward_time for save in saves]
        slots = -(-held // slot_bytes)
        most, size = count, 1
        while True:
            together = -(-held // slot_bytes)
            stop = np.arange(size, n + 1)
            columns = (held, together, forward, backward, time)
            rows = zip(
                stop.tolist(), *(column.tolist() for column in columns), strict=True
            )
            worth = (most > option) & ((size == 1) | (together < slots))
            for first, (end, *row) in enumerate(rows):
                if worth[first]:
                    (alone if size == 1 else runs)[first].append((end, option, *row))
            if slot_bytes == 1 or 2 * size > n:
                break  # nothing is rounded, or no longer run
            forward = np.maximum(forward[:-size], held[:-size] + forward[size:])
            backward = np.maximum(backward[:-size], held[:-size] + backward[size:])
            held, slots = held[:-size] + held[size:], slots[:-size] + slots[size:]
            time, most = (
                time[:-size] + time[size:],
                np.maximum(most[:-size], most[size:]),
            )
            size *= 2
    return [[*some, *others] for some, others in zip(alone, runs, strict=True)]


def _times(cell: Any, pool: Doubles, n_slots: int) -> Doubles:
    """Return the times of a cell for every slot."""
    times = np.full(n_slots, np.inf)
    least, enough, start = (int(cell[x]) for x in ("least", "enough", "start"))
    if least < n_slots:
        times[least:enough] = pool[start : start + enough - least]
        times[enough:] = cell["time"]
    return times


@routine
def _slot(n_bytes: int, sizes: Integers) -> int:
    """Return the first slot of at least so many bytes."""
    missing = n_bytes - sizes[2]
    return (missing + sizes[1] - 1) // sizes[1] if missing > 0 else 0


@routine
def _need(move: Any, derivative_bytes: int) -> int:
    """Return the peak bytes of a way to save or to do stages."""
    forward: int = move["forward_bytes"] + derivative_bytes
    backward: int = move["backward_bytes"]
    return max(forward, backward)


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
def _lower(best: Doubles, time: float, tail: Doubles) -> None:
    """Lower the best times to those of one tail where it takes less."""
    for i in range(best.size):
        new = time + tail[i]
        best[i] = new if new < best[i] else best[i]


@routine
def _lower_plus(best: Doubles, time: float, tail: Doubles, constant: float) -> None:
    """Lower the best times to a tail's and a constant."""
    for i in range(best.size):
        new = (time + tail[i]) + constant
        best[i] = new if new < best[i] else best[i]


@routine
def _lower_both(best: Doubles, time: float, tail: Doubles, head: Doubles) -> None:
    """Lower the best times to those of a tail and a head."""
    for i in range(best.size):
        new = (time + tail[i]) + head[i]
        best[i] = new if new < best[i] else best[i]


@routine
def _lower_to(best: Doubles, time: float) -> None:
    """Lower the best times to one."""
    for i in range(best.size):
        best[i] = time if time < best[i] else best[i]


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
    """Lower the best times to those of saving first; return the least slot of these."""
    n_slots = least = best.size
    for move in moves:
        if move["stop"] > t:
            continue
        tail, slots = column[move["stop"]], move["slots"]
        low = _slot(_need(move, derivative_bytes), sizes)
        low = max(low, tail["least"] + slots)
        if low >= n_slots:
            continue
        least = min(least, low)
        start = tail["start"] - tail["least"] - slots
        high = max(low, min(n_slots, tail["enough"] + slots))
        _lower(best[low:high], move["time"], pool[start + low : start + high])
        _lower_to(best[high:], move["time"] + tail["time"])
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
        low = max(low, _slot(sweep_peak[p] + derivative_bytes, sizes))
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
        _lower_both(best[low:both], time, tails, heads)
        if both < tail_enough:
            _lower_plus(best[both:tail_enough], time, tails[both - low :], head["time"])
        elif both < head_enough:
            _lower(best[both:head_enough], time + tail["time"], heads[both - low :])
        _lower_to(best[max(tail_enough, head_enough) : stop], limit)
    return least


@compiled
def _solve_all_levels(
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

    `_ROWS` first stages go together through the last stages, so that the times of what
    ends there are read from the cache.
    """
    n, n_slots = forward_time.size, sizes[0]
    cells = np.empty(n * (n + 1) // 2, dtype=_CELL)
    rows = np.empty((_ROWS, n), dtype=_CELL)
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
                else:
                    alone = solos[first_solo[s] : first_solo[s + 1]]
                    if s == n - 1:
                        alone = saves[first_save[s] : first_save[s + 1]]
                    least = n_slots
                    for move in alone:
                        slot = _slot(_need(move, derivative), sizes)
                        if slot < n_slots:
                            least = min(least, slot)
                            _lower_to(best[slot:], move["time"])
                time = best[n_slots - 1]
                enough = _first_at_most(best, time, least)
                size = enough - least
                if used + size > pool.size:
                    larger = np.empty(pool.size + pool.size // 2)
                    larger[:used] = pool[:used]
                    pool = larger
                pool[used : used + size] = best[least:enough]
                cell = column[s]
                cell["start"], cell["least"] = used, least
                cell["enough"], cell["time"] = enough, time
                rows[s - first, t] = cell
                used += size
    return cells, pool[:used]


@routine
def _time(cell: Any, pool: Doubles, slot: int) -> float:
    """Return the time of a cell with so many slots, which may be below zero."""
    time: float = np.inf
    if slot >= cell["enough"]:
        time = cell["time"]
    elif slot >= cell["least"]:
        time = pool[cell["start"] + slot - cell["least"]]
    return time


@routine
def _append(rows: Integers, n: int, kind: int, stage: int, option: int) -> Integers:
    """Write an action behind `n` others, in a larger table if this one is full."""
    if n == len(rows):
        larger = np.empty((2 * n, 3), dtype=np.int64)
        larger[:n] = rows
        rows = larger
    rows[n, 0], rows[n, 1], rows[n, 2] = kind, stage, option
    return rows


@compiled
def _read_all_levels(
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
    """Return the actions (kind, stage, option) of a schedule for a slot.

    The choices are made again, by the same sums as when the table was filled.
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
            rows = _append(rows, n_rows, _BACKWARD, s, slot)
            n_rows += 1
            continue
        column = t * (t + 1) // 2
        target = _time(cells[column + s], pool, slot)
        derivative = derivative_bytes[t + 1]
        if s == t < n - 1:
            for i in range(first_solo[s], first_solo[s + 1]):
                move = solos[i]
                need = _slot(_need(move, derivative), sizes)
                if need <= slot and move["time"] == target:
                    rows = _append(rows, n_rows, _SOLO, s, move["option"])
                    n_rows += 1
                    break
            continue
        found = False
        for i in range(first_save[s], first_save[s + 1]):
            move = saves[i]
            p, left = move["stop"], slot - move["slots"]
            if p > t > s or _slot(_need(move, derivative), sizes) > slot:
                continue
            time = move["time"]
            if s < t:
                time += _time(cells[column + p], pool, left)
            if time != target:
                continue
            for stage in range(s, p):
                rows = _append(rows, n_rows, _SAVE, stage, move["option"])
                n_rows += 1
                stack[height, 0], stack[height, 1] = stage, _NO_STAGE
                stack[height, 2] = move["option"]
                height += 1
            if s < t:
                stack[height, 0], stack[height, 1], stack[height, 2] = p, t, left
                height += 1
            found = True
            break
        if found:
            continue
        time, peak = 0.0, 0
        for p in range(s + 1, t + 1):
            time += forward_time[p - 1]
            peak = max(peak, sweep_bytes[s, p - 1])
            if _slot(peak + derivative, sizes) > slot:
                break
            left = slot - cut_slots[s, p]
            tail = _time(cells[column + p], pool, left)
            head = _time(cells[(p - 1) * p // 2 + s], pool, slot)
            if (time + tail) + head == target:
                for stage in range(s, p):
                    kind = _CHECKPOINT if stage == s else _SWEEP
                    rows = _append(rows, n_rows, kind, stage, 0)
                    n_rows += 1
                stack[height, 0], stack[height, 1], stack[height, 2] = s, p - 1, slot
                height += 1
                stack[height, 0], stack[height, 1], stack[height, 2] = p, t, left
                height += 1
                break
    return rows[:n_rows].copy()


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
    """Set slots needed for and time of dropping stages s … p-1 and running them again.

    That they keep all when they run again is counted in bytes, not in slots.
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
        need[p] = _slot(peak, sizes)
        time[p] = sweep_time + (kept_time + solo["time"])
        save = saves[first_save[stage]]
        forward_peak = max(forward_peak, held + save["forward_bytes"])
        backward_peak = max(backward_peak, held + save["backward_bytes"])
        held += save["saved_bytes"]
        kept_time += save["time"]


@compiled
def _solve_one_level(
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
    """Return the times of stages s … S-1 for every slot, one s after another."""
    n, n_slots = forward_time.size, sizes[0]
    times = np.full((n, n_slots), np.inf)
    block_need = np.empty(n, dtype=np.int64)
    block_time = np.empty(n)
    for s in range(n - 1, -1, -1):
        best = times[s]
        for i in range(first_save[s], first_save[s + 1]):
            move = saves[i]
            p, slots = move["stop"], move["slots"]
            low = _slot(_need(move, derivative_bytes[n]), sizes)
            if s == n - 1 and low < n_slots:
                _lower_to(best[low:], move["time"])
            low = max(low, slots)
            if p < n and low < n_slots:
                tail = times[p, low - slots : n_slots - slots]
                _lower(best[low:], move["time"], tail)
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
                _lower(best[low:], block_time[p], tail)
    return times.reshape(-1)


@compiled
def _read_one_level(
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
    """Return the actions (kind, stage, option) of a schedule for a slot."""
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
            if _slot(_need(move, derivative_bytes[n]), sizes) > slot:
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
    """Write out which stages save and which are dropped and run again."""
    n = next_stop.size - 1
    begins = np.empty(n, dtype=np.int64)
    rows = np.empty((4 * n, 3), dtype=np.int64)
    rows[:, 2] = 0
    n_rows = n_parts = s = 0
    while s < n:
        for stage in range(s, next_stop[s]):
            kind = _SAVE if not is_block[s] else _SWEEP if stage > s else _CHECKPOINT
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
                rows[n_rows, 0], rows[n_rows, 1] = _SAVE, stage
                n_rows += 1
        for stage in range(stop - 1, s - 1, -1):
            alone = is_block[s] and stage == stop - 1
            rows[n_rows, 0], rows[n_rows, 1] = _SOLO if alone else _BACKWARD, stage
            n_rows += 1
    return rows[:n_rows].copy()
