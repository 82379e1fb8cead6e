"""From the timeline to tensors, their live ranges, and which of them share bytes."""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.graph import Graph
from arena_ckpt.sharing import Groups, share
from arena_ckpt.tensors import Execution, TensorLife
from arena_ckpt.timeline import Timeline
from arena_ckpt.uses import find_uses


@dataclass(frozen=True, slots=True)
class Liveness:
    """Result of `analyze`.

    Attributes
    ----------
    tensors : tuple of TensorLife
    executions : tuple of Execution
        In order of time.
    groups : tuple of tuple of int
        Tensors that share one buffer.
    """

    tensors: tuple[TensorLife, ...]
    executions: tuple[Execution, ...]
    groups: Groups


def analyze(
    graph: Graph,
    timeline: Timeline,
    *,
    batch_size: int,
    state_names: tuple[str, ...],
    keep_gradients: bool,
    share_memory: bool,
    tile_updates: bool = False,
) -> Liveness:
    """Find the live ranges of all tensors of one training iteration.

    Parameters
    ----------
    graph : Graph
    timeline : Timeline
    batch_size : int
        Samples of one forward pass.
    state_names : tuple of str
        Tensors that the optimizer keeps for each weight, for example first_moment.
    keep_gradients : bool
        Weight gradients live through the whole iteration (micro-batches add to them).
    share_memory : bool
        Allow operation in place.
    tile_updates : bool
        Make and apply large gradients in tiles; see `arena_ckpt.tiled_update`.

    Returns
    -------
    Liveness
    """
    uses = find_uses(
        graph,
        timeline,
        batch_size=batch_size,
        state_names=state_names,
        keep_gradients=keep_gradients,
        tile_updates=tile_updates,
    )
    if share_memory:
        groups = share(graph, uses.tensors, uses.executions)
    else:
        groups = tuple((index,) for index in range(len(uses.tensors)))
    return Liveness(uses.tensors, uses.executions, groups)
