"""Any list of reruns trains the same bits: it only changes where bytes live."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from helpers.mixed_graphs import MixedSpec, mixed_graphs
from helpers.mixed_outcomes import finite_outcome, outcome
from helpers.random_reruns import random_reruns
from helpers.scale import how_many
from helpers.strategies import chain
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import MemoryPlan, Model
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import PlanMismatchError
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.planner import make_plan, reruns_of
from arena_ckpt.planning.recompute import Rerun


@dataclasses.dataclass(frozen=True)
class Rerunning(MixedSpec):
    """A model that recomputes at random."""

    n_reruns: int = 0
    seed: int = 0

    def initialized(self, *, debug: bool = False) -> Model:
        model = self.model()
        reruns = random_reruns(model, self.n_reruns, self.seed)
        plan = make_plan(
            model.compile(), ModelPlans(model).settings(debug=debug), reruns
        )
        assert reruns_of(plan) == tuple(
            sorted(reruns, key=lambda r: -plan.execution_order[r.before].forward)
        )
        model.initialize(plan=plan, debug=debug)
        return model


@settings(derandomize=True, deadline=None, max_examples=how_many(12, 25))
@given(mixed_graphs(), st.integers(1, 12), st.integers(0, 999))
def test_same_bits_with_any_reruns(spec: MixedSpec, n: int, seed: int) -> None:
    plain = spec.without_blocks()
    expected = finite_outcome(plain)
    fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
    again = Rerunning(**fields, n_reruns=n, seed=seed)
    assert not expected.differences(outcome(again))
    assert not expected.differences(outcome(again, debug=True)), "debug mode"


MLP = chain(9, "gelu", 8, "gelu", 7, "gelu", 6)


def test_a_layer_can_run_again_twice() -> None:
    model = MLP.model()
    reruns = (
        Rerun("act3", "fc1", ("fc1:out0",)),
        Rerun("act3", "act1", ("act1:out0",)),
        Rerun("fc2", "act1", ("act1:out0",)),
    )
    plan = make_plan(model.compile(), ModelPlans(model).settings(), reruns)
    lives = [t for t in plan.tensors if t.name == "act1:out0"]
    assert [life.life for life in lives] == [0, 1, 2]
    assert all(life.stop <= later.start for life, later in pairwise(lives))
    again = [e.step for e in plan.executions if e.phase is Phase.RECOMPUTE]
    assert plan.recompute_steps("act1") == (again[1], again[2])
    assert plan.execution_order["act1"].recompute == again[1]
    assert plan.recompute_steps("fc3") == ()
    assert reruns_of(plan) == reruns
    assert MemoryPlan.from_json(plan.to_json()) == plan


def test_a_plan_from_a_file_can_be_used() -> None:
    x, y = MLP.batch(8)
    losses = []
    for with_file in (False, True):
        model = MLP.model()
        plan = None
        if with_file:
            plan = MemoryPlan.from_json(model.make_plan().to_json())
        assert model.initialize(plan=plan) == model.plan
        losses.append([model.train_step(x, y) for _ in range(3)])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "other",
    [
        chain(9, "gelu", 8, "gelu", 7, "relu", 6),
        chain(9, "gelu", 8, "gelu", 7, "gelu", 6, batch_size=4),
        chain(9, "gelu", 8, 7, "gelu", 6),
        chain(9, "gelu", 8, "gelu", 7, "gelu", 6, optimizer=("adam", {})),
        chain(9, "gelu", 8, "gelu", 7, "gelu", 6, clip_grad_by_norm=1.0),
        chain(9, "gelu", 8, "gelu", 7, "gelu", 6, memory_optimization=False),
    ],
)
def test_the_plan_of_another_model_is_refused(other: MixedSpec) -> None:
    model = MLP.model()
    with pytest.raises(PlanMismatchError, match="not one of this model"):
        model.initialize(plan=other.model().make_plan())
    model.initialize()  # nothing has changed
    assert np.isfinite(model.train_step(*MLP.batch(8)))


@pytest.mark.parametrize(
    "change",
    [
        {"n_pass": 0},
        {"n_forward": 0},
        {"micro_batches": 0},
        {"micro_batches": -1},
        {"micro_batches": 9},
    ],
)
def test_a_plan_that_was_altered_is_refused(change: dict[str, Any]) -> None:
    """With n_pass=0 it trained to other weights; without micro-batches it crashed."""
    model = MLP.model()
    plan = dataclasses.replace(model.make_plan(), **change)
    with pytest.raises(PlanMismatchError, match="not one of this model"):
        model.initialize(plan=plan)
