"""How far chosen plans are from the best: beside Checkmate's integer program.

Random models of up to twelve layers, at budgets from the least bytes that are found up
to where all is kept. A gap is how much longer an iteration takes than with the best
plan; *recompute* is what chosen plans recompute beyond what the best ones do, as a
share of that; *least bytes* is how much larger the smallest plan is than the smallest
there is. *In place* holds the default way to run an iteration against the program's
schedules run in that way. These are good but not the best, as the program knows of no
bytes that are shared: gaps below 0 are possible there.

    python tools/bench/choice_gap.py [--graphs 12] [--budgets 5] [--family chain …]

Needs SciPy (the extra `judge`).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from helpers.milp import find_gaps, find_gaps_in_place, find_least_gap
from helpers.small_graphs import FAMILIES, small_graph


def show(family: str, n_graphs: int, n_budgets: int, time_limit: float) -> None:
    """Print the row of a family."""
    began = time.perf_counter()
    gaps, in_place, least, n_unsolved = [], [], [], 0
    for seed in range(n_graphs):
        model = small_graph(family, seed).model()
        found, unsolved = find_gaps(model, n_budgets, time_limit)
        gaps += found
        n_unsolved += unsolved
        in_place += find_gaps_in_place(model, n_budgets, time_limit)
        least.append(find_least_gap(model, time_limit))
    of_iteration = [gap.of_iteration for gap in gaps]
    if not gaps:
        print(f"{family:10} {0:7} {n_unsolved:8}")
        return
    again = sum(gap.chosen for gap in gaps) / sum(gap.best for gap in gaps) - 1
    print(
        f"{family:10} {len(gaps):7} {n_unsolved:8} {mean(of_iteration):8.2%} "
        f"{min(of_iteration):8.2%} {max(of_iteration):8.2%} {again:10.1%} "
        f"{mean(least):12.2%} {mean(gap.of_iteration for gap in in_place):9.2%} "
        f"{time.perf_counter() - began:6.0f} s",
        flush=True,
    )


def main() -> None:
    """Print a table by family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=[*FAMILIES])
    parser.add_argument("--graphs", type=int, default=12, help="of each family")
    parser.add_argument("--budgets", type=int, default=5, help="of each graph")
    parser.add_argument("--seconds", type=float, default=30, help="for each budget")
    arguments = parser.parse_args()
    print(
        f"{'':10} {'budgets':>7} {'unsolved':>8} {'mean gap':>8} {'least':>8} "
        f"{'most':>8} {'recompute':>10} {'least bytes':>12} {'in place':>9}"
    )
    for family in arguments.family:
        show(family, arguments.graphs, arguments.budgets, arguments.seconds)


if __name__ == "__main__":
    main()
