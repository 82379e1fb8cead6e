"""How windows lie on an input: sizes, strides and padding, as people give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from arena_ckpt.common.properties import COUNT, POSITIVE_INT, Kind
from arena_ckpt.layers.base import Shape

Padding = str | tuple[int, ...]
"""``"same"``, ``"valid"``, ``"causal"``, or numbers in NNTrainer's order."""


def _numbers(item: Kind, counts: tuple[int, ...]) -> Callable[[object], Any]:
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
PADDING_1D = Kind(
    "one or two (left,right) whole numbers of at least 0, or same, valid or causal",
    _padding((1, 2), "same", "valid", "causal"),
    _write,
)


def _to_keep(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Return the padding with which there are ``ceil(size / stride)`` outputs."""
    outputs = -(-size // stride)
    return max(0, (outputs - 1) * stride + (kernel - 1) * dilation + 1 - size)


def pad_2d(
    padding: Padding,
    shape: Shape,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right.

    ``same`` divides what is needed; where it is odd, more goes to bottom and right.
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
    """Return left and right; ``causal`` pads on the left only."""
    if isinstance(padding, str):
        if padding == "valid":
            return 0, 0
        aside = _to_keep(width, kernel, stride, dilation)
        left = aside if padding == "causal" else aside // 2
        return left, aside - left
    return padding[0], padding[-1]
