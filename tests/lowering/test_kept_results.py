"""A recompute copies what the forward pass has kept, instead of making it again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arena_ckpt import MemoryPlan, Model, verify
from arena_ckpt.common.phases import Phase
from arena_ckpt.lowering.kept_results import kept_results
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.recompute import Rerun


def net(*, blocks: bool = True, frozen: bool = False, **values: Any) -> Model:
    model = Model(seed=3)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc1", unit=5, trainable=not frozen)
    model.add_layer("batch_normalization", name="bn", **values)
    model.add_layer("activation", name="act", activation="gelu")
    model.add_layer("fully_connected", name="fc2", unit=3)
    model.add_layer("mse", name="loss")
    if blocks:
        model.add_checkpoint_block(["fc1", "bn", "act", "fc2"])
    model.set_property(batch_size=4)
    return model


def recomputed(model: Model, plan: MemoryPlan) -> list[str]:
    """Return the kernels that recomputes of the batch normalization call, in order."""
    again = {
        e.step
        for e in plan.executions
        if e.phase is Phase.RECOMPUTE and e.layer == "bn"
    }
    return [c.kernel.name for c in model.kernel_calls(plan) if c.step in again]


@pytest.mark.parametrize("statistics", ["batch", "moving"])
def test_batch_normalization_takes_its_statistics_once(statistics: str) -> None:
    model = net(statistics=statistics)
    plan = model.make_plan()
    assert recomputed(model, plan) == ["copy", "copy", "batch_norm_forward"]
    ((step, kept),) = kept_results(plan).items()
    assert plan.describe_step(step) == f"step {step}, recompute of bn"
    names = {role: plan.tensors[index].name for role, index in kept.items()}
    assert names == {"mean": "bn:mean", "inv_std_dev": "bn:inv_std_dev"}


def test_statistics_that_were_dropped_are_taken_again() -> None:
    model = net(blocks=False)
    tensors = ("bn:inv_std_dev", "bn:mean", "bn:out0")
    reruns = (Rerun("act", "bn", tensors),)
    plan = make_plan(model.compile(), ModelPlans(model).settings(), reruns)
    expected = ["batch_norm_statistics", "batch_norm_forward"]
    assert recomputed(model, plan) == expected
    assert kept_results(plan) == {}


def test_statistics_that_are_not_kept_are_made_again() -> None:
    """Nothing goes backward through the frozen layers, so nothing is saved for that."""
    model = net(frozen=True, trainable=False)
    plan = model.make_plan()
    assert recomputed(model, plan) == ["moving_statistics", "batch_norm_forward"]
    assert kept_results(plan) == {}


def test_verify_finds_the_same_bits_and_no_foreign_read() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(4, 6)), generator.normal(size=(4, 3))
    found = verify(net(), (x, y))
    assert found.passed, str(found)
