"""Imports models from files that `Model.save` or a training wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from arena_ckpt.common.arguments import public_call, require_value
from arena_ckpt.common.json_codec import decode
from arena_ckpt.common.units import format_bytes
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.definition.description import Description, build
from arena_ckpt.errors import (
    ArenaError,
    ArenaTooLargeError,
    ArenaWarning,
    PlanFormatError,
    SavedStateError,
    UnknownTypeError,
)
from arena_ckpt.files.source import path_text
from arena_ckpt.files.tensor_file import corrupt
from arena_ckpt.model import Model, take_statistics
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.training.saved_state import SavedState, read_state, require_fit


@public_call
def load(path: str | os.PathLike[str], *, initialize: bool = True) -> Model:
    """Load a model with its state; it goes on as if it had never been saved.

    Parameters
    ----------
    path : path
        What `Model.save` wrote, or a state in the folder of a training.
    initialize : bool
        False returns the model as it was defined, without its state: its layers can be
        frozen or replaced, and after ``model.initialize()``
        ``model.take_weights(path)`` gives it the weights that still fit.

    Returns
    -------
    Model
        Initialized with the plan that it had, in debug mode or for inference if it was.

    Raises
    ------
    SavedStateNotFoundError
        There is no such file.
    CorruptSavedStateError
        It is cut short, altered or of another format.
    SavedStateVersionError
        It was written by a newer version of this package.
    SavedStateError
        It cannot be read, or has layers of a type that is not known here.
    ArenaTooLargeError
        The arena is larger than the memory that is free.

    Notes
    -----
    Nothing in the file is run. A plan of an older version of this package is made anew,
    which an `ArenaWarning` says; the weights are the same.
    """
    require_value(
        "initialize",
        initialize,
        fits=isinstance(initialize, bool),
        expected="True or False",
    )
    saved = read_saved(path)
    model, state = saved.model, saved.state
    if not initialize:
        return model
    with _failures_named(state.path):
        plan = saved.plan or model.make_plan()
    require_fit(plan, state)  # before memory is taken for stated sizes
    with _failures_named(state.path):
        debug = plan.canary_bytes > 0
        model.initialize(plan=plan, debug=debug, mode=plan.mode)
    if saved.plan is None:
        warn_user(
            f"the memory plan in {state.path} is of another version of arena_ckpt "
            f"({state.document.package}); planned anew: "
            f"{format_bytes(plan.arena_bytes)}",
            ArenaWarning,
        )
    model.restore(state)
    return model


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A saved model whose plan can still be chosen.

    Attributes
    ----------
    model : Model
        Not initialized.
    state : SavedState
        What `Model.restore` takes after `Model.initialize`.
    plan : MemoryPlan or None
        The plan with which it was saved; None if it is of another version.
    """

    model: Model
    state: SavedState
    plan: MemoryPlan | None


def read_saved(path: str | os.PathLike[str]) -> SavedModel:
    """Read a saved model without initializing it.

    Raises
    ------
    SavedStateError
        See `load`.
    """
    state = read_state(path_text(path))
    with _failures_named(state.path):
        description: Description = decode(Description, state.document.model)
        model = Model(description.seed)
        build(description, model)
        take_statistics(model, state.document.standardization)
        model._classes = state.document.classes  # data are numbered by them
        model._means = state.document.means
        model._foreign = state.foreign
        plan = _plan(state)
    if plan is not None:
        require_fit(plan, state)
    return SavedModel(model, state, plan)


def _plan(state: SavedState) -> MemoryPlan | None:
    """Return the plan in a file, or None if it is of another version."""
    try:
        plan = MemoryPlan.from_json(state.plan_json)
    except PlanFormatError as error:
        if hasattr(error, "version"):
            return None
        raise
    # The checksum as the file states it: the plan may be of an earlier version.
    if json.loads(state.plan_json)["checksum"] != state.document.plan_checksum:
        raise ValueError("its memory plan is not the one that its metadata name")
    return plan


@contextmanager
def _failures_named(path: str) -> Iterator[None]:
    """Add the path of the file to errors that are raised in the block."""
    try:
        yield
    except UnknownTypeError as error:
        raise SavedStateError(
            f"{path}: {error}. A layer of your own has to be made known with "
            "register_layer before its model is loaded",
            path=path,
        ) from error
    except ArenaTooLargeError:
        raise
    except (ArenaError, ValueError) as error:
        raise corrupt(path, str(error)) from error
