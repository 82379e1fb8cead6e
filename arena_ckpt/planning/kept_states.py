"""Layers that keep a state for each sample of a batch: what batches they can take."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import tensor_name
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.graph.build import Graph
from arena_ckpt.layers.stateful import KEPT
from arena_ckpt.planning.settings import PlanSettings


def require_rows(graph: Graph, settings: PlanSettings) -> None:
    """Refuse batches with more samples than a layer keeps states of, or in parts.

    Raises
    ------
    InvalidParameterError
    """
    batch, n_parts = settings.batch_size, settings.micro_batches
    for node in graph.nodes:
        rows = node.layer.get("stateful")
        if not rows:
            continue
        who = f"layer {node.name!r} ({node.layer.type_name}) has stateful={rows}"
        if batch > rows:
            raise InvalidParameterError(
                f"{who}, and batch_size is {batch}: it keeps states of {rows} samples; "
                f"set stateful={batch}, or batch_size to at most {rows}",
                layer=node.name,
                stateful=rows,
                batch_size=batch,
            )
        if n_parts > 1:
            raise InvalidParameterError(
                f"{who}, and micro_batches is {n_parts}: its states go on from batch "
                "to batch, which cannot be split; set micro_batches=1",
                layer=node.name,
                stateful=rows,
                micro_batches=n_parts,
            )


def zero_states(graph: Graph) -> dict[str, npt.NDArray[np.float32]]:
    """Return zeros for each state that is kept from batch to batch, by name."""
    return {
        tensor_name(node.name, weight.name): np.zeros(weight.shape, np.float32)
        for node in graph.nodes
        if node.layer.get("stateful")
        for weight in node.own_weights
        if weight.name in KEPT
    }
