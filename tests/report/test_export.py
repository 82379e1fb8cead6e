"""Exported plans as their readers see them."""

import csv
import functools
import io
import itertools
import json
import pickle
import pickletools
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pydot
import pytest
from click.testing import CliRunner
from helpers.modules import load_module
from helpers.plan_surgery import NETS
from helpers.several_rams import in_rams
from helpers.strategies import ModelSpec, chains, dags
from hypothesis import given, settings

from arena_ckpt import Model, export_plan, load_example
from arena_ckpt.allocation.minimalloc_csv import read_buffers
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.cli import main
from arena_ckpt.common.c_identifiers import identifier, unique_identifiers
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import InvalidParameterError, UnknownFormatError
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.report.export import FORMATS, plan_schema
from arena_ckpt.report.export.torch_snapshot import torch_snapshot

ROOT = Path(__file__).parents[2]
NASTY = (
    "<script>alert(1)</script>",
    'quo"te',
    "it's",
    "back\\slash",
    "*/ int x /*",
    "??/",
    "a b",
    "a-b",
    "a_b",
    "A_B",
    "&lt",
    "größe",
    "{record|x}",
    "%s\\n",
    "my_start",
)


@functools.cache
def nasty_plan() -> MemoryPlan:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:8")
    for name in NASTY:
        model.add_layer("fully_connected", name=name, unit=8)
    model.add_layer("mse", name="loss")
    model.add_checkpoint_block(NASTY[:3], name='"<b>&lt\\')
    model.set_property(batch_size=4)
    return model.make_plan()


@functools.cache
def gelu_plan() -> MemoryPlan:
    return load_example("digits_mlp").model.make_plan()


@functools.cache
def frozen_plan() -> MemoryPlan:
    return NETS["frozen"].model().make_plan()


@functools.cache
def rams_plan() -> MemoryPlan:
    """Plan for RAMs whose names are awkward in C, the last one empty; and constants."""
    sizes = {"constant": 4096, "S-RAM": 2**16, "s_ram": 2**16}
    return in_rams(frozen_plan(), sizes)


PLANS = pytest.mark.parametrize(
    "plan",
    [nasty_plan, gelu_plan, frozen_plan, rams_plan],
    ids=["nasty", "gelu", "frozen", "rams"],
)
Maker = Callable[[], MemoryPlan]


# -- json ------------------------------------------------------------------------------


def test_the_schema_is_that_of_the_annotations() -> None:
    tool = load_module(ROOT / "tools/plan_schema.py")
    assert plan_schema() == tool.make_schema(), "run tools/plan_schema.py"


@settings(derandomize=True, deadline=None, max_examples=20)
@given(chains() | dags())
def test_every_plan_keeps_to_the_schema(spec: ModelSpec) -> None:
    schema = plan_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(export_plan(spec.model().make_plan(), "json"))
    jsonschema.validate(document, schema)


@pytest.mark.parametrize("key", ["tensors", "checksum", "n_pass"])
def test_the_schema_misses_what_is_missing(key: str) -> None:
    document = json.loads(gelu_plan().to_json())
    del document[key]
    with pytest.raises(jsonschema.ValidationError, match=key):
        jsonschema.validate(document, plan_schema())


def test_the_schema_refuses_a_kind_that_there_is_not() -> None:
    document = json.loads(gelu_plan().to_json())
    document["tensors"][0]["kind"] = "weights"
    with pytest.raises(jsonschema.ValidationError, match="'weights' is not one of"):
        jsonschema.validate(document, plan_schema())


# -- csv -------------------------------------------------------------------------------


@PLANS
def test_minimalloc_csv_is_read_back_as_the_same_layout(
    plan: Maker, tmp_path: Path
) -> None:
    path = tmp_path / "buffers.csv"
    path.write_bytes(export_plan(plan(), "minimalloc-csv"))
    table = read_buffers(path, fixed=False)
    assert table.offset == tuple(b.offset_bytes for b in plan().buffers)
    memories = list(plan().memories)
    if len(memories) == 1:
        assert table.pool is None
        check_layout(table.buffers, list(table.offset), plan().arena_bytes)  # type: ignore[arg-type]
    else:
        assert table.pool == tuple(memories.index(b.memory) for b in plan().buffers)
    result = CliRunner().invoke(main, ["allocate", "--check", str(path)])
    assert result.exit_code == 0, result.output


@PLANS
def test_csv_has_a_row_for_each_buffer(plan: Maker) -> None:
    text = export_plan(plan(), "csv").decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len({row["id"] for row in rows}) == len(plan().buffers)
    lives = [row["id"] for row in rows]
    for row in rows:
        lives += row["shared_with"].split(";") if row["shared_with"] else []
    assert len(lives) == len(set(lives)) == len(plan().tensors)
    held = [row.get("memory", "arena") for row in rows]
    assert list(dict.fromkeys(held)) == [
        use.name for use in plan().memories.values() if use.height_bytes
    ]
    total = 0
    for name in dict.fromkeys(held):
        here = [row for row, memory in zip(rows, held, strict=True) if memory == name]
        offsets = [int(row["offset_bytes"]) for row in here]
        assert offsets == sorted(offsets)
        ends = [int(row["offset_bytes"]) + int(row["taken_bytes"]) for row in here]
        assert max(ends) == plan().memories[name].height_bytes
        total += max(ends)
    assert total == plan().arena_bytes + plan().constant_bytes
    assert ("memory" in rows[0]) == (len(plan().memories) > 1)


def test_a_recomputed_life_has_an_id_of_its_own() -> None:
    text = export_plan(gelu_plan(), "csv").decode()
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(text))}
    again = [row for row in rows.values() if row["kind"] == "recomputed_activation"]
    assert again
    for row in again:
        assert row["id"] == f"{row['tensor']}#1"


# -- chrome-trace ----------------------------------------------------------------------


def events(plan: MemoryPlan, **options: Any) -> list[dict[str, Any]]:
    document = json.loads(export_plan(plan, "chrome-trace", **options))
    assert document["displayTimeUnit"] in ("ms", "ns")
    return list(document["traceEvents"])


def check_rules_of_perfetto(found: list[dict[str, Any]]) -> None:
    """Every event is whole; slices of a thread nest; counters go forward in time."""
    stacks: dict[Any, list[int]] = defaultdict(list)
    last: dict[Any, float] = {}
    for event in found:
        assert event["ph"] in "MXC"
        assert isinstance(event["name"], str)
        assert type(event["pid"]) is int
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            assert event["args"]
            continue
        assert event["ts"] >= 0
        if event["ph"] == "C":
            assert all(type(v) is int and v >= 0 for v in event["args"].values())
            assert event["ts"] > last.get(event["name"], -1)
            last[event["name"]] = event["ts"]
        else:
            # A reader may cut either number to nanoseconds.
            start, length = round(event["ts"] * 1000), round(event["dur"] * 1000)
            assert length >= 1
            ends = stacks[event["pid"], event["tid"]]
            while ends and ends[-1] < start:
                ends.pop()
            assert not ends or start + length <= ends[-1]
            ends.append(start + length)


@PLANS
def test_chrome_trace_keeps_the_rules_of_perfetto(plan: Maker) -> None:
    check_rules_of_perfetto(events(plan()))


@settings(derandomize=True, deadline=None, max_examples=20)
@given(chains() | dags())
def test_counters_are_the_live_bytes(spec: ModelSpec) -> None:
    plan = spec.model().make_plan()
    found = events(plan)
    check_rules_of_perfetto(found)
    kinds: dict[int, dict[str, int]] = {
        round(event["ts"] / 1000): event["args"]
        for event in found
        if event["name"] == "live bytes"
    }
    now: dict[str, int] = {}
    for step in range(len(plan.steps)):
        now = kinds.get(step, now)
        assert now == {k.value: n for k, n in plan.bytes_by_kind(step).items()}
        assert sum(now.values()) == plan.live_bytes()[step]
    assert len(plan.steps) in kinds


def test_counters_of_rams_are_their_live_bytes() -> None:
    plan = rams_plan()
    found = events(plan)
    names = {event["name"] for event in found if event["ph"] == "C"}
    rams = [ram.name for ram in plan.rams]
    assert names == {"live bytes", "arena", *(f"RAM {name}" for name in rams)}
    now = dict.fromkeys(rams, 0)
    changes = {
        (event["name"].removeprefix("RAM "), round(event["ts"] / 1000)): event["args"]
        for event in found
        if event["name"].startswith("RAM ")
    }
    for step in range(len(plan.steps)):
        for name in rams:
            now[name] = changes.get((name, step), {"live": now[name]})["live"]
            assert now[name] == sum(
                plan.taken_bytes(b.size_bytes)
                for b in plan.alive_at(step)
                if b.memory == name
            )
    assert all((name, len(plan.steps)) in changes for name in rams)
    other = json.loads(export_plan(plan, "chrome-trace"))["otherData"]
    assert other["constant_bytes"] == plan.constant_bytes
    assert other["ram_bytes"] == {
        name: plan.memories[name].height_bytes for name in rams
    }
    other = json.loads(export_plan(gelu_plan(), "chrome-trace"))["otherData"]
    assert other.keys() == {"arena_bytes", "live_lower_bound_bytes", "time"}


def test_slices_are_the_executions() -> None:
    layers = [e for e in events(gelu_plan()) if e["ph"] == "X" and "args" in e]
    assert [(e["args"]["step"], e["args"]["layer"]) for e in layers] == [
        (e.step, e.layer) for e in gelu_plan().executions
    ]
    assert all(e["ts"] == 1000 * e["args"]["step"] for e in layers)
    assert any(e["cat"] == Phase.RECOMPUTE.value for e in layers)


def test_real_time_is_what_was_measured() -> None:
    plan = gelu_plan()
    seconds = [(step % 7) * 1.1e-9 for step in range(len(plan.steps))]
    found = events(plan, step_seconds=seconds)
    check_rules_of_perfetto(found)
    seconds = [1e-6 * (1 + step) for step in range(len(plan.steps))]
    first, second, *_ = (e for e in events(plan, step_seconds=seconds) if "cat" in e)
    assert (first["name"], first["ts"]) == ("forward", 0)
    assert first["dur"] == pytest.approx(sum(range(1, plan.n_forward + 1)), abs=0.002)
    assert second["ts"] == pytest.approx(first["dur"], abs=0.002)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_impossible_durations_are_refused(bad: float) -> None:
    n_steps = len(gelu_plan().steps)
    with pytest.raises(InvalidParameterError, match="but 1 durations"):
        export_plan(gelu_plan(), "chrome-trace", step_seconds=[1.0])
    with pytest.raises(InvalidParameterError, match="step 0 takes"):
        export_plan(gelu_plan(), "chrome-trace", step_seconds=[bad] * n_steps)
    with pytest.raises(InvalidParameterError, match="csv shows no durations"):
        export_plan(gelu_plan(), "csv", step_seconds=[0.0] * n_steps)


# -- torch-snapshot --------------------------------------------------------------------


READ_BY_THE_VIEWER = set(
    "PROTO FRAME STOP MARK MEMOIZE BINGET LONG_BINGET EMPTY_DICT SETITEM SETITEMS "
    "EMPTY_LIST APPEND APPENDS TUPLE1 TUPLE2 TUPLE3 NEWFALSE NEWTRUE NONE BININT "
    "BININT1 BININT2 LONG1 BINFLOAT SHORT_BINUNICODE BINUNICODE".split()
)
"""What MemoryViz.js of PyTorch 2.13 can read of a pickle of protocol 4."""


@PLANS
def test_the_snapshot_is_a_pickle_of_plain_types(plan: Maker) -> None:
    content = export_plan(plan(), "torch-snapshot")
    opcodes = [(op.name, argument) for op, argument, _ in pickletools.genops(content)]
    assert opcodes[0] == ("PROTO", 4)
    assert {name for name, _ in opcodes} <= READ_BY_THE_VIEWER
    assert pickle.loads(content) == torch_snapshot(plan())


@PLANS
def test_blocks_tile_the_segment(plan: Maker) -> None:
    end = 0
    segments = torch_snapshot(plan())["segments"]
    for segment in segments:
        assert segment["address"] == end
        for block in segment["blocks"]:
            assert block["address"] == end
            assert 0 <= block["requested_size"] <= block["size"]
            is_active = block["state"] == "active_allocated"
            assert is_active == bool(block["requested_size"])
            end += block["size"]
        assert end == segment["address"] + segment["total_size"]
    assert [segment["total_size"] for segment in segments] == [
        use.height_bytes for use in plan().memories.values() if use.height_bytes
    ]
    assert end == plan().arena_bytes + plan().constant_bytes


def bytes_held(block: dict[str, Any]) -> tuple[int, int]:
    return block["address"], block["requested_size"]


@settings(derandomize=True, deadline=None, max_examples=20)
@given(chains() | dags())
def test_the_trace_leads_to_the_state_at_the_end(spec: ModelSpec) -> None:
    plan = spec.model().make_plan()
    snapshot = torch_snapshot(plan)
    (trace,), (segment, *constants) = snapshot["device_traces"], snapshot["segments"]
    assert len(constants) == bool(plan.constant_bytes)
    assert segment["total_size"] == plan.arena_bytes
    segments = [segment, *constants]
    for event, allocated in zip(trace, segments, strict=False):
        assert event["action"] == "segment_alloc"
        assert (event["addr"], event["size"]) == (
            allocated["address"],
            allocated["total_size"],
        )
    assert "unknown" in {event["category"] for event in trace}  # or the viewer fails
    alive: dict[int, int] = {}
    peak = 0
    for event, then in zip(trace, [*trace[1:], None], strict=True):
        place, size = event["addr"], event["size"]
        if event["action"] == "alloc":
            assert place not in alive
            alive[place] = size
            ends = sorted((at, at + n) for at, n in alive.items())
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(ends))
            in_ram = [n for at, n in alive.items() if at < plan.arena_bytes]
            peak = max(peak, sum(map(plan.taken_bytes, in_ram)))
        elif event["action"] == "free_requested":
            assert then is not None
            assert then is not event
            assert then == {**event, "action": "free_completed"}
            assert alive.pop(place) == size
    blocks = [
        b
        for each in segments
        for b in each["blocks"]
        if b["state"] == "active_allocated"
    ]
    assert sorted(alive.items()) == [bytes_held(block) for block in blocks]
    assert peak == plan.live_lower_bound_bytes


@PLANS
def test_the_tools_of_pytorch_read_it(plan: Maker) -> None:
    viz = pytest.importorskip(
        "torch.cuda._memory_viz", reason="PyTorch is not there: snapshots not judged"
    )
    snapshot = pickle.loads(export_plan(plan(), "torch-snapshot"))
    lines = viz.memory(snapshot, format_flamegraph=str).splitlines()
    taken = sum(int(line.rpartition(" ")[2]) for line in lines)
    assert taken == plan().host_bytes
    weights = [t for t in plan().tensors if t.kind is TensorKind.WEIGHT]
    for tensor in weights:
        assert any(f":{tensor.name} " in shown(line) for line in lines), tensor.name
    assert viz.segments(snapshot, format_flamegraph=str).startswith("stream_0;seg_0")
    total = viz.Bytes(plan().host_bytes)
    assert f"total_reserved: {total}\n" in viz.segsum(snapshot)
    told = viz.trace(snapshot)
    start = 0
    for use in plan().memories.values():
        if use.height_bytes:
            assert f" = cudaMalloc({start}, {viz.Bytes(use.height_bytes)})" in told
            start += use.height_bytes
    assert told.count("\ndel ") == told.count("# free completed")
    for page in (
        viz.trace_plot(snapshot),
        viz.trace_plot(snapshot, plot_segments=True),
        viz.segment_plot(snapshot),
    ):
        assert "<script>alert" not in page
    n_kept = len(snapshot["device_traces"][0])
    viz.trace_plot(snapshot, filter_freed=True)
    assert 1 < len(snapshot["device_traces"][0]) < n_kept


def shown(line: str) -> str:
    """Return a line as people see it, without spaces of no width."""
    return line.replace("\u200b", "")


# -- dot -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydot's of pyparsing
@PLANS
def test_dot_has_layers_edges_and_blocks(plan: Maker) -> None:
    (graph,) = pydot.graph_from_dot_data(export_plan(plan(), "dot").decode())
    clusters = graph.get_subgraphs()
    assert len(clusters) == len(plan().blocks)
    for cluster, block in zip(clusters, plan().blocks, strict=True):
        assert cluster.get_name().startswith("cluster_")
        inside = [n for n in cluster.get_nodes() if n.get_name() != "\\n"]
        assert len(inside) == len(block.layers)
    nodes = [n for g in (graph, *clusters) for n in g.get_nodes()]
    labels = {n.get_name(): n.get_label() for n in nodes if n.get_name()[1:].isdigit()}
    assert len(labels) == len(plan().layers)
    for i, layer in enumerate(plan().layers):
        assert unquoted(labels[f"n{i}"])[:2] == [layer.name, layer.type_name]
    edges = {(e.get_source(), e.get_destination()) for e in graph.get_edges()}
    numbers = {layer.name: i for i, layer in enumerate(plan().layers)}
    assert edges == {
        (f"n{numbers[source]}", f"n{numbers[layer.name]}")
        for layer in plan().layers
        for source in layer.inputs
    }


def unquoted(label: str) -> list[str]:
    """Return the lines that Graphviz shows for a quoted label."""
    assert label[0] == label[-1] == '"'
    lines, text, escaped = [], "", False
    for c in label[1:-1].replace('\\"', '"'):
        if escaped and c == "n":
            lines.append(text)
            text = ""
        elif escaped:
            text += c
        elif c != "\\":
            text += c
        escaped = c == "\\" and not escaped
    return [line.replace("&amp;", "&") for line in [*lines, text]]


@PLANS
def test_graphviz_draws_it(plan: Maker) -> None:
    dot = shutil.which("dot")
    if dot is None:
        pytest.skip("Graphviz is not there: only a parser has read the graphs")
    drawn = subprocess.run(
        [dot, "-Tsvg"], input=export_plan(plan(), "dot"), capture_output=True
    )
    assert drawn.returncode == 0
    assert drawn.stderr == b""
    assert b"<script>" not in drawn.stdout


# -- c-header --------------------------------------------------------------------------

PROGRAM = """
#include <stdio.h>
#define {p}_IMPLEMENTATION
#include "plan.h"
#include "plan.h"
int main(void) {{
  unsigned i;
  printf("%llu\\n", (unsigned long long){p}_ARENA_BYTES);
{prints}
  for (i = 0; i < {p}_N_LAYERS; i++)
    printf("%s\\t%u %u %u %u %u\\n", {l}_orders[i].layer,
           (unsigned){l}_orders[i].forward, (unsigned){l}_orders[i].recompute,
           (unsigned){l}_orders[i].calc_gradient,
           (unsigned){l}_orders[i].calc_derivative,
           (unsigned){l}_orders[i].apply_gradient);
  return 0;
}}
"""


@PLANS
def test_a_c_program_reads_the_plan(plan: Maker, tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not there: the C header was not compiled")
    (tmp_path / "plan.h").write_bytes(export_plan(plan(), "c-header", name="my net"))
    names = unique_identifiers(
        f"{t.name}#{t.life}" if t.life else t.name for t in plan().tensors
    )
    prints = "\n".join(
        f'  printf("%llu %llu\\n", (unsigned long long)MY_NET_{name}_OFFSET, '
        f"(unsigned long long)MY_NET_{name}_SIZE);"
        for name in names
    )
    program = PROGRAM.format(p="MY_NET", l="my_net", prints=prints)
    (tmp_path / "main.c").write_text(program)
    (tmp_path / "other.c").write_text(
        '#include "plan.h"\nint other(void) { return (int)my_net_orders[0].forward; }\n'
    )
    strict = [gcc, "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    for arguments in (["main.c", "other.c", "-o", "main"], ["-c", "-xc", "plan.h"]):
        subprocess.run([*strict, *arguments], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout
    arena, *lines = said.decode().splitlines()
    assert int(arena) == plan().arena_bytes
    offsets = {i: b.offset_bytes for b in plan().buffers for i in b.tensors}
    n = len(plan().tensors)
    assert lines[:n] == [
        f"{offsets[i]} {tensor.size_bytes}" for i, tensor in enumerate(plan().tensors)
    ]
    assert lines[n:] == [
        f"{name}\t{' '.join(map(str, order))}"
        for name, order in plan().execution_order.items()
    ]


@functools.cache
def reruns_plan() -> MemoryPlan:
    """Plan that runs layers more than once again, and clips gradients."""
    model = Model()
    model.set_property(batch_size=256, clip_grad_by_norm=1.0)
    model.add_layer("input", name="in", input_shape="1:1:8")
    for number in range(12):
        model.add_layer("fully_connected", name=f"fc{number}", unit=8)
    model.add_layer("mse", name="loss")
    least = min(model.pareto(), key=lambda point: point.arena_bytes)
    return least.plan


STEPS = """
#include <stdio.h>
#define NET_IMPLEMENTATION
#include "plan.h"

int main(void) {
  unsigned i, k;
  printf("%u %u %u %u\\n", NET_N_STEPS, NET_N_FORWARD_STEPS, NET_N_PASS_STEPS,
         NET_MICRO_BATCHES);
  for (i = 0; i < NET_N_STEPS; i++) {
    const arena_ckpt_step *step = &net_steps[i];
    if (step->phase == ARENA_CKPT_NOTHING) {
      if (step->n_operands || step->operands || step->kernel) return 1;
      continue;
    }
    printf("%u %u\\t%s\\t%s\\n", i, step->phase - ARENA_CKPT_FORWARD,
           net_orders[step->layer].layer, step->kernel);
    for (k = 0; k < step->n_operands; k++) {
      const arena_ckpt_operand *one = &step->operands[k];
      printf("  %s\\t%u %u %llu %llu\\n", one->role, one->access, one->memory,
             (unsigned long long)one->offset, (unsigned long long)one->size);
    }
  }
  return 0;
}
"""


def step_table(plan: MemoryPlan) -> list[str]:
    """Return what a C program is to print of the executions of a plan."""
    memories, types = list(plan.memories), {x.name: x.type_name for x in plan.layers}
    held_by = {i: b for b in plan.buffers for i in b.tensors}
    access = {"read": 1, "write": 2, "update": 3}
    lines = [
        f"{len(plan.steps)} {plan.n_forward} {plan.n_pass} {plan.micro_batches}",
    ]
    for e in plan.executions:
        is_clip = e.phase is Phase.CLIP_GRADIENTS
        kernel = "clip_gradients" if is_clip else types[e.layer]
        number = list(Phase).index(e.phase)
        lines.append(f"{e.step} {number}\t{e.layer}\t{kernel}")
        for operand in e.operands:
            place = held_by[operand.tensor]
            lines.append(
                f"  {operand.role}\t{access[operand.access.value]} "
                f"{memories.index(place.memory)} {place.offset_bytes} "
                f"{plan.tensors[operand.tensor].size_bytes}"
            )
    return lines


@pytest.mark.parametrize(
    "plan", [nasty_plan, gelu_plan, frozen_plan, rams_plan, reruns_plan]
)
def test_a_c_program_walks_through_the_steps(plan: Maker, tmp_path: Path) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not there: the C header was not compiled")
    (tmp_path / "plan.h").write_bytes(export_plan(plan(), "c-header", name="net"))
    (tmp_path / "main.c").write_text(STEPS)
    strict = [gcc, "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run([*strict, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout

    assert said.decode().splitlines() == step_table(plan())


def test_a_plan_of_many_reruns_has_a_row_for_each() -> None:
    plan = reruns_plan()
    again = [e for e in plan.executions if e.phase is Phase.RECOMPUTE]
    assert len(again) > len({e.layer for e in again})
    header = export_plan(plan, "c-header", name="net").decode()
    assert header.count("{ARENA_CKPT_RECOMPUTE, ") == len(again)


PLACES = """
#include <stdio.h>
#include "plan.h"

static unsigned char {arrays};
static const unsigned char flash[NET_CONSTANT_BYTES] = {{0}};
static const unsigned char *const starts[NET_N_MEMORIES] = {{{starts}, flash}};

int main(void) {{
#if NET_{sample}_MEMORY != NET_CONSTANTS_NUMBER
#error "a frozen weight is a constant"
#endif
{prints}
  return 0;
}}
"""
PRINT = """  printf("%u %ld\\n", NET_{name}_MEMORY,
         (long)(starts[NET_{name}_MEMORY] + NET_{name}_OFFSET
                - starts[NET_{name}_MEMORY]));
"""


@pytest.mark.parametrize(
    ("plan", "words"),
    [(frozen_plan, ["ARENA"]), (rams_plan, ["CONSTANT_2", "S_RAM", "S_RAM_2"])],
)
def test_a_c_program_finds_the_memory_of_each_tensor(
    plan: Maker, words: list[str], tmp_path: Path
) -> None:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc is not there: the C header was not compiled")
    header = export_plan(plan(), "c-header", name="net").decode()
    (tmp_path / "plan.h").write_text(header)
    names = unique_identifiers(
        f"{t.name}#{t.life}" if t.life else t.name for t in plan().tensors
    )
    used = [w for w in words if f"NET_{w}_BYTES 0u" not in header]
    program = PLACES.format(
        arrays=", ".join(f"{w.lower()}[NET_{w}_BYTES]" for w in used),
        starts=", ".join(w.lower() if w in used else "0" for w in words),
        sample="CONV2_FILTER",
        prints="".join(PRINT.format(name=name) for name in names),
    )
    (tmp_path / "main.c").write_text(program)
    strict = [gcc, "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run([*strict, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout
    memories = list(plan().memories)
    place = {
        i: (memories.index(b.memory), b.offset_bytes)
        for b in plan().buffers
        for i in b.tensors
    }
    assert said.decode().splitlines() == [
        f"{place[i][0]} {place[i][1]}" for i in range(len(plan().tensors))
    ]
    for word, use in zip(words, plan().memories.values(), strict=False):
        assert f"#define NET_{word}_BYTES {use.height_bytes}u" in header
        assert f"#define NET_{word}_NUMBER" in header
    assert f"#define NET_CONSTANT_BYTES {plan().constant_bytes}u" in header


def test_a_header_of_the_arena_alone_names_no_memory() -> None:
    header = export_plan(gelu_plan(), "c-header").decode()
    for word in ("MEMORY", "MEMORIES", "NUMBER", "CONSTANT"):
        assert word not in header


def test_a_graph_names_its_constants() -> None:
    title = f"constants {frozen_plan().constant_bytes} B"
    assert title in export_plan(frozen_plan(), "dot").decode()
    assert "constants" not in export_plan(gelu_plan(), "dot").decode()


def test_identifiers_are_unique_and_safe() -> None:
    names = ["a-b", "a_b", "A B", "a_b_2", "1x", "__init", "größe", "??", ""]
    assert unique_identifiers(names) == [
        "A_B",
        "A_B_2",
        "A_B_3",
        "A_B_2_2",
        "X1X",
        "INIT",
        "GR_SSE" if identifier("größe") == "GR_SSE" else identifier("größe"),
        "X",
        "X_2",
    ]


def test_sizes_beyond_32_bits_stay_whole(tmp_path: Path) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:65536")
    model.add_layer("fully_connected", name="fc", unit=65536)
    model.add_layer("mse", name="loss")
    plan = model.make_plan()
    assert plan.arena_bytes > 2**34
    for to in FORMATS:
        assert export_plan(plan, to)
    assert str(plan.arena_bytes) in export_plan(plan, "c-header").decode()


# -- all -------------------------------------------------------------------------------


@pytest.mark.parametrize("to", FORMATS)
@PLANS
def test_equal_plans_give_equal_bytes(plan: Maker, to: str) -> None:
    again = MemoryPlan.from_json(plan().to_json())
    assert export_plan(again, to) == export_plan(plan(), to)


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownFormatError, match=r"'crome-trace'.*'chrome-trace'"):
        export_plan(gelu_plan(), "crome-trace")


# -- the command line ------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


@pytest.mark.parametrize("to", FORMATS)
def test_the_command_writes_what_the_function_returns(to: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    result = run("nine_layer_mlp", "--to", to, "-o", path)
    assert (result.exit_code, result.stdout) == (0, "")
    expected = export_plan(
        load_example("nine_layer_mlp").model.make_plan(), to, name="nine_layer_mlp"
    )
    assert path.read_bytes() == expected
    assert f"{len(expected):,} bytes" in result.stderr
    assert run("nine_layer_mlp", "--to", to).stdout_bytes == expected


def test_blocks_and_batch_size_can_be_chosen() -> None:
    result = run("digits_mlp", "--to", "json", "--no-blocks", "--batch-size", 3)
    plan = MemoryPlan.from_json(result.stdout)
    assert (plan.blocks, plan.batch_size) == ((), 3)


def test_measured_times_differ() -> None:
    result = run("digits_mlp", "--to", "chrome-trace", "--measured")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["otherData"]["time"] == "measured"
    check_rules_of_perfetto(document["traceEvents"])
    layers = [e for e in document["traceEvents"] if e["ph"] == "X" and "args" in e]
    slices = [event["dur"] for event in layers]
    assert len(set(slices)) > 10
    assert 1 < sum(slices) < 10e6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["digits_mlp", "--to", "jsn"], "did you mean 'json'"),
        (["digits_mlp"], "--to"),
        (["digit_mlp", "--to", "json"], "did you mean 'digits_mlp'"),
        (["digits_mlp", "--to", "json", "-o", "no/such/f"], "no folder no/such"),
        (["digits_mlp", "--to", "csv", "--measured"], "for chrome-trace"),
        (["digits_mlp", "--to", "csv", "--batch-size", "0"], "batch_size"),
    ],
    ids=str,
)
def test_bad_input_is_told(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""


def test_a_budget_can_be_asked_for() -> None:
    result = run("digits_mlp", "--to", "json", "--budget", "500KiB")
    assert MemoryPlan.from_json(result.stdout).arena_bytes <= 500 * 1024
