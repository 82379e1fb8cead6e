"""Steps run one by one, with somebody watching each.

On a finding the weights and optimizer states go back to what they were before the
iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arena_ckpt.common.phases import Phase
from arena_ckpt.engine.program import Program
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.errors import ArenaError
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import PERSISTENT, Control, Execution


@dataclass(frozen=True, slots=True)
class Moment:
    """A step that is about to run, or has run.

    Attributes
    ----------
    step : int
    execution : Execution or None
        None where nothing runs.
    n_samples : int
        Samples of the pass.
    program : Program
    """

    step: int
    execution: Execution | None
    n_samples: int
    program: Program

    @property
    def n_calls(self) -> int:
        """Number of kernel calls of the step."""
        return self.program.n_calls(self.step, self.step + 1)

    @property
    def doer(self) -> str:
        """What messages call the step: ``"layer 'fc1' in forward (step 1)"``."""
        return describe(self.execution) if self.execution else f"step {self.step}"


class Watcher:
    """Looks at steps; an error of ours that it raises ends the iteration."""

    def before(self, moment: Moment) -> None:
        """Look before a step runs."""

    def after(self, moment: Moment) -> None:
        """Look after a step has run, while its tensors are untouched."""

    def leave(self, moment: Moment) -> None:
        """Look when all watchers have seen the step."""


class StepRunner:
    """Runs the steps of a program one by one.

    Parameters
    ----------
    views : TensorViews
        Weights are already in place.

    Attributes
    ----------
    watchers : list of Watcher
        Asked in this order.
    """

    def __init__(self, views: TensorViews) -> None:
        self._views = views
        self.watchers: list[Watcher] = []
        self._executions = {e.step: e for e in views.plan.executions}
        self._kept = [
            index
            for buffer in views.plan.ram_buffers
            for index in buffer.tensors
            if views.plan.tensors[index].kind in PERSISTENT
        ]
        self._saved: dict[int, np.ndarray] = {}
        self._iteration = 0.0

    def begin(self) -> None:
        """Remember weights and states, to be able to go back."""
        self._saved = {i: self._views.array(i).copy() for i in self._kept}
        self._iteration = float(self._views.control[Control.ITERATION])

    def roll_back(self) -> None:
        """Put weights and states back to where `begin` found them."""
        for index, values in self._saved.items():
            self._views.array(index)[...] = values
        self._views.control[Control.ITERATION] = self._iteration

    def run(self, program: Program, start: int, stop: int, n_samples: int) -> None:
        """Run the steps [start, stop).

        Raises
        ------
        CanaryError, NonFiniteError
            What a watcher found; weights are as before the iteration.
        """
        for step in range(start, stop):
            moment = Moment(step, self._executions.get(step), n_samples, program)
            try:
                for watcher in self.watchers:
                    watcher.before(moment)
                program.run(step, step + 1)
                for watcher in self.watchers:
                    watcher.after(moment)
                for watcher in self.watchers:
                    watcher.leave(moment)
            except ArenaError:
                self.roll_back()
                raise


def describe(execution: Execution) -> str:
    """Return what messages call an execution."""
    return (
        f"layer {execution.layer!r} in {execution.phase.value} (step {execution.step})"
    )


def backward_of(plan: MemoryPlan, step: int) -> str | None:
    """Return the layer for whose backward pass a recompute runs; else None."""
    running = plan.steps[step]
    if running is None or running.phase is not Phase.RECOMPUTE:
        return None
    following = (s for s in plan.steps[step:] if s and s.phase is not Phase.RECOMPUTE)
    return next((s.layer for s in following), None)
