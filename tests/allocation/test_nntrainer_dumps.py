"""NNTrainer's dumps of tensors: read, placed anew and checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.recordings import RECORDINGS

from arena_ckpt.allocation.minimalloc_csv import read_buffers
from arena_ckpt.cli import main
from arena_ckpt.errors import BufferFileError

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
