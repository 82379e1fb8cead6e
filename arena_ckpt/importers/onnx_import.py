"""Imports ONNX files: `load_onnx`.

In stages: the file is read (`onnx_graph`), activations that exporters write as several
operations become one (`onnx_patterns`), and one operation after the other is folded,
where all that it reads is known, or turned into layers by its rule. What cannot be
imported is collected, and told at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import nearest, quoted
from arena_ckpt.definition.weight_links import WeightLink, to_foreign
from arena_ckpt.errors import InvalidParameterError, ModelWarning
from arena_ckpt.importers.foreign_axes import Size
from arena_ckpt.importers.foreign_values import Tensor
from arena_ckpt.importers.import_gaps import require_no_gaps
from arena_ckpt.importers.model_builder import Shape, input_shape
from arena_ckpt.importers.onnx_building import OnnxBuilding, layer_name
from arena_ckpt.importers.onnx_graph import OnnxGraph, OnnxNode, read_onnx, write_onnx
from arena_ckpt.importers.onnx_patterns import joined_patterns
from arena_ckpt.model import Model

Loss = str | tuple[str, Mapping[str, Any]] | None

EXPORT = (
    "torch.onnx.export(module, args, path, "
    "training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False, "
    "dynamo=False)"
)
"""How PyTorch writes a file that can be trained, with names and normalizations kept."""


@dataclass(frozen=True, slots=True)
class ImportedOnnx:
    """A model that was read from an ONNX file.

    Attributes
    ----------
    model : Model
        Not initialized: set its optimizer, its blocks and its batch size. Its weights
        begin as those of the file.
    inputs : dict from str to str
        The input layer of each input of the file.
    outputs : dict from str to str
        The layer whose output each output of the file is.
    links : tuple of WeightLink
        Which part of which initializer each weight is.
    """

    model: Model
    inputs: dict[str, str]
    outputs: dict[str, str]
    links: tuple[WeightLink, ...] = field(repr=False)
    _graph: OnnxGraph = field(repr=False)

    @public_call
    def to_initializers(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the initializers that the model has weights of, with their values.

        Raises
        ------
        NotInitializedError
        """
        return to_foreign(self.links, self.model.weights(), self._graph.initializers)

    @public_call
    def save_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the file that was read, with the weights that the model has now.

        Nodes, names and metadata stay as they are. The file is there whole afterwards,
        or as it was before.

        Parameters
        ----------
        path : path
            It may be that of the file that was read.

        Raises
        ------
        NotInitializedError
            The model has no weights yet.
        OnnxError
            The file would be larger than 2 GiB.
        UnwritableFileError
        """
        write_onnx(path, self._graph.proto, self.to_initializers())


@public_call
def load_onnx(
    path: str | os.PathLike[str],
    *,
    loss: Loss | Mapping[str, Loss] = None,
    batch_size: int | None = None,
    frozen: str | Iterable[str] = (),
    outputs: Iterable[str] | None = None,
    sizes: Mapping[str, int] | None = None,
    batch_axis: int | None = 0,
    seed: int = 0,
) -> ImportedOnnx:
    """Make a model of an ONNX file.

    Parameters
    ----------
    path : path
        Of opset 13 or later. Data beside the file are read as well.
    loss : str, (str, dict) or dict, optional
        The loss that is added to the output: a type, or a type with properties. Of
        several outputs a dict by their names. Without one the model can only predict.
    batch_size : int, optional
        Samples of an iteration; by default as many as the file was written for.
    frozen : str or iterable of str
        Patterns of names of initializers that are not trained, as `fnmatch` reads
        them: tables that a network only reads.
    outputs : iterable of str, optional
        The outputs that are wanted; what only others need is left out.
    sizes : dict from str to int, optional
        Sizes that the file leaves open, by their names.
    batch_axis : int or None
        Which axis of the inputs counts the samples; an axis of the same name does so
        in other inputs. None: the file is for one sample, and no axis does.
    seed : int
        Of the model.

    Returns
    -------
    ImportedOnnx

    Raises
    ------
    OnnxFileNotFoundError
        There is no such file.
    OnnxError
        It is no ONNX, damaged, or of an older opset.
    UnsupportedModelError
        It has operations that cannot be imported; all are listed.
    InvalidParameterError
        The package onnx is not installed, a size is open, or an argument fits nothing.

    Notes
    -----
    Initializers of floating-point numbers are trained; single numbers that an exporter
    made are not. A batch normalization whose ``training_mode`` is 0 keeps its moving
    statistics.
    """
    require_value(
        "batch_axis",
        batch_axis,
        fits=batch_axis is None or (isinstance(batch_axis, int) and batch_axis >= 0),
        expected="a number from 0, or None",
    )
    patterns = [frozen] if isinstance(frozen, str) else list(frozen)
    graph = joined_patterns(read_onnx(path))
    wanted = _wanted_outputs(graph, outputs)
    nodes = _needed(graph, wanted)
    building = OnnxBuilding(graph, batch_axis, dict(sizes or {}), patterns, seed)
    building.build(nodes, {n for node in nodes for n in node.inputs} | {*wanted})
    require_no_gaps(
        building.gaps,
        graph.path,
        "Export the model without them, or build these parts with layers "
        "(docs/import-onnx.md lists what can be imported)",
    )
    ends = {name: _output(building, name) for name in wanted}
    if loss is None:
        _add_ends(building, ends)
    else:
        _add_losses(building, ends, loss)
    _warn_of_folding(graph)
    size = batch_size if batch_size is not None else building.export_batch
    return _imported(building, ends, size)


def _imported(
    building: OnnxBuilding, ends: Mapping[str, tuple[str, Shape]], size: int | None
) -> ImportedOnnx:
    model = _model_of(building.builder.model, [source for source, _ in ends.values()])
    if size is not None:
        model.set_property(batch_size=size)
    names = {layer.name for layer in model.layers}
    start = {
        weight: array
        for weight, array in building.builder.start.items()
        if weight.rpartition(":")[0] in names
    }
    model.start_from(start)
    model.compile()
    return ImportedOnnx(
        model,
        {name: layer for name, layer in building.inputs.items() if layer in names},
        {name: source for name, (source, _) in ends.items()},
        tuple(
            link
            for link in building.builder.links
            if link.weight in start and link.foreign in building.graph.initializers
        ),
        building.graph,
    )


def _model_of(built: Model, outputs: list[str]) -> Model:
    """Return a model of those layers alone that outputs and losses depend on.

    A rule may add layers for an output of its operation that nobody reads.
    """
    asked = {_layer_of(source) for source in outputs}
    asked |= {layer.name for layer in built.layers if layer.is_loss}
    kept = []
    for layer in reversed(built.layers):
        if layer.name in asked:
            asked |= {_layer_of(source) for source in layer["input_layers"] or ()}
            asked |= (
                {layer.given["shared_from"]} if "shared_from" in layer.given else set()
            )
            kept.append(layer)
    if len(kept) == len(built.layers):
        return built
    model = Model(built.seed)
    for layer in reversed(kept):
        model.add_layer(layer)
    return model


def _wanted_outputs(graph: OnnxGraph, outputs: Iterable[str] | None) -> tuple[str, ...]:
    if outputs is None:
        return graph.outputs
    wanted = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    for name in wanted:
        if name not in graph.outputs:
            raise InvalidParameterError(
                f"{graph.path} has no output {quoted(name)}"
                f"{nearest(name, graph.outputs)}; it has {', '.join(graph.outputs)}",
                output=name,
            )
    if not wanted:
        raise InvalidParameterError("outputs names none; leave it out for all")
    return wanted


def _output(building: OnnxBuilding, name: str) -> tuple[str, Shape]:
    value = building.values.get(name)
    if not isinstance(value, Tensor):
        raise InvalidParameterError(
            f"the output {name!r} of {building.graph.path} does not depend on the "
            "inputs; leave it out: outputs=[…]",
            output=name,
        )
    x = building.builder.in_order(value)
    sizes = tuple(size.factor for size in x.sizes if size != Size(1, True))
    building.builder.path, building.builder.is_module = "", False
    shape = input_shape(sizes)
    return building.builder.shaped(x.source, shape), shape


def _add_ends(building: OnnxBuilding, outputs: dict[str, tuple[str, Shape]]) -> None:
    """Let the outputs be the last layers: a model predicts what those put out."""
    build = building.builder
    for name, (source, shape) in list(outputs.items()):
        build.path, build.is_module = layer_name(name), True
        outputs[name] = build.add("identity", [source], shape, suffix="output"), shape


def _add_losses(
    building: OnnxBuilding,
    outputs: Mapping[str, tuple[str, Shape]],
    loss: Loss | Mapping[str, Loss],
) -> None:
    """Add a loss to each output."""
    if not isinstance(loss, Mapping):
        if len(outputs) > 1:
            raise InvalidParameterError(
                f"{building.graph.path} has the outputs {', '.join(outputs)}; give a "
                "loss for each, as a dict by their names, or name one in outputs",
                outputs=tuple(outputs),
            )
        loss = {next(iter(outputs)): loss}
    if set(loss) != set(outputs):
        raise InvalidParameterError(
            f"losses are given for {', '.join(map(str, loss)) or 'nothing'}, and "
            f"the outputs are {', '.join(outputs)}; give one for each",
            outputs=tuple(outputs),
        )
    for name, (source, _) in outputs.items():
        kind, properties = _loss_of(loss[name])
        layer = "loss" if len(outputs) == 1 else f"{layer_name(name)}/loss"
        building.builder.model.add_layer(
            kind, **{"name": layer, "input_layers": [source], **properties}
        )


def _warn_of_folding(graph: OnnxGraph) -> None:
    """Warn where an exporter has put batch normalizations into convolutions."""
    ops = [node.op for node in graph.nodes]
    convolutions = [node for node in graph.nodes if node.op == "Conv"]
    if any("Normalization" in op for op in ops) or len(convolutions) < 2:
        return
    if all(len(node.inputs) > 2 for node in convolutions):
        warn_user(
            f"{graph.path} has {len(convolutions)} convolutions with bias and "
            "no BatchNormalization. If the network has batch normalizations, the "
            "exporter has folded them into the convolutions, where they cannot be "
            f"trained; export it again with {EXPORT}",
            ModelWarning,
        )


def _layer_of(source: str) -> str:
    """Return the layer of ``layer`` or ``layer(k)``."""
    return re.sub(r"\(\d+\)$", "", source)


def _needed(graph: OnnxGraph, wanted: tuple[str, ...]) -> list[OnnxNode]:
    """Return the nodes that outputs depend on, in their order."""
    asked = set(wanted)
    found = []
    for node in reversed(graph.nodes):
        if asked.intersection(filter(None, node.outputs)):
            asked.update(node.inputs)
            found.append(node)
    return found[::-1]


def _loss_of(loss: Loss) -> tuple[str, dict[str, Any]]:
    """Return the type and the properties of a loss.

    Raises
    ------
    InvalidParameterError
    """
    if isinstance(loss, str):
        return loss, {}
    if isinstance(loss, tuple) and len(loss) == 2 and isinstance(loss[0], str):
        kind, properties = loss
        if isinstance(properties, Mapping):
            return kind, dict(properties)
    raise InvalidParameterError(
        f"loss is {quoted(loss)}; expected a type such as 'mse', or a pair of a type "
        "and a dict of properties",
        loss=loss,
    )
