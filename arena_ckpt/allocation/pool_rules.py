"""Pools of memory: their sizes, what may lie in which, and what spilling costs.

What a user gives is checked when the rules are made; the searches then read arrays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.bodies import Bodies
from arena_ckpt.allocation.buffers import FREE, Buffers
from arena_ckpt.allocation.integers import (
    LARGEST_SUM_BYTES,
    Integers,
    Label,
    is_whole,
    items_of,
    shown,
)
from arena_ckpt.common.units import format_bytes, parse_bytes
from arena_ckpt.common.wording import few, nearest
from arena_ckpt.errors import InvalidBufferError, InvalidParameterError

PoolSizes = Sequence[int | None] | Mapping[str, int | str | None]
"""Sizes in bytes, the preferred pool first; a mapping gives pools names."""

AllowedPools = Sequence[Collection[int | str] | int | str | None]
"""For each buffer the pools that it may lie in, or one of them; None allows all."""

Spill = tuple[int, ...]
"""The weight that lies beyond pool 0, beyond pool 1, and so on; spills are compared in
this order, so what lies beyond pool 0 counts most."""

LARGEST_WEIGHT = 2**62
"""Upper limit of a spill weight, so that sums of weights stay within all floats."""


@dataclass(frozen=True, slots=True, eq=False)
class Pools:
    """The pools that a set of buffers is spread over.

    Attributes
    ----------
    sizes : tuple of int or None
        Bytes of each pool, the preferred one first; None has no limit.
    names : tuple of str
        One for each pool, or none at all.
    allowed : bool array, shape (buffers, pools)
        Whether a buffer may lie in a pool.
    weights : tuple of int
        What it costs if a buffer lies one pool further down, in multiples of `unit`.
    unit : Fraction
        What a weight of 1 stands for.
    are_weighed : bool
        Whether the user gave the weights; otherwise they are bytes × steps.
    """

    sizes: tuple[int | None, ...]
    names: tuple[str, ...]
    allowed: npt.NDArray[np.bool_]
    weights: tuple[int, ...]
    unit: Fraction
    are_weighed: bool

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def are_open(self) -> bool:
        """Whether every buffer may lie in every pool."""
        return bool(self.allowed.all())

    def take(self, indexes: Integers) -> Pools:
        """Return the same pools for some of the buffers."""
        weights = tuple(self.weights[index] for index in indexes.tolist())
        return replace(self, allowed=self.allowed[indexes], weights=weights)

    def cost_of(self, weight: int) -> int | float:
        """Return what a sum of weights stands for, whole where it is."""
        cost = weight * self.unit
        return int(cost) if cost.denominator == 1 else float(cost)

    def label(self, pool: int) -> str:
        """Return how messages call a pool, for example ``"pool 1"``."""
        return f"pool {self.names[pool]!r}" if self.names else f"pool {pool}"

    def label_with_size(self, pool: int) -> str:
        """Return how messages call a pool and its bytes."""
        size = self.sizes[pool]
        return f"{self.label(pool)} of " + (
            "any size" if size is None else format_bytes(size)
        )

    def allowed_of(self, bodies: Bodies) -> npt.NDArray[np.bool_]:
        """Return whether each body may lie in each pool: all its buffers may.

        Returns
        -------
        bool array, shape (bodies, pools)
        """
        allowed = np.ones((len(bodies), len(self)), dtype=bool)
        np.logical_and.at(allowed, bodies.body_of, self.allowed)
        return allowed

    def weights_of(self, bodies: Bodies) -> list[int]:
        """Return the weight of each body, the sum of those of its buffers."""
        weights = [0] * len(bodies)
        for body, weight in zip(bodies.body_of.tolist(), self.weights, strict=True):
            weights[body] += weight
        return weights


def make_pools(
    buffers: Buffers,
    sizes: PoolSizes,
    allowed_pools: AllowedPools | None = None,
    spill_weights: Sequence[float] | None = None,
    *,
    label: Label = "buffer {}".format,
) -> Pools:
    """Check the pools that a user gives and return them.

    Parameters
    ----------
    buffers : Buffers
    sizes : sequence of int or None, or mapping of str to int, str or None
        Bytes of each pool, the preferred one first; texts as in ``"128KiB"`` stand in
        mappings only. None, for the last only, has no limit.
    allowed_pools : sequence, optional
        For each buffer None, a pool by number or name, or a collection of them.
    spill_weights : sequence of float, optional
        For each buffer what it costs if it lies one pool further down. Without them
        this is its bytes × steps.
    label : callable
        How messages call the buffer with an index.

    Raises
    ------
    InvalidParameterError
        Sizes or names that make no sense.
    InvalidBufferError
        An unknown pool, a buffer without any, a weight that is negative or not finite,
        not one value for each buffer.
    """
    names, checked = _checked_sizes(sizes)
    pools = Pools(
        checked,
        names,
        np.broadcast_to(True, (len(buffers), len(checked))),
        (),
        Fraction(1),
        spill_weights is not None,
    )
    allowed = pools.allowed
    if allowed_pools is not None:
        allowed = _checked_allowed(allowed_pools, pools, label)
    weights, unit = byte_steps(buffers), Fraction(1)
    if spill_weights is not None:
        weights, unit = _checked_weights(spill_weights, len(buffers), label)
    return replace(pools, allowed=allowed, weights=weights, unit=unit)


def spill_of(weights: Sequence[int], pools: Sequence[int], n_pools: int) -> Spill:
    """Return the weight that an assignment puts beyond each pool but the last.

    Parameters
    ----------
    weights : sequence of int
        Of each body or buffer.
    pools : sequence of int
        The pool of each.
    n_pools : int
    """
    pairs = list(zip(weights, pools, strict=True))
    return tuple(
        sum(weight for weight, pool in pairs if pool > last)
        for last in range(n_pools - 1)
    )


def refuse_contradictions(
    buffers: Buffers, bodies: Bodies, pools: Pools, label: Label = "buffer {}".format
) -> None:
    """Refuse groups without a common pool, and fixed offsets in more than one.

    Raises
    ------
    InvalidBufferError
    """
    allowed = pools.allowed_of(bodies)
    torn = np.flatnonzero(~allowed.any(axis=1))
    if len(torn):
        members = np.flatnonzero(bodies.body_of == torn[0])
        raise InvalidBufferError(
            f"the group of {label(int(members[0]))} has no pool that is allowed for "
            f"all its members: {_choices(pools, members, label)}. A group lies in one "
            "pool; allow one for all of them",
            buffers=tuple(members.tolist()),
        )
    is_fixed = buffers.fixed_offset != FREE
    in_many = np.flatnonzero(is_fixed & (allowed.sum(axis=1) > 1)[bodies.body_of])
    if len(in_many):
        index = int(in_many[0])
        raise InvalidBufferError(
            f"{label(index)} has the fixed offset {buffers.fixed_offset[index]}, which "
            "does not say in which pool: it may lie in "
            f"{_listed(pools, allowed[bodies.body_of[index]])}. Allow it one pool by "
            "allowed_pools, or leave its offset free",
            buffers=(index,),
        )


def _choices(pools: Pools, members: Integers, label: Label) -> str:
    texts = [
        f"{label(index)} may lie in {_listed(pools, pools.allowed[index])}"
        for index in members[:8].tolist()
    ]
    more = f", and {len(members) - 8} more" if len(members) > 8 else ""
    return ", ".join(texts) + more


def _listed(pools: Pools, allowed: npt.NDArray[np.bool_]) -> str:
    return " or ".join(pools.label(pool) for pool in np.flatnonzero(allowed).tolist())


# -- sizes and names -------------------------------------------------------------------


def _checked_sizes(
    sizes: PoolSizes,
) -> tuple[tuple[str, ...], tuple[int | None, ...]]:
    """Return the names and the sizes of the pools, or refuse them."""
    names: tuple[str, ...] = ()
    given: list[Any]
    if isinstance(sizes, Mapping):
        names, given = _checked_names(list(sizes)), list(sizes.values())
    else:
        given = items_of(sizes, "pools", "sizes")
    if not given:
        raise InvalidParameterError("pools is empty; give a size for each pool")
    checked: list[int | None] = []
    for index, size in enumerate(given):
        if size is None and index == len(given) - 1:
            checked.append(None)
            continue
        n_bytes: Any = size
        if names and isinstance(size, str):
            n_bytes = _bytes_of(size)
        if not is_whole(n_bytes) or not 0 < n_bytes < LARGEST_SUM_BYTES:
            pool = f"pool {names[index]!r}" if names else f"pool {index}"
            text = " or a text as in '128KiB'" if names else ""
            raise InvalidParameterError(
                f"{pool} has the size {shown(size)}; it must be a positive integer in "
                f"bytes{text}, below 2**62, or None for the last pool, which then has "
                "no limit",
                pool=index,
            )
        checked.append(int(n_bytes))
    return names, tuple(checked)


def _bytes_of(text: str) -> int | None:
    try:
        return parse_bytes(text)
    except InvalidParameterError:
        return None


def _checked_names(names: list[object]) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise InvalidParameterError(
                f"pools has the name {shown(name)}; names are texts that are not empty",
                name=name,
            )
    return tuple(map(str, names))


# -- what is given for each buffer -----------------------------------------------------


def _items(values: object, name: str, what: str, n: int) -> list[Any]:
    """Return one value for each buffer, or refuse the list."""
    items = items_of(values, name, what)
    if len(items) != n:
        raise InvalidBufferError(
            f"there are {n} sizes but {len(items)} values of {name}; give one for each "
            "buffer",
            buffers=(),
        )
    return items


def _checked_allowed(
    allowed_pools: AllowedPools, pools: Pools, label: Label
) -> npt.NDArray[np.bool_]:
    n = len(pools.allowed)
    choices = _items(allowed_pools, "allowed_pools", "pools or None", n)
    allowed = np.zeros((n, len(pools)), dtype=bool)
    for index, choice in enumerate(choices):
        if choice is None:
            allowed[index] = True
            continue
        some = _few_pools(choice)
        if some is None:
            raise InvalidBufferError(
                f"{label(index)} has the allowed pools {shown(choice)}; give a pool, a "
                "collection of pools, or None for all",
                buffers=(index,),
            )
        if not some:
            raise InvalidBufferError(
                f"{label(index)} may lie in no pool; allow at least one, or give None "
                "for all",
                buffers=(index,),
            )
        for pool in some:
            allowed[index, _number_of(pool, pools, index, label)] = True
    return allowed


def _few_pools(choice: object) -> list[object] | None:
    """Return the pools of a choice in one order, None if it is no choice."""
    if isinstance(choice, str) or is_whole(choice):
        return [choice]
    if isinstance(choice, Mapping):
        return None
    try:
        return sorted(few(choice), key=shown)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _number_of(pool: object, pools: Pools, index: int, label: Label) -> int:
    """Return the number of a pool that is given by its name or number."""
    if isinstance(pool, str) and pool in pools.names:
        return pools.names.index(pool)
    if is_whole(pool) and 0 <= pool < len(pools):  # type: ignore[operator]
        return int(pool)  # type: ignore[call-overload, no-any-return]
    guess = nearest(pool, pools.names) if isinstance(pool, str) else ""
    known = f"numbered 0 to {len(pools) - 1}"
    if pools.names:
        known = f"{', '.join(pools.names)}, or {known}"
    raise InvalidBufferError(
        f"{label(index)} may lie in pool {shown(pool)}, which does not exist{guess}; "
        f"the pools are {known}",
        buffers=(index,),
        pool=pool,
    )


def byte_steps(buffers: Buffers) -> tuple[int, ...]:
    """Return the size times the live range of each buffer, in bytes × steps."""
    steps_alive = buffers.upper - buffers.lower
    pairs = zip(buffers.size.tolist(), steps_alive.tolist(), strict=True)
    return tuple(size * steps for size, steps in pairs)


def _checked_weights(
    spill_weights: Sequence[float], n: int, label: Label
) -> tuple[tuple[int, ...], Fraction]:
    """Return the weights as integers, exactly, and what a weight of 1 stands for."""
    exact: list[Fraction] = []
    for index, value in enumerate(_items(spill_weights, "spill_weights", "numbers", n)):
        is_real = isinstance(value, float | np.floating)
        # Not a number is refused as well: it is not in any range.
        if not (is_real or is_whole(value)) or not 0 <= value < LARGEST_WEIGHT:
            raise InvalidBufferError(
                f"{label(index)} has the spill weight {shown(value)}; it must be a "
                "finite number, at least 0 and below 2**62",
                buffers=(index,),
            )
        exact.append(Fraction(float(value) if is_real else int(value)))
    parts = math.lcm(*(weight.denominator for weight in exact))
    return tuple(int(weight * parts) for weight in exact), Fraction(1, parts)
