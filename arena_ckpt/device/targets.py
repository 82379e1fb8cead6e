"""Boards as targets of a C project: what a plan goes into, or why it does not fit."""

from __future__ import annotations

from arena_ckpt.boards import Board
from arena_ckpt.c_export.linker_text import Target, TargetRange
from arena_ckpt.common.memories import ARENA
from arena_ckpt.errors import BoardFitError
from arena_ckpt.planning.plan import MemoryPlan


def target_of(board: Board, plan: MemoryPlan, spec: str = "") -> Target:
    """Return a board as the target of a plan that fits on it.

    Parameters
    ----------
    board : Board
    plan : MemoryPlan
    spec : str
        What the board was loaded by; by default its name.

    Raises
    ------
    BoardFitError
        The plan does not fit, in RAM or in flash.
    BoardError
        The plan names a RAM that the board has not.
    """
    fit = board.check(plan)
    if not fit.fits:
        raise BoardFitError(
            f"{' '.join(fit.sentences())} Nothing was written",
            board=board.name,
            fit=fit,
        )
    by_name = {ram.name: ram for ram in board.ram}
    memories = {ram.name: by_name[ram.name] for ram in plan.rams}
    memories = memories or {ARENA: board.arena_ram}
    flash = board.flash_addresses
    return Target(
        board.name,
        board.title,
        spec or board.name,
        tuple(
            TargetRange(
                ram.name,
                memory,
                ram.address,
                ram.size_bytes,
                board.reserved_bytes_in(ram),
                board.stack_bytes_in(ram),
            )
            for memory, ram in memories.items()
        ),
        flash[0] if len(flash) == 1 else None,
        board.flash_bytes,
    )
