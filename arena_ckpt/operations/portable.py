"""The kernels that portable arithmetic has other code for.

In portable arithmetic each element of a product of matrices is one chain of fused
multiply-adds along the inner dimension, so results are the same bits on every processor
and in C. Kernels that multiply have a twin that does; all others serve both.
"""

from __future__ import annotations

from dataclasses import replace

from arena_ckpt.common.arithmetics import FAST as FAST
from arena_ckpt.common.arithmetics import PORTABLE as PORTABLE
from arena_ckpt.operations.families import blas, chains, updates, windows
from arena_ckpt.operations.kernel_names import KernelName

_CHAINS: dict[KernelName, KernelName] = {
    blas.matmul: chains.chain_matmul,
    blas.matmul_transposed_a: chains.chain_transposed_a,
    blas.matmul_transposed_b: chains.chain_transposed_b,
    blas.matmul_transposed_b_onto: chains.chain_transposed_b_onto,
    blas.matmul_each: chains.chain_each,
    windows.matmul_windows: chains.chain_windows,
    updates.sgd_product: chains.chain_sgd_product,
}
"""Kernels that are one product, and their twins."""

_MULTIPLYING = {
    "attention": (
        *("tiled_forward", "plain_forward", "tiled_backward", "plain_backward"),
    ),
    "gru": ("forward", "backward"),
    "lstm": ("forward", "backward"),
    "rnn": ("forward", "backward"),
}
"""By family, the kernels whose twins have the same name with another variant."""


def portable(name: KernelName) -> KernelName:
    """Return the kernel that does in portable arithmetic what this one does.

    It takes the same arguments. A kernel that serves both, or a twin, is returned as it
    is. Of a kernel that is made for functions, "portable" is the last of them.
    """
    if name in _CHAINS:
        return _CHAINS[name]
    if name.entry not in _MULTIPLYING.get(name.family, ()):
        return name
    if PORTABLE in name.variant:
        return name
    return replace(name, variant=(*name.variant, PORTABLE))
