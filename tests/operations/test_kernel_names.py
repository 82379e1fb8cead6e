"""The declared kernels are the kernels that there are, parameter by parameter."""

from __future__ import annotations

import pytest
from helpers.every_kernel import all_kernels

from arena_ckpt.kernels.kernel import kernel_of
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.operations.curves import SAVES, curve_kernels
from arena_ckpt.operations.families import FAMILIES, blas
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.portable import portable
from arena_ckpt.operations.recurrent import (
    STEP_ACTIVATIONS,
    gru_kernels,
    lstm_kernels,
    rnn_kernels,
)


def declared() -> list[KernelName]:
    found = [name for family in FAMILIES for name in family]
    for activation in ACTIVATIONS.values():
        found += [activation.forward, activation.backward]
        found += [activation.bias_forward] if activation.bias_forward else []
    found += [kernel for name in SAVES for kernel in curve_kernels(name)]
    for hidden in STEP_ACTIVATIONS:
        found += rnn_kernels(hidden)
    found += [*gru_kernels("tanh", "sigmoid"), *lstm_kernels("relu", "elu")]
    return found


TWINS = [portable(name) for name in declared() if portable(name) != name]


@pytest.mark.parametrize("name", [*declared(), *TWINS], ids=str)
def test_a_declared_kernel_is_there_with_its_parameters(name: KernelName) -> None:
    assert dict(name.parameters) == kernel_of(name)._signature


def test_every_kernel_is_declared() -> None:
    names = [twin for name in declared() for twin in (name, portable(name))]
    named = {kernel_of(name).name for name in names}
    assert {k for k in all_kernels() if not k.startswith(("gru", "lstm"))} <= named


def test_an_unknown_kernel_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="the kernels of 'blas' have no 'matmull'"):
        _ = blas.matmull
    assert str(blas.matmul) == "blas.matmul"
    assert str(gru_kernels("tanh", "relu").forward) == "gru.forward[tanh,relu]"
