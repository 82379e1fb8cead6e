"""Sizes, strides and padding of windows on an input, as properties give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from arena_ckpt.common.properties import COUNT, POSITIVE_INT, Kind
from arena_ckpt.layers.spec import Shape

Padding = str | tuple[int, ...]
"""``"same"``, ``"valid"``, ``"causal"``, or rows and columns in NNTrainer's order."""


def _numbers(item: Kind, counts: tuple[int, ...]) -> Callable[[object], Any]:
    """Return what reads as many numbers of a kind as one of `counts`."""

    def parse(value: object) -> tuple[int, ...]:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, Iterable):
            items = [items]
        parsed = tuple(item.parse(entry) for entry in items)
        if len(parsed) not in counts:
            raise ValueError
        return parsed

    return parse


def _write(value: Padding) -> str:
    return value if isinstance(value, str) else ",".join(str(v) for v in value)


def _pair(value: object) -> tuple[int, ...]:
    parsed: tuple[int, ...] = _numbers(POSITIVE_INT, (1, 2))(value)
    return parsed * 2 if len(parsed) == 1 else parsed


def _padding(counts: tuple[int, ...], *words: str) -> Callable[[object], Padding]:
    """Return what reads one of `words`, or as many numbers as one of `counts`."""

    def parse(value: object) -> Padding:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word in words:
            return word
        numbers: tuple[int, ...] = _numbers(COUNT, counts)(value)
        return numbers

    return parse


POSITIVE_PAIR = Kind(
    "height,width, two whole numbers above 0 (or one for both)", _pair, _write
)
COUNT_PAIR = Kind(
    "height,width, two whole numbers of at least 0",
    _numbers(COUNT, (2,)),
    _write,
)
PADDING_2D = Kind(
    "one, two (height,width) or four (top,bottom,left,right) whole numbers of at least "
    "0, or same or valid",
    _padding((1, 2, 4), "same", "valid"),
    _write,
)
MARGINS = Kind(
    "one, two (height,width) or four (top,bottom,left,right) whole numbers of at least "
    "0",
    _padding((1, 2, 4)),
    _write,
)
PADDING_1D = Kind(
    "one or two (left,right) whole numbers of at least 0, or same, valid or causal",
    _padding((1, 2), "same", "valid", "causal"),
    _write,
)


def _to_keep(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Return the padding of one axis that gives ``ceil(size / stride)`` outputs."""
    outputs = -(-size // stride)
    return max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - size)


def pad_2d(
    padding: Padding,
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int, int, int]:
    """Return the padding at top, bottom, left and right, in elements.

    ``same`` divides what is needed; where it is odd, one more goes to bottom and right.

    Parameters
    ----------
    padding : Padding
        One, two (height, width) or four (top, bottom, left, right) numbers, ``"same"``
        or ``"valid"``.
    shape : Shape
        Shape of the input.
    kernel, stride, dilation : (int, int)
        Rows and columns.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return 0, 0, 0, 0
        down = _to_keep(shape[1], kernel[0], stride[0], dilation[0])
        aside = _to_keep(shape[2], kernel[1], stride[1], dilation[1])
        return down // 2, down - down // 2, aside // 2, aside - aside // 2
    if len(padding) == 4:
        top, bottom, left, right = padding
        return top, bottom, left, right
    down, aside = padding[0], padding[-1]
    return down, down, aside, aside


def pad_1d(
    padding: Padding, width: int, kernel: int, stride: int, dilation: int
) -> tuple[int, int]:
    """Return the padding at left and right, in elements.

    Parameters
    ----------
    padding : Padding
        One or two (left, right) numbers, ``"same"``, ``"valid"``, or ``"causal"``,
        which pads on the left only.
    width, kernel, stride, dilation : int
        Columns.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return 0, 0
        aside = _to_keep(width, kernel, stride, dilation)
        left = aside if padding == "causal" else aside // 2
        return left, aside - left
    return padding[0], padding[-1]
