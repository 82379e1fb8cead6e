"""How long each step of an iteration takes."""

from __future__ import annotations

import time

from arena_ckpt.program import Program


class StepTimer:
    """Runs the steps of a program one by one and adds up their seconds.

    Parameters
    ----------
    n_steps : int
        Of the plan; with micro-batches a step runs once for each.
    """

    def __init__(self, n_steps: int) -> None:
        self.seconds = [0.0] * n_steps

    def run(self, program: Program, start: int, stop: int) -> None:
        """Run the steps [start, stop)."""
        for step in range(start, stop):
            began = time.perf_counter()
            program.run(step, step + 1)
            self.seconds[step] += time.perf_counter() - began
