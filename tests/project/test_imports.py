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


def test_every_example_is_planned_without_numba() -> None:
    """Each as in a process of its own: what plain loops took is set back between."""
    modules = loaded(
        "import sys, arena_ckpt as ac\n"
        "from arena_ckpt.examples import EXAMPLES\n"
        "from arena_ckpt.kernels import hot_loops\n"
        "for name in EXAMPLES:\n"
        "    plan = ac.load_example(name).model.make_plan()\n"
        "    assert plan.proved_optimal, name\n"
        "    assert 'numba' not in sys.modules, name\n"
        "    hot_loops._plain_seconds = 0.0"
    )
    assert modules & {"numba", "llvmlite", "rich", "click"} == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "digits_mlp", "--json"],
        ["plan", "digits_cnn", "--execution-order"],
        ["plan", "digits_mlp", "--calls"],
        ["report", "digits_mlp", "--ascii"],
        ["export", "digits_mlp", "--to", "dot"],
        ["allocate", "--json", "{folder}/buffers.csv"],
        ["examples"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_commands_that_train_nothing_load_no_numba(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "buffers.csv").write_text("id,lower,upper,size\na,0,2,64\nb,1,3,32\n")
    code = (
        "import sys\n"
        "from arena_ckpt.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)"
    )
    given = [argument.format(folder=tmp_path) for argument in arguments]
    assert loaded(code, *given) & {"numba", "llvmlite"} == set()
