"""Boards as tables and as plain values."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table

from arena_ckpt.boards.board import Board
from arena_ckpt.report.axes import short_bytes
from arena_ckpt.report.tables import add_row, make_table


def boards_table(boards: Iterable[Board]) -> Table:
    """Return a table with a line for each board."""
    table = make_table(
        "",
        ("name", "left"),
        ("arena RAM", "right"),
        ("free", "right"),
        ("other RAM", "left"),
        ("flash", "right"),
        ("core", "left"),
        ("title", "left"),
    )
    table.columns[0].no_wrap = True
    for board in boards:
        ram = board.arena_ram
        add_row(
            table,
            board.name,
            short_bytes(ram.size_bytes),
            short_bytes(board.free_bytes(ram.name)),
            _sizes(one.size_bytes for one in board.ram if one is not ram),
            _flash(board),
            board.core,
            board.title,
        )
    return table


def memories_table(board: Board) -> Table:
    """Return a table with a line for each memory of a board."""
    table = make_table(
        "",
        ("memory", "left"),
        ("size", "right"),
        ("from", "right"),
        ("reserved", "right"),
        ("free", "right"),
        ("speed", "right"),
        ("note", "left"),
    )
    for ram in board.ram:
        note = "the arena" if ram.holds_arena else ""
        notes = [text for text in (note, ram.note) if text]
        add_row(
            table,
            ram.name,
            short_bytes(ram.size_bytes),
            _addresses([] if ram.address is None else [ram.address, *ram.aliases]),
            short_bytes(board.reserved_bytes_in(ram)),
            short_bytes(board.free_bytes(ram.name)),
            "" if ram.speed is None else str(ram.speed),
            "; ".join(notes),
        )
    if board.flash_bytes is not None:
        add_row(
            table,
            "flash",
            short_bytes(board.flash_bytes),
            _addresses(board.flash_addresses),
            short_bytes(board.reserved_flash_bytes),
            short_bytes(board.flash_bytes - board.reserved_flash_bytes),
            "",
            "initial weights and constants",
        )
    return table


def board_lines(board: Board) -> list[str]:
    """Return sentences on where the numbers of a board come from."""
    lines = [
        f"Reserved: {board.reservations}." if board.reservations else "",
        "" if board.flash_bytes else "Flash: not checked, as storage does not limit.",
        f"Source: {board.source}." if board.source else "",
    ]
    return [line for line in lines if line]


def board_document(board: Board) -> dict[str, Any]:
    """Return a board as plain values; ``docs/boards.md`` lists the keys."""
    return {
        "name": board.name,
        "title": board.title,
        "core": board.core or None,
        "ram": [
            {
                "name": ram.name,
                "size_bytes": ram.size_bytes,
                "reserved_bytes": board.reserved_bytes_in(ram),
                "free_bytes": board.free_bytes(ram.name),
                "holds_arena": ram.holds_arena,
                "speed": ram.speed,
                "address": ram.address,
                "aliases": list(ram.aliases),
                "note": ram.note,
            }
            for ram in board.ram
        ],
        "flash_bytes": board.flash_bytes,
        "reserved_flash_bytes": board.reserved_flash_bytes,
        "flash_addresses": list(board.flash_addresses),
        "reserved_stack_bytes": board.reserved_stack_bytes,
        "reserved_heap_bytes": board.reserved_heap_bytes,
        "reservations": board.reservations,
        "source": board.source,
        "url": board.url,
    }


def _sizes(sizes_bytes: Iterable[int]) -> str:
    """Return sizes as text, for example ``"8 MiB; 32, 64 KiB"``."""
    labels = [short_bytes(size).split(" ") for size in sizes_bytes]
    units = itertools.groupby(labels, key=lambda label: label[1])
    return "; ".join(
        f"{', '.join(number for number, _ in group)} {unit}" for unit, group in units
    )


def _flash(board: Board) -> str:
    return "" if board.flash_bytes is None else short_bytes(board.flash_bytes)


def _addresses(addresses: Sequence[int]) -> str:
    return "\n".join(f"{address:#010x}" for address in addresses)
