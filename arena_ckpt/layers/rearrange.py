"""Layers that move elements: join and split tensors, and reorder axes.

Results are copies, since tensors of the arena are contiguous: a part of a tensor is
contiguous only within one sample, as the batch is the first axis.
"""

from __future__ import annotations

from typing import ClassVar

from arena_ckpt.common.properties import POSITIVE_INT, Kind, Property
from arena_ckpt.layers.arithmetic import AXES, named_shapes
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call, Layer
from arena_ckpt.layers.contraction import AXIS
from arena_ckpt.layers.functions import OUTPUT_PROPERTIES
from arena_ckpt.layers.shape import copy_unless_same, views
from arena_ckpt.layers.spec import LayerSpec, Shape, format_shape, n_elems
from arena_ckpt.operations.families import rearrange, table_sums

MOST_PARTS = 2**12
"""Maximum number of outputs of a layer, and of steps of an unrolled one.

Each is a tensor of the plan.
"""


def _rows(n_samples: int, shape: Shape, axis: int) -> tuple[int, int]:
    """Return rows and elements of a tensor (rows, size of an axis, elements).

    Parameters
    ----------
    n_samples : int
        Number of samples of the pass.
    shape : Shape
        Shape of one sample.
    axis : int
        1 channel, 2 height or 3 width.
    """
    before, after = n_elems(shape[: axis - 1]), n_elems(shape[axis:])
    return n_samples * before, after


def _with_size(shape: Shape, axis: int, size: int) -> Shape:
    """Return a shape with another size along an axis (1 to 3)."""
    sizes = [*shape[: axis - 1], size, *shape[axis:]]
    return sizes[0], sizes[1], sizes[2]


def _copy(
    tensors: Binding,
    source: tuple[str, int, int],
    target: tuple[str, int, int],
    rows: int,
    width: int,
) -> Call:
    """Return the call that copies `width` elements of each of `rows` rows.

    Parameters
    ----------
    tensors : Binding
    source, target : (str, int, int)
        Role, first element, and stride of the rows in elements.
    rows, width : int
    """
    x, y = tensors.vector(source[0]), tensors.vector(target[0])
    sizes = (1, 1, rows, width)
    x_steps, y_steps = (source[1], 0, 0, source[2]), (target[1], 0, 0, target[2])
    return Call(rearrange.copy_rows, (x, y, *sizes, *x_steps, *y_steps))


def _copy_table(
    tensors: Binding, index: int, start: int, width: int, rows: int, total: int
) -> Call:
    """Return the call that copies a table into its place in every sample."""
    x, y, n = tensors.vector(f"in{index}"), tensors.vector("out0"), tensors.n_samples
    rows //= n
    x_steps, y_steps = (0, 0, 0, width), (start, 0, rows * total, total)
    return Call(rearrange.copy_rows, (x, y, 1, n, rows, width, *x_steps, *y_steps))


def _sum_of_table(
    tensors: Binding, index: int, start: int, width: int, rows: int, total: int
) -> Call:
    """Return the call that sums the derivatives of a table over the samples."""
    dy, dx = tensors.vector("out0:grad"), tensors.vector(f"in{index}:grad")
    n = tensors.n_samples
    rows //= n
    places = n, rows * total, start, rows, total, width
    return Call(table_sums.sum_samples, (dy, dx, *places))


class Concat(Layer):
    """Join all inputs along an axis, one after the other."""

    type_name = "concat"
    n_inputs = None
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "axis",
            AXIS,
            None,
            "1 channel, 2 height, 3 width; where absent, as in NNTrainer, 3 if the "
            "first input has several channels, else 1",
        ),
    )

    def axis(self, input_shapes: tuple[Shape, ...]) -> int:
        """Return the number of the axis: 1 channel, 2 height or 3 width."""
        if self["axis"] is not None:
            return int(self["axis"])
        return 3 if input_shapes[0][0] > 1 else 1

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return a shape with the sum of the sizes along the axis."""
        axis = self.axis(input_shapes)
        if len({_with_size(shape, axis, 1) for shape in input_shapes}) > 1:
            raise self.mismatch(
                f"joins inputs along axis {axis} ({AXES[axis - 1]}) that differ along "
                f"others ({named_shapes(self, input_shapes)}); make them equal there, "
                "or set axis",
                shapes=input_shapes,
                axis=axis,
            )
        total = sum(shape[axis - 1] for shape in input_shapes)
        return LayerSpec(
            output_shapes=(_with_size(input_shapes[0], axis, total),),
            in_place=views(1) if len(input_shapes) == 1 else (),
            table_inputs=frozenset(range(len(input_shapes))),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy each input to its place, a table to that of every sample."""
        if len(tensors.input_shapes) == 1:
            return copy_unless_same(tensors, "in0", "out0")
        return [
            _copy_table(tensors, i, start, width, rows, total)
            if tensors.is_table(i)
            else _copy(
                tensors, (f"in{i}", 0, width), ("out0", start, total), rows, width
            )
            for i, start, width, rows, total in self._parts(tensors)
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy each part of the derivative to its input, summed for a table."""
        if len(tensors.input_shapes) == 1:
            return copy_unless_same(tensors, "out0:grad", "in0:grad")
        return [
            _sum_of_table(tensors, i, start, width, rows, total)
            if tensors.is_table(i)
            else _copy(
                tensors,
                ("out0:grad", start, total),
                (f"in{i}:grad", 0, width),
                rows,
                width,
            )
            for i, start, width, rows, total in self._parts(tensors)
            if tensors.is_wanted(f"in{i}:grad")
        ]

    def _parts(self, tensors: Binding) -> list[tuple[int, int, int, int, int]]:
        """Return where each input stands in the output.

        Returns
        -------
        list of (int, int, int, int, int)
            Number of the input, its first element in a row of the output, its elements
            in a row, the number of rows, and all elements of a row.
        """
        axis, start, parts = self.axis(tensors.input_shapes), 0, []
        rows, elems = _rows(tensors.n_samples, tensors.output_shapes[0], axis)
        total = elems * tensors.output_shapes[0][axis - 1]
        for i, shape in enumerate(tensors.input_shapes):
            width = elems * shape[axis - 1]
            parts.append((i, start, width, rows, total))
            start += width
        return parts


class Split(Layer):
    """Split the input along an axis into equal parts: out0, out1 and so on."""

    type_name = "split"
    moves_elements = True
    properties: ClassVar[tuple[Property, ...]] = (
        *COMMON_PROPERTIES,
        Property("axis", AXIS, None, "1 channel, 2 height, 3 width (required)"),
        Property(
            "split_number",
            POSITIVE_INT,
            None,
            "parts; one for each place along the axis where absent",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shapes of the parts."""
        axis, shape = self["axis"], input_shapes[0]
        if axis is None:
            raise self.mismatch("has no axis; set it, for example axis=3")
        size = shape[axis - 1]
        n_parts = self["split_number"] or size
        if n_parts > MOST_PARTS:
            raise self.mismatch(
                f"splits the {AXES[axis - 1]} of {format_shape(shape)} into "
                f"{n_parts:,} parts, at most {MOST_PARTS:,} are possible; set "
                "split_number to a smaller divisor",
                size=size,
                split_number=n_parts,
            )
        if size % n_parts:
            raise self.mismatch(
                f"cannot split the {AXES[axis - 1]} of {format_shape(shape)}, which is "
                f"{size}, into {n_parts} equal parts; set split_number to a divisor",
                size=size,
                split_number=n_parts,
            )
        return LayerSpec(
            output_shapes=(_with_size(shape, axis, size // n_parts),) * n_parts,
            forward_skips_unwanted=True,
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy each part."""
        rows, width, n_parts = self._sizes(tensors)
        return [
            _copy(
                tensors,
                ("in0", i * width, n_parts * width),
                (f"out{i}", 0, width),
                rows,
                width,
            )
            for i in range(n_parts)
            if tensors.is_wanted(f"out{i}")
        ]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy the derivatives of the parts to their places."""
        rows, width, n_parts = self._sizes(tensors)
        return [
            _copy(
                tensors,
                (f"out{i}:grad", 0, width),
                ("in0:grad", i * width, n_parts * width),
                rows,
                width,
            )
            for i in range(n_parts)
        ]

    def _sizes(self, tensors: Binding) -> tuple[int, int, int]:
        """Return the rows, the elements of a part in each, and the number of parts."""
        axis, shape = self["axis"], tensors.output_shapes[0]
        rows, elems = _rows(tensors.n_samples, shape, axis)
        return rows, elems * shape[axis - 1], len(tensors.output_shapes)


class Slice(Layer):
    """Take the places start_index to end_index - 1 along an axis, counted from 1."""

    type_name = "slice"
    moves_elements = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property("axis", AXIS, None, "1 channel, 2 height, 3 width (required)"),
        Property("start_index", POSITIVE_INT, 1, "the first place, counted from 1"),
        Property(
            "end_index",
            POSITIVE_INT,
            None,
            "the first place after the slice, counted from 1; where absent, the slice "
            "goes to the end",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape of the slice."""
        axis, shape = self["axis"], input_shapes[0]
        if axis is None:
            raise self.mismatch("has no axis; set it, for example axis=3")
        start, stop = self._range(shape)
        size = shape[axis - 1]
        if not start < stop <= size:
            raise self.mismatch(
                f"has start_index={start + 1} and end_index={stop + 1}, counted from 1 "
                f"with the end left out, for the {AXES[axis - 1]} of "
                f"{format_shape(shape)}, which is {size}; set "
                f"1 <= start_index < end_index <= {size + 1}",
                start_index=start + 1,
                end_index=stop + 1,
                size=size,
            )
        return LayerSpec(output_shapes=(_with_size(shape, axis, stop - start),))

    def _range(self, shape: Shape) -> tuple[int, int]:
        """Return the half-open range of the slice along the axis, counted from 0."""
        end = self["end_index"] or shape[self["axis"] - 1] + 1
        return self["start_index"] - 1, end - 1

    def _sizes(self, tensors: Binding) -> tuple[int, int, int, int]:
        """Return the number of rows, and which elements of each are copied.

        Returns
        -------
        (int, int, int, int)
            Rows, elements copied from each, the first of them, and elements of a row.
        """
        axis, shape = self["axis"], tensors.input_shapes[0]
        rows, elems = _rows(tensors.n_samples, shape, axis)
        start, stop = self._range(shape)
        total = elems * shape[axis - 1]
        return rows, elems * (stop - start), elems * start, total

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy the slice."""
        rows, width, start, total = self._sizes(tensors)
        return [_copy(tensors, ("in0", start, total), ("out0", 0, width), rows, width)]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy the derivative to its place, and write 0 around it."""
        dy, dx = tensors.vector("out0:grad"), tensors.vector("in0:grad")
        return [Call(rearrange.place_rows, (dy, dx, *self._sizes(tensors)))]


def _parse_direction(value: object) -> tuple[int, int, int]:
    """Read the numbers 1, 2 and 3 in any order."""
    items = value.split(",") if isinstance(value, str) else value
    first, second, third = (int(str(item)) for item in items)  # type: ignore[attr-defined]
    if sorted((first, second, third)) != [1, 2, 3]:
        raise ValueError
    return first, second, third


DIRECTION = Kind(
    "1, 2 and 3 in the new order, for example 3,1,2",
    _parse_direction,
    lambda value: ",".join(map(str, value)),
)


class Permute(Layer):
    """Reorder the axes: ``direction`` names for each new axis the old one."""

    type_name = "permute"
    moves_elements = True
    properties: ClassVar[tuple[Property, ...]] = (
        *OUTPUT_PROPERTIES,
        Property(
            "direction",
            DIRECTION,
            None,
            "the old number (1 channel, 2 height, 3 width) of each new axis (required)",
        ),
    )

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return the shape in the new order; a view where no element moves."""
        if self["direction"] is None:
            raise self.mismatch("has no direction; set it, for example direction=3,1,2")
        shape = input_shapes[0]
        first, second, third = (shape[axis - 1] for axis in self["direction"])
        moves = _moves(shape, self["direction"])
        return LayerSpec(
            output_shapes=((first, second, third),),
            in_place=() if moves else views(1),
        )

    def forward(self, tensors: Binding) -> list[Call]:
        """Copy the elements to their new places."""
        shape = tensors.input_shapes[0]
        return _permuted(tensors, "in0", "out0", shape, self["direction"])

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Copy the derivatives back to the old places."""
        shape, new = tensors.output_shapes[0], self["direction"]
        back = (new.index(1) + 1, new.index(2) + 1, new.index(3) + 1)
        return _permuted(tensors, "out0:grad", "in0:grad", shape, back)


def _moves(shape: Shape, direction: tuple[int, int, int]) -> bool:
    """Return whether axes of more than one element change their order."""
    longer = [axis for axis in direction if shape[axis - 1] > 1]
    return longer != sorted(longer)


def _permuted(
    tensors: Binding,
    source: str,
    target: str,
    shape: Shape,
    direction: tuple[int, int, int],
) -> list[Call]:
    """Return the call that reorders axes: copies of rows, or a transposition."""
    if not _moves(shape, direction):
        return copy_unless_same(tensors, source, target)
    x, y = tensors.vector(source), tensors.vector(target)
    n, (channels, height, width) = tensors.n_samples, shape
    x_steps = (height * width, width, 1)
    y_step_of, step = {}, 1
    for axis in reversed(direction):
        y_step_of[axis] = step
        step *= shape[axis - 1]
    y_steps = (y_step_of[1], y_step_of[2], y_step_of[3])
    if direction[2] == 3:
        sizes = (n, channels, height, width)
        x_places = (0, step, *x_steps[:2])
        y_places = (0, step, *y_steps[:2])
        return [Call(rearrange.copy_rows, (x, y, *sizes, *x_places, *y_places))]
    # The last axis of the output is that of the columns; one of the others is left.
    row_axis = direction[2] - 1
    left = 1 - row_axis
    if direction == (2, 3, 1):  # and it can be one with the columns: both move together
        arguments = (1, n, channels, height * width)
        places = (0, step, height * width, 0, step, channels)
        return [Call(rearrange.transpose, (x, y, *arguments, *places))]
    if direction == (3, 1, 2):  # or with the rows
        arguments = (1, n, channels * height, width)
        places = (0, step, width, 0, step, channels * height)
        return [Call(rearrange.transpose, (x, y, *arguments, *places))]
    arguments = (n, shape[left], shape[row_axis], width)
    places = (step, x_steps[left], x_steps[row_axis], step, y_steps[left], y_steps[2])
    return [Call(rearrange.transpose, (x, y, *arguments, *places))]
