"""Whole models in float64 with NumPy: forward only, as formulas write it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt import Model

Array = npt.NDArray[np.float64]
_erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def tanh_gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "tanh_gelu": tanh_gelu,
    "swish": lambda x: x * sigmoid(x),
    "elu": elu,
    "selu": selu,
    "softplus": lambda x: np.logaddexp(0, x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "softmax": softmax,
}


def loss_of(
    model: Model, weights: Mapping[str, Array], x: Mapping[str, Any], y: Any
) -> float:
    """The loss of a batch, regularization included.

    `y` holds values of the output's shape; class numbers are made one-hot before.
    """
    outputs: dict[str, Array] = {}
    penalty = 0.0
    model.compile()
    assert model._graph is not None
    for node in model._graph.nodes:
        layer, kind = node.layer, node.layer.type_name
        shape = (-1, *node.spec.output_shapes[0])
        inputs = [outputs[source.layer] for source in node.inputs]
        if kind == "input":
            out = np.asarray(x[node.name], np.float64).reshape(shape)
        elif kind == "fully_connected":
            out = inputs[0] @ weights[f"{node.name}:weight"]
            if layer.has_bias:
                out = out + weights[f"{node.name}:bias"]
            if layer["weight_regularizer"] == "l2norm" and layer.trains("weight"):
                squares = (weights[f"{node.name}:weight"] ** 2).sum()
                penalty += layer["weight_regularizer_constant"] / 2 * squares
        elif kind == "activation":
            out = ACTIVATIONS[layer["activation"]](inputs[0])
        elif kind == "flatten":
            out = inputs[0].reshape(shape)
        elif kind == "multiout":
            out = inputs[0]
        elif kind == "addition":
            out = np.sum(inputs, axis=0)
        else:
            label = np.asarray(y, np.float64).reshape(shape)
            return float(loss(kind, inputs[0], label) + penalty)
        outputs[node.name] = out
    raise AssertionError("the model has no loss")


def loss(kind: str, x: Array, label: Array) -> Any:
    if kind == "mse":
        return ((x - label) ** 2).mean()
    if kind == "cross_softmax":
        largest = x.max(axis=-1, keepdims=True)
        log_sum = np.log(np.exp(x - largest).sum(axis=-1, keepdims=True)) + largest
        return -(label * (x - log_sum)).sum() / len(x)
    assert kind == "cross_sigmoid"
    return (np.logaddexp(0, x) - label * x).mean()
