"""The command ``plan --board all``: every board, what fits there and what it costs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from arena_ckpt.boards import board_names, load_board
from arena_ckpt.boards.board import Board, BoardFit
from arena_ckpt.checkpoint.choose import Chooser
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.common.units import format_percent
from arena_ckpt.model import Model
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.axes import short_bytes
from arena_ckpt.report.tables import add_row, make_table


@dataclass(frozen=True, slots=True)
class BoardRow:
    """What a model can do on one board.

    Attributes
    ----------
    fit : BoardFit
        The plan that fits in RAM; where none does, the one that was asked for.
    way : str or None
        How RAM suffices: ``"as planned"``, ``"recomputing"``, ``"several RAMs"``; None
        if it does not.
    plan : MemoryPlan or None
        The plan that fits in RAM.
    overhead : float or None
        Additional time of an iteration of it, as a share.
    least_bytes : int or None
        The smallest arena that was found, where none fits.
    """

    fit: BoardFit
    way: str | None
    plan: MemoryPlan | None
    overhead: float | None
    least_bytes: int | None

    @property
    def fits(self) -> bool:
        """Whether RAM and flash suffice."""
        return self.plan is not None and self.fit.fits

    def summary(self) -> dict[str, Any]:
        """Return the row as plain values; ``docs/boards.md`` lists the keys."""
        return {
            "name": self.fit.board.name,
            "title": self.fit.board.title,
            "fits": self.fits,
            "way": self.way,
            "overhead": self.overhead,
            "arena_bytes": None if self.plan is None else self.fit.arena_bytes,
            "constant_bytes": self.fit.constant_bytes,
            "available_bytes": self.fit.available_bytes,
            "least_bytes": self.least_bytes,
            "flash_headroom_bytes": self.fit.flash_headroom_bytes,
        }


def board_rows(
    model: Model, plan: MemoryPlan, request: dict[str, Any], *, debug: bool
) -> list[BoardRow]:
    """Look for a plan of a model on every bundled board.

    Parameters
    ----------
    model : Model
    plan : MemoryPlan
        The plan as it was asked for, over one arena.
    request : dict
        How bytes may be saved: arguments of `Model.choose_plan` but for a budget.
    debug : bool
    """
    search = _Search(ModelPlans(model), request, debug=debug)
    return [_row(load_board(name), plan, search) for name in board_names()]


class _Search:
    """Looks for plans of one model within many budgets."""

    def __init__(
        self, plans: ModelPlans, request: dict[str, Any], *, debug: bool
    ) -> None:
        left_out = ("budget", "max_overhead", "memories")
        given = {k: v for k, v in request.items() if k not in left_out}
        self._make = functools.partial(plans.chooser, debug=debug, **given)

    @functools.cached_property
    def alone(self) -> Chooser:
        """Plans over one arena."""
        return self._make()

    def over(self, memories: dict[str, int]) -> FrontPoint | None:
        """Return the fastest plan over several RAMs, or None."""
        together = sum(memories.values())
        if together < self.alone.lower_bound_bytes():
            return None
        return self._make(memories=memories).within_budget(together)

    @functools.cached_property
    def least_bytes(self) -> int:
        """The smallest arena that was found."""
        return self.alone.within_overhead().arena_bytes


def _row(board: Board, plan: MemoryPlan, search: _Search) -> BoardRow:
    fit = board.check(plan)
    if fit.fits_ram:
        return BoardRow(fit, "as planned", plan, plan.overhead, None)
    if plan.is_inference:
        return BoardRow(fit, None, None, None, plan.arena_bytes)
    point = search.alone.within_budget(board.free_bytes(board.arena_ram.name))
    way = "recomputing"
    if point is None and len(board.memories) > 1:
        way, point = "several RAMs", search.over(board.memories)
    if point is None:
        return BoardRow(fit, None, None, None, search.least_bytes)
    return BoardRow(board.check(point.plan), way, point.plan, point.overhead, None)


def board_table(rows: Sequence[BoardRow]) -> Table:
    """Return a table of every board, what fits there and at what overhead."""
    table = make_table(
        "Boards",
        ("board", "left"),
        ("free RAM", "right"),
        ("fits", "left"),
        ("RAM taken", "right"),
        ("more time", "right"),
        ("flash left", "right"),
    )
    for row in rows:
        headroom = row.fit.flash_headroom_bytes
        short = headroom is not None and headroom < 0
        add_row(
            table,
            row.fit.board.name,
            short_bytes(row.fit.available_bytes),
            _verdict(row, short_of_flash=short),
            "" if row.plan is None else short_bytes(row.fit.arena_bytes),
            "" if row.overhead is None else format_percent(row.overhead),
            "not checked"
            if headroom is None
            else f"-{short_bytes(-headroom)}"
            if short
            else short_bytes(headroom),
        )
    return table


def _verdict(row: BoardRow, *, short_of_flash: bool) -> str:
    if row.way is None:
        least = row.least_bytes
        return "no" if least is None else f"no: least {short_bytes(least)}"
    if short_of_flash:
        return f"{row.way}, but not in flash"
    return row.way
