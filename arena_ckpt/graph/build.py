"""Builds the graph of a model: layers in forward order, shapes, weights and blocks.

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

from arena_ckpt.common.arithmetics import FAST
from arena_ckpt.common.names import output_role, tensor_name
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.wording import quote
from arena_ckpt.errors import (
    DanglingOutputError,
    DuplicateNameError,
    GraphError,
)
from arena_ckpt.graph.blocks import CheckpointBlock, check_block, check_consecutive
from arena_ckpt.graph.connections import (
    Inputs,
    Output,
    check_connections,
    connect,
    missing_loss,
    order_layers,
    read_output,
)
from arena_ckpt.graph.nodes import Node
from arena_ckpt.graph.shared_weights import share_weights
from arena_ckpt.graph.table_inputs import with_tables
from arena_ckpt.layers import create_layer
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.hooks import expand_layer, infer_spec
from arena_ckpt.layers.loss import Loss
from arena_ckpt.layers.spec import LayerSpec, Shape, format_shape, n_elems

MOST_OUTPUTS = 2**16
"""Maximum number of outputs of all layers and their parts.

A short text can ask for any number of steps of a recurrent layer.
"""


@dataclass(frozen=True, slots=True)
class Graph:
    """The layers in forward order; the last one is a loss, or what predicts.

    Attributes
    ----------
    nodes : tuple of Node
        Layers in forward order.
    blocks : tuple of CheckpointBlock
        Checkpoint blocks of names of nodes, in forward order.
    arithmetic : str
        ``"fast"`` or ``"portable"``: which kernels run it, and so which workspaces
        there are.
    threads : int
        Threads that share the work of large kernels; some workspaces are for each.
    """

    nodes: tuple[Node, ...]
    blocks: tuple[CheckpointBlock, ...]
    arithmetic: str = FAST
    threads: int = 1
    _by_name: dict[str, Node] = field(init=False, repr=False, compare=False)
    tables: dict[str, str] = field(init=False, repr=False, compare=False)
    """By the output of each table, the weight that holds it."""

    def __repr__(self) -> str:
        return short_repr(
            self,
            "",
            counted(len(self.nodes), "layer"),
            counted(len(self.blocks), "checkpoint block") if self.blocks else "",
            "with a loss" if self.has_loss else "without a loss",
            f"{self.arithmetic} arithmetic",
        )

    def __post_init__(self) -> None:
        by_name = {node.name: node for node in self.nodes}
        object.__setattr__(self, "_by_name", by_name)
        tables = {n.outputs[0]: n.table for n in self.nodes if n.table is not None}
        object.__setattr__(self, "tables", tables)

    def node(self, name: str) -> Node:
        """Return the node of a layer."""
        return self._by_name[name]

    def readers(self) -> dict[str, tuple[str, ...]]:
        """Return the layers that read each output tensor, in forward order."""
        readers: dict[str, list[str]] = {}
        for node in self.nodes:
            for output in node.outputs:
                readers[output] = []
            for source in dict.fromkeys(() if node.layer.is_alias else node.sources):
                readers[source].append(node.name)
        return {name: tuple(names) for name, names in readers.items()}

    @property
    def n_parameters(self) -> int:
        """Number of elements of all weights that have gradients unless frozen.

        Shared weights count once. Moving statistics are no parameters.
        """
        return sum(
            n_elems(weight.shape)
            for node in self.nodes
            for weight in node.own_weights
            if weight.is_trained
        )

    @property
    def has_loss(self) -> bool:
        """Whether there is a loss; without one the model can only predict."""
        return self.nodes[-1].layer.is_loss

    @property
    def losses(self) -> tuple[Node, ...]:
        """The nodes of the losses, in forward order; empty where there is none."""
        return tuple(node for node in self.nodes if node.layer.is_loss)

    @property
    def takes_labels(self) -> bool:
        """Whether any loss compares its input with labels."""
        return any(loss_of(node).takes_label for node in self.losses)

    @property
    def has_several_losses(self) -> bool:
        """Whether labels, predictions and losses come by the names of losses."""
        return len(self.losses) > 1

    @property
    def loss(self) -> Node:
        """The node of the loss, of several of the last.

        Raises
        ------
        LossError
            The model has none.
        """
        self.require_loss()
        return self.nodes[-1]

    def require_loss(self) -> None:
        """Refuse a model that cannot be trained, as it has no loss.

        Raises
        ------
        LossError
        """
        if not self.has_loss:
            raise missing_loss()

    @property
    def loss_layer(self) -> Loss:
        """The loss layer as what it is: a `Loss`, which says what labels it takes."""
        return loss_of(self.loss)

    @property
    def predictions(self) -> tuple[str, ...]:
        """The tensors that the model predicts: of each loss, or of its last layer."""
        if self.has_several_losses:
            return tuple(node.outputs[0] for node in self.losses)
        return (self.prediction,)

    @property
    def prediction(self) -> str:
        """The tensor that the model predicts: the output of its last layer."""
        last = self.nodes[-1]
        return last.sources[0] if last.layer.is_alias else last.outputs[0]

    @property
    def prediction_shape(self) -> Shape:
        """The shape of one sample of what the model predicts."""
        return self.nodes[-1].spec.output_shapes[0]


def loss_of(node: Node) -> Loss:
    """Return the layer of a loss as what it is."""
    assert isinstance(node.layer, Loss)
    return node.layer


def build_graph(
    layers: Sequence[Layer],
    blocks: Sequence[CheckpointBlock],
    *,
    needs_loss: bool = True,
    arithmetic: str = FAST,
    threads: int = 1,
) -> Graph:
    """Validate `layers` and `blocks` and put them in forward order.

    Parameters
    ----------
    layers : sequence of Layer
        Layers in the order in which they were added, which breaks ties.
    blocks : sequence of CheckpointBlock
        Checkpoint blocks of names of layers or of their parts.
    needs_loss : bool
        False takes a model without a loss, which can only predict.
    arithmetic : str
        ``"fast"`` or ``"portable"``.
    threads : int
        Threads that share the work of large kernels.

    Returns
    -------
    Graph

    Raises
    ------
    GraphError
        No layers, a circle, no loss, an output that nobody reads,
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
    check_connections(connected, inputs, needs_loss=needs_loss)
    walk = _Walk(inputs, arithmetic, threads)
    for layer in order_layers(connected, inputs):
        walk.add(layer)
    nodes = share_weights(list(walk.nodes.values()), walk.parts)
    nodes = _with_unread(nodes)
    _check_outputs(nodes)
    return Graph(tuple(nodes), _place_blocks(blocks, walk.parts), arithmetic, threads)


class _Walk:
    """Makes the nodes of layers, one after the other in forward order."""

    def __init__(self, inputs: Inputs, arithmetic: str, threads: int) -> None:
        self.inputs = inputs
        self._arithmetic = arithmetic
        self._threads = threads
        self.nodes: dict[str, Node] = {}
        self.parts: dict[str, tuple[str, ...]] = {}
        self._n_outputs = 0
        self._tables: set[str] = set()
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
            piece
            for part in expand_layer(layer, shapes)
            for piece in _split_activation(part)
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
        """Return the part of a layer that makes an output which a user has named."""
        source = self.nodes[self.parts[output.layer][0]].layer
        if source.is_alias:
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
        return tensor_name(output.layer, output_role(output.index))

    def _add_node(self, layer: Layer, inputs: tuple[Output, ...]) -> None:
        if layer.name in self.nodes:
            raise DuplicateNameError(
                f"two layers are named {layer.name!r}; names must be unique (parts of "
                "a layer are named LAYER/PART)",
                name=layer.name,
            )
        shapes = tuple(self._shape(output) for output in inputs)
        spec = _needed(infer_spec(layer, shapes), self._arithmetic, self._threads)
        sources = tuple(self._tensor(output) for output in inputs)
        spec = with_tables(layer, spec, [source in self._tables for source in sources])
        self._n_outputs += max(1, len(spec.output_shapes))
        if self._n_outputs > MOST_OUTPUTS:
            raise GraphError(
                f"the layers with their parts have more than {MOST_OUTPUTS:,} outputs "
                f"at {layer.name!r}; leave unroll=true out, split into fewer parts, or "
                "use fewer layers",
                layer=layer.name,
            )
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
            sources=sources,
            input_shapes=shapes,
            spec=spec,
            weights_of=layer.name,
            trains=trains,
            updates=trains,
            wants_derivative=trains or bool(derived),
            derived_inputs=() if layer.is_alias else derived,
        )
        if layer.is_table:
            self._tables.update(self.nodes[layer.name].outputs)


def _needed(spec: LayerSpec, arithmetic: str, threads: int) -> LayerSpec:
    """Leave out the tensors that only kernels of the other arithmetic need.

    Those that each thread has one of become as long as all of them.
    """
    tensors = tuple(t for t in spec.tensors if t.arithmetic in (None, arithmetic))
    if threads > 1:
        tensors = tuple(t.for_threads(threads) for t in tensors)
    return spec if tensors == spec.tensors else replace(spec, tensors=tensors)


def _texts(outputs: Sequence[Output]) -> tuple[str, ...]:
    """Return outputs as they are written in ``input_layers``."""
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


def _with_unread(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes with those of their optional outputs that nobody reads."""
    read = {source for node in nodes for source in node.sources}
    return [
        replace(
            node,
            unread=frozenset(
                output
                for index, output in enumerate(node.outputs)
                if index in node.spec.optional_outputs and output not in read
            ),
        )
        if node.spec.optional_outputs and node is not nodes[-1]
        else node
        for node in nodes
    ]


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
    last = nodes[-1]
    has_loss = last.layer.is_loss
    predicted = last.sources if last.layer.is_alias else last.outputs
    for node in nodes:
        for output in node.outputs:
            if (output,) == (node.outputs if node.layer.is_loss else predicted):
                continue
            if output in node.unread:
                continue
            if not readers[output]:
                raise DanglingOutputError(
                    f"nobody reads output {output.rpartition('out')[2]} of "
                    f"{node.name!r}; connect it, or remove it",
                    layers=(node.name,),
                )
            if has_loss and node.wants_derivative and output not in derived:
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
    """Return the checkpoint blocks with the parts of their layers, checked."""
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
            for part in _meant(name, known[name], block.layers, named)
        )
        whole = CheckpointBlock(names, block.name)
        check_block(whole, place, block_of)
        check_consecutive(names, place)
        block_of.update(dict.fromkeys(names, whole))
        expanded.append(whole)
    return tuple(sorted(expanded, key=lambda block: place[block.layers[0]]))


def _meant(
    name: str, parts: tuple[str, ...], block: tuple[str, ...], named: frozenset[str]
) -> tuple[str, ...]:
    """Return the parts of a layer that belong to its block.

    An unrolled layer stands for all. Another stands for itself and its followers, but
    those that other blocks name; or for itself, where its own block names some.
    """
    if name not in parts:
        return parts
    followers = tuple(part for part in parts if part != name)
    if not set(block).isdisjoint(followers):
        return (name,)
    return (name, *(part for part in followers if part not in named))
