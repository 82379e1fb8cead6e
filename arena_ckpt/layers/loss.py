"""Losses: where the forward pass ends and the derivatives begin.

``out0`` of a loss is the model's prediction, as `predict` returns it: the input
itself for `mse`, probabilities for the cross entropies.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, Property, whole
from arena_ckpt.layers.base import (
    COMMON_PROPERTIES,
    Binding,
    Call,
    Flops,
    InPlace,
    Layer,
    LayerSpec,
    Shape,
    n_elems,
)
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.operations.families import losses
from arena_ckpt.operations.kernel_names import KernelName

LARGEST_LABEL = 2**24
"""Labels are float32, which holds whole numbers exactly up to here."""


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
            flops=Flops(
                (3 if self.prediction_is_view else 12) * n_elems(input_shapes[0]),
                0,
                2 * n_elems(input_shapes[0]),
            ),
            output_lifespan=TensorLifespan.CALC_DERIVATIVE,
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",), self.prediction_is_view),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0",)),
            ),
        )

    @property
    def ignored_label(self) -> int | None:
        """What the label of a row is that does not count; None where labels are dense.

        A loss that has one takes a class number for each row, and its mean is over the
        rows that count.
        """
        return None

    def label_shape(self, output_shape: Shape) -> Shape:
        """Return the shape of the label of one sample."""
        return output_shape

    @abstractmethod
    def term_scale(self, shape: Shape, n_terms: int) -> float:
        """Return what one term of the loss counts in a batch.

        Parameters
        ----------
        shape : Shape
            Of the output.
        n_terms : int
            Samples of the batch; where labels can be ignored, its rows that count.
        """


class MeanSquaredError(Loss):
    """The mean over all elements of the squared difference."""

    type_name = "mse"
    prediction_is_view = True

    def term_scale(self, shape: Shape, n_terms: int) -> float:
        """One part of all elements."""
        return 1.0 / (n_terms * n_elems(shape))

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
    """Cross entropy after a function that makes probabilities.

    The mean over samples, unless a loss says otherwise.

    Attributes
    ----------
    kernels : tuple of KernelName
        The loss and its derivative.
    by_row : bool
        They work on rows, not on single elements.
    """

    takes_probabilities = True
    kernels: ClassVar[tuple[KernelName, KernelName]]
    by_row: ClassVar[bool]

    def term_scale(self, shape: Shape, n_terms: int) -> float:
        """One part of all samples."""
        return 1.0 / n_terms

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
    """Cross entropy after a softmax over the last axis.

    With ``per_token=true`` the label is one class number a row, (channel, height, 1),
    and the mean is over the rows whose number is not ``ignore_label``, as in PyTorch's
    ``cross_entropy(ignore_index=…)``.
    """

    type_name = "cross_softmax"
    takes_class_numbers = True
    kernels = (losses.cross_softmax_loss, losses.cross_softmax_derivative)
    by_row = True
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property(
            "per_token",
            BOOLEAN,
            False,
            "true takes one class number for each row; the mean is over rows",
        ),
        Property(
            "ignore_label",
            whole(-LARGEST_LABEL, LARGEST_LABEL),
            -100,
            "with per_token: rows of this label do not count",
        ),
    )

    @property
    def ignored_label(self) -> int | None:
        """With ``per_token``, the value of ``ignore_label``."""
        return int(self["ignore_label"]) if self["per_token"] else None

    def label_shape(self, output_shape: Shape) -> Shape:
        """Return one class number a row, or as many values as the output has."""
        if self.ignored_label is None:
            return output_shape
        return (*output_shape[:2], 1)

    def term_scale(self, shape: Shape, n_terms: int) -> float:
        """One part of all samples, or rows; 0 where none counts."""
        return 1.0 / n_terms if n_terms else 0.0

    def forward(self, tensors: Binding) -> list[Call]:
        """Turn logits into probabilities and add up the loss."""
        if self.ignored_label is None:
            return super().forward(tensors)
        x, p = self._arrays(tensors, "in0", "out0")
        label, ignored = tensors.vector("label"), float(self.ignored_label)
        arguments = (x, label, ignored, p, tensors.scale, tensors.loss)
        return [Call(losses.class_softmax_loss, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Probabilities minus label, scaled; 0 in rows that do not count."""
        if self.ignored_label is None:
            return super().calc_derivative(tensors)
        p, dx = self._arrays(tensors, "out0", "in0:grad")
        label, ignored = tensors.vector("label"), float(self.ignored_label)
        arguments = (p, label, ignored, tensors.scale, dx)
        return [Call(losses.class_softmax_derivative, arguments)]


class CrossEntropySigmoid(CrossEntropy):
    """Binary cross entropy after a sigmoid; the mean over all elements.

    As in NNTrainer, and in PyTorch's ``binary_cross_entropy_with_logits``.
    """

    type_name = "cross_sigmoid"
    kernels = (losses.cross_sigmoid_loss, losses.cross_sigmoid_derivative)
    by_row = False

    def term_scale(self, shape: Shape, n_terms: int) -> float:
        """One part of all elements."""
        return 1.0 / (n_terms * n_elems(shape))


class KullbackLeibler(Loss):
    """Σ label · log(label / prediction), the mean over samples.

    Prediction and label are distributions. The terms are NNTrainer's, except that a
    label of 0 gives 0; NNTrainer adds them up over the batch.
    """

    type_name = "kld"
    takes_probabilities = True
    prediction_is_view = True

    def term_scale(self, shape: Shape, n_terms: int) -> float:
        """One part of all samples."""
        return 1.0 / n_terms

    def forward(self, tensors: Binding) -> list[Call]:
        """Add up the terms."""
        prediction, label = tensors.vector("out0"), tensors.vector("label")
        arguments = (prediction, label, tensors.scale, tensors.loss)
        return [
            *copy_unless_same(tensors, "in0", "out0"),
            Call(losses.kld_loss, arguments),
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """``-label / prediction``, scaled."""
        prediction, label = tensors.vector("out0"), tensors.vector("label")
        arguments = (prediction, label, tensors.scale, tensors.vector("in0:grad"))
        return [Call(losses.kld_derivative, arguments)]
