"""The kernel calls of an update: of whole gradients, and of gradients made in tiles."""

from __future__ import annotations

from collections.abc import Iterator

from arena_ckpt.common.names import TILE, gradient_of, state_of
from arena_ckpt.layers.base import Binding, Call
from arena_ckpt.layers.spec import WeightSpec
from arena_ckpt.operations.families import reductions, update_terms, windows
from arena_ckpt.operations.regions import Region
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.tiled_update import accumulates, clipped_parts, tiles


class UpdateCalls:
    """Names the calls that change weights and states.

    Parameters
    ----------
    optimizer : Optimizer
    hyper : float64 array
        What the kernels of the optimizer read.
    fraction : float64 array, shape (1,)
        The share of the batch that a gradient is of: of the penalty as much is added.
    """

    def __init__(self, optimizer: Optimizer, hyper: Region, fraction: Region) -> None:
        self._optimizer = optimizer
        self._hyper = hyper
        self._fraction = fraction

    def apply(self, weight: WeightSpec, tensors: Binding) -> list[Call]:
        """Return the calls that update a weight."""
        states = [state_of(weight.name, s) for s in self._optimizer.state_names]
        if weight.touched_rows is not None:
            roles = (weight.name, gradient_of(weight.name), *states)
            tables = [tensors.matrix(role) for role in roles]
            terms = (*self._optimizer.touched_terms, self._hyper)
            return [Call(self._optimizer.touched_kernel, (*tables, *terms))]
        if tensors.is_wanted(gradient_of(weight.name)):
            roles = (weight.name, gradient_of(weight.name), *states)
            whole = [tensors.vector(role) for role in roles]
            if self._clip_value is None:
                return [self._update(weight, *whole)]
            return list(self._update_clipped(weight, tensors, *whole))
        values = tensors.matrix(weight.name)
        if self._accumulates(weight):
            arguments = (*_factors(weight, tensors), self._hyper, values)
            return [Call(self._optimizer.product_kernel, arguments)]
        arrays = [values, *map(tensors.matrix, states)]
        calls: list[Call] = []
        for start, stop in tiles(weight):
            rows, *others = (array[start:stop].reshape(-1) for array in arrays)
            tile = tensors.vector(TILE)[: rows.size]
            calls += self._make_rows(weight, tensors, start, tile)
            calls += self._clip(tile, tile)
            calls.append(self._update(weight, rows, tile, *others))
        return calls

    def make_gradient(
        self, weight: WeightSpec, tensors: Binding, gradient: Region
    ) -> list[Call]:
        """Return the calls that make a gradient whole, in the parts of its update."""
        whole = ((0, gradient.shape[0]),)
        return [
            call
            for start, stop in (whole if self._accumulates(weight) else tiles(weight))
            for call in self._make_rows(
                weight, tensors, start, gradient[start:stop].reshape(-1)
            )
        ]

    def add_penalty(self, weight: WeightSpec, values: Region, gradient: Region) -> Call:
        """Return the call that adds the gradient of a weight's penalty."""
        constant = weight.regularizer_constant
        return Call(
            reductions.l2_gradient, (values, constant, self._fraction, gradient)
        )

    def _update(self, weight: WeightSpec, *arrays: Region) -> Call:
        """Return the call that updates values by their gradient and states."""
        return Call(self._optimizer.kernel, (*arrays, weight.decay, self._hyper))

    def _update_clipped(
        self,
        weight: WeightSpec,
        tensors: Binding,
        values: Region,
        gradient: Region,
        *states: Region,
    ) -> Iterator[Call]:
        """Yield the calls that update a weight by what is left of its gradient."""
        for start, stop in clipped_parts(values.size):
            tile = tensors.vector(TILE)[: stop - start]
            yield from self._clip(gradient[start:stop], tile)
            others = (state[start:stop] for state in states)
            yield self._update(weight, values[start:stop], tile, *others)

    def _clip(self, gradient: Region, clipped: Region) -> list[Call]:
        most = self._clip_value
        if most is None:
            return []
        return [Call(update_terms.clip_values, (gradient, most, clipped))]

    @property
    def _clip_value(self) -> float | None:
        most: float | None = self._optimizer["clip_value"]
        return most

    def _accumulates(self, weight: WeightSpec) -> bool:
        clips = self._clip_value is not None
        return accumulates(weight, self._optimizer.state_names, clips_values=clips)

    def _make_rows(
        self, weight: WeightSpec, tensors: Binding, start: int, rows: Region
    ) -> Iterator[Call]:
        """Yield the calls that make the rows of a gradient from `start` on."""
        first, second = _factors(weight, tensors)
        columns = second.shape[1]
        sizes = (rows.size // columns, columns, first.shape[0])
        places = (
            *(first.reshape(-1), start, first.shape[1]),
            *(second.reshape(-1), 0, columns),
            *(0.0, rows, 0, columns),
        )
        yield Call(windows.matmul_windows, (1, 0, *sizes, *places))
        if weight.regularizer_constant:
            values = tensors.vector(weight.name)[start * columns :][: rows.size]
            yield self.add_penalty(weight, values, rows)


def _factors(weight: WeightSpec, tensors: Binding) -> tuple[Region, Region]:
    assert weight.gradient_factors is not None
    first, second = map(tensors.matrix, weight.gradient_factors)
    return first, second
