"""Bytes that a stretch of steps takes, computed without the rest of the timeline.

The steps get their tensors, live ranges and operation in place from the same functions
as those of a whole iteration, so the bytes are those of a plan but for the layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from arena_ckpt.common.names import LABEL, gradient_of, state_of, tensor_name
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.units import align_up
from arena_ckpt.planning.live_ranges import (
    find_uses,
    find_uses_of_stretch,
    group_tensors,
)
from arena_ckpt.planning.tensors import LiveRange, TensorKind
from arena_ckpt.planning.timeline import Step, Timeline, build_timeline
from arena_ckpt.planning.touches import Touches

_ALWAYS = (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE, TensorKind.DATA)


class Needs:
    """Computes the bytes that stretches of steps of one model take.

    Parameters
    ----------
    touches : Touches
        What the steps of the model touch.

    Attributes
    ----------
    live_ranges : dict from str to LiveRange
        The tensors of an iteration that recomputes nothing, by name.
    base_bytes : int
        Bytes that are alive in all steps, or counted so: weights, optimizer states,
        samples and labels, gradients that outlive the backward pass of their layer, and
        the derivatives of tables, to which layers of any stage add.
        Constants beside the RAM are not counted.
    """

    def __init__(self, touches: Touches) -> None:
        self._touches = touches
        self._graph = graph = touches.graph
        self._settings = settings = touches.settings
        whole = find_uses(touches, build_timeline(graph, (), settings))
        self.live_ranges: dict[str, LiveRange] = {t.name: t for t in whole.tensors}
        of_tables = {*map(gradient_of, graph.tables)}
        self._always = frozenset(
            live.name
            for live in self.live_ranges.values()
            if live.kind in _ALWAYS
            or not live.layer
            or _is_long(live)
            or live.name in of_tables
        )
        constants = settings.constants_of(whole.tensors, whole.executions)
        apart = {whole.tensors[index].name for index in constants}
        self.base_bytes = sum(self.bytes_of(name) for name in self._always - apart)

    def bytes_of(self, tensor: str) -> int:
        """Return the bytes that a tensor takes, alignment included."""
        return align_up(
            self.live_ranges[tensor].size_bytes + self._settings.canary_bytes
        )

    def peak(
        self,
        steps: Sequence[Step | None],
        remade: Mapping[int, frozenset[str]],
        *,
        held: Collection[str] = (),
        begin: Iterable[str] = (),
        end: Iterable[str] = (),
    ) -> int:
        """Return the largest number of bytes alive at one of some steps.

        Parameters
        ----------
        steps : sequence of Step or None
        remade : mapping from int to frozenset of str
            The tensors that each recompute among them makes.
        held : collection of str
            Tensors that are alive in all steps, and not counted.
        begin : iterable of str
            Tensors that are alive before the first step; those without a use are not
            counted.
        end : iterable of str
            Tensors that are read after the last step.

        Returns
        -------
        int
            Weights and all else in `base_bytes` are not counted.
        """
        there = dict.fromkeys((*self._always_of(steps), *held, *begin))
        end = {*end, *held}
        uses = find_uses_of_stretch(
            self._touches,
            Timeline(tuple(steps), {}, len(steps), len(steps), dict(remade)),
            begin=[
                self.live_ranges[name] for name in there if name in self.live_ranges
            ],
            end=end,
        )
        outside = self._always.union(held)
        changes = [0] * (len(steps) + 1)
        for group in group_tensors(self._touches, uses):
            shared = [
                live
                for live in map(uses.tensors.__getitem__, group)
                if live.lifespan is not TensorLifespan.UNMANAGED or live.name in end
            ]
            if not shared or any(live.name in outside for live in shared):
                continue
            size = align_up(shared[0].size_bytes + self._settings.canary_bytes)
            changes[min(live.start for live in shared)] += size
            changes[min(max(live.stop for live in shared), len(steps))] -= size
        return max(list(accumulate(changes))[: len(steps)], default=0)

    def _always_of(self, steps: Sequence[Step | None]) -> Iterator[str]:
        """Yield the tensors that are always alive and that some steps can touch."""
        for layer in dict.fromkeys(step.layer for step in steps if step):
            node = self._graph.node(layer)
            tables = self._graph.tables
            names = [tensor_name(layer, LABEL)]
            names += [tables.get(source, source) for source in node.sources]
            names += [gradient_of(t) for t in (*node.sources, *node.outputs)]
            for weight in node.spec.weights:
                name = tensor_name(node.weights_of, weight.name)
                names += [name, gradient_of(name)]
                names += [state_of(name, s) for s in self._settings.state_names]
            yield from (name for name in names if name in self._always)


def _is_long(live: LiveRange) -> bool:
    """Say whether a weight gradient outlives the three backward steps of its layer."""
    return live.kind is TensorKind.GRADIENT and live.stop - live.start > 3
