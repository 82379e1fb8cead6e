"""Reads ONNX files into a graph of plain Python data, and writes weights back.

In stages: bytes become a protocol buffer, the checker of the package `onnx` goes over
it, data beside the file are read in, and nodes become `OnnxNode`. No shape that the
file states for an inner tensor is trusted: the importer computes them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import (
    ArenaError,
    DataError,
    DataFileNotFoundError,
    InvalidParameterError,
    OnnxError,
    OnnxFileNotFoundError,
)
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.files.source import path_text, read_whole

Array = npt.NDArray[Any]

LARGEST_FILE_BYTES = 2**31
"""A protocol buffer cannot be larger; more weights lie in files beside it."""

OLDEST_OPSET = 13
"""The oldest version of the operators whose definitions the rules keep to."""

MOST_NODES = 100_000


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """One operation of the file.

    Attributes
    ----------
    op : str
        Its type, with the domain in front where it is not ONNX's own.
    name : str
        Its own name, or else that of its first output.
    inputs, outputs : tuple of str
        Names of tensors; empty where one is left out.
    attributes : mapping
        Numbers, texts, tuples and arrays by name.
    position : int
        Its place among the nodes, from 0.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    position: int

    @property
    def where(self) -> str:
        """Where the node stands in the file, for messages."""
        return f"node {self.position} {self.name!r}"


@dataclass(frozen=True, slots=True)
class OnnxInput:
    """An input of the graph; a size is None where the file does not state it."""

    name: str
    dtype: str
    sizes: tuple[int | None, ...]
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """What a file holds.

    Attributes
    ----------
    path : str
    opset : int
        Version of ONNX's own operators.
    producer : str
    inputs : tuple of OnnxInput
        Without those that have an initializer.
    outputs : tuple of str
    nodes : tuple of OnnxNode
        In an order in which each reads only what is there.
    initializers : mapping
        Arrays by name.
    proto : ModelProto
        As it was read.
    """

    path: str
    opset: int
    producer: str
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    initializers: Mapping[str, Array]
    proto: Any


def onnx_package() -> ModuleType:
    """Return the package `onnx`.

    Raises
    ------
    InvalidParameterError
        It is not installed.
    """
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.numpy_helper
    except ImportError as error:
        raise InvalidParameterError(
            f"ONNX files are read by the package onnx, which cannot be imported "
            f"({error}); install it with: pip install 'arena-ckpt[onnx]'",
            package="onnx",
        ) from error
    return onnx


def read_onnx(path: str | os.PathLike[str]) -> OnnxGraph:
    """Read a file and check it.

    Raises
    ------
    OnnxFileNotFoundError
        There is no such file.
    OnnxError
        It is no ONNX, is damaged, or has operators older than `OLDEST_OPSET`.
    """
    file = path_text(path)
    onnx = onnx_package()
    try:
        data = read_whole(file, LARGEST_FILE_BYTES)
    except DataError as error:
        missing = isinstance(error, DataFileNotFoundError)
        kind = OnnxFileNotFoundError if missing else OnnxError
        raise kind(str(error), **{**vars(error), "path": file}) from error
    with _reading(file, "it is no ONNX, or damaged"):
        proto = onnx.load_model_from_string(data)
    return graph_of(proto, file)


def graph_of(proto: Any, file: str) -> OnnxGraph:
    """Return the graph of a protocol buffer; data beside the file are read in.

    Raises
    ------
    OnnxError
    """
    onnx = onnx_package()
    with _reading(file, "it is no ONNX, or damaged"):
        if not proto.graph.node and not proto.graph.output:
            raise ValueError("it has no graph")
        if len(proto.graph.node) > MOST_NODES:
            raise ValueError(f"it has {len(proto.graph.node):,} nodes")
        opset = _opset(proto, file)
        with _data_beside(file):
            folder = str(Path(file).parent.absolute())
            onnx.external_data_helper.load_external_data_for_model(proto, folder)
        onnx.checker.check_model(proto)
        initializers = dict(_initializers(onnx, proto.graph))
        return OnnxGraph(
            path=file,
            opset=opset,
            producer=f"{proto.producer_name} {proto.producer_version}".strip(),
            inputs=tuple(_inputs(onnx, proto.graph, initializers)),
            outputs=tuple(output.name for output in proto.graph.output),
            nodes=tuple(_nodes(onnx, proto.graph, file)),
            initializers=initializers,
            proto=proto,
        )


def write_onnx(
    path: str | os.PathLike[str], proto: Any, arrays: Mapping[str, Array]
) -> None:
    """Write a file anew with other values of some initializers, as a whole.

    Everything else stays: nodes, names, metadata. Data that lay beside the file that
    was read are written into the new one.

    Raises
    ------
    OnnxError
        It would be larger than a protocol buffer can be.
    UnwritableFileError
    """
    onnx = onnx_package()
    copy = type(proto)()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.name in arrays:
            _replace(onnx, tensor, arrays[tensor.name])
    try:
        data = copy.SerializeToString()
    except ValueError as error:
        raise OnnxError(
            f"{path_text(path)} would be larger than 2 GiB, which no ONNX file can be "
            f"({error}); save the weights with model.save instead",
            path=path_text(path),
        ) from error
    write_whole(path, lambda stream: stream.write(data))


def _replace(onnx: ModuleType, tensor: Any, array: Array) -> None:
    name, text = tensor.name, tensor.doc_string
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shaped = np.asarray(array, dtype).reshape(tuple(tensor.dims))
    tensor.CopyFrom(onnx.numpy_helper.from_array(shaped, name))
    if text:
        tensor.doc_string = text


@contextmanager
def _reading(file: str, what: str) -> Iterator[None]:
    """Turn every failure of the decoder and the checker into an `OnnxError`."""
    try:
        yield
    except (ArenaError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())[:400]
        raise OnnxError(
            f"{file}: {what} ({reason}); export it again", path=file
        ) from error


@contextmanager
def _data_beside(file: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = " ".join((str(error) or type(error).__name__).split())[:400]
        raise OnnxError(
            f"{file} has data in a file beside it, which cannot be read ({reason}); "
            "put it where it was when the model was saved",
            path=file,
        ) from error


def _opset(proto: Any, file: str) -> int:
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    if 0 < opset < OLDEST_OPSET:
        raise OnnxError(
            f"{file} has operators of opset {opset}, and {OLDEST_OPSET} is the oldest "
            f"that is read; export it again with opset_version={OLDEST_OPSET} or "
            "later, or convert it with onnx.version_converter.convert_version(model, "
            f"{OLDEST_OPSET})",
            path=file,
            opset=opset,
        )
    return int(opset)


def _initializers(onnx: ModuleType, graph: Any) -> Iterator[tuple[str, Array]]:
    for tensor in graph.initializer:
        yield tensor.name, onnx.numpy_helper.to_array(tensor)
    for sparse in graph.sparse_initializer:
        raise ValueError(f"the initializer {sparse.values.name!r} is sparse")


def _inputs(
    onnx: ModuleType, graph: Any, initializers: Mapping[str, Array]
) -> Iterator[OnnxInput]:
    for value in graph.input:
        if value.name in initializers:
            continue
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            raise ValueError(f"the input {value.name!r} is no tensor but a {kind}")
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            raise ValueError(f"the input {value.name!r} has no shape")
        dims = tensor.shape.dim
        yield OnnxInput(
            value.name,
            str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)),
            tuple(
                int(d.dim_value)
                if d.HasField("dim_value") and d.dim_value > 0
                else None
                for d in dims
            ),
            tuple(d.dim_param for d in dims),
        )


def _nodes(onnx: ModuleType, graph: Any, file: str) -> Iterator[OnnxNode]:
    known = {"", *(value.name for value in graph.input)}
    known |= {tensor.name for tensor in graph.initializer}
    for position, node in enumerate(graph.node):
        op = node.op_type
        if node.domain not in ("", "ai.onnx"):
            op = f"{node.domain}.{op}"
        outputs = tuple(node.output)
        made = OnnxNode(
            op=op,
            name=node.name or next(filter(None, outputs), op),
            inputs=tuple(node.input),
            outputs=outputs,
            attributes=dict(_attributes(onnx, node)),
            position=position,
        )
        for name in made.inputs:
            if name not in known:
                raise ValueError(
                    f"{made.where} reads {quoted(name)}, which nothing before it makes"
                )
        known |= set(outputs)
        yield made
    for value in graph.output:
        if value.name not in known:
            raise ValueError(f"nothing makes the output {value.name!r}")


def _attributes(onnx: ModuleType, node: Any) -> Iterator[tuple[str, Any]]:
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        yield attribute.name, _plain(onnx, value)


def _plain(onnx: ModuleType, value: Any) -> Any:
    """Return a value of an attribute as numbers, texts, tuples or an array."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Iterable):
        return tuple(_plain(onnx, one) for one in value)
    return value  # a graph: its operation is refused by name
