"""What the steps of a graph touch is found once, however many plans are made of it."""

from __future__ import annotations

from collections import Counter

import pytest
from helpers.random_reruns import random_reruns

from arena_ckpt import load_example
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.planner import Planner, make_plan
from arena_ckpt.planning.touches import Touches


def test_each_step_is_looked_at_once_for_all_plans(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: Counter[object] = Counter()
    find = Touches._find

    def counting(self: Touches, phase, node, remade):  # type: ignore[no-untyped-def]
        looked_at[phase, node.name, remade] += 1
        return find(self, phase, node, remade)

    model = load_example("digits_mlp").model
    graph, settings = model.compile(), ModelPlans(model).settings()
    reruns = [random_reruns(model, n, seed=n) for n in (0, 2, 4)]
    alone = [make_plan(graph, settings, one) for one in reruns]
    of_blocks = model.make_plan()
    monkeypatch.setattr(Touches, "_find", counting)
    planner = Planner(graph, settings)
    assert [planner.plan(one) for one in reruns] == alone
    assert planner.plan_blocks(graph.blocks) == of_blocks
    assert set(looked_at.values()) == {1}
    looked_at.clear()
    planner.plan(reruns[2])
    assert not looked_at
