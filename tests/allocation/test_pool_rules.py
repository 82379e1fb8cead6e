"""Pools with rules: names, what may lie where, fixed offsets, weights of the spill."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from arena_ckpt import allocate
from arena_ckpt.allocation.bodies import make_bodies
from arena_ckpt.allocation.budget import Budget
from arena_ckpt.allocation.buffers import make_buffers
from arena_ckpt.allocation.layout import Layout
from arena_ckpt.allocation.pool_refusals import refuse_crowded
from arena_ckpt.allocation.pool_rules import make_pools
from arena_ckpt.allocation.validate import check_layout
from arena_ckpt.errors import (
    CapacityError,
    InvalidBufferError,
    InvalidParameterError,
    LayoutError,
    TimeLimitError,
)

THREE = [0, 0, 0], [2, 2, 2], [4, 5, 6]
"""Three buffers that live together: 15 bytes."""

TWO_RAMS = {"dtcm": 10, "sram": 12}


def place(*buffers: list[int], **arguments: Any) -> Layout:
    layout = allocate(*buffers, node_limit=2000, progress=False, **arguments)
    assert layout.pool is not None
    return layout


def pools_of(*buffers: list[int], **arguments: Any) -> list[int]:
    layout = place(*buffers, **arguments)
    assert layout.pool is not None
    return layout.pool.tolist()


# -- names -----------------------------------------------------------------------------


def test_pools_may_have_names_and_sizes_as_texts() -> None:
    layout = place(*THREE, pools={"dtcm": "10B", "sram": "1KiB"})
    assert layout.pool_names == ("dtcm", "sram")
    assert layout.pool is not None
    assert layout.pool.tolist() == [0, 1, 0]
    assert layout.pool_heights_bytes == (10, 5)
    plain = place(*THREE, pools=[10, 1024])
    assert plain.pool_names == ()
    assert layout.offset.tolist() == plain.offset.tolist()


@pytest.mark.parametrize(
    ("pools", "words"),
    [
        ({}, "pools is empty"),
        ({"dtcm": 0, "sram": 9}, "pool 'dtcm' has the size 0"),
        ({"dtcm": "lots", "sram": 9}, "pool 'dtcm' has the size 'lots'"),
        ({"dtcm": None, "sram": 9}, "pool 'dtcm' has the size None"),
        ({"dtcm": 9, "sram": 1.5}, "pool 'sram' has the size 1.5"),
        ({"dtcm": 9, "sram": "8GB" * 40}, "pool 'sram' has the size"),
        ({"": 9}, "the name ''"),
        ({"a\n": 9}, "the name 'a\\\\n'"),
        ({3: 9}, "the name 3"),
        (["128KiB", None], "pool 0 has the size '128KiB'"),
    ],
)
def test_sizes_and_names_that_make_no_sense(pools: Any, words: str) -> None:
    with pytest.raises(InvalidParameterError, match=words):
        allocate(*THREE, pools=pools)


@pytest.mark.parametrize("rule", ["allowed_pools", "spill_weights"])
def test_rules_without_pools_are_refused(rule: str) -> None:
    with pytest.raises(InvalidParameterError, match=f"{rule} is given, but no pools"):
        allocate(*THREE, **{rule: [0, 0, 0]})  # type: ignore[arg-type]


# -- allowed pools ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "allowed",
    [
        ["sram", None, "dtcm"],
        [1, None, 0],
        [["sram"], {"dtcm", "sram"}, (0,)],
        [np.array([1]), frozenset({0, 1}), ["dtcm", 0]],
    ],
)
def test_a_buffer_lies_where_it_may(allowed: list[Any]) -> None:
    """Without the rule the 5 spill: 4 and 6 fill the first pool."""
    assert pools_of(*THREE, pools=TWO_RAMS) == [0, 1, 0]
    assert pools_of(*THREE, pools=TWO_RAMS, allowed_pools=allowed) == [1, 1, 0]


def test_what_may_go_to_the_last_pool_makes_way_for_what_may_not() -> None:
    """The 6 weighs most, but only it may leave the first pool."""
    assert pools_of(*THREE, pools=[9, 8], allowed_pools=[0, 0, None]) == [0, 0, 1]


def test_what_may_lie_in_no_later_pool_is_laid_out_by_the_search() -> None:
    """First fit wastes bytes on these ten: only the search finds their layout."""
    generator = random.Random(198)
    lower = [generator.randrange(8) for _ in range(10)]
    upper = [low + generator.randint(1, 6) for low in lower]
    size = [generator.randint(1, 30) for _ in range(10)]
    height = allocate(lower, upper, size, node_limit=20_000).height_bytes
    assert height < allocate(lower, upper, size, engine="greedy").height_bytes
    n = 50
    more = [0] * n, [20] * n, [9] * n
    layout = place(
        *(mine + its for mine, its in zip((lower, upper, size), more, strict=True)),
        pools=[height, None],
        allowed_pools=[0] * 10 + [None] * n,
    )
    assert layout.pool is not None
    assert not layout.pool[:10].any()


def test_what_had_nowhere_to_go_comes_first_when_pools_are_filled_anew() -> None:
    """Of 60 buffers the small ones may lie in the first two pools, which are full.

    Filled in turn, the first pool takes the large ones, which might lie in the third.
    """
    n = 60
    lower, upper = list(range(n)), [step + 1 for step in range(n)]
    both = [*lower, *lower], [*upper, *upper], [6] * n + [5] * n
    rules = {"pools": [6, 4, 6], "allowed_pools": [None] * n + [[0, 1]] * n}
    assert pools_of(*both, **rules) == [2] * n + [0] * n


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        ([None, "sarm", None], r"buffer 1 .* 'sarm', .*did you mean 'sram'\?\).* dtcm"),
        ([None, None, 2], "buffer 2 may lie in pool 2, which does not exist.* 0 to 1"),
        ([-1, None, None], "buffer 0 may lie in pool -1"),
        ([True, None, None], "buffer 0 has the allowed pools True"),
        ([[True], None, None], "buffer 0 may lie in pool True"),
        ([1.0, None, None], "buffer 0 has the allowed pools 1.0"),
        ([None, [], None], "buffer 1 may lie in no pool"),
        ([None, {"dtcm": 1}, None], "buffer 1 has the allowed pools {'dtcm': 1}"),
        ([None, None], "3 sizes but 2 values of allowed_pools"),
        ("dtcm", "3 sizes but 4 values of allowed_pools"),
        (3, "allowed_pools is 3"),
        ({"dtcm"}, "allowed_pools is a set"),
    ],
)
def test_choices_that_make_no_sense(allowed: Any, words: str) -> None:
    with pytest.raises(InvalidBufferError, match=words):
        allocate(*THREE, pools=TWO_RAMS, allowed_pools=allowed)


def test_of_several_unknown_pools_the_same_is_named_in_every_process() -> None:
    with pytest.raises(InvalidBufferError, match="may lie in pool 'aa'"):
        allocate(*THREE, pools=TWO_RAMS, allowed_pools=[{"zz", "aa", "mm"}, None, None])


def test_a_group_lies_where_all_its_members_may() -> None:
    rules = {"pools": [20, 20], "allowed_pools": [None, 1, None]}
    assert pools_of(*THREE, group=["g", "g", None], **rules) == [1, 1, 0]
    rules["allowed_pools"] = [0, 1, None]
    with pytest.raises(InvalidBufferError, match="no pool that is allowed") as caught:
        allocate(*THREE, group=["g", "g", None], **rules)  # type: ignore[arg-type]
    assert "buffer 0 may lie in pool 0, buffer 1 may lie in pool 1" in str(caught.value)
    assert vars(caught.value)["buffers"] == (0, 1)


# -- fixed offsets ---------------------------------------------------------------------


def test_a_fixed_offset_counts_from_the_start_of_its_pool() -> None:
    layout = place(
        *THREE,
        pools=TWO_RAMS,
        allowed_pools=["dtcm", None, None],
        fixed_offset=[3, None, None],
    )
    assert layout.offset[0] == 3
    assert layout.pool_heights_bytes[0] <= 10
    same = place(
        *THREE, pools=[10, 12], allowed_pools=[0, 1, 1], fixed_offset=[6, 6, None]
    )
    assert same.offset.tolist() == [6, 6, 0]


def test_of_one_pool_a_fixed_offset_needs_no_name() -> None:
    layout = place(*THREE, pools=[15], fixed_offset=[None, 4, None])
    assert layout.offset.tolist() == [0, 4, 9]


def test_a_fixed_offset_needs_exactly_one_allowed_pool() -> None:
    fixed = [None, 4, None]
    with pytest.raises(
        InvalidBufferError, match="does not say in which pool"
    ) as caught:
        allocate(*THREE, pools=TWO_RAMS, fixed_offset=fixed)
    assert "Allow it one pool by allowed_pools" in str(caught.value)
    assert "pool 'dtcm' or pool 'sram'" in str(caught.value)
    assert vars(caught.value)["buffers"] == (1,)


def test_fixed_offsets_that_collide_are_named_with_their_pool() -> None:
    rules: dict[str, Any] = {"pools": TWO_RAMS, "fixed_offset": [0, 3, None]}
    with pytest.raises(InvalidBufferError, match="collide in pool 'sram'") as caught:
        allocate(*THREE, allowed_pools=["sram", "sram", None], **rules)
    assert vars(caught.value)["buffers"] == (0, 1)
    assert pools_of(*THREE, allowed_pools=["sram", "dtcm", "sram"], **rules) == [
        1,
        0,
        1,
    ]


def test_a_member_of_a_fixed_group_may_collide_as_well() -> None:
    """The group puts buffer 1 at 4, where buffer 2 is fixed."""
    for pools in ({}, {"pools": [20]}):
        with pytest.raises(InvalidBufferError, match="collide") as caught:
            allocate(*THREE, group=["g", "g", None], fixed_offset=[0, None, 4], **pools)
        assert vars(caught.value)["buffers"] == (1, 2)


# -- weights ---------------------------------------------------------------------------


def test_the_lightest_spills_not_the_smallest() -> None:
    assert pools_of(*THREE, pools=[10, 12]) == [0, 1, 0]
    layout = place(*THREE, pools=[10, 12], spill_weights=[9, 9, 1])
    assert layout.pool is not None
    assert layout.pool.tolist() == [0, 0, 1]
    assert layout.stats["spilled_weight"] == 1
    assert layout.stats["spilled_byte_steps"] == 12
    assert layout.stats["spill_proved_least"]


def test_weights_may_be_fractions_and_are_added_exactly() -> None:
    """In floats 0.1 + 0.2 is more than 0.3; the first two weigh less all the same."""
    four = [0] * 4, [1] * 4, [1, 1, 2, 2]
    weights = [0.1, 0.2, np.float32(0.3), 1]
    assert pools_of(*four, pools=[4, None], spill_weights=weights) == [1, 1, 0, 0]
    layout = place(*four, pools=[4, None], spill_weights=[0.25, 0.5, 1, 1])
    assert layout.stats["spilled_weight"] == 0.75
    huge = [2**62 - 1, 2**62 - 2, 2**62 - 1, 2**62 - 1]
    assert pools_of([0] * 4, [1] * 4, [1] * 4, pools=[3, None], spill_weights=huge) == [
        0,
        1,
        0,
        0,
    ]


def test_byte_steps_as_weights_are_what_is_counted_without() -> None:
    rng = np.random.default_rng(5)
    lower = rng.integers(0, 9, 14)
    upper = lower + rng.integers(1, 9, 14)
    size = rng.integers(1, 40, 14)
    pools = [60, 60, None]
    plain = place(lower, upper, size, pools=pools)  # type: ignore[arg-type]
    weighed = place(
        lower, upper, size, pools=pools, spill_weights=size * (upper - lower)
    )  # type: ignore[arg-type]
    assert plain.stats["spill_proved_least"]
    assert weighed.stats["spill_proved_least"]
    assert "spilled_weight" not in plain.stats
    assert weighed.stats["spilled_weight"] == weighed.stats["spilled_byte_steps"]
    assert weighed.stats["spilled_byte_steps"] == plain.stats["spilled_byte_steps"]


def test_what_lies_beyond_the_first_pool_counts_before_the_second() -> None:
    """Of 1 byte each, one fits per pool: the heaviest in the first, then the next."""
    four = [0] * 4, [1] * 4, [1] * 4
    weights = [2, 9, 5, 1]
    assert pools_of(*four, pools=[1, 1, None], spill_weights=weights) == [2, 0, 1, 2]


def test_what_weighs_nothing_may_lie_anywhere() -> None:
    layout = place(*THREE, pools=[6, 9], spill_weights=[0, 0, 0])
    assert layout.stats["spilled_weight"] == 0
    assert layout.stats["spill_proved_least"]


@pytest.mark.parametrize(
    "weight", [-1, -0.5, float("nan"), float("inf"), 2**62, "1", None, True, [1], 1j]
)
def test_weights_that_make_no_sense(weight: Any) -> None:
    with pytest.raises(InvalidBufferError, match="buffer 1 has the spill weight") as e:
        allocate(*THREE, pools=[10, None], spill_weights=[1, weight, 1])
    assert "finite number, at least 0" in str(e.value)
    assert vars(e.value)["buffers"] == (1,)


def test_weights_come_one_for_each_buffer() -> None:
    with pytest.raises(InvalidBufferError, match="3 sizes but 2 values of spill_w"):
        allocate(*THREE, pools=[10, None], spill_weights=[1, 1])


# -- impossible ------------------------------------------------------------------------


def test_a_pin_to_a_pool_too_small_is_named_with_both_numbers() -> None:
    with pytest.raises(
        CapacityError, match="buffer 2 takes 6 B and may lie only in"
    ) as e:
        allocate(*THREE, pools={"dtcm": 5, "sram": None}, allowed_pools=[None, None, 0])
    assert "pool 'dtcm', which has 5 B (proof: largest buffer)" in str(e.value)
    assert vars(e.value)["conflict"] == (2,)


def test_a_choice_of_pools_that_are_all_too_small() -> None:
    with pytest.raises(CapacityError, match="the largest of which has 5 B"):
        allocate(*THREE, pools=[4, 5, 9], allowed_pools=[None, None, [0, 1]])


def test_a_fixed_offset_above_its_pool() -> None:
    with pytest.raises(CapacityError, match=r"fixed at \[6, 11\) of pool 'dtcm'") as e:
        allocate(
            *THREE,
            pools=TWO_RAMS,
            allowed_pools=[1, 0, 1],
            fixed_offset=[None, 6, None],
        )
    assert "which has 10 B (proof: fixed offset)" in str(e.value)
    assert vars(e.value)["conflict"] == (1,)


def test_the_live_bytes_of_what_is_pinned_together() -> None:
    with pytest.raises(CapacityError, match="may lie nowhere else cannot fit in") as e:
        allocate(*THREE, pools={"a": 10, "b": None}, allowed_pools=[None, "a", "a"])
    assert "pool 'a' of 10 B: at least 11 B are needed (proof: live bytes)" in str(
        e.value
    )
    assert vars(e.value)["conflict"] == (1, 2)
    assert vars(e.value)["capacity_bytes"] == 10


def test_the_live_bytes_of_what_may_lie_in_some_pools_only() -> None:
    with pytest.raises(CapacityError, match="pool 0 of 5 B and pool 1 of 5 B, 10") as e:
        allocate(
            [0] * 4,
            [2] * 4,
            [4, 4, 4, 9],
            pools=[5, 5, None],
            allowed_pools=[0, 1, [0, 1], 2],
        )
    assert vars(e.value)["conflict"] == (0, 1, 2)


def test_the_live_bytes_of_what_may_lie_in_pools_that_no_buffer_names_together() -> (
    None
):
    """Two may lie in the first two pools, two in the second and third: 16 of 15."""
    with pytest.raises(CapacityError, match=r"nowhere else.* 5 B and pool 2 of 5") as e:
        allocate(
            [0] * 5,
            [2] * 5,
            [4, 4, 4, 4, 9],
            pools=[5, 5, 5, None],
            allowed_pools=[[0, 1], [0, 1], [1, 2], [1, 2], None],
        )
    assert vars(e.value)["proof"] == "live bytes"
    assert vars(e.value)["capacity_bytes"] == 15
    assert vars(e.value)["conflict"] == (0, 1, 2, 3)


def test_no_choice_of_allowed_pools_is_proved_by_trying_all() -> None:
    """Two of 5 cannot share a pool of 8, and the third pool is not for them."""
    with pytest.raises(CapacityError, match="whichever of its allowed pools") as e:
        allocate(
            [0] * 4,
            [2] * 4,
            [5] * 4,
            pools=[8, 8, 8],
            allowed_pools=[[0, 1]] * 3 + [None],
        )
    assert vars(e.value)["proof"] == "exhausted"
    assert vars(e.value)["conflict"] == (0, 1, 2)
    assert pools_of([0] * 4, [2] * 4, [5] * 4, pools=[8, 8, 8, 8]) == [0, 1, 2, 3]


def test_of_many_buffers_those_pinned_together_are_proved_not_to_fit() -> None:
    """Nobody tries all choices of 63, but three pinned ones need 9 bytes, not 8.

    At no step do more than 8 live; the first and the last keep the middle one apart.
    """
    lower, upper, size = [0, 2, 1, 0, 3], [2, 4, 3, 1, 4], [3, 3, 3, 5, 5]
    n = 58
    with pytest.raises(CapacityError, match="may lie nowhere else cannot fit") as e:
        allocate(
            lower + [9] * n,
            upper + [10] * n,
            size + [1] * n,
            fixed_offset=[0, 5, None, None, None] + [None] * n,
            pools=[8, None],
            allowed_pools=[0] * 5 + [None] * n,
        )
    assert vars(e.value)["proof"] == "exhausted"
    assert set(vars(e.value)["conflict"]) <= set(range(5))


def test_windows_that_interleave_are_not_proved_to_be_too_much_for_one_step() -> None:
    """At step 1 two share 64 bytes, each with one half, and the third is on top.

    The bytes of the one in the upper half begin at 32, no multiple of its alignment.
    """
    steps = [0, 1, 1], [2, 3, 2]
    gaps = [[(1, 2, 32, 64)], [(1, 2, 0, 32)], None]
    buffers = make_buffers(*steps, [64, 64, 32], alignment=64, gaps=gaps)  # type: ignore[arg-type]
    refuse_crowded(
        make_bodies(buffers), make_pools(buffers, [96]), Budget(1000, None), 0
    )
    assert place(*steps, [64, 64, 32], alignment=64, gaps=gaps, pools=[96])
    flat = make_buffers(*steps, [32, 32, 32], alignment=64)
    with pytest.raises(CapacityError, match="proof: exhausted"):
        refuse_crowded(make_bodies(flat), make_pools(flat, [96]), Budget(99, None), 0)


def test_a_pool_that_is_too_high_is_named_though_it_is_not_the_last() -> None:
    with pytest.raises(TimeLimitError, match="leaves 3 buffers to pool 'a'") as e:
        allocate(
            [0, 2, 1, 0, 3],
            [2, 4, 3, 1, 4],
            [3, 3, 3, 5, 5],
            pools={"a": 8, "b": None},
            allowed_pools=["a", "a", "a", "b", "b"],
            fixed_offset=[0, 5, None, None, None],
            engine="greedy",
        )
    facts = vars(e.value)
    assert (facts["pool"], facts["capacity_bytes"]) == (0, 8)
    assert facts["layout"].pool_heights_bytes[0] > 8


# -- the validator ---------------------------------------------------------------------


def test_the_validator_names_a_buffer_in_a_pool_that_is_not_for_it() -> None:
    buffers = make_buffers(*THREE)
    check_layout(
        buffers, [0, 0, 4], 15, pool=[0, 1, 0], allowed_pools=[[0], None, {0, 2}]
    )
    with pytest.raises(LayoutError, match="may lie only in 0 or 2") as caught:
        check_layout(
            buffers, [0, 0, 5], 15, pool=[0, 1, 1], allowed_pools=[None, None, [2, 0]]
        )
    facts = vars(caught.value)
    assert (facts["rule"], facts["buffers"]) == ("allowed", (2,))
    with pytest.raises(LayoutError, match="2 choices of allowed pools") as caught:
        check_layout(buffers, [0, 0, 4], 15, pool=[0, 1, 0], allowed_pools=[None, None])
    assert vars(caught.value)["rule"] == "count"


def test_the_validator_compares_fixed_offsets_within_a_pool() -> None:
    buffers = make_buffers(*THREE, fixed_offset=[None, 2, None])
    check_layout(buffers, [0, 2, 4], 17, pool=[0, 1, 0])
    with pytest.raises(LayoutError, match="its fixed offset 2") as caught:
        check_layout(buffers, [0, 0, 4], 15, pool=[0, 1, 0])
    assert vars(caught.value)["rule"] == "fixed"


# -- the rules -------------------------------------------------------------------------


def test_rules_of_some_of_the_buffers() -> None:
    buffers = make_buffers(*THREE)
    pools = make_pools(buffers, [9, None], [0, None, 1], [0.5, 1, 2])
    assert (pools.weights, pools.cost_of(7)) == ((1, 2, 4), 3.5)
    some = pools.take(np.array([0, 2]))
    assert some.allowed.tolist() == [[True, False], [False, True]]
    assert some.weights == (1, 4)
    assert pools.cost_of(4) == 2
    assert isinstance(pools.cost_of(4), int)
