"""How many bytes a stretch of steps takes, looked at alone.

The steps get their tensors, live ranges and operation in place from the same functions
as those of a whole iteration, so the bytes are those of a plan but for the layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate

from arena_ckpt.graph import Graph
from arena_ckpt.lifespan import TensorLifespan
from arena_ckpt.planner import PlanSettings
from arena_ckpt.sharing import share
from arena_ckpt.tensors import TensorKind, TensorLife
from arena_ckpt.timeline import Step, Timeline, build_timeline
from arena_ckpt.units import align_up
from arena_ckpt.uses import find_uses, find_uses_of_stretch

_ALWAYS = (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE, TensorKind.DATA)


class Needs:
    """Looks at stretches of the steps of one model.

    Parameters
    ----------
    graph : Graph
    settings : PlanSettings

    Attributes
    ----------
    whole : Uses
        Of an iteration that recomputes nothing.
    life : dict from str to TensorLife
        Its tensors by name.
    base_bytes : int
        What is there during all steps, or taken to be: weights, optimizer states,
        samples and labels, and gradients that outlive the backward pass of their layer.
    """

    def __init__(self, graph: Graph, settings: PlanSettings) -> None:
        self._graph = graph
        self._settings = settings
        timeline = build_timeline(
            graph, (), defer_updates=settings.defers_updates, clip=settings.clip
        )
        self.whole = find_uses(
            graph,
            timeline,
            batch_size=settings.pass_samples,
            state_names=settings.state_names,
            keep_gradients=settings.micro_batches > 1,
            tile_updates=settings.tiles_updates,
        )
        self.life: dict[str, TensorLife] = {t.name: t for t in self.whole.tensors}
        self._n_steps = len(timeline.steps)
        self._always = frozenset(
            life.name
            for life in self.life.values()
            if life.kind in _ALWAYS or not life.layer or self._is_long(life)
        )
        self.base_bytes = sum(self.bytes_of(name) for name in self._always)

    def _is_long(self, life: TensorLife) -> bool:
        """Tell whether a weight gradient outlives the steps of its layer."""
        if life.kind is not TensorKind.GRADIENT:
            return False
        return life.stop - life.start > 3

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
        outside = self._always.union(held)
        layers = {step.layer: None for step in steps if step}
        weights = {
            f"{node.weights_of}:{name}": None
            for node in map(self._graph.node, layers)
            for weight in node.spec.weights
            for name in (
                weight.name,
                f"{weight.name}:grad",
                *(f"{weight.name}:{state}" for state in self._settings.state_names),
            )
        }
        there = {
            **{name: None for name in weights if name in self._always},
            **{f"{layer}:label": None for layer in layers},
            **{f"{source}": None for layer in layers for source in self._data(layer)},
            **dict.fromkeys(held),
            **dict.fromkeys(begin),
        }
        end = set(end)
        uses = find_uses_of_stretch(
            self._graph,
            Timeline(tuple(steps), {}, len(steps), len(steps), dict(remade)),
            batch_size=self._settings.pass_samples,
            state_names=self._settings.state_names,
            begin=[self.life[name] for name in there if name in self.life],
            end=[*end, *(name for name in held if name not in end)],
            tile_updates=self._settings.tiles_updates,
        )
        if self._settings.shares_in_place:
            groups = share(self._graph, uses.tensors, uses.executions)
        else:
            groups = tuple((index,) for index in range(len(uses.tensors)))
        changes = [0] * (len(steps) + 2)
        for group in groups:
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

    def _data(self, layer: str) -> list[str]:
        sources = self._graph.node(layer).sources
        return [name for name in sources if name in self._always]
