"""From the timeline to tensors, their live ranges, and which of them share bytes."""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.graph import Graph
from arena_ckpt.settings import PlanSettings
from arena_ckpt.sharing import Groups, share
from arena_ckpt.tensors import Execution, TensorLife
from arena_ckpt.timeline import Timeline
from arena_ckpt.uses import Uses, find_uses


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


def analyze(graph: Graph, timeline: Timeline, settings: PlanSettings) -> Liveness:
    """Find the live ranges of all tensors of one training iteration.

    Parameters
    ----------
    graph : Graph
    timeline : Timeline
    settings : PlanSettings

    Returns
    -------
    Liveness
    """
    uses = find_uses(graph, timeline, settings)
    return Liveness(uses.tensors, uses.executions, group_tensors(graph, uses, settings))


def group_tensors(graph: Graph, uses: Uses, settings: PlanSettings) -> Groups:
    """Group tensors that share their bytes: each alone without operation in place."""
    if settings.shares_in_place:
        return share(graph, uses.tensors, uses.executions)
    return tuple((index,) for index in range(len(uses.tensors)))
