"""The sets of tensors that a stage can keep for its backward pass, with their costs.

An option is a set of tensors that are kept; the backward pass makes the others again,
from these and from the tensors of the cut before. Options are found by trying all sets
of the tensors that matter where these are few, else by dropping one after the other;
those that neither save bytes nor time over another are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from copy import copy
from dataclasses import dataclass, replace

from arena_ckpt.checkpoint.needs import Needs
from arena_ckpt.checkpoint.on_demand import Makers
from arena_ckpt.checkpoint.policy import Policy
from arena_ckpt.checkpoint.stages import Stage
from arena_ckpt.common.names import gradient_of, layer_of, role_of, tensor_name
from arena_ckpt.common.phases import Phase
from arena_ckpt.graph.nodes import Node
from arena_ckpt.planning.costs import Costs
from arena_ckpt.planning.recompute import (
    Rerun,
    Reruns,
    backward_reads,
    forward_reads,
    saved_tensors,
)
from arena_ckpt.planning.settings import PlanSettings
from arena_ckpt.planning.timeline import Step, backward_steps

MOST_TRIED_ALL = 10
"""Maximum number of tensors of a stage of which all subsets are tried."""

MOST_OPTIONS = 16
"""Maximum number of options of one stage, spread evenly over the bytes they save."""

SMALL_SHARE = 0.01
"""Share of the bytes of a stage; a smaller tensor that the backward pass reads is
always kept."""


@dataclass(frozen=True, slots=True)
class Option:
    """A way to take a stage backward: what to keep and what to recompute.

    Attributes
    ----------
    keeps : frozenset of str
        Tensors of the stage from the forward pass, beside the cuts.
    reruns : tuple of Rerun
        In the backward pass of the stage.
    kept_bytes : int
        Bytes of what it keeps and of the output cut, without the input cut.
    time : float
        Time of the backward pass, reruns included.
    """

    keeps: frozenset[str]
    reruns: tuple[Rerun, ...]
    kept_bytes: int
    time: float


EVERYTHING = Policy()
"""The policy under which every layer may be kept and run again."""


def signature(stage: Stage, costs: Costs, policy: Policy = EVERYTHING) -> Hashable:
    """Return a value that is equal for stages that differ only in names."""
    place = {node.name: place for place, node in enumerate(stage.nodes)}

    def tensor(name: str) -> Hashable:
        layer, role = layer_of(name), role_of(name)
        if layer in place:
            return place[layer], role
        return stage.cut_before.index(name) if name in stage.cut_before else role

    return (
        tuple(
            (
                node.layer.type_name,
                repr(sorted(_own_values(node).items())),
                tuple(map(tensor, node.sources)),
                node.input_shapes,
                node.derived_inputs,
                node.trains,
                node.updates,
                place.get(node.weights_of, -1),
                node.name in policy.keep,
                node.name in policy.drop,
                *(t in policy.held_tensors for t in (*node.sources, *node.outputs)),
                *(costs.step(node.name, phase) for phase in Phase),
            )
            for node in stage.nodes
        ),
        tuple(map(tensor, stage.cut_after)),
        len(stage.cut_before),
    )


def _own_values(node: Node) -> dict[str, object]:
    names = ("name", "input_layers", "shared_from")
    return {key: v for key, v in node.layer.given.items() if key not in names}


class StageOptions:
    """The options of one stage, and the bytes that its passes need.

    Parameters
    ----------
    stage : Stage
    needs : Needs
    costs : Costs
    settings : PlanSettings
    policy : Policy
        What may be kept and run again.
    block_reruns : tuple of Rerun, optional
        What checkpoint blocks within the stage run again, if these are the only option.

    Attributes
    ----------
    stays : frozenset of str
        Tensors that every option keeps, because no layer can make them again or because
        they are saved once for the whole batch, or because their layer is kept.
    there : frozenset of str
        What no recompute has to make: `stays`, and all else that kept layers make.
    """

    def __init__(
        self,
        stage: Stage,
        needs: Needs,
        costs: Costs,
        settings: PlanSettings,
        policy: Policy = EVERYTHING,
        block_reruns: Reruns = (),
    ) -> None:
        self.stage = stage
        self._policy = policy
        self._needs = needs
        self._costs = costs
        self._settings = settings
        self.makers = Makers(stage.nodes)
        self.forward_time = sum(
            costs.step(node.name, Phase.FORWARD)
            for node in stage.nodes
            if not policy.kept_tensors.intersection(node.outputs)
        )
        phases = [Phase.CALC_GRADIENT, Phase.CALC_DERIVATIVE]
        if not settings.defers_updates:  # else they follow the pass
            phases.append(Phase.APPLY_GRADIENT)
        self._own_time = sum(
            costs.step(node.name, phase) for node in stage.nodes for phase in phases
        )
        # A kept layer runs forward once, however often the stage does.
        self._own_time += sum(
            costs.step(node.name, Phase.FORWARD)
            for node in stage.nodes
            if policy.kept_tensors.intersection(node.outputs)
        )
        able = frozenset(self.makers.made())
        made = frozenset(
            tensor
            for node in stage.nodes
            if node.inputs  # samples are always there
            for tensor in (*node.outputs, *saved_tensors(node))
            if tensor in needs.live_ranges
        )
        # Tensors that are saved once for a batch, such as statistics, are never
        # dropped.
        once = frozenset(
            tensor for tensor in made if not needs.live_ranges[tensor].per_sample
        )
        kept = made & policy.kept_tensors
        self._movable = (made & able) - once - kept - {*stage.cut_after}
        self._keepable = self._movable - policy.dropped_tensors
        held = kept & policy.held_tensors
        self.stays = (made - self._movable - kept - {*stage.cut_after}) | held
        self.there = self.stays | kept
        self._held = self._find_held()
        self.saves = self._find_saves(block_reruns)
        self.solo = self._option(frozenset(), with_cut_after=False)

    def renamed(self, stage: Stage, policy: Policy = EVERYTHING) -> StageOptions:
        """Return the options for a stage with the same signature."""
        new_name = {
            old.name: new.name
            for old, new in zip(self.stage.nodes, stage.nodes, strict=True)
        }

        def tensor(name: str) -> str:
            return tensor_name(new_name[layer_of(name)], role_of(name))

        def option(old: Option) -> Option:
            reruns = tuple(
                Rerun(
                    new_name[rerun.before],
                    new_name[rerun.layer],
                    tuple(sorted(map(tensor, rerun.tensors))),
                )
                for rerun in old.reruns
            )
            return replace(old, keeps=frozenset(map(tensor, old.keeps)), reruns=reruns)

        other = copy(self)
        other.stage = stage
        other._policy = policy
        other.makers = Makers(stage.nodes)
        other.stays = frozenset(map(tensor, self.stays))
        other.there = frozenset(map(tensor, self.there))
        other._held = other._find_held()
        other.saves = [option(old) for old in self.saves]
        other.solo = option(self.solo)
        return other

    def _find_held(self) -> frozenset[str]:
        """Return the tensors of kept layers that the stage reads or makes.

        They lie beside whatever the stage does, and are counted in the chain.
        """
        nodes = self.stage.nodes
        touched = {
            t for n in nodes for t in (*n.sources, *n.outputs, *saved_tensors(n))
        }
        return self._policy.held_tensors & touched

    # -- options -----------------------------------------------------------------------

    def _find_saves(self, block_reruns: Reruns) -> list[Option]:
        read: set[str] = set()
        for node in self.stage.nodes:
            read |= backward_reads(node)
        keepable = self._keepable
        # What runs again however much is kept reads its inputs then.
        again = block_reruns or self._option(keepable).reruns
        layers = {rerun.layer for rerun in again}
        for node in self.stage.nodes:
            read.update(forward_reads(node) if node.name in layers else ())
        if block_reruns:
            made = {tensor for rerun in again for tensor in rerun.tensors}
            return [self._option_of(frozenset(read & keepable) - made, again)]
        keep_all = self._option(frozenset(read & keepable))
        total = sum(map(self._needs.bytes_of, self._movable))
        small = frozenset(
            name
            for name in read & keepable
            if self._needs.bytes_of(name) <= SMALL_SHARE * total
        )
        found = {keep_all.keeps: keep_all}
        for keeps in self._candidates(frozenset(read), small):
            if keeps not in found:
                option = self._option(keeps)
                found.setdefault(option.keeps, option)
        return [keep_all, *_front(found.values(), keep_all)]

    def _candidates(
        self, read: frozenset[str], small: frozenset[str]
    ) -> Iterator[frozenset[str]]:
        choice = sorted(self._keepable - small)
        if len(choice) <= MOST_TRIED_ALL:
            for bits in range(1 << len(choice)):
                some = (t for place, t in enumerate(choice) if bits >> place & 1)
                yield small.union(some)
            return
        yield from self._dropping(small | (read & self._keepable))
        yield from self._dropping(self._keepable)

    def _dropping(self, keeps: frozenset[str]) -> Iterator[frozenset[str]]:
        """Yield ever smaller sets of tensors to keep, cheapest recompute first."""
        while keeps:
            yield keeps
            now = self._option(keeps)
            best = min(
                sorted(keeps),
                key=lambda name: (
                    (self._option(keeps - {name}).time - now.time)
                    / max(1, self._needs.bytes_of(name))
                ),
            )
            keeps -= {best}
        yield keeps

    def _option(self, keeps: frozenset[str], *, with_cut_after: bool = True) -> Option:
        there = {*keeps, *self.stage.cut_before, *self.there}
        if with_cut_after:
            there.update(self.stage.cut_after)
        return self._option_of(keeps, tuple(self.makers.for_backward(there)))

    def _option_of(self, keeps: frozenset[str], reruns: Reruns) -> Option:
        again = sum(self._costs.rerun(r.layer, r.tensors) for r in reruns)
        kept = keeps.union(self.stage.cut_after).difference(self.stage.cut_before)
        return Option(
            keeps,
            reruns,
            sum(map(self._needs.bytes_of, kept - self._held)),
            self._own_time + again,
        )

    # -- needs -------------------------------------------------------------------------

    def sweep_bytes(self, held: Collection[str]) -> int:
        """Return the peak in bytes of a forward pass that keeps the output cut."""
        begin = [t for t in self.stage.cut_before if t not in held]
        return self._forward_bytes(held, begin, ())

    def forward_bytes(self, option: Option) -> int:
        """Return the peak in bytes of a forward pass that keeps an option's tensors."""
        return self._forward_bytes(self.stage.cut_before, (), option.keeps)

    def _forward_bytes(
        self, held: Collection[str], begin: Collection[str], keeps: Collection[str]
    ) -> int:
        steps = [
            Step(Phase.FORWARD, node.name)
            for node in self.stage.nodes
            if node.runs(Phase.FORWARD)
        ]
        held = self._held.union(held)
        end = {*self.stage.cut_after, *keeps, *self.stays} - held
        return self._needs.peak(steps, {}, held=held, begin=begin, end=end)

    def backward_bytes(self, option: Option, *, with_cut_after: bool = True) -> int:
        """Return the peak in bytes of the backward pass."""
        before: dict[str, list[Rerun]] = {}
        for rerun in option.reruns:
            before.setdefault(rerun.before, []).append(rerun)
        steps: list[Step | None] = []
        remade = {}
        for node in reversed(self.stage.nodes):
            for rerun in before.get(node.name, ()):
                remade[len(steps)] = frozenset(rerun.tensors)
                steps.append(Step(Phase.RECOMPUTE, rerun.layer))
            steps += backward_steps(node, self._settings)
        cut_before, cut_after = self.stage.cut_before, self.stage.cut_after
        begin = [*option.keeps, *self.stays, *map(gradient_of, cut_after)]
        begin += cut_after if with_cut_after else ()
        return self._needs.peak(
            steps,
            remade,
            held=self._held.union(cut_before),
            begin=[name for name in begin if name not in cut_before],
            end=[
                d for d in map(gradient_of, cut_before) if d in self._needs.live_ranges
            ],
        )

    def derivative_bytes(self) -> int:
        """Return the bytes of the derivatives of the output cut."""
        return sum(
            self._needs.bytes_of(name)
            for name in map(gradient_of, self.stage.cut_after)
            if name in self._needs.live_ranges
        )


def _front(options: Collection[Option], keep_all: Option) -> list[Option]:
    """Return the options that no other beats in bytes and time, the fastest first."""
    best: list[Option] = []
    for option in sorted(
        options, key=lambda o: (o.time, o.kept_bytes, sorted(o.keeps))
    ):
        least = best[-1].kept_bytes if best else keep_all.kept_bytes
        if option.kept_bytes < least:
            best.append(option)
    if len(best) <= MOST_OPTIONS:
        return best
    step = (len(best) - 1) / (MOST_OPTIONS - 1)
    return [best[round(index * step)] for index in range(MOST_OPTIONS)]
