"""Running one layer over plain arrays, for tests that judge its derivatives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.phases import Phase
from arena_ckpt.layers import create_layer
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.spec import InPlace, LayerSpec, Shape
from helpers.kernel_calls import poison, run_entry

Array = npt.NDArray[np.float32]


class Arrays:
    """The protocol `Binding`, over arrays by role."""

    training = True
    updates_state = True
    accumulate = False
    random_key = 1
    arithmetic = "fast"

    def __init__(self, spec: LayerSpec, inputs: tuple[Shape, ...], n: int) -> None:
        self.n_samples = n
        self.input_shapes = inputs
        self.output_shapes = spec.output_shapes
        self.counters = np.zeros(2)
        self.scale = np.full(1, 0.25)
        self.loss = np.zeros(1)
        self.arrays: dict[str, Array] = {}

    def vector(self, role: str) -> Array:
        return self.arrays[role].reshape(-1)

    def matrix(self, role: str) -> Array:
        return self.arrays[role].reshape(-1, self.arrays[role].shape[-1])

    def indexes(self, role: str) -> Any:
        raise NotImplementedError

    def doubles(self, role: str) -> Any:
        raise NotImplementedError

    def is_wanted(self, role: str) -> bool:
        return role in self.arrays

    def kept(self, role: str) -> None:
        return None

    def is_table(self, index: int) -> bool:
        return False

    def is_same(self, role: str, other: str) -> bool:
        first, second = self.arrays[role], self.arrays[other]
        return first.ctypes.data == second.ctypes.data


class Run:
    """A layer without weights, ready to be run on inputs.

    Roles that a phase may not read by the layer's own lifespans hold NaN or are absent.
    """

    def __init__(
        self, type_name: str, shapes: tuple[Shape, ...], n: int, **properties: object
    ) -> None:
        names = tuple(f"x{i}" for i in range(len(shapes)))
        self.layer: Layer = create_layer(
            type_name, name="layer", input_layers=names, **properties
        )
        self.shapes, self.n = shapes, n
        self.spec = self.layer.infer(shapes)

    def forward(
        self, inputs: list[Array], *, over: dict[str, str] | None = None
    ) -> list[Array]:
        """Return the outputs; `over` puts results where operands stand."""
        bound = Arrays(self.spec, self.shapes, self.n)
        bound.arrays = {f"in{i}": x.copy() for i, x in enumerate(inputs)}
        for k, shape in enumerate(self.spec.output_shapes):
            self._place(bound, f"out{k}", shape, over)
        for call in self.layer.forward(bound):
            run_entry(call.kernel, *call.arguments)
        return [bound.arrays[f"out{k}"] for k in range(len(self.spec.output_shapes))]

    def derivatives(
        self,
        inputs: list[Array],
        outputs: list[Array],
        d_outputs: list[Array],
        *,
        wanted: tuple[int, ...] | None = None,
        over: dict[str, str] | None = None,
    ) -> dict[int, Array]:
        """Return the derivatives of the wanted inputs, all by default."""
        bound = Arrays(self.spec, self.shapes, self.n)
        flag = Phase.CALC_DERIVATIVE.lifespan
        bound.arrays = {
            f"in{i}": x.copy()
            for i, x in enumerate(inputs)
            if self.spec.reads_input(i, flag)
        }
        if self.spec.output_lifespan & flag:
            bound.arrays |= {f"out{k}": y.copy() for k, y in enumerate(outputs)}
        bound.arrays |= {f"out{k}:grad": d.copy() for k, d in enumerate(d_outputs)}
        wanted = tuple(range(len(inputs))) if wanted is None else wanted
        for i in wanted:
            self._place(bound, f"in{i}:grad", self.shapes[i], over)
        for call in self.layer.calc_derivative(bound):
            run_entry(call.kernel, *call.arguments)
        return {i: bound.arrays[f"in{i}:grad"] for i in wanted}

    def _place(
        self, bound: Arrays, role: str, shape: Shape, over: dict[str, str] | None
    ) -> None:
        full = (self.n, *shape)
        if over and role in over:
            operand = bound.arrays[over[role]]
            assert operand.size == math.prod(full), "sharing asks for the same size"
            bound.arrays[role] = operand.reshape(full)
        else:
            bound.arrays[role] = poison(*full)

    def ways_in_place(self, phase: Phase) -> Iterator[dict[str, str]]:
        """Yield every way of overwriting that the layer offers, of one to all results.

        As the planner does, no two results take the same operand unless they are views.
        """
        offers: dict[str, list[InPlace]] = {}
        for offer in self.spec.in_place:
            if offer.phase is phase:
                offers.setdefault(offer.result, []).append(offer)
        choices = [
            [None, *((o.result, role, o.is_view) for o in many for role in o.operands)]
            for many in offers.values()
        ]
        for chosen in itertools.product(*choices):
            some = [choice for choice in chosen if choice]
            overwritten = [operand for _, operand, is_view in some if not is_view]
            viewed = {operand for _, operand, is_view in some if is_view}
            if some and len(set(overwritten)) == len(overwritten):
                if not viewed & set(overwritten):
                    yield {result: operand for result, operand, _ in some}
