"""Fills pools of memory one after the other, greedily.

For each pool in turn all bodies that are left and may lie in it are laid out. Where
they do not fit, bodies are put in one after the other, and those that would end above
the pool's size spill: of several orders the one is kept that spills the least weight.
Then each spilled body, the heaviest first, is taken back if the search finds a layout
with it. Bodies that may lie in no later pool come first in every order. With weights of
the user bodies are chosen by prices before they are laid out (`priced_choice`).

If bodies that may lie in no later pool do not fit, earlier pools have spilled what had
nowhere to go. Filling anew has those bodies early in the orders of every pool that they
may lie in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.bodies import Bodies, make_bodies
from arena_ckpt.allocation.buffers import Buffers
from arena_ckpt.allocation.first_fit import first_fit
from arena_ckpt.allocation.integers import Integers
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.orders import Orders
from arena_ckpt.allocation.pool_rules import Pools, Spill, spill_of
from arena_ckpt.allocation.priced_choice import choose
from arena_ckpt.allocation.search_options import SearchOptions
from arena_ckpt.allocation.single import decide

SPILL_ORDERS = ("AW", "SW", "WS", "TWA")
TAKE_BACK_NODES = 2000
MOST_TAKEN_BACK = 200
"""Maximum number of spilled bodies that are tried again, for each pool."""

MOST_LAID_OUT = 50_000
"""Maximum number of bodies that all these tries lay out together, after a choice by
prices: then few spilled bodies find room."""

POOL_NODES = 20_000
"""Maximum number of nodes of the search that tries to lay out all remaining buffers in
one pool."""

MOST_FILLINGS = 3
"""Maximum number of times that all pools are filled anew."""

CHOSEN_SHARES = (1.0, 0.99, 0.98, 0.96, 0.93, 0.9)
"""Shares of a pool that the live bytes of chosen bodies fill, one tried after the other
until a layout is found."""

Flags = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Spread:
    """The pool and the offset of each buffer.

    Attributes
    ----------
    pool, offset : int64 array, shape (buffers,)
        Offsets in an open pool are not set.
    engines : dict from int to str
        Name of the engine that laid out each pool that is not empty.
    is_open : list of bool
        For each pool whether it is not laid out.
    interrupted : bool
        Whether Ctrl-C was pressed.
    """

    pool: Integers
    offset: Integers
    engines: dict[int, str]
    is_open: list[bool]
    interrupted: bool = False

    def members(self, pool: int) -> Integers:
        """Return the indexes of the buffers in a pool."""
        return np.flatnonzero(self.pool == pool)

    def end(self, pool: int, buffers: Buffers) -> int:
        """Return the end of the highest buffer in a pool, in bytes."""
        members = self.members(pool)
        return int((self.offset[members] + buffers.size[members]).max(initial=0))

    def put(self, pool: int, members: Integers, layout: Layout) -> None:
        """Take over the layout of one pool."""
        self.place(pool, members, layout.offset, layout.engine)

    def place(
        self, pool: int, members: Integers, offset: Integers, engine: str
    ) -> None:
        """Place buffers in a pool, which is then no longer open."""
        self.pool[members], self.offset[members] = pool, offset
        self.is_open[pool] = False
        if len(members):
            self.engines[pool] = engine


def empty_spread(n_buffers: int, n_pools: int) -> Spread:
    """Return a spread in which all buffers lie in the last pool, and none is placed."""
    return Spread(
        np.full(n_buffers, n_pools - 1, dtype=np.int64),
        np.zeros(n_buffers, dtype=np.int64),
        {},
        [True] * n_pools,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What may lie in a pool that is too small for all of it.

    Attributes
    ----------
    size : int
        Bytes of the pool.
    buffers : Buffers
    bodies : Bodies
        The bodies of these buffers.
    weights : list of int
        Of each body.
    must, early : bool array, shape (bodies,)
        Whether a body may lie in no later pool, and whether it comes before others.
    """

    size: int
    buffers: Buffers
    bodies: Bodies
    weights: list[int]
    must: Flags
    early: Flags


@dataclass(frozen=True, slots=True, eq=False)
class _Content:
    """What is in a pool.

    Attributes
    ----------
    is_in : bool array, shape (bodies,)
    offset : int64 array
        Of the buffers that are in it.
    engine : str
    """

    is_in: Flags
    offset: Integers
    engine: str


class Filling:
    """Fills the pools of a set of buffers, once or again.

    Parameters
    ----------
    buffers : Buffers
    bodies : Bodies
    pools : Pools
    options : SearchOptions

    Attributes
    ----------
    spread : Spread
        The result. Pools that are open hold buffers for which no place was found; a
        last pool without a limit is open as well, and gets the rest.
    homeless : bool array, shape (buffers,)
        Buffers that found no place, and come early when the pools are filled anew.
    """

    def __init__(
        self, buffers: Buffers, bodies: Bodies, pools: Pools, options: SearchOptions
    ) -> None:
        self._buffers, self._pools, self._options = buffers, pools, options
        self._allowed = pools.allowed_of(bodies)[bodies.body_of]
        self._is_early = np.zeros(len(buffers), dtype=bool)
        self._is_left = np.ones(len(buffers), dtype=bool)
        self.spread: Spread
        self.homeless: Flags
        self._fill_all()

    @property
    def has_layout(self) -> bool:
        """Whether every pool with a limit is laid out."""
        return self._is_laid_out(self.spread)

    def begin_anew(self) -> None:
        """Fill the pools in other ways, and keep the spread that spills least.

        What has been found stays if no way has a place for every buffer.
        """
        found = [self.spread]
        for _ in range(MOST_FILLINGS):
            if self.spread.interrupted or not self.homeless.any():
                break
            self._is_early |= self.homeless
            self._fill_all()
            found.append(self.spread)
            if self.has_layout:
                break
        interrupted = any(spread.interrupted for spread in found)
        self.spread = min(found, key=self._demerit)
        self.spread.interrupted = interrupted

    def _demerit(self, spread: Spread) -> tuple[bool, Spill]:
        """Return whether a buffer has no place, and what spills."""
        if not self._is_laid_out(spread):
            return True, ()
        pools = spread.pool.tolist()
        return False, spill_of(self._pools.weights, pools, len(self._pools))

    def _is_laid_out(self, spread: Spread) -> bool:
        pairs = zip(spread.is_open, self._pools.sizes, strict=True)
        return not any(is_open and size is not None for is_open, size in pairs)

    def _fill_all(self) -> None:
        """Fill the pools in their order; each takes what it must and what it can."""
        self.spread = empty_spread(len(self._buffers), len(self._pools))
        self.homeless = np.zeros(len(self._buffers), dtype=bool)
        self._is_left[:] = True
        for pool, size in enumerate(self._pools.sizes):
            some = np.flatnonzero(self._is_left & self._allowed[:, pool])
            must = np.logical_not(self._allowed[some, pool + 1 :].any(axis=1))
            if size is None:
                self.spread.pool[some] = pool
                return
            self._is_left[self._fill(pool, size, some, must)] = False

    def _fill(self, pool: int, size: int, some: Integers, must: Flags) -> Integers:
        """Fill one pool with some of the buffers; return those that are in it now.

        Parameters
        ----------
        pool, size : int
        some : int64 array
            The buffers that are left and may lie in the pool.
        must : bool array, of the same shape
            Whether each of them may lie in no later pool.
        """
        buffers = self._buffers.take(some)
        layout = self._decide(buffers, size, self._first_options(pool))
        if layout is not None:
            self.spread.put(pool, some, layout)
            return some
        bodies = make_bodies(buffers)
        part = _Part(
            size,
            buffers,
            bodies,
            self._pools.take(some).weights_of(bodies),
            _of_bodies(bodies, must),
            _of_bodies(bodies, self._is_early[some]),
        )
        content = self._content(part)
        if not content.is_in[part.must].all():
            layout = self._decide_bodies(part, part.must, POOL_NODES)
            if layout is None:
                self._leave_open(pool, some, must, ~content.is_in[bodies.body_of])
                return some[must]
            content = _Content(part.must, layout.offset, layout.engine)
        content = self._take_back(content, part)
        chosen = some[content.is_in[bodies.body_of]]
        self.spread.place(pool, chosen, content.offset, content.engine)
        return chosen

    def _content(self, part: _Part) -> _Content:
        """Choose bodies for a pool that is too small for all, and lay them out."""
        place = np.where(part.must, 0, np.where(part.early, 1, 3))
        for share in CHOSEN_SHARES if self._pools.are_weighed else ():
            room, first = max(1, int(share * part.size)), part.must | part.early
            chosen = choose(part.bodies, part.weights, room, first)
            if chosen is None:
                break
            layout = self._decide_bodies(part, chosen, POOL_NODES)
            if layout is not None:
                return _Content(chosen, layout.offset, layout.engine)
            place = np.where(chosen, np.minimum(place, 2), place)
        return _best_order(part, place)

    def _take_back(self, content: _Content, part: _Part) -> _Content:
        """Take spilled bodies back, the heaviest first, if a layout is found."""
        can_fit = ~content.is_in & (part.bodies.extent <= part.size)
        spilled = np.flatnonzero(can_fit).tolist()
        n_tries = MOST_TAKEN_BACK
        if self._pools.are_weighed:
            n_tries = min(n_tries, MOST_LAID_OUT // len(part.bodies))
        for body in sorted(spilled, key=lambda b: -part.weights[b])[:n_tries]:
            if self.spread.interrupted:
                break
            is_in = content.is_in.copy()
            is_in[body] = True
            layout = self._decide_bodies(part, is_in, TAKE_BACK_NODES)
            if layout is not None:
                content = _Content(is_in, layout.offset, layout.engine)
        return content

    def _leave_open(
        self, pool: int, some: Integers, must: Flags, is_out: Flags
    ) -> None:
        """Put what must lie in a pool there without a layout; note who is homeless."""
        self.spread.pool[some[must]] = pool
        could_move = must & self._allowed[some, :pool].any(axis=1)
        could_move &= ~self._is_early[some]
        movers = could_move & is_out
        self.homeless[some[movers if movers.any() else could_move]] = True

    def _first_options(self, pool: int) -> SearchOptions:
        """Return the options of the search that tries to lay out all that is left."""
        if pool < len(self._pools) - 1:
            return self._brief(POOL_NODES)
        limit = self._options.node_limit
        most = POOL_NODES if limit is None else limit
        return replace(self._options, node_limit=min(POOL_NODES, most))

    def _brief(self, node_limit: int) -> SearchOptions:
        return SearchOptions(node_limit=node_limit, seed=self._options.seed)

    def _decide_bodies(
        self, part: _Part, chosen: Flags, node_limit: int
    ) -> Layout | None:
        some = part.buffers.take(np.flatnonzero(chosen[part.bodies.body_of]))
        return self._decide(some, part.size, self._brief(node_limit))

    def _decide(
        self, buffers: Buffers, size: int, options: SearchOptions
    ) -> Layout | None:
        decision = decide(buffers, size, options)
        self.spread.interrupted |= decision.interrupted
        return decision.layout


def _best_order(part: _Part, place: Integers) -> _Content:
    """Put bodies in greedily, and return what the best order puts in.

    Parameters
    ----------
    part : _Part
    place : int64 array, shape (bodies,)
        Those of lower places come first, whatever the order.
    """
    orders = Orders(part.bodies)

    def worth(tried: tuple[Integers, str]) -> tuple[int, int, int]:
        is_in = tried[0] >= 0
        kept = sum(part.weights[body] for body in np.flatnonzero(is_in).tolist())
        return int(is_in[part.must].sum()), int(is_in[part.early].sum()), kept

    tried = []
    for letters in SPILL_ORDERS:
        order = orders.order(letters)
        order = order[np.argsort(place[order], kind="stable")]
        name = f"first-fit:{letters}"
        tried.append((first_fit(part.bodies, order, part.size), name))
    offset, engine = max(tried, key=worth)
    is_in = offset >= 0
    of_buffers = part.bodies.buffer_offsets(offset)
    return _Content(is_in, of_buffers[is_in[part.bodies.body_of]], engine)


def _of_bodies(bodies: Bodies, flags: Flags) -> Flags:
    """Return for each body whether a flag is set for its buffers."""
    of_bodies = np.zeros(len(bodies), dtype=bool)
    of_bodies[bodies.body_of] = flags
    return of_bodies
