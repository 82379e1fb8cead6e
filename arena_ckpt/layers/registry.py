"""The table of layer types, and how a layer is made from a type and properties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from arena_ckpt.common.aliases import LAYERS, renamed
from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.properties import parse_properties, split_strings
from arena_ckpt.common.wording import nearest, quoted, shown
from arena_ckpt.errors import InvalidParameterError, UnknownTypeError
from arena_ckpt.layers.activation import Activation, PReLU
from arena_ckpt.layers.arithmetic import (
    Add,
    Addition,
    Divide,
    Multiply,
    Negative,
    Power,
    SquareRoot,
    Subtract,
)
from arena_ckpt.layers.attention import MultiHeadAttention
from arena_ckpt.layers.axiswise import (
    CosineSimilarity,
    CumulativeSum,
    Gather,
    Norm,
    ReduceMax,
    ReduceMin,
    ReduceProd,
)
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.choices import Maximum, Minimum, Where
from arena_ckpt.layers.class_check import check_class
from arena_ckpt.layers.contraction import MatMul, ReduceMean, ReduceSum
from arena_ckpt.layers.convolution import (
    Convolution1D,
    Convolution2D,
    DepthwiseConvolution2D,
    TransposedConvolution2D,
)
from arena_ckpt.layers.dense import FullyConnected
from arena_ckpt.layers.group_norm import GroupNormalization, InstanceNormalization
from arena_ckpt.layers.gru import Gru, GruCell
from arena_ckpt.layers.heads import Attention, RotaryEmbedding
from arena_ckpt.layers.lone_weights import Constant, Expand, Weight
from arena_ckpt.layers.loss import (
    CrossEntropySigmoid,
    CrossEntropySoftmax,
    KullbackLeibler,
    MeanSquaredError,
)
from arena_ckpt.layers.lstm import Lstm, LstmCell
from arena_ckpt.layers.margins import Pad
from arena_ckpt.layers.mean_loss import MeanLoss
from arena_ckpt.layers.normalization import (
    BatchNormalization,
    LayerNormalization,
    RMSNorm,
)
from arena_ckpt.layers.pooling import Pooling2D, Upsample2D
from arena_ckpt.layers.rearrange import Concat, Permute, Slice, Split
from arena_ckpt.layers.rnn import Rnn, RnnCell
from arena_ckpt.layers.shape import Flatten, Identity, Input, Multiout, Reshape
from arena_ckpt.layers.shuffle import ChannelShuffle, PixelShuffle
from arena_ckpt.layers.tokens import (
    Dropout,
    DropPath,
    Embedding,
    PositionalEncoding,
    SwiGLU,
)
from arena_ckpt.layers.value_losses import HuberLoss, MeanAbsoluteError

L = TypeVar("L", bound=Layer)

LAYER_TYPES: dict[str, type[Layer]] = {
    layer.type_name: layer
    for layer in (
        Input,
        Constant,
        Weight,
        FullyConnected,
        Activation,
        PReLU,
        Add,
        Addition,
        Divide,
        Multiply,
        Negative,
        Power,
        SquareRoot,
        Subtract,
        Maximum,
        Minimum,
        Where,
        ReduceMax,
        ReduceMin,
        ReduceProd,
        Norm,
        CumulativeSum,
        Gather,
        CosineSimilarity,
        MultiHeadAttention,
        Attention,
        RotaryEmbedding,
        Convolution1D,
        Convolution2D,
        DepthwiseConvolution2D,
        TransposedConvolution2D,
        MatMul,
        ReduceMean,
        ReduceSum,
        Gru,
        GruCell,
        CrossEntropySigmoid,
        CrossEntropySoftmax,
        KullbackLeibler,
        MeanSquaredError,
        BatchNormalization,
        LayerNormalization,
        RMSNorm,
        GroupNormalization,
        InstanceNormalization,
        Pooling2D,
        Upsample2D,
        Pad,
        PixelShuffle,
        ChannelShuffle,
        Concat,
        Permute,
        Slice,
        Split,
        Flatten,
        Identity,
        Multiout,
        Reshape,
        Dropout,
        DropPath,
        Embedding,
        PositionalEncoding,
        SwiGLU,
        Lstm,
        LstmCell,
        Rnn,
        RnnCell,
        HuberLoss,
        MeanAbsoluteError,
        MeanLoss,
        Expand,
    )
}
"""The class of each layer type, by its name in lower case."""


@public_call
def register_layer(layer: type[L]) -> type[L]:
    """Add a class of layers to `LAYER_TYPES` under its `type_name`; a decorator.

    Parameters
    ----------
    layer : subclass of Layer

    Returns
    -------
    subclass of Layer
        The same class.

    Raises
    ------
    InvalidParameterError
        The argument is no class of layers, its `type_name` is not in lower case or
        belongs to another class, `infer` is missing, a hook takes other arguments than
        the package calls it with, or `properties` is no tuple of `Property`.
    """
    name = getattr(layer, "type_name", None)
    if not (isinstance(layer, type) and issubclass(layer, Layer)):
        raise InvalidParameterError(
            f"{quoted(layer)} is no class of layers; derive it from "
            "arena_ckpt.layers.Layer"
        )
    if not isinstance(name, str) or not name or name != name.strip().lower():
        raise InvalidParameterError(
            f"{layer.__name__}.type_name is {quoted(name)}; give the class a name in "
            "lower case",
            type_name=name,
        )
    known = LAYER_TYPES.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (
        layer.__module__,
        layer.__qualname__,
    ):
        raise InvalidParameterError(
            f"{layer.__name__}.type_name is {name!r}, as that of {known.__name__}; "
            "choose another",
            type_name=name,
        )
    check_class(layer)
    LAYER_TYPES[name] = layer
    return layer


@public_call
def create_layer(
    type_name: str, properties: Sequence[str] = (), **values: object
) -> Layer:
    """Make a layer of a registered type.

    Parameters
    ----------
    type_name : str
        A key of `LAYER_TYPES`, in upper or lower case.
    properties : sequence of str
        Properties as NNTrainer writes them: ``["name=fc1", "unit=512"]``.
    **values
        Properties as keyword arguments. Where a property stands in both, these win.

    Returns
    -------
    Layer

    Raises
    ------
    UnknownTypeError
        No class is registered under `type_name`.
    InvalidParameterError
        The type does not have a property, or a value is not possible.
    """
    key = shown(type_name).strip().lower()
    if key not in LAYER_TYPES:
        hint = renamed(key, LAYERS, LAYER_TYPES) or nearest(key, LAYER_TYPES)
        raise UnknownTypeError(
            f"unknown layer type {quoted(type_name)}{hint}; known are "
            f"{', '.join(sorted(LAYER_TYPES))}",
            type_name=type_name,
        )
    layer_type = LAYER_TYPES[key]
    given = split_strings(f"layer of type {key}", properties) | values
    owner = f"layer {shown(given['name'])!r} ({key})" if "name" in given else key
    return layer_type(parse_properties(owner, layer_type.properties, given))
