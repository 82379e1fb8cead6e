"""Which kernels have a twin in portable arithmetic, and what it is called."""

from __future__ import annotations

import pytest

from arena_ckpt.kernels.kernel import kernel_of
from arena_ckpt.operations.families import attention, rnn
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.portable import portable
from arena_ckpt.operations.recurrent import (
    STEP_ACTIVATIONS,
    gru_kernels,
    lstm_kernels,
    rnn_kernels,
)

MULTIPLYING = [
    *attention,
    *(k for k in gru_kernels("tanh", "sigmoid") if k.entry != "states"),
    *(k for k in lstm_kernels("tanh", "sigmoid") if k.entry != "states"),
    *(k for hidden in STEP_ACTIVATIONS for k in rnn_kernels(hidden)),
]


@pytest.mark.parametrize("name", MULTIPLYING, ids=str)
def test_a_kernel_that_multiplies_has_a_twin(name: KernelName) -> None:
    twin = portable(name)
    assert str(twin).endswith("portable]")
    assert twin.parameters == name.parameters
    assert portable(twin) == twin
    usual, other = kernel_of(name), kernel_of(twin)
    assert usual is not other
    assert usual._signature == other._signature
    assert usual.__doc__ == other.__doc__
    assert usual.name != other.name, "Numba would keep both under one name"


@pytest.mark.parametrize(
    "name",
    [
        gru_kernels("tanh", "sigmoid").states,
        lstm_kernels("tanh", "sigmoid").states,
        rnn.rnn_previous,
    ],
    ids=str,
)
def test_a_kernel_without_products_serves_both(name: KernelName) -> None:
    assert portable(name) is name


def test_twins_are_named_by_their_variant() -> None:
    assert str(portable(attention.tiled_forward)) == "attention.tiled_forward[portable]"
    forward = portable(gru_kernels("tanh", "relu").forward)
    assert str(forward) == "gru.forward[tanh,relu,portable]"
