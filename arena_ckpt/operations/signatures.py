"""What kinds of arguments a kernel can take, and the refusal of others.

A kernel is a function whose annotations are its signature; its arguments are numbers
and arrays, or regions that stand for arrays.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from arena_ckpt.errors import KernelArgumentError, KernelSignatureError
from arena_ckpt.operations.regions import Region

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


def read_signature(function: object) -> dict[str, str]:
    """Return the annotation of each parameter of a function.

    Raises
    ------
    KernelSignatureError
        It is no function of Python, a parameter is annotated otherwise, or not at all,
        or the function can raise.
    """
    if not isinstance(function, FunctionType):
        raise KernelSignatureError(
            f"{function!r} cannot be a kernel; decorate a function of Python, "
            "@kernel above its def",
            parameters=(),
        )
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
            **place_of(function),
        )
    _refuse_raising(function)
    return {parameter.name: parameter.annotation for parameter in parameters}


def _refuse_raising(function: FunctionType) -> None:
    """Refuse ``raise`` and ``assert``: no one hears them in native code."""
    place = place_of(function)
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
    kernel: str,
    signature: Mapping[str, str],
    arguments: Sequence[Any],
    facts: Mapping[str, Any],
) -> None:
    """Refuse arguments that the parameters of a kernel do not allow.

    Parameters
    ----------
    kernel : str
        Its name.
    signature : mapping from str to str
        The kind of each parameter.
    arguments : sequence
    facts : mapping
        What the error is to carry beside the parameter.

    Raises
    ------
    KernelArgumentError
    """
    if len(arguments) != len(signature):
        written = ", ".join(f"{name}: {kind}" for name, kind in signature.items())
        raise KernelArgumentError(
            f"kernel {kernel}({written}) takes {len(signature)} arguments "
            f"and is given {len(arguments)}",
            parameter=None,
            expected=len(signature),
            **facts,
        )
    for (name, kind), value in zip(signature.items(), arguments, strict=True):
        if not _fits(kind, value):
            raise KernelArgumentError(
                f"kernel {kernel} is given {_described(value)} for "
                f"{name!r}; expected {_expected(kind)}",
                parameter=name,
                expected=kind,
                **facts,
            )


def _fits(kind: str, value: Any) -> bool:
    if kind in NUMBERS:
        return isinstance(value, NUMBERS[kind])
    dtype, ndim = ARRAYS[kind]
    if isinstance(value, Region):
        return value.ndim == ndim and value.dtype == dtype
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
    if isinstance(value, Region):
        return f"a {value.dtype} array of shape {value.shape}"
    if not isinstance(value, np.ndarray):
        return "None" if value is None else f"a {type(value).__name__}"
    order = "" if value.flags.c_contiguous else ", not C-contiguous"
    return f"a {value.dtype} array of shape {value.shape}{order}"


def place_of(function: FunctionType) -> dict[str, Any]:
    """Return the facts of an error: the kernel, and where it is defined."""
    code = function.__code__
    return {
        "kernel": function.__name__,
        "file": code.co_filename,
        "line": code.co_firstlineno,
    }
