"""The fully connected layer."""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, POSITIVE_INT, Property
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call, Layer, beta_of
from arena_ckpt.layers.functions import ACTIVATION_PROPERTY
from arena_ckpt.layers.lora import LORA_PROPERTIES, with_lora
from arena_ckpt.layers.partial import read_for
from arena_ckpt.layers.spec import LayerSpec, Shape
from arena_ckpt.layers.tied import with_own_bias
from arena_ckpt.layers.weighted import (
    WEIGHT_PROPERTIES,
    WithBias,
    bias_spec,
    weight_spec,
)
from arena_ckpt.operations.families import blas, elementwise, reductions


def product_gradient(
    tensors: Binding, weight: str, factors: tuple[str, str]
) -> list[Call]:
    """Return the call that makes a weight gradient from its two factors.

    The list is empty where the update makes the gradient itself, in tiles.

    Parameters
    ----------
    tensors : Binding
    weight : str
        Role of the weight, shape (rows, columns).
    factors : (str, str)
        Roles of a and b, shapes (n, rows) and (n, columns); the gradient is ``aᵀ · b``.
    """
    role = f"{weight}:grad"
    if not tensors.is_wanted(role):
        return []
    first, second = map(tensors.matrix, factors)
    arguments = (first, second, beta_of(tensors), tensors.matrix(role))
    return [Call(blas.matmul_transposed_a, arguments)]


_FACTORS = ("in0", "out0:grad")
_TURNED_FACTORS = ("out0:grad", "in0")


class FullyConnected(WithBias):
    """Fully connected layer: ``out0 = in0 · weight + bias`` over the last axis."""

    type_name = "fully_connected"
    trains_by_weight = True
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property("unit", POSITIVE_INT, None, "outputs for each row (required)"),
        ACTIVATION_PROPERTY,
        Property("disable_bias", BOOLEAN, False, "true leaves the bias out"),
        Property("bias", BOOLEAN, True, "false leaves the bias out"),
        Property(
            "transpose",
            BOOLEAN,
            False,
            "true uses the transposed weight of shared_from: of an embedding, or of a "
            "fully connected layer that it turns back",
        ),
        *LORA_PROPERTIES,
        *WEIGHT_PROPERTIES,
    )

    def expand(self, input_shapes: tuple[Shape, ...]) -> tuple[Layer, ...]:
        """Return the layer, with what stands beside it: a trained product, or a bias.

        The product is there where it has a rank, the bias where its weight is the
        transposed one of another layer.
        """
        rank, unit = self["lora_rank"], self["unit"]
        is_tied = self["transpose"] and self["shared_from"] is not None
        if unit is not None and rank is None and is_tied and self.has_bias:
            return with_own_bias(self, unit)
        if rank is None or unit is None:
            return (self,)
        sizes = input_shapes[0][2], unit
        return with_lora(self, sizes, {"unit": rank}, {"unit": unit})

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return weight (width, unit) and bias (unit); the gradient needs the input."""
        channel, height, width = input_shapes[0]
        unit = self["unit"]
        if unit is None:
            raise self.mismatch("has no unit; set it, for example unit=10")
        if self["transpose"] and self["shared_from"] is None:
            raise self.mismatch(
                "has transpose=true, which is for the weight of another layer alone; "
                "set shared_from, for example shared_from=embedding"
            )
        if self["transpose"] and self.has_bias:  # `expand` has left it with lora_rank
            raise self.mismatch(
                "has lora_rank and a bias beside the transposed weight of another "
                "layer; set bias=false, or leave lora_rank out"
            )
        weights = [
            weight_spec(
                self,
                "weight",
                (unit, width) if self["transpose"] else (width, unit),
                fan_in=width,
                fan_out=unit,
                gradient_factors=self._factors(),
            )
        ]
        if self.has_bias:
            bias = bias_spec(self, "bias", unit, fan_in=width, fan_out=unit)
            weights.append(bias)
        rows = channel * height
        products, sums = 2 * rows * width * unit, rows * unit * self.has_bias
        reads = read_for(self, "weight")
        gradient = products * bool(reads & TensorLifespan.CALC_GRADIENT) + sums
        return LayerSpec(
            output_shapes=((channel, height, unit),),
            weights=tuple(weights),
            input_lifespan=reads,
            flops=Flops(products + sums, gradient, products),
        )

    def _factors(self) -> tuple[str, str]:
        """Return the roles whose product is the gradient of the weight as it lies."""
        return _TURNED_FACTORS if self["transpose"] else _FACTORS

    def forward(self, tensors: Binding) -> list[Call]:
        """Multiply, then add the bias to each row."""
        out = tensors.matrix("out0")
        product = blas.matmul_transposed_b if self["transpose"] else blas.matmul
        calls = [Call(product, (tensors.matrix("in0"), tensors.matrix("weight"), out))]
        if self.has_bias:
            calls.append(Call(elementwise.add_bias, (out, tensors.vector("bias"), out)))
        return calls

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Compute ``weight:grad = in0ᵀ · out0:grad``; ``bias:grad`` sums the rows."""
        calls = product_gradient(tensors, "weight", self._factors())
        if self.has_bias and tensors.is_wanted("bias:grad"):
            d_out, d_bias = tensors.matrix("out0:grad"), tensors.vector("bias:grad")
            arguments = (d_out, beta_of(tensors), d_bias)
            calls.append(Call(reductions.bias_gradient, arguments))
        return calls

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Compute ``in0:grad = out0:grad · weightᵀ``."""
        product = blas.matmul if self["transpose"] else blas.matmul_transposed_b
        return [
            Call(
                product,
                (
                    tensors.matrix("out0:grad"),
                    tensors.matrix("weight"),
                    tensors.matrix("in0:grad"),
                ),
            )
        ]
