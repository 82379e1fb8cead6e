"""What a user touches: define a model, plan its memory, train it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard, cast, overload

import numpy.typing as npt

from arena_ckpt.checkpoint.batch_size import BatchSizeChoice
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.pareto_front import ParetoFront
from arena_ckpt.common.arguments import public_call, require_callback, require_value
from arena_ckpt.common.json_codec import encode
from arena_ckpt.common.named_errors import named_errors
from arena_ckpt.common.progress import compile_progress
from arena_ckpt.common.properties import (
    BOOLEAN,
    POSITIVE_INT,
    Property,
    parse_properties,
)
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.units import format_bytes
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import quote, quoted
from arena_ckpt.data.dataset import Dataset, is_whole
from arena_ckpt.data.samples import Samples
from arena_ckpt.data.standardization import Standardization
from arena_ckpt.definition.description import describe
from arena_ckpt.definition.merged_lora import merged_lora
from arena_ckpt.definition.model_definition import ModelDefinition
from arena_ckpt.engine.arena import check_fits
from arena_ckpt.engine.metric_names import (
    OwnMetric,
    metrics_of_training,
    parse_metrics,
)
from arena_ckpt.errors import (
    AfterInitializationError,
    ArenaWarning,
    ArgumentError,
    DataError,
    EmptyDataError,
    InferenceOnlyError,
    InvalidParameterError,
    NotInitializedError,
    StateError,
)
from arena_ckpt.files.source import path_text
from arena_ckpt.graph.features import (
    feature_axes,
    input_shapes,
    require_statistics,
    standardization_of,
    with_asked_statistics,
)
from arena_ckpt.graph.hints import RESTARTS
from arena_ckpt.graph.weight_inputs import weighted_pair
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.model_plans import ModelPlans, asked
from arena_ckpt.optim.learning_rates import Schedule
from arena_ckpt.planning.kept_states import zero_states
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.training.callbacks import Callback, parse_callbacks
from arena_ckpt.training.data_hints import class_hints, ended_hints, scale_hints
from arena_ckpt.training.device_states import read_device_state, write_device_state
from arena_ckpt.training.drawn_batches import is_samples, train_batches
from arena_ckpt.training.loop import train
from arena_ckpt.training.nntrainer_bin import read_nntrainer_bin, write_nntrainer_bin
from arena_ckpt.training.records import EpochRecord, History
from arena_ckpt.training.saved_run import SavedRun, parse_saving
from arena_ckpt.training.saved_state import (
    SavedState,
    read_state,
    restore,
    restore_weights,
    trains_others,
    write_state,
)
from arena_ckpt.training.taken_weights import (
    TakenWeights,
    WeightSource,
    read_source,
    take_weights,
)

if TYPE_CHECKING:
    from arena_ckpt.engine.evaluation import Evaluation
    from arena_ckpt.engine.profile import Profile
    from arena_ckpt.engine.session import Session
    from arena_ckpt.engine.weights import FloatArray

_TRAIN_PROPERTIES = (
    Property("epochs", POSITIVE_INT, 1, "passes over the training data"),
    Property("shuffle", BOOLEAN, True, "a new order of samples for every epoch"),
    Property(
        "progress",
        BOOLEAN,
        None,
        "a line for each epoch on standard error, beside the bar of a terminal",
    ),
)

CHECKS = ("loss", "all")
"""Where to look for NaN and infinity."""

XY = tuple[Any, Any] | tuple[Any, Any, Any] | Dataset


@public_call(hint="layers are added with add_layer, properties set with set_property")
class Model(ModelDefinition):
    """A neural network that trains inside one planned block of memory.

    Parameters
    ----------
    seed : int
        From 0 to 2⁶⁴ - 1; decides the initial weights and the order of samples.

    Examples
    --------
    >>> import numpy as np
    >>> model = Model(seed=0)
    >>> model.add_layer("input", name="in", input_shape="1:1:4")
    >>> model.add_layer("fully_connected", name="fc", unit=2)
    >>> model.add_layer("mse", name="loss")
    >>> model.set_property(batch_size=8)
    >>> plan = model.initialize()
    >>> plan.proved_optimal
    True
    >>> x = np.zeros((8, 4), dtype=np.float32)
    >>> model.train_step(x, np.zeros((8, 2), dtype=np.float32))
    0.0
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._session: Session | None = None

    def __repr__(self) -> str:
        """Return one line of the numbers that matter; `summary` has the layers."""
        session, graph = self._session, self._graph  # nothing is compiled for a line
        plan = None if session is None else session.plan
        state = (
            "not initialized"
            if plan is None
            else f"initialized for {'inference' if plan.is_inference else 'training'}"
        )
        return short_repr(
            self,
            "",
            counted(len(self.layers), "layer"),
            "" if graph is None else counted(graph.n_parameters, "parameter"),
            counted(len(self.blocks), "checkpoint block") if self.blocks else "",
            f"batch size {self.get_property('batch_size'):,}",
            f"optimizer {self.optimizer.type_name}",
            state,
            "" if plan is None else f"arena {format_bytes(plan.arena_bytes)}",
        )

    @public_call
    def definition(self) -> Model:
        """Return an uninitialized copy: layers, blocks, properties, optimizer, seed.

        It can be changed where this model no longer can, for example its layers frozen;
        `take_weights` then gives it the weights of a saved model, or of this one.
        """
        return copy_of(self)

    @public_call
    def set_learning_rate_scheduler(self, schedule: Schedule | None) -> None:
        """Let the learning rate change with the iterations, also during training.

        See `ModelDefinition.set_learning_rate_scheduler`.
        """
        if self._session is None:
            super().set_learning_rate_scheduler(schedule)
            return
        with self._training("set_learning_rate_scheduler") as session:
            super().set_learning_rate_scheduler(schedule)
            session.schedule = schedule

    # -- planning --------------------------------------------------------------

    @public_call
    def make_plan(
        self,
        *,
        debug: bool = False,
        budget: str | int | Mapping[str, str | int] | None = None,
        max_overhead: str | float | None = None,
        allow: str | Iterable[str] | None = None,
        levels: int | None = None,
        measure: bool = False,
        keep: str | Iterable[str] | None = None,
        drop: str | Iterable[str] | None = None,
        constants: str = "flash",
        memories: Mapping[str, str | int] | None = None,
        pin: Mapping[str, str | tuple[str, int]] | None = None,
        mode: str = "train",
    ) -> MemoryPlan:
        """Return the memory plan without allocating anything.

        Parameters
        ----------
        debug : bool
            With room for canaries.
        budget, max_overhead, allow, levels, measure, keep, drop
            See `choose_plan`. Without them the checkpoint blocks of the model say what
            is recomputed.
        constants, memories, pin
            Where buffers may lie; see `choose_plan`.
        mode : {"train", "inference"}
            What the plan is for. Inference has forward steps alone: no labels, no
            gradients, no states; every weight is a constant, checkpoint blocks have
            nothing to do, and a budget only says how large the arena may be. The model
            needs no loss then.

        Raises
        ------
        GraphError, UnknownLayerError, CheckpointBlockError
            See `compile`.
        LossError
            A model without a loss, to be trained.
        InvalidParameterError
            More micro-batches than samples, or a request that makes no sense.
        UnknownLayerError, PolicyError
            Patterns that match nothing, or layers that cannot be kept or dropped.
        BatchStatisticsError
            A pass would leave batch normalization one value a channel.
        BudgetError
            No plan within the budget was found.
        """
        return ModelPlans(self).make_plan(
            debug=debug,
            constants=constants,
            memories=memories,
            pin=pin,
            mode=mode,
            budget=budget,
            max_overhead=max_overhead,
            allow=allow,
            levels=levels,
            measure=measure,
            keep=keep,
            drop=drop,
        )

    @public_call
    def choose_plan(
        self,
        *,
        budget: str | int | Mapping[str, str | int] | None = None,
        max_overhead: str | float | None = None,
        allow: str | Iterable[str] | None = None,
        levels: int | None = None,
        measure: bool = False,
        keep: str | Iterable[str] | None = None,
        drop: str | Iterable[str] | None = None,
        debug: bool = False,
        constants: str = "flash",
        memories: Mapping[str, str | int] | None = None,
        pin: Mapping[str, str | tuple[str, int]] | None = None,
    ) -> FrontPoint:
        """Choose what to recompute; allocates nothing.

        The checkpoint blocks of the model are set aside, unless they are the best
        choice.

        Parameters
        ----------
        budget : str, int or dict, optional
            The arena is at most so large, for example ``"256KiB"``, or ``"60%"`` of the
            arena that keeps all; ``{"sram": "200KiB"}`` bounds one of `memories`. Of
            the plans that fit, the fastest is taken.
        max_overhead : str or float, optional
            An iteration takes at most this share longer, for example 0.2 or ``"20%"``.
            Without a budget the plan of the fewest bytes is taken.
        allow : iterable of str, optional
            How bytes may be saved; by default recompute, in_place and layerwise_update,
            which change no bit. tiled_attention, tiled_update and micro_batch can
            round differently.
        levels : {None, 1}
            1 takes what named checkpoint blocks can say.
        measure : bool
            Measure the time of each kernel on this machine, instead of counting
            operations and bytes.
        keep : str or iterable of str, optional
            Patterns of names of layers, as `fnmatch` reads them, for example
            ``["*attn*"]``: layers that never run again.
        drop : str or iterable of str, optional
            Layers whose results are never kept for the backward pass: each is free
            after its last reader of the forward pass, and runs again where it is
            needed. Statistics of a whole batch stay.
        debug : bool
            With room for canaries.
        constants : {"flash", "arena"}
            Where tensors lie that no step writes, such as frozen weights: in a
            read-only memory beside the arena, or in the arena as all others.
        memories : dict from str to str or int, optional
            RAMs with their sizes instead of one arena, the fastest first, for example
            ``{"dtcm": "128KiB", "sram": "512KiB"}`` or ``board.memories``. Each buffer
            lies in one; of the slower ones as few bytes as can be found are touched.
        pin : dict, optional
            The RAM of some tensors, by their names or by patterns of them, for example
            ``{"conv1:filter": "dtcm", "*:bias": ("dtcm", 4096)}``, where a pair has an
            offset in bytes as well. A constant that is pinned lies in RAM.

        Returns
        -------
        FrontPoint

        Raises
        ------
        InvalidParameterError
            Neither budget nor max_overhead, or a value that makes no sense.
        UnknownLayerError
            A pattern matches no layer.
        PolicyError
            A layer is both kept and dropped, or an input or a loss is dropped.
        BatchStatisticsError
            A pass would leave batch normalization one value a channel.
        BudgetError
            No plan within the budget was found.
        """
        return ModelPlans(self).choose_plan(
            debug=debug,
            constants=constants,
            memories=memories,
            pin=pin,
            budget=budget,
            max_overhead=max_overhead,
            allow=allow,
            levels=levels,
            measure=measure,
            keep=keep,
            drop=drop,
        )

    @public_call(hint="a budget or an overhead is for choose_plan and make_plan")
    def pareto(
        self,
        *,
        allow: str | Iterable[str] | None = None,
        levels: int | None = None,
        measure: bool = False,
        keep: str | Iterable[str] | None = None,
        drop: str | Iterable[str] | None = None,
        debug: bool = False,
        constants: str = "flash",
        memories: Mapping[str, str | int] | None = None,
        pin: Mapping[str, str | tuple[str, int]] | None = None,
    ) -> ParetoFront:
        """Return all plans that none other beats in bytes and time.

        Parameters
        ----------
        allow, levels, measure, keep, drop, debug, constants, memories, pin
            See `choose_plan`.

        Returns
        -------
        ParetoFront
            A tuple of `FrontPoint`, from the fewest bytes to the least time; it shows
            itself as a table, and in a notebook as a curve.
        """
        return ModelPlans(self).pareto(
            debug=debug,
            constants=constants,
            memories=memories,
            pin=pin,
            allow=allow,
            levels=levels,
            measure=measure,
            keep=keep,
            drop=drop,
        )

    @public_call
    def choose_batch_size(
        self,
        *,
        budget: str | int | Mapping[str, str | int],
        most: int | None = None,
        max_overhead: str | float | None = None,
        allow: str | Iterable[str] | None = None,
        levels: int | None = None,
        keep: str | Iterable[str] | None = None,
        drop: str | Iterable[str] | None = None,
        debug: bool = False,
        constants: str = "flash",
        memories: Mapping[str, str | int] | None = None,
        pin: Mapping[str, str | tuple[str, int]] | None = None,
    ) -> BatchSizeChoice:
        """Find the largest batch size for which a plan within a budget exists.

        Every size that is tried is planned. A smaller batch can need more bytes than a
        larger one, so the search also looks beyond sizes that do not fit. The model
        stays as it is: set the batch size, then give the plan to `initialize`.

        Parameters
        ----------
        budget : str, int or dict
            Bytes of the arena, for example ``"256KiB"``, or of some RAMs by name.
        most : int, optional
            Largest batch size to try, for example the number of samples there are; by
            default 65,536.
        max_overhead, allow, levels, keep, drop, debug, constants, memories, pin
            See `choose_plan`.

        Returns
        -------
        BatchSizeChoice
            Its `batch_size`, `plan`, the sizes that were `tried` with the least bytes
            found for each, those of them that are `smaller_that_need_more`, and whether
            the search `is_exhaustive`.

        Raises
        ------
        InvalidParameterError
            A budget in percent, or a value that makes no sense.
        UnknownLayerError, PolicyError
            See `choose_plan`.
        BudgetError
            Not even the smallest batch fits.
        """
        return ModelPlans(self).choose_batch_size(
            budget=budget,
            most=most,
            max_overhead=max_overhead,
            allow=allow,
            levels=levels,
            keep=keep,
            drop=drop,
            debug=debug,
            constants=constants,
            memories=memories,
            pin=pin,
        )

    @public_call
    def step_seconds(self, plan: MemoryPlan) -> list[float]:
        """Measure how long each step of a plan of this model takes.

        Parameters
        ----------
        plan : MemoryPlan
            Made by this model. Its steps run in an arena of zeros.

        Returns
        -------
        list of float
            An element for each step; 0 where no kernel runs.

        Raises
        ------
        ArenaTooLargeError
            The arena is larger than the memory that is free.
        PlanMismatchError
            The plan is one of another model.
        """
        return ModelPlans(self).step_seconds(plan)

    @public_call
    def profile(
        self,
        data: XY | None = None,
        *,
        plan: MemoryPlan | None = None,
        rounds: int | None = None,
    ) -> Profile:
        """Measure where the time of a training step goes, kernel call by kernel call.

        The steps run in an arena of their own, with weights and optimizer states of
        their own and a learning rate of 0: the model stays as it is.

        Parameters
        ----------
        data : (x, y) or Dataset, optional
            Their first samples fill the batch; by default random ones are drawn.
        plan : MemoryPlan, optional
            Made by this model. By default the one that it is initialized with, else
            that of `make_plan`. One of inference profiles a prediction.
        rounds : int, optional
            How often to run all; medians count. By default 3 times, and up to 50 within
            half a second.

        Returns
        -------
        Profile
            Its `calls`, the same `by_layer`, `by_phase` and `by_kernel`, its totals,
            and what the machine reaches; printed it is a table.

        Raises
        ------
        InvalidParameterError
            An impossible number of rounds.
        DataError
            Samples that do not fit the model.
        ArenaTooLargeError
            The arena is larger than the memory that is free.
        PlanMismatchError
            The plan is one of another model.
        """
        if plan is None and self._session is not None:
            plan = self._session.plan

        def samples_of(session: Session) -> Samples | None:
            if data is None:
                return None
            if session.plan.is_inference:
                with _named(data):
                    return session.samples(pair_of(data)[0], None)
            return self._samples(session, data)

        return ModelPlans(self).profile(
            plan,
            rounds=rounds,
            standardization=self._standardization,
            samples_of=samples_of,
        )

    @public_call
    def kernel_calls(self, plan: MemoryPlan) -> tuple[KernelCall, ...]:
        """Return the kernel calls of a training iteration by a plan of this model.

        Nothing is allocated or compiled, and every process makes the same calls. With
        micro-batches these are the calls of the first pass, and of the updates after
        the last; the passes between add their gradients. A plan of inference has those
        of a prediction.

        Parameters
        ----------
        plan : MemoryPlan
            Made by this model.

        Returns
        -------
        tuple of KernelCall
            Each with its step, its kernel and its operands: regions of the arena, by
            offset in bytes, shape and dtype, or numbers.

        Raises
        ------
        PlanMismatchError
            The plan is one of another model.
        OwnLayerError
            The code of an own layer names calls that cannot be.
        """
        return ModelPlans(self).kernel_calls(plan)

    @public_call
    def initialize(
        self,
        *,
        plan: MemoryPlan | None = None,
        debug: bool = False,
        check: str = "loss",
        budget: str | int | Mapping[str, str | int] | None = None,
        max_overhead: str | float | None = None,
        allow: str | Iterable[str] | None = None,
        levels: int | None = None,
        measure: bool = False,
        keep: str | Iterable[str] | None = None,
        drop: str | Iterable[str] | None = None,
        constants: str = "flash",
        memories: Mapping[str, str | int] | None = None,
        pin: Mapping[str, str | tuple[str, int]] | None = None,
        mode: str = "train",
    ) -> MemoryPlan:
        """Plan the memory, allocate the arena, draw the weights, load the kernels.

        Parameters
        ----------
        plan : MemoryPlan, optional
            A plan of this model to use, for example a point of `pareto` or one read
            from a file; by default one is made.
        debug : bool
            Guard every buffer with a canary, poison it when it dies, look for NaN after
            each step, and run each step in two more arenas in which all that is no
            operand of it holds other bytes. Slow; the results have the same bits.
        check : {"loss", "all"}
            Where to look for NaN and infinity: at the loss of each iteration, or after
            each step at whatever it wrote, to name the first. ``"all"`` takes any plan
            and runs the steps one by one; `debug` implies it.
        budget, max_overhead, allow, levels, measure, keep, drop
            Choose what to recompute; see `choose_plan`.
        constants, memories, pin
            Where buffers may lie; see `choose_plan`.
        mode : {"train", "inference"}
            For ``"inference"`` see `make_plan`. The model can then predict, and its
            weights can be read, set, saved and restored; whatever trains or needs
            labels raises `InferenceOnlyError`.

        Returns
        -------
        MemoryPlan

        Raises
        ------
        AfterInitializationError
            It was initialized before.
        InvalidParameterError
            An impossible seed, check, mode or request, or more micro-batches than
            samples.
        LossError
            A model without a loss, to be trained.
        BatchStatisticsError
            A pass would leave batch normalization one value a channel.
        BudgetError
            No plan within the budget was found.
        PlanMismatchError
            The plan is one of another model or for another mode, contradicts itself,
            or has canaries and `debug` is false, or the reverse.
        ArenaTooLargeError
            The arena, or with `debug` three of its size, are larger than the memory
            that is free; nothing was allocated.
        """
        self._require_before("The model is already initialized")
        seed = self._checked_seed()
        if not isinstance(check, str) or check not in CHECKS:
            raise InvalidParameterError(
                f"check={quoted(check)} is not possible; expected {quote(CHECKS)}: "
                "where to look for NaN and infinity",
                check=check,
            )
        request = asked(
            budget=budget,
            max_overhead=max_overhead,
            allow=allow,
            levels=levels,
            measure=measure,
            keep=keep,
            drop=drop,
        )
        plans = ModelPlans(self)
        if plan is None:
            plan = plans.make_plan(
                debug=debug,
                constants=constants,
                memories=memories,
                pin=pin,
                mode=mode,
                **request,
            )
        elif given := {**request, **asked(memories=memories, pin=pin)}:
            raise InvalidParameterError(
                f"a plan and {quote(given)} exclude each other: the plan says "
                "all; leave one out"
            )
        else:
            plans.require_mode_of(plan, mode)
            plans.require_own_plan(plan, debug=debug)
        check_fits(plan.host_bytes, "the arena")
        from arena_ckpt.engine.session import Session  # loads Numba

        with compile_progress() as report:
            session = Session(
                plans.graph_of(plan),
                plan,
                self._optimizer,
                self._schedule,
                seed=seed,
                max_norm=self.get_property("clip_grad_by_norm"),
                debug=debug,
                check=check,
                report=report,
                standardization=self._standardization,
            )
        if self._start:
            session.set_weights(self._start)
        # Another thread may have been faster.
        self._require_before("The model is already initialized")
        self._session = session
        return plan

    @property
    def is_initialized(self) -> bool:
        """`initialize` was called: there is an arena."""
        return self._session is not None

    @property
    def plan(self) -> MemoryPlan:
        """The memory plan.

        Raises
        ------
        NotInitializedError
            Before `initialize`.
        """
        return self._running("the plan").plan

    # -- training --------------------------------------------------------------

    @public_call(hint="a pair is taken apart, as in train_step(*pair)")
    def train_step(self, x: Any, y: Any = None) -> float:
        """Run one iteration on a batch and return its loss.

        Parameters
        ----------
        x : array_like, shape (n, …)
            At most `batch_size` samples, flat or in the shape of the input; a dict by
            input layer where there are several.
        y : array_like, shape (n, …) or (n,)
            Values of the output's shape, or class numbers for cross_softmax; left out
            where no loss takes labels.

        Raises
        ------
        DataError
            Arrays that do not fit, or hold NaN or infinity.
        BatchStatisticsError
            So few samples that batch normalization would have one value a channel.
        NonFiniteError
            A loss that is NaN or infinite; no weight was changed then.
        """
        _require_apart("train_step", x, y)
        with self._training("train_step") as session:
            _require_labels(session, y)
            require_statistics(session.graph, self._standardization, "train_step")
            return session.train_step(x, y)

    @public_call(hint="a pair is taken apart, as in compute_gradients(*pair)")
    def compute_gradients(
        self, x: Any, y: Any = None
    ) -> tuple[float, dict[str, FloatArray]]:
        """Return the loss of a batch and copies of the weight gradients.

        No weight changes. Gradients are those of the loss, with regularization and
        before clipping and weight decay; the names are those of `weights`.
        """
        _require_apart("compute_gradients", x, y)
        with self._training("compute_gradients") as session:
            _require_labels(session, y)
            require_statistics(
                session.graph, self._standardization, "compute_gradients"
            )
            return session.compute_gradients(x, y)

    @public_call(
        hint="give samples and labels as one pair, train((x, y)), or a Dataset"
    )
    def train(
        self,
        data: XY | Iterable[Any],
        *,
        validation: XY | None = None,
        metrics: Sequence[str | OwnMetric] | None = None,
        epochs: int | None = None,
        shuffle: bool = True,
        progress: bool | None = None,
        on_epoch: Callable[[EpochRecord], bool | None] | None = None,
        callbacks: Callback | Iterable[Callback] = (),
        checkpoint: str | os.PathLike[str] | None = None,
        every: int | None = None,
        resume: bool = False,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        data : (x, y), Dataset or iterable of batches
            Where no loss takes labels, x alone: an array, or a dict by input layer.
            With the property `drop_last` of the model, the samples of an epoch that
            fill no whole batch are left out; with `shuffle`, others in each epoch.
            A generator, or another iterable, gives batches ``(x, y)`` of at most
            `batch_size` samples, in the shapes that the model declares; each is an
            iteration. It is gone through once for each epoch, in its own order, so a
            generator is trained on for one epoch, and no state is saved on the way.
        validation : (x, y) or Dataset, optional
            Evaluated after each epoch.
        metrics : sequence of str or callable, optional
            Metrics of the validation, as of `evaluate`; lines and tables of epochs show
            those that are asked for. By default all that suit the labels are made.
        epochs : int, optional
            By default the property of the model.
        shuffle : bool
            Draw a new order for every epoch, from the seed.
        progress : bool, optional
            By default a bar is shown where standard error is a terminal, and in a
            notebook a line and the curve of losses. With True standard error also gets
            a line for each epoch, above the bar or in a log: losses, metric, learning
            rate where a schedule is set, seconds; a notebook shows the same as by
            default. With False nothing is shown.
        on_epoch : callable, optional
            Called with the record of each epoch; returning True stops the training.
        callbacks : EarlyStopping, ReduceOnPlateau, KeepBest, or several of them
            What the training does by itself after each epoch. They go by the records of
            the epochs alone, so a training that is resumed with the same ones ends with
            the same bits. The factor of a plateau ends with the training.
        checkpoint : path, optional
            A folder, made where it is missing, for the state of the training: it is
            saved there at the beginning, as `every` says, at the end, and on Ctrl-C or
            SIGTERM.
            The two newest states are kept.
        every : int, optional
            Iterations from one state to the next; by default one is saved at the end
            of each epoch.
        resume : bool
            Go on from the newest state in the folder, where there is one; weights,
            optimizer states and iteration of the model are replaced by it. The end is,
            bit for bit, that of an uninterrupted training.

        Returns
        -------
        History
            A record for each epoch, also those from before a resume. After Ctrl-C (with
            `checkpoint` also SIGTERM) its `interrupted` is true; the iteration under
            way was finished and the model stays usable.

        Warns
        -----
        ModelWarning
            Before the first step, where the learning-rate schedule starts again within
            the iterations to come, where inputs have unlike ranges or are far from
            unit scale (of drawn batches the first is looked at), or where the training
            data lack classes of the validation data. At the end, where the loss has
            diverged, or where moving statistics of batch normalization lag behind the
            weights.

        Raises
        ------
        NotInitializedError, InvalidParameterError, DataError, NonFiniteError
        BatchStatisticsError
            A smaller last batch would leave batch normalization one value a channel; no
            weight was changed.
        EmptyDataError
            With `drop_last`, fewer samples than a batch has.
        UnevenBatchesError
            Batches that are drawn end early, or one of them cannot be used; the
            iterations before are kept.
        SavedStateError
            The folder has states that cannot be gone on from; nothing is changed then.
        UnwritableFileError
            A state cannot be saved; those from before are kept. Or another training
            saves into the folder.
        """
        self._require_training("train")
        if epochs is None:
            epochs = self.get_property("epochs")
        asked = {"epochs": epochs, "shuffle": shuffle}
        if progress is not None:
            asked["progress"] = progress
        given = parse_properties("train", _TRAIN_PROPERTIES, asked)
        if on_epoch is not None:
            require_callback("on_epoch", on_epoch, "the record of an epoch")
        asked_metrics = metrics_of_training(
            metrics, has_validation=validation is not None
        )
        saving = parse_saving(checkpoint, every, resume)
        if not is_samples(data):
            if saving is not None:
                raise InvalidParameterError(
                    "checkpoint= saves where a training is, and batches that are drawn "
                    "cannot be drawn again from there; give arrays or a Dataset, or "
                    "save the model after an epoch with on_epoch",
                    checkpoint=checkpoint,
                )
            with self._working("train") as session:
                beside, known = self._beside(session, validation, asked_metrics)
                require_statistics(
                    session.graph, self._standardization, "train() with drawn batches"
                )
                looked_at: list[Samples] = []

                def look_at(first: Samples) -> None:
                    looked_at.append(first)
                    if not session.iteration:
                        self._tell(scale_hints(session.graph, first))

                history = train_batches(
                    session,
                    cast(Iterable[Any], data),
                    beside,
                    epochs=given["epochs"],
                    drop_last=self.get_property("drop_last"),
                    progress=given.get("progress"),
                    on_epoch=on_epoch,
                    callbacks=parse_callbacks(callbacks, beside, known),
                    metrics=asked_metrics,
                    look_at=look_at,
                )
                first = looked_at[0] if looked_at else None
                self._tell(ended_hints(session, first, history, is_whole=False))
                return history
        with (
            self._working("train") as session,
            self._classes_of(session, data),
            self._statistics_of(session, data),
        ):
            samples = self._samples(session, data)
            session.require_epoch(samples, self.get_property("drop_last"))
            beside, known = self._beside(session, validation, asked_metrics)
            if beside is not None:
                self._tell(class_hints(samples, beside))
            if not session.iteration:
                self._tell(scale_hints(session.graph, samples))
            rules = parse_callbacks(callbacks, beside, known)
            saved = None
            if saving is not None:
                saved = SavedRun(
                    saving,
                    session,
                    model=self,
                    samples=samples,
                    shuffle=given["shuffle"],
                    callbacks=rules,
                    validation=beside,
                )
            history = train(
                session,
                samples,
                beside,
                epochs=given["epochs"],
                seed=self._checked_seed(),
                shuffle=given["shuffle"],
                drop_last=self.get_property("drop_last"),
                progress=given.get("progress"),
                on_epoch=on_epoch,
                callbacks=rules,
                metrics=asked_metrics,
                saved=saved,
                # Where `compile` has said so, it needs no second word.
                warn_of_restart=all(hint.kind != RESTARTS for hint in self._told),
            )
            self._tell(ended_hints(session, samples, history))
            return history

    @public_call(hint="give the training data: standardize((x, y)), or a Dataset")
    def standardize(self, data: XY | None) -> None:
        """Give each feature of the inputs mean 0 and deviation 1, by the training data.

        The model holds the statistics from then on, also in what `save` writes and in
        C projects. All data stay raw: they are standardized where they are loaded into
        the arena, in training, evaluation and prediction alike.

        Parameters
        ----------
        data : (x, y), Dataset or None
            The data to train on, without those for validation; labels are not looked
            at and can be None. A feature is a column along the width, or a channel
            where a layer of pictures reads the input. One that is constant becomes 0.
            Inputs of ids and of masks stay as they are. With None nothing is
            standardized any more.

        Raises
        ------
        StateError
            The weights were trained with other statistics, or without.
        DataError
            Samples that do not fit the model.
        GraphError, UnknownLayerError, CheckpointBlockError
            See `compile`.
        """
        graph = self.compile()
        statistics = None
        if data is not None:
            x, _ = pair_of(weighted_pair(graph, data))
            with _named(data):
                statistics = standardization_of(graph, x)
        if self._session is None:
            self._standardization = statistics
            return
        with self._working("standardize") as session:
            if session.iteration and statistics != self._standardization:
                raise StateError(
                    f"the weights were trained for {session.iteration:,} iterations "
                    f"{'with other' if self._standardization else 'without'} "
                    "statistics of the inputs, and would not fit; call standardize "
                    "before the first training",
                    iteration=session.iteration,
                )
            take_statistics(self, statistics)

    # -- inference -------------------------------------------------------------

    @overload
    def predict(
        self, x: Any, *, squeeze: bool = False, outputs: None = None
    ) -> Any: ...  # an array, or of several losses a dict of arrays

    @overload
    def predict(
        self, x: Any, *, squeeze: bool = False, outputs: Sequence[str]
    ) -> dict[str, FloatArray]: ...

    @public_call(hint="samples are enough; labels are for evaluate((x, y))")
    def predict(
        self, x: Any, *, squeeze: bool = False, outputs: Sequence[str] | None = None
    ) -> Any:
        """Return predictions, ``(n, channel, height, width)`` of the output.

        They are probabilities where the loss is a cross entropy. Of a model of several
        losses they are a dict with an array for each loss, by its name. Any number of
        samples is taken, `batch_size` at a time.

        Parameters
        ----------
        x : array_like, or dict of array_like
            Samples, flat or in the shape of the input; a dict by input layer where
            there are several.
        squeeze : bool
            Leave out those of channel, height and width that are 1: ``(n, 10)`` of ten
            classes, ``(n,)`` of one output. The first axis is always the samples.
        outputs : sequence of str, optional
            Names of layers, such as ``["pool", "fc1"]``, whose outputs are returned in
            place of the predictions, as a dict by name; ``"split(1)"`` is output 1 of
            split. They are those of inference, as without dropout.

        Raises
        ------
        DataError
            Arrays that do not fit, or hold NaN or infinity.
        """
        require_value(
            "squeeze",
            squeeze,
            fits=isinstance(squeeze, bool),
            expected="True or False",
        )
        with self._working("predict") as session:
            require_statistics(session.graph, self._standardization, "predict")
            if outputs is None:
                found = session.predictions(x)
            else:
                names = [layer.name for layer in self.layers]
                inner = session.predict_inner(x, names, outputs)
                found = {name: inner[name] for name in outputs}
        if squeeze:
            found = {name: _squeezed(array) for name, array in found.items()}
        return found[""] if outputs is None and "" in found else found

    @public_call(
        hint="give samples and labels as one pair, evaluate((x, y)), or a Dataset"
    )
    def evaluate(
        self,
        data: XY,
        *,
        metrics: Sequence[str | OwnMetric] | None = None,
    ) -> Evaluation:
        """Return loss and metrics on a data set, with a report by class or output.

        Parameters
        ----------
        data : (x, y) or Dataset
        metrics : sequence of str or callable, optional
            Names of metrics, and functions ``f(outputs, labels) -> float``; by default
            all that suit the labels. Functions get all outputs at once, ``(n, width)``
            where a sample is one row, and labels as class numbers ``(n,)`` or in the
            shape of the outputs.

        Returns
        -------
        Evaluation
            Its ``metrics`` and its ``report``: of classes accuracy, beside it that of
            the most frequent class, precision, recall, F1 and the confusion matrix; of
            ones and zeros the AUC as well; of values errors and R², output by output.

        Raises
        ------
        InferenceOnlyError
            The model is initialized for inference, which has no labels.
        InvalidParameterError
            A metric that these labels do not have, or a function that returns no
            number.
        """
        asked = parse_metrics(metrics)
        with self._training("evaluate") as session:
            require_statistics(session.graph, self._standardization, "evaluate")
            return session.evaluate(self._samples(session, data), asked)

    # -- weights ---------------------------------------------------------------

    @public_call
    def weights(self) -> dict[str, FloatArray]:
        """Return copies of the weights by name, ``"fc1:weight"``."""
        with self._working("weights") as session:
            return session.weights()

    @public_call
    def start_from(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Give weights that `initialize` begins with, in place of those it draws.

        They are kept by `definition`, and checked by `initialize` as `set_weights`
        does. A layer that is replaced later draws its weights again.

        Parameters
        ----------
        values : mapping of str to array
            By name, ``"fc1:weight"``; they join those of an earlier call.

        Raises
        ------
        AfterInitializationError
            The model is initialized; `set_weights` changes it.
        """
        self._require_before("start_from says what initialize() begins with")
        self._start = {**self._start, **values}

    @public_call
    def to_state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Return the weights as the model that this one was imported from has them.

        Returns
        -------
        dict of str to array
            The whole state by its names there. What has no weight here is as it was
            imported, and all of it before `initialize`.

        Raises
        ------
        StateError
            The model was not imported, or its weights are in the file that it was
            loaded from without being initialized.
        """
        if self._foreign is None:
            raise StateError(
                "the model was not imported, so there are no other names of its weights"
                "; weights() has them by their own"
            )
        if self._session is not None:
            return self._foreign.filled(self.weights())
        if not self._foreign.is_whole:
            self._running("to_state_dict")
        return self._foreign.filled(None)

    @public_call
    def merge_lora(self) -> dict[str, FloatArray]:
        """Return the weights that a model without ``lora_rank`` computes the same with.

        They fit the same layers without ``lora_rank`` (`set_weights`).

        Raises
        ------
        InvalidParameterError
            No layer has ``lora_rank``.
        """
        return merged_lora(self.layers, self.weights())

    @public_call
    def reset_states(self) -> None:
        """Set the states that ``stateful`` layers keep from batch to batch to zero.

        Nothing else does, not even the begin of an epoch.
        """
        with self._working("reset_states") as session:
            session.set_weights(zero_states(session.graph))

    @public_call
    def set_weights(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Overwrite some or all weights; see `weights` for names and shapes.

        Raises
        ------
        InvalidParameterError
            An unknown name; as with the errors below, no weight was changed.
        ShapeMismatchError
            An array of another shape.
        DataTypeError, NonFiniteDataError
            An array without numbers, with NaN, or with values beyond float32.
        """
        with self._working("set_weights") as session:
            session.set_weights(values)

    # -- saving ----------------------------------------------------------------

    @public_call
    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the model with its state: `load` reads it back, to go on bit for bit.

        The file is in the format safetensors: weights under their names, with running
        statistics; optimizer states; in the metadata the model, the number of
        iterations and a checksum. It is there whole afterwards, or as it was before.

        Parameters
        ----------
        path : path
            An existing file is replaced; the folder has to exist.

        Raises
        ------
        NotInitializedError
            There are no weights yet; `save_ini` writes a model without.
        UnwritableFileError
            Nothing was changed.
        """
        with self._working("save") as session:
            write_state(
                path_text(path),
                session,
                model=encode(describe(self)),
                classes=self.classes,
                means=self.column_means,
                standardization=self.standardization,
                foreign=self._foreign,
            )

    @public_call
    def restore(self, state: str | os.PathLike[str] | SavedState) -> None:
        """Take over weights, optimizer states and iteration of a saved state.

        Parameters
        ----------
        state : path or SavedState
            Of a model with the same weights and optimizer, for example this one as it
            was before; the plan can be another. Where other layers are frozen, the
            weights alone are taken over: the states of the optimizer and the iteration
            begin anew, which an `ArenaWarning` says.

        Raises
        ------
        SavedStateError
            It cannot be read.
        SavedStateMismatchError
            Weights or states have other names or shapes.
        """
        with self._working("restore") as session:
            if not isinstance(state, SavedState):
                state = read_state(path_text(state))
            if not trains_others(session.plan, state):
                restore(session, state)
                self._take_names_and_statistics(state)
                return
            restore_weights(session, state)
            self._take_names_and_statistics(state)
        warn_user(
            f"{state.path} is of a model that trains other weights: these were taken "
            "over, and the states of the optimizer and the iteration begin anew",
            ArenaWarning,
        )

    @public_call(hint="a saved model, an .npz of weights, a Model or a dict of arrays")
    def take_weights(
        self,
        source: str
        | os.PathLike[str]
        | SavedState
        | Model
        | Mapping[str, npt.ArrayLike],
        *,
        exclude: str | Iterable[str] = (),
    ) -> TakenWeights:
        """Take over those weights that have the names and shapes of this model's.

        All others stay as they are, for example those of a new head as they were drawn.
        The states of the optimizer and the iteration begin anew. A model that does not
        standardize its inputs takes over the statistics of a source that does, also
        those in an .npz (``"in:mean"``, ``"in:deviation"``).

        Parameters
        ----------
        source : path, SavedState, Model or dict
            What `save` or a training wrote, an .npz of arrays by name, an initialized
            model, or the arrays themselves.
        exclude : str or iterable of str
            Weights to leave as they are although they match: names, or patterns of them
            as `fnmatch` reads them, ``"logits:*"``.

        Returns
        -------
        TakenWeights
            Which weights were `taken`, which were `left` and why, and what of the
            source was `unused`, and what became of its `statistics`; printed, it says
            so in lines.

        Raises
        ------
        NotInitializedError
        SavedStateError, DataError
            The source cannot be read, or its weights hold NaN; nothing is changed.
        InvalidParameterError
            No weight matches, or `exclude` matches none.
        """
        graph = self._running("take_weights").graph
        if isinstance(source, Model):
            given = WeightSource(
                "the given model",
                source.weights(),
                source.standardization,
                source.column_means,
            )
        else:
            given = read_source(source, feature_axes(graph))
        with self._working("take_weights") as session:
            taken = take_weights(session, given, exclude)
            self._means = self._means or given.means
            if given.statistics is None:
                return taken
            return replace(taken, statistics=self._offered(given.statistics))

    def _offered(self, statistics: Standardization) -> str:
        """Take statistics if there are none; return what became of them."""
        if self._standardization == statistics:
            return "the same as those of this model"
        if self._standardization is not None:
            return "not taken, as this model has its own"
        try:
            take_statistics(self, statistics)
        except InvalidParameterError as error:
            return f"not taken ({error})"
        return "taken too"

    @public_call
    def save_device_state(self, path: str | os.PathLike[str]) -> None:
        """Save the state of the training as an exported C project does.

        The file is what ``NAME_save`` writes on a device: `load_device_state` and
        ``NAME_restore`` read it, of the same model and plan, and go on bit for bit.
        Trained weights, moving statistics, states of the optimizer and the iteration
        are in it. Constants, such as frozen weights, are not.

        Parameters
        ----------
        path : path
            An existing file is replaced; the folder has to exist.

        Raises
        ------
        NotInitializedError, InferenceOnlyError
        InvalidParameterError
            The model is not in portable arithmetic.
        UnwritableFileError
            Nothing was changed.
        """
        with self._training("save_device_state") as session:
            write_device_state(path_text(path), session)

    @public_call
    def load_device_state(self, path: str | os.PathLike[str]) -> None:
        """Go on from a state that a device saved, or `save_device_state`.

        Parameters
        ----------
        path : path
            What ``NAME_save`` of an exported C project wrote, for the plan with which
            this model is initialized.

        Raises
        ------
        NotInitializedError, InferenceOnlyError
        InvalidParameterError
            The model is not in portable arithmetic.
        SavedStateNotFoundError, SavedStateError
            There is no such file, or it cannot be read.
        CorruptSavedStateError
            It is damaged, cut short or something else; as with the errors below,
            nothing was changed.
        SavedStateVersionError
            It is of another version of the format.
        PlanMismatchError
            It is of another plan.
        """
        with self._training("load_device_state") as session:
            read_device_state(path_text(path), session)

    @public_call
    def save_nntrainer_bin(self, path: str | os.PathLike[str]) -> None:
        """Write the weights as NNTrainer's ``.bin`` files have them.

        They are raw float32 numbers in the order of NNTrainer's layers, and behind them
        the moments of the optimizer where that is adam, and the number of iterations.
        NNTrainer reads them into a model of the same layers, such as the one of
        ``save_ini(path, dialect="nntrainer")``.

        Parameters
        ----------
        path : path
            An existing file is replaced; the folder has to exist.

        Raises
        ------
        NotInitializedError
        UnwritableFileError
            Nothing was changed.
        """
        with self._working("save_nntrainer_bin") as session:
            names = [layer.name for layer in self.layers]
            write_nntrainer_bin(path_text(path), session, names)

    @public_call
    def load_nntrainer_bin(self, path: str | os.PathLike[str]) -> None:
        """Take over the weights in a ``.bin`` file that NNTrainer saved.

        The moments of adam and the number of iterations are taken over as well, where
        the file has them; other states of the optimizer begin anew. A file says nothing
        of its content, so that the number of its bytes is all that is checked: the
        layers have to be those of the model that was saved, in the same order.

        Parameters
        ----------
        path : path
            Of a model with the same layers, for example of the same INI file.

        Raises
        ------
        NotInitializedError
        SavedStateNotFoundError, SavedStateError
            There is no such file, or it cannot be read.
        SavedStateMismatchError
            It has another number of bytes than such a file of this model has.
        NonFiniteDataError
            A tensor in it holds NaN or infinity; as with the errors above, nothing was
            changed.
        """
        with self._working("load_nntrainer_bin") as session:
            names = [layer.name for layer in self.layers]
            read_nntrainer_bin(path_text(path), session, names)

    def _samples(self, session: Session, data: XY, role: str = "data") -> Samples:
        """Check samples and labels, by the classes of the model where both have names.

        Errors name a `Dataset`, and arrays whose role is another than ``data``.

        Raises
        ------
        DataError, InvalidParameterError
        """
        if isinstance(data, Dataset) and data.classes and self._classes:
            data = data.with_classes(self._classes)
        if isinstance(data, Dataset) and data.gaps and self._means:
            data = data.with_means(self._means)
        if asks_standardization(data) and self._standardization is None:
            raise StateError(
                f"{data.name}: the data are to be standardized, and the model has no "
                "statistics for it; train it on data that are standardized too, or "
                "call model.standardize(training) first"
            )
        x, y = pair_of(weighted_pair(session.graph, data), role)
        with _named(data, role):
            _require_labels(session, y)
            samples = session.samples(x, y)
        names = data.classes if isinstance(data, Dataset) else None
        return replace(samples, classes=self._classes or names)

    def _beside(
        self,
        session: Session,
        validation: XY | None,
        metrics: Mapping[str, OwnMetric | None] | None,
    ) -> tuple[Samples | None, tuple[str, ...]]:
        """Check the data of a validation, and return the names of their metrics.

        Raises
        ------
        DataError, InvalidParameterError
        """
        if validation is None:
            return None, ()
        samples = self._samples(session, validation, "validation")
        return samples, session.metric_names(samples, metrics)

    def _take_names_and_statistics(self, state: SavedState) -> None:
        self._classes = state.document.classes or self._classes
        self._means = state.document.means or self._means
        take_statistics(self, state.document.standardization)

    @contextmanager
    def _classes_of(self, session: Session, data: object) -> Iterator[None]:
        """Take names of classes and means from data, if none are known yet."""
        before, iteration = (self._classes, self._means), session.iteration
        if isinstance(data, Dataset):
            self._classes = self._classes or data.classes
            self._means = self._means or (data.gaps.means if data.gaps else None)
        try:
            yield
        except BaseException:
            if session.iteration == iteration:
                self._classes, self._means = before
            raise

    @contextmanager
    def _statistics_of(self, session: Session, data: XY) -> Iterator[None]:
        """Take those statistics from data that inputs ask for, if it is trained."""
        before, iteration = self._standardization, session.iteration
        standardize_as_asked(self, data)
        try:
            yield
        except BaseException:
            if session.iteration == iteration:
                take_statistics(self, before)
            raise

    def _checked_seed(self) -> int:
        seed = self.seed
        if not is_whole(seed) or not 0 <= seed < 2**64:
            raise InvalidParameterError(
                f"seed={quoted(seed)} is not possible; expected a whole number from 0 "
                f"to {2**64 - 1}",
                seed=seed,
            )
        return int(seed)

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to copy or pickle an arena: kernels hold its addresses."""
        if self._session is not None:
            raise StateError(
                "an initialized model cannot be copied or pickled, because its kernels "
                "hold addresses in its arena; save it with model.save(path) and make "
                "another of it with arena_ckpt.load(path), also in another process"
            )
        return super().__getstate__()

    def _running(self, what: str) -> Session:
        if self._session is None:
            raise NotInitializedError(
                f"{what} needs an initialized model; call initialize() first"
            )
        return self._session

    @contextmanager
    def _working(self, what: str) -> Iterator[Session]:
        """Give the session to one thread at a time."""
        session = self._running(what)
        session.lock.take(what)
        try:
            yield session
        finally:
            session.lock.release()

    @contextmanager
    def _training(self, what: str) -> Iterator[Session]:
        """Give the session, if it has labels and gradients, to one thread at a time."""
        self._require_training(what)
        with self._working(what) as session:
            yield session

    def _require_training(self, what: str) -> None:
        """Refuse a call that inference has no steps or no labels for.

        Raises
        ------
        NotInitializedError, InferenceOnlyError
        """
        session = self._running(what)
        if not session.plan.is_inference:
            return
        graph = session.graph
        first = (
            ""
            if graph.has_loss
            else (
                "add a loss as its last layer, for example mse or cross_softmax, and "
            )
        )
        raise InferenceOnlyError(
            f"{what} needs labels and gradients, and this model is initialized for "
            f"inference, so it can only predict; build it again, {first}call "
            "initialize() without mode='inference'",
            what=what,
        )

    def _require_before(self, message: str) -> None:
        if self._session is not None:
            raise AfterInitializationError(
                f"{message}; build a new Model for another configuration"
            )


def copy_of(model: Model, *, blocks: bool = True) -> Model:
    """Return an uninitialized copy, with or without the checkpoint blocks."""
    copy = Model(model.seed)
    for layer in model.layers:
        copy.add_layer(layer)
    for block in model.blocks if blocks else ():
        copy.add_checkpoint_block(block.layers, block.name)
    copy.set_property(**model.properties)
    copy.set_optimizer(model.optimizer)
    if model.schedule is not None:
        copy.set_learning_rate_scheduler(model.schedule)
    copy._classes = model.classes
    copy._means = model.column_means
    copy._standardization = model.standardization
    copy._start = model._start
    copy._foreign = model._foreign
    copy._told = model._told  # each warning is issued once, copies included
    return copy


def take_statistics(model: Model, statistics: Standardization | None) -> None:
    """Let a model standardize its inputs by statistics that go with its weights.

    Raises
    ------
    InvalidParameterError
        They are of other inputs.
    """
    if statistics is not None:
        statistics.require_fit(input_shapes(model.compile()))
    if model._session is not None:
        model._session.standardize(statistics)
    model._standardization = statistics


def standardize_as_asked(model: Model, data: XY) -> None:
    """Take the statistics that inputs or data ask for, where there are none yet.

    Inputs ask with ``standardization=true``, data with `Dataset.standardize`.

    Parameters
    ----------
    model : Model
    data : (x, y) or Dataset
        What it is trained on first.

    Raises
    ------
    StateError
        Its weights were trained without them.
    DataError, InvalidParameterError
        Samples that do not fit, or inputs of ids or masks.
    """
    graph, held = model.compile(), model._standardization
    if model._session is not None and model._session.iteration:
        require_statistics(graph, held, "going on with trained weights")
        return
    x = pair_of(weighted_pair(graph, data))[0]
    if held is None and asks_standardization(data):
        with _named(data):
            statistics: Standardization | None = standardization_of(graph, x)
    else:
        statistics = with_asked_statistics(graph, held, x)
    if statistics is not held:
        take_statistics(model, statistics)


def asks_standardization(data: object) -> TypeGuard[Dataset]:
    """Tell whether a model is to standardize its inputs by these data."""
    return isinstance(data, Dataset) and data.standardized


def without_blocks(model: Model) -> Model:
    """Return an uninitialized copy without checkpoint blocks."""
    return copy_of(model, blocks=False)


def pair_of(data: XY, role: str = "data") -> tuple[Any, Any]:
    """Return x and y of data, which errors call by their role.

    Raises
    ------
    InvalidParameterError
        It is neither a pair nor a data set.
    """
    if isinstance(data, Dataset):
        return data.x, data.y
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InvalidParameterError(
            f"{role} is a {type(data).__name__}; expected (x, y) or a Dataset"
            + (", and to train also a generator of batches (x, y)" * (role == "data"))
        )
    x, y = data
    return x, y


def _named(data: XY, role: str = "data") -> AbstractContextManager[None]:
    """Let errors name a `Dataset`, or the role of arrays that is another than data."""
    source = "" if role == "data" else role
    if isinstance(data, Dataset):
        source = data.name
    return named_errors(source, DataError, InvalidParameterError)


def _require_apart(what: str, x: Any, y: Any) -> None:
    """Refuse samples and labels as one pair."""
    if y is None and isinstance(x, tuple) and len(x) == 2:
        raise ArgumentError(
            f"{what} needs 'y' beside 'x'; a pair is taken apart, as in {what}(*pair)"
        )


def _require_labels(session: Session, y: Any) -> None:
    if y is None and session.graph.takes_labels:
        raise EmptyDataError("the data have no labels; give (x, y)")


def _squeezed(found: FloatArray) -> FloatArray:
    """Leave out those of channel, height and width that are 1."""
    return found.reshape(-1, *(size for size in found.shape[1:] if size != 1))
