"""How many bytes a stretch of steps takes, looked at alone.

The steps get their tensors, live ranges and operation in place from the same functions
as those of a whole iteration, so the bytes are those of a plan but for the layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from arena_ckpt.common.names import LABEL, gradient_of, state_of, tensor_name
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.units import align_up
from arena_ckpt.graph.build import Graph
from arena_ckpt.planning.live_ranges import (
    find_uses,
    find_uses_of_stretch,
    group_tensors,
)
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.planning.tensors import LiveRange, TensorKind
from arena_ckpt.planning.timeline import Step, Timeline, build_timeline

_ALWAYS = (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE, TensorKind.DATA)


class Needs:
    """Looks at stretches of the steps of one model.

    Parameters
    ----------
    graph : Graph
    settings : PlanSettings

    Attributes
    ----------
    life : dict from str to LiveRange
        The tensors of an iteration that recomputes nothing, by name.
    base_bytes : int
        What is there during all steps, or taken to be: weights, optimizer states,
        samples and labels, and gradients that outlive the backward pass of their layer.
    """

    def __init__(self, graph: Graph, settings: PlanSettings) -> None:
        self._graph = graph
        self._settings = settings
        whole = find_uses(graph, build_timeline(graph, (), settings), settings)
        self.life: dict[str, LiveRange] = {t.name: t for t in whole.tensors}
        self._always = frozenset(
            life.name
            for life in self.life.values()
            if life.kind in _ALWAYS or not life.layer or _is_long(life)
        )
        self.base_bytes = sum(self.bytes_of(name) for name in self._always)

    def bytes_of(self, tensor: str) -> int:
        """Return the space that a tensor takes."""
        return align_up(self.life[tensor].size_bytes + self._settings.canary_bytes)

    def peak(
        self,
        steps: Sequence[Step | None],
        remade: Mapping[int, frozenset[str]],
        *,
        held: Collection[str] = (),
        begin: Iterable[str] = (),
        end: Iterable[str] = (),
    ) -> int:
        """Return the most bytes alive at one of some steps.

        Parameters
        ----------
        steps : sequence of Step or None
        remade : mapping from int to frozenset of str
            What each recompute among them makes.
        held : collection of str
            Tensors that are there all the time, and not counted.
        begin : iterable of str
            Tensors that are there before the first step; those of no use are not
            counted.
        end : iterable of str
            Tensors that are read after the last.

        Returns
        -------
        int
            Weights and all else in `base_bytes` are not counted.
        """
        there = dict.fromkeys((*self._always_of(steps), *held, *begin))
        end = {*end, *held}
        uses = find_uses_of_stretch(
            self._graph,
            Timeline(tuple(steps), {}, len(steps), len(steps), dict(remade)),
            self._settings,
            begin=[self.life[name] for name in there if name in self.life],
            end=end,
        )
        outside = self._always.union(held)
        changes = [0] * (len(steps) + 1)
        for group in group_tensors(self._graph, uses, self._settings):
            lives = [
                life
                for life in map(uses.tensors.__getitem__, group)
                if life.lifespan is not TensorLifespan.UNMANAGED or life.name in end
            ]
            if not lives or any(life.name in outside for life in lives):
                continue
            size = align_up(lives[0].size_bytes + self._settings.canary_bytes)
            changes[min(life.start for life in lives)] += size
            changes[min(max(life.stop for life in lives), len(steps))] -= size
        return max(list(accumulate(changes))[: len(steps)], default=0)

    def _always_of(self, steps: Sequence[Step | None]) -> Iterator[str]:
        """Yield what is always there and some steps can touch."""
        for layer in dict.fromkeys(step.layer for step in steps if step):
            node = self._graph.node(layer)
            names = [tensor_name(layer, LABEL), *node.sources]
            for weight in node.spec.weights:
                name = tensor_name(node.weights_of, weight.name)
                names += [name, gradient_of(name)]
                names += [state_of(name, s) for s in self._settings.state_names]
            yield from (name for name in names if name in self._always)


def _is_long(life: LiveRange) -> bool:
    """Tell whether a weight gradient outlives the three steps of its layer."""
    return life.kind is TensorKind.GRADIENT and life.stop - life.start > 3
