"""Memory between unreadable pages: touching what lies beyond it ends the process."""

from __future__ import annotations

import ctypes
import enum
import mmap
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_GUARD_BYTES = 1 << 20
_LEAST_BYTES = 1 << 16
_STACK_BYTES = 1 << 16
_MARGIN_BYTES = 1 << 13
"""Filled beside what is placed: more than a page, so that the rest of its page is."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,
]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_PROT_NONE, _PROT_READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE


class Side(enum.Enum):
    """Where the unreadable page is, seen from an operand."""

    BEHIND = "behind"
    IN_FRONT = "in front of"
    FAR = "far from"


class Slot:
    """Room for one operand, with unreadable pages before and after it."""

    def __init__(self) -> None:
        self._start, self._n_bytes = 0, 0

    def place(self, n_bytes: int, side: Side, byte: int) -> int:
        """Return where `n_bytes` bytes begin; they and what is beside hold `byte`."""
        if n_bytes + 2 * _MARGIN_BYTES > self._n_bytes:
            self._grow(n_bytes)
        margin = _MARGIN_BYTES
        address = {
            Side.BEHIND: self._start + self._n_bytes - n_bytes,
            Side.IN_FRONT: self._start,
            Side.FAR: self._start + margin,
        }[side]
        first = max(self._start, address - margin)
        last = min(self._start + self._n_bytes, address + n_bytes + margin)
        ctypes.memset(first, byte, last - first)
        return address

    def _grow(self, n_bytes: int) -> None:
        """Map new pages; the old ones, which are few, stay until the process ends."""
        page = mmap.PAGESIZE
        self._n_bytes = (
            -(-max(n_bytes + 2 * _MARGIN_BYTES, _LEAST_BYTES) // page) * page
        )
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        whole = self._n_bytes + 2 * _GUARD_BYTES
        start = _libc.mmap(None, whole, _PROT_NONE, flags, -1, 0)
        assert start not in (None, ctypes.c_void_p(-1).value), "no memory"
        self._start = start + _GUARD_BYTES
        failed = _libc.mprotect(self._start, self._n_bytes, _PROT_READ_WRITE)
        assert not failed, "no memory"


def array_at(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return the array that begins at an address; its bytes must outlive it."""
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    memory = (ctypes.c_char * max(n_bytes, 1)).from_address(address)
    return np.ndarray(shape, dtype, memory)


# -- the stack -------------------------------------------------------------------------


@intrinsic
def _fill_frame(typing_context: Any, memset: Any, byte: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, size = ir.IntType(8).as_pointer(), ir.IntType(64)
        frame = builder.alloca(ir.IntType(8), _STACK_BYTES)
        kind = ir.FunctionType(pointer, [pointer, ir.IntType(32), size])
        function = builder.inttoptr(args[0], kind.as_pointer())
        value = builder.trunc(args[1], ir.IntType(32))
        builder.call(function, [frame, value, ir.Constant(size, _STACK_BYTES)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def stack_filler() -> Any:
    """Return an entry for program tables that leaves a byte all over the stack below.

    Its block is (address of memset, byte): LLVM would leave out what nobody reads.
    """

    @numba.cfunc(types.void(types.CPointer(types.int64)))
    def fill(block: Any) -> None:
        _fill_frame(block[0], block[1])

    return fill


MEMSET = ctypes.cast(_libc.memset, ctypes.c_void_p).value
