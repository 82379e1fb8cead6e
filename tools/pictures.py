"""Draw the pictures of docs/ again, from the code that the pages show.

    python tools/pictures.py           # writes docs/pictures/*.png

Run it whenever a plan or the way plans are drawn changes; a test compares the files
with what this returns. Needs Pillow (the extra ``png``).
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from arena_ckpt import MemoryPlan, Model, front_png, plan_png

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "pictures"


def make_pictures() -> dict[str, bytes]:
    """Return the PNG files by name."""
    model: Model = _first_block("tutorial.md")["small_cnn"]()[0]
    kept = model.make_plan()
    within = model.make_plan(budget="256KiB")
    front = model.pareto()
    lives: MemoryPlan = _first_block("memory-management.md")["plan"]
    memories: MemoryPlan = _first_block("viewer.md")["plan"]
    return {
        "small_cnn.png": plan_png(kept, "small_cnn, nothing recomputed"),
        "small_cnn_256KiB.png": plan_png(within, "small_cnn within 256 KiB"),
        "front.png": front_png(front, "small_cnn"),
        "front_256KiB.png": front_png(front, "small_cnn", budget="256KiB"),
        "lives.png": plan_png(lives, "two checkpoint blocks"),
        "memories.png": plan_png(memories, "two RAMs, the first layers frozen"),
    }


def _first_block(page: str) -> dict[str, Any]:
    """Run the first block of Python in a page and return its names."""
    text = (DOCS / page).read_text("utf-8")
    code = re.search(r"```python[^\n]*\n(.*?)```", text, re.DOTALL)
    assert code, f"{page} shows no Python"
    names: dict[str, Any] = {}
    exec(compile(code[1], page, "exec"), names)
    return names


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name, content in make_pictures().items():
        (FOLDER / name).write_bytes(content)
        print(f"{len(content):7,} B  {FOLDER / name}")
