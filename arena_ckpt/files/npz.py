"""Reads NumPy's .npz: a zip archive with one .npy file per array."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy.typing as npt
from numpy.lib import format as npy

from arena_ckpt.common.wording import listed, shown
from arena_ckpt.errors import CorruptFileError, DataTypeError
from arena_ckpt.files.source import (
    LARGEST_DEFLATE_RATIO,
    Source,
    corrupt,
    find_source,
    reading,
)

NAME_PAIRS = (
    ("x", "y"),
    ("x_train", "y_train"),
    ("X", "y"),
    ("data", "target"),
    ("images", "labels"),
)
"""Pairs of names of samples and labels; the first pair that a file holds is taken."""

INPUT = "x:"
"""What the names of arrays begin with that are the samples of one input of several."""

LABEL = "y:"
"""What the names of arrays begin with that are the labels of one loss of several."""

Labels = npt.NDArray[Any] | dict[str, npt.NDArray[Any]] | None

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that NumPy writes


def read_npz(
    path: str | os.PathLike[str],
) -> tuple[npt.NDArray[Any] | dict[str, npt.NDArray[Any]], Labels]:
    """Read samples and labels from an .npz file.

    Parameters
    ----------
    path : path

    Returns
    -------
    x : ndarray, or dict from str to ndarray
        The array of the first name in `NAME_PAIRS` that the file has; or, for several
        inputs, those with names such as ``x:image``, by what follows `INPUT`.
    y : ndarray, dict from str to ndarray, or None
        Its partner; or, for several losses, those with names such as ``y:digit``, by
        what follows `LABEL`; None where the file has none.

    Raises
    ------
    DataFileNotFoundError
        There is no such file.
    CorruptFileError
        It is no .npz file, has no samples under a known name, or an array is not as
        large as its header states.
    DataTypeError
        An array of objects, strings, records or complex numbers. Pickles are never
        opened.
    """
    source = find_source(path)
    with _opened(source) as (archive, members):
        inputs = {
            name.removeprefix(INPUT): _read_member(source, archive, info)
            for name, info in members.items()
            if name.startswith(INPUT)
        }
        if inputs:
            if "x" in members:
                raise CorruptFileError(
                    f"{source.path}: it has x and {INPUT}{next(iter(inputs))}; name "
                    f"all inputs as {INPUT}NAME, or save x alone",
                    path=str(source.path),
                    found=tuple(members),
                )
            return inputs, _read_labels(source, archive, members, "y")
        for x_name, y_name in NAME_PAIRS:
            if x_name in members:
                x = _read_member(source, archive, members[x_name])
                return x, _read_labels(source, archive, members, y_name)
    pairs = ", ".join(f"{x_name} and {y_name}" for x_name, y_name in NAME_PAIRS)
    names = sorted(members)
    raise CorruptFileError(
        f"{source.path}: expected arrays named {pairs}, found "
        f"{listed(map(shown, names)) or 'none'}; save them with numpy.savez(path, x=x, "
        "y=y), or several inputs with "
        "numpy.savez(path, **{'x:image': image, 'x:mask': mask}, y=y)",
        path=str(source.path),
        expected=NAME_PAIRS,
        found=tuple(names),
    )


def _read_labels(
    source: Source,
    archive: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    name: str,
) -> Labels:
    """Return the labels of a name, or those of several losses, if there are any.

    Raises
    ------
    CorruptFileError
        There are both.
    """
    by_loss = {one: info for one, info in members.items() if one.startswith(LABEL)}
    if by_loss and name in members:
        raise CorruptFileError(
            f"{source.path}: it has {name} and {next(iter(by_loss))}; name the labels "
            f"of all losses as {LABEL}NAME, or save {name} alone",
            path=str(source.path),
            found=tuple(members),
        )
    if not by_loss:
        return _read_member(source, archive, members[name]) if name in members else None
    return {
        one.removeprefix(LABEL): _read_member(source, archive, info)
        for one, info in by_loss.items()
    }


def read_arrays(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Read every array of an .npz file by its name.

    Raises
    ------
    DataFileNotFoundError, CorruptFileError, DataTypeError
        See `read_npz`.
    """
    source = find_source(path)
    with _opened(source) as (archive, members):
        return {
            name: _read_member(source, archive, info) for name, info in members.items()
        }


@contextmanager
def _opened(
    source: Source,
) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an archive, and list its members by the names of their arrays."""
    with (
        reading(source.path, "an .npz file (a zip archive of .npy arrays)"),
        zipfile.ZipFile(source.path) as archive,
    ):
        members = archive.infolist()
        yield archive, {info.filename.removesuffix(".npy"): info for info in members}


def _read_member(
    source: Source, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> npt.NDArray[Any]:
    _check_member(source, info)
    with warnings.catch_warnings():
        # NumPy warns where a header needs its Python 2 parser; what it reads is checked
        warnings.simplefilter("ignore")
        with archive.open(info) as member:
            _check_header(source.path, info, member)
        with archive.open(info) as member:
            array: npt.NDArray[Any] = npy.read_array(member, allow_pickle=False)
            if member.read(1):  # the end is also where zipfile compares the checksum
                raise corrupt(
                    source.path, f"{array.nbytes:,} bytes in {info.filename}", "more"
                )
    return array


def _check_member(source: Source, info: zipfile.ZipInfo) -> None:
    """Compare a member's size in the archive's directory with the size of the file."""
    if info.compress_type not in _METHODS:
        raise corrupt(
            source.path,
            f"{info.filename} stored or deflated",
            f"zip compression method {info.compress_type}",
        )
    ratio = LARGEST_DEFLATE_RATIO if info.compress_type == zipfile.ZIP_DEFLATED else 1
    most_bytes = min(info.compress_size, source.file_bytes) * ratio
    if info.compress_size > source.file_bytes or info.file_size > most_bytes:
        raise corrupt(
            source.path,
            f"{info.file_size:,} bytes of {info.filename} in {info.compress_size:,} "
            "bytes of the archive, as its directory states",
            f"a file of {source.file_bytes:,} bytes, which can hold at most "
            f"{most_bytes:,}",
            expected_bytes=info.file_size,
        )


def _check_header(path: Path, info: zipfile.ZipInfo, member: IO[bytes]) -> None:
    """Compare the size that a .npy header states with the size of its member."""
    version = npy.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(member)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(member)
    else:  # 3.0 differs in the names of record fields only, which are refused anyway
        raise corrupt(
            path,
            f"{info.filename} in version 1.0 or 2.0 of .npy",
            f"version {version[0]}.{version[1]}",
        )
    if dtype.kind not in "biuf":
        raise DataTypeError(
            f"{path}: {info.filename} holds {dtype}; expected numbers: convert it "
            "before it is saved, for example with .astype('float32')"
            + (
                ", or names of classes into class numbers with "
                "numpy.unique(y, return_inverse=True)[1]"
                if dtype.kind in "SU"
                else ""
            ),
            path=str(path),
            name=info.filename,
            dtype=str(dtype),
        )
    expected_bytes = math.prod(shape) * dtype.itemsize
    found_bytes = info.file_size - member.tell()
    if min(shape, default=0) < 0 or expected_bytes != found_bytes:
        raise corrupt(
            path,
            f"{expected_bytes:,} bytes for the shape {shape} of {dtype} in "
            f"{info.filename}, as its header states",
            f"{found_bytes:,} bytes",
            shape=shape,
            expected_bytes=expected_bytes,
            found_bytes=found_bytes,
        )
