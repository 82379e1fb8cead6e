"""Compiles functions: what kernels and planners' hot loops are decorated with.

Options, and why:

``cache=True``
    The first use in a fresh installation compiles; later processes load from disk.
``error_model="numpy"``
    Python's division checks would keep LLVM from vectorizing the loops.
``nogil=True``
    A kernel touches no Python object, so other threads may run beside it.
``forceinline=True``
    An entry whose arguments are the same memory (in place) is compiled for that case,
    with the kernel's code in it: LLVM's alias check would otherwise fall back to a
    scalar loop, 6 times slower. LLVM puts it there, which takes a fraction of the time
    in which Numba's ``inline="always"`` would, and types of a kernel are found once.
``fastmath`` stays off: results are the same bits on every run.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.compiler import Compiler

from arena_ckpt.kernels.linking import linked
from arena_ckpt.operations import elementary, sizes

OPTIONS: Any = {"error_model": "numpy", "nogil": True}


@functools.cache
def revision(folder: Path = Path(__file__).parent) -> str:
    """Return a checksum of all sources in a folder, and of all that kernels are from.

    Numba's disk cache notices an edit in the file of a kernel, not in a helper that
    stands elsewhere; so the names under which it keeps our functions hold this.
    """
    checksum = 0
    kernels = Path(__file__).parent
    others = {Path(str(module.__file__)) for module in (elementary, sizes)}
    for path in sorted({*folder.glob("*.py"), *kernels.glob("*.py"), *others}):
        checksum = zlib.crc32(path.read_bytes(), checksum)
    return f"{checksum:08x}"


F = TypeVar("F", bound=Callable[..., Any])


def helper(function: F) -> F:
    """Compile `function` for inlining into kernels."""
    return cast(F, numba.njit(inline="always", **OPTIONS)(function))


def routine(function: F) -> F:
    """Compile a function that only compiled ones call; LLVM decides what to inline.

    A `helper` is pasted into its caller at each use before anything is compiled, which
    costs several times as much where it is long or used often.
    """
    return cast(F, linked(function, **OPTIONS))


def compiled(function: F) -> F:
    """Compile a function for calls from Python: planners' hot loops, not kernels.

    Its arrays may hold records: Numba compiles a few tables sooner than many arrays.
    """
    return cast(F, cached(numba.njit, function, no_cfunc_wrapper=True))


def _name_for_cache(function: Any) -> None:
    sources = revision(Path(function.__code__.co_filename).parent)
    function.__qualname__ = f"{function.__name__}_{sources}"


def cached(decorator: Any, function: Any, *signature: Any, **options: Any) -> Any:
    """Apply a Numba decorator with the disk cache, or without where none can be."""
    _name_for_cache(function)
    try:
        return decorator(*signature, cache=True, **OPTIONS, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return decorator(*signature, **OPTIONS, **options)(function)


class _NotOnDiskError(Exception):
    """Raised where Numba would begin to compile."""


class _NeverCompiles(Compiler):
    """Stands in for the compiler: what is not in the disk cache is refused."""

    def compile_extra(self, func: Any) -> Any:
        raise _NotOnDiskError


def loaded(decorator: Any, function: Any, *signature: Any, **options: Any) -> Any:
    """Return what `cached` would, if the disk cache holds it; else None, at once."""
    _name_for_cache(function)
    options |= {"cache": True, "pipeline_class": _NeverCompiles}
    try:
        return decorator(*signature, **OPTIONS, **options)(function)
    except (_NotOnDiskError, RuntimeError):  # as in `cached`
        return None


def has_disk_cache(function: Any) -> bool:
    """Whether what is compiled of a function is left on disk for other processes."""
    try:
        FunctionCache(function)
    except RuntimeError:
        return False
    return True
