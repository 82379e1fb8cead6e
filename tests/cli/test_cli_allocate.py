"""`arena-ckpt allocate`: layouts, verdicts and pictures, as people see them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from arena_ckpt.allocation import Layout, single
from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.cli import main
from arena_ckpt.report import layout_png

# a and b live together, c after a: 8 + 4 bytes are needed, 20 without reuse.
THREE = "id,lower,upper,size\na,0,4,8\nb,2,8,4\nc,4,8,8\n"
LAID = "id,lower,upper,size,offset\na,0,4,8,0\nb,2,8,4,8\nc,4,8,8,0\n"

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def hard(n: int = 60) -> str:
    """Return buffers whose greedy layouts are above the bound."""
    rng = np.random.default_rng(3)
    lower = rng.integers(0, 40, n)
    upper = lower + rng.integers(1, 15, n)
    rows = zip(lower, upper, rng.integers(1, 100, n), strict=True)
    lines = [f"b{i},{lo},{up},{size}\n" for i, (lo, up, size) in enumerate(rows)]
    return "id,lower,upper,size\n" + "".join(lines)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text(THREE)
    (tmp_path / "laid.csv").write_text(LAID)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["allocate", *arguments])


def worked(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str, code: int = 2) -> str:
    """Run what has to fail; return the message."""
    before = set(Path.cwd().iterdir())
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert set(Path.cwd().iterdir()) == before, "nothing is written on failure"
    return result.stderr.partition("error: ")[2]


def checked(text: str, *arguments: str) -> str:
    Path("answer.csv").write_text(text)
    return refused("--check", "answer.csv", *arguments, code=1)


def offsets(text: str) -> dict[str, int]:
    rows = csv.DictReader(io.StringIO(text))
    return {row["id"]: int(row["offset"]) for row in rows}


# -- layouts ---------------------------------------------------------------------------


def test_summary_tells_height_bound_proof_engine_and_gain() -> None:
    summary = worked("in.csv")
    assert "in.csv: 3 buffers\n" in summary
    assert "height:       12 B, proved optimal\n" in summary
    assert "lower bound:  12 B, proved by the bytes alive in one step\n" in summary
    assert "sum of sizes: 20 B, 40.0 % saved\n" in summary
    assert "engine:       " in summary
    assert " nodes in " in summary
    assert sorted(path.name for path in Path().iterdir()) == ["in.csv", "laid.csv"]


def test_output_is_a_layout_that_passes_the_check() -> None:
    assert "the layout is in out.csv\n" in worked("in.csv", "-o", "out.csv")
    assert worked("--check", "out.csv") == "valid: 3 buffers, height 12 B\n"


def test_output_dash_keeps_standard_output_for_the_csv() -> None:
    result = run("in.csv", "-o", "-")
    assert result.exit_code == 0
    assert offsets(result.stdout).keys() == {"a", "b", "c"}
    assert result.stdout.startswith("id,lower,upper,size,offset\na,0,4,8,")
    assert "height:       12 B" in result.stderr


def test_json_is_one_document() -> None:
    document = json.loads(worked("in.csv", "--json", "-o", "out.csv"))
    assert document["height_bytes"] == document["lower_bound_bytes"] == 12
    assert document["proof"] == "live bytes"
    assert document["proved_optimal"] is True
    assert document["sum_bytes"] == 20
    assert document["capacity_bytes"] is None
    assert document["stats"].keys() == {"nodes", "seconds", "interrupted"}
    assert document["output_file"] == "out.csv"
    answer = {each["id"]: each["offset"] for each in document["offsets"]}
    assert answer == offsets(Path("out.csv").read_text())


def test_a_gap_to_the_bound_is_told_and_never_rounded_to_nothing() -> None:
    Path("hard.csv").write_text(hard())
    document = json.loads(worked("hard.csv", "--engine", "greedy", "--json"))
    assert document["engine"] != "exact"
    height, bound = document["height_bytes"], document["lower_bound_bytes"]
    assert height > bound
    text = worked("hard.csv", "--engine", "greedy")
    assert f"at most {layout_png.percent_above(height, bound)} above" in text
    assert layout_png.percent_above(10**9 + 1, 10**9) == "0.01 %"


def test_node_limit_and_seed_make_the_answer_the_same_everywhere() -> None:
    Path("hard.csv").write_text(hard())
    arguments = ("hard.csv", "-o", "-", "--node-limit", "3000", "--engine", "large")
    assert worked(*arguments, "--seed", "7") == worked(*arguments, "--seed", "7")


@pytest.mark.parametrize("engine", ["auto", "greedy", "exact", "large"])
def test_engines(engine: str) -> None:
    assert "height:       12 B" in worked("in.csv", "--engine", engine)


def test_capacity_that_is_enough() -> None:
    assert "capacity:     1.00 KiB (1,024 B), it fits" in worked(
        "in.csv", "--capacity", "1KiB"
    )


def test_given_offsets_are_kept() -> None:
    Path("fixed.csv").write_text(
        THREE.replace("size\n", "size,offset\n")
        .replace("8\nb", "8,16\nb")
        .replace("4\nc", "4,\nc")
        .replace("8,8\n", "8,8,\n")
    )
    assert offsets(worked("fixed.csv", "-o", "-"))["a"] == 16


def test_crlf_and_gzip() -> None:
    Path("crlf.csv").write_bytes(THREE.replace("\n", "\r\n").encode())
    Path("in.csv.gz").write_bytes(gzip.compress(THREE.encode()))
    expected = worked("in.csv", "-o", "-")
    assert worked("crlf.csv", "-o", "-") == expected
    assert worked("in.csv.gz", "-o", "-") == expected
    Path("laid.csv").write_bytes(LAID.replace("\n", "\r\n").encode())
    assert worked("--check", "laid.csv").startswith("valid: 3 buffers")


def test_ctrl_c_writes_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> None:
        original(*arguments)
        raise KeyboardInterrupt

    original = single.try_orders
    monkeypatch.setattr(single, "try_orders", interrupt)
    result = run("in.csv", "-o", "out.csv")
    assert result.exit_code == 130
    assert "warning: interrupted" in result.stdout
    assert "height 12 B" in worked("--check", "out.csv")
    Path("hard.csv").write_text(hard())
    bound = json.loads(run("hard.csv", "--json").stdout)["lower_bound_bytes"]
    message = refused("hard.csv", "--capacity", str(bound), code=130)
    assert "interrupted after" in message


# -- refusals --------------------------------------------------------------------------


def test_missing_file() -> None:
    assert "none.csv" in refused("none.csv")
    assert "FILE.csv" in refused()


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("d,5,5,8", "row 5 (id 'd')"),
        ("d,5,six,8", "row 5 (id 'd') has upper 'six'"),
        ("d,5,6", "row 5 (id 'd') has 3 cells"),
        ("a,5,6,8", "row 5 (id 'a') has the id of row 2"),
    ],
)
def test_bad_rows_are_named(row: str, named: str) -> None:
    Path("in.csv").write_text(f"{THREE}{row}\n")
    assert named in refused("in.csv", "-o", "out.csv")


def test_fixed_offsets_that_collide_are_named_by_row() -> None:
    Path("in.csv").write_text(LAID.replace("b,2,8,4,8", "b,2,8,4,7"))
    message = refused("in.csv")
    assert "fixed offsets collide" in message
    assert "row 2 (id 'a')" in message
    assert "row 3 (id 'b')" in message


def test_capacity_that_is_proved_too_small_names_ids() -> None:
    message = refused("in.csv", "--capacity", "11", "-o", "out.csv", code=1)
    assert "cannot fit in 11 B" in message
    assert "row 3 (id 'b')" in message
    document = json.loads(run("in.csv", "--capacity", "11", "--json").stdout)
    assert document["error"]["type"] == "CapacityError"
    assert document["error"]["exit_code"] == 1


def test_not_known_is_3_and_writes_nothing() -> None:
    Path("hard.csv").write_text(hard())
    found = json.loads(worked("hard.csv", "--engine", "greedy", "--json"))
    bound = found["lower_bound_bytes"]
    message = refused(
        *("hard.csv", "--capacity", str(bound), "--engine", "greedy"),
        *("-o", "out.csv", "--png", "out.png"),
        code=3,
    )
    assert "not known whether the 60 buffers fit" in message
    assert "nothing was written" in message
    assert f"{found['height_bytes']:,} B" in message


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--capacity", "much"), "'much' is no memory size"),
        (("--engine", "fast"), "no engine 'fast'; engines are auto, greedy"),
        (("--time-limit", "-1"), "-1"),
        (("--time-limit", "nan"), "nan"),
        (("--node-limit", "-1"), "-1"),
        (("--seed", "x"), "'x'"),
        (("-o", "none/out.csv"), "there is no folder none"),
        (("--png", "none/out.png"), "there is no folder none"),
        (("-o", "."), "directory"),
        (("-o", "-", "--json"), "both want standard output"),
        (("-o", "x", "--png", "x"), "give two files"),
        (("--check", "-o", "x"), "--output means nothing"),
        (("--pools", "8,a=8"), "some pools have names and some have not"),
        (("--pools", "a=8,a=9"), "--pools names 'a' twice"),
        (("--pools", "=8"), "--pools has the name ''"),
        (("--pools", "a b=8"), "--pools has the name 'a b'"),
        (("--pools", "a=8,b=x"), "pool 'b' has the size 'x'"),
        (("--pools", "8,x"), "'x' is no memory size"),
        (("--pools", "a=unlimited,b=8"), "pool 'a' has the size None"),
        (("--pools", "8,unlimited", "--capacity", "9"), "both given"),
        (("--check", "--time-limit", "2"), "--time-limit means nothing"),
    ],
)
def test_bad_options(arguments: tuple[str, ...], named: str) -> None:
    assert named in refused("in.csv", *arguments)


def test_unwritable_output_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(single, "_search", lambda *_: pytest.fail("it worked"))
    refused("in.csv", "-o", "none/out.csv")


# -- pools -----------------------------------------------------------------------------

POOLED = "id,lower,upper,size,pools,weight\na,0,4,8,,3\nb,2,8,4,sram,1\nc,4,8,8,0,.5\n"


def test_buffers_are_spread_over_pools_and_the_answer_passes_the_check() -> None:
    Path("pooled.csv").write_text(POOLED)
    pools = ("--pools", "dtcm=10,sram=1KiB")
    summary = worked("pooled.csv", *pools, "-o", "out.csv")
    assert "pool 'dtcm':  8 B of 10 B, 2 buffers\n" in summary
    assert "pool 'sram':  4 B of 1.00 KiB (1,024 B), 1 buffer\n" in summary
    assert "spilled:      1 buffer, a weight of 1, proved least\n" in summary
    assert "height:" not in summary
    assert Path("out.csv").read_text() == (
        "id,lower,upper,size,pools,weight,offset,pool\n"
        "a,0,4,8,,3,0,0\nb,2,8,4,sram,1,0,1\nc,4,8,8,0,0.5,0,0\n"
    )
    valid = "valid: 3 buffers in 2 pools, height 12 B\n"
    assert worked("--check", "out.csv", *pools) == valid
    again = worked("out.csv", *pools, "-o", "again.csv")
    assert "the column pool was not used" not in again
    assert Path("again.csv").read_text() == Path("out.csv").read_text()


def test_pools_without_names_count_bytes_and_steps() -> None:
    summary = worked("in.csv", "--pools", "10,unlimited")
    assert "pool 0:       8 B of 10 B, 2 buffers\n" in summary
    assert "pool 1:       4 B of any size, 1 buffer\n" in summary
    assert "spilled:      1 buffer, 24 B × steps, proved least\n" in summary


def test_a_document_says_what_lies_in_each_pool() -> None:
    Path("pooled.csv").write_text(POOLED)
    arguments = ("pooled.csv", "--pools", "dtcm=10,sram=unlimited", "--json")
    document = json.loads(worked(*arguments))
    assert document["pools"] == [
        {
            "pool": 0,
            "name": "dtcm",
            "size_bytes": 10,
            "height_bytes": 8,
            "n_buffers": 2,
        },
        {
            "pool": 1,
            "name": "sram",
            "size_bytes": None,
            "height_bytes": 4,
            "n_buffers": 1,
        },
    ]
    assert document["offsets"][1] == {"id": "b", "offset": 0, "pool": 1}
    assert document["stats"]["spilled_weight"] == 1
    assert "pools" not in json.loads(worked("in.csv", "--json"))


def test_the_column_pool_pins_and_a_fixed_offset_needs_it() -> None:
    header = "id,lower,upper,size,offset,pool\n"
    Path("pinned.csv").write_text(header + "a,0,4,8,2,1\nb,2,8,4,,\nc,4,8,8,,0\n")
    worked("pinned.csv", "--pools", "12,12", "-o", "out.csv")
    assert Path("out.csv").read_text() == (
        header + "a,0,4,8,2,1\nb,2,8,4,0,0\nc,4,8,8,4,0\n"
    )
    Path("loose.csv").write_text(header + "a,0,4,8,2,\nb,2,8,4,,\n")
    message = refused("loose.csv", "--pools", "12,12")
    assert "does not say in which pool" in message
    assert "row 2 (id 'a')" in message


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("b,2,8,4,sarm,1,", ("'sarm', which does not exist", "row 3 (id 'b')")),
        ("b,2,8,4,sram,1,0", ("row 3 (id 'b') is in pool 'dtcm' by its cell pool",)),
        ("b,2,8,4,,1,7", ("may lie in pool 7, which does not exist", "row 3")),
    ],
)
def test_pools_in_a_file_that_make_no_sense(row: str, named: tuple[str, ...]) -> None:
    header = "id,lower,upper,size,pools,weight,pool\na,0,4,8,,3,\n"
    Path("wrong.csv").write_text(header + row + "\n")
    message = refused("wrong.csv", "--pools", "dtcm=10,sram=12")
    assert message.startswith("wrong.csv: ")
    assert all(each in message for each in named), message


def test_a_pin_to_a_pool_too_small_names_row_and_numbers() -> None:
    Path("pooled.csv").write_text(POOLED)
    message = refused("pooled.csv", "--pools", "dtcm=7,sram=12", code=1)
    assert "takes 8 B and may lie only in pool 'dtcm', which has 7 B" in message
    assert "row 4 (id 'c')" in message


def test_not_known_whether_pools_hold_them() -> None:
    text = "id,lower,upper,size\na,0,2,5\nb,0,2,5\nc,0,2,5\n"
    Path("tight.csv").write_text(text)
    arguments = ("tight.csv", "--pools", "8,7", "--node-limit", "0")
    message = refused(*arguments, code=3)
    assert "not known whether the buffers fit in pools of 8 B and 7 B" in message
    assert "or a size of --pools" in message


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("--pools", "dtcm=7,sram=12"), "pool: row 2 (id 'a')"),
        (("--pools", "sram=12,dtcm=12"), "allowed: row 3 (id 'b')"),
    ],
)
def test_check_with_pools_names_the_rule(arguments: tuple[str, ...], rule: str) -> None:
    laid = "id,lower,upper,size,pools,offset,pool\na,0,4,8,,0,0\nb,2,8,4,sram,0,1\n"
    message = checked(laid, *arguments)
    assert f"breaks the rule of {rule}" in message


def test_check_with_pools_needs_the_column_pool() -> None:
    message = refused("--check", "laid.csv", "--pools", "8,8")
    assert "in no column pool" in message


# -- check -----------------------------------------------------------------------------


def test_check_with_capacity_and_pools() -> None:
    assert worked("--check", "laid.csv", "--capacity", "12").startswith("valid: 3")
    Path("pools.csv").write_text(
        "id,lower,upper,size,offset,pool\na,0,4,8,0,0\nb,2,8,4,0,5\nc,4,8,8,0,0\n"
    )
    text = worked("--check", "pools.csv")
    assert text == "valid: 3 buffers in 2 pools, height 12 B\n"
    document = json.loads(worked("--check", "pools.csv", "--json"))
    assert document["valid"] is True
    assert document["height_bytes"] == 12


@pytest.mark.parametrize(
    ("answer", "rule", "named"),
    [
        (LAID.replace("4,8\n", "4,7\n"), "overlap", ("row 2 (id 'a')", "'b'")),
        (LAID.replace("4,8\n", "4,-4\n"), "height", ("row 3 (id 'b')",)),
        (
            "id,lower,upper,size,alignment,offset\na,0,4,8,1,0\nb,2,8,4,16,8\n",
            "alignment",
            ("row 3 (id 'b')",),
        ),
        (
            "id,lower,upper,size,group,offset\na,0,4,8,g,0\nb,2,8,4,g,9\n",
            "group",
            ("row 2 (id 'a')", "row 3 (id 'b')"),
        ),
        (
            "id,lower,upper,size,gaps,offset\na,0,8,8,2-6@0:4,0\nb,2,6,4,,3\n",
            "gap",
            ("row 2 (id 'a')", "row 3 (id 'b')"),
        ),
        (
            "id,lower,upper,size,offset,pool\na,0,4,8,0,0\nb,2,8,4,0,-1\n",
            "pool",
            ("row 3 (id 'b')",),
        ),
        (
            "id,lower,upper,size,offset,pool\na,0,4,8,0,1\nb,2,8,4,4,1\n",
            "overlap",
            ("row 2 (id 'a')", "pool 1"),
        ),
    ],
)
def test_check_names_rule_and_rows(
    answer: str, rule: str, named: tuple[str, ...]
) -> None:
    message = checked(answer)
    assert message.startswith(f"answer.csv: layout breaks the rule of {rule}: ")
    assert all(each in message for each in named), message


def test_check_against_a_capacity() -> None:
    message = checked(LAID, "--capacity", "11")
    assert "rule of height: row 3 (id 'b')" in message


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (THREE, "no column offset"),
        (LAID.replace("4,8\n", "4,\n"), "row 3 (id 'b') has no offset"),
        (
            "id,lower,upper,size,offset,pool\na,0,4,8,0,0\nb,2,8,4,0,\n",
            "row 3 (id 'b') has no pool",
        ),
    ],
)
def test_check_of_what_is_no_answer(answer: str, named: str) -> None:
    Path("answer.csv").write_text(answer)
    assert named in refused("--check", "answer.csv")


# -- pictures --------------------------------------------------------------------------


def picture(*arguments: str) -> Any:
    image = pytest.importorskip("PIL.Image")
    worked(*arguments, "--png", "map.png")
    assert Path("map.png").read_bytes().startswith(PNG_MAGIC)
    with image.open("map.png") as opened:
        return np.asarray(opened)


def test_png_has_its_size_and_the_colours_of_the_buffers() -> None:
    pixels = picture("--check", "laid.csv")
    assert pixels.shape == (900, 1600, 3)
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    assert layout_png.FREE_MEMORY in colours
    assert layout_png.SIZE_COLOURS[0] in colours  # of the 4 bytes
    assert layout_png.SIZE_COLOURS[-1] in colours  # of the 8
    assert layout_png.INK in colours
    # At the step 1 only `a` lives: its bytes, then free ones, up to the top.
    x = layout_png.LEFT + (1600 - layout_png.LEFT - layout_png.RIGHT) // 8
    assert tuple(pixels[900 - layout_png.BOTTOM - 60, x]) == layout_png.SIZE_COLOURS[-1]
    assert tuple(pixels[layout_png.TOP + 80, x]) == layout_png.FREE_MEMORY


def test_png_of_a_search() -> None:
    Path("hard.csv").write_text(hard())
    pixels = picture("hard.csv", "--engine", "greedy")
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    assert layout_png.BOUND_INK in colours, "the bound is below the height"


def plot(buffers: Any, offset: list[int], pool: list[int] | None = None) -> Any:
    """Return the part of a picture with the buffers, without levels and text."""
    layout = Layout(
        np.array(offset),
        int((np.array(offset) + buffers.size).max()),
        0,
        "test",
        None if pool is None else np.array(pool),
    )
    scale = layout_png._Scale.of(buffers, layout)
    rectangles = layout_png._rectangles(
        buffers, layout_png._stacked_offset(buffers, layout), scale
    )
    colours = np.zeros((len(buffers), 3), dtype=np.uint8)
    return layout_png.paint(rectangles, colours)


def darkness(pixels: Any) -> float:
    """Return the covered area in pixels, of buffers that are painted black."""
    free = layout_png.FREE_MEMORY[0]
    return float((1 - pixels[:, :, 0] / free).sum())


def test_rectangles_under_a_pixel_cover_what_they_should() -> None:
    n = 20_000  # 20 000 steps on 1 280 columns, every other one taken
    lower = np.arange(0, 2 * n, 2)
    buffers = make_buffers(lower, lower + 1, np.full(n, 100))
    pixels = plot(buffers, [0] * n)
    covered = pixels[-100:, 2:-2, 0] / layout_png.FREE_MEMORY[0]
    assert covered.mean() == pytest.approx(0.5, abs=0.01)
    assert covered.std() < 0.05, "even, not striped"


def test_gaps_stay_open_and_windows_are_drawn() -> None:
    buffers = make_buffers([0], [8], [8], gaps=[[(2, 6, 0, 4)]])
    pixels = plot(buffers, [0])
    rows, columns = pixels.shape[:2]
    column = pixels[:, columns // 2, 0]
    top = rows - rows / layout_png.ROOM_ABOVE
    assert column[int(top) + 20] == layout_png.FREE_MEMORY[0]
    assert column[-20] == 0
    area = rows / layout_png.ROOM_ABOVE * columns * 0.75
    assert darkness(pixels) == pytest.approx(area, rel=1e-3)


def test_pools_stand_one_on_the_other() -> None:
    buffers = make_buffers([0, 0], [8, 8], [8, 8])
    both = plot(buffers, [0, 8])
    layout_height = layout_png.ROOM_ABOVE
    stacked = layout_png._stacked_offset(
        buffers, Layout(np.array([0, 0]), 16, 0, "test", np.array([3, 9]))
    )
    assert stacked.tolist() == [0, 8]
    assert darkness(both) == pytest.approx(both[:, :, 0].size / layout_height, rel=1e-3)


def test_missing_pillow_is_named_before_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    message = refused("in.csv", "--png", "map.png", "-o", "out.csv")
    assert "pip install arena-ckpt[png]" in message


def test_help_fits_a_terminal() -> None:
    text = worked("--help")
    assert max(map(len, text.splitlines())) <= 88
    assert "arena-ckpt allocate --check layout.csv" in text


def test_a_layout_that_takes_more_than_all_sizes_says_so() -> None:
    Path("forced.csv").write_text("id,lower,upper,size,offset\na,0,2,8,\nb,1,3,8,4\n")
    assert "sum of sizes: 16 B, 25.0 % more" in worked("forced.csv")
