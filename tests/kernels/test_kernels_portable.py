"""Kernels in portable arithmetic: near those that multiply by BLAS, and the same bits
wherever their matrices lie."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers.c_kernels import copied, same
from helpers.kernel_access import SCRATCH, facts_of
from helpers.kernel_geometries import FAMILIES
from helpers.scale import how_many

from arena_ckpt.kernels.kernel import kernel_of
from arena_ckpt.layers.base import Call
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.portable import portable

N_CASES = how_many(10, 100)
Array = npt.NDArray[Any]


def moved(arguments: Any, n_elems: int) -> list[Any]:
    """Copy arrays of a call to places so many elements behind a multiple of 64."""
    result = []
    for value in arguments:
        if isinstance(value, np.ndarray):
            n_bytes = n_elems * value.itemsize
            whole = np.empty(value.nbytes + 64 + n_bytes, np.uint8)
            start = -whole.ctypes.data % 64 + n_bytes
            copy = whole[start : start + value.nbytes].view(value.dtype)
            copy[:] = value.reshape(-1)
            result.append(copy.reshape(value.shape))
        else:
            result.append(value)
    return result


class Judge:
    """Runs calls in both arithmetics, and again on operands that lie elsewhere.

    Only the first call of a layer's own kernel is compared with BLAS: a second backward
    works on what the first put in place of its operands; its results, and what they are
    multiplied with, grow out of bounds.
    """

    def __init__(self) -> None:
        self.compared: Counter[str] = Counter()

    def run(self, call: Call, where: str) -> None:
        usual, arguments = call
        assert isinstance(usual, KernelName)
        twin = portable(usual)
        if twin == usual:
            kernel_of(usual)(*arguments)
            return
        self.compared[str(twin)] += 1
        is_first = self.compared[str(twin)] == 1 and twin.family == usual.family
        near = copied(arguments)
        results = [near, *(moved(arguments, n) for n in (1, 5, 9))]
        for given in results:
            kernel_of(twin)(*given)
        kernel_of(usual)(*arguments)
        facts = facts_of(kernel_of(usual))
        by_name = dict(zip((p for p, _ in usual.parameters), arguments, strict=True))
        for i, (name, _) in enumerate(usual.parameters):
            fact = facts.get(name)
            word = fact(by_name) if callable(fact) else fact
            if word is None or word is SCRATCH:
                continue
            for other in results[1:]:
                assert same(other[i], near[i]), where
            if is_first:
                np.testing.assert_allclose(
                    near[i],
                    arguments[i],
                    rtol=1e-4,
                    atol=1e-5 * float(np.abs(arguments[i]).max(initial=1.0)),
                    err_msg=where,
                )


@pytest.mark.parametrize("family", ["attention", "lstm", "gru", "rnn"])
def test_products_by_chains_are_near_those_by_blas(family: str) -> None:
    compared: set[str] = set()
    for index in range(N_CASES):
        judge = Judge()
        FAMILIES[family].run(judge, f"{family}:{index}", index)  # type: ignore[arg-type]
        compared |= set(judge.compared)
    own = {name for name in compared if name.startswith(f"{family}.")}
    assert len(own) == (4 if family == "attention" else 2)
