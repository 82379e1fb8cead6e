"""Sequences of several lengths: the second input of a recurrent layer.

The valid steps of a sample come first. The loops of the kernels run over all steps, and
what they make of the others is overwritten: hidden states and gates by 0, so that no
result and no gradient has a share of them. The second direction turns the valid steps
of each sample around first and then runs as the first one does; behind its loops the
order is restored. The derivative of the last states enters at the last valid step.

Known shortcoming: steps that are not valid take as much time as others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from arena_ckpt.common.dtypes import INT32
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.spec import (
    LARGEST_ID,
    IdInput,
    LayerSpec,
    Shape,
    TensorSpec,
    format_shape,
)
from arena_ckpt.operations.families import elementwise, lengths, rearrange
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.regions import Region

COUNTS = "counts"
"""Role of the number of valid steps of each sample, as integers."""

SECOND_KEY = 1 << 62
"""What tells the random key of the second direction from that of the first."""


def with_lengths(
    layer: Layer, spec: LayerSpec, shapes: tuple[Shape, ...], backward: TensorLifespan
) -> LayerSpec:
    """Return the spec of a recurrent layer that also reads lengths.

    Parameters
    ----------
    layer : Layer
    spec : LayerSpec
        What it needs without lengths.
    shapes : tuple of Shape
        Of one sample of the sequence, and of its length.
    backward : TensorLifespan
        Phase of the backward loop.

    Raises
    ------
    ShapeMismatchError
        A length is no single number, or there are too many steps.
    """
    (_, steps, _), shape = shapes
    if shape != (1, 1, 1):
        raise layer.mismatch(
            f"its second input is the length of each sequence, 1:1:1, and has the "
            f"shape {format_shape(shape)}; give an input layer with "
            "input_shape=1:1:1, or name one input only",
            shape=shape,
        )
    if steps >= LARGEST_ID:
        raise layer.mismatch(
            f"reads lengths of {steps:,} steps; they are float32, which counts to "
            f"{LARGEST_ID - 1:,}: shorten the sequence",
            steps=steps,
        )
    counts = TensorSpec(COUNTS, (1,), TensorLifespan.FORWARD | backward, dtype=INT32)
    return replace(
        spec,
        input_lifespan=(TensorLifespan.FORWARD_GRAD, TensorLifespan.FORWARD),
        fixed_inputs=frozenset({1}),
        id_inputs=(IdInput(1, steps + 1, least=1, called="lengths"),),
        tensors=(*spec.tensors, counts),
    )


def count_steps(tensors: Binding) -> Call:
    """Return the call that makes the counts; a length out of range makes loss NaN."""
    _, steps, _ = tensors.input_shapes[0]
    counts = tensors.indexes(COUNTS)
    arguments = (tensors.vector("in1"), steps, counts, tensors.loss)
    return Call(lengths.count_steps, arguments)


@dataclass(frozen=True, slots=True)
class ValidSteps:
    """Names the calls around the loops of one direction, where there are lengths.

    Attributes
    ----------
    tensors : Binding
    is_second : bool
        True for the direction from the last step to the first.
    keeps_all : bool
        Whether the output has all steps.
    unit : int
        Number of columns of this direction.
    columns : int
        Number of columns of the output.
    """

    tensors: Binding
    is_second: bool
    keeps_all: bool
    unit: int
    columns: int

    @property
    def sizes(self) -> tuple[int, int]:
        """Samples and steps."""
        return self.tensors.n_samples, self.tensors.input_shapes[0][1]

    @property
    def _start(self) -> int:
        """First column of this direction in the output."""
        return self.unit if self.is_second else 0

    def fill(
        self,
        x: Region,
        columns: int,
        value: float = 0.0,
        start: int = 0,
        width: int = 0,
    ) -> Call:
        """Return the call that writes a number to the steps that are not valid."""
        counts = self.tensors.indexes(COUNTS)
        arguments = (x, counts, value, *self.sizes, columns, start, width or columns)
        return Call(lengths.fill_masked, arguments)

    def turn(self, x: Region, columns: int) -> list[Call]:
        """Return the call that turns valid steps around in the second direction."""
        return [self._turned(x, columns, 0, columns)] if self.is_second else []

    def _turned(self, x: Region, columns: int, start: int, width: int) -> Call:
        counts = self.tensors.indexes(COUNTS)
        arguments = (x, counts, *self.sizes, columns, start, width)
        return Call(lengths.reverse_valid, arguments)

    def outputs(self, role: str) -> list[Call]:
        """Return the calls that make the outputs of the hidden states of all steps.

        Parameters
        ----------
        role : str
            Where these are, in the order of the loop; ``"out0"`` itself where that has
            no other columns.
        """
        tensors, hidden = self.tensors, self.tensors.vector(role)
        calls = [self.fill(hidden, self.unit)]
        if tensors.is_wanted("out1"):
            calls.append(self._of_last(lengths.take_last, hidden, "out1"))
        if role == "out0" or not tensors.is_wanted("out0"):
            return calls
        out = tensors.vector("out0")
        if self.keeps_all:
            calls.append(self._copy(hidden, out))
            if self.is_second:
                calls.append(self._turned(out, self.columns, self._start, self.unit))
        elif self.is_second:
            calls.append(self._copy(hidden, out))
        else:
            calls.append(self._of_last(lengths.take_last, hidden, "out0"))
        return calls

    def derivatives(self, role: str) -> list[Call]:
        """Return the calls that make the derivative of the hidden states of all steps.

        Parameters
        ----------
        role : str
            Where it is to be, in the order of the loop.
        """
        tensors, d_hidden = self.tensors, self.tensors.vector(role)
        calls = [Call(elementwise.fill, (0.0, d_hidden))]
        if tensors.is_wanted("out0:grad"):
            d_out = tensors.vector("out0:grad")
            if self.keeps_all:
                calls = [
                    self._copy(d_out, d_hidden, to_output=False),
                    self.fill(d_hidden, self.unit),
                    *self.turn(d_hidden, self.unit),
                ]
            elif self.is_second:
                calls.append(self._copy(d_out, d_hidden, to_output=False))
            else:
                calls.append(self._of_last(lengths.add_last, d_hidden, "out0:grad"))
        if tensors.is_wanted("out1:grad"):
            calls.append(self._of_last(lengths.add_last, d_hidden, "out1:grad"))
        return calls

    def last_cells(self, gates: Region, cells: Region) -> Call:
        """Return the call that makes the last cell states, of those at each begin."""
        counts, out = self.tensors.indexes(COUNTS), self.tensors.vector("out2")
        sizes = (*self.sizes, self.unit, self.columns, self._start)
        return Call(lengths.last_cells, (gates, cells, counts, out, *sizes))

    def _of_last(self, kernel: KernelName, hidden: Region, role: str) -> Call:
        """Return a call between last valid steps and an output or its derivative."""
        other, counts = self.tensors.vector(role), self.tensors.indexes(COUNTS)
        first, last = hidden, other
        if kernel is lengths.add_last:
            first, last = other, hidden
        sizes = (*self.sizes, self.unit, self.columns, self._start)
        return Call(kernel, (first, counts, last, *sizes))

    def _copy(self, source: Region, target: Region, *, to_output: bool = True) -> Call:
        """Return the call that copies the steps that the output has: all, or the first.

        The first step of the loop in the second direction is the last valid one.
        """
        n, steps = self.sizes
        of_out = steps if self.keeps_all else 1
        x = (0, steps * self.unit, 0, self.unit)
        y = (self._start, of_out * self.columns, 0, self.columns)
        first, last = (x, y) if to_output else (y, x)
        sizes = (n, 1, of_out, self.unit)
        return Call(rearrange.copy_rows, (source, target, *sizes, *first, *last))
