"""Compares numbers of PyTorch's operations with properties of the layers made of them.

Some differences drown in the rounding of gradients: an epsilon of 1e-6 for 1e-5, a
padding index that no id of a batch has. This table knows nothing of the rules that add
layers, so that a wrong rule is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from arena_ckpt.importers.foreign_graph import ForeignGraph, ForeignNode, mentioned
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.functions import name_of, numbers_of
from arena_ckpt.model import Model

Expected = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """A property that is not what PyTorch has.

    Attributes
    ----------
    layer : str
    name : str
        Of the property.
    found, expected : object
    where : str
        The line of the operation.
    """

    layer: str
    name: str
    found: Any
    expected: Any
    where: str

    def __str__(self) -> str:
        at = f" (at {self.where})" if self.where else ""
        return (
            f"{self.name} of {self.layer} is {self.found}, in PyTorch "
            f"{self.expected}{at}"
        )


def _epsilon(args: Mapping[str, Any]) -> float | None:
    return None if args["eps"] is None else float(args["eps"])


def _pair(value: Any) -> tuple[int, int]:
    numbers = value if isinstance(value, tuple) else (value, value)
    return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _symmetric(args: Mapping[str, Any]) -> tuple[int, ...] | None:
    padding = args["padding"]
    if isinstance(padding, str):
        return None
    numbers = padding if isinstance(padding, tuple) else (padding, padding)
    vertical, horizontal = (0, numbers[0]) if len(numbers) == 1 else numbers
    return vertical, vertical, horizontal, horizontal


_CONVOLUTION: dict[str, Expected] = {
    "stride": lambda args: _pair(args["stride"]),
    "dilation": lambda args: _pair(args["dilation"]),
    "padding": _symmetric,
}
_RECURRENT: dict[str, Expected] = {
    "bidirectional": lambda args: args["bidirectional"],
    "dropout_rate": lambda args: 0.0,
}
_PROPERTIES: dict[str, tuple[str, dict[str, Expected]]] = {
    "batch_norm": (
        "batch_normalization",
        {
            "epsilon": _epsilon,
            "momentum": lambda args: 1.0 - args["momentum"],
            "unbiased_variance": lambda args: True,
            "statistics": lambda args: None if args["training"] else "moving",
        },
    ),
    "layer_norm": ("layer_normalization", {"epsilon": _epsilon}),
    "rms_norm": ("rms_norm", {"epsilon": _epsilon}),
    "group_norm": (
        "group_normalization",
        {"epsilon": _epsilon, "num_groups": lambda args: args["num_groups"]},
    ),
    "instance_norm": ("instance_normalization", {"epsilon": _epsilon}),
    "embedding": (
        "embedding",
        {
            "padding_idx": lambda args: (
                None if args["padding_idx"] < 0 else args["padding_idx"]
            )
        },
    ),
    "dropout": ("dropout", {"dropout_rate": lambda args: args["p"]}),
    "scaled_dot_product_attention": (
        "attention",
        {
            "is_causal": lambda args: args["is_causal"],
            "dropout_rate": lambda args: args["dropout_p"],
        },
    ),
    "conv1d": ("conv2d", _CONVOLUTION),
    "conv2d": ("conv2d", _CONVOLUTION),
    "conv_transpose2d": ("conv2dtranspose", _CONVOLUTION),
    "lstm": ("lstm", _RECURRENT),
    "gru": ("gru", _RECURRENT | {"reset_after": lambda args: True}),
    "rnn_tanh": (
        "rnn",
        _RECURRENT | {"hidden_state_activation": lambda args: "tanh"},
    ),
    "rnn_relu": (
        "rnn",
        _RECURRENT | {"hidden_state_activation": lambda args: "relu"},
    ),
    "upsample_nearest2d": ("upsample2d", {"upsample": lambda args: "nearest"}),
    "upsample_bilinear2d": ("upsample2d", {"upsample": lambda args: "bilinear"}),
    "cosine_similarity": ("cosine_similarity", {"epsilon": _epsilon}),
    "max_pool2d": ("pooling2d", {"pooling": lambda args: "max"}),
    "avg_pool2d": ("pooling2d", {"pooling": lambda args: "average"}),
}
"""For each operation the type of its layer, and what its properties have to be."""

_FUNCTIONS: dict[str, Callable[[Mapping[str, Any]], tuple[str, tuple[float, ...]]]] = {
    "relu": lambda args: ("relu", ()),
    "relu6": lambda args: ("relu6", ()),
    "sigmoid": lambda args: ("sigmoid", ()),
    "tanh": lambda args: ("tanh", ()),
    "silu": lambda args: ("swish", ()),
    "selu": lambda args: ("selu", ()),
    "mish": lambda args: ("mish", ()),
    "hardsigmoid": lambda args: ("hard_sigmoid", ()),
    "hardswish": lambda args: ("hard_swish", ()),
    "exp": lambda args: ("exp", ()),
    "log": lambda args: ("log", ()),
    "abs": lambda args: ("abs", ()),
    "gelu": lambda args: (
        "tanh_gelu" if args["approximate"] == "tanh" else "gelu",
        (),
    ),
    "leaky_relu": lambda args: ("leaky_relu", (float(args["negative_slope"]),)),
    "elu": lambda args: ("elu", (float(args["alpha"]),)),
}
"""For each function of elements ours, and its numbers."""


def differing_properties(
    graph: ForeignGraph, model: Model, made: Mapping[str, tuple[str, ...]]
) -> tuple[tuple[Difference, ...], int]:
    """Compare all numbers that have a property.

    Parameters
    ----------
    graph : ForeignGraph
    model : Model
    made : mapping of str to tuple of str
        The layers that were added for each node.

    Returns
    -------
    (tuple of Difference, int)
        What differs, and how many properties were compared.
    """
    layers = {layer.name: layer for layer in model.layers}
    found: list[Difference] = []
    n_compared = 0
    changing = _changing(graph)
    for node in graph.nodes:
        if node.name not in changing:
            continue  # numbers that are known when the model is imported
        own = [layers[name] for name in made.get(node.name, ()) if name in layers]
        for layer, name, value, expected in _compared(node, own):
            n_compared += 1
            if not _same(value, expected):
                found.append(Difference(layer, name, value, expected, node.where))
    return tuple(found), n_compared


def _changing(graph: ForeignGraph) -> set[str]:
    """Return all that depends on an input or on a parameter that is trained."""
    names = {one.name for one in graph.inputs}
    names |= {name for name, table in graph.tables.items() if table.is_trained}
    for node in graph.nodes:
        if not names.isdisjoint(mentioned(tuple(node.args.values()))):
            names.add(node.name)
    return names


def _compared(
    node: ForeignNode, layers: list[Layer]
) -> list[tuple[str, str, Any, Any]]:
    """Return layer, property, value and expected value of a node."""
    rows: list[tuple[str, str, Any, Any]] = []
    if node.op in _FUNCTIONS:
        expected = _FUNCTIONS[node.op](node.args)
        functions = [one for one in layers if one.type_name == "activation"]
        if not functions and not layers:
            rows.append((node.module or node.name, "activation", "none", expected))
        for layer in functions:
            text = layer["activation"]
            rows.append(
                (layer.name, "activation", (name_of(text), numbers_of(text)), expected)
            )
    type_name, properties = _PROPERTIES.get(node.op, ("", {}))
    for layer in layers:
        if layer.type_name != type_name:
            continue
        for name, value in properties.items():
            wanted = value(node.args)
            if wanted is None and name in ("padding", "epsilon"):
                continue
            rows.append((layer.name, name, layer[name], wanted))
    return rows


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, tuple) and isinstance(expected, tuple):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(found, float) or isinstance(expected, float):
        return (
            found is not None
            and expected is not None
            and math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-15)
        )
    return bool(found == expected)
