"""The activation layer: one function of every element or row."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import Property
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
from arena_ckpt.layers.dense import ACTIVATION
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.operations.activations import ACTIVATIONS


class Activation(Layer):
    """Apply one function to every element; softmax to every row."""

    type_name = "activation"
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property("activation", ACTIVATION, "none", "the function"),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; backward needs the input or the output."""
        forward, lifespan = TensorLifespan.FORWARD, TensorLifespan.CALC_DERIVATIVE
        is_view = self["activation"] == "none"
        saves = "" if is_view else ACTIVATIONS[self["activation"]].saves
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
        kind = self["activation"]
        if kind == "none":
            return Flops()
        plain = kind in ("relu", "leaky_relu")
        slope_is_plain = plain or ACTIVATIONS[kind].saves == "output"
        return Flops(n if plain else 12 * n, 0, (2 if slope_is_plain else 16) * n)

    def forward(self, tensors: Binding) -> list[Call]:
        """Apply the function."""
        if self["activation"] == "none":
            return copy_unless_same(tensors, "in0", "out0")
        array = tensors.matrix if self["activation"] == "softmax" else tensors.vector
        function = ACTIVATIONS[self["activation"]]
        return [Call(function.forward, (array("in0"), array("out0")))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Multiply the derivative by the slope of the function."""
        if self["activation"] == "none":
            return copy_unless_same(tensors, "out0:grad", "in0:grad")
        array = tensors.matrix if self["activation"] == "softmax" else tensors.vector
        function = ACTIVATIONS[self["activation"]]
        saved = array("in0" if function.saves == "input" else "out0")
        arguments = (saved, array("out0:grad"), array("in0:grad"))
        return [Call(function.backward, arguments)]
