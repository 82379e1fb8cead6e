"""A training that saves its state into a folder as it goes, to be resumed from there.

The folder holds the newest states, one file each, named by the iterations of the run.
A new state is safe on the disk before the oldest is removed, so whenever the process is
killed there is one to go on from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arena_ckpt.common.digests import digest_arrays
from arena_ckpt.common.json_codec import decode, encode, may_be_left_out
from arena_ckpt.common.properties import (
    BOOLEAN,
    POSITIVE_INT,
    Property,
    parse_properties,
)
from arena_ckpt.common.user_line import warn_user
from arena_ckpt.common.wording import quoted
from arena_ckpt.data.samples import Samples
from arena_ckpt.definition.description import (
    Description,
    Part,
    describe,
    describe_again,
    first_difference,
    schedule_of,
)
from arena_ckpt.definition.model_definition import ModelDefinition
from arena_ckpt.errors import (
    ArenaWarning,
    CorruptSavedStateError,
    InvalidParameterError,
    SavedStateExistsError,
    SavedStateMismatchError,
    SavedStateNotFoundError,
    UnwritableFileError,
)
from arena_ckpt.files.atomic_write import is_part_of, make_folder
from arena_ckpt.files.folder_lock import hold
from arena_ckpt.files.tensor_file import corrupt
from arena_ckpt.planning.settings import DEFAULT_WAYS
from arena_ckpt.training.best_state import BestState
from arena_ckpt.training.callbacks import Callbacks
from arena_ckpt.training.records import EpochRecord, RunProgress
from arena_ckpt.training.saved_state import (
    SavedState,
    read_state,
    require_fit,
    restore,
    write_state,
)

if TYPE_CHECKING:
    from arena_ckpt.engine.session import Session

KEPT_STATES = 2
"""Number of states that are kept: should the newest be damaged, there is another."""

DAMAGED_SUFFIX = ".damaged"

_PROPERTIES = (
    Property("every", POSITIVE_INT, None, "iterations from one state to the next"),
    Property("resume", BOOLEAN, False, "go on from the newest saved state"),
)

NAME = r"iteration-([0-9]{9,})\.safetensors"


BEST_NAME = r"best-epoch-([0-9]{6,})\.safetensors"


@dataclass(frozen=True, slots=True)
class RunDocument:
    """What a saved state says of its training.

    Attributes
    ----------
    samples : str
        A digest of the training data.
    shuffle : bool
    micro_batches : int
        Of the plan; with `ways` they decide how sums are rounded.
    ways : tuple of str
        Those of the plan that can change bits.
    schedule : Part or None
        With which the training began; a callback may have set another one since.
    progress : RunProgress
        Without its records, which can be many and are kept in a tensor.
    callbacks : tuple of str
        As text, with what each monitors.
    validation : str
        A digest of the validation data, if one of these goes by them.
    """

    samples: str
    shuffle: bool
    micro_batches: int
    ways: tuple[str, ...]
    schedule: Part | None
    progress: RunProgress
    callbacks: tuple[str, ...] = may_be_left_out(())
    validation: str = may_be_left_out("")


@dataclass(frozen=True, slots=True)
class Saving:
    """Where and when the states of a training are saved.

    Attributes
    ----------
    folder : Path
        Made where it is missing.
    every : int or None
        Iterations from one state to the next; None saves at the end of each epoch.
    resume : bool
        Go on from the newest state, where there is one.
    """

    folder: Path
    every: int | None
    resume: bool


def parse_saving(checkpoint: object, every: object, resume: object) -> Saving | None:
    """Check what `Model.train` is told about saving; None where nothing is saved.

    Raises
    ------
    InvalidParameterError
    """
    given = {"every": every, "resume": resume}
    given = {key: value for key, value in given.items() if value is not None}
    parsed = parse_properties("train", _PROPERTIES, given)
    if checkpoint is None:
        if any(parsed.values()):
            raise InvalidParameterError(
                "every and resume are about saved states; name their folder, for "
                "example checkpoint='run'",
                **parsed,
            )
        return None
    if not isinstance(checkpoint, str | os.PathLike) or not os.fspath(checkpoint):
        raise InvalidParameterError(
            f"checkpoint={quoted(checkpoint)} is no folder; name one, for example "
            "checkpoint='run'",
            checkpoint=checkpoint,
        )
    folder = Path(os.fsdecode(checkpoint))
    return Saving(folder, parsed.get("every"), parsed.get("resume", False))


class SavedRun:
    """A folder of states of one training.

    Parameters
    ----------
    saving : Saving
    session : Session
    model : ModelDefinition
        That of the session.
    samples : Samples
        That are trained on.
    shuffle : bool
    callbacks : Callbacks
    validation : Samples or None
    """

    def __init__(
        self,
        saving: Saving,
        session: Session,
        *,
        model: ModelDefinition,
        samples: Samples,
        shuffle: bool,
        callbacks: Callbacks,
        validation: Samples | None,
    ) -> None:
        self.folder = saving.folder
        self.every = saving.every
        self._resume = saving.resume
        self._session = session
        self._model = model
        self._begun = describe(model)
        self._samples = digest(samples)
        self._shuffle = shuffle
        self._callbacks = callbacks
        self._validation = ""
        if validation is not None and callbacks.monitors_validation:
            self._validation = digest(validation)
        self._best_before: tuple[int | None] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder to this training while the block runs; it is made first.

        Raises
        ------
        UnwritableFileError
            It cannot be made or read, or another training saves into it.
        """
        with ExitStack() as stack:
            try:
                self.folder = self.folder.absolute()  # a callback may go elsewhere
                make_folder(self.folder)
                is_ours = stack.enter_context(hold(self.folder))
                self._paths()  # is it readable?
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise self._unusable(reason) from error
            if not is_ours:
                raise self._unusable("another training saves into it")
            yield

    def begin(self, fresh: RunProgress, best: BestState) -> RunProgress:
        """Return where the training begins: from `fresh`, or from a saved state.

        Parameters
        ----------
        fresh : RunProgress
        best : BestState
            Is given the state after the best epoch so far, if there is one.

        Raises
        ------
        SavedStateExistsError
            There are states of an earlier run, and nobody said to resume it.
        SavedStateMismatchError
            The state is one of another model, other data or another order.
        CorruptSavedStateError
            There are states, and all are damaged.
        """
        paths = self._paths()
        if paths and not self._resume:
            iteration = _iteration(paths[-1])
            raise SavedStateExistsError(
                f"{self.folder} has the states of an earlier run, the newest of "
                f"iteration {iteration:,}; go on from there with resume=True "
                "(--resume), or choose another folder. Nothing was changed",
                path=str(self.folder),
                iteration=iteration,
            )
        begin = self._go_on(paths, best) if paths else fresh
        names = f"(?:{NAME}|{BEST_NAME})"
        _remove(p for p in self.folder.iterdir() if is_part_of(p.name, names))
        return begin

    def save(self, progress: RunProgress) -> None:
        """Save the state of the session, then remove the oldest ones.

        Raises
        ------
        UnwritableFileError
            The states from before are still there.
        """
        run = RunDocument(
            self._samples,
            self._shuffle,
            *self._rounding(),
            self._begun.schedule,
            replace(progress, records=()),
            self._callbacks.as_text(),
            self._validation,
        )
        n_iterations = progress.n_iterations
        name = f"iteration-{n_iterations:09d}.safetensors"
        self._write(name, n_iterations, encode(run), progress.records)
        with suppress(OSError):
            _remove(self._paths()[:-KEPT_STATES])
        if self._callbacks.best is not None:
            best = self._callbacks.best_epoch(progress.records)
            if self._best_before is not None:  # else the older state is not known
                kept = {best, *self._best_before}
                with suppress(OSError):
                    _remove(self._best_paths(kept))
            self._best_before = (best,)

    def save_best(self, epoch: int, n_iterations: int) -> None:
        """Save the state after an epoch that is the best so far.

        It stays until both states that are kept are of trainings with a better epoch.

        Raises
        ------
        UnwritableFileError
        """
        self._write(_best_name(epoch), n_iterations, None, ())

    def _write(
        self,
        name: str,
        n_iterations: int,
        run: dict[str, Any] | None,
        records: Sequence[EpochRecord],
    ) -> None:
        path = self.folder / name
        try:
            write_state(
                path,
                self._session,
                model=encode(describe_again(self._begun, self._model)),
                run=run,
                records=records,
                classes=self._model.classes,
                means=self._model.column_means,
                standardization=self._model.standardization,
                foreign=self._model._foreign,
            )
        except UnwritableFileError as error:
            kept = self._newest_name()
            raise UnwritableFileError(
                f"the training stops in iteration {n_iterations:,}: {error}."
                f" Of the states saved before, {kept}; the model in memory is intact. "
                "Afterwards go on with resume=True",
                path=str(path),
                free_bytes=getattr(error, "free_bytes", None),
            ) from error

    def _best_paths(self, but: set[int | None]) -> list[Path]:
        """Return the saved states after best epochs, but those of some epochs."""
        keep = {_best_name(epoch) for epoch in but if epoch is not None}
        found = (p for p in self.folder.iterdir() if re.fullmatch(BEST_NAME, p.name))
        return [path for path in found if path.name not in keep]

    def _newest_name(self) -> str:
        with suppress(OSError):  # the folder itself may be gone
            if paths := self._paths():
                return f"{paths[-1].name} is still there"
        return "none is there"

    def _paths(self) -> list[Path]:
        """Return the saved states, the oldest first."""
        found = (p for p in self.folder.iterdir() if re.fullmatch(NAME, p.name))
        return sorted((p for p in found if p.is_file()), key=_iteration)

    def _go_on(self, paths: list[Path], best: BestState) -> RunProgress:
        """Put the newest state that can be read into the session."""
        state, damaged = self._newest(paths)
        try:
            saved: Description = decode(Description, state.document.model)
            if state.document.run is None:
                raise ValueError("it says nothing of a training")
            run: RunDocument = decode(RunDocument, state.document.run)
            progress = replace(run.progress, records=state.records)
            schedule = schedule_of(saved)
            if len(progress.records) != progress.epoch - 1:
                raise ValueError(
                    f"it has records of {len(progress.records)} epochs before epoch "
                    f"{progress.epoch}"
                )
        except ValueError as error:
            raise corrupt(state.path, str(error)) from None
        self._require_same(state, replace(saved, schedule=run.schedule), run)
        self._find_best(best, progress, state)
        restore(self._session, state)
        self._model.set_learning_rate_scheduler(schedule)
        if damaged:
            _set_aside(damaged)
            warn_user(
                f"{next(iter(damaged.values()))}. Going on from "
                f"{Path(state.path).name}; what is damaged is renamed to "
                f"*{DAMAGED_SUFFIX}",
                ArenaWarning,
            )
        return progress

    def _find_best(
        self, best: BestState, progress: RunProgress, state: SavedState
    ) -> None:
        """Read the state after the best epoch before this one.

        Raises
        ------
        SavedStateError
            It cannot be read.
        """
        epoch = self._callbacks.best_epoch(progress.records)
        if epoch is None:
            return
        if epoch < progress.epoch - 1 or progress.n_batches:
            path = self.folder / _best_name(epoch)
            try:
                state = read_state(path)
            except SavedStateNotFoundError:
                raise SavedStateNotFoundError(
                    f"{path} is missing, the state after the best epoch so far, which "
                    "KeepBest is to give the model; put it back, or train in another "
                    "folder. Nothing was changed",
                    path=str(path),
                ) from None
            require_fit(self._session.plan, state)
        best.take_from(state.arrays, state.document.iteration, epoch)

    def _newest(
        self, paths: list[Path]
    ) -> tuple[SavedState, dict[Path, CorruptSavedStateError]]:
        """Return the newest state that can be read, and what is wrong with newer."""
        damaged: dict[Path, CorruptSavedStateError] = {}
        for path in reversed(paths):
            try:
                return read_state(path), damaged
            except CorruptSavedStateError as error:
                damaged[path] = error
        raise CorruptSavedStateError(
            f"none of the {len(paths)} states in {self.folder} can be read: "
            f"{damaged[paths[-1]]}",
            path=str(self.folder),
        )

    def _require_same(
        self, state: SavedState, saved: Description, run: RunDocument
    ) -> None:
        path, what = state.path, first_difference(saved, self._begun)
        if what is None and (run.micro_batches, run.ways) != self._rounding():
            what = (
                f"its plan has micro_batches={run.micro_batches} and "
                f"{', '.join(run.ways) or 'no tiles'}, not "
                f"{self._rounding()[0]} and {', '.join(self._rounding()[1]) or 'none'}"
            )
        its, mine = state.document.standardization, self._model.standardization
        if what is None and its != mine:
            what = (
                "its inputs are not standardized"
                if its is None
                else "its inputs are standardized"
                if mine is None
                else "its inputs are standardized by other statistics"
            )
        if what is None and run.samples != self._samples:
            what = "it was trained on other data"
        if what is None and run.callbacks != self._callbacks.as_text():
            wanted = ", ".join(self._callbacks.as_text()) or "none"
            what = (
                f"its callbacks are {', '.join(run.callbacks) or 'none'}, not {wanted}"
            )
        if what is None and run.validation != self._validation:
            what = "its callbacks monitored other validation data"
        if what is None and run.shuffle != self._shuffle:
            what = f"it was trained with shuffle={run.shuffle}"
        if what is not None:
            raise SavedStateMismatchError(
                f"{path} cannot be resumed, because the result would not be that of an "
                f"uninterrupted run: {what}. Give the same, choose another folder, or "
                "take its weights only: model.set_weights(load(path).weights()). "
                "Nothing was changed",
                path=path,
                what=what,
            )

    def _rounding(self) -> tuple[int, tuple[str, ...]]:
        plan = self._session.plan
        return plan.micro_batches, tuple(sorted({*plan.ways} - DEFAULT_WAYS))

    def _unusable(self, reason: str) -> UnwritableFileError:
        return UnwritableFileError(
            f"{self.folder} cannot hold the states of a training ({reason}); give "
            "checkpoint= a folder that can be written into",
            path=str(self.folder),
        )


def _best_name(epoch: int) -> str:
    return f"best-epoch-{epoch:06d}.safetensors"


def digest(samples: Samples) -> str:
    """Return a digest of all values of samples, which tells them from others."""
    of_losses = {f"y:{name}": one.labels for name, one in samples.by_loss.items()}
    found = {"": samples.labels, **of_losses}
    labels = {name: array for name, array in found.items() if array is not None}
    # what becomes float32 batch by batch is the same data as if it was float32
    as_float32 = dict.fromkeys(samples.inputs, np.float32)
    return digest_arrays({**samples.inputs, **labels}, dtypes=as_float32)


def _remove(paths: Iterable[Path]) -> None:
    """Remove files; those that stay are tried again after the next state."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def _set_aside(paths: Iterable[Path]) -> None:
    """Rename a damaged file, so that it is not counted among the newest."""
    for path in paths:
        with suppress(OSError):
            path.rename(path.with_name(path.name + DAMAGED_SUFFIX))


def _iteration(path: Path) -> int:
    found = re.fullmatch(NAME, path.name)
    assert found is not None
    return int(found.group(1))
