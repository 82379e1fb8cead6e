"""Lower bounds on the height of every layout."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from arena_ckpt.allocation.bodies import Bodies, running_total, section_bytes
from arena_ckpt.allocation.buffers import FREE
from arena_ckpt.allocation.integers import Integers


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A height in bytes that no layout is below, and the kind of its proof.

    Attributes
    ----------
    height_bytes : int
    reason : str
        ``"live bytes"``, ``"largest buffer"`` or ``"fixed offset"``.
    section : int or None
        The section with the most live bytes.
    body : int or None
        The largest body, or the highest fixed one.
    """

    height_bytes: int
    reason: str
    section: int | None = None
    body: int | None = None


def lower_bound(bodies: Bodies, n_pools: int = 1) -> LowerBound:
    """Return the highest lower bound that needs no search.

    Parameters
    ----------
    bodies : Bodies
    n_pools : int
        Pools of memory that the bodies are spread over; the bound is then on the sum
        of their heights, whichever body is in which.

    Notes
    -----
    Where every alignment is a multiple of `unit`, each piece but the topmost of its
    pool takes a multiple of `unit` bytes of its section.
    """
    if not len(bodies):
        return LowerBound(0, "live bytes")
    live = section_bytes(bodies)
    if bodies.are_flat:
        unit = math.gcd(*np.unique(bodies.alignment).tolist())
        rounded = -(-bodies.size // unit) * unit
        slack = int((rounded - bodies.size).max(initial=0))
        live = np.maximum(live, section_bytes(bodies, rounded) - n_pools * slack)
    largest = int(np.argmax(bodies.extent))
    fixed_end = np.where(
        bodies.fixed_offset == FREE, 0, bodies.fixed_offset + bodies.extent
    )
    highest = int(np.argmax(fixed_end))
    bounds = [
        LowerBound(int(bodies.extent[largest]), "largest buffer", body=largest),
        LowerBound(int(fixed_end[highest]), "fixed offset", body=highest),
    ]
    if len(live):
        peak = int(np.argmax(live))
        bounds.insert(0, LowerBound(int(live[peak]), "live bytes", section=peak))
    return max(bounds, key=lambda bound: bound.height_bytes)


def height_unit(bodies: Bodies) -> int:
    """Return the bytes of which the height of every tight layout is a multiple."""
    numbers = [*np.unique(bodies.size).tolist(), *np.unique(bodies.base).tolist()]
    numbers += np.unique(bodies.extent).tolist()
    numbers += [a for a in np.unique(bodies.alignment).tolist() if a > 1]
    numbers += [f for f in np.unique(bodies.fixed_offset).tolist() if f != FREE]
    return math.gcd(*numbers) or 1


def live_bytes(lower: Integers, upper: Integers, size: Integers) -> Integers:
    """Return the bytes that are alive at every step.

    Parameters
    ----------
    lower, upper : int64 array, shape (n,)
        Half-open live ranges in steps, not negative.
    size : int64 array, shape (n,)
        Bytes.

    Returns
    -------
    int64 array, shape (last step + 1,)
    """
    if not len(size):
        return np.zeros(1, dtype=np.int64)
    return running_total(lower, upper, size, int(upper.max()))
