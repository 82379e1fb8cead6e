"""The state of the foreign model that a model was imported from.

It is kept with the model, so that trained weights can go back by their foreign names
without the other framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from arena_ckpt.definition.weight_links import Array, WeightLink, to_foreign


@dataclass(frozen=True, slots=True, eq=False)
class ForeignState:
    """What a foreign model holds, and which of it is which weight of ours.

    Attributes
    ----------
    framework : str
        ``"torch"`` or ``"onnx"``.
    links : tuple of WeightLink
    arrays : mapping of str to array
        The state as it was imported, by its names.
    same : mapping of str to str
        Further names of a tensor, and the name that links use.
    """

    framework: str
    links: tuple[WeightLink, ...]
    arrays: Mapping[str, Array]
    same: Mapping[str, str]

    def filled(self, weights: Mapping[str, Array] | None) -> dict[str, Array]:
        """Return the state with the values of our weights.

        Parameters
        ----------
        weights : mapping of str to array, or None
            All that links name, by ``layer:weight``; None keeps the state as it was.

        Returns
        -------
        dict
            Copies, in the order of the foreign state.
        """
        if weights is None:
            return {name: np.array(array) for name, array in self.arrays.items()}
        links = [link for link in self.links if link.foreign in self.arrays]
        changed = to_foreign(links, weights, self.arrays)
        filled = {}
        for name, array in self.arrays.items():
            owner = self.same.get(name, name)
            filled[name] = np.array(changed.get(owner, array))
        return filled
