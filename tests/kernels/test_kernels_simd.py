"""The loops that matter are vectors in the code that LLVM made of them."""

from __future__ import annotations

import re

import pytest
from helpers.compiled_code import llvm_of

from arena_ckpt.kernels import (
    arithmetic,
    elementwise,
    losses,
    reductions,
    updates,
)
from arena_ckpt.kernels import kernel as entries
from arena_ckpt.kernels.activations import ACTIVATIONS
from arena_ckpt.kernels.kernel import Kernel
from arena_ckpt.operations.array_types import Doubles, Vector

SEPARATE, IN_PLACE = (0, 1), (0, 0)
VECTOR = re.compile(r"= f(mul|add|sub|cmp \w+) (\w+ )*<\d+ x (float|double)>")

LOOPS = [
    *((a.forward, pattern) for a in ACTIVATIONS.values() if a.bias_forward
      for pattern in (SEPARATE, IN_PLACE)),
    *((a.backward, pattern) for a in ACTIVATIONS.values() if a.bias_forward
      for pattern in ((0, 1, 2), (0, 1, 1))),
    *((a.bias_forward, (0, 1, 0)) for a in ACTIVATIONS.values() if a.bias_forward),
    (elementwise.add_to, SEPARATE),
    (arithmetic.multiply, (0, 1, 2)),
    (arithmetic.multiply_derivatives, (0, 1, 2, 3, 4)),
    (arithmetic.multiply_derivatives, (0, 1, 2, 2, 1)),
    (arithmetic.divide_derivatives, (0, 1, 2, 3, 4)),
    (arithmetic.square_root_derivative, (0, 1, 1)),
    (arithmetic.power, (0, 1, 2)),
    (arithmetic.broadcast_multiply, tuple(range(15))),
    (arithmetic.sum_products, tuple(range(16))),
    (losses.kld_loss, (0, 1, 2, 3)),
    (losses.class_softmax_loss, (0, 1, 2, 0, 4, 5)),
    (losses.class_softmax_derivative, (0, 1, 2, 3, 0)),
    (losses.mse_derivative, (0, 1, 2, 0)),
    (reductions.square_sum, SEPARATE),
    (reductions.count_nonfinite, SEPARATE),
    (updates.sgd, (0, 1, 2, 3)),
    (updates.sgd_momentum, (0, 1, 2, 3, 4)),
    (updates.sgd_nesterov, (0, 1, 2, 3, 4)),
    (updates.adam, (0, 1, 2, 3, 4, 5)),
    (updates.adamw, (0, 1, 2, 3, 4, 5)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kernel", "pattern"), LOOPS, ids=[f"{k.name}-{p}" for k, p in LOOPS]
)
def test_the_loop_is_vectorized(
    kernel: Kernel, pattern: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    llvm = llvm_of(kernel, pattern, monkeypatch)
    assert VECTOR.search(llvm)


@pytest.mark.parametrize(
    "name", ["sgd", "sgd_momentum", "sgd_nesterov", "adam", "adamw"]
)
def test_subnormal_numbers_are_cleared_in_vectors(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a comparison and a choice in all lanes, with no branch for the rare case."""
    kernel: Kernel = getattr(updates, name)
    n_arrays = kernel.parameters.count("Vector")
    llvm = llvm_of(kernel, tuple(range(len(kernel.parameters))), monkeypatch)
    compared = re.findall(r"= fcmp \w+ (?:\w+ )*<\d+ x float> [^\n]*", llvm)
    least = [line for line in compared if "0x3810000000000000" in line]
    stores = re.findall(r"store <\d+ x float>", llvm)
    assert len(stores) >= n_arrays - 1, "all but the gradient are written"
    assert len(least) >= n_arrays - 1, compared


def test_a_sum_in_order_is_no_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    @entries.kernel
    def sum_in_order(x: Vector, total: Doubles) -> None:
        for i in range(x.size):
            total[0] += x[i]

    assert not VECTOR.search(llvm_of(sum_in_order, SEPARATE, monkeypatch))


def test_a_kernel_without_annotations_is_refused_with_advice() -> None:
    with pytest.raises(TypeError, match="kernel bare: annotate each parameter"):

        @entries.kernel
        def bare(x: int, y: object) -> None: ...
