"""What a plan says of itself, for plans small enough to add up by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.strategies import chain

from arena_ckpt.common.phases import Phase
from arena_ckpt.engine.arena import CANARY_BYTES
from arena_ckpt.planning.costs import BYTE_COST, Costs
from arena_ckpt.planning.plan import MemoryPlan, check_plan
from arena_ckpt.planning.tensors import TensorKind

BLOCK = chain(*(9, "gelu", 8, "gelu", 3), blocks=(("fc1", "act1", "fc2", "act2"),))


def costs_of(plan: MemoryPlan) -> Costs:
    """Let a step cost 1, that of an update 100, a recompute of fc1 10."""
    of_step = {(e.layer, e.phase): 1.0 for e in plan.executions}
    for layer, phase in of_step:
        if phase is Phase.APPLY_GRADIENT:
            of_step[layer, phase] = 100.0
    of_step["fc1", Phase.FORWARD] = 10.0
    return Costs(of_step, {})


def test_an_iteration_costs_all_its_passes_and_the_updates_once() -> None:
    plan = BLOCK.with_properties(micro_batches=4).model().make_plan()
    phases = [e.phase for e in plan.executions]
    assert phases.count(Phase.APPLY_GRADIENT) == 3
    assert phases.count(Phase.RECOMPUTE) == 3  # fc1, act1 and fc2
    of_pass = len([e for e in plan.executions if e.step < plan.n_pass])
    with_fc1 = of_pass + 2 * 9  # forward and recompute of fc1
    assert plan.iteration_cost(costs_of(plan)) == 4 * with_fc1 + 300


def test_an_overhead_is_what_runs_again_over_all_else() -> None:
    plan = BLOCK.model().make_plan()
    costs = plan.counted_costs
    again = sum(costs.step(layer, Phase.FORWARD) for layer in ("fc1", "act1", "fc2"))
    steps = [e for e in plan.executions if e.phase is not Phase.RECOMPUTE]
    other = sum(costs.step(e.layer, e.phase) for e in steps)
    assert plan.overhead == pytest.approx(again / other)
    assert BLOCK.without_blocks().model().make_plan().overhead == 0.0


def test_a_step_costs_its_operations_and_the_bytes_it_touches() -> None:
    """fc1 maps 6 numbers to 9 in each of 8 samples: 2 · 6 · 9 operations and a bias."""
    plan = BLOCK.model().make_plan()
    costs = plan.counted_costs
    (fc1,) = [layer for layer in plan.layers if layer.name == "fc1"]
    assert fc1.flops.forward in (2 * 6 * 9, 2 * 6 * 9 + 9)
    n_bytes = 4 * (8 * 6 + 6 * 9 + 9 + 8 * 9)
    expected = 8 * fc1.flops.forward + BYTE_COST * n_bytes
    assert costs.step("fc1", Phase.FORWARD) == expected
    n_bytes = 4 * (8 * 6 + 8 * 9 + 6 * 9 + 9)  # input, derivative, two gradients
    expected = 8 * fc1.flops.calc_gradient + BYTE_COST * n_bytes
    assert costs.step("fc1", Phase.CALC_GRADIENT) == expected
    (fc2,) = [layer for layer in plan.layers if layer.name == "fc2"]
    n_bytes = 4 * (8 * 8 + 9 * 8 + 8 * 9)  # derivative, weight, derivative
    expected = 8 * fc2.flops.calc_derivative + BYTE_COST * n_bytes
    assert costs.step("fc2", Phase.CALC_DERIVATIVE) == expected
    assert costs.step("nobody", Phase.FORWARD) == 0.0


def test_a_recompute_of_saved_tensors_alone_leaves_out_what_makes_the_output() -> None:
    costs = Costs({("bn", Phase.FORWARD): 10.0}, {"bn": 4.0})
    assert costs.rerun("bn", ["bn:mean"]) == 4.0
    assert costs.rerun("bn", ["bn:mean", "bn:out0"]) == 10.0
    assert costs.rerun("other", ["other:mean"]) == 0.0


def test_the_peak_is_the_first_step_with_the_most_bytes() -> None:
    plan = chain(3, batch_size=2, memory_optimization=False).model().make_plan()
    assert set(plan.live_bytes()) == {plan.arena_bytes}
    assert plan.peak_step == 0
    plan = BLOCK.model().make_plan()
    live = plan.live_bytes()
    assert plan.peak_step == live.index(plan.live_lower_bound_bytes)


def test_only_a_plan_at_its_bound_is_proved_optimal() -> None:
    plan = BLOCK.model().make_plan()
    assert plan.proved_optimal == (plan.arena_bytes == plan.live_lower_bound_bytes)
    for more, is_optimal in ((0, True), (1, False), (64, False)):
        changed = replace(plan, arena_bytes=plan.live_lower_bound_bytes + more)
        assert changed.proved_optimal is is_optimal


def test_a_canary_stands_behind_every_buffer() -> None:
    plan = chain(3, batch_size=2).model().make_plan(debug=True)
    assert plan.taken_bytes(64) == 64 + CANARY_BYTES
    assert plan.naive_bytes == sum(plan.taken_bytes(t.size_bytes) for t in plan.tensors)
    ends = {b.offset_bytes: b.offset_bytes + b.size_bytes for b in plan.buffers}
    offsets = sorted({*ends, plan.arena_bytes})
    for start, end in ends.items():
        following = min(offset for offset in offsets if offset > start)
        together = [b for b in plan.buffers if b.offset_bytes == start]
        if len(together) == 1:
            assert following - end >= CANARY_BYTES


def test_a_buffer_of_which_a_tensor_outlives_it_is_refused() -> None:
    plan = BLOCK.model().make_plan()
    place, buffer = next(
        (i, b)
        for i, b in enumerate(plan.buffers)
        if len({plan.tensors[t].stop for t in b.tensors}) > 1
    )
    shorter = replace(buffer, stop=buffer.stop - 1)
    buffers = (*plan.buffers[:place], shorter, *plan.buffers[place + 1 :])
    live = replace(plan, buffers=buffers).live_bytes()
    changed = replace(plan, buffers=buffers, live_lower_bound_bytes=max(live))
    with pytest.raises(ValueError, match="is not one for its tensors"):
        check_plan(changed)


def test_a_buffer_is_called_by_what_lives_longest_in_it() -> None:
    plan = BLOCK.model().make_plan()
    shared = [b for b in plan.buffers if len(b.tensors) > 1]
    assert shared
    for buffer in shared:
        lives = [plan.tensors[index] for index in buffer.tensors]
        longest = max(life.stop - life.start for life in lives)
        (named,) = {(t.name, t.kind) for t in lives if t.name == buffer.tensor} or {
            ("", TensorKind.DATA)
        }
        assert named == (buffer.tensor, buffer.kind)
        mine = [t for t in lives if t.name == buffer.tensor]
        assert longest in {t.stop - t.start for t in mine}
