"""Base class of recurrent layers and their cells; see rnn, lstm and gru for each kind.

A sequence is (1, steps, width); a layer gives (1, steps, unit), or the last step (1, 1,
unit) where ``return_sequences`` is false. A second input of a layer is the number of
valid steps of each sample, see `sequence_lengths`. A cell is the same layer for one
step whose states are inputs and outputs. ``unroll=true`` replaces a layer by one cell
for each step, which share their weights, so that checkpoint blocks and lifespans see
the steps.

Saved for the backward pass, for each sample, step and unit: 4 gates (lstm), 3 gates
(gru), or 1 state (rnn; the output itself where it has all steps). The backward step
makes everything else again from these, and overwrites the gates with the derivatives
before activation. A trained layer runs its backward loop in the step of the weight
gradient, a frozen one in that of the derivative.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from arena_ckpt.common.flops import Flops
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import (
    BOOLEAN,
    FRACTION,
    POSITIVE_INT,
    Property,
    choice,
)
from arena_ckpt.layers.base import COMMON_PROPERTIES, Binding, Call, Layer, beta_of
from arena_ckpt.layers.dense import product_gradient
from arena_ckpt.layers.rearrange import MOST_PARTS
from arena_ckpt.layers.sequence_lengths import (
    SECOND_KEY,
    ValidSteps,
    count_steps,
    with_lengths,
)
from arena_ckpt.layers.spec import (
    LayerSpec,
    Shape,
    TensorSpec,
    WeightSpec,
    format_shape,
)
from arena_ckpt.layers.stateful import (
    STATEFUL,
    check_stateful,
    continues,
    keep_states,
    kept_state,
    kept_states,
)
from arena_ckpt.layers.unroll import unrolled
from arena_ckpt.layers.weighted import WEIGHT_PROPERTIES, bias_spec, weight_spec
from arena_ckpt.operations.families import (
    blas,
    elementwise,
    rearrange,
    steps,
    windows,
)
from arena_ckpt.operations.recurrent import STEP_ACTIVATIONS
from arena_ckpt.operations.regions import Region

_ACTIVATION = choice(*STEP_ACTIVATIONS)
CELL_PROPERTIES = (
    *COMMON_PROPERTIES,
    Property("unit", POSITIVE_INT, None, "size of the hidden state (required)"),
    Property("hidden_state_activation", _ACTIVATION, "tanh", "makes the states"),
    Property("dropout_rate", FRACTION, 0.0, "drops from the hidden state of each step"),
    Property("integrate_bias", BOOLEAN, False, "one bias bias_h in place of two"),
    Property("disable_bias", BOOLEAN, False, "true leaves the biases out"),
    *WEIGHT_PROPERTIES,
)
GATE_PROPERTIES = (
    Property("recurrent_activation", _ACTIVATION, "sigmoid", "makes the gates"),
)
SEQUENCE_PROPERTIES = (
    Property("return_sequences", BOOLEAN, False, "all steps, not the last one only"),
    Property("unroll", BOOLEAN, False, "one cell for each step, seen by the plan"),
    Property(
        "bidirectional",
        BOOLEAN,
        False,
        "beside it a second direction, from the last step to the first",
    ),
    Property(
        "return_state",
        BOOLEAN,
        False,
        "the states after the last step of each direction as further outputs",
    ),
    STATEFUL,
)

Window = tuple[Region, int, int]
"""A matrix in a flat array: the array, its first element, and the stride of rows."""


class Recurrent(Layer):
    """Base class of layers that loop over the steps of a sequence.

    Attributes
    ----------
    cell : type
        Class of one step, for an unrolled layer.
    n_gates : int
        Number of blocks of `unit` columns in each weight matrix.
    is_cell : bool
        True for a single step, with states as inputs and outputs.
    """

    reads = "sequences"
    n_inputs: ClassVar[int | range | None] = range(1, 3)
    cell: ClassVar[type[Recurrent]]
    n_gates: ClassVar[int]
    is_cell: ClassVar[bool] = False

    @property
    def unit(self) -> int:
        """Number of elements of the hidden state."""
        return int(self["unit"])

    @property
    def columns(self) -> int:
        """Number of columns of each weight matrix."""
        return self.n_gates * self.unit

    @property
    def keeps_all(self) -> bool:
        """Whether the output has all steps."""
        return self.is_cell or bool(self["return_sequences"])

    @property
    def n_states(self) -> int:
        """Number of states that a cell is given as inputs; the others are zero."""
        return len(self["input_layers"] or ("",)) - 1 if self.is_cell else 0

    @property
    def has_lengths(self) -> bool:
        """Whether the layer reads how many steps of each sample are valid."""
        return not self.is_cell and len(self["input_layers"] or ("",)) > 1

    @property
    def biases(self) -> tuple[str, ...]:
        """Names of the biases, which are added in each step."""
        if self["disable_bias"]:
            return ()
        return ("bias_h",) if self["integrate_bias"] else ("bias_ih", "bias_hh")

    @property
    def backward(self) -> TensorLifespan:
        """The phase in which the loop over time runs backward."""
        if self.is_trainable:
            return TensorLifespan.CALC_GRADIENT
        return TensorLifespan.CALC_DERIVATIVE

    @property
    def directions(self) -> tuple[str, ...]:
        """Prefixes of the roles of each direction: the second where bidirectional."""
        return ("", "reverse_") if self.get("bidirectional") else ("",)

    @property
    @abstractmethod
    def derivatives(self) -> str:
        """Role of the derivatives before activation, without prefix."""

    # -- facts -------------------------------------------------------------------------

    def expand(self, input_shapes: tuple[Shape, ...]) -> tuple[Layer, ...]:
        """Return one cell for each step where ``unroll=true``, see `unroll`."""
        if self.is_cell or not self["unroll"]:
            return (self,)
        check_stateful(self, has_lengths=self.has_lengths)
        _, steps, _ = self._check_shapes(input_shapes)
        if self.has_lengths:
            raise self.mismatch(
                "has unroll=true and a second input, the lengths; leave unroll out, or "
                "name one input only",
                steps=steps,
            )
        if self["return_state"]:
            raise self.mismatch(
                "has return_state=true and unroll=true; its states are those of the "
                f"cell {self.name}/t{steps - 1} then: leave return_state out",
                steps=steps,
            )
        if steps > MOST_PARTS:
            raise self.mismatch(
                f"cannot be unrolled into {steps:,} steps, at most {MOST_PARTS:,} are "
                "possible; leave unroll out, or shorten the sequence",
                steps=steps,
            )
        return unrolled(self, self.cell, steps)

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return shapes, weights, what is saved, and the workspaces of the loops."""
        _, steps, width = self._check_shapes(input_shapes)
        check_stateful(self, has_lengths=self.has_lengths)
        states = (TensorLifespan.FORWARD | self.backward,) * self.n_states
        prefixes, unit = self.directions, self.unit
        product = 2 * len(prefixes) * steps * self.columns
        own, through_time = product * (width + unit), product * unit
        tensors = [t for p in prefixes for t in self._tensors(p, steps)]
        if self.has_lengths:
            tensors += [t for p in prefixes for t in self._tensors_of_lengths(p, steps)]
        spec = LayerSpec(
            output_shapes=self._output_shapes(steps),
            weights=(
                *(w for p in prefixes for w in self._weights(p, width)),
                *kept_states(self, self.n_last_states),
            ),
            tensors=tuple(tensors),
            input_lifespan=(TensorLifespan.FORWARD_GRAD, *states),
            optional_outputs=frozenset({0} if self.get("return_state") else ()),
            forward_skips_unwanted=True,
            flops=Flops(
                own,
                own + through_time,
                product * width + (0 if self.is_trainable else through_time),
            ),
        )
        if not self.has_lengths:
            return spec
        return with_lengths(self, spec, input_shapes, self.backward)

    def _check_shapes(self, input_shapes: tuple[Shape, ...]) -> Shape:
        """Return the shape of the sequence; refuse shapes that do not fit."""
        given, states = input_shapes[0], input_shapes[1 : 1 + self.n_states]
        if self["unit"] is None:
            raise self.mismatch("has no unit; set it, for example unit=64")
        if given[0] != 1 or (self.is_cell and given[1] != 1):
            wanted = "one step, 1:1:width" if self.is_cell else "1:steps:width"
            raise self.mismatch(
                f"reads {format_shape(given)} and needs {wanted}; reshape its input",
                shape=given,
            )
        for index, shape in enumerate(states, 1):
            if shape != (1, 1, self.unit):
                raise self.mismatch(
                    f"reads a state of shape {format_shape(shape)} as input {index}; "
                    f"with unit={self.unit} a state is 1:1:{self.unit}",
                    shape=shape,
                )
        return given

    def _output_shapes(self, steps: int) -> tuple[Shape, ...]:
        """Return the shapes of the outputs, for a sequence of `steps`."""
        state = (1, 1, self.output_columns)
        out = (1, steps if self.keeps_all else 1, self.output_columns)
        n_states = self.n_last_states if self.get("return_state") else 0
        return (out, *(state,) * n_states)

    def _weights(self, prefix: str, width: int) -> list[WeightSpec]:
        """Return the weights of one direction, for inputs of `width` columns."""
        looped = TensorLifespan.FORWARD | self.backward
        if self.n_states:
            looped |= TensorLifespan.CALC_DERIVATIVE
        matrices = [
            weight_spec(
                self,
                prefix + name,
                (rows, self.columns),
                fan_in=rows,
                fan_out=self.columns,
                lifespan=lifespan,
                gradient_factors=self.gradient_factors(prefix, name),
            )
            for name, rows, lifespan in (
                ("weight_ih", width, TensorLifespan.FORWARD_DERIV),
                ("weight_hh", self.unit, looped),
            )
        ]
        return matrices + [
            bias_spec(
                self,
                prefix + name,
                self.columns,
                fan_in=width,
                fan_out=self.columns,
                lifespan=TensorLifespan.FORWARD | self.backward,
            )
            for name in self.biases
        ]

    def gradient_factors(self, prefix: str, weight: str) -> tuple[str, str] | None:
        """Return the roles of the factors of a gradient, where it is one product."""
        first = "in0" if weight == "weight_ih" else f"{prefix}hidden_state"
        return first, prefix + self.derivatives

    def product_gradient(
        self, tensors: Binding, prefix: str, weight: str
    ) -> list[Call]:
        """Return the call for a weight gradient that is one product."""
        factors = self.gradient_factors(prefix, weight)
        assert factors is not None
        return product_gradient(tensors, prefix + weight, factors)

    def bias_sum(
        self, prefix: str, columns: int, lifespan: TensorLifespan
    ) -> TensorSpec:
        """Return the workspace for the sum of the biases."""
        return TensorSpec(prefix + "bias_sum", (columns,), lifespan, per_sample=False)

    def bias_sums(self, prefix: str, columns: int) -> TensorSpec:
        """Return the workspace for the gradient of the biases, summed in float64."""
        return TensorSpec(
            prefix + "bias_sums",
            (columns,),
            self.backward,
            per_sample=False,
            dtype="float64",
        )

    @abstractmethod
    def _tensors(self, prefix: str, steps: int) -> Iterable[TensorSpec]:
        """Return the saved tensors and the workspaces of one direction."""

    def _tensors_of_lengths(self, prefix: str, steps: int) -> Iterable[TensorSpec]:
        """Return the workspaces that lengths add to one direction."""
        shape = (steps, self.unit)
        yield TensorSpec(f"{prefix}all_hidden_states", shape, TensorLifespan.FORWARD)
        yield TensorSpec(f"{prefix}d_all_hidden_states", shape, self.backward)

    # -- calls -------------------------------------------------------------------------

    def forward(self, tensors: Binding) -> list[Call]:
        """Multiply all steps by ``weight_ih``, then loop over time."""
        counts = [count_steps(tensors)] if self.has_lengths else []
        return counts + [
            call for p in self.directions for call in self._forward(tensors, p)
        ]

    def calc_gradient(self, tensors: Binding) -> list[Call]:
        """Loop backward over time, then make each gradient by one product."""
        calls = [
            call
            for p in self.directions
            for call in (*self._backward(tensors, p), *self._gradients(tensors, p))
        ]
        return calls + keep_states(self, tensors, self.n_last_states)

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        """Multiply the derivatives before activation by ``weight_ihᵀ``."""
        calls: list[Call] = []
        for prefix in self.directions:
            if not self.is_trainable:
                calls += self._backward(tensors, prefix)
            calls += self._derivatives(tensors, prefix)
        return calls

    @abstractmethod
    def _forward(self, tensors: Binding, prefix: str) -> list[Call]:
        """Return the calls of the forward pass of one direction."""

    @abstractmethod
    def _backward(self, tensors: Binding, prefix: str) -> list[Call]:
        """Return the calls that make the derivatives before activation."""

    @abstractmethod
    def _gradients(self, tensors: Binding, prefix: str) -> list[Call]:
        """Return the calls that make the weight gradients from these."""

    @abstractmethod
    def _derivatives(self, tensors: Binding, prefix: str) -> list[Call]:
        """Return the calls that make the derivatives of the inputs from these."""

    # -- the states behind the last step -----------------------------------------------

    n_last_states: ClassVar[int] = 1
    """Number of states of a step: the hidden state, and the cell state of an lstm."""

    @property
    def output_columns(self) -> int:
        """Number of columns of the output: those of all directions."""
        return len(self.directions) * self.unit

    def _column_arguments(self, prefix: str) -> tuple[int, int]:
        """Return the columns of the output, and the first one of a direction."""
        return self.output_columns, self.unit if prefix else 0

    def _last_state(self, tensors: Binding, prefix: str, role: str, out: str) -> Call:
        """Return the call that copies a state (samples, unit) to its output."""
        return self._copied_state(
            tensors, prefix, tensors.vector(role), tensors.vector(out), to_output=True
        )

    def _begin_derivative(
        self, tensors: Binding, prefix: str, out: str, role: str
    ) -> Call:
        """Return the call that gives a state the derivative of its output, or 0."""
        d_state = tensors.vector(prefix + role)
        if not out or not tensors.is_wanted(f"{out}:grad"):
            return Call(elementwise.fill, (0.0, d_state))
        d_out = tensors.vector(f"{out}:grad")
        return self._copied_state(tensors, prefix, d_out, d_state, to_output=False)

    def _copied_state(
        self,
        tensors: Binding,
        prefix: str,
        source: Region,
        target: Region,
        *,
        to_output: bool,
    ) -> Call:
        if len(self.directions) == 1:
            return Call(elementwise.copy, (source, target))
        columns, start = self._column_arguments(prefix)
        places = [(0, self.unit, 0, 0), (start, columns, 0, 0)]
        (x, y) = places if to_output else reversed(places)
        sizes = (tensors.n_samples, 1, 1, self.unit)
        return Call(rearrange.copy_rows, (source, target, *sizes, *x, *y))

    # -- arguments ---------------------------------------------------------------------

    def _sizes(self, tensors: Binding, role: str) -> tuple[int, int, int]:
        """Return samples, steps and units, from a tensor (samples, steps, columns)."""
        n_rows = tensors.matrix(role).shape[0]
        return tensors.n_samples, n_rows // tensors.n_samples, self.unit

    def _random(self, tensors: Binding, prefix: str) -> tuple[Any, int, float]:
        """Return counters, key and rate of dropout; a prediction has the rate 0."""
        rate, key = float(self["dropout_rate"]), tensors.random_key
        if prefix and self.has_lengths:  # the kernel takes it for the first direction
            key ^= SECOND_KEY
        return tensors.counters, key, rate if tensors.training else 0.0

    def _is_reverse(self, prefix: str) -> int:
        """Return 1 where the kernels go from the last step to the first.

        With lengths, the steps of the second direction are turned around instead.
        """
        return int(bool(prefix) and not self.has_lengths)

    def _valid_steps(self, tensors: Binding, prefix: str) -> ValidSteps:
        """Return what names the calls for steps that are not valid."""
        sizes = self.unit, self.output_columns
        return ValidSteps(tensors, bool(prefix), self.keeps_all, *sizes)

    def _turn(self, tensors: Binding, prefix: str, *roles: str) -> list[Call]:
        """Return the calls that turn the steps of the second direction around."""
        if not self.has_lengths:
            return []
        valid = self._valid_steps(tensors, prefix)
        regions = [(tensors.vector(r), tensors.matrix(r).shape[1]) for r in roles]
        return [call for x, columns in regions for call in valid.turn(x, columns)]

    def _out(self, tensors: Binding, prefix: str) -> tuple[Region, int, int, int]:
        """Return where a loop writes hidden states: array, steps, columns, the first.

        With lengths, that is a workspace, from which the outputs are made.
        """
        if not self.has_lengths:
            return *self._output(tensors, "out0"), *self._column_arguments(prefix)
        role = f"{prefix}all_hidden_states"
        return tensors.vector(role), tensors.input_shapes[0][1], self.unit, 0

    def _given_derivative(
        self, tensors: Binding, prefix: str
    ) -> tuple[list[Call], tuple[Region, int, int, int]]:
        """Return the derivative that a loop reads, as `_out`; calls that make it."""
        if not self.has_lengths:
            given = self._output(tensors, "out0:grad")
            return [], (*given, *self._column_arguments(prefix))
        role = f"{prefix}d_all_hidden_states"
        calls = self._valid_steps(tensors, prefix).derivatives(role)
        steps = tensors.input_shapes[0][1]
        return calls, (tensors.vector(role), steps, self.unit, 0)

    def _begin_hidden(self, tensors: Binding, prefix: str, out: str) -> Call:
        """Return the call that gives the loop the derivative of the last hidden state.

        With lengths, that is among the derivatives of all steps instead.
        """
        out = "" if self.has_lengths else out
        return self._begin_derivative(tensors, prefix, out, "d_hidden_state")

    def _n_given(self, tensors: Binding) -> int:
        """Return the number of states that the first step begins with."""
        return self.n_last_states if continues(self, tensors) else self.n_states

    def _state(self, tensors: Binding, index: int) -> Region:
        """Return the state that the first step begins with, or an empty array."""
        if index <= self.n_states:
            return tensors.vector(f"in{index}")
        if index <= self._n_given(tensors):
            return kept_state(self, tensors, index - 1)
        return empty(tensors, index)

    def _output(self, tensors: Binding, role: str) -> tuple[Region, int]:
        """Return an output or its derivative, and its steps: 0 if it is not wanted."""
        if not tensors.is_wanted(role):
            return empty(tensors, 0), 0
        return tensors.vector(role), tensors.matrix(role).shape[0] // tensors.n_samples

    def _input_product(self, tensors: Binding, prefix: str, out: str) -> Call:
        operands = (tensors.matrix("in0"), tensors.matrix(f"{prefix}weight_ih"))
        return Call(blas.matmul, (*operands, tensors.matrix(out)))

    def _join_biases(
        self, tensors: Binding, prefix: str, role: str, n_apart: int = 0
    ) -> Call:
        joined = tensors.vector(prefix + role)
        biases = [tensors.vector(prefix + name) for name in self.biases]
        first, second = (*biases, empty(tensors, 1), empty(tensors, 2))[:2]
        return Call(steps.join_biases, (first, second, len(biases), n_apart, joined))

    def _bias_gradients(
        self, tensors: Binding, prefix: str, *, apart: int | None = None
    ) -> list[Call]:
        """Return the calls that round the float64 sums to the gradients of the biases.

        With `apart`, the sums of bias_hh from that column on stand behind all others.
        """
        beta, sums = beta_of(tensors), tensors.doubles(prefix + "bias_sums")
        calls = []
        for name in self.biases:
            db = tensors.vector(f"{prefix}{name}:grad")
            split = self.columns if name != "bias_hh" or apart is None else apart
            calls.append(Call(steps.bias_from_sums, (sums[:split], beta, db[:split])))
            if split < self.columns:
                rest = sums[self.columns : 2 * self.columns - split]
                calls.append(Call(steps.bias_from_sums, (rest, beta, db[split:])))
        return calls


def product(
    sizes: tuple[int, int, int],
    a: Window,
    b: Window,
    c: Window,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    beta: float = 0.0,
) -> Call:
    """Return the call that computes ``c = a @ b + beta * c``.

    Parameters
    ----------
    sizes : (int, int, int)
        Rows of c, columns of c, and the number of terms of each sum: m, n and k.
    a, b, c : Window
        Matrices (m, k), (k, n) and (m, n) inside flat arrays.
    transpose_a, transpose_b : bool
        True where the matrix lies there as (k, m), or as (n, k).
    beta : float
        Factor of what stands in c before.
    """
    flags = (int(transpose_a), int(transpose_b))
    return Call(windows.matmul_windows, (*flags, *sizes, *a, *b, beta, *c))


def input_derivative(tensors: Binding, prefix: str, derivatives: str) -> list[Call]:
    """Return the call that makes the derivative of in0; the second direction adds."""
    if not tensors.is_wanted("in0:grad"):
        return []
    d, weight = tensors.matrix(derivatives), tensors.matrix(f"{prefix}weight_ih")
    d_in = tensors.matrix("in0:grad")
    if not prefix:
        return [Call(blas.matmul_transposed_b, (d, weight, d_in))]
    a, b, c = ((m.reshape(-1), 0, m.shape[1]) for m in (d, weight, d_in))
    rows, columns = d_in.shape
    sizes = (rows, columns, d.shape[1])
    return [product(sizes, a, b, c, transpose_b=True, beta=1.0)]


def state_derivative(tensors: Binding, derivatives: str) -> Call:
    """Return the call that makes the derivative of the hidden state of a cell."""
    operands = (tensors.matrix(derivatives), tensors.matrix("weight_hh"))
    return Call(blas.matmul_transposed_b, (*operands, tensors.matrix("in1:grad")))


def empty(tensors: Binding, place: int) -> Region:
    """Return an array without elements, for an argument that a kernel does not touch.

    Those of different places differ, so that no two arguments look like one.
    """
    return tensors.counters.view("float32")[place:place]
