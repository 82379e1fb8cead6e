"""Draws rectangles as pixels, each the exact mean of the colours in it.

Every pixel has the exact mean colour of the area that it covers, so a million buffers
much smaller than a pixel are drawn as exactly as ten large ones. The rectangles are
summed as differences in both directions, 16 numbers each, whatever their size.

References
----------
F. C. Crow, "Summed-Area Tables for Texture Mapping", SIGGRAPH 1984 (here backwards).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arena_ckpt.allocation.integers import Integers

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

FREE_MEMORY: Colour = (244, 243, 239)
BORDER_PIXELS = 0.8
"""Width in pixels of the border inside each rectangle that is large enough for one."""

BORDER_SHADE = 0.72
RECTANGLES_AT_ONCE = 2**16

FEW_PLACES = 16
"""Number of pixels for each changed one from which on only those are gone through."""


@dataclass(frozen=True, slots=True)
class Rectangles:
    """Rectangles of `owner`, in pixels from the lower left corner of the picture."""

    owner: Integers
    left: Floats
    right: Floats
    low: Floats
    high: Floats
    shape: tuple[int, int]
    """Number of rows and columns of the picture."""


def paint(
    rectangles: Rectangles, colours: Pixels, free: Colour | Pixels = FREE_MEMORY
) -> Pixels:
    """Return a picture of rectangles that do not overlap.

    Parameters
    ----------
    rectangles : Rectangles
    colours : uint8 array, shape (number of owners, 3)
    free : Colour, or uint8 array of shape (rows, 3)
        Colour of what no rectangle covers, of each row from the highest on.

    Returns
    -------
    uint8 array, shape (rows, columns, 3)
        Mean colour of the area of each pixel; the first row is the highest.
    """
    rows, columns = rectangles.shape
    changes = np.zeros((4, (rows + 2) * (columns + 2)))
    for start in range(0, len(rectangles.owner), RECTANGLES_AT_ONCE):
        part = slice(start, start + RECTANGLES_AT_ONCE)
        fill = colours[rectangles.owner[part]].T.astype(np.float64)
        left, right = rectangles.left[part], rectangles.right[part]
        low, high = rectangles.low[part], rectangles.high[part]
        # Borders grow from zero width with the rectangle, so that sizes near the limit
        # look alike.
        across = _border(right - left)
        along = _border(high - low)
        framed = (across > 0) & (along > 0)
        outer = np.where(framed, fill * BORDER_SHADE, fill)
        add_areas(
            changes, columns, left, right, low, high, [*outer, np.ones(len(left))]
        )
        across, along = across[framed], along[framed]
        add_areas(
            changes,
            columns,
            left[framed] + across,
            right[framed] - across,
            low[framed] + along,
            high[framed] - along,
            list((fill - outer)[:, framed]),
        )
    # In place: pages of new memory take longer than the sums.
    sums = changes.reshape(4, rows + 2, columns + 2)
    np.cumsum(sums, axis=1, out=sums)
    np.cumsum(sums, axis=2, out=sums)
    *of_channel, covered = sums[:, :rows, :columns]
    uncovered = 1 - covered
    picture = np.empty((rows, columns, 3), dtype=np.uint8)
    of_rows = np.broadcast_to(np.asarray(free, dtype=np.float64), (rows, 3))[::-1]
    for channel, of_rectangles in enumerate(of_channel):
        mean = uncovered * of_rows[:, channel, None]
        mean += of_rectangles
        mean += 0.5
        picture[::-1, :, channel] = np.clip(mean, 0, 255, out=mean)
    return picture


def _border(side: Floats) -> Floats:
    return np.clip((side - 2) / 6, 0, BORDER_PIXELS)


def add_areas(
    changes: Floats,
    columns: int,
    left: Floats,
    right: Floats,
    low: Floats,
    high: Floats,
    values: list[Floats],
) -> None:
    """Add rectangles, as changes from row to row and from column to column.

    Parameters
    ----------
    changes : float64 array, shape (channels, (rows + 2) * (columns + 2))
    columns : int
    left, right, low, high : float64 array, shape (n,)
        Pixels, inside the picture.
    values : list of float64 array, shape (n,)
        What a pixel wholly covered gets, for each of the first channels.
    """
    column, across = _changes(left, right)
    row, along = _changes(low, high)
    place = (row[:, None] * (columns + 2) + column[None]).ravel()
    weight = along[:, None] * across[None]
    if len(place) * FEW_PLACES < changes.shape[1]:
        known, number = np.unique(place, return_inverse=True)
        for channel, value in zip(changes, values, strict=False):
            channel[known] += np.bincount(number, (weight * value).ravel())
        return
    for channel, value in zip(changes, values, strict=False):
        channel += np.bincount(place, (weight * value).ravel(), len(channel))


def _changes(low: Floats, high: Floats) -> tuple[Integers, Floats]:
    """Return how much the covered part changes at each pixel, for ranges."""
    first, last = np.floor(low), np.floor(high)
    low_part, high_part = low - first, high - last
    place = np.stack((first, first + 1, last, last + 1)).astype(np.int64)
    return place, np.stack((1 - low_part, low_part, high_part - 1, -high_part))
