"""What a name of a foreign graph stands for while the graph is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.definition.weight_links import Step
from arena_ckpt.importers.foreign_axes import Size, View

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor with samples: the output of a layer of ours, seen as the foreign one.

    Attributes
    ----------
    source : str
        The layer, or ``layer(k)``.
    view : View
    is_whole : bool
        It holds whole numbers, ids for example.
    """

    source: str
    view: View
    is_whole: bool = False

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The shape of the foreign tensor."""
        return self.view.sizes

    @property
    def rank(self) -> int:
        """The number of dimensions of the foreign tensor."""
        return self.view.rank

    def seen(self, view: View) -> Tensor:
        """Return the same elements in another view."""
        return replace(self, view=view)


@dataclass(frozen=True, slots=True)
class Table:
    """A parameter or buffer, or a part of one: the same for all samples.

    Attributes
    ----------
    name : str
        Of the whole in the other framework.
    whole_shape : tuple of int
        Of the whole.
    array : array
        Its values as the graph sees them here.
    is_trained : bool
    steps : tuple of Step
        How the whole became `array`.
    """

    name: str
    whole_shape: tuple[int, ...]
    array: Array
    is_trained: bool
    steps: tuple[Step, ...] = ()

    @classmethod
    def of(cls, name: str, array: Array, *, is_trained: bool) -> Table:
        """Return a whole parameter or buffer."""
        return cls(name, array.shape, array, is_trained)

    def _after(self, kind: str, *numbers: int) -> Table:
        step = Step(kind, tuple(int(number) for number in numbers))
        return replace(self, array=step(self.array), steps=(*self.steps, step))

    def reshaped(self, shape: Sequence[int]) -> Table:
        """Return it with another shape."""
        return (
            self if tuple(shape) == self.array.shape else self._after("reshape", *shape)
        )

    def permuted(self, order: Sequence[int]) -> Table:
        """Return it with its axes in another order."""
        if tuple(order) == tuple(range(self.array.ndim)):
            return self
        return self._after("permute", *order)

    def sliced(self, axis: int, start: int, stop: int, step: int = 1) -> Table:
        """Return a part of it along an axis."""
        if (start, stop, step) == (0, self.array.shape[axis], 1):
            return self
        return self._after("slice", axis, start, stop, step)

    def taken(self, axis: int, indices: npt.ArrayLike) -> Table:
        """Return elements of an axis; the indices may have any shape."""
        places = np.asarray(indices)
        shape = self.array.shape
        return self._after("take", axis, *places.reshape(-1).tolist()).reshaped(
            (*shape[:axis], *places.shape, *shape[axis + 1 :])
        )


@dataclass(frozen=True, slots=True)
class Fixed:
    """Numbers that are known when a model is imported.

    Attributes
    ----------
    array : array
    """

    array: Array


Value = Tensor | Table | Fixed
