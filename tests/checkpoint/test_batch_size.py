"""The largest batch that fits is found by planning, not by halves alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
from helpers.strategies import chain
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import Model
from arena_ckpt.checkpoint.batch_size import largest_batch
from arena_ckpt.checkpoint.choose import Chooser
from arena_ckpt.errors import BudgetError, InvalidParameterError, PolicyError
from arena_ckpt.examples import load_example
from arena_ckpt.model_plans import ModelPlans

DEEP = chain(*(part for _ in range(4) for part in (16, "gelu")), width=16)
BUDGETS = (7_000, 9_000)


@cache
def chooser_of(batch_size: int) -> Chooser:
    plans = ModelPlans(DEEP.with_properties(batch_size=batch_size).model())
    return Chooser(plans.graph_with, plans.settings())


def fits(batch_size: int, budget: int) -> bool:
    return chooser_of(batch_size).within_budget(budget) is not None


@pytest.mark.parametrize("budget", BUDGETS)
def test_it_is_the_largest_of_all_that_fit(budget: int) -> None:
    choice = DEEP.model().choose_batch_size(budget=budget, most=18)
    fitting = [n for n in range(1, 19) if fits(n, budget)]
    assert choice.batch_size == fitting[-1]
    assert choice.is_exhaustive
    assert choice.plan.batch_size == choice.batch_size
    assert choice.point.arena_bytes <= budget == choice.budget_bytes
    for one in choice.tried:
        assert one.fits == (one.batch_size in fitting)
        assert (one.least_bytes <= budget) == one.fits


def test_the_plan_is_one_to_initialize_with() -> None:
    model = DEEP.model()
    before = model.get_property("batch_size")
    choice = model.choose_batch_size(budget=16_000)
    assert model.get_property("batch_size") == before
    model.set_property(batch_size=choice.batch_size)
    assert model.initialize(plan=choice.plan) is choice.plan
    assert choice.plan == DEEP.with_properties(
        batch_size=choice.batch_size
    ).model().make_plan(budget=16_000)


def test_what_is_asked_for_holds() -> None:
    free = DEEP.model().choose_batch_size(budget=16_000)
    fast = DEEP.model().choose_batch_size(budget=16_000, max_overhead=0.01)
    assert fast.batch_size < free.batch_size
    assert fast.point.overhead <= 0.01
    slow = [one for one in fast.tried if not one.fits and one.least_bytes <= 16_000]
    assert slow, "some fit in less, but take more time"
    kept = DEEP.model().choose_batch_size(budget=16_000, keep="fc*")
    assert kept.batch_size < free.batch_size
    assert not {r.layer for r in kept.point.reruns} & {"fc1", "fc2", "fc3", "fc4"}
    debug = DEEP.model().choose_batch_size(budget=16_000, debug=True)
    assert debug.plan.canary_bytes


def test_most_bounds_what_is_tried() -> None:
    choice = DEEP.model().choose_batch_size(budget="64MiB", most=20)
    assert choice.batch_size == 20 == max(one.batch_size for one in choice.tried)
    assert choice.is_exhaustive
    allow = "recompute,in_place,layerwise_update,micro_batch"
    small = DEEP.model().choose_batch_size(budget=16_000, most=50, allow=allow)
    assert small.batch_size == 50
    assert small.plan.micro_batches > 1


def test_sizes_that_cannot_be_trained_are_left_out() -> None:
    layers = (
        *DEEP.layers[:2],
        ("batch_normalization", {"name": "bn"}),
        *DEEP.layers[2:],
    )
    spec = replace(DEEP, layers=layers).with_properties(batch_size=1)
    choice = spec.model().choose_batch_size(budget=16_000)
    assert 1 not in {one.batch_size for one in choice.tried}
    assert choice.batch_size > 2
    with pytest.raises(InvalidParameterError, match="at least 2"):
        spec.model().choose_batch_size(budget=16_000, most=1)
    split = DEEP.with_properties(batch_size=1, micro_batches=4)
    tried = split.model().choose_batch_size(budget=16_000).tried
    assert min(one.batch_size for one in tried) == 4


def test_a_smaller_batch_can_need_more() -> None:
    """The layouts and schedules that are found do not grow evenly with the batch."""
    model = load_example("digits_cnn").model
    choice = model.choose_batch_size(budget=970_000, most=58)
    assert choice.batch_size == 57
    (larger,) = choice.smaller_that_need_more
    assert larger.batch_size == 55
    assert larger.least_bytes > 970_000 >= choice.point.arena_bytes
    model.set_property(batch_size=55)
    with pytest.raises(BudgetError):
        model.make_plan(budget=970_000)


# -- the search, on sizes whose bytes are made up --------------------------------------


@dataclass(frozen=True)
class Made:
    """What stands for a plan, and for the chooser that returns it."""

    arena_bytes: int
    overhead: float = 0.0

    def within_budget(self, budget_bytes: int) -> Made | None:
        return self if self.arena_bytes <= budget_bytes else None

    def lower_bound_bytes(self) -> int:
        return 0

    def least_bytes(self, budget_bytes: int) -> int:
        return self.arena_bytes


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=16), st.integers(1, 3))
def test_any_order_of_bytes_is_searched(sizes: list[int], least: int) -> None:
    """Of so few sizes all that are larger than the answer are tried."""
    if least > len(sizes) or min(sizes[least - 1 :]) > 6:
        return
    found: Any = largest_batch(
        lambda size: Made(sizes[size - 1]),  # type: ignore[arg-type,return-value]
        6,
        None,
        least,
        len(sizes),
    )
    fitting = [n for n in range(least, len(sizes) + 1) if sizes[n - 1] <= 6]
    assert found.batch_size == fitting[-1]
    assert found.is_exhaustive
    for one in found.smaller_that_need_more:
        assert sizes[one.batch_size - 1] > 6


def test_what_was_not_tried_is_said() -> None:
    """Of a thousand sizes some eight are tried beyond the next eight."""

    def chooser_of(size: int) -> Any:
        return Made(1 if size <= 10 or size == 613 else 9)

    found = largest_batch(chooser_of, 6, None, 1, 1000)
    assert found.batch_size == 10
    assert not found.is_exhaustive
    assert [one.batch_size for one in found.tried][-1] == 1000
    assert len(found.tried) < 30


def test_bounds_end_the_search() -> None:
    class Bounded(Made):
        def lower_bound_bytes(self) -> int:
            return self.arena_bytes

    tried: list[int] = []

    def chooser_of(size: int) -> Any:
        tried.append(size)
        return Bounded(size)

    found = largest_batch(chooser_of, 600, None, 1, 65_536)
    assert found.batch_size == 600
    assert found.is_exhaustive
    assert max(tried) <= 1024


# -- refusals --------------------------------------------------------------------------


def test_not_even_one_sample_fits() -> None:
    with pytest.raises(BudgetError, match="Not even one sample fits") as caught:
        DEEP.model().choose_batch_size(budget="1KiB")
    assert caught.value.budget_bytes == 1024
    assert caught.value.least_bytes > 1024
    with pytest.raises(BudgetError, match="more time"):
        DEEP.model().choose_batch_size(budget="64KiB", max_overhead=0, drop="act*")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"budget": "60%"}, "bounds no batch size"),
        ({"budget": None}, "budget=None is not possible"),
        ({"budget": 0}, "no memory size"),
        ({"budget": 9000, "most": 0}, "most=0 is not possible"),
        ({"budget": 9000, "most": 2.5}, "most=2.5 is not possible"),
        ({"budget": 9000, "most": True}, "most=True is not possible"),
        ({"budget": 9000, "debug": 1}, "debug=1 is not possible"),
    ],
)
def test_requests_that_make_no_sense(request_: dict[str, Any], message: str) -> None:
    model: Model = DEEP.model()
    with pytest.raises(InvalidParameterError, match=message):
        model.choose_batch_size(**request_)
    with pytest.raises(PolicyError):
        model.choose_batch_size(budget=9000, drop="in")
