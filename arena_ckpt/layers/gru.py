"""Gated recurrent unit: the layer and its cell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, Property
from arena_ckpt.layers.base import Binding, Call, beta_of
from arena_ckpt.layers.recurrent import (
    CELL_PROPERTIES,
    GATE_PROPERTIES,
    SEQUENCE_PROPERTIES,
    Recurrent,
    empty,
    input_derivative,
    product,
)
from arena_ckpt.layers.spec import TensorSpec
from arena_ckpt.layers.stateful import lasts
from arena_ckpt.operations.families import elementwise
from arena_ckpt.operations.recurrent import GruKernels, gru_kernels
from arena_ckpt.operations.regions import Region

_RESET_AFTER = Property(
    "reset_after",
    BOOLEAN,
    True,
    "the reset gate multiplies h · weight_hh (as PyTorch), not h",
)


class Gru(Recurrent):
    """Gated recurrent units over a sequence; the gates are update, reset, candidate."""

    type_name = "gru"
    n_gates = 3
    properties: ClassVar[tuple[Property, ...]] = (
        *CELL_PROPERTIES,
        *GATE_PROPERTIES,
        _RESET_AFTER,
        *SEQUENCE_PROPERTIES,
    )

    @property
    def derivatives(self) -> str:
        """Role of the gates, which the derivatives before activation overwrite."""
        return "zrg"

    @property
    def _kernels(self) -> GruKernels:
        return gru_kernels(
            self["hidden_state_activation"], self["recurrent_activation"]
        )

    @property
    def _reset_after(self) -> int:
        return int(self["reset_after"])

    @property
    def _n_apart(self) -> int:
        """Number of biases of h that are added behind the reset gate."""
        return self.unit * self._reset_after

    def _tensors(self, prefix: str, steps: int) -> Iterable[TensorSpec]:
        forward, deriv = TensorLifespan.FORWARD, TensorLifespan.CALC_DERIVATIVE
        unit, columns, backward = self.unit, self.columns, self.backward
        for name, shape, lifespan in (
            ("zrg", (steps, columns), forward | backward | deriv),
            ("step_zrg", (columns,), forward),
            ("step_hidden_state", (unit,), lasts(self)),
            ("hidden_state", (steps, unit), backward),
            ("reset_product", (steps, unit), backward),
            ("d_zrg", (columns,), backward),
            (
                "d_hidden_state",
                (unit,),
                backward | (deriv if self.n_states else backward),
            ),
        ):
            yield TensorSpec(prefix + name, shape, lifespan)
        if not self["reset_after"]:
            yield TensorSpec(prefix + "step_product", (unit,), forward)
            yield TensorSpec(prefix + "d_step_product", (unit,), backward)
        yield self.bias_sum(prefix, columns + self._n_apart, forward)
        yield self.bias_sum(prefix + "backward_", columns + self._n_apart, backward)
        yield self.bias_sums(prefix, columns + unit)

    def _forward(self, tensors: Binding, prefix: str) -> list[Call]:
        steps = ("step_zrg", "step_hidden_state")
        gates = prefix + "zrg"
        calls = [
            self._join_biases(tensors, prefix, "bias_sum", self._n_apart),
            self._input_product(tensors, prefix, gates),
            *self._turn(tensors, prefix, gates),
            Call(
                self._kernels.forward,
                (
                    tensors.vector(gates),
                    tensors.vector(prefix + "weight_hh"),
                    tensors.vector(prefix + "bias_sum"),
                    self._state(tensors, 1),
                    self._n_given(tensors),
                    *(tensors.vector(prefix + name) for name in steps),
                    self._step_product(tensors, prefix + "step_product"),
                    *self._out(tensors, prefix),
                    self._reset_after,
                    self._is_reverse(prefix),
                    *self._sizes(tensors, gates),
                    *self._random(tensors, prefix),
                ),
            ),
        ]
        if self.has_lengths:
            valid = self._valid_steps(tensors, prefix)
            calls.append(valid.fill(tensors.vector(gates), self.columns))
            return calls + valid.outputs(prefix + "all_hidden_states")
        if tensors.is_wanted("out1"):
            role = prefix + "step_hidden_state"
            calls.append(self._last_state(tensors, prefix, role, "out1"))
        return calls

    def _step_product(self, tensors: Binding, role: str) -> Region:
        """Return the workspace of the candidate; empty with ``reset_after``."""
        return empty(tensors, 3) if self["reset_after"] else tensors.vector(role)

    def _backward(self, tensors: Binding, prefix: str) -> list[Call]:
        sizes, unit = self._sizes(tensors, prefix + "zrg"), self.unit
        given, d_out = self._given_derivative(tensors, prefix)
        gates, weight, hidden, products = (
            tensors.vector(prefix + role)
            for role in ("zrg", "weight_hh", "hidden_state", "reset_product")
        )
        again = (
            *(self._reset_after, self._is_reverse(prefix)),
            *(*sizes, *self._random(tensors, prefix)),
        )
        calls = [
            *given,
            self._begin_hidden(tensors, prefix, "out1"),
            self._join_biases(tensors, prefix, "backward_bias_sum", self._n_apart),
            Call(
                self._kernels.states,
                (
                    gates,
                    self._state(tensors, 1),
                    self._n_given(tensors),
                    hidden,
                    products,
                    *again,
                ),
            ),
        ]
        if self["reset_after"]:
            calls.append(
                product(
                    (hidden.size // unit, unit, unit),
                    (hidden, 0, unit),
                    (weight, 2 * unit, self.columns),
                    (products, 0, unit),
                )
            )
        steps = ("d_zrg", "d_hidden_state")
        calls.append(
            Call(
                self._kernels.backward,
                (
                    gates,
                    weight,
                    tensors.vector(prefix + "backward_bias_sum"),
                    hidden,
                    products,
                    *(tensors.vector(prefix + name) for name in steps),
                    self._step_product(tensors, prefix + "d_step_product"),
                    *d_out,
                    tensors.doubles(prefix + "bias_sums"),
                    self.n_states,
                    *again,
                ),
            )
        )
        made = (prefix + role for role in ("zrg", "hidden_state", "reset_product"))
        return calls + self._turn(tensors, prefix, *made)

    def gradient_factors(self, prefix: str, weight: str) -> tuple[str, str] | None:
        """Return the factors of a gradient; ``weight_hh`` is made of two products."""
        if weight == "weight_hh":
            return None
        return super().gradient_factors(prefix, weight)

    def _gradients(self, tensors: Binding, prefix: str) -> list[Call]:
        unit, columns, beta = self.unit, self.columns, beta_of(tensors)
        d_weight = tensors.vector(prefix + "weight_hh:grad")
        gates, hidden, products = (
            tensors.vector(prefix + role)
            for role in ("zrg", "hidden_state", "reset_product")
        )
        n_rows = hidden.size // unit
        left, right = (
            ((hidden, 0, unit), (products, 0, unit))
            if self["reset_after"]
            else ((products, 0, unit), (gates, 2 * unit, columns))
        )
        return [
            *self.product_gradient(tensors, prefix, "weight_ih"),
            product(
                (unit, 2 * unit, n_rows),
                (hidden, 0, unit),
                (gates, 0, columns),
                (d_weight, 0, columns),
                transpose_a=True,
                beta=beta,
            ),
            product(
                (unit, unit, n_rows),
                left,
                right,
                (d_weight, 2 * unit, columns),
                transpose_a=True,
                beta=beta,
            ),
            *self._bias_gradients(tensors, prefix, apart=2 * unit),
        ]

    def _derivatives(self, tensors: Binding, prefix: str) -> list[Call]:
        calls = input_derivative(tensors, prefix, prefix + "zrg")
        if tensors.is_wanted("in1:grad"):
            d_state = tensors.vector("d_hidden_state")
            calls.append(Call(elementwise.copy, (d_state, tensors.vector("in1:grad"))))
        return calls


class GruCell(Gru):
    """One step of `Gru`: from x and the hidden state, if given, to the hidden state."""

    type_name = "grucell"
    n_inputs = range(1, 3)
    is_cell = True
    properties: ClassVar[tuple[Property, ...]] = (
        *CELL_PROPERTIES,
        *GATE_PROPERTIES,
        _RESET_AFTER,
    )


Gru.cell = GruCell
