"""Checks and converts the arrays that a user gives to train, evaluate or predict.

These checks stand at the boundary of training. The arrays that they return have the
dtype, the memory order, the shape and the range that the kernels take for granted.
"""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.free_memory import available_bytes
from arena_ckpt.common.units import format_bytes
from arena_ckpt.common.wording import quoted
from arena_ckpt.errors import (
    DataShapeError,
    DataTypeError,
    EmptyDataError,
    LabelRangeError,
    NonFiniteDataError,
)
from arena_ckpt.kernels.flags import run_by_default

SMALL_BYTES = 64 * 2**20
"""Copies below this number of bytes are made without asking how much memory is free."""


def is_mapped(array: npt.NDArray[Any]) -> bool:
    """Tell whether an array lies in a file that is mapped into memory."""
    base: Any = array
    while base is not None:
        if isinstance(base, mmap.mmap | np.memmap):
            return True
        base = getattr(base, "base", None)
    return False


def converts_by_batch(array: npt.NDArray[Any]) -> bool:
    """Tell whether samples stay as they are, and become float32 batch by batch.

    Bytes, such as pictures, and arrays in mapped files do: their copies would take four
    times their size, or more memory than there is.
    """
    return array.flags.c_contiguous and (array.dtype == np.uint8 or is_mapped(array))


def check_samples(
    x: npt.ArrayLike,
    sample_elems: int,
    sample_shape: tuple[int, int, int],
    name: str = "x",
    *,
    is_mask: bool = False,
) -> npt.NDArray[np.float32]:
    """Return samples as float32 in the order in which the model reads them.

    Parameters
    ----------
    x : array_like of numbers or bools
        ``(n, sample_elems)``, ``(n, *sample_shape)`` or the latter with dimensions of
        size 1 left out or added. For a model whose input is a plain vector, any
        ``(n, …)`` with `sample_elems` values in a sample.
    sample_elems : int
        Number of values in one sample.
    sample_shape : tuple of int
        Channels, height and width of the model's input.
    name : str
        Name of the array in messages.
    is_mask : bool
        The samples are a mask, which may hold -inf.

    Returns
    -------
    ndarray of float32
        ``(n, sample_elems)``, C-contiguous; `x` itself, or a view of it, where it
        already is. An array that `converts_by_batch` keeps its dtype, and is not read.

    Raises
    ------
    DataTypeError
        Objects, strings, complex numbers, dates.
    DataShapeError
        Samples of another size or shape.
    EmptyDataError
        No samples.
    NonFiniteDataError
        NaN, infinity or a number beyond float32.
    """
    array = to_numbers(x, name, may_stay=True)
    _require_samples(array, name)
    if not _fits_sample(array.shape[1:], sample_elems, sample_shape):
        raise _misshapen_samples(array.shape, sample_elems, sample_shape, name)
    if converts_by_batch(array):
        return array.reshape(array.shape[0], sample_elems)
    converted = to_finite_float32(array, name, is_mask=is_mask)
    return converted.reshape(array.shape[0], sample_elems)


def _misshapen_samples(
    found: tuple[int, ...],
    sample_elems: int,
    sample_shape: tuple[int, int, int],
    name: str,
) -> DataShapeError:
    channels, height, width = sample_shape
    expected = f"(n, {sample_elems})"
    if math.prod(sample_shape) != max(sample_shape):
        expected += f" or (n, {channels}, {height}, {width})"
    hint = (
        f"; for a single sample, pass {name}[None]"
        if _fits_sample(found, sample_elems, sample_shape)
        else "; reshape the data or change the input layer"
    )
    return DataShapeError(
        f"{name} has the shape {found}; expected {expected}, with n the number of "
        f"samples{hint}",
        name=name,
        expected=(None, sample_elems),
        found=found,
    )


def check_labels(
    y: npt.ArrayLike,
    n_samples: int,
    units: int,
    *,
    sparse: bool,
    name: str = "y",
    reading: str | None = None,
) -> npt.NDArray[np.float32] | npt.NDArray[np.int64]:
    """Return labels as the loss reads them: float32 values, or int64 class numbers.

    Parameters
    ----------
    y : array_like of numbers or bools
        Targets, ``(n_samples, units)`` or another shape with as many values for each
        sample; where `sparse`, also class numbers, ``(n_samples,)`` or
        ``(n_samples, 1)``.
    n_samples : int
        Number of samples in x.
    units : int
        Number of values that the model puts out for one sample.
    sparse : bool
        Whether the loss takes class numbers (cross_softmax does).
    name : str
        Name of the array in messages.
    reading : str or None
        Where a sample has several rows, for which class numbers are not taken: how the
        loss reads them, and how to make them one.

    Returns
    -------
    ndarray of float32 or int64
        Targets as ``(n_samples, units)`` float32, class numbers as ``(n_samples,)``
        int64; C-contiguous; `y` itself, or a view of it, where it already is.

    Raises
    ------
    DataTypeError
        Objects, strings, complex numbers, dates; class numbers that are not whole.
    DataShapeError
        Another number of labels than of samples, or of values than of units.
    EmptyDataError
        No labels.
    NonFiniteDataError
        NaN, infinity or a target beyond float32.
    LabelRangeError
        A class number outside ``[0, units)``.
    """
    array = to_numbers(y, name)
    _require_samples(array, name)
    n_labels = array.shape[0]
    if n_labels != n_samples:
        raise DataShapeError(
            f"{name} has {n_labels:,} labels for {n_samples:,} samples; give one label "
            "for each sample",
            name=name,
            expected=n_samples,
            found=n_labels,
        )
    tail = array.shape[1:]
    if sparse and reading is None and (tail == () or (tail == (1,) and units > 1)):
        return _to_class_numbers(array.reshape(n_labels), units, name)
    if math.prod(tail) != units:
        hint = reading or "reshape the labels or change the last layer"
        if tail in ((), (1,)):
            hint = _hint_for_class_numbers(units, name, sparse, reading) or hint
        raise DataShapeError(
            f"{name} has the shape {array.shape}; expected ({n_labels}, {units}), a "
            f"value for each of the {units} outputs of the model; {hint}",
            name=name,
            expected=(n_labels, units),
            found=array.shape,
        )
    return to_finite_float32(array, name).reshape(n_labels, units)


def _hint_for_class_numbers(
    units: int, name: str, sparse: bool, reading: str | None
) -> str | None:
    """Return why labels that look like class numbers do not fit, if that is why."""
    if not sparse:
        return (
            "class numbers need the loss cross_softmax; for another loss make them "
            f"one-hot, for example numpy.eye({units})[{name}]"
        )
    return None if reading is None else f"class numbers do not fit, because {reading}"


def check_row_labels(
    y: npt.ArrayLike,
    n_samples: int,
    n_rows: int,
    n_classes: int,
    ignored: int,
    name: str = "y",
) -> npt.NDArray[np.float32]:
    """Return the class number of each row of each sample as the loss reads them.

    Parameters
    ----------
    y : array_like of whole numbers
        ``(n_samples, n_rows)`` or another shape with `n_rows` for each sample.
    n_samples : int
        Number of samples in x.
    n_rows, n_classes : int
        Rows that the model puts out for one sample, and values in a row.
    ignored : int
        The label of rows that do not count.
    name : str
        Name of the array in messages.

    Returns
    -------
    ndarray of float32, shape (n_samples, n_rows)
        C-contiguous; `y` itself, or a view of it, where it already is.

    Raises
    ------
    DataTypeError
        Objects, strings, complex numbers, dates; numbers that are not whole.
    DataShapeError
        Another number of labels than of samples or rows.
    EmptyDataError
        No labels.
    NonFiniteDataError
        NaN or infinity.
    LabelRangeError
        A number outside ``[0, n_classes)`` that is not `ignored`.
    """
    array = to_numbers(y, name)
    _require_samples(array, name)
    n_labels, tail = array.shape[0], array.shape[1:]
    if n_labels != n_samples or math.prod(tail) != n_rows:
        raise DataShapeError(
            f"{name} has the shape {array.shape}; expected ({n_samples}, {n_rows}), a "
            f"class number (0 to {n_classes - 1}, or {ignored} for a row that does not "
            f"count) for each of the {n_rows} rows of a sample"
            + ("; one-hot labels need per_token=false" if n_classes in tail else ""),
            name=name,
            expected=(n_samples, n_rows),
            found=array.shape,
        )
    array = array.reshape(n_labels, n_rows)
    if array.dtype.kind == "f":
        _require_whole_rows(array, n_classes, name)
    if array.dtype.kind != "b":
        _require_known_rows(array, n_classes, ignored, name)
    return np.require(array, np.float32, ["C", "A"])


def _require_whole_rows(array: npt.NDArray[Any], n_classes: int, name: str) -> None:
    """Refuse floats that are no whole numbers, where each row has a class number."""
    finite = np.isfinite(array)
    if not finite.all():
        raise _non_finite(array, finite, name)
    fractional = np.trunc(array) != array
    if fractional.any():
        sample, row = (int(i) for i in np.argwhere(fractional)[0])
        raise DataTypeError(
            f"{name}[{sample}, {row}] is {array[sample, row]}; class numbers are "
            f"whole (0 to {n_classes - 1})",
            name=name,
            dtype=str(array.dtype),
            index=(sample, row),
            value=float(array[sample, row]),
        )


def _require_known_rows(
    array: npt.NDArray[Any], n_classes: int, ignored: int, name: str
) -> None:
    """Refuse a class number that no class has, where each row has one."""
    outside = ((array < 0) | (array >= n_classes)) & (array != ignored)
    if outside.any():
        sample, row = (int(i) for i in np.argwhere(outside)[0])
        value, count = int(array[sample, row]), int(np.count_nonzero(outside))
        raise LabelRangeError(
            f"the label of sample {sample}, row {row} ({name}[{sample}, {row}]) is "
            f"{value}, but the model has {n_classes} classes (0 to {n_classes - 1}) "
            f"and rows to ignore are labelled {ignored}; {count:,} labels are outside: "
            "renumber them, give the last layer more units or set ignore_label",
            name=name,
            index=(sample, row),
            value=value,
            units=n_classes,
            count=count,
        )


def to_numbers(
    values: npt.ArrayLike, name: str, *, may_stay: bool = False
) -> npt.NDArray[Any]:
    """Return `values` as an array of bools, integers or floats.

    Parameters
    ----------
    values : array_like
    name : str
        Name of the array in messages.
    may_stay : bool
        No copy is made of an array that `converts_by_batch`.

    Raises
    ------
    DataTypeError
        The values are something else, rows of different lengths, or partly masked.
    """
    if np.ma.is_masked(values):
        count = int(np.count_nonzero(np.ma.getmask(values)))
        raise DataTypeError(
            f"{name} is a masked array with {count:,} masked values; training would "
            "use what lies under the mask: decide on values first, for example with "
            f"{name.rpartition(' ')[2]}.filled(0)",
            name=name,
            count=count,
        )
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever the array of another library raises
        raise DataTypeError(
            f"{name} is no array of numbers ({error}); give every sample the same "
            "shape and pass one NumPy array",
            name=name,
        ) from error
    if array.dtype.kind == "O" and array.ndim == 0:
        raise DataTypeError(
            f"{name} is a {type(values).__name__}; expected an array of numbers",
            name=name,
            dtype="object",
        )
    own = name.rpartition(" ")[2]
    if array.dtype.kind in "SU" or (array.dtype.kind == "O" and _has_text(array)):
        raise DataTypeError(
            f"{name} holds {array.dtype}, texts such as {quoted(_first(array))}; "
            "expected real numbers (float, int or bool): convert it first, as with "
            f"{own}.astype('float32'), or names of classes into class numbers with "
            f"numpy.unique({own}, return_inverse=True)[1]",
            name=name,
            dtype=str(array.dtype),
        )
    if array.dtype.kind not in "biuf":
        raise DataTypeError(
            f"{name} holds {array.dtype}; expected real numbers (float, int or bool): "
            f"convert it first, for example with {own}.astype('float32')",
            name=name,
            dtype=str(array.dtype),
        )
    if not (may_stay and converts_by_batch(array)):
        require_room(array.shape, 4, name)
    return array


def _has_text(array: npt.NDArray[Any]) -> bool:
    return array.size > 0 and isinstance(_first(array), str | bytes)


def _first(array: npt.NDArray[Any]) -> object:
    return next(iter(array.flat), "none")


def require_room(shape: tuple[int, ...], item_bytes: int, name: str) -> None:
    """Refuse an array whose copy would not fit into memory.

    A broadcast array takes no memory itself, and its copy can take any amount.

    Parameters
    ----------
    shape : tuple of int
    item_bytes : int
        Bytes of the copy for each element.
    name : str
        Name of the array in messages.

    Raises
    ------
    DataShapeError
        The copy takes more than the memory that is free, or cannot be.
    """
    # NumPy counts bytes in 63 bits, and sizes of 0 as 1.
    if item_bytes * math.prod(max(size, 1) for size in shape) >= 2**63:
        raise DataShapeError(
            f"{name} has the shape {shape}, which is too large for any array; expected "
            "(n, …) with at least one value for each sample",
            name=name,
            found=shape,
        )
    needed_bytes = item_bytes * math.prod(shape)
    if needed_bytes < SMALL_BYTES:
        return
    free_bytes = available_bytes()
    if needed_bytes > free_bytes:
        raise DataShapeError(
            f"{name} has the shape {shape}, a copy of which takes "
            f"{format_bytes(needed_bytes)}, and this machine has "
            f"{format_bytes(free_bytes)} of memory free; give it in parts",
            name=name,
            found=shape,
            needed_bytes=needed_bytes,
            available_bytes=free_bytes,
        )


def to_finite_float32(
    array: npt.NDArray[Any], name: str, *, is_mask: bool = False
) -> npt.NDArray[np.float32]:
    """Return numbers as aligned, C-contiguous float32; no copy where they are.

    Raises
    ------
    NonFiniteDataError
        NaN, infinity or a number beyond float32; of a mask -inf is allowed, and what is
        below float32 becomes -inf.
    """
    converted = to_float32(array)
    finite = is_usable(converted, is_mask)
    if not finite.all():
        raise _non_finite(array, finite, name)
    return converted


def to_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return numbers as aligned, C-contiguous float32, infinite where too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        return run_by_default(_as_float32, array)


def _as_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.require(array, np.float32, ["C", "A"])


def is_usable(array: npt.NDArray[Any], is_mask: bool) -> npt.NDArray[np.bool_]:
    """Return which elements training can use: finite ones, and in a mask also -inf."""
    return array < np.inf if is_mask else np.isfinite(array)


def _require_samples(array: npt.NDArray[Any], name: str) -> None:
    if array.ndim == 0:
        raise DataShapeError(
            f"{name} is a single number; expected an array with one entry for each "
            "sample",
            name=name,
            expected=(None,),
            found=(),
        )
    if array.shape[0] == 0:
        raise EmptyDataError(
            f"{name} has no samples (shape {array.shape}); give at least one",
            name=name,
            found=array.shape,
        )


def _fits_sample(
    tail: tuple[int, ...], sample_elems: int, sample_shape: tuple[int, int, int]
) -> bool:
    """Tell whether a sample of shape `tail` has the order in memory of the model.

    A plain vector takes any shape with its size. A picture does not: 20 × 30 for
    30 × 20, or channels last, has the right number of values in the wrong places.
    """
    if math.prod(tail) != sample_elems:
        return False
    is_vector = max(sample_shape) == sample_elems
    return is_vector or len(tail) == 1 or _squeezed(tail) == _squeezed(sample_shape)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _to_class_numbers(
    labels: npt.NDArray[Any], units: int, name: str
) -> npt.NDArray[np.int64]:
    """Return class numbers as int64; refuse those that are not whole or no class."""
    if labels.dtype.kind == "f":
        finite = np.isfinite(labels)
        if not finite.all():
            raise _non_finite(labels, finite, name)
        fractional = np.trunc(labels) != labels
        if fractional.any():
            index = int(np.argmax(fractional))
            raise DataTypeError(
                f"{name}[{index}] is {labels[index]}; class numbers are whole (0 to "
                f"{units - 1}): for targets pass the shape ({len(labels)}, {units})",
                name=name,
                dtype=str(labels.dtype),
                index=index,
                value=float(labels[index]),
            )
    if labels.dtype.kind != "b":
        outside = (labels < 0) | (labels >= units)
        if outside.any():
            index, count = int(np.argmax(outside)), int(np.count_nonzero(outside))
            raise LabelRangeError(
                f"{name}[{index}] is {labels[index]}, but the model has {units} "
                f"classes (0 to {units - 1}); {count:,} labels are outside: renumber "
                "them or give the last layer more units",
                name=name,
                index=index,
                value=int(labels[index]),
                units=units,
                count=count,
            )
    return np.require(labels, np.int64, ["C", "A"])


def _non_finite(
    array: npt.NDArray[Any], finite: npt.NDArray[np.bool_], name: str
) -> NonFiniteDataError:
    """Return the error of an array with elements that are not finite."""
    count = int(np.count_nonzero(~finite))
    index = tuple(map(int, np.unravel_index(int(np.argmin(finite)), finite.shape)))
    value = float(array[index])
    return NonFiniteDataError(
        f"{name} has {count:,} values that are NaN, infinite or beyond float32 "
        f"(3.4e38); the first, {name}[{', '.join(map(str, index))}], is {value}: "
        "clean or scale the data",
        name=name,
        count=count,
        index=index,
        value=value,
    )
