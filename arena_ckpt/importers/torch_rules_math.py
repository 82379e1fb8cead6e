"""Rules for PyTorch's arithmetic, functions of elements, reductions and products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from arena_ckpt.importers.emit_elements import (
    binary,
    function,
    linear,
    matmul,
    reduce,
    softmax,
    unary,
    where,
)
from arena_ckpt.importers.emit_parts import split
from arena_ckpt.importers.foreign_axes import BATCH, Size
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.model_builder import sizes_of
from arena_ckpt.importers.torch_rules import (
    BatchSum,
    Call,
    as_value,
    dims_of,
    rank_of,
    rule,
)

FORBIDDEN = -1e30
"""What -inf is where it enters a softmax: the same result, and finite numbers."""


# -- functions of elements

_FUNCTIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "silu": "swish",
    "selu": "selu",
    "mish": "mish",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_swish",
    "exp": "exp",
    "log": "log",
    "abs": "abs",
    "sin": "sin",
    "cos": "cos",
    "tan": "tan",
}


@rule(*_FUNCTIONS)
def _function(call: Call) -> Tensor:
    return function(call.build, call.tensor("self"), _FUNCTIONS[call.node.op])


@rule("gelu")
def _gelu(call: Call) -> Tensor:
    name = {"none": "gelu", "tanh": "tanh_gelu"}[call["approximate"]]
    return function(call.build, call.tensor("self"), name)


@rule("leaky_relu")
def _leaky_relu(call: Call) -> Tensor:
    slope = float(call["negative_slope"])
    if slope < 0:
        raise UnsupportedOperation(f"its slope {slope} is below 0")
    return function(call.build, call.tensor("self"), f"leaky_relu({slope!r})")


@rule("elu")
def _elu(call: Call) -> Tensor:
    if (call["scale"], call["input_scale"]) != (1, 1):
        raise UnsupportedOperation("it is scaled")
    return function(call.build, call.tensor("self"), f"elu({float(call['alpha'])!r})")


@rule("celu")
def _celu(call: Call) -> Tensor:
    if call["alpha"] != 1:
        raise UnsupportedOperation(f"alpha={call['alpha']}; of 1 it is elu")
    return function(call.build, call.tensor("self"), "elu")


@rule("softplus")
def _softplus(call: Call) -> Tensor:
    x, beta = call.tensor("self"), float(call["beta"])
    if beta == 1:
        return function(call.build, x, "softplus")
    x = _times(call, x, beta)
    return _times(call, function(call.build, x, "softplus"), 1 / beta)


@rule("log_sigmoid")
def _log_sigmoid(call: Call) -> Tensor:
    x = unary(call.build, call.tensor("self"), "negative")
    return unary(call.build, function(call.build, x, "softplus"), "negative")


def _times(call: Call, x: Tensor, factor: float) -> Tensor:
    return _tensor(binary(call.build, "multiply", x, Fixed(np.array(factor))))


def _tensor(value: Value) -> Tensor:
    assert isinstance(value, Tensor)
    return value


@rule("clamp", "hardtanh", "clip")
def _clamp(call: Call) -> Tensor:
    least = call.get("min", call.get("min_val"))
    most = call.get("max", call.get("max_val"))
    return _clamped(call, call.tensor("self"), least, most)


@rule("clamp_min", "clamp_max")
def _clamp_one(call: Call) -> Tensor:
    return _clamped(call, call.tensor("self"), call.get("min"), call.get("max"))


def _clamped(call: Call, x: Tensor, least: Any, most: Any) -> Tensor:
    bounds = []
    for name, bound in (("min", least), ("max", most)):
        if isinstance(bound, Fixed) and bound.array.size == 1:
            bound = bound.array.item()
        if bound is None or (isinstance(bound, float) and math.isinf(bound)):
            continue
        if not isinstance(bound, int | float):
            raise UnsupportedOperation("its bounds are tensors")
        bounds.append(f"{name}={float(bound)!r}")
    if not bounds:
        return x
    if bounds == ["min=0.0", "max=6.0"] and call.node.op == "hardtanh":
        return function(call.build, x, "relu6")
    return function(call.build, x, f"clamp({', '.join(bounds)})")


@rule("prelu")
def _prelu(call: Call) -> Tensor:
    x, weight = call.tensor("self"), call.table("weight")
    assert weight is not None
    n = weight.array.size
    x = call.build.plain(x)
    sizes = [size.factor for size in x.sizes[1:]]
    if n == 1:
        shape = call.build.shape_of(x.source)
    else:
        if not sizes or sizes[0] != n:
            raise UnsupportedOperation("its slopes are not those of the channels")
        inner = int(np.prod(sizes[1:]))
        shape = (1, 1, n) if inner == 1 else (n, inner, 1)
    made = call.build.add(
        "prelu",
        [call.build.shaped(x.source, shape)],
        shape,
        weights={"weight": weight.reshaped((n,))},
        num_parameters=n,
    )
    return replace(x, source=made)


@rule("glu")
def _glu(call: Call) -> Tensor:
    x = call.tensor("self")
    (dim,) = dims_of(call["dim"], x.rank)
    half = x.sizes[dim].factor // 2
    value, gate = split(call.build, x, [half, half], dim)
    gate = function(call.build, _tensor(gate), "sigmoid")
    return binary(call.build, "multiply", value, gate)


@rule("neg", "negative")
def _negative(call: Call) -> Any:
    if isinstance(call["self"], BatchSum):
        return _of_sum(call["self"], lambda x: unary(call.build, x, "negative"))
    return unary(call.build, call.tensor("self"), "negative")


@rule("sqrt")
def _sqrt(call: Call) -> Tensor:
    return unary(call.build, call.tensor("self"), "sqrt")


_POWERS = {"rsqrt": -0.5, "reciprocal": -1.0, "square": 2.0}


@rule(*_POWERS)
def _power_of_name(call: Call) -> Tensor:
    exponent = _POWERS[call.node.op]
    return unary(call.build, call.tensor("self"), "pow", exponent=exponent)


@rule("pow", "float_power")
def _pow(call: Call) -> Tensor:
    exponent = call["exponent"]
    if isinstance(exponent, Fixed) and exponent.array.size == 1:
        exponent = exponent.array.item()
    if not isinstance(exponent, int | float):
        raise UnsupportedOperation("its exponent is a tensor")
    x = call.tensor("self")
    if exponent == 1:
        return x
    if exponent == 0.5:
        return unary(call.build, x, "sqrt")
    return unary(call.build, x, "pow", exponent=float(exponent))


@rule("softmax", "_softmax", "softmax_int", "_safe_softmax")
def _softmax(call: Call) -> Tensor:
    x = _finite(call, call.tensor("self"))
    return softmax(call.build, x, call["dim"])


def _finite(call: Call, x: Tensor) -> Tensor:
    return x


@rule("softmin")
def _softmin(call: Call) -> Tensor:
    x = unary(call.build, call.tensor("self"), "negative")
    return softmax(call.build, x, call["dim"])


@rule("log_softmax", "_log_softmax")
def _log_softmax(call: Call) -> Tensor:
    """Return x - max - log Σ exp(x - max), in which no number grows too large."""
    x = call.tensor("self")
    dim = call["dim"]
    return binary(call.build, "subtract", x, _log_sum_exp(call, x, [dim], True))


@rule("logsumexp")
def _logsumexp(call: Call) -> Tensor:
    x = call.tensor("self")
    dims = dims_of(call["dim"], x.rank)
    return _log_sum_exp(call, x, dims, call["keepdim"])


def _log_sum_exp(call: Call, x: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    """Return log Σ exp(x), of x without its largest, which is added again.

    The derivative by the largest is 0 in sum, so it may be taken through it.
    """
    build = call.build
    largest = reduce(build, "reduce_max", x, dims, keepdim=True)
    powers = function(build, binary(build, "subtract", x, largest), "exp")
    total = reduce(build, "reduce_sum", powers, dims, keepdim=True)
    made = binary(build, "add", function(build, total, "log"), largest)
    return (
        made if keepdim else _tensor(build.squeeze(made, dims_of(tuple(dims), x.rank)))
    )


# -- arithmetic


def _of_sum(total: BatchSum, made: Callable[[Tensor], Tensor]) -> BatchSum:
    return replace(total, of_sample=made(total.of_sample))


@rule("add", "sub", "subtract", "rsub")
def _add(call: Call) -> Any:
    left, right, alpha = call["self"], call["other"], call.get("alpha", 1)
    kind = "add" if call.node.op == "add" else "subtract"
    if call.node.op == "rsub":
        left, right = right, left
    if isinstance(left, BatchSum) or isinstance(right, BatchSum):
        return _sum_of_sums(call, kind, left, right, alpha)
    a, b = as_value(left, "self"), as_value(right, "other")
    if alpha != 1:
        if call.node.op == "rsub":
            a = _scaled(call, a, alpha)
        else:
            b = _scaled(call, b, alpha)
    return _arithmetic(call, kind, a, b)


def _scaled(call: Call, x: Value, factor: float) -> Value:
    if isinstance(x, Fixed):
        return Fixed(x.array * factor)
    return _times(call, x if isinstance(x, Tensor) else call.build.sampled(x), factor)


def _arithmetic(call: Call, kind: str, a: Value, b: Value) -> Tensor:
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = call.build.sampled(a)
    if kind == "add":  # a mask
        a, b = _without_infinity(a), _without_infinity(b)
    return binary(call.build, kind, a, b)


def _sum_of_sums(call: Call, kind: str, left: Any, right: Any, alpha: Any) -> BatchSum:
    """Add up means over samples: the mean of the sums of each sample."""
    if alpha != 1:
        raise UnsupportedOperation("it adds sums over samples times alpha")
    numbers = [
        one.array.item() if isinstance(one, Fixed) and one.array.size == 1 else one
        for one in (left, right)
    ]
    a, b = numbers
    sums = [one for one in (a, b) if isinstance(one, BatchSum)]
    if len(sums) == 2:
        if sums[0].is_mean != sums[1].is_mean:
            raise UnsupportedOperation("it adds a mean over samples and a sum of them")
        x, y = (one.of_sample for one in sums)
        return replace(sums[0], of_sample=binary(call.build, kind, x, y))
    if not sums[0].is_mean or not all(
        isinstance(one, BatchSum | int | float) for one in (a, b)
    ):
        raise UnsupportedOperation(
            "it adds a sum over samples and what is no mean over samples"
        )
    first, second = (
        one.of_sample if isinstance(one, BatchSum) else Fixed(np.array(one))
        for one in (a, b)
    )
    return BatchSum(binary(call.build, kind, first, second), True)


@rule("mul", "multiply")
def _mul(call: Call) -> Any:
    left, right = call["self"], call["other"]
    for total, number in ((left, right), (right, left)):
        if isinstance(number, Fixed) and number.array.size == 1:
            number = number.array.item()
        if isinstance(total, BatchSum) and isinstance(number, int | float):
            return replace(
                total, of_sample=_times(call, total.of_sample, float(number))
            )
    a, b = as_value(left, "self"), as_value(right, "other")
    return _arithmetic(call, "multiply", a, b)


@rule("div", "divide", "true_divide")
def _div(call: Call) -> Any:
    left, right = call["self"], call["other"]
    if call.get("rounding_mode") is not None:
        raise UnsupportedOperation("it rounds")
    if isinstance(left, BatchSum):
        if isinstance(right, Size) and right.batched and not left.is_mean:
            made = _of_sum(left, lambda x: _times(call, x, 1 / right.factor))
            return replace(made, is_mean=True)
        if isinstance(right, int | float):
            factor = 1 / float(right)
            return _of_sum(left, lambda x: _times(call, x, factor))
    a, b = as_value(left, "self"), as_value(right, "other")
    if isinstance(b, Fixed) and b.array.size == 1 and isinstance(a, Tensor):
        return binary(call.build, "divide", a, b)
    return _arithmetic(call, "divide", a, b)


@rule("maximum", "minimum")
def _extreme(call: Call) -> Tensor:
    a, b = call.value("self"), call.value("other")
    return _arithmetic(call, call.node.op, a, b)


@rule("addcmul")
def _addcmul(call: Call) -> Tensor:
    a, b = call.value("tensor1"), call.value("tensor2")
    product: Value = _arithmetic(call, "multiply", a, b)
    product = _scaled(call, product, call["value"])
    return _arithmetic(call, "add", call.value("self"), product)


@rule("lerp")
def _lerp(call: Call) -> Tensor:
    start, end = call.value("self"), call.value("end")
    weight = as_value(call["weight"], "weight")
    step = _arithmetic(call, "subtract", end, start)
    return _arithmetic(call, "add", start, _arithmetic(call, "multiply", step, weight))


@rule("where")
def _where(call: Call) -> Tensor:
    if "self" not in call.args:
        raise UnsupportedOperation("it counts where a condition holds")
    condition = call.value("condition")
    yes, no = call.value("self"), call.value("other")
    return _chosen(call, condition, yes, no)


@rule("masked_fill")
def _masked_fill(call: Call) -> Tensor:
    x, mask = call.value("self"), call.value("mask")
    return _chosen(call, mask, as_value(call["value"], "value"), x)


def _chosen(call: Call, condition: Value, yes: Value, no: Value) -> Tensor:
    """Choose by a mask; -inf, which forbids, becomes a number that is as small."""
    if isinstance(condition, Table) and not condition.is_trained:
        condition = Fixed(condition.array)
    if isinstance(condition, Fixed):
        condition = Fixed(condition.array.astype(np.float32))
    yes, no = (_without_infinity(value) for value in (yes, no))
    if not isinstance(no, Tensor) and not any(
        isinstance(value, Tensor) for value in (condition, yes)
    ):
        no = call.build.sampled(no)
    return where(call.build, condition, yes, no)


def _without_infinity(value: Value) -> Value:
    if isinstance(value, Fixed) and np.isinf(value.array).any():
        return Fixed(np.nan_to_num(value.array, neginf=FORBIDDEN, posinf=-FORBIDDEN))
    return value


# -- reductions


@rule("sum", "mean")
def _sum(call: Call) -> Any:
    x = call.tensor("self")
    dims = dims_of(call.get("dim"), x.rank)
    kind = f"reduce_{call.node.op}"
    keepdim = bool(call.get("keepdim", False))
    of_batch = [dim for dim in dims if BATCH in x.view.dims[dim]]
    if not of_batch:
        return reduce(call.build, kind, x, dims, keepdim=keepdim)
    if len(dims) < x.rank or keepdim or x.sizes[of_batch[0]].factor != 1:
        raise UnsupportedOperation(
            "it is taken over the batch, and samples are trained one beside the "
            "other; only the loss is a mean over samples"
        )
    inner = [dim for dim in dims if dim not in of_batch]
    made = reduce(call.build, kind, x, inner) if inner else x
    return BatchSum(made, call.node.op == "mean")


_REDUCTIONS = {"amax": "reduce_max", "amin": "reduce_min", "prod": "reduce_prod"}


@rule(*_REDUCTIONS)
def _reduction(call: Call) -> Tensor:
    x = call.tensor("self")
    dims = dims_of(call.get("dim"), x.rank)
    keepdim = bool(call.get("keepdim", False))
    return reduce(call.build, _REDUCTIONS[call.node.op], x, dims, keepdim=keepdim)


@rule("max", "min")
def _max(call: Call) -> Any:
    if call.get("other") is not None:
        kind = f"{call.node.op}imum"
        return _arithmetic(call, kind, call.value("self"), call.value("other"))
    if "dim" not in call.args:
        raise UnsupportedOperation("it is taken over the batch")
    if call.parts_read and 1 in call.parts_read:
        raise UnsupportedOperation("its indices are read")
    x = call.tensor("self")
    dims, kind = dims_of(call["dim"], x.rank), f"reduce_{call.node.op}"
    made = reduce(call.build, kind, x, dims, keepdim=call["keepdim"])
    return (made, None)


@rule("linalg_vector_norm", "norm")
def _norm(call: Call) -> Tensor:
    order = call.get("ord", call.get("p"))
    if order not in (2, 2.0, None):
        raise UnsupportedOperation(f"it is the norm of order {order}; 2 has a layer")
    x = call.tensor("self")
    dims = dims_of(call.get("dim"), x.rank)
    keepdim = bool(call.get("keepdim", False))
    return reduce(call.build, "norm", x, dims, keepdim=keepdim)


@rule("var", "std")
def _var(call: Call) -> Tensor:
    x = call.tensor("self")
    dims = dims_of(call.get("dim"), x.rank)
    correction = call.get("correction", 1)
    if correction is None:
        correction = 1
    if "unbiased" in call.args:
        correction = int(call["unbiased"])
    build = call.build
    n = math.prod(x.sizes[dim].factor for dim in dims)
    mean = reduce(build, "reduce_mean", x, dims, keepdim=True)
    centred = binary(build, "subtract", x, mean)
    squares = unary(build, centred, "pow", exponent=2.0)
    keepdim = bool(call.get("keepdim", False))
    made = reduce(build, "reduce_sum", squares, dims, keepdim=keepdim)
    made = _times(call, made, 1 / (n - correction))
    return unary(build, made, "sqrt") if call.node.op == "std" else made


@rule("cosine_similarity")
def _cosine(call: Call) -> Tensor:
    a, b = call.tensor("x1"), call.tensor("x2")
    build = call.build
    (dim,) = dims_of(call["dim"], a.rank)
    if a.sizes != b.sizes:
        raise UnsupportedOperation("its operands are broadcast")
    a, shape = build.around(a, [dim])
    wanted = b.view
    b = build.in_order(b)
    a = build.in_order(a)
    del wanted
    before = math.prod(s.factor for s in a.sizes[:dim])
    size = a.sizes[dim].factor
    after = math.prod(s.factor for s in a.sizes[dim + 1 :])
    shape = (before, size, after)
    made = build.add(
        "cosine_similarity",
        [build.shaped(a.source, shape), build.shaped(b.source, shape)],
        (before, 1, after),
        axis=2,
        epsilon=float(call["eps"]),
    )
    gone = set(a.view.dims[dim])
    order = tuple(axis for axis in a.view.order if axis not in gone)
    dims = (*a.view.dims[:dim], *a.view.dims[dim + 1 :])
    return Tensor(made, replace(a.view, order=order, dims=dims))


@rule("cumsum")
def _cumsum(call: Call) -> Tensor:
    x = call.tensor("self")
    (dim,) = dims_of(call["dim"], x.rank)
    x, shape = call.build.around(x, [dim])
    made = call.build.add("cumsum", [call.build.shaped(x.source, shape)], shape, axis=2)
    return replace(x, source=made)


# -- products of matrices


@rule("linear")
def _linear(call: Call) -> Tensor:
    weight, bias = call.table("weight"), call.table("bias")
    assert weight is not None
    x = call.tensor("input")
    _name_by(call, weight)
    return linear(call.build, x, weight, bias)


def _name_by(call: Call, weight: Table) -> None:
    """Name a layer after the module that its weight belongs to, if that is deeper."""
    owner, _, leaf = weight.name.rpartition(".")
    build = call.build
    if owner.startswith(f"{build.path}.") or (owner and not build.path):
        build.path, build.is_module = owner, True
    elif not build.is_module and leaf.endswith("_weight"):
        build.path = f"{build.path}.{leaf.removesuffix('_weight')}".removeprefix(".")
        build.is_module = True


@rule("matmul", "mm", "bmm")
def _matmul(call: Call) -> Tensor:
    left = call.value("self")
    right = call.value("other" if "other" in call.args else "mat2")
    return _product(call, left, right)


def _product(call: Call, left: Value, right: Value) -> Tensor:
    build = call.build
    if isinstance(right, Tensor) and isinstance(left, Table | Fixed):
        # (w x)ᵀ = xᵀ wᵀ
        a, b = (_swapped(call, value) for value in (right, left))
        return _tensor(_swapped(call, matmul(build, a, b)))
    vectors = [rank_of(value) == 1 for value in (left, right)]
    if vectors[1]:
        made = matmul(build, left, build.unsqueeze(right, 1))
        return _tensor(build.squeeze(made, [made.rank - 1]))
    return matmul(build, left, right)


def _swapped(call: Call, value: Value) -> Value:
    rank = rank_of(value)
    order = [*range(rank - 2), rank - 1, rank - 2]
    return call.build.permute(value, order)


@rule("addmm", "baddbmm")
def _addmm(call: Call) -> Tensor:
    name = "mat1" if call.node.op == "addmm" else "batch1"
    other = "mat2" if call.node.op == "addmm" else "batch2"
    beta, alpha = call["beta"], call["alpha"]
    left, right = call.value(name), call.value(other)
    own = call["self"]
    if (
        isinstance(own, Table)
        and isinstance(right, Table)
        and (beta, alpha) == (1, 1)
        and own.array.ndim == 1
        and isinstance(left, Tensor)
    ):
        return linear(call.build, left, right, own, is_transposed=False)
    made: Value = _product(call, left, right)
    if alpha != 1:
        made = _scaled(call, made, alpha)
    if beta == 0:
        return _tensor(made)
    return _arithmetic(call, "add", _scaled_one(call, own, beta), made)


def _scaled_one(call: Call, value: Any, factor: float) -> Value:
    given = as_value(value, "self")
    return given if factor == 1 else _scaled(call, given, factor)


@rule("einsum")
def _einsum(call: Call) -> Tensor:
    """Import products of two operands, by bringing them into the form of `matmul`."""
    equation = call["equation"].replace(" ", "")
    if "..." in equation or "->" not in equation or len(call["tensors"]) != 2:
        raise UnsupportedOperation(f"{equation!r}: two operands with all letters named")
    inputs, result = equation.split("->")
    one, two = inputs.split(",")
    if any(len(set(part)) != len(part) for part in (one, two, result)):
        raise UnsupportedOperation(f"{equation!r}: a letter stands twice in a part")
    left, right = (as_value(v, "tensors") for v in call["tensors"])
    shared = [c for c in one if c in two and c in result]
    summed = [c for c in one if c in two and c not in result]
    rows = [c for c in one if c not in two]
    columns = [c for c in two if c not in one]
    if not summed or set(rows + columns + shared) != set(result):
        raise UnsupportedOperation(f"{equation!r}: it is no product of matrices")
    build = call.build
    sizes = dict(zip(one, sizes_of(left), strict=True))
    sizes |= dict(zip(two, sizes_of(right), strict=True))

    def whole(letters: list[str]) -> list[Size | None]:
        factor = math.prod(sizes[c].factor for c in letters)
        return [Size(factor, any(sizes[c].batched for c in letters))]

    left = build.permute(left, [one.index(c) for c in [*shared, *rows, *summed]])
    right = build.permute(right, [two.index(c) for c in [*shared, *summed, *columns]])
    outer: list[Size | None] = [sizes[c] for c in shared]
    left = build.reshape(left, [*outer, *whole(rows), *whole(summed)])
    right = build.reshape(right, [*outer, *whole(summed), *whole(columns)])
    made = _product(call, left, right)
    names = [*shared, *rows, *columns]
    spread = build.reshape(made, [sizes[c] for c in names])
    return _tensor(build.permute(spread, [names.index(c) for c in result]))
