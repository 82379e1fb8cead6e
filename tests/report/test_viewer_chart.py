"""The chart of the page: axes, the folded band, plans side by side, hatching."""

from __future__ import annotations

import io
import itertools
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.plan_surgery import NETS
from helpers.viewer_pages import (
    BLOCKED,
    PAGE,
    PLAIN,
    SPREAD,
    STACKED_PAGE,
    Open,
    Opened,
    middle_of,
    mlp,
)
from PIL import Image

from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import InvalidParameterError
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.durations import counted_operations
from arena_ckpt.report.html import plan_html
from arena_ckpt.report.palette import LIGHT, THEMES, parse_colour
from arena_ckpt.report.picture import (
    LEFT,
    MAP_BOTTOM,
    MAP_TOP,
    RIGHT,
    plan_png,
    plan_svg,
)
from arena_ckpt.report.stack import stack_memories

HEAVY = mlp(block=True, batch_size=4)
"""Weights and optimizer states take most of it."""

SECONDS = [
    0.0 if step is None or index % 5 == 0 else 0.001 * (1 + index % 3)
    for index, step in enumerate(BLOCKED.steps)
]


def pixels_of(page: Opened, selector: str = ".chart") -> np.ndarray:
    """Return what a person sees of an element, as pixels of the window."""
    content = page.page.locator(selector).first.screenshot()
    return np.array(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def box_of(page: Opened, script: str, chart: int = 0) -> tuple[int, int, int, int]:
    """Return x, y, width and height of a box of a chart."""
    box = page.js(
        f"const c = app.charts[chart], plan = c.plan; const b = {script}; "
        "return [b.x, b.y, b.width, b.height]",
        chart=chart,
    )
    return tuple(round(side) for side in box)  # type: ignore[return-value]


def texts_of(page: Opened, folder: Path) -> list[str]:
    """Return the texts of the chart, as the page saves them."""
    with page.page.expect_download() as svg:
        page.page.click("#save-svg")
    svg.value.save_as(folder / "view.svg")
    text = (folder / "view.svg").read_text("utf-8")
    return re.findall(r"<text [^>]*>([^<]*)</text>", text)


def luminance(colour: np.ndarray) -> np.ndarray:
    part = np.asarray(colour) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Return the contrast of two colours as WCAG 2 has it, from 1 to 21."""
    low, high = sorted((float(luminance(one)), float(luminance(other))))
    return (high + 0.05) / (low + 0.05)


def tensor_at(plan: MemoryPlan, step: int, byte: float) -> str | None:
    stack = stack_memories(plan)
    for buffer, low, high in zip(plan.buffers, stack.low, stack.high, strict=True):
        if low <= byte < high and buffer.start <= step < buffer.stop:
            return plan.tensor_in(buffer, step).name
    return None


# -- the axis of time ------------------------------------------------------------------


def test_counted_operations_add_up_to_an_iteration() -> None:
    counted = counted_operations(BLOCKED)
    assert sum(counted) == pytest.approx(BLOCKED.iteration_cost(BLOCKED.counted_costs))
    ran = {execution.step for execution in BLOCKED.executions}
    assert {step for step, cost in enumerate(counted) if cost} == ran
    assert len(ran) < len(BLOCKED.steps)  # a step at which no kernel runs takes nothing


def recompute_share(page: Opened) -> float:
    """Return how much of the width of the bands is coloured as recomputing."""
    bands, area = page.js("const c = app.charts[0]; return [{...c.bands}, {...c.area}]")
    left = round(area["left"]) + 1
    row = pixels_of(page)[round(bands["top"]) + 3, left : left + round(area["width"])]
    green = row[:, 1] - np.maximum(row[:, 0], row[:, 2])
    return float(np.mean(green > 5))


def test_a_recompute_is_as_wide_as_it_takes(opened: Open) -> None:
    page = opened(color_scheme="light")
    of_steps = sum(1 for s in BLOCKED.steps if s and s.phase is Phase.RECOMPUTE)
    of_steps /= len(BLOCKED.steps)
    assert recompute_share(page) == pytest.approx(of_steps, abs=0.01)
    page.page.keyboard.press("x")
    page.settle()
    of_time = BLOCKED.overhead / (1 + BLOCKED.overhead)
    assert abs(of_time - of_steps) > 0.03
    assert recompute_share(page) == pytest.approx(of_time, abs=0.02)


def test_the_axis_says_what_it_counts(opened: Open, tmp_path: Path) -> None:
    page = opened(accept_downloads=True)
    assert "step" in texts_of(page, tmp_path)
    assert page.page.inner_text("#axis") == "steps | time"
    assert page.page.get_attribute("#axis", "aria-pressed") == "false"
    page.page.click("#axis")
    page.settle()
    texts = texts_of(page, tmp_path)
    assert "operations" in texts
    assert {"2 M", "4 M", "14 M"} <= set(texts)
    step = BLOCKED.peak_step
    cost = round(counted_operations(BLOCKED)[step])
    assert f"{cost:,} operations" in page.page.inner_text("#step-text")


def test_ticks_stand_where_so_much_is_spent(opened: Open, tmp_path: Path) -> None:
    page = opened(accept_downloads=True)
    page.page.keyboard.press("x")
    page.settle()
    texts_of(page, tmp_path)
    svg = (tmp_path / "view.svg").read_text("utf-8")
    found = re.findall(r'<text x="([\d.]+)"[^>]*>(\d+) M</text>', svg)
    assert len(found) > 4
    spent = [0.0, *itertools.accumulate(counted_operations(BLOCKED))]
    for x, millions in found:
        wanted = int(millions) * 1e6
        step = max(i for i, before in enumerate(spent) if before <= wanted)
        left, right = page.js(
            "const c = app.charts[0]; return [c.xOf(step), c.xEnd(step)]", step=step
        )
        inside = (wanted - spent[step]) / (spent[step + 1] - spent[step])
        assert float(x) == pytest.approx(left + inside * (right - left), abs=0.1)


def test_measured_durations_have_the_axis_in_milliseconds(
    opened: Open, tmp_path: Path
) -> None:
    page = opened(plan_html(BLOCKED, step_seconds=SECONDS), accept_downloads=True)
    page.page.keyboard.press("x")
    page.settle()
    texts = texts_of(page, tmp_path)
    assert "time" in texts
    assert {"0", "10 ms", "20 ms"} <= set(texts)
    page.js("app.setStep(1)")
    page.settle()
    assert page.page.inner_text("#step-text").endswith(", 2 ms")


def test_a_step_that_takes_nothing_is_seen_and_pointed_at(opened: Open) -> None:
    page = opened(plan_html(BLOCKED, step_seconds=SECONDS), color_scheme="light")
    page.page.keyboard.press("x")
    page.settle()
    at = page.page.locator(".overlay").bounding_box()
    free = [i for i, seconds in enumerate(SECONDS) if not seconds]
    for step in free:
        left, right, y = page.js(
            "const c = app.charts[0]; return [c.xOf(step), c.xEnd(step), c.yOf(100)]",
            step=step,
        )
        assert 2 < right - left < 5
        page.page.mouse.click(at["x"] + (left + right) / 2, at["y"] + y)
        page.settle()
        assert page.page.inner_text("#step-text").startswith(f"step {step} of")
        assert tensor_at(BLOCKED, step, 100) in page.page.inner_text("#card")
        page.page.keyboard.press("Escape")
    widths = page.js(
        "const a = app.axis; return [...a.end].map((e, i) => e - a.begin[i])"
    )
    for width, seconds in zip(widths, SECONDS, strict=True):
        if seconds:
            assert width == pytest.approx(seconds * 1e9)


def test_the_axis_stays_through_themes_tabs_and_keys(opened: Open) -> None:
    page = opened()
    page.page.keyboard.press("x")
    page.page.keyboard.press("t")
    page.settle()
    assert page.page.get_attribute("#axis", "aria-pressed") == "true"
    for tab in ("compare", "front", "map"):
        page.page.click(f"#tab-{tab}")
        page.settle()
        assert page.js("return app.charts[0].unit") == "operations"
    page.js("app.setStep(4)")
    page.page.locator(".overlay").focus()
    page.page.keyboard.press("ArrowRight")
    assert page.js("return app.step") == 5
    page.page.keyboard.press("x")
    assert page.js("return [app.step, app.charts[0].unit]") == [5, None]


def test_what_is_seen_stays_in_view(opened: Open) -> None:
    page = opened()
    page.js("app.zoom(0.25, 30, 0)")
    seen = (
        "const { view, axis } = app; "
        "return [view.left, view.right].map((p) => axis.fractionAt(p))"
    )
    before = page.js(seen)
    page.page.keyboard.press("x")
    assert page.js(seen) == pytest.approx(before)
    page.page.keyboard.press("x")
    assert page.js(seen) == pytest.approx(before)


def test_the_slider_follows_the_axis(opened: Open) -> None:
    page = opened()
    page.page.keyboard.press("x")
    page.settle()
    spent = [0.0, *itertools.accumulate(counted_operations(BLOCKED))]
    for share in (0.1, 0.5, 0.9):
        step = page.js(
            """const slider = document.querySelector("#slider");
            slider.value = share * Number(slider.max);
            slider.dispatchEvent(new Event("input"));
            return app.step;""",
            share=share,
        )
        assert spent[step] / spent[-1] == pytest.approx(share, abs=0.1)
        page.settle()
        thumb, cursor = page.js(
            """const slider = document.querySelector("#slider"), c = app.charts[0];
            const x = (c.xOf(app.step) + c.xEnd(app.step)) / 2;
            return [slider.value / slider.max, (x - c.area.left) / c.area.width];"""
        )
        assert thumb == pytest.approx(cursor, abs=0.001)


def test_the_curve_and_the_cursor_follow_the_axis(opened: Open) -> None:
    page = opened(color_scheme="light")
    page.page.keyboard.press("x")
    page.settle()
    columns = page.js(
        "return app.charts[0].curveColumns().flat().map((c) => [c.x0, c.x1, c.step])"
    )
    for x0, x1, step in columns:
        left, right = page.js(
            "const c = app.charts[0]; return [c.xOf(step), c.xEnd(step)]", step=step
        )
        assert (x0, x1) == pytest.approx((left, right), abs=0.01)
    x, y = page.js(
        "const c = app.charts[0]; const s = app.step; "
        "return [(c.xOf(s) + c.xEnd(s)) / 2, c.bands.top - 4]"
    )
    row = luminance(pixels_of(page)[round(y)])
    assert abs(int(np.argmin(row[100:])) + 100 - x) < 1.5


@pytest.mark.parametrize(
    ("seconds", "what"),
    [
        ([1.0], r"there are 40 steps but 1 durations; give one for each step"),
        ([-1.0] * 40, r"step 0 takes -1.0 seconds; durations are finite"),
        ([float("nan")] * 40, r"step 0 takes nan seconds"),
    ],
)
def test_durations_that_do_not_fit_are_refused(seconds: list[float], what: str) -> None:
    with pytest.raises(InvalidParameterError, match=what):
        plan_html(BLOCKED, step_seconds=seconds)


def test_durations_before_need_a_plan_before() -> None:
    with pytest.raises(InvalidParameterError, match="add before="):
        plan_html(BLOCKED, before_step_seconds=SECONDS)
    with pytest.raises(InvalidParameterError, match="steps before but 1 durations"):
        plan_html(BLOCKED, before=PLAIN, before_step_seconds=[1.0])


# -- weights and states in one band ----------------------------------------------------


def kept(plan: MemoryPlan) -> int:
    """Return the bytes of weights and states that are there at every step."""
    whole = (0, len(plan.steps))
    return sum(
        plan.taken_bytes(b.size_bytes)
        for b in plan.ram_buffers
        if (b.start, b.stop) == whole
        and b.kind in (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE)
    )


def test_only_plans_that_are_mostly_weights_are_folded_at_first(opened: Open) -> None:
    assert kept(BLOCKED) < 0.75 * BLOCKED.arena_bytes
    assert kept(HEAVY) > 0.75 * HEAVY.arena_bytes
    for plan, pressed in ((BLOCKED, "false"), (HEAVY, "true")):
        page = opened(plan_html(plan))
        assert page.page.get_attribute("#fold", "aria-pressed") == pressed


def test_folded_weights_leave_their_room_to_the_others(
    opened: Open, tmp_path: Path
) -> None:
    page = opened(accept_downloads=True, color_scheme="light")

    def height() -> int:
        return box_of(page, 'c.lifeBox(plan.livesOf(plan.nameNumber("in:out0"))[0])')[3]

    before = height()
    page.page.click("#fold")
    page.settle()
    assert height() > 2 * before
    texts = texts_of(page, tmp_path)
    assert "weights and optimizer states, 154 KiB" in texts
    assert not any("first_moment" in text for text in texts)
    x, y, width, tall = box_of(page, "c.bandBox")
    seen = pixels_of(page)[y + 1 : y + tall - 1, x + width // 2]
    kinds = [LIGHT.kinds[k] for k in (TensorKind.OPTIMIZER_STATE, TensorKind.WEIGHT)]
    shares = [np.mean((seen == parse_colour(c)).all(axis=1)) for c in kinds]
    assert sum(shares) > 0.9
    assert shares[0] == pytest.approx(2 / 3, abs=0.1)  # adam has two for each weight


@pytest.mark.parametrize("axis", ["steps", "time"])
def test_the_bytes_beside_a_folded_map_are_the_real_ones(
    opened: Open, axis: str
) -> None:
    page = opened()
    page.page.keyboard.press("z")
    if axis == "time":
        page.page.keyboard.press("x")
    page.settle()
    at = page.page.locator(".overlay").bounding_box()
    area = page.js(
        "const c = app.charts[0]; return {...c.area, top: c.map.top, h: c.map.height}"
    )
    ticks = page.js(
        """const c = app.charts[0], found = [];
        c.drawByteTicks({ line() {}, text: (x, y, text) => found.push([y, text]) });
        return found;"""
    )
    assert len(ticks) > 4
    rng = random.Random(1)
    found = 0
    for _ in range(150):
        x = area["left"] + rng.uniform(1, area["width"] - 1)
        y = area["top"] + rng.uniform(1, area["h"] - 1)
        # Bytes are read from the ticks, as people do.
        marks = [
            (row, float(text.split()[0]) * 1024)
            for row, text in ticks[1:]
            if text.endswith("KiB")
        ]
        slope, start = np.polyfit(*zip(*marks, strict=True), 1)
        byte, band = slope * y + start, box_of(page, "c.bandBox")
        page.page.mouse.move(at["x"] + x, at["y"] + y)
        shown = page.page.evaluate(
            "document.querySelector('#card').hidden ? null : "
            "document.querySelector('#card .name').textContent"
        )
        if y > band[1]:
            assert shown == "Folded: weights and optimizer states"
            continue
        if y > band[1] - 8:
            continue  # the gap above the band
        step = page.js("return app.axis.stepAt(app.charts[0].placeAt(x))", x=x)
        near = {tensor_at(BLOCKED, step, byte + off) for off in (-300, 0, 300)}
        assert shown in near, (step, byte)
        found += shown is not None
    assert found > 40


def test_the_band_tells_what_is_in_it_and_unfolds_by_a_click(opened: Open) -> None:
    page = opened()
    page.page.keyboard.press("z")
    page.settle()
    x, y, width, tall = box_of(page, "c.bandBox")
    at = page.page.locator(".overlay").bounding_box()
    place = (at["x"] + x + width / 2, at["y"] + y + tall / 2)
    page.page.mouse.move(*place)
    text = page.page.inner_text("#card")
    sums = {
        kind: sum(
            BLOCKED.taken_bytes(b.size_bytes)
            for b in BLOCKED.buffers
            if b.kind is kind and (b.start, b.stop) == (0, len(BLOCKED.steps))
        )
        for kind in (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE)
    }
    assert f"({sums[TensorKind.WEIGHT]:,} B)" in text
    assert f"({sums[TensorKind.OPTIMIZER_STATE]:,} B)" in text
    assert "fc1:weight" in text
    page.page.mouse.click(*place)
    page.settle()
    assert page.page.get_attribute("#fold", "aria-pressed") == "false"
    assert not page.page.is_visible("#card")
    assert page.js("return app.charts[0].yOf(0) === app.charts[0].yAt(0)")


def test_a_folded_weight_is_found_in_the_band(opened: Open) -> None:
    page = opened()
    page.page.keyboard.press("z")
    page.js('app.setPin("fc1:weight")')
    page.settle()
    assert page.page.inner_text("#pinned .name") == "fc1:weight"
    life = 'c.lifeBox(plan.livesOf(plan.nameNumber("fc1:weight"))[0])'
    assert box_of(page, life) == box_of(page, "c.bandBox")


def test_folding_stays_through_themes_and_fits_a_phone(opened: Open) -> None:
    page = opened(width=390, height=844, has_touch=True, device_scale_factor=2)
    page.page.tap("#fold")
    page.page.tap("#axis")
    page.page.tap("#theme")
    page.settle()
    assert page.page.get_attribute("#fold", "aria-pressed") == "true"
    assert page.page.get_attribute("#axis", "aria-pressed") == "true"
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    page.page.locator(".overlay").scroll_into_view_if_needed()
    page.page.touchscreen.tap(*middle_of(page, "in:out0"))
    page.settle()
    assert page.page.inner_text("#pinned .name") == "in:out0"
    page.page.locator(".overlay").scroll_into_view_if_needed()
    page.page.touchscreen.tap(*middle_of(page, "fc1:weight"))
    page.settle()
    assert page.page.get_attribute("#fold", "aria-pressed") == "false"


def test_a_plan_without_weights_cannot_be_folded(opened: Open) -> None:
    page = opened(plan_html(NETS["frozen"].model().make_plan(mode="inference")))
    assert page.page.is_disabled("#fold")
    page.page.keyboard.press("z")
    assert page.page.get_attribute("#fold", "aria-pressed") == "false"


# -- two plans -------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["steps", "time"])
def test_an_operation_stands_at_one_place_in_both_plans(
    opened: Open, axis: str
) -> None:
    page = opened()
    page.page.click("#tab-compare")
    if axis == "time":
        page.page.click("#axis")
    page.settle()
    places = page.js(
        """return app.charts.map((c) => [...c.plan.stepPhase].map((_, s) =>
          [c.xOf(s) - c.area.left, c.xEnd(s) - c.area.left]));"""
    )
    number = {step: i for i, step in enumerate(BLOCKED.steps) if step}
    n_common = 0
    for i, step in enumerate(PLAIN.steps):
        if step is None:
            continue
        n_common += 1
        assert places[0][i] == pytest.approx(places[1][number[step]]), step
    assert n_common > 25
    for of_plan in places:
        edges = [x for ends in of_plan for x in ends]
        assert all(b > a - 1e-6 for a, b in itertools.pairwise(edges))
        assert edges[0] == 0


@pytest.mark.parametrize("theme", THEMES)
def test_a_recompute_leaves_a_gap_in_the_other_plan(opened: Open, theme: str) -> None:
    page = opened(color_scheme=theme)
    page.page.click("#tab-compare")
    page.settle()
    again = next(
        i for i, s in enumerate(BLOCKED.steps) if s and s.phase is Phase.RECOMPUTE
    )
    x, y = page.js(
        """const [before, after] = app.charts;
        return [(after.xOf(step) + after.xEnd(step)) / 2, before.bands.top + 10];""",
        step=again,
    )
    before = pixels_of(page)
    assert tuple(before[y, round(x)]) == parse_colour(THEMES[theme].page)
    assert tuple(before[y, round(x) - 60]) != parse_colour(THEMES[theme].page)
    # What is alive before and after the gap goes on through it.
    box = page.page.locator(".overlay").first.bounding_box()
    _, y, *_ = box_of(page, 'c.lifeBox(plan.livesOf(plan.nameNumber("in:out0"))[0])')
    page.page.mouse.move(box["x"] + x, box["y"] + y + 5)
    assert "in:out0" in page.page.inner_text("#card")


def test_both_cards_name_their_plan_and_show_the_same_tensor(opened: Open) -> None:
    page = opened()
    page.page.click("#tab-compare")
    page.settle()
    page.page.mouse.click(*middle_of(page, "fc1:out0"))
    page.settle()
    labels = page.page.locator("#pinned .plan-label").all_inner_texts()
    assert labels == ["before: nothing recomputed", "after: small"]
    names = page.page.locator("#pinned .name").all_inner_texts()
    assert names == ["fc1:out0", "fc1:out0"]
    cards = page.page.locator("#pinned .plan-card").all_inner_texts()
    assert "other life" not in cards[0]
    assert "other life" in cards[1]
    page.page.mouse.move(*middle_of(page, "fc1:out0"))
    assert page.page.inner_text("#card").startswith("before: nothing recomputed")
    heads = texts_on(page)
    assert heads[0].startswith("before: nothing")
    assert heads[1].startswith("after: small")


def texts_on(page: Opened) -> list[Any]:
    """Return the heading above each chart."""
    headings: list[Any] = page.js("return app.charts.map((c) => c.heading)")
    return headings


def test_a_tensor_of_one_plan_alone_is_missing_in_the_other(opened: Open) -> None:
    other = mlp(block=False, name="first")
    page = opened(plan_html(BLOCKED, "new", before=other, before_title="before"))
    page.page.click("#tab-compare")
    page.js('app.setPin("first:out0")')
    page.settle()
    labels = page.page.locator("#pinned .plan-label").all_inner_texts()
    assert labels == ["before", "after: new"]
    cards = page.page.locator("#pinned .plan-card").all_inner_texts()
    assert "first:out0 is not in this plan." in cards[1]


def test_plans_of_different_models_stand_on_each_other(opened: Open) -> None:
    net = NETS["frozen"].model().make_plan()
    page = opened(plan_html(BLOCKED, before=net))
    page.page.click("#tab-compare")
    page.settle()
    length = page.js("return app.all.right")
    longest = max(len(BLOCKED.steps), len(net.steps))
    assert longest <= length < len(BLOCKED.steps) + len(net.steps)
    for key in ("ArrowRight", "ArrowLeft", "p", "x", "z", "f"):
        page.page.keyboard.press(key)
    page.settle()


# -- several memories ------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
def test_each_memory_has_a_background_and_a_gauge(opened: Open, theme: str) -> None:
    page = opened(STACKED_PAGE, color_scheme=theme)
    seen = pixels_of(page)
    colours = THEMES[theme]
    for index, name in ((0, "dtcm"), (1, "sram")):
        use = SPREAD.memories[name]
        low, high, right = page.js(
            """const c = app.charts[0];
            const m = c.plan.memories.find((m) => m.name === name);
            return [c.yOf(m.low), c.yOf(m.high), c.area.left + c.area.width];""",
            name=name,
        )
        rows = seen[round(high) + 3 : round(low) - 3]
        free = (rows == parse_colour(colours.memories[index])).all(axis=2)
        assert free.mean() > 0.05, name
        assert use.size_bytes
        strip = seen[round(high) : round(low) - 2, round(right) + 5]
        full = (strip == parse_colour(colours.pale_ink)).all(axis=1).mean()
        share = use.height_bytes / use.size_bytes
        assert full == pytest.approx(share, abs=0.03), name


def test_memories_say_how_full_they_are(opened: Open, tmp_path: Path) -> None:
    page = opened(STACKED_PAGE, accept_downloads=True, height=1400)
    texts = texts_of(page, tmp_path)
    assert "sram 25.19 KiB of 64 KiB, 39.4 %" in texts
    assert "constants" in texts


def test_a_still_picture_has_the_same_bands() -> None:
    seen = np.array(Image.open(io.BytesIO(plan_png(SPREAD))).convert("RGB"))
    stack = stack_memories(SPREAD)
    scale = (MAP_BOTTOM - MAP_TOP) / (stack.top * 1.03)
    for index, memory in enumerate(stack.memories[:2]):
        top = round(MAP_BOTTOM - memory.high * scale)
        bottom = round(MAP_BOTTOM - memory.low * scale)
        inside = seen[top + 4 : bottom - 4, LEFT:RIGHT]
        free = (inside == parse_colour(LIGHT.memories[index])).all(axis=2)
        assert free.mean() > 0.05, memory.use.name
        assert memory.use.size_bytes
        gauge = seen[top : bottom - 2, RIGHT + 8]
        full = (gauge == parse_colour(LIGHT.pale_ink)).all(axis=1).mean()
        share = memory.use.height_bytes / memory.use.size_bytes
        assert full == pytest.approx(share, abs=0.03), memory.use.name
    svg = plan_svg(SPREAD)
    assert "sram 25.19 KiB of 64 KiB, 39.4 %" in svg
    assert f'fill="{LIGHT.memories[1]}"' in svg


def test_a_plan_with_one_arena_has_neither_tint_nor_gauge(opened: Open) -> None:
    page = opened(color_scheme="light")
    seen = pixels_of(page)
    for colour in LIGHT.memories[1:]:
        assert not (seen == parse_colour(colour)).all(axis=2).any()


@pytest.mark.parametrize("theme", THEMES)
def test_a_tint_is_no_kind(theme: str) -> None:
    colours = THEMES[theme]
    for tint in colours.memories:
        for kind in colours.kinds.values():
            one, other = (np.array(parse_colour(c)) for c in (tint, kind))
            assert np.abs(one - other).sum() > 60
        assert (
            contrast(np.array(parse_colour(tint)), np.array(parse_colour(colours.ink)))
            > 7
        )


# -- hatching --------------------------------------------------------------------------


def require_hatching(region: np.ndarray) -> None:
    """Check that a region has two colours, told apart, of which one is thin lines."""
    flat = region.reshape(-1, 3)
    light = luminance(flat)
    fill = flat[np.argsort(light)[len(light) // 2]]
    lines = np.array([contrast(colour, fill) >= 2.5 for colour in flat])
    assert 0.05 < lines.mean() < 0.45
    across = lines.reshape(region.shape[:2])
    turns = np.count_nonzero(np.diff(across.astype(int), axis=1), axis=1)
    assert turns.min() >= 4  # every row crosses lines


def test_the_theme_says_a_contrast_of_three() -> None:
    for theme in THEMES.values():
        fill = parse_colour(theme.kinds[TensorKind.RECOMPUTED])
        assert contrast(np.array(fill), np.array(parse_colour(theme.hatch))) >= 3


LIFE = 'c.lifeBox(plan.livesOf(plan.nameNumber("fc1:out0"))[1])'
"""A recomputed activation."""


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("theme", THEMES)
def test_hatching_is_seen(opened: Open, theme: str, ratio: int) -> None:
    page = opened(color_scheme=theme, device_scale_factor=ratio)
    page.page.keyboard.press("z")
    page.js("app.setStep(0)")
    page.settle()
    x, y, width, height = (ratio * side for side in box_of(page, LIFE))
    seen = pixels_of(page)
    require_hatching(seen[y + 8 : y + height - 8, x + 80 * ratio : x + width - 8])
    x, y, width, height = box_of(
        page, 'c.lifeBox(plan.livesOf(plan.nameNumber("act2:out0:grad"))[0])'
    )
    plain = seen[ratio * (y + height - 12) : ratio * (y + height - 4)]
    plain = plain[:, ratio * (x + 4) : ratio * (x + 24)]
    assert len(np.unique(plain.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("theme", THEMES)
def test_hatching_is_saved(opened: Open, theme: str, tmp_path: Path) -> None:
    page = opened(color_scheme=theme, accept_downloads=True)
    page.page.keyboard.press("z")
    page.js("app.setStep(0)")
    page.settle()
    x, y, width, height = box_of(page, LIFE)
    with page.page.expect_download() as png:
        page.page.click("#save-png")
    png.value.save_as(tmp_path / "view.png")
    seen = np.array(Image.open(tmp_path / "view.png").convert("RGB")).astype(int)
    top = 48  # of the chart below the title
    require_hatching(
        seen[
            2 * (top + y + 4) : 2 * (top + y + height - 4),
            2 * (x + 80) : 2 * (x + width - 4),
        ]
    )
    with page.page.expect_download() as svg:
        page.page.click("#save-svg")
    svg.value.save_as(tmp_path / "view.svg")
    text = (tmp_path / "view.svg").read_text("utf-8")
    n_large = len(
        re.findall(rf'class="hatch"[^>]*stroke="{THEMES[theme].hatch}"', text)
    )
    assert n_large >= 4  # three activations and the legend


def test_hatching_is_in_still_pictures() -> None:
    seen = np.array(Image.open(io.BytesIO(plan_png(BLOCKED))).convert("RGB")).astype(
        int
    )
    life = next(t for t in BLOCKED.tensors if (t.name, t.life) == ("fc1:out0", 1))
    index = BLOCKED.tensors.index(life)
    buffer = next(b for b in BLOCKED.buffers if index in b.tensors)
    across = (RIGHT - LEFT) / len(BLOCKED.steps)
    up = (MAP_BOTTOM - MAP_TOP) / (BLOCKED.arena_bytes * 1.03)
    left, right = (round(LEFT + step * across) for step in (life.start, life.stop))
    bottom = round(MAP_BOTTOM - buffer.offset_bytes * up)
    top = round(MAP_BOTTOM - (buffer.offset_bytes + buffer.size_bytes) * up)
    require_hatching(seen[top + 4 : bottom - 4, left + 4 : right - 4])
    assert f'stroke="{LIGHT.hatch}"' in plan_svg(BLOCKED)
    assert "hatch" not in re.sub(r"<path[^>]*>", "", plan_svg(PLAIN))


def test_a_swatch_is_hatched_too(opened: Open) -> None:
    page = opened()
    image = page.page.evaluate(
        "getComputedStyle(document.querySelector('#legend .hatched')).backgroundImage"
    )
    assert "gradient" in image


def test_the_page_of_one_ram_is_as_before(opened: Open) -> None:
    """Steps are all as wide and nothing is folded until someone asks."""
    page = opened(PAGE)
    assert page.js("return app.charts[0].unit") is None
    same = page.js(
        "const c = app.charts[0]; const w = c.area.width / c.plan.nSteps; "
        "return [...c.plan.stepPhase].every((_, s) => "
        "Math.abs(c.xOf(s) - c.area.left - s * w) < 1e-6)"
    )
    assert same
