"""Text files with a version in the first line and a checksum in the last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from arena_ckpt.common.wording import listed_versions
from arena_ckpt.errors import ArenaError, GoldenFileError

WHAT_TO_RUN = (
    "make it again: arena-ckpt golden update DIR, or pytest --update-golden where a "
    "test compares it"
)
_CHECKSUM = "checksum: sha256:"


def seal(title: str, version: int, lines: Iterable[str]) -> str:
    """Return the text of a file with version and checksum; `unseal` takes them off."""
    body = "".join(f"{line}\n" for line in (f"{title} {version}", *lines))
    return body + _CHECKSUM + _digest(body) + "\n"


def unseal(text: str, where: str, title: str, *versions: int) -> list[str]:
    """Return the lines between version and checksum.

    Parameters
    ----------
    text : str
        With whatever line ends.
    where : str
        The file, for messages.
    title : str
    *versions : int
        What this package reads.

    Raises
    ------
    GoldenFileError
        Another kind of file, of another version, truncated, or changed by hand.
    """
    lines = text.splitlines()
    found_title, _, found_version = (lines[0] if lines else "").rpartition(" ")
    if found_title != title:
        raise GoldenFileError(
            f"{where} does not begin with {title!r}; {WHAT_TO_RUN}", path=where
        )
    if found_version not in map(str, versions):
        raise GoldenFileError(
            f"{where} has version {found_version}, this package reads version "
            f"{listed_versions(versions)}; {WHAT_TO_RUN}",
            path=where,
            version=found_version,
        )
    if not lines[-1].startswith(_CHECKSUM):
        raise GoldenFileError(
            f"{where} is truncated: after {len(lines)} lines its checksum is missing; "
            f"{WHAT_TO_RUN}",
            path=where,
        )
    if lines[-1] != _CHECKSUM + _digest("".join(f"{line}\n" for line in lines[:-1])):
        raise GoldenFileError(
            f"{where} was changed by hand or cut: its checksum is not that of its "
            f"content; {WHAT_TO_RUN}",
            path=where,
        )
    return lines[1:-1]


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn exceptions while lines are parsed into the error for a damaged file.

    Raises
    ------
    GoldenFileError
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, ArenaError):
            raise
        raise GoldenFileError(
            f"{where} has lines that cannot be read ({error}); {WHAT_TO_RUN}",
            path=where,
        ) from error


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
