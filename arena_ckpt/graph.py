"""The layers of a model in forward order, with shapes, weights and checkpoint blocks.

`build_graph` goes in stages: connect and check the layers as added (`connections`);
walk them in forward order, where each is expanded into its parts (an activation given
on a layer becomes a layer of its own, as in NNTrainer; an output with several readers
gets a `multiout`) and shapes are inferred; join layers that share weights; check that
derivatives reach whatever trains; check the blocks. It changes nothing that it is
given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from arena_ckpt.blocks import CheckpointBlock, check_block, check_consecutive
from arena_ckpt.connections import (
    Inputs,
    Output,
    check_connections,
    connect,
    order_layers,
    read_output,
)
from arena_ckpt.errors import (
    DanglingOutputError,
    DuplicateNameError,
    GraphError,
    SharedWeightsError,
)
from arena_ckpt.layers import create_layer
from arena_ckpt.layers.base import Layer, LayerSpec, Shape, WeightSpec, format_shape
from arena_ckpt.layers.loss import Loss
from arena_ckpt.lifespan import Phase
from arena_ckpt.properties import nearest, quote


@dataclass(frozen=True, slots=True)
class Node:
    """A layer in its place.

    Attributes
    ----------
    layer : Layer
    inputs : tuple of Output
        What it reads, in the order of its roles in0, in1, …
    sources : tuple of str
        The tensors behind them, ``"split:out1"``: those of a multiout are its input.
    input_shapes : tuple of Shape
    spec : LayerSpec
    weights_of : str
        The layer whose weights it uses: itself, unless it shares them.
    trains : bool
        It has weights to train and they are not frozen.
    updates : bool
        Its step of the update changes the weights: it trains, and of the layers that
        share them the backward pass comes to it last.
    wants_derivative : bool
        It or a layer before it trains, so the derivatives of its outputs are needed.
    derived_inputs : tuple of int
        The inputs whose derivatives it makes.
    """

    layer: Layer
    inputs: tuple[Output, ...]
    sources: tuple[str, ...]
    input_shapes: tuple[Shape, ...]
    spec: LayerSpec
    weights_of: str
    trains: bool
    updates: bool
    wants_derivative: bool
    derived_inputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.layer.name

    @property
    def outputs(self) -> tuple[str, ...]:
        """The tensors that the layer makes; none where its output is its input."""
        if self.layer.is_alias:
            return ()
        return tuple(f"{self.name}:out{k}" for k in range(len(self.spec.output_shapes)))

    @property
    def own_weights(self) -> tuple[WeightSpec, ...]:
        """Its weights, unless they are those of another layer."""
        return self.spec.weights if self.weights_of == self.name else ()

    def runs(self, phase: Phase) -> bool:
        """Tell whether a phase of the layer has anything to do."""
        if phase is Phase.CALC_GRADIENT:
            return self.trains
        if phase is Phase.APPLY_GRADIENT:
            return self.updates
        if phase is Phase.CALC_DERIVATIVE:
            return bool(self.derived_inputs)
        return not self.layer.is_alias


@dataclass(frozen=True, slots=True)
class Graph:
    """The layers in forward order, with exactly one loss at the end.

    Attributes
    ----------
    nodes : tuple of Node
        In forward order.
    blocks : tuple of CheckpointBlock
        Of the names of nodes, in forward order.
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
        """Return for each output tensor the layers that read it, in forward order."""
        readers: dict[str, list[str]] = {}
        for node in self.nodes:
            for output in node.outputs:
                readers[output] = []
            for source in dict.fromkeys(() if node.layer.is_alias else node.sources):
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
        Of the layers' names, or those of their parts.

    Returns
    -------
    Graph

    Raises
    ------
    GraphError
        No layers, a circle, no or several losses, an output that nobody reads,
        shapes that do not fit, weights that cannot be shared; each has its own class.
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
    connected, inputs = connect(layers)
    check_connections(connected, inputs)
    walk = _Walk(inputs)
    for layer in order_layers(connected, inputs):
        walk.add(layer)
    nodes = _share_weights(list(walk.nodes.values()), walk.parts)
    _check_outputs(nodes)
    return Graph(tuple(nodes), _place_blocks(blocks, walk.parts))


class _Walk:
    """Makes nodes of the layers, one after the other in forward order."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.nodes: dict[str, Node] = {}
        self.parts: dict[str, tuple[str, ...]] = {}
        self._stands_for: dict[Output, Output] = {}
        self._n_readers = Counter(o for many in inputs.values() for o in many)

    def add(self, layer: Layer) -> None:
        """Expand a layer and infer the shapes of its parts."""
        name = layer.name
        given = tuple(self._resolve(layer, output) for output in self.inputs[name])
        layer = layer.with_values(input_layers=_texts(given) or None)
        shapes = tuple(self._shape(output) for output in given)
        said = layer["input_shape"]
        if given and said is not None and said != shapes[0]:
            raise layer.mismatch(
                f"has input_shape={format_shape(said)} and reads "
                f"{format_shape(shapes[0])} from {given[0].layer!r}; leave input_shape "
                "out, it is for layers that begin a model",
                shapes=shapes,
            )
        parts = [
            piece for part in layer.expand(shapes) for piece in _split_activation(part)
        ]
        own = {part.name: part for part in parts}
        by_text = dict(zip(_texts(given), given, strict=True))
        names = []
        for part in parts:
            sources = tuple(
                by_text[text]
                if text in by_text and text not in own
                else read_output(part.name, text.removeprefix("="), own)
                for text in part["input_layers"] or ()
            )
            self._add_node(
                part.with_values(input_layers=_texts(sources) or None), sources
            )
            names.append(part.name)
        last = self.nodes[names[-1]]
        for index in range(len(last.spec.output_shapes)):
            output = self._stands_for[Output(name, index)] = Output(last.name, index)
            if self._n_readers[Output(name, index)] > 1 and not last.layer.is_alias:
                follower = f"{name}/generated_out_{index}"
                self._add_node(
                    create_layer("multiout", name=follower).with_values(
                        input_layers=_texts((output,))
                    ),
                    (output,),
                )
                self._stands_for[Output(name, index)] = Output(follower)
                names.append(follower)
        self.parts[name] = tuple(names)

    def _resolve(self, layer: Layer, output: Output) -> Output:
        """Return the part behind what was named."""
        source = self.nodes[self.parts[output.layer][0]].layer
        if source.type_name == "multiout":
            output = Output(output.layer)  # all outputs are the same
        if output not in self._stands_for:
            n = sum(known.layer == output.layer for known in self._stands_for)
            raise GraphError(
                f"layer {layer.name!r} reads output {output.index} of "
                f"{output.layer!r}, which has {n}, numbered from 0",
                layer=layer.name,
                output=output,
            )
        return self._stands_for[output]

    def _shape(self, output: Output) -> Shape:
        return self.nodes[output.layer].spec.output_shapes[output.index]

    def _tensor(self, output: Output) -> str:
        node = self.nodes[output.layer]
        if node.layer.is_alias:
            return node.sources[0]
        return f"{output.layer}:out{output.index}"

    def _add_node(self, layer: Layer, inputs: tuple[Output, ...]) -> None:
        if layer.name in self.nodes:
            raise DuplicateNameError(
                f"two layers are named {layer.name!r}; names must be unique (parts of "
                "a layer are named LAYER/PART)",
                name=layer.name,
            )
        shapes = tuple(self._shape(output) for output in inputs)
        spec = layer.infer(shapes)
        trains = layer.is_trainable and bool(spec.trained_weights)
        derived = tuple(
            index
            for index, output in enumerate(inputs)
            if index not in spec.fixed_inputs
            and self.nodes[output.layer].wants_derivative
        )
        self.nodes[layer.name] = Node(
            layer=layer,
            inputs=inputs,
            sources=tuple(self._tensor(output) for output in inputs),
            input_shapes=shapes,
            spec=spec,
            weights_of=layer.name,
            trains=trains,
            updates=trains,
            wants_derivative=trains or bool(derived),
            derived_inputs=() if layer.is_alias else derived,
        )


def _texts(outputs: Sequence[Output]) -> tuple[str, ...]:
    """Write outputs as ``input_layers`` does."""
    return tuple(f"{o.layer}({o.index})" if o.index else o.layer for o in outputs)


def _split_activation(layer: Layer) -> Iterator[Layer]:
    """Yield the layer, and the activation given on it as a layer of its own."""
    activation = layer.get("activation", "none")
    if layer.type_name == "activation" or activation == "none":
        yield layer
        return
    yield layer.with_values(activation="none")
    follower = create_layer(
        "activation", name=f"{layer.name}/activation_realized", activation=activation
    )
    yield follower.with_values(input_layers=(f"={layer.name}",))


def _share_weights(
    nodes: list[Node], parts: Mapping[str, tuple[str, ...]]
) -> list[Node]:
    """Give layers with ``shared_from`` the weights of the layer they name.

    Where that layer or this one is unrolled, of the parts that have weights the first
    shares those of the first, the second (the other direction) those of the second.

    Raises
    ------
    SharedWeightsError
    """
    known = {node.name: node for node in nodes}
    whole = {part: name for name, many in parts.items() for part in many}
    owner_of: dict[str, str] = {}
    for node in nodes:
        if node.layer.get("shared_from") is None:
            continue
        seen = [node.name]
        while (named := known[seen[-1]].layer.get("shared_from")) is not None:
            found = _find_shared(seen[-1], named, known, parts, whole)
            if found is None or found in seen:
                problem = (
                    "in a circle: "
                    + " -> ".join([*seen[seen.index(found) :], found])
                    + "; let one layer have weights of its own"
                    if found
                    else f"which does not exist{nearest(named, known)}"
                )
                raise SharedWeightsError(
                    f"layer {seen[-1]!r} shares the weights of {named!r}, {problem}",
                    layer=seen[-1],
                    shared_from=named,
                )
            seen.append(found)
        owner_of[node.name] = seen[-1]
    for name, owner in owner_of.items():
        _check_same_weights(known[name], known[owner])
    last: dict[str, str] = {}  # the first in forward order is the last in backward
    for node in reversed(nodes):
        if node.trains:
            last[owner_of.get(node.name, node.name)] = node.name
    return [
        replace(node, weights_of=owner, updates=last.get(owner) == node.name)
        for node in nodes
        for owner in (owner_of.get(node.name, node.name),)
    ]


def _find_shared(
    name: str,
    named: str,
    known: Mapping[str, Node],
    parts: Mapping[str, tuple[str, ...]],
    whole: Mapping[str, str],
) -> str | None:
    """Return the node that the ``shared_from`` of another means, if there is any.

    Raises
    ------
    SharedWeightsError
        The layers have weights for different numbers of directions.
    """
    theirs = parts.get(named, (named,) if named in known else ())
    if not theirs or whole[theirs[0]] == whole[name]:
        return named if named in known else None
    owners = [n for n in theirs if _has_own_weights(known[n], whole)] or [theirs[0]]
    mine = [n for n in parts[whole[name]] if known[n].layer.get("shared_from") == named]
    if len(mine) != len(owners):
        raise SharedWeightsError(
            f"layer {whole[name]!r} cannot share the weights of {named!r}: it needs "
            f"{len(mine)} sets of weights, one for each direction, that layer has "
            f"{len(owners)}; make both bidirectional, or none, and unroll both",
            layer=name,
            shared_from=named,
        )
    return owners[mine.index(name)]


def _has_own_weights(node: Node, whole: Mapping[str, str]) -> bool:
    """Tell whether a part has weights that are not those of another part."""
    named = node.layer.get("shared_from")
    return bool(node.spec.weights) and whole.get(named) != whole[node.name]


def _check_same_weights(node: Node, owner: Node) -> None:
    needs, has = (
        ", ".join(f"{w.name} {w.shape}" for w in n.spec.weights)
        + ("" if n.layer.is_trainable else ", frozen")
        for n in (node, owner)
    )
    if needs != has:
        raise SharedWeightsError(
            f"layer {node.name!r} cannot share the weights of {owner.name!r}: it needs "
            f"{needs}; that layer has {has}. Make them equal",
            layer=node.name,
            shared_from=owner.name,
        )


def _check_outputs(nodes: Sequence[Node]) -> None:
    """Refuse outputs that nobody reads, and weights that no derivative reaches.

    Raises
    ------
    DanglingOutputError, GraphError
    """
    readers: dict[str, list[Node]] = {o: [] for node in nodes for o in node.outputs}
    derived: set[str] = set()
    for node in nodes:
        if node.layer.is_alias:
            continue
        for source in node.sources:
            readers[source].append(node)
        derived.update(node.sources[index] for index in node.derived_inputs)
    for node in nodes:
        if node.layer.is_loss:
            continue
        for output in node.outputs:
            if not readers[output]:
                raise DanglingOutputError(
                    f"nobody reads output {output.rpartition('out')[2]} of "
                    f"{node.name!r}; connect it, or remove it",
                    layers=(node.name,),
                )
            if node.wants_derivative and output not in derived:
                names = [reader.name for reader in readers[output]]
                raise GraphError(
                    f"layer {node.name!r} cannot train: its output is read by "
                    f"{quote(names)} only, as numbers without a derivative (ids or a "
                    "mask); freeze it and what stands before it with trainable=false",
                    layer=node.name,
                    readers=tuple(names),
                )


def _place_blocks(
    blocks: Sequence[CheckpointBlock], parts: Mapping[str, tuple[str, ...]]
) -> tuple[CheckpointBlock, ...]:
    """Check blocks against the nodes, and name all parts of their layers."""
    order = [name for names in parts.values() for name in names]
    place = {name: index for index, name in enumerate(order)}
    known = {**{name: (name,) for name in order}, **parts}
    named = frozenset(name for block in blocks for name in block.layers)
    block_of: dict[str, CheckpointBlock] = {}
    expanded: list[CheckpointBlock] = []
    for block in blocks:
        check_block(block, known, {})
        names = tuple(
            part
            for name in block.layers
            # A layer stands for its followers as well, but those that a block names.
            for part in known[name]
            if part == name or part not in named or name not in place
        )
        whole = CheckpointBlock(names, block.name)
        check_block(whole, place, block_of)
        check_consecutive(names, place)
        block_of.update(dict.fromkeys(names, whole))
        expanded.append(whole)
    return tuple(sorted(expanded, key=lambda block: place[block.layers[0]]))
