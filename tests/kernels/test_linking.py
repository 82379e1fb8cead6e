"""Functions that only compiled code calls are compiled once, as far as needed."""

from __future__ import annotations

import numpy as np
import pytest

from arena_ckpt.kernels.compiling import routine
from arena_ckpt.kernels.kernel import Kernel
from arena_ckpt.kernels.linking import LinkedLibrary
from arena_ckpt.operations.array_types import Vector


@routine
def put(x, place, is_doubled):
    """Write a number to a place, or twice the number."""
    x[place] = x[place] * 2 if is_doubled else x[place] + 1


def twice_and_more(x: Vector) -> None:
    put(x, 0, True)
    put(x, 1, False)
    put(x, x.size - 1, False)


def test_constants_are_no_reason_to_compile_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Numba would compile `put` for each constant place and each truth."""
    folder = str(tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr("numba.config.CACHE_DIR", folder)
    x = np.array([3.0, 4.0, 5.0], np.float32)
    Kernel(twice_and_more)(x)
    assert x.tolist() == [6.0, 5.0, 6.0]
    (compiled,) = put.overloads.values()  # type: ignore[attr-defined]
    assert isinstance(compiled.library, LinkedLibrary)
