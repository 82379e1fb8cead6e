"""Packs columns of integers into few bytes: differences, a common factor, byte planes.

A column becomes its lowest bytes, then the next ones and so on; what hardly changes
lies together, which is what gzip is good at.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np
import numpy.typing as npt

EXACT_INTEGERS = 2**53
"""Upper limit of the integers that JavaScript's numbers hold exactly."""


class ColumnPacker:
    """Packs columns and texts into one blob with a table of contents.

    ``viewer/decode.js`` reads it.
    """

    def __init__(self) -> None:
        self._contents: list[dict[str, Any]] = []
        self._parts: list[bytes] = []

    def add(
        self, name: str, values: npt.ArrayLike, *, differences: bool = False
    ) -> None:
        """Add a column of integers.

        Parameters
        ----------
        name : str
        values : array_like of int, shape (n,)
            Below 2**53 in magnitude.
        differences : bool
            Keep what each adds to the one before, which is smaller where neighbours are
            alike.
        """
        column = np.asarray(values, dtype=np.int64)
        wide = bool(len(column) and np.abs(column).max() >= 2**31)
        kept = np.diff(column, prepend=0) if differences else column
        assert not len(kept) or np.abs(kept).max() < EXACT_INTEGERS
        factor = max(int(np.gcd.reduce(kept)) if len(kept) else 1, 1)
        kept = kept // factor
        signed = bool(len(kept) and kept.min() < 0)
        if signed:
            kept = np.where(kept < 0, -2 * kept - 1, 2 * kept)
        n_planes = max(-(-int(kept.max(initial=0)).bit_length() // 8), 1)
        planes = kept.astype("<i8").view(np.uint8).reshape(len(kept), 8)[:, :n_planes]
        self._contents.append(
            {
                "name": name,
                "length": len(kept),
                "planes": n_planes,
                "factor": factor,
                "signed": signed,
                "differences": differences,
                "wide": wide,
            }
        )
        self._parts.append(planes.T.tobytes())

    def add_texts(self, name: str, texts: list[str]) -> None:
        """Add a list of texts."""
        part = json.dumps(texts, ensure_ascii=False).encode("utf-8", "surrogatepass")
        self._contents.append({"name": name, "text_bytes": len(part)})
        self._parts.append(part)

    def finish(self) -> tuple[list[dict[str, Any]], str]:
        """Return the table of contents, and the columns gzipped in base64."""
        blob = gzip.compress(b"".join(self._parts), 6, mtime=0)
        return self._contents, base64.b64encode(blob).decode("ascii")
