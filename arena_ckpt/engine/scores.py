"""Counts and sums of an evaluation, pass by pass, from which its metrics are made.

What is kept does not grow with the number of samples, but for the area under the curve
(AUC), which needs every score: it is made of up to `MOST_RANKED` values, or of all if
it is asked for.

References
----------
T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances", 1979: variances of the labels, part by part.
J. A. Hanley, B. J. McNeil, "The Meaning and Use of the Area under a Receiver Operating
Characteristic (ROC) Curve", 1982: the AUC as a statistic of ranks.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from arena_ckpt.data.samples import Samples
from arena_ckpt.engine.metric_names import (
    BINARY_METRICS,
    CLASS_METRICS,
    MEAN_OUTPUT,
    VALUE_METRICS,
)
from arena_ckpt.engine.report import MOST_PARTS, Report, Row
from arena_ckpt.layers.loss import CrossEntropySigmoid, CrossEntropySoftmax, Loss

Array = npt.NDArray[Any]
Counts = npt.NDArray[np.int64]
Shape = tuple[int, int, int]

MOST_RANKED = 2**20
"""Maximum number of scores from which an AUC is made without being asked for."""

_LOOKED_AT_ONCE = 4096
"""Number of samples whose labels are looked at together."""


class Scores(ABC):
    """Counts or sums over the predictions of an evaluation.

    Attributes
    ----------
    metric_names : tuple of str
        The metrics that can be made of them.
    """

    metric_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def add(self, prediction: Array, label: Any) -> None:
        """Take the predictions of a pass and the labels in its arena, None of none."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Return the metrics by name; NaN where one is not defined."""

    @abstractmethod
    def report(self, classes: Sequence[str] | None) -> Report | None:
        """Return values by class or by output; `classes` are the names of classes."""


def scores_of(
    samples: Samples, loss: Loss, output_shape: Shape, *, asks_auc: bool
) -> Scores:
    """Return the scores that suit labels and loss of a model."""
    axis = samples.class_axis
    width = output_shape[axis - 1]
    if samples.n_counted is not None:
        return ClassScores(width, "row", samples.ignored_label, output_shape, axis)
    labels = samples.labels
    if labels is None:
        return OutputScores()
    if samples.n_classes == 1:
        return BinaryScores((1, 1, 1), asks_auc=asks_auc)
    if samples.n_classes:
        return ClassScores(samples.n_classes, "sample")
    if isinstance(loss, CrossEntropySoftmax):
        rows = _with_classes_last(labels, output_shape, axis)
        if _are_one_hot(rows, width):
            return ClassScores(width, "row", None, output_shape, axis)
    if isinstance(loss, CrossEntropySigmoid) and _are_one_hot(labels, None):
        return BinaryScores(output_shape, asks_auc=asks_auc)
    return ValueScores(output_shape)


def _with_classes_last(values: Array, shape: Shape, axis: int) -> Array:
    """Return values of the shape of outputs, with the axis of the classes at the end.

    Parameters
    ----------
    values : array with shape[0] samples
    shape : tuple of int
        Shape of one sample of the outputs.
    axis : int
        Where the classes are in it, counted from 1.
    """
    if axis == 3:
        return values
    return np.moveaxis(values.reshape(-1, *shape), axis, -1).reshape(len(values), -1)


def _are_one_hot(labels: Array, width: int | None) -> bool:
    """Tell whether labels are 0 and 1, with a single 1 in each row of a given width."""
    for start in range(0, len(labels), _LOOKED_AT_ONCE):
        part = labels[start : start + _LOOKED_AT_ONCE]
        if not ((part == 0) | (part == 1)).all():
            return False
        if width is not None and (part.reshape(-1, width).sum(axis=1) != 1).any():
            return False
    return True


class ClassScores(Scores):
    """Counts of classes, of which one is right for each sample or row.

    Parameters
    ----------
    n_classes : int
    unit : {"sample", "row"}
        What has a label.
    ignored : int, optional
        Label of rows that do not count; labels are class numbers then, else rows of
        probabilities with the class at their maximum.
    shape : tuple of int, optional
        Shape of one sample of the output.
    axis : int
        Where the classes are in it: 1 (channel), 2 (height) or 3 (width).
    """

    metric_names = CLASS_METRICS

    def __init__(
        self,
        n_classes: int,
        unit: str,
        ignored: int | None = None,
        shape: Shape = (1, 1, 1),
        axis: int = 3,
    ) -> None:
        self._shape = shape
        self._axis = axis
        self._n_classes = n_classes
        self._unit = unit
        self._ignored = ignored
        n = n_classes
        self._labelled, self._guessed, self._hits = (
            np.zeros(n, np.int64) for _ in range(3)
        )
        self._matrix = np.zeros((n, n), np.int64) if n <= MOST_PARTS else None

    def add(self, prediction: Array, label: Array) -> None:
        """Count labels, predictions and what both have in common."""
        n = self._n_classes
        prediction = _with_classes_last(prediction, self._shape, self._axis)
        guess = prediction.reshape(-1, n).argmax(axis=1)
        if self._ignored is None:
            label = _with_classes_last(label, self._shape, self._axis)
            truth = label.reshape(-1, n).argmax(axis=1)
        else:
            numbers = label.reshape(-1)
            counts = numbers != self._ignored
            guess, truth = guess[counts], numbers[counts].astype(np.int64)
        if self._matrix is not None:
            pairs = np.bincount(truth * n + guess, minlength=n * n)
            self._matrix += pairs.reshape(n, n)
        self._labelled += np.bincount(truth, minlength=n)
        self._guessed += np.bincount(guess, minlength=n)
        self._hits += np.bincount(truth[guess == truth], minlength=n)

    def metrics(self) -> dict[str, float]:
        """Return accuracies, and means over the classes that occur.

        As in scikit-learn, an undefined precision or recall counts as 0 in a mean.
        """
        return _class_metrics(self._labelled, self._guessed, self._hits)

    def report(self, classes: Sequence[str] | None) -> Report:
        """Return precision, recall and F1 of each class, and the confusion matrix."""
        names = _names(classes, self._n_classes)
        return Report(
            "classes",
            self._unit,
            int(self._labelled.sum()),
            _class_rows(names, self._labelled, self._guessed, self._hits),
            self._n_classes,
            _plain(self._matrix),
            names if self._matrix is not None else (),
            _majority(names, self._labelled),
        )


class BinaryScores(Scores):
    """Counts of ones and zeros, and the ranks of ones among the scores.

    A prediction above 0.5 is a one. Precision, recall and F1 are those of the ones,
    over all outputs together; the AUC is the mean over the outputs.

    Parameters
    ----------
    shape : tuple of int
        Shape of the output.
    asks_auc : bool
        Keep the scores for the AUC however many there are.
    """

    metric_names = BINARY_METRICS

    def __init__(self, shape: Shape, *, asks_auc: bool) -> None:
        self._part, self._n_groups = _groups(shape)
        self._n_elems = math.prod(shape)
        # by label and prediction: 0 is a zero predicted as one, …
        self._counts = np.zeros((self._n_groups, 2, 2), np.int64)
        self._kept: list[tuple[Array, Array]] | None = []
        self._n_kept = 0
        self._most = math.inf if asks_auc else MOST_RANKED

    def add(self, prediction: Array, label: Array) -> None:
        """Count predictions by label, and keep their scores."""
        shape = (len(prediction), self._n_groups, -1)
        scores, truth = prediction.reshape(shape), label.reshape(shape) > 0.5
        guess = scores > 0.5
        for t in (0, 1):
            for g in (0, 1):
                found = (truth == bool(t)) & (guess == bool(g))
                self._counts[:, t, g] += found.sum(axis=(0, 2))
        if self._kept is None:
            return
        self._n_kept += scores.size
        if self._n_kept > self._most:
            self._kept = None
        else:
            self._kept.append((scores.astype(np.float32), truth))

    def metrics(self) -> dict[str, float]:
        """Return accuracies, and the rest of the ones."""
        matrix = self._counts.sum(axis=0)
        labelled, guessed, hits = _marginals(matrix)
        found = _class_metrics(labelled, guessed, hits)
        row = _scores_of_class(labelled[1], guessed[1], hits[1])
        of_ones = {name: _or_nan(value) for name, value in row.items()}
        areas = [area for area in self._areas() if area is not None]
        auc = float(np.mean(areas)) if areas else math.nan
        return found | of_ones | {"auc": auc}

    def report(self, classes: Sequence[str] | None) -> Report:
        """Return the two classes of one output, or the ones of each of several."""
        matrix = self._counts.sum(axis=0)
        labelled, guessed, hits = _marginals(matrix)
        names = _names(classes, 2)
        unit = "sample" if self._n_elems == 1 else "value"
        total = int(matrix.sum())
        if self._n_groups == 1:
            return Report(
                "binary",
                unit,
                total,
                _class_rows(names, labelled, guessed, hits),
                2,
                _plain(matrix),
                names,
                _majority(names, labelled),
            )
        rows: list[Row] = []
        for group, area in enumerate(self._areas()):
            labels, guesses, both = _marginals(self._counts[group])
            rows.append(
                {
                    self._part: str(group),
                    "count": int(labels[1]),
                    **_scores_of_class(labels[1], guesses[1], both[1]),
                    "auc": area,
                }
            )
        worst = sorted(range(len(rows)), key=lambda k: (rows[k]["f1"] or 0.0, k))
        return Report(
            "binary",
            unit,
            total,
            tuple(rows[k] for k in sorted(worst[:MOST_PARTS])),
            self._n_groups,
            _plain(matrix),
            names,
            _majority(names, labelled),
        )

    def _areas(self) -> list[float | None]:
        """Return the AUC of each output; None where it is not defined or not made."""
        if not self._kept:
            return [None] * self._n_groups
        scores = np.concatenate([kept[0] for kept in self._kept])
        truth = np.concatenate([kept[1] for kept in self._kept])
        return [
            area_under_curve(scores[:, group], truth[:, group])
            for group in range(self._n_groups)
        ]


class ValueScores(Scores):
    """Sums of errors, and variances of the labels, output by output."""

    metric_names = VALUE_METRICS

    def __init__(self, shape: Shape) -> None:
        self._part, self._n_groups = _groups(shape)
        self._n = 0
        self._absolute, self._squared, self._mean, self._variation = np.zeros(
            (4, self._n_groups)
        )

    def add(self, prediction: Array, label: Array) -> None:
        """Add up errors; labels and predictions are taken as float64."""
        shape = (len(prediction), self._n_groups, -1)
        truth = label.reshape(shape).astype(np.float64)
        error = prediction.reshape(shape) - truth
        self._absolute += np.abs(error).sum(axis=(0, 2))
        self._squared += (error * error).sum(axis=(0, 2))
        n = truth.shape[0] * truth.shape[2]
        mean = truth.mean(axis=(0, 2))
        apart = mean - self._mean
        self._variation += ((truth - mean[None, :, None]) ** 2).sum(axis=(0, 2))
        self._variation += apart * apart * (self._n * n / (self._n + n))
        self._mean += apart * (n / (self._n + n))
        self._n += n

    def metrics(self) -> dict[str, float]:
        """Return errors over all outputs, and the mean of R² over the outputs."""
        n = self._n * self._n_groups
        found = [one for one in self._determined() if one is not None]
        return {
            "mean_absolute_error": float(self._absolute.sum() / n),
            "root_mean_squared_error": math.sqrt(self._squared.sum() / n),
            "error_of_mean": math.sqrt(self._variation.sum() / n),
            "r2": float(np.mean(found)) if found else math.nan,
        }

    def report(self, classes: Sequence[str] | None) -> Report:
        """Return the errors and R² of each output."""
        squared = np.sqrt(self._squared / self._n)
        of_mean = np.sqrt(self._variation / self._n)
        determined = self._determined()
        worst = np.argsort(-squared, kind="stable")[:MOST_PARTS]
        rows: tuple[Row, ...] = tuple(
            {
                self._part: str(k),
                "mean_absolute_error": float(self._absolute[k] / self._n),
                "root_mean_squared_error": float(squared[k]),
                "error_of_mean": float(of_mean[k]),
                "r2": determined[k],
            }
            for k in sorted(worst.tolist())
        )
        return Report("values", "value", self._n * self._n_groups, rows, self._n_groups)

    def _determined(self) -> list[float | None]:
        """Return R² of each output; None where its labels do not differ."""
        return [
            1.0 - squared / variation if variation > 0 else None
            for squared, variation in zip(
                self._squared.tolist(), self._variation.tolist(), strict=True
            )
        ]


class OutputScores(Scores):
    """The mean of what is predicted, where there are no labels."""

    metric_names = (MEAN_OUTPUT,)

    def __init__(self) -> None:
        self._sum, self._n = 0.0, 0

    def add(self, prediction: Array, label: None) -> None:
        """Add up the outputs."""
        self._sum += float(prediction.sum(dtype=np.float64))
        self._n += prediction.size

    def metrics(self) -> dict[str, float]:
        """Return the mean over all outputs."""
        return {MEAN_OUTPUT: self._sum / self._n}

    def report(self, classes: Sequence[str] | None) -> None:
        """Return nothing: an output alone is neither right nor wrong."""
        return


def area_under_curve(scores: Array, truth: Array) -> float | None:
    """Return the share of pairs of a one and a zero in which the one scores higher.

    Equal scores count half. None where all labels are equal.
    """
    _, place = np.unique(scores.reshape(-1), return_inverse=True)
    is_one = truth.reshape(-1)
    ones = np.bincount(place[is_one], minlength=int(place.max()) + 1)
    zeros = np.bincount(place[~is_one], minlength=len(ones))
    n_pairs = int(ones.sum()) * int(zeros.sum())
    if not n_pairs:
        return None
    below = np.cumsum(zeros) - zeros
    return float((ones * (below + zeros / 2)).sum() / n_pairs)


def _groups(shape: Shape) -> tuple[str, int]:
    """Return what the parts of an output are called, and how many there are.

    A row has an output for each of its values; several rows are taken together, by
    channel.
    """
    channels, height, width = shape
    return ("output", width) if channels == height == 1 else ("channel", channels)


def _marginals(matrix: Counts) -> tuple[Counts, Counts, Counts]:
    """Return counts of labels, of predictions and of what is right, by class."""
    return matrix.sum(axis=1), matrix.sum(axis=0), np.diagonal(matrix)


def _class_metrics(labelled: Counts, guessed: Counts, hits: Counts) -> dict[str, float]:
    n = int(labelled.sum())
    if not n:
        return dict.fromkeys(CLASS_METRICS, math.nan)
    occur = (labelled > 0) | (guessed > 0)
    recall = hits / np.maximum(labelled, 1)
    return {
        "accuracy": float(hits.sum() / n),
        "majority_accuracy": float(labelled.max() / n),
        "balanced_accuracy": float(recall[labelled > 0].mean()),
        "precision": float((hits / np.maximum(guessed, 1))[occur].mean()),
        "recall": float(recall[occur].mean()),
        "f1": float((2 * hits / np.maximum(labelled + guessed, 1))[occur].mean()),
    }


def _class_rows(
    names: Sequence[str], labelled: Counts, guessed: Counts, hits: Counts
) -> tuple[Row, ...]:
    most = np.argsort(-labelled, kind="stable")[:MOST_PARTS]
    return tuple(
        {
            "class": names[k],
            "count": int(labelled[k]),
            **_scores_of_class(labelled[k], guessed[k], hits[k]),
        }
        for k in sorted(most.tolist())
    )


def _scores_of_class(labelled: Any, guessed: Any, hits: Any) -> dict[str, float | None]:
    """Return precision, recall and F1 of a class; None where nothing is divided."""
    return {
        "precision": float(hits / guessed) if guessed else None,
        "recall": float(hits / labelled) if labelled else None,
        "f1": float(2 * hits / (labelled + guessed)) if labelled + guessed else None,
    }


def _names(classes: Sequence[str] | None, n: int) -> tuple[str, ...]:
    """Return a name for each class; numbers where the model knows no others."""
    if classes is None or len(classes) > n:
        return tuple(map(str, range(n)))
    return (*classes, *map(str, range(len(classes), n)))


def _majority(names: Sequence[str], labelled: Counts) -> str | None:
    return names[int(labelled.argmax())] if labelled.any() else None


def _plain(matrix: Counts | None) -> tuple[tuple[int, ...], ...] | None:
    return None if matrix is None else tuple(map(tuple, matrix.tolist()))


def _or_nan(value: Any) -> float:
    return math.nan if value is None else float(value)
