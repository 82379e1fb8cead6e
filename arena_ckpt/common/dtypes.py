"""The dtypes that a planned tensor can have."""

from __future__ import annotations

ITEM_BYTES = {"float32": 4, "float64": 8, "int32": 4}
"""Bytes of an element of each dtype."""
