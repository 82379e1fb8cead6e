"""A plan bound to an arena: the kernel calls of all steps, linked.

Running steps is one native call and allocates nothing. A last, smaller batch has a
program of its own, on the leading samples of the same buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.engine.arena import Arena
from arena_ckpt.engine.link import CallTable, Memory
from arena_ckpt.engine.views import TensorViews
from arena_ckpt.graph.build import Graph
from arena_ckpt.kernels.side_by_side import Report
from arena_ckpt.lowering.calls import (
    BESIDE,
    LoweringSettings,
    lower,
    lower_tiled_gradients,
)
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.operations.families import elementwise
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.tensors import Execution


@dataclass(frozen=True, slots=True)
class StepNote:
    """Where steps leave word of where they are, so that a crash is known by its step.

    Attributes
    ----------
    cell : float64 array, shape (1,)
        Holds `first` plus the number of the step while it runs, and half a step more
        when it has ended.
    first : int
    """

    cell: npt.NDArray[np.float64]
    first: int


class Program:
    """The kernel calls of every step, for one number of samples.

    Parameters
    ----------
    graph : Graph
    views : TensorViews
    optimizer : Optimizer
    settings : LoweringSettings
    note : StepNote, optional
        Steps leave word there.
    report : callable, optional
        Told about progress.

    Attributes
    ----------
    settings : LoweringSettings
    table : CallTable
    """

    def __init__(
        self,
        graph: Graph,
        views: TensorViews,
        optimizer: Optimizer,
        settings: LoweringSettings,
        *,
        note: StepNote | None = None,
        report: Report | None = None,
    ) -> None:
        self._graph = graph
        self._views = views
        self._optimizer = optimizer
        self.settings = settings
        calls: Sequence[KernelCall] = lower(graph, views.plan, optimizer, settings)
        if note is not None:
            calls = _with_notes(calls, note)
        self._memories: dict[str, Memory] = {**views.memories}
        self.table = CallTable(calls, self._memories, report, threads=graph.threads)
        n_steps = len(views.plan.steps)
        counts = np.bincount([call.step for call in calls], minlength=n_steps)
        self._first_call: list[int] = [0, *np.cumsum(counts).tolist()]

    def run(self, start: int, stop: int) -> None:
        """Run the steps [start, stop)."""
        self.table.run(*self.calls(start, stop))

    def calls(self, start: int, stop: int) -> tuple[int, int]:
        """Return where the calls of the steps [start, stop) stand in the table."""
        return self._first_call[start], self._first_call[stop]

    def n_calls(self, start: int, stop: int) -> int:
        """Return how many calls there are in the steps [start, stop)."""
        first, last = self.calls(start, stop)
        return last - first

    def gradients_of_update(self, execution: Execution) -> dict[str, npt.NDArray[Any]]:
        """Make the gradients that an update would make in tiles, beside the arena.

        Parameters
        ----------
        execution : Execution
            An update; the steps before it have run.

        Returns
        -------
        dict from str to float32 array
            By weight, ``"fc1:weight"``.
        """
        gradients = {}
        for tiled in lower_tiled_gradients(
            self._graph, self._views.plan, self._optimizer, self.settings, execution
        ):
            memory = Arena(tiled.gradient.nbytes)
            table = CallTable(tiled.calls, self._memories | {BESIDE: memory})
            table.run(0, len(tiled.calls))
            gradients[tiled.name] = memory.at(tiled.gradient).reshape(tiled.shape)
        return gradients


def _with_notes(calls: Sequence[KernelCall], note: StepNote) -> list[KernelCall]:
    """Let each step that has calls leave word before the first and after the last."""
    noted: list[KernelCall] = []
    for step, group in groupby(calls, key=lambda call: call.step):
        begins, ends = float(note.first + step), note.first + step + 0.5
        noted += [
            KernelCall(step, elementwise.fill_doubles, (begins, note.cell)),
            *group,
            KernelCall(step, elementwise.fill_doubles, (ends, note.cell)),
        ]
    return noted
