"""The memories of a plan in C: arrays, named offsets, and a map that people read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from arena_ckpt.common.c_identifiers import escaped, unique_identifiers
from arena_ckpt.common.memories import ARENA, CONSTANTS
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.memory_use import MemoryUse
from arena_ckpt.planning.plan import MemoryPlan

C_TYPES = {"float32": "float", "float64": "double", "int32": "int32_t"}
"""The C type of the elements of each dtype of a plan."""

_LETTERS = {"float": "F", "double": "D", "int32_t": "I"}

RESERVED = (
    *("arena_bytes", "alignment", "batch", "passes", "pass_samples", "inputs"),
    *(
        "input_elements",
        "label_elements",
        "losses",
        "output_elements",
        "state_bytes",
        "yield",
    ),
    *("ok", "nonfinite_loss", "nonfinite_input", "bad_id", "feed_ended", "io"),
    *("state_corrupt", "other_plan", "h", "constant_bytes"),
)
"""What stands behind the prefix in macros that are no offsets."""


@dataclass(frozen=True, slots=True)
class Ram:
    """A memory that steps write, as an array.

    Attributes
    ----------
    name : str
        In the plan: ``"arena"``.
    array : str
        The C identifier of the array.
    suffix : str
        Behind the macros that make pointers: empty where there is one memory.
    section : str
        The macro for an attribute of the array.
    height_bytes : int
    """

    name: str
    array: str
    suffix: str
    section: str
    height_bytes: int

    @property
    def input_section(self) -> str:
        """The section that the array lies in, unless a macro names another.

        It is collected with ``.bss`` where a linker script does not know it.
        """
        return f".bss.{self.array}"


class MemoryMap:
    """Where the tensors of a plan lie, in terms of C.

    Parameters
    ----------
    plan : MemoryPlan
    prefix : str
        In small letters; macros have it in capitals.

    Attributes
    ----------
    rams : tuple of Ram
        Those in which anything lies.
    macros : list of str
        The macro of the offset of each live range.
    """

    def __init__(self, plan: MemoryPlan, prefix: str) -> None:
        self.plan = plan
        self._prefix = prefix
        ids = [f"{t.name}#{t.life}" if t.life else t.name for t in plan.tensors]
        names = unique_identifiers([*RESERVED, *ids])[len(RESERVED) :]
        self.macros = [f"{prefix.upper()}_{name}" for name in names]
        self.rams = self._find_rams()
        self._by_name = {ram.name: ram for ram in self.rams}
        self._places = {
            index: (buffer.memory, buffer.offset_bytes)
            for buffer in plan.buffers
            for index in buffer.tensors
        }
        self._in_memory: dict[str, list[int]] = defaultdict(list)
        for index, (memory, _) in sorted(self._places.items()):
            self._in_memory[memory].append(index)
        self._used = {
            execution.step: {operand.tensor for operand in execution.operands}
            for execution in plan.executions
        }

    def _find_rams(self) -> tuple[Ram, ...]:
        writable = [m for m in self.plan.memories.values() if not m.is_constant]
        filled = [memory for memory in writable if memory.height_bytes]
        names = unique_identifiers(
            ["arena" if memory.name == ARENA else memory.name for memory in writable]
        )
        suffixes = dict(zip((memory.name for memory in writable), names, strict=True))
        return tuple(self._ram(m, suffixes[m.name], len(filled)) for m in filled)

    def _ram(self, memory: MemoryUse, name: str, n_rams: int) -> Ram:
        is_alone = n_rams == 1
        return Ram(
            memory.name,
            f"{self._prefix}_arena" if is_alone else f"{self._prefix}_{name.lower()}",
            "" if is_alone else f"_{name}",
            f"{self._prefix.upper()}_{name}_SECTION",
            memory.height_bytes,
        )

    def offset_of(self, tensor: int) -> int:
        """Return the offset in bytes of a live range in its memory."""
        return self._places[tensor][1]

    def ram_number(self, region: Region) -> int:
        """Return the place among `rams` of the memory of a region."""
        return self.rams.index(self._by_name[region.memory])

    def offset_text(self, region: Region, step: int) -> str:
        """Return the offset of a region in words of C: ``NET_FC1_OUT0 + 128``.

        Parameters
        ----------
        region : Region
        step : int
            The step at which it is used: of the tensors that lie there in turn, one
            that is alive then gives its name.
        """
        index = self._tensor_at(region, step)
        beyond = region.offset_bytes - self.offset_of(index)
        return f"{self.macros[index]} + {beyond}" if beyond else self.macros[index]

    def pointer(self, region: Region, step: int) -> str:
        """Return a pointer to the first element of a region: ``F(NET_FC1_OUT0)``."""
        offset = self.offset_text(region, step)
        if region.memory == CONSTANTS:
            return f"C({offset})"
        letter = _LETTERS[C_TYPES[region.dtype]]
        return f"{letter}{self._by_name[region.memory].suffix}({offset})"

    def _tensor_at(self, region: Region, step: int) -> int:
        start, stop = region.offset_bytes, region.offset_bytes + region.nbytes

        def fit(index: int) -> tuple[bool, bool, int, int]:
            tensor = self.plan.tensors[index]
            used = index in self._used.get(step, ())
            return (
                used,
                self.offset_of(index) == start,
                -tensor.size_bytes,
                -index,
            )

        around = [
            index
            for index in self._in_memory[region.memory]
            if self.offset_of(index) <= start
            and stop <= self.offset_of(index) + self.plan.tensors[index].size_bytes
            and self.plan.tensors[index].start <= step < self.plan.tensors[index].stop
        ]
        assert around, f"nothing of the plan lies at {region} at step {step}"
        return max(around, key=fit)

    # -- text ------------------------------------------------------------------

    def offset_lines(self) -> Iterator[str]:
        """Yield the macros of all offsets, in the order of the plan."""
        for index, macro in enumerate(self.macros):
            yield f"#define {macro} {self.offset_of(index)}"

    def array_lines(self) -> Iterator[str]:
        """Yield the arrays, with the macros that make pointers into them."""
        upper = self._prefix.upper()
        for ram in self.rams:
            yield f"#if defined({ram.section})"
            yield "#elif defined(__GNUC__) && defined(__ELF__)"
            yield (
                f'#define {ram.section} __attribute__((section("{ram.input_section}")))'
            )
            yield "#else"
            yield f"#define {ram.section}"
            yield "#endif"
            yield (
                f"static uint8_t {ram.array}[{ram.height_bytes}] "
                f"ALIGNED({self.plan.alignment_bytes}) {ram.section};"
            )
        total = " + ".join(f"sizeof {ram.array}" for ram in self.rams)
        yield "typedef char memories_are_as_planned["
        yield f"    {total} == {upper}_ARENA_BYTES ? 1 : -1];"
        yield ""
        yield "/* Pointers to the elements at an offset. */"
        for ram in self.rams:
            for c_type, letter in _LETTERS.items():
                yield (
                    f"#define {letter}{ram.suffix}(offset) "
                    f"(({c_type} *)(void *)({ram.array} + (offset)))"
                )
        if self.plan.constant_bytes:
            constants = f"{self._prefix}_constants"
            yield f"#define C(offset) ({constants} + (offset) / 4)"

    def map_lines(self) -> Iterator[str]:
        """Yield the map: what lies where, and from which step to which."""
        plan = self.plan
        for name in (*(ram.name for ram in self.rams), CONSTANTS):
            tensors = sorted(
                self._in_memory[name],
                key=lambda index: (
                    self.offset_of(index),
                    plan.tensors[index].start,
                    index,
                ),
            )
            if not tensors:
                continue
            height = plan.memories[name].height_bytes
            yield f"{escaped(name)}, {height:,} bytes"
            yield "    offset      bytes  steps      what"
            for index in tensors:
                tensor = plan.tensors[index]
                steps = f"{tensor.start}-{tensor.stop - 1}"
                life = f", life {tensor.life}" if tensor.life else ""
                yield (
                    f"{self.offset_of(index):>10} {tensor.size_bytes:>10}  {steps:<9}  "
                    f"{escaped(tensor.name)}{life}"
                )
