"""Which kernels there are."""

from __future__ import annotations

import gc
import importlib
import pkgutil

from arena_ckpt import kernels
from arena_ckpt.common.arithmetics import FAST, PORTABLE
from arena_ckpt.kernels import attention
from arena_ckpt.kernels.gru import gru_kernels
from arena_ckpt.kernels.kernel import Kernel
from arena_ckpt.kernels.lstm import lstm_kernels
from arena_ckpt.kernels.rnn import rnn_kernels


def all_kernels() -> dict[str, Kernel]:
    """Return every kernel of the package; those made by functions as used here."""
    for module in pkgutil.iter_modules(kernels.__path__):
        importlib.import_module(f"{kernels.__name__}.{module.name}")
    attention.variant(PORTABLE)
    for arithmetic in (FAST, PORTABLE):
        lstm_kernels("tanh", "sigmoid", arithmetic)
        gru_kernels("tanh", "sigmoid", arithmetic)
        rnn_kernels("tanh", arithmetic)
    return {
        found.name: found
        for found in gc.get_objects()
        if type(found) is Kernel and is_ours(found)
    }


def is_ours(found: Kernel) -> bool:
    """Leave out what tests make, and other functions of recurrent layers."""
    python = found._python
    if not python.__module__.startswith(f"{kernels.__name__}."):
        return False
    made = python.__module__.rpartition(".")[2] in ("lstm", "gru", "rnn")
    usual = ("lstm_tanh_sigmoid_", "gru_tanh_sigmoid_", "rnn_tanh_", "rnn_previous")
    return "<" not in python.__code__.co_filename and (
        not made or found.name.startswith(usual)
    )
