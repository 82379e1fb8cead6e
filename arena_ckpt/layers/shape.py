"""Layers that compute nothing: they bring data in, or change its shape."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.phases import Phase
from arena_ckpt.common.properties import BOOLEAN, SHAPE, Kind, Property
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call, Layer
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.spec import InPlace, LayerSpec, Shape, format_shape, n_elems
from arena_ckpt.operations.families import elementwise


def _parse_target(value: object) -> tuple[int, ...]:
    """Read a shape of which one size may be -1; -1 alone is a row, as in NNTrainer."""
    text = value if isinstance(value, (str, int)) else ":".join(map(str, value))  # type: ignore[call-overload]
    parts = [part.strip() for part in str(text).split(":")]
    if parts.count("-1") > 1:
        raise ValueError
    shape = SHAPE.parse(":".join("1" if part == "-1" else part for part in parts))
    if "-1" not in parts:
        return tuple(shape)
    place = parts.index("-1") - len(parts)
    return tuple(-1 if i - 3 == place else size for i, size in enumerate(shape))


TARGET_SHAPE = Kind(
    "channel:height:width, for example 1:28:28; one of them may be -1",
    _parse_target,
    lambda shape: ":".join(str(size) for size in shape),
)


class Input(Layer):
    """Samples of the data set, copied into the arena before each pass."""

    type_name = "input"
    n_inputs = 0
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property(
            "standardization",
            BOOLEAN,
            False,
            "true gives each feature mean 0 and deviation 1, by the data of the first "
            "training",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape that ``input_shape`` gives."""
        shape = self["input_shape"]
        if shape is None:
            raise self.mismatch(
                "has no input_shape; set it, for example input_shape=1:1:784"
            )
        return LayerSpec(output_shapes=(shape,))


class View(Layer):
    """Base class of layers that give the elements of the input another shape."""

    moves_elements = True

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy, unless the output is a view."""
        return copy_unless_same(tensors, "in0", "out0")

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy, unless the derivative is a view."""
        return copy_unless_same(tensors, "out0:grad", "in0:grad")


class Flatten(View):
    """Make each sample one row: channel:height:width becomes 1:1:(product)."""

    type_name = "flatten"
    properties = OUTPUT_PROPERTIES

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of a row; forward and backward results are views."""
        return LayerSpec(
            output_shapes=((1, 1, n_elems(input_shapes[0])),),
            in_place=views(1),
        )


class Reshape(View):
    """Give the elements of the input the shape ``target_shape``."""

    type_name = "reshape"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "target_shape",
            TARGET_SHAPE,
            None,
            "channel:height:width of the output; one may be -1, for what is left "
            "(required)",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the new shape; forward and backward results are views."""
        target, n = self["target_shape"], n_elems(input_shapes[0])
        if target is None:
            raise self.mismatch(
                "has no target_shape; set it, for example target_shape=1:1:-1"
            )
        known = n_elems(tuple(size for size in target if size != -1))
        first, second, third = (n // known if s == -1 else s for s in target)
        if first * second * third != n:
            raise self.mismatch(
                f"has target_shape={format_shape(target)}, into which the {n} elements "
                f"of its input {format_shape(input_shapes[0])} do not fit; keep their "
                "number",
                shape=input_shapes[0],
                target_shape=target,
            )
        return LayerSpec(
            output_shapes=((first, second, third),),
            in_place=views(1),
        )


class Identity(Layer):
    """Hand every input on: out0 is in0, out1 is in1 and so on."""

    type_name = "identity"
    n_inputs = None
    moves_elements = True
    keeps_axes = True

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shapes of the inputs; forward and backward results are views."""
        return LayerSpec(
            output_shapes=input_shapes,
            in_place=views(len(input_shapes)),
            forward_skips_unwanted=True,
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy, unless the outputs are views."""
        return [
            call
            for i in range(len(tensors.input_shapes))
            if tensors.is_wanted(f"out{i}")
            for call in copy_unless_same(tensors, f"in{i}", f"out{i}")
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy, unless the derivatives are views."""
        return [
            call
            for i in range(len(tensors.input_shapes))
            if tensors.is_wanted(f"in{i}:grad")
            for call in copy_unless_same(tensors, f"out{i}:grad", f"in{i}:grad")
        ]


class Multiout(Layer):
    """Output with several readers; the graph adds one where there are several."""

    type_name = "multiout"
    is_alias = True
    moves_elements = True

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input."""
        return LayerSpec(output_shapes=input_shapes)


def views(n: int) -> tuple[InPlace, ...]:
    """Return the offers of a layer whose n outputs are views of its n inputs."""
    return tuple(
        offer
        for i in range(n)
        for offer in (
            InPlace(Phase.FORWARD, f"out{i}", (f"in{i}",), is_view=True),
            InPlace(
                Phase.CALC_DERIVATIVE, f"in{i}:grad", (f"out{i}:grad",), is_view=True
            ),
        )
    )


def copy_unless_same(tensors: Binding, source: str, target: str) -> list[Call]:
    """Return the call that copies a tensor, or none where both roles share bytes.

    Parameters
    ----------
    tensors : Binding
    source, target : str
        Roles of two float32 tensors with the same number of elements.
    """
    if tensors.is_same(source, target):
        return []
    return [Call(elementwise.copy, (tensors.vector(source), tensors.vector(target)))]
