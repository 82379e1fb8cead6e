"""Pages of NNTrainer's dumps of tensors, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from click.testing import CliRunner

from arena_ckpt.cli import main

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DUMP = """\
name,bytes,start,end_excl,offset,is_wgrad,lifespan,exec_order
fc1:out0,4096,1,6,0,0,7,1 2 5
fc1:out0:grad,4096,5,8,4096,0,6,5 7 4294967294
fc1:weight:grad,1024,7,9,0,1,14,7 8
mse:out0,512,2,3,8192,0,1,2
"""


def test_a_browser_shows_tensors_and_bands(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(DUMP)
    words = ("allocate", str(tmp_path / "d.csv"), "--html", str(tmp_path / "map.html"))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    page = browser.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.goto((tmp_path / "map.html").as_uri())
    page.get_by_text("8.00 KiB").first.wait_for()
    said = page.inner_text("body")
    for part in ("d.csv", "4 buffers", "fc1:out0:grad", "Before and after"):
        assert part in said
    page.get_by_text("Before and after").click()
    page.get_by_text("in the file").first.wait_for()
    assert not failures
    page.close()
