"""Opens files that may be compressed, with limits on size and one kind of error."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from arena_ckpt.common.wording import nearest, quoted
from arena_ckpt.errors import (
    ArenaError,
    CorruptFileError,
    DataError,
    DataFileNotFoundError,
    InvalidParameterError,
)

LARGEST_DEFLATE_RATIO = 1032
"""Maximum ratio of unpacked to packed bytes: deflate takes at least 2 bits for 258
bytes."""

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Source:
    """A regular file that exists, perhaps compressed.

    Attributes
    ----------
    path : Path
    file_bytes : int
        Its size on disk.
    is_gzip : bool
        Told by the first two bytes and not by the name: browsers unpack silently.
    """

    path: Path
    file_bytes: int
    is_gzip: bool

    @property
    def most_bytes(self) -> int:
        """Maximum number of unpacked bytes that can be read from the file."""
        ratio = LARGEST_DEFLATE_RATIO if self.is_gzip else 1
        return self.file_bytes * ratio

    def open(self) -> BinaryIO:
        """Open the file for reading unpacked bytes."""
        if self.is_gzip:
            return cast(BinaryIO, gzip.open(self.path, "rb"))
        return self.path.open("rb")


def path_text(path: object) -> str:
    """Return a path as text.

    Raises
    ------
    InvalidParameterError
        It is neither a text nor a path.
    """
    if isinstance(path, str | os.PathLike):
        with contextlib.suppress(TypeError):  # a path of something else
            return os.fsdecode(path)
    raise InvalidParameterError(
        f"{quoted(path)} is no path; give a text or a pathlib.Path", path=path
    )


def find_source(path: str | os.PathLike[str]) -> Source:
    """Find a file and how it is compressed.

    Raises
    ------
    DataFileNotFoundError
        There is no such file; the nearest name in its folder is given.
    DataError
        It is a folder or a device, or may not be read.
    """
    path = Path(path_text(path))
    try:
        if not path.exists():
            raise _not_found(path)
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no regular file"
            raise DataError(f"{path} is {what}; name a data file", path=str(path))
        with path.open("rb") as stream:
            return Source(
                path=path,
                file_bytes=os.fstat(stream.fileno()).st_size,
                is_gzip=stream.read(2) == _GZIP_MAGIC,
            )
    except (OSError, ValueError) as error:
        if isinstance(error, ArenaError):
            raise
        raise DataError(
            f"{str(path)!r} cannot be read ({error}); check the path and its rights",
            path=str(path),
        ) from error


def read_whole(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """Read a whole file, which must not exceed a size.

    Parameters
    ----------
    path : path
    most_bytes : int
        More is not read.

    Raises
    ------
    DataFileNotFoundError
        There is no such file.
    DataError
        It is a folder or a device, may not be read, or is larger.
    """
    source = find_source(path)
    data = bytearray()
    try:
        with source.path.open("rb") as stream:
            # A single read takes memory for all that it is asked for.
            while len(data) <= most_bytes and (chunk := stream.read(_CHUNK_BYTES)):
                data += chunk
    except OSError as error:
        raise DataError(
            f"{source.path} cannot be read ({error}); check its rights",
            path=str(source.path),
        ) from error
    if len(data) > most_bytes:
        raise DataError(
            f"{source.path} has {source.file_bytes:,} bytes, more than the "
            f"{most_bytes:,} that such a file may have; is it another file?",
            path=str(source.path),
            file_bytes=source.file_bytes,
            limit_bytes=most_bytes,
        )
    return bytes(data)


def _not_found(path: Path) -> DataFileNotFoundError:
    folder = path.parent
    if not folder.is_dir():
        return DataFileNotFoundError(
            f"{path} does not exist, nor does its folder {folder}; check the path",
            path=str(path),
            near=None,
        )
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    lowered = {name.lower(): name for name in names}
    hint = nearest(path.name, lowered)
    near = next((name for low, name in lowered.items() if repr(low) in hint), None)
    return DataFileNotFoundError(
        f"{path} does not exist"
        + (f" (did you mean {str(folder / near)!r}?)" if near else "")
        + "; check the path",
        path=str(path),
        near=near,
    )


def corrupt(path: Path, expected: str, found: str, **facts: object) -> CorruptFileError:
    """Return the error for a file that holds something else than `expected`."""
    return CorruptFileError(
        f"{path}: expected {expected}, found {found}; "
        "the file is damaged, cut short or of another format: fetch or write it again",
        path=str(path),
        expected=expected,
        found=found,
        **facts,
    )


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turn every failure of a decoder in the block into a `CorruptFileError`.

    The decoders of the standard library and of NumPy meet damaged bytes with some
    ten kinds of exception (BadZipFile, zlib.error, EOFError, struct.error,
    NotImplementedError, SyntaxError, …), so all are taken.
    """
    try:
        yield
    except (ArenaError, MemoryError):
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise corrupt(path, expected, f"bytes that cannot be read ({reason})") from (
            error
        )
