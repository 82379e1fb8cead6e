"""Kernels in C give the bytes of those in Numba, call by call.

The calls are random cases of `kernel_geometries`, once as they are and once with NaN,
infinities and subnormal numbers among the data. With --full they run with more
compilers and under sanitizers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from helpers import c_kernels
from helpers.c_kernels import NEEDS_GCC, CBench, compile_kernels, kernels_of, run_cases
from helpers.kernel_geometries import FAMILIES, GROUPS, normal
from helpers.scale import FULL, how_many

from arena_ckpt.c_export.sources import find_kernel, source_of
from arena_ckpt.layers.base import Call
from arena_ckpt.operations.portable import portable
from arena_ckpt.operations.recurrent import (
    STEP_ACTIVATIONS,
    gru_kernels,
    lstm_kernels,
    rnn_kernels,
)

C_FAMILIES: tuple[str, ...] = (
    *GROUPS["functions"],
    *GROUPS["arithmetic"],
    *(*GROUPS["curves"], *GROUPS["choices"], *GROUPS["axiswise"]),
    *("dense", "losses", "rearranged", "shape", "updates", "reductions"),
    *(
        "mean loss",
        "table sums",
        "losses of values",
        "weighted losses",
        "class probabilities",
    ),
    *("portable attention", "portable lstm", "portable gru", "portable rnn"),
    "lengths",
    *("batch normalization", "layer normalization", "rms", "tokens"),
    "heads",
    *("pooling", "wide pooling", "global pooling", "upsampling"),
    *("direct convolution", "far taps", "direct depthwise"),
    *("grouped convolution", "group normalization"),
    *("spans", "margins", "shuffled"),
    *("chains", "portable matmul"),
    "touched rows",
)
"""Names of the families of calls whose kernels are there in C."""

C_FILES: tuple[str, ...] = (
    *("activations", "arithmetic", "elementwise", "losses", "rearrange"),
    *("reductions", "updates", "attention", "rnn", "steps"),
    *("normalization", "pooling", "tokens", "direct", "chains", "heads"),
    *(
        "value_losses",
        "mean_loss",
        "table_sums",
        "class_losses",
        "rmsprop",
        "rmsprop_centered",
        "update_terms",
    ),
    *("grouped", "group_norm", "spans", "margins"),
    *("axiswise", "choices", "curves"),
    *("lengths", "touched_rows"),
)
"""Names of the files of kernels that are there in C as a whole."""

HARD: frozenset[str] = frozenset(C_FAMILIES) - {"touched rows"}
"""Families whose kernels are also given numbers that are easily got wrong.

Those of touched rows read places of lines among their numbers.
"""

_COMPILERS: tuple[tuple[str, ...], ...] = (("gcc", "-O2"),)
if FULL:
    _COMPILERS += (("gcc", "-O0"), ("gcc", "-O3", "-march=native"))
    if shutil.which("clang"):
        _COMPILERS += (("clang", "-O2"),)

WITH_VECTORS = ("gcc", "-O3", "-march=native")
"""Products and convolutions have loops of their own where a processor has vectors."""

OWN_LOOPS = (
    *("chains", "portable matmul", "direct convolution", "far taps"),
    "grouped convolution",
)

pytestmark = NEEDS_GCC


@pytest.mark.parametrize("family", C_FAMILIES)
def test_c_gives_the_bytes_of_numba(family: str) -> None:
    for hard in (False, True) if family in HARD else (False,):
        compilers = _COMPILERS
        if family in OWN_LOOPS and WITH_VECTORS not in compilers:
            compilers += (WITH_VECTORS,)
        bench = CBench(*compilers, hard=hard)
        run_cases(bench, family, how_many(6, 100))
        assert bench.findings == []
        assert sum(bench.counts.values()) > 0


@pytest.mark.parametrize("stride", [1, 2])
def test_planes_that_are_worked_out_piece_by_piece(stride: int) -> None:
    """Convolutions with more planes, filters and columns than fit side by side."""
    n, channels, filters, kernel, size, top = 2, 40, 21, 3, 19, 1
    out = (size + 2 * top - kernel) // stride + 1
    random = np.random.default_rng(0)
    x, dy = normal(random, n * channels * size**2), normal(random, n * filters * out**2)
    weight = normal(random, filters * channels * kernel**2)
    bias = normal(random, max(filters, channels))
    numbers = (n, channels, size, size, filters, kernel, kernel, stride, stride)
    numbers += (1, 1, top, top, out, out)
    forward, derivative, gradient = (
        next(name for name in kernels_of("direct") if name.entry == f"direct_{entry}")
        for entry in ("forward", "derivative", "gradient")
    )
    bench = CBench(*_COMPILERS, WITH_VECTORS)
    bench.run(Call(forward, (x, weight, bias, 1, 0 * dy, *numbers)), "forward")
    bench.run(Call(derivative, (dy, weight, bias, 1, 0 * x, *numbers)), "derivative")
    bench.run(Call(gradient, (x, dy, 1.0, 0 * weight, *numbers)), "gradient")
    assert bench.findings == []
    assert len(bench.counts) == 3


@pytest.mark.parametrize("file", C_FILES)
def test_every_kernel_of_a_file_is_there(file: str) -> None:
    names = [portable(name) for name in kernels_of(file)]
    found = [find_kernel(name) for name in names]
    missing = [str(n) for n, kernel in zip(names, found, strict=True) if not kernel]
    assert missing == []
    library = compile_kernels(names)
    assert all(hasattr(library, kernel.function) for kernel in found if kernel)


@pytest.mark.parametrize("hidden", STEP_ACTIVATIONS)
@pytest.mark.parametrize("recurrent", STEP_ACTIVATIONS)
def test_steps_are_there_for_all_activations(hidden: str, recurrent: str) -> None:
    names = [*gru_kernels(hidden, recurrent), *lstm_kernels(hidden, recurrent)]
    assert [find_kernel(name) for name in names if portable(name) != name] == [None] * 4
    twins = [portable(name) for name in (*names, *rnn_kernels(hidden))]
    library = compile_kernels(twins, compiler=("gcc", "-O0"))
    for kernel in map(find_kernel, twins):
        assert kernel is not None
        assert hasattr(library, kernel.function)


@pytest.mark.parametrize("hidden", STEP_ACTIVATIONS)
def test_steps_give_the_bytes_of_numba(hidden: str) -> None:
    """Functions whose slope follows from their output, on numbers of all sizes."""
    random = np.random.default_rng(0)
    n = how_many(20_000, 1_000_000)
    bits = random.integers(0, 1 << 32, n, dtype=np.uint64).astype(np.uint32)
    states = np.concatenate([bits.view(np.float32), 20 * normal(random, n)])
    n = states.size
    zeros, numbers = np.zeros((7, n), np.float32), (0, 1, 1, n, np.zeros(2), 3)
    a, h, out, one, bias, d_states, dh = zeros
    forward, backward = (portable(name) for name in rnn_kernels(hidden))
    bench = CBench(*_COMPILERS)
    given: tuple[Any, ...] = (states, one[:1], bias, one, 0, a, h, out, 1, n, 0)
    bench.run(Call(forward, (*given, *numbers, 0.0)), hidden)
    d_out = (out[::-1].copy(), 1, n, 0)
    given = (states, one[:1], d_states, a, dh, *d_out, np.zeros(n))
    bench.run(Call(backward, (*given, *numbers, 0.25)), hidden)
    assert bench.findings == []
    assert len(bench.counts) == 2


def test_families_name_calls_that_exist() -> None:
    assert set(C_FAMILIES) <= set(FAMILIES)
    assert len(set(C_FAMILIES)) == len(C_FAMILIES)
    assert set(C_FAMILIES) >= HARD


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*given: Iterable[Any]) -> str:
        return source_of(*given).replace("a[i] + b[i]", "b[i] - a[i]")

    monkeypatch.setattr(c_kernels, "source_of", faulty)
    bench = CBench(("gcc", "-O1"))  # of which no library is kept yet
    run_cases(bench, "shape", 6)
    assert bench.findings
    assert all(text.startswith("elementwise.add ") for text in bench.findings)


@pytest.mark.skipif(not FULL, reason="sanitizers run with --full")
@pytest.mark.parametrize("hard", [False, True])
def test_sanitizers_find_nothing(hard: bool) -> None:
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    families = [f for f in C_FAMILIES if f in HARD or not hard]
    options = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "helpers.c_kernels"),
            *(["hard"] if hard else []),
            *(",".join(families), "30", "gcc", *options.split()),
        ],
        env={**os.environ, "LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"},
        cwd=os.path.dirname(os.path.dirname(__file__)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout)["findings"] == []
