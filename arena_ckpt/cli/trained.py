"""Models with trained weights, for the commands that use them: evaluate, predict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from arena_ckpt.cli.models import LoadedModel
from arena_ckpt.cli.options import set_given
from arena_ckpt.cli.sample_files import named_errors
from arena_ckpt.common.names import tensor_name
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import quote
from arena_ckpt.errors import ArenaWarning, DataError, InvalidParameterError
from arena_ckpt.files.npz import read_arrays
from arena_ckpt.model import Model, copy_of
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
    weights = _given_weights(loaded, spec, weights_file)
    model = copy_of(loaded.model)
    set_given(model, **properties)
    model.initialize(debug=debug, mode=mode)
    _set_all(model, weights, spec if weights_file is None else str(weights_file))
    return model


def _given_weights(
    loaded: LoadedModel, spec: str, weights_file: Path | None
) -> Weights:
    if weights_file is None:
        if loaded.state is not None:
            return loaded.state.arrays
        if loaded.model.is_initialized:  # by a function in a Python file
            return loaded.model.weights()
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
    arrays = read_arrays(weights_file)
    own = {
        tensor_name(node.name, weight.name)
        for node in loaded.model.compile().nodes
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
    return arrays


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
