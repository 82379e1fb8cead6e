"""Turns the operations of an ONNX graph into layers, one after the other."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from arena_ckpt.common.wording import nearest
from arena_ckpt.errors import InvalidParameterError, OnnxError
from arena_ckpt.importers import (
    onnx_rules_elements,  # noqa: F401  (each adds its rules)
    onnx_rules_norms,  # noqa: F401
    onnx_rules_reductions,  # noqa: F401
    onnx_rules_sequences,  # noqa: F401
    onnx_rules_shapes,  # noqa: F401
    onnx_rules_windows,  # noqa: F401
)
from arena_ckpt.importers.foreign_axes import View
from arena_ckpt.importers.foreign_values import Fixed, Table
from arena_ckpt.importers.import_gaps import Gap, UnsupportedOperation
from arena_ckpt.importers.model_builder import ModelBuilder
from arena_ckpt.importers.onnx_folding import FOLDED, Known, fold
from arena_ckpt.importers.onnx_graph import OnnxGraph, OnnxInput, OnnxNode
from arena_ckpt.importers.onnx_joined import JoinedTable, plain
from arena_ckpt.importers.onnx_rules import RULES, OnnxCall, OnnxValue

_DTYPES = ("float32", "int64", "int32", "int16", "int8", "uint8", "bool")


class OnnxBuilding:
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

    def build(self, nodes: Iterable[OnnxNode], used: set[str]) -> None:
        """Import operations; what cannot be imported is noted in `gaps`.

        Parameters
        ----------
        nodes : iterable of OnnxNode
            In their order.
        used : set of str
            Names that something reads.
        """
        self._add_tables()
        self._add_inputs([one for one in self.graph.inputs if one.name in used])
        for node in nodes:
            self._import(node, used)

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
        name = layer_name(given.name)
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
                return layer_name(value.name.rpartition(".")[0]), True
        parts: list[str] = []
        for part in node.name.strip("/").split("/")[:-1]:
            if parts and part.startswith(f"{parts[-1]}."):
                parts.pop()
            parts.append(part)
        return layer_name(".".join(parts)) if parts else "", False


def _constant(node: OnnxNode) -> Known:
    names = ("value", "value_float", "value_floats", "value_int", "value_ints")
    for name in names:
        if name in node.attributes:
            value = node.attributes[name]
            if name.startswith("value_float"):
                return Known.of(np.array(value, np.float32))
            return Known.of(np.array(value))
    raise UnsupportedOperation("it holds no numbers")


def layer_name(name: str) -> str:
    """Return a name that a layer can have."""
    return re.sub(r"[^\w./\-]+", "_", name).strip("/") or "layer"
