"""Reports of small plans whose numbers can be read off the model."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from arena_ckpt.common.units import format_bytes
from arena_ckpt.model import Model
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.report.explain import explain
from arena_ckpt.report.summary import plan_summary
from arena_ckpt.report.tables import (
    biggest_table,
    comparison_table,
    execution_order_table,
    kind_table,
    totals_table,
)


def mlp(
    units: Sequence[int],
    batch_size: int,
    activation: str = "relu",
    block: Sequence[str] = (),
    **properties: object,
) -> MemoryPlan:
    """Plan an MLP of 16 inputs, an activation between two fully connected layers."""
    model = Model(seed=0)
    model.add_layer("input", name="in", input_shape="1:1:16")
    for i, unit in enumerate(units, 1):
        model.add_layer("fully_connected", name=f"fc{i}", unit=unit)
        if i < len(units):
            model.add_layer("activation", name=f"act{i}", activation=activation)
    model.add_layer("mse", name="loss")
    if block:
        model.add_checkpoint_block(block)
    model.set_property(batch_size=batch_size, **properties)
    return model.make_plan()


ONE = mlp([16], batch_size=16)
"""16 × 16 everywhere: input, label, weight, output and derivative are 1 KiB each."""

RELU_BLOCK = mlp([16, 16], 256, block=["fc1", "act1"])
RELU_PLAIN = mlp([16, 16], 256)
"""A ReLU needs only its output, the block's output: nothing is recomputed."""

GELU_BLOCK = mlp([16, 16, 16], 256, "gelu", block=["fc1", "act1", "fc2", "act2"])
GELU_PLAIN = mlp([16, 16, 16], 256, "gelu")
"""A GELU needs its input: outputs of 16 KiB each are dropped and recomputed."""


def sentences(plan: MemoryPlan, without: MemoryPlan | None = None) -> str:
    said = explain(plan, without)
    assert 1 <= len(said) <= 3
    assert all(sentence.endswith(".") for sentence in said)
    return " ".join(said)


def text_of(table: Table, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# -- tables ----------------------------------------------------------------------------


def test_totals_are_those_of_the_plan() -> None:
    text = text_of(totals_table(ONE))
    for size in (ONE.arena_bytes, ONE.local_lower_bound_bytes, ONE.naive_bytes):
        assert format_bytes(size) in text
    assert "proved optimal" in text
    assert "not proved" not in text


def test_kinds_at_the_peak_add_up_to_what_is_alive() -> None:
    # fc1:weight and its gradient with biases (64 B each), input, output derivative,
    # and 128 B of workspace
    summary = plan_summary(ONE)
    peak = summary["peak"]
    assert (peak["step"], peak["phase"], peak["layer"]) == (6, "calc_gradient", "fc1")
    assert peak["bytes_by_kind"] == {
        "weight": 1024 + 64,
        "gradient": 1024 + 64,
        "optimizer_state": 0,
        "activation": 0,
        "recomputed_activation": 0,
        "derivative": 1024,
        "workspace": 128,
        "data": 1024,
    }
    text = text_of(kind_table(ONE))
    assert text.startswith("At the peak: step 6, calc_gradient of fc1")
    assert "25.0 %" in text
    assert "optimizer_state" not in text  # kinds without bytes have no line


@pytest.mark.parametrize("plan", [ONE, RELU_BLOCK, GELU_BLOCK, GELU_PLAIN])
def test_the_peak_is_the_live_lower_bound(plan: MemoryPlan) -> None:
    by_kind = plan_summary(plan)["peak"]["bytes_by_kind"]
    assert sum(by_kind.values()) == plan.live_lower_bound_bytes


def test_biggest_come_first_and_are_no_more_than_asked() -> None:
    text = text_of(biggest_table(GELU_BLOCK, 3))
    lines = text.splitlines()
    assert lines[0].strip() == "The largest of 12 tensors at the peak"
    assert [line.split()[0] for line in lines[3:]] == [
        "in:out0",
        "fc1:out0",
        "act2:out0:grad",
    ]
    assert "recomputed_activation" in lines[4]
    assert "[13, 25)" in lines[4]


def test_comparison_shows_both_plans_and_the_difference() -> None:
    table = comparison_table(GELU_PLAIN, GELU_BLOCK)
    arena = next(line for line in text_of(table).splitlines() if "arena" in line)
    assert arena.split()[1:] == ["118,080", "85,312", "-32.00", "KiB", "(32,768", "B)"]
    assert "recomputed_activation" in text_of(table)


def test_execution_order_marks_steps_that_stay_idle() -> None:
    lines = {
        words[0]: words[2:]
        for line in text_of(execution_order_table(GELU_BLOCK)).splitlines()
        if len(words := line.split()) > 6
    }
    assert lines["fc2"] == ["3", "15", "20", "21", "22", "block0"]
    assert lines["act2"] == ["4", "(16)", "17", "18", "19", "block0"]
    assert lines["fc3"] == ["5", "0", "10", "11", "12"]


def test_tables_fit_into_80_characters() -> None:
    for table in (
        totals_table(GELU_BLOCK),
        kind_table(GELU_BLOCK),
        biggest_table(GELU_BLOCK, 8),
        comparison_table(GELU_PLAIN, GELU_BLOCK),
        execution_order_table(GELU_BLOCK),
    ):
        assert all(len(line) <= 80 for line in text_of(table).splitlines())
        assert "…" not in text_of(table)


def test_summary_is_json_and_the_same_each_time() -> None:
    first = json.dumps(plan_summary(GELU_BLOCK), allow_nan=False)
    again = mlp([16, 16, 16], 256, "gelu", block=["fc1", "act1", "fc2", "act2"])
    assert json.dumps(plan_summary(again), allow_nan=False) == first
    summary = json.loads(first)
    assert summary["arena_bytes"] == 85_312
    assert summary["blocks"] == [
        {
            "name": "block0",
            "layers": ["fc1", "act1", "fc2", "act2"],
            "recomputed": ["fc1", "act1", "fc2"],
        }
    ]
    assert summary["execution_order"]["fc1"]["recompute"] == 13


# -- sentences -------------------------------------------------------------------------


def test_explains_that_no_block_helps() -> None:
    # the input, a weight, its gradient and a derivative: all that one step needs
    text = sentences(ONE)
    assert "step 6, calc_gradient of fc1" in text
    assert "No block helps here" in text
    assert "local lower bound" in text
    assert "Checkpointing" not in text


def test_explains_how_much_blocks_could_still_save() -> None:
    text = sentences(RELU_PLAIN)
    most = RELU_PLAIN.arena_bytes - RELU_PLAIN.local_lower_bound_bytes
    assert most == 32_768
    assert f"by {format_bytes(most)} at the very most" in text
    assert "No block helps" not in text


def test_explains_blocks_that_change_nothing() -> None:
    assert RELU_BLOCK.arena_bytes == RELU_PLAIN.arena_bytes
    text = sentences(RELU_BLOCK, RELU_PLAIN)
    assert "Checkpointing saves nothing" in text
    assert "changes no live range" in text


def test_explains_what_blocks_save_and_what_they_run_again() -> None:
    text = sentences(GELU_BLOCK, GELU_PLAIN)
    assert "Checkpointing saves 32.00 KiB (32,768 B), 27.8 %," in text
    assert "the forward of fc1, act1 and fc2 runs twice" in text


def test_explains_blocks_that_cost_bytes() -> None:
    # The sigmoid needs only its output: without a block its input dies early. With
    # one, the input is kept until the recompute.
    def plan(block: Sequence[str]) -> MemoryPlan:
        model = Model()
        model.add_layer("input", name="in", input_shape="1:1:16")
        model.add_layer("activation", name="act0", activation="sigmoid")
        model.add_layer("fully_connected", name="fc1", unit=1)
        model.add_layer("activation", name="act2", activation="sigmoid")
        model.add_layer("fully_connected", name="fc3", unit=4)
        model.add_layer("mse", name="loss")
        if block:
            model.add_checkpoint_block(block)
        model.set_property(batch_size=256)
        return model.make_plan()

    with_block, without = plan(["act0", "fc1", "act2", "fc3"]), plan([])
    cost = with_block.arena_bytes - without.arena_bytes
    assert cost > 0
    text = sentences(with_block, without)
    assert f"Checkpointing costs {format_bytes(cost)}" in text
    assert "in:out0 is kept until the recompute" in text


def test_says_when_only_the_layout_differs() -> None:
    # nothing is recomputed, but a heuristic may lay the same live ranges out otherwise
    for other_bytes, verb in ((-64, "costs"), (64, "saves")):
        arena_bytes = RELU_PLAIN.arena_bytes + other_bytes
        without = replace(RELU_PLAIN, arena_bytes=arena_bytes)
        text = sentences(RELU_BLOCK, without)
        assert f"Checkpointing {verb} 64 B: the block" in text
        assert "happened to get another layout" in text


def test_says_when_a_recompute_costs_bytes_only_by_its_layout() -> None:
    without = replace(GELU_PLAIN, arena_bytes=GELU_BLOCK.arena_bytes - 64)
    text = sentences(GELU_BLOCK, without)
    assert "Checkpointing costs 64 B: not because more bytes are alive" in text


def test_explains_gradients_that_clipping_keeps() -> None:
    assert "clipping" in sentences(mlp([16, 16], 4, clip_grad_by_norm=1.0))


def test_explains_that_reuse_is_off() -> None:
    plan = mlp([16, 16], 4, memory_optimization=False)
    text = sentences(plan, plan)
    assert "Memory optimization is off" in text
    assert format_bytes(plan.arena_bytes) in text
