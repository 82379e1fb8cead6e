"""Makes a batch that an imported model and its PyTorch module are compared on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.graph.build import Graph
from arena_ckpt.importers.torch_graph import Captured
from arena_ckpt.model import Model

Array = npt.NDArray[Any]

_LEAST = 4
"""Samples that statistics of a batch are taken over, at least."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs for both sides.

    Attributes
    ----------
    inputs : tuple of array
        For the module, in order.
    x : mapping of str to array
        For the model; inputs that no layer reads are left out.
    n_samples : int
    """

    inputs: tuple[Array, ...]
    x: Mapping[str, Array]
    n_samples: int


def batch_for(captured: Captured, model: Model, rng: np.random.Generator) -> Batch:
    """Return random inputs, with the first, the last and the padding id among ids.

    Values are spread as those of the examples; ones and zeros stay ones and zeros.
    """
    examples = captured.example.tensors
    n = max(_LEAST, len(examples[0]))
    names = [one.name for one in captured.graph.inputs]
    ids = ids_of_inputs(model)
    inputs = []
    for name, example in zip(names, examples, strict=True):
        array = example.detach().numpy()
        shape = (n, *array.shape[1:])
        if np.issubdtype(array.dtype, np.integer):
            inputs.append(_ids(array, shape, ids.get(name), rng))
        else:
            inputs.append(_values(array, shape, rng))
    own = {layer.name for layer in model.layers}
    x = {
        name: array.astype(np.float32)
        for name, array in zip(names, inputs, strict=True)
        if name in own
    }
    return Batch(tuple(inputs), x, n)


def _values(example: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if example.size > 1 and np.isin(example, (0, 1)).all() and example.any():
        return rng.integers(0, 2, shape).astype(np.float32)
    deviation = float(example.std()) if example.size > 1 else 0.0
    mean = float(example.mean())
    made = rng.normal(size=shape) * (deviation or 1.0) + mean
    return made.astype(np.float32)


def _ids(
    example: Array,
    shape: tuple[int, ...],
    limits: tuple[int, tuple[int, ...]] | None,
    rng: np.random.Generator,
) -> Array:
    """Return random ids; the special ones stand at the front of the samples."""
    if limits is None:
        return rng.integers(example.min(), example.max() + 1, shape, example.dtype)
    n_ids, special = limits
    ids = rng.integers(0, n_ids, shape, example.dtype)
    flat = ids.reshape(-1)
    wanted = dict.fromkeys((0, n_ids - 1, *special))
    for place, number in enumerate(wanted):
        flat[(place * 7) % flat.size] = number
    return ids


def ids_of_inputs(model: Model) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Return the number of ids of each input of ids, and those that are special."""
    graph: Graph = model.compile()
    nodes = {node.name: node for node in graph.nodes}
    found: dict[str, tuple[int, tuple[int, ...]]] = {}
    for node in graph.nodes:
        padding = node.layer.get("padding_idx")
        special = () if padding is None else (int(padding),)
        for one in node.spec.id_inputs:
            name = node.inputs[one.index].layer
            while nodes[name].inputs:
                name = nodes[name].inputs[0].layer
            n_ids, others = found.get(name, (one.n_ids, ()))
            found[name] = (min(n_ids, one.n_ids), (*others, *special))
    return found
