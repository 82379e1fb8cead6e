"""Imports ONNX files: `load_onnx`.

In stages: the file is read (`onnx_graph`), activations that exporters write as several
operations become one (`onnx_patterns`), and one operation after the other is folded,
where all that it reads is known, or turned into layers by its rule. What cannot be
imported is collected, and told at once.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import nearest, quoted
from arena_ckpt.errors import InvalidParameterError, ModelWarning, OnnxError
from arena_ckpt.importers import (
    onnx_rules_elements,  # noqa: F401  (each adds its rules)
    onnx_rules_norms,  # noqa: F401
    onnx_rules_sequences,  # noqa: F401
    onnx_rules_shapes,  # noqa: F401
    onnx_rules_windows,  # noqa: F401
)
from arena_ckpt.importers.foreign_axes import Size, View
from arena_ckpt.importers.foreign_values import Fixed, Table, Tensor
from arena_ckpt.importers.import_gaps import (
    Gap,
    UnsupportedOperation,
    require_no_gaps,
)
from arena_ckpt.importers.model_builder import ModelBuilder, Shape, input_shape
from arena_ckpt.importers.onnx_folding import FOLDED, Known, fold
from arena_ckpt.importers.onnx_graph import (
    OnnxGraph,
    OnnxInput,
    OnnxNode,
    read_onnx,
    write_onnx,
)
from arena_ckpt.importers.onnx_joined import JoinedTable, plain
from arena_ckpt.importers.onnx_patterns import joined_patterns
from arena_ckpt.importers.onnx_rules import RULES, OnnxCall, OnnxValue
from arena_ckpt.importers.weight_links import WeightLink, to_foreign
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
    importing = _Importing(graph, batch_axis, dict(sizes or {}), patterns, seed)
    wanted = _wanted_outputs(graph, outputs)
    return importing.run(wanted, loss, batch_size)


def _wanted_outputs(
    graph: OnnxGraph, outputs: Iterable[str] | None
) -> tuple[str, ...]:
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


class _Importing:
    """The state of one import: what each name of the file stands for so far."""

    def __init__(
        self,
        graph: OnnxGraph,
        batch_axis: int | None,
        sizes: dict[str, int],
        frozen: list[str],
        seed: int,
    ) -> None:
        self.graph = graph
        self.batch_axis = batch_axis
        self.sizes = sizes
        self.frozen = frozen
        self.builder = ModelBuilder(seed)
        self.values: dict[str, OnnxValue | None] = {}
        self.gaps: list[Gap] = []
        self.missing: set[str] = set()
        self.inputs: dict[str, str] = {}
        self.export_batch: int | None = None
        self.is_of_torch = graph.producer.lower().startswith("pytorch")

    def run(
        self,
        wanted: tuple[str, ...],
        loss: Loss | Mapping[str, Loss],
        batch_size: int | None,
    ) -> ImportedOnnx:
        needed = _needed(self.graph, wanted)
        self._add_tables()
        used = {name for node in needed for name in node.inputs} | set(wanted)
        self._add_inputs([one for one in self.graph.inputs if one.name in used])
        for node in needed:
            self._import(node, used)
        require_no_gaps(
            self.gaps,
            self.graph.path,
            "Export the model without them, or build these parts with layers "
            "(docs/import-onnx.md lists what can be imported)",
        )
        outputs = {name: self._output(name) for name in wanted}
        self._add_losses(outputs, loss)
        self._warn_of_folding()
        model = self._model_of([source for source, _ in outputs.values()])
        size = batch_size if batch_size is not None else self.export_batch
        if size is not None:
            model.set_property(batch_size=size)
        names = {layer.name for layer in model.layers}
        start = {
            weight: array
            for weight, array in self.builder.start.items()
            if weight.rpartition(":")[0] in names
        }
        model.start_from(start)
        model.compile()
        return ImportedOnnx(
            model,
            {name: layer for name, layer in self.inputs.items() if layer in names},
            {name: source for name, (source, _) in outputs.items()},
            tuple(link for link in self.builder.links if link.weight in start),
            self.graph,
        )

    def _model_of(self, outputs: list[str]) -> Model:
        """Return a model of those layers alone that outputs and losses depend on.

        A rule may add layers for an output of its operation that nobody reads.
        """
        built = self.builder.model
        asked = {_layer_of(source) for source in outputs}
        asked |= {layer.name for layer in built.layers if layer.is_loss}
        kept = []
        for layer in reversed(built.layers):
            if layer.name in asked:
                asked |= {_layer_of(source) for source in layer["input_layers"] or ()}
                if layer["shared_from"] if "shared_from" in layer.given else None:
                    asked.add(layer["shared_from"])
                kept.append(layer)
        if len(kept) == len(built.layers):
            return built
        model = Model(built.seed)
        for layer in reversed(kept):
            model.add_layer(layer)
        return model

    # What is there before the first operation

    def _add_tables(self) -> None:
        for name, array in self.graph.initializers.items():
            if array.dtype != np.float32 or self._is_number(name, array):
                self.values[name] = Known.of(array)
                continue
            is_frozen = any(fnmatch.fnmatchcase(name, one) for one in self.frozen)
            trained = not is_frozen and bool(np.isfinite(array).all())
            self.values[name] = Table.of(name, array, is_trained=trained)

    def _is_number(self, name: str, array: np.ndarray[Any, Any]) -> bool:
        """Tell whether an initializer is a number that the exporter made."""
        if array.ndim == 0 or array.size == 0:
            return True
        made = "tf2onnx" in self.graph.producer or re.match(
            r"/|onnx::|.*const", name, re.IGNORECASE
        )
        return array.size == 1 and bool(made)

    def _add_inputs(self, inputs: list[OnnxInput]) -> None:
        batches: set[int | None] = set()
        symbol = ""
        for given in inputs:
            axis = self._batch_axis_of(given, symbol)
            if axis is not None:
                symbol = symbol or given.symbols[axis]
                batches.add(given.sizes[axis])
            self._add_input(given, axis)
        if len(batches) == 1:
            self.export_batch = batches.pop()

    def _batch_axis_of(self, given: OnnxInput, symbol: str) -> int | None:
        if self.batch_axis is None:
            return None
        if symbol and symbol in given.symbols:
            return given.symbols.index(symbol)
        if len(given.sizes) <= self.batch_axis:
            raise InvalidParameterError(
                f"the input {given.name!r} of {self.graph.path} has "
                f"{len(given.sizes)} axes, and none numbered {self.batch_axis} that "
                "counts the samples; set batch_axis, or batch_axis=None for a file "
                "that is for one sample",
                input=given.name,
            )
        return self.batch_axis

    def _add_input(self, given: OnnxInput, axis: int | None) -> None:
        if given.dtype not in _DTYPES:
            raise OnnxError(
                f"the input {given.name!r} of {self.graph.path} is {given.dtype}; "
                "inputs are float32, or whole numbers as ids",
                path=self.graph.path,
                input=given.name,
            )
        shape: list[int] = []
        for i, (size, name) in enumerate(zip(given.sizes, given.symbols, strict=True)):
            if i == axis:
                continue
            found = self.sizes.get(name, size)
            if found is None or not 0 < found < 2**31:
                raise InvalidParameterError(
                    f"axis {i} of the input {given.name!r} of {self.graph.path} has no "
                    f"size; give one, for example sizes={{{name or 'NAME'!r}: 128}}, "
                    "or export the model with a fixed size there",
                    input=given.name,
                    axis=i,
                )
            shape.append(int(found))
        name = _layer_name(given.name)
        whole = given.dtype != "float32"
        x = self.builder.input(name, shape, is_whole=whole)
        first, *rest = x.view.dims
        if axis is not None:
            rest.insert(axis, first)
        view = View(x.view.order, tuple(rest))
        self.values[given.name] = x.seen(view)
        self.inputs[given.name] = x.source

    # Operations

    def _import(self, node: OnnxNode, used: set[str]) -> None:
        if self.missing.intersection(node.inputs):
            self.missing.update(node.outputs)
            return
        inputs = tuple(self.values.get(name) if name else None for name in node.inputs)
        try:
            found = self._results(node, inputs, used)
        except UnsupportedOperation as error:
            self._add_gap(node, str(error))
            return
        except Exception as error:  # whatever a node that fits together in no way does
            reason = " ".join(str(error).split())[:300] or "no reason"
            self._add_gap(
                node, f"its arguments do not fit ({type(error).__name__}: {reason})"
            )
            return
        for name, value in zip(node.outputs, found, strict=False):
            if isinstance(value, Table):
                value = plain(value)
            if name and value is not None:
                self.values[name] = (
                    Known.of(value.array) if isinstance(value, Fixed) else value
                )

    def _add_gap(self, node: OnnxNode, reason: str) -> None:
        self.gaps.append(Gap(node.op, reason, node.where))
        self.missing.update(node.outputs)

    def _results(
        self, node: OnnxNode, inputs: tuple[OnnxValue | None, ...], used: set[str]
    ) -> tuple[Any, ...]:
        if node.op == "Constant":
            return (_constant(node),)
        known = [one for one in inputs if one is None or isinstance(one, Known)]
        if node.op in FOLDED and len(known) == len(inputs):
            proto = self.graph.proto.graph.node[node.position]
            return fold(node, proto, known, self.graph.opset)
        rule = RULES.get(node.op)
        if rule is None:
            raise UnsupportedOperation(
                f"there is no layer for it{nearest(node.op, RULES)}"
            )
        self.builder.path, self.builder.is_module = self._path_of(node)
        call = OnnxCall(
            self.builder,
            node,
            inputs,
            self.graph.opset,
            tuple(name in used for name in node.outputs),
            self.export_batch,
            self.is_of_torch,
        )
        found = rule(call)
        if call.ignored:
            raise UnsupportedOperation(f"{', '.join(call.ignored)} of it is not known")
        return found if isinstance(found, tuple) else (found,)

    def _path_of(self, node: OnnxNode) -> tuple[str, bool]:
        """Return where an operation stands, and whether it is all that stands there."""
        for name in node.inputs[1:]:
            value = self.values.get(name)
            if isinstance(value, JoinedTable):
                value = value.wholes[0]
            if isinstance(value, Table) and "." in value.name:
                return _layer_name(value.name.rpartition(".")[0]), True
        parts: list[str] = []
        for part in node.name.strip("/").split("/")[:-1]:
            if parts and part.startswith(f"{parts[-1]}."):
                parts.pop()
            parts.append(part)
        return _layer_name(".".join(parts)) if parts else "", False

    # What comes behind the last one

    def _output(self, name: str) -> tuple[str, Shape]:
        value = self.values.get(name)
        if not isinstance(value, Tensor):
            raise InvalidParameterError(
                f"the output {name!r} of {self.graph.path} does not depend on the "
                "inputs; leave it out: outputs=[…]",
                output=name,
            )
        x = self.builder.in_order(value)
        sizes = tuple(size.factor for size in x.sizes if size != Size(1, True))
        self.builder.path, self.builder.is_module = "", False
        shape = input_shape(sizes)
        return self.builder.shaped(x.source, shape), shape

    def _add_losses(
        self,
        outputs: dict[str, tuple[str, Shape]],
        loss: Loss | Mapping[str, Loss],
    ) -> None:
        if loss is None:
            # A model that only predicts puts out what its last layer does.
            for name, (source, shape) in list(outputs.items()):
                self.builder.path, self.builder.is_module = _layer_name(name), True
                made = self.builder.add("identity", [source], shape, suffix="output")
                outputs[name] = made, shape
            return
        if not isinstance(loss, Mapping):
            if len(outputs) > 1:
                raise InvalidParameterError(
                    f"{self.graph.path} has the outputs {', '.join(outputs)}; give a "
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
            layer = "loss" if len(outputs) == 1 else f"{_layer_name(name)}/loss"
            self.builder.model.add_layer(
                kind, **{"name": layer, "input_layers": [source], **properties}
            )

    def _warn_of_folding(self) -> None:
        """Warn where an exporter has put batch normalizations into convolutions."""
        ops = [node.op for node in self.graph.nodes]
        convolutions = [node for node in self.graph.nodes if node.op == "Conv"]
        if any("Normalization" in op for op in ops) or len(convolutions) < 2:
            return
        if all(len(node.inputs) > 2 for node in convolutions):
            warn_user(
                f"{self.graph.path} has {len(convolutions)} convolutions with bias and "
                "no BatchNormalization. If the network has batch normalizations, the "
                "exporter has folded them into the convolutions, where they cannot be "
                f"trained; export it again with {EXPORT}",
                ModelWarning,
            )


def _layer_of(source: str) -> str:
    """Return the layer of ``layer`` or ``layer(k)``."""
    return re.sub(r"\(\d+\)$", "", source)


_DTYPES = ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")


def _needed(graph: OnnxGraph, wanted: tuple[str, ...]) -> list[OnnxNode]:
    """Return the nodes that outputs depend on, in their order."""
    asked = set(wanted)
    found = []
    for node in reversed(graph.nodes):
        if asked.intersection(filter(None, node.outputs)):
            asked.update(node.inputs)
            found.append(node)
    return found[::-1]


def _constant(node: OnnxNode) -> Known:
    names = ("value", "value_float", "value_floats", "value_int", "value_ints")
    for name in names:
        if name in node.attributes:
            value = node.attributes[name]
            if name.startswith("value_float"):
                return Known.of(np.array(value, np.float32))
            return Known.of(np.array(value))
    raise UnsupportedOperation("it holds no numbers")


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


def _layer_name(name: str) -> str:
    """Return a name that a layer can have."""
    return re.sub(r"[^\w./\-]+", "_", name).strip("/") or "layer"
