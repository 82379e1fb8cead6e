"""What no step of training writes lies in a memory of its own, beside the RAM."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers.frozen import head_only
from helpers.plan_surgery import NETS
from helpers.strategies import chains, dags
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import MemoryPlan, Model
from arena_ckpt.checkpoint.needs import Needs
from arena_ckpt.errors import (
    BudgetError,
    InvalidParameterError,
    PlanFormatError,
    PlanMismatchError,
)
from arena_ckpt.examples import load_example
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.planning.touches import Touches

FROZEN = NETS["frozen"]
"""Convolution and batch normalization between trained layers are frozen."""


def apart(plan: MemoryPlan) -> set[str]:
    return {b.tensor for b in plan.buffers if b.is_constant}


def test_what_no_step_writes_lies_beside_the_arena() -> None:
    plan = FROZEN.model().make_plan()
    statistics = ("moving_mean", "moving_variance", "gamma", "beta")
    expected = ["conv2:filter", "conv2:bias", *(f"bn2:{name}" for name in statistics)]
    assert apart(plan) == set(expected)
    places = {b.tensor: b.offset_bytes for b in plan.buffers if b.is_constant}
    assert places == dict(
        zip(expected, (0, 576, 640, 704, 768, 832), strict=True)
    )  # 4 filters of 4 × 3 × 3 floats, then vectors of 4, each from a multiple of 64 on
    assert plan.constant_bytes == 896
    assert plan.arena_bytes == max(
        b.offset_bytes + plan.taken_bytes(b.size_bytes) for b in plan.ram_buffers
    )


def test_memories_say_what_is_taken_and_touched() -> None:
    plan = FROZEN.model().make_plan()
    arena, constants = plan.memories.values()
    assert (arena.name, arena.height_bytes) == ("arena", plan.arena_bytes)
    assert (constants.name, constants.height_bytes) == ("constants", 896)
    assert (arena.is_constant, constants.is_constant) == (False, True)
    assert arena.size_bytes is constants.size_bytes is None
    # The filter is read forward and by the derivative.
    index = {t.name: i for i, t in enumerate(plan.tensors)}
    counted = sum(
        plan.tensors[operand.tensor].size_bytes
        for execution in plan.executions
        for operand in execution.operands
        if operand.tensor in {index[name] for name in apart(plan)}
    )
    assert constants.touched_bytes == counted
    assert counted >= 2 * 576


def test_in_the_arena_it_is_one_block() -> None:
    model = FROZEN.model()
    one, two = model.make_plan(constants="arena"), model.make_plan()
    assert (one.constant_bytes, apart(one)) == (0, set())
    assert list(one.memories) == ["arena"]
    assert one.arena_bytes == two.arena_bytes + two.constant_bytes
    assert one.steps == two.steps
    assert one.tensors == two.tensors


def test_bounds_count_the_ram_alone() -> None:
    model = FROZEN.model()
    one, two = model.make_plan(constants="arena"), model.make_plan()
    for name in ("local_lower_bound", "live_lower_bound", "naive"):
        whole, ram = (getattr(plan, f"{name}_bytes") for plan in (one, two))
        assert whole == ram + two.constant_bytes, name
    assert max(two.live_bytes()) == two.live_lower_bound_bytes


def test_the_search_counts_the_ram_alone() -> None:
    """A budget that the RAM meets is met, however large the constants are."""
    model = head_only(load_example("digits_cnn").model, 2, batch_size=4)
    plans = ModelPlans(model)
    graph = plans.graph_with(False)
    needs = [
        Needs(Touches(graph, plans.settings(constants=place))).base_bytes
        for place in ("arena", "flash")
    ]
    assert needs[0] - needs[1] == model.make_plan().constant_bytes
    whole = [
        {point.arena_bytes for point in model.pareto(constants=place)}
        for place in ("arena", "flash")
    ]
    shift = model.make_plan().constant_bytes
    assert {n - shift for n in whole[0]} == whole[1]
    least = min(whole[1])
    assert model.choose_plan(budget=least).arena_bytes <= least
    with pytest.raises(BudgetError):
        model.choose_plan(budget=least, constants="arena")


@pytest.mark.parametrize(
    ("name", "arena_bytes", "constant_bytes"),
    [
        ("resnet8", 276_864, 312_256),
        ("mobilenet_v2", 689_344, 1_642_112),
        ("char_transformer", 397_056, 2_429_440),
        ("keyword_gru", 51_520, 58_368),
    ],
)
def test_a_trained_head_on_a_frozen_trunk(
    name: str, arena_bytes: int, constant_bytes: int
) -> None:
    plan = head_only(load_example(name).model, batch_size=1).make_plan()
    assert (plan.arena_bytes, plan.constant_bytes) == (arena_bytes, constant_bytes)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.one_of(chains(), dags()), st.booleans())
def test_of_random_models_what_is_apart_is_never_written(spec, debug: bool) -> None:  # type: ignore[no-untyped-def]
    model = spec.model()
    one = model.make_plan(debug=debug, constants="arena")
    two = model.make_plan(debug=debug)
    written = {
        two.tensors[operand.tensor].name
        for execution in two.executions
        for operand in execution.operands
        if operand.access.writes
    }
    weights = {t.name for t in two.tensors if t.kind is TensorKind.WEIGHT}
    assert apart(two) == weights - written
    if not apart(two):
        assert one == two


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "transformer"])
def test_without_frozen_weights_nothing_is_said_of_memories(name: str) -> None:
    plan = load_example(name).model.make_plan()
    document = json.loads(plan.to_json())
    assert document["version"] == 6
    for key in ("constant_bytes", "rams"):
        assert key not in document
    assert all("memory" not in buffer for buffer in document["buffers"])


def test_a_plan_with_constants_is_read_back() -> None:
    plan = FROZEN.model().make_plan()
    assert MemoryPlan.from_json(plan.to_json()) == plan
    FROZEN.model().initialize(plan=plan)


def test_plans_of_either_kind_are_ones_of_the_model() -> None:
    for constants in ("flash", "arena"):
        plan = FROZEN.model().make_plan(constants=constants)
        model = FROZEN.model()
        assert model.initialize(plan=plan) == plan


def test_constants_elsewhere_than_planned_are_refused() -> None:
    plan = FROZEN.model().make_plan()
    trained = next(b for b in plan.buffers if b.tensor == "out:bias")
    wrong = replace(trained, memory="constants", offset_bytes=plan.constant_bytes)
    buffers = tuple(wrong if b is trained else b for b in plan.buffers)
    changed = replace(plan, buffers=buffers, constant_bytes=plan.constant_bytes + 64)
    with pytest.raises(PlanMismatchError, match="constant_bytes"):
        FROZEN.model().initialize(plan=changed)
    with pytest.raises(PlanFormatError, match="out:bias lies in 'constants', and step"):
        MemoryPlan.from_json(changed.to_json())


@pytest.mark.parametrize("value", ["ram", "", None, 1, ["flash"]])
def test_a_place_that_there_is_not(value: object) -> None:
    model: Model = FROZEN.model()
    for ask in (model.make_plan, model.pareto, model.initialize):
        with pytest.raises(InvalidParameterError, match="give 'flash' for a read-only"):
            ask(constants=value)  # type: ignore[operator]
    assert not model.is_initialized


def test_a_plan_with_a_frozen_layer_is_none_of_the_thawed_model() -> None:
    whole = load_example("digits_cnn").model
    plan = head_only(whole, batch_size=4).make_plan()
    thawed = head_only(whole, 2, batch_size=4)
    with pytest.raises(PlanMismatchError, match="differs in trainable of layer"):
        thawed.initialize(plan=plan)
    assert not thawed.is_initialized
