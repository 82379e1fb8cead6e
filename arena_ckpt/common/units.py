"""Sizes in bytes: alignment, and how people write them."""

from __future__ import annotations

import re
from fractions import Fraction

from arena_ckpt.errors import InvalidParameterError

ALIGNMENT_BYTES = 64
"""Every buffer starts at a multiple of this: a cache line, and an AVX-512 vector."""

LARGEST_BYTES = 2**63 - 1
"""Maximum size that people can write, so that all sizes fit into 64 bits."""

LONGEST_TEXT = 60
"""Maximum number of characters of a size."""

_SUFFIX_BYTES = {
    "": 1, "b": 1,
    "k": 1024, "kib": 1024, "kb": 1000,
    "m": 1024**2, "mib": 1024**2, "mb": 1000**2,
    "g": 1024**3, "gib": 1024**3, "gb": 1000**3,
}  # fmt: skip


def align_up(value_bytes: int, alignment_bytes: int = ALIGNMENT_BYTES) -> int:
    """Round `value_bytes` up to a multiple of `alignment_bytes`."""
    return -(-value_bytes // alignment_bytes) * alignment_bytes


def format_bytes(value_bytes: int) -> str:
    """Return bytes in a binary unit and exactly: ``"2.50 KiB (2,560 B)"``."""
    for suffix, unit in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if abs(value_bytes) >= unit:
            return f"{value_bytes / unit:,.2f} {suffix} ({value_bytes:,} B)"
    return f"{value_bytes:,} B"


def format_percent(share: float) -> str:
    """Return a share as people read it: ``"12.5 %"``."""
    return f"{100 * share:.1f} %"


def parse_bytes(text: str | int) -> int:
    """Return the number of bytes of ``"256KiB"``, ``"64 MB"`` or ``1024``.

    Parameters
    ----------
    text : str or int
        A number with an optional unit: B, KiB, MiB, GiB (powers of 1024; K, M, G
        mean the same) or KB, MB, GB (powers of 1000).

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    InvalidParameterError
        The text is no positive size.
    """
    number, suffix = _split(text)
    if suffix in _SUFFIX_BYTES:
        value_bytes = number * _SUFFIX_BYTES[suffix]  # exact: number is a fraction
        if 1 <= value_bytes <= LARGEST_BYTES:
            return int(value_bytes)
    shown = text if isinstance(text, str) and len(text) <= LONGEST_TEXT else "this"
    raise InvalidParameterError(
        f"{shown!r} is no memory size; write a positive number below 2**63 with an "
        "optional unit, for example 262144, 256KiB or 64MiB",
        text=text,
    )


def _split(text: str | int) -> tuple[Fraction, str]:
    """Return the number and the unit in lower case; 0 where there is no number."""
    if isinstance(text, int):
        return Fraction(text), ""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not match or len(text) > LONGEST_TEXT:
        return Fraction(0), ""
    return Fraction(match[1]), match[2].lower()
