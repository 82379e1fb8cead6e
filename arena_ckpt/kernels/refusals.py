"""Turns what Numba says of a kernel that it cannot compile into one sentence.

The sentence names the file and the line.
"""

from __future__ import annotations

import itertools
import os
import re
from types import FunctionType

from numba.core.errors import NumbaError, UnsupportedBytecodeError

from arena_ckpt.errors import TRACEBACK_VARIABLE, KernelCompileError
from arena_ckpt.operations.signatures import place_of

NUMBA_ERRORS = (NumbaError, UnsupportedBytecodeError)
"""What Numba raises; the second is no kind of the first."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""Codes that Numba puts into its messages where the package colorama is installed."""


def compile_error(function: FunctionType, error: Exception) -> KernelCompileError:
    """Return what Numba found in a kernel, in one sentence with file and line."""
    place = place_of(function)
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
    text = _COLOURS.sub("", str(error))
    lines = [line.strip() for line in text.splitlines()]
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
