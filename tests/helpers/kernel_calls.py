"""Running a kernel in every way it can be run, for the tests of the kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from arena_ckpt.kernels.kernel import Kernel, kernel_of, run_table
from arena_ckpt.operations.kernel_names import KernelName

SIZES = (0, 1, 7, 8, 1000)
EDGES = np.array(
    [0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, 20, -20, 88, -88, 1e4, -1e4],
    np.float32,
)


def found(named: Kernel | KernelName) -> Kernel:
    """Return the kernel, or the one that a name stands for."""
    return kernel_of(named) if isinstance(named, KernelName) else named


def run_entry(named: Kernel | KernelName, *arguments: Any) -> None:
    """Run the entry that is compiled for which of `arguments` are the same array."""
    kernel = found(named)
    block = np.array(kernel.pack(arguments), np.int64)
    table = np.array([kernel.entry(arguments), block.ctypes.data], np.int64)
    run_table(table.ctypes.data, 1)


def run_python(kernel: Kernel, *arguments: Any) -> None:
    """Run the loops in Python; only helpers and routines are compiled."""
    names = kernel._python.__globals__
    routines = {
        name: value
        for name, value in names.items()
        if getattr(value, "targetoptions", {}).get("no_cpython_wrapper")
    }
    names.update({name: _callable(value) for name, value in routines.items()})
    try:
        with np.errstate(all="ignore"):
            kernel._python(*arguments)
    finally:
        names.update(routines)


def assert_python_agrees(made: Kernel, arguments: tuple[Any, ...]) -> None:
    """Run the Python text of a kernel and its compiled form: the same results."""

    def copies() -> list[Any]:
        return [v.copy() if isinstance(v, np.ndarray) else v for v in arguments]

    by_hand, compiled = copies(), copies()
    run_python(made, *by_hand)
    run_entry(made, *compiled)
    for ours, theirs in zip(by_hand, compiled, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@functools.cache
def _callable(routine: Any) -> Any:
    """Compile a routine for calls from Python, which would end the process else."""
    options = dict(routine.targetoptions)
    del options["no_cpython_wrapper"]
    return numba.jit(**options)(routine.py_func)


def normal(*shape: int, seed: int = 0, spread: float = 2.0) -> npt.NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return (spread * generator.normal(size=shape)).astype(np.float32)


def poison(*shape: int) -> npt.NDArray[np.float32]:
    return np.full(shape, np.nan, np.float32)


def assert_same_bits(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    """Equal bit for bit; any NaN equals any NaN."""
    both_nan = np.isnan(actual) & np.isnan(expected)
    assert (both_nan | (actual.view(np.int32) == expected.view(np.int32))).all()


def slope(
    function: Callable[[npt.NDArray[np.float64]], Any], x: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Central differences of a float64 function; of its sum where it has several."""
    x = x.astype(np.float64)
    result = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-5
        result[index] = np.sum(function(x + step) - function(x - step)) / 2e-5
    return result
