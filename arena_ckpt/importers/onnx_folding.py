"""Computes what an ONNX graph computes from known numbers alone, shapes above all.

Exporters write shapes as arithmetic: `Shape`, `Gather`, `Concat`, `Reshape`. A `Known`
is such a result. The number of samples is not known at import, so each is computed for
two of them: where both agree it is a constant, and where they are as 11 to 13 it grows
with the batch. The reference evaluator of the package `onnx` does the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.importers.onnx_graph import OnnxNode, onnx_package

Array = npt.NDArray[Any]

BATCHES = (11, 13)
"""The two numbers of samples: coprime, so that a multiple of both is no accident."""

MOST_ELEMENTS = 2**26
"""Maximum number of elements of a folded result, so that a small file stays small."""

FOLDED = frozenset(
    (
        *("Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "CastLike", "Ceil", "Clip"),
        *("Concat", "ConstantOfShape", "Cos", "CumSum", "Div", "Equal", "Erf", "Exp"),
        *("Expand", "EyeLike", "Flatten", "Floor", "Gather", "GatherElements"),
        *("GatherND", "Greater", "GreaterOrEqual", "Identity", "IsInf", "IsNaN"),
        *("Less", "LessOrEqual", "Log", "MatMul", "Max", "Mean", "Min", "Mod", "Mul"),
        *("Neg", "NonZero", "Not", "OneHot", "Or", "Pow", "Range", "Reciprocal"),
        *("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round"),
        *("ScatterElements", "ScatterND", "Sigmoid", "Sign", "Sin", "Size", "Slice"),
        *("Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile"),
        *("Transpose", "Trilu", "Unsqueeze", "Where", "Xor"),
    )
)
"""Operations that are computed at import where all they read is known."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """An array that is known at import, for each of the two numbers of samples."""

    arrays: tuple[Array, Array]

    @classmethod
    def of(cls, value: Any) -> Known:
        """Return a known array that does not depend on the batch."""
        array = np.asarray(value)
        return cls((array, array))

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for every number of samples."""
        one, other = self.arrays
        return one is other or (
            one.shape == other.shape
            and one.dtype == other.dtype
            and bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
        )

    @property
    def constant(self) -> Array:
        """The array.

        Raises
        ------
        ValueError
            It depends on the number of samples.
        """
        if not self.is_constant:
            raise ValueError("numbers depend on the number of samples")
        return self.arrays[0]

    @property
    def uniform(self) -> float | None:
        """The number that all elements are, whatever the batch; None if they differ."""
        found = {float(v) for array in self.arrays for v in np.unique(array)[:2]}
        return found.pop() if len(found) == 1 else None

    @property
    def extents(self) -> tuple[tuple[int, bool], ...]:
        """The elements as sizes: a factor, and whether the batch multiplies it.

        Raises
        ------
        ValueError
            A size is no multiple of the number of samples and yet depends on it.
        """
        one, other = (np.atleast_1d(array).ravel().tolist() for array in self.arrays)
        if len(one) != len(other):
            raise ValueError("the number of axes depends on the number of samples")
        return tuple(_extent(int(a), int(b)) for a, b in zip(one, other, strict=True))


def _extent(first: int, second: int) -> tuple[int, bool]:
    if first == second:
        return first, False
    factor = first // BATCHES[0]
    if (factor * BATCHES[0], factor * BATCHES[1]) == (first, second):
        return factor, True
    raise ValueError(
        "a size depends on the number of samples, and is no multiple of it"
    )


def shape_of(sizes: Sequence[tuple[int, bool]]) -> Known:
    """Return the shape of a tensor with samples, as the operation `Shape` does.

    Parameters
    ----------
    sizes : sequence of (int, bool)
        The factor of each axis, and whether the batch multiplies it.
    """
    one, other = (
        np.array([n * batch if grows else n for n, grows in sizes], np.int64)
        for batch in BATCHES
    )
    return Known((one, other))


def fold(
    node: OnnxNode, proto: Any, inputs: Sequence[Known | None], opset: int
) -> tuple[Known, ...]:
    """Return the results of an operation of which everything is known.

    Parameters
    ----------
    node : OnnxNode
    proto : NodeProto
        The same node as the file has it.
    inputs : sequence of Known or None
        None where an input is left out.
    opset : int

    Raises
    ------
    ValueError
        It would be too large, or cannot be computed.
    """
    first = _evaluate(node, proto, _under(inputs, 0), opset)
    if all(known is None or known.is_constant for known in inputs):
        return tuple(Known((array, array)) for array in first)
    second = _evaluate(node, proto, _under(inputs, 1), opset)
    return tuple(map(Known, zip(first, second, strict=True)))


def _under(inputs: Sequence[Known | None], number: int) -> list[Array | None]:
    return [None if known is None else known.arrays[number] for known in inputs]


def _evaluate(
    node: OnnxNode, proto: Any, arrays: Sequence[Array | None], opset: int
) -> list[Array]:
    onnx = onnx_package()
    from onnx.reference import ReferenceEvaluator

    if _n_elements(node, arrays) > MOST_ELEMENTS:
        raise ValueError(f"its result has more than {MOST_ELEMENTS:,} elements")
    given = {
        name: array
        for name, array in zip(node.inputs, arrays, strict=True)
        if array is not None and name
    }
    helper = onnx.helper
    graph = helper.make_graph(
        [proto],
        "folded",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), None
            )
            for name, array in given.items()
        ],
        [helper.make_tensor_value_info(name, 0, None) for name in node.outputs if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        found = ReferenceEvaluator(model).run(None, given)
    return [np.asarray(array) for array in found]


def _n_elements(node: OnnxNode, arrays: Sequence[Array | None]) -> float:
    """Return about how many elements a result has, before any is made."""
    sizes = [float(array.size) for array in arrays if array is not None]
    second = arrays[1] if len(arrays) > 1 else None
    match node.op:
        case "ConstantOfShape" if arrays[0] is not None:
            return math.prod(map(float, arrays[0].ravel()))
        case "Expand" if second is not None:
            return max(sizes[0], 1.0) * math.prod(map(float, second.ravel()))
        case "Tile" if second is not None:
            return max(sizes[0], 1.0) * math.prod(map(float, second.ravel()))
        case "Range":
            start, limit, delta = (
                float(np.asarray(array).ravel()[0]) for array in arrays
            )
            return abs(limit - start) / max(abs(delta), 1e-30)
        case "OneHot" if second is not None:
            return sizes[0] * float(np.asarray(second).ravel()[0])
    shapes = [array.shape for array in arrays if array is not None]
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    together = math.prod(float(max(along)) for along in zip(*padded, strict=True))
    return max([together, sum(sizes), *sizes]) if sizes else 1.0
