"""Layers that sum over an axis: matrix products of two inputs, sums and means."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import Property, whole
from arena_ckpt.layers.arithmetic import fold_axes, named_shapes
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.spec import LayerSpec, Shape, n_elems
from arena_ckpt.operations.families import arithmetic, blas

AXIS = whole(1, 3)
"""NNTrainer's numbers of the axes: 1 channel, 2 height, 3 width."""


class MatMul(Layer):
    """Matrix product ``out0 = in0 · in1``, for each sample and channel."""

    type_name = "matmul"
    n_inputs = 2
    properties = OUTPUT_PROPERTIES

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return (C, M, N) for inputs (C, M, K) and (C, K, N); backward needs both."""
        (channels, rows, inner), (channels_1, inner_1, columns) = input_shapes
        if channels != channels_1 or inner != inner_1:
            wrong = (
                f"widths of the first and heights of the second are {inner} and "
                f"{inner_1}"
                if channels == channels_1
                else f"channels are {channels} and {channels_1}"
            )
            raise self.mismatch(
                f"multiplies {named_shapes(self, input_shapes)}, whose {wrong}; make "
                "them equal (permute swaps axes)",
                shapes=input_shapes,
            )
        flops = 2 * channels * rows * inner * columns
        return LayerSpec(
            output_shapes=((channels, rows, columns),),
            input_lifespan=TensorLifespan.FORWARD_DERIV,
            table_inputs=frozenset({1} if channels == 1 else ()),
            flops=Flops(forward=flops, calc_derivative=2 * flops),
        )

    def _products(self, tensors: Binding) -> tuple[int, int, int, int]:
        """Return the number of products, and rows, inner size and columns of each.

        Samples that share a second factor are the rows of one product.
        """
        (channels, rows, inner), (_, _, columns) = tensors.input_shapes
        if tensors.is_table(1):
            return 1, tensors.n_samples * rows, inner, columns
        return tensors.n_samples * channels, rows, inner, columns

    def forward(self, tensors: Binding) -> list[Call]:
        """Multiply the matrices of each sample and channel."""
        n, rows, inner, columns = self._products(tensors)
        arrays = (tensors.vector(role) for role in ("in0", "in1", "out0"))
        return [Call(blas.matmul_each, (*arrays, n, rows, inner, columns, 0, 0))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Compute ``out0:grad · in1ᵀ`` and ``in0ᵀ · out0:grad``."""
        n, rows, inner, columns = self._products(tensors)
        dy = tensors.vector("out0:grad")
        calls = []
        if tensors.is_wanted("in0:grad"):
            arrays = (dy, tensors.vector("in1"), tensors.vector("in0:grad"))
            sizes = (n, rows, columns, inner, 0, 1)
            calls.append(Call(blas.matmul_each, (*arrays, *sizes)))
        if tensors.is_wanted("in1:grad"):
            arrays = (tensors.vector("in0"), dy, tensors.vector("in1:grad"))
            sizes = (n, inner, rows, columns, 1, 0)
            calls.append(Call(blas.matmul_each, (*arrays, *sizes)))
        return calls


class ReduceSum(Layer):
    """Sum over one axis, which becomes size 1, or over all elements of a sample."""

    type_name = "reduce_sum"
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("axis", AXIS, None, "1 channel, 2 height, 3 width; all where absent"),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input with size 1 for the axis."""
        shape = list(input_shapes[0])
        axes = range(3) if self["axis"] is None else (self["axis"] - 1,)
        for axis in axes:
            shape[axis] = 1
        n = n_elems(input_shapes[0])
        return LayerSpec(
            output_shapes=((shape[0], shape[1], shape[2]),),
            flops=Flops(forward=n, calc_derivative=n),
        )

    def factor(self, tensors: Binding) -> float:
        """Return the factor of the sum."""
        return 1.0

    def forward(self, tensors: Binding) -> list[Call]:
        """Sum in float64, and multiply by the factor."""
        whole, part = tensors.input_shapes[0], tensors.output_shapes[0]
        sizes, (steps,) = fold_axes(tensors.n_samples, whole, part)
        x, y = tensors.vector("in0"), tensors.vector("out0")
        arguments = (x, self.factor(tensors), y, *sizes, *steps)
        return [Call(arithmetic.sum_plain, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Repeat the derivative along the axis, times the factor."""
        whole, part = tensors.input_shapes[0], tensors.output_shapes[0]
        sizes, (steps,) = fold_axes(tensors.n_samples, whole, part)
        dy, dx = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        arguments = (dy, self.factor(tensors), dx, *sizes, *steps)
        return [Call(arithmetic.repeat, arguments)]


class ReduceMean(ReduceSum):
    """Mean over one axis, which becomes size 1, or over all elements of a sample."""

    type_name = "reduce_mean"

    def factor(self, tensors: Binding) -> float:
        """Return 1 / (number of elements that are summed into one)."""
        part = n_elems(tensors.output_shapes[0])
        return part / n_elems(tensors.input_shapes[0])
