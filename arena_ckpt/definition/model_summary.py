"""The summary of a model: what each layer makes, trains and takes.

A row stands for a layer as it was added; its parts, such as the steps of an unrolled
layer or an activation that was given on it, are counted with it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, overload

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.dtypes import FLOAT32, item_bytes, size_bytes
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.text_table import Column, html_table, text_table, used_columns
from arena_ckpt.common.units import format_bytes
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.connections import Output
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.spec import Shape, format_shape, n_elems
from arena_ckpt.optim.optimizers import Optimizer

TRAINED, FROZEN = "trained", "frozen"

COLUMNS = (
    Column("layer"),
    Column("type"),
    Column("reads"),
    Column("output"),
    Column("parameters", is_number=True),
    Column("activations", is_number=True),
    Column("weights"),
    Column("block"),
)
"""Columns of the table; those that no layer has anything for are left out."""


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """What is known of one layer before it runs.

    Attributes
    ----------
    name, type_name : str
    inputs : tuple of str
        Layers whose outputs it reads, ``"split(1)"`` for an output by its number.
    reads_previous : bool
        Whether its only input is the layer in the row before; true without inputs.
    output_shapes : tuple of tuple of int
        Channel, height and width of each output of one sample.
    n_parameters : int
        Elements of its own weights; 0 where it uses those of another layer.
    n_statistics : int
        Elements of its moving statistics or constants, which no optimizer changes.
    activation_bytes : int
        Bytes of its outputs and of what it saves for the backward pass, for all samples
        of a batch.
    weights : str or None
        ``"trained"``, ``"frozen"``, or None without weights.
    shares_with : str or None
        The layer whose weights it uses.
    block : str or None
        The checkpoint block that it is in.
    forward_flops, training_flops : int
        Operations for one sample: of the forward pass, and of all passes.
    n_frozen : int
        How many of its parameters are not trained, such as those beside a low-rank
        product.
    """

    name: str
    type_name: str
    inputs: tuple[str, ...]
    reads_previous: bool
    output_shapes: tuple[Shape, ...]
    n_parameters: int
    n_statistics: int
    activation_bytes: int
    weights: str | None
    shares_with: str | None
    block: str | None
    forward_flops: int
    training_flops: int
    n_frozen: int = 0

    def __repr__(self) -> str:
        return short_repr(
            self,
            self.name,
            self.type_name,
            f"output {self._output_text()}",
            counted(self.n_parameters, "parameter"),
            f"activations {format_bytes(self.activation_bytes)}",
        )

    def _output_text(self) -> str:
        """Return the shapes of the outputs, equal ones with how many there are."""
        shapes = [format_shape(shape) for shape in self.output_shapes]
        if len(shapes) > 1 and len(set(shapes)) == 1:
            return f"{len(shapes)} × {shapes[0]}"
        return ", ".join(shapes)

    def cells(self) -> list[str]:
        """Return a text for each of `COLUMNS`."""
        weights = f"of {self.shares_with}" if self.shares_with else self.weights or ""
        return [
            self.name,
            self.type_name,
            "" if self.reads_previous else ", ".join(self.inputs),
            self._output_text(),
            f"{self.n_parameters:,}" if self.n_parameters else "",
            f"{self.activation_bytes:,} B" if self.activation_bytes else "",
            weights,
            self.block or "",
        ]

    def to_row(self) -> dict[str, Any]:
        """Return the facts as plain values; see `ModelSummary.to_rows`."""
        return {
            "layer": self.name,
            "type": self.type_name,
            "inputs": ";".join(self.inputs),
            "output_shape": ";".join(map(format_shape, self.output_shapes)),
            "parameters": self.n_parameters,
            "statistics": self.n_statistics,
            "activation_bytes": self.activation_bytes,
            "weights": self.weights,
            "shares_with": self.shares_with,
            "block": self.block,
            "forward_flops": self.forward_flops,
            "training_flops": self.training_flops,
        }


@dataclass(frozen=True, slots=True)
class ModelSummary(Sequence[LayerSummary]):
    """The layers of a model with their sizes, and the totals.

    A sequence of `LayerSummary` in forward order that cannot change. ``print`` shows it
    as a table, and so does a notebook.

    Attributes
    ----------
    layers : tuple of LayerSummary
    batch_size : int
        Samples that the activations are for.
    optimizer : str
    n_states : int
        Number of states that the optimizer keeps for each trained weight.
    has_loss : bool
        Whether the model can be trained.
    """

    layers: tuple[LayerSummary, ...]
    batch_size: int
    optimizer: str
    n_states: int
    has_loss: bool

    @overload
    def __getitem__(self, index: int) -> LayerSummary: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LayerSummary]: ...
    def __getitem__(self, index: int | slice) -> LayerSummary | Sequence[LayerSummary]:
        """Return the row of a layer by its number, or several."""
        return self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def n_trained(self) -> int:
        """Number of parameters that are trained."""
        return sum(row.n_parameters - row.n_frozen for row in self.layers)

    @property
    def n_frozen(self) -> int:
        """Number of parameters that ``trainable=false`` keeps as they are."""
        return sum(row.n_frozen for row in self.layers)

    @property
    def n_statistics(self) -> int:
        """Number of elements of moving statistics and constants."""
        return sum(row.n_statistics for row in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters, moving statistics and constants."""
        n = self.n_trained + self.n_frozen + self.n_statistics
        return n * item_bytes(FLOAT32)

    @property
    def state_bytes(self) -> int:
        """Bytes of what the optimizer keeps for the trained weights."""
        return self.n_states * self.n_trained * item_bytes(FLOAT32)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the activations of all layers for a batch, if none shares memory."""
        return sum(row.activation_bytes for row in self.layers)

    @property
    def forward_flops(self) -> int:
        """Operations of the forward pass of a batch; a multiply-add counts two."""
        return self.batch_size * sum(row.forward_flops for row in self.layers)

    @property
    def training_flops(self) -> int:
        """Operations of the forward and the backward pass of a batch."""
        return self.batch_size * sum(row.training_flops for row in self.layers)

    def __repr__(self) -> str:
        return short_repr(
            self,
            "",
            counted(len(self), "layer"),
            counted(self.n_trained + self.n_frozen, "parameter"),
            f"{self.n_frozen:,} of them frozen" if self.n_frozen else "",
            f"weights {format_bytes(self.weight_bytes)}",
            f"activations {format_bytes(self.activation_bytes)}",
            f"batch size {self.batch_size:,}",
        )

    def to_totals(self) -> dict[str, int]:
        """Return the totals as plain values."""
        return {
            "trained": self.n_trained,
            "frozen": self.n_frozen,
            "statistics": self.n_statistics,
            "weight_bytes": self.weight_bytes,
            "state_bytes": self.state_bytes,
            "activation_bytes": self.activation_bytes,
            "forward_flops": self.forward_flops,
            "training_flops": self.training_flops,
        }

    def totals(self) -> list[str]:
        """Return the totals as sentences without an end."""
        frozen = f", {self.n_frozen:,} frozen" if self.n_frozen else ""
        is_given = any(row.n_statistics and not row.weights for row in self.layers)
        what = "that no optimizer changes" if is_given else "moving statistics"
        moving = f", {self.n_statistics:,} {what}" * bool(self.n_statistics)
        lines = [
            f"parameters   {self.n_trained:,} trained{frozen}{moving}",
            f"weights      {format_bytes(self.weight_bytes)}",
        ]
        if self.has_loss:
            states = format_bytes(self.state_bytes)
            lines.append(f"states       {states} of {self.optimizer}")
        batch = counted(self.batch_size, "sample")
        activations = format_bytes(self.activation_bytes)
        lines.append(f"activations  {activations} for a batch of {batch}")
        operations = f"{self.forward_flops:,} forward"
        if self.has_loss:
            operations += f", {self.training_flops:,} forward and backward"
        return [*lines, f"operations   {operations}"]

    def cells(self) -> tuple[list[Column], list[list[str]]]:
        """Return the columns that are used, and a row of texts for each layer."""
        return used_columns(COLUMNS, [row.cells() for row in self.layers])

    def __str__(self) -> str:
        """Return the table of layers and the totals as lines of plain text."""
        return "\n".join([*text_table(*self.cells()), "", *self.totals()])

    def _repr_html_(self) -> str:
        """Return the table of layers and the totals as HTML."""
        return html_table(*self.cells(), foot=self.totals())

    @public_call
    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row of plain values for each layer.

        Returns
        -------
        list of dict
            What ``pandas.DataFrame`` takes, with the keys `layer`, `type`, `inputs`
            (separated by ``;``), `output_shape` (``"1:1:64"``), `parameters`,
            `statistics`, `activation_bytes`, `weights` (``"trained"``, ``"frozen"`` or
            None), `shares_with`, `block`, `forward_flops` and `training_flops` (of one
            sample).
        """
        return [row.to_row() for row in self.layers]


def summarize(
    graph: Graph,
    added: Sequence[tuple[str, str]],
    *,
    batch_size: int,
    optimizer: Optimizer,
) -> ModelSummary:
    """Return the summary of a model.

    Parameters
    ----------
    graph : Graph
    added : sequence of (str, str)
        Name and type of each layer as it was added.
    batch_size : int
    optimizer : Optimizer

    Notes
    -----
    O(layers with their parts).
    """
    type_of = dict(added)
    parts: dict[str, list[Node]] = {}
    for node in graph.nodes:
        parts.setdefault(_owner(node.name, type_of), []).append(node)
    block_of = {name: block.name for block in graph.blocks for name in block.layers}
    rows: list[LayerSummary] = []
    for name, nodes in parts.items():
        previous = rows[-1].name if rows else None
        inputs = tuple(_inputs(name, nodes, type_of, graph))
        blocks = [block_of[node.name] for node in nodes if node.name in block_of]
        last = [node for node in nodes if node.layer.type_name != "multiout"] or nodes
        shared = {
            _owner(node.weights_of, type_of)
            for node in nodes
            if node.spec.weights and node.weights_of != node.name
        }
        rows.append(
            LayerSummary(
                name=name,
                type_name=type_of[name],
                inputs=inputs,
                reads_previous=inputs in ((), (previous,)),
                output_shapes=last[-1].spec.output_shapes,
                n_parameters=_n_weights(nodes, is_trained=True),
                n_statistics=_n_weights(nodes, is_trained=False),
                activation_bytes=sum(_activation_bytes(n, batch_size) for n in nodes),
                weights=_weights_text(nodes),
                shares_with=next(iter(sorted(shared - {name})), None),
                block=blocks[0] if blocks else None,
                forward_flops=sum(node.spec.flops.forward for node in nodes),
                training_flops=sum(map(_training_flops, nodes)),
                n_frozen=_n_frozen(nodes),
            )
        )
    n_states = len(optimizer.state_names)
    return ModelSummary(
        tuple(rows), batch_size, optimizer.type_name, n_states, graph.has_loss
    )


def _owner(node: str, added: Container[str]) -> str:
    """Return the added layer that a node is a part of: ``"lstm"`` of ``"lstm/7"``."""
    name = node
    while name not in added:
        name = name.rpartition("/")[0]
    return name


def _inputs(
    name: str, nodes: Sequence[Node], added: Container[str], graph: Graph
) -> dict[str, None]:
    """Return what a layer reads from others, without repetitions."""
    found: dict[str, None] = {}
    for node in nodes:
        for output in node.inputs:
            if _owner(output.layer, added) != name:
                found[_source(output, added, graph)] = None
    return found


def _source(output: Output, added: Container[str], graph: Graph) -> str:
    """Return an output as a user names it, also behind a multiout of ours."""
    owner = _owner(output.layer, added)
    node = graph.node(output.layer)
    if node.layer.is_alias and node.inputs and output.layer != owner:
        return _source(node.inputs[0], added, graph)
    return f"{owner}({output.index})" if output.index else owner


def _n_weights(nodes: Sequence[Node], *, is_trained: bool) -> int:
    return sum(
        n_elems(weight.shape)
        for node in nodes
        for weight in node.own_weights
        if weight.is_trained == is_trained
    )


def _n_frozen(nodes: Sequence[Node]) -> int:
    return sum(
        n_elems(weight.shape)
        for node in nodes
        for weight in node.own_weights
        if weight.is_trained and (weight.is_frozen or not node.trains)
    )


def _weights_text(nodes: Sequence[Node]) -> str | None:
    with_weights = [node for node in nodes if node.spec.trained_weights]
    if not with_weights:
        return None
    return TRAINED if any(node.trains for node in with_weights) else FROZEN


def _activation_bytes(node: Node, n_samples: int) -> int:
    is_made = not (node.layer.is_alias or node.layer.is_table)
    outputs = sum(map(n_elems, node.spec.output_shapes)) if is_made else 0
    saved = sum(
        (n_samples if tensor.per_sample else 1) * size_bytes(tensor.shape, tensor.dtype)
        for tensor in node.spec.tensors
        if tensor.is_saved
    )
    return n_samples * outputs * item_bytes(FLOAT32) + saved


def _training_flops(node: Node) -> int:
    flops = node.spec.flops
    gradient = flops.calc_gradient if node.trains else 0
    derivative = flops.calc_derivative if node.derived_inputs else 0
    return flops.forward + gradient + derivative
