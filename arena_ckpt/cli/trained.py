"""Models with trained weights, for the commands that use them: evaluate, predict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from arena_ckpt.cli.models import LoadedModel
from arena_ckpt.cli.options import set_given
from arena_ckpt.common.named_errors import named_errors
from arena_ckpt.common.names import tensor_name
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import quote
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.data.gaps import take_means
from arena_ckpt.data.standardization import COLUMN, Standardization
from arena_ckpt.errors import ArenaWarning, DataError, InvalidParameterError
from arena_ckpt.files.npz import read_arrays
from arena_ckpt.graph.features import feature_axes, input_shapes
from arena_ckpt.model import Model, copy_of, take_statistics
from arena_ckpt.planning.settings import INFERENCE
from arena_ckpt.training.saved_state import SavedState, trains_others

Weights = Mapping[str, npt.NDArray[Any]]


def initialize_trained(
    loaded: LoadedModel,
    spec: str,
    weights_file: Path | None,
    *,
    mode: str,
    debug: bool,
    **properties: int | str | None,
) -> Model:
    """Return a model that is initialized for a mode and has its trained weights.

    Parameters
    ----------
    loaded : LoadedModel
        What `spec` named; it is not changed.
    spec : str
        For messages.
    weights_file : Path or None
        An .npz with every weight, which ``train --save-weights`` wrote.
    mode : {"train", "inference"}
    debug : bool
    **properties
        Properties of the model to set, where they are not None.

    Raises
    ------
    InvalidParameterError
        There are no trained weights, two sources of them, or not those of the model.
    DataError
        A file of weights that cannot be read.
    """
    weights, statistics = _given_weights(loaded, spec, weights_file)
    model = copy_of(loaded.model)
    take_statistics(model, statistics)
    set_given(model, **properties)
    model.initialize(debug=debug, mode=mode)
    _set_all(model, weights, spec if weights_file is None else str(weights_file))
    return model


def with_known_means(
    tables: Mapping[str, Any], loaded: LoadedModel, weights_file: Path | None
) -> dict[str, Any]:
    """Return options of tables, with means that a model keeps for ``--missing mean``.

    They are those of its training data: what it predicts for a sample does not depend
    on the samples beside it.

    Warns
    -----
    ArenaWarning
        The model keeps none.
    """
    options = dict(tables)
    if options.get("missing") != "mean":
        return options
    means, statistics = loaded.model.column_means, loaded.model.standardization
    if weights_file is not None and weights_file.suffix.lower() == ".npz":
        arrays = dict(read_arrays(weights_file))
        graph = loaded.model.compile()
        with named_errors(str(weights_file), InvalidParameterError):
            means = take_means(arrays, input_shapes(graph))
            statistics = Standardization.take_from(arrays, feature_axes(graph))
    if means is None and statistics is not None and len(statistics.inputs) == 1:
        (only,) = statistics.inputs.values()
        means = only.mean if only.axis == COLUMN else None
    if means is None:
        warn_user(
            "--missing mean: the model keeps no means of its training data, so cells "
            "without a value are filled in with those of the file that they are in; "
            "train with --missing mean, or leave rows out with --missing drop",
            ArenaWarning,
        )
    else:
        options["missing"] = means
    return options


def _given_weights(
    loaded: LoadedModel, spec: str, weights_file: Path | None
) -> tuple[Weights, Standardization | None]:
    """Return weights, and the statistics of the inputs that go with them."""
    if weights_file is None:
        statistics = loaded.model.standardization
        if loaded.state is not None:
            return loaded.state.arrays, statistics
        if loaded.brings_weights:
            return loaded.model._start, statistics
        if loaded.model.is_initialized:  # by a function in a Python file
            return loaded.model.weights(), statistics
        raise InvalidParameterError(
            f"{spec} has no trained weights; add --weights W.npz, which 'arena-ckpt "
            f"train {spec} --save-weights W.npz' writes, or name the file that 'train "
            "--save OUT.safetensors' wrote in place of MODEL",
            model=spec,
        )
    if loaded.state is not None:
        raise InvalidParameterError(
            f"{spec} has weights of its own; leave out --weights, or name the model "
            "that they are of",
            model=spec,
        )
    if weights_file.suffix.lower() == ".safetensors":
        raise InvalidParameterError(
            f"{weights_file} is a saved model with its weights; name it in place of "
            f"{spec}, without --weights",
            path=str(weights_file),
        )
    arrays = dict(read_arrays(weights_file))
    graph = loaded.model.compile()
    with named_errors(str(weights_file), InvalidParameterError):
        take_means(arrays, input_shapes(graph))  # for tables, see `with_known_means`
        statistics = Standardization.take_from(arrays, feature_axes(graph))
        if statistics is not None:
            statistics.require_fit(input_shapes(graph))
    own = {
        tensor_name(node.name, weight.name)
        for node in graph.nodes
        for weight in node.own_weights
    }
    unknown = [name for name in arrays if name not in own]
    if unknown:
        raise InvalidParameterError(
            f"{weights_file} has {quote(unknown)}, and {spec} has not: the weights are "
            "of another model",
            path=str(weights_file),
            unknown=tuple(unknown),
        )
    return arrays, statistics


def _set_all(model: Model, weights: Weights, source: str) -> None:
    """Overwrite every weight of a model; refuse a source that lacks one."""
    own = model.weights()
    missing = [name for name in own if name not in weights]
    if missing:
        raise InvalidParameterError(
            f"{source} has no {quote(missing)}: it is of another model; give the "
            "weights of this one",
            path=source,
            missing=tuple(missing),
        )
    with named_errors(source, InvalidParameterError, DataError):
        model.set_weights({name: weights[name] for name in own})


def require_one_start(spec: str, loaded: LoadedModel, init: Path | None) -> None:
    """Refuse weights to begin with for a model that has weights of its own.

    Raises
    ------
    InvalidParameterError
    """
    if init is not None and loaded.state is not None:
        raise InvalidParameterError(
            f"{spec} has weights of its own, and --init {init} has others; leave one "
            "out, or name the model without its weights, for example as .ini",
            model=spec,
            init=str(init),
        )


def go_on_from(model: Model, state: SavedState) -> int:
    """Give an initialized model the state of a saved one, to train on from there.

    Returns
    -------
    int
        The iteration from which it goes on.

    Warns
    -----
    ArenaWarning
        The model was saved for inference, without states of the optimizer: weights
        alone are taken over.
    """
    own = model.weights()
    if own.keys() == state.arrays.keys() and model.optimizer.state_names:
        model.set_weights(state.arrays)
        warn_user(
            f"{state.path} was saved for inference and has weights alone: the states "
            "of the optimizer and the iteration begin anew",
            ArenaWarning,
        )
        return 0
    begins_anew = trains_others(model.plan, state)
    model.restore(state)
    return 0 if begins_anew else state.document.iteration


def with_weights_of(model: Model, state: SavedState) -> Model:
    """Return a copy of a model, initialized for inference, with saved weights."""
    copy = copy_of(model)
    copy.initialize(mode=INFERENCE)
    _set_all(copy, state.arrays, state.path)
    return copy


def standardize_by(
    model: Model, training: Dataset, state: SavedState | None, spec: str
) -> None:
    """Let a model standardize its inputs by its training data.

    Raises
    ------
    InvalidParameterError
        It is a saved one, whose weights were trained on inputs as they were then.
    """
    if state is not None:
        known = (
            "without statistics of its inputs, and its weights would not fit"
            if model.standardization is None
            else "with statistics of its own, which it keeps"
        )
        raise InvalidParameterError(
            f"{spec} was saved {known}; leave out --standardize", model=spec
        )
    model.standardize(training)


def standardization_text(statistics: Standardization, source: str | None) -> str:
    """Return a line that says which inputs are standardized, and by what.

    Parameters
    ----------
    statistics : Standardization
    source : str or None
        The file that the statistics come from; None means the training data.
    """
    inputs = ", ".join(
        f"{name} (1 {one.axis})"
        if len(one.mean) == 1
        else f"{name} ({len(one.mean):,} {one.axis}s)"
        for name, one in statistics.inputs.items()
    )
    by = "the training data" if source is None else f"the statistics in {source}"
    return f"inputs are standardized by {by}: {inputs}"
