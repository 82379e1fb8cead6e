"""The state of a session in a file, and back.

A file holds the weights with running statistics, the optimizer states, the number of
iterations, the model as data, its memory plan and, within a training, how far that is.
Everything random is decided by the seed and the iteration, so nothing else is needed to
go on with the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arena_ckpt.common.json_codec import decode, encode, may_be_left_out
from arena_ckpt.common.names import split_last, weight_of
from arena_ckpt.common.short_repr import brief_repr, counted, short_repr
from arena_ckpt.common.units import format_bytes
from arena_ckpt.common.version import __version__
from arena_ckpt.common.wording import shown
from arena_ckpt.data.standardization import Standardization
from arena_ckpt.definition.foreign_state import ForeignState, from_saved
from arena_ckpt.errors import SavedStateMismatchError
from arena_ckpt.files.tensor_file import (
    Arrays,
    StrPath,
    corrupt,
    read_tensor_file,
    write_tensor_file,
)
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import PERSISTENT, TensorKind
from arena_ckpt.training.metric_tables import (
    metric_names,
    to_metric_table,
    with_metrics,
)
from arena_ckpt.training.records import EpochRecord, from_table, to_table

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session

FORMAT = "arena_ckpt saved state"
VERSION = 1
PLAN = "arena_ckpt.plan"
"""The tensor that holds the memory plan, as JSON text."""
RECORDS = "arena_ckpt.records"
"""The tensor that holds the records of a training, one a row."""
METRICS = "arena_ckpt.metrics"
"""The tensor that holds the metrics of its validations, by epoch and name."""


@dataclass(frozen=True, slots=True)
class StateDocument:
    """What a saved state says beside its tensors.

    Attributes
    ----------
    package : str
        The version of arena_ckpt that wrote it.
    iteration : int
        Updates that the weights have had.
    model : dict
        An `arena_ckpt.definition.description.Description`, encoded.
    plan_checksum : str
        Of the memory plan, as its JSON states it.
    run : dict or None
        Within a training: an `arena_ckpt.training.saved_run.RunDocument`, encoded.
    classes : tuple of str or None
        Names of the classes, by their numbers.
    means : tuple of float or None
        What is filled in for cells without a value, by column.
    standardization : Standardization or None
        Statistics of the inputs.
    losses : tuple of str
        Names of the losses of the records, where there are several.
    metrics : tuple of str
        Names of the metrics of a training's validations.
    foreign : dict or None
        Of an imported model: an `arena_ckpt.definition.foreign_state.ForeignDocument`,
        encoded.
    """

    package: str
    iteration: int
    model: dict[str, Any]
    plan_checksum: str
    run: dict[str, Any] | None
    classes: tuple[str, ...] | None = may_be_left_out(None)
    means: tuple[float, ...] | None = may_be_left_out(None)
    standardization: Standardization | None = may_be_left_out(None)
    losses: tuple[str, ...] = may_be_left_out(())
    metrics: tuple[str, ...] = may_be_left_out(())
    foreign: dict[str, Any] | None = may_be_left_out(None, is_hashed=False)

    __repr__ = brief_repr


@dataclass(frozen=True, slots=True, eq=False)
class SavedState:
    """A saved state, read.

    Attributes
    ----------
    path : str
    document : StateDocument
    arrays : dict from str to ndarray
        Weights and optimizer states by their names in the plan.
    plan_json : str
    records : tuple of EpochRecord
        Of a training.
    foreign : ForeignState or None
        Of a model that was imported.
    """

    path: str
    document: StateDocument
    arrays: Arrays
    plan_json: str
    records: tuple[EpochRecord, ...]
    foreign: ForeignState | None = None

    def __repr__(self) -> str:
        n_bytes = sum(array.nbytes for array in self.arrays.values())
        return short_repr(
            self,
            repr(str(self.path)),
            counted(len(self.arrays), "array"),
            format_bytes(n_bytes),
            f"iteration {self.document.iteration:,}",
            counted(len(self.records), "epoch") if self.records else "",
        )


def write_state(
    path: StrPath,
    session: Session,
    *,
    model: Mapping[str, Any],
    run: Mapping[str, Any] | None = None,
    records: Sequence[EpochRecord] = (),
    classes: Sequence[str] | None = None,
    means: Sequence[float] | None = None,
    standardization: Standardization | None = None,
    foreign: ForeignState | None = None,
) -> None:
    """Write the state of a session; an existing file is replaced, or left as it was.

    Raises
    ------
    UnwritableFileError
    """
    plan = np.frombuffer(session.plan_json.encode(), np.uint8)
    table = {RECORDS: to_table(records)} if records else {}
    if metrics := metric_names(records):
        table[METRICS] = to_metric_table(records)

    of_foreign, more = (None, {}) if foreign is None else foreign.saved()

    def write() -> None:
        arrays: Arrays = {**session.persistent(), PLAN: plan, **table, **more}
        document: dict[str, Any] = {
            "package": __version__,
            "iteration": session.iteration,
            "model": model,
            "plan_checksum": session.plan_checksum,
            "run": run,
        }
        if classes is not None:
            document["classes"] = list(classes)
        if means is not None:
            document["means"] = list(means)
        if standardization is not None:
            document["standardization"] = encode(standardization)
        if records and records[0].losses:
            document["losses"] = list(records[0].losses)
        if metrics:
            document["metrics"] = list(metrics)
        if of_foreign is not None:
            document["foreign"] = of_foreign
        write_tensor_file(path, arrays, document, format_name=FORMAT, version=VERSION)

    session.in_turn(write)


def read_state(path: StrPath) -> SavedState:
    """Read what `write_state` wrote; nothing in it is run.

    Raises
    ------
    SavedStateError
        See `arena_ckpt.files.tensor_file.read_tensor_file`.
    """
    arrays, found = read_tensor_file(path, format_name=FORMAT, version=VERSION)
    plan, table, metrics = (arrays.pop(name, None) for name in (PLAN, RECORDS, METRICS))
    if plan is None or plan.dtype != np.uint8:
        raise corrupt(str(path), "it has no memory plan")
    try:
        document: StateDocument = decode(StateDocument, found)
        plan_json = plan.tobytes().decode()
        records = () if table is None else from_table(table, document.losses)
        records = with_metrics(records, document.metrics, metrics)
        foreign = None
        if document.foreign is not None:
            foreign = from_saved(document.foreign, arrays)
        if not 0 <= document.iteration < 2**53:
            raise ValueError(f"its iteration is {shown(document.iteration)}")
    except ValueError as error:
        raise corrupt(str(path), str(error)) from None
    return SavedState(str(path), document, arrays, plan_json, records, foreign)


def require_fit(plan: MemoryPlan, state: SavedState) -> None:
    """Refuse a state of other weights or of another optimizer.

    A plan of inference takes the weights of any state; it has no use for the others.

    Raises
    ------
    SavedStateMismatchError
        With the name of the first tensor that differs.
    """
    own = {
        tensor.name: f"is {tensor.dtype} of shape {tensor.shape}"
        for tensor in plan.tensors
        if tensor.kind in PERSISTENT
    }
    saved = {
        name: f"is {array.dtype} of shape {array.shape}"
        for name, array in state.arrays.items()
        if not (plan.is_inference and weight_of(name) in own)
    }
    missing = "does not exist"
    for name in own | saved:
        if own.get(name) != saved.get(name):
            raise SavedStateMismatchError(
                f"{state.path} is of another model: {shown(name)} "
                f"{own.get(name, missing)} in this model and "
                f"{saved.get(name, missing)} in the file. Nothing was changed; "
                "model.take_weights(path) takes over the weights that fit",
                path=state.path,
                what=name,
            )


def restore(session: Session, state: SavedState) -> None:
    """Put a saved state into a session.

    Raises
    ------
    SavedStateMismatchError
        It is one of other weights or of another optimizer; nothing is changed then.
    """
    require_fit(session.plan, state)
    session.restore(state.arrays, state.document.iteration)


def trains_others(plan: MemoryPlan, state: SavedState) -> bool:
    """Tell whether a state differs from a plan only in which weights are trained.

    Weights and optimizer are the same then, for example of a model of which first the
    head was trained, and now all of it is.
    """
    own = {t.name: t.shape for t in plan.tensors if t.kind in PERSISTENT}
    weights = {t.name for t in plan.tensors if t.kind is TensorKind.WEIGHT}
    saved = {name: array.shape for name, array in state.arrays.items()}
    if plan.is_inference or any(saved.get(name) != own[name] for name in weights):
        return False
    kinds = [
        {split_last(name)[1] for name in names.keys() - weights}
        for names in (own, saved)
    ]
    owners = {weight_of(name) for name in saved.keys() - weights}
    return own.keys() != saved.keys() and kinds[0] == kinds[1] and owners <= weights


def restore_weights(session: Session, state: SavedState) -> None:
    """Put the weights of a saved state into a session that trains others of them.

    The states of the optimizer and the iteration begin anew: those of weights that were
    frozen are not known, and moments of one age do not fit steps of another.
    """
    weights = session.weights()
    arrays = {
        name: state.arrays[name] if name in weights else np.zeros_like(view)
        for name, view in session.persistent().items()
    }
    session.restore(arrays, 0)
