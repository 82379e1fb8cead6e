"""Layers that stand for a table: a trained parameter, or numbers that are given.

Their output is the weight itself, without an axis of samples. What reads it repeats it
for every sample without a copy; `expand` makes copies for layers that cannot.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import REAL, SHAPE, Kind, Property
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call, Layer
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.spec import LayerSpec, Shape, WeightSpec, format_shape, n_elems
from arena_ckpt.layers.weighted import WEIGHT_PROPERTIES, weight_spec
from arena_ckpt.operations.families import elementwise, rearrange, table_sums

LARGEST_FLOAT = 3.4028234663852886e38
"""Maximum of float32."""

MOST_VALUES = 2**20
"""Maximum number of values that a property can give; larger tables are loaded."""


def _flat(values: object) -> Iterator[object]:
    """Yield the numbers of lists within lists, or of an array of any shape."""
    if isinstance(values, str):
        yield from values.split(",")
    elif isinstance(values, Iterable) and getattr(values, "shape", None) != ():
        for item in values:
            yield from _flat(item)
    else:
        yield values


def _parse_values(value: object) -> tuple[float, ...]:
    numbers: list[float] = []
    for item in _flat(value):
        number = REAL.parse(item)
        if not math.fabs(number) <= LARGEST_FLOAT or len(numbers) == MOST_VALUES:
            raise ValueError
        numbers.append(number)
    if not numbers:
        raise ValueError
    return tuple(numbers)


VALUES = Kind(
    f"one number, or up to {MOST_VALUES:,}, separated by commas, that float32 can hold",
    _parse_values,
    lambda values: ", ".join(map(repr, values)),
)

DIM = Property("dim", SHAPE, None, "channel:height:width of the table (required)")


class Table(Layer):
    """Base class of layers whose output is their one weight itself."""

    n_inputs = 0
    is_table = True

    def dim(self) -> Shape:
        """Return the shape of the table.

        Raises
        ------
        ShapeMismatchError
            It is not given.
        """
        dim = self["dim"]
        if dim is None:
            raise self.mismatch("has no dim; set it, for example dim=1:1:16")
        return int(dim[0]), int(dim[1]), int(dim[2])

    def values(self) -> bytes | None:
        """Return the elements that the table starts from, or None.

        Raises
        ------
        ShapeMismatchError
            There are neither as many as elements, nor a single one for all.
        """
        values, dim = self["value"], self.dim()
        if values is None:
            return None
        n = n_elems(dim)
        if len(values) not in (1, n):
            raise self.mismatch(
                f"has {len(values)} values for the {n} elements of "
                f"{format_shape(dim)}; give one for each, or a single one for all",
                dim=dim,
                n_values=len(values),
            )
        return struct.pack(f"<{n}f", *(values if len(values) == n else values * n))


class Weight(Table):
    """A parameter that stands alone, and is trained."""

    type_name = "weight"
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        DIM,
        Property(
            "value",
            VALUES,
            None,
            "what the elements start from: one number for all, or one for each; "
            "weight_initializer where absent",
        ),
        *(
            p
            for p in WEIGHT_PROPERTIES
            if not p.name.startswith("bias") and p.name != "shared_from"
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the table as a trained weight."""
        dim = self.dim()
        weight = weight_spec(
            self,
            "weight",
            dim,
            fan_in=dim[1],
            fan_out=dim[2],
            lifespan=TensorLifespan.UNMANAGED,
            values=self.values(),
        )
        if weight.regularizer_constant and self.is_trainable:
            weight = replace(weight, lifespan=TensorLifespan.FORWARD)
        return LayerSpec(output_shapes=(dim,), weights=(weight,))

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Hand on the derivative, which its readers have summed over the samples."""
        kernel = elementwise.add_to if tensors.accumulate else elementwise.copy
        arguments = (tensors.vector("out0:grad"), tensors.vector("weight:grad"))
        return [Call(kernel, arguments)]


class Constant(Table):
    """A table of given numbers, such as positions or anchors; it is never trained."""

    type_name = "constant"
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        DIM,
        Property(
            "value",
            VALUES,
            None,
            "the elements: one number for all, or one for each (required)",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the table as a weight that is not trained."""
        dim, values = self.dim(), self.values()
        if values is None:
            raise self.mismatch("has no value; set it, for example value=0.5")
        weight = WeightSpec(
            "value",
            dim,
            "zeros",
            fan_in=dim[1],
            fan_out=dim[2],
            lifespan=TensorLifespan.UNMANAGED,
            is_trained=False,
            values=values,
        )
        return LayerSpec(output_shapes=(dim,), weights=(weight,))


class Expand(Layer):
    """Repeat a table for every sample, so that any layer can read it."""

    type_name = "expand"
    repeats_table = True
    moves_elements = True
    properties = OUTPUT_PROPERTIES

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the table, which each sample then has."""
        return LayerSpec(
            output_shapes=input_shapes,
            input_lifespan=TensorLifespan.FORWARD,
            table_inputs=frozenset((0,)),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy the table for each sample."""
        x, y = tensors.vector("in0"), tensors.vector("out0")
        size = n_elems(tensors.input_shapes[0])
        sizes = 1, 1, tensors.n_samples, size
        places = 0, 0, 0, 0, 0, 0, 0, size
        return [Call(rearrange.copy_rows, (x, y, *sizes, *places))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Sum the derivatives over the samples."""
        dy, dx = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        size = n_elems(tensors.input_shapes[0])
        places = tensors.n_samples, size, 0, 1, size, size
        return [Call(table_sums.sum_samples, (dy, dx, *places))]
