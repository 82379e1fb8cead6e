"""Rules for products of matrices, reductions, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from arena_ckpt.importers import emit_elements as emit
from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.model_builder import ModelBuilder, sizes_of, with_shape
from arena_ckpt.importers.onnx_patterns import LINEAR
from arena_ckpt.importers.onnx_rules import OnnxCall, Result, axes_in, rule
from arena_ckpt.importers.onnx_rules_elements import with_number


@rule("MatMul")
def _matmul(call: OnnxCall) -> Result:
    left, right = call.value(0), call.value(1)
    vector_left, vector_right = (len(sizes_of(v)) == 1 for v in (left, right))
    build = call.builder
    if vector_left:
        left = build.unsqueeze(left, 0)
    if vector_right:
        right = build.unsqueeze(right, 1)
    found: Value = product(call, left, right)
    if vector_right:
        found = build.squeeze(found, [len(sizes_of(found)) - 1])
    if vector_left:
        at = len(sizes_of(found)) - (1 if vector_right else 2)
        found = build.squeeze(found, [at])
    return found


@rule(LINEAR)
def _linear(call: OnnxCall) -> Result:
    x, weight, bias = call.value(0), call.value(1), call.table(2)
    if (
        isinstance(x, Tensor)
        and isinstance(weight, Table)
        and isinstance(bias, Table)
        and x.rank > 1
        and weight.array.ndim == 2
        and weight.array.shape[1] == bias.array.size
        and weight.is_trained == bias.is_trained
    ):
        return emit.linear(call.builder, x, weight, bias, is_transposed=False)
    return emit.binary(call.builder, "add", product(call, x, weight), bias)


def product(call: OnnxCall, left: Value, right: Value) -> Tensor:
    """Return a product of matrices, whose dimensions before are broadcast."""
    build = call.builder
    if not isinstance(left, Tensor) and isinstance(right, Tensor):
        # a b = (bᵀ aᵀ)ᵀ, with the weight on the right
        swapped = product(call, _transposed(build, right), _transposed(build, left))
        return _as_tensor(_transposed(build, swapped))
    if isinstance(left, Tensor) and isinstance(right, Table | Fixed):
        while right.array.ndim > 2 and right.array.shape[0] == 1:
            right = with_shape(right, right.array.shape[1:])
    lead = [sizes_of(value)[:-2] for value in (left, right)]
    if all(isinstance(value, Tensor) for value in (left, right)) and lead[0] != lead[1]:
        rank = max(map(len, lead))
        full = [(((1, False),) * (rank - len(sizes))) + tuple(sizes) for sizes in lead]
        wanted = [
            a if tuple(a) != (1, False) else b for a, b in zip(*full, strict=True)
        ]
        left, right = (
            build.expand(value, [*(Size(*size) for size in wanted), None, None])
            for value in (left, right)
        )
    return emit.matmul(build, left, right)


def _transposed(build: ModelBuilder, value: Value) -> Value:
    rank = len(sizes_of(value))
    return build.permute(value, [*range(rank - 2), rank - 1, rank - 2])


def _as_tensor(value: Value) -> Tensor:
    assert isinstance(value, Tensor)
    return value


@rule("Gemm")
def _gemm(call: OnnxCall) -> Result:
    alpha = float(call.attribute("alpha", 1.0))
    beta = float(call.attribute("beta", 1.0))
    build = call.builder
    left, right = call.value(0), call.value(1)
    if call.attribute("transA", 0):
        left = build.permute(left, (1, 0))
    bias = call.value(2) if call.has(2) and beta != 0.0 else None
    is_transposed = bool(call.attribute("transB", 0))
    if (
        isinstance(left, Tensor)
        and isinstance(right, Table)
        and alpha == 1.0
        and (bias is None or (isinstance(bias, Table) and beta == 1.0))
        and (bias is None or bias.array.size == right.array.shape[not is_transposed])
    ):
        return emit.linear(build, left, right, bias, is_transposed=is_transposed)
    if is_transposed:
        right = build.permute(right, (1, 0))
    found = product(call, left, right)
    found = with_number(call, "multiply", found, alpha)
    if bias is None:
        return found
    if beta != 1.0:
        if isinstance(bias, Tensor):
            bias = with_number(call, "multiply", bias, beta)
        elif isinstance(bias, Table) and bias.is_trained:
            # found + beta · bias = beta · (found / beta + bias)
            found = with_number(call, "multiply", found, 1 / beta)
            found = emit.binary(build, "add", found, bias)
            return with_number(call, "multiply", found, beta)
        else:
            bias = Fixed(bias.array * np.float32(beta))
    return emit.binary(build, "add", found, bias)


@rule("Softmax")
def _softmax(call: OnnxCall) -> Result:
    x = call.tensor(0)
    (axis,) = axes_in([int(call.attribute("axis", -1))], x.rank)
    return emit.softmax(call.builder, x, axis)


@rule("LogSoftmax")
def _log_softmax(call: OnnxCall) -> Result:
    x = call.tensor(0)
    axes = axes_in([int(call.attribute("axis", -1))], x.rank)
    shifted, logarithm = _log_sum_exp(call, x, axes)
    return emit.binary(call.builder, "subtract", shifted, logarithm)


def _log_sum_exp(
    call: OnnxCall, x: Tensor, axes: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Return x less its maximum, and the logarithm of the sum of its exponentials."""
    build = call.builder
    most = emit.reduce(build, "reduce_max", x, axes, keepdim=True)
    shifted = emit.binary(build, "subtract", x, most)
    powers = emit.function(build, shifted, "exp")
    total = emit.reduce(build, "reduce_sum", powers, axes, keepdim=True)
    return shifted, emit.function(build, total, "log")


Before = Callable[[OnnxCall, Tensor], Tensor]


def _absolute(call: OnnxCall, x: Tensor) -> Tensor:
    return emit.function(call.builder, x, "abs")


def _square(call: OnnxCall, x: Tensor) -> Tensor:
    return emit.unary(call.builder, x, "pow", exponent=2.0)


_REDUCTIONS: dict[str, tuple[Before | None, str, str]] = {
    "ReduceSum": (None, "reduce_sum", ""),
    "ReduceMean": (None, "reduce_mean", ""),
    "ReduceMax": (None, "reduce_max", ""),
    "ReduceMin": (None, "reduce_min", ""),
    "ReduceProd": (None, "reduce_prod", ""),
    "ReduceL1": (_absolute, "reduce_sum", ""),
    "ReduceL2": (None, "norm", ""),
    "ReduceSumSquare": (_square, "reduce_sum", ""),
    "ReduceLogSum": (None, "reduce_sum", "log"),
}


@rule(*_REDUCTIONS, "ReduceLogSumExp")
def _reduction(call: OnnxCall) -> Result:
    x = call.tensor(0)
    keep = bool(call.attribute("keepdims", 1))
    given = call.ints("axes", 1)
    keeps_all = bool(call.attribute("noop_with_empty_axes", 0))
    if not given and keeps_all:
        axes: tuple[int, ...] = ()
    else:
        axes = axes_in(given or range(x.rank), x.rank)
    build = call.builder
    if call.node.op == "ReduceLogSumExp":
        most = emit.reduce(build, "reduce_max", x, axes, keepdim=True)
        logarithm = _log_sum_exp(call, x, axes)[1]
        found = emit.binary(build, "add", most, logarithm)
        return found if keep else build.squeeze(found, axes)
    before, kind, after = _REDUCTIONS[call.node.op]
    if before is not None:
        x = before(call, x)
    if axes:
        x = emit.reduce(build, kind, x, axes, keepdim=keep)
    elif kind == "norm":
        x = _absolute(call, x)
    return emit.function(build, x, after) if after else x


@rule("LpNormalization")
def _lp_normalization(call: OnnxCall) -> Result:
    x = call.tensor(0)
    axes = axes_in([int(call.attribute("axis", -1))], x.rank)
    if int(call.attribute("p", 2)) == 2:
        length = emit.reduce(call.builder, "norm", x, axes, keepdim=True)
    else:
        parts = _absolute(call, x)
        length = emit.reduce(call.builder, "reduce_sum", parts, axes, keepdim=True)
    # A length of 0 leaves the zeros as they are.
    length = with_number(call, "maximum", length, float(np.finfo(np.float32).tiny))
    return emit.binary(call.builder, "divide", x, length)


@rule("MeanVarianceNormalization")
def _mean_variance(call: OnnxCall) -> Result:
    x, build = call.tensor(0), call.builder
    axes = axes_in(call.ints("axes") or (0, 2, 3), x.rank)
    mean = emit.reduce(build, "reduce_mean", x, axes, keepdim=True)
    apart = emit.binary(build, "subtract", x, mean)
    squares = _square(call, apart)
    variance = emit.reduce(build, "reduce_mean", squares, axes, keepdim=True)
    deviation = emit.unary(build, variance, "sqrt")
    deviation = with_number(call, "add", deviation, 1e-9)
    return emit.binary(build, "divide", apart, deviation)


@rule("CumSum")
def _cumulative_sum(call: OnnxCall) -> Result:
    x, build = call.tensor(0), call.builder
    (axis,) = axes_in([int(call.array(1).ravel()[0])], x.rank)
    lying, shape = build.around(x, [axis])
    made = build.add("cumsum", [build.shaped(lying.source, shape)], shape, axis=2)
    x, found = lying, replace(lying, source=made)
    exclusive, reverse = (
        bool(call.attribute(name, 0)) for name in ("exclusive", "reverse")
    )
    if reverse:
        total = emit.reduce(build, "reduce_sum", x, [axis], keepdim=True)
        found = emit.binary(build, "subtract", total, found)
        return found if exclusive else emit.binary(build, "add", found, x)
    return emit.binary(build, "subtract", found, x) if exclusive else found
