"""The two arithmetics in which a model can be run."""

from __future__ import annotations

FAST = "fast"
"""Matrix products are left to BLAS, whose order of additions depends on the machine."""

PORTABLE = "portable"
"""Every addition has a place in the source: the same bits everywhere, and in C."""

ARITHMETICS = (FAST, PORTABLE)
