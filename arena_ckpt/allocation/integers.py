"""Checks and converts the integers that users give as numbers, lists or arrays.

Messages repeat the user's own values: NumPy turns ``[4, 1.5]`` into floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.errors import InvalidBufferError
from arena_ckpt.operations.array_types import Integers as Integers

IntegerLike = Sequence[int] | npt.NDArray[np.integer[Any]]
Label = Callable[[int], str]

LARGEST_SUM_BYTES = 2**62
"""Upper limit of the sum of all sizes and alignments in bytes, so that no sum exceeds
int64."""


MOST_BUFFERS = 2**27
"""Maximum number of buffers of one call."""


def is_scalar(value: object) -> bool:
    """Say whether a value is one number that holds for all buffers."""
    try:
        return np.ndim(value) == 0  # type: ignore[arg-type]
    except Exception:  # a ragged list, or whatever another library raises
        return False


def is_whole(value: object) -> bool:
    """Say whether a value is an integer; True and False are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def shown(value: object) -> str:
    """Return how a message shows a value; Python refuses to print huge integers."""
    try:
        return repr(value)
    except Exception:  # an integer of thousands of digits, or what has no text
        return f"a {type(value).__name__} that cannot be written"


def integer_of(value: object, name: str) -> int:
    """Return one integer that holds for all buffers."""
    if not is_whole(value):
        raise InvalidBufferError(
            f"{name} is {shown(value)}; it must be an integer", buffers=(), name=name
        )
    number = int(value)  # type: ignore[call-overload]
    if abs(number) >= LARGEST_SUM_BYTES:
        raise InvalidBufferError(
            f"{name} is {shown(number)}; it must be below 2**62", buffers=(), name=name
        )
    return int(number)


def _refuse_too_many(values: object, name: str) -> None:
    """Refuse too many elements to copy; a broadcast array itself takes no memory."""
    n = values.shape[0] if isinstance(values, np.ndarray) and values.ndim else 0
    if n > MOST_BUFFERS:
        raise InvalidBufferError(
            f"{name} has {n:,} values; at most {MOST_BUFFERS:,} buffers can be placed",
            buffers=(),
        )


def items_of(values: object, name: str, what: str) -> list[object]:
    """Return the elements of a sequence as a list, or refuse what is not one."""
    if isinstance(values, Iterator):
        raise InvalidBufferError(
            f"{name} is an iterator; it must be a sequence of {what}, so that it has a "
            "length",
            buffers=(),
        )
    if isinstance(values, Set | Mapping):
        raise InvalidBufferError(
            f"{name} is a {type(values).__name__}; it must be a sequence of {what}",
            buffers=(),
        )
    _refuse_too_many(values, name)
    try:
        return list(values)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise InvalidBufferError(
            f"{name} is {shown(values)}; it must be a sequence of {what}", buffers=()
        ) from None


def integers_of(values: IntegerLike, name: str, label: Label) -> Integers:
    """Return `values` as a new int64 array of one dimension."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        index = int(np.argmax(np.ma.getmaskarray(values)))
        raise InvalidBufferError(
            f"{label(index)} has {name} masked; it must be an integer", buffers=(index,)
        )
    if isinstance(values, list | tuple) and any(v is np.ma.masked for v in values):
        array = np.empty(len(values))  # NumPy would warn; refused by name below
    else:
        try:
            array = np.asarray(values)
        except (TypeError, ValueError, OverflowError):
            array = np.asarray(values, dtype=object)
        except Exception as error:  # whatever the array of another library raises
            raise InvalidBufferError(
                f"{name} is no array of integers ({type(error).__name__}: {error})",
                buffers=(),
            ) from error
    _refuse_too_many(array, name)
    if array.ndim != 1:
        raise InvalidBufferError(
            f"{name} has the shape {array.shape}; it must have one dimension, with a "
            "value for each buffer",
            buffers=(),
        )
    if isinstance(values, np.ndarray) and (
        array.dtype.kind == "i"
        or (array.dtype.kind == "u" and array.max(initial=0) < 2**63)
    ):
        return np.array(array, dtype=np.int64)
    # The values as they were given: NumPy turns [4, 1.5] into floats.
    items = array.tolist() if isinstance(values, np.ndarray) else list(values)
    for index, value in enumerate(items):
        if not is_whole(value):
            raise InvalidBufferError(
                f"{label(index)} has {name} {shown(value)}; it must be an integer",
                buffers=(index,),
            )
        if not -(2**63) <= value < 2**63:
            raise InvalidBufferError(
                f"{label(index)} has {name} {shown(value)}; it must be below 2**62",
                buffers=(index,),
            )
    return np.array(items, dtype=np.int64)
