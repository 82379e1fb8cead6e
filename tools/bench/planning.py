"""Time that planning takes: large networks, whole fronts, and plans as files.

Each case runs in a process of its own, once to load what it needs and then `--runs`
times; shown are the least wall and CPU seconds.

    python tools/bench/planning.py [--runs 3] [--layers 1000] [--only front]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import arena_ckpt as ac
from arena_ckpt.examples.networks import transformer


def plan(checkpoint: bool, layers: int) -> Callable[[], object]:
    """Return what goes from layers to a plan."""
    return lambda: transformer(layers, checkpoint=checkpoint).make_plan()


def front(name: str, layers: int) -> Callable[[], object]:
    """Return what makes all best plans of an example."""
    return lambda: ac.load_example(name).model.pareto()


def choice(layers: int) -> Callable[[], object]:
    """Return what chooses the smallest plan of a fifth more time."""
    model = transformer(max(1, layers // 5))
    return lambda: model.choose_plan(max_overhead=0.2)


def writing(layers: int) -> Callable[[], object]:
    """Return what writes the JSON of a plan."""
    return transformer(layers).make_plan().to_json


def reading(layers: int) -> Callable[[], object]:
    """Return what reads the JSON of a plan."""
    text = transformer(layers).make_plan().to_json()
    return lambda: ac.MemoryPlan.from_json(text)


def page(layers: int) -> Callable[[], object]:
    """Return what draws the viewer of a plan."""
    drawn = transformer(layers).make_plan()
    return lambda: ac.plan_html(drawn)


CASES: dict[str, Callable[[int], Callable[[], object]]] = {
    "plan": partial(plan, False),
    "plan with blocks": partial(plan, True),
    "front of resnet18": partial(front, "resnet18"),
    "front of gpt": partial(front, "gpt"),
    "choice for a fifth of the layers": choice,
    "to_json": writing,
    "from_json": reading,
    "viewer": page,
}


def measure(name: str, layers: int, runs: int) -> tuple[float, float]:
    """Return the least wall and CPU seconds of a case."""
    CASES[name](min(layers, 200))()
    walls, cpus = [], []
    for _ in range(runs):
        run = CASES[name](layers)
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=1000)
    parser.add_argument("--only", default="", help="a part of the names of cases")
    parser.add_argument("--case", choices=CASES, help="measure one, and print JSON")
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(measure(asked.case, asked.layers, asked.runs)))
        return
    print(f"{'seconds':<34}{'wall':>8}{'CPU':>8}")
    for name in (name for name in CASES if asked.only in name):
        command = [sys.executable, __file__, "--case", name]
        command += ["--runs", str(asked.runs), "--layers", str(asked.layers)]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        wall, cpu = json.loads(found.stdout)
        print(f"{name:<34}{wall:>8.2f}{cpu:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
