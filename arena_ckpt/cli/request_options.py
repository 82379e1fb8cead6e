"""Options that request a plan, the same for every command that makes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from arena_ckpt.cli.memory_options import (
    OPTIONS,
    given_budget,
    given_memories,
    given_pins,
)

if TYPE_CHECKING:
    from arena_ckpt.boards.board import Board

F = TypeVar("F", bound=Callable[..., Any])

PLACING = ("constants", "memories", "pin")
"""Those of `REQUEST` that say where buffers may lie."""

REQUEST = (
    *("budget", "max_overhead", "allow", "levels", "measure", "keep", "drop"),
    *PLACING,
)
"""Names of the parameters that `request_options` adds to a command."""

_OPTIONS = (
    click.option(
        "--budget",
        metavar="SIZE",
        help="Choose what to recompute so that the arena is at most so large, for "
        "example 256KiB, or 60% of the arena that keeps all, and an iteration as fast "
        "as can be. 'board', or the name of one, takes what the board has free; "
        "sram=200KiB bounds one RAM of --memories.",
    ),
    click.option(
        "--max-overhead",
        metavar="SHARE",
        help="Choose what to recompute so that an iteration takes at most so much "
        "longer, for example 20%, and the arena is as small as can be.",
    ),
    click.option(
        "--allow",
        metavar="NAMES",
        help="How bytes may be saved, with commas.  [default: "
        "recompute,in_place,layerwise_update; more: tiled_attention, tiled_update, "
        "micro_batch, which can round differently]",
    ),
    click.option(
        "--levels",
        type=click.Choice(["1"]),
        help="1 takes what named checkpoint blocks can say.  [default: recompute "
        "within recomputes where that pays]",
    ),
    click.option(
        "--measure",
        is_flag=True,
        help="Time every kernel on this machine, instead of counting operations and "
        "bytes.",
    ),
    click.option(
        "--keep",
        multiple=True,
        metavar="PATTERN",
        help="Never run layers again whose names match, for example '*attn*'; can be "
        "given several times.",
    ),
    click.option(
        "--drop",
        multiple=True,
        metavar="PATTERN",
        help="Never keep what layers whose names match make for the backward pass, for "
        "example '*gelu*'; can be given several times.",
    ),
)


def request_options(command: F) -> F:
    """Give a command the options of a request."""
    for option in reversed((*_OPTIONS, *OPTIONS)):
        command = option(command)
    return command


def given_request(values: dict[str, Any], board: Board | None = None) -> dict[str, Any]:
    """Take the request out of a command's parameters; return the given values.

    Parameters
    ----------
    values : dict
        Parameters of the command; those of the request are taken out.
    board : Board, optional
        The board that the values may mean.
    """
    request = {name: values.pop(name) for name in REQUEST}
    request["levels"] = int(request["levels"]) if request["levels"] else None
    for name in ("measure", "keep", "drop"):
        request[name] = request[name] or None
    if request["memories"] is not None:
        request["memories"] = given_memories(request["memories"], board)
    if request["budget"] is not None:
        asked, memories = request["budget"], request["memories"]
        request["budget"] = given_budget(asked, board, memories)
    request["pin"] = given_pins(request["pin"]) if request["pin"] else None
    return {name: value for name, value in request.items() if value is not None}
