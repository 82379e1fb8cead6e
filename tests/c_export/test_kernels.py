"""Kernels in C give the bytes of those in Numba, call by call.

The calls are random cases of `kernel_geometries`; half of the families also run with
NaN, infinities and subnormal numbers among the data. With --full they run with more
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

import pytest
from helpers import c_kernels
from helpers.c_kernels import NEEDS_GCC, CBench, compile_kernels, kernels_of, run_cases
from helpers.kernel_geometries import FAMILIES, GROUPS
from helpers.scale import FULL, how_many

from arena_ckpt.c_export.sources import find_kernel, source_of

C_FAMILIES: tuple[str, ...] = (
    *GROUPS["functions"],
    *GROUPS["arithmetic"],
    *("dense", "losses", "rearranged", "shape", "updates", "reductions"),
)
"""Names of the families of calls whose kernels are there in C."""

C_FILES: tuple[str, ...] = (
    *("activations", "arithmetic", "elementwise", "losses", "rearrange"),
    *("reductions", "updates"),
)
"""Names of the files of kernels that are there in C as a whole."""

HARD: frozenset[str] = frozenset(C_FAMILIES)
"""Families whose kernels are also given numbers that are easily got wrong."""

# In Numba its product is one of BLAS, which adds in an order of its own.
_OTHER_BITS = ("updates.sgd_product",)

_COMPILERS: tuple[tuple[str, ...], ...] = (("gcc", "-O2"),)
if FULL:
    _COMPILERS += (("gcc", "-O0"), ("gcc", "-O3", "-march=native"))
    if shutil.which("clang"):
        _COMPILERS += (("clang", "-O2"),)

pytestmark = NEEDS_GCC


def wrong(findings: list[str]) -> list[str]:
    """Return the findings of kernels that should give the same bits."""
    return [text for text in findings if not text.startswith(_OTHER_BITS)]


@pytest.mark.parametrize("family", C_FAMILIES)
def test_c_gives_the_bytes_of_numba(family: str) -> None:
    for hard in (False, True) if family in HARD else (False,):
        bench = CBench(*_COMPILERS, hard=hard)
        run_cases(bench, family, how_many(6, 100))
        assert wrong(bench.findings) == []
        assert sum(bench.counts.values()) > 0


@pytest.mark.parametrize("file", C_FILES)
def test_every_kernel_of_a_file_is_there(file: str) -> None:
    names = kernels_of(file)
    found = [find_kernel(name) for name in names]
    missing = [str(n) for n, kernel in zip(names, found, strict=True) if not kernel]
    assert missing == []
    library = compile_kernels(names)
    assert all(hasattr(library, kernel.function) for kernel in found if kernel)


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
    assert wrong(json.loads(done.stdout)["findings"]) == []
