"""Numbers as C literals, which compilers read back as the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from arena_ckpt.errors import CExportError

_ROW_COLUMNS = 88
_INT32 = range(-(2**31) + 1, 2**31)


def int32_literal(value: int) -> str:
    """Return a whole number as an ``int32_t``.

    Raises
    ------
    CExportError
        It needs more bits.
    """
    if value not in _INT32:
        raise CExportError(
            f"{value:,} is beyond the 32 bits of sizes in C; make the model or its "
            "batch smaller",
            layers=(),
            kernels=(),
        )
    return str(value)


def uint64_literal(value: int) -> str:
    """Return a whole number as a ``uint64_t``; negative ones are taken modulo 2⁶⁴."""
    return f"UINT64_C(0x{value % 2**64:016x})"


def double_literal(value: float) -> str:
    """Return a number as a ``double``."""
    return _of_infinity(value, "") or repr(float(value))


def float_literal(value: float) -> str:
    """Return the float32 nearest to a number as a ``float``."""
    number = np.float32(value)
    return _of_infinity(float(number), "f") or f"{number!s}f"


def _of_infinity(value: float, suffix: str) -> str | None:
    assert not math.isnan(value), "no kernel is given NaN as a number"
    if not math.isinf(value):
        return None
    return f"({'-' if value < 0 else ''}1.0{suffix} / 0.0{suffix})"


def float_rows(values: npt.NDArray[np.float32]) -> Iterator[str]:
    """Yield the lines of an initializer of finite floats."""
    yield from rows([f"{text}f" for text in values.reshape(-1).astype("U")])


def rows(items: Sequence[str]) -> Iterator[str]:
    """Yield lines of items, each with a comma behind it."""
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > _ROW_COLUMNS:
            yield line
            line = "   "
        line += f" {item},"
    if items:
        yield line
