"""Low-rank adaptation of the linear layers inside a layer: see `lora`.

Beside a frozen ``NAME_weight`` stand ``NAME_lora_a`` (inputs, rank) and ``NAME_lora_b``
(rank, outputs), which are trained:

    low = scale · in · a        out += low · b
    slopes = scale · d_out · bᵀ    d_b = lowᵀ · d_out    d_a = inᵀ · slopes
    d_in += slopes · aᵀ

Each linear layer keeps `low`, and hands `slopes` on to the derivative of its input.
"""

from __future__ import annotations

from dataclasses import replace

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.dense import product_gradient
from arena_ckpt.layers.lora import PART_A, PART_B, check_rank, lora_scale
from arena_ckpt.layers.spec import TensorSpec, WeightSpec
from arena_ckpt.layers.weighted import weight_spec
from arena_ckpt.operations.families import blas, curves, elementwise, windows
from arena_ckpt.operations.regions import Region

_LOW, _SLOPES, _WHOLE, _SCALED = "low", "low_slopes", "whole_weight", "scaled_a"


def frozen(weight: WeightSpec) -> WeightSpec:
    """Return a weight that stays as it is beside what is trained."""
    return replace(
        weight,
        is_frozen=True,
        decay=0.0,
        regularizer_constant=0.0,
        gradient_factors=None,
    )


def low_rank_weights(
    layer: Layer, name: str, sizes: tuple[int, int]
) -> tuple[WeightSpec, WeightSpec]:
    """Return the two trained weights beside a weight of these inputs and outputs.

    Raises
    ------
    ShapeMismatchError
        The rank is larger than the inputs or the outputs.
    """
    check_rank(layer, sizes, f"{name}_weight")
    (fan_in, fan_out), rank = sizes, layer["lora_rank"]
    lifespan = TensorLifespan.FORWARD | TensorLifespan.CALC_GRAD_DERIV
    a, b = (
        weight_spec(
            layer,
            f"{name}_{part}",
            shape,
            fan_in=shape[0],
            fan_out=shape[1],
            lifespan=lifespan,
        )
        for part, shape in ((PART_A, (fan_in, rank)), (PART_B, (rank, fan_out)))
    )
    return (
        replace(a, initializer="lecun_uniform", regularizer_constant=0.0),
        replace(b, initializer="zeros", regularizer_constant=0.0),
    )


def low_rank_tensors(
    layer: Layer, name: str, rows: int, *, is_last: bool
) -> tuple[TensorSpec, ...]:
    """Return what is kept of the product of a linear layer, and its derivative.

    Parameters
    ----------
    layer : Layer
    name : str
    rows : int
        Rows of a sample.
    is_last : bool
        True where the derivative of the input is not made from `slopes`.
    """
    forward, grad = TensorLifespan.FORWARD, TensorLifespan.CALC_GRADIENT
    kept, slopes = forward, TensorLifespan.CALC_DERIVATIVE
    if layer.is_trainable:
        kept, slopes = forward | grad, grad if is_last else grad | slopes
    shape = (rows, layer["lora_rank"])
    low = TensorSpec(f"{name}_{_LOW}", shape, kept)
    if is_last and not layer.is_trainable:
        return (low,)
    return low, TensorSpec(f"{name}_{_SLOPES}", shape, slopes)


def whole_tensors(
    layer: Layer, name: str, sizes: tuple[int, int], phase: TensorLifespan
) -> tuple[TensorSpec, ...]:
    """Return the workspaces in which `whole_weight` is made."""
    scaled = sizes[0], layer["lora_rank"]
    return tuple(
        TensorSpec(f"{name}_{part}", shape, phase, per_sample=False)
        for part, shape in ((_WHOLE, sizes), (_SCALED, scaled))
    )


def low_product(layer: Layer, tensors: Binding, name: str, source: str) -> list[Call]:
    """Return the calls that make ``low``, which the backward pass needs."""
    low = tensors.matrix(f"{name}_{_LOW}")
    return [
        Call(blas.matmul, (*_pair(tensors, source, f"{name}_{PART_A}"), low)),
        _scale(layer, tensors, f"{name}_{_LOW}"),
    ]


def add_low_product(tensors: Binding, name: str, target: str) -> Call:
    """Return the call that adds ``low · b`` to the output of the linear layer."""
    roles = f"{name}_{_LOW}", f"{name}_{PART_B}", target
    return _add_product(tensors, *roles)


def low_rank_gradients(
    layer: Layer, tensors: Binding, name: str, factors: tuple[str, str]
) -> list[Call]:
    """Return the calls that make both gradients; `factors` are input and derivative."""
    a, b, low, slopes = (f"{name}_{part}" for part in (PART_A, PART_B, _LOW, _SLOPES))
    return [
        *product_gradient(tensors, b, (low, factors[1])),
        *low_slopes(layer, tensors, name, factors[1]),
        *product_gradient(tensors, a, (factors[0], slopes)),
    ]


def low_slopes(layer: Layer, tensors: Binding, name: str, d_out: str) -> list[Call]:
    """Return the calls that make the derivative of ``in · a``."""
    slopes = tensors.matrix(f"{name}_{_SLOPES}")
    factors = _pair(tensors, d_out, f"{name}_{PART_B}")
    return [
        Call(blas.matmul_transposed_b, (*factors, slopes)),
        _scale(layer, tensors, f"{name}_{_SLOPES}"),
    ]


def add_low_derivative(tensors: Binding, name: str, target: str) -> Call:
    """Return the call that adds ``slopes · aᵀ`` to the derivative of the input."""
    factors = _pair(tensors, f"{name}_{_SLOPES}", f"{name}_{PART_A}")
    arguments = (*factors, 1.0, tensors.matrix(target))
    return Call(blas.matmul_transposed_b_onto, arguments)


def whole_weight(layer: Layer, tensors: Binding, name: str) -> tuple[str, list[Call]]:
    """Return the role of ``weight + scale · a · b``, and the calls that make it."""
    whole, scaled = f"{name}_{_WHOLE}", f"{name}_{_SCALED}"
    weight, a = tensors.vector(f"{name}_weight"), tensors.vector(f"{name}_{PART_A}")
    return whole, [
        Call(elementwise.copy, (weight, tensors.vector(whole))),
        Call(curves.affine, (a, lora_scale(layer), 0.0, tensors.vector(scaled))),
        _add_product(tensors, scaled, f"{name}_{PART_B}", whole),
    ]


def _pair(tensors: Binding, first: str, second: str) -> tuple[Region, Region]:
    return tensors.matrix(first), tensors.matrix(second)


def _scale(layer: Layer, tensors: Binding, role: str) -> Call:
    values = tensors.vector(role)
    return Call(curves.affine, (values, lora_scale(layer), 0.0, values))


def _add_product(tensors: Binding, first: str, second: str, target: str) -> Call:
    """Return the call that adds the product of two matrices to a third."""
    (rows, inner), columns = (
        tensors.matrix(first).shape,
        tensors.matrix(second).shape[1],
    )
    places = (
        *(tensors.vector(first), 0, inner),
        *(tensors.vector(second), 0, columns),
        *(1.0, tensors.vector(target), 0, columns),
    )
    return Call(windows.matmul_windows, (0, 0, rows, columns, inner, *places))
