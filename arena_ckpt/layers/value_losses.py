"""Losses of values that grow slower than a square: they mind outliers less."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.properties import POSITIVE_REAL, Property
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call
from arena_ckpt.layers.loss import Loss
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.layers.spec import Shape, n_elems
from arena_ckpt.operations.families import value_losses
from arena_ckpt.operations.kernel_names import KernelName


class _OfDifferences(Loss):
    """The mean over all elements of a function of the difference to the label.

    Attributes
    ----------
    kernels : tuple of KernelName
        Kernels of the loss and of its derivative.
    """

    prediction_is_view = True
    kernels: ClassVar[tuple[KernelName, KernelName]]

    @property
    def _numbers(self) -> tuple[float, ...]:
        """What the kernels take behind the label."""
        return ()

    def term_scale(self, shape: Shape, n_terms: float) -> float:
        """Return 1 / (number of elements of the batch)."""
        return 1.0 / (n_terms * n_elems(shape))

    def forward(self, tensors: Binding) -> list[Call]:
        """Add up the terms."""
        arrays = tensors.vector("out0"), tensors.vector("label")
        arguments = (*arrays, *self._numbers, tensors.scale, tensors.loss)
        return [
            *copy_unless_same(tensors, "in0", "out0"),
            Call(self.kernels[0], arguments),
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Write the derivatives of the terms, scaled."""
        arrays = tensors.vector("out0"), tensors.vector("label")
        d_in = tensors.vector("in0:grad")
        return [Call(self.kernels[1], (*arrays, *self._numbers, tensors.scale, d_in))]


class MeanAbsoluteError(_OfDifferences):
    """Mean over all elements of the distance to the label."""

    type_name = "mae"
    kernels = (value_losses.mae_loss, value_losses.mae_derivative)


class HuberLoss(_OfDifferences):
    """Mean over all elements of the Huber loss, as PyTorch's ``huber_loss``.

    Half of the square where the difference is up to `delta`, a straight line from there
    on.
    """

    type_name = "huber"
    kernels = (value_losses.huber_loss, value_losses.huber_derivative)
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property("delta", POSITIVE_REAL, 1.0, "difference from which on it is linear"),
    )

    @property
    def _numbers(self) -> tuple[float, ...]:
        return (float(self["delta"]),)
