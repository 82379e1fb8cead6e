"""The phases of a training iteration, and in which of them a tensor is used."""

from __future__ import annotations

import enum


class TensorLifespan(enum.Flag):
    """The phases of a training iteration in which a tensor is used.

    The single-phase members name the phases themselves. The values are NNTrainer's,
    so that the lifespan columns of its memory requests can be compared.
    """

    UNMANAGED = 0
    FORWARD = 1
    CALC_DERIVATIVE = 2
    CALC_GRADIENT = 4
    APPLY_GRADIENT = 8
    RECOMPUTE = 16
    FORWARD_DERIV = FORWARD | CALC_DERIVATIVE
    FORWARD_GRAD = FORWARD | CALC_GRADIENT
    CALC_GRAD_DERIV = CALC_GRADIENT | CALC_DERIVATIVE
    FORWARD_GRAD_DERIV = FORWARD | CALC_GRADIENT | CALC_DERIVATIVE
    BACKWARD = CALC_GRADIENT | CALC_DERIVATIVE | APPLY_GRADIENT
    ITERATION = FORWARD | CALC_DERIVATIVE | CALC_GRADIENT | APPLY_GRADIENT | RECOMPUTE

    def __and__(self, other: TensorLifespan) -> TensorLifespan:
        """Return the phases of both; planning asks for that at every tensor."""
        if type(other) is not TensorLifespan:
            return NotImplemented
        return LIFESPANS[self._value_ & other._value_]


LIFESPANS = tuple(map(TensorLifespan, range(TensorLifespan.ITERATION.value + 1)))
"""Every combination of phases, by its value."""


class Phase(enum.Enum):
    """The part of a training iteration that a step runs for its layer.

    Attributes
    ----------
    lifespan : TensorLifespan
        Flag of the phase.
    """

    _value_: str
    lifespan: TensorLifespan

    FORWARD = "forward", TensorLifespan.FORWARD
    RECOMPUTE = "recompute", TensorLifespan.RECOMPUTE
    CALC_GRADIENT = "calc_gradient", TensorLifespan.CALC_GRADIENT
    CALC_DERIVATIVE = "calc_derivative", TensorLifespan.CALC_DERIVATIVE
    CLIP_GRADIENTS = "clip_gradients", TensorLifespan.APPLY_GRADIENT
    APPLY_GRADIENT = "apply_gradient", TensorLifespan.APPLY_GRADIENT

    def __new__(cls, value: str, lifespan: TensorLifespan) -> Phase:
        """Make a member of a value and its flag."""
        member = object.__new__(cls)
        member._value_, member.lifespan = value, lifespan
        return member

    __hash__ = object.__hash__  # members are equal to themselves alone
