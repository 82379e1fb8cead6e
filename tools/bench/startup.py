"""Time until something is there: a help text, a plan, a picture, a trained step.

Each run is a new process. Trained is one step of bundled examples, without the making
of their data: cold runs get an empty cache folder and compile what they need, warm
runs find it on disk. CPU time is that of the process, and beside it that of compilers.
All else is CPU time, beside that of ``import numpy``, for the plan of an example.

    python tools/bench/startup.py [--runs 5] [--example nine_layer_mlp] [--json FILE]
        [--networks nine_layer_mlp digits_cnn gpt] [--only-steps]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from results import ResultsFile, spread

import arena_ckpt as ac

NETWORKS = ("nine_layer_mlp", "digits_cnn", "gpt")

FIRST_STEP = """
import os, sys, time
start, cpu = time.perf_counter(), time.process_time()
import arena_ckpt as ac
imported = time.perf_counter()
example = ac.load_example(sys.argv[1])
model = example.model
n = model.get_property("batch_size")
x, y = example.data.x[:n].reshape(n, -1), example.data.y[:n]
began = time.perf_counter()
model.initialize()
model.train_step(x, y)
spent = time.perf_counter() - began + imported - start
others = os.times()
print(spent, time.process_time() - cpu, others.children_user + others.children_system)
"""

BESIDE_NUMPY = """
import sys, time
import numpy
start = time.process_time()
{code}
print(time.process_time() - start)
"""
READ = """
import pathlib
import arena_ckpt as ac
plan = ac.MemoryPlan.from_json(pathlib.Path(sys.argv[1]).read_text("utf-8"))
"""
HELP = """
import contextlib, io
from arena_ckpt.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["--help"], standalone_mode=False)
"""
PLANNED = """
import arena_ckpt as ac
ac.load_example({name!r}).model.make_plan()
"""
USES = {
    "--help": HELP,
    "read a plan": READ,
    **{
        f"read and draw a plan: {kind}": f"{READ}ac.plan_{kind}(plan)"
        for kind in ("ascii", "svg", "html", "png")
    },
}


def cpu_seconds(code: str, *arguments: str) -> float:
    """Return the CPU time that a process of its own takes for code, after NumPy."""
    return float(
        subprocess.run(
            [sys.executable, "-c", BESIDE_NUMPY.format(code=code), *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )


def time_uses(example: str, runs: int, file: ResultsFile) -> None:
    """Print the median CPU time of each use, and write it."""
    plan = ac.load_example(example).model.make_plan()
    uses = {**USES, f"plan {example}": PLANNED.format(name=example)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(plan.to_json(), "utf-8")
        for name, code in uses.items():
            took = [cpu_seconds(code, str(path)) for _ in range(runs)]
            median = statistics.median(took)
            print(f"{name}: {median:.2f} s of CPU time beside NumPy", flush=True)
            row = {"what": name, "of": "CPU time beside NumPy", "s": spread(took)}
            file.add(row)


def first_step(example: str, cache: str) -> list[float]:
    """Return wall seconds to the first step, and CPU seconds: here, in compilers."""
    output = subprocess.run(
        [sys.executable, "-c", FIRST_STEP, example],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [float(number) for number in output.split()]


def time_first_steps(example: str, runs: int, file: ResultsFile) -> None:
    """Print medians of an example: with nothing compiled, and with all on disk."""
    cold, warm = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(first_step(example, cache))
            warm.append(first_step(example, cache))
    for name, rows in (("cold", cold), ("warm", warm)):
        wall, cpu, compilers = map(statistics.median, zip(*rows, strict=True))
        print(
            f"{example}, {name}: first step done in {wall:.2f} s; {cpu:.2f} s of CPU "
            f"time, {compilers:.2f} s in other processes",
            flush=True,
        )
        what = f"first step of {example}, {name} cache"
        file.add({"what": what, "of": "wall", "s": spread([row[0] for row in rows])})


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--example", default="nine_layer_mlp")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--only-steps", action="store_true")
    options = parser.parse_args()
    file = ResultsFile(options.json, "startup", rounds=options.runs)
    if not options.only_steps:
        time_uses(options.example, options.runs, file)
    for name in options.networks:
        time_first_steps(name, options.runs, file)


if __name__ == "__main__":
    main()
