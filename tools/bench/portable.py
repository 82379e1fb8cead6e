"""Time of a training step in portable arithmetic beside the fast one, interleaved.

Shown are medians over the rounds of wall time, in microseconds, their ratio, and the
bytes of both arenas without checkpoint blocks: convolutions take no workspace in
portable arithmetic.

    python tools/bench/portable.py [--rounds 15] [--case NAME …] [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from interleaved import Step, measure
from results import ResultsFile, contestants

CASES: dict[str, tuple[dict[str, Any], int]] = {
    # the sizes of an example, and steps in a round
    "digits_mlp": ({}, 40),
    "digits_cnn": ({}, 10),
    "resnet8": ({}, 2),
    "mobilenet_v2": ({"batch_size": 4}, 2),
    "keyword_gru": ({}, 4),
    "char_transformer": ({"n_layers": 1}, 2),
}


def _steps(case: str, threads: int, arithmetic: str) -> tuple[Step, dict[str, Any]]:
    from arena_ckpt.examples import load_example
    from arena_ckpt.model import without_blocks

    example = load_example(case, **CASES[case][0])
    model = without_blocks(example.model)
    model.set_property(threads=threads, arithmetic=arithmetic)
    plan = model.initialize()
    n = model.get_property("batch_size")
    x, y = example.data.x[:n].reshape(n, -1), example.data.y[:n]
    return lambda: model.train_step(x, y), {"bytes": plan.arena_bytes}


def fast(case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up a model in fast arithmetic."""
    return _steps(case, threads, "fast")


def portable(case: str, threads: int) -> tuple[Step, dict[str, Any]]:
    """Set up the same in portable arithmetic."""
    return _steps(case, threads, "portable")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    file = ResultsFile(options.json, "portable", rounds=options.rounds)
    print(
        f"{'model':18} {'fast µs':>10} {'portable':>10} {'ratio':>6} "
        f"{'fast bytes':>12} {'portable':>12}"
    )
    for case in options.case:
        result = measure(
            {"fast": fast, "portable": portable},
            case,
            threads=1,
            rounds=options.rounds,
            n_steps=CASES[case][1],
            n_setups=2,
        )
        one, other = result["fast"], result["portable"]
        print(
            f"{case:18} {one.wall:10.0f} {other.wall:10.0f} "
            f"{other.wall / one.wall:6.2f} {one.facts['bytes']:12,} "
            f"{other.facts['bytes']:12,}",
            flush=True,
        )
        row = {"case": case, "threads": 1, "contestants": contestants(result)}
        file.add(row)


if __name__ == "__main__":
    main()
