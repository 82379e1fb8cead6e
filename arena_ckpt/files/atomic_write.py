"""Atomic writes: after a power cut a file is whole, or as it was before.

The content goes into a temporary file beside the target, which is flushed to the disk
and renamed over it; then the folder is flushed. Until the rename the old file is
untouched, and after it the new one is complete.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from arena_ckpt.common.units import format_bytes
from arena_ckpt.errors import UnwritableFileError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)
_SHOWN_LETTERS = 40


def write_whole(
    path: str | os.PathLike[str], write: Callable[[BinaryIO], object]
) -> None:
    """Write a file atomically: it is whole afterwards, or as it was before.

    Parameters
    ----------
    path : path
        An existing file is replaced and its rights are kept; a link keeps pointing
        where it points. The folder has to exist.
    write : callable
        Given a binary file.

    Raises
    ------
    UnwritableFileError
        A folder that does not exist or may not be written into, a full disk, a path
        that is no regular file.
    """
    shown = os.fsdecode(path)
    try:
        target = Path(os.path.realpath(shown))
        if target.is_dir():
            raise IsADirectoryError(f"{shown} is a folder")
        if target.exists() and not target.is_file():
            raise FileExistsError(f"{shown} is no regular file")
        part = target.with_name(_part_name(target.name))
        try:
            with part.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, part)
            os.replace(part, target)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        if isinstance(error, UnwritableFileError):
            raise
        raise _unwritable(shown, error) from error
    try:
        _flush_folder(target.parent)
    except OSError as error:
        raise UnwritableFileError(
            f"{shown} is written, but would perhaps not outlast a power cut, since its "
            f"folder cannot be flushed ({error.strerror}); check the disk",
            path=shown,
            free_bytes=None,
        ) from error


def is_part_of(name: str, target_name: str) -> bool:
    """Say whether a file was left by a killed process that was writing another file.

    Parameters
    ----------
    name : str
        Name of the file.
    target_name : str
        A regular expression for the name of the file that was to be written.
    """
    return bool(re.fullmatch(rf"\.{target_name}\.[0-9a-f]{{16}}\.part", name))


def _part_name(target_name: str) -> str:
    """Return a name for a temporary file, of at most the length that systems allow."""
    return f".{target_name[:_SHOWN_LETTERS]}.{secrets.token_hex(8)}.part"


def make_folder(folder: Path) -> None:
    """Make a folder and its parents so that they outlast a power cut; it may exist.

    Raises
    ------
    OSError
    """
    missing = [made for made in (folder, *folder.parents) if not made.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _flush_folder(made.parent)


def _flush_folder(folder: Path) -> None:
    """Flush the renames in a folder to disk, if the system can do that.

    Windows and some network file systems cannot, and a folder that may only be written
    into cannot be opened; there the system decides when names are on the disk.
    """
    flag = getattr(os, "O_DIRECTORY", None)
    if flag is None:
        return
    try:
        number = os.open(folder, os.O_RDONLY | flag)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise


def _unwritable(path: str, error: OSError | ValueError) -> UnwritableFileError:
    reason = getattr(error, "strerror", None) or str(error)
    folder, free_bytes = "", None
    advice = "check the path, its folder and its rights, or choose another place"
    with suppress(OSError, ValueError):  # where we are may be gone; "\0" is in no path
        folder = str(Path(path).absolute().parent)
        free_bytes = shutil.disk_usage(folder).free
    if getattr(error, "errno", None) in _FULL and free_bytes is not None:
        reason += f"; {format_bytes(free_bytes)} are free"
        advice = "make room, or choose another place"
    elif folder and not os.path.isdir(folder):
        advice = f"there is no folder {folder}: make it first, or choose another place"
    return UnwritableFileError(
        f"{path} cannot be written ({reason}); {advice}. What was there is as it was",
        path=path,
        free_bytes=free_bytes,
    )
