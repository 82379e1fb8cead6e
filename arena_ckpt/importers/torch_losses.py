"""Puts losses of ours behind the outputs of an imported module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arena_ckpt.common.wording import listed, nearest, quoted
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.importers.foreign_axes import BATCH
from arena_ckpt.importers.foreign_values import Tensor
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder, input_shape
from arena_ckpt.importers.torch_rules import BatchSum, as_value
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.layers.loss import Loss

OUTPUT = "output"
"""What says that the output of a module is the loss itself."""

_OWN_LOSS = "mean_loss"
"""The layer that minimizes the mean of what is before it."""


@dataclass(frozen=True, slots=True)
class LossChoice:
    """A loss that stands behind an output of a module.

    Attributes
    ----------
    type_name : str
        A type of layer, or `OUTPUT`.
    properties : dict
    """

    type_name: str
    properties: dict[str, Any]


def chosen_losses(loss: Any, names: Sequence[str]) -> tuple[LossChoice | None, ...]:
    """Return the loss of each output of a module; None for one that has none.

    Parameters
    ----------
    loss : None, str, (str, dict), or list of these
        As `from_torch` takes it.
    names : sequence of str
        Of the outputs.

    Raises
    ------
    InvalidParameterError
        There is no such loss, or their number is another one.
    """
    known = [name for name, kind in LAYER_TYPES.items() if issubclass(kind, Loss)]
    given = loss if isinstance(loss, list) else [loss]
    if loss is None:
        given = [None] * len(names)
    if len(given) != len(names):
        raise InvalidParameterError(
            f"the module returns {len(names)} outputs ({listed(list(names))}), and "
            f"there {'is' if len(given) == 1 else 'are'} {len(given)} loss"
            f"{'' if len(given) == 1 else 'es'}; give a list with one for each, None "
            "for an output that is not trained",
            loss=loss,
            outputs=tuple(names),
        )
    choices = tuple(_choice(one, known) for one in given)
    if loss is not None and not any(choices):
        raise InvalidParameterError(
            "no output has a loss; give one of them one, or leave `loss` out for a "
            "model that predicts",
            loss=loss,
        )
    return choices


def _choice(given: Any, known: Sequence[str]) -> LossChoice | None:
    match given:
        case None:
            return None
        case str(type_name):
            properties: dict[str, Any] = {}
        case (str(type_name), dict(values)) if all(isinstance(k, str) for k in values):
            properties = dict(values)
        case _:
            raise InvalidParameterError(
                f"loss={quoted(given)} is not possible; give a type such as "
                "'cross_softmax', or ('cross_softmax', {'per_token': True})",
                loss=given,
            )
    if type_name not in (*known, OUTPUT):
        raise InvalidParameterError(
            f"there is no loss {type_name!r}{nearest(type_name, [*known, OUTPUT])}; "
            f"there are {', '.join(known)}, and {OUTPUT!r} for a module that returns "
            "its loss",
            loss=type_name,
        )
    return LossChoice(type_name, properties)


def add_loss(
    build: ModelBuilder, output: Any, choice: LossChoice, name: str
) -> tuple[str, Tensor]:
    """Add a loss behind an output.

    Returns
    -------
    (str, Tensor)
        The name of the loss, and the output as it lies before it.

    Raises
    ------
    UnsupportedOperation
        The output has no samples, or is no loss where it has to be one.
    """
    build.path, build.is_module = name, True
    if choice.type_name == OUTPUT:
        if _OWN_LOSS not in LAYER_TYPES:
            raise UnsupportedOperation(
                f"loss={OUTPUT!r} needs the layer {_OWN_LOSS}, which is not there"
            )
        if not isinstance(output, BatchSum) or not output.is_mean:
            raise UnsupportedOperation(
                "the module does not return a mean over its samples, which "
                f"loss={OUTPUT!r} is for; give the loss of what it returns"
            )
        x, kind = output.of_sample, _OWN_LOSS
    else:
        value = as_value(output, "output")
        if not isinstance(value, Tensor) or BATCH not in value.view.dims[:1][0]:
            raise UnsupportedOperation(
                "the module returns what does not begin with the samples"
            )
        x, kind = build.plain(value), choice.type_name
    sizes = [size.factor for size in x.sizes if not size.batched]
    shape = input_shape(sizes)
    made = build.add(kind, [build.shaped(x.source, shape)], shape, **choice.properties)
    return made, x
