"""Compiles functions that only compiled code calls, as far as their callers need.

Numba optimizes each function on its own and makes machine code of it, before the
functions that call it get its text, optimize it once more and make machine code again.
Here each function is simplified on its own, and no more. It is compiled once for all
values of its arguments: Numba would do so for each constant that it is called with.

Numba 0.61 stays as it is: its older LLVM would not turn loops into vectors that become
part of their caller before they were optimized.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

OLDEST = (0, 62)
"""The first version of Numba whose LLVM optimizes well what was only simplified."""


class _Codegen:
    """A code generator without the environments of Python functions.

    Code that touches no Python object reads none.
    """

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: object) -> None:
        """Leave the environment out: there is no machine code that would look at it."""


class LinkedLibrary(JITCodeLibrary):
    """Code that is optimized and made machine code of where it is linked into."""

    @property
    def codegen(self) -> Any:
        """The code generator, for what Numba does with code once it is there."""
        return _Codegen(self._codegen)

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class _LinkedCompiler(Compiler):
    """Numba's compiler, up to simplified LLVM."""

    def compile_extra(self, func: Any) -> Any:
        if self.state.library is None:
            codegen = self.state.targetctx.codegen()
            self.state.library = LinkedLibrary(codegen, func.__qualname__)
            self.state.library.enable_object_caching()
        return super().compile_extra(func)


def linked(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function for calls from compiled code alone."""
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    if numba.version_info.short < OLDEST:
        return numba.njit(**options)(function)
    dispatcher: Any = numba.njit(pipeline_class=_LinkedCompiler, **options)(function)
    for_types = dispatcher.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        plain = {name: types.unliteral(kind) for name, kind in kws.items()}
        return for_types(tuple(types.unliteral(kind) for kind in args), plain)

    dispatcher.get_call_template = get_call_template
    return dispatcher
