"""The kernels of recurrent layers, which are made for pairs of activations."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from arena_ckpt.operations.kernel_names import KernelName, parse_parameters

STEP_ACTIVATIONS = ("tanh", "sigmoid", "relu", "leaky_relu", "elu", "selu")
"""What can stand inside a step: functions whose slope follows from their output."""

_DROPOUT = "counters: Doubles, key: int, rate: float"
_GRU = {
    "forward": (
        "gates: Vector, weight_hh: Vector, bias: Vector, h0: Vector, has_state: "
        "int, a: Vector, h: Vector, product: Vector, out: Vector, out_steps: int, "
        "out_width: int, out_start: int, reset_after: int, is_reverse: int, n: int, "
        "steps: int, unit: int, " + _DROPOUT
    ),
    "states": (
        "gates: Vector, h0: Vector, has_state: int, hidden: Vector, product: "
        "Vector, reset_after: int, is_reverse: int, n: int, steps: int, unit: int, "
        + _DROPOUT
    ),
    "backward": (
        "gates: Vector, weight_hh: Vector, bias: Vector, hidden: Vector, product: "
        "Vector, a: Vector, dh: Vector, d_product: Vector, d_out: Vector, "
        "out_steps: int, out_width: int, out_start: int, sums: Doubles, wants_state: "
        "int, reset_after: int, is_reverse: int, n: int, steps: int, unit: int, "
        + _DROPOUT
    ),
}
_LSTM = {
    "forward": (
        "gates: Vector, weight_hh: Vector, bias: Vector, h0: Vector, c0: Vector, "
        "n_states: int, z: Vector, h: Vector, c: Vector, out: Vector, out_steps: "
        "int, out_width: int, out_start: int, is_reverse: int, n: int, steps: "
        "int, unit: int, " + _DROPOUT
    ),
    "states": (
        "gates: Vector, h0: Vector, c0: Vector, n_states: int, cells: Vector, "
        "hidden: Vector, is_reverse: int, n: int, steps: int, unit: int, " + _DROPOUT
    ),
    "backward": (
        "gates: Vector, weight_hh: Vector, cells: Vector, dh: Vector, dc: Vector, "
        "d_out: Vector, out_steps: int, out_width: int, out_start: int, sums: "
        "Doubles, is_reverse: int, n: int, steps: int, unit: int, " + _DROPOUT
    ),
}
_RNN = {
    "forward": (
        "states: Vector, weight_hh: Vector, bias: Vector, h0: Vector, has_state: "
        "int, a: Vector, h: Vector, out: Vector, out_steps: int, out_width: int, "
        "out_start: int, is_reverse: int, n: int, steps: int, unit: int, " + _DROPOUT
    ),
    "backward": (
        "states: Vector, weight_hh: Vector, d_states: Vector, a: Vector, dh: "
        "Vector, d_out: Vector, out_steps: int, out_width: int, out_start: int, sums: "
        "Doubles, is_reverse: int, n: int, steps: int, unit: int, " + _DROPOUT
    ),
}


def _named(
    family: str, texts: dict[str, str], variant: tuple[str, ...]
) -> list[KernelName]:
    return [
        KernelName(family, entry, parse_parameters(text), variant)
        for entry, text in texts.items()
    ]


class GruKernels(NamedTuple):
    """The three kernels of a GRU for one pair of activations."""

    forward: KernelName
    states: KernelName
    backward: KernelName


@cache
def gru_kernels(hidden: str, recurrent: str) -> GruKernels:
    """Return the kernels of a GRU for two of `STEP_ACTIVATIONS`."""
    return GruKernels(*_named("gru", _GRU, (hidden, recurrent)))


class LstmKernels(NamedTuple):
    """The three kernels of an LSTM for one pair of activations."""

    forward: KernelName
    states: KernelName
    backward: KernelName


@cache
def lstm_kernels(hidden: str, recurrent: str) -> LstmKernels:
    """Return the kernels of an LSTM for two of `STEP_ACTIVATIONS`."""
    return LstmKernels(*_named("lstm", _LSTM, (hidden, recurrent)))


class RnnKernels(NamedTuple):
    """The two kernels of a simple recurrent layer for one activation."""

    forward: KernelName
    backward: KernelName


@cache
def rnn_kernels(hidden: str) -> RnnKernels:
    """Return the kernels of a simple recurrent layer for one of `STEP_ACTIVATIONS`."""
    return RnnKernels(*_named("rnn", _RNN, (hidden,)))
