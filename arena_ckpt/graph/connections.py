"""Finds which layer reads which, and the order in which layers run.

``input_layers`` names a layer, and where that has several outputs which of them:
``split(1)``. What is not connected reads the layer added before it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from arena_ckpt.common.short_repr import brief_repr
from arena_ckpt.common.wording import listed, nearest, quote
from arena_ckpt.errors import (
    CycleError,
    DanglingOutputError,
    DuplicateNameError,
    GraphError,
    LossError,
    UnknownLayerError,
)
from arena_ckpt.layers import create_layer
from arena_ckpt.layers.base import Layer


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a layer, by the name of the layer and its number."""

    layer: str
    index: int = 0

    __repr__ = brief_repr


Inputs = Mapping[str, tuple[Output, ...]]
"""The outputs that each layer reads, in the order of its inputs."""

_NUMBERED = re.compile(r"(?P<layer>.+)\((?P<index>[0-9]{1,9})\)")


def connect(layers: Sequence[Layer]) -> tuple[list[Layer], Inputs]:
    """Return the layers, with an input layer, and the outputs that each reads.

    Parameters
    ----------
    layers : sequence of Layer
        Layers in the order in which they were added.

    Returns
    -------
    list of Layer
        The same layers; an input layer stands before a first layer that has an
        ``input_shape``.
    dict from str to tuple of Output

    Raises
    ------
    DuplicateNameError
        Two layers of one name.
    UnknownLayerError
        An input that no layer has the name of.
    """
    connected: list[Layer] = []
    named: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        sources = layer["input_layers"]
        is_connected = sources is not None
        if sources is None:
            sources = (connected[-1].name,) if connected and layer.n_inputs != 0 else ()
        begins = layer["input_shape"] is not None and not connected and not is_connected
        if layer.n_inputs != 0 and begins:
            name, shape = f"{layer.name}/input_realized", layer["input_shape"]
            connected.append(create_layer("input", name=name, input_shape=shape))
            named[name], sources = (), (name,)
        if layer.name in named:
            raise DuplicateNameError(
                f"two layers are named {layer.name!r}; names must be unique",
                name=layer.name,
            )
        connected.append(layer)
        named[layer.name] = sources
    return connected, {
        name: tuple(read_output(name, source, named) for source in sources)
        for name, sources in named.items()
    }


def find_output(text: str, known: Container[str]) -> Output | None:
    """Return the output that ``layer`` or ``layer(index)`` names, or None."""
    if text in known:
        return Output(text)
    numbered = _NUMBERED.fullmatch(text)
    if numbered and numbered["layer"] in known:
        return Output(numbered["layer"], int(numbered["index"]))
    return None


def read_output(reader: str, source: str, known: Mapping[str, object]) -> Output:
    """Return the output that an entry of the ``input_layers`` of `reader` names.

    Raises
    ------
    UnknownLayerError
    """
    found = find_output(source, known)
    if found is None:
        raise UnknownLayerError(
            f"layer {reader!r} reads {source!r}, which does not exist"
            f"{nearest(source, known)}; the model has {quote(known)}",
            layer=reader,
            unknown=source,
        )
    return found


def check_connections(
    layers: Sequence[Layer], inputs: Inputs, *, needs_loss: bool = True
) -> None:
    """Refuse circles, and wrong numbers of inputs, losses or readers.

    Parameters
    ----------
    layers : sequence of Layer
    inputs : mapping
        Outputs that each layer reads, all of them known.
    needs_loss : bool
        False takes a model without a loss that ends in a single layer.

    Raises
    ------
    CycleError, GraphError, LossError, DanglingOutputError
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(layer.name for layer in layers)
    graph.add_edges_from((s.layer, name) for name, many in inputs.items() for s in many)
    try:
        cycle = [source for source, _ in nx.find_cycle(graph)]
    except nx.NetworkXNoCycle:
        cycle = []
    if cycle:
        raise CycleError(
            f"layers feed each other in a circle: "
            f"{listed([*cycle, cycle[0]], ' -> ')}; "
            "change the input_layers of one of them",
            cycle=tuple(cycle),
        )
    for layer in layers:
        _check_count(layer, inputs[layer.name])
    losses = [layer.name for layer in layers if layer.is_loss]
    if needs_loss and not losses:
        raise missing_loss()
    if not losses:
        _check_last(graph)
        return
    read = next((name for name in losses if graph.out_degree(name)), None)
    if read is not None:
        raise LossError(
            f"loss {read!r} is read by {quote(list(graph.successors(read)))}; a loss "
            "has to be the last layer of its branch: name what the next layer reads "
            "with input_layers",
            losses=tuple(losses),
        )
    dangling = [n for n in graph if not graph.out_degree(n) and n not in losses]
    if dangling:
        raise DanglingOutputError(
            f"nobody reads the output of {quote(dangling)}; connect it to a loss or "
            "remove it",
            layers=tuple(dangling),
        )


def missing_loss() -> LossError:
    """Return the error of a model that is to be trained and has no loss."""
    return LossError(
        "the model has 0 loss layers and needs at least one, for example mse or "
        "cross_softmax, as its last layer; without one it can predict: "
        "mode='inference' (--inference)",
        losses=(),
    )


def _check_last(graph: nx.DiGraph[str]) -> None:
    """Refuse a model without a loss that ends in several layers.

    Raises
    ------
    DanglingOutputError
    """
    last = [name for name in graph if not graph.out_degree(name)]
    if len(last) > 1:
        raise DanglingOutputError(
            f"nobody reads the outputs of {quote(last)}, and a model without a loss "
            "predicts what one last layer puts out; join them, for example with "
            "concat, remove all but one, or add a loss",
            layers=tuple(last),
        )


def _check_count(layer: Layer, inputs: tuple[Output, ...]) -> None:
    n, allowed = len(inputs), layer.n_inputs
    if isinstance(allowed, range):
        fits, wanted = n in allowed, f"{allowed.start} to {allowed.stop - 1}"
    elif allowed is None:
        fits, wanted = n > 0, "at least 1"
    else:
        fits, wanted = n == allowed, str(allowed)
    if not fits:
        names = tuple(source.layer for source in inputs)
        raise GraphError(
            f"layer {layer.name!r} ({layer.type_name}) takes {wanted} input(s) "
            f"and has {n} ({quote(names)}); set input_layers, or begin with an input "
            "layer",
            layer=layer.name,
            inputs=names,
        )


def order_layers(layers: Sequence[Layer], inputs: Inputs) -> list[Layer]:
    """Return the layers in topological order; ties go to the layer added first.

    Parameters
    ----------
    layers : sequence of Layer
    inputs : mapping
        Outputs that each layer reads, all of them known, without a circle.
    """
    graph = nx.DiGraph()
    place = {layer.name: i for i, layer in enumerate(layers)}
    graph.add_nodes_from(place)
    graph.add_edges_from((s.layer, name) for name, many in inputs.items() for s in many)
    ordered = nx.lexicographical_topological_sort(graph, key=place.__getitem__)
    return [layers[place[name]] for name in ordered]


def forward_order(layers: Sequence[Layer]) -> list[str] | None:
    """Return the names of `layers` in the order in which they run.

    None where they do not form a graph yet (a source still to be added).
    """
    try:
        connected, inputs = connect(layers)
        ordered = order_layers(connected, inputs)
    except (UnknownLayerError, nx.NetworkXUnfeasible):
        return None
    own = {layer.name for layer in layers}
    return [layer.name for layer in ordered if layer.name in own]
