"""Puts low-rank products into the weights that they stand beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import tensor_name
from arena_ckpt.errors import InvalidParameterError
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
        role = "filter" if "filters" in layer.given else "weight"
        a, b = (
            merged.pop(tensor_name(f"{layer.name}/{part}", role)).astype(np.float64)
            for part in (PART_A, PART_B)
        )
        if role == "filter":
            product = b[:, :, 0, 0] @ a[:, :, 0, 0]
        else:
            product = a @ b
        name = tensor_name(layer.name, role)
        base = merged[name]
        whole = base + lora_scale(layer) * product.reshape(base.shape)
        merged[name] = whole.astype(np.float32)
    return merged
