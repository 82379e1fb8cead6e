"""Refuses functions that cannot be kernels, and arguments that a kernel does not take.

What Numba says of a kernel that it cannot compile becomes one sentence with the file
and the line.
"""

from __future__ import annotations

import dis
import inspect
import itertools
import os
import re
from collections.abc import Sequence
from types import FunctionType
from typing import Any

import numpy as np
from numba.core.errors import NumbaError, UnsupportedBytecodeError

from arena_ckpt.errors import (
    TRACEBACK_VARIABLE,
    KernelArgumentError,
    KernelCompileError,
    KernelSignatureError,
)

ARRAYS: dict[str, tuple[str, int]] = {
    "Vector": ("float32", 1),
    "Matrix": ("float32", 2),
    "Doubles": ("float64", 1),
    "Integers": ("int64", 1),
    "Indexes": ("int32", 1),
}
"""The dtype and the number of dimensions of each kind of array."""

NUMBERS: dict[str, tuple[type, ...]] = {
    "int": (int, np.integer),
    "float": (float, int, np.floating, np.integer),
}
"""The types that a number of each kind may have."""

KINDS = (*ARRAYS, *NUMBERS)
"""The annotations that a parameter can have."""

NUMBA_ERRORS = (NumbaError, UnsupportedBytecodeError)
"""What Numba raises; the second is no kind of the first."""


def read_signature(function: FunctionType) -> dict[str, str]:
    """Return the annotation of each parameter of a function.

    Raises
    ------
    KernelSignatureError
        A parameter is annotated otherwise, or not at all, or the function can raise.
    """
    parameters = inspect.signature(function).parameters.values()
    wrong = [
        parameter.name
        for parameter in parameters
        if parameter.annotation not in KINDS
        or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD
    ]
    if wrong:
        raise KernelSignatureError(
            f"kernel {function.__name__}: annotate each parameter (here "
            f"{', '.join(wrong)}) with one of {', '.join(KINDS)}, in a file that "
            "begins with 'from __future__ import annotations' (Vector and Matrix are "
            "one type)",
            parameters=tuple(wrong),
            **_place(function),
        )
    _refuse_raising(function)
    return {parameter.name: parameter.annotation for parameter in parameters}


def _refuse_raising(function: FunctionType) -> None:
    """Refuse ``raise`` and ``assert``: no one hears them in native code."""
    place = _place(function)
    for instruction in dis.get_instructions(function):
        if instruction.positions is not None:
            place["line"] = instruction.positions.lineno or place["line"]
        if instruction.opname == "RAISE_VARARGS":
            raise KernelSignatureError(
                f"kernel {function.__name__} can raise an error ({place['file']}, line "
                f"{place['line']}), which nothing hears in native code; check what is "
                "wrong before, in the hooks of the layer",
                parameters=(),
                **place,
            )


def check_arguments(
    function: FunctionType, signature: dict[str, str], arguments: Sequence[Any]
) -> None:
    """Refuse arguments that the annotations of a kernel do not allow.

    Raises
    ------
    KernelArgumentError
    """
    if len(arguments) != len(signature):
        written = ", ".join(f"{name}: {kind}" for name, kind in signature.items())
        raise KernelArgumentError(
            f"kernel {function.__name__}({written}) takes {len(signature)} arguments "
            f"and is given {len(arguments)}",
            parameter=None,
            expected=len(signature),
            **_place(function),
        )
    for (name, kind), value in zip(signature.items(), arguments, strict=True):
        if not _fits(kind, value):
            raise KernelArgumentError(
                f"kernel {function.__name__} is given {_described(value)} for "
                f"{name!r}; expected {_expected(kind)}",
                parameter=name,
                expected=kind,
                **_place(function),
            )


def _fits(kind: str, value: Any) -> bool:
    if kind in NUMBERS:
        return isinstance(value, NUMBERS[kind])
    dtype, ndim = ARRAYS[kind]
    return (
        isinstance(value, np.ndarray)
        and value.ndim == ndim
        and value.dtype == dtype
        and value.flags.c_contiguous
    )


def _expected(kind: str) -> str:
    if kind in NUMBERS:
        return "a whole number (int)" if kind == "int" else "a number (float)"
    dtype, ndim = ARRAYS[kind]
    axes = "1 dimension" if ndim == 1 else f"{ndim} dimensions"
    return f"a C-contiguous {dtype} array of {axes} ({kind})"


def _described(value: object) -> str:
    """Write for a message what kind of thing a value is."""
    if not isinstance(value, np.ndarray):
        return "None" if value is None else f"a {type(value).__name__}"
    order = "" if value.flags.c_contiguous else ", not C-contiguous"
    return f"a {value.dtype} array of shape {value.shape}{order}"


def compile_error(function: FunctionType, error: Exception) -> KernelCompileError:
    """Return what Numba found in a kernel, in one sentence with file and line."""
    place = _place(function)
    at = getattr(error, "loc", None)
    if at is not None and os.path.isfile(at.filename):
        place |= {"file": at.filename, "line": at.line}
    reason = _reason(error)
    return KernelCompileError(
        f"kernel {function.__name__} cannot be compiled: {reason} ({place['file']}, "
        f"line {place['line']}); {TRACEBACK_VARIABLE}=1 in the environment shows all "
        "that Numba says",
        reason=reason,
        **place,
    )


def shown_cause(error: Exception) -> Exception | None:
    """Return what a refusal is raised from: all that Numba says, where it is asked."""
    return error if os.environ.get(TRACEBACK_VARIABLE) == "1" else None


def _reason(error: Exception) -> str:
    """Return the sentence of an error of Numba that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("Failed in ")]
    reason = lines[0] if lines else type(error).__name__
    if not isinstance(error, NUMBA_ERRORS):
        reason = f"{type(error).__name__}: {reason}"
    for line in lines[1:]:
        if line.startswith(">>> "):  # the types with which something was called
            reason += f" {line.removeprefix('>>> ')}"
            break
    for line, following in itertools.pairwise(lines):
        if line.startswith("Rejected as the implementation raised"):
            reason += f" ({following})"
            break
    reason = reason.removesuffix(" Raised from None").rstrip(". ")
    # Numba renames the variables of inlined functions.
    return re.sub(r"\b\w+_v\d+_(?=[A-Za-z_])", "", reason)


def _place(function: FunctionType) -> dict[str, Any]:
    """Return the facts of an error: the kernel, and where it is defined."""
    code = function.__code__
    return {
        "kernel": function.__name__,
        "file": code.co_filename,
        "line": code.co_firstlineno,
    }
