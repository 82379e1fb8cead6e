"""The memory of a board, and the check whether a plan fits in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.units import format_bytes
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
        True for one range of a board.
    note : str
        Where it lies, what it is good for.
    """

    name: str
    size_bytes: int
    holds_arena: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """The memory of a board, and the part of it that is reserved.

    Attributes
    ----------
    name, title : str
    ram : tuple of Ram
    flash_bytes : int or None
        None where storage does not limit: an SD card, a disk.
    reserved_flash_bytes : int
        The program and its constants, but for the weights.
    reserved_stack_bytes, reserved_heap_bytes : int
    reserved_in : str or None
        The range of RAM that stack and heap stand in; None is that of the arena.
    reservations, source, url : str
        What the reservations stand for, and where the sizes come from.
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

    @property
    def arena_ram(self) -> Ram:
        """RAM range that holds the arena."""
        return next(ram for ram in self.ram if ram.holds_arena)

    @property
    def reserved_ram_bytes(self) -> int:
        """Bytes of the arena's RAM range that stack and heap take."""
        if self.reserved_in not in (None, self.arena_ram.name):
            return 0
        return self.reserved_stack_bytes + self.reserved_heap_bytes

    @public_call
    def check(self, plan: MemoryPlan) -> BoardFit:
        """Return whether a plan fits on the board, with all numbers.

        Parameters
        ----------
        plan : MemoryPlan

        Returns
        -------
        BoardFit
        """
        require_plan(plan)
        free = self.arena_ram.size_bytes - self.reserved_ram_bytes
        weights = {
            tensor.name: tensor.size_bytes
            for tensor in plan.tensors
            if tensor.kind is TensorKind.WEIGHT
        }
        flash = self.flash_bytes
        return BoardFit(
            board=self,
            arena_bytes=plan.arena_bytes,
            available_bytes=free // plan.alignment_bytes * plan.alignment_bytes,
            local_lower_bound_bytes=plan.local_lower_bound_bytes,
            weight_bytes=sum(weights.values()),
            available_flash_bytes=None
            if flash is None
            else flash - self.reserved_flash_bytes,
        )


@dataclass(frozen=True, slots=True)
class BoardFit:
    """Whether a plan fits on a board, with the numbers behind it.

    Attributes
    ----------
    board : Board
    arena_bytes : int
        What the plan needs.
    available_bytes : int
        What the arena's range has left beside the reservations, whole alignments: the
        budget that would fit.
    local_lower_bound_bytes : int
        No schedule of the model is smaller.
    weight_bytes : int
        The initial weights, constants in flash.
    available_flash_bytes : int or None
        None where storage does not limit.
    """

    board: Board
    arena_bytes: int
    available_bytes: int
    local_lower_bound_bytes: int
    weight_bytes: int
    available_flash_bytes: int | None

    @property
    def headroom_bytes(self) -> int:
        """RAM bytes left beside arena and reservations; negative if they do not fit."""
        return self.available_bytes - self.arena_bytes

    @property
    def flash_headroom_bytes(self) -> int | None:
        """Flash bytes left beside program and weights; None without a limit."""
        if self.available_flash_bytes is None:
            return None
        return self.available_flash_bytes - self.weight_bytes

    @property
    def fits_ram(self) -> bool:
        """Whether the arena fits in RAM."""
        return self.headroom_bytes >= 0

    @property
    def fits_flash(self) -> bool:
        """Whether the initial weights fit in flash."""
        return self.flash_headroom_bytes is None or self.flash_headroom_bytes >= 0

    @property
    def fits(self) -> bool:
        """Whether the arena and the initial weights fit."""
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
            "flash_bytes": self.board.flash_bytes,
            "reserved_flash_bytes": self.board.reserved_flash_bytes,
            "weight_bytes": self.weight_bytes,
            "flash_headroom_bytes": self.flash_headroom_bytes,
        }

    def sentences(self) -> list[str]:
        """Return sentences on what fits, the numbers, and what would fit."""
        board, ram = self.board, self.board.arena_ram
        verdict = "fits" if self.fits else "does not fit"
        found = [f"The plan {verdict} on {board.title}.", self._ram_sentence(ram)]
        if not self.fits_ram:
            found.append(self._budget_sentence())
        found.append(self._flash_sentence())
        return found

    def _ram_sentence(self, ram: Ram) -> str:
        taken = self.board.reserved_ram_bytes
        beside = (
            f"stack and heap ({format_bytes(taken)}) in the same range"
            if taken
            else f"stack and heap in {self.board.reserved_in}"
            if self.board.reserved_in
            else "nothing reserved"
        )
        left = (
            f"{format_bytes(self.headroom_bytes)} are left"
            if self.fits_ram
            else f"{format_bytes(-self.headroom_bytes)} are missing"
        )
        return (
            f"RAM: the arena takes {format_bytes(self.arena_bytes)} of {ram.name}, "
            f"{format_bytes(ram.size_bytes)}, with {beside}: {left}."
        )

    def _budget_sentence(self) -> str:
        available, least = self.available_bytes, self.local_lower_bound_bytes
        if least > available:
            return (
                f"No schedule of this model fits: a single step needs "
                f"{format_bytes(least)}, {format_bytes(max(0, available))} are "
                "available; make the model or its batch smaller."
            )
        return (
            f"An arena of at most {format_bytes(available)} would fit: that is the "
            f"budget to plan for (--budget {available}), or make the batch smaller."
        )

    def _flash_sentence(self) -> str:
        weights = f"the initial weights take {format_bytes(self.weight_bytes)}"
        headroom = self.flash_headroom_bytes
        if headroom is None:
            return f"Storage is not checked; {weights}."
        program = format_bytes(self.board.reserved_flash_bytes)
        left = (
            f"{format_bytes(headroom)} are left"
            if self.fits_flash
            else f"{format_bytes(-headroom)} are missing; load them from elsewhere, or "
            "make the model smaller"
        )
        flash = format_bytes(self.board.flash_bytes or 0)
        return f"Flash: {weights} beside the program ({program}) of {flash}: {left}."
