"""The weights of a model in its arena: how they start, are read and are overwritten."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import tensor_name
from arena_ckpt.common.wording import listed, nearest, quoted, shown
from arena_ckpt.data.arrays import to_finite_float32, to_numbers
from arena_ckpt.engine.initializers import initialize_weight
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.errors import InvalidParameterError, ShapeMismatchError
from arena_ckpt.graph.build import Graph

FloatArray = npt.NDArray[np.float32]


class Weights:
    """Views of all weights, which start as their layers say.

    Parameters
    ----------
    graph : Graph
    views : TensorViews
    seed : int
        Of the initial weights.

    Attributes
    ----------
    views : dict from str to float32 array
        By name, ``"fc1:weight"``; state that is not trained is among them.
    """

    def __init__(self, graph: Graph, views: TensorViews, seed: int) -> None:
        self.views: dict[str, FloatArray] = {}
        self._states: list[tuple[FloatArray, FloatArray]] = []
        for node in graph.nodes:
            for weight in node.own_weights:
                name = tensor_name(node.name, weight.name)
                view = self.views[name] = views.named(name)
                initialize_weight(view, weight, name, seed)
                if not weight.is_trained and not views.is_constant(name):
                    self._states.append((view, np.empty_like(view)))

    def copies(self) -> dict[str, FloatArray]:
        """Return copies of all weights by name."""
        return {name: view.copy() for name, view in self.views.items()}

    def overwrite(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Overwrite the named weights; all are checked before any is written.

        Raises
        ------
        InvalidParameterError
            An unknown name.
        ShapeMismatchError
            An array of another shape.
        DataTypeError, NonFiniteDataError
            An array without numbers, with NaN, or with values beyond float32.
        """
        if not isinstance(values, Mapping):
            raise InvalidParameterError(
                f"the weights are a {type(values).__name__}; give a dict from names to "
                "arrays, like the one that weights() returns"
            )
        checked = {}
        for name, value in values.items():
            if name not in self.views:
                raise InvalidParameterError(
                    f"unknown weight {quoted(name)}{nearest(shown(name), self.views)}; "
                    f"the model has {listed(self.views)}",
                    weight=name,
                )
            label, shape = f"weight {name!r}", self.views[name].shape
            array = to_numbers(value, label)
            if array.shape != shape:
                raise ShapeMismatchError(
                    f"{label} has shape {shape}, the given array {array.shape}; "
                    "nothing was changed",
                    weight=name,
                    expected=shape,
                    found=array.shape,
                )
            checked[name] = to_finite_float32(array, label)
        for name, array in checked.items():
            self.views[name][...] = array

    def remember_states(self) -> None:
        """Copy what training changes without a gradient, such as running statistics."""
        for view, before in self._states:
            np.copyto(before, view)

    def restore_states(self) -> None:
        """Put back the state that `remember_states` copied."""
        for view, before in self._states:
            np.copyto(view, before)
