"""Files that are there whole or not at all, whenever the power goes.

The content goes into a temporary file beside the target, which is flushed to the disk
and renamed over it; then the folder is flushed. Until the rename the old file is
untouched, and after it the new one is complete.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from arena_ckpt.errors import UnwritableFileError
from arena_ckpt.units import format_bytes

PART_SUFFIX = ".part"
"""Of the temporary files; what a killed process leaves is named ``.….part``."""


_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_whole(
    path: str | os.PathLike[str], write: Callable[[BinaryIO], object]
) -> None:
    """Let `write` fill a file, which is there whole afterwards or as it was.

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
        part = target.with_name(f".{secrets.token_hex(8)}{PART_SUFFIX}")
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
        _flush_folder(target.parent)
    except (OSError, ValueError) as error:
        if isinstance(error, UnwritableFileError):
            raise
        raise _unwritable(shown, error) from error


def _flush_folder(folder: Path) -> None:
    """Make a rename last, where folders can be opened (not on Windows)."""
    flag = getattr(os, "O_DIRECTORY", None)
    if flag is None:
        return
    number = os.open(folder, os.O_RDONLY | flag)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _unwritable(path: str, error: OSError | ValueError) -> UnwritableFileError:
    reason = getattr(error, "strerror", None) or str(error)
    folder = os.path.dirname(os.path.abspath(path)) if "\0" not in path else ""
    free_bytes = None
    advice = "check the path, its folder and its rights, or choose another place"
    with suppress(OSError):
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
