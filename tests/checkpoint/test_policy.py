"""Layers that never run again, and layers that leave nothing for the backward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.mixed_graphs import MixedSpec, mixed_graphs
from helpers.mixed_outcomes import finite_outcome, outcome
from helpers.scale import how_many
from helpers.strategies import chain
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import MemoryPlan, Model
from arena_ckpt.checkpoint.choose import Chooser
from arena_ckpt.checkpoint.front import Front, FrontPoint
from arena_ckpt.checkpoint.policy import Patterns, find_policy
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import (
    BudgetError,
    InvalidParameterError,
    PolicyError,
    UnknownLayerError,
)
from arena_ckpt.examples import load_example
from arena_ckpt.graph.build import Graph
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.planner import reruns_of
from arena_ckpt.planning.tensors import Access, TensorKind

SIZES: dict[str, dict[str, Any]] = {
    "char_transformer": {},
    "digits_cnn": {},
    "resnet8": {"batch_size": 4},
    "gpt": {"n_layers": 3, "d": 32, "heads": 4, "ff": 64, "length": 16},
    "autoencoder": {"batch_size": 8},
}
POLICIES: tuple[tuple[str, dict[str, list[str]]], ...] = (
    ("digits_cnn", {"keep": ["*_conv"]}),
    ("digits_cnn", {"drop": ["*_act"]}),
    ("digits_cnn", {"keep": ["c0*_conv"], "drop": ["c1*"]}),
    ("digits_cnn", {"drop": ["logits", "drop", "flat"]}),
    ("char_transformer", {"keep": ["mha*"]}),
    ("char_transformer", {"drop": ["gelu*", "ln*"]}),
    ("char_transformer", {"keep": ["mha*"], "drop": ["gelu?"]}),
    ("resnet8", {"keep": ["*_conv"]}),
    ("resnet8", {"drop": ["*_act"]}),
    ("resnet8", {"keep": ["*_bn"], "drop": ["*_conv"]}),
    ("gpt", {"drop": ["*gelu*"]}),
)


def model_of(name: str) -> Model:
    return load_example(name, **SIZES[name]).model


def check_obeyed(
    graph: Graph, plan: MemoryPlan, keep: frozenset[str], drop: frozenset[str]
) -> None:
    """Follow the steps of a plan; written without the code that the search asks."""
    ran_again = {
        execution.layer
        for execution in plan.executions
        if execution.phase is Phase.RECOMPUTE
    }
    assert not ran_again & keep
    once = {
        f"{node.name}:{tensor.name}"
        for node in graph.nodes
        for tensor in node.spec.tensors
        if not tensor.per_sample
    }
    results = (TensorKind.ACTIVATION, TensorKind.RECOMPUTED)
    first_lives = {
        place: live
        for place, live in enumerate(plan.tensors)
        if live.name.partition(":")[0] in drop
        and live.kind in results
        and live.name not in once
        and live.life == 0
    }
    assert all(live.stop <= plan.n_forward for live in first_lives.values())
    for execution in plan.executions:
        for operand in execution.operands:
            if execution.step >= plan.n_forward and operand.access is Access.READ:
                assert operand.tensor not in first_lives, execution


def check_front(
    model: Model, points: tuple[FrontPoint, ...], policy: dict[str, list[str]]
) -> None:
    graph = model.compile()
    found = find_policy(graph, Patterns(**{k: tuple(v) for k, v in policy.items()}))
    for point in points:
        check_obeyed(graph, point.plan, found.keep, found.drop)


def front_of_policy(
    model: Model, policy: dict[str, list[str]], levels: int | None
) -> tuple[FrontPoint, ...]:
    """Return a front; none where blocks cannot both keep and drop what is asked."""
    can_fail = levels == 1 and len(policy) == 2
    points: tuple[FrontPoint, ...] = ()
    with contextlib.suppress(PolicyError) if can_fail else contextlib.nullcontext():
        points = model.pareto(levels=levels, **policy)  # type: ignore[arg-type]
        assert points
    return points


@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize(
    ("name", "policy"), POLICIES, ids=[f"{name}-{'-'.join(p)}" for name, p in POLICIES]
)
def test_every_plan_of_a_front_obeys(
    name: str, policy: dict[str, list[str]], levels: int | None
) -> None:
    model = model_of(name)
    points = front_of_policy(model, policy, levels)
    check_front(model, points, policy)
    if not points:
        return
    middle = (points[0].arena_bytes + points[-1].arena_bytes) // 2
    point = model.choose_plan(budget=middle, levels=levels, **policy)  # type: ignore[arg-type]
    assert point.arena_bytes <= middle
    check_front(model, (point,), policy)


@pytest.mark.parametrize("policy", [{"keep": ["mha*"]}, {"drop": ["mha*"]}])
def test_other_ways_to_save_bytes_obey(policy: dict[str, list[str]]) -> None:
    """Tiled attention saves other tensors than plain attention does."""
    model = Model()
    model.add_layer("input", name="in", input_shape=(1, 48, 32))
    model.add_layer("fully_connected", name="fc", unit=32)
    model.add_layer(
        "multi_head_attention",
        name="mha",
        num_heads=2,
        projected_key_dim=16,
        attention="plain",
        input_layers=["fc", "fc", "fc"],
    )
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=8)
    allow = ("recompute", "in_place", "layerwise_update", "tiled_attention")
    points = model.pareto(allow=allow, **policy)  # type: ignore[arg-type]
    assert any("tiled_attention" in point.plan.ways for point in points)
    for point in points:
        graph = ModelPlans(model).graph_of(point.plan)
        (kind,) = policy
        found = find_policy(graph, Patterns(**{kind: tuple(policy[kind])}))
        check_obeyed(graph, point.plan, found.keep, found.drop)


def test_what_breaks_a_policy_is_left_out() -> None:
    """Neither the plan that keeps all nor named blocks are on the front then."""
    spec = chain(32, "gelu", 32, "gelu", 32, width=32, batch_size=64)
    blocks = (("fc1", "act1", "fc2", "act2"),)
    labels = {p.label for p in spec.model().pareto(drop="act*")}
    assert labels == {"chosen"}
    named = MixedSpec(spec.layers, blocks, spec.properties, spec.optimizer)
    again = {r.layer for r in reruns_of(named.model().make_plan()) if r.tensors}
    assert "fc2" in again
    for point in named.model().pareto(keep="fc2"):
        assert point.label != "named blocks"
    assert any(p.label == "keep all" for p in named.model().pareto(keep="fc2"))


def test_a_dropped_layer_runs_again_only_where_it_is_needed() -> None:
    """No backward step reads the sums before a relu: nothing of them is kept anyway."""
    spec = chain(32, "relu", 32, "relu", 4, width=32, batch_size=64)
    fastest = spec.model().choose_plan(budget="100%", drop="fc[12]")
    assert fastest.label == "keep all"
    assert fastest.overhead == 0


@pytest.mark.parametrize(
    "policy",
    [{"drop": ["act*"]}, {"keep": ["fc*"]}, {"keep": ["fc*"], "drop": ["act1"]}],
)
@pytest.mark.parametrize("levels", [None, 1])
def test_the_bits_are_those_of_other_plans(
    policy: dict[str, Any], levels: int | None
) -> None:
    spec = chain(16, "gelu", 16, "gelu", 16, "gelu", 4, width=16, batch_size=16)
    batch = spec.batch(16)
    plain = spec.model()
    plain.initialize()
    expected = [plain.train_step(*batch) for _ in range(3)]
    for point in spec.model().pareto(levels=levels, **policy):
        model = spec.model()
        model.initialize(plan=point.plan)
        assert [model.train_step(*batch) for _ in range(3)] == expected


@pytest.mark.parametrize("name", ["digits_cnn", "resnet8"])
def test_examples_train_the_same_bits(name: str) -> None:
    states = []
    for policy in ({}, {"drop": ["*_act"]}, {"keep": ["*_conv"]}):
        example = load_example(name, **SIZES[name])
        model = example.model
        budget = {"budget": "100%"} if policy else {}
        model.initialize(**budget, **policy)  # type: ignore[arg-type]
        n = model.get_property("batch_size")
        x, y = example.data.x[:n], example.data.y[:n]
        losses = [model.train_step(x, y) for _ in range(2)]
        states.append((losses, [w.tobytes() for w in model.weights().values()]))
    assert states[0] == states[1] == states[2]


# -- random networks -------------------------------------------------------------------


@st.composite
def policies(draw: st.DrawFn) -> tuple[MixedSpec, dict[str, list[str]]]:
    spec = draw(mixed_graphs()).without_blocks()
    nodes = spec.model().compile().nodes
    able = [n.name for n in nodes if n.inputs and not n.layer.is_alias]
    kinds = st.sampled_from(("free", "free", "keep", "drop"))
    of_layer = {name: draw(kinds) for name in able}
    losses = {n.name for n in nodes if n.layer.is_loss}
    policy = {
        kind: [n for n in able if of_layer[n] == kind and n not in never]
        for kind, never in (("keep", ()), ("drop", losses))
    }
    return spec, {kind: names for kind, names in policy.items() if names}


@settings(derandomize=True, deadline=None, max_examples=how_many(25, 2000))
@given(policies(), st.sampled_from((None, None, 1)))
def test_every_plan_of_random_networks_obeys(
    chosen: tuple[MixedSpec, dict[str, list[str]]], levels: int | None
) -> None:
    spec, policy = chosen
    model = spec.model()
    points = front_of_policy(model, policy, levels)
    check_front(model, points, policy)


class WithPlan(MixedSpec):
    """A model with the smallest plan that obeys a policy."""

    policy: dict[str, list[str]]

    def initialized(self, *, debug: bool = False) -> Model:
        model = self.model()
        plan = model.pareto(debug=debug, **self.policy)[0].plan  # type: ignore[arg-type]
        model.initialize(plan=plan, debug=debug)
        return model


@settings(derandomize=True, deadline=None, max_examples=how_many(8, 500))
@given(policies())
def test_the_smallest_plan_of_random_networks_trains_the_same_bits(
    chosen: tuple[MixedSpec, dict[str, list[str]]],
) -> None:
    spec, policy = chosen
    expected = finite_outcome(spec)
    obeying = WithPlan(**{f: getattr(spec, f) for f in spec.__dataclass_fields__})
    object.__setattr__(obeying, "policy", policy)
    assert not expected.differences(outcome(obeying))
    assert not expected.differences(outcome(obeying, debug=True)), "debug mode"


# -- estimates -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("digits_cnn", Patterns(keep=("*_conv",))),
        ("resnet8", Patterns(keep=("*_conv",))),
        ("char_transformer", Patterns(keep=("mha*",))),
        ("char_transformer", Patterns(drop=("gelu*",))),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value),
)
def test_estimates_are_close_to_real_plans(name: str, patterns: Patterns) -> None:
    """What kept layers hold is counted once, for as long as it is there."""
    front = front_of(model_of(name), patterns)
    base = front._needs.base_bytes
    for slot in front.slots[::3]:
        real = front.point(slot).plan.live_lower_bound_bytes
        estimate = slot.budget_bytes + base
        assert real <= estimate <= 1.25 * real


def front_of(model: Model, patterns: Patterns) -> Front:
    plans = ModelPlans(model)
    chooser = Chooser(plans.graph_with, plans.settings(), patterns=patterns)
    return next(chooser._all_fronts())


# -- refusals --------------------------------------------------------------------------


GELU = chain(32, "gelu", 32, "gelu", 32, "gelu", 4, width=32, batch_size=64)


def asking(model: Model) -> Iterator[Any]:
    yield lambda **policy: model.make_plan(budget="1MiB", **policy)
    yield lambda **policy: model.choose_plan(budget="1MiB", **policy)
    yield lambda **policy: model.initialize(budget="1MiB", **policy)
    yield model.pareto


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        ({"keep": ["atc*"]}, UnknownLayerError, "matches 'atc\\*' \\(did you mean"),
        ({"drop": "ACT1"}, UnknownLayerError, "did you mean 'act1'"),
        ({"drop": ["in"]}, PolicyError, "samples of 'in'"),
        ({"drop": ["loss"]}, PolicyError, "a loss adds its terms"),
        ({"drop": ["*"]}, PolicyError, "'in', 'loss', which cannot run again"),
        ({"keep": ["fc*"], "drop": ["fc2"]}, PolicyError, "both match 'fc2'"),
        ({"keep": 3}, InvalidParameterError, "keep=3 is not possible"),
        ({"keep": [3]}, InvalidParameterError, "is not possible"),
        ({"drop": [""]}, InvalidParameterError, "is not possible"),
        ({"drop": ["act1"], "allow": "in_place"}, PolicyError, "'recompute' is not in"),
    ],
)
def test_policies_that_cannot_be(
    policy: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = GELU.model()
    for ask in asking(model):
        with pytest.raises(error, match=message):
            ask(**policy)
    model.initialize()  # nothing has changed


def test_layers_at_fault_are_named() -> None:
    with pytest.raises(PolicyError) as caught:
        GELU.model().pareto(keep=["fc?", "act1"], drop="act[12]")
    assert caught.value.layers == ("act1",)


def test_a_policy_alone_asks_for_nothing() -> None:
    with pytest.raises(InvalidParameterError, match="keep and drop say how to choose"):
        GELU.model().make_plan(drop="act*")


def test_nothing_to_keep_or_drop_is_as_if_left_out() -> None:
    model = GELU.model()
    assert model.make_plan(keep=[], drop=()) == model.make_plan()
    free = model.choose_plan(budget="80%")
    assert model.choose_plan(budget="80%", keep=[], drop=None).plan == free.plan


def test_blocks_that_cannot_say_a_policy_name_the_layers() -> None:
    """What is added stays in the block from act1 to add, and fc2 within it."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:8")
    model.add_layer("fully_connected", name="fc1", unit=8)
    model.add_layer("activation", name="act1", activation="gelu")
    model.add_layer("fully_connected", name="fc2", unit=8)
    model.add_layer("activation", name="act2", activation="gelu")
    model.add_layer("addition", name="add", input_layers=["act1", "act2"])
    model.add_layer("mse", name="loss")
    policy = {"keep": ["fc2"], "drop": ["act1"]}
    with pytest.raises(PolicyError, match="from 'act1' to 'add'") as caught:
        model.choose_plan(budget="200%", levels=1, **policy)  # type: ignore[arg-type]
    assert caught.value.layers == ("act1", "fc2")
    check_front(model, model.pareto(**policy), policy)  # type: ignore[arg-type]


def test_an_unrolled_layer_stands_for_its_parts() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:3:4")
    model.add_layer("lstm", name="lstm", unit=4, unroll=True, return_sequences=True)
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    policy = find_policy(model.compile(), Patterns(keep=("lstm",)))
    assert {"lstm/t0", "lstm/t1", "lstm/t2"} <= policy.keep
    assert find_policy(model.compile(), Patterns(keep=("lstm/t1",))).keep == {"lstm/t1"}


def test_a_refusal_says_that_the_policy_binds() -> None:
    model = GELU.model()
    least = model.pareto()[0].arena_bytes
    with pytest.raises(BudgetError) as caught:
        model.make_plan(budget=least + 2048, keep="fc*")
    assert "What binds is keep 'fc*': without, the smallest found takes" in str(
        caught.value
    )
    assert "It would fit with keep 'fc*' left out" in str(caught.value)
    assert caught.value.least_bytes == model.pareto(keep="fc*")[0].arena_bytes


def test_what_is_dropped_can_take_more_time_than_is_asked() -> None:
    with pytest.raises(BudgetError, match="with drop 'act\\*' the fastest") as caught:
        GELU.model().choose_plan(max_overhead=0, drop="act*")
    fastest = GELU.model().choose_plan(budget="1MiB", drop="act*")
    assert caught.value.overhead == fastest.overhead > 0
    assert caught.value.least_bytes == fastest.arena_bytes


# -- shares ----------------------------------------------------------------------------


def test_a_budget_can_be_a_share_of_what_keeps_all() -> None:
    model = GELU.model()
    whole = model.make_plan().arena_bytes
    for share, parts in (("80%", 0.8), (" 70.5 % ", 0.705), ("100%", 1), ("250%", 2.5)):
        point = model.choose_plan(budget=share)
        same = model.choose_plan(budget=int(whole * parts + 1e-6))
        assert point.plan == same.plan
        assert point.arena_bytes <= whole * parts
    assert model.choose_plan(budget="100%").overhead == 0
    assert model.initialize(budget="75%").arena_bytes <= whole * 0.75


def test_a_share_is_one_of_the_same_settings() -> None:
    allow = {"recompute", "layerwise_update"}
    whole = GELU.model().choose_plan(max_overhead=0, allow=allow).arena_bytes
    assert whole > GELU.model().make_plan().arena_bytes
    with pytest.raises(BudgetError) as caught:
        GELU.model().choose_plan(budget="10%", allow=allow)
    assert caught.value.budget_bytes == whole // 10
    assert f"({whole // 10:,} B)" in str(caught.value)


@pytest.mark.parametrize("budget", ["0%", "0.0 %", "-5%", "%", "a%", "1e2%", "5%%"])
def test_shares_that_are_none(budget: str) -> None:
    with pytest.raises(InvalidParameterError, match="a share above 0 %"):
        GELU.model().make_plan(budget=budget)


def test_a_share_above_the_memory_of_the_machine_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="more than the memory"):
        GELU.model().make_plan(budget="99999999999%")
