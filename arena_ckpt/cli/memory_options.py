"""Options that say where buffers may lie, and values that name a board."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import InvalidParameterError

if TYPE_CHECKING:
    from arena_ckpt.boards.board import Board

BOARD = "board"
"""The value that stands for the board of --board."""

OPTIONS = (
    click.option(
        "--constants",
        type=click.Choice(["flash", "arena"]),
        help="Where the tensors lie that no step writes, such as frozen weights: in a "
        "read-only memory beside the arena, or in the arena.  [default: flash]",
    ),
    click.option(
        "--memories",
        metavar="SIZES",
        help="RAMs instead of one arena, the fastest first, for example "
        "dtcm=128KiB,sram=512KiB; or those of a board, by its name or file; 'board' "
        "is that of --board.",
    ),
    click.option(
        "--pin",
        multiple=True,
        metavar="TENSOR=RAM[@OFFSET]",
        help="Keep tensors whose names match in one of the RAMs, for example "
        "'conv1:filter=dtcm' or '*:bias=dtcm@4096'; can be given several times.",
    ),
)


def given_memories(text: str, board: Board | None) -> dict[str, str | int]:
    """Return the RAMs that a text names.

    Parameters
    ----------
    text : str
        ``"dtcm=128KiB,sram=512KiB"``, a board, or ``"board"``.
    board : Board or None
        That of --board.
    """
    if "=" not in text:
        return {**_board_of(text, board, "--memories").memories}
    return _sizes(text, "--memories")


def _sizes(text: str, option: str) -> dict[str, str | int]:
    """Return the sizes of RAMs that the text of an option lists."""
    sizes: dict[str, str | int] = {}
    for part in text.split(","):
        name, equals, size = part.strip().partition("=")
        if not equals or name.strip() in sizes:
            raise InvalidParameterError(
                f"{option}: {quoted(part)} is no NAME=SIZE of its own; write for "
                "example dtcm=128KiB,sram=512KiB",
                **{option.removeprefix("--"): text},
            )
        sizes[name.strip()] = size.strip()
    return sizes


def given_pins(texts: tuple[str, ...]) -> dict[str, str | tuple[str, int]]:
    """Return the pins that texts such as ``"conv1:filter=dtcm@4096"`` name."""
    pins: dict[str, str | tuple[str, int]] = {}
    for text in texts:
        tensor, equals, place = text.rpartition("=")
        memory, at, offset = place.partition("@")
        is_number = offset.strip().isascii() and offset.strip().isdigit()
        if not equals or not tensor or (at and not is_number):
            raise InvalidParameterError(
                f"--pin: {quoted(text)} is no TENSOR=RAM or TENSOR=RAM@OFFSET; write "
                "for example conv1:filter=dtcm or conv1:filter=dtcm@4096",
                pin=text,
            )
        pins[tensor.strip()] = (memory.strip(), int(offset)) if at else memory.strip()
    return pins


def given_budget(
    text: str, board: Board | None, memories: dict[str, str | int] | None
) -> Any:
    """Return the budget that a text names: bytes, a share, RAMs, or a board's.

    Parameters
    ----------
    text : str
        ``"256KiB"``, ``"60%"``, ``"sram=200KiB"``, ``"board"``, or a board.
    board : Board or None
        That of --board.
    memories : dict or None
        The RAMs of the plan; a board's budget is then what it has of these.
    """
    from arena_ckpt.boards import board_names

    if "=" in text:
        return _sizes(text, "--budget")
    if text != BOARD and text not in board_names() and not text.endswith(".toml"):
        return text
    chosen = _board_of(text, board, "--budget")
    if memories is None:
        return chosen.free_bytes(chosen.arena_ram.name)
    return sum(chosen.free_bytes(name) for name in memories)


def _board_of(text: str, board: Board | None, option: str) -> Board:
    from arena_ckpt.boards import load_board

    if text != BOARD:
        return load_board(text)
    if board is None:
        raise InvalidParameterError(
            f"{option} board means the board of --board, and there is none; name it: "
            f"{option} rp2350",
        )
    return board
