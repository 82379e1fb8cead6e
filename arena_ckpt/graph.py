"""Layers as a validated graph in execution order, and the checkpoint blocks in it.

`build_graph` goes in stages: realize (an activation given on a layer becomes a layer
of its own, as in NNTrainer), connect, check the graph with networkx, order it, infer
shapes, check the blocks. It changes nothing that it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from arena_ckpt.errors import (
    BlockTooSmallError,
    CycleError,
    DanglingOutputError,
    DuplicateBlockLayerError,
    DuplicateNameError,
    GraphError,
    LossError,
    NonConsecutiveBlockError,
    OverlappingBlocksError,
    ReversedBlockError,
    UnknownBlockLayerError,
    UnknownLayerError,
)
from arena_ckpt.layers import create_layer
from arena_ckpt.layers.base import Layer, LayerSpec, Shape
from arena_ckpt.layers.loss import Loss
from arena_ckpt.properties import nearest


@dataclass(frozen=True, slots=True)
class CheckpointBlock:
    """Consecutive layers whose inner activations are dropped and recomputed.

    Attributes
    ----------
    layers : tuple of str
        At least two names, in forward order.
    name : str
        For reports and INI sections.
    """

    layers: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A layer in its place.

    Attributes
    ----------
    layer : Layer
    inputs : tuple of str
        Names of the layers whose outputs it reads, in role order in0, in1, …
    input_shapes : tuple of Shape
    spec : LayerSpec
    trains : bool
        It has weights and they are not frozen.
    wants_derivative : bool
        It or a layer before it trains, so the derivative of its output is needed.
    """

    layer: Layer
    inputs: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    spec: LayerSpec
    trains: bool
    wants_derivative: bool

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.layer.name


@dataclass(frozen=True, slots=True)
class Graph:
    """The layers in forward order, with exactly one loss at the end.

    Attributes
    ----------
    nodes : tuple of Node
        In forward order.
    blocks : tuple of CheckpointBlock
        Of realized layer names, in forward order.
    """

    nodes: tuple[Node, ...]
    blocks: tuple[CheckpointBlock, ...]
    _by_name: dict[str, Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name = {node.name: node for node in self.nodes}
        object.__setattr__(self, "_by_name", by_name)

    def node(self, name: str) -> Node:
        """Return the node of a layer."""
        return self._by_name[name]

    def readers(self) -> dict[str, tuple[str, ...]]:
        """Return for each layer those that read its output, in forward order."""
        readers: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                readers[source].append(node.name)
        return {name: tuple(names) for name, names in readers.items()}

    @property
    def loss(self) -> Node:
        """The loss layer."""
        return next(node for node in self.nodes if isinstance(node.layer, Loss))


def build_graph(layers: Sequence[Layer], blocks: Sequence[CheckpointBlock]) -> Graph:
    """Validate `layers` and `blocks` and put them in forward order.

    Parameters
    ----------
    layers : sequence of Layer
        In the order in which they were added, which breaks ties.
    blocks : sequence of CheckpointBlock
        Of the layers' names.

    Returns
    -------
    Graph

    Raises
    ------
    GraphError
        No layers, a circle, no or several losses, an output that nobody reads,
        shapes that do not fit; each has its own class.
    UnknownLayerError
        An input that no layer has the name of.
    CheckpointBlockError
        A block that cannot be.

    Notes
    -----
    O(layers + connections), with a log factor for ordering.
    """
    if not layers:
        raise GraphError("the model has no layers; add some with add_layer()")
    realized, parts = _realize(layers)
    inputs = _connect(realized, parts)
    _check_connections(realized, inputs)
    nodes = _infer_nodes(order_layers(realized, inputs), inputs)
    order = [node.name for node in nodes]
    expanded = []
    for block in blocks:
        check_block(block, [layer.name for layer in layers], ())
        names = tuple(part for name in block.layers for part in parts[name])
        check_consecutive(names, order)
        expanded.append(CheckpointBlock(names, block.name))
    expanded.sort(key=lambda block: order.index(block.layers[0]))
    return Graph(nodes, tuple(expanded))


def check_block(
    block: CheckpointBlock, known: Iterable[str], others: Iterable[CheckpointBlock]
) -> None:
    """Refuse a block that is too small, unknown, repeats a layer or overlaps.

    Raises
    ------
    BlockTooSmallError, UnknownBlockLayerError, DuplicateBlockLayerError,
    OverlappingBlocksError
    """
    names = block.layers
    known = list(known)
    if len(names) < 2:
        raise BlockTooSmallError(
            f"a checkpoint block needs at least 2 layers, got {len(names)} "
            f"({_quote(names)}); a single layer has nothing inside to drop",
            layers=names,
        )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UnknownBlockLayerError(
            f"checkpoint block {_quote(names)}: unknown layer {_quote(unknown)}"
            f"{nearest(unknown[0], known)}; the model has {_quote(known)}",
            layers=names,
            unknown=tuple(unknown),
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DuplicateBlockLayerError(
            f"checkpoint block {_quote(names)}: {_quote(repeated)} is named more than "
            "once; name each layer once",
            layers=names,
            repeated=tuple(repeated),
        )
    for other in others:
        shared = [name for name in names if name in other.layers]
        if shared:
            raise OverlappingBlocksError(
                f"checkpoint block {_quote(names)}: {_quote(shared)} is already in "
                f"block {_quote(other.layers)}; a layer can be in one block only",
                layers=names,
                shared=tuple(shared),
                other=other.layers,
            )


def check_consecutive(names: Sequence[str], order: Sequence[str]) -> None:
    """Refuse names that do not follow each other in `order`.

    Raises
    ------
    ReversedBlockError, NonConsecutiveBlockError
    """
    places = [order.index(name) for name in names]
    first = min(places)
    if places == list(range(first, first + len(places))):
        return
    error = NonConsecutiveBlockError
    if places == sorted(places, reverse=True):
        error = ReversedBlockError
        advice = "they stand in reversed order; name them in forward order"
    elif sorted(places) == list(range(first, first + len(places))):
        advice = "they are not in forward order, which is " + _quote(
            order[first : first + len(places)]
        )
    else:
        between = [n for n in order[first : max(places)] if n not in names]
        advice = f"between them run {_quote(between)}; add these, or make two blocks"
    raise error(
        f"Layers in checkpoint block must be consecutive: {_quote(names)}; {advice}",
        layers=tuple(names),
        order=tuple(order),
    )


def _realize(
    layers: Sequence[Layer],
) -> tuple[list[Layer], dict[str, tuple[str, ...]]]:
    """Split layers that stand for several; return them and the parts of each name."""
    realized: list[Layer] = []
    parts: dict[str, tuple[str, ...]] = {}
    previous: str | None = None
    for layer in layers:
        name = layer.name
        sources = layer["input_layers"]
        if layer.n_inputs != 0 and sources is None:
            sources = (previous,) if previous else None
        shape = layer["input_shape"]
        if layer.n_inputs != 0 and shape is not None and not realized:
            source = f"{name}/input_realized"
            realized.append(create_layer("input", name=source, input_shape=shape))
            parts[source], sources = (source,), (source,)
        parts[name] = (name,)
        layer = layer.with_values(input_layers=sources)
        activation = layer.get("activation", "none")
        if layer.type_name != "activation" and activation != "none":
            follower = f"{name}/activation_realized"
            parts[name] = (name, follower)
            realized.append(layer.with_values(activation="none"))
            layer = create_layer("activation", name=follower, activation=activation)
            layer = layer.with_values(input_layers=(f"={name}",))
        realized.append(layer)
        previous = name
    counts = Counter(layer.name for layer in realized)
    repeated = next((name for name, n in counts.items() if n > 1), None)
    if repeated:
        raise DuplicateNameError(
            f"two layers are named {repeated!r}; names must be unique (an activation "
            "given on a layer makes one named LAYER/activation_realized)",
            name=repeated,
        )
    return realized, parts


def _connect(
    realized: Sequence[Layer], parts: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Return the layers that each layer reads: the last part of what was named."""
    known = [layer.name for layer in realized]
    inputs: dict[str, tuple[str, ...]] = {}
    for layer in realized:
        sources = []
        for name in layer["input_layers"] or ():
            if name.startswith("="):  # a part reads the part before it
                sources.append(name[1:])
            elif name in parts:
                sources.append(parts[name][-1])
            else:
                raise UnknownLayerError(
                    f"layer {layer.name!r} reads {name!r}, which does not exist"
                    f"{nearest(name, known)}; the model has {_quote(known)}",
                    layer=layer.name,
                    unknown=name,
                )
        inputs[layer.name] = tuple(sources)
    return inputs


def _check_connections(
    realized: Sequence[Layer], inputs: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuse circles, wrong numbers of inputs, losses or readers."""
    graph = nx.DiGraph()
    graph.add_nodes_from(layer.name for layer in realized)
    graph.add_edges_from((s, name) for name, many in inputs.items() for s in many)
    try:
        cycle = [source for source, _ in nx.find_cycle(graph)]
    except nx.NetworkXNoCycle:
        cycle = []
    if cycle:
        raise CycleError(
            f"layers feed each other in a circle: {' -> '.join([*cycle, cycle[0]])}; "
            "change the input_layers of one of them",
            cycle=tuple(cycle),
        )
    for layer in realized:
        n = len(inputs[layer.name])
        if (layer.n_inputs is None and n == 0) or layer.n_inputs not in (None, n):
            wanted = "at least 1" if layer.n_inputs is None else str(layer.n_inputs)
            raise GraphError(
                f"layer {layer.name!r} ({layer.type_name}) takes {wanted} input(s) "
                f"and has {n} ({_quote(inputs[layer.name])}); set input_layers, or "
                "begin with an input layer",
                layer=layer.name,
                inputs=inputs[layer.name],
            )
    losses = [layer.name for layer in realized if layer.is_loss]
    if len(losses) != 1:
        raise LossError(
            f"the model has {len(losses)} loss layers ({_quote(losses)}) and needs "
            "exactly one, for example mse or cross_softmax, as its last layer",
            losses=tuple(losses),
        )
    if graph.out_degree(losses[0]):
        raise LossError(
            f"loss {losses[0]!r} is read by {_quote(list(graph.successors(losses[0])))}"
            "; a loss has to be the last layer",
            losses=tuple(losses),
        )
    dangling = [n for n in graph if not graph.out_degree(n) and n != losses[0]]
    if dangling:
        raise DanglingOutputError(
            f"nobody reads the output of {_quote(dangling)}; connect it to the loss or "
            "remove it",
            layers=tuple(dangling),
        )


def order_layers(
    realized: Sequence[Layer], inputs: Mapping[str, tuple[str, ...]]
) -> list[Layer]:
    """Return the layers in topological order; of several, the first added goes first.

    Parameters
    ----------
    realized : sequence of Layer
    inputs : mapping
        For each layer name the names of layers it reads, all known, without a circle.
    """
    graph = nx.DiGraph()
    place = {layer.name: i for i, layer in enumerate(realized)}
    graph.add_nodes_from(place)
    graph.add_edges_from((s, name) for name, many in inputs.items() for s in many)
    ordered = nx.lexicographical_topological_sort(graph, key=place.__getitem__)
    return [realized[place[name]] for name in ordered]


def _infer_nodes(
    ordered: Sequence[Layer], inputs: Mapping[str, tuple[str, ...]]
) -> tuple[Node, ...]:
    nodes: dict[str, Node] = {}
    for layer in ordered:
        layer = layer.with_values(input_layers=inputs[layer.name] or None)
        sources = [nodes[name] for name in inputs[layer.name]]
        shapes = tuple(source.spec.output_shape for source in sources)
        spec = layer.infer(shapes)
        trains = layer.is_trainable and bool(spec.weights)
        nodes[layer.name] = Node(
            layer=layer,
            inputs=inputs[layer.name],
            input_shapes=shapes,
            spec=spec,
            trains=trains,
            wants_derivative=trains or any(s.wants_derivative for s in sources),
        )
    return tuple(nodes.values())


def forward_order(layers: Sequence[Layer]) -> list[str] | None:
    """Return the forward order of the user's layers, realized parts left out.

    None where the layers do not form a graph yet (a source still to be added).
    """
    realized, parts = _realize(layers)
    try:
        inputs = _connect(realized, parts)
        ordered = order_layers(realized, inputs)
    except (UnknownLayerError, nx.NetworkXUnfeasible):
        return None
    own = {layer.name for layer in layers}
    return [layer.name for layer in ordered if layer.name in own]


def _quote(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
