"""A data set: samples and their labels, as training and evaluation take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.short_repr import counted, short_repr
from arena_ckpt.common.wording import few, nearest, quote, quoted
from arena_ckpt.data.arrays import (
    converts_by_batch,
    require_room,
    to_float32,
    to_numbers,
)
from arena_ckpt.data.class_counts import class_counts, counts_text
from arena_ckpt.data.gaps import Gaps, filled, observed_means, parse_means
from arena_ckpt.data.splits import by_groups, part_sizes, stratified
from arena_ckpt.errors import (
    DataShapeError,
    DataTypeError,
    EmptyDataError,
    InvalidParameterError,
    LabelRangeError,
    UnknownClassError,
)


@public_call(
    hint="a name for messages comes first, as in Dataset('mine', x, y); train, "
    "evaluate and verify also take (x, y), and load_csv, load_digits, load_idx and "
    "load_npz make one of files"
)
@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples and, where there are any, their labels.

    Attributes
    ----------
    name : str
        Name in messages and reports.
    x : ndarray, or dict from str to ndarray
        ``(n, …)``, C-contiguous float32; for a model of several inputs a dict with an
        array for each, by the name of its layer.
    y : ndarray, dict from str to ndarray, or None
        Class numbers, int64 ``(n,)``, or targets, float32 ``(n, …)``; C-contiguous. For
        a model of several losses a dict with an array for each, by its name.
    classes : tuple of str or None
        Names of the classes, by their numbers, where the labels were names.
    gaps : Gaps or None
        The cells of a table that had no value, and the means that stand in them;
        `load_csv` with `missing` makes it.
    standardized : bool
        Whether a model is to standardize its inputs by them, see `standardize`.

    Raises
    ------
    DataTypeError, DataShapeError, EmptyDataError
        The arrays are not as described, and cannot be made so.

    Notes
    -----
    Other real numbers are converted, as `Model.train` converts ``(x, y)``: samples to
    float32, where a sample of one number can lack its dimension; whole numbers of
    shape ``(n,)`` or ``(n, 1)`` to class numbers; other labels to float32, those of
    shape ``(n,)`` to ``(n, 1)``. Arrays that are right already are not copied.

    Samples of uint8, such as pictures, and arrays in files that are mapped into memory
    (``numpy.load(path, mmap_mode="r")``) stay as they are, without a copy. They become
    float32 batch by batch, with the same values: those of bytes are 0 to 255.
    """

    name: str
    x: Any
    y: Any
    classes: tuple[str, ...] | None = None
    gaps: Gaps | None = None
    standardized: bool = False

    def __repr__(self) -> str:
        counts = self.class_counts
        labels = (
            "no labels"
            if self.y is None
            else ", ".join(f"{name} {array.shape}" for name, array in self.y.items())
            if isinstance(self.y, dict)
            else f"values {self.y.shape}"
            if counts is None
            else counts_text(counts)
        )
        n = counted(self.n_samples, "sample")
        shapes = (
            ", ".join(f"{name} {array.shape}" for name, array in self.x.items())
            if isinstance(self.x, dict)
            else f"x {self.x.shape}"
        )
        standardized = "standardized" if self.standardized else ""
        return short_repr(self, repr(self.name), n, shapes, labels, standardized)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise DataTypeError(
                f"the name of a data set is a {type(self.name).__name__}; expected a "
                "text for messages, as in Dataset('mine', x, y)",
                name=self.name,
            )
        x: npt.NDArray[Any] | dict[str, npt.NDArray[Any]]
        if isinstance(self.x, Mapping):
            x = _inputs(self.name, self.x)
        else:
            x = _samples(f"{self.name}: x", self.x)
        object.__setattr__(self, "x", x)
        if isinstance(self.y, Mapping):
            object.__setattr__(self, "y", self._checked_labels_by_loss(self.y))
        elif self.y is not None:
            object.__setattr__(self, "y", self._checked_labels(self.y, "y"))
        if self.classes is not None:
            object.__setattr__(self, "classes", self._checked_classes())
        if self.gaps is not None:
            self._check_gaps()

    def _checked_labels(self, y: Any, what: str) -> npt.NDArray[Any]:
        labels = _labels(f"{self.name}: {what}", y)
        if labels.ndim == 0 or len(labels) != self.n_samples:
            raise DataShapeError(
                f"{self.name}: {what} has the shape {np.shape(y)} for "
                f"{self.n_samples:,} samples in x; expected ({self.n_samples},) or "
                f"({self.n_samples}, …), one label for each sample",
                name=self.name,
                expected=self.n_samples,
                found=np.shape(y),
            )
        return labels

    def _checked_labels_by_loss(
        self, y: Mapping[Any, Any]
    ) -> dict[str, npt.NDArray[Any]]:
        if not y or not all(isinstance(key, str) for key in y):
            raise DataTypeError(
                f"{self.name}: y is a dict with "
                f"{', '.join(map(quoted, y)) or 'nothing'}; expected the labels of "
                "each loss of a model, by its name",
                name=self.name,
            )
        return {key: self._checked_labels(one, f"y[{key!r}]") for key, one in y.items()}

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(_first(self.x))

    @property
    def class_counts(self) -> dict[str, int] | None:
        """Number of samples of each class, by its name or else its number.

        None where labels are no classes, or of several losses. Single values are
        classes where all are 0 or 1.
        """
        if isinstance(self.y, dict):
            return None
        return class_counts(self.y, self.classes)

    @public_call
    def take(self, indices: npt.ArrayLike) -> Dataset:
        """Return the samples with the given numbers, in the given order.

        Parameters
        ----------
        indices : array_like of int
            From 0; one-dimensional; repetitions are allowed.

        Raises
        ------
        EmptyDataError
            No index.
        InvalidParameterError
            An index that is no whole number, or outside ``[0, n_samples)``.
        """
        index = _to_indices(indices, self.name)
        if index.size == 0:
            raise EmptyDataError(
                f"{self.name}: no sample is taken; give at least one index",
                name=self.name,
            )
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise InvalidParameterError(
                f"{self.name}: indices of {index.dtype} and shape {index.shape}; "
                "expected whole numbers in one dimension",
                name=self.name,
                found=index.shape,
            )
        arrays = self.x.values() if isinstance(self.x, dict) else (self.x,)
        sample_bytes = sum(array[0].nbytes for array in arrays)
        require_room(index.shape, 8 + sample_bytes, f"{self.name}: indices")
        outside = (index < 0) | (index >= self.n_samples)
        if outside.any():
            value = int(index[np.argmax(outside)])
            raise InvalidParameterError(
                f"{self.name}: there is no sample {value}; samples are numbered 0 to "
                f"{self.n_samples - 1}",
                name=self.name,
                index=value,
                n_samples=self.n_samples,
            )
        return self._part(index)

    def _part(self, rows: Any) -> Dataset:
        """Return some samples, by their numbers or as a slice."""
        if isinstance(self.x, dict):
            x: Any = {name: array[rows] for name, array in self.x.items()}
        else:
            x = self.x[rows]
        if isinstance(self.y, dict):
            y: Any = {name: array[rows] for name, array in self.y.items()}
        else:
            y = None if self.y is None else self.y[rows]
        gaps = self.gaps and Gaps(self.gaps.means, self.gaps.cells[rows])
        return replace(self, x=x, y=y, gaps=gaps)

    @public_call
    def split(
        self,
        validation_fraction: float,
        seed: int | None = None,
        *,
        stratify: bool = False,
        shuffle: bool = True,
        groups: npt.ArrayLike | None = None,
    ) -> tuple[Dataset, Dataset]:
        """Return two data sets, by default with the samples in a random order.

        Parameters
        ----------
        validation_fraction : float
            Above 0 and below 1; the part's size is rounded to the nearest whole number.
        seed : int
            At least 0; the same seed gives the same parts. Without `shuffle` it is not
            needed.
        stratify : bool
            Give each class the same share in both parts, as far as whole samples can; a
            class with a single sample is trained on.
        shuffle : bool
            False keeps the order: the last samples are for validation, as for a series
            in time.
        groups : array_like, shape (n,), optional
            Numbers or texts; samples with equal ones stay in one part, for example
            windows that overlap, or pictures of one person. The parts have about the
            sizes asked for.

        Returns
        -------
        training, validation : Dataset
            Cells that were filled in with the means of their columns have those of the
            training part, in both.

        Raises
        ------
        InvalidParameterError
            A fraction or a seed that cannot be, or ways that exclude each other.
        EmptyDataError
            A part would have no samples.
        DataError
            Labels that are no class numbers, to stratify, or groups that do not fit.
        """
        for option, value in (("stratify", stratify), ("shuffle", shuffle)):
            if not isinstance(value, bool):
                raise InvalidParameterError(
                    f"{option}={quoted(value)} is not possible; expected True or False",
                    **{option: value},
                )
        if stratify and (groups is not None or not shuffle):
            other = "groups=" if groups is not None else "shuffle=False"
            raise InvalidParameterError(
                f"stratify=True and {other} exclude each other; keep one",
                stratify=stratify,
            )
        if shuffle and (not is_whole(seed) or seed < 0):  # type: ignore[operator]
            raise InvalidParameterError(
                f"seed={quoted(seed)} is not possible; expected a whole number of at "
                "least 0: the same one puts the same samples aside; or shuffle=False, "
                "which puts the last ones aside",
                seed=seed,
            )
        n_training, n_validation = part_sizes(
            self.name, self.n_samples, validation_fraction
        )
        generator = np.random.default_rng(seed) if shuffle else None
        if groups is not None:
            training, validation = by_groups(
                self.name, groups, self.n_samples, n_validation, generator
            )
        elif generator is None:
            first = self._part(slice(n_training))
            return _filled_alike(first, self._part(slice(n_training, None)))
        elif stratify:
            labels = None if isinstance(self.y, dict) else self.y
            training, validation = stratified(
                self.name, labels, n_validation, generator
            )
        else:
            order = generator.permutation(self.n_samples)
            training, validation = order[:n_training], order[n_training:]
        return _filled_alike(self.take(training), self.take(validation))

    @public_call
    def standardize(self) -> Dataset:
        """Return the same data, by which a model is to standardize its inputs.

        The first training on them, or on a part of them, gives each feature of the
        inputs mean 0 and deviation 1 by the samples that it trains on, as
        `Model.standardize` does: the model holds the statistics, and the data stay raw.
        Later trainings keep them.
        """
        return replace(self, standardized=True)

    @public_call
    def with_means(self, means: Iterable[float]) -> Dataset:
        """Return the same samples with other means where cells had no value.

        Parameters
        ----------
        means : iterable of float
            One for each column, for example `Model.column_means`.

        Raises
        ------
        InvalidParameterError
            They are no finite numbers, or not as many as columns.
        """
        if self.gaps is None:
            parse_means("means", means)
            return self
        return self._with(parse_means("means", means, len(self.gaps.means)))

    def _with(self, means: tuple[float, ...]) -> Dataset:
        """Return the same samples with other means in their gaps."""
        assert self.gaps is not None
        x, gaps = filled(self.x, self.gaps, means)
        return replace(self, x=x, gaps=gaps)

    @public_call
    def with_classes(self, classes: Iterable[str]) -> Dataset:
        """Return the same samples with their classes numbered in another order.

        Parameters
        ----------
        classes : iterable of str
            Names by their new numbers, for example `Model.classes`.

        Raises
        ------
        UnknownClassError
            Samples have a class that is not among them.
        InvalidParameterError
            The data set has no names of classes, or a name is given twice.
        """
        names = _names_of_classes(self.name, classes)
        if self.classes is None or self.y is None:
            raise InvalidParameterError(
                f"{self.name}: the labels have no names, so they cannot be renumbered "
                f"by {quote(names)}; give classes= with their names, by their numbers",
                name=self.name,
            )
        if names == self.classes:
            return self
        present = np.unique(self.y)
        unknown = [self.classes[n] for n in present if self.classes[n] not in {*names}]
        if unknown:
            sample = int(np.argmax(self.y == self.classes.index(unknown[0])))
            raise UnknownClassError(
                f"{self.name}: sample {sample} has the class {unknown[0]!r}"
                f"{nearest(unknown[0], names)}, and the model knows {quote(names)}; "
                f"unknown are {quote(unknown)}: mend these labels, or train a model "
                "with them",
                name=self.name,
                unknown=tuple(unknown),
                classes=names,
                sample=sample,
            )
        place = {name: number for number, name in enumerate(names)}
        new = np.array([place.get(name, -1) for name in self.classes], np.int64)
        return replace(self, y=new[self.y], classes=names)

    def _check_gaps(self) -> None:
        gaps, shape = self.gaps, None if isinstance(self.x, dict) else self.x.shape
        if (
            not isinstance(gaps, Gaps)
            or gaps.cells.shape != shape
            or shape[1:] != (len(gaps.means),)
        ):
            raise DataTypeError(
                f"{self.name}: gaps={quoted(self.gaps)} do not fit x; leave it out, "
                "load_csv gives it where cells without a value are filled in",
                name=self.name,
            )

    def _checked_classes(self) -> tuple[str, ...]:
        assert self.classes is not None
        names = _names_of_classes(self.name, self.classes)
        y = self.y
        if not isinstance(y, np.ndarray) or y.dtype != np.int64 or y.ndim != 1:
            raise DataTypeError(
                f"{self.name}: classes= names class numbers, and y has none; give whole"
                " numbers of shape (n,)",
                name=self.name,
            )
        outside = (y < 0) | (y >= len(names))
        if outside.any():
            sample = int(np.argmax(outside))
            raise LabelRangeError(
                f"{self.name}: y[{sample}] is {y[sample]}, and classes= has "
                f"{len(names)} names (0 to {len(names) - 1}); name all classes",
                name=self.name,
                index=sample,
                value=int(y[sample]),
                units=len(names),
                count=int(np.count_nonzero(outside)),
            )
        return names


def _filled_alike(training: Dataset, validation: Dataset) -> tuple[Dataset, Dataset]:
    """Return two parts with the means of the first where cells had no value."""
    gaps = training.gaps
    if gaps is None:
        return training, validation
    means = observed_means(training.x, gaps.cells, gaps.means)
    return training._with(means), validation._with(means)


def _names_of_classes(name: str, classes: object) -> tuple[str, ...]:
    names: tuple[Any, ...] = ()
    if isinstance(classes, Iterable) and not isinstance(classes, str | bytes):
        try:
            names = tuple(few(classes))
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(
                f"{name}: classes= cannot be used ({error}); give a text for each",
                name=name,
            ) from None
        names = tuple(str(one) if isinstance(one, np.str_) else one for one in names)
    if not names or not all(isinstance(one, str) for one in names):
        raise InvalidParameterError(
            f"{name}: classes={quoted(classes)} are no names; give a text for each "
            "class, by its number",
            name=name,
            classes=classes,
        )
    if len({*names}) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise InvalidParameterError(
            f"{name}: two classes have the name {twice!r}; give each its own",
            name=name,
            classes=names,
        )
    return names


def _first(x: npt.NDArray[Any] | dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return next(iter(x.values())) if isinstance(x, dict) else x


def _inputs(name: str, x: Mapping[Any, Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the samples of several inputs, all of one number."""
    if not x or not all(isinstance(key, str) for key in x):
        raise DataTypeError(
            f"{name}: x is a dict with {', '.join(map(quoted, x)) or 'nothing'}; "
            "expected an array for each input of a model, by the name of its layer",
            name=name,
        )
    arrays = {key: _samples(f"{name}: x[{key!r}]", value) for key, value in x.items()}
    counts = {key: len(array) for key, array in arrays.items()}
    if len({*counts.values()}) > 1:
        raise DataShapeError(
            f"{name}: the inputs have different numbers of samples: {counts}; make "
            "them equal",
            name=name,
            found=counts,
        )
    return arrays


def _samples(name: str, x: Any) -> npt.NDArray[Any]:
    """Return samples as float32, or as what becomes float32 batch by batch."""
    array = to_numbers(x, name, may_stay=True)
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise DataShapeError(
            f"{name} has the shape {array.shape}; expected (n, …) with at "
            "least one value for each sample",
            name=name,
            found=array.shape,
        )
    if not len(array):
        raise EmptyDataError(
            f"{name.removesuffix(': x')}: there are no samples", name=name
        )
    return array if converts_by_batch(array) else to_float32(array)


def _labels(name: str, y: Any) -> npt.NDArray[Any]:
    """Return class numbers as int64, and other labels as float32."""
    array = to_numbers(y, name)
    is_column = array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)
    if array.dtype.kind == "f":
        array = to_float32(array)
        return array.reshape(-1, 1) if array.ndim == 1 else array
    if is_column:
        if array.dtype == np.uint64 and array.size and array.max() >= 2**63:
            raise DataTypeError(
                f"{name} has the class number {array.max()}; expected whole numbers "
                "below 2**63",
                name=name,
                value=int(array.max()),
            )
        return np.require(array.reshape(-1), np.int64, ["C", "A"])
    if array.dtype.kind != "b" and array.size and np.abs(array).max() > 2**24:
        # as float32 they would become other numbers
        return np.require(array, np.int64, ["C", "A"])
    return to_float32(array)


def _to_indices(indices: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(indices)
    except Exception as error:  # whatever the array of another library raises
        raise InvalidParameterError(
            f"{name}: {quoted(indices)} are no numbers of samples ({error}); give a "
            "list of whole numbers",
            name=name,
        ) from error


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
