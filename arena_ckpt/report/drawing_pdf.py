"""Writes a drawing as a PDF of one page: vectors, and texts that stay text.

What is written is the small part of PDF 1.4 that lines, circles and texts take. Texts
are in Helvetica, which every reader of PDF has, so nothing is embedded; it knows the
characters of Windows-1252, and others become question marks. Nothing in the file
depends on time or machine.

References
----------
Adobe, "PDF Reference, third edition: version 1.4", 2001 (file structure in 3.4, paths
in 4.4, text in 5.3). Widths are those of Adobe's metrics of Helvetica.
"""

from __future__ import annotations

from arena_ckpt.report.drawing import Dot, Drawing, Label, Line
from arena_ckpt.report.palette import parse_colour

POINTS = 0.75
"""Points of a unit: 72 points and 96 units are an inch."""

_ROUND = 0.5523
"""Place of the handles of a Bézier curve that is a quarter of a circle."""

_WIDTHS = (
    *(278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278),
    *(556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556),
    *(1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778),
    *(667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556),
    *(333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556),
    *(556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584),
)
"""Widths of the characters from space to tilde, in thousandths of the size."""

_OTHER_WIDTH = 556


def pdf_of(drawing: Drawing) -> bytes:
    """Return a drawing as a PDF."""
    width, height = drawing.width * POINTS, drawing.height * POINTS
    # Places are counted from the upper left corner, as those of drawings.
    content = [f"{POINTS:g} 0 0 {-POINTS:g} 0 {height:g} cm", "1 j"]
    if drawing.background is not None:
        content += [
            f"{_colour(drawing.background)} rg",
            f"0 0 {drawing.width} {drawing.height} re f",
        ]
    for shape in drawing.shapes:
        match shape:
            case Line():
                content += _line(shape)
            case Dot():
                content += _dot(shape)
            case Label():
                content += _label(shape)
    stream = "\n".join(content).encode("latin-1")
    return _file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:g} {height:g}] "
            "/Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>".encode(),
            b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica "
            b"/Encoding /WinAnsiEncoding >>",
            f"<< /Title <{_utf16(drawing.title)}> >>".encode(),
        ]
    )


def _file(objects: list[bytes]) -> bytes:
    """Return objects, numbered from 1, as a file with its table of their places.

    The first is the catalog, the last the facts about the document.
    """
    text = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"  # bytes that say: this is no plain text
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(text))
        text += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start, n = len(text), len(objects) + 1
    text += b"xref\n0 %d\n0000000000 65535 f \n" % n
    text += b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"<< /Size %d /Root 1 0 R /Info %d 0 R >>" % (n, n - 1)
    return text + b"trailer\n%b\nstartxref\n%d\n%%%%EOF\n" % (trailer, start)


def _line(line: Line) -> list[str]:
    (x, y), *others = line.places
    dashes = f"{line.dashes[0]:g} {line.dashes[1]:g}" if line.dashes else ""
    return [
        f"{_colour(line.stroke)} RG {line.width:g} w [{dashes}] 0 d",
        f"{x:.2f} {y:.2f} m",
        *(f"{x:.2f} {y:.2f} l" for x, y in others),
        "S",
    ]


def _dot(dot: Dot) -> list[str]:
    (x, y), r = dot.centre, dot.radius
    h = r * _ROUND
    corners = (
        (x + r, y + h, x + h, y + r, x, y + r),
        (x - h, y + r, x - r, y + h, x - r, y),
        (x - r, y - h, x - h, y - r, x, y - r),
        (x + h, y - r, x + r, y - h, x + r, y),
    )
    return [
        f"{_colour(dot.fill)} rg {_colour(dot.stroke)} RG 1.5 w [] 0 d",
        f"{x + r:.2f} {y:.2f} m",
        *(" ".join(f"{value:.2f}" for value in corner) + " c" for corner in corners),
        "b",
    ]


def _label(label: Label) -> list[str]:
    encoded = label.text.encode("cp1252", "replace")
    width = text_width(encoded) * label.size
    before = {"left": 0.0, "center": width / 2, "right": width}[label.align]
    below = 0.35 * label.size
    x, y = label.place
    # The second axis is turned over again, so that letters stand upright.
    if label.is_turned:
        matrix = f"0 -1 -1 0 {x + below:.2f} {y + before:.2f}"
    else:
        matrix = f"1 0 0 -1 {x - before:.2f} {y + below:.2f}"
    shown = encoded.decode("latin-1")
    for mark in "\\()":
        shown = shown.replace(mark, f"\\{mark}")
    shown = "".join(c if c >= " " else " " for c in shown)
    return [
        f"BT /F {label.size} Tf {_colour(label.fill)} rg {matrix} Tm ({shown}) Tj ET"
    ]


def text_width(encoded: bytes) -> float:
    """Return the width of a text in Helvetica, as a multiple of its size."""
    widths = dict(enumerate(_WIDTHS, ord(" ")))
    return sum(widths.get(code, _OTHER_WIDTH) for code in encoded) / 1000


def _colour(text: str) -> str:
    return " ".join(f"{part / 255:.3g}" for part in parse_colour(text))


def _utf16(text: str) -> str:
    """Return a text as PDF takes all of Unicode, in hexadecimal."""
    return "feff" + text.encode("utf-16-be", "replace").hex()
