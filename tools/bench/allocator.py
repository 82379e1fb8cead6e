#!/usr/bin/env python3
"""Measure the allocator against other tools, interleaved, in one run.

    tools/bench/allocator.py [--data FOLDER] [--peers FOLDER] [--rounds N] [--quick]

--data   the folder with ``minimalloc/*.csv`` and ``large/*.csv``
--peers  a folder with binaries of other tools that you built: ``minimalloc``
         (google/minimalloc), run as ``minimalloc --capacity --input --output``
--rounds how often each decision is timed; medians are shown
--quick  leave out what takes 20 seconds or a million buffers

Parts: the hard instances at capacity 1 MiB; the least height in 20 s; large instances;
synthetic ones from 3e4 to 1e6 buffers (time and growth); perfect packings, whose
optimum is known; plans of a training planner. Ours runs on one core, kernels compiled.
"""

from __future__ import annotations

import argparse
import heapq
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arena_ckpt import Layout, allocate
from arena_ckpt.allocation.allocator import allocate_buffers
from arena_ckpt.allocation.minimalloc_csv import read_buffers
from arena_ckpt.allocation.search_options import SearchOptions

Integers = npt.NDArray[np.int64]
CAPACITY = 1 << 20
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def timed(call: Callable[[], Layout]) -> tuple[Layout, float]:
    """Return what `call` returns, and the seconds it took."""
    began = time.perf_counter()
    layout = call()
    return layout, time.perf_counter() - began


def above(layout: Layout) -> str:
    """Say how far a layout is above its bound."""
    percent = 100 * (layout.height_bytes / layout.lower_bound_bytes - 1)
    return f"+{percent:.3f} %" + (" optimal" if layout.proved_optimal else "")


def hard(folder: Path, peers: Path | None, rounds: int) -> None:
    """Time decisions at capacity 1 MiB."""
    print(f"\n== hard instances at capacity {CAPACITY}, median of {rounds}, seconds")
    peer = peers / "minimalloc" if peers else None
    total = 0.0
    for path in sorted(folder.glob("*.1048576.csv")):
        buffers = read_buffers(path).buffers
        ours, theirs = [], []
        for _ in range(rounds):
            layout, seconds = timed(
                lambda b=buffers: allocate_buffers(b, CAPACITY, None, SearchOptions(60))
            )
            ours.append(seconds)
            if peer and peer.exists():
                theirs.append(run_minimalloc(peer, path))
        total += statistics.median(ours)
        line = (
            f"{path.stem:12} ours {statistics.median(ours):7.3f}  nodes "
            f"{layout.stats['nodes']:8,}  {layout.engine:16}"
        )
        if theirs:
            ratio = statistics.median(theirs) / statistics.median(ours)
            line += f"  minimalloc {statistics.median(theirs):7.3f}  {ratio:6.1f} x"
        print(line, flush=True)
    print(f"{'together':12} ours {total:7.3f}")


def run_minimalloc(binary: Path, path: Path) -> float:
    """Return the seconds that minimalloc takes, process and files included."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run(
            [
                binary,
                f"--capacity={CAPACITY}",
                f"--input={path}",
                f"--output={folder}/out.csv",
                "--timeout=120s",
            ],
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began


def least_height(folder: Path, seconds: float) -> None:
    """Minimize for some seconds each."""
    print(f"\n== least height in {seconds:g} s")
    for path in sorted(folder.glob("*.1048576.csv")):
        buffers = read_buffers(path).buffers
        layout, took = timed(
            lambda b=buffers: allocate_buffers(b, None, None, SearchOptions(seconds))
        )
        print(
            f"{path.stem:12} {layout.height_bytes:8}  proved at least "
            f"{layout.lower_bound_bytes:8}  {above(layout)}  {took:.2f} s  "
            f"{layout.engine}",
            flush=True,
        )


def large(folder: Path) -> None:
    """Place the large instances."""
    print("\n== large instances, default options and greedy only")
    for path in sorted(folder.glob("*.csv")):
        buffers = read_buffers(path).buffers
        for engine in ("auto", "greedy"):
            layout, took = timed(
                lambda b=buffers, e=engine: allocate_buffers(
                    b, None, None, SearchOptions(engine=e)
                )
            )
            print(
                f"{path.stem:12} n {len(buffers):7,}  {engine:6} {above(layout):18} "
                f"{took:6.3f} s  {layout.engine}  peak {peak_mib():.0f} MiB",
                flush=True,
            )


def peak_mib() -> float:
    """Return the most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def synthetic(n: int, n_live: int, seed: int = 0) -> tuple[Integers, ...]:
    """Lifetimes log-normal, starts uniform, `n_live` alive on average."""
    random = np.random.default_rng(seed)
    lifetime = np.maximum(1, random.lognormal(2, 1.5, n)).astype(np.int64)
    lower = random.integers(0, max(1, int(lifetime.sum() / n_live)), n)
    return lower, lower + lifetime, random.integers(1, 1 << 20, n)


def growth(sizes: list[int]) -> None:
    """Time synthetic buffers and fit the exponent of growth."""
    print("\n== synthetic, about 100 live, one order (no time for more)")
    points = []
    for n in sizes:
        ranges = synthetic(n, 100)
        layout, took = timed(lambda r=ranges: allocate(*r, time_limit_seconds=0))
        points.append((n, took))
        print(
            f"n {n:9,}  {took:7.3f} s  {took / n * 1e6:6.2f} µs each  {above(layout)}  "
            f"peak {peak_mib():.0f} MiB",
            flush=True,
        )
    most = max(took for _, took in points)
    for n, took in points:
        print(f"{n:9,} |{'#' * max(1, round(60 * took / most))}")
    (first, t0), (last, t1) = points[0], points[-1]
    print(f"growth: time ~ n^{np.log(t1 / t0) / np.log(last / first):.2f}")


def perfect(
    n: int, seed: int, width: int | None = None, height: int = 1 << 20
) -> tuple[Integers, ...]:
    """Cut one rectangle, always the largest part, straight into `n`."""
    random = np.random.default_rng(seed)
    width = width or 1000 + 2 * n
    parts = [(-width * height, 0, width, 0, height)]
    while len(parts) < n:
        _, a, b, c, d = heapq.heappop(parts)
        share = random.uniform(0.25, 0.75)
        if (random.random() < 0.5 and b - a > 1) or d - c < 2:
            cut = min(b - 1, max(a + 1, a + int(share * (b - a))))
            halves = [(a, cut, c, d), (cut, b, c, d)]
        else:
            cut = min(d - 1, max(c + 1, c + int(share * (d - c))))
            halves = [(a, b, c, cut), (a, b, cut, d)]
        for left, right, low, high in halves:
            area = (right - left) * (high - low)
            heapq.heappush(parts, (-area, left, right, low, high))
    table = np.array(parts, dtype=np.int64)[random.permutation(n)]
    return table[:, 1].copy(), table[:, 2].copy(), table[:, 4] - table[:, 3]


def pinwheels(n: int, seed: int) -> tuple[Integers, ...]:
    """Cut one rectangle of 2^20 bytes, the largest part, straight or as a pinwheel."""
    random = np.random.default_rng(seed)
    width = 1000 + 2 * n
    parts = [(-width << 20, 0, width, 0, 1 << 20)]
    while len(parts) < n:
        _, a, b, c, d = heapq.heappop(parts)
        if random.random() < 0.5 and min(b - a, d - c) >= 5 and len(parts) + 5 <= n:
            x = a + int((b - a) * random.uniform(0.2, 0.45))
            y = c + int((d - c) * random.uniform(0.2, 0.45))
            x_end = max(x + 1, a + int((b - a) * random.uniform(0.55, 0.8)))
            y_end = max(y + 1, c + int((d - c) * random.uniform(0.55, 0.8)))
            pieces = [
                (a, x_end, c, y),
                (x_end, b, c, y_end),
                (x, b, y_end, d),
                (a, x, y, d),
                (x, x_end, y, y_end),
            ]
        elif (random.random() < 0.5 and b - a > 1) or d - c < 2:
            cut = a + max(1, int(random.uniform(0.25, 0.75) * (b - a)))
            pieces = [(a, cut, c, d), (cut, b, c, d)]
        else:
            cut = c + max(1, int(random.uniform(0.25, 0.75) * (d - c)))
            pieces = [(a, b, c, cut), (a, b, cut, d)]
        for left, right, low, high in pieces:
            if left < right and low < high:
                area = (right - left) * (high - low)
                heapq.heappush(parts, (-area, left, right, low, high))
    table = np.array(parts, dtype=np.int64)[random.permutation(len(parts))]
    return table[:, 1].copy(), table[:, 2].copy(), table[:, 4] - table[:, 3]


def any_part(n: int, seed: int, least: float, wheels: float) -> tuple[Integers, ...]:
    """Cut a part at random, straight or as a pinwheel, so that some are very small."""
    random = np.random.default_rng(seed)
    parts = [(0, 1000 + 2 * n, 0, 1 << 20)]
    while len(parts) < n:
        place = int(random.integers(len(parts)))
        a, b, c, d = parts[place]
        is_wheel = random.random() < wheels
        if is_wheel and min(b - a, d - c) >= 4 and len(parts) + 4 <= n:
            x = a + max(1, int(random.uniform(0.2, 0.45) * (b - a)))
            x_end = a + int(random.uniform(0.55, 0.8) * (b - a))
            x_end = min(b - 1, max(x + 1, x_end))
            y = c + max(1, int(random.uniform(0.2, 0.45) * (d - c)))
            y_end = c + int(random.uniform(0.55, 0.8) * (d - c))
            y_end = min(d - 1, max(y + 1, y_end))
            core = (x, x_end, y, y_end)
            if random.random() < 0.5:
                first, *others = (a, x_end, c, y), (x_end, b, c, y_end)
                others += [(x, b, y_end, d), (a, x, y, d), core]
            else:
                first, *others = (x, b, c, y), (a, x, c, y_end)
                others += [(a, x_end, y_end, d), (x_end, b, y, d), core]
        else:
            share = random.uniform(least, 1 - least)
            is_across = random.random() < 0.5
            if (is_across and b - a > 1) or (d - c < 2 and b - a > 1):
                cut = min(b - 1, max(a + 1, a + int(share * (b - a))))
                first, *others = (a, cut, c, d), (cut, b, c, d)
            elif d - c > 1:
                cut = min(d - 1, max(c + 1, c + int(share * (d - c))))
                first, *others = (a, b, c, cut), (a, b, cut, d)
            else:
                continue
        parts[place] = first
        parts += others
    table = np.array(parts, dtype=np.int64)[random.permutation(len(parts))]
    return table[:, 0].copy(), table[:, 1].copy(), table[:, 3] - table[:, 2]


CUTS: dict[str, Callable[[int, int], tuple[Integers, ...]]] = {
    "the largest part, straight": perfect,
    "the largest part, straight or pinwheels": pinwheels,
    "any part, straight at 5 to 95 %": lambda n, s: any_part(n, s, 0.05, 0.0),
    "any part, straight or pinwheels": lambda n, s: any_part(n, s, 0.25, 0.5),
    "the largest part, 1,000 steps": lambda n, s: perfect(n, s, width=1000),
    "the largest part, 4,096 bytes": lambda n, s: perfect(n, s, height=4096),
}
"""How perfect packings are made."""


def perfect_packings(sizes: list[int]) -> None:
    """Compare with the known optimum of cut rectangles."""
    for name, cut in CUTS.items():
        print(f"\n== perfect packings (cut: {name}), above the optimum, 5 of each")
        for n in sizes:
            for limit in (2,) if n < 2000 else (1, 10):
                line = []
                for seed in range(5):
                    ranges = cut(n, seed)
                    layout, took = timed(
                        lambda r=ranges, s=limit: allocate(*r, time_limit_seconds=s)
                    )
                    steps, sizes_bytes = int(ranges[1].max()), ranges[2]
                    area = int(((ranges[1] - ranges[0]) * sizes_bytes).sum())
                    percent = 100 * (layout.height_bytes * steps / area - 1)
                    line.append(f"+{percent:.2f} % {took:.2f} s")
                print(f"n {n:6,}  limit {limit:2} s  " + "   ".join(line), flush=True)


def plans(folder: Path) -> None:
    """Place the tensors of recorded plans."""
    print("\n== plans of a training planner")
    for path in sorted(folder.glob("*.tensor.csv")):
        rows = np.genfromtxt(
            path, delimiter=",", skip_header=1, usecols=(1, 2, 3), dtype=np.int64
        )
        layout, took = timed(
            lambda r=rows: allocate(r[:, 1], r[:, 2], r[:, 0], node_limit=50_000)
        )
        print(f"{path.stem:32} n {len(rows):4}  {above(layout)}  {took * 1e3:.1f} ms")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    allocate([0, 1, 0], [2, 3, 1], [1, 2, 3])  # compiles what is needed
    allocate(*perfect(30, 0), node_limit=10_000)
    folder = options.data / "allocation"
    if folder.is_dir():
        hard(folder / "minimalloc", options.peers, options.rounds)
        if not options.quick:
            least_height(folder / "minimalloc", 20)
        large(folder / "large")
        plans(options.data / "nntrainer" / "plans")
    else:
        print(f"no instances in {folder}: only what is generated is measured")
    perfect_packings([20, 40, 60, 200, 20_000] if not options.quick else [20, 60, 200])
    growth([30_000, 10**5] if options.quick else [30_000, 10**5, 300_000, 10**6])


if __name__ == "__main__":
    main()
