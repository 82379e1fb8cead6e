"""Numbers recorded from NNTrainer, where they are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

RECORDINGS = Path(__file__).parents[3] / "shared/data/nntrainer"
Array = npt.NDArray[np.float32]


def counted_arrays(path: Path, offset: int) -> Iterator[Array]:
    """Yield the arrays of ``(int32 n, n floats)`` records from byte `offset` on."""
    data = path.read_bytes()
    while offset < len(data):
        (n,) = np.frombuffer(data, "<i4", 1, offset)
        yield np.frombuffer(data, "<f4", n, offset + 4)
        offset += 4 + 4 * int(n)
