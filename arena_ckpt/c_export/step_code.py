"""The steps of a plan as C functions: one a step, and the order in which they run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from arena_ckpt.c_export.literals import (
    double_literal,
    float_literal,
    int32_literal,
    uint64_literal,
)
from arena_ckpt.c_export.memory_map import C_TYPES, MemoryMap
from arena_ckpt.c_export.sources import CKernel, find_kernel
from arena_ckpt.common.c_identifiers import escaped
from arena_ckpt.common.memories import CONSTANTS
from arena_ckpt.errors import CExportError
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.operations.regions import Region
from arena_ckpt.planning.plan import MemoryPlan

_LITERALS = {
    "int32_t": lambda value: int32_literal(int(value)),
    "uint32_t": lambda value: f"{int(value)}u",
    "int64_t": lambda value: f"INT64_C({int(value)})",
    "uint64_t": lambda value: uint64_literal(int(value)),
    "float": float_literal,
    "double": double_literal,
}


def require_kernels(plan: MemoryPlan, calls: Sequence[KernelCall]) -> None:
    """Refuse calls of kernels that are not there in C, all at once.

    Raises
    ------
    CExportError
    """
    missing: dict[str, dict[str, None]] = {}
    for call in calls:
        if find_kernel(call.kernel) is None:
            step = plan.steps[call.step]
            layer = step.layer if step and step.layer else "the clipping of gradients"
            missing.setdefault(layer, {})[str(call.kernel)] = None
    if missing:
        by_layer = "; ".join(f"{name} ({', '.join(missing[name])})" for name in missing)
        raise CExportError(
            f"{len(missing)} layers need kernels that are not there in C: {by_layer}. "
            "Nothing was written; replace these layers, or train the model here",
            layers=tuple(missing),
            kernels=tuple(dict.fromkeys(k for many in missing.values() for k in many)),
        )


def call_text(call: KernelCall, places: MemoryMap) -> str:
    """Return a kernel call as a statement of C."""
    kernel = find_kernel(call.kernel)
    assert kernel is not None
    names = [name for name, _ in call.kernel.parameters]
    given = dict(zip(names, call.operands, strict=True))
    arguments = [
        _argument(text, kind, given, call.step, places)
        for text, kind in zip(kernel.arguments, kernel.types, strict=True)
    ]
    return _wrapped(kernel, arguments)


def _wrapped(kernel: CKernel, arguments: Sequence[str]) -> str:
    text = f"{kernel.function}({', '.join(arguments)});"
    return textwrap.fill(
        text,
        88,
        initial_indent="    ",
        subsequent_indent="        ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _argument(
    text: str, kind: str, given: Mapping[str, object], step: int, places: MemoryMap
) -> str:
    word, _, fact = text.partition(".")
    value = given[word]
    if fact:
        assert isinstance(value, Region)
        size = {"size": value.size, "rows": value.shape[0], "columns": value.shape[-1]}
        return int32_literal(size[fact])
    if not kind.endswith("*"):
        return _LITERALS[kind](value)
    assert isinstance(value, Region), f"{text} is no region: {value!r}"
    element = kind.removeprefix("const ").removesuffix("*").strip()
    assert C_TYPES[value.dtype] == element, f"{text}: {value.dtype} as {kind}"
    assert kind.startswith("const ") or value.memory != CONSTANTS, f"{text} is const"
    return places.pointer(value, step)


@dataclass(frozen=True, slots=True)
class StepSequence:
    """Functions of steps, to be run one after another.

    Attributes
    ----------
    name : str
        The C function that runs them.
    comment : str
    functions : tuple of str
    """

    name: str
    comment: str
    functions: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Yield the lines of the function."""
        yield f"/* {self.comment} */"
        yield f"static void {self.name}(void)"
        yield "{"
        for function in self.functions:
            yield f"    RUN({function});"
        yield "}"
        yield ""


class StepFunctions:
    """Collects the functions of steps; steps with the same calls have one.

    Parameters
    ----------
    places : MemoryMap

    Attributes
    ----------
    kernels : dict
        The kernel names that are called, in order.
    """

    def __init__(self, places: MemoryMap) -> None:
        self._places = places
        self._names: dict[tuple[KernelCall, ...], str] = {}
        self._taken: set[str] = set()
        self._text: list[str] = []

    def add(
        self, calls: Sequence[KernelCall], start: int, stop: int, stem: str
    ) -> tuple[str, ...]:
        """Return the functions of the steps [start, stop), made where they are missing.

        Parameters
        ----------
        calls : sequence of KernelCall
            By ascending step.
        start, stop : int
        stem : str
            With which the name of a new function begins: ``"step"``.
        """
        return tuple(
            self._function(step, tuple(group), stem)
            for step, group in groupby(calls, key=lambda call: call.step)
            if start <= step < stop
        )

    def _function(self, step: int, calls: tuple[KernelCall, ...], stem: str) -> str:
        if calls not in self._names:
            name = f"{stem}_{step}"
            assert name not in self._taken
            self._taken.add(name)
            self._names[calls] = name
            described = escaped(self._places.plan.describe_step(step))
            self._text += [
                f"/* {described} */",
                f"static void {name}(void)",
                "{",
                *(call_text(call, self._places) for call in calls),
                "}",
                "",
            ]
        return self._names[calls]

    def lines(self) -> list[str]:
        """Return the functions in the order in which they were added."""
        return self._text
