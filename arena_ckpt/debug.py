"""Step-by-step runs that let nothing stale, stray or infinite pass unseen.

After each step the canaries of all live buffers are checked, the tensors written are
searched for NaN and infinity, and buffers that died are filled with NaN. On a finding
the weights and optimizer states go back to what they were before the iteration.
"""

from __future__ import annotations

import numpy as np

from arena_ckpt.errors import CanaryError, NonFiniteError
from arena_ckpt.plan import Buffer
from arena_ckpt.program import Program, TensorViews
from arena_ckpt.tensors import Access, Control, Execution, TensorKind

_KEPT = (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE)


class DebugRunner:
    """Runs the steps of a program one by one.

    Parameters
    ----------
    views : TensorViews
        Of a plan with canaries; weights are already in place.
    """

    def __init__(self, views: TensorViews) -> None:
        self._views = views
        self._plan = views.plan
        self._executions = {e.step: e for e in self._plan.executions}
        self._kept = [
            index for index, t in enumerate(self._plan.tensors) if t.kind in _KEPT
        ]
        self._saved: dict[int, np.ndarray] = {}
        self._iteration = 0.0
        n_steps = len(self._plan.steps)
        for buffer in self._plan.buffers:
            if (buffer.start, buffer.stop) != (0, n_steps):
                self._poison(buffer)
        for buffer in self._plan.buffers:
            if (buffer.start, buffer.stop) == (0, n_steps):
                self._guard(buffer)

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
        CanaryError
            A kernel wrote past the end of a buffer.
        NonFiniteError
            A step wrote NaN or infinity; the message names layer and tensor.
        """
        n_forward = self._plan.n_forward
        for step in range(start, stop):
            if step == n_forward:  # until now the prediction could still be read
                self._poison_dead(step)
            for buffer in self._plan.buffers:
                if buffer.start == step:
                    self._guard(buffer)
            program.run(step, step + 1)
            execution = self._executions.get(step)
            self._check_canaries(step, execution)
            if execution and program.n_calls(step, step + 1):
                self._check_finite(execution, n_samples)
            if step + 1 != n_forward:
                self._poison_dead(step + 1)

    def _guard(self, buffer: Buffer) -> None:
        self._views.arena.guard(buffer.offset_bytes + buffer.size_bytes)

    def _poison_dead(self, step: int) -> None:
        """Poison what died just before `step`; what lives to the end is kept."""
        for buffer in self._plan.buffers:
            if buffer.stop == step < len(self._plan.steps):
                self._poison(buffer)

    def _poison(self, buffer: Buffer) -> None:
        dtype = self._plan.tensors[buffer.tensors[0]].dtype
        arena = self._views.arena
        arena.poison(buffer.offset_bytes, buffer.size_bytes, dtype)

    def _check_canaries(self, step: int, execution: Execution | None) -> None:
        arena = self._views.arena
        for buffer in self._plan.buffers:
            if not buffer.start <= step < buffer.stop:
                continue
            if not arena.is_guard_intact(buffer.offset_bytes + buffer.size_bytes):
                self.roll_back()
                doer = _describe(execution) if execution else f"step {step}"
                raise CanaryError(
                    f"{doer} wrote past the end of {buffer.tensor} "
                    f"({buffer.size_bytes} bytes at {buffer.offset_bytes}); this is a "
                    "defect of that layer's kernels, please report it. Weights are as "
                    "before the iteration",
                    step=step,
                    tensor=buffer.tensor,
                )

    def _check_finite(self, execution: Execution, n_samples: int) -> None:
        for operand in execution.operands:
            kind = self._plan.tensors[operand.tensor].kind
            if operand.access is Access.READ or kind is TensorKind.WORKSPACE:
                continue  # a workspace need not be filled
            values = self._views.array(operand.tensor, n_samples)
            finite = np.isfinite(values)
            if finite.all():
                continue
            self.roll_back()
            name = self._plan.tensors[operand.tensor].name
            raise NonFiniteError(
                f"{_describe(execution)} wrote {np.count_nonzero(~finite):,} values "
                f"that are NaN or infinite into {name} (of {values.size:,}); weights "
                "are as before the iteration. Lower the learning rate, clip gradients "
                "or look at the data",
                layer=execution.layer,
                phase=execution.phase,
                step=execution.step,
                tensor=name,
            )


def _describe(execution: Execution) -> str:
    return (
        f"layer {execution.layer!r} in {execution.phase.value} (step {execution.step})"
    )
