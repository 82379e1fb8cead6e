"""Time until something is there: a help text, a plan, a picture, a trained step.

Each run is a new process. Trained is one step of the nine-layer MLP: cold runs get an
empty cache folder and compile the kernels they need; warm runs find them on disk. All
else is CPU time, beside that of ``import numpy``, for the plan of a bundled example.

    python tools/bench/startup.py [--runs 5] [--example nine_layer_mlp] [--json FILE]
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

CHILD = """
import time
start = time.perf_counter()
import numpy as np
import arena_ckpt as ac
imported = time.perf_counter()
model = ac.Model(seed=0)
model.add_layer("input", name="in", input_shape="1:1:784")
for index, unit in enumerate((512, 256, 128)):
    model.add_layer("fully_connected", name=f"fc{index}", unit=unit)
    model.add_layer("activation", name=f"act{index}", activation="relu")
model.add_layer("fully_connected", name="output", unit=10)
model.add_layer("mse", name="loss")
model.add_checkpoint_block(["fc0", "act0", "fc1", "act1"])
model.set_property(batch_size=32)
model.set_optimizer("adam")
model.initialize()
model.train_step(np.zeros((32, 784), np.float32), np.zeros((32, 10), np.float32))
print(imported - start, time.perf_counter() - start)
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


def run_once(cache: str) -> tuple[float, float]:
    """Return seconds of the import, and until the first step is done."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    output = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    imported, finished = map(float, output.split())
    return imported, finished


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--example", default="nine_layer_mlp")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    file = ResultsFile(options.json, "startup", rounds=options.runs)
    time_uses(options.example, options.runs, file)
    cold, warm = [], []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(run_once(cache))
            warm.append(run_once(cache))
    for name, rows in (("cold", cold), ("warm", warm)):
        imported = statistics.median(row[0] for row in rows)
        finished = statistics.median(row[1] for row in rows)
        print(f"{name}: import {imported:.2f} s, first step done {finished:.2f} s")
        what = f"first step of the nine-layer perceptron, {name} cache"
        file.add({"what": what, "of": "wall", "s": spread([row[1] for row in rows])})


if __name__ == "__main__":
    main()
