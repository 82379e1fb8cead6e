"""Rules for arithmetic and functions of elements."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from arena_ckpt.importers import emit_elements as emit
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor, Value
from arena_ckpt.importers.import_gaps import UnsupportedOperation
from arena_ckpt.importers.onnx_folding import Known
from arena_ckpt.importers.onnx_rules import OnnxCall, Result, rule

# -- functions of elements -------------------------------------------------------------

_FUNCTIONS = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Mish": "mish",
    "HardSwish": "hard_swish",
    "Exp": "exp",
    "Log": "log",
    "Abs": "abs",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
}


@rule(*_FUNCTIONS)
def _function(call: OnnxCall) -> Result:
    return emit.function(call.builder, call.tensor(0), _FUNCTIONS[call.node.op])


@rule("Identity")
def _identity(call: OnnxCall) -> Result:
    given = call.given(0)
    return given if isinstance(given, Known) else call.value(0)


@rule("LeakyRelu")
def _leaky_relu(call: OnnxCall) -> Result:
    slope = float(call.attribute("alpha", 0.01))
    x = call.tensor(0)
    if slope < 0:
        return _prelu_of(call, x, Fixed(np.array(slope, np.float32)))
    return emit.function(call.builder, x, f"leaky_relu({_short(slope)})")


@rule("Elu")
def _elu(call: OnnxCall) -> Result:
    alpha = float(call.attribute("alpha", 1.0))
    if alpha < 0:
        raise UnsupportedOperation(f"its alpha is {alpha}, and has to be at least 0")
    return emit.function(call.builder, call.tensor(0), f"elu({_short(alpha)})")


@rule("Celu")
def _celu(call: OnnxCall) -> Result:
    alpha = float(call.attribute("alpha", 1.0))
    if alpha <= 0:
        raise UnsupportedOperation(f"its alpha is {alpha}, and has to be above 0")
    y = with_number(call, "multiply", call.tensor(0), 1 / alpha)
    return with_number(call, "multiply", emit.function(call.builder, y, "elu"), alpha)


_SELU = (1.6732632423543772, 1.0507009873554805)


@rule("Selu")
def _selu(call: OnnxCall) -> Result:
    alpha, gamma = (
        float(call.attribute(name, default))
        for name, default in zip(("alpha", "gamma"), _SELU, strict=True)
    )
    x = call.tensor(0)
    if np.allclose((alpha, gamma), _SELU, rtol=1e-6):
        return emit.function(call.builder, x, "selu")
    if alpha < 0:
        raise UnsupportedOperation(f"its alpha is {alpha}, and has to be at least 0")
    y = emit.function(call.builder, x, f"elu({_short(alpha)})")
    return with_number(call, "multiply", y, gamma)


@rule("Gelu", "com.microsoft.Gelu")
def _gelu(call: OnnxCall) -> Result:
    tanh = call.attribute("approximate", "none") == "tanh"
    return emit.function(call.builder, call.tensor(0), "tanh_gelu" if tanh else "gelu")


@rule("com.microsoft.FastGelu")
def _fast_gelu(call: OnnxCall) -> Result:
    x: Value = call.value(0)
    if call.has(1):
        x = _binary(call, "add", x, call.value(1))
    assert isinstance(x, Tensor)
    return emit.function(call.builder, x, "tanh_gelu")


@rule("com.microsoft.QuickGelu")
def _quick_gelu(call: OnnxCall) -> Result:
    alpha = float(call.attribute("alpha", 1.702))
    if abs(alpha - 1.702) > 1e-6:
        return _swish_of(call, call.tensor(0), alpha)
    return emit.function(call.builder, call.tensor(0), "sigmoid_gelu")


@rule("Swish")
def _swish(call: OnnxCall) -> Result:
    return _swish_of(call, call.tensor(0), float(call.attribute("alpha", 1.0)))


def _swish_of(call: OnnxCall, x: Tensor, alpha: float) -> Tensor:
    if alpha == 1.0:
        return emit.function(call.builder, x, "swish")
    scaled = with_number(call, "multiply", x, alpha)
    gate = emit.function(call.builder, scaled, "sigmoid")
    return emit.binary(call.builder, "multiply", x, gate)


@rule("HardSigmoid")
def _hard_sigmoid(call: OnnxCall) -> Result:
    alpha = float(call.attribute("alpha", 0.2))
    beta = float(call.attribute("beta", 0.5))
    x = call.tensor(0)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return emit.function(call.builder, x, "hard_sigmoid")
    line = with_number(call, "add", with_number(call, "multiply", x, alpha), beta)
    return emit.function(call.builder, line, "clamp(0, 1)")


@rule("Softsign")
def _softsign(call: OnnxCall) -> Result:
    x = call.tensor(0)
    below = with_number(call, "add", emit.function(call.builder, x, "abs"), 1.0)
    return emit.binary(call.builder, "divide", x, below)


@rule("Sinh", "Cosh")
def _hyperbolic(call: OnnxCall) -> Result:
    x = call.tensor(0)
    up = emit.function(call.builder, x, "exp")
    down = emit.function(call.builder, emit.unary(call.builder, x, "negative"), "exp")
    kind = "subtract" if call.node.op == "Sinh" else "add"
    both = emit.binary(call.builder, kind, up, down)
    return with_number(call, "multiply", both, 0.5)


@rule("Shrink")
def _shrink(call: OnnxCall) -> Result:
    bias = float(call.attribute("bias", 0.0))
    bound = float(call.attribute("lambd", 0.5))
    if bias != bound:
        raise UnsupportedOperation("it jumps, unless its bias and lambd are equal")
    x = call.tensor(0)
    text = f"clamp({_short(-bound)}, {_short(bound)})"
    return emit.binary(
        call.builder, "subtract", x, emit.function(call.builder, x, text)
    )


@rule("Clip")
def _clip(call: OnnxCall) -> Result:
    low = _number(call, 1) if call.has(1) else None
    high = _number(call, 2) if call.has(2) else None
    x = call.tensor(0)
    if (low, high) == (0.0, 6.0):
        return emit.function(call.builder, x, "relu6")
    if low is not None and high is not None and low > high:
        x = with_number(call, "maximum", x, low)
        return with_number(call, "minimum", x, high)
    bounds = [
        f"{name}={_short(bound)}"
        for name, bound in (("min", low), ("max", high))
        if bound is not None and math.isfinite(bound)
    ]
    if not bounds:
        return x
    return emit.function(call.builder, x, f"clamp({', '.join(bounds)})")


@rule("Neg")
def _negative(call: OnnxCall) -> Result:
    return emit.unary(call.builder, call.tensor(0), "negative")


@rule("Sqrt")
def _square_root(call: OnnxCall) -> Result:
    return emit.unary(call.builder, call.tensor(0), "sqrt")


@rule("Reciprocal")
def _reciprocal(call: OnnxCall) -> Result:
    return emit.unary(call.builder, call.tensor(0), "pow", exponent=-1.0)


@rule("Pow")
def _power(call: OnnxCall) -> Result:
    x, exponent = call.tensor(0), call.known(1).uniform
    if exponent is None or call.array(1).ndim > x.rank:
        raise UnsupportedOperation("its exponent has to be one number")
    if exponent == 1.0:
        return x
    return emit.unary(call.builder, x, "pow", exponent=exponent)


@rule("PRelu")
def _prelu(call: OnnxCall) -> Result:
    x, slope = call.tensor(0), call.value(1)
    if isinstance(slope, Table) and (slope.array.size == 1):
        layer = call.builder.add(
            "prelu",
            [x.source],
            call.builder.shape_of(x.source),
            weights={"weight": slope.reshaped((1,))},
            num_parameters=1,
        )
        return replace(x, source=layer)
    return _prelu_of(call, x, slope)


def _prelu_of(call: OnnxCall, x: Tensor, slope: Value) -> Tensor:
    """Return ``relu(x) + slope · min(x, 0)``."""
    above = emit.function(call.builder, x, "relu")
    below = with_number(call, "minimum", x, 0.0)
    scaled = emit.binary(call.builder, "multiply", below, slope)
    return emit.binary(call.builder, "add", above, scaled)


# -- arithmetic ------------------------------------------------------------------------

_BINARY = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide"}


@rule(*_BINARY)
def _arithmetic(call: OnnxCall) -> Result:
    left, right = call.value(0), call.value(1)
    kind = _BINARY[call.node.op]
    if kind in ("add", "subtract"):
        left, right = finite(left), finite(right)
    if kind == "divide" and all(_is_whole(value) for value in (left, right)):
        raise UnsupportedOperation("it divides whole numbers and drops the rest")
    return _binary(call, kind, left, right)


_FAR = np.float32(1e30)


def finite(value: Value) -> Value:
    """Return numbers of at most ±1e30 for those that a mask adds to its scores.

    A layer takes finite numbers alone, and a softmax makes nothing of either.
    """
    if isinstance(value, Fixed) and value.array.dtype.kind == "f":
        if (np.abs(value.array) > _FAR).any():
            return Fixed(np.clip(value.array, -_FAR, _FAR))
    return value


def _is_whole(value: Value) -> bool:
    if isinstance(value, Tensor):
        return value.is_whole
    return bool(np.issubdtype(value.array.dtype, np.integer))


_VARIADIC = {"Sum": "add", "Mean": "add", "Max": "maximum", "Min": "minimum"}


@rule(*_VARIADIC)
def _variadic(call: OnnxCall) -> Result:
    values = [call.value(place) for place in range(len(call.inputs))]
    values.sort(key=lambda value: not isinstance(value, Tensor))
    found = values[0]
    for value in values[1:]:
        found = _binary(call, _VARIADIC[call.node.op], found, value)
    if call.node.op == "Mean" and len(values) > 1:
        assert isinstance(found, Tensor)
        return with_number(call, "multiply", found, 1 / len(values))
    return found


def _binary(call: OnnxCall, kind: str, left: Value, right: Value) -> Value:
    """Add arithmetic on two values; on frozen ones it is done at once."""
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return emit.binary(call.builder, kind, left, right)
    for value in (left, right):
        if isinstance(value, Table) and value.is_trained:
            raise UnsupportedOperation(
                f"it computes with the weight {value.name!r} apart from the samples; "
                f"name it in frozen=, if it is not to be trained"
            )
    function = getattr(np, kind)
    return Fixed(np.asarray(function(left.array, right.array)))


@rule("Where")
def _where(call: OnnxCall) -> Result:
    condition, yes, no = (finite(call.value(place)) for place in range(3))
    if isinstance(condition, Fixed):
        condition = Fixed(condition.array.astype(np.float32))
    if not any(isinstance(value, Tensor) for value in (condition, yes, no)):
        raise UnsupportedOperation("it chooses between weights")
    return emit.where(call.builder, condition, yes, no)


@rule("Cast")
def _cast(call: OnnxCall) -> Result:
    return _as_type(call, call.tensor(0), int(call.attribute("to", 0)))


@rule("CastLike")
def _cast_like(call: OnnxCall) -> Result:
    given, like = call.given(0), call.value(1)
    if isinstance(given, Known):
        dtype = np.int64 if _is_whole(like) else np.float32
        one, other = (array.astype(dtype) for array in given.arrays)
        return Known((one, other))
    x = call.tensor(0)
    return x if _is_whole(like) == x.is_whole else _as_type(call, x, 1)


_FLOAT, _WHOLE = (1,), (2, 3, 4, 5, 6, 7, 12, 13)


def _as_type(call: OnnxCall, x: Tensor, dtype: int) -> Tensor:
    if dtype in _FLOAT:
        return replace(x, is_whole=False)
    if dtype in _WHOLE and x.is_whole:
        return x
    if dtype in (*_WHOLE, 9):
        raise UnsupportedOperation("it rounds, and nothing before it would train")
    raise UnsupportedOperation("tensors are float32 here; export the model as such")


def with_number(call: OnnxCall, kind: str, x: Tensor, number: float) -> Tensor:
    """Return arithmetic of a tensor and a number."""
    value = Fixed(np.array(number, np.float32))
    return emit.binary(call.builder, kind, x, value)


def _number(call: OnnxCall, place: int) -> float:
    array = call.array(place)
    if array.size != 1:
        raise UnsupportedOperation(f"its input {place} has to be one number")
    return float(array.ravel()[0])


def _short(number: float) -> str:
    """Write a number of float32 in the fewest digits that give it back."""
    return str(np.float32(number))
