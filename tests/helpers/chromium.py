"""A Chromium that tests drive, where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Start a Chromium, or skip where there is none."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright: pip install arena-ckpt[test]"
    )
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium, or set CHROMIUM=/its/path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()
