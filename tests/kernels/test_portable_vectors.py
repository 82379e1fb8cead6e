"""Portable kernels give the same bits with vectors of either length.

A processor with AVX-512 takes 16 lanes and tiles of 8 rows, others 8 lanes and 4 rows.
Where the first is at hand, a child that is told otherwise computes with the second.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import TESTS
from helpers.scale import FULL

SHORT = """
import llvmlite.binding
features = llvmlite.binding.get_host_cpu_features()
features["avx512f"] = False
llvmlite.binding.get_host_cpu_features = lambda: features
from arena_ckpt.kernels import chains
assert (chains.LANES, chains.ROWS) == (8, 4)
from kernels.test_portable_vectors import digest
print(digest())
"""


def normal(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.normal(size=n).astype(np.float32)


def digest() -> str:
    """Return a digest of products and convolutions of many sizes."""
    from arena_ckpt.kernels import chains, direct, direct_depthwise
    from arena_ckpt.operations.convolution import Convolution

    generator = np.random.default_rng(4)
    found = hashlib.sha256()
    for m, n, k in ((1, 1, 1), (3, 10, 17), (8, 16, 5), (13, 70, 300), (4, 49, 129)):
        a, b, c = (normal(generator, size) for size in (m * k, k * n, m * n))
        sizes = (m, n, k)
        for transposed in (0, 1):
            width = k if transposed else n
            chains.chain_windows(
                0, transposed, *sizes, a, 0, k, b, 0, width, float(transposed), c, 0, n
            )
            found.update(c.tobytes())
    for channels, side, filters, kernel, stride in (
        *((1, 8, 3, 3, 1), (5, 13, 20, 3, 2), (17, 6, 9, 1, 2), (40, 9, 33, 5, 1)),
        (3, 70, 4, 3, 3),
    ):
        pads = (kernel // 2,) * 4
        shape = (channels, side, side + 2)
        for depthwise in (False, True):
            outputs = channels if depthwise else filters
            geometry = Convolution(
                *shape, outputs, (kernel, kernel), (stride, 1), (1, 1), pads
            )
            numbers = (3, *geometry.numbers)
            x = normal(generator, 3 * channels * side * (side + 2))
            n_weights = outputs * kernel**2 * (1 if depthwise else channels)
            weight, bias = normal(generator, n_weights), normal(generator, outputs)
            out = 3 * outputs * geometry.out_height * geometry.out_width
            y, dy, dx = normal(generator, out), normal(generator, out), x.copy()
            dw = weight.copy()
            if depthwise:
                family, stem = direct_depthwise, "direct_depthwise"
                given = (dy, weight, dx)
            else:
                family, stem = direct, "direct"
                given = (dy, weight, bias, 0, dx)
            getattr(family, f"{stem}_forward")(x, weight, bias, 1, y, *numbers)
            getattr(family, f"{stem}_derivative")(*given, *numbers)
            getattr(family, f"{stem}_gradient")(x, dy, 1.0, dw, *numbers)
            for array in (y, dx, dw):
                found.update(array.tobytes())
    return found.hexdigest()


def test_short_vectors_give_the_same_bits(tmp_path: Path) -> None:
    from arena_ckpt.kernels import chains

    if not FULL:
        pytest.skip("it compiles the kernels anew: all tests run it")
    if chains.LANES == 8:
        pytest.skip("this processor has short vectors alone")
    path = os.pathsep.join((str(TESTS.parent), str(TESTS)))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", SHORT],
        env=environment,
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()
