"""The state of the foreign model that a model was imported from.

It is kept with the model, also in a saved one, so that trained weights can go back by
their foreign names without the other framework.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from arena_ckpt.common.json_codec import decode, encode
from arena_ckpt.definition.weight_links import Array, WeightLink, to_foreign

PREFIX = "arena_ckpt.foreign/"
"""With which the names of foreign tensors begin in a saved model."""


@dataclass(frozen=True, slots=True)
class ForeignTensor:
    """A tensor of a foreign state.

    Attributes
    ----------
    name : str
    dtype : str
        As NumPy calls it.
    shape : tuple of int
    same_as : str
        The name that links use, of several for one tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    same_as: str


@dataclass(frozen=True, slots=True)
class ForeignDocument:
    """What a saved model says of a foreign state, beside tensors.

    Attributes
    ----------
    framework : str
    tensors : tuple of ForeignTensor
    links : tuple of WeightLink
    """

    framework: str
    tensors: tuple[ForeignTensor, ...]
    links: tuple[WeightLink, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ForeignState:
    """What a foreign model holds, and which of it is which weight of ours.

    Attributes
    ----------
    framework : str
        ``"torch"`` or ``"onnx"``.
    links : tuple of WeightLink
    tensors : tuple of ForeignTensor
        The whole state, in its order.
    arrays : mapping of str to array
        Values as they were imported; of a saved model those alone that are not the
        weights of ours.
    """

    framework: str
    links: tuple[WeightLink, ...]
    tensors: tuple[ForeignTensor, ...]
    arrays: Mapping[str, Array]

    @classmethod
    def of(
        cls,
        framework: str,
        links: tuple[WeightLink, ...],
        arrays: Mapping[str, Array],
        same: Mapping[str, str],
    ) -> ForeignState:
        """Return the state of a model that was just imported.

        Parameters
        ----------
        framework : str
        links : tuple of WeightLink
        arrays : mapping of str to array
        same : mapping of str to str
            Further names of a tensor, and the name that links use.
        """
        tensors = tuple(
            ForeignTensor(name, str(array.dtype), array.shape, same.get(name, name))
            for name, array in arrays.items()
        )
        return cls(framework, links, tensors, arrays)

    @property
    def is_whole(self) -> bool:
        """Whether all values are known without the weights of ours."""
        return all(tensor.name in self.arrays for tensor in self.tensors)

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
        before = {
            tensor.name: self.arrays.get(
                tensor.name, np.zeros(tensor.shape, tensor.dtype)
            )
            for tensor in self.tensors
        }
        links = [link for link in self.links if link.foreign in before]
        changed = {} if weights is None else to_foreign(links, weights, before)
        return {
            tensor.name: np.array(changed.get(tensor.same_as, before[tensor.name]))
            for tensor in self.tensors
        }

    def saved(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return what a saved model holds of the state: a document, and tensors."""
        covered = self._covered()
        arrays = {
            PREFIX + name: np.frombuffer(np.ascontiguousarray(array).tobytes(), "u1")
            for name, array in self.arrays.items()
            if name not in covered
        }
        document = ForeignDocument(self.framework, self.tensors, self.links)
        return encode(document), arrays

    def _covered(self) -> set[str]:
        """Return the tensors of which each element is one of a weight of ours."""
        places: dict[str, list[Array]] = {}
        for link in self.links:
            whole = np.arange(math.prod(link.foreign_shape), dtype=np.int64)
            ours = link.to_ours(whole.reshape(link.foreign_shape)).reshape(-1)
            places.setdefault(link.foreign, []).append(ours)
        whole_ones = {
            name
            for name, parts in places.items()
            if len(np.unique(np.concatenate(parts)))
            == next(math.prod(t.shape) for t in self.tensors if t.name == name)
        }
        return {t.name for t in self.tensors if t.same_as in whole_ones}


def from_saved(document: Mapping[str, Any], arrays: dict[str, Array]) -> ForeignState:
    """Return the state that a saved model holds; take its tensors out of `arrays`.

    Raises
    ------
    ValueError
        It does not fit together.
    """
    found: ForeignDocument = decode(ForeignDocument, document)
    kept: dict[str, Array] = {}
    for tensor in found.tensors:
        data = arrays.pop(PREFIX + tensor.name, None)
        if data is not None:
            try:
                values = np.frombuffer(data.tobytes(), np.dtype(tensor.dtype))
                kept[tensor.name] = values.reshape(tensor.shape)
            except (TypeError, ValueError):
                raise ValueError(f"the tensor {tensor.name} is not whole") from None
    return ForeignState(found.framework, found.links, found.tensors, kept)
