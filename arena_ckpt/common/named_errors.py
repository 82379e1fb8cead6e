"""Says in the message of an error where the data came from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from arena_ckpt.errors import ArenaError


@contextlib.contextmanager
def named_errors(source: str, *kinds: type[ArenaError]) -> Iterator[None]:
    """Begin the messages of errors in the block with where the data came from.

    One that begins so already, or any where `source` is empty, stays as it is.
    """
    try:
        yield
    except kinds as error:
        if source and not str(error).startswith(f"{source}: "):
            error.args = (f"{source}: {error}",)
        raise
