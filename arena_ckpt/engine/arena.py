"""The one buffer: allocated once, aligned, handed out as typed views.

In debug mode the plan leaves a canary after every buffer, and there is one before the
first; `Arena.guard` fills it, `Arena.is_guard_intact` finds a kernel that wrote past
its end, and `Arena.poison` fills a dead buffer so that nothing stale can be mistaken
for a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.dtypes import DTYPES
from arena_ckpt.common.free_memory import available_bytes
from arena_ckpt.common.units import ALIGNMENT_BYTES, format_bytes
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
    """One block of memory.

    Parameters
    ----------
    size_bytes : int

    Raises
    ------
    ArenaTooLargeError
        More than the memory that is free, or than the process may have; nothing is
        allocated then.
    """

    def __init__(self, size_bytes: int) -> None:
        check_fits(size_bytes, "the arena")
        try:
            whole = np.zeros(
                CANARY_BYTES + size_bytes + ALIGNMENT_BYTES, dtype=np.uint8
            )
        except MemoryError as error:  # a limit of the process, for example ulimit -v
            raise ArenaTooLargeError(
                f"the arena needs {format_bytes(size_bytes)}, which the system does "
                "not give to this process; nothing was allocated. Make batch_size or "
                "the layers smaller, use micro_batches, or raise the limit",
                arena_bytes=size_bytes,
            ) from error
        skip = CANARY_BYTES + -(whole.ctypes.data + CANARY_BYTES) % ALIGNMENT_BYTES
        self.bytes: npt.NDArray[np.uint8] = whole[skip : skip + size_bytes]
        self._front = whole[skip - CANARY_BYTES : skip]

    def view(
        self, offset_bytes: int, shape: tuple[int, ...], dtype: str
    ) -> npt.NDArray[Any]:
        """Return a typed view; nothing is copied."""
        return np.ndarray(shape, dtype, buffer=self.bytes.data, offset=offset_bytes)

    def at(self, region: Region) -> npt.NDArray[Any]:
        """Return the array that a region of this memory stands for."""
        return self.view(region.offset_bytes, region.shape, region.dtype)

    def poison(self, offset_bytes: int, size_bytes: int, dtype: str) -> None:
        """Fill dead bytes with NaN (where they are no floats: 0xA5 in every byte)."""
        kind = DTYPES.get(dtype)
        if kind is not None and kind.is_float:
            n_elems = size_bytes // kind.item_bytes
            self.view(offset_bytes, (n_elems,), dtype).fill(np.nan)
        else:
            self.bytes[offset_bytes : offset_bytes + size_bytes] = _POISON

    def guard(self, offset_bytes: int, size_bytes: int = CANARY_BYTES) -> None:
        """Set the canary that begins at `offset_bytes`."""
        self.bytes[offset_bytes : offset_bytes + size_bytes] = _CANARY

    def is_guard_intact(
        self, offset_bytes: int, size_bytes: int = CANARY_BYTES
    ) -> bool:
        """Tell whether nobody wrote into the canary at `offset_bytes`."""
        canary = self.bytes[offset_bytes : offset_bytes + size_bytes]
        return bool((canary == _CANARY).all())

    def are_guards_intact(self, places: npt.NDArray[np.int64]) -> bool:
        """Tell whether nobody wrote into any of some bytes of canaries."""
        return bool((self.bytes[places] == _CANARY).all())

    def guard_front(self) -> None:
        """Set the canary before the first byte."""
        self._front.fill(_CANARY)

    def is_front_intact(self) -> bool:
        """Tell whether nobody wrote before the first byte."""
        return bool((self._front == _CANARY).all())
