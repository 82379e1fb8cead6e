"""NNTrainer's dumps of tensors: read, placed anew and checked."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.recordings import RECORDINGS

from arena_ckpt.allocation.minimalloc_csv import read_buffers
from arena_ckpt.cli import main
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import BufferFileError
from arena_ckpt.planning.timeline import Step
from arena_ckpt.report.buffer_plan import plan_of_buffers

HEADER = "name,bytes,start,end_excl,offset,is_wgrad,lifespan,exec_order\n"
DUMP = HEADER + (
    "fc1:out0,64,1,6,0,0,7,1 2 5 \n"
    "fc1:out0:grad,64,5,8,64,0,6,5 7 4294967294 \n"
    "fc1:weight:grad,16,7,9,0,1,14,7 8 \n"
    "mse:out0,8,2,3,128,0,1,2 \n"
)
"""At most 128 bytes live at once, in step 5; the layout in it takes 136."""
PLANS = RECORDINGS / "plans"
NAMES = (
    "deep24_gelu_b64_none",
    "deep24_gelu_b64_safe4",
    "deep6_none",
    "deep6_safe2",
    "mlp_adam_doc",
    "mlp_adam_none",
    "mlp_adam_safe",
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.tensor.csv").write_text(DUMP)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["allocate", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_dump_is_placed_anew_and_its_own_layout_is_checked() -> None:
    table = read_buffers(Path("d.tensor.csv"))
    assert table.ids == ("fc1:out0", "fc1:out0:grad", "fc1:weight:grad", "mse:out0")
    assert table.buffers.lower.tolist() == [1, 5, 7, 2]
    assert table.buffers.upper.tolist() == [6, 8, 9, 3]
    assert table.buffers.size.tolist() == [64, 64, 16, 8]
    assert table.offset == (0, 64, 0, 128)
    said = run("d.tensor.csv", "-o", "out.csv")
    assert "height:       128 B, proved optimal" in said
    assert "valid: 4 buffers, height 136" in run("--check", "d.tensor.csv")
    assert Path("out.csv").read_text().splitlines()[0] == "id,size,lower,upper,offset"
    assert "height 128" in run("--check", "out.csv")


def test_a_page_shows_the_new_layout_and_the_one_in_the_dump() -> None:
    assert "the page is in map.html" in run("d.tensor.csv", "--html", "map.html")
    assert "the page is in own.html" in run(
        "--check", "d.tensor.csv", "--html", "own.html"
    )
    page = page_of("map.html")
    assert [plan["title"] for plan in page["plans"]] == ["d.tensor.csv", "in the file"]
    assert [plan["arena_bytes"] for plan in page["plans"]] == [128, 136]
    assert [plan["live_lower_bound_bytes"] for plan in page["plans"]] == [128, 128]
    (own,) = page_of("own.html")["plans"]
    assert own["arena_bytes"] == 136
    # Offsets that collide are no layout to compare with.
    Path("d.tensor.csv").write_text(DUMP.replace(",5,8,64,", ",5,8,0,"))
    run("d.tensor.csv", "--html", "map.html")
    assert len(page_of("map.html")["plans"]) == 1


def page_of(path: str) -> dict[str, Any]:
    found = re.search(r'id="page"[^>]*>([^<]+)<', Path(path).read_text())
    assert found is not None
    return json.loads(base64.b64decode(found[1]))


def test_steps_and_kinds_are_those_of_the_names() -> None:
    text = DUMP + "fc1:out0_initial,64,0,1,0,0,1,0 \nfc1:weight,16,0,9,0,0,14,1 \n"
    Path("d.tensor.csv").write_text(text)
    table = read_buffers(Path("d.tensor.csv"))
    offset = np.arange(6) * 64
    plan = plan_of_buffers(
        "d.tensor.csv", table, offset, lower_bound_bytes=1, engine="none"
    )
    assert [str(tensor.kind) for tensor in plan.tensors] == [
        *("recomputed_activation", "derivative", "gradient"),
        *("activation", "activation", "weight"),
    ]
    assert [
        step and (step.phase.name.lower(), step.layer) for step in plan.steps[:3]
    ] == [
        *(("forward", "fc1"), ("recompute", "fc1"), ("forward", "mse")),
    ]

    assert plan.steps[7] == Step(Phase.CALC_GRADIENT, "fc1")
    assert plan.n_forward == 5


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("id,lower,upper,size\na,0,1,2\n", (), "does not say what its buffers are"),
        (DUMP.replace(",7,9,", ",7,900000,"), (), "through 899,999 steps"),
        (DUMP, ("--pools", "64,64"), "--html shows one block"),
        (DUMP, ("-o", "map.html"), "--html and another option are both map.html"),
        (DUMP, ("--png", "map.html"), "--html and another option are both map.html"),
    ],
)
def test_pages_that_cannot_be(text: str, options: tuple[str, ...], said: str) -> None:
    Path("d.tensor.csv").write_text(text)
    for check in ((), ("--check",)) if not options else ((),):
        words = ["allocate", *check, "d.tensor.csv", "--html", "map.html", *options]
        if check and "lower" in text:
            continue  # it has no offsets to check
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2, result.output
        assert said in " ".join(result.stderr.split())
        assert not Path("map.html").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DUMP.replace("bytes,", "byte,", 1), "unknown column 'byte'"),
        (DUMP.replace("name,", "id,name,", 1), "'id' and 'name'"),
        (
            DUMP.replace(",64,1,6", ",many,1,6"),
            "row 2 (id 'fc1:out0') has bytes 'many'",
        ),
        (DUMP.replace(",1,6,", ",6,1,"), "row 2 (id 'fc1:out0')"),
        ("id,lower,upper,size,lifespan\na,0,1,2,3\n", "unknown column 'lifespan'"),
    ],
)
def test_what_is_wrong_is_named_in_the_words_of_the_file(text: str, said: str) -> None:
    Path("d.tensor.csv").write_text(text)
    with pytest.raises(BufferFileError) as caught:
        read_buffers(Path("d.tensor.csv"))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_recorded_plans_are_valid_and_their_bound_is_reached(name: str) -> None:
    path = PLANS / f"{name}.tensor.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there: NNTrainer's recordings are not at hand")
    assert run("--check", str(path)).startswith("valid: ")
    said = run(str(path), "--node-limit", "50000")
    assert "proved optimal" in said
    assert "proved by the bytes alive in one step" in said
