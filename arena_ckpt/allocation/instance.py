"""The input of the search: flat bodies as a table, and which bodies are neighbours.

The compiled functions take few arrays of records rather than one array per field. Each
array argument costs Numba a good part of a second to compile, and the fields of one
body lie side by side in memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.bodies import Bodies
from arena_ckpt.operations.array_types import Integers

Records = Any
"""Structured array of shape (n,), or one record of it; NumPy has no type for either."""

BODY = np.dtype(
    [
        (name, np.int64)
        for name in (
            "size",
            "alignment",
            "fixed_offset",
            # What the search changes: the lowest offset that the placed bodies allow.
            "floor",
            "is_placed",
            "rank",
            # Half-open ranges: in `runs`, of sections, in `neighbours` and in `twins`.
            "run_start",
            "run_stop",
            "hull_lower",
            "hull_upper",
            "neighbour_start",
            "neighbour_stop",
            "twin_start",
            "twin_stop",
        )
    ],
    align=True,
)
RUN = np.dtype([("lower", np.int64), ("upper", np.int64)], align=True)


class Instance(NamedTuple):
    """Flat bodies in the tables that the search reads.

    Attributes
    ----------
    bodies : array of BODY, shape (n,)
        All bodies are unplaced; the search sets their ranks.
    runs : array of RUN
        The runs of sections of each body.
    neighbours, twins : int64 array
        Adjacency lists: bodies that live in a common section; interchangeable ones.
    n_sections : int
    """

    bodies: Records
    runs: Records
    neighbours: Integers
    twins: Integers
    n_sections: int


def make_instance(bodies: Bodies) -> Instance:
    """Make the tables of flat bodies; takes memory for every pair of neighbours."""
    assert bodies.are_flat
    n = len(bodies)
    table = np.zeros(n, dtype=BODY)
    table["size"] = bodies.extent
    table["alignment"] = bodies.alignment
    table["fixed_offset"] = bodies.fixed_offset
    table["floor"] = np.maximum(bodies.fixed_offset, 0)
    has_run = np.diff(bodies.first_piece) > 0
    first, last = bodies.first_piece[:-1][has_run], bodies.first_piece[1:][has_run] - 1
    table["hull_lower"][has_run] = bodies.section_lower[first]
    table["hull_upper"][has_run] = bodies.section_upper[last]
    table["run_start"] = bodies.first_piece[:-1]
    table["run_stop"] = bodies.first_piece[1:]
    runs = np.empty(len(bodies.section_lower), dtype=RUN)
    runs["lower"], runs["upper"] = bodies.section_lower, bodies.section_upper
    neighbours = _adjacency(_beside(bodies), table, "neighbour")
    twins = _adjacency(_alike(bodies), table, "twin")
    return Instance(table, runs, neighbours, twins, bodies.n_sections)


def _beside(bodies: Bodies) -> npt.NDArray[np.bool_]:
    """Return for every pair of bodies whether both live in a common section."""
    n = len(bodies)
    lower, upper = bodies.section_lower, bodies.section_upper
    if (np.diff(bodies.first_piece) == 1).all():
        beside = (lower[:, None] < upper) & (lower < upper[:, None])
    else:
        owner = bodies.piece_owner()
        beside = np.zeros((n, n), dtype=bool)
        for low, high, body in zip(lower, upper, owner, strict=True):
            beside[body, owner[(lower < high) & (low < upper)]] = True
    np.fill_diagonal(beside, False)
    return beside


def _alike(bodies: Bodies) -> npt.NDArray[np.bool_]:
    """Return for every pair of bodies whether sections and alignment are equal."""
    n = len(bodies)
    members: dict[tuple[int, ...], list[int]] = {}
    for b in np.flatnonzero(bodies.fixed_offset < 0).tolist():
        pieces = slice(bodies.first_piece[b], bodies.first_piece[b + 1])
        low, high = bodies.section_lower[pieces], bodies.section_upper[pieces]
        key = (int(bodies.alignment[b]), *low.tolist(), *high.tolist())
        members.setdefault(key, []).append(b)
    alike = np.zeros((n, n), dtype=bool)
    for twins in members.values():
        alike[np.ix_(twins, twins)] = True
    np.fill_diagonal(alike, False)
    return alike


def _adjacency(matrix: npt.NDArray[np.bool_], table: Records, name: str) -> Integers:
    """Return the adjacency lists of all bodies, joined; write where each list lies."""
    stop = np.cumsum(matrix.sum(axis=1))
    table[f"{name}_stop"] = stop
    table[f"{name}_start"][1:] = stop[:-1]
    return np.nonzero(matrix)[1].astype(np.int64)
