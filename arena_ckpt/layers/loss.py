"""Losses: where the forward pass ends and the derivatives begin.

``out0`` of a loss is the model's prediction, as `predict` returns it: the input
itself for `mse`, probabilities for the cross entropies.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from arena_ckpt.kernels import losses
from arena_ckpt.layers.base import (
    Binding,
    Call,
    InPlace,
    Layer,
    LayerSpec,
    Shape,
    n_elems,
)
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.lifespan import Phase, TensorLifespan


class Loss(Layer):
    """A layer that compares its input with a label of the same shape."""

    is_loss = True
    takes_class_numbers: ClassVar[bool] = False
    """One class number per sample may stand for a one-hot label."""

    takes_probabilities: ClassVar[bool] = False
    """Labels outside [0, 1] would leave the loss without a lower bound."""

    prediction_is_view: ClassVar[bool] = False

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; backward needs prediction and label."""
        return LayerSpec(
            output_shape=input_shapes[0],
            output_lifespan=TensorLifespan.CALC_DERIVATIVE,
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",), self.prediction_is_view),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0",)),
            ),
        )

    @abstractmethod
    def sample_scale(self, shape: Shape, n_samples: int) -> float:
        """Return what one term of the loss counts in a batch of `n_samples`."""


class MeanSquaredError(Loss):
    """The mean over all elements of the squared difference."""

    type_name = "mse"
    prediction_is_view = True

    def sample_scale(self, shape: Shape, n_samples: int) -> float:
        """One part of all elements."""
        return 1.0 / (n_samples * n_elems(shape))

    def forward(self, tensors: Binding) -> list[Call]:
        """Add up the squares."""
        prediction = tensors.vector("out0")
        arguments = (prediction, tensors.vector("label"), tensors.scale, tensors.loss)
        return [
            *copy_unless_same(tensors, "in0", "out0"),
            Call(losses.mse_loss, arguments),
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Twice the difference, scaled."""
        arguments = (
            tensors.vector("out0"),
            tensors.vector("label"),
            tensors.scale,
            tensors.vector("in0:grad"),
        )
        return [Call(losses.mse_derivative, arguments)]


class CrossEntropySoftmax(Loss):
    """Cross entropy after a softmax over the last axis; the mean over samples."""

    type_name = "cross_softmax"
    takes_probabilities = True
    takes_class_numbers = True

    def sample_scale(self, shape: Shape, n_samples: int) -> float:
        """One part of all samples."""
        return 1.0 / n_samples

    def forward(self, tensors: Binding) -> list[Call]:
        """Turn logits into probabilities and add up the loss."""
        arguments = (
            tensors.matrix("in0"),
            tensors.matrix("label"),
            tensors.matrix("out0"),
            tensors.scale,
            tensors.loss,
        )
        return [Call(losses.cross_softmax_loss, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Probabilities minus label, scaled."""
        arguments = (
            tensors.matrix("out0"),
            tensors.matrix("label"),
            tensors.scale,
            tensors.matrix("in0:grad"),
        )
        return [Call(losses.cross_softmax_derivative, arguments)]


class CrossEntropySigmoid(Loss):
    """Binary cross entropy after a sigmoid, for each element; the mean over samples."""

    type_name = "cross_sigmoid"
    takes_probabilities = True

    def sample_scale(self, shape: Shape, n_samples: int) -> float:
        """One part of all samples."""
        return 1.0 / n_samples

    def forward(self, tensors: Binding) -> list[Call]:
        """Turn logits into probabilities and add up the loss."""
        arguments = (
            tensors.vector("in0"),
            tensors.vector("label"),
            tensors.vector("out0"),
            tensors.scale,
            tensors.loss,
        )
        return [Call(losses.cross_sigmoid_loss, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Probabilities minus label, scaled."""
        arguments = (
            tensors.vector("out0"),
            tensors.vector("label"),
            tensors.scale,
            tensors.vector("in0:grad"),
        )
        return [Call(losses.cross_sigmoid_derivative, arguments)]
