"""Our losses in PyTorch, and labels for them: what gradients are checked with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.spec import Shape

Array = npt.NDArray[Any]


def labels_for(
    layer: Layer, shape: Shape, n_samples: int, rng: np.random.Generator
) -> Array:
    """Return labels for a loss, with each class and one that is ignored among them.

    Parameters
    ----------
    layer : Layer
        The loss.
    shape : (channel, height, width)
        Of what it reads.
    n_samples : int
    rng : Generator
    """
    kind = layer.type_name
    if kind in ("mse", "mae", "huber"):
        return rng.normal(size=(n_samples, *shape)).astype(np.float32)
    if kind == "cross_sigmoid":
        return rng.integers(0, 2, (n_samples, *shape)).astype(np.float32)
    axis = layer.class_axis - 1 if hasattr(layer, "class_axis") else 2
    n_classes = shape[axis]
    others = [n for i, n in enumerate(shape) if i != axis]
    if kind == "cross_softmax" and layer["per_token"]:
        labels = rng.integers(0, n_classes, (n_samples, math.prod(others)))
        labels.reshape(-1)[0] = layer["ignore_label"]
        labels.reshape(-1)[-1] = n_classes - 1
        return labels.reshape(n_samples, *others) if axis == 0 else labels
    powers = np.exp(rng.normal(size=(n_samples, *shape)))
    chances: Array = powers / powers.sum(axis + 1, keepdims=True)
    return chances.astype(np.float32)


def reference_loss(layer: Layer, shape: Shape, output: Any, label: Array | None) -> Any:
    """Return what PyTorch computes for a loss of ours, times its weight.

    Parameters
    ----------
    layer : Layer
    shape : (channel, height, width)
        Of what the loss reads.
    output : tensor
        Of the module.
    label : array or None
    """
    import torch

    functional = torch.nn.functional
    kind, weight = layer.type_name, float(layer["weight"])
    if kind == "mean_loss":
        return output.mean() * weight
    assert label is not None
    out = output.reshape(-1, *shape)
    if kind == "cross_softmax":
        return _cross_entropy(layer, out, label) * weight
    target = torch.tensor(label, dtype=out.dtype).reshape(out.shape)
    if kind == "kld":
        return functional.kl_div(out.log(), target, reduction="batchmean") * weight
    if kind == "huber":
        return functional.huber_loss(out, target, delta=layer["delta"]) * weight
    if kind == "cross_sigmoid":
        given = layer["pos_weight"]
        if given is not None:
            given = torch.tensor(given, dtype=out.dtype)
            behind = 3 - layer["axis"] if len(given) > 1 else 0
            given = given.reshape(-1, *(1,) * behind)
        made = functional.binary_cross_entropy_with_logits(
            out, target, pos_weight=given
        )
        return made * weight
    function = {"mse": functional.mse_loss, "mae": functional.l1_loss}[kind]
    return function(out, target) * weight


def _cross_entropy(layer: Layer, out: Any, label: Array) -> Any:
    import torch

    axis = layer.class_axis  # type: ignore[attr-defined]
    rows = out.movedim(axis, -1).reshape(-1, out.shape[axis])
    classes = layer["class_weight"]
    more: dict[str, Any] = {"label_smoothing": layer["label_smoothing"]}
    if classes is not None:
        more["weight"] = torch.tensor(classes, dtype=out.dtype)
    function = torch.nn.functional.cross_entropy
    if layer["per_token"]:
        numbers = torch.tensor(label.reshape(-1), dtype=torch.int64)
        return function(rows, numbers, ignore_index=layer["ignore_label"], **more)
    chances = torch.tensor(label, dtype=out.dtype).reshape(out.shape)
    chances = chances.movedim(axis, -1).reshape(rows.shape)
    n_terms: Any = len(label)
    if classes is not None:
        n_terms = (chances * more["weight"]).sum() * len(label) / len(rows)
    return function(rows, chances, reduction="sum", **more) / n_terms
