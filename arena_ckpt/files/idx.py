"""Reads IDX, the format of MNIST: a type, the dimensions, and big-endian numbers.

References
----------
Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section
"The IDX file format".
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from arena_ckpt.files.source import Source, corrupt, find_source, reading

MOST_DIMENSIONS = 8

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read one IDX file, plain or in gzip.

    Parameters
    ----------
    path : path

    Returns
    -------
    ndarray
        Read-only, in the file's own type, big-endian where that has a meaning.

    Raises
    ------
    DataFileNotFoundError
        There is no such file.
    CorruptFileError
        It is no IDX file, or its size is not the one its header states.
    """
    source = find_source(path)
    with reading(source.path, "an IDX file"), source.open() as stream:
        dtype, shape = _read_header(source.path, stream)
        header_bytes = 4 + 4 * len(shape)
        data_bytes = math.prod(shape) * dtype.itemsize
        _check_size(source, shape, header_bytes, data_bytes)
        data = stream.read(data_bytes)
        if len(data) != data_bytes:
            raise _wrong_size(source.path, shape, data_bytes, f"{len(data):,}")
        if stream.read(1):
            raise _wrong_size(source.path, shape, data_bytes, "more")
        # Without data there are shapes that NumPy cannot have.
        return np.frombuffer(data, dtype).reshape(shape)


def _read_header(path: Path, stream: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        types = ", ".join(f"{code:02x}" for code in _DTYPES)
        raise corrupt(
            path,
            f"an IDX file, which starts with 00 00 and a type of {types}",
            magic.hex(" ") or "no bytes",
        )
    n_dimensions = magic[3]
    if not 1 <= n_dimensions <= MOST_DIMENSIONS:
        raise corrupt(
            path, f"1 to {MOST_DIMENSIONS} dimensions", f"{n_dimensions} dimensions"
        )
    sizes = stream.read(4 * n_dimensions)
    if len(sizes) < 4 * n_dimensions:
        raise corrupt(
            path,
            f"{4 * n_dimensions} bytes for the sizes of {n_dimensions} dimensions",
            f"{len(sizes)} bytes",
        )
    return np.dtype(_DTYPES[magic[2]]), struct.unpack(f">{n_dimensions}I", sizes)


def _check_size(
    source: Source, shape: tuple[int, ...], header_bytes: int, data_bytes: int
) -> None:
    # before the read, which takes memory for all it is asked for
    if source.is_gzip:
        if header_bytes + data_bytes > source.most_bytes:
            raise _wrong_size(
                source.path, shape, data_bytes, f"at most {source.most_bytes:,}"
            )
    elif header_bytes + data_bytes != source.file_bytes:
        found_bytes = source.file_bytes - header_bytes
        raise _wrong_size(source.path, shape, data_bytes, f"{found_bytes:,}")


def _wrong_size(
    path: Path, shape: tuple[int, ...], data_bytes: int, found: str
) -> Exception:
    sizes = " × ".join(str(size) for size in shape)
    return corrupt(
        path,
        f"{data_bytes:,} bytes of data for {sizes} values, as its header states",
        f"{found} bytes",
        shape=shape,
        expected_bytes=data_bytes,
    )
