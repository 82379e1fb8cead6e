"""Training state: the arena, its weights, and the iterations that change them.

An iteration loads a batch into the arena, runs the forward steps, looks at the loss,
and only then runs the backward steps, which update weights as soon as their gradients
are there. So a loss that is not finite stops training before it touches a weight. Steps
run in native code, hence an interrupt is only seen between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.arena import Arena
from arena_ckpt.debug import DebugRunner
from arena_ckpt.errors import (
    DataShapeError,
    InvalidParameterError,
    NonFiniteDataError,
    NonFiniteError,
    ShapeMismatchError,
)
from arena_ckpt.graph import Graph
from arena_ckpt.initializers import initialize_weight
from arena_ckpt.layers.loss import Loss
from arena_ckpt.lifespan import Phase
from arena_ckpt.liveness import Control, TensorKind
from arena_ckpt.optimizers import Optimizer
from arena_ckpt.plan import MemoryPlan
from arena_ckpt.program import Program, Report, TensorViews, finite_check
from arena_ckpt.properties import nearest
from arena_ckpt.samples import Samples
from arena_ckpt.schedules import Schedule

FloatArray = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64] | None
"""Numbers of the samples of a batch; None means all, in order."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model does on a data set.

    Attributes
    ----------
    loss : float
        The mean over the samples, regularization included.
    metric_name : str
        ``"accuracy"`` where labels are classes, else ``"mean_absolute_error"``.
    metric : float
    n_samples : int
    """

    loss: float
    metric_name: str
    metric: float
    n_samples: int


class Session:
    """A plan at work in its arena.

    Parameters
    ----------
    graph : Graph
    plan : MemoryPlan
    optimizer : Optimizer
    schedule : Schedule or None
        Of the learning rate; None takes that of the optimizer.
    seed : int
        Of the initial weights.
    max_norm : float or None
        Where to clip the global norm of the gradients.
    debug : bool
        Poison dead buffers, guard all with canaries, look for NaN after each step.
    report : callable, optional
        Told about the progress of compiling kernels.

    Raises
    ------
    ArenaTooLargeError
        The arena does not fit in the memory that is free; nothing is allocated.
    """

    def __init__(
        self,
        graph: Graph,
        plan: MemoryPlan,
        optimizer: Optimizer,
        schedule: Schedule | None,
        *,
        seed: int,
        max_norm: float | None = None,
        debug: bool = False,
        report: Report | None = None,
    ) -> None:
        self.graph = graph
        self.plan = plan
        self.optimizer = optimizer
        self.schedule = schedule
        self.iteration = 0
        self.arena = Arena(plan.arena_bytes)
        self.views = TensorViews(plan, self.arena)
        self._max_norm = max_norm
        self._control = self.views.control
        self._programs: dict[tuple[int, bool], Program] = {}
        self._finite_checks: dict[int, Any] = {}
        loss = graph.loss.layer
        assert isinstance(loss, Loss)
        self.loss_layer = loss
        self.output_shape = graph.loss.spec.output_shape
        self.inputs = {
            node.name: node.spec.output_shape for node in graph.nodes if not node.inputs
        }
        self.pass_samples = -(-plan.batch_size // plan.micro_batches)
        self._one_hot_rows = np.arange(self.pass_samples) * math.prod(self.output_shape)
        self._one_hot_index = np.zeros(self.pass_samples, dtype=np.int64)
        self._weights = {
            f"{node.name}:{weight.name}": self.views.named(f"{node.name}:{weight.name}")
            for node in graph.nodes
            for weight in node.spec.weights
        }
        for tensor in plan.tensors:
            if tensor.kind is TensorKind.OPTIMIZER_STATE:
                self.views.named(tensor.name).fill(0)
        for node in graph.nodes:
            for weight in node.spec.weights:
                name = f"{node.name}:{weight.name}"
                initialize_weight(self._weights[name], weight, name, seed)
        self._debug = DebugRunner(self.views) if debug else None
        self._program(self.pass_samples, False, report)

    # -- weights ---------------------------------------------------------------

    def weights(self) -> dict[str, FloatArray]:
        """Return copies of all weights by name, ``"fc1:weight"``."""
        return {name: view.copy() for name, view in self._weights.items()}

    def set_weights(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Overwrite the named weights; all are checked before any is written.

        Raises
        ------
        InvalidParameterError
            An unknown name.
        ShapeMismatchError
            An array of another shape.
        NonFiniteDataError
            NaN or infinity.
        """
        checked = {}
        for name, value in values.items():
            if name not in self._weights:
                raise InvalidParameterError(
                    f"unknown weight {name!r}{nearest(name, self._weights)}; the model "
                    f"has {', '.join(self._weights)}",
                    weight=name,
                )
            view = self._weights[name]
            array = np.asarray(value, dtype=np.float32)
            if array.shape != view.shape:
                raise ShapeMismatchError(
                    f"weight {name!r} has shape {view.shape}, the given array "
                    f"{array.shape}; nothing was changed",
                    weight=name,
                    expected=view.shape,
                    found=array.shape,
                )
            if not np.isfinite(array).all():
                raise NonFiniteDataError(
                    f"the array for weight {name!r} has "
                    f"{np.count_nonzero(~np.isfinite(array)):,} values that are NaN or "
                    "infinite; nothing was changed",
                    weight=name,
                )
            checked[name] = array
        for name, array in checked.items():
            self._weights[name][...] = array

    # -- iterations ------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """Of the next iteration."""
        if self.schedule is None:
            return float(self.optimizer["learning_rate"])
        return self.schedule.learning_rate_at(self.iteration)

    def samples(self, x: Any, y: Any) -> Samples:
        """Check `x` and `y` against the model; see `Samples`."""
        return Samples.check(
            x,
            y,
            inputs=self.inputs,
            output_shape=self.output_shape,
            takes_class_numbers=self.loss_layer.takes_class_numbers,
        )

    def train_step(self, x: Any, y: Any) -> float:
        """Run one iteration on at most `batch_size` samples; return the loss."""
        return self.iterate(self._batch(x, y), None, check=True)

    def compute_gradients(self, x: Any, y: Any) -> tuple[float, dict[str, FloatArray]]:
        """Return the loss and copies of the weight gradients; change no weight."""
        gradients: dict[str, FloatArray] = {}
        loss = self._run(self._batch(x, y), None, True, gradients)
        order = [name for name in self._weights if f"{name}" in gradients]
        return loss, {name: gradients[name] for name in order}

    def iterate(self, samples: Samples, rows: Rows, *, check: bool = False) -> float:
        """Run one iteration on the samples `rows`; return the loss.

        Parameters
        ----------
        samples : Samples
        rows : int64 array or None
            At most `batch_size` of them.
        check : bool
            Look for NaN and infinity in the batch first.

        Raises
        ------
        NonFiniteDataError, NonFiniteError
            The weights are as they were before the call.
        """
        loss = self._run(samples, rows, check, None)
        self.iteration += 1
        return loss

    def _run(
        self,
        samples: Samples,
        rows: Rows,
        check: bool,
        gradients: dict[str, FloatArray] | None,
    ) -> float:
        n_total = samples.n_samples if rows is None else len(rows)
        scale = self.loss_layer.sample_scale(self.output_shape, n_total)
        self._begin(scale)
        if self._debug:
            self._debug.begin()
        for index, (start, stop) in enumerate(self._passes(n_total)):
            n = stop - start
            self._control[Control.FRACTION] = n / n_total
            self._load(samples, rows, start, stop)
            if check:
                self._check_batch(samples, n)
            program = self._program(n, index > 0)
            self._steps(program, 0, self.plan.n_forward, n)
            self._check_loss()
            if gradients is None:
                self._steps(program, self.plan.n_forward, self.plan.n_pass, n)
            else:
                self._capture(program, self.plan.n_forward, n, gradients)
        if gradients is None and self.plan.n_pass < len(self.plan.steps):
            self._steps(program, self.plan.n_pass, len(self.plan.steps), n)
        return float(self._control[Control.LOSS])

    def _begin(self, scale: float) -> None:
        hyper = self.optimizer.hyperparameters(self.iteration, self.learning_rate)
        self._control[Control.LOSS] = 0.0
        self._control[Control.SCALE] = scale
        for place, value in enumerate(hyper, start=Control.HYPER):
            self._control[place] = value

    def _passes(self, n_samples: int) -> Iterator[tuple[int, int]]:
        for start in range(0, n_samples, self.pass_samples):
            yield start, min(start + self.pass_samples, n_samples)

    def _steps(self, program: Program, start: int, stop: int, n_samples: int) -> None:
        if self._debug:
            self._debug.run(program, start, stop, n_samples)
        else:
            program.run(start, stop)

    def _capture(
        self, program: Program, start: int, n: int, gradients: dict[str, FloatArray]
    ) -> None:
        """Run the backward steps, copying each gradient instead of applying it.

        A gradient is copied right after the step that made it; micro-batches after the
        first find the sum so far.
        """
        for execution in self.plan.executions:
            if not start <= execution.step < self.plan.n_pass:
                continue
            if execution.phase is Phase.APPLY_GRADIENT:
                continue
            self._steps(program, execution.step, execution.step + 1, n)
            if execution.phase is Phase.CALC_GRADIENT:
                for operand in execution.operands:
                    tensor = self.plan.tensors[operand.tensor]
                    if tensor.kind is TensorKind.GRADIENT:
                        weight = tensor.name.removesuffix(":grad")
                        gradients[weight] = self.views.array(operand.tensor).copy()

    def _program(
        self, n_samples: int, add: bool, report: Report | None = None
    ) -> Program:
        key = n_samples, add
        if key not in self._programs:
            self._programs[key] = Program(
                self.graph,
                self.views,
                self.optimizer,
                n_samples=n_samples,
                add_gradients=add,
                max_norm=self._max_norm,
                report=report,
            )
        return self._programs[key]

    def _check_loss(self) -> None:
        loss = float(self._control[Control.LOSS])
        if math.isfinite(loss):
            return
        if self._debug:
            self._debug.roll_back()
        raise NonFiniteError(
            f"the loss is {loss} in iteration {self.iteration} (learning rate "
            f"{self.learning_rate:g}); no weight was changed by this iteration. Lower "
            "the learning rate or clip gradients; initialize(debug=True) names the "
            "first layer in which it appears",
            loss=loss,
            iteration=self.iteration,
        )

    # -- data ------------------------------------------------------------------

    def _batch(self, x: Any, y: Any) -> Samples:
        samples = Samples.check(
            x,
            y,
            inputs=self.inputs,
            output_shape=self.output_shape,
            takes_class_numbers=self.loss_layer.takes_class_numbers,
            look_for_nonfinite=False,
        )
        if samples.n_samples > self.plan.batch_size:
            raise DataShapeError(
                f"a batch of {samples.n_samples} samples does not fit the arena, which "
                f"is planned for batch_size={self.plan.batch_size}; pass fewer, or set "
                "batch_size before initialize()",
                expected=self.plan.batch_size,
                found=samples.n_samples,
            )
        return samples

    def _load(self, samples: Samples, rows: Rows, start: int, stop: int) -> None:
        """Copy samples [start, stop) of a batch into the arena."""
        n = stop - start
        for name, values in samples.inputs.items():
            target = self.views.named(f"{name}:out0", n).reshape(n, -1)
            if rows is None:
                np.copyto(target, values[start:stop])
            else:
                np.take(values, rows[start:stop], axis=0, out=target, mode="clip")
        label = self.views.named(f"{self.loss_layer.name}:label", n).reshape(n, -1)
        if samples.labels is None:
            label.fill(0)
        elif samples.labels.ndim == 2:
            if rows is None:
                np.copyto(label, samples.labels[start:stop])
            else:
                np.take(
                    samples.labels, rows[start:stop], axis=0, out=label, mode="clip"
                )
        else:
            index = self._one_hot_index[:n]
            if rows is None:
                np.copyto(index, samples.labels[start:stop])
            else:
                np.take(samples.labels, rows[start:stop], out=index, mode="clip")
            np.add(index, self._one_hot_rows[:n], out=index)
            label.fill(0)
            label.reshape(-1)[index] = 1

    def _check_batch(self, samples: Samples, n: int) -> None:
        if n not in self._finite_checks:
            names = [f"{name}:out0" for name in self.inputs]
            names.append(f"{self.loss_layer.name}:label")
            place = int(Control.NONFINITE)
            count = self._control[place : place + 1].view(np.int64)
            arrays = [self.views.named(name, n) for name in names]
            self._finite_checks[n] = finite_check(arrays, count)
        if self._finite_checks[n]():
            samples.raise_nonfinite()

    # -- inference -------------------------------------------------------------

    def predict(self, x: Any) -> FloatArray:
        """Return the predictions for any number of samples, ``(n, C, H, W)``."""
        samples = self.samples(x, None)
        out = np.empty((samples.n_samples, *self.output_shape), dtype=np.float32)
        for start, stop in self._forward(samples, 0.0):
            out[start:stop] = self._prediction(stop - start)
        return out

    def evaluate(self, samples: Samples) -> Evaluation:
        """Return loss and metric over all samples; changes no weight."""
        assert samples.labels is not None
        scale = self.loss_layer.sample_scale(self.output_shape, samples.n_samples)
        total = 0.0
        for start, stop in self._forward(samples, scale):
            n = stop - start
            label = self.views.named(f"{self.loss_layer.name}:label", n)
            total += samples.metric_sum(self._prediction(n), label)
        return Evaluation(
            float(self._control[Control.LOSS]),
            samples.metric_name,
            total / samples.n_samples,
            samples.n_samples,
        )

    def _forward(self, samples: Samples, scale: float) -> Iterator[tuple[int, int]]:
        """Run forward steps pass by pass; the prediction is there after each."""
        self._control[Control.LOSS] = 0.0
        self._control[Control.SCALE] = scale
        if self._debug:
            self._debug.begin()
        for start, stop in self._passes(samples.n_samples):
            n = stop - start
            self._control[Control.FRACTION] = n / samples.n_samples if scale else 0.0
            self._load(samples, None, start, stop)
            self._steps(self._program(n, False), 0, self.plan.n_forward, n)
            yield start, stop

    def _prediction(self, n: int) -> FloatArray:
        return self.views.named(f"{self.loss_layer.name}:out0", n)
