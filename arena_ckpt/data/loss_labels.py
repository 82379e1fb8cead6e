"""Labels of a model of several losses: a dict with an array for each loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from arena_ckpt.common.wording import listed, nearest, quote, quoted
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.layers.loss import Loss

Shape = tuple[int, int, int]


class LabelKind(NamedTuple):
    """What labels a loss takes.

    Attributes
    ----------
    loss : Loss
    output_shape : Shape
        Of one sample of its prediction.
    reading : str or None
        How it reads several rows of a sample, and how to make them one; None where a
        sample is one row.
    """

    loss: Loss
    output_shape: Shape
    reading: str | None


def refused_labels(losses: tuple[str, ...]) -> InvalidParameterError:
    """Return the error of labels for losses of which none takes any."""
    return InvalidParameterError(
        f"{quote(losses)}: no loss of the model takes labels, as what it reads is the "
        f"loss, and y is given; leave it out, as in train(x)",
        losses=losses,
    )


def labels_by_loss(
    y: Any, losses: Iterable[str], what: str = "labels"
) -> dict[str, Any]:
    """Return what a user gives as labels, or weights, for each of the losses.

    Raises
    ------
    InvalidParameterError
        No dict where there are several losses; a loss without labels, or labels of
        none.
    """
    names = tuple(losses)
    if not isinstance(y, Mapping):
        if len(names) == 1:
            return {names[0]: y}
        raise InvalidParameterError(
            f"the model has {len(names)} losses ({quote(names)}), and y is a "
            f"{type(y).__name__} for all of them; give y as a dict with the labels of "
            f"each: {{{', '.join(f'{name!r}: …' for name in names)}}}; an .npz has "
            f"{listed(f'y:{name}' for name in names)}",
            losses=names,
        )
    unknown = [name for name in y if name not in names]
    missing = [name for name in names if name not in y]
    if unknown or missing:
        wrong = f"{what} of no loss" if unknown else f"no {what}"
        named = quoted(unknown[0]) if unknown else quoted(missing[0])
        hint = nearest(unknown[0], names) if unknown else ""
        raise InvalidParameterError(
            f"y has {wrong} {'' if unknown else 'for '}{named}{hint}; the model needs "
            f"exactly {quote(names)}, and y has {quote(y) if y else 'nothing'}",
            unknown=tuple(unknown),
            missing=tuple(missing),
        )
    return {name: y[name] for name in names}
