"""Finds compiled functions that hand out memory of their own stack frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from arena_ckpt.kernels.linking import LinkedLibrary

FOLLOWED = {
    *("getelementptr", "bitcast", "addrspacecast", "ptrtoint", "inttoptr", "phi"),
    *("select", "insertvalue", "extractvalue", "freeze", "add", "sub"),
}
"""Instructions whose result points to the stack if an operand does."""

_NAME = re.compile(r'%(?:"[^"]+"|[-\w$.]+)')
_RESULT = re.compile(r'(%(?:"[^"]+"|[-\w$.]+)) = (\w+) (.*)')
_POINTER = re.compile(r"(ptr|[^,]*\*), ")


def escapes_of(lines: list[str]) -> list[str]:
    """Return the lines by which a pointer to the own frame leaves a function.

    Parameters
    ----------
    lines : list of str
        LLVM's text of the function's body.
    """
    made = [m.groups() for m in map(_RESULT.match, lines) if m]
    stores = [
        (line, *(part.split()[-1] for part in line.split(", ")[:2]))
        for line in lines
        if line.startswith("store ")
    ]
    local = {result for result, what, _ in made if what == "alloca"}
    if not local:
        return []
    before = None
    while before != (before := len(local)):
        holds_pointers = any(v in local and to in local for _, v, to in stores)
        for result, what, rest in made:
            loads = what == "load" and holds_pointers and _POINTER.match(rest)
            if (what in FOLLOWED or loads) and local.intersection(_NAME.findall(rest)):
                local.add(result)
    return [line for line, v, to in stores if v in local and to not in local] + [
        line
        for line in lines
        if line.startswith("ret ") and local.intersection(_NAME.findall(line))
    ]


def _functions(text: str) -> Iterator[tuple[str, list[str]]]:
    for part in re.split(r"^define ", text, flags=re.MULTILINE)[1:]:
        head, *lines = part.partition("\n}")[0].splitlines()
        yield head.partition("(")[0], [line.strip() for line in lines]


def _optimized(library: Any) -> str:
    """Return LLVM's text of a library, optimized on its own as LLVM may choose to."""
    module = library._final_module
    if isinstance(library, LinkedLibrary):
        module = module.clone()
        passes, builder = library._codegen._module_pass_manager()
        passes.run(module, builder)
    return str(module)


def all_escapes(library: Any) -> list[str]:
    """Return those of all functions that Numba compiled for a library."""
    seen: dict[int, Any] = {}
    waiting = [library]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen[id(one)] = one
            waiting.extend(one._linking_libraries)
    return [
        f"{name}: {line}"
        for one in seen.values()
        for name, lines in _functions(_optimized(one))
        for line in escapes_of(lines)
    ]
