"""The page of a plan in a stock Firefox: what most people do with it.

What each of it means is tested in Chromium; here it has to happen.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from helpers.firefox import Firefox
from helpers.synthetic_plans import synthetic_plan
from helpers.viewer_pages import BLOCKED, FRONT, PAGE, PLAIN, SPREAD, STACKED_PAGE

from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.html import plan_html
from arena_ckpt.report.palette import THEMES, parse_colour

MIDDLE = """const chart = app.charts[0], plan = chart.plan;
const box = chart.lifeBox(plan.livesOf(plan.nameNumber(args[0]))[args[1]]);
const at = chart.overlay.getBoundingClientRect();
return [at.x + box.x + box.width / 2, at.y + box.y + box.height / 2];"""

PIXEL = """const { canvas, ratio } = app.charts[0];
const context = new OffscreenCanvas(1, 1).getContext("2d");
context.drawImage(canvas, -Math.round(args[0] * ratio), -Math.round(args[1] * ratio));
return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);"""


@pytest.fixture
def page(firefox: Firefox, tmp_path: Path):
    """Return a Firefox that shows the page; in the end it may have no complaints."""
    path = tmp_path / "report.html"
    path.write_text(PAGE, "utf-8")
    firefox.set_scheme("light")
    firefox.open(path.as_uri())
    yield firefox
    assert firefox.complaints() == []


def reopen(page: Firefox, tmp_path: Path, text: str = PAGE, link: str = "") -> None:
    path = tmp_path / "other.html"
    path.write_text(text, "utf-8")
    page.open(path.as_uri() + link)


def test_the_console_of_the_page_is_heard(firefox: Firefox, tmp_path: Path) -> None:
    broken = PAGE.replace("<header>", "<script>noSuchThing()</script><header>", 1)
    reopen(firefox, tmp_path, broken)
    assert any("noSuchThing" in each for each in firefox.complaints())


def test_the_map_has_the_colours_of_its_tensors(page: Firefox) -> None:
    assert page.js("return app.readyMilliseconds") < 10_000
    weight = THEMES["light"].kinds[TensorKind.WEIGHT]
    x, y = page.js(
        """const chart = app.charts[0], plan = chart.plan;
        const box = chart.lifeBox(plan.livesOf(plan.nameNumber("fc2:weight"))[0]);
        return [box.x + box.width * 0.9, box.y + box.height * 0.5];"""
    )
    assert tuple(page.js(PIXEL, x, y)) == parse_colour(weight)
    assert f"{BLOCKED.arena_bytes:,} B" in page.text("#tiles")


@pytest.mark.parametrize("name", ["fc1:out0", "in:out0"])
def test_pointing_shows_the_card_and_a_click_pins(page: Firefox, name: str) -> None:
    x, y = page.js(MIDDLE, name, 0)
    page.point(x, y)
    assert page.text("#card .name") == name
    page.point(x, y, click=True)
    assert page.text("#pinned .name") == name
    page.press("Escape")
    assert page.js("return app.pin") is None


def test_slider_and_keys_go_to_other_steps(page: Firefox) -> None:
    page.js("$('slider').value = 9; $('slider').dispatchEvent(new Event('input'))")
    page.settle()
    assert f"step 9 of {len(BLOCKED.steps)}" in page.text("#step-text")
    page.find("#slider").click()
    page.press("ArrowRight", "p")
    assert f"step {BLOCKED.peak_step} of" in page.text("#step-text")
    page.press("ArrowLeft")
    assert f"step {BLOCKED.peak_step - 1} of" in page.text("#step-text")
    alive = BLOCKED.alive_at(BLOCKED.peak_step - 1)
    assert len(page.texts("#alive li .name")) == len(alive)


def test_search_finds_and_pins(page: Firefox) -> None:
    page.press("/")
    page.type("#search", "fc2")
    names = {t.name for t in BLOCKED.tensors if "fc2" in t.name}
    assert page.text("#n-found") == f"{len(names)} found"
    assert set(page.texts("#found li")) == names
    page.press("ArrowDown", "Enter")
    assert page.text("#pinned .name") in names


def test_the_table_sorts_filters_copies_and_selects(page: Firefox) -> None:
    page.press("b")
    page.click("#buffers-table th.bytes button")
    assert page.find("#buffers-table th.bytes").get_attribute("aria-sort") == (
        "descending"
    )
    page.type("#filter", "kind:weight bytes>1000")
    weights = [
        t
        for t in BLOCKED.tensors
        if t.kind is TensorKind.WEIGHT and t.size_bytes > 1000
    ]
    page.click("#copy-csv")
    copied = page.js("return await navigator.clipboard.readText()")
    rows = list(csv.DictReader(io.StringIO(copied)))
    assert sorted(row["tensor"] for row in rows) == sorted(t.name for t in weights)
    sizes = [int(row["bytes"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    page.click("#buffers-table tr[data-row] td.kind")
    assert page.js("return app.pin") == rows[0]["tensor"]
    page.press("ArrowDown", "Enter")
    assert page.js("return app.pin") is not None


def test_the_rows_of_a_large_plan_scroll(page: Firefox, tmp_path: Path) -> None:
    plan = synthetic_plan(100_000, seed=1)
    reopen(page, tmp_path, plan_html(plan))
    assert page.js("return app.readyMilliseconds") < 6000, "about 1 s on a free core"
    page.press("b")
    page.js("app.table.goTo(99_999); app.table.render()")
    page.settle()
    low, high, top, bottom = page.js(
        """const row = $("row-99999").getBoundingClientRect();
        const all = $("buffers-scroll").getBoundingClientRect();
        return [row.top, row.bottom, all.top, all.bottom];"""
    )
    assert top <= low
    assert high <= bottom


def test_the_graph_follows_and_chooses(page: Firefox) -> None:
    page.js("app.select('fc1:out0')")
    page.settle()
    assert page.texts('#layers .layer[aria-selected="true"] .name') == ["fc1"]
    assert len(page.texts("#layers .layer.uses")) > 1
    page.js("document.querySelector('#layers').scrollIntoView()")
    page.click("#layers .layer.uses")
    assert page.js("return [app.pin, app.layer]") == [None, "fc1"]


def test_links_select_and_follow(page: Firefox, tmp_path: Path) -> None:
    reopen(page, tmp_path, link="#tensor=fc1:out0&step=12&theme=dark&table=lives>1")
    assert page.text("#pinned .name") == "fc1:out0"
    assert "step 12 of" in page.text("#step-text")
    page.js("app.setStep(13); await new Promise((r) => setTimeout(r, 400))")
    hash_ = page.js("return location.hash")
    assert hash_ == "#theme=dark&tensor=fc1:out0&step=13&table=lives%3E1"
    page.click("#copy-link")
    copied = page.js("return await navigator.clipboard.readText()")
    assert copied == page.js("return location.href")
    assert page.text("#notice-text").endswith("is copied.")
    reopen(page, tmp_path, link="#tensor=no:such")
    assert "no tensor no:such" in page.text("#notice")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_and_the_button(
    page: Firefox, tmp_path: Path, scheme: str
) -> None:
    page.set_scheme(scheme)
    reopen(page, tmp_path)
    for name in (scheme, "dark" if scheme == "light" else "light"):
        wanted = parse_colour(THEMES[name].page)
        assert tuple(page.js(PIXEL, 1, 1)) == wanted
        background = "getComputedStyle(document.documentElement).backgroundColor"
        red, green, blue = wanted
        assert page.js(f"return {background}") == f"rgb({red}, {green}, {blue})"
        page.click("#theme")


def test_the_view_is_saved_as_svg_and_png(page: Firefox) -> None:
    page.click("#save-svg")
    assert b"<title>fc1:out0</title>" in page.downloaded("small.svg")
    page.click("#save-png")
    assert page.downloaded("small.png").startswith(b"\x89PNG\r\n\x1a\n")


def test_plans_are_compared_and_chosen_from_the_front(page: Firefox) -> None:
    page.click("#tab-compare")
    arenas = page.js("return app.charts.map((chart) => chart.plan.arena_bytes)")
    assert arenas == [PLAIN.arena_bytes, BLOCKED.arena_bytes]
    assert "What moved the peak" in page.text("#comparison")
    page.click("#tab-front")
    for index, point in enumerate(FRONT):
        page.click(f'#front circle[data-point="{index}"]')
        assert page.js("return app.plan0.arena_bytes") == point.arena_bytes


def test_several_memories_are_shown(page: Firefox, tmp_path: Path) -> None:
    reopen(page, tmp_path, STACKED_PAGE)
    page.point(*page.js(MIDDLE, "conv2:filter", 0))
    buffer = next(b for b in SPREAD.buffers if b.tensor == "conv2:filter")
    assert f"in {buffer.memory}" in page.text("#card")


def test_a_narrow_window_needs_no_scrolling_sideways(
    page: Firefox, tmp_path: Path
) -> None:
    page.resize(460, 844)  # a window is no narrower here
    reopen_width = page.js("return innerWidth")
    page.press("b", "g")
    assert page.js("return document.documentElement.scrollWidth") <= reopen_width
    assert page.js("return app.graph.isOpen && app.table.isOpen")
