"""Archives of arrays, read whole, so that no file stays open behind a test."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_npz(path: Path | str) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` file by name.

    What ``numpy.load`` returns keeps the file open. If it dies with a cycle of objects,
    the collector may close the file first and warn, in whichever test runs then.
    """
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)
