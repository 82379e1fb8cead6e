"""Weights of samples: beside samples and labels, or as inputs of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.wording import quote
from arena_ckpt.data.loss_labels import labels_by_loss
from arena_ckpt.errors import InvalidParameterError, LabelRangeError


def with_weights(
    x: Any, weights: Any, inputs: Iterable[str], of_losses: Mapping[str, str]
) -> dict[str, Any]:
    """Return samples by input, with the weights that stand beside them.

    Parameters
    ----------
    x : array_like, or dict from input layer to array_like
    weights : array_like (n,), or dict from loss to array_like
        An array is for all losses that read weights.
    inputs : iterable of str
        Names of all input layers.
    of_losses : mapping
        The input layer of the weights of each loss that reads any.

    Raises
    ------
    InvalidParameterError
        No loss reads weights, or they are for other losses.
    """
    if not of_losses:
        raise InvalidParameterError(
            "the data have a third part, weights of samples, and no loss of the model "
            "reads any; add an input layer with input_shape=1:1:1 and name it behind "
            "what the loss reads: input_layers=OUTPUT,WEIGHTS"
        )
    given = (
        labels_by_loss(weights, of_losses, "weights")
        if isinstance(weights, Mapping)
        else dict.fromkeys(of_losses, weights)
    )
    return {
        **by_input(x, inputs, of_losses),
        **{of_losses[loss]: array for loss, array in given.items()},
    }


def by_input(
    x: Any, inputs: Iterable[str], of_losses: Mapping[str, str]
) -> dict[str, Any]:
    """Return samples by input, where weights are not among them.

    Raises
    ------
    InvalidParameterError
        One array for several inputs.
    """
    if isinstance(x, Mapping):
        return dict(x)
    names = [name for name in inputs if name not in of_losses.values()]
    if len(names) != 1:
        raise InvalidParameterError(
            f"the model has the inputs {quote(names)} beside weights of samples; give "
            "x as a dict with an array for each",
            inputs=tuple(names),
        )
    return {names[0]: x}


def with_ones(
    x: Any, inputs: Iterable[str], of_losses: Mapping[str, str]
) -> dict[str, Any]:
    """Return samples by input, with a weight of 1 where there is none."""
    found = by_input(x, inputs, of_losses)
    missing = [name for name in of_losses.values() if name not in found]
    others = [array for name, array in found.items() if name not in of_losses.values()]
    if missing and others:
        n_samples = len(others[0]) if np.ndim(others[0]) else 0
        ones = np.ones((n_samples, 1), np.float32)
        found.update(dict.fromkeys(missing, ones))
    return found


def require_weights(
    inputs: Mapping[str, npt.NDArray[Any]], of_losses: Mapping[str, str]
) -> None:
    """Refuse weights below 0.

    Raises
    ------
    LabelRangeError
    """
    for loss, name in of_losses.items():
        weights = inputs[name]
        below = weights < 0
        if below.any():
            row = int(np.argmax(below.reshape(-1)))
            value = float(weights.reshape(-1)[row])
            raise LabelRangeError(
                f"the weight of sample {row} for the loss {loss!r} ({name!r}) is "
                f"{value:g}; weights are numbers of at least 0",
                index=(row,),
                value=value,
                count=int(np.count_nonzero(below)),
            )
