"""Writes a drawing as SVG."""

from __future__ import annotations

from arena_ckpt.report.drawing import Dot, Drawing, Label, Line
from arena_ckpt.report.pens import xml_text

FONTS = "system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
_ANCHORS = {"left": "start", "center": "middle", "right": "end"}


def svg_of(drawing: Drawing) -> str:
    """Return a drawing as SVG text that refers to nothing outside itself."""
    width, height = drawing.width, drawing.height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" style="max-width:100%;height:auto" '
        f'role="img" aria-label="{xml_text(drawing.title)}" font-family="{FONTS}">'
    ]
    if drawing.background is not None:
        parts.append(
            f'<rect width="{width}" height="{height}" fill="{drawing.background}"/>'
        )
    for shape in drawing.shapes:
        match shape:
            case Line():
                parts.append(_line(shape))
            case Dot():
                parts.append(_dot(shape))
            case Label():
                parts.append(_label(shape))
    return "\n".join([*parts, "</svg>\n"])


def _line(line: Line) -> str:
    places = " ".join(f"{x:.2f},{y:.2f}" for x, y in line.places)
    dashes = ""
    if line.dashes:
        dashes = f' stroke-dasharray="{line.dashes[0]:g} {line.dashes[1]:g}"'
    return (
        f'<polyline points="{places}" fill="none" stroke="{line.stroke}" '
        f'stroke-width="{line.width:g}"{dashes}/>'
    )


def _dot(dot: Dot) -> str:
    x, y = dot.centre
    tip = f"<title>{xml_text(dot.tip)}</title>" if dot.tip else ""
    return (
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{dot.radius:g}" fill="{dot.fill}" '
        f'stroke="{dot.stroke}" stroke-width="1.5">{tip}</circle>'
    )


def _label(label: Label) -> str:
    x, y = label.place
    turn = f' transform="rotate(-90 {x:.2f} {y:.2f})"' if label.is_turned else ""
    return (
        f'<text x="{x:.2f}" y="{y:.2f}" dy="0.35em" font-size="{label.size}" '
        f'fill="{label.fill}" text-anchor="{_ANCHORS[label.align]}"{turn}>'
        f"{xml_text(label.text)}</text>"
    )
