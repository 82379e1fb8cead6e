"""Measures what this machine reaches: operations and bytes a second.

Operations are those of a large matrix product by BLAS, the fastest arithmetic that the
package has, and bytes are those that a large copy reads and writes. Both are practical
limits, below what a data sheet says. A kernel whose operands lie in a cache can move
more bytes than the copy, which goes through memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from arena_ckpt.engine.link import CallTable
from arena_ckpt.engine.locks import GATE
from arena_ckpt.engine.profile import MachineSpeed
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.operations.families import blas

PRODUCT_LENGTH = 1024
"""Rows, columns and inner length of the matrix product."""

COPY_BYTES = 64 * 1024**2
"""Bytes that are copied: more than the caches of a core hold."""

RUNS = 5
"""Number of times that each is run; the shortest counts."""


def measure_machine(threads: int) -> MachineSpeed:
    """Return what this machine reaches with a number of threads.

    Notes
    -----
    Takes about a quarter of a second, and 128 MiB while it runs.
    """
    return MachineSpeed(threads, _flops_per_second(threads), _bytes_per_second(threads))


def _flops_per_second(threads: int) -> float:
    n = PRODUCT_LENGTH
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal((2, n, n), dtype=np.float32)
    table = CallTable([KernelCall(0, blas.matmul, (a, b, np.empty_like(a)))], {})
    return 2 * n**3 / GATE.run(threads, _shortest, lambda: table.run(0, 1))


def _bytes_per_second(threads: int) -> float:
    source = np.ones(COPY_BYTES // 4, dtype=np.float32)
    target = np.zeros_like(source)
    parts = [*zip(*(np.array_split(x, threads) for x in (target, source)), strict=True)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            for copied in [pool.submit(np.copyto, *part) for part in parts]:
                copied.result()

        return 2 * COPY_BYTES / _shortest(copy)


def _shortest(work: Callable[[], object]) -> float:
    """Return the seconds of the shortest run, after one that is not counted."""
    work()
    shortest = float("inf")
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest
