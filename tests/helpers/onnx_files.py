"""Small ONNX files, as exporters write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Sizes = Sequence[int | str | None]


def onnx_model(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sizes],
    outputs: Mapping[str, Sizes],
    initializers: Mapping[str, Array],
    *,
    opset: int = 17,
    producer: str = "",
    whole: Sequence[str] = (),
) -> Any:
    """Return a model; `whole` are the inputs that hold whole numbers."""
    from onnx import TensorProto, helper, numpy_helper

    def info(name: str, sizes: Sizes) -> Any:
        dtype = TensorProto.INT64 if name in whole else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, dtype, sizes)

    graph = helper.make_graph(
        list(nodes),
        "net",
        [info(name, sizes) for name, sizes in inputs.items()],
        [info(name, sizes) for name, sizes in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, producer_name=producer)


def write(path: Path, model: Any) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mlp_model(**more: Any) -> Any:
    """Return two linear layers, written as PyTorch does."""
    from onnx import helper

    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["a"], name="/act/Relu"),
        helper.make_node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["y"], transB=1),
    ]
    weights = {
        "fc1.weight": normal(5, 4),
        "fc1.bias": normal(5),
        "fc2.weight": normal(3, 5),
        "fc2.bias": normal(3),
    }
    return onnx_model(nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, weights, **more)


def keras_model() -> Any:
    """Return a network as tf2onnx writes one of Keras: pictures with channels last.

    A padded convolution, a batch normalization, a pooling, a mean over places and a
    dense layer; each goes between two transpositions.
    """
    from onnx import helper

    base = "StatefulPartitionedCall/net/"
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "Conv",
            ["t", base + "conv/ReadVariableOp:0"],
            ["c"],
            name=base + "conv/Conv2D",
            auto_pad="SAME_UPPER",
            strides=[2, 2],
            kernel_shape=[3, 3],
        ),
        helper.make_node(
            "BatchNormalization",
            ["c", *(f"{base}bn/{name}:0" for name in ("g", "b", "m", "v"))],
            ["n"],
            name=base + "bn/FusedBatchNormV3",
            epsilon=0.001,
        ),
        helper.make_node("Relu", ["n"], ["r"], name=base + "relu/Relu"),
        helper.make_node("Transpose", ["r"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["nhwc"], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node(
            "MatMul", ["m", base + "dense/MatMul/ReadVariableOp:0"], ["d"]
        ),
        helper.make_node("Add", ["d", base + "dense/BiasAdd/ReadVariableOp:0"], ["y"]),
    ]
    weights = {
        base + "conv/ReadVariableOp:0": normal(4, 3, 3, 3),
        base + "bn/g:0": normal(4, seed=1),
        base + "bn/b:0": normal(4, seed=2),
        base + "bn/m:0": normal(4, seed=3),
        base + "bn/v:0": np.abs(normal(4, seed=4)) + np.float32(0.5),
        base + "dense/MatMul/ReadVariableOp:0": normal(4, 2),
        base + "dense/BiasAdd/ReadVariableOp:0": normal(2),
    }
    sizes: dict[str, Sizes] = {"x": ["unk__1", 5, 5, 3]}
    return onnx_model(
        nodes, sizes, {"y": ["unk__1", 2]}, weights, producer="tf2onnx", opset=15
    )


def evaluated(model: Any, **inputs: Array) -> Array:
    """Return what the reference evaluator of the package `onnx` computes."""
    from onnx.reference import ReferenceEvaluator

    (found,) = ReferenceEvaluator(model).run(None, inputs)
    return np.asarray(found)
