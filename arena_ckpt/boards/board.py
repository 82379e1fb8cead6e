"""The memory of a board, and the check whether a plan fits in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.short_repr import short_repr, shortened
from arena_ckpt.common.units import ALIGNMENT_BYTES, format_bytes
from arena_ckpt.common.wording import nearest, quote, quoted, shown
from arena_ckpt.errors import BoardError
from arena_ckpt.planning.plan import MemoryPlan, require_plan
from arena_ckpt.planning.tensors import TensorKind


@dataclass(frozen=True, slots=True)
class Ram:
    """A contiguous range of RAM addresses.

    Attributes
    ----------
    name : str
    size_bytes : int
    holds_arena : bool
        True for one range of a board: where a plan with one arena goes.
    note : str
        Where it lies, what it is good for.
    speed : int or None
        Place among the ranges that a plan may use together, 1 for the fastest; None for
        a range that it may not use so.
    address : int or None
        Where the range begins.
    aliases : tuple of int
        Other addresses at which the same bytes begin, as on a bus for instructions.
    """

    name: str
    size_bytes: int
    holds_arena: bool
    note: str = ""
    speed: int | None = None
    address: int | None = None
    aliases: tuple[int, ...] = ()

    def __repr__(self) -> str:
        speed = f"speed {self.speed}" if self.speed else ""
        holds = "holds the arena" if self.holds_arena else ""
        size = format_bytes(self.size_bytes)
        return short_repr(self, self.name, size, holds, speed)


@dataclass(frozen=True, slots=True)
class Board:
    """The memory of a board, and the part of it that is reserved.

    Attributes
    ----------
    name, title : str
    ram : tuple of Ram
    flash_bytes : int or None
        None if storage does not limit, for example an SD card or a disk.
    reserved_flash_bytes : int
        The program and its own constants, without weights.
    reserved_stack_bytes, reserved_heap_bytes : int
    reserved_in : str or None
        The range of RAM that stack and heap stand in; None is that of the arena.
    reservations, source, url : str
        What the reservations stand for, and where the sizes come from.
    flash_addresses : tuple of int
        Where flash begins, on each bus that shows it; empty where that is not known.
    core : str
        The processor that runs the program.
    """

    name: str
    title: str
    ram: tuple[Ram, ...]
    flash_bytes: int | None
    reserved_flash_bytes: int = 0
    reserved_stack_bytes: int = 0
    reserved_heap_bytes: int = 0
    reserved_in: str | None = None
    reservations: str = ""
    source: str = ""
    url: str = ""
    flash_addresses: tuple[int, ...] = ()
    core: str = ""

    def __repr__(self) -> str:
        flash = self.flash_bytes
        rams = [
            f"{shortened(r.name, 16)} {format_bytes(r.size_bytes)}" for r in self.ram
        ]
        return short_repr(
            self,
            self.name,
            *(rams if len(rams) <= 4 else [f"{len(rams)} RAMs"]),
            "storage not checked" if flash is None else f"flash {format_bytes(flash)}",
            f"arena in {shortened(self.arena_ram.name, 16)}",
        )

    @property
    def arena_ram(self) -> Ram:
        """RAM range that holds the arena."""
        return next(ram for ram in self.ram if ram.holds_arena)

    @property
    def reserved_ram_bytes(self) -> int:
        """Bytes of the arena's RAM range that stack and heap take."""
        return self.reserved_bytes_in(self.arena_ram)

    def reserved_bytes_in(self, ram: Ram) -> int:
        """Return the bytes of a range that stack and heap take."""
        if ram.name != (self.reserved_in or self.arena_ram.name):
            return 0
        return self.reserved_stack_bytes + self.reserved_heap_bytes

    def stack_bytes_in(self, ram: Ram) -> int:
        """Return the bytes of a range that the stack takes."""
        return min(self.reserved_stack_bytes, self.reserved_bytes_in(ram))

    @public_call
    def free_bytes(self, name: str) -> int:
        """Return the bytes of a range that stack and heap leave, whole alignments.

        Raises
        ------
        BoardError
            The board has no such range.
        """
        found = [ram for ram in self.ram if ram.name == name]
        if not found:
            names = [ram.name for ram in self.ram]
            raise BoardError(
                f"{self.title} has no range of RAM {quoted(name)}"
                f"{nearest(shown(name), names)}; it has {quote(names)}. Plan for the "
                "memories of this board: make_plan(memories=board.memories)",
                board=self.name,
                memory=name,
            )
        free = found[0].size_bytes - self.reserved_bytes_in(found[0])
        return free // ALIGNMENT_BYTES * ALIGNMENT_BYTES

    @property
    def memories(self) -> dict[str, int]:
        """Free bytes of the ranges that a plan may use together, the fastest first.

        Of a board that names no speeds it is the one range of the arena.
        """
        ranked = sorted((r for r in self.ram if r.speed), key=lambda r: r.speed or 0)
        usable = ranked or [self.arena_ram]
        return {ram.name: self.free_bytes(ram.name) for ram in usable}

    @public_call
    def check(self, plan: MemoryPlan) -> BoardFit:
        """Return whether a plan fits on the board, with all numbers.

        Parameters
        ----------
        plan : MemoryPlan
            With one arena, or with RAMs that are named as ranges of the board.

        Returns
        -------
        BoardFit

        Raises
        ------
        BoardError
            The plan names a RAM that the board has not.
        """
        require_plan(plan)
        constants = {i for b in plan.buffers if b.is_constant for i in b.tensors}
        initial = [
            tensor.size_bytes
            for index, tensor in enumerate(plan.tensors)
            if tensor.kind is TensorKind.WEIGHT and index not in constants
        ]
        flash = self.flash_bytes
        return BoardFit(
            board=self,
            memories=tuple(
                MemoryFit(ram, used.height_bytes, self.free_bytes(ram))
                for name, used in plan.memories.items()
                if not used.is_constant
                for ram in [name if plan.rams else self.arena_ram.name]
            ),
            local_lower_bound_bytes=plan.local_lower_bound_bytes,
            weight_bytes=sum(initial),
            constant_bytes=plan.constant_bytes,
            available_flash_bytes=None
            if flash is None
            else flash - self.reserved_flash_bytes,
            is_inference=plan.is_inference,
        )


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """What a plan takes of a range of RAM, and what the range has left for it."""

    name: str
    height_bytes: int
    available_bytes: int

    @property
    def headroom_bytes(self) -> int:
        """Bytes that are left; negative if they do not fit."""
        return self.available_bytes - self.height_bytes


@dataclass(frozen=True, slots=True)
class BoardFit:
    """Whether a plan fits on a board, with the numbers behind it.

    Attributes
    ----------
    board : Board
    memories : tuple of MemoryFit
        The RAMs of the plan: one range for the arena, or several.
    local_lower_bound_bytes : int
        Bytes of RAM that no plan of the model is below.
    weight_bytes : int
        The initial values of the weights in RAM, which stand in flash as well.
    constant_bytes : int
        The constants, which stand in flash only.
    available_flash_bytes : int or None
        None where storage does not limit.
    is_inference : bool
        The plan is one of inference, which has nothing to recompute.
    """

    board: Board
    memories: tuple[MemoryFit, ...]
    local_lower_bound_bytes: int
    weight_bytes: int
    constant_bytes: int
    available_flash_bytes: int | None
    is_inference: bool = False

    def __repr__(self) -> str:
        left = [
            f"{shortened(m.name, 16)} has {format_bytes(m.available_bytes)} and needs "
            f"{format_bytes(m.height_bytes)}"
            for m in self.memories[:2]
        ]
        does_fit = "fits" if self.fits else "does not fit"
        return short_repr(self, self.board.name, does_fit, *left)

    @property
    def arena_bytes(self) -> int:
        """Bytes of RAM that the plan needs."""
        return sum(memory.height_bytes for memory in self.memories)

    @property
    def available_bytes(self) -> int:
        """Bytes that its ranges have left beside the reservations: the budget."""
        return sum(memory.available_bytes for memory in self.memories)

    @property
    def headroom_bytes(self) -> int:
        """RAM bytes left beside arena and reservations; negative if they do not fit.

        Of several ranges it is the least.
        """
        return min(memory.headroom_bytes for memory in self.memories)

    @property
    def flash_headroom_bytes(self) -> int | None:
        """Flash bytes left beside program, weights and constants, or None."""
        if self.available_flash_bytes is None:
            return None
        return self.available_flash_bytes - self.weight_bytes - self.constant_bytes

    @property
    def fits_ram(self) -> bool:
        """Whether the arena fits in RAM."""
        return self.headroom_bytes >= 0

    @property
    def fits_flash(self) -> bool:
        """Whether the initial weights and the constants fit in flash."""
        return self.flash_headroom_bytes is None or self.flash_headroom_bytes >= 0

    @property
    def fits(self) -> bool:
        """Whether RAM and flash suffice."""
        return self.fits_ram and self.fits_flash

    def summary(self) -> dict[str, Any]:
        """Return the result as plain values; ``docs/boards.md`` lists the keys."""
        return {
            "name": self.board.name,
            "title": self.board.title,
            "fits": self.fits,
            "fits_ram": self.fits_ram,
            "fits_flash": self.fits_flash,
            "ram": self.board.arena_ram.name,
            "ram_bytes": self.board.arena_ram.size_bytes,
            "reserved_ram_bytes": self.board.reserved_ram_bytes,
            "budget_bytes": self.available_bytes,
            "headroom_bytes": self.headroom_bytes,
            "memories": [
                {
                    "name": memory.name,
                    "height_bytes": memory.height_bytes,
                    "available_bytes": memory.available_bytes,
                    "headroom_bytes": memory.headroom_bytes,
                }
                for memory in self.memories
            ],
            "flash_bytes": self.board.flash_bytes,
            "reserved_flash_bytes": self.board.reserved_flash_bytes,
            "weight_bytes": self.weight_bytes,
            "constant_bytes": self.constant_bytes,
            "flash_headroom_bytes": self.flash_headroom_bytes,
        }

    def sentences(self) -> list[str]:
        """Return sentences on what fits, the numbers, and what would fit."""
        verdict = "fits" if self.fits else "does not fit"
        found = [f"The plan {verdict} on {self.board.title}."]
        found += [self._ram_sentence(memory) for memory in self.memories]
        if not self.fits_ram:
            found.append(self._budget_sentence())
        found.append(self._flash_sentence())
        return found

    def _ram_sentence(self, memory: MemoryFit) -> str:
        board = self.board
        ram = next(ram for ram in board.ram if ram.name == memory.name)
        taken = board.reserved_bytes_in(ram)
        beside = (
            f"stack and heap ({format_bytes(taken)}) in the same range"
            if taken
            else f"stack and heap in {board.reserved_in}"
            if board.reserved_in
            else "nothing reserved"
        )
        left = (
            f"{format_bytes(memory.headroom_bytes)} are left"
            if memory.headroom_bytes >= 0
            else f"{format_bytes(-memory.headroom_bytes)} are missing"
        )
        what = "the arena takes" if len(self.memories) == 1 else "buffers take"
        return (
            f"RAM: {what} {format_bytes(memory.height_bytes)} of {ram.name}, "
            f"{format_bytes(ram.size_bytes)}, with {beside}: {left}."
        )

    def _budget_sentence(self) -> str:
        available, least = self.available_bytes, self.local_lower_bound_bytes
        if self.is_inference:
            return (
                f"{format_bytes(max(0, available))} are available, and inference has "
                f"nothing to recompute; {self._advice()}."
            )
        if least > available:
            return (
                f"No schedule of this model fits: a single step needs "
                f"{format_bytes(least)}, {format_bytes(max(0, available))} are "
                f"available; {self._advice()}."
            )
        return (
            f"An arena of at most {format_bytes(available)} would fit: that is the "
            f"budget to plan for (--budget {available}), or make the batch smaller."
        )

    def _advice(self) -> str:
        smaller = "make the model or its batch smaller"
        together = sum(self.board.memories.values())
        if len(self.memories) == 1 < len(self.board.memories):
            names = ", ".join(self.board.memories)
            return (
                f"plan for its {len(self.board.memories)} RAMs, {names}, which have "
                f"{format_bytes(together)} together (--memories board), or {smaller}"
            )
        return smaller

    def _flash_sentence(self) -> str:
        weights = f"the initial weights take {format_bytes(self.weight_bytes)}"
        if self.constant_bytes:
            weights += (
                f" and the constants, which are read there, "
                f"{format_bytes(self.constant_bytes)}"
            )
        headroom = self.flash_headroom_bytes
        if headroom is None:
            return f"Storage is not checked; {weights}."
        program = format_bytes(self.board.reserved_flash_bytes)
        advice = (
            "make the model smaller"
            if self.constant_bytes
            else "load them from elsewhere, or make the model smaller"
        )
        left = (
            f"{format_bytes(headroom)} are left"
            if self.fits_flash
            else f"{format_bytes(-headroom)} are missing; {advice}"
        )
        flash = format_bytes(self.board.flash_bytes or 0)
        return f"Flash: {weights} beside the program ({program}) of {flash}: {left}."
