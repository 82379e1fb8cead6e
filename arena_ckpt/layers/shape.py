"""Layers that bring data in or only change its shape."""

from __future__ import annotations

from arena_ckpt.kernels import elementwise
from arena_ckpt.layers.base import (
    Binding,
    Call,
    InPlace,
    Layer,
    LayerSpec,
    Shape,
    n_elems,
)
from arena_ckpt.lifespan import Phase


class Input(Layer):
    """Samples of the data set, copied into the arena before each iteration."""

    type_name = "input"
    n_inputs = 0

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape it was given."""
        shape = self["input_shape"]
        if shape is None:
            raise self.mismatch(
                "has no input_shape; set it, for example input_shape=1:1:784"
            )
        return LayerSpec(output_shapes=(shape,))


class Flatten(Layer):
    """One row per sample: channel:height:width becomes 1:1:(product)."""

    type_name = "flatten"

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return one row of as many elements; views in both directions."""
        return LayerSpec(
            output_shapes=((1, 1, n_elems(input_shapes[0])),),
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",), is_view=True),
                InPlace(
                    Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad",), is_view=True
                ),
            ),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy, unless the output is a view."""
        return copy_unless_same(tensors, "in0", "out0")

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy, unless the derivative is a view."""
        return copy_unless_same(tensors, "out0:grad", "in0:grad")


class Multiout(Layer):
    """An output with several readers; made by itself where there is one."""

    type_name = "multiout"
    is_alias = True

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input."""
        return LayerSpec(output_shapes=input_shapes)


def copy_unless_same(tensors: Binding, source: str, target: str) -> list[Call]:
    """Return the call that copies a tensor, or none where both share their bytes."""
    if tensors.is_same(source, target):
        return []
    return [Call(elementwise.copy, (tensors.vector(source), tensors.vector(target)))]
