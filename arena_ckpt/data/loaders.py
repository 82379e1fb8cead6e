"""Loads data sets by name and from files.

`open_data` takes a name or a path and picks the loader. The bytes are read in
`arena_ckpt.files`; what training asks of arrays is checked in `arena_ckpt.data.arrays`.
"""

from __future__ import annotations

import importlib.resources
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.arguments import public_call
from arena_ckpt.common.wording import nearest, quote
from arena_ckpt.data.arrays import (
    check_labels,
    check_samples,
    require_room,
    to_finite_float32,
    to_numbers,
)
from arena_ckpt.data.dataset import Dataset
from arena_ckpt.data.table_roles import TableRoles, labelled
from arena_ckpt.errors import (
    DataFileNotFoundError,
    DataShapeError,
    DataTypeError,
    InvalidParameterError,
)
from arena_ckpt.files import (
    TableForm,
    read_columns,
    read_idx,
    read_npz,
    read_table,
)
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
    "'digits' (shipped with the package), .npz, .csv, .tsv, .txt, .dat, .data, IDX "
    "(-idx3-ubyte, .idx3-ubyte); tables and IDX also with .gz"
)

StrPath = str | os.PathLike[str]
LabelColumn = Literal["first", "last", "none"] | str | int


@public_call
def open_data(spec: StrPath, table_options: Mapping[str, Any] | None = None) -> Dataset:
    """Load a data set by its name or path.

    Parameters
    ----------
    spec : str or path
        - ``digits``: `load_digits`;
        - a path that ends in ``.npz``: `load_npz`;
        - in ``.csv``, ``.tsv``, ``.txt``, ``.dat`` or ``.data``, also with ``.gz``:
          `load_csv`;
        - two IDX paths, ``images,labels``: `load_idx`;
        - one IDX path with ``images-idx3`` or ``images.idx3`` in its name: the labels
          are looked for beside it, under the name with ``labels-idx1``.
    table_options : mapping, optional
        Arguments of `load_csv`, for a table.

    Raises
    ------
    InvalidParameterError
        The name tells no format, or options of tables are given for another.
    DataError
        The file is missing, damaged or of another format, or its data cannot be
        trained on.
    """
    text = path_text(spec)
    if table_options and not is_table(text):
        raise InvalidParameterError(
            f"{text!r} is no table, so {quote(table_options)} say nothing about it; "
            "leave them out, or name a .csv, .tsv, .txt, .dat or .data",
            spec=text,
            options=tuple(table_options),
        )
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
                return load_csv(text, **(table_options or {}))
            case "idx":
                return load_idx(text, _labels_beside(Path(text)))
    raise InvalidParameterError(
        f"{text!r} names no data format{nearest(text, ['digits'])}; known are "
        f"{KNOWN_FORMATS}, as one path with 'images-idx3' in its name or as "
        "'images,labels'",
        spec=text,
        known=KNOWN_FORMATS,
    )


def open_samples(
    spec: StrPath,
    *,
    has_labels: bool = True,
    table_options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Load samples to predict on; labels are read where they are, and not needed.

    Parameters
    ----------
    spec : str or path
        As of `open_data`; also one IDX path of images alone.
    has_labels : bool
        False takes every column of a table as a value of the sample.
    table_options : mapping, optional
        Arguments of `load_csv`, for a table.

    Raises
    ------
    InvalidParameterError, DataError
        See `open_data`.
    """
    text = path_text(spec)
    if "," not in text or os.path.exists(text):
        match _format(text):
            case "table" if not has_labels:
                return load_csv(
                    text, **{**(table_options or {}), "label_column": "none"}
                )
            case "idx":
                return _dataset(Path(text).name, _images(text), None)
    return open_data(text, table_options)


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
        missing. Samples of several inputs have names such as ``x:image`` and
        ``x:mask``, of the input layers image and mask, and their labels y. Labels of
        several losses have names such as ``y:digit``, of the loss digit. Other arrays
        are not read.

    Returns
    -------
    Dataset
        Numbers as they are: pictures of bytes stay bytes from 0 to 255, so scale or
        standardize them. Labels of whole numbers in one dimension are class numbers,
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
    name = Path(path).name
    if not isinstance(x, dict) and not isinstance(y, dict):
        return _dataset(name, x, y)
    inputs: Any = (
        {key: _samples(value, f"{name}: x:{key}") for key, value in x.items()}
        if isinstance(x, dict)
        else _samples(x, f"{name}: x")
    )
    if y is None:
        return Dataset(name, inputs, None)
    labels = y if isinstance(y, dict) else to_numbers(y, f"{name}: y")
    return Dataset(name, inputs, labels)


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
def load_csv(
    path: StrPath,
    label_column: LabelColumn = "last",
    *,
    targets: int | None = None,
    header: bool | None = None,
    skip_rows: int = 0,
    separator: str | None = None,
    decimal: str | None = None,
    index_column: str | int | None = None,
    missing: str | Sequence[float] | None = None,
    label_names: bool = False,
) -> Dataset:
    """Load a table from text; every line is a sample.

    Parameters
    ----------
    path : path
        Plain or in gzip. TRUE and FALSE are 1 and 0.
    label_column : {"last", "first", "none"}, str or int
        The column with the labels: a name in the header, or a number, from 0 or, from
        the end, from -1. Labels that are texts are names of classes.
    targets : int, optional
        Number of columns at the end that are values to predict, instead of labels.
    header : bool, optional
        Whether the first line has the names of the columns. By default it is looked at:
        texts without a number are names, and what leaves doubt is refused.
    skip_rows : int
        Number of lines at the top that are left out.
    separator : {"comma", "tab", "semicolon", "space"}, optional
        What separates cells, by name or itself; a space stands for any number of
        blanks. By default whatever splits the first lines into the most numbers.
    decimal : {"point", "comma"}, optional
        The decimal mark, by name or itself; by default that of the first lines.
    index_column : str or int, optional
        A column that is left out, as `label_column` names it; ``"none"`` leaves out
        none. By default the first is, with an `ArenaWarning`, if the header calls it
        an index or nothing, and it numbers or names the rows.
    missing : {"drop", "mean"} or sequence of float, optional
        What becomes of cells that are empty or NA: ``"drop"`` leaves their rows out,
        ``"mean"`` fills in the mean of the column in this file, which `Dataset.split`
        and a trained model replace by that of the training data. Numbers are filled in
        as they are, one for each column of the samples: ``model.column_means``. By
        default such cells are refused.
    label_names : bool
        Take what stands in the label column for names of classes, numbers too.

    Returns
    -------
    Dataset
        Labels that are all whole numbers are class numbers, int64 ``(n,)``, and so are
        names, whose sorted list are the `classes`; others are targets, float32
        ``(n, 1)``. With `targets`: float32 ``(n, targets)``.

    Raises
    ------
    DataFileNotFoundError
        There is no such file.
    AmbiguousTableError
        The first lines can be read in two ways; the options that decide are named.
    CorruptFileError
        A cell that is no number, or a line of another length; the place is named.
    MissingValueError
        Cells without a value; their number and the first place are named.
    InvalidParameterError
        A column that the table does not have, or a value that cannot be.
    DataError
        Numbers that cannot be trained on.
    """
    roles = TableRoles(label_column, targets, index_column, missing, label_names)
    form = TableForm(header, skip_rows, separator, decimal)
    found = labelled(read_columns(path, form, texts_of=roles.texts_of), roles)
    made = _dataset(Path(path).name, found.x, found.y, found.classes)
    return made if found.gaps is None else replace(made, gaps=found.gaps)


def is_table(spec: StrPath) -> bool:
    """Tell whether `open_data` reads a name or path as a table."""
    text = path_text(spec)
    return _format(text) == "table" and ("," not in text or os.path.exists(text))


def _format(path: str) -> str | None:
    name = Path(path.strip()).name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv", ".txt", ".dat", ".data")):
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


def _dataset(
    name: str,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any] | None,
    classes: tuple[str, ...] | None = None,
) -> Dataset:
    """Bring arrays from a file into the form of a `Dataset`."""
    samples = _samples(x, f"{name}: x")
    if y is None:
        return Dataset(name, samples, None)
    labels = to_numbers(y, f"{name}: y")
    return Dataset(name, samples, _labels(labels, f"{name}: y"), classes)


def _samples(x: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    samples = to_numbers(x, name)
    if samples.dtype == np.uint8:  # as float32 pictures are four times as large
        samples = np.ascontiguousarray(samples)
    else:
        samples = to_finite_float32(samples, name)
    return samples.reshape(-1, 1) if samples.ndim == 1 else samples


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
