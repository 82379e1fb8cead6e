"""Plans that have to fit on a board, for commands that go on with them."""

from __future__ import annotations

from typing import Any

from arena_ckpt.boards.board import Board, BoardFit
from arena_ckpt.cli.memory_options import BOARD, given_budget
from arena_ckpt.errors import BoardFitError, BudgetError
from arena_ckpt.model import Model
from arena_ckpt.planning.plan import MemoryPlan


def board_budget(board: Board | None, request: dict[str, Any]) -> int | None:
    """Return the bytes that a board has free in the RAMs of a request."""
    if board is None:
        return None
    return int(given_budget(BOARD, board, request.get("memories")))


def plan_for_board(
    model: Model, board: Board, request: dict[str, Any], *, debug: bool
) -> tuple[MemoryPlan, BoardFit]:
    """Return a plan that fits on a board, and how it fits.

    The plan as the model says is taken where it fits; else what the board has free is
    the budget, unless `request` has one of its own.

    Parameters
    ----------
    model : Model
    board : Board
    request : dict
        Arguments of `Model.make_plan`.
    debug : bool
        With room for canaries.

    Raises
    ------
    BoardFitError
        None was found; the message has the numbers of every memory.
    """
    as_asked = model.make_plan(debug=debug, **request)
    fit = board.check(as_asked)
    if fit.fits_ram or {"budget", "max_overhead"} & request.keys():
        return as_asked, _required(fit)
    budget = board_budget(board, request)
    try:
        plan = model.make_plan(debug=debug, budget=budget, **request)
    except BudgetError as error:
        verdict_and_rams = fit.sentences()[: 1 + len(fit.memories)]
        raise BoardFitError(
            f"{' '.join(verdict_and_rams)} Recomputing is not enough: {error} Nothing "
            "was trained",
            board=board.name,
            fit=fit,
        ) from error
    return plan, _required(board.check(plan))


def _required(fit: BoardFit) -> BoardFit:
    if not fit.fits:
        raise BoardFitError(
            f"{' '.join(fit.sentences())} Nothing was trained",
            board=fit.board.name,
            fit=fit,
        )
    return fit
