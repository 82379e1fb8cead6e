"""Runs kernel calls in Numba and in C, and compares every byte.

The C text is that which an exported project gets: of some kernels, and of what they
use. The kernels of a file make one library for each compiler, with the warnings that a
project is built with. As a program, this runs families of cases and writes as JSON what
it found: ``python -m helpers.c_kernels dense,products 100``. `hard` before the families
puts NaN, infinities and the like among the numbers.
"""

from __future__ import annotations

import ctypes
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from arena_ckpt.c_export.sources import FOLDER, CKernel, find_kernel, source_of
from arena_ckpt.common.arithmetics import PORTABLE
from arena_ckpt.kernels.kernel import Kernel, kernel_of
from arena_ckpt.layers.base import Call
from arena_ckpt.operations import activations, curves, families, recurrent
from arena_ckpt.operations.curves import curve_kernels
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.portable import portable
from helpers.kernel_geometries import FAMILIES

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")

NEEDS_GCC = pytest.mark.skipif(
    shutil.which("gcc") is None,
    reason="gcc is missing: NOTHING IN C IS TESTED; install gcc",
)
"""Marks tests that compile C."""

_NUMBERS: dict[str, Any] = {
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}


def has_c_kernels(names: Iterable[KernelName]) -> list[KernelName]:
    """Return those that are there in C."""
    return [name for name in names if find_kernel(name) is not None]


def compile_kernels(
    names: Iterable[KernelName],
    others: Iterable[str] = (),
    *,
    compiler: Sequence[str] = ("gcc", "-O2"),
) -> ctypes.CDLL:
    """Return a library of kernels and functions, from the text that a project gets."""
    folder = Path(tempfile.mkdtemp(prefix="c_kernels"))
    source = folder / "kernels.c"
    text = source_of(names, others)
    source.write_text('#include "ac_math.h"\n\n' + text, "utf-8")
    library = folder / "kernels.so"
    command = [*compiler, *WARNINGS, f"-I{FOLDER}", "-shared", "-fPIC", "-o"]
    files = [str(library), str(source), str(FOLDER / "ac_math.c")]
    done = subprocess.run(
        [*command, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:4000]
    return ctypes.CDLL(str(library))


@functools.cache
def library_of(name: KernelName, compiler: tuple[str, ...]) -> ctypes.CDLL:
    """Return a library that holds a kernel and the others of its file."""
    return _library(tuple(_together_with(name)), compiler)


@functools.cache
def _library(names: tuple[KernelName, ...], compiler: tuple[str, ...]) -> ctypes.CDLL:
    return compile_kernels(names, compiler=compiler)


def _together_with(name: KernelName) -> list[KernelName]:
    """Return the kernels of a file that are there in C, of steps those of a variant."""
    made = {
        "gru": recurrent.gru_kernels,
        "lstm": recurrent.lstm_kernels,
        "rnn": recurrent.rnn_kernels,
    }
    names: Iterable[KernelName] = kernels_of(name.family)
    if name.variant and name.family in made:
        functions = (word for word in name.variant if word != PORTABLE)
        names = made[name.family](*functions)
    return has_c_kernels(portable(k) for k in names)


def kernels_of(family: str) -> list[KernelName]:
    """Return the kernels of a file, but those of recurrent steps."""
    known = [k for f in families.FAMILIES for k in f if k.family == family]
    if family == "activations":
        for a in activations.ACTIVATIONS.values():
            known += [k for k in (a.forward, a.backward, a.bias_forward) if k]
    if family == "curves":
        known += [kernel for name in curves.SAVES for kernel in curve_kernels(name)]
    return known


def c_arguments(
    kernel: CKernel, name: KernelName, arguments: Sequence[Any]
) -> list[Any]:
    """Return what the C function is given for the arguments of a call."""
    given = dict(zip((p for p, _ in name.parameters), arguments, strict=True))
    result = []
    for text, kind in zip(kernel.arguments, kernel.types, strict=True):
        word, _, fact = text.partition(".")
        value = given[word]
        if fact:
            value = {"size": -1, "rows": 0, "columns": 1}[fact]
            value = given[word].size if value < 0 else given[word].shape[value]
        if kind.endswith("*"):
            result.append(ctypes.c_void_p(value.ctypes.data))
        else:
            result.append(_NUMBERS[kind](value))
    return result


class CBench:
    """Runs calls both ways; `findings` says where C gave other bytes.

    It stands where `kernel_memory.Bench` does: ``run(call, where)``.

    Parameters
    ----------
    *compilers : sequence of str
        Programs with their options; ``gcc -O2`` if there is none.
    hard : bool
        Whether a tenth of all numbers become NaN, infinite, subnormal and the like.
    """

    def __init__(self, *compilers: Sequence[str], hard: bool = False) -> None:
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.missing: set[str] = set()
        self._compilers = [tuple(c) for c in compilers] or [("gcc", "-O2")]
        self._random = np.random.default_rng(0) if hard else None

    def run(self, call: Call, where: str, facts: object = None) -> None:
        """Run one call in all ways; its arrays then hold the results of Numba."""
        name = name_of(call.kernel)
        kernel = find_kernel(name)
        if kernel is None:
            self.missing.add(str(name))
            kernel_of(name)(*call.arguments)
            return
        self.counts[str(name)] += 1
        if self._random is not None:
            _make_hard(call.arguments, self._random)
        copies = [copied(call.arguments) for _ in self._compilers]
        kernel_of(name)(*call.arguments)
        for compiler, arguments in zip(self._compilers, copies, strict=True):
            function = getattr(library_of(name, compiler), kernel.function)
            function.restype = None
            function(*c_arguments(kernel, name, arguments))
            for (parameter, _), mine, theirs in zip(
                name.parameters, call.arguments, arguments, strict=True
            ):
                if isinstance(mine, np.ndarray) and not same(mine, theirs):
                    self.findings.append(
                        f"{name} {' '.join(compiler)}: {parameter} differs in "
                        f"{np.flatnonzero(differing(mine, theirs))[:8]} of "
                        f"{mine.size}: {where}"
                    )


_HARD = np.array(
    [np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, -1e-39, 2.0**-126, 3.4e38, -3e38, 1, 88.8]
).astype(np.float32)


def _make_hard(arguments: Sequence[Any], random: np.random.Generator) -> None:
    """Put numbers that are easily got wrong into arrays of float32."""
    for value in arguments:
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            places = np.asarray(random.random(value.shape) < 0.1)
            value[places] = random.choice(_HARD, int(places.sum()))


@functools.cache
def name_of(kernel: KernelName | Kernel) -> KernelName:
    """Return the name of a kernel."""
    if isinstance(kernel, KernelName):
        return kernel
    files = [family.name for family in families.FAMILIES]
    known = [name for file in (*files, "activations") for name in kernels_of(file)]
    (found,) = [name for name in known if kernel_of(name) is kernel]
    return found


def copied(arguments: Sequence[Any]) -> list[Any]:
    """Copy arrays, those that share memory so that the copies share it too."""
    copies: dict[int, npt.NDArray[np.uint8]] = {}
    result: list[Any] = []
    for value in arguments:
        if not isinstance(value, np.ndarray):
            result.append(value)
            continue
        base = value
        while isinstance(base.base, np.ndarray):
            base = base.base
        if id(base) not in copies:
            # No byte more, so that sanitizers see a step beyond the end.
            copies[id(base)] = np.frombuffer(base.tobytes(), np.uint8).copy()
        offset = value.ctypes.data - base.ctypes.data
        part = copies[id(base)][offset : offset + value.nbytes]
        result.append(part.view(value.dtype).reshape(value.shape))
    return result


def differing(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mark the elements that differ in a bit, but for the bits of NaN."""
    if a.dtype.kind != "f":
        return np.asarray(a != b)
    bits = np.dtype(f"u{a.dtype.itemsize}")
    return np.asarray((a.view(bits) != b.view(bits)) & ~(np.isnan(a) & np.isnan(b)))


def same(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Tell whether two arrays are equal bit for bit."""
    return not differing(a, b).any()


def run_cases(bench: CBench, family: str, n_cases: int) -> None:
    """Run cases of one of `kernel_geometries.FAMILIES`."""
    for index in range(n_cases):
        FAMILIES[family].run(bench, f"{family}:{index}", index)  # type: ignore[arg-type]


def main(*given: str) -> None:
    """Run cases of families and write what was found."""
    hard = given[0] == "hard"
    wanted, n_cases, *compiler = given[1:] if hard else given
    bench = CBench(*((compiler,) if compiler else ()), hard=hard)
    for family in wanted.split(","):
        run_cases(bench, family, int(n_cases))
    found = {
        "findings": bench.findings,
        "counts": bench.counts,
        "missing": sorted(bench.missing),
    }
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
