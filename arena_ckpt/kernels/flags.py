"""Python's part of keeping the floating-point flags of other libraries out of our bits.

Native steps set IEEE's default themselves (`kernel.run_table`). What computes numbers
in Python or NumPy that reach the bits of a model does it through `run_by_default` or
within `default_flags`; so does what starts threads, for they begin with the flags of
the thread that starts them. Afterwards the flags are again what they were.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TypeVar, TypeVarTuple

import numpy as np

Given = TypeVarTuple("Given")
Result = TypeVar("Result")

_BESIDE_ONE = np.array([2**-26, 3 * 2**-25])
"""Numbers that 1 plus each shows the rounding by: one rounds down, one up."""

_SUBNORMAL = 2.0**-140
"""A number below the least normal float32, which float32 holds exactly."""


@functools.cache  # asked for at every iteration, where an import takes a microsecond
def _registers() -> ModuleType:
    """Return the module that reads and writes flags; loads Numba."""
    from arena_ckpt.kernels import registers

    return registers


@contextmanager
def default_flags() -> Iterator[None]:
    """Set IEEE's default in this thread for a while."""
    registers = _registers()
    before = registers.read()
    try:
        registers.write(registers.DEFAULT)
        yield
    finally:
        registers.write(before)


def run_by_default(work: Callable[[*Given], Result], *arguments: *Given) -> Result:
    """Do a piece of work under IEEE's default; where that is set, nothing is changed.

    Returns what the work returns and raises what it raises. Numba is loaded only to
    change flags.
    """
    if "numba" not in sys.modules and _computes_by_default():
        return work(*arguments)
    registers = _registers()
    before = registers.read()
    if before & registers.FLAGS == registers.DEFAULT & registers.FLAGS:
        return work(*arguments)
    try:  # no `with`: Ctrl-C could come between its beginning and its block
        registers.write(registers.DEFAULT)
        return work(*arguments)
    finally:
        registers.write(before)


def _computes_by_default() -> bool:
    """Say whether NumPy rounds to nearest and keeps subnormal numbers in this thread.

    That is what flags change of a result; what an exception does shows in none.
    """
    with np.errstate(all="ignore"):
        below, above = (1 + _BESIDE_ONE).astype(np.float32)
        made = np.array([_SUBNORMAL]).astype(np.float32)
        read = made.astype(np.float64)
    return bool(below == 1 < above and made.view(np.int32) and read == _SUBNORMAL)
