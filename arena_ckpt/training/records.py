"""What a training has done so far, and how far it is."""

from __future__ import annotations

import html
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.json_codec import may_be_left_out
from arena_ckpt.common.notebook import hide_in_cell
from arena_ckpt.common.text_table import html_table, text_table
from arena_ckpt.data.samples import METRICS
from arena_ckpt.engine.evaluation import Evaluation
from arena_ckpt.engine.report import Report
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.files.source import path_text
from arena_ckpt.training.curve import curve_lines, curve_svg
from arena_ckpt.training.epoch_text import (
    VALIDATION,
    columns_by_loss,
    epoch_cells,
    evaluation_text,
    loss_text,
    losses_text,
)

Table = npt.NDArray[np.float64]

_VALIDATED = "validation of the last epoch:"

_N_COLUMNS = 7
"""Number of columns of a table of records: three numbers and a validation."""

_N_OF_LOSS = 5
"""Number of columns for each of several losses: its mean and its validation."""


@dataclass(frozen=True, slots=True, repr=False)
class EpochRecord:
    """What is recorded of one epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    loss : float
        The mean over the samples that were trained on (with class numbers for rows,
        over the rows that count), each counted as its batch was trained.
    validation : Evaluation or None
    learning_rate : float
        Of the last iteration.
    seconds : float
    losses : dict from str to float
        The mean of each of several losses by name, without its weight; `loss` is their
        sum then, each times its weight. Empty for one loss.
    """

    epoch: int
    loss: float
    validation: Evaluation | None
    learning_rate: float
    seconds: float
    losses: dict[str, float] = field(default_factory=dict, hash=False)

    def __repr__(self) -> str:
        return f"<EpochRecord {self.epoch}: {_result(self, ', ')}>"


@dataclass(frozen=True, slots=True, repr=False)
class History:
    """Records of a training: its epochs, and how it ended.

    Its ``str`` is a table of the epochs, and a notebook shows table and curve.

    Attributes
    ----------
    epochs : tuple of EpochRecord
        Those that were completed.
    n_iterations : int
        Of the whole run, with what came before it was resumed.
    interrupted : bool
        Ctrl-C ended it, or SIGTERM where its states were saved.
    n_resumed : int
        Of the iterations, those made before the training was resumed.
    stopped_by : str or None
        Why early stopping ended it.
    best_epoch : int or None
        The epoch after which the model is as it was left; None without `KeepBest`.
    """

    epochs: tuple[EpochRecord, ...]
    n_iterations: int
    interrupted: bool
    n_resumed: int = 0
    stopped_by: str | None = None
    best_epoch: int | None = None

    def to_rows(
        self, *, all_metrics: bool = False
    ) -> list[dict[str, int | float | None]]:
        """Return the epochs as plain values, for example for ``pandas.DataFrame``.

        Parameters
        ----------
        all_metrics : bool
            Add a column for each metric of the validation, ``validation_f1`` and so on;
            by default for those that were asked for as `metrics` of the training.

        Returns
        -------
        list of dict
            Each with ``epoch``, ``loss``, ``learning_rate`` and ``seconds``, and, if
            any epoch has a validation, with ``validation_loss`` and the metric under
            its name, for example ``accuracy``; None where an epoch has none. Of several
            losses, ``digit`` and so on, there are also ``digit_loss``,
            ``validation_digit_loss`` and ``digit_accuracy``.
        """
        metrics = sorted(
            {r.validation.metric_name for r in self.epochs if r.validation}
        )
        found = [
            name
            for r in self.epochs
            if (of := r.validation)
            for name in (of.metrics if all_metrics else of.asked)
            if all_metrics or name not in of.main_names
        ]
        others = list(dict.fromkeys(found))
        by_loss = next(
            (r.validation.by_loss for r in self.epochs if r.validation), None
        )
        rows = []
        for record in self.epochs:
            of = record.validation
            row: dict[str, int | float | None] = {
                "epoch": record.epoch,
                "loss": record.loss,
                **{f"{name}_loss": loss for name, loss in record.losses.items()},
            }
            if metrics:
                row["validation_loss"] = of.loss if of else None
            if by_loss:
                row |= columns_by_loss(of, by_loss)
            else:
                for name in metrics:
                    row[name] = of.metric if of and of.metric_name == name else None
            row["learning_rate"] = record.learning_rate
            row["seconds"] = record.seconds
            for name in others:
                value = None if of is None else of.metrics.get(name)
                row[f"{VALIDATION}{name}"] = value
            rows.append(row)
        return rows

    def __repr__(self) -> str:
        return f"<History: {summary_of(self)}>"

    def __str__(self) -> str:
        table = text_table(*epoch_cells(self.to_rows())) if self.epochs else []
        lines = [*table, _extent(self)]
        for name, report in self._reports():
            lines += ["", f"{name}{_VALIDATED}", str(report)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        # The training of this cell shows the same curve; one of them is enough.
        hide_in_cell(self.epochs)
        table = html_table(*epoch_cells(self.to_rows())) if self.epochs else ""
        said = "".join(
            f"{html.escape(name)}{_VALIDATED}{report._repr_html_()}"
            for name, report in self._reports()
        )
        curve, extent = loss_curve(self.epochs), _extent(self)
        return f"<div>{curve}{table}<div>{extent}</div>{said}</div>"

    @public_call
    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the losses by epoch.

        Parameters
        ----------
        path : path, optional
            A file that ends in .svg, .png or .pdf; it is replaced as a whole.

        Returns
        -------
        PIL.Image.Image or None
            The picture, where no path is given.

        Raises
        ------
        EmptyDataError
            Fewer than two epochs have finite losses.
        InvalidParameterError
            Another suffix; or Pillow is not installed, which images and .png need.
        UnwritableFileError
            The file cannot be written.
        """
        # Reports stand to the right of trainings; what draws is looked up when asked.
        pictures = importlib.import_module("arena_ckpt.report.curve_picture")
        epochs, losses = _losses(self.epochs)
        if path is None:
            return pictures.curve_image(epochs, losses)
        target = Path(path_text(path))
        content: bytes = pictures.curve_file(epochs, losses, target.suffix)
        write_whole(target, lambda file: file.write(content))
        return None

    def _reports(self) -> list[tuple[str, Report]]:
        """Return the reports of the last validation, of several losses one each."""
        last = self.epochs[-1].validation if self.epochs else None
        if last is None:
            return []
        of_losses = {f"{name}, ": one.report for name, one in last.by_loss.items()}
        found = of_losses or {"": last.report}
        return [(name, report) for name, report in found.items() if report is not None]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Where a training is: all that it needs to go on, beside the model.

    Attributes
    ----------
    epoch : int
        The one under way, from 1.
    epoch_iteration : int
        Iterations of the model when it began; with the seed they decide its order of
        samples.
    n_batches : int
        Of this epoch, that were trained.
    loss_sum : float
        Over the samples of these; see `LossSums.total`.
    learning_rate : float
        Of the last of them.
    seconds : float
        That these took.
    n_iterations : int
        Of the whole run.
    records : tuple of EpochRecord
        Of the epochs before.
    stopped : bool
        The callback has ended the training.
    loss_sums : tuple of float
        Of each of several losses; empty for one.
    """

    epoch: int
    epoch_iteration: int
    n_batches: int
    loss_sum: float
    learning_rate: float
    seconds: float
    n_iterations: int
    records: tuple[EpochRecord, ...]
    stopped: bool
    loss_sums: tuple[float, ...] = may_be_left_out(())

    def __post_init__(self) -> None:
        """Refuse numbers that no training comes to."""
        counts = self.epoch_iteration, self.n_batches, self.n_iterations
        if not 0 <= min(counts) <= max(counts) < 2**53 or self.epoch < 1:
            raise ValueError(f"no training comes to {self}")


def appended(
    records: tuple[EpochRecord, ...], record: EpochRecord
) -> tuple[EpochRecord, ...]:
    """Return records with one more; only the last keeps the report of its validation.

    A report has a confusion matrix, which would grow with the number of epochs.
    """
    if not records:
        return (record,)
    *before, last = records
    if last.validation is not None:
        last = replace(last, validation=last.validation.without_reports())
    return (*before, last, record)


def summary_of(history: History) -> str:
    """Return one line that describes a training and its last epoch."""
    last = f"; {_result(history.epochs[-1], ', ')}" if history.epochs else ""
    return _extent(history) + last


def loss_curve(records: Sequence[EpochRecord]) -> str:
    """Return an SVG of the losses by epoch, empty for fewer than two epochs."""
    return curve_svg(*_losses(records))


def text_curve(records: Sequence[EpochRecord], width: int) -> list[str]:
    """Return the losses by epoch as lines of text; none for fewer than two epochs."""
    epochs, losses = _losses(records)
    return curve_lines(epochs, losses["loss"], width=width)


def _losses(
    records: Sequence[EpochRecord],
) -> tuple[list[int], dict[str, list[float | None]]]:
    """Return epochs, and their losses by the names of the lines of a curve."""
    beside = [r.validation.loss if r.validation else None for r in records]
    epochs = [record.epoch for record in records]
    return epochs, {"loss": [r.loss for r in records], "validation loss": beside}


def epoch_line(record: EpochRecord, n_epochs: int, *, shows_rate: bool = False) -> str:
    """Return one line that describes an epoch of `n_epochs`.

    Parameters
    ----------
    record : EpochRecord
    n_epochs : int
    shows_rate : bool
        Whether the line has the learning rate, which a schedule changes.
    """
    width = len(str(n_epochs))
    rate = f"  learning rate {record.learning_rate:.4g}" if shows_rate else ""
    return (
        f"epoch {record.epoch:{width}}/{n_epochs}  {_result(record)}{rate}  "
        f"({record.seconds:.3f} s)"
    )


def _extent(history: History) -> str:
    """Return how long a training was, and whether it was interrupted."""
    n, n_iterations = len(history.epochs), history.n_iterations
    parts = [
        f"{n:,} epoch{'' if n == 1 else 's'}",
        f"{n_iterations:,} iteration{'' if n_iterations == 1 else 's'}",
    ]
    if history.n_resumed:
        parts.append(f"{history.n_resumed:,} of them before it was resumed")
    if history.interrupted:
        parts.append("interrupted")
    if history.stopped_by:
        parts.append(f"stopped early because {history.stopped_by}")
    if history.best_epoch is not None:
        parts.append(f"the model is that of epoch {history.best_epoch}")
    return ", ".join(parts)


def _result(record: EpochRecord, mark: str = "  ") -> str:
    """Return the losses of an epoch as text."""
    of = record.validation
    validation = "" if of is None else f"{mark}validation: {evaluation_text(of)}"
    each = losses_text(record.losses)
    return f"loss {loss_text(record.loss)}{each}{validation}"


def to_table(records: Sequence[EpochRecord]) -> Table:
    """Return records as an array of numbers, one record a row, from epoch 1 on."""
    n_losses = len(records[0].losses) if records else 0
    table = np.zeros((len(records), _N_COLUMNS + _N_OF_LOSS * n_losses))
    for row, record in zip(table, records, strict=True):
        of = record.validation
        row[:3] = record.loss, record.learning_rate, record.seconds
        if of is not None:
            row[3:_N_COLUMNS] = _of_validation(of)
        for start, (name, loss) in zip(
            range(_N_COLUMNS, table.shape[1], _N_OF_LOSS),
            record.losses.items(),
            strict=True,
        ):
            row[start] = loss
            if of is not None:
                row[start + 1 : start + _N_OF_LOSS] = _of_validation(of.by_loss[name])
    return table


def _of_validation(of: Evaluation) -> tuple[float, ...]:
    return of.loss, METRICS.index(of.metric_name), of.metric, of.n_samples


def from_table(
    table: npt.NDArray[Any], losses: Sequence[str] = ()
) -> tuple[EpochRecord, ...]:
    """Return the records that `to_table` made a table of.

    Parameters
    ----------
    table : float64 array
    losses : sequence of str
        Names of several losses; empty for one.

    Raises
    ------
    ValueError
        It is no such table.
    """
    width = _N_COLUMNS + _N_OF_LOSS * len(losses)
    if table.dtype != np.float64 or table.ndim != 2 or table.shape[1] != width:
        raise ValueError(f"its records are {table.dtype} of shape {table.shape}")
    records = []
    for epoch, row in enumerate(table.tolist(), start=1):
        loss, rate, seconds = row[:3]
        starts = range(_N_COLUMNS, width, _N_OF_LOSS)
        parts = {
            name: row[start : start + _N_OF_LOSS]
            for name, start in zip(losses, starts, strict=True)
        }
        validation = _validation(row[3:_N_COLUMNS], epoch)
        if validation is not None and parts:
            found = {name: _validation(part[1:], epoch) for name, part in parts.items()}
            by_loss = {name: one for name, one in found.items() if one is not None}
            validation = replace(validation, by_loss=by_loss)
        of_losses = {name: part[0] for name, part in parts.items()}
        records.append(EpochRecord(epoch, loss, validation, rate, seconds, of_losses))
    return tuple(records)


def _validation(row: Sequence[float], epoch: int) -> Evaluation | None:
    """Return what four columns of a table say of a validation; None where of none."""
    loss, metric_name, metric, n_samples = row
    if not n_samples:
        return None
    if metric_name not in range(len(METRICS)) or not 0 < n_samples < 2**53:
        raise ValueError(f"its record of epoch {epoch} is {row}")
    return Evaluation(loss, METRICS[int(metric_name)], metric, int(n_samples))
