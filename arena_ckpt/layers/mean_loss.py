"""A loss of its own making: what the layers before it compute is what is minimized."""

from __future__ import annotations

from dataclasses import replace

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.layers.base import Binding, Call
from arena_ckpt.layers.loss import Loss
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.layers.spec import InPlace, LayerSpec, Shape, n_elems
from arena_ckpt.operations.families import mean_loss


class MeanLoss(Loss):
    """The mean of its input over all elements; there is no label."""

    type_name = "mean_loss"
    prediction_is_view = True
    takes_label = False

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; the derivative reads nothing."""
        n = n_elems(input_shapes[0])
        return replace(
            super().infer(input_shapes),
            flops=Flops(n, 0, 0),
            output_lifespan=TensorLifespan.UNMANAGED,
            in_place=(InPlace(Phase.FORWARD, "out0", ("in0",), is_view=True),),
        )

    def term_scale(self, shape: Shape, n_terms: float) -> float:
        """Return 1 / (number of elements of the batch)."""
        return 1.0 / (n_terms * n_elems(shape))

    def forward(self, tensors: Binding) -> list[Call]:
        """Add up the terms."""
        arguments = tensors.vector("out0"), tensors.scale, tensors.loss
        return [
            *copy_unless_same(tensors, "in0", "out0"),
            Call(mean_loss.mean_loss, arguments),
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Write the factor of the terms."""
        arguments = tensors.scale, tensors.vector("in0:grad")
        return [Call(mean_loss.mean_derivative, arguments)]
