"""Plain recurrent network: the layer and its cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import Property
from arena_ckpt.layers.base import Binding, Call
from arena_ckpt.layers.recurrent import (
    CELL_PROPERTIES,
    SEQUENCE_PROPERTIES,
    Recurrent,
    input_derivative,
    state_derivative,
)
from arena_ckpt.layers.spec import LayerSpec, Shape, TensorSpec
from arena_ckpt.layers.stateful import lasts
from arena_ckpt.operations.families import rnn
from arena_ckpt.operations.recurrent import RnnKernels, rnn_kernels


class Rnn(Recurrent):
    """Plain recurrent layer over a sequence.

    Where the output has all steps of one direction, it holds the states itself;
    otherwise another tensor holds them, and the derivatives overwrite it.
    """

    type_name = "rnn"
    n_gates = 1
    properties: ClassVar[tuple[Property, ...]] = (
        *CELL_PROPERTIES,
        *SEQUENCE_PROPERTIES,
    )

    @property
    def _kernels(self) -> RnnKernels:
        return rnn_kernels(self["hidden_state_activation"])

    @property
    def _is_output(self) -> bool:
        """Whether the output holds the states of all steps itself."""
        return self.keeps_all and len(self.directions) == 1

    @property
    def _states(self) -> str:
        """Role of the tensor that holds the states of all steps, without prefix."""
        return "out0" if self._is_output else "all_states"

    @property
    def derivatives(self) -> str:
        """Role of the derivatives before activation."""
        return "d_states" if self._is_output else "all_states"

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        """Return shapes, weights, what is saved, and the workspaces of the loops."""
        spec = super().infer(input_shapes)
        if not self._is_output:
            return spec
        return replace(
            spec, output_lifespan=self.backward, forward_skips_unwanted=False
        )

    def _tensors(self, prefix: str, steps: int) -> Iterable[TensorSpec]:
        forward, deriv = TensorLifespan.FORWARD, TensorLifespan.CALC_DERIVATIVE
        unit, backward = self.unit, self.backward
        saved = TensorLifespan.UNMANAGED if self._is_output else forward
        for name, shape, lifespan in (
            (self.derivatives, (steps, unit), saved | backward | deriv),
            ("step_products", (unit,), forward),
            ("step_hidden_state", (unit,), lasts(self)),
            ("d_step", (unit,), backward),
            ("d_hidden_state", (unit,), backward),
        ):
            yield TensorSpec(prefix + name, shape, lifespan)
        if self.is_trainable:
            yield TensorSpec(prefix + "hidden_state", (steps, unit), backward)
        yield self.bias_sum(prefix, unit, forward)
        yield self.bias_sums(prefix, unit)

    def _forward(self, tensors: Binding, prefix: str) -> list[Call]:
        is_made_here = self._is_output or self.has_lengths
        out = self._output(tensors, "" if is_made_here else "out0")
        steps = ("step_products", "step_hidden_state")
        states = prefix + self._states
        calls = [
            self._join_biases(tensors, prefix, "bias_sum"),
            self._input_product(tensors, prefix, states),
            *self._turn(tensors, prefix, states),
            Call(
                self._kernels.forward,
                (
                    tensors.vector(states),
                    tensors.vector(prefix + "weight_hh"),
                    tensors.vector(prefix + "bias_sum"),
                    self._state(tensors, 1),
                    self._n_given(tensors),
                    *(tensors.vector(prefix + name) for name in steps),
                    *out,
                    *self._column_arguments(prefix),
                    self._is_reverse(prefix),
                    *self._sizes(tensors, states),
                    *self._random(tensors, prefix),
                ),
            ),
        ]
        if self.has_lengths:
            return calls + self._valid_steps(tensors, prefix).outputs(states)
        if tensors.is_wanted("out1"):
            role = prefix + "step_hidden_state"
            calls.append(self._last_state(tensors, prefix, role, "out1"))
        return calls

    def _backward(self, tensors: Binding, prefix: str) -> list[Call]:
        states, made = tensors.vector(prefix + self._states), [self.derivatives]
        sizes = (self._is_reverse(prefix), *self._sizes(tensors, prefix + self._states))
        calls, d_out = self._given_derivative(tensors, prefix)
        calls.append(self._begin_hidden(tensors, prefix, "out1"))
        if self.is_trainable:
            state = (self._state(tensors, 1), self._n_given(tensors))
            made.append("hidden_state")
            hidden = tensors.vector(prefix + "hidden_state")
            calls.append(Call(rnn.rnn_previous, (states, *state, hidden, *sizes)))
        calls.append(
            Call(
                self._kernels.backward,
                (
                    states,
                    tensors.vector(prefix + "weight_hh"),
                    tensors.vector(prefix + self.derivatives),
                    tensors.vector(prefix + "d_step"),
                    tensors.vector(prefix + "d_hidden_state"),
                    *d_out,
                    tensors.doubles(prefix + "bias_sums"),
                    *sizes,
                    *self._random(tensors, prefix),
                ),
            )
        )
        return calls + self._turn(tensors, prefix, *(prefix + role for role in made))

    def _tensors_of_lengths(self, prefix: str, steps: int) -> Iterable[TensorSpec]:
        """Return the workspace that lengths add; the states of all steps are saved."""
        shape = (steps, self.unit)
        yield TensorSpec(f"{prefix}d_all_hidden_states", shape, self.backward)

    def _gradients(self, tensors: Binding, prefix: str) -> list[Call]:
        return [
            *self.product_gradient(tensors, prefix, "weight_ih"),
            *self.product_gradient(tensors, prefix, "weight_hh"),
            *self._bias_gradients(tensors, prefix),
        ]

    def _derivatives(self, tensors: Binding, prefix: str) -> list[Call]:
        calls = input_derivative(tensors, prefix, prefix + self.derivatives)
        if tensors.is_wanted("in1:grad"):
            calls.append(state_derivative(tensors, self.derivatives))
        return calls


class RnnCell(Rnn):
    """One step of `Rnn`: from x and the hidden state, if given, to the hidden state."""

    type_name = "rnncell"
    n_inputs = range(1, 3)
    is_cell = True
    properties: ClassVar[tuple[Property, ...]] = CELL_PROPERTIES


Rnn.cell = RnnCell
