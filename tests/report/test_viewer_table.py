"""The table of all buffers on the page of a plan, in a Chromium."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter

import pytest
from helpers.synthetic_plans import synthetic_plan
from helpers.viewer_pages import (
    BLOCKED,
    PAGE,
    SPREAD,
    STACKED_PAGE,
    Open,
    Opened,
    middle_of,
)

from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import LiveRange, TensorKind
from arena_ckpt.report.html import plan_html

COPIES = {"permissions": ["clipboard-read", "clipboard-write"]}


def open_table(page: Opened, text: str = "") -> None:
    page.page.click("#buffers-button")
    if text:
        page.page.fill("#filter", text)
    page.settle()


def copied(page: Opened, separator: str = ",") -> list[dict[str, str]]:
    """Return the rows that the button copies."""
    page.page.click("#copy-csv" if separator == "," else "#copy-tsv")
    page.page.wait_for_selector("#notice:not([hidden])")
    text = page.js("return await navigator.clipboard.readText()")
    return list(csv.DictReader(io.StringIO(text), delimiter=separator))


def names(page: Opened) -> list[str]:
    """Return the names in the rows that are there, from above."""
    cells = page.page.locator("#buffers-table tr[data-row] td.tensor")
    return [text.strip() for text in cells.all_inner_texts()]


def phases_of(plan: MemoryPlan, index: int) -> set[str]:
    return {
        execution.phase.value
        for execution in plan.executions
        for operand in execution.operands
        if operand.tensor == index
    }


def buffer_of(plan: MemoryPlan, index: int):
    return next(b for b in plan.buffers if index in b.tensors)


@pytest.mark.parametrize(
    ("text", "plan"), [(PAGE, BLOCKED), (STACKED_PAGE, SPREAD)], ids=["one", "stacked"]
)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_what_is_copied_is_what_the_plan_says(
    opened: Open, text: str, plan: MemoryPlan, separator: str
) -> None:
    page = opened(text, **COPIES)
    open_table(page)
    rows = copied(page, separator)
    lives = Counter(tensor.name for tensor in plan.tensors)
    expected = [
        {
            "tensor": t.name,
            "layer": t.layer,
            "kind": t.kind.value,
            "shape": "x".join(map(str, t.shape)) or "scalar",
            "dtype": t.dtype,
            "bytes": str(t.size_bytes),
            "memory": buffer_of(plan, i).memory,
            "offset": str(buffer_of(plan, i).offset_bytes),
            "start": str(t.start),
            "stop": str(t.stop),
            "phases": phases_of(plan, i),
            "lives": str(lives[t.name]),
            "life": str(t.life + 1),
        }
        for i, t in enumerate(plan.tensors)
    ]
    found = [{**row, "phases": set(row["phases"].split())} for row in rows]
    by_name = lambda row: (row["tensor"], row["life"])  # noqa: E731
    assert sorted(found, key=by_name) == sorted(expected, key=by_name)
    assert [int(row["start"]) for row in rows] == sorted(t.start for t in plan.tensors)


def test_a_row_shows_what_people_read(opened: Open) -> None:
    page = opened()
    open_table(page, "tensor:fc1:out0 lives>1")
    rows = page.page.locator("#buffers-table tr[data-row]").all_inner_texts()
    cells = [[cell.strip() for cell in row.split("\t")] for row in rows]
    lives = sorted(
        (t for t in BLOCKED.tensors if t.name == "fc1:out0"), key=lambda t: t.start
    )
    assert [row[:6] for row in cells] == [
        ["fc1:out0", "fc1", kind, "64×1×1×64", "float32", "16,384"]
        for kind in ("activation", "recomputed activation")
    ]
    assert [row[8:10] for row in cells] == [[str(t.start), str(t.stop)] for t in lives]
    assert [row[11] for row in cells] == ["1 of 2", "2 of 2"]
    assert "calc gradient" in cells[1][10] or "calc derivative" in cells[1][10]
    total = f"2 of {len(BLOCKED.tensors)} live ranges, 32.0 KiB together"
    assert page.page.inner_text("#buffers-count") == total


def natural(name: str) -> str:
    return re.sub(r"\d+", lambda digits: digits[0].zfill(9), name.lower())


def test_a_click_on_a_head_sorts_and_another_turns_it_round(opened: Open) -> None:
    page = opened(**COPIES)
    open_table(page)
    head = page.page.locator("#buffers-table th.bytes")
    assert page.page.locator('th[aria-sort="ascending"]').inner_text() == "start"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    sizes = [int(row["bytes"]) for row in copied(page)]
    assert sizes == sorted(sizes, reverse=True)
    head.locator("button").focus()
    page.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    sizes = [int(row["bytes"]) for row in copied(page)]
    assert sizes == sorted(sizes)
    page.page.click("#buffers-table th.tensor button")
    found = [row["tensor"] for row in copied(page)]
    assert found == sorted(found, key=natural)
    assert page.page.locator("th[aria-sort]:not([aria-sort=none])").count() == 1


FILTERS = {
    "fc2": lambda t, _: "fc2" in t.name or "fc2" in t.layer,
    "FC2 kind:weight": lambda t, _: "fc2" in t.name and t.kind is TensorKind.WEIGHT,
    "kind:activation": lambda t, _: t.kind is TensorKind.ACTIVATION,
    "kind:act": lambda t, _: "activation" in t.kind.value,
    "bytes>1000": lambda t, _: t.size_bytes > 1000,
    "bytes<=4KiB": lambda t, _: t.size_bytes <= 4096,
    "size=16k": lambda t, _: t.size_bytes == 16384,
    "step:12": lambda t, _: t.start <= 12 < t.stop,
    "step:3..5": lambda t, _: t.start <= 5 and t.stop > 3,
    "start>=10 stop<30": lambda t, _: t.start >= 10 and t.stop < 30,
    "-fc -kind:data": lambda t, _: "fc" not in t.name and t.kind is not TensorKind.DATA,
    "layer:fc1": lambda t, _: t.layer == "fc1",
    "layer:fc": lambda t, _: "fc" in t.layer,
    "tensor=fc1:out0": lambda t, _: t.name == "fc1:out0",
    "fc1:out0": lambda t, _: "fc1:out0" in t.name,
    "shape:64x1x1x64": lambda t, _: t.shape == (64, 1, 1, 64),
    "phase:recompute": lambda _, phases: "recompute" in phases,
    "memory:arena": lambda _t, _: True,
}


def test_filters_keep_the_rows_that_they_name(opened: Open) -> None:
    page = opened(**COPIES)
    open_table(page)
    for text, test in FILTERS.items():
        page.page.fill("#filter", text)
        assert page.page.inner_text("#filter-error") == ""
        found = Counter((row["tensor"], int(row["start"])) for row in copied(page))
        expected = Counter(
            (t.name, t.start)
            for i, t in enumerate(BLOCKED.tensors)
            if test(t, phases_of(BLOCKED, i))
        )
        assert expected, text
        assert found == expected, text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour>3", "there is no column colour; there are tensor, layer, kind"),
        ("bytes>many", "bytes wants a number such as 1000 or 4KiB, not many"),
        ("step:now", "step wants a step or a range of them: step:12 or step:12..20"),
        ("kind>weight", "kind is no number: write kind:weight"),
        ("layer:", "layer wants something after :"),
    ],
)
def test_a_filter_that_cannot_be_read_says_why(
    opened: Open, text: str, said: str
) -> None:
    page = opened()
    open_table(page, "kind:weight")
    before = names(page)
    page.page.fill("#filter", text)
    assert said in page.page.inner_text("#filter-error")
    assert page.page.get_attribute("#filter", "aria-invalid") == "true"
    assert names(page) == before
    page.page.focus("#filter")
    page.page.keyboard.press("Escape")
    assert page.page.inner_text("#filter-error") == ""
    assert page.page.input_value("#filter") == ""


def selected(page: Opened) -> set[str]:
    cells = page.page.locator('#buffers-table tr[aria-selected="true"] td.tensor')
    return {text.strip() for text in cells.all_inner_texts()}


def test_the_table_and_the_map_select_the_same(opened: Open) -> None:
    page = opened()
    open_table(page)
    last = page.page.locator("#buffers-table tr[data-row]").nth(4)
    name = last.locator("td.tensor").inner_text().strip()
    last.click()
    page.settle()
    assert page.js("return app.pin") == name
    assert page.page.inner_text("#pinned .name") == name
    assert selected(page) == {name}
    page.page.mouse.wheel(0, -5000)
    page.page.evaluate("scrollTo(0, 0)")
    page.page.mouse.click(*middle_of(page, "fc1:out0", 1))
    page.settle()
    assert selected(page) == {"fc1:out0"}
    box = page.page.locator("#buffers-scroll").bounding_box()
    rows = page.page.locator('#buffers-table tr[aria-selected="true"]')
    places = [row.bounding_box() for row in rows.all()]
    bottom = box["y"] + box["height"]
    assert any(box["y"] <= p["y"] and p["y"] + p["height"] <= bottom for p in places)
    page.page.keyboard.press("Escape")
    page.settle()
    assert selected(page) == set()


def test_a_row_of_a_second_life_goes_to_its_steps(opened: Open) -> None:
    page = opened()
    page.js("app.setStep(0)")
    open_table(page, "tensor=fc1:out0")
    page.page.locator("#buffers-table tr[data-row]").nth(1).click()
    page.settle()
    life: LiveRange = next(
        t for t in BLOCKED.tensors if (t.name, t.life) == ("fc1:out0", 1)
    )
    assert page.js("return app.step") == life.start
    assert f"[{life.start}, {life.stop})" in page.page.inner_text("#pinned")


def test_keys_alone_open_filter_go_through_and_pin(opened: Open) -> None:
    page = opened()
    press = page.page.keyboard.press
    press("b")
    page.settle()
    assert page.page.get_attribute("#buffers-button", "aria-expanded") == "true"
    page.page.focus("#filter")
    page.page.keyboard.type("kind:weight")
    press("ArrowDown")  # into the table
    step = page.js("return app.step")
    press("ArrowDown")
    press("ArrowDown")
    active = page.page.get_attribute("#buffers-table", "aria-activedescendant")
    assert active == "row-2"
    name = page.page.inner_text(f"#{active} td.tensor").strip()
    press("Enter")
    page.settle()
    assert page.js("return app.pin") == name
    assert page.js("return app.step") == step  # weights are always alive
    press("End")
    n_rows = int(page.page.get_attribute("#buffers-table", "aria-rowcount"))
    weights = [t for t in BLOCKED.tensors if t.kind is TensorKind.WEIGHT]
    assert n_rows == len(weights) + 1
    assert (
        page.page.get_attribute("#buffers-table", "aria-activedescendant")
        == f"row-{len(weights) - 1}"
    )
    press("b")
    assert not page.page.is_visible("#buffers-body")


def test_a_hundred_thousand_rows_scroll_and_sort_at_once(opened: Open) -> None:
    plan = synthetic_plan(100_000, seed=1)
    page = opened(plan_html(plan))
    assert page.page.locator("#buffers-table tbody tr").count() == 0  # until opened
    seconds = page.js(
        """const now = performance.now();
        app.table.open(true);
        app.table.sortBy("tensor");
        app.table.setFilter("block1 bytes>4000 -kind:weight");
        app.table.setFilter("");
        return (performance.now() - now) / 1000"""
    )
    assert seconds < 4, "0.5 s on a free core; CI is shared"
    assert page.page.locator("#buffers-table tbody tr").count() < 80
    found = sorted((t.name for t in plan.tensors), key=natural)
    for row in (99_999, 50_000, 7):
        page.js("app.table.goTo(row); app.table.render()", row=row)
        page.settle()
        made = page.page.locator(f"#row-{row}")
        assert made.locator("td.tensor").inner_text().strip() == found[row]
        box = page.page.locator("#buffers-scroll").bounding_box()
        place = made.bounding_box()
        assert box["y"] < place["y"]
        assert place["y"] + place["height"] <= box["y"] + box["height"]


def test_more_rows_than_a_browser_has_pixels_for_can_be_reached(opened: Open) -> None:
    page = opened()
    open_table(page)
    page.js(
        """const { table } = app;
        table.rows = new Uint32Array(1_000_000).map((_, i) => i % app.plan0.nTensors);
        table.render();"""
    )
    high = page.page.evaluate("document.querySelector('#buffers-scroll').scrollHeight")
    assert high < 9e6
    for row in (999_999, 123_456, 0):
        page.js("app.table.goTo(row); app.table.render()", row=row)
        box = page.page.locator("#buffers-scroll").bounding_box()
        place = page.page.locator(f"#row-{row}").bounding_box()
        assert box["y"] <= place["y"] <= box["y"] + box["height"] - 26


def test_the_table_of_a_comparison_is_of_the_plan_that_is_asked(opened: Open) -> None:
    page = opened()
    page.page.click("#tab-compare")
    page.page.click("#buffers-button")
    page.settle()
    assert page.page.inner_text("#buffers-of") == "of small"
    assert str(len(BLOCKED.tensors)) in page.page.inner_text("#buffers-count")


def test_a_phone_scrolls_the_table_within_itself(opened: Open) -> None:
    page = opened(width=390, height=844, has_touch=True, device_scale_factor=2)
    open_table(page)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    page.page.locator("#buffers-table tr[data-row]").nth(2).tap()
    page.settle()
    assert page.js("return app.pin") in names(page)
    page.js("document.querySelector('#buffers-scroll').scrollLeft = 500")
    page.settle()  # scrolling may draw the rows anew
    row = page.page.locator("#buffers-table tr[data-row] td.tensor").first
    assert row.bounding_box()["x"] >= 0  # the name stays
