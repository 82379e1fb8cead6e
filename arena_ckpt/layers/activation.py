"""Activation layers: one function of every element or line, fixed or learned."""

from __future__ import annotations

import struct
from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import POSITIVE_INT, REAL, Property
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call, Layer, beta_of
from arena_ckpt.layers.functions import (
    ACTIVATION,
    OUTPUT_PROPERTIES,
    WIDTH,
    Function,
    function_of,
    name_of,
)
from arena_ckpt.layers.partial import TRAIN, TRAINABLE
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.layers.spec import InPlace, LayerSpec, Shape, WeightSpec, n_elems
from arena_ckpt.layers.weighted import LEARNING_RATE_SCALE
from arena_ckpt.operations.families import axiswise, curves

_PLAIN = ("relu", "leaky_relu", "relu6", "clamp", "abs", "hard_sigmoid", "hard_swish")
"""Functions of few operations; an exponential or a sine counts as a dozen."""


class Activation(Layer):
    """Apply one function to every element; softmax to every line along an axis."""

    type_name = "activation"
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property("activation", ACTIVATION, "none", "the function"),
    )

    @property
    def is_view(self) -> bool:
        """Whether the output is the input, as of ``none``."""
        return bool(self["activation"] == "none")

    @property
    def function(self) -> Function:
        """The function, where there is one."""
        return function_of(self["activation"])

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; backward needs the input or the output."""
        forward, lifespan = TensorLifespan.FORWARD, TensorLifespan.CALC_DERIVATIVE
        is_view = self.is_view
        saves = "" if is_view else self.function.kernels.saves
        return LayerSpec(
            output_shapes=input_shapes[:1],
            input_lifespan=forward | lifespan if saves == "input" else forward,
            output_lifespan=(
                lifespan if saves == "output" else TensorLifespan.UNMANAGED
            ),
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",), is_view),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad",), is_view),
            ),
            flops=self._flops(n_elems(input_shapes[0])),
        )

    def _flops(self, n: int) -> Flops:
        """Return the operations of `n` elements; an exponential counts as a dozen."""
        if self.is_view:
            return Flops()
        plain = name_of(self["activation"]) in _PLAIN
        slope_is_plain = plain or self.function.kernels.saves == "output"
        return Flops(n if plain else 12 * n, 0, (2 if slope_is_plain else 16) * n)

    def forward(self, tensors: Binding) -> list[Call]:
        """Apply the function."""
        if self.is_view:
            return copy_unless_same(tensors, "in0", "out0")
        made = self.function
        if made.axis not in (None, WIDTH):
            arrays = (tensors.vector("in0"), tensors.vector("out0"))
            lines = lines_along(tensors.n_samples, tensors.input_shapes[0], made.axis)
            return [Call(axiswise.axis_softmax_forward, (*arrays, *lines))]
        array = tensors.vector if made.axis is None else tensors.matrix
        arguments = (array("in0"), *made.numbers, array("out0"))
        return [Call(made.kernels.forward, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Multiply the derivative by the slope of the function."""
        if self.is_view:
            return copy_unless_same(tensors, "out0:grad", "in0:grad")
        made = self.function
        saved = "in0" if made.kernels.saves == "input" else "out0"
        if made.axis not in (None, WIDTH):
            roles = (saved, "out0:grad", "in0:grad")
            lines = lines_along(tensors.n_samples, tensors.input_shapes[0], made.axis)
            arguments = (*map(tensors.vector, roles), *lines)
            return [Call(axiswise.axis_softmax_backward, arguments)]
        array = tensors.vector if made.axis is None else tensors.matrix
        rest = (array("out0:grad"), array("in0:grad"))
        return [Call(made.kernels.backward, (array(saved), *made.numbers, *rest))]


def lines_along(n_samples: int, shape: Shape, axis: int | None) -> tuple[int, int, int]:
    """Return a tensor as (outer, length, inner), where `length` is along an axis.

    Parameters
    ----------
    n_samples : int
    shape : Shape
        Shape of one sample.
    axis : int or None
        1 channel, 2 height or 3 width; None for all elements of a sample.
    """
    if axis is None:
        return n_samples, n_elems(shape), 1
    outer = n_samples * n_elems(shape[: axis - 1])
    return outer, shape[axis - 1], n_elems(shape[axis:])


class PReLU(Layer):
    """``out0 = in0``, or ``in0`` times a learned slope where it is not above 0.

    References
    ----------
    He et al., "Delving Deep into Rectifiers", 2015.
    """

    type_name = "prelu"
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "num_parameters",
            POSITIVE_INT,
            1,
            "number of slopes: 1, or one for each channel; for each column where there "
            "is one channel",
        ),
        Property("init", REAL, 0.25, "the slope at the start"),
        TRAINABLE,
        TRAIN,
        LEARNING_RATE_SCALE,
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input and the slopes; backward needs the input."""
        shape, n = input_shapes[0], self["num_parameters"]
        if n not in (1, channels := channels_of(shape)):
            raise self.mismatch(
                f"has num_parameters={n} for {channels} channels; set it to 1 or "
                f"{channels}",
                shape=shape,
                num_parameters=n,
            )
        size = n_elems(shape)
        return LayerSpec(
            output_shapes=input_shapes,
            weights=(
                WeightSpec(
                    "weight",
                    (n,),
                    "ones",
                    fan_in=1,
                    fan_out=1,
                    lifespan=TensorLifespan.FORWARD_DERIV,
                    values=struct.pack(f"<{n}f", *(n * [self["init"]])),
                ),
            ),
            input_lifespan=TensorLifespan.FORWARD | TensorLifespan.CALC_GRAD_DERIV,
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",)),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad", "in0")),
            ),
            flops=Flops(size, 2 * size, size),
        )

    def _size(self, tensors: Binding) -> int:
        """Return the number of contiguous elements that share a slope."""
        channel, height, width = tensors.input_shapes[0]
        if self["num_parameters"] == 1:
            return channel * height * width
        return height * width if channel > 1 else 1

    def forward(self, tensors: Binding) -> list[Call]:
        """Multiply what is not above 0 by the slope."""
        arrays = tuple(map(tensors.vector, ("in0", "weight", "out0")))
        return [Call(curves.prelu_forward, (*arrays, self._size(tensors)))]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Sum ``out0:grad · in0`` where the input is not above 0."""
        arrays = (tensors.vector("in0"), tensors.vector("out0:grad"))
        d_slopes = tensors.vector("weight:grad")
        arguments = (*arrays, beta_of(tensors), d_slopes, self._size(tensors))
        return [Call(curves.prelu_gradient, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Multiply the derivative by 1, or by the slope."""
        arrays = tuple(map(tensors.vector, ("in0", "weight", "out0:grad", "in0:grad")))
        return [Call(curves.prelu_derivative, (*arrays, self._size(tensors)))]


def channels_of(shape: Shape) -> int:
    """Return the number of channels; of columns where there is one channel."""
    return shape[0] if shape[0] > 1 else shape[2]
