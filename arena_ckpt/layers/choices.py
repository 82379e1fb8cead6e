"""Layers that choose between elements: maximum, minimum, and one by a condition."""

from __future__ import annotations

import math
from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.layers.arithmetic import AXES, Binary, fold_axes, named_shapes
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.spec import InPlace, LayerSpec, Shape, n_elems
from arena_ckpt.operations.curves import curve_kernels
from arena_ckpt.operations.families import choices

_FORWARD = TensorLifespan.FORWARD
_BOTH = TensorLifespan.FORWARD_DERIV


class Extreme(Binary):
    """Base class of maximum and minimum, of two inputs or of one and a number.

    Attributes
    ----------
    sign : float
        1.0 for the maximum, -1.0 for the minimum.
    """

    sign: ClassVar[float]
    saves = (_BOTH, _BOTH, TensorLifespan.UNMANAGED)
    derivative_flops = 2

    def derivatives_in_place(self, whole: tuple[int, ...]) -> tuple[InPlace, ...]:
        """Return what the derivative that is made last may overwrite."""
        if not whole:
            return ()
        operands = ("out0:grad", *(f"in{i}" for i in reversed(whole)))
        return (InPlace(Phase.CALC_DERIVATIVE, f"in{whole[-1]}:grad", operands),)

    def with_number(self, shape: Shape) -> LayerSpec:
        """Return the spec of one input and a number; the derivative needs the input."""
        n = n_elems(shape)
        return LayerSpec(
            output_shapes=(shape,),
            input_lifespan=_BOTH,
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",)),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad", "in0")),
            ),
            flops=Flops(n, 0, n),
        )

    @property
    def _bounds(self) -> tuple[float, float]:
        """The least and the greatest output where there is a number."""
        value = float(self["value"])
        return (value, math.inf) if self.sign > 0 else (-math.inf, value)

    def forward(self, tensors: Binding) -> list[Call]:
        """Take the greater or the smaller of two elements."""
        if self.has_number(tensors):
            x, y = tensors.vector("in0"), tensors.vector("out0")
            return [Call(curve_kernels("clamp")[0], (x, *self._bounds, y))]
        a, b, y = (tensors.vector(role) for role in ("in0", "in1", "out0"))
        arguments = (a, b, self.sign, y, *_sizes_and_steps(tensors, 0, 1))
        return [Call(choices.extreme, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Give the derivative to the input that was taken, half to each of two."""
        dy = tensors.vector("out0:grad")
        if self.has_number(tensors):
            x, dx = tensors.vector("in0"), tensors.vector("in0:grad")
            return [Call(curve_kernels("clamp")[1], (x, *self._bounds, dy, dx))]
        wanted = [i for i in (0, 1) if tensors.is_wanted(f"in{i}:grad")]
        calls = []
        # What is summed comes first, as the last one may overwrite what it reads.
        for i in sorted(wanted, key=lambda i: self.is_whole(tensors, i)):
            mine, other = tensors.vector(f"in{i}"), tensors.vector(f"in{1 - i}")
            arrays = (dy, mine, other, self.sign, tensors.vector(f"in{i}:grad"))
            numbers = _sizes_and_steps(tensors, i, i, 1 - i)
            calls.append(Call(choices.sum_extreme, (*arrays, *numbers)))
        return calls


class Maximum(Extreme):
    """``out0 = max(in0, in1)``, or ``max(in0, value)``, element by element."""

    type_name = "maximum"
    sign = 1.0


class Minimum(Extreme):
    """``out0 = min(in0, in1)``, or ``min(in0, value)``, element by element."""

    type_name = "minimum"
    sign = -1.0


class Where(Layer):
    """``out0 = in1`` where the condition ``in0`` is not 0, else ``in2``."""

    type_name = "where"
    n_inputs = 3
    keeps_axes = True
    properties = OUTPUT_PROPERTIES

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the largest size along each axis; the condition has no derivative."""
        out = _common_shape(self, input_shapes)
        whole = tuple(i for i in (1, 2) if input_shapes[i] == out)
        n = n_elems(out)
        last = tuple(
            InPlace(Phase.CALC_DERIVATIVE, f"in{i}:grad", ("out0:grad",))
            for i in whole[-1:]
        )
        return LayerSpec(
            output_shapes=(out,),
            input_lifespan=(_BOTH, _FORWARD, _FORWARD),
            fixed_inputs=frozenset({0}),
            table_inputs=frozenset((0, 1, 2)),
            in_place=(
                InPlace(Phase.FORWARD, "out0", tuple(f"in{i}" for i in whole)),
                *last,
            ),
            flops=Flops(n, 0, 2 * n),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Choose each element."""
        arrays = tuple(map(tensors.vector, ("in0", "in1", "in2", "out0")))
        return [Call(choices.select, (*arrays, *_sizes_and_steps(tensors, 0, 1, 2)))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Give the derivative to the input that was taken, summed where repeated."""
        out, shapes = tensors.output_shapes[0], tensors.input_shapes
        wanted = [i for i in (1, 2) if tensors.is_wanted(f"in{i}:grad")]
        calls = []
        # What is summed comes first, as the last one may overwrite what it reads.
        for i in sorted(wanted, key=lambda i: shapes[i] == out):
            arrays = (tensors.vector("out0:grad"), tensors.vector("in0"))
            numbers = _sizes_and_steps(tensors, i, 0)
            arguments = (*arrays, i - 1, tensors.vector(f"in{i}:grad"), *numbers)
            calls.append(Call(choices.sum_selected, arguments))
        return calls


def _sizes_and_steps(tensors: Binding, *inputs: int) -> tuple[int, ...]:
    """Return the sizes of four axes, and the steps of inputs along them.

    Parameters
    ----------
    tensors : Binding
    *inputs : int
        Their numbers, each in the order in which a kernel takes the steps.
    """
    sizes, steps = fold_axes(
        tensors.n_samples,
        tensors.output_shapes[0],
        *(tensors.input_shapes[i] for i in inputs),
        tables=[place for place, i in enumerate(inputs) if tensors.is_table(i)],
    )
    return tuple(number for some in (sizes, *steps) for number in some)


def _common_shape(layer: Layer, shapes: tuple[Shape, ...]) -> Shape:
    """Return the shape that all inputs have once they are repeated.

    Raises
    ------
    ShapeMismatchError
    """
    sizes = []
    for axis, along in enumerate(zip(*shapes, strict=True)):
        most = max(along)
        if any(size not in (1, most) for size in along):
            raise layer.mismatch(
                f"has inputs of shapes {named_shapes(layer, shapes)}, whose "
                f"{AXES[axis]}s are {', '.join(map(str, along))}; make those that are "
                "not 1 equal",
                shapes=shapes,
            )
        sizes.append(most)
    return sizes[0], sizes[1], sizes[2]
