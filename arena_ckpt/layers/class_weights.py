"""Weights of classes, in the tensors and kernel calls of cross entropies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import NONNEGATIVE_REALS, Property, whole
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.spec import LayerSpec, Shape, TensorSpec, n_elems
from arena_ckpt.operations.families import elementwise
from arena_ckpt.operations.regions import Region

AXIS = Property(
    "axis",
    whole(1, 3),
    3,
    "where the classes are: 1 (channel), 2 (height) or 3 (width)",
)


def weights_property(name: str, help: str) -> Property:
    """Return a property that has a number for each class."""
    return Property(name, NONNEGATIVE_REALS, None, help)


def as_float32(values: Sequence[float]) -> tuple[float, ...]:
    """Return the values that kernels see."""
    return tuple(float(np.float32(value)) for value in values)


def classes_of(shape: Shape, axis: int) -> tuple[int, int]:
    """Return the number of classes, and that of elements from class to class."""
    return shape[axis - 1], n_elems(shape[axis:])


def require_weights(
    layer: Layer, name: str, weights: Sequence[float], shape: Shape
) -> None:
    """Refuse weights that are not one for each class.

    Raises
    ------
    ShapeMismatchError
    """
    axis = layer["axis"]
    n_classes, n_weights = shape[axis - 1], len(weights)
    if n_weights == n_classes:
        return
    what = "channels" if axis == 1 else "rows" if axis == 2 else "columns"
    which = (
        f"class {n_classes}, which is not there"
        if n_weights > n_classes
        else f"no weight to class {n_weights}"
    )
    raise layer.mismatch(
        f"{name} has {n_weights} numbers, but there are {n_classes} classes (the "
        f"{what} of {':'.join(map(str, shape))}), so it gives {which}; write one "
        "number for each class",
        property=name,
        expected=n_classes,
        found=n_weights,
    )


def with_weights(spec: LayerSpec, name: str, n_weights: int) -> LayerSpec:
    """Return a specification with a tensor for the weights of classes."""
    lifespan = TensorLifespan.FORWARD | TensorLifespan.CALC_DERIVATIVE
    tensor = TensorSpec(name, (n_weights,), lifespan, per_sample=False)
    return replace(spec, tensors=(*spec.tensors, tensor))


def fill_weights(
    tensors: Binding, name: str, weights: Sequence[float]
) -> tuple[Region, list[Call]]:
    """Return the tensor of weights, and the calls that write them, one for each run."""
    table: Any = tensors.vector(name)
    calls, start = [], 0
    for stop in range(1, len(weights) + 1):
        if stop == len(weights) or weights[stop] != weights[start]:
            calls.append(Call(elementwise.fill, (weights[start], table[start:stop])))
            start = stop
    return table, calls
