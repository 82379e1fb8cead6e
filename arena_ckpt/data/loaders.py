"""Loads data sets by name and from files.

`open_data` takes a name or a path and picks the loader. The bytes are read in
`arena_ckpt.files`; what training asks of arrays is checked in `arena_ckpt.data.arrays`.
"""

from __future__ import annotations

import importlib.resources
import os
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.wording import nearest, quoted
from arena_ckpt.data.arrays import (
    check_labels,
    check_samples,
    require_room,
    to_finite_float32,
    to_numbers,
)
from arena_ckpt.data.dataset import Dataset, is_whole
from arena_ckpt.errors import (
    DataFileNotFoundError,
    DataShapeError,
    DataTypeError,
    InvalidParameterError,
)
from arena_ckpt.files import read_idx, read_npz, read_table
from arena_ckpt.files.source import path_text

__all__ = [
    "Dataset",
    "check_labels",
    "check_samples",
    "load_csv",
    "load_digits",
    "load_idx",
    "load_npz",
    "open_data",
]

KNOWN_FORMATS = (
    "'digits' (shipped with the package), .npz, .csv, .tsv, IDX "
    "(-idx3-ubyte, .idx3-ubyte); .csv, .tsv and IDX also with .gz"
)

StrPath = str | os.PathLike[str]
LabelColumn = Literal["first", "last", "none"] | int


@public_call
def open_data(spec: StrPath) -> Dataset:
    """Load a data set by its name or path.

    Parameters
    ----------
    spec : str or path
        - ``digits``: `load_digits`;
        - a path that ends in ``.npz``: `load_npz`;
        - in ``.csv`` or ``.tsv``, also with ``.gz``: `load_csv`, labels in the last
          column;
        - two IDX paths, ``images,labels``: `load_idx`;
        - one IDX path with ``images-idx3`` or ``images.idx3`` in its name: the labels
          are looked for beside it, under the name with ``labels-idx1``.

    Raises
    ------
    InvalidParameterError
        The name tells no format.
    DataError
        The file is missing, damaged or of another format, or its data cannot be
        trained on.
    """
    text = path_text(spec)
    if text == "digits":
        return load_digits()
    if "," in text and not os.path.exists(text):
        images, _, labels = text.partition(",")
        if _format(images) == _format(labels) == "idx":
            return load_idx(images.strip(), labels.strip())
    else:
        match _format(text):
            case "npz":
                return load_npz(text)
            case "table":
                return load_csv(text)
            case "idx":
                return load_idx(text, _labels_beside(Path(text)))
    raise InvalidParameterError(
        f"{text!r} names no data format{nearest(text, ['digits'])}; known are "
        f"{KNOWN_FORMATS}, as one path with 'images-idx3' in its name or as "
        "'images,labels'",
        spec=text,
        known=KNOWN_FORMATS,
    )


def open_samples(spec: StrPath, *, has_labels: bool = True) -> Dataset:
    """Load samples to predict on; labels are read where they are, and not needed.

    Parameters
    ----------
    spec : str or path
        As of `open_data`; also one IDX path of images alone.
    has_labels : bool
        False takes every column of a table as a value of the sample.

    Raises
    ------
    InvalidParameterError, DataError
        See `open_data`.
    """
    text = path_text(spec)
    if "," not in text or os.path.exists(text):
        match _format(text):
            case "table" if not has_labels:
                return load_csv(text, "none")
            case "idx":
                return _dataset(Path(text).name, _images(text), None)
    return open_data(text)


@public_call
def load_digits() -> Dataset:
    """Load the handwritten digits that ship with the package.

    Returns
    -------
    Dataset
        1,797 pictures of 8 × 8 pixels: x (1797, 64), from 0 (paper) to 1 (ink); y the
        digits, 0 to 9.

    References
    ----------
    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, 1998, CC BY 4.0, https://doi.org/10.24432/C50P49 (its test
    part).
    """
    packed = importlib.resources.files("arena_ckpt.data.bundled") / "digits.csv.gz"
    with importlib.resources.as_file(packed) as path:
        table = read_table(path)
    return _dataset("digits", table[:, :-1] / 16, table[:, -1].astype(np.int64))


@public_call
def load_npz(path: StrPath) -> Dataset:
    """Load samples and labels from NumPy's .npz.

    Parameters
    ----------
    path : path
        A file with the arrays x and y, or x_train and y_train, X and y, data and
        target, images and labels: the first of these that it has. Labels may be
        missing. Other arrays are not read.

    Returns
    -------
    Dataset
        Numbers as they are: pictures of bytes stay in 0 to 255, so scale them before
        they are saved. Labels of whole numbers in one dimension are class numbers,
        others are targets.

    Raises
    ------
    DataFileNotFoundError
        There is no such file.
    CorruptFileError
        The file is damaged, of another format, or has no array of these names.
    DataError
        Arrays that cannot be trained on.
    """
    x, y = read_npz(path)
    return _dataset(Path(path).name, x, y)


@public_call
def load_idx(images_path: StrPath, labels_path: StrPath) -> Dataset:
    """Load samples and labels from two IDX files, the format of MNIST.

    Parameters
    ----------
    images_path, labels_path : path
        Plain or in gzip.

    Returns
    -------
    Dataset
        Unsigned bytes in the images are divided by 255, other types are taken as they
        are.

    Raises
    ------
    DataFileNotFoundError
        A file does not exist.
    CorruptFileError
        A file is damaged, cut short or of another format.
    DataError
        Arrays that cannot be trained on, or more or fewer labels than images.
    """
    images = _images(images_path)
    return _dataset(Path(images_path).name, images, read_idx(labels_path))


def _images(path: StrPath) -> npt.NDArray[Any]:
    """Read images from an IDX file; unsigned bytes become 0 to 1."""
    images = read_idx(path)
    if images.dtype == np.uint8:
        require_room(images.shape, 4, Path(path).name)
        images = images.astype(np.float32)
        images /= np.float32(255)
    return images


@public_call
def load_csv(path: StrPath, label_column: LabelColumn = "last") -> Dataset:
    """Load a table of numbers from text.

    Parameters
    ----------
    path : path
        Lines of numbers separated by commas, semicolons or tabs, with or without a
        header line, plain or in gzip. Every line is a sample.
    label_column : {"last", "first", "none"} or int
        The column with the labels; a number counts from 0.

    Returns
    -------
    Dataset
        Labels that are all whole numbers are class numbers, int64 ``(n,)``; others are
        targets, float32 ``(n, 1)``.

    Raises
    ------
    DataFileNotFoundError
        There is no such file.
    CorruptFileError
        A cell that is no number, or a line of another length; the place is named.
    InvalidParameterError
        A label column that the table does not have.
    DataError
        Numbers that cannot be trained on.
    """
    table = read_table(path)
    name = Path(path).name
    column = _label_column(name, label_column, table.shape[1])
    if column is None:
        return _dataset(name, table, None)
    if table.shape[1] < 2:
        raise DataShapeError(
            f"{name}: there is only one column, which is the labels; samples need at "
            "least one more, or label_column='none'",
            name=name,
            found=table.shape,
        )
    labels: npt.NDArray[Any] = table[:, column]
    # whole numbers beyond 2**53 are no longer exact in the table
    if (np.trunc(labels) == labels).all() and np.abs(labels).max() <= 2**53:
        labels = labels.astype(np.int64)
    return _dataset(name, np.delete(table, column, axis=1), labels)


def _format(path: str) -> str | None:
    name = Path(path.strip()).name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        return "table"
    if name.endswith(".npz"):
        return "npz"
    if re.search(r"[.-]idx\d", name) or name.endswith(".idx"):
        return "idx"
    return None


def _labels_beside(images_path: Path) -> Path:
    name = re.sub(r"images([.-])idx\d", r"labels\1idx1", images_path.name)
    if name == images_path.name:
        raise InvalidParameterError(
            f"{images_path}: there is no 'images-idx3' in its name that tells where "
            "the labels are; give both paths, as 'images,labels'",
            spec=str(images_path),
        )
    labels_path = images_path.with_name(name)
    if os.path.exists(images_path) and not os.path.exists(labels_path):
        raise DataFileNotFoundError(
            f"{labels_path}, the labels of {images_path}, does not exist; put it there "
            "or give both paths, as 'images,labels'",
            path=str(labels_path),
        )
    return labels_path


def _label_column(name: str, column: LabelColumn, n_columns: int) -> int | None:
    if isinstance(column, str):
        named = {"none": None, "last": n_columns - 1, "first": 0}
        if column in named:
            return named[column]
    if is_whole(column) and 0 <= int(column) < n_columns:
        return int(column)
    raise InvalidParameterError(
        f"{name}: label_column={quoted(column)} is not possible; expected 'last', "
        f"'first', 'none' or a number from 0 to {n_columns - 1}",
        name=name,
        label_column=column,
        n_columns=n_columns,
    )


def _dataset(name: str, x: npt.NDArray[Any], y: npt.NDArray[Any] | None) -> Dataset:
    """Bring arrays from a file into the form of a `Dataset`."""
    samples = to_finite_float32(to_numbers(x, f"{name}: x"), f"{name}: x")
    if samples.ndim == 1:
        samples = samples.reshape(-1, 1)
    if y is None:
        return Dataset(name, samples, None)
    labels = to_numbers(y, f"{name}: y")
    return Dataset(name, samples, _labels(labels, f"{name}: y"))


def _labels(
    labels: npt.NDArray[Any], name: str
) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
    is_column = labels.ndim == 1 or (labels.ndim == 2 and labels.shape[1] == 1)
    if labels.dtype.kind in "biu" and is_column:
        if labels.dtype == np.uint64 and labels.size and labels.max() >= 2**63:
            raise DataTypeError(
                f"{name} has the class number {labels.max()}; expected whole numbers "
                "below 2**63",
                name=name,
                value=int(labels.max()),
            )
        return np.require(labels.reshape(-1), np.int64, ["C", "A"])
    targets = to_finite_float32(labels, name)
    if not targets.size and targets.shape[0]:
        raise DataShapeError(
            f"{name} has the shape {targets.shape}; expected at least one value for "
            "each sample",
            name=name,
            found=targets.shape,
        )
    n_labels = labels.shape[0] if labels.ndim else 1
    return targets.reshape(n_labels, -1 if targets.size else 1)
