"""Budgets bound the real arena, overheads the counted time; bits never change."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from helpers.example_data import first_batch
from helpers.mixed_graphs import MixedSpec, mixed_graphs
from helpers.mixed_outcomes import finite_outcome, outcome
from helpers.scale import how_many
from helpers.strategies import ModelSpec, chain
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import MemoryPlan, Model
from arena_ckpt.checkpoint.choose import ALLOWABLE, all_settings
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.stages import cut_graph
from arena_ckpt.errors import (
    AfterInitializationError,
    BudgetError,
    InvalidParameterError,
)
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.planner import Planner, make_plan
from arena_ckpt.planning.settings import PlanSettings

SIZES: dict[str, dict[str, Any]] = {
    "gpt": {"n_layers": 3, "d": 32, "heads": 4, "ff": 64, "length": 16},
    "resnet18": {"batch_size": 2},
    "mobilenet_v2": {"size": 32},
}
DEEP = chain(*itertools.chain(*[(32, "gelu")] * 8), width=32, batch_size=64)
"""Eight layers whose activations are larger than their weights."""

WIDE = chain(4096, "gelu", 8, width=8, batch_size=64)
"""A single activation is larger than all weights."""


def front_of(spec: ModelSpec, **request: Any) -> tuple[FrontPoint, ...]:
    return spec.model().pareto(**request)


def check_front(front: tuple[FrontPoint, ...]) -> None:
    """What holds for every front."""
    for small, large in itertools.pairwise(front):
        assert small.arena_bytes < large.arena_bytes
        assert small.overhead > large.overhead
    fastest = front[-1]
    assert fastest.overhead == 0
    for point in front:
        assert point.arena_bytes == point.plan.arena_bytes
        assert point.plan.local_lower_bound_bytes <= point.arena_bytes


# -- bits ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Chosen(MixedSpec):
    """A model with a plan out of its front."""

    place: float = 0.0
    levels: int | None = None

    def initialized(self, *, debug: bool = False) -> Model:
        model = self.model()
        front = model.pareto(levels=self.levels, debug=debug)
        check_front(front)
        point = front[round(self.place * (len(front) - 1))]
        model.initialize(plan=point.plan, debug=debug)
        return model


@settings(derandomize=True, deadline=None, max_examples=how_many(8, 15))
@given(mixed_graphs(), st.floats(0, 1), st.sampled_from([None, 1]))
def test_every_plan_of_a_front_trains_the_same_bits(
    spec: MixedSpec, place: float, levels: int | None
) -> None:
    plain = spec.without_blocks()
    expected = finite_outcome(plain)
    fields = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    chosen = Chosen(**fields, place=place, levels=levels)
    assert not expected.differences(outcome(chosen))
    assert not expected.differences(outcome(chosen, debug=True)), "debug mode"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_smallest_plan_of_each_example_trains_the_same_bits(name: str) -> None:
    sizes = SIZES.get(name, {})
    states = []
    for smallest in (False, True):
        example = load_example(name, **sizes)
        model = example.model
        plan = model.pareto()[0].plan if smallest else None
        model.initialize(plan=plan)
        n = model.get_property("batch_size")
        x, y = first_batch(example, n)
        losses = [model.train_step(x, y) for _ in range(2)]
        states.append((losses, [w.tobytes() for w in model.weights().values()]))
    assert states[0] == states[1]


# -- budgets ---------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=how_many(8, 15))
@given(mixed_graphs(), st.floats(0, 1.1))
def test_a_budget_bounds_the_real_arena(spec: MixedSpec, share: float) -> None:
    model = spec.without_blocks().model()
    most = model.make_plan().arena_bytes
    least = model.pareto()[0].arena_bytes
    budget = int(least + share * (most - least))
    point = model.choose_plan(budget=budget)
    assert point.arena_bytes <= budget
    assert point.overhead <= model.pareto()[0].overhead + 1e-9
    if budget >= most:
        assert point.overhead == 0


def test_more_bytes_never_cost_more_time() -> None:
    model = DEEP.model()
    front = model.pareto()
    check_front(front)
    assert len(front) > 5
    budgets = np.linspace(front[0].arena_bytes, front[-1].arena_bytes, 30)
    points = [model.choose_plan(budget=int(b)) for b in budgets]
    overheads = [point.overhead for point in points]
    assert overheads == sorted(overheads, reverse=True)
    assert overheads[-1] == 0


@pytest.mark.parametrize("levels", [None, 1])
def test_no_choice_is_worse_than_a_point_of_the_front(levels: int | None) -> None:
    """Choices looked at less than the front did: 18 points more time in the worst."""
    model = load_example("char_transformer").model
    for point in model.pareto(levels=levels)[::8]:
        fast = model.choose_plan(budget=point.arena_bytes, levels=levels)
        assert fast.overhead <= point.overhead
        small = model.choose_plan(max_overhead=point.overhead, levels=levels)
        assert small.arena_bytes <= point.arena_bytes


@pytest.mark.parametrize(
    "properties", [{"clip_grad_by_norm": 1.0}, {"micro_batches": 4}]
)
def test_updates_after_the_pass_are_counted_once(properties: dict[str, Any]) -> None:
    """They were in the time of the chain as well, and left nothing for recomputes."""
    from arena_ckpt.checkpoint.front import Front

    model = DEEP.with_properties(**properties).model()
    front = Front(model.compile(), ModelPlans(model).settings())
    for slot in front.slots:
        most = front.point(slot).overhead
        assert most > 0.15 or slot.time <= front.longest_time(1.02 * most + 0.001)


def test_initialize_takes_a_budget() -> None:
    model = DEEP.model()
    keep_all = model.make_plan().arena_bytes
    plan = model.initialize(budget=keep_all * 3 // 4)
    assert plan.arena_bytes <= keep_all * 3 // 4
    assert plan is model.plan
    plain = DEEP.model()
    plain.initialize()
    batch = DEEP.batch(64)
    for _ in range(3):
        assert model.train_step(*batch) == plain.train_step(*batch)
    with pytest.raises(AfterInitializationError):
        model.initialize(budget="1MiB")


def test_an_overhead_bounds_the_counted_time() -> None:
    model = DEEP.model()
    sizes = []
    for most in (0, 0.02, "5%", 0.1, "20 %", 10):
        point = model.choose_plan(max_overhead=most)
        share = float(str(most).rstrip(" %")) / (100 if "%" in str(most) else 1)
        assert point.overhead <= share
        assert point.plan.overhead == pytest.approx(point.overhead)
        sizes.append(point.arena_bytes)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.5 * sizes[0]


def test_budget_and_overhead_together() -> None:
    model = DEEP.model()
    small = model.choose_plan(max_overhead=0.05)
    again = model.choose_plan(budget=small.arena_bytes, max_overhead=0.05)
    assert again.arena_bytes <= small.arena_bytes
    least = model.pareto()[0]
    with pytest.raises(BudgetError, match="more time") as caught:
        model.choose_plan(budget=least.arena_bytes, max_overhead=0.01)
    assert caught.value.budget_bytes == least.arena_bytes
    assert caught.value.overhead > 0.01


def test_named_blocks_are_taken_where_they_are_best() -> None:
    blocks = (("fc1", "act1", "fc2", "act2"),)
    spec = dataclasses.replace(DEEP, blocks=blocks)
    named = spec.model().make_plan()
    point = spec.model().choose_plan(budget=named.arena_bytes)
    assert point.arena_bytes <= named.arena_bytes
    assert point.overhead <= named.overhead + 1e-12


# -- what named blocks can say ---------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=how_many(8, 15))
@given(mixed_graphs())
def test_chosen_blocks_can_be_named(spec: MixedSpec) -> None:
    plain = spec.without_blocks()
    for point in front_of(plain, levels=1):
        if point.label == "keep all":
            continue
        model = plain.model()
        for block in point.blocks:
            model.add_checkpoint_block(block.layers, name=block.name)
        assert model.make_plan() == point.plan
        assert all(count == 1 for count in _times_run(point.plan).values())


def test_more_levels_are_never_worse() -> None:
    one, many = (front_of(DEEP, levels=levels) for levels in (1, None))
    assert many[0].arena_bytes < one[0].arena_bytes
    for point in one:
        as_small = [p for p in many if p.arena_bytes <= point.arena_bytes]
        assert min(p.overhead for p in as_small) <= point.overhead + 0.02
    assert max(_times_run(many[0].plan).values()) > 1, "recomputed within recomputes"


def _times_run(plan: MemoryPlan) -> dict[str, int]:
    counts: dict[str, int] = {}
    for execution in plan.executions:
        if execution.phase.value == "recompute":
            counts[execution.layer] = counts.get(execution.layer, 0) + 1
    return counts


# -- what is allowed -------------------------------------------------------------------


def test_without_recompute_nothing_runs_again() -> None:
    model = DEEP.model()
    (only,) = model.pareto(allow={"in_place", "layerwise_update"})
    assert only.label == "keep all"
    assert only.plan == model.make_plan()


def test_each_way_can_be_left_out() -> None:
    model = DEEP.model()
    default = model.make_plan()
    apart = model.choose_plan(max_overhead=0, allow={"recompute", "layerwise_update"})
    assert apart.arena_bytes > default.arena_bytes
    assert apart.plan.ways == ("layerwise_update",)
    late = model.choose_plan(max_overhead=0, allow={"recompute", "in_place"})
    assert late.plan.n_pass < len(late.plan.steps), "updates follow all gradients"
    plain = DEEP.model()
    plain.initialize()
    batch = DEEP.batch(64)
    expected = [plain.train_step(*batch) for _ in range(3)]
    for point in (apart, late):
        other = DEEP.model()
        other.initialize(plan=point.plan)
        assert [other.train_step(*batch) for _ in range(3)] == expected


def test_micro_batches_only_where_they_are_allowed() -> None:
    with pytest.raises(BudgetError, match="'micro_batch' in allow"):
        WIDE.model().choose_plan(budget=1_000_000)
    allow = {"recompute", "in_place", "layerwise_update", "micro_batch"}
    model = WIDE.model()
    point = model.choose_plan(budget=1_000_000, allow=allow)
    assert point.plan.micro_batches > 1
    assert point.overhead > 0, "weights are read in every pass"
    model.initialize(plan=point.plan)
    plain = WIDE.model()
    plain.initialize()
    batch = WIDE.batch(64)
    assert model.train_step(*batch) == pytest.approx(plain.train_step(*batch), 1e-5)


def test_batch_normalization_forbids_micro_batches() -> None:
    ways = all_settings(PlanSettings(64), frozenset(ALLOWABLE), "bn1")
    assert {s.micro_batches for s in ways} == {1}
    model = load_example("digits_cnn").model
    with pytest.raises(BudgetError) as caught:
        model.choose_plan(budget="800KiB")
    assert "'micro_batch' in allow" not in str(caught.value)


def test_tiled_attention_only_where_it_is_allowed() -> None:
    def model() -> Model:
        one = Model()
        one.add_layer("input", name="in", input_shape=(1, 48, 32))
        one.add_layer(
            "multi_head_attention",
            name="mha",
            num_heads=2,
            projected_key_dim=16,
            attention="plain",
            input_layers=["in", "in", "in"],
        )
        one.add_layer("mse", name="loss")
        one.set_property(batch_size=8)
        return one

    allow = {"recompute", "in_place", "layerwise_update", "tiled_attention"}
    plain = model().choose_plan(max_overhead=0.5)
    tiled = model().choose_plan(max_overhead=0.5, allow=allow)
    assert tiled.arena_bytes < plain.arena_bytes
    assert "tiled_attention" in tiled.plan.ways
    assert sum(model().step_seconds(tiled.plan)) > 0
    one = model()
    one.initialize(plan=tiled.plan)
    x = np.random.default_rng(0).normal(size=(8, 48 * 32)).astype(np.float32)
    other = model()
    other.initialize()
    assert one.train_step(x, x) == pytest.approx(other.train_step(x, x), 1e-5)


# -- measured --------------------------------------------------------------------------


def test_measured_costs_are_remembered(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    point = DEEP.model().choose_plan(max_overhead=0.2, measure=True)
    (file,) = tmp_path.rglob("*.json")
    assert 0 < point.overhead <= 0.2
    before = file.read_bytes()
    again = DEEP.model().choose_plan(max_overhead=0.2, measure=True)
    assert again.plan == point.plan
    assert file.read_bytes() == before
    for damaged in (b"", b"[]", b'{"a": 1}', b"[1, 2"):
        file.write_bytes(damaged)
        DEEP.model().choose_plan(max_overhead=0.2, measure=True)
        assert file.read_bytes() not in (damaged, b"")


# -- refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"budget": "0"}, "no memory size"),
        ({"budget": "-1"}, "no memory size"),
        ({"budget": -5}, "no memory size"),
        ({"budget": "12 parsecs"}, "no memory size"),
        ({"budget": "4000 GiB"}, "more than the memory"),
        ({"budget": True}, "not possible"),
        ({"budget": 1.5}, "not possible"),
        ({"max_overhead": -0.1}, "at least 0"),
        ({"max_overhead": "often"}, "at least 0"),
        ({"max_overhead": float("nan")}, "at least 0"),
        ({"max_overhead": "inf"}, "at least 0"),
        ({"max_overhead": True}, "at least 0"),
        ({"budget": "1MiB", "allow": "recompile"}, "did you mean 'recompute'"),
        ({"budget": "1MiB", "allow": 3}, "not possible"),
        ({"budget": "1MiB", "levels": 2}, "levels"),
        ({"budget": "1MiB", "measure": "yes"}, "measure"),
        ({"allow": "recompute"}, "what for"),
        ({"levels": 1}, "what for"),
    ],
)
def test_requests_that_make_no_sense(request_: dict[str, Any], message: str) -> None:
    model = DEEP.model()
    for ask in (model.make_plan, model.initialize):
        with pytest.raises(InvalidParameterError, match=message):
            ask(**request_)
    model.initialize()  # nothing has changed


@pytest.mark.parametrize(("one", "other"), [("tanh", "sigmoid"), ("tanh", "softplus")])
def test_times_of_other_layers_are_not_taken(
    one: str, other: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have the same plan."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for activation in (one, other):
        spec = chain(8, activation, 8, activation, batch_size=64)
        spec.model().choose_plan(max_overhead=0.2, measure=True)
    assert len([*tmp_path.rglob("step_times/*.json")]) == 2


def test_a_cache_that_cannot_be_written_is_none(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in place of the folder was an error while tidying up."""
    file = tmp_path / "cache"
    file.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert DEEP.model().choose_plan(max_overhead=0.2, measure=True).overhead <= 0.2


def test_numbers_of_numpy_are_numbers() -> None:
    model = DEEP.model()
    budget = model.make_plan().arena_bytes - 1
    share = model.choose_plan(budget=budget).overhead * 2
    assert model.choose_plan(budget=np.int64(budget)).arena_bytes <= budget
    assert model.choose_plan(max_overhead=np.float32(share)).overhead <= share + 1e-6
    assert model.choose_plan(max_overhead=np.int64(0)).overhead == 0


def test_what_asks_for_nothing_is_as_if_left_out() -> None:
    nothing = {"budget": None, "levels": None, "measure": False}
    model = DEEP.model()
    plan = model.make_plan()
    assert model.make_plan(**nothing) == plan
    assert model.initialize(plan=plan, **nothing) is plan


def test_a_plan_and_a_budget_exclude_each_other() -> None:
    model = DEEP.model()
    with pytest.raises(InvalidParameterError, match="exclude"):
        model.initialize(plan=model.make_plan(), budget="1MiB")


def test_without_reuse_there_is_nothing_to_choose() -> None:
    model = DEEP.with_properties(memory_optimization=False).model()
    with pytest.raises(InvalidParameterError, match="memory_optimization"):
        model.make_plan(budget="1MiB")


def test_an_impossible_budget_says_what_binds_and_what_would_help() -> None:
    model = load_example("nine_layer_mlp").model
    with pytest.raises(BudgetError) as caught:
        model.make_plan(budget="8MiB")
    error = caught.value
    assert error.budget_bytes == 8 * 2**20
    assert error.least_bytes == error.lower_bound_bytes == 8_582_976
    assert "no plan can need less" in str(error)
    assert "fc1:weight:grad" in error.tensors
    assert "calc_gradient of fc1" in str(error)
    assert "It would fit with" in str(error)


def test_a_smaller_batch_that_is_advised_fits() -> None:
    budget = 50_000
    with pytest.raises(BudgetError, match="batch_size=") as caught:
        DEEP.model().make_plan(budget=budget)
    said = str(caught.value).partition("batch_size=")[2].split()[0]
    advised = DEEP.with_properties(batch_size=int(said)).model()
    assert advised.make_plan(budget=budget).arena_bytes <= budget
    larger = DEEP.with_properties(batch_size=int(said) + 1).model()
    with pytest.raises(BudgetError):
        larger.make_plan(budget=budget)


def test_a_smaller_batch_is_advised_with_its_micro_batches() -> None:
    """It said batch_size=1 alone, and four micro-batches of one sample are an error."""
    spec = WIDE.with_properties(batch_size=4, micro_batches=4)
    single = WIDE.with_properties(batch_size=1, micro_batches=1)
    budget = single.model().make_plan().arena_bytes
    with pytest.raises(BudgetError, match="batch_size=1 and micro_batches=1 instead"):
        spec.model().choose_plan(budget=budget)


def test_a_refusal_plans_no_more_than_its_bounds_leave_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each other batch size was given a whole front: minutes for large models."""
    made, plan = [], Planner.plan

    def counted(planner: Planner, *args: Any, **kwargs: Any) -> MemoryPlan:
        made.append(args)
        return plan(planner, *args, **kwargs)

    monkeypatch.setattr(Planner, "plan", counted)
    with pytest.raises(BudgetError):
        DEEP.model().choose_plan(budget=50_000)
    assert 0 < len(made) < 100


# -- stages ----------------------------------------------------------------------------


def unet(depth: int = 3) -> Model:
    """Skips all the way across: no single tensor cuts it in the middle."""
    model = Model()
    model.add_layer("input", name="in", input_shape="3:16:16")
    source, skips, channels = "in", [], 4

    def block(name: str, source: str, channels: int) -> str:
        model.add_layer(
            "conv2d",
            name=name,
            filters=channels,
            kernel_size=(3, 3),
            padding="same",
            activation="relu",
            input_layers=[source],
        )
        return name

    for level in range(depth):
        source = block(f"down{level}", source, channels)
        skips.append(source)
        model.add_layer(
            "pooling2d",
            name=f"pool{level}",
            pooling="max",
            pool_size=(2, 2),
            stride=(2, 2),
            input_layers=[source],
        )
        source, channels = f"pool{level}", 2 * channels
    source = block("bottom", source, channels)
    for level in reversed(range(depth)):
        channels //= 2
        up, joined = f"grow{level}", f"join{level}"
        model.add_layer(
            "upsample2d", name=up, kernel_size=(2, 2), input_layers=[source]
        )
        model.add_layer("concat", name=joined, axis=1, input_layers=[up, skips[level]])
        source = block(f"up{level}", joined, channels)
    model.add_layer("mse", name="loss", input_layers=[source])
    model.set_property(batch_size=4)
    return model


def test_stages_hold_all_layers_in_order() -> None:
    for model in (unet(), DEEP.model(), load_example("gpt").model):
        graph = model.compile()
        stages = cut_graph(graph)
        assert tuple(n for s in stages for n in s.nodes) == graph.nodes
        assert stages[0].cut_before == stages[-1].cut_after == ()
        for stage, following in itertools.pairwise(stages):
            assert stage.cut_after == following.cut_before != ()


def test_skips_are_cut_with_several_tensors_and_save() -> None:
    model = unet()
    assert any(len(stage.cut_after) > 1 for stage in cut_graph(model.compile()))
    front = model.pareto()
    check_front(front)
    assert front[0].arena_bytes < 0.9 * front[-1].arena_bytes


def test_few_stages_still_give_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena_ckpt.checkpoint.front.MOST_STAGES", 5)
    front = DEEP.model().pareto()
    check_front(front)
    assert front[0].arena_bytes < 0.8 * front[-1].arena_bytes


def test_a_front_is_the_same_in_every_process_and_for_copies() -> None:
    model = DEEP.model()
    first, second = (
        [p.plan.to_json() for p in m.pareto()] for m in (model, DEEP.model())
    )
    assert first == second


def test_estimates_are_close_to_real_plans() -> None:
    """The numbers of the chain come from the functions that plan iterations."""
    from arena_ckpt.checkpoint.front import Front

    model = load_example("gpt", n_layers=3).model
    front = Front(model.compile(), ModelPlans(model).settings())
    base = front._needs.base_bytes
    for slot in front.slots:
        real = front.point(slot).plan.live_lower_bound_bytes
        estimate = slot.budget_bytes + base
        assert real <= estimate <= 1.15 * real
    keep_all = make_plan(model.compile(), ModelPlans(model).settings(), ())
    assert front.keep_all.plan == keep_all


def test_a_budget_that_nothing_meets_is_refused_with_measured_costs_too() -> None:
    model = chain(5, "relu", 3, optimizer=("adam", {}), batch_size=4).model()
    with pytest.raises(BudgetError, match="no plan fits in") as counted:
        model.make_plan(budget=1024)
    with pytest.raises(BudgetError, match="no plan fits in") as measured:
        model.make_plan(budget=1024, measure=True)
    assert vars(measured.value)["least_bytes"] == vars(counted.value)["least_bytes"]
