"""Properties of layers that have trained weights, and the weights as these set them."""

from __future__ import annotations

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import (
    NAME,
    NONNEGATIVE_REAL,
    Property,
    choice,
)
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.partial import TRAIN, TRAINABLE
from arena_ckpt.layers.spec import INITIALIZERS, WeightSpec

INITIALIZER = choice(*INITIALIZERS)

LEARNING_RATE_SCALE = Property(
    "learning_rate_scale",
    NONNEGATIVE_REAL,
    1.0,
    "factor of the learning rate for the weights of the layer",
)
SHARED_FROM = Property(
    "shared_from",
    NAME,
    None,
    "the layer whose weights it uses as well",
)

WEIGHT_PROPERTIES: tuple[Property, ...] = (
    TRAINABLE,
    TRAIN,
    SHARED_FROM,
    Property("weight_initializer", INITIALIZER, "xavier_uniform", "how weights start"),
    Property("bias_initializer", INITIALIZER, "zeros", "how the bias starts"),
    Property(
        "weight_regularizer",
        choice("l2norm", "none"),
        "none",
        "adds constant / 2 · Σw² to the loss",
    ),
    Property(
        "weight_regularizer_constant",
        NONNEGATIVE_REAL,
        1.0,
        "the constant of weight_regularizer",
    ),
    Property(
        "weight_decay",
        NONNEGATIVE_REAL,
        0.0,
        "adds this times the weight to its gradient at each update",
    ),
    Property("bias_decay", NONNEGATIVE_REAL, 0.0, "the same for the bias"),
    LEARNING_RATE_SCALE,
)
"""Properties that `weight_spec`, `bias_spec` and `Layer.is_trainable` read."""


class WithBias(Layer):
    """Base class of layers whose bias can be left out by either of two properties."""

    @property
    def has_bias(self) -> bool:
        """Whether neither ``bias=false`` nor ``disable_bias=true`` was set."""
        return bool(self["bias"]) and not self["disable_bias"]


@public_call
def weight_spec(
    layer: Layer,
    name: str,
    shape: tuple[int, ...],
    *,
    fan_in: int,
    fan_out: int,
    lifespan: TensorLifespan = TensorLifespan.FORWARD_DERIV,
    gradient_factors: tuple[str, str] | None = None,
    values: bytes | None = None,
    zero_row: int | None = None,
    touched_rows: int | None = None,
) -> WeightSpec:
    """Return a trained weight with the initializer, decay and penalty of its layer.

    Parameters
    ----------
    layer : Layer
        A layer with the properties ``weight_initializer``, ``weight_decay``,
        ``weight_regularizer`` and ``weight_regularizer_constant``.
    name : str
        Name of the weight within its layer.
    shape : tuple of int
        Elements along each axis.
    fan_in, fan_out, lifespan, gradient_factors, values, zero_row, touched_rows
        See `WeightSpec`.
    """
    regularized = layer["weight_regularizer"] == "l2norm"
    return WeightSpec(
        name,
        shape,
        layer["weight_initializer"],
        fan_in=fan_in,
        fan_out=fan_out,
        lifespan=lifespan,
        decay=layer["weight_decay"],
        regularizer_constant=(
            layer["weight_regularizer_constant"] if regularized else 0.0
        ),
        gradient_factors=gradient_factors,
        values=values,
        zero_row=zero_row,
        touched_rows=touched_rows,
    )


@public_call
def bias_spec(
    layer: Layer,
    name: str,
    length: int,
    *,
    fan_in: int,
    fan_out: int,
    lifespan: TensorLifespan = TensorLifespan.FORWARD,
) -> WeightSpec:
    """Return a trained bias with the initializer and decay of its layer.

    Parameters
    ----------
    layer : Layer
        A layer with the properties ``bias_initializer`` and ``bias_decay``.
    name : str
        Name of the bias within its layer.
    length : int
        Number of elements.
    fan_in, fan_out, lifespan
        See `WeightSpec`.
    """
    return WeightSpec(
        name,
        (length,),
        layer["bias_initializer"],
        fan_in=fan_in,
        fan_out=fan_out,
        lifespan=lifespan,
        decay=layer["bias_decay"],
    )
