"""Element-by-element arithmetic between tensors."""

from __future__ import annotations

from arena_ckpt.kernels import elementwise
from arena_ckpt.layers.base import (
    Binding,
    Call,
    InPlace,
    Layer,
    LayerSpec,
    Shape,
    format_shape,
)
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.lifespan import Phase


class Addition(Layer):
    """The sum of all inputs: where residual connections join."""

    type_name = "addition"
    n_inputs = None

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the common shape; every derivative is a view of the output's."""
        if len(set(input_shapes)) > 1:
            shapes = ", ".join(
                f"{name} {format_shape(shape)}"
                for name, shape in zip(
                    self["input_layers"] or (), input_shapes, strict=False
                )
            )
            raise self.mismatch(
                f"adds inputs of different shapes ({shapes}); make them equal",
                shapes=input_shapes,
            )
        roles = tuple(f"in{i}" for i in range(len(input_shapes)))
        return LayerSpec(
            output_shapes=input_shapes[:1],
            in_place=(
                InPlace(Phase.FORWARD, "out0", roles[:2], is_view=len(roles) == 1),
                *(
                    InPlace(
                        Phase.CALC_DERIVATIVE,
                        f"{role}:grad",
                        ("out0:grad",),
                        is_view=True,
                    )
                    for role in roles
                ),
            ),
        )

    def _n_inputs(self) -> int:
        return len(self["input_layers"] or ("",))

    def forward(self, tensors: Binding) -> list[Call]:
        """Add from left to right."""
        if self._n_inputs() == 1:
            return copy_unless_same(tensors, "in0", "out0")
        out = tensors.vector("out0")
        first = (tensors.vector("in0"), tensors.vector("in1"), out)
        return [
            Call(elementwise.add, first),
            *(
                Call(elementwise.add_to, (tensors.vector(f"in{i}"), out))
                for i in range(2, self._n_inputs())
            ),
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Hand the derivative on to every input that wants it."""
        return [
            call
            for i in range(self._n_inputs())
            if tensors.is_wanted(f"in{i}:grad")
            for call in copy_unless_same(tensors, "out0:grad", f"in{i}:grad")
        ]
