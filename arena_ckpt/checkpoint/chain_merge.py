"""Merges neighbouring stages of a chain that is too long for the search.

A merged stage runs all its stages forward, saves them all or sweeps over them all, and
they go backward together. All its numbers are those of a schedule of its stages, so a
schedule of the merged chain is one of the chain it was made from, with the same bytes
and the same time.

What is lost: no checkpoint lies at a cut within a merged stage, save where a solo
option has one, and its stages save by options of one number (a stage with fewer takes
its last). The solo options save all but the last stage, by each of the options, or keep
nothing but the first cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from arena_ckpt.checkpoint.chain import (
    Action,
    ActionKind,
    Chain,
    SaveOption,
    SoloOption,
    replay,
)

Actions = tuple[Action, ...]


@dataclass(frozen=True, eq=False)
class MergedChain:
    """A merged chain, and the original stages that each of its stages stands for.

    Attributes
    ----------
    chain : Chain
    first_stage : tuple of int
        First original stage of each merged stage, then the number of original stages.
    solo_actions : tuple of tuple of tuple of Action
        Actions of the original chain, for each merged stage and solo option.
    original : Chain
    """

    chain: Chain
    first_stage: tuple[int, ...]
    solo_actions: tuple[tuple[Actions, ...], ...]
    original: Chain

    def expand(self, actions: Iterable[Action]) -> Actions:
        """Return a recompute schedule of the merged chain as one of the original."""
        expanded: list[Action] = []
        for action in actions:
            first, stop = self.first_stage[action.stage : action.stage + 2]
            stages = range(first, stop)
            match action.kind:
                case ActionKind.CHECKPOINT:
                    expanded.append(Action(ActionKind.CHECKPOINT, first))
                    expanded += [Action(ActionKind.SWEEP, s) for s in stages[1:]]
                case ActionKind.SWEEP:
                    expanded += [Action(ActionKind.SWEEP, s) for s in stages]
                case ActionKind.SAVE:
                    expanded += _saves(self.original, stages, action.option)
                case ActionKind.BACKWARD:
                    expanded += _backwards(self.original, stages, action.option)
                case ActionKind.SOLO:
                    expanded += self.solo_actions[action.stage][action.option]
        return tuple(expanded)


def merge_stages(chain: Chain, stages_together: int) -> MergedChain:
    """Merge runs of `stages_together` stages into one; the first run may be shorter.

    Parameters
    ----------
    chain : Chain
    stages_together : int
        At least 1.

    Returns
    -------
    MergedChain
        The merged chain, of about S / `stages_together` stages.

    Notes
    -----
    Linear in the sizes of the arrays.
    """
    assert stages_together >= 1
    n = len(chain)
    bounds = [*range(n, 0, -stages_together), 0][::-1]
    cuts, firsts = np.array(bounds), np.array(bounds[:-1])
    runs = [range(first, stop) for first, stop in itertools.pairwise(bounds)]
    solos = [_solos(chain, run) if run.stop < n else [] for run in runs]
    return MergedChain(
        chain=Chain(
            cut_bytes=chain.cut_bytes[np.ix_(cuts, cuts)],
            derivative_bytes=chain.derivative_bytes[cuts],
            sweep_bytes=np.maximum.reduceat(chain.sweep_bytes[firsts], firsts, axis=1),
            forward_time=np.add.reduceat(chain.forward_time, firsts),
            saves=tuple(tuple(_save_options(chain, run)) for run in runs),
            solos=tuple(tuple(option for option, _ in found) for found in solos),
        ),
        first_stage=tuple(bounds),
        solo_actions=tuple(tuple(actions for _, actions in found) for found in solos),
        original=chain,
    )


def _n_options(chain: Chain, stages: range) -> int:
    """Return the largest number of save options that a stage has; 1 for no stages."""
    return max((len(chain.saves[stage]) for stage in stages), default=1)


def _option(chain: Chain, stage: int, option: int) -> int:
    return min(option, len(chain.saves[stage]) - 1)


def _saves(chain: Chain, stages: range, option: int) -> list[Action]:
    """Return the actions that save stages by an option, or by a stage's last one."""
    return [
        Action(ActionKind.SAVE, stage, _option(chain, stage, option))
        for stage in stages
    ]


def _backwards(chain: Chain, stages: range, option: int) -> list[Action]:
    """Return the backward actions for what `_saves` saves."""
    return [
        Action(ActionKind.BACKWARD, stage, _option(chain, stage, option))
        for stage in reversed(stages)
    ]


def _save_options(chain: Chain, stages: range) -> Iterator[SaveOption]:
    """Return the bytes and times of saving a run of stages, for each option."""
    for option in range(_n_options(chain, stages)):
        held = forward = backward = 0
        time = 0.0
        for stage in stages:
            save = chain.saves[stage][_option(chain, stage, option)]
            forward = max(forward, held + save.forward_bytes)
            backward = max(backward, held + save.backward_bytes)
            held += save.saved_bytes
            time += save.backward_time
        yield SaveOption(held, forward, backward, time)


def _solos(chain: Chain, stages: range) -> list[tuple[SoloOption, Actions]]:
    """Return the ways to take a run backward from its first cut, the fastest first.

    A way that another beats or equals in both time and bytes is left out.
    """
    first, last = stages.start, stages.stop - 1
    ways: list[Actions] = []
    for solo in range(len(chain.solos[last])):
        alone = Action(ActionKind.SOLO, last, solo)
        for option in range(_n_options(chain, stages[:-1])):
            saves = _saves(chain, stages[:-1], option)
            ways.append((*saves, alone, *_backwards(chain, stages[:-1], option)))
    for choose in (_fastest, _smallest):
        nothing_kept: list[Action] = []
        for stage in reversed(stages):
            if stage > first:
                nothing_kept.append(Action(ActionKind.CHECKPOINT, first))
            nothing_kept += [
                Action(ActionKind.SWEEP, s) for s in range(first + 1, stage)
            ]
            solo = choose(chain.solos[stage])
            nothing_kept.append(Action(ActionKind.SOLO, stage, solo))
        ways.append(tuple(nothing_kept))
    measured = [(replay(chain, way, first, stages.stop), way) for way in ways]
    measured.sort(key=lambda pair: (pair[0].time, pair[0].peak_bytes))
    front: list[tuple[SoloOption, Actions]] = []
    for result, way in measured:
        if not front or result.peak_bytes < front[-1][0].peak_bytes:
            front.append((SoloOption(result.peak_bytes, result.time), way))
    return front


def _fastest(options: tuple[SoloOption, ...]) -> int:
    return 0


def _smallest(options: tuple[SoloOption, ...]) -> int:
    return min(range(len(options)), key=lambda i: options[i].peak_bytes)
