"""Objects show themselves: in a short line, as text, and as rows for tables."""

from __future__ import annotations

import copy
import dataclasses
import html.parser
import pickle
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.plan_surgery import NETS

import arena_ckpt as ac
from arena_ckpt import layers
from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.checkpoint.pareto_front import ParetoFront
from arena_ckpt.common.short_repr import brief, few_names, shortened
from arena_ckpt.common.text_table import Column, text_table
from arena_ckpt.definition.model_summary import ModelSummary
from arena_ckpt.errors import ArgumentError, GraphError, InvalidParameterError
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.training.saved_state import read_state

MOST = 300
"""Maximum number of characters of what shows an object in a line."""


def wide_model(name: str = "layer") -> ac.Model:
    """Return a model with residual connections and blocks of many layers."""
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:16")
    names = []
    for i in range(12):
        model.add_layer("fully_connected", name=f"{name}{i}", unit=16)
        model.add_layer("activation", name=f"act{i}", activation="gelu")
        names += [f"{name}{i}", f"act{i}"]
    model.add_layer("addition", name="skip", input_layers="act11,in")
    model.add_layer("fully_connected", name="out", unit=4)
    model.add_layer("cross_softmax", name="loss")
    model.add_checkpoint_block(names[:20], name="long")
    model.set_property(batch_size=8)
    return model


MODEL = wide_model()
PLAN = MODEL.make_plan()
FRONT = MODEL.pareto()


def parts_of(value: object, depth: int = 3) -> Iterator[object]:
    """Yield an object, and what its fields and items hold."""
    yield value
    if not depth or isinstance(value, str | bytes | np.ndarray | type):
        return
    if dataclasses.is_dataclass(value):
        items: Sequence[Any] = [
            getattr(value, field.name, None) for field in dataclasses.fields(value)
        ]
    elif isinstance(value, dict):
        items = list(value.values())
    elif isinstance(value, tuple | list | frozenset):
        items = list(value)
    else:
        return
    for item in items:
        yield from parts_of(item, depth - 1)


def shown_objects(tmp_path: Path) -> Iterator[object]:
    """Yield objects of every kind that public calls return."""
    yield from (MODEL, PLAN, FRONT, FRONT[0], FRONT[:1], FRONT[:0], MODEL.summary())
    yield from (MODEL.layers, MODEL.blocks, MODEL.optimizer, MODEL.compile())
    yield ac.create_optimizer("adamw", weight_decay=0.1, epsilon=1e-6)
    yield ac.create_schedule(
        "step",
        learning_rate=[0.1 / (i + 1) for i in range(300)],
        iteration=[10 * (i + 1) for i in range(299)],
    )
    yield ac.create_layer("conv2d", filters=4, kernel_size="3,3")
    yield MODEL.choose_batch_size(budget="64KiB", most=64)
    yield MODEL.kernel_calls(PLAN)
    yield MODEL.compile().nodes[2].spec
    yield (PLAN.counted_costs, PLAN.memories, PLAN.execution_order, FRONT[0].reruns)
    for name in ("rp2350", "esp32s3_psram"):
        board = ac.load_board(name)
        yield from (board, board.check(PLAN))
    x, y = np.zeros((40, 16), np.float32), np.zeros(40, np.int64)
    yield from (ac.Dataset("made up", x, y), ac.Dataset("bare", x, None))
    yield ac.load_example("digits_mlp")
    yield ac.allocate([*range(200)], [*range(2, 202)], [64] * 200)
    yield make_buffers([0, 1], [2, 3], [64, 128])
    squashed = ac.Model()
    squashed.add_layer("input", name="in", input_shape="1:1:8")
    squashed.add_layer("fully_connected", name="o", unit=10, activation="softmax")
    squashed.add_layer("cross_softmax", name="loss")
    yield squashed.warnings()
    model = wide_model()
    model.initialize()
    yield model
    yield model.train((x, y), epochs=2, progress=False)
    yield model.evaluate((x, y))
    yield model.profile(rounds=1)
    session = model._session
    assert session is not None
    yield session.samples(x, y)
    model.save(tmp_path / "a.safetensors")
    yield read_state(tmp_path / "a.safetensors")
    yield ac.load(tmp_path / "a.safetensors")
    yield ac.verify(model)
    yield (ac.Phase.RECOMPUTE, ac.TensorLifespan.FORWARD_GRAD)
    yield from (MODEL.layers[1].properties, layers.WEIGHT_PROPERTIES)


def test_every_object_shows_itself_in_a_short_line(tmp_path: Path) -> None:
    seen: dict[type, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in shown_objects(tmp_path):
            for part in parts_of(value):
                if type(part) in (tuple, list, dict) or isinstance(part, np.ndarray):
                    continue  # their items are looked at
                text = repr(part)
                if not type(part).__module__.startswith("arena_ckpt"):
                    continue
                assert len(text) <= MOST, (type(part), text)
                assert "0x" not in text, text
                assert "\n" not in text, text
                seen[type(part)] = text
    names = {kind.__name__ for kind in seen}
    assert names > {
        *("Model", "MemoryPlan", "ParetoFront", "FrontPoint", "BatchSizeChoice"),
        *("Dataset", "Samples", "Board", "BoardFit", "Ram", "Layout", "Buffers"),
        *("KernelCall", "Region", "Evaluation", "Verification", "Check", "SavedState"),
        *("Optimizer", "Schedule", "Activation", "FullyConnected", "CheckpointBlock"),
        *("Graph", "Node", "LayerSpec", "WeightSpec", "Property", "Kind", "Hint"),
        *("PlanLayer", "Buffer", "LiveRange", "Execution", "Step", "Costs", "Rerun"),
        *("History", "EpochRecord"),
        *("MemoryUse", "ModelSummary", "LayerSummary", "Example", "TriedBatchSize"),
    }


def test_a_line_has_the_numbers_that_matter() -> None:
    assert repr(PLAN) == (
        f"<MemoryPlan: arena {PLAN.arena_bytes / 1024:,.2f} KiB "
        f"({PLAN.arena_bytes:,} B), proved optimal, {len(PLAN.layers)} layers, "
        f"{len(PLAN.buffers)} buffers, {len(PLAN.steps)} steps, batch size 8, "
        f"{100 * PLAN.overhead:.1f} % overhead>"
    )
    assert "inference" in repr(MODEL.make_plan(mode="inference"))
    assert repr(FRONT[-1]) == (
        f"<FrontPoint keep all: arena {FRONT[-1].arena_bytes / 1024:,.2f} KiB "
        f"({FRONT[-1].arena_bytes:,} B), 0.0 % overhead>"
    )
    model = wide_model()
    assert repr(model) == (
        "<Model: 28 layers, 1 checkpoint block, batch size 8, optimizer sgd, not "
        "initialized>"
    )
    plan = model.initialize()
    assert f"{12 * 17 * 16 + 17 * 4:,} parameters" in repr(model)
    assert "initialized for training" in repr(model)
    assert f"{plan.arena_bytes:,} B" in repr(model)
    assert repr(ac.create_optimizer("adam")) == "adam(learning_rate=0.001)"
    layer = ac.create_layer("fully_connected", name="fc", unit=3)
    assert repr(layer) == "fully_connected('fc', unit=3)"
    assert repr(MODEL.blocks[0]).startswith("CheckpointBlock(layers=(20 items)")
    assert "1,797 samples" in repr(ac.load_digits())


def test_a_plan_that_contradicts_itself_still_shows() -> None:
    plan = dataclasses.replace(PLAN, layers=(), executions=PLAN.executions[:3])
    assert repr(plan).startswith("<MemoryPlan: arena")


def test_names_of_any_length_and_kind_leave_a_line_short() -> None:
    text = shortened("a" * 500 + "\n" + "z" * 500)
    assert len(text) == 48
    assert text.startswith("aaa")
    assert text.endswith("zzz")
    assert "\n" not in shortened("two\nlines\x1b[31m")
    assert "\x1b" not in shortened("two\nlines\x1b[31m")
    assert few_names(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert brief(tuple(f"layer{i}" for i in range(90))) == "(90 items)"
    assert brief(np.zeros((3, 4))) == "array of float64 (3, 4)"
    named = wide_model("n" * 400)
    for part in parts_of((named.layers, named.blocks, named.make_plan())):
        if type(part).__module__.startswith("arena_ckpt"):
            assert len(repr(part)) <= MOST


def test_an_assertion_still_says_which_fields_of_plans_differ() -> None:
    other = dataclasses.replace(PLAN, allocator="another")
    assert other != PLAN
    differing = [
        field.name
        for field in dataclasses.fields(PLAN)
        if getattr(PLAN, field.name) != getattr(other, field.name)
    ]
    assert differing == ["allocator"]
    assert hash(PLAN.buffers) == hash(copy.deepcopy(PLAN).buffers)


# -- a plan ----------------------------------------------------------------------------


def test_a_printed_plan_is_a_short_text_of_totals() -> None:
    text = str(PLAN)
    lines = text.splitlines()
    assert 6 <= len(lines) <= 25
    assert max(map(len, lines)) <= 88
    for number in (PLAN.arena_bytes, PLAN.local_lower_bound_bytes, PLAN.naive_bytes):
        assert f"{number:,} B" in text
    assert "proved optimal" in text
    assert PLAN.describe_step(PLAN.peak_step) in " ".join(lines)
    frozen = str(NETS["frozen"].model().make_plan())
    assert "constants" in frozen
    rams = str(MODEL.make_plan(memories={"tcm": "16KiB", "sram": "1MiB"}))
    assert "tcm" in rams
    assert "inference" in str(MODEL.make_plan(mode="inference"))


def test_rows_of_a_plan_are_its_live_ranges() -> None:
    rows = PLAN.to_rows()
    assert len(rows) == len(PLAN.tensors)
    for row, tensor in zip(rows, PLAN.tensors, strict=True):
        assert (row["tensor"], row["life"]) == (tensor.name, tensor.life)
        assert (row["start_step"], row["stop_step"]) == (tensor.start, tensor.stop)
        assert row["size_bytes"] == tensor.size_bytes
        assert all(isinstance(value, str | int) for value in row.values())
    weight = next(row for row in rows if row["tensor"] == "layer0:weight")
    assert weight["kind"] == "weight"
    assert weight["shape"] == "16x16"
    buffer = next(b for b in PLAN.buffers if b.tensor == "layer0:weight")
    assert weight["offset_bytes"] == buffer.offset_bytes
    assert weight["memory"] == buffer.memory
    shared = [row for row in rows if row["shares_with"]]
    for row in shared:
        first = row["shares_with"].split(";")[0]
        assert row["offset_bytes"] in {
            other["offset_bytes"] for other in rows if other["tensor"] == first
        }
    assert all(row["memory"] == "arena" for row in rows)


# -- a front ---------------------------------------------------------------------------


def test_a_front_is_a_sequence_as_the_tuple_before() -> None:
    points = tuple(FRONT)
    assert isinstance(FRONT, Sequence)
    assert points == FRONT
    assert hash(points) == hash(FRONT)
    assert len(FRONT) == len(points) > 3
    assert type(FRONT[1:3]) is ac.ParetoFront
    assert FRONT[1:3] == points[1:3]
    assert FRONT[-1] is points[-1]
    assert points[0] in FRONT
    again = pickle.loads(pickle.dumps(FRONT))
    assert type(again) is ParetoFront
    assert [p.arena_bytes for p in again] == [p.arena_bytes for p in FRONT]
    with pytest.raises(TypeError):
        FRONT[0] = points[1]  # type: ignore[index]
    with pytest.raises(AttributeError):
        FRONT.other = 1  # type: ignore[attr-defined]
    with pytest.raises(InvalidParameterError, match="points of a front"):
        ParetoFront([3])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match=r"Model.pareto\(\) makes one"):
        ParetoFront(1, 2)  # type: ignore[call-arg, arg-type]


def test_a_printed_front_is_a_table() -> None:
    lines = str(FRONT).splitlines()
    assert lines[0] == f"{len(FRONT)} plans that none other beats in bytes and time"
    assert lines[1].split() == [
        *("arena", "of", "the", "largest", "overhead", "reruns", "plan")
    ]
    assert len(lines) == len(FRONT) + 3
    for line, point in zip(lines[3:], FRONT, strict=True):
        assert f"({point.arena_bytes:,} B)" in line
        assert f"{100 * point.overhead:.1f} %" in line
        assert line.endswith(point.label)
    long = ParetoFront([*FRONT] * 20)
    assert len(str(long).splitlines()) == 44
    assert "more: to_rows() has all" in str(long)
    assert str(FRONT[:0]).startswith("0 plans")


def test_rows_of_a_front_say_what_is_recomputed_and_why() -> None:
    rows = FRONT.to_rows()
    assert [row["arena_bytes"] for row in rows] == [p.arena_bytes for p in FRONT]
    assert rows[-1]["reason"] == "recomputes nothing; no plan is faster"
    assert rows[-1]["recomputed"] == ""
    first = rows[0]
    again = {rerun.layer for rerun in FRONT[0].reruns if rerun.tensors}
    assert set(first["recomputed"].split(";")) == again
    assert first["n_recomputes"] == sum(bool(r.tensors) for r in FRONT[0].reruns)
    less = FRONT[1].arena_bytes - FRONT[0].arena_bytes
    assert "no plan is smaller" in first["reason"]
    assert f"{less:,} B" in first["reason"]
    assert all(isinstance(v, str | int | float) for row in rows for v in row.values())


class Text(html.parser.HTMLParser):
    """Collects the texts and the elements of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []


def test_a_notebook_shows_a_front_as_curve_and_table() -> None:
    text = FRONT._repr_html_()
    seen = Text(text)
    assert seen.tags.count("svg") == 1
    assert seen.tags.count("circle") >= len(FRONT)
    assert seen.tags.count("tr") == len(FRONT) + 1
    assert "script" not in seen.tags
    assert "currentColor" in text  # read on dark pages as well
    assert "overhead" in seen.texts
    evil = wide_model("<b>&")
    assert "<b>" not in evil.pareto()._repr_html_()


# -- a summary -------------------------------------------------------------------------


def small() -> ac.Model:
    """Return a net with frozen and shared weights and a residual connection."""
    model = ac.Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:8")
    model.add_layer("fully_connected", name="fc1", unit=8, trainable=False)
    model.add_layer("activation", name="act", activation="relu")
    model.add_layer("fully_connected", name="fc2", unit=8)
    model.add_layer("fully_connected", name="fc3", unit=8, shared_from="fc2")
    model.add_layer("batch_normalization", name="bn")
    model.add_layer("addition", name="skip", input_layers="bn,in")
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.add_checkpoint_block(["fc2", "fc3"], name="middle")
    model.set_property(batch_size=4)
    model.set_optimizer("adam")
    return model


SMALL = """\
layer  type                 reads   output  parameters  activations  weights  block
─────  ───────────────────  ──────  ──────  ──────────  ───────────  ───────  ──────
in     input                        1:1:8                     128 B
fc1    fully_connected              1:1:8           72        128 B  frozen
act    activation                   1:1:8                     128 B
fc2    fully_connected              1:1:8           72        128 B  trained  middle
fc3    fully_connected              1:1:8                     128 B  of fc2   middle
bn     batch_normalization          1:1:8           16        192 B  trained
skip   addition             bn, in  1:1:8                     128 B
out    fully_connected              1:1:3           27         48 B  trained
loss   cross_softmax                1:1:3                      48 B

parameters   115 trained, 72 frozen, 16 moving statistics
weights      812 B
states       920 B of adam
activations  1.03 KiB (1,056 B) for a batch of 4 samples
"""


def test_a_summary_is_a_table_of_layers(capsys: pytest.CaptureFixture[str]) -> None:
    summary = small().summary()
    assert str(summary).startswith(SMALL)
    assert capsys.readouterr().out == ""
    assert isinstance(summary, Sequence)
    assert len(summary) == 9
    assert summary[1].weights == "frozen"
    assert [row.name for row in summary[:2]] == ["in", "fc1"]
    assert summary == small().summary()
    with pytest.raises(dataclasses.FrozenInstanceError):
        summary.batch_size = 3  # type: ignore[misc]
    rows = summary.to_rows()
    assert rows[4]["shares_with"] == "fc2"
    assert rows[6]["inputs"] == "bn;in"
    assert {type(v) for row in rows for v in row.values()} <= {str, int, type(None)}
    seen = Text(summary._repr_html_())
    assert seen.tags.count("tr") == 10
    totals = "parameters   115 trained, 72 frozen, 16 moving statistics"
    assert any(totals in text.splitlines() for text in seen.texts)


def test_a_summary_leaves_a_model_as_it_was() -> None:
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = model.summary()
        assert not model.is_initialized
        assert model.properties == {"batch_size": 4}
    plan = model.initialize()
    assert model.summary() == before
    assert model.plan is plan
    x, y = np.ones((4, 8), np.float32), np.zeros(4, np.int64)
    first = model.train_step(x, y)
    other = small()
    other.initialize()
    assert other.train_step(x, y) == first


def test_a_summary_needs_no_loss_but_a_graph() -> None:
    model = ac.Model()
    with pytest.raises(GraphError, match="no layers"):
        model.summary()
    model.add_layer("input", name="in", input_shape="1:1:8")
    model.add_layer("fully_connected", name="fc", unit=2)
    summary = model.summary()
    assert not summary.has_loss
    assert "states" not in str(summary)
    assert "backward" not in str(summary)
    model.add_layer("addition", name="sum", input_layers="fc,in")
    with pytest.raises(ac.InvalidParameterError, match="sum"):
        model.summary()


@pytest.mark.parametrize("name", ["digits_cnn", "char_transformer", "keyword_gru"])
def test_a_summary_agrees_with_the_plan(name: str) -> None:
    model = ac.load_example(name).model
    summary, plan = model.summary(), model.make_plan()
    totals = dict.fromkeys((row.name for row in summary), 0)
    counted = (TensorKind.ACTIVATION, TensorKind.DATA)
    for tensor in plan.tensors:
        owner = tensor.layer.partition("/")[0]
        is_label = tensor.name.endswith(":label")
        if owner in totals and tensor.kind in counted and not (tensor.life or is_label):
            totals[owner] += tensor.size_bytes
    assert {row.name: row.activation_bytes for row in summary} == totals
    by_kind = dict.fromkeys(TensorKind, 0)
    for tensor in plan.tensors:
        by_kind[tensor.kind] += tensor.size_bytes
    assert summary.weight_bytes == by_kind[TensorKind.WEIGHT]
    assert summary.state_bytes == by_kind[TensorKind.OPTIMIZER_STATE]


def test_parts_of_a_layer_are_one_row() -> None:
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:5:3")
    model.add_layer("lstm", name="rnn", unit=4, unroll=True)
    model.add_layer("fully_connected", name="out", unit=2, activation="relu")
    model.add_layer("mse", name="loss")
    summary = model.summary()
    assert [row.name for row in summary] == ["in", "rnn", "out", "loss"]
    assert len(model.compile().nodes) > 8
    assert all(row.reads_previous for row in summary)


def test_long_names_are_cut_and_numbers_never() -> None:
    rows = [["x" * 200, "y" * 90, "123,456"], ["short", "", "7"]]
    columns = [Column("layer"), Column("reads"), Column("parameters", is_number=True)]
    lines = text_table(columns, rows)
    assert max(map(len, lines)) <= 100
    assert "…" in lines[2]
    assert lines[2].endswith("123,456")
    assert len({line.index("1") for line in lines if "123,456" in line}) == 1
    wide = text_table([Column("a"), Column("b")], [["層" * 10, "x"], ["y", "z"]])
    assert wide[2].index("x") == 12  # each sign takes two columns
    assert wide[3].index("z") == 22
    assert "\x1b" not in "\n".join(text_table(columns[:1], [["\x1b[31mred"]]))


def test_a_summary_is_a_line_as_well() -> None:
    assert repr(small().summary()) == (
        "<ModelSummary: 9 layers, 187 parameters, 72 of them frozen, weights 812 B, "
        "activations 1.03 KiB (1,056 B), batch size 4>"
    )
    assert isinstance(small().summary(), ModelSummary)
