"""Convolutions one by one beside PyTorch's, by turns in one process, one thread.

Geometries are those of the bundled networks, found in the kernel calls of a step, and
some that they lack (`EXTRA`). For each are shown, in CPU time:

- GFLOP/s of ours and of PyTorch's; products with zeros of a margin count;
- ours as a share of PyTorch's time, below 1 where ours is faster;
- ours as a share of the peak: what the register tile of `tiles` reaches on operands
  that lie in the first-level cache;
- how often a step of the network runs it, and below the sum of a step.

    python tools/bench/convolutions.py [--case resnet18 …] [--phase forward …]

As on a processor without AVX-512, with a cache of its own for that code:

    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= NUMBA_CACHE_DIR=/tmp/haswell \
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 \
        python tools/bench/convolutions.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

from arena_ckpt.examples import load_example
from arena_ckpt.kernels import convolution, depthwise, grouped, tiles
from arena_ckpt.kernels.kernel import Kernel, run_table
from arena_ckpt.kernels.vectors import WIDTH
from arena_ckpt.model import without_blocks
from arena_ckpt.operations.convolution import Convolution, Workspace

Array = npt.NDArray[Any]
_TILES: Any = tiles.tiles
PHASES = "forward", "derivative", "gradient"

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18": ("resnet18", {"batch_size": 32}),
    "resnet8": ("resnet8", {"batch_size": 16}),
    "mobilenet_v2": ("mobilenet_v2", {"batch_size": 16}),
    "digits_cnn": ("digits_cnn", {}),
}
"""An example and its sizes."""


@dataclass(frozen=True, slots=True)
class Case:
    """A convolution of some samples, in groups."""

    sizes: Convolution
    n: int
    groups: int = 1

    @property
    def is_depthwise(self) -> bool:
        """Return whether each channel has a filter of its own."""
        return self.groups == self.sizes.channels == self.sizes.filters

    @property
    def flops(self) -> int:
        """Return the operations of any phase, two for a product and its sum."""
        s = self.sizes
        products = s.channels // self.groups * s.taps * s.filters
        return 2 * self.n * products * s.out_height * s.out_width

    def __str__(self) -> str:
        """Return batch × input → filters, kernel, stride, dilation and groups."""
        s = self.sizes
        text = f"{self.n}×{s.channels}:{s.height}:{s.width}→{s.filters}"
        text += f" k{s.kernel[0]}×{s.kernel[1]}"
        if s.stride != (1, 1):
            text += f" s{s.stride[0]}×{s.stride[1]}"
        if self.groups > 1:
            text += " depthwise" if self.is_depthwise else f" groups {self.groups}"
        return text


def _square(n: int, channels: int, size: int, filters: int, k: int, s: int = 1) -> Case:
    padding = (k // 2,) * 4
    shape = (channels, size, size, filters)
    return Case(Convolution(*shape, (k, k), (s, s), (1, 1), padding), n)


def _line(n: int, channels: int, width: int, filters: int, k: int) -> Case:
    one, padding = (1, 1), (0, 0, k // 2, k // 2)
    return Case(Convolution(channels, 1, width, filters, (1, k), one, one, padding), n)


EXTRA = (
    _line(16, 64, 128, 64, 3),
    _line(16, 40, 101, 64, 9),
    Case(_square(16, 64, 16, 64, 3).sizes, 16, 8),
    Case(_square(16, 64, 8, 64, 3, 2).sizes, 16, 4),
    _square(16, 64, 28, 256, 1),
    _square(16, 64, 56, 64, 3),
    _square(4, 3, 96, 32, 5, 2),
    Case(_square(16, 64, 4, 64, 3).sizes, 16, 64),
    Case(_square(16, 64, 8, 64, 3, 2).sizes, 16, 64),
    Case(_square(16, 64, 16, 64, 3).sizes, 16, 64),
    Case(_square(16, 32, 28, 32, 3).sizes, 16, 32),
)


def _calls(network: str) -> Iterator[tuple[Case, str]]:
    """Yield each convolution of a step with its phase."""
    name, sizes = NETWORKS[network]
    model = without_blocks(load_example(name, **sizes).model)
    model.set_property(threads=1)
    for call in model.kernel_calls(model.make_plan()):
        family, _, phase = call.kernel.entry.partition("_")
        if phase not in PHASES or family not in ("conv", "depthwise", "grouped"):
            continue
        numbers = [x for x in call.operands if type(x) is int]
        if phase != "gradient" and not (family != "conv" and phase == "derivative"):
            numbers = numbers[1:]  # has_bias
        groups = 1
        if family == "grouped":
            groups, *numbers = numbers
        n, c, h, w, f, kh, kw, sh, sw, dh, dw, top, left, oh, ow = numbers[:15]
        if family == "depthwise":
            groups = c
        # Padding at the bottom and the right is what the outputs ask for.
        bottom = (oh - 1) * sh + (kh - 1) * dh + 1 - h - top
        right = (ow - 1) * sw + (kw - 1) * dw + 1 - w - left
        padding = (top, bottom, left, right)
        geometry = Convolution(c, h, w, f, (kh, kw), (sh, sw), (dh, dw), padding)
        yield Case(geometry, n, groups), phase


def _workspace(needed: Workspace) -> tuple[Array, Array]:
    return np.zeros(needed.elems, np.float32), np.zeros(needed.table_elems, np.int32)


def ours(case: Case, phase: str, x: Array, w: Array, dy: Array) -> Any:
    """Return what runs our kernel a number of times, and its result."""
    sizes, numbers = case.sizes, (case.n, *case.sizes.numbers)
    x, w, dy = x.ravel(), w.ravel(), dy.ravel()
    result = np.zeros_like({"forward": dy, "derivative": x, "gradient": w}[phase])
    if case.is_depthwise:
        needed = dict(
            zip(
                ("forward", "gradient", "derivative"),
                sizes.depthwise_workspaces(),
                strict=True,
            )
        )[phase]
        kernel: Kernel = getattr(depthwise, f"depthwise_{phase}")
        between: tuple[Array, ...] = _workspace(needed)
        after: tuple[int, ...] = numbers
        first: Any = {
            "forward": (x, w, w[:0], 0),
            "derivative": (dy, w),
            "gradient": (x, dy, 0.0),
        }[phase]
    elif case.groups > 1:
        kernel = getattr(grouped, f"grouped_{phase}")
        between, after = (), (case.groups, *numbers)
        first = {
            "forward": (x, w, w[:0], 0),
            "derivative": (dy, w),
            "gradient": (x, dy, 0.0),
        }[phase]
    else:
        needed = getattr(sizes, f"{phase}_workspace")()
        kernel = getattr(convolution, f"conv_{phase}")
        group = min(needed.group, case.n)
        more: tuple[int, ...] = (needed.samples, needed.group)
        if phase == "gradient":
            more = (group, 0, sizes.filters)
        between, after = _workspace(needed), (*numbers, *more)
        first = {
            "forward": (x, w, w[:0], 0),
            "derivative": (dy, w, w[:0], 0),
            "gradient": (x, dy, 0.0),
        }[phase]
    arguments = (*first, *between, result, *after)
    block = np.array(kernel.pack(arguments), np.int64)
    entry = kernel.entry(arguments)

    def run(times: int) -> None:
        table = np.array([entry, block.ctypes.data] * times, np.int64)
        run_table(table.ctypes.data, times)

    run.keep = arguments  # type: ignore[attr-defined]  # the block holds addresses
    return run, result


def theirs(case: Case, phase: str, x: Array, w: Array, dy: Array) -> Any:
    """Return what runs PyTorch's, and a function that returns its result."""
    s = case.sizes
    top, bottom, left, right = s.padding
    kept = [torch.from_numpy(array) for array in (x, w, dy)]
    if bottom > top or right > left:  # PyTorch pads both sides alike
        extra = (0, max(0, right - left), 0, max(0, bottom - top))
        kept[0] = torch.nn.functional.pad(kept[0], extra)
    given = (list(s.stride), [top, left], list(s.dilation))

    def forward() -> Any:
        return torch.nn.functional.conv2d(kept[0], kept[1], None, *given, case.groups)

    def backward() -> Any:
        mask = [phase == "derivative", phase == "gradient", False]
        return torch.ops.aten.convolution_backward(
            kept[2], kept[0], kept[1], None, *given, False, [0, 0], case.groups, mask
        )[0 if phase == "derivative" else 1]

    once = forward if phase == "forward" else backward

    def run(times: int) -> None:
        for _ in range(times):
            once()

    return run, once


def _seconds(run: Callable[[int], None], times: int) -> float:
    start = time.process_time()
    run(times)
    return (time.process_time() - start) / times


def compare(case: Case, phase: str, rounds: int) -> tuple[float, float, float]:
    """Return seconds of ours and of PyTorch's, and how far they are apart."""
    s, random = case.sizes, np.random.default_rng(0)
    plane = (s.height, s.width)
    if s.height == 1 and s.taps == 1 and isqrt(s.width) ** 2 == s.width:
        plane = (isqrt(s.width),) * 2  # ours take it for one row
    out = (s.out_height, s.out_width) if plane[0] == s.height else plane
    x = random.normal(size=(case.n, s.channels, *plane)).astype(np.float32)
    shape = (s.filters, s.channels // case.groups, *s.kernel)
    w = random.normal(size=shape).astype(np.float32)
    dy = random.normal(size=(case.n, s.filters, *out)).astype(np.float32)
    mine, result = ours(case, phase, x, w, dy)
    other, once = theirs(case, phase, x, w, dy)
    mine(1)
    expected = once().numpy()
    if phase == "derivative":  # without what was padded for PyTorch
        expected = expected[:, :, : plane[0], : plane[1]]
    apart = float(np.abs(result - expected.ravel()).max() / np.abs(expected).max())
    other(2)
    times = [max(1, int(5e-3 / max(1e-6, _seconds(run, 3)))) for run in (mine, other)]
    rows = []
    for _ in range(rounds):
        rows.append((_seconds(mine, times[0]), _seconds(other, times[1])))
    one, two = (statistics.median(column) for column in zip(*rows, strict=True))
    return one, two, apart


@numba.njit
def _run_tiles(x: Any, places: Any, table: Any, w: Any, y: Any, times: int) -> None:
    n, n_places = table.size, places.size // 2
    for _ in range(times):
        _TILES(
            x, places, n_places, table, n, w, 0, 1, n, tiles.BLOCK, x, 0, 0, y, 0,
            n_places * WIDTH, 0,
        )  # fmt: skip


def peak() -> float:
    """Return GFLOP/s of the register tile on operands in the first-level cache."""
    n, times, n_places = 288, 20_000, tiles.PLACES
    places = np.arange(0, n_places * WIDTH, WIDTH)
    places = np.concatenate((places, places))
    x, w = np.ones(1024, np.float32), np.ones(tiles.BLOCK * n, np.float32)
    table = np.arange(0, n, dtype=np.int32)
    y = np.zeros(tiles.BLOCK * n_places * WIDTH, np.float32)
    operands = x, places, table, w, y
    _run_tiles(*operands, 10)
    seconds = min(_seconds(lambda _: _run_tiles(*operands, times), 1) for _ in range(9))
    return 2 * y.size * n * times / seconds / 1e9


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [*NETWORKS, "extra"]
    parser.add_argument("--case", nargs="+", default=names, choices=names)
    parser.add_argument("--phase", nargs="+", default=PHASES, choices=PHASES)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    most = peak()
    print(f"peak of the register tile: {most:.1f} GFLOP/s")
    for name in options.case:
        found = (
            Counter((case, phase) for case in EXTRA for phase in PHASES)
            if name == "extra"
            else Counter(_calls(name))
        )
        print(f"\n{name}\n{'':44}   GFLOP/s  PyTorch  time  peak  in a step")
        sums: dict[str, list[float]] = {}
        for (case, phase), times in sorted(found.items(), key=lambda one: str(one[0])):
            if phase not in options.phase:
                continue
            one, two, apart = compare(case, phase, options.rounds)
            wrong = f"  differs by {apart:.1e}" if apart > 1e-4 else ""
            speed, other = case.flops / one / 1e9, case.flops / two / 1e9
            print(
                f"{case!s:33} {phase:10} {speed:9.1f} {other:8.1f} {one / two:5.2f} "
                f"{speed / most:5.0%}  {times} × {one * 1e3:.3f} ms{wrong}",
                flush=True,
            )
            total = sums.setdefault(phase, [0.0, 0.0, 0.0])
            for i, value in enumerate((one, two, case.flops / 1e9)):
                total[i] += times * value
        for phase, (one, two, work) in sums.items():
            print(
                f"{'all':33} {phase:10} {work / one:9.1f} {work / two:8.1f} "
                f"{one / two:5.2f} {work / one / most:5.0%}  {one * 1e3:.2f} ms"
            )


if __name__ == "__main__":
    main()
