"""Reports of plans with constants and with several RAMs."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.frozen import head_only
from helpers.plan_surgery import NETS
from helpers.several_rams import in_rams
from PIL import Image
from rich.console import Console
from rich.table import Table

from arena_ckpt.cli import main
from arena_ckpt.common.units import format_bytes
from arena_ckpt.examples import load_example
from arena_ckpt.planning.plan import Buffer, MemoryPlan
from arena_ckpt.report.ascii_map import LABEL_COLUMNS, plan_ascii
from arena_ckpt.report.columns import plan_columns
from arena_ckpt.report.explain import explain
from arena_ckpt.report.palette import LIGHT, parse_colour
from arena_ckpt.report.picture import LEFT, MAP_BOTTOM, MAP_TOP, plan_png, plan_svg
from arena_ckpt.report.stack import (
    GAP,
    HIGHEST_BAND,
    LOWEST_BAND,
    describe_memory,
    is_arena_alone,
    stack_memories,
)
from arena_ckpt.report.summary import plan_summary
from arena_ckpt.report.tables import (
    biggest_table,
    comparison_table,
    memory_table,
    totals_table,
)

SVG = "{http://www.w3.org/2000/svg}"
KIB = 1024


@cache
def alone() -> MemoryPlan:
    """Everything is trained, in one RAM without a limit."""
    return load_example("digits_mlp").model.make_plan()


@cache
def frozen() -> MemoryPlan:
    """896 bytes of constants, a fiftieth of the RAM."""
    return NETS["frozen"].model().make_plan()


@cache
def head() -> MemoryPlan:
    """More constants than RAM: a frozen trunk."""
    return head_only(load_example("resnet8").model, batch_size=1).make_plan()


@cache
def two() -> MemoryPlan:
    return in_rams(alone(), {"dtcm": 128 * KIB, "sram": 512 * KIB})


@cache
def three() -> MemoryPlan:
    """Three RAMs, of which the last is empty, and constants."""
    sizes = {"dtcm": 16 * KIB, "sram": 512 * KIB, "psram": 8192 * KIB}
    return in_rams(head(), sizes)


@cache
def inferred() -> MemoryPlan:
    """Inference alone, in RAMs as the planner spreads it: all weights are constants."""
    model = load_example("digits_cnn").model
    model.set_property(batch_size=4)
    memories = {"dtcm": "16KiB", "sram": "512KiB"}
    return model.make_plan(mode="inference", memories=memories)


Maker = Callable[[], MemoryPlan]
STACKED = pytest.mark.parametrize("make", [frozen, head, two, three, inferred])


def test_the_plans_are_what_they_say() -> None:
    assert is_arena_alone(alone())
    assert not any(map(is_arena_alone, (frozen(), head(), two(), three())))
    assert frozen().constant_bytes == 896
    assert head().constant_bytes > head().arena_bytes
    heights = [use.height_bytes for use in three().memories.values()]
    assert heights[2] == 0
    assert min(heights[0], heights[1], heights[3]) > 0


# -- the stack -------------------------------------------------------------------------


def test_one_arena_is_its_own_stack() -> None:
    stack = stack_memories(alone())
    assert stack.low.tolist() == [b.offset_bytes for b in alone().buffers]
    assert stack.top == alone().arena_bytes
    assert stack.gap is None


@STACKED
def test_memories_stand_on_each_other_in_their_order(make: Maker) -> None:
    plan = make()
    stack = stack_memories(plan)
    assert [m.use for m in stack.memories] == list(plan.memories.values())
    assert stack.memories[0].low == 0
    for below, above in pairwise(stack.memories):
        gap = GAP * plan.arena_bytes if above.use.is_constant else 0
        assert above.low == pytest.approx(below.high + gap)
    assert stack.top == stack.memories[-1].high


@STACKED
def test_a_byte_of_ram_is_one_of_the_axis_and_buffers_are_apart(
    make: Maker,
) -> None:
    plan = make()
    stack = stack_memories(plan)
    place = {memory.use.name: memory for memory in stack.memories}
    for buffer, low, high in zip(plan.buffers, stack.low, stack.high, strict=True):
        memory = place[buffer.memory]
        assert memory.low <= low < high <= memory.high + 1e-6
        if not buffer.is_constant:
            assert low == memory.low + buffer.offset_bytes
            assert high - low == plan.taken_bytes(buffer.size_bytes)
    for step in range(len(plan.steps)):
        alive = [i for i, b in enumerate(plan.buffers) if b.start <= step < b.stop]
        ends = sorted((stack.low[i], stack.high[i]) for i in alive)
        assert all(a[1] <= b[0] + 1e-6 for a, b in pairwise(ends))


@pytest.mark.parametrize("make", [frozen, head, three])
def test_constants_take_little_of_the_height_and_keep_their_shares(make: Maker) -> None:
    plan = make()
    stack = stack_memories(plan)
    band = stack.memories[-1]
    share = (band.high - band.low) / plan.arena_bytes
    wanted = plan.constant_bytes / plan.arena_bytes
    assert share == pytest.approx(min(max(wanted, LOWEST_BAND), HIGHEST_BAND))
    for buffer, low, high in zip(plan.buffers, stack.low, stack.high, strict=True):
        if buffer.is_constant:
            taken = plan.taken_bytes(buffer.size_bytes)
            height = share * plan.arena_bytes
            assert high - low == pytest.approx(taken / plan.constant_bytes * height)


def test_constants_between_the_limits_are_to_scale() -> None:
    plan = frozen()
    n_bytes = int(0.065 * plan.arena_bytes) // 64 * 64
    last = max((b for b in plan.buffers if b.is_constant), key=lambda b: b.offset_bytes)
    grown = Buffer(
        last.tensor,
        last.kind,
        last.start,
        last.stop,
        last.offset_bytes,
        n_bytes - last.offset_bytes,
        last.tensors,
        last.memory,
    )
    buffers = tuple(grown if b is last else b for b in plan.buffers)
    band = stack_memories(
        replace(plan, buffers=buffers, constant_bytes=n_bytes)
    ).memories[-1]
    assert band.high - band.low == n_bytes


def test_a_memory_in_words() -> None:
    uses = three().memories
    assert describe_memory(uses["dtcm"]).startswith("dtcm ")
    assert re.search(r" of 16 KiB, \d\d\.\d %$", describe_memory(uses["dtcm"]))
    assert describe_memory(uses["dtcm"], with_fill=False).endswith(" of 16 KiB")
    assert describe_memory(uses["constants"]) == "constants 304.9 KiB"


# -- pictures --------------------------------------------------------------------------


def texts_of(plan: MemoryPlan) -> dict[str, tuple[float, float]]:
    root = ET.fromstring(plan_svg(plan, "title"))
    return {
        element.text or "": (float(element.attrib["x"]), float(element.attrib["y"]))
        for element in root.iter(f"{SVG}text")
    }


def lines_across(plan: MemoryPlan) -> set[float]:
    """Return the heights of lines in ink from the left to the right of the map."""
    root = ET.fromstring(plan_svg(plan, "title"))
    return {
        float(line.attrib["y1"])
        for line in root.iter(f"{SVG}line")
        if line.attrib["stroke"] == LIGHT.ink
        and float(line.attrib["x1"]) == LEFT
        and float(line.attrib["y1"]) > MAP_TOP
    }


def test_a_picture_names_the_memories_and_their_sizes() -> None:
    texts = texts_of(three())
    facts = " ".join(texts)
    assert "dtcm 14.94 KiB of 16 KiB" in facts
    assert "psram 0 B of 8 MiB" in facts
    assert f"constants {format_bytes(three().constant_bytes)}" in facts
    assert "above the optimum" not in facts  # of the sum, which is not what is sought
    assert "dtcm" in texts
    assert "constants" in texts
    assert "304.9 KiB" in texts
    assert "psram" not in texts  # it has no height


def test_ticks_count_from_the_start_of_each_ram() -> None:
    stack = stack_memories(two())
    top = stack.top * 1.03
    sram = stack.memories[1]
    root = ET.fromstring(plan_svg(two()))
    at = [
        (text.text, float(text.attrib["y"]))
        for text in root.iter(f"{SVG}text")
        if re.fullmatch(r"[\d.]+ (B|KiB)", text.text or "")
        and float(text.attrib["x"]) < LEFT
    ]
    expected = [("0 B", 0), ("64 KiB", 64 * KIB)]
    expected += [
        (f"{kib} KiB", sram.low + kib * KIB) for kib in (64, 128, 192, 256, 320)
    ]
    for text, n_bytes in expected:
        y = MAP_BOTTOM - n_bytes / top * (MAP_BOTTOM - MAP_TOP)
        assert any(t == text and abs(found - y) < 0.01 for t, found in at), text
    assert len(at) == len(expected)
    heights = sorted(y for _, y in at)
    assert all(b - a > 12 for a, b in pairwise(heights)), "labels touch"


@STACKED
def test_lines_part_the_memories(make: Maker) -> None:
    stack = stack_memories(make())
    wanted = {
        round(MAP_BOTTOM - m.high / (stack.top * 1.03) * (MAP_BOTTOM - MAP_TOP), 2)
        for m in stack.memories
        if not m.use.is_constant
    }
    assert lines_across(make()) == wanted


def test_pixels_show_the_band_and_the_gap() -> None:
    image = np.asarray(Image.open(io.BytesIO(plan_png(head()))))
    stack = stack_memories(head())
    assert stack.gap is not None

    def colour(place: float, step: float) -> tuple[int, ...]:
        y = MAP_BOTTOM - place / (stack.top * 1.03) * (MAP_BOTTOM - MAP_TOP)
        x = LEFT + step / len(head().steps) * (1580 - LEFT)
        return tuple(image[round(y), round(x)].tolist())

    page, free = parse_colour(LIGHT.page), parse_colour(LIGHT.free)
    weight = parse_colour(LIGHT.kinds[head().buffers[0].kind.WEIGHT])
    for step in (1, 50, 100):
        assert colour(sum(stack.gap) / 2, step) == page
        assert colour(stack.top * 1.015, step) == page
        largest = max(
            (i for i, b in enumerate(head().buffers) if b.is_constant),
            key=lambda i: head().buffers[i].size_bytes,
        )
        middle = (stack.low[largest] + stack.high[largest]) / 2
        assert colour(middle, step) == weight
    assert colour(head().arena_bytes * 0.9, 80) == free


# -- letters ---------------------------------------------------------------------------


def test_the_map_has_a_row_of_constants_and_the_arena_below() -> None:
    lines = plan_ascii(head(), 80, 12).splitlines()
    width = 80 - LABEL_COLUMNS - 1
    assert lines[1].strip().startswith("-- constants 304.9 KiB ---")
    assert lines[2].strip() == "W" * width
    assert lines[3].strip().startswith("-- arena 270.4 KiB ---")
    assert lines[4].startswith(" 270.4 KiB")
    assert lines[15].startswith("       0 B")
    assert max(map(len, lines)) <= 80


def test_the_maps_of_rams_share_the_rows() -> None:
    lines = plan_ascii(two(), 80, 20).splitlines()
    heads = [i for i, line in enumerate(lines) if line.strip().startswith("--")]
    assert [lines[i].split()[1] for i in heads] == ["sram", "dtcm"]
    end = next(i for i, line in enumerate(lines) if line.strip().startswith("peak"))
    n_sram, n_dtcm = heads[1] - heads[0] - 1, end - heads[1] - 1
    assert n_sram + n_dtcm == 20
    share = two().memories["sram"].height_bytes / two().arena_bytes
    assert abs(n_sram - 20 * share) < 1
    assert "0 B" in lines[heads[1] - 1]
    assert "0 B" in lines[end - 1]


def test_every_ram_with_buffers_has_a_row() -> None:
    lines = plan_ascii(three(), 40, 1).splitlines()
    names = [line.split()[1] for line in lines if line.strip().startswith("--")]
    assert names == ["constants", "psram", "sram", "dtcm"]
    assert lines[4].strip().startswith("-- sram")  # an empty RAM has no row
    assert max(map(len, lines)) <= 40


# -- numbers ---------------------------------------------------------------------------


def text_of(table: Table, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(table)
    return file.getvalue()


def line_of(table: Table, name: str) -> str:
    (line,) = [x for x in text_of(table).splitlines() if x.startswith(f"{name} ")]
    return line


def test_totals_name_constants_where_there_are_any() -> None:
    line = line_of(totals_table(head()), "constants")
    assert format_bytes(head().constant_bytes) in line
    assert "RAM, proved optimal" in line_of(totals_table(head()), "arena")
    assert "all RAMs together" in line_of(totals_table(two()), "arena")
    assert "constants" not in text_of(totals_table(alone()))


@STACKED
def test_the_table_of_memories_has_what_is_taken_and_touched(make: Maker) -> None:
    for use in make().memories.values():
        line = line_of(memory_table(make()), use.name)
        assert format_bytes(use.height_bytes) in line
        assert format_bytes(use.touched_bytes) in line
    assert ("of " in text_of(memory_table(make()))) == bool(make().rams)


def test_tables_of_memories_fit_into_80_characters() -> None:
    for plan in (head(), two(), three()):
        tables = (
            totals_table(plan),
            memory_table(plan),
            comparison_table(head(), plan),
        )
        for text in map(text_of, tables):
            assert all(len(line) <= 80 for line in text.splitlines())
            assert "…" not in text
        assert len(text_of(memory_table(plan)).splitlines()) == 3 + len(plan.memories)


def test_the_largest_tensors_name_their_ram() -> None:
    largest = two().alive_at(two().peak_step)[0]
    lines = text_of(biggest_table(two(), 1)).splitlines()
    assert lines[1].split()[-1] == "memory"
    assert lines[3].split()[-1] == largest.memory
    assert f"{largest.size_bytes:,} B" in lines[3]
    assert "memory" not in text_of(biggest_table(head(), 9))


def test_the_comparison_has_each_memory_of_either_plan() -> None:
    table = comparison_table(head(), three())
    words = line_of(table, "constants").split()
    assert words[1:3] == ["312,256", "312,256"]
    assert line_of(table, "dtcm").split()[1:3] == ["0", "15,296"]
    assert line_of(table, "psram").split()[1:3] == ["0", "0"]
    plain = text_of(comparison_table(alone(), alone()))
    assert "constants" not in plain


def test_the_summary_has_every_memory() -> None:
    summary = json.loads(json.dumps(plan_summary(three())))
    assert summary["constant_bytes"] == three().constant_bytes
    assert [m["name"] for m in summary["memories"]] == list(three().memories)
    assert summary["memories"][0] == {
        "name": "dtcm",
        "height_bytes": 15_296,
        "size_bytes": 16 * KIB,
        "is_constant": False,
        "touched_bytes": three().memories["dtcm"].touched_bytes,
    }
    names = {b["memory"] for b in summary["peak"]["buffers"]}
    assert names == {"dtcm", "sram"}
    assert [m["name"] for m in plan_summary(alone())["memories"]] == ["arena"]


def test_sentences_on_constants_and_rams() -> None:
    said = " ".join(explain(head()))
    assert f"Constants, {format_bytes(head().constant_bytes)} of weights" in said
    said = " ".join(explain(two()))
    assert "Constants" not in said
    dtcm, sram = two().memories.values()
    share = 100 * sram.touched_bytes / (dtcm.touched_bytes + sram.touched_bytes)
    assert f"{share:.1f} % in sram" in said
    assert format_bytes(sram.height_bytes) in said
    assert "proved optimal" not in said
    assert "psram" not in " ".join(explain(three()))
    roomy = in_rams(alone(), {"fast": 2**24, "slow": 2**24})
    assert "fit into fast, the fastest." in " ".join(explain(roomy))
    said = " ".join(explain(inferred()))
    assert "all weights are constants" in said
    assert "that inference reads and writes in RAM" in said
    plain = " ".join(explain(alone()))
    assert "Constants" not in plain
    assert " RAM" not in plain


def test_without_reuse_constants_are_named_too() -> None:
    model = NETS["frozen"].model()
    model.set_property(memory_optimization=False)
    said = explain(model.make_plan())
    assert "Memory optimization is off" in said[0]
    assert said[1].startswith("Constants, 896 B")


def test_the_viewer_gets_no_memories_where_the_arena_is_alone() -> None:
    document, _ = plan_columns(alone())
    assert "memories" not in document
    assert "buffer_memory" not in {e["name"] for e in document["contents"]}
    document, _ = plan_columns(three())
    assert [m["name"] for m in document["memories"]] == list(three().memories)
    assert document["constant_bytes"] == three().constant_bytes


# -- the command line ------------------------------------------------------------------

SCRIPT = """
import arena_ckpt as ac

def build():
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:16")
    model.add_layer("fully_connected", name="trunk", unit=64, trainable=False)
    model.add_layer("activation", name="act", activation="relu")
    model.add_layer("fully_connected", name="head", unit=4)
    model.add_layer("mse", name="loss")
    return model
"""


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_commands_say_what_lies_beside_the_arena(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SCRIPT)
    n_bytes = 64 * 16 * 4 + 64 * 4
    said = run("plan", "net.py:build")
    assert re.search(rf"constants +{re.escape(format_bytes(n_bytes))}", said)
    assert "touched an iteration" in said
    assert "can stay in flash" in said
    document = json.loads(run("plan", "net.py:build", "--json"))
    assert document["plan"]["constant_bytes"] == n_bytes
    said = run("report", "net.py:build", "--svg", "a.svg")
    assert f"constants {format_bytes(n_bytes)}; the picture is in a.svg" in said
    document = json.loads(run("report", "net.py:build", "--svg", "a.svg", "--json"))
    assert document["constant_bytes"] == n_bytes
    assert "touched an iteration" not in run("plan", "digits_mlp")
