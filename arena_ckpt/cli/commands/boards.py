"""The command ``arena-ckpt boards``."""

from __future__ import annotations

import click

from arena_ckpt.cli.failures import OK, print_json
from arena_ckpt.cli.options import as_json_option

EXAMPLE = """\
[my_board]
title = "My board"
core = "Arm Cortex-M7"       # for people
flash = "1 MiB"              # without it storage does not limit
reserved_flash = "96 KiB"    # program and constants, not the weights
reserved_stack = "4 KiB"
reserved_heap = 0
reserved_in = "DTCM"         # where stack and heap are; else SRAM
flash_address = 0x08000000

[[my_board.ram]]
name = "SRAM"
size = "512 KiB"
role = "arena"
speed = 2
address = 0x20010000

[[my_board.ram]]
name = "DTCM"
size = "64 KiB"
role = "other"
speed = 1
address = 0x20000000
"""
"""A board of one's own, as the help shows it."""

_INDENTED = "".join(f"  {line}\n" if line else "\n" for line in EXAMPLE.splitlines())

# Click takes an empty line for the end of what it prints as it is.
_SHOWN = _INDENTED.replace("\n\n", "\n\n\b\n")

_HELP = f"""\
List the boards that plans can be made for, or show one with its memories.

Wherever an option takes a board it takes one of these names, or a
file of your own: --board, --budget and --memories of 'plan', 'train'
and 'export', and --board of 'board-check'. To write one, copy what
'arena-ckpt boards NAME' says of a similar board, and then let
'arena-ckpt boards FILE.toml' read it.

\b
Examples:
  arena-ckpt boards
  arena-ckpt boards rp2350
  arena-ckpt boards my_board.toml
  arena-ckpt plan digits_mlp --batch-size 4 --board my_board.toml

\b
A file has one table, with the name of the board. my_board.toml:

\b
{_SHOWN}
\b
Of the board:
  title, core       for people
  flash             its size; leave it out where storage does not limit
  flash_address     where it begins: a number, or a list of several buses
  reserved_flash    what the program takes of it, without the weights
  reserved_stack    what the program takes of RAM
  reserved_heap
  reserved_in       the range that stack and heap stand in; by default
                    that of the arena
  reservations, source, url
                    what is reserved for, and where sizes come from

\b
Of each [[my_board.ram]], a contiguous range of addresses:
  name, size
  role              "arena" of one range, which plans with one arena take;
                    "other" of the rest
  speed             1 for the fastest of the ranges that a plan may use
                    together (--memories board), then 2, 3 and so on
  address           where it begins; ranges that overlap are refused
  aliases           other addresses of the same bytes
  note              for people

Sizes are texts such as "256 KiB" or whole numbers of bytes. Addresses
are needed for linker scripts and for 'board-check' only. What stack
and heap leave of the arena's range is the budget.
"""


@click.command(help=_HELP)
@click.argument("name", metavar="[NAME|FILE.toml]", required=False)
@as_json_option
def boards(name: str | None, as_json: bool) -> int:
    """List the boards that plans can be made for, or show one with its memories."""
    from arena_ckpt.boards import board_names, load_board
    from arena_ckpt.cli.board_list import (
        board_document,
        board_lines,
        boards_table,
        memories_table,
    )
    from arena_ckpt.cli.line_breaks import fitted
    from arena_ckpt.cli.output import print_sentences, print_table

    names = board_names() if name is None else [name]
    found = [load_board(one) for one in names]
    if as_json:
        documents = [board_document(board) for board in found]
        print_json({"command": "boards", "boards": documents})
        return OK
    if name is None:
        print_table(boards_table(found))
        line = "'arena-ckpt boards NAME' shows one; --help how to write your own"
        click.echo(fitted(line))
        return OK
    for board in found:
        line = f"{board.name}: {board.title}{_core(board.core)}"
        click.echo(f"{fitted(line)}\n")
        print_table(memories_table(board))
        print_sentences(board_lines(board))
        if board.url:
            click.echo(board.url)
    return OK


def _core(core: str) -> str:
    return f"; {core}" if core else ""
