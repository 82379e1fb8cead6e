"""Runs kernel calls between unreadable pages and on poisoned memory.

Of one call, overlapping arrays make one operand: they keep their places to each other.
All operands stand flush against an unreadable page, first behind, then in front. On
each side the call runs twice: what it only writes, what lies beside its operands and
the stack hold one byte first, then another. The results must be equal bit for bit, and
what it only reads must stay as it was.

A read or write beyond an operand ends the process. So cases run in children; the case
in which one ended runs again, operand by operand, to name what it touched. As a
program, this runs families of cases and writes what it found as JSON.
"""

from __future__ import annotations

import inspect
import json
import mmap
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.kernels.kernel import Kernel, run_table
from arena_ckpt.layers.base import Call
from helpers.guarded_memory import MEMSET, Side, Slot, array_at, stack_filler
from helpers.kernel_access import CHANGED, SCRATCH, Fact, facts_of
from helpers.kernel_calls import found

BYTES = (0xFF, 0x7F)
"""NaN and -1; the greatest numbers and indexes far outside."""

Mask = npt.NDArray[np.bool_]
Places = dict[int, tuple[int, int]]
"""Of each array argument: the number of its operand, and its first byte in it."""

_BYTE = np.dtype(np.uint8)


@dataclass
class Operand:
    """Arrays of a call that share bytes."""

    names: tuple[str, ...]
    address: int
    before: bytes
    poisoned: Mask
    """Bytes that the call only writes."""
    compared: Mask
    """Bytes of which something is promised."""
    kept: Mask
    """Bytes that it does not write."""
    slot: Slot

    def __str__(self) -> str:
        return " = ".join(self.names)


class Bench:
    """Runs calls as the module says; `findings` are sentences about what is wrong.

    Parameters
    ----------
    log : mmap
        Told what runs, for whoever asks after this process died.
    in_turn : bool
        One thing at a time is different, so that what ends the process has a name:
        which operand stands against a page, or which holds the other byte.
    """

    def __init__(self, log: mmap.mmap | bytearray, *, in_turn: bool = False) -> None:
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.read: set[str] = set()
        """``kernel.parameter`` of what is changed, where a result depended on it."""
        self._log, self._in_turn = log, in_turn
        self._slots: list[Slot] = []
        self._fill = stack_filler()

    def run(self, call: Call, where: str, facts: dict[str, Fact] | None = None) -> None:
        """Run one call in all ways; its arrays then hold the results."""
        call = Call(found(call.kernel), call.arguments)
        facts = facts_of(call.kernel) if facts is None else facts
        operands, places = self._operands(*call, facts)
        name, n = call.kernel.name, len(operands)
        self.counts[name] += 1
        if self._in_turn:
            self._run_in_turn(call, operands, places, where)
        for side in (Side.BEHIND, Side.IN_FRONT):
            self._say(f"{name} went beyond its operands: {where}")
            runs = [
                self._results(call, operands, places, [side] * n, [byte] * (n + 2))
                for byte in BYTES
            ]
            self._judge(call, operands, places, runs, where)
        self._note_what_is_read(call, operands, places, runs[0])
        for operand, result in zip(operands, runs[0], strict=True):
            memory = array_at(operand.address, (len(result),), _BYTE)
            memory[:] = np.frombuffer(result, np.uint8)

    def _say(self, text: str) -> None:
        said = text.encode()[: len(self._log) - 1]
        self._log[: len(said) + 1] = said + b"\0"

    def _run_in_turn(
        self, call: Call, operands: list[Operand], places: Places, where: str
    ) -> None:
        """Let what ends the process do so under its name."""
        name, n = call.kernel.name, len(operands)
        usual = [BYTES[0]] * (n + 2)
        for i, operand in enumerate(operands):
            for side in (Side.BEHIND, Side.IN_FRONT):
                self._say(f"{name} touched what lies {side.value} {operand}: {where}")
                sides = [side if k == i else Side.FAR for k in range(n)]
                self._results(call, operands, places, sides, usual)
        for i in range(n + 2):
            self._say(f"{name} went astray by {_filled(operands, i)}: {where}")
            fill = [BYTES[1] if k == i else BYTES[0] for k in range(n + 2)]
            self._results(call, operands, places, [Side.FAR] * n, fill)

    def _note_what_is_read(
        self, call: Call, operands: list[Operand], places: Places, usual: list[bytes]
    ) -> None:
        """See whether results depend on what is said to be read and written."""
        n = len(operands)
        for i, operand in enumerate(operands):
            keys = {f"{call.kernel.name}.{name}" for name in operand.names}
            if keys <= self.read or operand.kept.all() or operand.poisoned.all():
                continue
            others = list(operands)
            after = np.frombuffer(operand.before, np.uint8) ^ 0x10
            others[i] = replace(operand, before=after.tobytes())
            sides = [Side.IN_FRONT] * n
            found = self._results(call, others, places, sides, [BYTES[0]] * (n + 2))
            if _changed(operands, usual, found):
                self.read |= keys

    # -- operands ----------------------------------------------------------------------

    def _operands(
        self, kernel: Kernel, arguments: Sequence[Any], facts: dict[str, Fact]
    ) -> tuple[list[Operand], Places]:
        """Return the operands, and for each array its operand and place in it."""
        names = list(inspect.signature(kernel._python).parameters)
        given = dict(zip(names, arguments, strict=True))
        arrays = [
            (value.ctypes.data, value.ctypes.data + value.nbytes, i)
            for i, value in enumerate(arguments)
            if isinstance(value, np.ndarray)
        ]
        groups: list[tuple[int, int, list[int]]] = []
        for start, stop, i in sorted(a for a in arrays if a[1] > a[0]):
            if groups and start < groups[-1][1]:
                first, last, members = groups[-1]
                groups[-1] = first, max(last, stop), [*members, i]
            else:
                groups.append((start, stop, [i]))
        empty: dict[int, tuple[int, int, list[int]]] = {}
        for start, stop, i in (a for a in arrays if a[1] == a[0]):
            empty.setdefault(start, (start, stop, []))[2].append(i)
        operands, places = [], {}
        for start, stop, members in (*groups, *empty.values()):
            n = stop - start
            reads, writes, wanted = (np.zeros(n, bool) for _ in range(3))
            for i in members:
                at, n_bytes = arguments[i].ctypes.data - start, arguments[i].nbytes
                part = slice(at, at + n_bytes)
                fact = facts.get(names[i])
                word = fact(given) if callable(fact) else fact
                if word is None:
                    reads[part] = True
                elif isinstance(word, np.ndarray):
                    marked = np.repeat(word, n_bytes // max(word.size, 1))
                    writes[part] |= marked
                    wanted[part] = True
                else:
                    writes[part] = True
                    wanted[part] |= word is not SCRATCH
                    reads[part] |= word is CHANGED
            while len(self._slots) <= len(operands):
                self._slots.append(Slot())
            operand = Operand(
                tuple(names[i] for i in members),
                start,
                array_at(start, (n,), _BYTE).tobytes(),
                poisoned=writes & ~reads,
                compared=wanted | ~writes,
                kept=~writes,
                slot=self._slots[len(operands)],
            )
            operands.append(operand)
            for i in members:
                places[i] = len(operands) - 1, arguments[i].ctypes.data - start
        return operands, places

    # -- runs --------------------------------------------------------------------------

    def _results(
        self,
        call: Call,
        operands: list[Operand],
        places: Places,
        sides: list[Side],
        fill: list[int],
    ) -> list[bytes]:
        """Run once; `fill` is a byte for each operand, what is beside, the stack."""
        addresses, memories = [], []
        for operand, side, byte in zip(operands, sides, fill, strict=False):
            n = len(operand.before)
            addresses.append(operand.slot.place(n, side, fill[-2]))
            memory = array_at(addresses[-1], (n,), _BYTE)
            memory[:] = np.frombuffer(operand.before, np.uint8)
            memory[operand.poisoned] = byte
            memories.append(memory)
        moved = list(call.arguments)
        for i, (which, offset) in places.items():
            address = addresses[which] + offset
            moved[i] = array_at(address, moved[i].shape, moved[i].dtype)
        block = np.array(call.kernel.pack(moved), np.int64)
        stack = np.array([MEMSET, fill[-1]], np.int64)
        table = np.array(
            [
                *(self._fill.address, stack.ctypes.data),
                *(call.kernel.entry(moved), block.ctypes.data),
            ],
            np.int64,
        )
        run_table(table.ctypes.data, 2)
        return [memory.tobytes() for memory in memories]

    def _judge(
        self,
        call: Call,
        operands: list[Operand],
        places: Places,
        runs: list[list[bytes]],
        where: str,
    ) -> None:
        name, n = call.kernel.name, len(operands)
        for operand, first in zip(operands, runs[0], strict=True):
            moved = _differ(operand.before, first, operand.kept)
            if moved is not None:
                self._find(f"{name} changed byte {moved} of {operand}: {where}")
        changed = _changed(operands, *runs)
        if not changed:
            return
        usual = [BYTES[0]] * (n + 2)
        near = [Side.IN_FRONT] * n
        first = self._results(call, operands, places, near, usual)
        for i in range(n + 2):
            fill = [BYTES[1] if k == i else BYTES[0] for k in range(n + 2)]
            found = _changed(
                operands, first, self._results(call, operands, places, near, fill)
            )
            if found:
                what = _filled(operands, i)
                self._find(f"{name} made {found} of {what}: {where}")
                return
        self._find(f"{name} made {changed} of what nobody wrote: {where}")

    def _find(self, sentence: str) -> None:
        if sentence not in self.findings:
            self.findings.append(sentence)


def _filled(operands: list[Operand], i: int) -> str:
    """Name what byte `i` of the fill stands in."""
    rest = ("what is beside its operands", "what stood on the stack")
    n = len(operands)
    return f"what stood in {operands[i]}" if i < n else rest[i - n]


def _differ(first: bytes, second: bytes, mask: Mask) -> int | None:
    """Return the first byte of the mask in which two differ."""
    if first == second:
        return None
    differ = np.frombuffer(first, np.uint8) != np.frombuffer(second, np.uint8)
    at = np.flatnonzero(differ & mask)
    return int(at[0]) if at.size else None


def _changed(operands: list[Operand], first: list[bytes], second: list[bytes]) -> str:
    """Name the operands whose results differ, each with its first byte."""
    found = []
    for operand, a, b in zip(operands, first, second, strict=True):
        at = _differ(a, b, operand.compared)
        if at is not None:
            found.append(f"byte {at} of {operand}")
    return ", ".join(found)


# -- as a program ----------------------------------------------------------------------


def in_a_child(
    work: Callable[[Any], dict[str, Any]], seconds: int = 900
) -> tuple[dict[str, Any] | None, str]:
    """Call a function in a fork; return its answer, or None and what its log says."""
    log = mmap.mmap(-1, 1 << 12)
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        with os.fdopen(sender, "w") as file:
            file.write(json.dumps(work(log)))
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    said = bytes(log).partition(b"\0")[0].decode(errors="replace")
    if status == 0:
        return json.loads(answer), said
    return None, f"{said} (ended by {os.waitstatus_to_exitcode(status)})"


def survey(
    run: Callable[[Bench, int], None], enough: Callable[[Bench, int], bool]
) -> dict[str, Any]:
    """Run cases by number until there are enough; name what ended the process.

    Parameters
    ----------
    run : callable
        Runs one case.
    enough : callable
        Told how many ran.

    Returns
    -------
    dict
        ``counts`` by kernel, ``read`` as in `Bench`, and ``findings``.
    """

    def work(log: Any) -> dict[str, Any]:
        bench, index = Bench(log), 0
        while not enough(bench, index):
            reached.seek(0)
            reached.write(index.to_bytes(8, "little"))
            run(bench, index)
            index += 1
        return {
            "counts": bench.counts,
            "read": sorted(bench.read),
            "findings": bench.findings,
        }

    def again(log: Any) -> dict[str, Any]:
        run(Bench(log, in_turn=True), int.from_bytes(reached[:8], "little"))
        return {}

    reached = mmap.mmap(-1, 8)
    answer, ended = in_a_child(work)
    if answer is None:
        alone, named = in_a_child(again)
        found = named if alone is None else ended
        answer = {"counts": {}, "read": [], "findings": [found]}
    return answer


def main(names: str, least: int) -> None:
    """Run families until each of their kernels had its share of cases.

    Parameters
    ----------
    names : str
        Keys of `kernel_geometries.FAMILIES`, with commas.
    least : int
        Cases for each kernel.
    """
    from helpers.kernel_geometries import FAMILIES

    said = {}
    for name in names.split(","):
        family = FAMILIES[name]

        def run(bench: Bench, index: int, name: str = name) -> None:
            FAMILIES[name].run(bench, f"{name}:{index}", index)

        def enough(bench: Bench, n: int, family: Any = family) -> bool:
            done = all(bench.counts[kernel] >= least for kernel in family.kernels)
            return done or n > 60 * least or len(bench.findings) > 5

        said[name] = survey(run, enough)
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
