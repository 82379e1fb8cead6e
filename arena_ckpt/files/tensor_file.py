"""Tensors and a JSON document in one safetensors file, with a checksum over all of it.

Any reader of safetensors can read the tensors. The document, a JSON object, is kept in
the metadata under `KEY`; its ``checksum`` covers the rest of it and the names, dtypes,
shapes and bytes of all tensors. Nothing in a file is ever run.

References
----------
Safetensors format, https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from arena_ckpt.common.digests import digest_arrays
from arena_ckpt.common.free_memory import available_bytes
from arena_ckpt.common.units import format_bytes
from arena_ckpt.common.wording import quoted, shown
from arena_ckpt.errors import (
    CorruptSavedStateError,
    DataError,
    DataFileNotFoundError,
    SavedStateError,
    SavedStateNotFoundError,
    SavedStateVersionError,
    UnwritableFileError,
)
from arena_ckpt.files.atomic_write import write_whole
from arena_ckpt.files.source import find_source

KEY = "arena_ckpt"

Arrays = dict[str, npt.NDArray[Any]]
StrPath = str | os.PathLike[str]

_HEADER_LENGTH_BYTES = 8
LARGEST_HEADER_BYTES = 100_000_000
"""Maximum number of bytes of a header that safetensors reads; parsing takes many times
as much memory."""
_DTYPES = {
    "<f8": "F64",
    "<i8": "I64",
    "<f4": "F32",
    "<i4": "I32",
    "|u1": "U8",
}


def write_tensor_file(
    path: StrPath,
    arrays: Mapping[str, npt.NDArray[Any]],
    document: Mapping[str, Any],
    *,
    format_name: str,
    version: int,
) -> None:
    """Write tensors and a document atomically.

    Parameters
    ----------
    path : path
        Its folder has to exist.
    arrays : mapping from str to ndarray
        float32, float64, int32, int64 or uint8.
    document : mapping
        What JSON can hold; ``format``, ``version`` and ``checksum`` are added.
    format_name : str
        What is in the file, for `read_tensor_file`.
    version : int
        Version of the document.

    Raises
    ------
    UnwritableFileError

    Notes
    -----
    The arrays are written as they lie; no copy of them is made.
    """
    # NumPy would keep Fortran's order, which the file cannot say.
    ordered = {
        name: np.ascontiguousarray(a, a.dtype.newbyteorder("<"))
        for name, a in sorted(arrays.items())
    }
    whole = {"format": format_name, "version": version, **document}
    whole["checksum"] = _checksum(whole, ordered)
    # The widest elements stand first, so that all are aligned.
    widest_first = sorted(ordered.items(), key=lambda item: -item[1].itemsize)
    header = _header_text({KEY: _text(whole)}, widest_first)
    if len(header) > LARGEST_HEADER_BYTES:
        raise UnwritableFileError(
            f"{os.fsdecode(path)} would have a header of {format_bytes(len(header))}, "
            f"and readers of safetensors take {format_bytes(LARGEST_HEADER_BYTES)}: "
            "the model has too many layers",
            path=os.fsdecode(path),
            free_bytes=None,
        )

    def write(file: BinaryIO) -> None:
        file.write(len(header).to_bytes(_HEADER_LENGTH_BYTES, "little") + header)
        for _, array in widest_first:
            file.write(array.data)

    write_whole(path, write)


def read_tensor_file(
    path: StrPath, *, format_name: str, version: int
) -> tuple[Arrays, dict[str, Any]]:
    """Read a file of `write_tensor_file`, and check that it is unaltered.

    Takes about twice the size of the file, and for the header, which can have up to
    `LARGEST_HEADER_BYTES`, some thirty times its size.

    Returns
    -------
    arrays : dict from str to ndarray
    document : dict

    Raises
    ------
    SavedStateNotFoundError
        There is no such file.
    CorruptSavedStateError
        It is cut short, altered, or of another format.
    SavedStateVersionError
        It is of a later version.
    SavedStateError
        It cannot be read, or is larger than the memory that is free.
    """
    file = os.fsdecode(path)
    try:
        return _read_whole(file, format_name, version)
    except MemoryError as error:
        raise SavedStateError(
            f"{file} has {format_bytes(os.path.getsize(file))}, and the system gives "
            "this process no memory to read it; raise its limit (ulimit -v)",
            path=file,
        ) from error


def _read_whole(
    file: str, format_name: str, version: int
) -> tuple[Arrays, dict[str, Any]]:
    content = read_content(file)
    header = _header(file, content)
    document = _document(file, header, format_name)
    found = document.get("version")
    if type(found) is not int or found < 1:
        raise corrupt(file, f"its version is {quoted(found)}")
    if found > version:
        raise SavedStateVersionError(
            f"{file} has version {found}, this package reads versions up to "
            f"{version}; install a newer arena_ckpt (the file was written by "
            f"{shown(document.get('package', 'an unknown one'))})",
            path=file,
            version=found,
        )
    arrays = _tensors(file, content, header)
    if _checksum(document, arrays) != document.get("checksum"):
        raise corrupt(
            file,
            "its checksum is not that of its content: bytes of it were altered",
        )
    return arrays, document


def corrupt(path: str, what: str) -> CorruptSavedStateError:
    """Return the error for a file that differs from what was written."""
    return CorruptSavedStateError(
        f"{path} is no saved state, or a damaged one: {what}. Take an earlier one, or "
        "copy it again from where it came from",
        path=path,
    )


def read_content(file: str) -> bytes:
    """Return the bytes of a file that holds a state.

    Raises
    ------
    SavedStateNotFoundError
        There is no such file.
    SavedStateError
        It cannot be read, or is larger than the memory that is free.
    """
    try:
        source = find_source(file)
    except DataFileNotFoundError as error:
        raise SavedStateNotFoundError(str(error), path=file) from None
    except DataError as error:
        raise SavedStateError(str(error), path=file) from None
    free_bytes = available_bytes()
    if 2 * source.file_bytes > free_bytes:
        raise SavedStateError(
            f"{file} has {format_bytes(source.file_bytes)}, and this machine has "
            f"{format_bytes(free_bytes)} of memory free, of which reading takes twice "
            "that; close other programs",
            path=file,
        )
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SavedStateError(
            f"{file} cannot be read ({error.strerror}); check the disk and its rights",
            path=file,
        ) from error


def _header(file: str, content: bytes) -> dict[str, Any]:
    """Return the header as a dict; safetensors' own reader drops the metadata."""
    length = int.from_bytes(content[:_HEADER_LENGTH_BYTES], "little")
    if length > LARGEST_HEADER_BYTES:
        raise corrupt(file, f"its header would have {format_bytes(length)}")
    text = content[_HEADER_LENGTH_BYTES : _HEADER_LENGTH_BYTES + length]
    if len(content) < _HEADER_LENGTH_BYTES or len(text) < length:
        raise corrupt(
            file, f"it ends after {len(content):,} bytes, in the middle of its header"
        )
    with suppress(ValueError, RecursionError):
        header = json.loads(text)
        if isinstance(header, dict):
            return header
    raise corrupt(file, "its header is no JSON object")


def _document(file: str, header: dict[str, Any], format_name: str) -> dict[str, Any]:
    metadata = header.get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise corrupt(file, f"its metadata have no {KEY!r}")
    with suppress(ValueError, RecursionError):
        document = json.loads(text)
        if isinstance(document, dict) and document.get("format") == format_name:
            return document
    raise corrupt(file, f"its metadata do not say that it is an {format_name}")


def _tensors(file: str, content: bytes, header: dict[str, Any]) -> Arrays:
    for name, entry in header.items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if name != "__metadata__" and dtype not in _DTYPES.values():
            raise corrupt(file, f"{shown(name)} is of dtype {quoted(dtype)}")
    try:
        arrays = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError) as error:
        # The second is of shapes without elements that NumPy cannot have.
        what = str(error).removeprefix("Error while ")
        raise corrupt(file, shown(what)) from None
    return dict(sorted(arrays.items()))


def _header_text(
    metadata: Mapping[str, str], arrays: Iterable[tuple[str, npt.NDArray[Any]]]
) -> bytes:
    """Return the header as text; safetensors would copy all bytes to write a file."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays:
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _DTYPES[array.dtype.str],
            "shape": array.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _HEADER_LENGTH_BYTES)


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _checksum(
    document: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> str:
    rest = {key: value for key, value in document.items() if key != "checksum"}
    return f"sha256:{digest_arrays(arrays, _text(rest).encode())}"
