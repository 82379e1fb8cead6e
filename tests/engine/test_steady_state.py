"""A training step in steady state allocates nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# In a process of its own: Numba counts allocations only where that is switched on
# before it is imported, and other tests' garbage would blur the rest.
PROBE = """
import gc, json, tracemalloc
import numpy as np, psutil
from numba.core.runtime import rtsys
from arena_ckpt import Model

def model(batch_size, width, micro_batches):
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape=(1, 1, width))
    model.add_layer("fully_connected", name="a", unit=32, activation="gelu")
    model.add_layer("fully_connected", name="b", unit=32, activation="relu")
    model.add_layer("addition", name="sum", input_layers=["a", "b"])
    model.add_layer("fully_connected", name="c", unit=4, activation="softmax")
    model.add_layer("fully_connected", name="d", unit=4)
    model.add_layer("cross_softmax", name="loss")
    model.add_checkpoint_block(["a", "b", "sum"])
    model.set_property(
        batch_size=batch_size, micro_batches=micro_batches, clip_grad_by_norm=1.0
    )
    model.set_optimizer("adam")
    model.initialize()
    x = np.random.default_rng(0).normal(size=(batch_size, width)).astype(np.float32)
    return model, x, np.arange(batch_size) % 4

found = {}
marks = np.zeros(3, dtype=np.int64)  # Python integers would count as growth
for case in ((16, 20, 1), (16, 20, 3), (256, 1024, 1)):
    trained, x, y = model(*case)
    one_hot = np.eye(4, dtype=np.float32)[y]
    # From 257 on Python keeps an object for the count of iterations.
    for _ in range(130):
        trained.train_step(x, y)
        trained.train_step(x, one_hot)
    before = rtsys.get_allocation_stats()
    for _ in range(100):
        trained.train_step(x, y)
    after = rtsys.get_allocation_stats()
    numba_allocations = [b - a for a, b in zip(before, after)]
    peaks, growth = [], []
    for labels in (y, one_hot):
        gc.collect()
        tracemalloc.start()
        for _ in range(5):
            trained.train_step(x, labels)
        gc.collect()
        marks[0] = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            trained.train_step(x, labels)
        marks[1] = tracemalloc.get_traced_memory()[1]
        gc.collect()
        marks[2] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        peaks.append(int(marks[1] - marks[0]))
        growth.append(int(marks[2] - marks[0]))
    process = psutil.Process()
    for _ in range(200):
        trained.train_step(x, y)
    rss = process.memory_info().rss
    for _ in range(1000):
        trained.train_step(x, y)
    found["-".join(map(str, case))] = {
        "numba": numba_allocations,
        "peaks": peaks,
        "growth": growth,
        "rss": process.memory_info().rss - rss,
        "counts": rtsys.get_allocation_stats().alloc > 0,
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, list[int]]]:
    environment = {**os.environ, "NUMBA_NRT_STATS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    result: dict[str, dict[str, list[int]]] = json.loads(process.stdout)
    return result


CASES = ["16-20-1", "16-20-3", "256-1024-1"]


@pytest.mark.parametrize("case", CASES)
def test_numba_allocates_nothing(found: dict[str, dict[str, list[int]]], case: str):
    assert found[case]["counts"], "Numba does not count: the test would prove nothing"
    assert found[case]["numba"] == [0, 0, 0, 0]


@pytest.mark.parametrize("case", CASES)
def test_python_keeps_nothing_and_needs_little(
    found: dict[str, dict[str, list[int]]], case: str
):
    assert max(found[case]["growth"]) <= 0, found[case]
    assert max(found[case]["peaks"]) < 64 * 1024, found[case]


@pytest.mark.parametrize("case", CASES)
def test_the_process_does_not_grow(
    found: dict[str, dict[str, list[int]]], case: str
) -> None:
    assert found[case]["rss"] <= 256 * 1024, found[case]
