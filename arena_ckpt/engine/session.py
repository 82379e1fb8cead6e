"""Training state: the arena, and the iterations that change its weights.

An iteration loads a batch into the arena, runs the forward steps, looks at the loss,
and only then runs the backward steps, which update weights as soon as their gradients
are there. So a loss that is not finite stops training before it touches a weight. Steps
run in native code, hence an interrupt is only seen between them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.names import output_role, tensor_name, weight_of
from arena_ckpt.common.phases import Phase
from arena_ckpt.data.samples import Rows, Samples, Scaling
from arena_ckpt.data.standardization import Standardization
from arena_ckpt.data.weighted_samples import require_weights, with_ones
from arena_ckpt.engine.batch import Batch, require_batch, require_epoch
from arena_ckpt.engine.debug.memory import MemoryGuard
from arena_ckpt.engine.debug.reads import ForeignReads
from arena_ckpt.engine.debug.runner import StepRunner, Watcher
from arena_ckpt.engine.debug.values import FiniteWatch
from arena_ckpt.engine.evaluation import Evaluation, joined
from arena_ckpt.engine.head_scores import Asked, HeadScores
from arena_ckpt.engine.inner_outputs import InnerOutput, Watched, find_inner_outputs
from arena_ckpt.engine.locks import GATE, ModelLock
from arena_ckpt.engine.loss_heads import Heads
from arena_ckpt.engine.metric_names import require_known
from arena_ckpt.engine.passes import Pass
from arena_ckpt.engine.program import Program, StepNote
from arena_ckpt.engine.views import TensorViews, arena_of
from arena_ckpt.engine.weights import FloatArray, Weights
from arena_ckpt.engine.whole_gradients import whole_gradient
from arena_ckpt.errors import NonFiniteError
from arena_ckpt.graph.build import Graph
from arena_ckpt.graph.masks import mask_tensors
from arena_ckpt.graph.weight_inputs import weight_inputs
from arena_ckpt.kernels.flags import run_by_default
from arena_ckpt.kernels.side_by_side import Report
from arena_ckpt.layers.loss import Loss
from arena_ckpt.layers.spec import Shape
from arena_ckpt.lowering.calls import LoweringSettings, mode_of
from arena_ckpt.lowering.kernel_call import Mode
from arena_ckpt.optim.learning_rates import Schedule
from arena_ckpt.optim.optimizers import Optimizer
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import PERSISTENT, Control, TensorKind

MOST_PASSES = 16
"""Maximum number of programs that are kept for different numbers of samples."""

Gradients = dict[str, FloatArray]
"""Gradients by the weight that they belong to, ``"fc1:weight"``."""

TakesPass = Callable[[Pass, int], None]
"""A function that is told a pass that has run, and the number of its first sample."""

_LARGEST_FLOAT = float(np.finfo(np.float32).max)


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
        Poison dead buffers, guard all with canaries, look for NaN after each step, and
        run each step on other foreign bytes too.
    check : str
        ``"all"`` looks for NaN after each step, ``"loss"`` at the loss only.
    note : StepNote, optional
        Steps leave word there.
    report : callable, optional
        Told about the progress of compiling kernels.
    standardization : Standardization, optional
        Of the inputs; samples are raw.

    Raises
    ------
    ArenaTooLargeError
        The arena does not fit in the memory that is free, or the two more of debug mode
        do not; nothing is allocated.
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
        check: str = "loss",
        note: StepNote | None = None,
        report: Report | None = None,
        standardization: Standardization | None = None,
    ) -> None:
        self.graph = graph
        self.plan = plan
        self.optimizer = optimizer
        self.schedule = schedule
        self.rate_factor = 1.0
        self.arena = arena_of(plan)
        self.views = TensorViews(plan, self.arena)
        self.max_norm = max_norm
        self._control = self.views.control
        self._control.fill(0)
        self.lock = ModelLock()
        self._passes: dict[tuple[Mode, int, bool, bool], Pass] = {}
        self.seed = seed
        self._note = note
        self.output_shape = graph.prediction_shape
        self.heads = Heads(graph)
        self.weights_of_samples = weight_inputs(graph)
        self.inputs = {
            node.name: node.spec.output_shapes[0]
            for node in graph.nodes
            if node.is_data
        }
        self.standardize(standardization)
        self._masks = mask_tensors(graph)
        self.pass_samples = plan.pass_samples
        self._weights = run_by_default(Weights, graph, self.views, seed)
        for tensor in plan.tensors:
            if tensor.kind is TensorKind.OPTIMIZER_STATE:
                self.views.named(tensor.name).fill(0)
        self._runner: StepRunner | None = None
        if debug:
            self.watch(MemoryGuard(self.views))
        if debug or check == "all":
            self.watch(FiniteWatch(self.views, self._masks))
        if debug:
            self.watch(ForeignReads(self.views))
            self.arena.protect_constants()
        # What the compiler computes beforehand stays in the kernels.
        run_by_default(self._pass, mode_of(plan), self.pass_samples, False, report)

    @property
    def loss_layer(self) -> Loss:
        """The loss; a plan of inference may be of a model that has none.

        Raises
        ------
        LossError
        """
        return self.graph.loss_layer

    def watch(self, watcher: Watcher) -> None:
        """Run the steps one by one from now on, and let `watcher` look at each."""
        if self._runner is None:
            self._runner = StepRunner(self.views)
        self._runner.watchers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """Let a watcher look no more; without any, steps run together again."""
        assert self._runner is not None
        self._runner.watchers.remove(watcher)
        if not self._runner.watchers:
            self._runner = None

    # -- weights ---------------------------------------------------------------

    def weights(self) -> dict[str, FloatArray]:
        """Return copies of all weights by name, ``"fc1:weight"``."""
        return self._weights.copies()

    def set_weights(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Overwrite the named weights; see `Weights.overwrite`."""
        GATE.run(self._set_weights, values)

    def _set_weights(self, values: Mapping[str, npt.ArrayLike]) -> None:
        with self.arena.constants_writable():
            self._weights.overwrite(values)

    def persistent(self) -> dict[str, FloatArray]:
        """Return views of all that lasts: weights and optimizer states, by name."""
        return {
            tensor.name: self.views.named(tensor.name)
            for tensor in self.plan.tensors
            if tensor.kind in PERSISTENT
        }

    def in_turn(self, work: Callable[[], None]) -> None:
        """Do work that reads the arena, while a signal handler may not change it."""
        GATE.run(work)

    def restore(self, arrays: Mapping[str, FloatArray], iteration: int) -> None:
        """Put back what `persistent` showed after `iteration` updates."""
        GATE.run(self._restore, arrays, iteration)

    def _restore(self, arrays: Mapping[str, FloatArray], iteration: int) -> None:
        with self.arena.constants_writable():
            for name, view in self.persistent().items():
                view[...] = arrays[name]
        self._control[Control.ITERATION] = iteration

    @functools.cached_property
    def plan_json(self) -> str:
        """JSON text of the plan."""
        return self.plan.to_json()

    @functools.cached_property
    def plan_checksum(self) -> str:
        """Checksum of the plan."""
        return self.plan.checksum

    @functools.cached_property
    def _mask_inputs(self) -> frozenset[str]:
        """Names of the input layers that may bring -inf."""
        return frozenset(n for n in self.inputs if f"{n}:out0" in self._masks)

    # -- iterations ------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """Number of updates so far, counted by the last kernel of each iteration."""
        return int(self._control[Control.ITERATION])

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next iteration, times the factor of a plateau."""
        if self.schedule is None:
            rate = float(self.optimizer["learning_rate"])
        else:
            rate = self.schedule.learning_rate_at(self.iteration)
        return rate * self.rate_factor

    def standardize(self, standardization: Standardization | None) -> None:
        """Standardize samples with these statistics from now on, or no more."""
        by_element: Scaling = {}
        if standardization is not None:
            standardization.require_fit(self.inputs)
            by_element = standardization.by_element(self.inputs)
        self._scaling = by_element
        self.standardization = standardization

    def samples(self, x: Any, y: Any) -> Samples:
        """Check `x` and `y` against the model; see `Samples`."""
        return self._checked(x, y)

    def _checked(self, x: Any, y: Any, *, look_for_nonfinite: bool = True) -> Samples:
        if self.weights_of_samples:
            x = with_ones(x, self.inputs, self.weights_of_samples)
        samples = self.heads.check(
            x,
            y,
            inputs=self.inputs,
            masks=self._mask_inputs,
            look_for_nonfinite=look_for_nonfinite,
        )
        if self.weights_of_samples:
            require_weights(samples.inputs, self.weights_of_samples)
        return replace(samples, scaling=self._scaling) if self._scaling else samples

    def train_step(self, x: Any, y: Any) -> float:
        """Run one iteration on at most `batch_size` samples; return the loss."""
        loss, _ = GATE.run(self._run, self._batch(x, y), Mode.TRAIN)
        return loss

    def compute_gradients(self, x: Any, y: Any) -> tuple[float, Gradients]:
        """Return the loss and copies of the weight gradients; change no weight."""
        batch = self._batch(x, y)
        loss, found = GATE.run(self._run, batch, Mode.GRADIENTS)
        names = [name for name in self._weights.views if name in found]
        return loss, {name: found[name] for name in names}

    def training_loss(self, x: Any, y: Any) -> float:
        """Return the loss that `compute_gradients` would; run forward passes only."""
        return GATE.run(self._training_loss, self._batch(x, y))

    def _training_loss(self, batch: Batch) -> float:
        self._begin(self.heads.scales(batch))
        for start in range(0, batch.n_samples, self.pass_samples):
            self._forward_pass(batch, Mode.GRADIENTS, start)
        return self.heads.loss(self._control)

    def iterate(self, samples: Samples, rows: Rows) -> float:
        """Run one iteration on the samples `rows`; return the loss.

        Parameters
        ----------
        samples : Samples
        rows : int64 array or None
            At most `batch_size` of them.

        Raises
        ------
        NonFiniteError
            The weights are as they were before the call.
        """
        n_samples = samples.n_samples if rows is None else len(rows)
        batch = Batch(samples, n_samples, rows, samples.is_looked_at_later)
        loss, _ = GATE.run(self._run, batch, Mode.TRAIN)
        return loss

    def penalty_and_losses(self) -> tuple[float, list[float]]:
        """Return the penalties and each loss, without its weight, of the last batch."""
        return self.heads.penalty(self._control), self.heads.sums(self._control)

    def _run(self, batch: Batch, mode: Mode) -> tuple[float, Gradients]:
        """Return the loss of a batch, and its gradients unless they are applied."""
        if mode is Mode.TRAIN:
            self._set_hyperparameters()
        self._begin(self.heads.scales(batch))
        try:
            gradients = self._run_passes(batch, mode)
        except BaseException:  # step by step an interrupt can come between updates
            if self._runner:
                self._runner.roll_back()
            raise
        return self.heads.loss(self._control), gradients

    def _run_passes(self, batch: Batch, mode: Mode) -> Gradients:
        gradients: Gradients = {}
        if self.plan.micro_batches > 1:
            self._weights.remember_states()
        try:
            for start in range(0, batch.n_samples, self.pass_samples):
                one = self._forward_pass(batch, mode, start)
                if mode is Mode.TRAIN:
                    self._steps(one, self.plan.n_forward, self.plan.n_pass)
                else:
                    self._capture(one, gradients)
        except BaseException:
            if self.plan.micro_batches > 1:  # an earlier one has changed them
                self._weights.restore_states()
            raise
        if mode is Mode.TRAIN and self.plan.n_pass < len(self.plan.steps):
            self._steps(one, self.plan.n_pass, len(self.plan.steps))
        return gradients

    def _forward_pass(self, batch: Batch, mode: Mode, start: int) -> Pass:
        """Load the pass from sample `start` on and run it forward; its loss is finite.

        Raises
        ------
        NonFiniteDataError, NonFiniteError, IdRangeError
        """
        n = min(self.pass_samples, batch.n_samples - start)
        self._control[Control.FRACTION] = n / batch.n_samples
        self._control[Control.FIRST_SAMPLE] = start
        one = self._pass(mode, n, start > 0)
        one.load(batch.samples, batch.rows, start)
        if batch.is_checked and one.count_nonfinite():
            batch.samples.raise_nonfinite()
        try:
            self._steps(one, 0, self.plan.n_forward)
            self._check_loss()
        except NonFiniteError:
            one.refuse_ids(self.graph, batch.samples, batch.rows, start)
            raise
        return one

    def _set_hyperparameters(self) -> None:
        rate = self.learning_rate
        if not rate <= _LARGEST_FLOAT:
            raise NonFiniteError(
                f"the learning rate is {rate:g} in iteration {self.iteration}, beyond "
                "float32; no weight was changed. Look at the learning-rate scheduler",
                learning_rate=rate,
                iteration=self.iteration,
            )
        hyper = self.optimizer.hyperparameters(self.iteration, rate)
        for place, value in enumerate(hyper, start=Control.HYPER):
            self._control[place] = value

    def _begin(self, scales: Sequence[float]) -> None:
        if self._runner:
            self._runner.begin()
        self.heads.begin(self._control, scales)

    def _pass(
        self,
        mode: Mode,
        n_samples: int,
        add: bool,
        report: Report | None = None,
        *,
        keeps_outputs: bool = False,
    ) -> Pass:
        key = mode, n_samples, add, keeps_outputs
        if key not in self._passes:
            program = Program(
                self.graph,
                self.views,
                self.optimizer,
                LoweringSettings(
                    mode, n_samples, self.seed, add, self.max_norm, keeps_outputs
                ),
                note=self._note,
                report=report,
            )
            names = [tensor_name(name, output_role(0)) for name in self.inputs]
            if len(self._passes) >= MOST_PASSES:
                # Those for whole passes are needed in every iteration, and stay.
                del self._passes[
                    next(k for k in self._passes if k[1] != self.pass_samples)
                ]
            there = {tensor.name for tensor in self.plan.tensors}
            labels = {head.name: head.label for head in self.heads.all}
            self._passes[key] = Pass(
                program,
                self.views,
                n_samples,
                names,
                {loss: name for loss, name in labels.items() if name in there},
                self._masks,
            )
        return self._passes[key]

    def _steps(self, one: Pass, start: int, stop: int) -> None:
        if self._runner:
            self._runner.run(one.program, start, stop, one.n_samples)
        else:
            one.program.run(start, stop)

    def _capture(self, one: Pass, gradients: dict[str, FloatArray]) -> None:
        """Run the backward steps, copying each gradient instead of applying it.

        A gradient is copied right after the step that made it; micro-batches after the
        first find the sum so far. One that the update makes is made for the copy.
        """
        for execution in self.plan.executions:
            if not self.plan.n_forward <= execution.step < self.plan.n_pass:
                continue
            if execution.phase is Phase.APPLY_GRADIENT:
                gradients |= one.program.gradients_of_update(execution)
                continue
            self._steps(one, execution.step, execution.step + 1)
            if execution.phase is Phase.CALC_GRADIENT:
                for operand in execution.operands:
                    tensor = self.plan.tensors[operand.tensor]
                    if tensor.kind is TensorKind.GRADIENT:
                        weight = weight_of(tensor.name)
                        made = self.views.array(operand.tensor)
                        shape = self._weights.views[weight].shape
                        gradients[weight] = whole_gradient(made, shape)

    def _check_loss(self) -> None:
        loss = self.heads.loss(self._control)
        if math.isfinite(loss):
            return
        broken = [n for n, w in self._weights.views.items() if not np.isfinite(w).all()]
        if broken:
            raise NonFiniteError(
                f"the loss is {loss} in iteration {self.iteration}, because an earlier "
                f"one has left NaN or infinity in {', '.join(broken)}; set these "
                "weights anew, and lower the learning rate or clip gradients",
                loss=loss,
                iteration=self.iteration,
                weights=tuple(broken),
            )
        raise NonFiniteError(
            f"the loss is {loss} in iteration {self.iteration} (learning rate "
            f"{self.learning_rate:g}); no weight was changed by this iteration. Lower "
            "the learning rate or clip gradients; initialize(check='all') names the "
            "first layer in which it appears",
            loss=loss,
            iteration=self.iteration,
        )

    # -- data ------------------------------------------------------------------

    def _batch(self, x: Any, y: Any) -> Batch:
        """Check `x` and `y` but for NaN, which each pass looks for in the arena."""
        samples = self._checked(x, y, look_for_nonfinite=False)
        return require_batch(self.graph, self.plan, samples)

    def require_batch(self, samples: Samples) -> None:
        """Refuse samples that one iteration cannot be trained on; see `batch`."""
        require_batch(self.graph, self.plan, samples)

    def require_epoch(self, samples: Samples, drop_last: bool) -> None:
        """Refuse samples that an epoch cannot be trained on; see `batch`."""
        require_epoch(self.graph, self.plan, samples, drop_last)

    # -- inference -------------------------------------------------------------

    def predict(self, x: Any) -> FloatArray:
        """Return the predictions for any number of samples, ``(n, C, H, W)``."""
        (prediction,) = self.predictions(x).values()
        return prediction

    def predictions(self, x: Any) -> dict[str, FloatArray]:
        """Return the predictions of each of several losses by name.

        Of one loss, or of a model without, they have the name ``""``.
        """
        samples = self.samples(x, None)
        batch = Batch(samples, samples.n_samples, is_checked=samples.is_looked_at_later)
        out = {
            name: np.empty((batch.n_samples, *shape), dtype=np.float32)
            for name, shape in self._predicted.items()
        }

        def keep(one: Pass, start: int) -> None:
            for name, array in out.items():
                array[start : start + one.n_samples] = self._prediction(name, one)

        self._predict(batch, self.heads.no_scales(), keep)
        names = [head.name for head in self.heads.all]
        if not self.heads.are_several:
            names = [""]
        return dict(zip(names, out.values(), strict=True))

    @functools.cached_property
    def _predicted(self) -> dict[str, Shape]:
        """The tensors that are predicted, each with the shape of a sample."""
        if not self.heads.are_several:
            return {self.graph.prediction: self.output_shape}
        return {head.prediction: head.output_shape for head in self.heads.all}

    def predict_inner(
        self, x: Any, layers: Sequence[str], asked: Sequence[str]
    ) -> dict[str, FloatArray]:
        """Return outputs of inner layers for any number of samples, by name.

        Parameters
        ----------
        x : array_like, or dict of array_like
        layers : sequence of str
            Names of the layers as they were added.
        asked : sequence of str
            Names of outputs, see `find_inner_outputs`.
        """
        outputs = find_inner_outputs(self.graph, self.plan, layers, asked)
        samples = self.samples(x, None)
        batch = Batch(samples, samples.n_samples, is_checked=samples.is_looked_at_later)
        found = {
            one.name: np.empty((batch.n_samples, *one.shape), np.float32)
            for one in outputs
        }

        def keep(one: InnerOutput, start: int, n: int) -> None:
            values = self.views.named(one.tensor, n)
            found[one.name][start : start + n] = values.reshape(n, *one.shape)

        watched = Watched(outputs, keep)
        self._predict(batch, self.heads.no_scales(), lambda one, start: None, watched)
        return found

    def evaluate(self, samples: Samples, asked: Asked = None) -> Evaluation:
        """Return loss and metrics over all samples; changes no weight.

        Parameters
        ----------
        samples : Samples
        asked : mapping, optional
            Metrics by name, own ones with their function; by default all of the task.
        """
        parts = self._parts(samples, asked)
        batch = Batch(samples, samples.n_samples, is_checked=samples.is_looked_at_later)
        penalty = 0.0

        def add(one: Pass, start: int) -> None:
            nonlocal penalty
            penalty += self.heads.penalty(self._control)
            for part, loss in zip(parts, self.heads.sums(self._control), strict=True):
                head = part.head
                prediction = self._prediction(head.prediction, one)
                part.add(loss, prediction, one.labels.get(head.name), start)

        self._predict(batch, self.heads.scales(batch), add)
        loss = self.heads.total(penalty, [part.loss for part in parts])
        if not self.heads.are_several:
            return parts[0].evaluation(loss)
        return joined(
            {part.head.name: part.evaluation(part.loss) for part in parts}, loss
        )

    def metric_names(self, samples: Samples, asked: Asked) -> tuple[str, ...]:
        """Return the names of the metrics that an evaluation makes, but own ones.

        Raises
        ------
        InvalidParameterError
            One is asked for that these labels do not have.
        """
        parts = self._parts(samples, asked)
        stems = [
            f"{part.head.name}_" if self.heads.are_several else "" for part in parts
        ]
        return tuple(
            f"{stem}{name}"
            for stem, part in zip(stems, parts, strict=True)
            for name in part.made_names
        )

    def _parts(self, samples: Samples, asked: Asked) -> list[HeadScores]:
        """Return what adds up the scores of each loss.

        Raises
        ------
        InvalidParameterError
            A metric is asked for that no loss has.
        """
        parts = [
            HeadScores(head, head.samples(samples), asked) for head in self.heads.all
        ]
        known = dict.fromkeys(name for part in parts for name in part.metric_names)
        require_known((n for n, own in (asked or {}).items() if own is None), known)
        return parts

    def _predict(
        self,
        batch: Batch,
        scales: Sequence[float],
        take: TakesPass,
        watched: Watched | None = None,
    ) -> None:
        """Run forward steps pass by pass; `take` finds prediction and loss of each."""
        run = self._predict_pass
        for start in range(0, batch.n_samples, self.pass_samples):
            GATE.run(run, batch, start, scales, take, watched)

    def _predict_pass(
        self,
        batch: Batch,
        start: int,
        scales: Sequence[float],
        take: TakesPass,
        watched: Watched | None,
    ) -> None:
        n = min(self.pass_samples, batch.n_samples - start)
        self._begin(scales)
        self._control[Control.FRACTION] = n / batch.n_samples
        one = self._pass(Mode.PREDICT, n, False, keeps_outputs=watched is not None)
        try:
            self._run_forward(one, batch, start, watched)
        except NonFiniteError:
            one.refuse_ids(self.graph, batch.samples, batch.rows, start)
            raise
        if math.isnan(self.heads.loss(self._control)):
            one.refuse_ids(self.graph, batch.samples, batch.rows, start)
            # The ids are right, but looking at them has overwritten the prediction.
            self._run_forward(one, batch, start, watched)
        take(one, start)

    def _run_forward(
        self, one: Pass, batch: Batch, start: int, watched: Watched | None
    ) -> None:
        self.heads.clear_sums(self._control)
        one.load(batch.samples, batch.rows, start)
        if batch.is_checked and one.count_nonfinite():
            batch.samples.raise_nonfinite()
        done = 0
        if watched is not None:
            for output in watched.outputs:
                self._steps(one, done, output.step + 1)
                done = output.step + 1
                watched.take(output, start, one.n_samples)
        self._steps(one, done, self.plan.n_forward)

    def _prediction(self, name: str, one: Pass) -> FloatArray:
        return self.views.named(name, one.n_samples)
