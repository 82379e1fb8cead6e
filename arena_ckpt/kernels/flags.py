"""Python's part of keeping the floating-point flags of other libraries out of our bits.

Native steps set IEEE's default themselves (`kernel.run_table`). What computes numbers
in Python or NumPy that reach the bits of a model does it through `run_by_default` or
within `default_flags`; so does what starts threads, for they begin with the flags of
the thread that starts them. Afterwards the flags are again what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple

from arena_ckpt.kernels.compiling import compiled
from arena_ckpt.kernels.registers import (
    DEFAULT,
    FLAGS,
    read_registers,
    write_registers,
)

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


@compiled
def _read():
    return read_registers()


@compiled
def _write(value):
    write_registers(value)


@contextmanager
def default_flags() -> Iterator[None]:
    """Set IEEE's default in this thread for a while."""
    before = _read()
    try:
        _write(DEFAULT)
        yield
    finally:
        _write(before)


def run_by_default(work: Callable[[*Given], Result], *arguments: *Given) -> Result:
    """Do a piece of work under IEEE's default; where that is set, nothing is changed.

    Returns what the work returns and raises what it raises.
    """
    before = _read()
    if before & FLAGS == DEFAULT & FLAGS:
        return work(*arguments)
    try:  # no `with`: Ctrl-C could come between its beginning and its block
        _write(DEFAULT)
        return work(*arguments)
    finally:
        _write(before)
