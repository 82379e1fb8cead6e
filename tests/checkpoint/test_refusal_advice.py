"""What the error for a budget advises was planned, and fits when it is done."""

from __future__ import annotations

import re
from typing import Any

import pytest
from helpers.strategies import ModelSpec

import arena_ckpt as ac
from arena_ckpt.errors import BudgetError

STEPS, BATCH = 12, 16


def gru(
    *, batch_size: int = BATCH, optimizer: str = "adam", unroll: bool = False
) -> ac.Model:
    spec = ModelSpec(
        (
            ("input", {"name": "in", "input_shape": (1, STEPS, 4)}),
            ("gru", {"name": "loop", "unit": 16, "unroll": unroll}),
            ("fully_connected", {"name": "out", "unit": 3}),
            ("cross_softmax", {"name": "loss"}),
        ),
        properties={"batch_size": batch_size},
        optimizer=(optimizer, {"learning_rate": 0.01}),
    )
    return spec.model()


def refusal(budget: int, **values: Any) -> str:
    with pytest.raises(BudgetError) as caught:
        gru(**values).make_plan(budget=budget)
    return str(caught.value)


def least(**values: Any) -> int:
    return gru(**values).choose_plan(max_overhead="1000%").arena_bytes


def test_unrolling_is_advised_where_it_is_enough() -> None:
    budget = least() * 7 // 10
    message = refusal(budget)
    assert message.endswith(
        "It would fit with 'micro_batch' in allow, or with unroll=true for 'loop'."
    )
    assert "no plan can need less with these layers and this batch" in message
    assert gru(unroll=True).make_plan(budget=budget).arena_bytes <= budget
    plan = gru().make_plan(budget=budget, allow="recompute,in_place,micro_batch")
    assert plan.arena_bytes <= budget


def test_what_is_only_enough_together_is_advised_together() -> None:
    model = ac.load_example("digits_mlp").model
    with pytest.raises(BudgetError) as caught:
        model.make_plan(budget=131_577)
    message = str(caught.value)
    found = re.search(
        r"It would fit with an optimizer without states, such as sgd and "
        r"batch_size=(\d+) instead of 128, together\.$",
        message,
    )
    assert found is not None, message
    for optimizer, batch_size, fits in (
        ("sgd", int(found[1]), True),
        ("sgd", 128, False),  # neither is in vain
        ("adam", 1, False),
    ):
        model = ac.load_example("digits_mlp").model
        model.set_optimizer(optimizer, learning_rate=0.1)
        model.set_property(batch_size=batch_size)
        if fits:
            assert model.make_plan(budget=131_577).arena_bytes <= 131_577
        else:
            with pytest.raises(BudgetError):
                model.make_plan(budget=131_577)


def test_unrolling_is_advised_with_others_where_nothing_less_is_enough() -> None:
    alone = {"optimizer": "sgd", "batch_size": 1}
    unrolled = least(**alone, unroll=True)
    budget = (unrolled + least(**alone)) // 2
    assert unrolled < budget
    message = refusal(budget)
    words = r"It would fit with unroll=true for 'loop'.* such as sgd.*batch_size=(\d+)"
    found = re.search(words, message)
    assert found is not None, message
    advised = gru(optimizer="sgd", batch_size=int(found[1]), unroll=True)
    assert advised.make_plan(budget=budget).arena_bytes <= budget


def test_not_even_one_sample_is_said_where_all_changes_together_fail() -> None:
    budget = least(optimizer="sgd", batch_size=1, unroll=True) // 2
    message = refusal(budget)
    assert "Not even one sample fits, even with " in message
    assert message.endswith("and unroll=true for 'loop': make the layers smaller.")


def test_what_is_unrolled_already_or_too_long_is_not_advised() -> None:
    assert "unroll=true" not in refusal(least(unroll=True) // 2, unroll=True)
    model = gru()
    model.replace_layer("in", input_shape=(1, 500, 4))
    with pytest.raises(BudgetError) as caught:
        model.make_plan(budget=100_000)
    assert "unroll=true" not in str(caught.value)
