"""Weights in NNTrainer's ``.bin`` files, which say nothing of what is in them.

A file is the float32 tensors of all layers, one after the other, little-endian: of each
layer in its own order, layers in the order in which NNTrainer sorts them, shared
weights once. After them come, where the optimizer is adam, the four bytes ``adam`` and
both moments of each trained weight; and, from training, the numbers of epochs and of
iterations as uint32. What is missing at the end is no error there, nor here.

References
----------
NNTrainer, nntrainer/models/neuralnet.cpp (save, load), nntrainer/layers/layer_devel.h
(save), nntrainer/graph/graph_core.cpp (topologicalSort) and network_graph.cpp
(finalizeContext: which layer of several writes weights that they share).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import tensor_name
from arena_ckpt.errors import (
    InvalidParameterError,
    NonFiniteDataError,
    SavedStateMismatchError,
)
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.files.tensor_file import read_content
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session

FloatArray = npt.NDArray[np.float32]

ADAM = b"adam"
"""What stands before the moments of the optimizer."""

_COUNTS = struct.Struct("<II")
"""Numbers of epochs and of iterations."""

_MOST_ITERATIONS = 2**32
_MOMENTS = ("first_moment", "second_moment")


def write_nntrainer_bin(path: str, session: Session, layers: Sequence[str]) -> None:
    """Write weights, moments of adam and the iteration as NNTrainer reads them.

    Parameters
    ----------
    path : str
        An existing file is replaced, or left as it was.
    session : Session
    layers : sequence of str
        Names of the layers in the order in which they were added.

    Raises
    ------
    InvalidParameterError
        More iterations than the file can state.
    UnwritableFileError
    """

    def write(file: BinaryIO) -> None:
        arrays = session.persistent()
        names = weight_order(session.graph, layers)
        for name in names:
            file.write(_bytes_of(arrays[name]))
        if session.optimizer.type_name == "adam":
            file.write(ADAM)
            for name in _moments_of(session.graph, names):
                if name in arrays:
                    file.write(_bytes_of(arrays[name]))
        if not session.plan.is_inference:
            file.write(_COUNTS.pack(0, session.iteration))

    def work() -> None:
        if session.iteration >= _MOST_ITERATIONS:
            raise InvalidParameterError(
                f"the model has made {session.iteration:,} iterations, and NNTrainer's "
                f"files count less than {_MOST_ITERATIONS:,}; save it with "
                "model.save(path)",
                iteration=session.iteration,
            )
        write_whole(path, write)

    session.in_turn(work)


def read_nntrainer_bin(path: str, session: Session, layers: Sequence[str]) -> None:
    """Put the weights in a file of NNTrainer's into a session, whole or not at all.

    Moments and the iteration are taken over where the file and the optimizer have
    them; other states of an optimizer begin anew.

    Parameters
    ----------
    path : str
    session : Session
    layers : sequence of str
        Names of the layers in the order in which they were added.

    Raises
    ------
    SavedStateNotFoundError, SavedStateError
        There is no such file, or it cannot be read.
    SavedStateMismatchError
        It has another number of bytes than such a file of this model has.
    NonFiniteDataError
        A tensor in it holds NaN or infinity.
    """
    content = read_content(path)
    now = session.persistent()
    names = weight_order(session.graph, layers)
    shapes = {name: now[name].shape for name in names}
    weights_end = 4 * sum(now[name].size for name in names)
    if len(content) < weights_end:
        raise _too_short(path, content, now, names, weights_end)
    moments = _moments_of(session.graph, names)
    shapes |= {name: shapes[name.rpartition(":")[0]] for name in moments}
    found = _laid_out(path, content, shapes, names, moments, weights_end)
    counts_at = weights_end
    if content[weights_end : weights_end + len(ADAM)] == ADAM:
        counts_at += len(ADAM) + 4 * sum(
            found[name].size for name in moments if name in found
        )
    _require_usable(path, found)
    arrays = {
        name: found.get(name, view if name in names else np.zeros_like(view))
        for name, view in now.items()
    }
    iteration = 0
    if len(content) == counts_at + _COUNTS.size:
        _, iteration = _COUNTS.unpack_from(content, counts_at)
    session.restore(arrays, iteration)


# -- order -----------------------------------------------------------------------------


def weight_order(graph: Graph, layers: Sequence[str]) -> list[str]:
    """Return the names of all weights in the order of a file, ``"fc1:weight"``.

    Parameters
    ----------
    graph : Graph
    layers : sequence of str
        Names of the layers in the order in which they were added.

    Notes
    -----
    O(layers + connections), and a sort.
    """
    unit = _units(graph, layers)
    place = {name: i for i, name in enumerate(_sorted_by_depth(graph, unit))}
    nodes = sorted(graph.nodes, key=lambda node: place[unit[node.name]])
    sharers: dict[str, list[Node]] = {}
    for node in nodes:
        sharers.setdefault(node.weights_of, []).append(node)
    places = []
    for number, node in enumerate(graph.nodes):
        sharing = sharers.get(node.name, [])
        training = [each for each in sharing if each.trains]
        for index, weight in enumerate(node.own_weights):
            # A weight with a gradient is written by the layer that makes it first,
            # the last one forwards; without one, by the first that reads it.
            writer = training[-1] if training and weight.is_trained else sharing[0]
            key = (place[unit[writer.name]], number, index)
            places.append((key, tensor_name(node.name, weight.name)))
    return [name for _, name in sorted(places)]


def _units(graph: Graph, layers: Sequence[str]) -> dict[str, str]:
    """Return for each node the layer that NNTrainer has for it, in its list's order.

    The parts of a layer are one layer there, but for a multiout that was added to it.
    """
    added = {name: i for i, name in enumerate(layers)}
    owners = {node.name: _owner(node.name, added) for node in graph.nodes}
    nodes = sorted(graph.nodes, key=lambda node: added[owners[node.name]])
    return {
        node.name: node.name if node.layer.is_alias else owners[node.name]
        for node in nodes
    }


def _sorted_by_depth(graph: Graph, unit: Mapping[str, str]) -> list[str]:
    """Return the layers in NNTrainer's order.

    That is the reverse of the order in which a depth-first search leaves them, which
    begins at layers, and goes on to readers, in the order in which they were added: of
    two branches it runs the later one first.
    """
    readers: dict[str, list[str]] = {name: [] for name in unit.values()}
    for name in unit:
        for output in graph.node(name).inputs:
            readers[unit[output.layer]].append(unit[name])
    left: list[str] = []
    seen: set[str] = set()
    for begin in readers:
        if begin in seen:
            continue
        seen.add(begin)
        stack = [(begin, iter(readers[begin]))]
        while stack:
            name, rest = stack[-1]
            following = next((each for each in rest if each not in seen), None)
            if following is None:
                stack.pop()
                left.append(name)
            else:
                seen.add(following)
                stack.append((following, iter(readers[following])))
    return left[::-1]


def _owner(part: str, added: Mapping[str, int]) -> str:
    """Return the layer that a node is a part of: ``"fc1"`` of ``"fc1/lora_a"``."""
    while part not in added:
        part = part.rpartition("/")[0]
        assert part, "a node that belongs to no layer"
    return part


def _moments_of(graph: Graph, weights: Sequence[str]) -> list[str]:
    """Return the names of the moments of adam in the order of a file."""
    trained = {
        tensor_name(node.weights_of, weight.name)
        for node in graph.nodes
        if node.trains
        for weight in node.spec.trained_weights
    }
    return [
        f"{name}:{moment}" for name in weights if name in trained for moment in _MOMENTS
    ]


# -- bytes -----------------------------------------------------------------------------


def _bytes_of(array: FloatArray) -> bytes:
    return np.ascontiguousarray(array, "<f4").tobytes()


def _laid_out(
    path: str,
    content: bytes,
    shapes: Mapping[str, tuple[int, ...]],
    weights: Sequence[str],
    moments: Sequence[str],
    weights_end: int,
) -> dict[str, FloatArray]:
    """Return the tensors of a file whose number of bytes is one that it can have.

    Raises
    ------
    SavedStateMismatchError
    """
    moment_bytes = 4 * sum(int(np.prod(shapes[name])) for name in moments)
    rest = len(content) - weights_end
    has_adam = content[weights_end : weights_end + len(ADAM)] == ADAM
    possible = [0, _COUNTS.size]
    if has_adam:
        possible = [
            len(ADAM) + some + counts
            for some in (0, moment_bytes)
            for counts in (0, _COUNTS.size)
        ]
    if rest not in possible:
        more = (
            f"moments of adam in {moment_bytes:,} bytes"
            if has_adam
            else f"{_COUNTS.size} bytes of counts, or 'adam' and its moments"
        )
        last = weights[-1] if weights else "no weight"
        raise SavedStateMismatchError(
            f"{path} has {len(content):,} bytes; the weights of this model end after "
            f"{weights_end:,}, with {last}, and {rest:,} bytes follow, where {more} "
            "could. It is of another model; build that one, with its layers in the "
            "same order",
            path=path,
            what="weights",
            expected=weights_end,
            found=len(content),
        )
    found, at = _tensors_at(content, 0, shapes, weights)
    if has_adam and rest - len(ADAM) >= moment_bytes > 0:
        found |= _tensors_at(content, at + len(ADAM), shapes, moments)[0]
    return found


def _tensors_at(
    content: bytes, at: int, shapes: Mapping[str, tuple[int, ...]], names: Sequence[str]
) -> tuple[dict[str, FloatArray], int]:
    """Return tensors that stand one after the other, and where they end."""
    found = {}
    for name in names:
        size = int(np.prod(shapes[name]))
        values = np.frombuffer(content, "<f4", size, at).astype(np.float32)
        found[name] = values.reshape(shapes[name])
        at += 4 * size
    return found, at


def _too_short(
    path: str,
    content: bytes,
    now: Mapping[str, FloatArray],
    names: Sequence[str],
    weights_end: int,
) -> SavedStateMismatchError:
    """Return the error of a file that ends within the weights, with the one it is."""
    start = 0
    for name in names:
        stop = start + now[name].nbytes
        if stop > len(content):
            break
        start = stop
    layer, _, weight = name.rpartition(":")
    shape = " x ".join(map(str, now[name].shape))
    return SavedStateMismatchError(
        f"{os.fsdecode(path)} has {len(content):,} bytes, and the {len(names):,} "
        f"weights of this model take {weights_end:,}: it ends in the {weight} "
        f"({shape}) of layer {layer!r}, which takes bytes {start:,} to {stop:,}. It is "
        "of another model; build that one, with its layers in the same order",
        path=path,
        what="weights",
        layer=layer,
        expected=weights_end,
        found=len(content),
    )


def _require_usable(path: str, found: Mapping[str, FloatArray]) -> None:
    """Refuse numbers that no training can have left."""
    for name, values in found.items():
        bad = ~np.isfinite(values)
        if name.endswith(f":{_MOMENTS[1]}"):
            bad |= values < 0
        if bad.any():
            index = int(np.flatnonzero(bad)[0])
            raise NonFiniteDataError(
                f"{path}: {name} has {values.reshape(-1)[index]} at place {index:,} of "
                f"{values.size:,}; the training that wrote it failed, or the file is "
                "of another model, with its layers in another order",
                path=path,
                weight=name,
            )
