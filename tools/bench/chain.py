#!/usr/bin/env python3
"""Time the search for the fastest schedules of a chain, at all budgets up to keep-all.

    tools/bench/chain.py [--rounds N] [--slots N] [--quick]

--rounds how often each is timed; medians are shown
--slots  budgets to tell apart
--quick  leave out what takes more than 10 seconds

Random heterogeneous stages with three save options each. Shown are the seconds of the
search (functions compiled) and of reading the schedule of the fewest bytes, the MiB of
the table, and the overhead at 10, 30 and 50 % of the bytes that keep all. Then 1,000
stages with fewer slots, and merged.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import numpy as np
from helpers.random_chains import random_chain

from arena_ckpt.checkpoint.chain import Chain
from arena_ckpt.checkpoint.chain_dp import ChainTable, solve
from arena_ckpt.checkpoint.chain_merge import merge_stages


def keep_all(chain: Chain) -> tuple[int, float]:
    """Return the bytes and the time in which nothing is recomputed."""
    first = [options[0] for options in chain.saves]
    n_bytes = sum(save.saved_bytes for save in first)
    seconds = float(chain.forward_time.sum()) + sum(
        save.backward_time for save in first
    )
    return n_bytes + max(save.backward_bytes for save in first), seconds


def show(
    name: str,
    chain: Chain,
    slots: int,
    rounds: int,
    levels: int | None = None,
    together: int = 1,
) -> None:
    """Time one search and print its line."""
    most, least_time = keep_all(chain)
    searches, reads = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        searched = merge_stages(chain, together).chain if together > 1 else chain
        table = solve(searched, most, slots, levels)
        searches.append(time.perf_counter() - began)
        began = time.perf_counter()
        if table.least_slot is not None:
            table.schedule(table.least_slot)
        reads.append(time.perf_counter() - began)
    print(
        f"{name:24} slots {slots:5}  {statistics.median(searches):8.3f} s  "
        f"read {statistics.median(reads):6.3f} s  {table.table_bytes / 2**20:6.0f} MiB "
        f" overhead {overheads(table, least_time)}",
        flush=True,
    )


def overheads(table: ChainTable, least_time: float) -> str:
    """Say the overhead at some parts of the largest budget."""
    found = []
    for percent in (10, 30, 50):
        slot = table.slot_of(int(table.budgets[-1]) * percent // 100)
        seconds = np.inf if slot is None else table.times[slot]
        found.append(f"{100 * (seconds / least_time - 1):6.1f} %")
    return " ".join(found)


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=500)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    for levels in (None, 1):
        solve(random_chain(3), 1 << 26, 50, levels)  # compile or load
    for n in (50, 100, 339):
        chain = random_chain(n)
        show(f"{n} stages", chain, arguments.slots, arguments.rounds)
        show(f"{n} stages, one level", chain, arguments.slots, arguments.rounds, 1)
    chain = random_chain(1000)
    for together, slots in ((2, arguments.slots), (3, arguments.slots)):
        name = f"1000 stages, {together} as one"
        show(name, chain, slots, 1, together=together)
    if not arguments.quick:
        show("1000 stages", chain, 100, 1)
        show("1000 stages", chain, arguments.slots, 1)


if __name__ == "__main__":
    main()
