"""Layers along one axis: extremes, products, norms, sums, gathering, cosines."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import POSITIVE_REAL, Property
from arena_ckpt.layers.activation import lines_along
from arena_ckpt.layers.arithmetic import named_shapes
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.contraction import AXIS
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.spec import (
    IdInput,
    InPlace,
    LayerSpec,
    Shape,
    format_shape,
    n_elems,
)
from arena_ckpt.operations.families import axiswise

_FORWARD, _DERIVATIVE = TensorLifespan.FORWARD, TensorLifespan.CALC_DERIVATIVE
_BOTH = TensorLifespan.FORWARD_DERIV

_ONE_OR_ALL = Property(
    "axis", AXIS, None, "1 channel, 2 height, 3 width; all where absent"
)


def _with_size(shape: Shape, axis: int | None, size: int) -> Shape:
    """Return a shape with another size along an axis (1 to 3), or along all."""
    sizes = [size if axis in (None, i) else n for i, n in enumerate(shape, 1)]
    return sizes[0], sizes[1], sizes[2]


class _Reduction(Layer):
    """Base class of layers that make one number of each line along an axis."""

    properties: ClassVar[tuple[Property, ...]] = (*OUTPUT_PROPERTIES, _ONE_OR_ALL)
    saves_output: ClassVar[bool] = True

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input with size 1 for the axis."""
        n = n_elems(input_shapes[0])
        saved = _DERIVATIVE if self.saves_output else TensorLifespan.UNMANAGED
        over = InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("in0",))
        return LayerSpec(
            output_shapes=(_with_size(input_shapes[0], self["axis"], 1),),
            input_lifespan=_BOTH,
            output_lifespan=saved,
            in_place=(over,) if self.saves_output else (),
            flops=Flops(forward=2 * n, calc_derivative=2 * n),
        )

    def lines(self, tensors: Binding) -> tuple[int, int, int]:
        """Return the input as (outer, length of the axis, inner)."""
        return lines_along(tensors.n_samples, tensors.input_shapes[0], self["axis"])


class ReduceMax(_Reduction):
    """Maximum over one axis, which becomes size 1, or over all elements of a sample."""

    type_name = "reduce_max"
    sign: ClassVar[float] = 1.0

    def forward(self, tensors: Binding) -> list[Call]:
        """Take the extreme of each line."""
        x, y = tensors.vector("in0"), tensors.vector("out0")
        arguments = (x, self.sign, y, *self.lines(tensors))
        return [Call(axiswise.axis_extreme_forward, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Share the derivative of a line among the elements that are its extreme."""
        arrays = tuple(map(tensors.vector, ("in0", "out0", "out0:grad", "in0:grad")))
        return [Call(axiswise.axis_extreme_derivative, (*arrays, *self.lines(tensors)))]


class ReduceMin(ReduceMax):
    """Minimum over one axis, which becomes size 1, or over all elements of a sample."""

    type_name = "reduce_min"
    sign = -1.0


class ReduceProd(_Reduction):
    """Product over one axis, which becomes size 1, or over all elements of a sample."""

    type_name = "reduce_prod"
    saves_output = False

    def forward(self, tensors: Binding) -> list[Call]:
        """Multiply the elements of each line."""
        x, y = tensors.vector("in0"), tensors.vector("out0")
        return [Call(axiswise.axis_product_forward, (x, y, *self.lines(tensors)))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Multiply the derivative by all other elements of the line."""
        arrays = tuple(map(tensors.vector, ("in0", "out0:grad", "in0:grad")))
        return [Call(axiswise.axis_product_derivative, (*arrays, *self.lines(tensors)))]


class Norm(_Reduction):
    """``out0 = √Σ in0²`` over one axis, or over all elements of a sample."""

    type_name = "norm"

    def forward(self, tensors: Binding) -> list[Call]:
        """Take the length of each line."""
        x, y = tensors.vector("in0"), tensors.vector("out0")
        return [Call(axiswise.axis_norm_forward, (x, y, *self.lines(tensors)))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Compute ``out0:grad · in0 / out0``; 0 where all elements are 0."""
        arrays = tuple(map(tensors.vector, ("in0", "out0", "out0:grad", "in0:grad")))
        return [Call(axiswise.axis_norm_derivative, (*arrays, *self.lines(tensors)))]


class CumulativeSum(Layer):
    """Sum of each element and all before it along an axis."""

    type_name = "cumsum"
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("axis", AXIS, 3, "1 channel, 2 height, 3 width"),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; backward needs neither input nor output."""
        n = n_elems(input_shapes[0])
        return LayerSpec(
            output_shapes=input_shapes,
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",)),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad",)),
            ),
            flops=Flops(forward=n, calc_derivative=n),
        )

    def _sum(self, tensors: Binding, source: str, target: str, reverse: int) -> Call:
        """Return the call that sums from the start, or from the end."""
        lines = lines_along(tensors.n_samples, tensors.input_shapes[0], self["axis"])
        arrays = (tensors.vector(source), tensors.vector(target))
        return Call(axiswise.running_sum, (*arrays, *lines, reverse))

    def forward(self, tensors: Binding) -> list[Call]:
        """Sum from the start."""
        return [self._sum(tensors, "in0", "out0", 0)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Sum the derivative from the end."""
        return [self._sum(tensors, "out0:grad", "in0:grad", 1)]


class Gather(Layer):
    """Take the places of ``in0`` along an axis that the ids in ``in1`` name."""

    type_name = "gather"
    n_inputs = 2
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("axis", AXIS, 2, "1 channel, 2 height, 3 width"),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return a shape with one place for each id; ids have no derivative."""
        shape, ids = input_shapes
        axis = self["axis"]
        if ids[0] != 1 or (ids[1] > 1 and ids[2] > 1):
            raise self.mismatch(
                f"has ids of shape {format_shape(ids)}; expected 1:1:ids or 1:ids:1, "
                "so flatten them",
                shape=ids,
            )
        out = list(shape)
        out[axis - 1] = n_elems(ids)
        return LayerSpec(
            output_shapes=((out[0], out[1], out[2]),),
            input_lifespan=(_FORWARD, _BOTH),
            fixed_inputs=frozenset({1}),
            id_inputs=(IdInput(1, shape[axis - 1]),),
            flops=Flops(calc_derivative=n_elems((out[0], out[1], out[2]))),
        )

    def _lines(self, tensors: Binding) -> tuple[int, int, int, int]:
        """Return samples, and one sample as (outer, length of the axis, inner)."""
        lines = lines_along(1, tensors.input_shapes[0], self["axis"])
        return tensors.n_samples, *lines

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy the place of each id; an id out of range makes place and loss NaN."""
        arrays = tuple(map(tensors.vector, ("in0", "in1", "out0")))
        arguments = (*arrays, tensors.loss, *self._lines(tensors))
        return [Call(axiswise.gather_forward, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Add the derivative of each id to its place, in order."""
        arrays = tuple(map(tensors.vector, ("in1", "out0:grad", "in0:grad")))
        return [Call(axiswise.gather_derivative, (*arrays, *self._lines(tensors)))]


class CosineSimilarity(Layer):
    """Cosine of the angle between ``in0`` and ``in1`` along an axis, from -1 to 1."""

    type_name = "cosine_similarity"
    n_inputs = 2
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        _ONE_OR_ALL,
        Property("epsilon", POSITIVE_REAL, 1e-8, "least length that counts"),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape with size 1 for the axis; backward needs both inputs."""
        first, second = input_shapes
        if first != second:
            raise self.mismatch(
                f"compares inputs of different shapes "
                f"({named_shapes(self, input_shapes)}); make them equal",
                shapes=input_shapes,
            )
        n = n_elems(first)
        return LayerSpec(
            output_shapes=(_with_size(first, self["axis"], 1),),
            input_lifespan=_BOTH,
            in_place=(InPlace(Phase.CALC_DERIVATIVE, "in1:grad", ("in1", "in0")),),
            flops=Flops(forward=6 * n, calc_derivative=18 * n),
        )

    def _lines(self, tensors: Binding) -> tuple[int, int, int]:
        return lines_along(tensors.n_samples, tensors.input_shapes[0], self["axis"])

    def forward(self, tensors: Binding) -> list[Call]:
        """Divide the inner product of two lines by their lengths."""
        a, b, y = (tensors.vector(role) for role in ("in0", "in1", "out0"))
        arguments = (a, b, float(self["epsilon"]), y, *self._lines(tensors))
        return [Call(axiswise.axis_cosine_forward, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Differentiate by each wanted input; that of the second may overwrite both."""
        return [
            Call(
                axiswise.axis_cosine_derivative,
                (
                    tensors.vector(f"in{i}"),
                    tensors.vector(f"in{1 - i}"),
                    float(self["epsilon"]),
                    tensors.vector("out0:grad"),
                    tensors.vector(f"in{i}:grad"),
                    *self._lines(tensors),
                ),
            )
            for i in (0, 1)
            if tensors.is_wanted(f"in{i}:grad")
        ]
