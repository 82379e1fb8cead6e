"""The fastest recompute schedules of a chain for all budgets, from one table.

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

from arena_ckpt.checkpoint.chain import Action, Chain
from arena_ckpt.checkpoint.chain_blocks import read_one_level, solve_one_level
from arena_ckpt.checkpoint.chain_levels import (
    cell_times,
    read_all_levels,
    solve_all_levels,
)
from arena_ckpt.checkpoint.chain_slots import (
    BACKWARD,
    CELL,
    KINDS,
    SAVE,
    Grid,
    Records,
    make_grid,
)
from arena_ckpt.operations.array_types import Doubles, Integers

_TIME_SECONDS, _READ_SECONDS = 0.2e-6, 6e-6
"""Seconds that plain Python takes for a time that is tried, and for a pair of stages of
a schedule that is read."""


@dataclass(frozen=True, eq=False)
class ChainTable:
    """The fastest recompute schedule of a chain for each of many budgets.

    Attributes
    ----------
    chain : Chain
    slot_bytes : int
        Bytes between one budget and the next.
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
    _grid: Grid
    _cells: Records
    _pool: Doubles

    @property
    def least_slot(self) -> int | None:
        """First slot that has a recompute schedule; ``None`` if no slot has one."""
        found = np.flatnonzero(np.isfinite(self.times))
        return int(found[0]) if len(found) else None

    @property
    def table_bytes(self) -> int:
        """Bytes that the table takes."""
        return self._cells.nbytes + self._pool.nbytes

    @property
    def front_slots(self) -> tuple[int, ...]:
        """Slots whose schedule is faster than that of the slot before."""
        before = np.concatenate([[np.inf], self.times[:-1]])
        return tuple(np.flatnonzero(self.times < before).tolist())

    def slot_of(self, budget_bytes: int) -> int | None:
        """Return the last slot within a budget in bytes, or ``None``."""
        slot = int(np.searchsorted(self.budgets, budget_bytes, side="right")) - 1
        return slot if slot >= 0 else None

    def schedule(self, slot: int) -> tuple[Action, ...]:
        """Return the fastest recompute schedule within the bytes of a slot.

        Among recompute schedules of the same time it prefers saving to checkpoints,
        then the lower option, then the earlier cut.

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
            read: Any = read_one_level
        else:
            tables, read = (self._cells, self._pool), read_all_levels
        read = read.taking(_READ_SECONDS * len(self.chain) ** 2)
        rows = read(*grid.arguments(), *tables, slot)
        actions: dict[tuple[int, ...], Action] = {}
        schedule = []
        for kind, stage, run_option in rows.tolist():
            option = run_option
            if kind in (SAVE, BACKWARD):
                option = min(option, len(self.chain.saves[stage]) - 1)
            action = actions.get((kind, stage, option))
            if action is None:
                action = Action(KINDS[kind], stage, option)
                actions[kind, stage, option] = action
            schedule.append(action)
        return tuple(schedule)


def solve(
    chain: Chain, max_bytes: int, n_slots: int = 500, levels: int | None = None
) -> ChainTable:
    """Find the fastest recompute schedules of a chain for budgets up to `max_bytes`.

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
    grid = make_grid(chain, max_bytes, n_slots, 1 if levels == 1 else None)
    cells = np.empty(0, dtype=CELL)
    n, n_moves = len(chain), len(grid.saves)
    if levels == 1:
        n_tries = (n**2 // 2 + n_moves) * grid.n_slots
        fill_one_level = solve_one_level.taking(_TIME_SECONDS * n_tries)
        pool = fill_one_level(*grid.arguments())
        times = pool[: grid.n_slots].copy()
    else:
        n_tries = (n**3 // 6 + n * n_moves // 2) * grid.n_slots
        fill_all_levels = solve_all_levels.taking(_TIME_SECONDS * n_tries)
        cells, pool = fill_all_levels(*grid.arguments())
        times = cell_times(cells[-len(chain)], pool, grid.n_slots)
    budgets = grid.first_bytes + grid.slot_bytes * np.arange(grid.n_slots)
    return ChainTable(chain, grid.slot_bytes, budgets, times, levels, grid, cells, pool)
