"""A chain with bytes rounded to slots, in arrays for compiled functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.checkpoint.chain import ActionKind, Chain
from arena_ckpt.kernels.hot_loops import routine
from arena_ckpt.operations.array_types import Doubles, Integers

Records = np.ndarray[Any, Any]


CELL = np.dtype(
    [
        ("start", np.int64),  # of its times in the pool
        ("least", np.int64),  # the first slot that is enough
        ("enough", np.int64),  # the first slot beyond which no time is gained
        ("time", np.float64),  # there
    ],
    align=True,
)
"""The times of stages s … t, at index t (t + 1) / 2 + s of the table, or at index t of
a row."""


MOVE = np.dtype(
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
"""A way to save some stages, or to take a single one backward alone."""


KINDS = tuple(ActionKind)


CHECKPOINT, SWEEP, SAVE, BACKWARD, SOLO = range(5)


assert [kind.name for kind in KINDS] == [
    "CHECKPOINT",
    "SWEEP",
    "SAVE",
    "BACKWARD",
    "SOLO",
]


@dataclass(frozen=True, eq=False)
class Grid:
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
        """Return the first arguments of every compiled function of this folder."""
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


def make_grid(
    chain: Chain, max_bytes: int, n_slots: int, n_options: int | None
) -> Grid:
    """Round a chain to slots, with at most `n_options` ways to do each thing."""
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
    return Grid(
        n_slots=max_bytes // slot_bytes + 1,
        slot_bytes=slot_bytes,
        first_bytes=max_bytes % slot_bytes,
        derivative_bytes=np.ascontiguousarray(chain.derivative_bytes),
        cut_slots=np.ascontiguousarray(-(-chain.cut_bytes // slot_bytes)),
        sweep_bytes=np.ascontiguousarray(chain.sweep_bytes),
        forward_time=np.ascontiguousarray(chain.forward_time),
        saves=np.array([row for rows in saves for row in rows], dtype=MOVE),
        first_save=np.cumsum([0, *map(len, saves)]),
        solos=np.array(solos, dtype=MOVE),
        first_solo=np.array(first_solo),
    )


Move = tuple[int, int, int, int, int, int, float]


def _save_moves(
    chain: Chain, slot_bytes: int, n_options: int | None
) -> list[list[Move]]:
    """Return for each first stage the ways to save it alone, then those to save runs.

    A stage that has fewer options than the run needs takes its last one.
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


@routine
def first_slot(n_bytes: int, sizes: Integers) -> int:
    """Return the first slot of at least `n_bytes`."""
    missing = n_bytes - sizes[2]
    return (missing + sizes[1] - 1) // sizes[1] if missing > 0 else 0


@routine
def need_of(move: Any, derivative_bytes: int) -> int:
    """Return the peak in bytes of a way to save or to do stages."""
    forward: int = move["forward_bytes"] + derivative_bytes
    backward: int = move["backward_bytes"]
    return max(forward, backward)


@routine
def lower(best: Doubles, time: float, tail: Doubles) -> None:
    """Lower the best times to the times of one tail where these are less."""
    for i in range(best.size):
        new = time + tail[i]
        best[i] = new if new < best[i] else best[i]


@routine
def lower_plus(best: Doubles, time: float, tail: Doubles, constant: float) -> None:
    """Lower the best times to the times of a tail plus a constant."""
    for i in range(best.size):
        new = (time + tail[i]) + constant
        best[i] = new if new < best[i] else best[i]


@routine
def lower_both(best: Doubles, time: float, tail: Doubles, head: Doubles) -> None:
    """Lower the best times to the times of a tail plus those of a head."""
    for i in range(best.size):
        new = (time + tail[i]) + head[i]
        best[i] = new if new < best[i] else best[i]


@routine
def lower_to(best: Doubles, time: float) -> None:
    """Lower the best times to one constant time."""
    for i in range(best.size):
        best[i] = time if time < best[i] else best[i]


@routine
def append_action(
    rows: Integers, n: int, kind: int, stage: int, option: int
) -> Integers:
    """Write an action behind `n` others; return the table, or a larger copy of it."""
    if n == len(rows):
        larger = np.empty((2 * n, 3), dtype=np.int64)
        larger[:n] = rows
        rows = larger
    rows[n, 0], rows[n, 1], rows[n, 2] = kind, stage, option
    return rows
