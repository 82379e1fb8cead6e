"""Plans, the pages that show them, and pages that are open in a Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arena_ckpt.model import Model
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.html import plan_html
from helpers.plan_surgery import NETS
from helpers.several_rams import in_rams

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def mlp(*, block: bool, name: str = "fc1", batch_size: int = 64) -> MemoryPlan:
    """Plan an MLP with GELU, whose block drops four tensors."""
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:64")
    names = [name, "act1", "fc2", "act2", "fc3", "act3"]
    for layer in names:
        if layer.startswith("act"):
            model.add_layer("activation", name=layer, activation="gelu")
        else:
            model.add_layer("fully_connected", name=layer, unit=64)
    model.add_layer("fully_connected", name="output", unit=10)
    model.add_layer("mse", name="loss")
    if block:
        model.add_checkpoint_block(names[:4])
    model.set_property(batch_size=batch_size)
    model.set_optimizer("adam")
    return model.make_plan()


@dataclass(frozen=True)
class Point:
    """What a Pareto front is a sequence of."""

    arena_bytes: int
    overhead: float
    label: str
    plan: MemoryPlan


PLAIN = mlp(block=False)
BLOCKED = mlp(block=True)
FRONT = [
    Point(plan.arena_bytes, plan.overhead, label, plan)
    for label, plan in (("nothing recomputed", PLAIN), ("one block", BLOCKED))
]
PAGE = plan_html(
    BLOCKED,
    "small",
    before=PLAIN,
    before_title="nothing recomputed",
    same_model=True,
    front=FRONT,
)


FROZEN = NETS["frozen"].model().make_plan()
SPREAD = in_rams(FROZEN, {"dtcm": 16 * 1024, "sram": 2**16, "psram": 2**20})
"""Constants, two RAMs that hold buffers, and one that is empty."""

STACKED_PAGE = plan_html(
    SPREAD, "stacked", before=FROZEN, before_title="one RAM", same_model=False
)


@dataclass
class Opened:
    """A page, and all that a good one has none of."""

    page: Page
    errors: list[str]
    requests: list[str]

    def js(self, script: str, **arguments: object) -> Any:
        """Run a script with the app and some arguments at hand."""
        names = ", ".join(arguments)
        code = f"async ({{ {names} }}) => {{ {PIXEL}; {script} }}"
        return self.page.evaluate(code, arguments)

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.js(
            "await new Promise((r) => setTimeout(() => requestAnimationFrame(r), 20))"
        )


PIXEL = """const app = await arenaViewer;
const pixel = (canvas, x, y) => {
  const context = new OffscreenCanvas(1, 1).getContext("2d");
  context.drawImage(canvas, -Math.round(x), -Math.round(y));
  return [...context.getImageData(0, 0, 1, 1).data];
}"""
"""What scripts of the tests may use."""

Open = Any


@contextmanager
def opening_pages(browser: Browser, folder: Path) -> Iterator[Open]:
    """Return a function that opens a page; in the end none may have failed."""
    contexts, pages = [], []

    def open_page(
        text: str = PAGE,
        width: int = 1440,
        height: int = 900,
        link: str = "",
        **more: Any,
    ) -> Opened:
        path = folder / f"{len(pages)}.html"
        path.write_text(text, "utf-8", errors="replace")
        context = browser.new_context(
            viewport={"width": width, "height": height}, **more
        )
        page = context.new_page()
        seen = Opened(page, [], [])
        page.on("console", lambda m: seen.errors.append(m.text))
        page.on("pageerror", lambda e: seen.errors.append(str(e)))
        page.on("dialog", lambda d: (seen.errors.append(d.message), d.dismiss()))
        page.on("request", lambda r: seen.requests.append(r.url))
        page.goto(path.as_uri() + link)
        seen.settle()
        contexts.append(context)
        pages.append((seen, path.as_uri()))
        return seen

    yield open_page
    for seen, address in pages:
        assert seen.errors == []
        assert [
            url.partition("#")[0]
            for url in seen.requests
            if not url.startswith(("data:", "blob:"))
        ] == [address]
    for context in contexts:
        context.close()


def middle_of(page: Opened, name: str, life: int = 0) -> tuple[float, float]:
    """Return the middle of a life of a tensor, in pixels of the window."""
    x, y = page.js(
        """const chart = app.charts[0], plan = chart.plan;
        const box = chart.lifeBox(plan.livesOf(plan.nameNumber(name))[life]);
        const at = chart.overlay.getBoundingClientRect();
        return [at.x + box.x + box.width / 2, at.y + box.y + box.height / 2];""",
        name=name,
        life=life,
    )
    return x, y
