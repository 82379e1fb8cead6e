"""Portable kernels give the same bits with vectors of either length.

A processor with AVX-512 takes 16 lanes and tiles of 8 rows, others 8 lanes and 4 rows.
Where the first is at hand, a child that is told otherwise computes with the second.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TESTS
from helpers.portable_digest import digest
from helpers.scale import FULL

SHORT = """
import llvmlite.binding
features = llvmlite.binding.get_host_cpu_features()
features["avx512f"] = False
llvmlite.binding.get_host_cpu_features = lambda: features
from arena_ckpt.kernels import chains
assert (chains.LANES, chains.ROWS) == (8, 4)
from helpers.portable_digest import digest
print(digest())
"""


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
