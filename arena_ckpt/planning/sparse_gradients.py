"""Gradients of tables that hold only the rows which a batch touches.

Each line holds the values of a row behind columns that say which row it is; there are
as many lines as a batch has ids, which is the most rows that it can touch.
Micro-batches add to lines, and add lines.
"""

from __future__ import annotations

from collections import Counter

from arena_ckpt.errors import InvalidParameterError, SharedWeightsError
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.layers.spec import LARGEST_ID, WeightSpec
from arena_ckpt.operations.sizes import TOUCHED_COLUMNS
from arena_ckpt.optim.optimizers import Optimizer


def gradient_shape(weight: WeightSpec, batch_size: int) -> tuple[int, ...]:
    """Return the shape of the gradient of a weight for a whole batch."""
    if weight.touched_rows is None:
        return weight.shape
    return batch_size * weight.touched_rows, TOUCHED_COLUMNS + weight.shape[1]


def require_touched_rows(graph: Graph, optimizer: Optimizer, batch_size: int) -> None:
    """Refuse gradients of touched rows where something moves the other rows as well.

    Raises
    ------
    InvalidParameterError
        An optimizer that updates whole tables, clipped values, or too many ids.
    SharedWeightsError
        Another layer uses the table.
    """
    users = Counter(node.weights_of for node in graph.nodes if node.spec.weights)
    for node in graph.nodes:
        if not node.trains:
            continue
        for weight in node.spec.trained_weights:
            if weight.touched_rows is None:
                continue
            if users[node.weights_of] > 1:
                raise _shared(node, graph)
            _check_optimizer(node, optimizer)
            n_ids = batch_size * weight.touched_rows
            if n_ids > LARGEST_ID:
                raise InvalidParameterError(
                    f"layer {node.name!r} has sparse=true and {n_ids:,} ids in a "
                    f"batch, {LARGEST_ID:,} at most can be told apart; set a smaller "
                    "batch_size, or sparse=false",
                    layer=node.name,
                    n_ids=n_ids,
                )


def _check_optimizer(node: Node, optimizer: Optimizer) -> None:
    kind, advice = optimizer.type_name, "set sparse=false, or take sgd or adam"
    if kind not in ("sgd", "adam"):
        raise InvalidParameterError(
            f"layer {node.name!r} has sparse=true, and the optimizer {kind} moves "
            f"every row of a table; {advice}",
            layer=node.name,
            optimizer=kind,
        )
    if optimizer["clip_value"] is not None:
        raise InvalidParameterError(
            f"layer {node.name!r} has sparse=true, and clip_value of the optimizer "
            f"{kind} is for whole gradients; set sparse=false, or clip by norm "
            "(clip_grad_by_norm)",
            layer=node.name,
            optimizer=kind,
        )


def _shared(node: Node, graph: Graph) -> SharedWeightsError:
    others = [
        other.name
        for other in graph.nodes
        if other.weights_of == node.weights_of and other.name != node.name
    ]
    return SharedWeightsError(
        f"layer {node.name!r} has sparse=true, and {', '.join(map(repr, others))} uses "
        "its table as well; set sparse=false, or leave shared_from out",
        layer=node.name,
        shared_with=tuple(others),
    )
