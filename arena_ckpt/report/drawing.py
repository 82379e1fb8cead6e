"""Drawings as data: lines, dots and texts, for writers of SVG, PNG and PDF."""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[float, float]
"""Units to the right and downwards from the upper left corner."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line through some places; dashes have the lengths of strokes and gaps."""

    places: tuple[Place, ...]
    stroke: str
    width: float = 1.5
    dashes: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Dot:
    """A filled circle with a border, and what a pointer on it is told."""

    centre: Place
    radius: float
    fill: str
    stroke: str
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """A text whose middle line runs through a place; turned text is read upwards."""

    place: Place
    text: str
    size: int
    fill: str
    align: str = "left"
    is_turned: bool = False


Shape = Line | Dot | Label


@dataclass(frozen=True, slots=True)
class Drawing:
    """Shapes on a background, in the order in which they cover each other.

    Attributes
    ----------
    width, height : int
        Units; pixels of a screen at its usual resolution.
    title : str
        Said to who cannot see the drawing.
    background : str or None
        Colour as ``#rrggbb``; None leaves the page as it is.
    shapes : tuple of Shape
    """

    width: int
    height: int
    title: str
    background: str | None
    shapes: tuple[Shape, ...]
