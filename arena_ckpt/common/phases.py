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


class Phase(enum.Enum):
    """The part of a training iteration that a step runs for its layer."""

    FORWARD = "forward"
    RECOMPUTE = "recompute"
    CALC_GRADIENT = "calc_gradient"
    CALC_DERIVATIVE = "calc_derivative"
    CLIP_GRADIENTS = "clip_gradients"
    APPLY_GRADIENT = "apply_gradient"

    @property
    def lifespan(self) -> TensorLifespan:
        """The flag of this phase (a recompute touches what a forward touches)."""
        return _PHASE_LIFESPAN[self]


_PHASE_LIFESPAN = {
    Phase.FORWARD: TensorLifespan.FORWARD,
    Phase.RECOMPUTE: TensorLifespan.RECOMPUTE,
    Phase.CALC_GRADIENT: TensorLifespan.CALC_GRADIENT,
    Phase.CALC_DERIVATIVE: TensorLifespan.CALC_DERIVATIVE,
    Phase.CLIP_GRADIENTS: TensorLifespan.APPLY_GRADIENT,
    Phase.APPLY_GRADIENT: TensorLifespan.APPLY_GRADIENT,
}
