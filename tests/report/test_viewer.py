"""The page of a plan, in a real browser, and what can be said of it without one.

Tests that need a browser skip where Playwright or a Chromium is missing.
"""

from __future__ import annotations

import base64
import gzip
import html.parser
import inspect
import itertools
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.scale import how_many
from helpers.synthetic_plans import synthetic_plan
from helpers.viewer_pages import (
    BLOCKED,
    FRONT,
    PAGE,
    PLAIN,
    SPREAD,
    STACKED_PAGE,
    Open,
    Opened,
    Point,
    middle_of,
    mlp,
)

from arena_ckpt.examples import load_example
from arena_ckpt.model import Model
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.columns import plan_columns
from arena_ckpt.report.front_facts import front_document, front_facts
from arena_ckpt.report.html import SCRIPTS, plan_html
from arena_ckpt.report.packing import ColumnPacker
from arena_ckpt.report.palette import THEMES, parse_colour
from arena_ckpt.report.segments import cut_segments
from arena_ckpt.report.stack import stack_memories

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EVIL = "<script>alert(1)</script>"


def tensor_at(plan: MemoryPlan, step: int, byte: float) -> str | None:
    """Return the name of the tensor there, by asking every buffer."""
    stack = stack_memories(plan)
    for buffer, low, high in zip(plan.buffers, stack.low, stack.high, strict=True):
        is_there = low <= byte < high
        if is_there and buffer.start <= step < buffer.stop:
            return plan.tensor_in(buffer, step).name
    return None


# -- without a browser -----------------------------------------------------------------


class Outline(html.parser.HTMLParser):
    """Collects elements, and checks that they are nested."""

    VOID = frozenset({"meta", "input", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_nested_and_its_ids_are_unique() -> None:
    outline = Outline()
    outline.feed(PAGE)
    outline.close()
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert "@@" not in re.sub(r'<script type="text/plain".*?</script>', "", PAGE)


def test_the_page_refers_to_nothing_outside() -> None:
    outline = Outline()
    outline.feed(PAGE)
    links = [v for _, name, v in outline.attributes if name in ("src", "href")]
    assert links == ["data:,"]
    outside = set(re.findall(r"https?://[^\s\"'`)]+", PAGE))
    assert outside == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket", PAGE)
    assert "default-src 'none'" in PAGE


def test_every_script_is_joined() -> None:
    folder = Path(inspect.unwrap(plan_html).__code__.co_filename).parent / "viewer"
    assert {path.name for path in folder.glob("*.js")} == set(SCRIPTS)


def test_names_of_layers_stand_nowhere_as_markup() -> None:
    page = plan_html(mlp(block=False, name=EVIL), f"a {EVIL} & b")
    assert "alert(1)</script>" not in page
    assert "<title>a &lt;script&gt;alert(1)&lt;/script&gt; &amp; b</title>" in page


def test_columns_come_back_as_they_were() -> None:
    packer = ColumnPacker()
    values = [0, 5, -7, 2**40, -(2**40), 3]
    packer.add("plain", values)
    packer.add("differences", values, differences=True)
    packer.add("factor", [64, 640, -128])
    packer.add("nothing", [])
    contents, blob = packer.finish()
    data = gzip.decompress(base64.b64decode(blob))
    assert read_column(data, contents, "plain") == values
    assert read_column(data, contents, "differences") == values
    assert read_column(data, contents, "factor") == [64, 640, -128]
    assert contents[2]["factor"] == 64
    assert contents[2]["planes"] == 1
    assert read_column(data, contents, "nothing") == []


def read_column(data: bytes, contents: list[dict[str, Any]], name: str) -> list[int]:
    """Do in Python what decode.js does."""
    start = 0
    for entry in contents:
        n, planes = entry.get("length", 0), entry.get("planes", 0)
        if entry["name"] == name:
            break
        start += n * planes + entry.get("text_bytes", 0)
    value = np.zeros(n, dtype=np.int64)
    for plane in reversed(range(planes)):
        part = data[start + plane * n : start + (plane + 1) * n]
        value = value * 256 + np.frombuffer(part, dtype=np.uint8)
    if entry["signed"]:
        value = np.where(value % 2, -(value + 1) // 2, value // 2)
    value *= entry["factor"]
    result: list[int] = (value.cumsum() if entry["differences"] else value).tolist()
    return result


def test_segments_hold_what_the_plan_says_at_every_step() -> None:
    segments = cut_segments(BLOCKED)
    seen = 0
    for b, t, start, stop in zip(
        segments.buffer, segments.tensor, segments.start, segments.stop, strict=True
    ):
        for step in range(start, stop):
            assert BLOCKED.tensor_in(BLOCKED.buffers[b], step) is BLOCKED.tensors[t]
        seen += stop - start
    assert seen == sum(b.stop - b.start for b in BLOCKED.buffers)


def test_the_same_plan_gives_the_same_page() -> None:
    assert plan_html(BLOCKED) == plan_html(mlp(block=True))


def test_a_hundred_thousand_buffers_take_less_than_two_megabytes() -> None:
    page = plan_html(synthetic_plan(100_000))
    assert len(page.encode()) < 2_000_000


def test_a_notebook_shows_the_page_in_a_frame() -> None:
    cell = PLAIN._repr_html_()
    assert cell.startswith("<iframe")
    assert "<script" not in cell


MACHADO = {
    "all colours": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def oklab(linear: np.ndarray) -> np.ndarray:
    """Return the perceptual coordinates of a linear sRGB colour (B. Ottosson, 2020)."""
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(lab) @ np.cbrt(np.array(cones) @ np.clip(linear, 0, 1))


@pytest.mark.parametrize("sight", MACHADO)
@pytest.mark.parametrize("theme", THEMES)
def test_kinds_are_told_apart_whatever_the_sight(theme: str, sight: str) -> None:
    def seen(colour: str) -> np.ndarray:
        part = np.array(parse_colour(colour)) / 255
        linear = np.where(
            part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4
        )
        return oklab(np.array(MACHADO[sight]) @ linear)

    colours = [*THEMES[theme].kinds.values(), THEMES[theme].free]
    for one, other in itertools.combinations(colours, 2):
        assert np.linalg.norm(seen(one) - seen(other)) > 0.1, (one, other)


# -- in a browser ----------------------------------------------------------------------


@pytest.mark.parametrize("zoomed", [False, True])
@pytest.mark.parametrize(
    ("text", "plan", "byte"),
    [(PAGE, BLOCKED, 50_000), (STACKED_PAGE, SPREAD, 9000)],
    ids=["one", "stacked"],
)
def test_hovering_shows_the_tensor_that_is_there(
    opened: Open, text: str, plan: MemoryPlan, byte: float, zoomed: bool
) -> None:
    page = opened(text)
    if zoomed:
        page.js("app.zoom(0.3, 20, byte)", byte=byte)
        page.settle()
    box = page.page.locator(".overlay").bounding_box()
    area, view = page.js(
        "const c = app.charts[0]; return [{...c.area, top: c.map.top, "
        "height: c.map.height}, {...app.view}]"
    )
    rng = random.Random(1)
    found = 0
    for _ in range(how_many(100, 1000)):
        x, y = rng.uniform(1, area["width"] - 1), rng.uniform(1, area["height"] - 1)
        step = view["left"] + x / area["width"] * (view["right"] - view["left"])
        byte = view["high"] - y / area["height"] * (view["high"] - view["low"])
        page.page.mouse.move(box["x"] + area["left"] + x, box["y"] + area["top"] + y)
        shown = page.page.evaluate(
            "document.querySelector('#card').hidden ? null : "
            "document.querySelector('#card .name').textContent"
        )
        assert shown == tensor_at(plan, int(step), byte), (step, byte)
        found += shown is not None
    assert found > 50


def test_the_card_says_all_about_a_tensor(opened: Open) -> None:
    page = opened()
    page.page.mouse.move(*middle_of(page, "fc1:out0", 1))
    text = page.page.inner_text("#card")
    life = next(t for t in BLOCKED.tensors if (t.name, t.life) == ("fc1:out0", 1))
    buffer = next(
        b for b in BLOCKED.buffers if any(BLOCKED.tensors[i] is life for i in b.tensors)
    )
    assert "fc1:out0" in text
    assert "recomputed activation" in text
    assert "64 × 1 × 1 × 64" in text
    assert "float32" in text
    assert f"({life.size_bytes:,} B)" in text
    assert f"[{life.start}, {life.stop})" in text
    assert f"{buffer.offset_bytes:,}" in text
    assert re.search(r"recompute\s+\d+ fc1 writes", text)
    assert "follows" in text
    assert "followed by" in text
    assert "other life" in text


def test_the_neighbours_in_time_are_those_that_touch_the_bytes(opened: Open) -> None:
    page = opened()
    for index in range(len(BLOCKED.buffers)):
        buffer, before, after = page.js(
            """const plan = app.plan0;
            const say = (b) => [plan.bufferLow[b], plan.bufferStart[b]];
            const near = (side) => plan.neighbours(index, side).map(say);
            return [say(index), near(-1), near(1)]""",
            index=index,
        )
        ours = next(b for b in BLOCKED.buffers if [b.offset_bytes, b.start] == buffer)
        low, high = (
            ours.offset_bytes,
            ours.offset_bytes + BLOCKED.taken_bytes(ours.size_bytes),
        )
        was, will_be = set(), set()
        for byte in range(low, high, 64):
            there = [
                b
                for b in BLOCKED.buffers
                if b.offset_bytes
                <= byte
                < b.offset_bytes + BLOCKED.taken_bytes(b.size_bytes)
            ]
            old = [b for b in there if b.stop <= ours.start]
            new = [b for b in there if b.start >= ours.stop]
            if old:
                last = max(old, key=lambda b: b.stop)
                was.add((last.offset_bytes, last.start))
            if new:
                first = min(new, key=lambda b: b.start)
                will_be.add((first.offset_bytes, first.start))
        assert {tuple(b) for b in before} == was
        assert {tuple(b) for b in after} == will_be


def test_a_click_pins_and_lights_every_life(opened: Open) -> None:
    page = opened()
    page.page.mouse.click(*middle_of(page, "fc1:out0"))
    page.settle()
    assert page.page.inner_text("#pinned h2") == "Pinned"
    assert page.page.inner_text("#pinned .name") == "fc1:out0"
    for life in (0, 1):
        assert opacity_at(page, *middle_of(page, "fc1:out0", life)) < 0.5
    assert opacity_at(page, *middle_of(page, "in:out0")) > 0.5
    page.page.keyboard.press("Escape")
    page.settle()
    assert page.page.inner_text("#pinned") == ""
    assert opacity_at(page, *middle_of(page, "in:out0")) < 0.5


def opacity_at(page: Opened, x: float, y: float) -> float:
    """Return how much the overlay covers, beside the line of the step."""
    alpha: int = page.js(
        """const { overlay, ratio } = app.charts[0];
        const at = overlay.getBoundingClientRect();
        return pixel(overlay, (x - at.x - 3) * ratio, (y - at.y + 2) * ratio)[3]""",
        x=x,
        y=y,
    )
    return alpha / 255


def test_search_finds_lists_and_pins(opened: Open) -> None:
    page = opened()
    page.page.keyboard.press("/")
    page.page.keyboard.type("FC2")
    page.settle()
    names = {t.name for t in BLOCKED.tensors if "fc2" in t.name}
    assert page.page.inner_text("#n-found") == f"{len(names)} found"
    assert set(page.page.locator("#found li").all_inner_texts()) == names
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("ArrowDown")
    second = page.page.locator('#found li[aria-selected="true"]').inner_text()
    page.page.keyboard.press("Enter")
    page.settle()
    assert page.page.inner_text("#pinned .name") == second
    page.page.fill("#search", "no such tensor")
    page.settle()
    assert page.page.inner_text("#n-found") == "0 found"
    page.page.keyboard.press("Escape")
    page.settle()
    assert page.page.input_value("#search") == ""


def test_the_slider_lists_what_is_alive_by_size(opened: Open) -> None:
    page = opened()
    for step in (0, 9, BLOCKED.peak_step, len(BLOCKED.steps) - 1):
        page.js(
            "document.querySelector('#slider').value = step; "
            "document.querySelector('#slider').dispatchEvent(new Event('input'))",
            step=step,
        )
        page.settle()
        names = page.page.locator("#alive li .name").all_inner_texts()
        alive = BLOCKED.alive_at(step)
        expected = [BLOCKED.tensor_in(b, step).name for b in alive]
        assert sorted(names) == sorted(expected)
        size = {BLOCKED.tensor_in(b, step).name: b.size_bytes for b in alive}
        taken = [BLOCKED.taken_bytes(size[name]) for name in names]
        assert taken == sorted(taken, reverse=True)
        assert f"step {step} of {len(BLOCKED.steps)}" in page.page.inner_text(
            "#step-text"
        )


def test_totals_and_the_peak_are_those_of_the_plan(opened: Open) -> None:
    page = opened()
    live, peak, kinds = page.js(
        "return [[...app.plan0.live], app.plan0.peakStep, "
        "app.plan0.liveByKind.map((k) => k[app.plan0.peakStep])]"
    )
    assert live == BLOCKED.live_bytes()
    assert peak == BLOCKED.peak_step
    assert kinds == list(BLOCKED.bytes_by_kind(peak).values())
    tiles = page.page.inner_text("#tiles")
    assert f"{BLOCKED.arena_bytes:,} B" in tiles
    assert f"step {peak}" in tiles
    page.js("app.setStep(0)")
    page.page.keyboard.press("p")
    page.settle()
    assert f"step {peak} of" in page.page.inner_text("#step-text")


def test_the_keyboard_alone_goes_everywhere(opened: Open) -> None:
    page = opened()
    press = page.page.keyboard.press
    start = page.js("return app.step")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        press(key)
    assert page.js("return app.step") == start + 1
    press("ArrowUp")
    press("ArrowUp")
    page.settle()
    chosen = page.page.inner_text("#pinned .name")
    press("Enter")
    page.settle()
    assert page.js("return app.pin") == chosen
    whole = page.js("return app.view.right - app.view.left")
    press("+")
    assert page.js("return app.view.right - app.view.left") < whole
    press("d")
    press("w")
    press("f")
    assert page.js("return app.view.right - app.view.left") == whole
    press("t")
    assert page.js("return app.themeName") == "dark"
    press("?")
    assert page.page.is_visible("#help")
    press("Escape")
    assert not page.page.is_visible("#help")


def test_the_wheel_zooms_at_the_pointer_and_dragging_moves(opened: Open) -> None:
    page = opened()
    x, y = middle_of(page, "fc2:out0")
    before = page.js(
        "const c = app.charts[0], at = c.overlay.getBoundingClientRect(); "
        "return c.placeAt(x - at.x)",
        x=x,
    )
    page.page.mouse.move(x, y)
    for _ in range(4):
        page.page.mouse.wheel(0, -300)
    page.settle()
    after = page.js(
        "const c = app.charts[0], at = c.overlay.getBoundingClientRect(); "
        "return c.placeAt(x - at.x)",
        x=x,
    )
    assert after == pytest.approx(before, abs=0.5)
    left = page.js("return app.view.left")
    page.page.mouse.down()
    page.page.mouse.move(x - 60, y, steps=4)
    page.page.mouse.up()
    page.settle()
    assert page.js("return app.view.left") > left
    assert page.js("return app.pin") is None


def test_two_plans_share_their_scales_and_say_what_moved(opened: Open) -> None:
    page = opened()
    page.page.click("#tab-compare")
    page.settle()
    assert page.page.locator(".chart").count() == 2
    arenas, same = page.js(
        "return [app.charts.map((c) => c.plan.arena_bytes), "
        "app.charts[0].yOf(4096) === app.charts[1].yOf(4096) && "
        "app.charts[0].xOf(5) === app.charts[1].xOf(5)]"
    )
    assert arenas == [PLAIN.arena_bytes, BLOCKED.arena_bytes]
    assert same
    text = page.page.inner_text("#comparison")
    assert "What moved the peak" in text
    assert "nothing recomputed" in text
    assert "Checkpointing" in text  # what the blocks did
    was = {
        PLAIN.tensor_in(b, PLAIN.peak_step).name
        for b in PLAIN.alive_at(PLAIN.peak_step)
    }
    now = {
        BLOCKED.tensor_in(b, BLOCKED.peak_step).name
        for b in BLOCKED.alive_at(BLOCKED.peak_step)
    }
    moved = page.page.locator(".moved").first.locator(".name").all_inner_texts()
    assert moved
    assert set(moved) <= was - now


def test_a_point_of_the_front_shows_its_plan(opened: Open) -> None:
    page = opened()
    page.page.click("#tab-front")
    page.settle()
    assert page.page.locator("#front circle").count() == len(FRONT)
    for index, point in enumerate(FRONT):
        page.page.locator(f'#front circle[data-point="{index}"]').click()
        page.settle()
        assert page.js("return app.plan0.arena_bytes") == point.arena_bytes
        assert point.label in page.page.inner_text("#front p >> nth=0")


def front_page(budget: int | None = None) -> str:
    """Return a page with a front of several plans."""
    front = load_example("digits_mlp").model.pareto()
    return plan_html(front[-1].plan, "front", front=front, budget=budget)


def test_a_front_shows_bounds_budget_and_the_reason_of_each_plan(opened: Open) -> None:
    front = load_example("digits_mlp").model.pareto()
    budget = front[3].arena_bytes + 100
    page = opened(front_page(budget))
    page.page.click("#tab-front")
    page.settle()
    assert page.js("return app.plan0.arena_bytes") == front[3].arena_bytes
    circles = page.page.locator("#front circle")
    reasons = [fact.reason for fact in front_facts(front)]
    for index in range(len(front)):
        circle = circles.nth(index)
        assert reasons[index] in (circle.get_attribute("aria-label") or "")
        assert reasons[index] in (circle.locator("title").text_content() or "")
    circles.nth(1).hover()
    assert reasons[1] in page.page.inner_text("#front p >> nth=0")
    page.page.mouse.move(0, 0)
    said = page.page.inner_text("#front p >> nth=0")
    assert said.startswith("Shown: ")
    assert reasons[3] in said
    assert "The fastest within" in said
    texts = page.page.locator("#front text").all_text_contents()
    axes = front_document(front, 1, budget)["front_axes"]
    assert {text for _, text in axes["share_ticks"]} <= set(texts)
    assert {text for _, text in axes["byte_ticks"]} <= set(texts)
    assert {"arena", "overhead"} <= set(texts)
    assert any(text.startswith("local lower bound") for text in texts)
    left = page.page.locator("#front line.budget").bounding_box()["x"]
    places = [circles.nth(i).bounding_box() for i in (3, 4)]
    assert places[0]["x"] < left < places[1]["x"] + places[1]["width"]
    assert "fastest" in (circles.nth(3).get_attribute("class") or "")
    bound = page.page.locator("#front line.bound").first.bounding_box()["x"]
    assert bound < circles.first.bounding_box()["x"]


def test_labels_of_a_front_do_not_touch_on_a_phone(opened: Open) -> None:
    page = opened(front_page(), width=390, height=844)
    page.page.click("#tab-front")
    page.settle()
    boxes = page.js(
        "return [...document.querySelectorAll('#front text[text-anchor=middle]')]"
        ".map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.right])"
    )
    assert len(boxes) >= 2
    for (_, right), (left, _) in itertools.pairwise(boxes):
        assert right < left


@pytest.mark.parametrize("width", [1100, 420])
def test_a_notebook_shows_the_whole_page(opened: Open, width: int) -> None:
    """The frame is as high as the page: nothing in it scrolls."""
    page = opened()  # any page: its window is taken
    cell = f"<!doctype html><main style='width: {width}px'>{BLOCKED._repr_html_()}"
    page.page.set_content(cell)
    frame = page.page.frames[1]
    frame.wait_for_function("window.arenaViewer")
    frame.evaluate("async () => { await window.arenaViewer; }")
    page.page.wait_for_timeout(400)

    def heights() -> list[float]:
        inner = frame.evaluate(
            "[document.documentElement.scrollHeight, window.innerHeight,"
            " document.querySelector('#sentences').getBoundingClientRect().bottom]"
        )
        outer = page.page.evaluate("document.querySelector('iframe').clientHeight")
        return [*inner, outer]

    scroll, window, last, outer = heights()
    assert scroll == window == outer > 700
    assert last < outer < last + 120  # nor is there room left below
    page.page.wait_for_timeout(400)
    assert heights() == [scroll, window, last, outer]  # it does not grow by itself


@pytest.mark.parametrize("tab", ["map", "compare"])
def test_the_view_is_saved_as_svg_and_png(
    opened: Open, tab: str, tmp_path: Path
) -> None:
    page = opened(accept_downloads=True)
    page.page.click(f"#tab-{tab}")
    page.settle()
    with page.page.expect_download() as svg:
        page.page.click("#save-svg")
    svg.value.save_as(tmp_path / "view.svg")
    with page.page.expect_download() as png:
        page.page.click("#save-png")
    png.value.save_as(tmp_path / "view.png")
    assert svg.value.suggested_filename == "small.svg"
    text = (tmp_path / "view.svg").read_text("utf-8")
    assert page.js(
        "return new DOMParser().parseFromString(text, 'image/svg+xml')"
        ".querySelector('parsererror') === null",
        text=text,
    )
    assert "<title>fc1:out0</title>" in text
    assert "recompute" in text
    assert (tmp_path / "view.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_button(
    opened: Open, scheme: str
) -> None:
    page = opened(color_scheme=scheme)
    background = "getComputedStyle(document.documentElement).backgroundColor"
    for name in (scheme, "dark" if scheme == "light" else "light"):
        red, green, blue = parse_colour(THEMES[name].page)
        assert page.page.evaluate(background) == f"rgb({red}, {green}, {blue})"
        corner = page.js("return pixel(app.charts[0].canvas, 1, 1)")
        assert corner[:3] == [red, green, blue]
        page.page.click("#theme")
        page.settle()


@pytest.mark.parametrize("tab", ["map", "compare", "front"])
def test_a_phone_needs_no_scrolling_sideways(opened: Open, tab: str) -> None:
    page = opened(width=360, height=760, has_touch=True, device_scale_factor=2)
    page.page.click(f"#tab-{tab}")
    page.settle()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
    page.page.locator(".overlay").first.scroll_into_view_if_needed()
    page.page.touchscreen.tap(*middle_of(page, "in:out0"))
    page.settle()
    assert page.page.inner_text("#pinned .name") == "in:out0"


def test_markup_in_names_is_text(opened: Open) -> None:
    plan = mlp(block=True, name=EVIL)
    page = opened(
        plan_html(
            plan,
            EVIL,
            before=plan,
            before_title=EVIL,
            front=[Point(plan.arena_bytes, 0.0, EVIL, plan)],
        )
    )
    assert page.page.inner_text("h1") == EVIL
    page.page.fill("#search", "alert")
    page.settle()
    assert f"{EVIL}:out0" in page.page.locator("#found li").all_inner_texts()
    page.page.keyboard.press("Enter")
    page.settle()
    assert EVIL in page.page.inner_text("#pinned .name")
    page.page.mouse.move(*middle_of(page, f"{EVIL}:out0"))
    assert EVIL in page.page.inner_text("#card")
    for tab in ("compare", "front"):
        page.page.click(f"#tab-{tab}")
        page.settle()
    assert page.page.locator("script").count() <= 3  # ours; plans are removed when read


def test_a_plan_of_one_step_and_a_debug_plan_open(opened: Open) -> None:
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("mse", name="loss")
    for plan in (model.make_plan(), model.make_plan(debug=True)):
        page = opened(plan_html(plan))
        assert page.page.locator(".chart").count() == 1
        assert page.page.locator("#tabs button").count() == 0


def test_a_hundred_thousand_buffers_are_ready_soon(opened: Open) -> None:
    plan = synthetic_plan(100_000, seed=1)
    page = opened(plan_html(plan))
    ready_ms = page.js("return app.readyMilliseconds")
    assert ready_ms < 6000, "about 1 s on a free core; CI is shared"
    rng = random.Random(2)
    points = [
        [rng.randrange(len(plan.steps)), rng.randrange(plan.arena_bytes)]
        for _ in range(20)
    ]
    by_name = page.js(
        """const plan = app.plan0;
        return points.map(([step, byte]) => {
          const i = plan.segmentAt(step, byte);
          return i < 0 ? null : plan.nameOf(plan.segmentTensor[i]);
        })""",
        points=points,
    )
    assert by_name == [tensor_at(plan, step, byte) for step, byte in points]


def test_a_damaged_page_says_what_to_do(browser: Browser, tmp_path: Path) -> None:
    start = PAGE.index('id="plan-0">') + 400
    path = tmp_path / "damaged.html"
    path.write_text(PAGE[:start] + "AAAA" * 30 + PAGE[start + 120 :])
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("#error")
    assert "Write it again with arena-ckpt report" in page.inner_text("#error")
    page.close()


def test_columns_keep_what_the_plan_says_of_a_third_life() -> None:
    """A tensor may be recomputed more than once."""
    last = next(t for t in BLOCKED.tensors if t.life == 1)
    index = BLOCKED.tensors.index(last)
    moved = replace(last, life=2)
    tensors = (*BLOCKED.tensors[:index], moved, *BLOCKED.tensors[index + 1 :])
    document, blob = plan_columns(replace(BLOCKED, tensors=tensors))
    data = gzip.decompress(base64.b64decode(blob))
    assert max(read_column(data, document["contents"], "tensor_life")) == 2
    assert json.dumps(document)


# -- several memories ------------------------------------------------------------------


def test_the_card_says_in_which_memory_a_tensor_lies(opened: Open) -> None:
    page = opened(STACKED_PAGE)
    for name in ("conv2:filter", "out:weight", "conv1:out0"):
        page.page.mouse.move(*middle_of(page, name))
        text = page.page.inner_text("#card")
        buffer = next(b for b in SPREAD.buffers if b.tensor == name)
        assert name in text
        assert f"{buffer.offset_bytes:,} in {buffer.memory}" in text
    assert {b.memory for b in SPREAD.buffers} == {"dtcm", "sram", "constants"}
    page = opened()
    page.page.mouse.move(*middle_of(page, "fc1:out0"))
    assert " in " not in page.page.inner_text("#card").partition("live")[0]


def test_places_on_the_axis_are_those_of_the_stack(opened: Open) -> None:
    page = opened(STACKED_PAGE)
    buffers = page.js(
        """const plan = app.plan0, found = [];
        for (let b = 0; b < plan.nBuffers; b++) {
          const place = [plan.memoryOf(b).name, plan.bufferLow[b], plan.bufferStart[b]];
          found.push([...place, ...plan.endsOf(b)]);
        }
        return found;"""
    )
    stack = stack_memories(SPREAD)
    places = {
        (b.memory, b.offset_bytes, b.start): i for i, b in enumerate(SPREAD.buffers)
    }
    assert len(places) == len(buffers) == len(SPREAD.buffers)
    for memory, offset, start, low, high in buffers:
        index = places[memory, offset, start]
        assert low == pytest.approx(stack.low[index])
        assert high == pytest.approx(stack.high[index])


def test_totals_count_the_ram_alone(opened: Open) -> None:
    page = opened(STACKED_PAGE)
    live, peak, free = page.js(
        "const p = app.plan0, peak = p.peakStep; "
        "return [[...p.live], peak, p.fragmentationAt(peak)]"
    )
    assert live == SPREAD.live_bytes()
    assert peak == SPREAD.peak_step
    tops = {"dtcm": 0, "sram": 0}
    for b in SPREAD.alive_at(peak):
        end = b.offset_bytes + SPREAD.taken_bytes(b.size_bytes)
        tops[b.memory] = max(tops[b.memory], end)
    assert free == pytest.approx(1 - live[peak] / sum(tops.values()))
    names = page.page.locator("#alive li .name").all_inner_texts()
    assert sorted(names) == sorted(
        SPREAD.tensor_in(b, peak).name for b in SPREAD.alive_at(peak)
    )
    assert f"beside it {SPREAD.constant_bytes} B of constants" in page.page.inner_text(
        "#alive"
    )
    tiles = page.page.inner_text("#tiles")
    assert "Constants" in tiles
    assert f"{SPREAD.constant_bytes} B" in tiles


def test_a_table_has_what_each_memory_takes_and_is_touched(opened: Open) -> None:
    page = opened(STACKED_PAGE)
    rows = page.page.locator("#memories tbody tr").all_inner_texts()
    names = [row.split()[0] for row in rows]
    assert names == ["constants", "psram", "sram", "dtcm"]
    said = page.js("return app.plan0.memories.map((m) => [m.name, m.height_bytes])")
    assert dict(said) == {n: u.height_bytes for n, u in SPREAD.memories.items()}
    assert "64.0 KiB" in rows[2]  # of sram
    page = opened()
    assert page.page.inner_text("#memories") == ""
    assert "Constants" not in page.page.inner_text("#tiles")


def test_the_band_of_constants_stands_apart(opened: Open) -> None:
    page = opened(STACKED_PAGE, color_scheme="light")
    stack = stack_memories(SPREAD)
    band = stack.memories[-1]
    assert stack.gap is not None
    largest = max(
        (i for i, b in enumerate(SPREAD.buffers) if b.is_constant),
        key=lambda i: SPREAD.buffers[i].size_bytes,
    )
    places = {
        "page": [sum(stack.gap) / 2, band.high * 1.02],
        "weight": [(stack.low[largest] + stack.high[largest]) / 2],
    }
    wanted = {
        "page": THEMES["light"].page,
        "weight": next(iter(THEMES["light"].kinds.values())),
    }
    for zoomed in (False, True):
        if zoomed:
            page.js("app.zoom(0.2, 10, app.all.high)")
            page.settle()
        for what, bytes_ in places.items():
            for byte in bytes_:
                seen = page.js(
                    """const c = app.charts[0];
                    const x = c.area.left + c.area.width * 0.7;
                    return pixel(c.canvas, x * c.ratio, c.yOf(byte) * c.ratio)""",
                    byte=float(byte),
                )
                assert tuple(seen[:3]) == parse_colour(wanted[what]), (what, zoomed)


def test_keys_go_from_ram_to_constants(opened: Open) -> None:
    page = opened(STACKED_PAGE)
    n_alive = len(SPREAD.alive_at(SPREAD.peak_step))
    seen = []
    for _ in range(n_alive + 6):
        page.page.keyboard.press("ArrowUp")
        seen.append(
            page.js(
                "const s = app.aim.segment, p = app.plan0; "
                "return [p.segmentLow[s], p.memoryOf(p.segmentBuffer[s]).name]"
            )
        )
    lows = [low for low, _ in seen]
    assert lows == sorted(set(lows))
    assert [name for _, name in seen][-6:] == ["constants"] * 6


def test_constants_are_found_and_pinned(opened: Open) -> None:
    page = opened(STACKED_PAGE)
    page.page.fill("#search", "bn2:gamma")
    page.page.keyboard.press("Enter")
    page.settle()
    assert "in constants" in page.page.inner_text("#pinned")


def test_the_neighbours_in_time_are_of_the_same_memory(opened: Open) -> None:
    page = opened(STACKED_PAGE)
    pairs = page.js(
        """const plan = app.plan0, found = [];
        for (let b = 0; b < plan.nBuffers; b++) {
          for (const side of [-1, 1]) {
            for (const near of plan.neighbours(b, side)) {
              found.push([plan.memoryOf(b).name, plan.memoryOf(near).name]);
            }
          }
        }
        return found;"""
    )
    assert pairs
    assert all(one == other for one, other in pairs)
    assert not any("constants" in pair for pair in pairs)


def test_plans_of_other_memories_are_compared(opened: Open) -> None:
    page = opened(STACKED_PAGE)
    page.page.click("#tab-compare")
    page.settle()
    same = page.js(
        "const [a, b] = app.charts; "
        "return a.yOf(4096) === b.yOf(4096) && a.xOf(5) === b.xOf(5)"
    )
    assert same
    rows = {
        row.split("\t")[0].strip(): row.split("\t")[1:]
        for row in page.page.locator("table.comparison tbody tr").all_inner_texts()
    }
    assert rows["constants"] == ["896 B", "896 B", "same"]
    assert rows["dtcm"][0] == "0 B"
    assert rows["dtcm"][2].startswith("+")


def test_a_saved_view_names_the_memories(opened: Open, tmp_path: Path) -> None:
    page = opened(STACKED_PAGE, accept_downloads=True)
    with page.page.expect_download() as svg:
        page.page.click("#save-svg")
    svg.value.save_as(tmp_path / "view.svg")
    text = (tmp_path / "view.svg").read_text("utf-8")
    assert ">constants</text>" in text
    assert "sram " in text
    assert "<title>conv2:filter</title>" in text


def test_a_phone_shows_several_memories(opened: Open) -> None:
    page = opened(
        STACKED_PAGE, width=360, height=760, has_touch=True, device_scale_factor=2
    )
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
    page.page.locator(".overlay").first.scroll_into_view_if_needed()
    page.page.touchscreen.tap(*middle_of(page, "conv2:filter"))
    page.settle()
    assert page.page.inner_text("#pinned .name") == "conv2:filter"
