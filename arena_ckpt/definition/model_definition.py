"""The definition of a model: its layers, blocks, properties, optimizer and schedule.

`arena_ckpt.model_plans` makes memory plans of it; `arena_ckpt.model` adds what needs an
arena.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.arithmetics import ARITHMETICS, FAST
from arena_ckpt.common.collection import without_collection
from arena_ckpt.common.properties import (
    BOOLEAN,
    POSITIVE_INT,
    POSITIVE_REAL,
    Property,
    choice,
    parse_properties,
    split_strings,
    unknown_property,
    whole,
    write_properties,
)
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import few, quoted, shown
from arena_ckpt.data.standardization import Standardization
from arena_ckpt.definition.foreign_state import ForeignState
from arena_ckpt.definition.ini_writer import write_ini
from arena_ckpt.definition.layer_changes import replacement, with_trainable
from arena_ckpt.definition.model_summary import ModelSummary, summarize
from arena_ckpt.definition.module_layers import layers_of_module
from arena_ckpt.definition.nntrainer_dialect import write_nntrainer_ini
from arena_ckpt.errors import (
    DuplicateNameError,
    InvalidParameterError,
    ModelWarning,
)
from arena_ckpt.graph.blocks import CheckpointBlock, check_block, check_consecutive
from arena_ckpt.graph.build import Graph, build_graph
from arena_ckpt.graph.connections import find_output, forward_order
from arena_ckpt.graph.hints import Hint, graph_hints, restart_hint
from arena_ckpt.layers import create_layer
from arena_ckpt.layers.base import Layer
from arena_ckpt.optim.learning_rates import Schedule
from arena_ckpt.optim.optimizers import Optimizer, create_optimizer

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
        "processor cores that share the work of large kernels; the bits are the same "
        "with any number",
    ),
    Property(
        "clip_grad_by_norm",
        POSITIVE_REAL,
        None,
        "scale all gradients down together where their global norm is larger",
    ),
    Property(
        "arithmetic",
        choice(*ARITHMETICS),
        FAST,
        "portable fixes the order of every sum, and gives the same bits on every "
        "processor and in C; fast leaves it to the BLAS library",
    ),
    Property(
        "drop_last",
        BOOLEAN,
        False,
        "training leaves the samples of an epoch out that fill no whole batch",
    ),
)
_PROPERTY_NAMES = frozenset(declared.name for declared in MODEL_PROPERTIES)
_PLANNED = (
    "batch_size",
    "memory_optimization",
    "micro_batches",
    "clip_grad_by_norm",
    "threads",
    "arithmetic",
)


_DIALECTS = ("arena_ckpt", "nntrainer")


class ModelDefinition:
    """The layers, blocks, properties, optimizer and schedule of a model.

    Parameters
    ----------
    seed : int
        From 0 to 2⁶⁴ - 1; decides the initial weights and the order of samples.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._layers: dict[str, Layer] = {}
        self._blocks: list[CheckpointBlock] = []
        self._block_of: dict[str, CheckpointBlock] = {}
        # Places in forward order, while nothing is read before it is added.
        self._place: dict[str, int] | None = {}
        self._n_of_type: Counter[str] = Counter()
        self._properties: dict[str, Any] = {}
        self._optimizer = create_optimizer("sgd")
        self._schedule: Schedule | None = None
        self._graph: Graph | None = None
        self._graph_hints: tuple[Hint, ...] = ()
        self._told: tuple[Hint, ...] = ()
        self._classes: tuple[str, ...] | None = None
        self._means: tuple[float, ...] | None = None
        self._standardization: Standardization | None = None
        self._start: dict[str, Any] = {}  # weights by name, in place of drawn ones
        self._foreign: ForeignState | None = None

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; refuse properties, which `set_property` sets."""
        if name in _PROPERTY_NAMES:
            raise InvalidParameterError(
                f"{name} is a property of the model; set it with "
                f"set_property({name}={quoted(value)})",
                property=name,
                value=value,
            )
        super().__setattr__(name, value)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, by their numbers; None where they have no names.

        They are those of the first data set with names that it was trained on.
        """
        return self._classes

    @property
    def column_means(self) -> tuple[float, ...] | None:
        """What is filled in for cells of a table without a value, for each column.

        They are the means of the first data that it was trained on which were read with
        `missing`; None where there were none.
        """
        return self._means

    @property
    def standardization(self) -> Standardization | None:
        """Statistics by which the inputs are standardized; None where they are not."""
        return self._standardization

    @property
    def seed(self) -> int:
        """Seed of the initial weights, the order of samples, and dropout."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._require_before("Cannot change the seed after initialization")
        self._seed = seed

    def _require_before(self, message: str) -> None:
        """Refuse a change that comes too late; a definition alone can always change."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {  # adding to a copy adds to the copy alone
            "_layers": dict(self._layers),
            "_blocks": list(self._blocks),
            "_block_of": dict(self._block_of),
            "_n_of_type": Counter(self._n_of_type),
            "_place": None if self._place is None else dict(self._place),
            "_properties": dict(self._properties),
        }

    # -- building --------------------------------------------------------------

    @public_call
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
            n_same = self._n_of_type[layer.type_name]
            name = _free_name(layer.type_name, n_same, self._layers)
            layer = layer.with_values(name=name)
        if layer.name in self._layers:
            raise DuplicateNameError(
                f"a layer named {layer.name!r} already exists; names must be unique",
                name=layer.name,
            )
        if self._place is not None:
            sources = layer["input_layers"] or ()
            if all(find_output(source, self._layers) for source in sources):
                self._place[layer.name] = len(self._place)
            else:
                self._place = None
        self._layers[layer.name] = layer
        self._n_of_type[layer.type_name] += 1
        self._graph = None

    @public_call
    def replace_layer(
        self,
        name: str,
        layer: Layer | str | None = None,
        properties: Sequence[str] = (),
        **values: object,
    ) -> None:
        """Put another layer in the place of one, under the same name.

        The names of classes are forgotten: the data of the next training bring theirs.

        Parameters
        ----------
        name : str
            The layer to replace.
        layer : Layer or str, optional
            What `create_layer` returned, or a type name for it; by default the layer as
            it is, with `properties` and `values` changed:
            ``replace_layer("logits", unit=3)``. It reads the same layers, unless it has
            ``input_layers`` of its own.
        properties, **values
            Passed to `create_layer`.

        Raises
        ------
        UnknownLayerError
            There is no layer of this name.
        InvalidParameterError
            An unknown type or property, an impossible value, or another name; the model
            is unchanged.
        AfterInitializationError
            The model is initialized.
        """
        self._require_before("Cannot replace a layer after initialization")
        new = replacement(self._layers, name, layer, properties, values)
        if new["input_layers"] != self._layers[name]["input_layers"]:
            self._place = None
        self._layers[name] = new
        self._start = {
            weight: value
            for weight, value in self._start.items()
            if weight.rpartition(":")[0] != name
        }
        self._classes = None
        self._graph = None

    @public_call(hint="give several patterns as a list, freeze(['conv*', 'fc1'])")
    def freeze(self, patterns: str | Iterable[str]) -> tuple[str, ...]:
        """Train the weights of some layers no more: set ``trainable=false`` there.

        Frozen weights take no gradients and no states of the optimizer, and lie beside
        the arena. Frozen batch normalization uses its moving statistics.

        Parameters
        ----------
        patterns : str or iterable of str
            Names of layers, or patterns of them as `fnmatch` reads them, ``"conv*"``.
            Layers without weights are passed over.

        Returns
        -------
        tuple of str
            Names of the layers that are frozen by this.

        Raises
        ------
        UnknownLayerError
            A pattern matches no layer; nothing is changed.
        InvalidParameterError
            A pattern matches only layers without weights; nothing is changed.
        AfterInitializationError
            The model is initialized, and its plan is one for these weights.
        """
        return self._set_trainable(patterns, False)

    @public_call(hint="give several patterns as a list, unfreeze(['conv*', 'fc1'])")
    def unfreeze(self, patterns: str | Iterable[str]) -> tuple[str, ...]:
        """Train the weights of some layers again; see `freeze`."""
        return self._set_trainable(patterns, True)

    def _set_trainable(
        self, patterns: str | Iterable[str], trainable: bool
    ) -> tuple[str, ...]:
        self._require_before(
            f"Cannot {'unfreeze' if trainable else 'freeze'} layers after "
            "initialization, because the memory plan depends on it: take an "
            "uninitialized copy with model.definition(), or of a saved model with "
            "load(path, initialize=False)"
        )
        changed = with_trainable(self._layers, patterns, trainable)
        self._layers.update(changed)
        self._graph = None
        return tuple(changed)

    @public_call
    def add_checkpoint_block(
        self,
        layers: Sequence[str] | None = None,
        name: str = "",
        *,
        module: str | None = None,
    ) -> None:
        """Drop the inner activations of consecutive layers and recompute them.

        Parameters
        ----------
        layers : sequence of str
            At least two layer names, consecutive in forward order.
        name : str
            Name in reports and INI sections; one is made up where it is empty.
        module : str, optional
            In place of `layers`: all layers of a module of an imported model,
            ``"layer1.0"``; the block has its name where `name` is empty.

        Raises
        ------
        CheckpointBlockError
            Fewer than two layers, unknown ones, repeated ones, not consecutive, in
            reversed order, or in another block already; the model is unchanged.
        AfterInitializationError
            The model is initialized.
        """
        self._require_before("Cannot add checkpoint block after initialization")
        if module is not None:
            if layers is not None:
                raise InvalidParameterError(
                    "give a checkpoint block either its layers or the module that they "
                    "belong to",
                    layers=layers,
                    module=module,
                )
            layers = layers_of_module(self._layers, module)
            name = name or module
        if isinstance(layers, str):
            layers = [part.strip() for part in layers.split(",")]
        if not isinstance(layers, Iterable):
            raise InvalidParameterError(
                f"layers={quoted(layers)} is not possible; give a checkpoint block the "
                "names of at least two layers, for example ['fc1', 'fc2']",
                layers=layers,
            )
        try:
            layers = tuple(n if isinstance(n, str) else shown(n) for n in few(layers))
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(
                f"layers={quoted(layers)} cannot be read: {error}", layers=layers
            ) from None
        if not isinstance(name, str) or not name.isprintable():
            raise InvalidParameterError(
                f"name={quoted(name)} is not possible; the name of a block is a text "
                "that can be printed",
                name=name,
            )
        taken = [block.name for block in self._blocks]
        if name in taken:
            raise DuplicateNameError(
                f"a checkpoint block named {name!r} already exists", name=name
            )
        name = name or _free_name("block", len(taken), taken)
        block = CheckpointBlock(layers, name)
        parts = [n for n in layers if self._is_part(n)]
        known = self._layers.keys() | parts if parts else self._layers
        check_block(block, known, self._block_of)
        if not parts:
            self._check_consecutive(layers)
        self._block_of.update(dict.fromkeys(layers, block))
        self._blocks.append(block)
        self._graph = None

    def _is_part(self, name: str) -> bool:
        """Tell whether a name looks like LAYER/PART, where LAYER may have ``/`` too."""
        places = [place for place, letter in enumerate(name) if letter == "/"]
        return name not in self._layers and any(
            name[:place] in self._layers for place in places
        )

    def _check_consecutive(self, layers: Sequence[str]) -> None:
        place = self._place
        if place is None:
            order = forward_order(self.layers)
            if order is None:  # more layers must come before it can be said
                return
            place = {name: index for index, name in enumerate(order)}
        check_consecutive(layers, place)

    @public_call
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
        if parsed.get("arithmetic", self.get_property("arithmetic")) != (
            self.get_property("arithmetic")
        ):
            self._graph = None
        self._properties |= parsed

    @public_call
    def get_property(self, name: str) -> Any:
        """Return a property of the model, or its default."""
        defaults = {p.name: p.default for p in MODEL_PROPERTIES}
        if not isinstance(name, str) or name not in defaults:
            raise unknown_property("model", name, defaults)
        return self._properties.get(name, defaults[name])

    @public_call
    def set_optimizer(
        self,
        optimizer: Optimizer | str,
        properties: Sequence[str] = (),
        **values: Any,
    ) -> None:
        """Choose the optimizer, which is sgd by default.

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

    @public_call
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
                f"{quoted(schedule)} is no learning-rate scheduler; make one with "
                "create_schedule, for example create_schedule('constant', "
                "learning_rate=0.1)",
                schedule=schedule,
            )
        self._schedule = schedule

    # -- what was built --------------------------------------------------------

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order in which they were added."""
        return tuple(self._layers.values())

    @property
    def blocks(self) -> tuple[CheckpointBlock, ...]:
        """The checkpoint blocks in the order in which they were added."""
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

    @public_call
    def save_ini(
        self, path: str | os.PathLike[str], *, dialect: str = "arena_ckpt"
    ) -> tuple[str, ...]:
        """Write the model, without its weights, as an INI file for `load_ini`.

        Parameters
        ----------
        path : path
            An existing file is replaced; the folder has to exist.
        dialect : {"arena_ckpt", "nntrainer"}
            ``nntrainer`` writes only what NNTrainer accepts. What changes how the model
            trains or is planned, such as checkpoint blocks and the momentum of sgd, is
            left out and said; what changes its outputs is refused.

        Returns
        -------
        tuple of str
            What was left out, which comments at the head of the file say as well;
            nothing in our own dialect.

        Raises
        ------
        IniError
            A name that an INI section cannot have, what NNTrainer has no counterpart
            for, or a file that cannot be written; no file was changed.
        InvalidParameterError
            Another dialect.
        """
        require_value(
            "dialect",
            dialect,
            fits=isinstance(dialect, str) and dialect in _DIALECTS,
            expected=" or ".join(map(repr, _DIALECTS)),
        )
        parts: dict[str, Any] = {
            "properties": write_properties(MODEL_PROPERTIES, self._properties),
            "layers": self.layers,
            "blocks": self._blocks,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
            "seed": self.seed,
        }
        if dialect == "nntrainer":
            return write_nntrainer_ini(path, **parts)
        write_ini(path, **parts)
        return ()

    @public_call
    def summary(self) -> ModelSummary:
        """Return what each layer makes, trains and takes, and the totals.

        Nothing is printed, allocated or changed; ``print(model.summary())`` shows a
        table. A model needs no loss for it.

        Returns
        -------
        ModelSummary
            A sequence with a row for each layer in forward order.

        Raises
        ------
        GraphError, UnknownLayerError, CheckpointBlockError
            See `compile`.
        """
        return summarize(
            self._built(),
            [(layer.name, layer.type_name) for layer in self.layers],
            batch_size=self.get_property("batch_size"),
            optimizer=self._optimizer,
        )

    @public_call
    def compile(self) -> Graph:
        """Validate layers and blocks, and return them in forward order.

        Returns
        -------
        Graph
            The layers with their parts in forward order, as plans name them. Without a
            loss it can be planned for inference alone.

        Raises
        ------
        GraphError, UnknownLayerError, CheckpointBlockError
            See `arena_ckpt.graph.build.build_graph`.

        Warns
        -----
        ModelWarning
            For each of `warnings` that was not issued yet for this model.
        """
        graph = self._built()
        self._tell(self.warnings())
        return graph

    @public_call
    def warnings(self) -> tuple[Hint, ...]:
        """Return what the model probably does not mean so; issue no warning.

        Returns
        -------
        tuple of Hint
            Each with its `kind`, the `layers` it is about and a `message` that says
            what to do; see `arena_ckpt.graph.hints`.

        Raises
        ------
        GraphError, UnknownLayerError, CheckpointBlockError
            See `compile`.
        """
        self._built()
        # An epoch has an iteration at least; `train` knows how many.
        epochs = self.get_property("epochs")
        restart = restart_hint(self._schedule, 0, epochs, is_least=True)
        return self._graph_hints + (() if restart is None else (restart,))

    @without_collection
    def _built(self) -> Graph:
        if self._graph is None:
            graph = build_graph(
                self.layers,
                self._blocks,
                needs_loss=False,
                arithmetic=self.get_property("arithmetic"),
                threads=self.get_property("threads"),
            )
            self._graph_hints = graph_hints(graph)
            self._graph = graph
        return self._graph

    def _tell(self, hints: Iterable[Hint]) -> None:
        """Issue those hints as warnings that were not issued before.

        Raises
        ------
        ModelWarning
            Raised where warnings are errors: one error with the messages of all.
        """
        raised = []
        new = [hint for hint in hints if hint not in self._told]
        for hint in new:
            try:
                warn_user(hint.message, ModelWarning)
            except ModelWarning as warning:
                raised.append(str(warning))
        if raised:
            raise ModelWarning("\n".join(raised))
        if new:
            self._told = (*self._told, *new)


def _free_name(stem: str, start: int, taken: Iterable[str]) -> str:
    number = start
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}"
