"""Time from ``import`` to the first finished step, with and without a kernel cache.

Each run is a new process that trains one step of the nine-layer MLP. Cold runs get an
empty cache folder and compile the kernels they need; warm runs find them on disk.

    python tools/bench/startup.py [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

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
    options = parser.parse_args()
    cold, warm = [], []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(run_once(cache))
            warm.append(run_once(cache))
    for name, rows in (("cold", cold), ("warm", warm)):
        imported = statistics.median(row[0] for row in rows)
        finished = statistics.median(row[1] for row in rows)
        print(f"{name}: import {imported:.2f} s, first step done {finished:.2f} s")


if __name__ == "__main__":
    main()
