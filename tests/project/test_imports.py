"""What each use of the package loads: modules are counted here, seconds nowhere.

``python tools/bench/startup.py`` measures the seconds.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.synthetic_plans import synthetic_plan

HEAVY = {"numba", "llvmlite", "networkx", "rich", "click", "psutil", "safetensors"}
OURS = {
    "arena_ckpt.layers.base",
    "arena_ckpt.graph.build",
    "arena_ckpt.kernels.compiling",
}


def loaded(code: str, *arguments: str) -> set[str]:
    """Return the modules that a process of its own has loaded after some code."""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-c"),
            *(f"{code}\nprint(*sys.modules)", *arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    path.write_text(synthetic_plan(60).to_json(), "utf-8")
    return path


READ = (
    "import sys, pathlib\n"
    "import arena_ckpt as ac\n"
    "plan = ac.MemoryPlan.from_json(pathlib.Path(sys.argv[1]).read_text('utf-8'))\n"
)


@pytest.mark.parametrize(
    "draw",
    [
        "",
        "assert plan.to_json()",
        "assert ac.plan_ascii(plan)",
        "assert ac.plan_svg(plan)",
        "assert ac.plan_png(plan)",
        "assert ac.plan_html(plan)",
        "assert ac.export_plan(plan, 'minimalloc-csv')",
        "assert ac.export_plan(plan, 'dot')",
        "assert ac.export_plan(plan, 'c-header')",
    ],
)
def test_a_plan_is_read_and_drawn_without_what_makes_plans(
    draw: str, plan_file: Path
) -> None:
    modules = loaded(READ + draw, str(plan_file))
    assert "arena_ckpt.planning.plan" in modules
    assert modules & (HEAVY | OURS) == set()


def test_the_package_itself_loads_no_numpy() -> None:
    assert loaded("import sys, arena_ckpt") & (HEAVY | OURS | {"numpy"}) == set()


def test_buffers_are_placed_without_what_makes_models() -> None:
    code = "import sys, arena_ckpt as ac\nac.allocate([0, 1], [2, 3], [64, 32])"
    modules = loaded(code)
    assert "arena_ckpt.allocation.search" in modules
    assert modules & (HEAVY | OURS) == set()
