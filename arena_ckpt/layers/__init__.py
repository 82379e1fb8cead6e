"""Layers, one file per family, and how they are made from names and properties."""

from __future__ import annotations

from collections.abc import Sequence

from arena_ckpt.errors import UnknownTypeError
from arena_ckpt.layers.activation import Activation
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
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.contraction import MatMul, ReduceMean, ReduceSum
from arena_ckpt.layers.dense import FullyConnected
from arena_ckpt.layers.loss import (
    CrossEntropySigmoid,
    CrossEntropySoftmax,
    KullbackLeibler,
    MeanSquaredError,
)
from arena_ckpt.layers.rearrange import Concat, Permute, Slice, Split
from arena_ckpt.layers.shape import Flatten, Identity, Input, Multiout, Reshape
from arena_ckpt.properties import nearest, parse_properties, split_strings

LAYER_TYPES: dict[str, type[Layer]] = {
    layer.type_name: layer
    for layer in (
        Input,
        FullyConnected,
        Activation,
        Flatten,
        Multiout,
        Addition,
        Add,
        Subtract,
        Multiply,
        Divide,
        Power,
        SquareRoot,
        Negative,
        MatMul,
        ReduceSum,
        ReduceMean,
        Concat,
        Split,
        Slice,
        Permute,
        Reshape,
        Identity,
        MeanSquaredError,
        CrossEntropySoftmax,
        CrossEntropySigmoid,
        KullbackLeibler,
    )
}


def create_layer(
    type_name: str, properties: Sequence[str] = (), **values: object
) -> Layer:
    """Make a layer.

    Parameters
    ----------
    type_name : str
        A key of `LAYER_TYPES`, in any case.
    properties : sequence of str
        NNTrainer-style ``["name=fc1", "unit=512"]``.
    **values
        The same as keyword arguments; these win.

    Returns
    -------
    Layer

    Raises
    ------
    UnknownTypeError
        No such type.
    InvalidParameterError
        A property that the type does not have, or an impossible value.
    """
    key = str(type_name).strip().lower()
    if key not in LAYER_TYPES:
        raise UnknownTypeError(
            f"unknown layer type {type_name!r}{nearest(key, LAYER_TYPES)}; known are "
            f"{', '.join(sorted(LAYER_TYPES))}",
            type_name=type_name,
        )
    layer_type = LAYER_TYPES[key]
    given = split_strings(f"layer of type {key}", properties) | values
    owner = f"layer {str(given['name'])!r} ({key})" if "name" in given else key
    return layer_type(parse_properties(owner, layer_type.properties, given))
