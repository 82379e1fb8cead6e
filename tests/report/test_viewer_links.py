"""Links to what a page of a plan shows, in a Chromium."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from helpers.viewer_pages import (
    BLOCKED,
    FRONT,
    PAGE,
    PLAIN,
    Open,
    Opened,
    mlp,
)

from arena_ckpt.report.html import plan_html

STRANGE = "a&b %41/é+<i>?"


def fragment(page: Opened) -> str:
    """Return what the address says of the selection, when it has followed."""
    page.page.wait_for_timeout(400)
    return str(page.page.evaluate("location.hash"))


def test_a_link_selects_what_it_names(opened: Open) -> None:
    page = opened(
        link="#tensor=fc1:out0&step=12&theme=dark&axis=time&table=kind:weight"
    )
    assert page.page.inner_text("#pinned .name") == "fc1:out0"
    assert f"step 12 of {len(BLOCKED.steps)}" in page.page.inner_text("#step-text")
    assert page.page.evaluate("document.documentElement.style.colorScheme") == "dark"
    assert page.page.get_attribute("#axis", "aria-pressed") == "true"
    assert page.page.input_value("#filter") == "kind:weight"
    kinds = page.page.locator("#buffers-table tr[data-row] td.kind").all_inner_texts()
    assert set(kinds) == {"weight"}
    assert not page.page.is_visible("#notice")


def test_links_to_tabs_layers_and_kinds(opened: Open) -> None:
    page = opened(link="#tab=front&point=1")
    assert page.page.get_attribute("#tab-front", "aria-selected") == "true"
    assert page.js("return app.plan0.arena_bytes") == FRONT[1].arena_bytes
    page = opened(link="#tab=compare&layer=fc2&kind=activation")
    assert page.js("return app.charts.map((c) => c.plan.arena_bytes)") == [
        PLAIN.arena_bytes,
        BLOCKED.arena_bytes,
    ]
    assert page.page.inner_text('#legend [aria-pressed="true"]') == "activation"
    chosen = page.page.locator('.layer[aria-selected="true"] .name')
    assert chosen.inner_text() == "fc2"


def test_the_address_follows_what_is_selected(opened: Open) -> None:
    page = opened()
    assert fragment(page) == ""
    length = page.page.evaluate("history.length")
    page.js("app.select('fc2:weight'); app.setStep(7)")
    assert fragment(page) == "#tensor=fc2:weight&step=7"
    page.page.keyboard.press("t")
    page.page.keyboard.press("x")
    theme = page.js("return app.themeName")
    assert fragment(page) == f"#theme={theme}&axis=time&tensor=fc2:weight&step=7"
    page.page.click("#tab-compare")
    assert fragment(page).startswith(f"#theme={theme}&tab=compare&axis=time&tensor=")
    assert page.page.evaluate("history.length") == length  # Back leaves the page
    page.page.keyboard.press("Escape")
    page.page.keyboard.press("p")
    page.page.keyboard.press("x")
    page.page.click("#tab-map")
    assert fragment(page) == f"#theme={theme}"


def test_what_was_selected_comes_back_with_its_link(opened: Open) -> None:
    page = opened()
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowUp")
    page.page.keyboard.press("Enter")
    page.page.keyboard.press("b")
    page.page.fill("#filter", "bytes>1KiB -kind:weight")
    said = fragment(page)
    state = "return [app.step, app.pin, app.table.rows.length]"
    again = opened(link=said)
    assert again.js(state) == page.js(state)
    assert fragment(again) == said


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("#tensor=fc9:out0", "This plan has no tensor fc9:out0; / searches"),
        ("#layer=fc9", "This plan has no layer fc9."),
        ("#step=4000", f"no step 4000: its steps are 0 to {len(BLOCKED.steps) - 1}."),
        ("#step=-1", "no step -1"),
        ("#theme=pink", "There is no theme pink; there are light and dark."),
        ("#tab=other", "This page has no tab other."),
        ("#kind=food", "There is no kind of tensors food; there are weight"),
        ("#axis=depth", "There is no axis depth; there are steps and time."),
        ("#tab=front&point=9", "The front has no point 9."),
        ("#colour=red", "Nothing here is called colour."),
        ("#tensor=%E0%A4%A", "This plan has no tensor %E0%A4%A;"),
    ],
)
def test_what_a_page_does_not_have_is_said(opened: Open, link: str, said: str) -> None:
    page = opened(link=link)
    assert said in page.page.inner_text("#notice")
    assert page.page.locator(".chart").count() >= 1
    page.page.click("#notice-close")
    assert not page.page.is_visible("#notice")
    page.page.mouse.move(5, 5)


def test_any_name_can_stand_in_a_link(opened: Open) -> None:
    text = plan_html(mlp(block=True, name=STRANGE), "strange")
    name = f"{STRANGE}:out0"
    page = opened(text, link=f"#tensor={quote(name, safe='')}&step=3")
    assert page.page.inner_text("#pinned .name") == name
    page.js("app.setStep(4)")
    said = fragment(page)
    assert unquote(said) == f"#tensor={name}&step=4"
    again = opened(text, link=said)
    assert again.page.inner_text("#pinned .name") == name
    assert again.js("return app.step") == 4


def test_a_link_followed_on_the_open_page_selects_too(opened: Open) -> None:
    page = opened(link="#tensor=fc1:out0")
    page.page.evaluate("location.hash = '#layer=fc2&step=5'")
    page.page.wait_for_function(
        "document.querySelector('.layer[aria-selected=\"true\"] .name')"
        "?.textContent === 'fc2'"
    )
    page.settle()
    assert page.js("return [app.pin, app.layer, app.step]") == [None, "fc2", 5]


@pytest.mark.parametrize("by_key", [False, True], ids=["button", "key"])
def test_the_link_is_copied(opened: Open, by_key: bool) -> None:
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    page.js("app.select('fc2:weight'); app.setStep(7)")
    if by_key:
        page.page.keyboard.press("l")
    else:
        page.page.click("#copy-link")
    page.page.wait_for_selector("#notice:not([hidden])")
    assert page.page.inner_text("#notice-text").endswith("is copied.")
    text = page.js("return await navigator.clipboard.readText()")
    bare = page.page.url.partition("#")[0]
    assert text == f"{bare}#tensor=fc2:weight&step=7"


def test_a_link_is_copied_where_the_browser_lends_no_clipboard(opened: Open) -> None:
    page = opened()
    page.page.evaluate(
        """navigator.clipboard.writeText = () => Promise.reject(new Error("no"));
        document.addEventListener("copy", () => {
          window.copiedText = document.activeElement.value;
        });"""
    )
    page.page.click("#copy-link")
    page.page.wait_for_selector("#notice:not([hidden])")
    assert page.page.evaluate("window.copiedText") == page.page.url


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine, and return its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_links_work_from_a_server_and_not_in_the_frame_of_a_notebook(
    opened: Open, tmp_path: Path
) -> None:
    page = opened()
    (tmp_path / "report.html").write_text(PAGE, "utf-8")
    (tmp_path / "cell.html").write_text(PLAIN._repr_html_(), "utf-8")
    with served(tmp_path) as address:
        other = page.page.context.new_page()
        other.goto(f"{address}/report.html?v=1#tensor=fc1:out0")
        other.wait_for_selector("#pinned .name")
        other.keyboard.press("Escape")
        other.wait_for_timeout(400)
        assert other.url == f"{address}/report.html?v=1"
        problems: list[str] = []
        other.on("pageerror", lambda error: problems.append(str(error)))
        other.goto(f"{address}/cell.html")
        frame = other.frame_locator("iframe")
        frame.locator("#theme").click()
        other.wait_for_timeout(400)
        assert not frame.locator("#copy-link").is_visible()
        assert problems == []
