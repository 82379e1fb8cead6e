"""Finds what a model probably does not mean as it says it, in its graph alone.

A model with a hint can be trained, and now and then it is meant so. There are few
kinds, each a mistake that people make and do not notice:

=====================  ==============================================================
kind                   what the layers do
=====================  ==============================================================
squashed_twice         a softmax or sigmoid stands before a loss that holds one
missing_flatten        classes are predicted for each row of a picture
dense_of_rows          a dense layer takes each row of a picture by itself
softmax_over_width     the softmax of the loss goes along the rows of a picture
columns_as_features    batch normalization takes each column of a picture by itself
schedule_restarts      the learning rate jumps back to its maximum within a training
=====================  ==============================================================

What a tensor is can only be guessed from the layers that make and read it: it is a
*picture* where a layer that reads pictures makes or reads it, through layers that keep
the meaning of the axes (`Layer.reads`, `Layer.keeps_axes`). A graph that says nothing
either way gets no hint.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from arena_ckpt.common.short_repr import brief_repr
from arena_ckpt.graph.build import Graph, loss_of
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.activation import Activation
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.dense import FullyConnected
from arena_ckpt.layers.loss import (
    CrossEntropySigmoid,
    CrossEntropySoftmax,
)
from arena_ckpt.layers.normalization import BatchNormalization
from arena_ckpt.layers.spec import Shape, format_shape, n_elems
from arena_ckpt.layers.tokens import Dropout
from arena_ckpt.optim.learning_rates import Schedule

RESTARTS = "schedule_restarts"
"""Kind of the hint that a schedule starts again; it names no layer."""

SQUASHES = ("softmax", "sigmoid")
"""Activations whose results lie between 0 and 1, as those of a cross entropy do."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A part of a model that probably is not meant so, and what to do about it.

    Attributes
    ----------
    kind : str
        See the module.
    layers : tuple of str
        The layers it is about, in forward order; none where it is about the schedule.
    message : str
        What, where, the numbers, and what to do.
    """

    kind: str
    layers: tuple[str, ...]
    message: str

    __repr__ = brief_repr


def graph_hints(graph: Graph) -> tuple[Hint, ...]:
    """Return the hints about the layers of a model, in forward order.

    Notes
    -----
    O(layers + connections).
    """
    facts = Facts(graph)
    found = [
        _columns_as_features(node, facts)
        for node in graph.nodes
        if isinstance(node.layer, BatchNormalization)
    ]
    of_losses = {node.name: _rows_of_loss(graph, node, facts) for node in graph.losses}
    has_rows = any(node.layer.get("per_token") for node in graph.losses)
    kinds = {hint.kind for hint in of_losses.values() if hint is not None}
    if not has_rows and "missing_flatten" not in kinds:
        found += [_dense_of_rows(node, facts) for node in graph.nodes]
    for loss in graph.losses:
        found += [of_losses[loss.name], _squashed_twice(loss, facts)]
    return tuple(hint for hint in found if hint is not None)


def restart_hint(
    schedule: Schedule | None, start: int, stop: int, *, is_least: bool = False
) -> Hint | None:
    """Return the hint that a schedule starts again before the training ends.

    Parameters
    ----------
    schedule : Schedule or None
    start, stop : int
        Half-open range of the iterations of the training.
    is_least : bool
        The training has these iterations and perhaps more.
    """
    restart = None if schedule is None else schedule.first_restart(start, stop)
    if schedule is None or restart is None:
        return None
    before, after = map(schedule.learning_rate_at, (restart - 1, restart))
    ends = f"this training ends after iteration {stop - 1:,}"
    steps = f"decay_steps={stop}"
    if is_least:
        ends = f"{stop:,} epochs have at least {stop:,} iterations"
        steps = "decay_steps to the number of iterations of the training"
    return Hint(
        RESTARTS,
        (),
        f"the {schedule.type_name} schedule starts again at iteration {restart:,}, "
        f"where the learning rate rises from {before:.4g} to {after:.4g}, and {ends}: "
        f"what the low rate has gained is lost there. Set {steps} for a single fall, "
        "unless restarts are what you want",
    )


def reading_of_rows(graph: Graph, loss: Node) -> str | None:
    """Return how a loss reads several rows of a sample, and how to make them one.

    None where it reads one row. For messages about labels that do not fit.
    """
    shape = loss.input_shapes[0]
    channel, height, width = shape
    axis = loss_of(loss).class_axis
    if n_elems(shape) == shape[axis - 1]:
        return None
    if axis != 3:
        return (
            f"the loss reads a class of {shape[axis - 1]} along axis {axis} of "
            f"{format_shape(shape)}; set per_token=true for one class number each"
        )
    maker = Facts(graph).maker(loss.sources[0], _keeps_axes)
    name = _name(maker)
    way_out = f"add flatten before {loss.name!r}"
    if _is_dense(maker):
        way_out = f"add flatten before {name!r}"
    elif maker.layer.get("return_sequences"):
        way_out = f"set return_sequences=false at {name!r}"
    return f"the loss reads {name!r} as {channel} × {height} rows of {width}; {way_out}"


class Facts:
    """What the layers that make and read a tensor say about it."""

    def __init__(self, graph: Graph) -> None:
        self.maker_of = {name: node for node in graph.nodes for name in node.outputs}
        self.pictures: set[str] = set()
        """Outputs of layers of pictures, and what keeps their shape."""

        self.rows: set[str] = set()
        """Outputs whose rows are those of the data or of a picture."""

        self.read_as_picture: set[str] = set()
        self.read_as_sequence: set[str] = set()
        for node in graph.nodes:
            self._look_at_outputs(node)
        for node in reversed(graph.nodes):
            self._look_at_inputs(node)

    def _look_at_outputs(self, node: Node) -> None:
        layer = node.layer
        makes_pictures = layer.reads == "pictures"
        if makes_pictures:
            self.pictures.update(node.outputs)
        elif layer.keeps_axes:
            for output, sources in _same_shape(node):
                if not self.pictures.isdisjoint(sources):
                    self.pictures.add(output)
                if not self.rows.isdisjoint(sources):
                    self.rows.add(output)
        is_data = node.is_data
        keeps_rows = _is_dense(node) and node.sources[0] in self.rows
        if is_data or makes_pictures or keeps_rows:
            self.rows.update(node.outputs)

    def _look_at_inputs(self, node: Node) -> None:
        layer = node.layer
        if layer.reads == "pictures":
            self.read_as_picture.update(node.sources[:1])
        elif layer.reads == "sequences":
            self.read_as_sequence.update(node.sources)
        elif layer.keeps_axes:
            for output, sources in _same_shape(node):
                for read in (self.read_as_picture, self.read_as_sequence):
                    if output in read:
                        read.update(sources)

    def maker(self, tensor: str, is_passed: Callable[[Layer], bool]) -> Node:
        """Return the layer that makes a tensor, before all layers that are passed.

        Parameters
        ----------
        tensor : str
        is_passed : callable
            Tells of a layer whether the walk goes on to what it reads: to the input of
            the same number where it makes as many outputs, else to the first.
        """
        node = self.maker_of[tensor]
        while is_passed(node.layer):
            is_paired = len(node.sources) == len(node.outputs)
            index = node.outputs.index(tensor) if is_paired else 0
            tensor = node.sources[index]
            node = self.maker_of[tensor]
        return node


def _same_shape(node: Node) -> list[tuple[str, tuple[str, ...]]]:
    """Return for each output the sources of its shape that it is made from."""
    inputs = list(zip(node.sources, node.input_shapes, strict=True))
    outputs = list(zip(node.outputs, node.spec.output_shapes, strict=True))
    is_paired = len(inputs) == len(outputs)
    return [
        (
            output,
            tuple(
                source
                for source, its_shape in (inputs[i : i + 1] if is_paired else inputs)
                if its_shape == shape
            ),
        )
        for i, (output, shape) in enumerate(outputs)
    ]


def _keeps_axes(layer: Layer) -> bool:
    return layer.keeps_axes


def _keeps_values(layer: Layer) -> bool:
    """Return whether the results are values of the input; dropout only scales them."""
    return layer.moves_elements or isinstance(layer, Dropout)


def _is_dense(node: Node) -> bool:
    return isinstance(node.layer, FullyConnected)


def _name(node: Node) -> str:
    """Return the name by which the user knows a layer."""
    return node.name.removesuffix("/activation_realized")


# -- the kinds -------------------------------------------------------------------------


def _squashed_twice(loss: Node, facts: Facts) -> Hint | None:
    """Find a softmax or sigmoid before a loss that applies one itself."""
    if not isinstance(loss.layer, CrossEntropySoftmax | CrossEntropySigmoid):
        return None
    tensor = loss.sources[0]
    node = facts.maker(tensor, _keeps_values)
    while isinstance(node.layer, Activation) and node.layer["activation"] == "none":
        node = facts.maker(node.sources[0], _keeps_values)
    kind = node.layer.get("activation")
    if not isinstance(node.layer, Activation) or kind not in SQUASHES:
        return None
    name = _name(node)
    own = loss.layer.type_name.removeprefix("cross_")
    again = f"a {own} of its own" if own == kind else f"a {own} to that"
    way_out = (
        f"leave {name!r} out"
        if name == node.name
        else f"set activation=none at {name!r}"
    )
    return Hint(
        "squashed_twice",
        (name, loss.name),
        f"layer {name!r} ends with a {kind}, and the loss {loss.name!r} "
        f"({loss.layer.type_name}) applies {again}: {_reach(loss)}; {way_out}, predict "
        "gives probabilities all the same",
    )


def _reach(loss: Node) -> str:
    """Return which probabilities a loss can predict from values between 0 and 1."""
    if isinstance(loss.layer, CrossEntropySigmoid):
        most = math.e / (math.e + 1)
        return f"every output stays between 50 % and {100 * most:.0f} %"
    assert isinstance(loss.layer, CrossEntropySoftmax)
    width = loss.input_shapes[0][loss.layer.class_axis - 1]
    if width == 1:
        return "a single class always gets 100 %"
    most = math.e / (math.e + width - 1)
    return f"no class of {width} can get more than {100 * most:.0f} %"


def _rows_of_loss(graph: Graph, loss: Node, facts: Facts) -> Hint | None:
    """Find a cross_softmax over rows that a picture left behind."""
    layer, shape = loss.layer, loss.input_shapes[0]
    reading = reading_of_rows(graph, loss)
    if not isinstance(layer, CrossEntropySoftmax) or reading is None:
        return None
    if layer.class_axis != 3:
        return None
    maker = facts.maker(loss.sources[0], _keeps_axes)
    layers = (_name(maker), loss.name)
    channel, height, width = shape
    if _is_dense(maker):
        if layer["per_token"] or maker.outputs[0] not in facts.rows:
            return None
        return Hint(
            "missing_flatten",
            layers,
            f"{reading}, so that a sample has one row of classes (where each row has a "
            f"class of its own, set per_token=true at {loss.name!r})",
        )
    if channel == 1 or loss.sources[0] not in facts.pictures:
        return None
    if (height, width) == (1, 1):
        return Hint(
            "softmax_over_width",
            layers,
            f"{reading}: the softmax of a single value is always 1",
        )
    return Hint(
        "softmax_over_width",
        layers,
        f"the loss {loss.name!r} takes its softmax over the {width} columns of "
        f"{layers[0]!r}, a picture {format_shape(shape)}, and not over its {channel} "
        f"channels; set axis=1 at {loss.name!r}, and per_token=true for a class at "
        "each pixel",
    )


def _dense_of_rows(node: Node, facts: Facts) -> Hint | None:
    """Find a dense layer over the rows of a picture, where flatten was forgotten."""
    shape = node.input_shapes[0] if node.input_shapes else (1, 1, 1)
    if not _is_dense(node) or node.sources[0] not in facts.pictures:
        return None
    channel, height, width = shape
    if channel * height == 1:
        return None
    name = _name(node)
    return Hint(
        "dense_of_rows",
        (name,),
        f"layer {name!r} (fully_connected) reads pictures {format_shape(shape)} and "
        f"takes each of their {channel * height:,} rows of {width} by itself; add "
        f"flatten before it, so that all {n_elems(shape):,} values count together, or "
        "use conv2d with kernel_size=1,1 for the channels of each pixel",
    )


def _columns_as_features(node: Node, facts: Facts) -> Hint | None:
    """Find batch normalization over the columns of pictures of one channel."""
    shape: Shape = node.input_shapes[0]
    channel, height, width = shape
    if channel > 1 or height == 1 or width == 1:
        return None
    source, output = node.sources[0], node.outputs[0]
    if not facts.read_as_sequence.isdisjoint((source, output)):
        return None
    is_picture = source in facts.pictures or not facts.read_as_picture.isdisjoint(
        (source, output)
    )
    # Rows of as many features as there are rows are rare; pictures are often square.
    is_square_input = height == width and not facts.maker(source, _keeps_axes).inputs
    if not (is_picture or is_square_input):
        return None
    return Hint(
        "columns_as_features",
        (node.name,),
        f"layer {node.name!r} (batch_normalization) reads {format_shape(shape)}, a "
        f"picture of one channel, and normalizes each of its {width} columns by "
        f"itself; for one mean and variance of the whole picture reshape it to "
        f"1:{height * width}:1 before and back to {format_shape(shape)} behind",
    )
