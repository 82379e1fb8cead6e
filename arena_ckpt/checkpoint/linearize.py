"""Turns a graph into a chain of stages with exact numbers, and actions into reruns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import dropwhile
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
from arena_ckpt.checkpoint.stage_options import StageOptions, signature
from arena_ckpt.checkpoint.stages import Stage
from arena_ckpt.graph.blocks import CheckpointBlock
from arena_ckpt.graph.nodes import Node
from arena_ckpt.planning.costs import Costs
from arena_ckpt.planning.recompute import Rerun, Reruns
from arena_ckpt.planning.settings import PlanSettings


class _Numbers(NamedTuple):
    """The bytes and times of a stage, and of all stages that differ only in names."""

    saves: tuple[SaveOption, ...]
    solos: tuple[SoloOption, ...]
    sweep_bytes: int
    sweep_beside_input_bytes: int


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
    ) -> None:
        self.stages = tuple(stages)
        self._options: list[StageOptions] = []
        numbers: list[_Numbers] = []
        for stage in stages:
            key = signature(stage, costs)
            if key in known:
                options = known[key].options.renamed(stage)
            else:
                options = StageOptions(stage, needs, costs, settings)
                known[key] = KnownStage(options, _numbers(options))
            self._options.append(options)
            numbers.append(known[key].numbers)
        self.chain = Chain(
            cut_bytes=self._cut_bytes(needs),
            derivative_bytes=np.array(
                [0, *(options.derivative_bytes() for options in self._options)],
                dtype=np.int64,
            ),
            sweep_bytes=self._sweep_bytes(numbers),
            forward_time=np.array([o.forward_time for o in self._options]),
            saves=tuple(one.saves for one in numbers),
            solos=(*(one.solos for one in numbers[:-1]), ()),
        )

    def _cut_bytes(self, needs: Needs) -> np.ndarray:
        cuts = [self.stages[0].cut_before, *(stage.cut_after for stage in self.stages)]
        matrix = np.zeros((len(cuts), len(cuts)), dtype=np.int64)
        sizes = [{t: needs.bytes_of(t) for t in cut} for cut in cuts]
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
        layer.
        """
        runs: list[list[Node]] = []
        for action in actions:
            nodes = self.stages[action.stage].nodes
            if action.kind is ActionKind.CHECKPOINT:
                runs.append([*dropwhile(lambda node: not node.inputs, nodes)])
            elif action.kind is ActionKind.SWEEP:
                runs[-1] += nodes
        layers = [tuple(node.name for node in run) for run in runs if len(run) > 1]
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
                there = {*options.stage.cut_before, *options.stays}
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
