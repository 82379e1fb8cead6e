"""Losses: where the forward pass ends and the derivatives begin.

``out0`` of a loss is the model's prediction, as `predict` returns it: the input
itself for `mse`, probabilities for the cross entropies.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from arena_ckpt.kernels import losses
from arena_ckpt.kernels.jit import Kernel
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
            output_shapes=input_shapes[:1],
            output_lifespan=TensorLifespan.CALC_DERIVATIVE,
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",), self.prediction_is_view),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0",)),
            ),
        )

    def label_shape(self, output_shape: Shape) -> Shape:
        """Return the shape of the label of one sample."""
        return output_shape

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


class CrossEntropy(Loss):
    """Cross entropy after a function that makes probabilities; the mean over samples.

    Attributes
    ----------
    kernels : tuple of Kernel
        The loss and its derivative.
    by_row : bool
        They work on rows, not on single elements.
    """

    takes_probabilities = True
    kernels: ClassVar[tuple[Kernel, Kernel]]
    by_row: ClassVar[bool]

    def sample_scale(self, shape: Shape, n_samples: int) -> float:
        """One part of all samples."""
        return 1.0 / n_samples

    def _arrays(self, tensors: Binding, *roles: str) -> list[Any]:
        return [(tensors.matrix if self.by_row else tensors.vector)(r) for r in roles]

    def forward(self, tensors: Binding) -> list[Call]:
        """Turn logits into probabilities and add up the loss."""
        arrays = self._arrays(tensors, "in0", "label", "out0")
        return [Call(self.kernels[0], (*arrays, tensors.scale, tensors.loss))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Probabilities minus label, scaled."""
        out, label, d_in = self._arrays(tensors, "out0", "label", "in0:grad")
        return [Call(self.kernels[1], (out, label, tensors.scale, d_in))]


class CrossEntropySoftmax(CrossEntropy):
    """Cross entropy after a softmax over the last axis."""

    type_name = "cross_softmax"
    takes_class_numbers = True
    kernels = (losses.cross_softmax_loss, losses.cross_softmax_derivative)
    by_row = True


class CrossEntropySigmoid(CrossEntropy):
    """Binary cross entropy after a sigmoid, for each element."""

    type_name = "cross_sigmoid"
    kernels = (losses.cross_sigmoid_loss, losses.cross_sigmoid_derivative)
    by_row = False
