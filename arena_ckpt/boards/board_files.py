"""Loads boards by name from the bundled table, or from a TOML file."""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arena_ckpt.boards.board import Board, Ram
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.units import parse_bytes
from arena_ckpt.common.wording import nearest, quoted
from arena_ckpt.errors import (
    BoardError,
    BoardFileNotFoundError,
    DataError,
    DataFileNotFoundError,
    InvalidParameterError,
)
from arena_ckpt.files.source import path_text, read_whole

LARGEST_FILE_BYTES = 2**20

ROLES = ("arena", "other")
_SIZES = ("flash", "reserved_flash", "reserved_stack", "reserved_heap")
_TEXTS = ("title", "core", "reserved_in", "reservations", "source", "url")
_RAM_KEYS = ("name", "size", "role", "note", "speed", "address", "aliases")


@functools.cache
def _bundled() -> dict[str, Any]:
    packed = importlib.resources.files(__package__) / "boards.toml"
    return tomllib.loads(packed.read_text("utf-8"))


@public_call
def board_names() -> tuple[str, ...]:
    """Return the names of the bundled boards."""
    return tuple(_bundled())


@public_call
def load_board(spec: str | Path) -> Board:
    """Load a board.

    Parameters
    ----------
    spec : str or path
        A name of `board_names`, or a TOML file with one board; ``docs/boards.md`` shows
        one.

    Raises
    ------
    BoardError
        No such board, or a file that does not describe one: file, key and value are
        named.
    """
    text = path_text(spec)
    if text in _bundled():
        return _board(text, _bundled()[text], "boards.toml")
    path = Path(text)
    if path.suffix.lower() != ".toml":
        raise BoardError(
            f"there is no board {str(spec)!r}{nearest(str(spec), board_names())}; give "
            f"a file.toml or one of {', '.join(board_names())}",
            board=str(spec),
        )
    try:
        boards = tomllib.loads(read_whole(path, LARGEST_FILE_BYTES).decode())
    except DataFileNotFoundError:
        raise BoardFileNotFoundError(
            f"there is no file {path}; 'arena-ckpt boards --help' shows what stands in "
            "one",
            path=str(path),
        ) from None
    except DataError as error:
        raise BoardError(f"{path} cannot be read: {error}", **vars(error)) from error
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, of its depth
        raise BoardError(f"{path} is no TOML: {error}", path=str(path)) from None
    tables = [name for name, value in boards.items() if isinstance(value, dict)]
    if len(boards) != 1 or len(tables) != 1:
        raise BoardError(
            f"{path} has {len(tables)} boards ({', '.join(tables) or 'no [table]'}); "
            "it must have one table with the board's name, as [my_board], and nothing "
            "beside it",
            path=str(path),
        )
    return _board(tables[0], boards[tables[0]], str(path))


def _board(name: str, given: Mapping[str, Any], where: str) -> Board:
    place = f"{where}, [{name}]"
    _check_keys(given, (*_SIZES, *_TEXTS, "flash_address", "ram"), place)
    entries = given.get("ram")
    if not isinstance(entries, list) or not entries:
        raise BoardError(
            f"{place} has no [[{name}.ram]]; give at least one, with name, size and "
            'role = "arena"',
            path=where,
        )
    ram = tuple(
        _ram(entry, f"{where}, [[{name}.ram]] {i}") for i, entry in enumerate(entries)
    )
    arenas = [one.name for one in ram if one.holds_arena]
    if len(arenas) != 1:
        raise BoardError(
            f'{place} has {len(arenas)} ranges of RAM with role = "arena"'
            f"{' (' + ', '.join(arenas) + ')' if arenas else ''}; the arena needs one "
            "contiguous range",
            path=where,
        )
    texts = {key: _text(given, key, place) for key in _TEXTS if key in given}
    sizes = {key: _size(given, key, place) for key in _SIZES if key in given}
    board = Board(
        name=name,
        title=texts.get("title", name),
        ram=ram,
        flash_bytes=sizes.get("flash"),
        reserved_flash_bytes=sizes.get("reserved_flash", 0),
        reserved_stack_bytes=sizes.get("reserved_stack", 0),
        reserved_heap_bytes=sizes.get("reserved_heap", 0),
        reserved_in=texts.get("reserved_in"),
        reservations=texts.get("reservations", ""),
        source=texts.get("source", ""),
        url=texts.get("url", ""),
        flash_addresses=_numbers(given, "flash_address", place),
        core=texts.get("core", ""),
    )
    _check_room(board, place)
    _check_ranges(board, place)
    return board


def _check_room(board: Board, place: str) -> None:
    """Refuse reservations that leave no room for an arena."""
    reserved_in = board.reserved_in or board.arena_ram.name
    ranges = {one.name: one.size_bytes for one in board.ram}
    if reserved_in not in ranges:
        raise BoardError(
            f"{place}: reserved_in is {reserved_in!r}, which is no range of RAM; there "
            f"are {', '.join(ranges)}",
            board=board.name,
        )
    reserved = board.reserved_stack_bytes + board.reserved_heap_bytes
    if reserved >= ranges[reserved_in]:
        raise BoardError(
            f"{place}: reserved_stack and reserved_heap take {reserved:,} B, but "
            f"{reserved_in} only has {ranges[reserved_in]:,} B",
            board=board.name,
        )
    if board.flash_bytes is not None and board.reserved_flash_bytes > board.flash_bytes:
        raise BoardError(
            f"{place}: reserved_flash takes {board.reserved_flash_bytes:,} B, but "
            f"flash only has {board.flash_bytes:,} B",
            board=board.name,
        )


def _check_ranges(board: Board, place: str) -> None:
    """Refuse ranges that cannot be told apart, or that overlap."""
    known: dict[str, list[object]] = {
        "name": [ram.name for ram in board.ram],
        "speed": [ram.speed for ram in board.ram if ram.speed is not None],
    }
    for what, values in known.items():
        for value in values:
            if values.count(value) > 1:
                raise BoardError(
                    f"{place} has {values.count(value)} ranges of RAM with {what} "
                    f"{quoted(value)}; give each its own",
                    board=board.name,
                    key=what,
                    value=value,
                )
    placed = [
        (address, ram.size_bytes, ram.name)
        for ram in board.ram
        if ram.address is not None
        for address in (ram.address, *ram.aliases)
    ]
    flash_bytes = board.flash_bytes or 0
    placed += [(address, flash_bytes, "flash") for address in board.flash_addresses]
    placed.sort()
    for (start, n_bytes, one), (next_start, _, other) in itertools.pairwise(placed):
        if start + n_bytes > next_start:
            raise BoardError(
                f"{place}: {one} takes [{start:#x}, {start + n_bytes:#x}) and {other} "
                f"begins at {next_start:#x}; ranges of memory may not overlap",
                board=board.name,
                ranges=(one, other),
            )


def _ram(entry: object, place: str) -> Ram:
    if not isinstance(entry, dict):
        raise BoardError(f"{place} is no table", value=entry)
    _check_keys(entry, _RAM_KEYS, place)
    role = _text(entry, "role", place)
    if role not in ROLES:
        raise BoardError(
            f"{place}: role is {quoted(role)}; it can be {' or '.join(ROLES)}",
            value=role,
        )
    return Ram(
        name=_text(entry, "name", place),
        size_bytes=_size(entry, "size", place),
        holds_arena=role == "arena",
        note=_text(entry, "note", place) if "note" in entry else "",
        speed=_number(entry, "speed", 1, place),
        address=_number(entry, "address", 0, place),
        aliases=_numbers(entry, "aliases", place),
    )


def _check_keys(given: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
    for key in given:
        if key not in known:
            raise BoardError(
                f"{place} has an unknown key {key!r}{nearest(key, known)}; known are "
                f"{', '.join(known)}",
                key=key,
            )


def _text(given: Mapping[str, Any], key: str, place: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not value:
        raise BoardError(
            f"{place}: {key} is {quoted(value)}; it must be a text",
            key=key,
            value=value,
        )
    return value


def _number(given: Mapping[str, Any], key: str, least: int, place: str) -> int | None:
    value = given.get(key)
    if key not in given or (type(value) is int and least <= value < 2**63):
        return value
    raise BoardError(
        f"{place}: {key} is {quoted(value)}; it must be a whole number from {least} on",
        key=key,
        value=value,
    )


def _numbers(given: Mapping[str, Any], key: str, place: str) -> tuple[int, ...]:
    """Return one address or a list of them."""
    if key not in given:
        return ()
    values = given[key] if isinstance(given[key], list) else [given[key]]
    for value in values:
        _number({key: value}, key, 0, place)
    return tuple(values)


def _size(given: Mapping[str, Any], key: str, place: str) -> int:
    value = given.get(key)
    if value == 0 and type(value) is int and key.startswith("reserved"):
        return 0
    if isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return parse_bytes(value)
        except InvalidParameterError:
            pass
    raise BoardError(
        f'{place}: {key} is {quoted(value)}; it must be a size, as "256 KiB" or 262144',
        key=key,
        value=value,
    )
