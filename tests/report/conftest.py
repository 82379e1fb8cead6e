"""Browsers for the tests of the viewer; they skip where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.chromium import running_chromium
from helpers.firefox import Firefox, running_firefox
from helpers.viewer_pages import Open, opening_pages

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a Chromium."""
    with running_chromium() as chromium:
        yield chromium


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens a page; in the end none may have failed."""
    with opening_pages(browser, tmp_path) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """Return a Firefox."""
    with running_firefox(tmp_path_factory.mktemp("firefox")) as started:
        yield started
