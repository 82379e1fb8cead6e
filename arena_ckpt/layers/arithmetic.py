"""Arithmetic layers: operations on the elements of one tensor, or of several.

An operand of size 1 along an axis is repeated where the other has more, as in NumPy;
its derivative is summed over that axis.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.properties import REAL, Property
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.shape import copy_unless_same
from arena_ckpt.layers.spec import InPlace, LayerSpec, Shape, format_shape, n_elems
from arena_ckpt.operations.families import arithmetic, curves, elementwise
from arena_ckpt.operations.kernel_names import KernelName

_FORWARD, _DERIVATIVE = TensorLifespan.FORWARD, TensorLifespan.CALC_DERIVATIVE
_BOTH = TensorLifespan.FORWARD_DERIV


class Addition(Layer):
    """Add all inputs, as where a residual connection joins."""

    type_name = "addition"
    n_inputs = None
    keeps_axes = True
    properties = OUTPUT_PROPERTIES

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the common shape; each derivative is a view of that of the output."""
        if len(set(input_shapes)) > 1:
            raise self.mismatch(
                "adds inputs of different shapes "
                f"({named_shapes(self, input_shapes)}); make them equal",
                shapes=input_shapes,
            )
        roles = tuple(f"in{i}" for i in range(len(input_shapes)))
        return LayerSpec(
            output_shapes=input_shapes[:1],
            flops=Flops(forward=(len(roles) - 1) * n_elems(input_shapes[0])),
            in_place=(
                InPlace(Phase.FORWARD, "out0", roles[:2], is_view=len(roles) == 1),
                *(
                    InPlace(
                        Phase.CALC_DERIVATIVE,
                        f"{role}:grad",
                        ("out0:grad",),
                        is_view=True,
                    )
                    for role in roles
                ),
            ),
        )

    def _n_inputs(self) -> int:
        return len(self["input_layers"] or ("",))

    def forward(self, tensors: Binding) -> list[Call]:
        """Add from left to right."""
        if self._n_inputs() == 1:
            return copy_unless_same(tensors, "in0", "out0")
        out = tensors.vector("out0")
        first = (tensors.vector("in0"), tensors.vector("in1"), out)
        return [
            Call(elementwise.add, first),
            *(
                Call(elementwise.add_to, (tensors.vector(f"in{i}"), out))
                for i in range(2, self._n_inputs())
            ),
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy the derivative to every input that wants it."""
        return [
            call
            for i in range(self._n_inputs())
            if tensors.is_wanted(f"in{i}:grad")
            for call in copy_unless_same(tensors, "out0:grad", f"in{i}:grad")
        ]


class Binary(Layer):
    """Base class of operations on two inputs, or on one and the number ``value``.

    Inputs may be repeated along axes.

    Attributes
    ----------
    kernels : tuple of KernelName
        Forward kernels: without repetition, and with it.
    saves : tuple of TensorLifespan
        Phases in which the first input, the second input and the output are read.
    derivative_flops : int
        Operations of the derivative for each element of the output.
    """

    n_inputs = range(1, 3)
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("value", REAL, None, "a number in place of the second input"),
    )
    kernels: ClassVar[tuple[KernelName, KernelName]]
    saves: ClassVar[tuple[TensorLifespan, TensorLifespan, TensorLifespan]]
    derivative_flops: ClassVar[int]

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the larger size along each axis, where one is 1 or both are equal."""
        if len(input_shapes) != (1 if self["value"] is not None else 2):
            raise self.mismatch(
                f"has {len(input_shapes)} input(s) and "
                + ("no value" if self["value"] is None else f"value={self['value']!r}")
                + "; give it two inputs, or one and a value",
                shapes=input_shapes,
                value=self["value"],
            )
        if self["value"] is not None:
            return self.with_number(input_shapes[0])
        first, second = input_shapes
        out = (
            max(first[0], second[0]),
            max(first[1], second[1]),
            max(first[2], second[2]),
        )
        for axis, sizes in enumerate(zip(first, second, strict=True)):
            if 1 not in sizes and sizes[0] != sizes[1]:
                raise self.mismatch(
                    f"has inputs of shapes {named_shapes(self, input_shapes)}, whose "
                    f"{AXES[axis]}s are {sizes[0]} and {sizes[1]}; make them equal, or "
                    "one of them 1",
                    shapes=input_shapes,
                )
        whole = tuple(index for index in (0, 1) if input_shapes[index] == out)
        n = n_elems(out)
        return LayerSpec(
            output_shapes=(out,),
            input_lifespan=self.saves[:2],
            output_lifespan=self.saves[2],
            in_place=(
                InPlace(Phase.FORWARD, "out0", tuple(f"in{i}" for i in whole)),
                *self.derivatives_in_place(whole),
            ),
            table_inputs=frozenset((0, 1)),
            flops=Flops(forward=n, calc_derivative=self.derivative_flops * n),
        )

    def with_number(self, shape: Shape) -> LayerSpec:
        """Return the spec of one input and a number; backward needs neither."""
        factor, _ = self.factor_and_term
        n, is_view = n_elems(shape), factor == 1.0
        return LayerSpec(
            output_shapes=(shape,),
            in_place=(
                InPlace(Phase.FORWARD, "out0", ("in0",)),
                InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad",), is_view),
            ),
            flops=Flops(n, 0, 0 if is_view else n),
        )

    @property
    def factor_and_term(self) -> tuple[float, float]:
        """What the input is multiplied by, and what is added, for the number."""
        raise NotImplementedError

    @staticmethod
    def has_number(tensors: Binding) -> bool:
        """Return whether a number stands in place of the second input."""
        return len(tensors.input_shapes) == 1

    def derivatives_in_place(self, whole: tuple[int, ...]) -> tuple[InPlace, ...]:
        """Return what the derivatives of inputs that are not repeated may overwrite.

        A derivative that is summed is made first, and one that overwrites its operands
        last; those of two inputs of full shape are made together, element by element.

        Parameters
        ----------
        whole : tuple of int
            Numbers of the inputs that are not repeated.
        """
        saved = [f"in{i}" for i in whole if self.saves[i] & _DERIVATIVE]
        saved += ["out0"] if self.saves[2] & _DERIVATIVE else []
        return tuple(
            InPlace(Phase.CALC_DERIVATIVE, f"in{i}:grad", ("out0:grad", *saved))
            for i in whole
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Apply the operation."""
        if self.has_number(tensors):
            x, y = tensors.vector("in0"), tensors.vector("out0")
            return [Call(curves.affine, (x, *self.factor_and_term, y))]
        a, b, y = (tensors.vector(role) for role in ("in0", "in1", "out0"))
        if a.size == b.size == y.size:
            return [Call(self.kernels[0], (a, b, y))]
        return [self.repeating(tensors, a, b, y)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Make the wanted derivatives."""
        if not self.has_number(tensors):
            return self.pair_derivatives(tensors)
        factor, _ = self.factor_and_term
        if factor == 1.0:
            return copy_unless_same(tensors, "out0:grad", "in0:grad")
        dy, dx = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        return [Call(curves.affine, (dy, factor, 0.0, dx))]

    def pair_derivatives(self, tensors: Binding) -> list[Call]:
        """Make the wanted derivatives of two inputs."""
        raise NotImplementedError

    def repeating(self, tensors: Binding, a: object, b: object, y: object) -> Call:
        """Return the call of the operation with repetition, ``y = a ∘ b``."""
        sizes, (a_steps, b_steps) = fold_axes(
            tensors.n_samples,
            tensors.output_shapes[0],
            *tensors.input_shapes,
            tables=[i for i in (0, 1) if tensors.is_table(i)],
        )
        return Call(self.kernels[1], (a, b, y, *sizes, *a_steps, *b_steps))

    def is_whole(self, tensors: Binding, index: int) -> bool:
        """Return whether an input has the shape of the output: it is not repeated."""
        has_shape = tensors.input_shapes[index] == tensors.output_shapes[0]
        return has_shape and not tensors.is_table(index)

    def sum_of(self, tensors: Binding, index: int, factor: float) -> Call:
        """Return the call that makes the derivative of a repeated input, as a sum.

        The derivative of the output, times `factor`, is summed over the axes along
        which the input is repeated.
        """
        sizes, (steps,) = fold_axes(
            tensors.n_samples,
            tensors.output_shapes[0],
            tensors.input_shapes[index],
            tables=[0] if tensors.is_table(index) else [],
        )
        dy, dx = tensors.vector("out0:grad"), tensors.vector(f"in{index}:grad")
        return Call(arithmetic.sum_plain, (dy, factor, dx, *sizes, *steps))

    def sum_with(
        self, kernel: KernelName, tensors: Binding, index: int, role: str, factor: float
    ) -> Call:
        """Return the call that makes the derivative of a repeated input with a kernel.

        The kernel sums products or quotients of the derivative of the output with the
        tensor of another role, times `factor`.
        """
        whole = tensors.output_shapes[0]
        other = None if role == "out0" else int(role[2:])
        shape = whole if other is None else tensors.input_shapes[other]
        sizes, (dx_steps, z_steps) = fold_axes(
            tensors.n_samples,
            whole,
            tensors.input_shapes[index],
            shape,
            tables=[
                part
                for part, i in enumerate((index, other))
                if i is not None and tensors.is_table(i)
            ],
        )
        dy, dx = tensors.vector("out0:grad"), tensors.vector(f"in{index}:grad")
        arguments = (dy, tensors.vector(role), factor, dx, *sizes, *dx_steps, *z_steps)
        return Call(kernel, arguments)


class Add(Binary):
    """``out0 = in0 + in1``."""

    type_name = "add"
    kernels = (elementwise.add, arithmetic.broadcast_add)
    saves = (_FORWARD, _FORWARD, TensorLifespan.UNMANAGED)
    derivative_flops = 0

    @property
    def factor_and_term(self) -> tuple[float, float]:
        """One, and the number."""
        return 1.0, float(self["value"])

    def derivatives_in_place(self, whole: tuple[int, ...]) -> tuple[InPlace, ...]:
        """Return views: an input that is not repeated has the derivative of the sum."""
        return tuple(
            InPlace(Phase.CALC_DERIVATIVE, f"in{i}:grad", ("out0:grad",), is_view=True)
            for i in whole
        )

    def pair_derivatives(self, tensors: Binding) -> list[Call]:
        """Copy the derivative, or sum it over the repeated axes."""
        calls = []
        for i in (0, 1):
            if not tensors.is_wanted(f"in{i}:grad"):
                continue
            if self.is_whole(tensors, i):
                calls += copy_unless_same(tensors, "out0:grad", f"in{i}:grad")
            else:
                calls.append(self.sum_of(tensors, i, 1.0))
        return calls


class Subtract(Binary):
    """``out0 = in0 - in1``."""

    type_name = "subtract"
    kernels = (arithmetic.subtract, arithmetic.broadcast_subtract)
    saves = (_FORWARD, _FORWARD, TensorLifespan.UNMANAGED)
    derivative_flops = 1

    @property
    def factor_and_term(self) -> tuple[float, float]:
        """One, and the number with the other sign."""
        return 1.0, -float(self["value"])

    def derivatives_in_place(self, whole: tuple[int, ...]) -> tuple[InPlace, ...]:
        """Return a view for the first input; the second overwrites the derivative."""
        return tuple(
            InPlace(
                Phase.CALC_DERIVATIVE,
                f"in{i}:grad",
                ("out0:grad",),
                is_view=i == 0,
            )
            for i in whole
        )

    def pair_derivatives(self, tensors: Binding) -> list[Call]:
        """Copy or sum the derivative; the second input gets it with the other sign."""
        calls = []
        if tensors.is_wanted("in0:grad"):
            if self.is_whole(tensors, 0):
                calls += copy_unless_same(tensors, "out0:grad", "in0:grad")
            else:
                calls.append(self.sum_of(tensors, 0, 1.0))
        if tensors.is_wanted("in1:grad"):
            if self.is_whole(tensors, 1):
                dy, db = tensors.vector("out0:grad"), tensors.vector("in1:grad")
                calls.append(Call(arithmetic.negative, (dy, db)))
            else:
                calls.append(self.sum_of(tensors, 1, -1.0))
        return calls


class Multiply(Binary):
    """``out0 = in0 · in1``, element by element."""

    type_name = "multiply"
    kernels = (arithmetic.multiply, arithmetic.broadcast_multiply)
    saves = (_BOTH, _BOTH, TensorLifespan.UNMANAGED)
    derivative_flops = 2

    @property
    def factor_and_term(self) -> tuple[float, float]:
        """The number, and nothing."""
        return float(self["value"]), 0.0

    def pair_derivatives(self, tensors: Binding) -> list[Call]:
        """Multiply the derivative by the other input, and sum over repeated axes."""
        dy = tensors.vector("out0:grad")
        wanted = [i for i in (0, 1) if tensors.is_wanted(f"in{i}:grad")]
        whole = [i for i in wanted if self.is_whole(tensors, i)]
        if len(whole) == 2:
            roles = ("in0", "in1", "out0:grad", "in0:grad", "in1:grad")
            arrays = tuple(tensors.vector(role) for role in roles)
            return [Call(arithmetic.multiply_derivatives, arrays)]
        calls = [
            self.sum_with(arithmetic.sum_products, tensors, i, f"in{1 - i}", 1.0)
            for i in wanted
            if i not in whole
        ]
        for i in whole:
            other, dx = tensors.vector(f"in{1 - i}"), tensors.vector(f"in{i}:grad")
            if other.size == dy.size:
                calls.append(Call(arithmetic.multiply, (dy, other, dx)))
            elif i == 0:
                calls.append(self.repeating(tensors, dy, other, dx))
            else:
                calls.append(self.repeating(tensors, other, dy, dx))
        return calls


class Divide(Binary):
    """``out0 = in0 / in1``, element by element."""

    type_name = "divide"
    kernels = (arithmetic.divide, arithmetic.broadcast_divide)
    saves = (_FORWARD, _BOTH, _DERIVATIVE)
    derivative_flops = 3

    def with_number(self, shape: Shape) -> LayerSpec:
        """Return the spec of a division by a number, which is not 0."""
        if self["value"] == 0:
            raise self.mismatch("has value=0.0, by which nothing is divided", value=0)
        return super().with_number(shape)

    @property
    def factor_and_term(self) -> tuple[float, float]:
        """One over the number, and nothing."""
        return 1.0 / self["value"], 0.0

    def pair_derivatives(self, tensors: Binding) -> list[Call]:
        """Compute ``out0:grad / in1`` and ``-out0:grad / in1 · out0``."""
        dy, b, y = (tensors.vector(role) for role in ("out0:grad", "in1", "out0"))
        wanted = [i for i in (0, 1) if tensors.is_wanted(f"in{i}:grad")]
        whole = [i for i in wanted if self.is_whole(tensors, i)]
        grads = {i: tensors.vector(f"in{i}:grad") for i in wanted}
        if len(whole) == 2:
            arguments = (b, y, dy, grads[0], grads[1])
            return [Call(arithmetic.divide_derivatives, arguments)]
        calls = []
        if 1 in wanted and 1 not in whole:
            calls += [
                self.sum_with(arithmetic.sum_products, tensors, 1, "out0", -1.0),
                Call(arithmetic.divide, (grads[1], b, grads[1])),
            ]
        if 0 in wanted and 0 not in whole:
            kernel = arithmetic.sum_quotients
            calls.append(self.sum_with(kernel, tensors, 0, "in1", 1.0))
        if 0 in whole and b.size == dy.size:
            calls.append(Call(arithmetic.divide, (dy, b, grads[0])))
        elif 0 in whole:
            calls.append(self.repeating(tensors, dy, b, grads[0]))
        if 1 in whole:
            calls.append(Call(arithmetic.divisor_derivative, (b, y, dy, grads[1])))
        return calls


class Power(Layer):
    """``out0 = in0 ** exponent``."""

    type_name = "pow"
    keeps_axes = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("exponent", REAL, 1.0, "the power that every element is raised to"),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; the derivative needs the input."""
        return _elementwise(input_shapes, saves="in0", forward=10, derivative=12)

    def forward(self, tensors: Binding) -> list[Call]:
        """Raise every element to the power."""
        x, y = tensors.vector("in0"), tensors.vector("out0")
        return [Call(arithmetic.power, (x, self["exponent"], y))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Compute ``out0:grad · exponent · in0 ** (exponent - 1)``."""
        x, dy = tensors.vector("in0"), tensors.vector("out0:grad")
        arguments = (x, self["exponent"], dy, tensors.vector("in0:grad"))
        return [Call(arithmetic.power_derivative, arguments)]


class SquareRoot(Layer):
    """``out0 = √in0``."""

    type_name = "sqrt"
    keeps_axes = True
    properties = OUTPUT_PROPERTIES

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; the derivative needs the output."""
        return _elementwise(input_shapes, saves="out0", forward=1, derivative=2)

    def forward(self, tensors: Binding) -> list[Call]:
        """Take the square root of every element."""
        arguments = (tensors.vector("in0"), tensors.vector("out0"))
        return [Call(arithmetic.square_root, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Compute ``out0:grad / (2 · out0)``."""
        roles = ("out0", "out0:grad", "in0:grad")
        arguments = tuple(tensors.vector(role) for role in roles)
        return [Call(arithmetic.square_root_derivative, arguments)]


class Negative(Layer):
    """``out0 = -in0``."""

    type_name = "negative"
    keeps_axes = True
    properties = OUTPUT_PROPERTIES

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the input; backward needs neither input nor output."""
        return _elementwise(input_shapes, saves="", forward=1, derivative=1)

    def forward(self, tensors: Binding) -> list[Call]:
        """Change every sign."""
        arguments = (tensors.vector("in0"), tensors.vector("out0"))
        return [Call(arithmetic.negative, arguments)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Change every sign."""
        arguments = (tensors.vector("out0:grad"), tensors.vector("in0:grad"))
        return [Call(arithmetic.negative, arguments)]


def _elementwise(
    input_shapes: tuple[Shape, ...], *, saves: str, forward: int, derivative: int
) -> LayerSpec:
    """Return the spec of a function of every element."""
    n = n_elems(input_shapes[0])
    saved = (saves,) if saves else ()
    return LayerSpec(
        output_shapes=input_shapes,
        input_lifespan=_BOTH if saves == "in0" else _FORWARD,
        output_lifespan=_DERIVATIVE if saves == "out0" else TensorLifespan.UNMANAGED,
        in_place=(
            InPlace(Phase.FORWARD, "out0", ("in0",)),
            InPlace(Phase.CALC_DERIVATIVE, "in0:grad", ("out0:grad", *saved)),
        ),
        flops=Flops(forward=forward * n, calc_derivative=derivative * n),
    )


AXES = ("channel", "height", "width")

_MADE_BY_ITSELF = re.compile(r"/(generated_out_\d+|activation_realized)$")


def named_shapes(layer: Layer, shapes: tuple[Shape, ...]) -> str:
    """Return the shapes of the inputs of a layer as text, each behind its name."""
    names = layer["input_layers"] or ()
    return ", ".join(
        f"{_MADE_BY_ITSELF.sub('', name)} {format_shape(shape)}"
        for name, shape in zip(names, shapes, strict=False)
    )


def fold_axes(
    n_samples: int, whole: Shape, *parts: Shape, tables: Collection[int] = ()
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Return sizes and strides of tensors that are repeated along axes of another.

    Parameters
    ----------
    n_samples : int
        Number of samples of the pass.
    whole : Shape
        Shape of one sample of the tensor that has all axes.
    *parts : Shape
        Shapes of the others; along each axis the size is that of `whole`, or 1.
    tables : collection of int
        Which of `parts` have no axis of samples: every sample reads the same.

    Returns
    -------
    tuple of int
        Sizes of four axes. Neighbouring axes along which the same parts are repeated
        are joined into one, and the first axes are filled up with size 1.
    list of tuple of int
        For each part its strides along these axes, in elements; 0 where it is repeated.
    """
    axes: list[tuple[int, tuple[bool, ...]]] = []
    shapes = zip(
        *((1 if i in tables else n_samples, *part) for i, part in enumerate(parts)),
        strict=True,
    )
    for size, others in zip((n_samples, *whole), shapes, strict=True):
        has = tuple(other == size for other in others)
        if axes and axes[-1][1] == has and size > 1:
            axes[-1] = (axes[-1][0] * size, has)
        elif size > 1:
            axes.append((size, has))
    axes = [(1, (False,) * len(parts))] * (4 - len(axes)) + axes
    steps = []
    for part in range(len(parts)):
        step, mine = 1, []
        for size, has in reversed(axes):
            mine.append(step if has[part] else 0)
            step *= size if has[part] else 1
        steps.append(tuple(reversed(mine)))
    return tuple(size for size, _ in axes), steps
