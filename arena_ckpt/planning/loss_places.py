"""Where each loss of a model has its scalars in the control tensor.

A single loss of weight 1 takes `Control.LOSS` and `Control.SCALE`, as regularization
adds to the same sum. Otherwise each loss has three places of its own behind the others:
its sum, the factor of its terms, and the factor of their derivatives, which is the same
times the weight of the loss. So a loss is shown without its weight, and the sum that is
trained is made of losses and weights by whoever runs the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from arena_ckpt.graph.build import Graph, loss_of
from arena_ckpt.planning.tensors import Control

_N_PLACES = 3


class LossPlaces(NamedTuple):
    """Places of one loss in the control tensor."""

    loss: int
    scale: int
    derivative_scale: int


SHARED = LossPlaces(Control.LOSS, Control.SCALE, Control.SCALE)
"""The places of a single loss of weight 1, and of layers that are no loss."""


def has_own_places(graph: Graph) -> bool:
    """Tell whether each loss has places of its own."""
    losses = graph.losses
    return len(losses) > 1 or any(loss_of(node).weight != 1 for node in losses)


def control_length(graph: Graph) -> int:
    """Return the number of elements of the control tensor."""
    n_losses = len(graph.losses) if has_own_places(graph) else 0
    return Control.LENGTH + _N_PLACES * n_losses


def loss_places(losses: Sequence[str], length: int) -> dict[str, LossPlaces]:
    """Return the places of each loss.

    Parameters
    ----------
    losses : sequence of str
        Names in forward order.
    length : int
        Number of elements of the control tensor.
    """
    if length == Control.LENGTH:
        return dict.fromkeys(losses, SHARED)
    starts = range(Control.LENGTH, length, _N_PLACES)
    return {
        name: LossPlaces(*range(start, start + _N_PLACES))
        for name, start in zip(losses, starts, strict=True)
    }
