"""`arena-ckpt report`: files, letters and refusals, as people see them."""

from __future__ import annotations

import base64
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from arena_ckpt.cli import main
from arena_ckpt.examples import load_example
from arena_ckpt.report.ascii_map import FREE, LABEL_COLUMNS, LETTERS, plan_ascii
from arena_ckpt.report.picture import MOST_VECTORS, plan_svg

PLAN = load_example("digits_mlp").model.make_plan()
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", *arguments])


def worked(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    """Run what has to fail; return the message."""
    before = set(Path.cwd().iterdir())
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert set(Path.cwd().iterdir()) == before, "nothing is written on failure"
    return result.stderr.partition("error: ")[2]


def test_without_options_the_page_is_report_html() -> None:
    assert "report.html" in worked("digits_mlp")
    assert Path("report.html").read_text("utf-8").startswith("<!doctype html>")


def test_each_format_goes_where_it_is_told() -> None:
    said = worked("digits_mlp", "-o", "a.html", "--png", "a.png", "--svg", "a.svg")
    assert [line.rpartition(" ")[2] for line in said.splitlines()] == [
        "a.html",
        "a.png",
        "a.svg",
    ]
    assert Path("a.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    root = ET.fromstring(Path("a.svg").read_text("utf-8"))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "digits_mlp" in texts
    assert "recomputed activation" in texts


def test_letters_only_print() -> None:
    assert worked("digits_mlp", "--ascii").startswith("     phase  FFF")
    assert list(Path.cwd().iterdir()) == []


def test_json_names_what_was_written() -> None:
    document = json.loads(
        worked("digits_mlp", "--json", "--compare-blocks", "-o", "a.html")
    )
    assert document["html_file"] == "a.html"
    assert document["png_file"] is None
    assert document["arena_bytes"] == PLAN.arena_bytes
    assert document["before_arena_bytes"] > PLAN.arena_bytes


def page_of(path: str) -> dict[str, Any]:
    """Return what a page knows but for the columns of its plans."""
    text = Path(path).read_text("utf-8")
    packed = text.partition('id="page">')[2].partition("<")[0]
    document: dict[str, Any] = json.loads(base64.b64decode(packed))
    return document


def test_the_steps_are_run_for_the_time_axis() -> None:
    worked("digits_mlp", "--measured", "--compare-blocks", "-o", "a.html")
    worked("digits_mlp", "-o", "b.html")
    measured = [
        "step_nanoseconds" in {column["name"] for column in plan["contents"]}
        for name in ("a.html", "b.html")
        for plan in page_of(name)["plans"]
    ]
    assert measured == [True, True, False]


def test_what_cannot_be_measured_is_refused() -> None:
    assert "only the page has a time axis" in refused(
        "digits_mlp", "--measured", "--ascii"
    )
    Path("old.json").write_text(PLAN.to_json())
    assert "whose steps cannot be run" in refused("old.json", "--measured")
    worked("digits_mlp", "--measured", "--compare", "old.json", "-o", "a.html")


def test_a_saved_plan_can_stand_for_a_model() -> None:
    Path("old.json").write_text(PLAN.to_json())
    worked("old.json", "--ascii")
    worked("nine_layer_mlp", "--compare", "old.json", "-o", "a.html")
    assert Path("a.html").exists()


def test_all_plans_of_a_model_are_points_to_choose_from() -> None:
    worked("digits_mlp", "--pareto", "-o", "a.html")
    document = page_of("a.html")
    arenas = [point["arena_bytes"] for point in document["front"]]
    assert len(arenas) > 2
    assert arenas == sorted(arenas)
    asked = ("digits_mlp", "--pareto", "--max-overhead", "10%")
    assert "means nothing" in refused(*asked)


def test_the_plan_of_a_budget_is_marked_on_the_front() -> None:
    asked = ("--budget", "480KiB", "--pareto", "-o", "a.html")
    shown = json.loads(worked("digits_mlp", "--json", *asked))
    page = Path("a.html").read_text("utf-8")
    document = json.loads(
        base64.b64decode(page.partition('id="page">')[2].partition("<")[0])
    )
    axes, front = document["front_axes"], document["front"]
    assert axes["budget_bytes"] == 480 * 1024
    fastest = front[axes["fastest"]]
    assert fastest["arena_bytes"] == shown["arena_bytes"] <= 480 * 1024
    assert front[axes["fastest"] + 1]["arena_bytes"] > 480 * 1024
    told = run("digits_mlp", "--pareto", "--budget", "1KiB")
    assert told.exit_code == 1
    assert "no plan fits in 1.00 KiB" in told.stderr


def test_a_plan_for_a_budget_is_compared_with_all_kept() -> None:
    document = json.loads(
        worked("digits_mlp", "--json", "--budget", "480KiB", "--compare-blocks")
    )
    assert document["arena_bytes"] <= 480 * 1024 < document["before_arena_bytes"]


def test_a_plan_that_cannot_be_read_is_refused() -> None:
    document = json.loads(PLAN.to_json())
    Path("old.json").write_text(json.dumps(document | {"version": 1}))
    assert "version 1" in refused("old.json")
    Path("cut.json").write_text(PLAN.to_json()[:2000])
    assert "cut.json" in refused("cut.json")
    assert "there.json cannot be read" in refused("there.json")
    Path("good.json").write_text(PLAN.to_json())
    assert "finished plan" in refused("good.json", "--batch-size", "3")
    assert "finished plan" in refused("good.json", "--compare-blocks")


def test_options_that_contradict_each_other_are_refused() -> None:
    assert "exclude" in refused("digits_mlp", "--compare", "x", "--compare-blocks")
    assert "keep one" in refused("digits_mlp", "--no-blocks", "--compare-blocks")
    assert "only the page" in refused("digits_mlp", "--compare-blocks", "--ascii")
    Path("plain.py").write_text(
        "import arena_ckpt as ac\n"
        "def build():\n"
        "    model = ac.Model()\n"
        '    model.add_layer("input", name="in", input_shape="1:1:4")\n'
        '    model.add_layer("mse", name="loss")\n'
        "    return model\n"
    )
    assert "recomputes nothing" in refused("plain.py:build", "--compare-blocks")
    assert "twice" in refused("digits_mlp", "--png", "a", "--svg", "a")


def test_places_that_cannot_be_written_are_named_before_the_work() -> None:
    assert "there is no folder" in refused("digits_mlp", "-o", "no/where.html")
    assert "no/map.svg" in refused("digits_mlp", "--svg", "no/map.svg")


def test_a_png_needs_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert "arena-ckpt[png]" in refused("digits_mlp", "--png", "a.png")
    worked("digits_mlp", "--svg", "a.svg")


def test_letters_are_those_of_the_kinds_that_are_there() -> None:
    columns, rows = 80, 24
    lines = plan_ascii(PLAN, columns, rows).splitlines()
    assert all(len(line) <= columns for line in lines)
    width = columns - LABEL_COLUMNS - 1
    cells = [line[LABEL_COLUMNS + 1 :].ljust(width) for line in lines[1 : rows + 1]]
    n_right = 0
    for row, text in enumerate(cells):
        for column, letter in enumerate(text):
            step = int((column + 0.5) * len(PLAN.steps) / width)
            byte = (rows - row - 0.5) / rows * PLAN.arena_bytes
            there = FREE
            for buffer in PLAN.alive_at(step):
                end = buffer.offset_bytes + PLAN.taken_bytes(buffer.size_bytes)
                if buffer.offset_bytes <= byte < end:
                    there = LETTERS[PLAN.tensor_in(buffer, step).kind]
            n_right += letter == there
    # What fills most of a cell is mostly what lies at its middle.
    assert n_right > 0.9 * rows * width
    peak = lines[rows + 1].index("^") - LABEL_COLUMNS - 1
    assert abs(peak / width - (PLAN.peak_step + 0.5) / len(PLAN.steps)) < 1.5 / width


def test_a_narrow_terminal_is_kept_to() -> None:
    assert max(map(len, plan_ascii(PLAN, 40, 8).splitlines())) <= 40


def test_names_in_a_picture_are_text() -> None:
    text = plan_svg(PLAN, '<script>alert("1")</script>\x07')
    root = ET.fromstring(text)
    assert root.find(f"{SVG}script") is None
    assert any('alert("1")' in (e.text or "") for e in root.iter(f"{SVG}text"))


def test_many_rectangles_are_pixels_in_an_svg(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_VECTORS > 1000
    monkeypatch.setattr("arena_ckpt.report.picture.MOST_VECTORS", 10)
    root = ET.fromstring(plan_svg(PLAN))
    (image,) = root.iter(f"{SVG}image")
    assert image.attrib["href"].startswith("data:image/png;base64,")
