"""What is exported: a model with its plan, and what training it has to give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from arena_ckpt.c_export.device_state import DeviceState
from arena_ckpt.data.standardization import Standardization
from arena_ckpt.graph.build import Graph
from arena_ckpt.lowering.calls import LoweringSettings, lower, mode_of
from arena_ckpt.lowering.kernel_call import KernelCall, Mode
from arena_ckpt.optim.learning_rates import Schedule
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.plan import MemoryPlan

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ExportedModel:
    """A model with its plan, and the weights that it begins with.

    Attributes
    ----------
    graph : Graph
    plan : MemoryPlan
        Of this graph.
    optimizer : Optimizer
    schedule : Schedule or None
        Of the learning rate; None takes that of the optimizer.
    seed : int
        Decides what is random, with the iteration.
    max_norm : float or None
        Where to clip the global norm of the gradients.
    weights : mapping from str to float32 array
        By name, ``"fc1:weight"``; constants and moving statistics are among them.
    standardization : Standardization or None
        Statistics of the inputs, which are raw.
    classes : tuple of str or None
        Names of the classes, by number, where the model knows them.
    """

    graph: Graph
    plan: MemoryPlan
    optimizer: Optimizer
    schedule: Schedule | None
    seed: int
    max_norm: float | None
    weights: Mapping[str, FloatArray] = field(repr=False)
    standardization: Standardization | None = None
    classes: tuple[str, ...] | None = None

    def passes(self) -> list[tuple[int, tuple[KernelCall, ...]]]:
        """Return samples and kernel calls of each pass of an iteration."""
        plan = self.plan
        found = []
        for start in range(0, plan.batch_size, plan.pass_samples):
            n_samples = min(plan.pass_samples, plan.batch_size - start)
            calls = self._calls(Mode.TRAIN, n_samples, start > 0)
            found.append((n_samples, calls))
        return found

    def prediction(self) -> tuple[KernelCall, ...]:
        """Return the kernel calls of a prediction."""
        mode = mode_of(self.plan) if self.plan.is_inference else Mode.PREDICT
        return self._calls(mode, self.plan.pass_samples, False)

    def state(self) -> DeviceState:
        """Return what lasts from one iteration to the next, and what it belongs to."""
        if self.plan.is_inference:
            calls = self.prediction()
        else:
            calls = tuple(call for _, some in self.passes() for call in some)
        return DeviceState.of(self.plan, calls, self.weights)

    def _calls(
        self, mode: Mode, n_samples: int, add_gradients: bool
    ) -> tuple[KernelCall, ...]:
        settings = LoweringSettings(
            mode, n_samples, self.seed, add_gradients, self.max_norm
        )
        return lower(self.graph, self.plan, self.optimizer, settings)


@dataclass(frozen=True, slots=True, eq=False)
class TestBatch:
    """Samples and labels as they lie in the arena.

    Attributes
    ----------
    inputs : tuple of float32 array, shape (n, elements)
        In the order of the input layers.
    labels : tuple of float32 array, shape (n, elements)
        In the order of the losses, without elements for one that takes no labels; empty
        in inference.
    """

    inputs: tuple[FloatArray, ...]
    labels: tuple[FloatArray, ...]

    __test__ = False


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What training on some batches gives, and predicting for them afterwards.

    Attributes
    ----------
    batches : tuple of TestBatch
        Step k trains on batch k modulo their number.
    losses : tuple of float
        Of each step.
    states : tuple of int
        CRC-32 with which the state saved after each step ends.
    predictions : tuple of int
        CRC-32 of the prediction for the first pass of each batch, after all steps.
    """

    batches: tuple[TestBatch, ...]
    losses: tuple[float, ...]
    states: tuple[int, ...]
    predictions: tuple[int, ...]
