"""What a user touches: build a model, plan its memory, train it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.arena import CANARY_BYTES, check_fits
from arena_ckpt.data import Dataset
from arena_ckpt.errors import (
    AfterInitializationError,
    DuplicateNameError,
    EmptyDataError,
    InvalidParameterError,
    NotInitializedError,
    StateError,
)
from arena_ckpt.graph import (
    CheckpointBlock,
    Graph,
    build_graph,
    check_block,
    check_consecutive,
    forward_order,
)
from arena_ckpt.ini_text import write_ini
from arena_ckpt.layers import create_layer
from arena_ckpt.layers.base import Layer
from arena_ckpt.optimizers import Optimizer, create_optimizer
from arena_ckpt.plan import MemoryPlan
from arena_ckpt.planner import make_plan
from arena_ckpt.progress import compile_progress
from arena_ckpt.properties import (
    BOOLEAN,
    POSITIVE_INT,
    POSITIVE_REAL,
    Property,
    parse_properties,
    split_strings,
    unknown_property,
    whole,
    write_properties,
)
from arena_ckpt.samples import Samples
from arena_ckpt.schedules import Schedule
from arena_ckpt.session import Evaluation, FloatArray, Session
from arena_ckpt.training import EpochRecord, History, train

MODEL_PROPERTIES = (
    Property("batch_size", POSITIVE_INT, 1, "samples of one iteration"),
    Property("epochs", POSITIVE_INT, 1, "passes over the training data"),
    Property(
        "memory_optimization",
        BOOLEAN,
        True,
        "false gives every tensor bytes of its own, for comparison",
    ),
    Property(
        "micro_batches",
        POSITIVE_INT,
        1,
        "passes that an iteration is split into; their gradients are added up",
    ),
    Property(
        "threads",
        whole(1, 64),
        1,
        "processor cores that large kernels may use; results can differ in the last "
        "bits between numbers of threads, never between runs",
    ),
    Property(
        "clip_grad_by_norm",
        POSITIVE_REAL,
        None,
        "scale all gradients down together where their global norm is larger",
    ),
)
_TRAIN_PROPERTIES = (
    Property("epochs", POSITIVE_INT, 1, "passes over the training data"),
    Property("shuffle", BOOLEAN, True, "a new order of samples for every epoch"),
)
_PLANNED = (
    "batch_size",
    "memory_optimization",
    "micro_batches",
    "clip_grad_by_norm",
    "threads",
)

XY = tuple[Any, Any] | Dataset


class Model:
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
        self.seed = seed
        self._layers: dict[str, Layer] = {}
        self._blocks: list[CheckpointBlock] = []
        self._properties: dict[str, Any] = {}
        self._optimizer = create_optimizer("sgd")
        self._schedule: Schedule | None = None
        self._graph: Graph | None = None
        self._session: Session | None = None

    # -- building --------------------------------------------------------------

    def add_layer(
        self, layer: Layer | str, properties: Sequence[str] = (), **values: object
    ) -> None:
        """Add a layer; without ``input_layers`` it reads the one added before.

        Parameters
        ----------
        layer : Layer or str
            What `create_layer` returned, or a type name for it.
        properties, **values
            Passed to `create_layer` with a type name.

        Raises
        ------
        InvalidParameterError
            An unknown type or property, an impossible value, a name that is taken, or
            the model is initialized; the model is unchanged.
        """
        self._require_before("Cannot add a layer after initialization")
        if not isinstance(layer, Layer):
            layer = create_layer(layer, properties, **values)
        elif properties or values:
            changes = split_strings(f"layer of type {layer.type_name}", properties)
            values = dict(layer.given) | changes | values
            layer = create_layer(layer.type_name, (), **values)
        if layer["name"] is None:
            same = [o for o in self.layers if o.type_name == layer.type_name]
            name = _free_name(layer.type_name, len(same), self._layers)
            layer = layer.with_values(name=name)
        if layer.name in self._layers:
            raise DuplicateNameError(
                f"a layer named {layer.name!r} already exists; names must be unique",
                name=layer.name,
            )
        self._layers[layer.name] = layer
        self._graph = None

    def add_checkpoint_block(self, layers: Sequence[str], name: str = "") -> None:
        """Drop the inner activations of consecutive layers and recompute them.

        Parameters
        ----------
        layers : sequence of str
            At least two layer names, consecutive in forward order.
        name : str
            For reports and INI sections; made up where empty.

        Raises
        ------
        CheckpointBlockError
            Fewer than two layers, unknown ones, repeated ones, not consecutive, in
            reversed order, or in another block already; the model is unchanged.
        AfterInitializationError
            The model is initialized.
        """
        self._require_before("Cannot add checkpoint block after initialization")
        if isinstance(layers, str):
            layers = [part.strip() for part in layers.split(",")]
        if not isinstance(layers, Iterable):
            raise InvalidParameterError(
                f"layers={layers!r} is not possible; give a checkpoint block the names "
                "of at least two layers, for example ['fc1', 'fc2']",
                layers=layers,
            )
        layers = tuple(str(layer) for layer in layers)
        if not isinstance(name, str):
            raise InvalidParameterError(
                f"name={name!r} is not possible; the name of a block is a text",
                name=name,
            )
        taken = [block.name for block in self._blocks]
        if name in taken:
            raise DuplicateNameError(
                f"a checkpoint block named {name!r} already exists", name=name
            )
        name = name or _free_name("block", len(taken), taken)
        block = CheckpointBlock(layers, name)
        check_block(block, self._layers, self._blocks)
        order = forward_order(self.layers)
        if order is not None:
            check_consecutive(block.layers, order)
        self._blocks.append(block)
        self._graph = None

    def set_property(self, properties: Sequence[str] = (), **values: object) -> None:
        """Set properties of the model: `MODEL_PROPERTIES` lists them.

        Parameters
        ----------
        properties : sequence of str
            NNTrainer-style ``["batch_size=32", "epochs=10"]``.
        **values
            The same as keyword arguments; these win.

        Raises
        ------
        InvalidParameterError
            An unknown property or an impossible value; nothing is set then.
        AfterInitializationError
            A property that the plan depends on, after `initialize`.
        """
        given = split_strings("model", properties) | values
        parsed = parse_properties("model", MODEL_PROPERTIES, given)
        for key, value in parsed.items():
            if key in _PLANNED and value != self.get_property(key):
                self._require_before(
                    f"Cannot change {key} after initialization, because the memory "
                    "plan depends on it"
                )
        self._properties |= parsed

    def get_property(self, name: str) -> Any:
        """Return a property of the model, or its default."""
        defaults = {p.name: p.default for p in MODEL_PROPERTIES}
        if not isinstance(name, str) or name not in defaults:
            raise unknown_property("model", name, defaults)
        return self._properties.get(name, defaults[name])

    def set_optimizer(
        self,
        optimizer: Optimizer | str,
        properties: Sequence[str] = (),
        **values: Any,
    ) -> None:
        """Choose the optimizer (by default sgd).

        Parameters
        ----------
        optimizer : Optimizer or str
            What `create_optimizer` returned, or a type name for it.
        properties, **values
            Passed to `create_optimizer`; they change an optimizer that is given.

        Raises
        ------
        InvalidParameterError
            An unknown type or property, or an impossible value; nothing is changed.
        AfterInitializationError
            The plan holds the states of another one.
        """
        self._require_before("Cannot set the optimizer after initialization")
        if not isinstance(optimizer, Optimizer):
            optimizer = create_optimizer(optimizer, properties, **values)
        elif properties or values:
            changes = split_strings(f"optimizer {optimizer.type_name}", properties)
            values = dict(optimizer.given) | changes | values
            optimizer = create_optimizer(optimizer.type_name, (), **values)
        self._optimizer = optimizer

    def set_learning_rate_scheduler(self, schedule: Schedule | None) -> None:
        """Let the learning rate change with the iterations; see `create_schedule`.

        Parameters
        ----------
        schedule : Schedule or None
            What `create_schedule` returned; None takes the rate of the optimizer again.

        Raises
        ------
        InvalidParameterError
            Something else.
        """
        if schedule is not None and not isinstance(schedule, Schedule):
            raise InvalidParameterError(
                f"{schedule!r} is no learning-rate scheduler; make one with "
                "create_schedule, for example create_schedule('constant', "
                "learning_rate=0.1)",
                schedule=schedule,
            )
        self._schedule = schedule
        if self._session:
            self._session.schedule = schedule

    # -- what was built --------------------------------------------------------

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, as added."""
        return tuple(self._layers.values())

    @property
    def blocks(self) -> tuple[CheckpointBlock, ...]:
        """The checkpoint blocks, as added."""
        return tuple(self._blocks)

    @property
    def properties(self) -> Mapping[str, Any]:
        """The properties that were set."""
        return dict(self._properties)

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        return self._optimizer

    @property
    def schedule(self) -> Schedule | None:
        """The learning-rate scheduler, or None."""
        return self._schedule

    def save_ini(self, path: str | os.PathLike[str]) -> None:
        """Write the model, without its weights, as an INI file for `load_ini`.

        Raises
        ------
        IniError
            A name that an INI section cannot have, or a file that cannot be written;
            no file was changed.
        """
        write_ini(
            path,
            properties=write_properties(MODEL_PROPERTIES, self._properties),
            layers=self.layers,
            blocks=self._blocks,
            optimizer=self._optimizer,
            schedule=self._schedule,
            seed=self.seed,
        )

    # -- planning --------------------------------------------------------------

    def compile(self) -> None:
        """Validate layers and blocks, and put them in order.

        Raises
        ------
        GraphError, UnknownLayerError, CheckpointBlockError
            See `arena_ckpt.graph.build_graph`.
        """
        self._graph = build_graph(self.layers, self._blocks)

    def make_plan(self, *, debug: bool = False) -> MemoryPlan:
        """Return the memory plan without allocating anything.

        Raises
        ------
        GraphError, UnknownLayerError, CheckpointBlockError
            See `compile`.
        InvalidParameterError
            More micro-batches than samples.
        """
        micro, batch = (
            self.get_property("micro_batches"),
            self.get_property("batch_size"),
        )
        if micro > batch:
            raise InvalidParameterError(
                f"micro_batches={micro} is more than batch_size={batch}: some passes "
                "would have no samples; make it smaller",
                micro_batches=micro,
                batch_size=batch,
            )
        if self._graph is None:
            self.compile()
        assert self._graph is not None
        return make_plan(
            self._graph,
            batch_size=self.get_property("batch_size"),
            micro_batches=self.get_property("micro_batches"),
            state_names=self._optimizer.state_names,
            clip=self.get_property("clip_grad_by_norm") is not None,
            share_memory=self.get_property("memory_optimization"),
            canary_bytes=CANARY_BYTES if debug else 0,
        )

    def initialize(self, *, debug: bool = False) -> MemoryPlan:
        """Plan the memory, allocate the arena, draw the weights, load the kernels.

        Parameters
        ----------
        debug : bool
            Guard every buffer with a canary, poison it when it dies, and look for NaN
            after each step. Slow; the results have the same bits.

        Returns
        -------
        MemoryPlan

        Raises
        ------
        AfterInitializationError
            It was initialized before.
        InvalidParameterError
            An impossible seed, or more micro-batches than samples.
        ArenaTooLargeError
            The arena is larger than the memory that is free; nothing was allocated.
        """
        self._require_before("The model is already initialized")
        seed = self._checked_seed()
        plan = self.make_plan(debug=debug)
        check_fits(plan.arena_bytes, "the arena")
        assert self._graph is not None
        with compile_progress() as report:
            self._session = Session(
                self._graph,
                plan,
                self._optimizer,
                self._schedule,
                seed=seed,
                max_norm=self.get_property("clip_grad_by_norm"),
                threads=self.get_property("threads"),
                debug=debug,
                report=report,
            )
        return plan

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

    def train_step(self, x: Any, y: Any) -> float:
        """Run one iteration on a batch and return its loss.

        Parameters
        ----------
        x : array_like, shape (n, …)
            At most `batch_size` samples, flat or in the shape of the input; a dict by
            input layer where there are several.
        y : array_like, shape (n, …) or (n,)
            Values of the output's shape, or class numbers for cross_softmax.

        Raises
        ------
        DataError
            Arrays that do not fit, or hold NaN or infinity.
        NonFiniteError
            A loss that is NaN or infinite; no weight was changed then.
        """
        with self._working("train_step") as session:
            _require_labels(y)
            return session.train_step(x, y)

    def compute_gradients(self, x: Any, y: Any) -> tuple[float, dict[str, FloatArray]]:
        """Return the loss of a batch and copies of the weight gradients.

        No weight changes. Gradients are those of the loss, with regularization and
        before clipping and weight decay; the names are those of `weights`.
        """
        with self._working("compute_gradients") as session:
            _require_labels(y)
            return session.compute_gradients(x, y)

    def train(
        self,
        data: XY,
        *,
        validation: XY | None = None,
        epochs: int | None = None,
        shuffle: bool = True,
        progress: bool | None = None,
        on_epoch: Callable[[EpochRecord], bool | None] | None = None,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        data : (x, y) or Dataset
        validation : (x, y) or Dataset, optional
            Evaluated after each epoch.
        epochs : int, optional
            By default the property of the model.
        shuffle : bool
            Draw a new order for every epoch, from the seed.
        progress : bool, optional
            Show a progress bar on standard error; by default where that is a terminal.
        on_epoch : callable, optional
            Called with the record of each epoch; returning True stops the training.

        Returns
        -------
        History
            A record for each epoch. After Ctrl-C its `interrupted` is true; the
            iteration under way was finished and the model stays usable.

        Raises
        ------
        NotInitializedError, InvalidParameterError, DataError, NonFiniteError
        """
        self._running("train")
        if epochs is None:
            epochs = self.get_property("epochs")
        given = parse_properties(
            "train", _TRAIN_PROPERTIES, {"epochs": epochs, "shuffle": shuffle}
        )
        if on_epoch is not None and not callable(on_epoch):
            raise InvalidParameterError(
                f"on_epoch={on_epoch!r} cannot be called; give a function that takes "
                "the record of an epoch",
                on_epoch=on_epoch,
            )
        with self._working("train") as session:
            return train(
                session,
                _samples(session, data),
                None if validation is None else _samples(session, validation),
                epochs=given["epochs"],
                seed=self._checked_seed(),
                shuffle=given["shuffle"],
                progress=progress,
                on_epoch=on_epoch,
            )

    # -- inference -------------------------------------------------------------

    def predict(self, x: Any) -> FloatArray:
        """Return predictions, ``(n, channel, height, width)`` of the output.

        They are probabilities where the loss is a cross entropy. Any number of samples
        is taken, `batch_size` at a time.
        """
        with self._working("predict") as session:
            return session.predict(x)

    def evaluate(self, data: XY) -> Evaluation:
        """Return loss and metric on a data set."""
        with self._working("evaluate") as session:
            return session.evaluate(_samples(session, data))

    # -- weights ---------------------------------------------------------------

    def weights(self) -> dict[str, FloatArray]:
        """Return copies of the weights by name, ``"fc1:weight"``."""
        with self._working("weights") as session:
            return session.weights()

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

    def _checked_seed(self) -> int:
        seed = self.seed
        is_whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
        if not is_whole or not 0 <= seed < 2**64:
            raise InvalidParameterError(
                f"seed={seed!r} is not possible; expected a whole number from 0 to "
                f"{2**64 - 1}",
                seed=seed,
            )
        return int(seed)

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to copy or pickle an arena: kernels hold its addresses."""
        if self._session is not None:
            raise StateError(
                "an initialized model cannot be copied or pickled; build another one "
                "the same way and give it the weights: other.set_weights(weights())"
            )
        return self.__dict__ | {  # adding to a copy adds to the copy alone
            "_layers": dict(self._layers),
            "_blocks": list(self._blocks),
            "_properties": dict(self._properties),
        }

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
        if not session.lock.acquire(blocking=False):
            raise StateError(
                f"{what}: another thread is using this model, and both would write "
                "into one arena; let them take turns, or build a model for each"
            )
        try:
            yield session
        finally:
            session.lock.release()

    def _require_before(self, message: str) -> None:
        if self._session is not None:
            raise AfterInitializationError(
                f"{message}; build a new Model for another configuration"
            )


def _samples(session: Session, data: XY) -> Samples:
    if isinstance(data, Dataset):
        data = (data.x, data.y)
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InvalidParameterError(
            f"data is a {type(data).__name__}; expected (x, y) or a Dataset"
        )
    x, y = data
    _require_labels(y)
    return session.samples(x, y)


def _require_labels(y: Any) -> None:
    if y is None:
        raise EmptyDataError("the data have no labels; give (x, y)")


def _free_name(stem: str, start: int, taken: Iterable[str]) -> str:
    number = start
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}"
