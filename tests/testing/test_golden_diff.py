"""Golden diffs as people read them: the first lines name the cause."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.strategies import ModelSpec, chain, chains
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import Model, load_example
from arena_ckpt.cli import main
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.testing import write_golden
from arena_ckpt.testing.diff_causes import out_of_order
from arena_ckpt.testing.diff_steps import steps_of
from arena_ckpt.testing.golden_changes import Change, change_of_bytes
from arena_ckpt.testing.golden_diff import compare, differences
from arena_ckpt.testing.golden_text import GoldenPlan, golden_plan

BLOCK = ("fc1", "act1", "fc2", "act2")


def net(
    unit: int = 16,
    activation: str = "relu",
    optimizer: str = "adam",
    dropout: bool = False,
    block: Sequence[str] = BLOCK,
    first: str = "fc1",
    **properties: Any,
) -> MemoryPlan:
    """Plan four fully connected layers, of which fc2 has another width on demand."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:16")
    for n in range(1, 5):
        name = first if n == 1 else f"fc{n}"
        model.add_layer("fully_connected", name=name, unit=unit if n == 2 else 16)
        kind = activation if n == 1 else "relu"
        model.add_layer("activation", name=f"act{n}", activation=kind)
        if dropout and n == 3:
            model.add_layer("dropout", name="drop", dropout_rate=0.1)
    model.add_layer("fully_connected", name="out", unit=10)
    model.add_layer("cross_softmax", name="loss")
    if block:
        model.add_checkpoint_block([first if n == "fc1" else n for n in block], "b")
    model.set_property(**{"batch_size": 32, **properties})
    model.set_optimizer(optimizer)
    return model.make_plan()


def told(new: MemoryPlan, old: MemoryPlan | None = None) -> str:
    old = net() if old is None else old
    return "\n".join(differences(golden_plan(old), golden_plan(new)))


SCENARIOS: dict[str, tuple[dict[str, Any], str]] = {
    "a widened layer": (
        {"unit": 24},
        """
cause:
  fc2: unit 16 → 24
tensors:
  16 → 24 in the shapes of 16 tensors: act2:out0, act2:out0:grad, fc2:bias and 13 more
consequences:
  arena 27,520 → 31,808 B (+15.58 %)
  live lower bound 27,520 → 31,808 B (+15.58 %)
  local lower bound 20,480 → 25,344 B (+23.75 %)
  naive 64,384 → 72,832 B (+13.12 %)
  16 sizes changed with it
  64 offsets moved
""",
    ),
    "another activation": (
        {"activation": "gelu"},
        """
cause:
  act1: activation relu → gelu
tensors:
  act1:out0#1: live until calc_derivative of act1 → calc_gradient of fc2
  fc1:out0#1: live until recompute of act1 → calc_derivative of act1
consequences:
  2 tensors used by other steps
  3 offsets moved
""",
    ),
    "another optimizer": (
        {"optimizer": "sgd"},
        """
cause:
  optimizer adam → sgd, learning_rate 0.001 → 0.01
tensors:
  20 of kind optimizer_state gone: fc1:bias:first_moment, fc1:bias:second_moment, fc1:weight:first_moment and 17 more
consequences:
  arena 27,520 → 17,408 B (−36.74 %)
  live lower bound 27,520 → 17,408 B (−36.74 %)
  local lower bound 20,480 → 10,368 B (−49.38 %)
  naive 64,384 → 54,272 B (−15.71 %)
  43 offsets moved
""",  # noqa: E501 - as it is printed
    ),
    "an inserted layer": (
        {"dropout": True},
        """
cause:
  drop: inserted behind act3 (dropout, dropout_rate=0.1)
tensors:
  act3:out0:grad: live from calc_derivative of fc4 → calc_derivative of drop
  2 of inserted layers: drop:out0, drop:out0:grad
consequences:
  arena 27,520 → 29,568 B (+7.44 %)
  live lower bound 27,520 → 29,568 B (+7.44 %)
  naive 64,384 → 68,480 B (+6.36 %)
  steps 48 → 52
  peak step 15 (calc_derivative of out) → 16 (calc_derivative of out)
  41 steps renumbered: +1 from forward of fc4 to apply_gradient of fc4, +4 from calc_gradient of act3 on
  2 tensors used by other steps
  12 offsets moved
""",  # noqa: E501 - as it is printed
    ),
    "a removed block": (
        {"block": ()},
        """
cause:
  block b: removed (fc1 act1 fc2 act2)
tensors:
  2 of kind recomputed_activation gone: act1:out0#1, fc1:out0#1
  act1:out0: live until forward of fc2 → calc_derivative of act1
consequences:
  arena 27,520 → 29,568 B (+7.44 %)
  live lower bound 27,520 → 29,568 B (+7.44 %)
  naive 64,384 → 60,288 B (−6.36 %)
  steps 48 → 44
  no longer recomputed: fc1, act1, fc2, act2
  15 steps renumbered: −4 from calc_gradient of act2 on
  4 tensors used by other steps
  30 offsets moved
""",
    ),
    "a moved block": (
        {"block": ("fc3", "act3", "fc4", "act4")},
        """
cause:
  block b: fc1 act1 fc2 act2 → fc3 act3 fc4 act4
tensors:
  2 of kind recomputed_activation gone: act1:out0#1, fc1:out0#1
  2 of kind recomputed_activation new: act3:out0#1, fc3:out0#1
  act1:out0: live until forward of fc2 → calc_derivative of act1
  act3:out0: live until calc_derivative of act3 → forward of fc4
consequences:
  arena 27,520 → 28,672 B (+4.19 %)
  live lower bound 27,520 → 28,672 B (+4.19 %)
  peak step 15 (calc_derivative of out) → 25 (calc_derivative of fc4)
  recomputed as well: fc3, act3, fc4, act4
  no longer recomputed: fc1, act1, fc2, act2
  12 steps renumbered: +4 from calc_gradient of act4 to apply_gradient of fc3
  8 tensors used by other steps
  27 offsets moved
""",
    ),
    "a larger batch": (
        {"batch_size": 64},
        """
cause:
  batch size 32 → 64
tensors:
  32 → 64 in the shapes of 23 tensors: act1:out0, act1:out0#1, act1:out0:grad and 20 more
consequences:
  arena 27,520 → 39,040 B (+41.86 %)
  live lower bound 27,520 → 39,040 B (+41.86 %)
  local lower bound 20,480 → 24,576 B (+20.00 %)
  naive 64,384 → 108,416 B (+68.39 %)
  23 sizes changed with it
  32 offsets moved
""",  # noqa: E501 - as it is printed
    ),
    "no reuse of memory": (
        {"memory_optimization": False},
        """
the model is the same; the plan differs:
consequences:
  arena 27,520 → 64,384 B (+133.95 %)
  live lower bound 27,520 → 64,384 B (+133.95 %)
  peak step 15 (calc_derivative of out) → 0 (forward of in)
  64 offsets moved
""",
    ),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_person_reads_the_cause_first(scenario: str) -> None:
    change, expected = SCENARIOS[scenario]
    assert told(net(**change)) == expected.strip("\n")
    assert len(expected.splitlines()) <= 20


def test_nothing_is_told_of_the_same_plan() -> None:
    assert told(net()) == ""


# -- each kind of cause ----------------------------------------------------------------


def first_lines(new: Model, old: Model, n: int = 2) -> list[str]:
    return told(new.make_plan(), old.make_plan()).splitlines()[:n]


SPEC = chain(8, "relu", 8, "relu", 8, "relu", 4, optimizer=("adam", {}))


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (
            dataclasses.replace(SPEC, optimizer=("adam", {"learning_rate": 0.01})),
            "optimizer adam: learning_rate 0.001 → 0.01",
        ),
        (SPEC.with_properties(clip_grad_by_norm=1), "clip_grad_by_norm none → 1.0"),
        (SPEC.with_properties(micro_batches=2), "micro batches 1 → 2"),
        (SPEC.with_properties(arithmetic="portable"), "arithmetic fast → portable"),
        (
            chain(8, "relu", 8, "relu", 8, "relu", 4, loss="cross_sigmoid"),
            "loss: type mse → cross_sigmoid",
        ),
        (
            chain(8, "gelu", 8, "gelu", 8, "gelu", 4, optimizer=("adam", {})),
            "3 layers: activation relu → gelu (act1, act2, act3)",
        ),
        (
            dataclasses.replace(SPEC, blocks=(("fc2", "act2"),)),
            "block block0: new (fc2 act2)",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_cause_has_a_line(spec: ModelSpec, line: str) -> None:
    head, found = first_lines(spec.model(), SPEC.model())
    assert head in ("cause:", "causes:")
    assert found == f"  {line}"


def test_a_schedule_is_a_cause() -> None:
    from arena_ckpt import create_schedule

    new = SPEC.model()
    new.set_learning_rate_scheduler(create_schedule("constant", learning_rate=0.1))
    plans = new.make_plan(), SPEC.model().make_plan()
    assert told(*plans) == "cause:\n  schedule none → constant"


def joined(*inputs: str, order: tuple[str, str] = ("a", "b")) -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:8")
    for name in order:
        model.add_layer("fully_connected", name=name, unit=8, input_layers="in")
    model.add_layer("addition", name="sum", input_layers=", ".join(inputs))
    model.add_layer("mse", name="loss")
    return model


def test_other_connections_are_a_cause() -> None:
    lines = first_lines(joined("b", "a"), joined("a", "b"))
    assert lines == ["cause:", "  sum: reads a, b → b, a"]


def test_another_order_of_layers_is_a_cause() -> None:
    lines = first_lines(joined("a", "b", order=("b", "a")), joined("a", "b"))
    assert lines == ["cause:", "  a: moved, behind in/generated_out_0 → behind b"] or (
        lines == ["cause:", "  b: moved, behind a → behind in/generated_out_0"]
    )


def test_many_layers_in_one_place_share_a_line() -> None:
    longer = chain(*(8, "relu") * 6, 4, optimizer=("adam", {}))
    shorter = chain(*(8, "relu") * 3, 4, optimizer=("adam", {}))
    lines = first_lines(longer.model(), shorter.model(), 4)
    assert any("layers inserted behind" in line for line in lines)


def test_a_renamed_layer_is_no_other_layer() -> None:
    """All that is told is the new name; the block has its layer by it."""
    assert told(net(first="first")) == "cause:\n  fc1: renamed to first"


def test_without_a_cause_the_model_is_said_to_be_the_same() -> None:
    plan = net()
    golden = golden_plan(plan)
    other = dataclasses.replace(golden, facts=golden.facts | {"allocator": "another"})
    assert differences(golden, other) == [
        "the model is the same; the plan differs:",
        "consequences:",
        f"  allocator {plan.allocator} → another",
    ]


def test_without_pinned_properties_nothing_is_said_of_the_model() -> None:
    golden = golden_plan(net())
    facts = {k: v for k, v in golden.facts.items() if k != "optimizer"}
    old = dataclasses.replace(golden, layers={}, facts=facts, version=2)
    assert differences(old, golden) == []
    other = dataclasses.replace(golden, facts=golden.facts | {"allocator": "another"})
    assert differences(old, other)[0] == "no cause is pinned; the plan differs:"


# -- each cell of a row ----------------------------------------------------------------

PINNED = golden_plan(net(block=()))

CELLS = {
    "kind": ("activation", "derivative", "kind activation → derivative"),
    "dtype": ("float32", "int32", "dtype float32 → int32"),
    "shape": ("32x1x1x16", "16x1x1x32", "shape 32x1x1x16 → 16x1x1x32"),
    "size": ("size=2048", "size=4096", "size 2,048 → 4,096 B (+100.00 %)"),
    "offset": ("offset={}", "offset=65536", "offset {} → 65,536"),
    "live": ("live=1..3", "live=1..4", "live until forward of act1 → forward of fc2"),
    "start": ("live=1..3", "live=0..3", "live from forward of fc1 → the beginning"),
    "use": (
        *("uses=F1w,F2r", "uses=F1w,F3r"),
        "used by forward of act1 (read) → forward of fc2 (read)",
    ),
    "access": (
        *("uses=F1w,F2r", "uses=F1w,F2u"),
        "used by forward of act1 (read) → forward of act1 (update)",
    ),
    "phase": (
        *("uses=F1w,F2r", "uses=F1w,D2r"),
        "used by forward of act1 (read) → calc_derivative at step 2 (read)",
    ),
}
"""By what is changed of fc1's output: a cell of its row, another one, what is told."""


@pytest.mark.parametrize("what", CELLS)
def test_every_cell_of_a_tensor_that_changes_is_told(what: str) -> None:
    row = PINNED.tensors["fc1:out0"]
    offset = row[4].removeprefix("offset=")
    place = f"{int(offset):,}"
    cell, changed, told_ = CELLS[what]
    cell = cell.replace("{}", offset)
    assert cell in row, row
    after = tuple(changed if one == cell else one for one in row)
    tensors = {**PINNED.tensors, "fc1:out0": after}
    other = dataclasses.replace(PINNED, tensors=tensors)
    assert differences(PINNED, other)[2:] == [
        f"  fc1:out0: {told_.replace('{}', place)}"
    ]


@pytest.mark.parametrize("place", range(6))
def test_every_order_of_a_layer_that_changes_is_told(place: int) -> None:
    row = list(PINNED.orders["fc2"])
    row[place] = "99"
    other = dataclasses.replace(PINNED, orders={**PINNED.orders, "fc2": tuple(row)})
    diff = compare(PINNED, other)
    changes = [one for one in diff.causes + diff.consequences if "fc2" in one.name]
    recomputed = Change("recompute", "fc2", "0", "1", "fc2: recomputed 0 → 1 times")
    assert recomputed in changes if place == 2 else "99" in [o.after for o in changes]
    assert any("fc2" in line for line in differences(PINNED, other))


@pytest.mark.parametrize("fact", [f for f in PINNED.facts if f != "written_by"])
def test_every_fact_that_changes_is_told(fact: str) -> None:
    other = dataclasses.replace(PINNED, facts={**PINNED.facts, fact: "7"})
    label = fact.removesuffix("_bytes").removeprefix("n_").split("_")[0]
    lines = [o for o in differences(PINNED, other) if o.startswith(f"  {label}")]
    assert len(lines) == 1
    assert "→ 7" in lines[0]


def test_another_order_of_blocks_is_told() -> None:
    two = dataclasses.replace(PINNED, blocks={"b": ("fc1", "act1"), "c": ("fc2",)})
    turned = dataclasses.replace(two, blocks=dict(reversed(two.blocks.items())))
    assert differences(two, turned) == ["cause:", "  blocks come in another order"]


def test_bytes_are_told_with_their_share() -> None:
    change = change_of_bytes(9_441_280, 9_437_184)
    assert change == "9,441,280 → 9,437,184 B (−0.04 %)"
    assert change_of_bytes(100, 150) == "100 → 150 B (+50.00 %)"
    assert change_of_bytes(0, 64) == "0 → 64 B"


# -- steps -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("nine_layer_mlp", {}),
        ("resnet8", {}),
        ("keyword_gru", {}),
        ("digits_mlp", {"mode": "inference"}),
        ("char_transformer", {}),
    ],
)
def test_what_runs_at_a_step_is_what_the_plan_says(
    name: str, request_: dict[str, Any]
) -> None:
    plan = load_example(name).model.make_plan(**request_)
    steps = steps_of(golden_plan(plan))
    assert steps.n_steps == len(plan.steps)
    for number, step in enumerate(plan.steps):
        operation = steps.operations.get(number)
        if step is not None and step.phase.value == "clip_gradients":
            assert operation is not None
            assert operation.phase == step.phase.value
        elif step is not None:
            assert operation is not None
            assert (operation.phase, operation.layer) == (step.phase.value, step.layer)


@given(st.permutations(range(8)))
def test_without_what_is_out_of_order_two_orders_are_one(order: list[int]) -> None:
    before = [f"l{n}" for n in range(8)]
    after = [f"l{n}" for n in order]
    moved = out_of_order(before, after)
    rest = [name for name in after if name not in moved]
    assert rest == sorted(rest)
    longest = [1] * 8
    for i in range(8):
        longest[i] += max(
            (longest[j] for j in range(i) if order[j] < order[i]), default=0
        )
    assert len(rest) == max(longest)


# -- all of it -------------------------------------------------------------------------


def rows_of(golden: GoldenPlan) -> object:
    return (
        [list(rows.items()) for rows in (golden.orders, golden.blocks, golden.tensors)],
        list(golden.layers.items()),
        {k: v for k, v in golden.facts.items() if k != "written_by"},
    )


@settings(derandomize=True, deadline=None, max_examples=40)
@given(chains(), chains())
def test_plans_differ_exactly_where_a_difference_is_told(
    one: ModelSpec, other: ModelSpec
) -> None:
    old, new = (golden_plan(spec.model().make_plan()) for spec in (one, other))
    is_same = rows_of(old) == rows_of(new)
    assert (differences(old, new) == []) is is_same
    assert differences(old, old) == []
    diff = compare(old, new)
    assert json.loads(json.dumps(diff.document()))
    assert all(isinstance(one, Change) and one.text for one in diff.causes)


def test_long_lists_are_cut_in_text_and_whole_in_json(tmp_path: Path) -> None:
    old = load_example("resnet8").model.make_plan()
    source = {"model": "resnet18", "sizes": "{}", "variant": "named-blocks"}
    write_golden(old, tmp_path / "x.plan", source)
    shown = CliRunner().invoke(main, ["golden", "check", str(tmp_path)])
    assert shown.exit_code == 1
    lines = shown.stdout.splitlines()
    assert len(lines) < 45
    assert any(line.strip().startswith("… and ") for line in lines)
    assert lines[-1] == (
        f"each difference: arena-ckpt golden check {tmp_path} --json; if they are "
        f"meant: arena-ckpt golden update {tmp_path}"
    )
    whole = CliRunner().invoke(main, ["golden", "check", str(tmp_path), "--json"])
    (file,) = json.loads(whole.stdout)["files"]
    assert file["state"] == "differs"
    assert {one["what"] for one in file["causes"]} == {
        *("inserted", "property", "inputs", "block"),
    }
    offsets = [one for one in file["consequences"] if one["what"] == "offset"]
    assert f"  {len(offsets)} offsets moved" in "\n".join(lines)
    assert len(file["tensors"]) > 200
    first = file["causes"][0]
    assert first.keys() == {"what", "name", "detail", "before", "after", "text"}


def test_text_of_nntrainer_is_whole_in_json(tmp_path: Path) -> None:
    source = {"model": "resnet8", "sizes": "{}", "variant": "no-blocks"}
    plan = load_example("resnet8").model.make_plan()
    write_golden(plan, tmp_path / "x.plan", source)
    (tmp_path / "x.exegolden").write_text("in:out0, 7\n")
    arguments = ["golden", "check", str(tmp_path), "--format", "nntrainer"]
    shown = CliRunner().invoke(main, arguments).stdout
    assert "more tensors" in shown
    whole = CliRunner().invoke(main, [*arguments, "--json"]).stdout
    (file,) = json.loads(whole)["files"]
    assert len(file["differences"]) > 60
    assert not any(line.startswith("…") for line in file["differences"])
