"""Measures what this machine reaches: operations and bytes a second.

Operations are those of a large matrix product by BLAS, the fastest arithmetic that the
package has, and bytes are those that a large copy reads and writes. Both are practical
limits, below what a data sheet says: the fastest of many short runs, which other work
on the machine disturbs least. A kernel whose operands lie in a cache can move
more bytes than the copy, which goes through memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from arena_ckpt.engine.link import CallTable
from arena_ckpt.engine.locks import GATE
from arena_ckpt.engine.profile import MachineSpeed
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.lowering.split_calls import split_calls
from arena_ckpt.operations.families import blas

PRODUCT_LENGTH = 512
"""Rows, columns and inner length of the matrix product."""

COPY_BYTES = 64 * 1024**2
"""Bytes that are copied: more than the caches of a core hold."""

PIECE_BYTES = 4 * 1024**2
"""Bytes that are copied between two readings of the clock."""

RUNS = 30
"""Number of products, of which the fastest counts."""

PASSES = 3
"""Number of times that all bytes are copied; the fastest of all pieces counts."""


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
    product = KernelCall(0, blas.matmul, (a, b, np.empty_like(a)))
    calls = list(split_calls([product], threads))
    table = CallTable(calls, {}, threads=threads)
    seconds = GATE.run(_timed, [lambda: table.run(0, len(calls))] * RUNS)
    return 2 * n**3 / min(seconds)


def _bytes_per_second(threads: int) -> float:
    source = np.ones(COPY_BYTES // 4, dtype=np.float32)
    target = np.zeros_like(source)
    n = PIECE_BYTES // 4
    with ThreadPoolExecutor(threads) as pool:

        def copy(start: int) -> None:
            """Copy a piece, a part of it in each thread."""
            piece = slice(start, start + n)
            parts = [np.array_split(x[piece], threads) for x in (target, source)]
            for copied in [
                pool.submit(np.copyto, *p) for p in zip(*parts, strict=True)
            ]:
                copied.result()

        pieces = [partial(copy, start) for start in range(0, len(source), n)]
        return 2 * PIECE_BYTES / min(_timed(pieces * PASSES))


def _timed(works: Sequence[Callable[[], object]]) -> list[float]:
    """Return the seconds of each piece of work, after the first was done once."""
    works[0]()
    seconds = []
    for work in works:
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds
