"""Ways to split a kernel call into parts that touch nothing of each other.

Each number comes from the same operands in the same order in whichever part it is, so
parts decide no bit. A workspace for each thread is one tensor, of which each part takes
its piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.operations.regions import Region

LEAST_BYTES = 1 << 17
"""Bytes of operands below which a pass over memory is not split: some 20 µs."""

LEAST_FLOPS = 1 << 19
"""Multiplications and additions below which no other kernel is split, likewise."""

Values = dict[str, Any]
"""The operands of a call by the names of its parameters."""


def values_of(call: KernelCall) -> Values:
    """Return the operands of a call by the names of its parameters."""
    names = (name for name, _ in call.kernel.parameters)
    return dict(zip(names, call.operands, strict=True))


def cuts(length: int, n_parts: int, unit: int) -> list[tuple[int, int]]:
    """Return where parts begin and end: whole units each, but for the last."""
    units = length // unit
    starts = [unit * (units * part // n_parts) for part in range(n_parts)]
    return list(zip(starts, [*starts[1:], length], strict=True))


def _always(values: Values) -> bool:
    return True


@dataclass(frozen=True)
class Along:
    """Splits calls along an axis that comes first in some operands.

    Attributes
    ----------
    sliced : tuple of str
        These operands: parts of them stand one after another in memory.
    count : str or callable
        The parameter that says how long the axis is, or what tells it from the
        operands; else it is that of the first operand.
    room : tuple of str
        Workspaces, of which each thread has one.
    unit : int or str
        Parts begin at multiples of it, or of the parameter of this name.
    flops : callable, optional
        Multiplications and additions of a call; without, bytes decide if it pays.
    may : callable
        Says of the operands whether parts compute what the whole does.
    begin : str
        The parameter that says where on the axis a part begins, if there is one: what
        is not sliced has all of the axis.
    """

    sliced: tuple[str, ...]
    count: str | Callable[[Values], int] = ""
    room: tuple[str, ...] = ()
    unit: int | str = 1
    flops: Callable[[Values], int] | None = None
    may: Callable[[Values], bool] = _always
    begin: str = ""

    def parts(self, call: KernelCall, threads: int) -> Iterator[KernelCall]:
        """Yield the parts; none where the call stays as it is."""
        values = values_of(call)
        regions = {name: values[name] for name in self.sliced}
        first = regions[self.sliced[0]]
        length = len(first)
        if isinstance(self.count, str):
            length = values[self.count] if self.count else length
        else:
            length = self.count(values)
        unit = values[self.unit] if isinstance(self.unit, str) else self.unit
        n_parts = min(threads, length // unit)
        is_whole = any(len(region) % length for region in regions.values() if length)
        if is_whole or n_parts < 2 or not self.may(values):
            n_parts = 1
        elif not _pays(values, self.sliced, self.flops):
            n_parts = 1
        if n_parts == 1 and not self.room:
            return
        for part, (start, stop) in enumerate(cuts(length, n_parts, unit)):
            own = dict(values)
            if n_parts > 1:
                for name, region in regions.items():
                    each = len(region) // length
                    own[name] = region[each * start : each * stop]
                if isinstance(self.count, str) and self.count:
                    own[self.count] = stop - start
                if self.begin:
                    own[self.begin] = start
            for name in self.room:
                own[name] = _piece(values[name], part, threads)
            yield replace(call, operands=tuple(own.values()))


def _pays(
    values: Values, touched: tuple[str, ...], flops: Callable[[Values], int] | None
) -> bool:
    """Tell whether parts of a call are worth waiting for each other."""
    if flops is not None:
        return flops(values) >= LEAST_FLOPS
    n_bytes: int = sum(values[name].nbytes for name in touched)
    return n_bytes >= LEAST_BYTES


def _piece(room: Region, part: int, threads: int) -> Region:
    """Return the workspace of a thread."""
    each = len(room) // threads
    return room[part * each : (part + 1) * each]


def convolution_flops(values: Values) -> int:
    """Return the multiplications and additions of a convolution."""
    each = values["channels"] * values["kernel_height"] * values["kernel_width"]
    outputs = values["filters"] * values["out_height"] * values["out_width"]
    return int(2 * values["n"] * outputs * each)


def _draws_nothing(values: Values) -> bool:
    """Tell whether no element is dropped: what is depends on the place in the batch."""
    rate: float = values["rate"]
    return not rate


def _attention_flops(values: Values) -> int:
    width = values["dk"] + values["dv"]
    return int(2 * values["out"].size // values["dv"] * values["s"] * width)


@dataclass(frozen=True)
class Attention:
    """Splits attention along the samples, which no parameter counts.

    Attributes
    ----------
    saved : tuple of str
        Operands with an axis of samples beside q, k, v, mask and out.
    room : str
        The workspace. Where none is needed, out stands in its place.
    """

    saved: tuple[str, ...]
    room: str

    def parts(self, call: KernelCall, threads: int) -> Iterator[KernelCall]:
        """Yield the parts; none where the call stays as it is."""
        values = values_of(call)
        samples = len(values["out"]) // (values["t"] * values["heads"] * values["dv"])
        shared = ("q", "k", "v", "mask", "out", *self.saved)
        sliced = tuple(name for name in shared if name in values)
        is_idle = values[self.room] is values["out"]
        if is_idle:
            sliced = (*sliced, self.room)
        rows = {name: values[name].reshape(samples, -1) for name in sliced}
        rule = Along(
            sliced,
            room=() if is_idle else (self.room,),
            flops=_attention_flops,
            may=_draws_nothing,
        )
        operands = tuple((values | rows).values())
        for part in rule.parts(replace(call, operands=operands), threads):
            own = values_of(part)
            flat = {name: own[name].reshape(-1) for name in sliced}
            yield replace(part, operands=tuple((own | flat).values()))


@dataclass(frozen=True)
class Range:
    """Splits calls that compute a range of channels from the whole operands.

    The range is the last two parameters, and the whole where a layer names the call.

    Attributes
    ----------
    read : tuple of str
        Operands that are read whole, of which a part reads its share.
    room : tuple of str
        Workspaces, of which each thread has one.
    flops : callable, optional
        As in `Along`.
    """

    read: tuple[str, ...]
    room: tuple[str, ...] = ()
    flops: Callable[[Values], int] | None = None

    def parts(self, call: KernelCall, threads: int) -> Iterator[KernelCall]:
        """Yield the parts; none where the call stays as it is."""
        values = values_of(call)
        n_parts = min(threads, values["end"])
        if not _pays(values, self.read, self.flops):
            n_parts = 1
        if n_parts == 1 and not self.room:
            return
        for part, (begin, end) in enumerate(cuts(values["end"], n_parts, 1)):
            own = values | {"begin": begin, "end": end}
            for name in self.room:
                own[name] = _piece(values[name], part, threads)
            yield replace(call, operands=tuple(own.values()))
