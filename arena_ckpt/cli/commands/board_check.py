"""The command ``arena-ckpt board-check``: linked firmware against a board."""

from __future__ import annotations

from pathlib import Path

import click

from arena_ckpt.cli.failures import OK, RUN_FAILED, print_json
from arena_ckpt.cli.options import as_json_option

_HELP = """\
Say what linked firmware takes of the memories of a board.

FIRMWARE.elf is what the linker wrote. Its sections are counted in flash and in
RAM by their addresses, with room for stack and heap, and what is left of each
memory is printed. The exit code is 1 where something does not fit, or lies in
no memory of the board. Needs 'pip install arena-ckpt[board]'.

\b
Examples:
  arena-ckpt board-check firmware.elf --board rp2350
  arena-ckpt board-check firmware.elf --board my_board.toml --json
"""


@click.command("board-check", help=_HELP)
@click.argument("firmware", type=click.Path(path_type=Path), metavar="FIRMWARE.elf")
@click.option(
    "--board",
    required=True,
    metavar="NAME|FILE.toml",
    help="The board; 'arena-ckpt boards' lists the names.",
)
@as_json_option
def board_check(firmware: Path, board: str, as_json: bool) -> int:
    """Say what linked firmware takes of the memories of a board."""
    from arena_ckpt.boards import check_firmware, load_board
    from arena_ckpt.cli.output import print_sentences

    fit = check_firmware(firmware, load_board(board))
    if as_json:
        command = {"command": "board-check", "file": str(firmware)}
        print_json(command | fit.summary())
    else:
        print_sentences(fit.sentences())
    return OK if fit.fits else RUN_FAILED
