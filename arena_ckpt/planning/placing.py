"""Where a user wants buffers to lie: RAMs with their sizes, pins, and constants.

Values are checked here once; `placement` follows them.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, replace

from arena_ckpt.allocation.integers import is_whole
from arena_ckpt.common.memories import ARENA, CONSTANTS
from arena_ckpt.common.units import ALIGNMENT_BYTES, format_bytes, parse_bytes
from arena_ckpt.common.wording import nearest, quote, quoted, shown
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.memory_use import PlannedRam

CONSTANT_PLACES = ("flash", "arena")
"""Where the tensors that no step writes can lie: beside the RAM, or in it."""

Sizes = Mapping[str, str | int]
"""RAMs by name, the fastest first, for example ``{"dtcm": "128KiB"}``."""

Pins = Mapping[str, str | tuple[str, int]]
"""Memories by the names of tensors or patterns of them; a pair has an offset, too."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A wish for the tensors whose name a pattern fits.

    Attributes
    ----------
    pattern : str
        As of `fnmatch`, case-sensitive.
    memory : str
        A RAM of the plan.
    offset_bytes : int or None
        Where in it; None leaves that open.
    """

    pattern: str
    memory: str
    offset_bytes: int | None = None

    def fits(self, name: str) -> bool:
        """Tell whether the pin is for a tensor."""
        return fnmatch.fnmatchcase(name, self.pattern)


@dataclass(frozen=True, slots=True)
class Placing:
    """Where buffers may lie.

    Attributes
    ----------
    constants_apart : bool
        What no step writes lies in a read-only memory beside the RAM.
    rams : tuple of PlannedRam
        The fastest first; empty for one without a limit.
    pins : tuple of Pin
    """

    constants_apart: bool = True
    rams: tuple[PlannedRam, ...] = ()
    pins: tuple[Pin, ...] = ()


def parse_placing(
    constants: str = "flash", memories: Sizes | None = None, pin: Pins | None = None
) -> Placing:
    """Check what a user asks for.

    Raises
    ------
    InvalidParameterError
        An unknown place for constants, a RAM without a name or size, a pin to a memory
        that there is not, or to an offset that cannot be.
    """
    if not isinstance(constants, str) or constants not in CONSTANT_PLACES:
        raise InvalidParameterError(
            f"constants={quoted(constants)} is not possible; give 'flash' for a "
            "read-only memory beside the arena, or 'arena' for one block",
            constants=constants,
        )
    rams = () if memories is None else _rams(memories)
    pins = () if pin is None else _pins(pin, [ram.name for ram in rams] or [ARENA])
    return Placing(constants == "flash", rams, pins)


def _rams(memories: object) -> tuple[PlannedRam, ...]:
    if not isinstance(memories, Mapping) or not memories:
        raise InvalidParameterError(
            f"memories={quoted(memories)} is not possible; give RAMs by name, the "
            "fastest first, for example {'dtcm': '128KiB', 'sram': '512KiB'}, or "
            "board.memories",
            memories=memories,
        )
    return tuple(_ram(name, size) for name, size in memories.items())


def _ram(name: object, size: object, what: str = "memories") -> PlannedRam:
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise InvalidParameterError(
            f"{what}: {quoted(name)} is no name for a RAM; give a text", memory=name
        )
    if what == "memories" and name in (ARENA, CONSTANTS):
        raise InvalidParameterError(
            f"memories: {name!r} is the name of a memory that every plan can have; "
            "call the RAM as its board does",
            memory=name,
        )
    try:
        if isinstance(size, bool) or not isinstance(size, str | int):
            raise InvalidParameterError("give bytes, for example 131072 or '128KiB'")
        size_bytes = parse_bytes(size)
    except InvalidParameterError as error:
        raise InvalidParameterError(
            f"{what}: {name} has the size {quoted(size)}: {error}", memory=name
        ) from None
    if size_bytes < ALIGNMENT_BYTES:
        raise InvalidParameterError(
            f"{what}: {name} has {size_bytes} bytes; no buffer fits, since each "
            f"begins at a multiple of {ALIGNMENT_BYTES} and takes as many",
            memory=name,
        )
    return PlannedRam(name, size_bytes // ALIGNMENT_BYTES * ALIGNMENT_BYTES)


def _pins(pin: object, memories: list[str]) -> tuple[Pin, ...]:
    if not isinstance(pin, Mapping):
        raise InvalidParameterError(
            f"pin={quoted(pin)} is not possible; give memories by tensor, for example "
            "{'conv1:filter': 'dtcm'} or {'conv1:filter': ('dtcm', 4096)}",
            pin=pin,
        )
    return tuple(_pin(pattern, value, memories) for pattern, value in pin.items())


def _pin(pattern: object, value: object, memories: list[str]) -> Pin:
    if not isinstance(pattern, str) or not pattern:
        raise InvalidParameterError(
            f"pin: {quoted(pattern)} is no name of a tensor, nor a pattern of names",
            tensor=pattern,
        )
    memory, offset = value, None
    if isinstance(value, tuple | list) and len(value) == 2:
        memory, offset = value
    if not isinstance(memory, str) or memory not in memories:
        beside = "; constants are placed by themselves" if memory == CONSTANTS else ""
        raise InvalidParameterError(
            f"pin: {pattern} cannot lie in {quoted(memory)}"
            f"{nearest(shown(memory), memories)}; the RAMs of the plan are "
            f"{quote(memories)}{beside}",
            tensor=pattern,
            memory=memory,
        )
    if offset is not None and not (
        is_whole(offset) and offset >= 0 and offset % ALIGNMENT_BYTES == 0
    ):
        raise InvalidParameterError(
            f"pin: {pattern} cannot begin at {quoted(offset)} of {memory}; offsets are "
            f"multiples of {ALIGNMENT_BYTES} from 0 on",
            tensor=pattern,
            memory=memory,
            offset_bytes=offset,
        )
    return Pin(pattern, memory, None if offset is None else int(offset))


def within_budget(placing: Placing, budget: Mapping[str, str | int]) -> Placing:
    """Return a placing of which some RAMs are smaller.

    Parameters
    ----------
    placing : Placing
    budget : dict from str to str or int
        The most bytes of some RAMs; ``"arena"`` where the placing names none.

    Raises
    ------
    InvalidParameterError
        A memory that there is not, or a size that is none.
    """
    rams = {ram.name: ram for ram in placing.rams}
    if not budget:
        raise InvalidParameterError(
            "budget={} names no memory; give bytes, for example budget='256KiB', or "
            "budget={'sram': '200KiB'}",
            budget=budget,
        )
    for name, size in budget.items():
        if name not in (rams or [ARENA]):
            others = "" if rams else "; name others with memories={…}"
            fixed = (
                "; constants take what they take, and no choice of recomputes changes "
                "that"
                if name == CONSTANTS
                else ""
            )
            raise InvalidParameterError(
                f"budget: the plan has no RAM {quoted(name)}"
                f"{nearest(shown(name), rams or [ARENA])}; it has "
                f"{quote(rams or [ARENA])}{others}{fixed}",
                budget=budget,
                memory=name,
            )
        given = _ram(name, size, what="budget")
        size_bytes = min(given.size_bytes, rams[name].size_bytes) if rams else 0
        rams[name] = PlannedRam(name, size_bytes or given.size_bytes)
    return replace(placing, rams=tuple(rams.values()))


def describe_rams(rams: tuple[PlannedRam, ...]) -> str:
    """Return RAMs in words: ``"dtcm (128.00 KiB (131,072 B)), sram (…)"``."""
    return ", ".join(f"{ram.name} ({format_bytes(ram.size_bytes)})" for ram in rams)
