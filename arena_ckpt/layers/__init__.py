"""Layers, one file per family, and how they are made from names and properties."""

from __future__ import annotations

from collections.abc import Sequence

from arena_ckpt.errors import UnknownTypeError
from arena_ckpt.layers.activation import Activation
from arena_ckpt.layers.arithmetic import Addition
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.dense import FullyConnected
from arena_ckpt.layers.gru import Gru, GruCell
from arena_ckpt.layers.loss import (
    CrossEntropySigmoid,
    CrossEntropySoftmax,
    MeanSquaredError,
)
from arena_ckpt.layers.lstm import Lstm, LstmCell
from arena_ckpt.layers.rnn import Rnn, RnnCell
from arena_ckpt.layers.shape import Flatten, Input, Multiout
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
        Rnn,
        Lstm,
        Gru,
        RnnCell,
        LstmCell,
        GruCell,
        MeanSquaredError,
        CrossEntropySoftmax,
        CrossEntropySigmoid,
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
