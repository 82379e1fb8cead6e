"""Samples and labels, checked against a model and ready to be copied into its arena."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.short_repr import brief, short_repr
from arena_ckpt.common.wording import nearest
from arena_ckpt.data.arrays import (
    check_labels,
    check_row_labels,
    check_samples,
    converts_by_batch,
    is_usable,
)
from arena_ckpt.data.class_terms import weight_of_labels
from arena_ckpt.data.loss_labels import LabelKind, labels_by_loss, refused_labels
from arena_ckpt.errors import (
    DataShapeError,
    InvalidParameterError,
    LabelRangeError,
    NonFiniteDataError,
)
from arena_ckpt.layers.loss import Loss

Shape = tuple[int, int, int]
Rows = npt.NDArray[np.int64] | None
"""Indices of the samples of a batch; None means all samples, in order."""

Scaling = Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]

_LOOKED_AT_ONCE = 4096
"""Number of samples that are looked at together for what is not finite."""

METRICS = ("accuracy", "mean_absolute_error", "mean_output")
"""Name of the metric of class labels, of labels that are values, and of no labels."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples and labels as arrays that fit a model.

    Attributes
    ----------
    inputs : dict from str to array, shape (n, elements)
        Samples for each input layer: float32, or what becomes float32 batch by batch.
    labels : float32 array (n, elements), int64 array (n,) of class numbers, or None
    n_classes : int or None
        Number of classes, where labels are classes.
    ignored_label : int or None
        Label of rows that do not count, where each row of a sample has a label.
    n_counted : int64 array (n,) or None
        Number of rows of each sample that count, where not all do.
    masks : frozenset of str
        Names of the inputs that may hold -inf.
    scaling : mapping from str to pair of float32 arrays, shape (elements,)
        What is subtracted from samples of an input, and then their factor, when they
        are loaded into the arena.
    classes : tuple of str or None
        Names of the classes, where they are known.
    output_shape : Shape
        Shape of one sample of the output.
    class_axis : int
        Axis of the output along which the classes are; 3 is the width.
    class_weights : tuple of float or None
        How much a label of each class counts in the mean, where not all count 1.
    by_loss : mapping from str to Samples
        Of a model of several losses: the samples with the labels of each loss; `labels`
        is None then.
    """

    inputs: dict[str, npt.NDArray[Any]]
    labels: npt.NDArray[Any] | None
    n_classes: int | None
    ignored_label: int | None = None
    n_counted: npt.NDArray[np.int64] | None = None
    masks: frozenset[str] = frozenset()
    scaling: Scaling = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    output_shape: Shape = (1, 1, 1)
    class_axis: int = 3
    class_weights: tuple[float, ...] | None = None
    by_loss: Mapping[str, Samples] = field(default_factory=dict)

    def __repr__(self) -> str:
        shapes = {name: value.shape for name, value in self.inputs.items()}
        labels = (
            f"labels of {', '.join(self.by_loss)}"
            if self.by_loss
            else "no labels"
            if self.labels is None
            else f"labels {self.labels.dtype} {self.labels.shape}"
        )
        inputs = f"inputs {brief(shapes)}"
        classes = f"{self.n_classes:,} classes" if self.n_classes else ""
        return short_repr(self, "", inputs, labels, classes)

    @classmethod
    def check(
        cls,
        x: Any,
        y: Any,
        *,
        inputs: Mapping[str, Shape],
        output_shape: Shape,
        loss: Loss | None,
        reading: str | None,
        masks: frozenset[str] = frozenset(),
        look_for_nonfinite: bool = True,
    ) -> Samples:
        """Check and convert the samples and labels that a user gives.

        Parameters
        ----------
        x : array_like, or dict from input layer to array_like
            One sample a row, flat or in the shape of the input layer.
        y : array_like or None
            Values of the output's shape, or class numbers.
        inputs : mapping
            Shapes of the input layers.
        output_shape : Shape
        loss : Loss or None
            Says which labels there can be; None where there can be none.
        reading : str or None
            How the loss reads several rows of a sample, and how to make them one; None
            where a sample is one row.
        masks : frozenset of str
            Names of the inputs that may hold -inf.
        look_for_nonfinite : bool
            False leaves the search for NaN and infinity to the caller, where the arrays
            need no conversion.

        Raises
        ------
        DataError
            A shape, dtype, value or number of samples does not fit; see
            `arena_ckpt.data.arrays`.
        """
        checked = _check_inputs(x, inputs, masks, look_for_nonfinite)
        if y is None:
            return cls(checked, None, None, masks=masks)
        assert loss is not None
        if not loss.takes_label:
            raise refused_labels((loss.name,))
        kind = LabelKind(loss, output_shape, reading)
        if isinstance(y, Mapping):
            y = labels_by_loss(y, (loss.name,))[loss.name]
        return cls._labelled(checked, y, kind, masks, look_for_nonfinite)

    @classmethod
    def check_by_loss(
        cls,
        x: Any,
        y: Any,
        *,
        inputs: Mapping[str, Shape],
        kinds: Mapping[str, LabelKind],
        masks: frozenset[str] = frozenset(),
        look_for_nonfinite: bool = True,
    ) -> Samples:
        """Check and convert samples and the labels of several losses.

        Parameters
        ----------
        x, inputs, masks, look_for_nonfinite
            See `check`.
        y : dict from loss to array_like, or None
        kinds : mapping
            What labels each loss takes.

        Raises
        ------
        InvalidParameterError
            Labels for other losses than there are.
        DataError
            See `check`.
        """
        checked = _check_inputs(x, inputs, masks, look_for_nonfinite)
        if y is None:
            return cls(checked, None, None, masks=masks)
        labelled = [name for name, kind in kinds.items() if kind.loss.takes_label]
        if not labelled:
            raise refused_labels(tuple(kinds))
        given = labels_by_loss(y, labelled)
        by_loss = {
            name: cls._labelled(
                checked, given[name], kind, masks, look_for_nonfinite, f"y[{name!r}]"
            )
            if name in given
            else cls(checked, None, None, masks=masks)
            for name, kind in kinds.items()
        }
        return cls(checked, None, None, masks=masks, by_loss=by_loss)

    @classmethod
    def _labelled(
        cls,
        checked: dict[str, npt.NDArray[Any]],
        y: Any,
        kind: LabelKind,
        masks: frozenset[str],
        look_for_nonfinite: bool,
        name: str = "y",
    ) -> Samples:
        """Return checked samples with the labels of one loss, checked."""
        loss, output_shape, reading = kind
        n_samples = len(next(iter(checked.values())))
        units, ignored = math.prod(output_shape), loss.ignored_label
        facts: dict[str, Any] = {
            "masks": masks,
            "output_shape": output_shape,
            "class_axis": loss.class_axis,
            "class_weights": loss.class_weights,
        }
        if ignored is not None:
            n_classes = output_shape[loss.class_axis - 1]
            n_rows = units // n_classes
            of_rows = check_row_labels(y, n_samples, n_rows, n_classes, ignored, name)
            n_counted = np.count_nonzero(of_rows != ignored, axis=1)
            return cls(checked, of_rows, n_classes, ignored, n_counted, **facts)
        is_one_row = units == output_shape[loss.class_axis - 1]
        sparse = loss.takes_class_numbers and (is_one_row or loss.class_axis == 3)
        labels, may_be_numbers = y, sparse and is_one_row
        if look_for_nonfinite or not (
            (_is_ready(y, units) and len(y) == n_samples)
            or (may_be_numbers and _are_ready_class_numbers(y, n_samples, units))
        ):
            labels = check_labels(
                y, n_samples, units, sparse=sparse, name=name, reading=reading
            )
        if loss.takes_probabilities:
            _check_probabilities(labels, name)
        are_classes = look_for_nonfinite and _are_classes(labels)
        return cls(checked, labels, units if are_classes else None, **facts)

    @property
    def is_looked_at_later(self) -> bool:
        """Whether each pass has to look for NaN and infinity in its samples."""
        return any(
            array.dtype.kind == "f" and converts_by_batch(array)
            for array in self.inputs.values()
        )

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    def n_terms(self, rows: Rows = None) -> float:
        """Return what the loss of samples `rows` is divided by in its mean.

        It is `n_scored`, or the sum of the weights that the classes of the labels have.
        """
        if self.class_weights is None:
            return self.n_scored(rows)
        assert self.labels is not None
        labels = self.labels if rows is None else self.labels[rows]
        return weight_of_labels(
            labels,
            self.class_weights,
            self.output_shape,
            self.class_axis,
            self.ignored_label,
        )

    def n_scored(self, rows: Rows = None) -> int:
        """Return the number of labels that predictions for samples `rows` have.

        Each sample has one, or each of its rows where rows have labels of their own.
        """
        if self.n_counted is not None:
            return int((self.n_counted if rows is None else self.n_counted[rows]).sum())
        return self.n_samples if rows is None else len(rows)

    @property
    def metric_name(self) -> str:
        """Name of the metric: accuracy of classes, mean absolute error of values.

        Of several losses it is that of the first; without labels, the mean output.
        """
        if self.by_loss:
            return next(iter(self.by_loss.values())).metric_name
        if self.labels is None:
            return METRICS[2]
        return METRICS[0 if self.n_classes else 1]

    def metric_sum(
        self,
        prediction: npt.NDArray[np.float32],
        label: npt.NDArray[np.float32] | None,
    ) -> float:
        """Return the metric of a batch, summed over its samples or rows that count."""
        n = len(prediction)
        if label is None:
            means = prediction.reshape(n, -1).mean(axis=1, dtype=np.float64)
            return float(means.sum())
        if self.n_counted is not None:
            hits = prediction.argmax(axis=self.class_axis).reshape(n, -1) == label
            return float(np.count_nonzero(hits & (label != self.ignored_label)))
        guess, truth = prediction.reshape(n, -1), label.reshape(n, -1)
        if not self.n_classes:
            return float(np.abs(guess - truth).mean(axis=1, dtype=np.float64).sum())
        if self.n_classes == 1:
            return float(np.count_nonzero((guess > 0.5) == (truth > 0.5)))
        return float(np.count_nonzero(guess.argmax(axis=1) == truth.argmax(axis=1)))

    def for_metrics(
        self, outputs: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any] | None]:
        """Return outputs and labels in shapes that can be compared.

        Parameters
        ----------
        outputs : float32 array, shape (n, channel, height, width)

        Returns
        -------
        outputs : ndarray
            ``(n, width)`` where a sample is one row.
        labels : ndarray or None
            Class numbers ``(n,)``; of rows in the shape of the outputs without the
            axis of the classes, ``(n, channel, height)``; other labels in the shape of
            the outputs. None where the loss takes none.
        """
        labels = self.labels
        if labels is None:
            is_row = outputs.shape[1:3] == (1, 1)
            return outputs.reshape(len(outputs), -1) if is_row else outputs, None
        if self.n_counted is not None:
            shape = np.delete(outputs.shape, self.class_axis)
            labels = labels.reshape(shape).astype(np.int64)
        elif labels.ndim == 2:
            labels = labels.reshape(outputs.shape)
            if outputs.shape[1:3] == (1, 1):
                labels = labels.reshape(len(labels), -1)
        if outputs.shape[1:3] == (1, 1) and self.n_counted is None:
            outputs = outputs.reshape(len(outputs), -1)
        return outputs, labels

    def raise_nonfinite(self) -> None:
        """Find the NaN or infinity in the samples or labels and raise its error.

        Raises
        ------
        NonFiniteDataError
        """
        arrays = [*self.inputs.items(), ("y", self.labels)]
        arrays += [(f"y[{n!r}]", one.labels) for n, one in self.by_loss.items()]
        for name, array in arrays:
            if array is None:
                continue
            where = _unusable(array, name in self.masks)
            if not len(where):
                continue
            index = ", ".join(str(i) for i in where[0])
            label = "x" if name in self.inputs and len(self.inputs) == 1 else name
            raise NonFiniteDataError(
                f"{label} has {len(where):,} values that are NaN or infinite, the "
                f"first at [{index}]; clean the data. No weight was changed",
                name=label,
                index=tuple(int(i) for i in where[0]),
                count=len(where),
            )


def _unusable(array: npt.NDArray[Any], is_mask: bool) -> npt.NDArray[np.intp]:
    """Return the places of NaN, infinity and what is beyond float32, part by part."""
    found = []
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(array), _LOOKED_AT_ONCE):
            part = array[start : start + _LOOKED_AT_ONCE].astype(np.float32, copy=False)
            where = np.argwhere(~is_usable(part, is_mask))
            where[:, 0] += start
            found.append(where)
    return np.concatenate(found)


def missing_classes(training: Samples, validation: Samples) -> list[int]:
    """Return the classes of validation data of which training data have no sample."""
    known, asked = training.labels, validation.labels
    if known is None or asked is None or known.ndim != 1 or asked.ndim != 1:
        return []
    return [int(number) for number in np.setdiff1d(asked, known)]


def _check_inputs(
    x: Any,
    inputs: Mapping[str, Shape],
    masks: frozenset[str],
    look_for_nonfinite: bool,
) -> dict[str, npt.NDArray[Any]]:
    """Return the array of each input layer, all with the same number of samples."""
    arrays = _by_input(x, inputs)
    checked = {}
    for name, shape in inputs.items():
        array, elems = arrays[name], math.prod(shape)
        if look_for_nonfinite or not _is_ready(array, elems):
            label = "x" if len(inputs) == 1 else f"x[{name!r}]"
            is_mask = name in masks
            array = check_samples(array, elems, shape, label, is_mask=is_mask)
        checked[name] = array
    if len({*map(len, checked.values())}) > 1:
        counts = {name: len(array) for name, array in checked.items()}
        raise DataShapeError(
            f"the inputs have different numbers of samples: {counts}; make them equal",
            found=counts,
        )
    return checked


def _check_probabilities(labels: npt.NDArray[Any], name: str) -> None:
    """Refuse values outside [0, 1]; NaN is left to the checks for that."""
    if labels.ndim != 2 or not (labels.min() < 0 or labels.max() > 1):
        return
    index = tuple(int(i) for i in np.argwhere((labels < 0) | (labels > 1))[0])
    raise LabelRangeError(
        f"{name}[{index[0]}, {index[1]}] is {labels[index]:g}; for a cross entropy "
        "labels are probabilities from 0 to 1 (one-hot rows, or one class number a "
        "sample)",
        index=index,
        value=float(labels[index]),
    )


def _by_input(x: Any, inputs: Mapping[str, Shape]) -> dict[str, Any]:
    """Return what a user gives for each input layer."""
    if not isinstance(x, Mapping):
        if len(inputs) == 1:
            return {next(iter(inputs)): x}
        raise InvalidParameterError(
            f"the model has {len(inputs)} inputs ({', '.join(inputs)}); give x as a "
            "dict with an array for each",
            inputs=tuple(inputs),
        )
    unknown = [name for name in x if name not in inputs]
    missing = [name for name in inputs if name not in x]
    if unknown or missing:
        hint = nearest(unknown[0], inputs) if unknown else ""
        raise InvalidParameterError(
            f"x is a dict with {', '.join(map(repr, x)) or 'nothing'}{hint}; the model "
            f"needs exactly {', '.join(map(repr, inputs))}",
            unknown=tuple(unknown),
            missing=tuple(missing),
        )
    return dict(x)


def _is_ready(array: Any, elems: int) -> bool:
    """Tell whether an array can be copied into the arena as it is."""
    return (
        type(array) is np.ndarray  # a subclass may mean more, such as a mask
        and array.dtype == np.float32
        and array.ndim == 2
        and array.shape[1] == elems
        and len(array) > 0
        and array.flags.c_contiguous
    )


def _are_ready_class_numbers(array: Any, n_samples: int, units: int) -> bool:
    """Tell whether class numbers can be used as they are, and are in range."""
    return (
        type(array) is np.ndarray
        and array.dtype == np.int64
        and array.shape == (n_samples,)
        and array.flags.c_contiguous
        and array.flags.aligned
        # Read as unsigned, negative numbers are the largest.
        and bool(array.view(np.uint64).max() < units)
    )


def _are_classes(labels: npt.NDArray[Any]) -> bool:
    """Tell whether labels are class numbers, one-hot rows or single bits."""
    if labels.ndim == 1:
        return True
    bits = bool(((labels == 0) | (labels == 1)).all())
    return bits and (labels.shape[1] == 1 or bool((labels.sum(axis=1) == 1).all()))
