"""The walk over a plan's bytes: what it lets pass, and each rule alone."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers.mixed_graphs import MixedSpec, mixed_graphs
from helpers.plan_faults import PLANS
from helpers.plan_surgery import NETS, life, place_of, plan_of, with_buffer, with_life
from helpers.strategies import ModelSpec, chain, dags
from helpers.synthetic_plans import synthetic_plan
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt.errors import ArenaError, DataflowError
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.verification import dataflow
from arena_ckpt.verification.byte_map import NOTHING, ByteMap
from arena_ckpt.verification.dataflow import Dataflow, check_dataflow

# -- bytes -----------------------------------------------------------------------------


def test_a_map_of_bytes() -> None:
    held = ByteMap(10)
    assert held.holds(0, 10, NOTHING)
    held.fill(2, 6, 1)
    held.fill(4, 8, 2)
    assert held.holds(2, 4, 1)
    assert held.holds(4, 8, 2)
    assert held.first_other(2, 8, 1) == (4, 2)
    assert held.first_other(0, 10, NOTHING) == (2, 1)
    assert held.first_other(8, 10, NOTHING) is None
    held.fill(3, 3, 9)  # nothing
    assert held.holds(2, 4, 1)


RANGES = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)


@given(st.lists(st.tuples(RANGES, st.integers(1, 3)), max_size=12), RANGES)
def test_a_map_is_an_array_of_labels(
    fills: list[tuple[list[int], int]], asked: list[int]
) -> None:
    held, expected = ByteMap(12), np.zeros(12, dtype=int)
    for (start, stop), label in fills:
        held.fill(start, stop, label)
        expected[start:stop] = label
    start, stop = asked
    for label in range(4):
        others = [i for i in range(start, stop) if expected[i] != label]
        found = held.first_other(start, stop, label)
        assert found == ((others[0], expected[others[0]]) if others else None)


# -- plans that are right --------------------------------------------------------------


def check_all_plans(spec: ModelSpec) -> None:
    for one in (spec, spec.with_properties(memory_optimization=False)):
        model = one.model()
        for debug in (False, True):
            plan = model.make_plan(debug=debug)
            check_dataflow(plan, ModelPlans(model).graph_of(plan))
    model = spec.model()
    every = "recompute,in_place,layerwise_update,tiled_attention,tiled_update"
    for point in model.pareto(allow=f"{every},micro_batch"):
        check_dataflow(point.plan, ModelPlans(model).graph_of(point.plan))


@settings(derandomize=True, deadline=None, max_examples=5)
@given(dags())
def test_all_plans_of_random_graphs(spec: ModelSpec) -> None:
    check_all_plans(spec)


@settings(derandomize=True, deadline=None, max_examples=5)
@given(mixed_graphs())
def test_all_plans_of_graphs_of_all_layers(spec: MixedSpec) -> None:
    check_all_plans(spec)


def test_what_was_walked_is_counted() -> None:
    model = chain(3, batch_size=6).model()
    plan = model.make_plan()
    assert check_dataflow(plan, model.compile()) == Dataflow(
        n_tensors=10, n_steps=len(plan.steps), n_passes=1, n_reads=14, n_writes=8
    )
    model.set_property(micro_batches=3)
    plan = model.make_plan()
    assert check_dataflow(plan, model.compile()).n_passes == 2


@pytest.mark.parametrize("n_tensors", [30_000])
def test_a_plan_of_many_tensors(n_tensors: int) -> None:
    plan = synthetic_plan(n_tensors)
    lives = (replace(t, kind=TensorKind.ACTIVATION) for t in plan.tensors)
    flow = check_dataflow(replace(plan, tensors=tuple(lives)))
    assert flow.n_writes == n_tensors


# -- rules -----------------------------------------------------------------------------


def refused(plan: MemoryPlan, net: str | None = "mlp") -> DataflowError:
    graph = None if net is None else ModelPlans(NETS[net].model()).graph_of(plan)
    with pytest.raises(DataflowError) as caught:
        check_dataflow(plan, graph)
    error = caught.value
    assert isinstance(error, ArenaError)
    assert isinstance(error, AssertionError)
    assert f"breaks the rule of {error.rule}: " in str(error)
    assert str(error.tensor) in str(error)
    return error


def test_an_arena_that_is_too_small() -> None:
    plan = plan_of("mlp")
    error = refused(replace(plan, arena_bytes=plan.arena_bytes - 64))
    assert (error.rule, error.step, error.layer) == ("arena", None, None)
    assert f"of an arena of {plan.arena_bytes - 64}" in str(error)


def test_an_offset_that_is_not_aligned() -> None:
    plan = plan_of("mlp")
    error = refused(with_buffer(plan, place_of(plan, "fc1:out0"), offset_bytes=4612))
    assert (error.rule, error.tensor) == ("alignment", "fc1:out0")
    assert "begins at 4612, no multiple of 64" in str(error)


def test_a_read_of_stale_bytes_names_who_wrote_there() -> None:
    plan = plan_of("mlp")
    there = plan.buffers[place_of(plan, "in:out0")].offset_bytes
    error = refused(with_buffer(plan, place_of(plan, "fc2:out0"), offset_bytes=there))
    assert (error.rule, error.tensor, error.layer) == ("stale", "in:out0", "fc1")
    assert "step 21, recompute of fc1 reads in:out0 in role in0" in str(error)
    assert "with act2:out0, written by step 4, forward of act2" in str(error)


def test_a_weight_that_is_overwritten_after_its_last_use() -> None:
    plan = plan_of("mlp")
    there = plan.buffers[place_of(plan, "fc4:bias")].offset_bytes
    late = place_of(plan, "fc1:bias:grad")
    error = refused(with_buffer(plan, late, offset_bytes=there))
    assert (error.rule, error.tensor) == ("kept", "fc4:bias")
    assert "the next iteration finds byte" in str(error)
    assert "with fc1:bias:grad, written by step 34, calc_gradient of fc1" in str(error)


def test_a_weight_that_the_samples_are_loaded_over() -> None:
    plan = plan_of("mlp")
    there = plan.buffers[place_of(plan, "in:out0")].offset_bytes
    error = refused(with_buffer(plan, place_of(plan, "fc1:bias"), offset_bytes=there))
    assert (error.rule, error.tensor, error.layer) == ("stale", "fc1:bias", "fc1")
    assert "with in:out0, written by the load of the batch" in str(error)


def test_two_views_of_one_tensor_and_a_view_of_a_view() -> None:
    layers = (
        ("input", {"name": "x", "input_shape": (2, 2, 2)}),
        ("flatten", {"name": "flat", "input_layers": ["x"]}),
        ("identity", {"name": "both", "input_layers": ["x", "x", "flat"]}),
        ("flatten", {"name": "a", "input_layers": ["both"]}),
        ("flatten", {"name": "b", "input_layers": ["both(1)"]}),
        ("addition", {"name": "sum", "input_layers": ["a", "b", "both(2)"]}),
        ("fully_connected", {"name": "fc", "unit": 2}),
        ("mse", {"name": "loss"}),
    )
    check_all_plans(ModelSpec(layers, (("both", "a", "b"),), {"batch_size": 2}))


def test_without_a_graph_a_plan_is_taken_at_its_word() -> None:
    plan = plan_of("transformer")
    with pytest.raises(DataflowError, match="rule of in_place"):
        check_dataflow(plan)  # nobody says that additions hand derivatives on
    assert check_dataflow(plan_of("mlp")) == check_dataflow(
        plan_of("mlp"), NETS["mlp"].model().compile()
    )
    late = with_life(plan_of("mlp"), life(plan_of("mlp"), "fc4:out0"), start=8)
    assert refused(late, None).rule == "life"


def test_every_rule_is_documented_and_every_documented_rule_exists() -> None:
    documented = set(re.findall(r"^``(\w+)`` ", dataflow.__doc__ or "", re.MULTILINE))
    used = {fault.rule for fault in PLANS.values() if fault.check == "dataflow"}
    assert used | {"arena", "alignment", "kept"} == documented
