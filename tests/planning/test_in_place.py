"""Who shares whose bytes: each rule alone, and random graphs walked byte by byte.

In the small cases a role is the name of its tensor. Live ranges are half-open: a tensor
of range (0, 3) is read for the last time by step 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.scale import how_many
from helpers.sharing_graphs import check_sharing
from helpers.small_plans import DATA, LOSS, add, fc, plan_of, sharers

from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.layers.spec import InPlace
from arena_ckpt.planning.in_place import share
from arena_ckpt.planning.tensors import (
    Access,
    Execution,
    LiveRange,
    Operand,
    TensorKind,
)

KINDS = {
    "w": TensorKind.WEIGHT,
    "s": TensorKind.OPTIMIZER_STATE,
    "g": TensorKind.GRADIENT,
    "k": TensorKind.WORKSPACE,
}


@dataclass(frozen=True)
class Step:
    """One execution: what it reads, writes and adds to, and what its layer offers."""

    at: int
    reads: str = ""
    writes: str = ""
    updates: str = ""
    over: dict[str, str] | None = None
    """By result the operands whose bytes it may write over."""
    views: dict[str, str] | None = None
    """By result the operands that it may be a view of."""
    phase: Phase = Phase.FORWARD


def shared(
    lives: dict[str, tuple[int, int]],
    *steps: Step,
    offered: Phase = Phase.FORWARD,
    sizes: dict[str, int] | None = None,
) -> list[str]:
    """Return the groups of more than one tensor: ``["xy", "uv"]``."""
    names = list(lives)
    tensors = tuple(
        LiveRange(
            name=name,
            life=0,
            kind=KINDS.get(name, TensorKind.ACTIVATION),
            layer="",
            shape=(1,),
            per_sample=False,
            dtype="float32",
            size_bytes=(sizes or {}).get(name, 4),
            start=start,
            stop=stop,
            lifespan=TensorLifespan.FORWARD,
        )
        for name, (start, stop) in lives.items()
    )
    executions, nodes = [], {}
    for step in steps:
        operands = [
            Operand(f"{name}{k}" if k else name, names.index(name), access)
            for access, given in (
                (Access.READ, step.reads),
                (Access.WRITE, step.writes),
                (Access.UPDATE, step.updates),
            )
            for k, name in numbered(given)
        ]
        layer = f"layer{step.at}"
        executions.append(Execution(step.at, step.phase, layer, tuple(operands)))
        offers = [
            InPlace(offered, result, tuple(others), is_view)
            for many, is_view in ((step.over, False), (step.views, True))
            for result, others in (many or {}).items()
        ]
        nodes[layer] = SimpleNamespace(spec=SimpleNamespace(in_place=offers))
    graph: Any = SimpleNamespace(node=nodes.__getitem__)
    groups = share(graph, tensors, tuple(executions))
    assert sorted(i for group in groups for i in group) == list(range(len(names)))
    return ["".join(names[i] for i in group) for group in groups if len(group) > 1]


def numbered(names: str) -> list[tuple[int, str]]:
    """Return each name with how often it came before: roles x, x1, x2."""
    return [(names[:place].count(name), name) for place, name in enumerate(names)]


# -- one result ------------------------------------------------------------------------


def test_a_result_takes_the_bytes_of_an_operand_that_nobody_reads_again() -> None:
    lives = {"x": (0, 2), "y": (1, 4)}
    assert shared(lives, Step(1, "x", "y", over={"y": "x"})) == ["xy"]
    assert shared(lives, Step(1, "x", "y")) == []  # not offered


def test_a_result_leaves_alone_what_the_next_step_reads() -> None:
    lives = {"x": (0, 3), "y": (1, 4)}
    assert shared(lives, Step(1, "x", "y", over={"y": "x"})) == []


def test_a_view_joins_what_is_still_read() -> None:
    lives = {"x": (0, 3), "y": (1, 4)}
    assert shared(lives, Step(1, "x", "y", views={"y": "x"})) == ["xy"]


def test_the_first_operand_that_can_be_taken_is() -> None:
    lives = {"a": (0, 3), "b": (0, 2), "c": (0, 2), "y": (1, 4)}
    assert shared(lives, Step(1, "abc", "y", over={"y": "abc"})) == ["by"]
    assert shared(lives, Step(1, "abc", "y", over={"y": "acb"})) == ["cy"]


def test_an_operand_in_two_roles_is_not_overwritten() -> None:
    """Another kernel of the layer may read it in its second role."""
    lives = {"x": (0, 2), "y": (1, 4)}
    assert shared(lives, Step(1, "xx", "y", over={"y": "x"})) == []
    assert shared(lives, Step(1, "xx", "y", views={"y": "x"})) == ["xy"]


def test_an_operand_whose_view_is_read_in_the_same_step_is_not_overwritten() -> None:
    lives = {"x": (0, 3), "v": (1, 3), "y": (2, 4)}
    view = Step(1, "x", "v", views={"v": "x"})
    assert shared(lives, view, Step(2, "xv", "y", over={"y": "x"})) == ["xv"]


def test_a_result_that_was_there_before_its_step_keeps_its_bytes() -> None:
    lives = {"x": (0, 2), "y": (0, 4)}
    assert shared(lives, Step(1, "x", "y", over={"y": "x"})) == []
    assert shared(lives, Step(1, "x", "y", views={"y": "x"})) == []


def test_a_result_of_another_size_has_bytes_of_its_own() -> None:
    lives = {"x": (0, 2), "y": (1, 4)}
    for size in (2, 8):
        step = Step(1, "x", "y", over={"y": "x"})
        assert shared(lives, step, sizes={"y": size}) == []


@pytest.mark.parametrize("name", KINDS)
def test_nobody_takes_the_bytes_of(name: str) -> None:
    lives = {name: (0, 2), "y": (1, 4)}
    assert shared(lives, Step(1, name, "y", over={"y": name})) == []
    assert shared(lives, Step(1, name, "y", views={"y": name})) == []


def test_an_offer_counts_in_its_own_phase_and_forward_in_the_recompute() -> None:
    lives = {"x": (0, 2), "y": (1, 4)}
    for offered, phase, groups in (
        (Phase.FORWARD, Phase.RECOMPUTE, ["xy"]),
        (Phase.FORWARD, Phase.CALC_DERIVATIVE, []),
        (Phase.CALC_DERIVATIVE, Phase.CALC_DERIVATIVE, ["xy"]),
        (Phase.CALC_DERIVATIVE, Phase.FORWARD, []),
        (Phase.CALC_DERIVATIVE, Phase.RECOMPUTE, []),
        (Phase.CALC_DERIVATIVE, Phase.CALC_GRADIENT, []),
    ):
        step = Step(1, "x", "y", over={"y": "x"}, phase=phase)
        assert shared(lives, step, offered=offered) == groups


# -- several results and readers -------------------------------------------------------


def test_what_a_view_shows_is_overwritten_only_after_its_last_reader() -> None:
    view = Step(1, "x", "v", views={"v": "x"})
    over = Step(2, "x", "y", over={"y": "x"})
    assert shared({"x": (0, 3), "v": (1, 3), "y": (2, 4)}, view, over) == ["xvy"]
    assert shared({"x": (0, 3), "v": (1, 4), "y": (2, 4)}, view, over) == ["xv"]
    assert shared({"x": (0, 4), "v": (1, 3), "y": (2, 4)}, view, over) == ["xv"]


def test_a_view_does_not_join_what_its_own_step_overwrites() -> None:
    lives = {"x": (0, 2), "y": (1, 4), "v": (1, 4)}
    step = Step(1, "x", "yv", over={"y": "x"}, views={"v": "x"})
    assert shared(lives, step) == ["xy"]


def test_a_view_joins_what_an_earlier_step_has_overwritten() -> None:
    lives = {"x": (0, 2), "y": (1, 3), "v": (2, 4)}
    over, view = (
        Step(1, "x", "y", over={"y": "x"}),
        Step(2, "y", "v", views={"v": "y"}),
    )
    assert shared(lives, over, view) == ["xyv"]


def test_all_views_of_one_step_join() -> None:
    lives = {"x": (0, 2), "u": (1, 4), "v": (1, 5)}
    assert shared(lives, Step(1, "x", "uv", views={"u": "x", "v": "x"})) == ["xuv"]


# -- tensors that are added to ---------------------------------------------------------


def test_a_view_of_what_is_added_to_later_ends_before() -> None:
    view, update = Step(1, "x", "v", views={"v": "x"}), Step(4, updates="x")
    assert shared({"x": (0, 5), "v": (1, 4)}, view, update) == ["xv"]
    assert shared({"x": (0, 5), "v": (1, 5)}, view, update) == []
    assert shared({"x": (0, 5), "v": (1, 6)}, view, update) == []


def test_a_view_that_is_added_to_later_begins_behind_the_last_reader() -> None:
    view, update = Step(1, "x", "v", views={"v": "x"}), Step(4, updates="v")
    assert shared({"x": (0, 4), "v": (1, 6)}, view, update) == ["xv"]
    assert shared({"x": (0, 5), "v": (1, 6)}, view, update) == []
    assert shared({"x": (0, 6), "v": (1, 6)}, view, update) == []


def test_a_sharer_that_is_added_to_later_keeps_others_out() -> None:
    """The additions to all sharers count, not only those to the first."""
    first = Step(1, "x", "v", views={"v": "x"})
    second, update = Step(2, "x", "u", views={"u": "x"}), Step(4, updates="v")
    for u_stop, groups in ((4, ["xvu"]), (5, ["xv"]), (6, ["xv"])):
        lives = {"x": (0, 3), "v": (1, 6), "u": (2, u_stop)}
        assert shared(lives, first, second, update) == groups


def test_every_addition_counts() -> None:
    steps = (
        Step(2, updates="x"),
        Step(3, "x", "v", views={"v": "x"}),
        Step(5, updates="x"),
    )
    assert shared({"x": (0, 6), "v": (3, 5)}, *steps) == ["xv"]
    assert shared({"x": (0, 6), "v": (3, 7)}, *steps) == []


def test_an_addition_in_the_step_of_the_view_counts() -> None:
    step = Step(3, "", "v", "x", views={"v": "x"})
    assert shared({"x": (0, 6), "v": (3, 5)}, step) == []


def test_additions_of_the_past_keep_nobody_out() -> None:
    steps = Step(2, updates="x"), Step(3, "x", "v", views={"v": "x"})
    assert shared({"x": (0, 4), "v": (3, 9)}, *steps) == ["xv"]


def test_of_the_results_of_a_step_those_that_are_added_to_come_last() -> None:
    """One of them would keep both others out."""
    lives = {"x": (0, 2), "a": (1, 6), "b": (1, 6), "c": (1, 6)}
    step = Step(1, "x", "abc", views={"a": "x", "b": "x", "c": "x"})
    assert shared(lives, step, Step(4, updates="a")) == ["xbc"]


# -- whole graphs ----------------------------------------------------------------------


def test_the_derivatives_of_a_difference_are_not_one() -> None:
    """That of a is the difference's own, that of b its negative, over it.

    Were a's a view of it as well, `early` would add to the negative.
    """
    plan = plan_of(
        DATA,
        fc("a"),
        add("early", "a", "in"),
        fc("b", "in"),
        ("subtract", {"name": "d", "input_layers": "a,b"}),
        (
            "activation",
            {"name": "late", "input_layers": "early", "activation": "sigmoid"},
        ),
        add("sum", "d", "late"),
        LOSS,
    )
    assert "b:out0:grad" in sharers(plan, "d:out0:grad")
    assert "a:out0:grad" not in sharers(plan, "d:out0:grad")


def test_a_derivative_that_is_added_to_later_is_no_view_of_another_reader_s() -> None:
    """`one` hands the sum's derivative on to a, to which `both` adds at a later step.

    Until then `both` reads its own derivative, which is that of the sum as well.
    """
    plan = plan_of(
        DATA,
        fc("b"),
        fc("a", "in"),
        add("both", "a", "b"),
        ("activation", {"name": "same", "input_layers": "both", "activation": "none"}),
        add("one", "a"),
        add("sum", "same", "one"),
        LOSS,
    )
    assert "both:out0:grad" not in sharers(plan, "a:out0:grad")


N_GRAPHS = how_many(240, 2000)
"""Random graphs; of the rules here, the one that is broken most rarely needs 65."""


@pytest.mark.parametrize("part", range(4))
def test_no_step_of_a_random_graph_finds_bytes_of_another(part: int) -> None:
    n_sharers = sum(check_sharing(seed) for seed in range(part, N_GRAPHS, 4))
    assert n_sharers > 20 * N_GRAPHS // 4
