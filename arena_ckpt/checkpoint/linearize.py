"""Turns a graph into a chain of stages with exact numbers, and actions into reruns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from arena_ckpt.checkpoint.chain import (
    Action,
    ActionKind,
    Chain,
    SaveOption,
    SoloOption,
)
from arena_ckpt.checkpoint.needs import Needs
from arena_ckpt.checkpoint.policy import Policy
from arena_ckpt.checkpoint.policy_blocks import (
    Blocks,
    blocks_within,
    last_sweeps,
    reruns_of_blocks,
    swept_layers,
)
from arena_ckpt.checkpoint.stage_options import EVERYTHING, StageOptions, signature
from arena_ckpt.checkpoint.stages import Stage
from arena_ckpt.graph.blocks import CheckpointBlock
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.nodes import Node
from arena_ckpt.planning.costs import Costs
from arena_ckpt.planning.recompute import Rerun, Reruns
from arena_ckpt.planning.settings import PlanSettings

FORBIDDEN_BYTES = 2**50
"""Peak of a sweep over stages that is not to be: more than any budget."""


class _Numbers(NamedTuple):
    """The bytes and times of a stage, and of all stages that differ only in names."""

    saves: tuple[SaveOption, ...]
    solos: tuple[SoloOption, ...]
    sweep_bytes: int
    sweep_beside_input_bytes: int

    def beside(self, held_bytes: int) -> _Numbers:
        """Return the numbers with backward passes beside some more bytes."""
        if not held_bytes:
            return self
        return self._replace(
            saves=tuple(
                replace(save, backward_bytes=save.backward_bytes + held_bytes)
                for save in self.saves
            ),
            solos=tuple(
                replace(solo, peak_bytes=solo.peak_bytes + held_bytes)
                for solo in self.solos
            ),
        )


class KnownStage(NamedTuple):
    """The options and numbers that were found for a stage."""

    options: StageOptions
    numbers: _Numbers


class Linearized:
    """A graph as a chain of stages.

    Parameters
    ----------
    stages : sequence of Stage
    needs : Needs
    costs : Costs
    settings : PlanSettings
    known : dict
        Results for stages of the same graph so far; new ones are added.
    policy : Policy
        What may be kept and run again.
    blocks_of : Graph, optional
        The graph, if recompute schedules are those of checkpoint blocks.

    Attributes
    ----------
    chain : Chain
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        needs: Needs,
        costs: Costs,
        settings: PlanSettings,
        known: dict[Hashable, KnownStage],
        policy: Policy = EVERYTHING,
        blocks_of: Graph | None = None,
    ) -> None:
        self.stages = tuple(stages)
        self._inner_blocks: list[Blocks] = [() for _ in stages]
        ends: list[int] | None = None
        if blocks_of is not None:
            self._inner_blocks = [blocks_within(blocks_of, s, policy) for s in stages]
            ends = last_sweeps(blocks_of, stages, policy) if policy.keep else None
            policy = policy.without_holding()  # what a block drops it drops whole
        self._policy = policy
        self._options: list[StageOptions] = []
        numbers: list[_Numbers] = []
        # What kept layers hold is there until the first stage that may read it has gone
        # backward: beside its passes, and beside all forward passes before that.
        held, held_bytes = [0], 0
        seen: set[str] = set()
        for stage, blocks in zip(stages, self._inner_blocks, strict=True):
            key = signature(stage, costs, policy)
            if key in known:
                options = known[key].options.renamed(stage, policy)
            else:
                again = reruns_of_blocks(blocks_of, blocks) if blocks_of else ()
                options = StageOptions(stage, needs, costs, settings, policy, again)
                known[key] = KnownStage(options, _numbers(options))
            self._options.append(options)
            read = {t for node in stage.nodes for t in policy.held_for(node)} - seen
            seen |= read
            held_bytes += sum(map(needs.bytes_of, read))
            held.append(held_bytes)
            numbers.append(known[key].numbers.beside(held_bytes))
        sweep_bytes = self._sweep_bytes(numbers)
        for first, stop in enumerate(ends or ()):
            sweep_bytes[first, stop:] = FORBIDDEN_BYTES
        self.chain = Chain(
            cut_bytes=self._cut_bytes(needs),
            derivative_bytes=np.array(
                [0, *(options.derivative_bytes() for options in self._options)],
                dtype=np.int64,
            )
            + np.array(held, dtype=np.int64),
            sweep_bytes=sweep_bytes,
            forward_time=np.array([o.forward_time for o in self._options]),
            saves=tuple(one.saves for one in numbers),
            solos=(*(one.solos for one in numbers[:-1]), ()),
        )

    def _cut_bytes(self, needs: Needs) -> np.ndarray:
        cuts = [self.stages[0].cut_before, *(stage.cut_after for stage in self.stages)]
        matrix = np.zeros((len(cuts), len(cuts)), dtype=np.int64)
        held = self._policy.held_tensors
        sizes = [{t: needs.bytes_of(t) for t in cut if t not in held} for cut in cuts]
        for j, cut in enumerate(sizes):
            matrix[:, j] = sum(cut.values())
            for i in range(j, -1, -1):
                shared = sizes[i].keys() & cut.keys()
                if not shared:
                    break  # a tensor crosses cuts that follow each other
                matrix[i, j] -= sum(cut[name] for name in shared)
        return np.triu(matrix)

    def _sweep_bytes(self, numbers: Sequence[_Numbers]) -> np.ndarray:
        n = len(self.stages)
        matrix = np.zeros((n, n), dtype=np.int64)
        for s, options in enumerate(self._options):
            stage, of_stage = options.stage, numbers[s]
            touched = frozenset((*stage.cut_before, *stage.cut_after))
            matrix[:s, s] = of_stage.sweep_bytes
            matrix[s, s] = of_stage.sweep_beside_input_bytes
            for i in range(s - 1, -1, -1):
                shared = touched.intersection(self.stages[i].cut_before)
                if not shared:
                    break
                matrix[i, s] = options.sweep_bytes(shared)
        return matrix

    def blocks(self, actions: Sequence[Action]) -> tuple[CheckpointBlock, ...]:
        """Return the checkpoint blocks of a recompute schedule of one level.

        Stages that are swept over together make a block, unless they are a single
        layer. A stage that is saved has those blocks that its dropped layers need.
        """
        runs: list[list[Node]] = []
        saved: set[int] = set()
        for action in actions:
            nodes = self.stages[action.stage].nodes
            if action.kind is ActionKind.CHECKPOINT:
                runs.append([*nodes])
            elif action.kind is ActionKind.SWEEP:
                runs[-1] += nodes
            elif action.kind is ActionKind.SAVE:
                saved.add(action.stage)
            else:
                break
        layers = [swept_layers(run) for run in runs]
        layers += [block for stage in saved for block in self._inner_blocks[stage]]
        place = {
            n.name: i for i, n in enumerate(n for s in self.stages for n in s.nodes)
        }
        layers = sorted(
            (names for names in layers if len(names) > 1), key=lambda n: place[n[0]]
        )
        return tuple(
            CheckpointBlock(names, f"chosen{number}")
            for number, names in enumerate(layers)
        )

    def reruns(self, actions: Sequence[Action]) -> Reruns:
        """Return the reruns of a recompute schedule of the chain.

        Parameters
        ----------
        actions : sequence of Action
            Of all stages; the forward passes before the first backward are those that
            every iteration runs.
        """
        finishing = [a.kind in (ActionKind.BACKWARD, ActionKind.SOLO) for a in actions]
        first = finishing.index(True)
        reruns: list[Rerun] = []
        for place in range(first, len(actions)):
            action = actions[place]
            options = self._options[action.stage]
            if action.kind is ActionKind.SOLO:
                reruns += options.solo.reruns
            elif action.kind is ActionKind.BACKWARD:
                reruns += options.saves[action.option].reruns
            else:
                next_one = actions[finishing.index(True, place)]
                before = self.stages[next_one.stage].nodes[-1].name
                wanted = set(options.stage.cut_after)
                if action.kind is ActionKind.SAVE:
                    wanted |= options.saves[action.option].keeps
                there = {*options.stage.cut_before, *options.there}
                missing = options.makers.missing(wanted, there)
                reruns += options.makers.make(missing, before)
        return tuple(reruns)


def _numbers(options: StageOptions) -> _Numbers:
    return _Numbers(
        tuple(
            SaveOption(
                option.kept_bytes,
                options.forward_bytes(option),
                options.backward_bytes(option),
                option.time,
            )
            for option in options.saves
        ),
        (
            SoloOption(
                options.backward_bytes(options.solo, with_cut_after=False),
                options.solo.time,
            ),
        ),
        options.sweep_bytes(()),
        options.sweep_bytes(options.stage.cut_before),
    )
