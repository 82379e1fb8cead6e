"""The code that LLVM makes of an entry of a kernel."""

from __future__ import annotations

from typing import Any

import pytest

from arena_ckpt.kernels import compiling
from arena_ckpt.kernels.kernel import Kernel


def compiled_anew(
    kernel: Kernel, pattern: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Compile an entry anew: what comes from the disk cache has no LLVM text."""

    def uncached(decorator: Any, function: Any, *signature: Any, **options: Any) -> Any:
        return decorator(*signature, **compiling.OPTIONS, **options)(function)

    return kernel._make_entry(uncached, pattern)


def llvm_of(
    kernel: Kernel, pattern: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> str:
    return str(compiled_anew(kernel, pattern, monkeypatch).inspect_llvm())
