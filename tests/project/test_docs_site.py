"""The documentation as a site: what tools/docs.sh builds, and what a reader sees of it.

The tests skip where MkDocs is missing, those in a browser where that is missing.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from helpers.chromium import running_chromium
from helpers.pages import PAGES, ROOT, read_page
from markdown_it import MarkdownIt

import arena_ckpt
from arena_ckpt import allocation, errors, layers, testing

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FOLDERS = {"layers": layers, "allocation": allocation, "testing": testing}
VOID = {"br", "col", "hr", "img", "input", "link", "meta", "path", "source", "wbr"}
TOP = {
    "README.md": "index.html",
    "CONTRIBUTING.md": "contributing.html",
    "CHANGELOG.md": "changelog.html",
}


@dataclass
class Html(HTMLParser):
    """A page as its parser met it; `text` and `counts` are those of the article."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    """Where a reader can go."""
    loaded: list[str] = field(default_factory=list)
    """What the browser fetches."""
    counts: Counter[str] = field(default_factory=Counter)
    code: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.inside = {"article": 0, "pre": 0, "filename": 0}
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found["id"]} if "id" in found else set()
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in ("next", "prev", "canonical"):
            self.loaded.append(found["href"])
        elif "src" in found:
            self.loaded.append(found["src"])
        if tag in VOID:
            self.counts[tag] += self.inside["article"]
            return
        what = "filename" if found.get("class") == "filename" else tag
        self.open.append(what)
        if what in self.inside:
            self.inside[what] += 1
        self.counts[tag] += bool(self.inside["article"])
        if tag == "pre":
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID or not self.open:
            return
        what = self.open.pop()
        if what in self.inside:
            self.inside[what] -= 1

    def handle_data(self, data: str) -> None:
        if self.inside["pre"]:
            self.code[-1] += data
        elif self.inside["article"] and not self.inside["filename"]:
            self.text += data


def parsed(text: str) -> Html:
    page = Html()
    page.feed(text)
    return page


def built_from(page: Path) -> str:
    """Return the path of the page of the site that is made of a file."""
    path = page.relative_to(ROOT).as_posix()
    if path in TOP:
        return TOP[path]
    made = path.removeprefix("docs/").replace("README.md", "index.md")
    return made.removesuffix(".md") + ".html"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as tools/docs.sh does; tools/test.sh has just done it."""
    if built := os.environ.get("ARENA_CKPT_SITE"):
        return Path(built)
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason="no MkDocs: tools/docs.sh installs it")
    folder = tmp_path_factory.mktemp("site")
    script = (ROOT / "tools/docs.sh").read_text("utf-8").replace("\\\n", " ")
    said = re.search(r"-m (mkdocs .*) --site-dir", script)
    assert said, "tools/docs.sh calls MkDocs otherwise"
    done = subprocess.run(
        [sys.executable, "-m", *said[1].split(), "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "RUN_NOTEBOOKS": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, Html]:
    """Return each page of the site by its path, but the reports in frames."""
    return {
        path.relative_to(site).as_posix(): parsed(path.read_text("utf-8"))
        for path in sorted(site.rglob("*.html"))
        if path.parent.name != "reports"
    }


def test_every_page_can_be_reached_from_the_first_one(pages: dict[str, Html]) -> None:
    reached = {link.partition("#")[0] for link in pages["index.html"].links}
    wanted = {built_from(page) for page in (*PAGES, ROOT / "CHANGELOG.md")}
    assert wanted <= pages.keys()
    wanted.add("notebook.html")
    others = pages.keys() - wanted - {"404.html"}
    assert all(path.startswith("reference/") for path in others)
    assert (wanted | others) - {"index.html"} <= reached


def test_links_within_the_site_lead_to_what_is_there(
    site: Path, pages: dict[str, Html]
) -> None:
    n_anchors = 0
    for path, page in pages.items():
        if path == "404.html":  # its links are those of a server's root
            continue
        for link in page.links + page.loaded:
            if re.match(r"\w+:", link):
                continue
            target, _, anchor = link.partition("#")
            there = (site / path).parent / target if target else site / path
            there = there.resolve()
            assert there.is_file(), (path, link)
            if anchor and there.suffix == ".html":
                name = there.relative_to(site.resolve()).as_posix()
                assert unquote(anchor) in pages[name].ids, (path, link)
                n_anchors += 1
    assert n_anchors > 1000


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, Html]) -> None:
    assert not {
        (path, asset)
        for path, page in pages.items()
        for asset in page.loaded
        if re.match(r"(https?:)?//", asset)
    }
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\W*(https?:)?//", style.read_text())


def test_pages_say_what_they_say_on_github(pages: dict[str, Html]) -> None:
    """MkDocs reads another Markdown: lists, tables and code must come out the same."""
    common = MarkdownIt("commonmark").enable("table")
    kinds = ("h1", "h2", "h3", "li", "ul", "ol", "tr", "td", "pre", "img", "strong")
    for page in (*PAGES, ROOT / "CHANGELOG.md"):
        text = page.read_text("utf-8")
        wanted = parsed(f"<article>{common.render(text)}</article>")
        found = pages[built_from(page)]
        for kind in kinds:
            assert found.counts[kind] == wanted.counts[kind], (page.name, kind)
        assert [squeezed(c) for c in found.code] == [squeezed(c) for c in wanted.code]
        if "<!-- live report" not in text:
            assert squeezed(found.text) == squeezed(wanted.text), page.name


def squeezed(text: str) -> str:
    return re.sub(r"[\s¶]+", "", text)


def test_code_has_its_colours_and_the_name_of_its_file(site: Path) -> None:
    n_named = 0
    for page in PAGES:
        text = (site / built_from(page)).read_text("utf-8")
        coloured = Counter(re.findall(r'<div class="language-(\w+) highlight">', text))
        blocks = read_page(page)
        for plain in ("csv", "ld"):  # have no colours
            coloured[plain] = coloured["text"]
        for language, n in Counter(block.language for block in blocks).items():
            assert coloured[language] >= n, (page.name, language)
        named = [block.file for block in blocks if block.file]
        assert re.findall(r'<span class="filename">(.+?)</span>', text) == named
        n_named += len(named)
    assert n_named > 8


def in_reference(pages: dict[str, Html]) -> dict[str, str]:
    return {
        name: path
        for path, page in pages.items()
        if path.startswith("reference/")
        for name in page.ids
    }


def test_every_public_name_is_in_the_reference(pages: dict[str, Html]) -> None:
    found = in_reference(pages).keys()
    public = {f"arena_ckpt.{name}" for name in arena_ckpt.__all__}
    public |= {
        f"arena_ckpt.{folder}.{name}"
        for folder, module in FOLDERS.items()
        for name in module.__all__
    }
    public |= {
        f"arena_ckpt.errors.{name}"
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == "arena_ckpt.errors"
        if not name.startswith("_") and name not in arena_ckpt.__all__
    }
    public |= {
        f"arena_ckpt.{name}.{member}"
        for name in ("Model", "MemoryPlan", "Dataset", "Verification")
        for member, value in inspect.getmembers(getattr(arena_ckpt, name))
        if not member.startswith("_") and inspect.getdoc(value)
        if callable(value) or isinstance(value, property)
    }
    missing = public - found
    assert not missing


def test_what_functions_return_is_in_the_reference(pages: dict[str, Html]) -> None:
    found = in_reference(pages)
    for name in (
        "training.records.History",
        "training.records.EpochRecord",
        "engine.evaluation.Evaluation",
        "checkpoint.front.FrontPoint",
        "optim.optimizers.Optimizer",
        "optim.learning_rates.Schedule",
        "boards.board.Board",
    ):
        assert found[f"arena_ckpt.{name}"] == "reference/results.html"


def test_an_entry_shows_signature_parameters_and_errors(site: Path) -> None:
    """Where a docstring has a section, its entry has one."""
    n_sections = 0
    text = (site / "reference/functions.html").read_text("utf-8")
    entries = re.split(r'<h2 id="arena_ckpt\.(\w+)"', text)
    shown = dict(zip(entries[1::2], entries[2::2], strict=True))
    for name, entry in shown.items():
        function = getattr(arena_ckpt, name)
        doc = inspect.getdoc(function) or ""
        assert "doc-signature" in entry, name
        for parameter in inspect.signature(function).parameters:
            assert re.search(rf">{parameter}<", entry), (name, parameter)
        for section in ("Parameters", "Returns", "Raises", "Examples"):
            if re.search(rf"^{section}\n-+$", doc, re.MULTILINE):
                assert f"{section}:" in entry, (name, section)
                n_sections += 1
    assert n_sections > 40


def test_the_index_of_search_knows_the_reference(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text("utf-8"))
    places = {entry["location"] for entry in index["docs"]}
    assert "reference/model.html#arena_ckpt.Model.train" in places
    assert "layers/losses.html#cross_softmax" in places


# -- in a browser ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as chromium:
        yield chromium


@pytest.mark.parametrize("width", [1280, 390])
def test_a_report_stands_in_its_page_at_full_height(
    site: Path, browser: Browser, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: problems.extend(outside(asked.url)))
    page.goto(f"file://{site}/viewer.html")
    frame = page.frame_locator("iframe.report")
    frame.locator("#legend button").first.wait_for()
    page.wait_for_function(
        "document.querySelector('iframe.report').style.height !== ''"
    )
    page.wait_for_timeout(500)
    (inner,) = (f for f in page.frames if "reports/" in f.url)
    wanted, drawn, shown = inner.evaluate(
        "[document.documentElement.scrollHeight,"
        " document.body.getBoundingClientRect().bottom, window.innerHeight]"
    )
    assert wanted <= shown + 2, "the frame has a scroll bar of its own"
    assert shown - drawn < 50, "the frame is higher than what it shows"
    of_page = page.evaluate("document.documentElement.scrollWidth")
    assert of_page <= width, "the page is wider than the window"
    assert problems == []
    page.close()


def outside(url: str) -> list[str]:
    return [] if url.startswith(("file:", "data:", "blob:")) else [url]


def test_a_report_is_as_light_or_dark_as_its_page(site: Path, browser: Browser) -> None:
    page = browser.new_page(color_scheme="light")
    page.goto(f"file://{site}/viewer.html")
    frame = page.frame_locator("iframe.report")
    frame.locator("#legend button").first.wait_for()
    for scheme in ("dark", "light"):
        page.locator("label.md-header__button:visible[title]").first.click()
        frame.locator(f"html[style*='color-scheme: {scheme}']").wait_for()
    page.close()


def test_search_finds_a_function_in_pages_that_are_files(
    site: Path, browser: Browser
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"file://{site}/index.html")
    page.locator("input.md-search__input").click()
    page.keyboard.type("create_schedule")
    found = page.locator(".md-search-result__item a").first
    found.wait_for()
    texts = page.locator(".md-search-result").inner_text()
    assert "create_schedule" in texts
    assert problems == []
    page.close()
