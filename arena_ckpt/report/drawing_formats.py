"""The formats of files that drawings are written in."""

from __future__ import annotations

from collections.abc import Callable

from arena_ckpt.report.drawing import Drawing
from arena_ckpt.report.drawing_pdf import pdf_of
from arena_ckpt.report.drawing_png import png_of
from arena_ckpt.report.drawing_svg import svg_of

FORMATS: dict[str, Callable[[Drawing], bytes]] = {
    ".png": png_of,
    ".svg": lambda drawing: svg_of(drawing).encode("utf-8", "replace"),
    ".pdf": pdf_of,
}
"""What writes a drawing, by the suffix of the file."""
