"""The target of ONNX files: changed bytes, and graphs that fit together no more."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from helpers.onnx_files import keras_model, mlp_model, normal, onnx_model
from hypothesis import strategies as st

import arena_ckpt as ac
from fuzzing.guard import LIMITS, Limits
from fuzzing.mutate import HUGE, mutated
from fuzzing.target import Target, reads_file

IS_HERE = importlib.util.find_spec("onnx") is not None
_NUMBERS = (*HUGE, -1, 0, 1, 2, 3, 7, -2, -(2**31), -(2**63) + 1)


def sequence_model() -> Any:
    """Return a graph of shapes, slices, a recurrent layer and attention."""
    from onnx import helper

    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Concat", ["n", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["flat"]),
        node("Unsqueeze", ["flat", "two"], ["wide"]),
        node("Expand", ["wide", "shape4"], ["four"]),
        node("Slice", ["four", "zero", "two", "two"], ["cut"]),
        node("ReduceSum", ["cut", "two"], ["sum"], keepdims=0),
        node("Transpose", ["sum"], ["t"], perm=[1, 0, 2]),
        node("GRU", ["t", "w", "r"], ["seq", "last"], hidden_size=3),
        node("Squeeze", ["last", "zero"], ["h"]),
        node("LayerNormalization", ["h", "g", "b"], ["y"], axis=-1, epsilon=1e-3),
    ]
    tables = {
        "zero": np.array([0]),
        "two": np.array([2]),
        "rest": np.array([4, 2]),
        "shape4": np.array([1, 4, 3, 2]),
        "w": normal(1, 9, 2),
        "r": normal(1, 9, 3),
        "g": normal(3),
        "b": normal(3),
    }
    return onnx_model(nodes, {"x": ["n", 8]}, {"y": ["n", 3]}, tables)


def _models() -> list[Any]:
    return [mlp_model(), keras_model(), sequence_model()]


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    """Return a graph with some operations, attributes, sizes or names exchanged."""
    from arena_ckpt.importers import onnx_building  # noqa: F401  (makes the table)
    from arena_ckpt.importers.onnx_rules import RULES

    model = draw(st.sampled_from(_models()))
    graph = model.graph
    names = [t.name for t in graph.initializer] + [n.output[0] for n in graph.node]
    for _ in range(draw(st.integers(1, 4))):
        node = draw(st.sampled_from(list(graph.node)))
        match draw(st.integers(0, 5)):
            case 0:
                node.op_type = draw(st.sampled_from(sorted(RULES)))
            case 1 if node.attribute:
                attribute = draw(st.sampled_from(list(node.attribute)))
                number = draw(st.sampled_from(_NUMBERS)) % 2**63
                attribute.i = number
                for i in range(len(attribute.ints)):
                    attribute.ints[i] = draw(st.sampled_from(_NUMBERS)) % 2**63
            case 2 if node.input:
                at = draw(st.integers(0, len(node.input) - 1))
                node.input[at] = draw(st.sampled_from(["", *names]))
            case 3:
                tensor = draw(st.sampled_from(list(graph.initializer)))
                dims = sorted(tensor.dims, reverse=draw(st.booleans()))
                tensor.ClearField("dims")
                tensor.dims.extend([*dims, 1][: draw(st.integers(0, 4))])
            case 4:
                sizes = graph.input[0].type.tensor_type.shape.dim
                size = draw(st.sampled_from(list(sizes)))
                size.dim_value = draw(st.sampled_from(_NUMBERS)) % 2**63
            case _:
                tensor = draw(st.sampled_from(list(graph.initializer)))
                if tensor.data_type == 7:
                    numbers = np.frombuffer(tensor.raw_data, np.int64).copy()
                    numbers[...] = draw(st.sampled_from(_NUMBERS)) % 2**63
                    tensor.raw_data = numbers.tobytes()
    return bytes(model.SerializeToString())


def load(path: Path) -> None:
    """Import a file and plan its model."""
    model = ac.load_onnx(path, loss="mse").model
    if sum(np.prod(layer["input_shape"] or 1) for layer in model.layers) < 2**16:
        model.make_plan()


def _seeds() -> tuple[bytes, ...]:
    return tuple(model.SerializeToString() for model in _models())


_WORDS = (b"Conv", b"Gemm", b"axis", b"perm", b"x", b"y", b"\x08\x07", b"\x08\x01")

ONNX = (
    (
        Target(
            "onnx",
            mutated(_seeds(), _WORDS) | _broken() | _broken(),
            reads_file(
                "net.onnx", load, limits=Limits(grown_bytes=4 * LIMITS.grown_bytes)
            ),
            seeds=_seeds(),
            warm_up=lambda: ac.load_onnx,
            needs="onnx",
        ),
    )
    if IS_HERE
    else ()
)
