"""Puts low-rank products into the weights that they stand beside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import tensor_name
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.layers.attention import LINEAR_LAYERS, MultiHeadAttention
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.lora import PART_A, PART_B, lora_scale

FloatArray = npt.NDArray[np.float32]


def merged_lora(
    layers: Iterable[Layer], weights: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Return the weights of a model as if none of its layers had ``lora_rank``.

    Parameters
    ----------
    layers : iterable of Layer
        Layers of the model as they were added.
    weights : dict from str to float32 array

    Returns
    -------
    dict from str to float32 array
        The product is taken in float64, the sum is rounded once.

    Raises
    ------
    InvalidParameterError
        No layer has ``lora_rank``.
    """
    merged = dict(weights)
    adapted = [layer for layer in layers if layer.get("lora_rank") is not None]
    if not adapted:
        raise InvalidParameterError(
            "merge_lora: no layer of the model has lora_rank, so there is nothing to "
            "merge; weights() returns its weights"
        )
    for layer in adapted:
        scale = lora_scale(layer)
        for role, role_a, role_b in _roles(layer):
            a, b = (merged.pop(name).astype(np.float64) for name in (role_a, role_b))
            if a.ndim > 2:  # filters, the outputs first
                product = b[:, :, 0, 0] @ a[:, :, 0, 0]
            else:
                product = a @ b
            base = merged[role]
            merged[role] = (base + scale * product.reshape(base.shape)).astype(
                np.float32
            )
    return merged


def _roles(layer: Layer) -> Iterator[tuple[str, str, str]]:
    """Yield the names of each adapted weight, and of the two factors beside it."""
    if isinstance(layer, MultiHeadAttention):
        for name in LINEAR_LAYERS:
            parts = (f"{name}_{part}" for part in ("weight", PART_A, PART_B))
            first, second, third = (tensor_name(layer.name, part) for part in parts)
            yield first, second, third
        return
    role = "filter" if "filters" in layer.given else "weight"
    first, second = (
        tensor_name(f"{layer.name}/{part}", role) for part in (PART_A, PART_B)
    )
    yield tensor_name(layer.name, role), first, second
