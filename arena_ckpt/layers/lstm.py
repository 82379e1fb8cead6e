"""Long short-term memory: the layer and its cell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, Property
from arena_ckpt.layers.base import Binding, Call
from arena_ckpt.layers.recurrent import (
    CELL_PROPERTIES,
    GATE_PROPERTIES,
    SEQUENCE_PROPERTIES,
    Recurrent,
    input_derivative,
    state_derivative,
)
from arena_ckpt.layers.spec import Shape, TensorSpec
from arena_ckpt.layers.stateful import lasts
from arena_ckpt.operations.families import elementwise
from arena_ckpt.operations.recurrent import LstmKernels, lstm_kernels
from arena_ckpt.operations.regions import Region


class Lstm(Recurrent):
    """Long short-term memory over a sequence; gates input, forget, cell and output.

    Where only the last step is given, that is the last of the sequence in both
    directions: the backward one has seen a single step then, as in NNTrainer.
    """

    type_name = "lstm"
    n_gates = 4
    properties: ClassVar[tuple[Property, ...]] = (
        *CELL_PROPERTIES,
        *GATE_PROPERTIES,
        *SEQUENCE_PROPERTIES,
    )
    n_last_states = 2

    @property
    def derivatives(self) -> str:
        """Role of the gates, which the derivatives before activation overwrite."""
        return "ifgo"

    @property
    def _kernels(self) -> LstmKernels:
        return lstm_kernels(
            self["hidden_state_activation"], self["recurrent_activation"]
        )

    def _tensors(self, prefix: str, steps: int) -> Iterable[TensorSpec]:
        forward, deriv = TensorLifespan.FORWARD, TensorLifespan.CALC_DERIVATIVE
        unit, columns, backward = self.unit, self.columns, self.backward
        for name, shape, lifespan in (
            ("ifgo", (steps, columns), forward | backward | deriv),
            ("step_ifgo", (columns,), forward),
            ("step_hidden_state", (unit,), lasts(self)),
            ("step_cell_state", (unit,), lasts(self)),
            ("hidden_state", (steps, unit), backward),
            ("cell_state", (steps, unit), backward),
            ("d_hidden_state", (unit,), backward),
            (
                "d_cell_state",
                (unit,),
                backward | (deriv if self.n_states else backward),
            ),
        ):
            yield TensorSpec(prefix + name, shape, lifespan)
        yield self.bias_sum(prefix, columns, forward)
        yield self.bias_sums(prefix, columns)

    def _forward(self, tensors: Binding, prefix: str) -> list[Call]:
        gates = prefix + "ifgo"
        states = (
            self._state(tensors, 1),
            self._state(tensors, 2),
            self._n_given(tensors),
        )
        steps = ("step_ifgo", "step_hidden_state", "step_cell_state")
        calls = [
            self._join_biases(tensors, prefix, "bias_sum"),
            self._input_product(tensors, prefix, gates),
            *self._turn(tensors, prefix, gates),
            Call(
                self._kernels.forward,
                (
                    tensors.vector(gates),
                    tensors.vector(prefix + "weight_hh"),
                    tensors.vector(prefix + "bias_sum"),
                    *states,
                    *(tensors.vector(prefix + name) for name in steps),
                    *self._out(tensors, prefix),
                    self._is_reverse(prefix),
                    *self._sizes(tensors, gates),
                    *self._random(tensors, prefix),
                ),
            ),
        ]
        if self.has_lengths:
            return calls + self._valid_outputs(tensors, prefix)
        for state, target in self._last_outputs.items():
            if tensors.is_wanted(target):
                role = f"{prefix}step_{state}"
                calls.append(self._last_state(tensors, prefix, role, target))
        return calls

    def _valid_outputs(self, tensors: Binding, prefix: str) -> list[Call]:
        """Return the calls that leave out the steps which are not valid.

        Their gates become those that keep a cell state, forget 1 and the others 0, so
        that the derivative of the last one passes them.
        """
        valid, hidden = self._valid_steps(tensors, prefix), prefix + "all_hidden_states"
        gates, unit = tensors.vector(prefix + "ifgo"), self.unit
        calls = [
            valid.fill(gates, self.columns),
            valid.fill(gates, self.columns, 1.0, start=unit, width=unit),
            *valid.outputs(hidden),
        ]
        if tensors.is_wanted("out2"):
            cells = tensors.vector(prefix + "all_cell_states")
            calls.append(self._again(tensors, prefix, cells, tensors.vector(hidden)))
            calls.append(valid.last_cells(gates, cells))
        return calls

    def _tensors_of_lengths(self, prefix: str, steps: int) -> Iterable[TensorSpec]:
        """Return the workspaces that lengths add to one direction."""
        yield from super()._tensors_of_lengths(prefix, steps)
        if self["return_state"]:
            shape = (steps, self.unit)
            yield TensorSpec(prefix + "all_cell_states", shape, TensorLifespan.FORWARD)

    def _again(
        self, tensors: Binding, prefix: str, cells: Region, hidden: Region
    ) -> Call:
        """Return the call that makes the states that each step began with again."""
        return Call(
            self._kernels.states,
            (
                tensors.vector(prefix + "ifgo"),
                self._state(tensors, 1),
                self._state(tensors, 2),
                self._n_given(tensors),
                cells,
                hidden,
                self._is_reverse(prefix),
                *self._sizes(tensors, prefix + "ifgo"),
                *self._random(tensors, prefix),
            ),
        )

    @property
    def _last_outputs(self) -> dict[str, str]:
        """For each state that is an output of its own, the role of that.

        The hidden state of a cell is its first output.
        """
        if self.is_cell:
            return {"cell_state": "out1"}
        return {"hidden_state": "out1", "cell_state": "out2"}

    def _backward(self, tensors: Binding, prefix: str) -> list[Call]:
        gates, outs = prefix + "ifgo", {"hidden_state": ""} | self._last_outputs
        given, d_out = self._given_derivative(tensors, prefix)
        d_cell = tensors.vector(prefix + "d_cell_state")
        cells = tensors.vector(prefix + "cell_state")
        hidden = tensors.vector(prefix + "hidden_state")
        masks = []
        if self.has_lengths:  # the forget gate gets no derivative where it reads 0
            masks = [self._valid_steps(tensors, prefix).fill(cells, self.unit)]
        return [
            *given,
            self._begin_hidden(tensors, prefix, outs["hidden_state"]),
            self._begin_derivative(tensors, prefix, outs["cell_state"], "d_cell_state"),
            self._again(tensors, prefix, cells, hidden),
            *masks,
            Call(
                self._kernels.backward,
                (
                    tensors.vector(gates),
                    tensors.vector(prefix + "weight_hh"),
                    cells,
                    tensors.vector(prefix + "d_hidden_state"),
                    d_cell,
                    *d_out,
                    tensors.doubles(prefix + "bias_sums"),
                    self._is_reverse(prefix),
                    *self._sizes(tensors, gates),
                    *self._random(tensors, prefix),
                ),
            ),
            *self._turn(tensors, prefix, gates, prefix + "hidden_state"),
        ]

    def _gradients(self, tensors: Binding, prefix: str) -> list[Call]:
        return [
            *self.product_gradient(tensors, prefix, "weight_ih"),
            *self.product_gradient(tensors, prefix, "weight_hh"),
            *self._bias_gradients(tensors, prefix),
        ]

    def _derivatives(self, tensors: Binding, prefix: str) -> list[Call]:
        calls = input_derivative(tensors, prefix, prefix + "ifgo")
        if tensors.is_wanted("in1:grad"):
            calls.append(state_derivative(tensors, "ifgo"))
        if tensors.is_wanted("in2:grad"):
            d_cell = tensors.vector("d_cell_state")
            calls.append(Call(elementwise.copy, (d_cell, tensors.vector("in2:grad"))))
        return calls


class LstmCell(Lstm):
    """One step of `Lstm`: from x and the states, if given, to hidden and cell state."""

    type_name = "lstmcell"
    n_inputs = range(1, 4)
    is_cell = True
    properties: ClassVar[tuple[Property, ...]] = (
        *CELL_PROPERTIES,
        *GATE_PROPERTIES,
        Property(
            "return_cell_state",
            BOOLEAN,
            True,
            "false leaves out the second output, which somebody has to read",
        ),
    )

    def _output_shapes(self, steps: int) -> tuple[Shape, ...]:
        return ((1, 1, self.unit),) * (2 if self["return_cell_state"] else 1)


Lstm.cell = LstmCell
