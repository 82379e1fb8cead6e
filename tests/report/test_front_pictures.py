"""Pictures of a front: the same axes, words, bounds and reasons in every format."""

from __future__ import annotations

import dataclasses
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.drawing import Dot, Drawing, Label, Line
from arena_ckpt.report.drawing_pdf import pdf_of, text_width
from arena_ckpt.report.drawing_svg import svg_of
from arena_ckpt.report.front_facts import (
    fastest_within,
    front_axes,
    front_document,
    front_facts,
)
from arena_ckpt.report.front_picture import drawing_of_front

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Point:
    """What a front is a sequence of."""

    label: str
    arena_bytes: int
    overhead: float
    plan: MemoryPlan


FRONT = ac.load_example("digits_mlp").model.pareto()
BETWEEN = FRONT[2].arena_bytes + 1000
"""Bytes between the third and the fourth plan of the front."""

GAPS = [
    Point(
        point.label,
        point.arena_bytes,
        point.overhead,
        dataclasses.replace(
            point.plan, live_lower_bound_bytes=point.arena_bytes - 9000
        ),
    )
    for point in FRONT
]
"""The same front if no layout were proved optimal."""


def texts_of(svg: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(svg).iter(f"{SVG}text")]


def pdf_texts(pdf: bytes) -> list[str]:
    """Return the texts of a PDF without compression, as a reader copies them."""
    found = re.findall(rb"\(((?:[^()\\]|\\.)*)\) Tj", pdf)
    return [re.sub(rb"\\(.)", rb"\1", t).decode("cp1252") for t in found]


def test_every_format_has_the_same_words_and_ticks() -> None:
    drawing = drawing_of_front(GAPS, "digits_mlp", BETWEEN)
    words = [shape.text for shape in drawing.shapes if isinstance(shape, Label)]
    assert texts_of(ac.front_svg(GAPS, "digits_mlp", budget=BETWEEN)) == words
    assert pdf_texts(ac.front_pdf(GAPS, "digits_mlp", budget=BETWEEN)) == words
    axes = front_axes(front_facts(GAPS), BETWEEN)
    document = front_document(GAPS, 1, BETWEEN)["front_axes"]
    for key in ("byte_ticks", "share_ticks"):
        assert [text for _, text in document[key]] == [
            text for _, text in getattr(axes, key)
        ]
        assert {text for _, text in document[key]} <= set(words)
    assert {document["bytes_name"], document["share_name"]} <= set(words)
    assert {"arena", "overhead"} <= set(words)
    head = str(FRONT).splitlines()[1]
    assert "arena" in head
    assert "overhead" in head
    assert "live lower bound of each plan" in words
    assert any(word.startswith("local lower bound") for word in words)
    assert any(word.startswith("budget") for word in words)
    assert "fastest within the budget: 460.3 KiB" in words


def test_bytes_run_to_the_right_and_overhead_upwards() -> None:
    drawing = drawing_of_front(FRONT, "front")
    dots = [s for s in drawing.shapes if isinstance(s, Dot) and s.tip]
    assert len(dots) == len(FRONT)
    x, y = zip(*(dot.centre for dot in dots), strict=True)
    assert list(x) == sorted(x)
    assert list(y) == sorted(y)  # downwards: less overhead
    assert [dot.tip for dot in dots] == [fact.text for fact in front_facts(FRONT)]
    assert "recomputes act4, act3, act1; 32.00 KiB (32,768 B) less" in dots[-4].tip
    backwards = drawing_of_front(FRONT[::-1], "front")
    assert backwards.shapes == drawing.shapes


def test_lines_stand_at_the_bounds_and_the_budget() -> None:
    drawing = drawing_of_front(GAPS, "front", BETWEEN)
    upright = {
        line.places[0][0]: line
        for line in drawing.shapes
        if isinstance(line, Line) and line.width == 2 and len(line.places) == 2
        if line.places[0][0] == line.places[1][0]
    }
    dots = [s for s in drawing.shapes if isinstance(s, Dot) and s.tip]
    (bound,) = [x for x, line in upright.items() if line.dashes]
    (budget,) = [x for x, line in upright.items() if not line.dashes]
    assert bound < dots[0].centre[0]
    assert dots[2].centre[0] < budget < dots[3].centre[0]
    large = [dot for dot in dots if dot.radius > 6]
    assert large == [dots[2]]
    stairs = [s for s in drawing.shapes if isinstance(s, Line) and len(s.places) > 9]
    live, plans = stairs
    assert live.dashes
    assert live.places[1][0] < plans.places[1][0]
    proved = drawing_of_front(FRONT, "front")
    assert sum(isinstance(s, Line) and len(s.places) > 9 for s in proved.shapes) == 1


def test_the_fastest_within_a_budget() -> None:
    facts = front_facts(FRONT)
    assert fastest_within(facts, None) is None
    assert fastest_within(facts, FRONT[0].arena_bytes - 1) is None
    assert fastest_within(facts, FRONT[0].arena_bytes) == 0
    assert fastest_within(facts, 2**40) == len(FRONT) - 1
    words = texts_of(ac.front_svg(FRONT, budget="1KiB"))
    assert "no plan within the budget" in words


def test_axes_hold_everything_in_round_ticks() -> None:
    for points in (FRONT, FRONT[:1], FRONT[-1:], GAPS):
        for budget in (None, 1000, BETWEEN, 2**40):
            facts = front_facts(points)
            axes = front_axes(facts, budget)
            for fact in facts:
                assert axes.low_bytes < fact.arena_bytes < axes.high_bytes
                assert axes.low_bytes < fact.local_lower_bound_bytes
                assert 0 <= fact.overhead < axes.top
            assert 2 <= len(axes.byte_ticks) <= 9
            assert 2 <= len(axes.share_ticks) <= 9
            ticks = [n_bytes for n_bytes, _ in axes.byte_ticks]
            assert axes.low_bytes <= ticks[0] < ticks[-1] <= axes.high_bytes
            assert axes.share_ticks[0] == (0, "0 %")


def test_a_png_shows_plans_bounds_and_budget() -> None:
    from PIL import Image

    picture = Image.open(io.BytesIO(ac.front_png(GAPS, "front", budget=BETWEEN)))
    assert picture.size == (1920, 1200)
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ("#1d4f97", "#e0912f", "#a8283a", "#ffffff"):
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 200, colour


def test_an_svg_is_whole_and_its_plans_have_tips() -> None:
    evil = "<script>&\"'\x07"
    svg = ac.front_svg(FRONT, evil)
    root = ET.fromstring(svg)
    tips = [e.text for e in root.iter(f"{SVG}title")]
    assert tips == [fact.text for fact in front_facts(FRONT)]
    assert "script" not in {e.tag for e in root.iter()}
    assert "<script>&\"'\N{REPLACEMENT CHARACTER}" in texts_of(svg)


def test_a_pdf_is_one_page_whose_table_finds_every_object() -> None:
    pdf = ac.front_pdf(FRONT, "digits (mlp) \\ 90 %, naïve – 層")
    assert pdf == ac.front_pdf(FRONT, "digits (mlp) \\ 90 %, naïve – 層")
    assert pdf.startswith(b"%PDF-1.4\n")
    assert pdf.endswith(b"%%EOF\n")
    start = int(re.findall(rb"startxref\n(\d+)\n", pdf)[0])
    assert pdf[start:].startswith(b"xref\n")
    places = [int(p) for p in re.findall(rb"\n(\d{10}) 00000 n ", pdf[start:])]
    for number, place in enumerate(places, 1):
        assert pdf[place:].startswith(b"%d 0 obj\n" % number)
    length = int(re.findall(rb"/Length (\d+)", pdf)[0])
    content = pdf[pdf.index(b"stream\n") + 7 :]
    assert content[length:].startswith(b"\nendstream")
    assert pdf.count(b"/Type /Page ") == 1
    assert pdf_texts(pdf)[0] == "digits (mlp) \\ 90 %, naïve – ?"
    title = re.findall(rb"/Title <feff([0-9a-f]+)>", pdf)[0].decode()
    assert bytes.fromhex(title).decode("utf-16-be").startswith("digits (mlp) \\ 90 %")
    assert "層" in bytes.fromhex(title).decode("utf-16-be")


def test_texts_of_a_pdf_are_aligned_by_their_widths() -> None:
    assert text_width(b"iii") == pytest.approx(3 * 0.222)
    assert text_width(b"WWW") == pytest.approx(3 * 0.944)
    shapes = tuple(
        Label((100, 50), "Wide", 10, "#000000", align)
        for align in ("left", "center", "right")
    )
    pdf = pdf_of(Drawing(200, 100, "t", None, shapes))
    starts = [float(x) for x in re.findall(rb"1 0 0 -1 ([\d.]+) ", pdf)]
    width = 10 * text_width(b"Wide")
    assert starts == pytest.approx([100, 100 - width / 2, 100 - width], abs=0.01)


def test_a_drawing_without_a_background_leaves_the_page() -> None:
    drawing = Drawing(10, 10, "t", None, (Line(((0, 0), (1, 1)), "#123456"),))
    assert "<rect" not in svg_of(drawing)
    assert b" re f" not in pdf_of(drawing)


def test_what_is_no_front_is_refused() -> None:
    for draw in (ac.front_svg, ac.front_png, ac.front_pdf):
        with pytest.raises(InvalidParameterError, match="no points to draw"):
            draw([])
        with pytest.raises(InvalidParameterError, match="points of a front"):
            draw([3])  # type: ignore[list-item]
        with pytest.raises(InvalidParameterError, match="no memory size"):
            draw(FRONT, budget="much")
        with pytest.raises(InvalidParameterError, match="title"):
            draw(FRONT, 3)  # type: ignore[arg-type]
