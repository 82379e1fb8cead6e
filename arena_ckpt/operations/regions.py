"""Operands of kernel calls: stretches of a memory, known by offset, shape and dtype.

A region says where an array lies before there is a memory that it could lie in. It has
as much of NumPy's interface as naming kernel calls takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.dtypes import item_bytes
from arena_ckpt.common.short_repr import brief_repr
from arena_ckpt.errors import RegionError


@dataclass(frozen=True, slots=True)
class Region:
    """A C-contiguous array in a memory.

    Attributes
    ----------
    memory : str
        Which memory: ``"arena"``, ``"constants"``, or a RAM that the plan names.
    offset_bytes : int
        Where it begins in that memory.
    shape : tuple of int
        Elements along each axis.
    dtype : str
        A key of `dtypes.DTYPES`.
    """

    memory: str
    offset_bytes: int
    shape: tuple[int, ...]
    dtype: str

    __repr__ = brief_repr

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        elems = 1
        for length in self.shape:
            elems *= length
        return elems

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return item_bytes(self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return self.shape[0]

    def reshape(self, *lengths: int | tuple[int, ...]) -> Region:
        """Return the same elements with other axes; one length may be -1.

        Parameters
        ----------
        lengths : ints, or one tuple of them

        Raises
        ------
        RegionError
            The elements do not fill such a shape.
        """
        shape: tuple[int, ...] = (
            lengths[0] if isinstance(lengths[0], tuple) else lengths  # type: ignore[assignment]
        )
        known = 1
        for length in shape:
            known *= 1 if length == -1 else length
        free = shape.count(-1)
        if free == 1 and known and self.size % known == 0:
            shape = tuple(self.size // known if n == -1 else n for n in shape)
        elif free or known != self.size:
            raise RegionError(
                f"a tensor of {self.size} elements cannot be read as an array of "
                f"shape {shape}",
                shape=self.shape,
            )
        return replace(self, shape=shape)

    def __getitem__(self, part: slice) -> Region:
        """Return the elements `start` to `stop` of the first axis, in one piece.

        Raises
        ------
        RegionError
            Anything else than a slice without a step, such as an index: what a kernel
            takes is one contiguous piece.
        """
        if not isinstance(part, slice) or part.step not in (None, 1) or not self.shape:
            raise RegionError(
                f"a tensor cannot be indexed by {part!r} before there is an arena; "
                "take a contiguous part, tensor[start:stop], of its first axis",
                shape=self.shape,
            )
        start, stop, _ = part.indices(self.shape[0])
        length = max(0, stop - start)
        row_bytes = self.itemsize * replace(self, shape=self.shape[1:]).size
        return replace(
            self,
            offset_bytes=self.offset_bytes + start * row_bytes,
            shape=(length, *self.shape[1:]),
        )

    def view(self, dtype: npt.DTypeLike) -> Region:
        """Return the same bytes of one axis as elements of another dtype.

        Raises
        ------
        RegionError
            The bytes are no whole number of such elements.
        """
        dtype = np.dtype(dtype).name
        if len(self.shape) != 1 or self.nbytes % item_bytes(dtype):
            raise RegionError(
                f"{self.nbytes} bytes of shape {self.shape} cannot be read as {dtype}",
                shape=self.shape,
            )
        shape = (self.nbytes // item_bytes(dtype),)
        return replace(self, shape=shape, dtype=dtype)
