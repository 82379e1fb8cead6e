"""The one block of memory: allocated once, aligned, handed out as typed views.

Constants stand behind the RAM on pages of their own, so that they can be made
read-only.

In debug mode the plan leaves a canary after every buffer, and there is one before the
first; `Arena.guard` fills it, `Arena.is_guard_intact` finds a kernel that wrote past
its end, and `Arena.poison` fills a dead buffer so that nothing stale can be mistaken
for a value.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.dtypes import DTYPES
from arena_ckpt.common.free_memory import available_bytes
from arena_ckpt.common.units import ALIGNMENT_BYTES, align_up, format_bytes
from arena_ckpt.errors import ArenaTooLargeError
from arena_ckpt.operations.regions import Region

CANARY_BYTES = ALIGNMENT_BYTES
_CANARY = np.uint8(0xC7)
_POISON = np.uint8(0xA5)


def check_fits(arena_bytes: int, what: str) -> None:
    """Refuse an arena that is larger than the memory that is free.

    Raises
    ------
    ArenaTooLargeError
        With `arena_bytes` and `available_bytes`.
    """
    available = available_bytes()
    if arena_bytes > available:
        raise ArenaTooLargeError(
            f"{what} needs {format_bytes(arena_bytes)}, and this machine has "
            f"{format_bytes(available)} of memory free; nothing was allocated. Make "
            "batch_size or the layers smaller, or use micro_batches",
            arena_bytes=arena_bytes,
            available_bytes=available,
        )


class Arena:
    """One block of memory: the RAM, and constants behind it on pages of their own.

    Parameters
    ----------
    size_bytes : int
        Of the RAM.
    constant_bytes : int
        Of the constants.

    Attributes
    ----------
    bytes : uint8 array
        The RAM.
    span : uint8 array
        The RAM, what fills its last page, and the constants.
    constants_start : int
        Offset at which the constants begin.

    Raises
    ------
    ArenaTooLargeError
        More than the memory that is free, or than the process may have; nothing is
        allocated then.
    """

    def __init__(self, size_bytes: int, constant_bytes: int = 0) -> None:
        check_fits(size_bytes + constant_bytes, "the arena")
        try:
            if constant_bytes:
                whole, skip, start = _pages(size_bytes, constant_bytes)
            else:
                whole = np.zeros(
                    CANARY_BYTES + size_bytes + ALIGNMENT_BYTES, dtype=np.uint8
                )
                front = whole.ctypes.data + CANARY_BYTES
                skip, start = CANARY_BYTES + -front % ALIGNMENT_BYTES, size_bytes
        except MemoryError as error:  # a limit of the process, for example ulimit -v
            raise ArenaTooLargeError(
                f"the arena needs {format_bytes(size_bytes + constant_bytes)}, which "
                "the system does not give to this process; nothing was allocated. Make "
                "batch_size or the layers smaller, use micro_batches, or raise the "
                "limit",
                arena_bytes=size_bytes + constant_bytes,
            ) from error
        self.span: npt.NDArray[np.uint8] = whole[skip : skip + start + constant_bytes]
        self.bytes = self.span[:size_bytes]
        self.constants_start = start
        self._front = whole[skip - CANARY_BYTES : skip]
        self._is_protected = False

    def view(
        self, offset_bytes: int, shape: tuple[int, ...], dtype: str
    ) -> npt.NDArray[Any]:
        """Return a typed view; nothing is copied."""
        return np.ndarray(shape, dtype, buffer=self.span.data, offset=offset_bytes)

    def protect_constants(self) -> None:
        """Let a write to the constants end the process from now on.

        Does nothing where the system has no call for that.
        """
        self._is_protected = self._protect(writable=False)

    @contextmanager
    def constants_writable(self) -> Iterator[None]:
        """Let constants be written within a block of code, although protected."""
        if not self._is_protected:
            yield
            return
        self._protect(writable=True)
        try:
            yield
        finally:
            self._protect(writable=False)

    def _protect(self, *, writable: bool) -> bool:
        constants = self.span[self.constants_start :]
        if not constants.size or not hasattr(mmap, "PROT_READ"):
            return False
        allowed = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        call = ctypes.CDLL(None, use_errno=True).mprotect
        call.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        size_bytes = align_up(constants.size, mmap.PAGESIZE)
        return int(call(constants.ctypes.data, size_bytes, allowed)) == 0

    def at(self, region: Region) -> npt.NDArray[Any]:
        """Return the array that a region stands for, from the start of the RAM on."""
        return self.view(region.offset_bytes, region.shape, region.dtype)

    def poison(self, offset_bytes: int, size_bytes: int, dtype: str) -> None:
        """Fill dead bytes with NaN (where they are no floats: 0xA5 in every byte)."""
        kind = DTYPES.get(dtype)
        if kind is not None and kind.is_float:
            n_elems = size_bytes // kind.item_bytes
            self.view(offset_bytes, (n_elems,), dtype).fill(np.nan)
        else:
            self.span[offset_bytes : offset_bytes + size_bytes] = _POISON

    def guard(self, offset_bytes: int, size_bytes: int = CANARY_BYTES) -> None:
        """Set the canary that begins at `offset_bytes`."""
        self.span[offset_bytes : offset_bytes + size_bytes] = _CANARY

    def is_guard_intact(
        self, offset_bytes: int, size_bytes: int = CANARY_BYTES
    ) -> bool:
        """Tell whether nobody wrote into the canary at `offset_bytes`."""
        canary = self.span[offset_bytes : offset_bytes + size_bytes]
        return bool((canary == _CANARY).all())

    def are_guards_intact(self, places: npt.NDArray[np.int64]) -> bool:
        """Tell whether nobody wrote into any of some bytes of canaries."""
        return bool((self.span[places] == _CANARY).all())

    def guard_front(self) -> None:
        """Set the canary before the first byte."""
        self._front.fill(_CANARY)

    def is_front_intact(self) -> bool:
        """Tell whether nobody wrote before the first byte."""
        return bool((self._front == _CANARY).all())


def _pages(
    size_bytes: int, constant_bytes: int
) -> tuple[npt.NDArray[np.uint8], int, int]:
    """Map pages for RAM and constants.

    Returns
    -------
    whole : uint8 array
    skip, start : int
        Where the RAM begins in it, and where the constants begin in the RAM.

    Raises
    ------
    MemoryError
    """
    page = mmap.PAGESIZE
    start = align_up(size_bytes, page)
    try:
        mapped = _map(page + start + align_up(constant_bytes, page))
    except OSError as error:
        raise MemoryError(str(error)) from error
    if hasattr(mmap, "MADV_HUGEPAGE"):  # as NumPy does for large arrays
        with suppress(OSError):
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, dtype=np.uint8), page, start


def _map(size_bytes: int) -> mmap.mmap:
    """Map fresh pages, which a fork copies: by default it would share them."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size_bytes)
    return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
