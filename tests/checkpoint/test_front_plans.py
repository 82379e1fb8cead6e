"""Every plan that can be chosen is one of the model's own: it runs, saves and loads."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.mixed_graphs import MixedSpec, mixed_graphs
from helpers.scale import how_many
from helpers.strategies import ModelSpec, chain
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.checkpoint.choose import ALLOWABLE, DEFAULT_ALLOW
from arena_ckpt.checkpoint.front import FrontPoint
from arena_ckpt.checkpoint.needs import Needs
from arena_ckpt.checkpoint.stage_options import StageOptions
from arena_ckpt.checkpoint.stages import cut_graph, groupings
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import (
    BatchStatisticsError,
    NonFiniteError,
    PlanMismatchError,
)
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning import planner
from arena_ckpt.planning.planner import make_plan, reruns_of
from arena_ckpt.planning.recompute import Rerun, possible_reruns, remakable
from arena_ckpt.planning.touches import Touches

ALLOWED = (
    DEFAULT_ALLOW,
    frozenset(ALLOWABLE),
    frozenset({"recompute"}),
    frozenset({"recompute", "layerwise_update", "tiled_update", "tiled_attention"}),
)


def has_values_to_normalize(spec: MixedSpec) -> bool:
    """Tell whether no batch normalization takes the variance of a single value."""
    try:
        plan = spec.model().make_plan()
    except BatchStatisticsError:
        return False
    return all(
        plan.pass_samples * math.prod(layer.output_shape)
        > max(layer.output_shape[0], layer.output_shape[2])
        for layer in plan.layers
        if layer.type_name == "batch_normalization"
    )


@st.composite
def odd_networks(draw: st.DrawFn) -> MixedSpec:
    """Few samples, few outputs: sizes at which one tensor is as good as another."""
    spec = draw(mixed_graphs(max_layers=8)).without_blocks()
    batch = draw(st.sampled_from((1, 1, 2, 3)))
    spec = spec.with_properties(batch_size=batch, micro_batches=1)
    assume(has_values_to_normalize(spec))
    return spec


def fronts(
    spec: MixedSpec, allow: frozenset[str], levels: int | None, debug: bool = False
) -> tuple[FrontPoint, ...]:
    return spec.model().pareto(allow=allow, levels=levels, debug=debug)


def loss_and_bits(model: Model, x: Any, y: Any) -> tuple[list[float], list[bytes]]:
    """Return what a model computes in two iterations, and what is left of it."""
    loss, gradients = model.compute_gradients(x, y)
    losses = [loss, *(model.train_step(x, y) for _ in range(2))]
    arrays = [*gradients.values(), *model.weights().values()]
    return losses, [array.tobytes() for array in arrays]


def check_own(spec: MixedSpec, point: FrontPoint, *, debug: bool = False) -> None:
    """The check of `initialize(plan=)`, and that nothing runs twice that must not."""
    model = spec.model()
    ModelPlans(model).require_own_plan(point.plan, debug=debug)
    graph = ModelPlans(model).graph_of(point.plan)
    assert possible_reruns(graph, point.reruns) == point.reruns
    for execution in point.plan.executions:
        if execution.phase is Phase.RECOMPUTE:
            node = graph.node(execution.layer)
            assert node.inputs, execution
            assert not node.layer.is_loss, execution


def check_round_trip(spec: MixedSpec, point: FrontPoint) -> None:
    """The same bits as with nothing recomputed, in the model and in a loaded one."""
    plain = spec.model()
    plans = ModelPlans(plain)
    graph, how = plans.graph_of(point.plan), plans.settings_of(point.plan)
    plain.initialize(plan=make_plan(graph, how, ()))
    x, y = spec.batch(spec.batch_size)
    try:
        expected = loss_and_bits(plain, x, y)
    except NonFiniteError:
        assume(False)
    model = spec.model()
    model.initialize(plan=point.plan)
    assert loss_and_bits(model, x, y) == expected, point.reruns
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        model.save(path)
        loaded = ac.load(path)
    assert loaded.plan == point.plan
    assert loss_and_bits(loaded, x, y) == loss_and_bits(model, x, y)


@settings(derandomize=True, deadline=None, max_examples=how_many(30, 2000))
@given(
    odd_networks(),
    st.sampled_from(ALLOWED),
    st.sampled_from((None, None, 1)),
    st.booleans(),
)
def test_every_plan_of_a_front_is_one_of_the_model(
    spec: MixedSpec, allow: frozenset[str], levels: int | None, debug: bool
) -> None:
    for point in fronts(spec, allow, levels, debug):
        check_own(spec, point, debug=debug)


@settings(derandomize=True, deadline=None, max_examples=how_many(6, 400))
@given(odd_networks(), st.sampled_from(ALLOWED), st.sampled_from((None, None, 1)))
def test_every_plan_of_a_front_trains_saves_and_loads(
    spec: MixedSpec, allow: frozenset[str], levels: int | None
) -> None:
    for point in fronts(spec, allow, levels):
        check_round_trip(spec, point)


# -- the rule that the chooser and the check of a plan share ---------------------------

TWICE = MixedSpec(
    (
        ("input", {"name": "in", "input_shape": (1, 1, 7)}),
        ("fully_connected", {"name": "fc1", "unit": 3}),
        ("fully_connected", {"name": "fc2", "unit": 4}),
        ("rms_norm", {"name": "norm1"}),
        ("rms_norm", {"name": "norm2"}),
        ("dropout", {"name": "drop", "dropout_rate": 0.5}),
        ("fully_connected", {"name": "fc3", "unit": 1}),
        ("mse", {"name": "loss"}),
    ),
    properties={"batch_size": 3},
    optimizer=("adam", {"learning_rate": 0.001}),
)
"""The plan of the fewest bytes once ran its loss again, which doubled it."""


def test_no_plan_adds_the_loss_a_second_time() -> None:
    front = fronts(TWICE, DEFAULT_ALLOW, None)
    assert front[0].reruns, "recomputing pays here"
    for point in front:
        check_own(TWICE, point)
        check_round_trip(TWICE, point)


@settings(derandomize=True, deadline=None, max_examples=how_many(20, 500))
@given(odd_networks())
def test_no_option_of_a_stage_runs_what_must_not_run_again(spec: MixedSpec) -> None:
    """Also those that no front takes: which one is taken hangs on a few bytes."""
    model = spec.model()
    graph, how = model.compile(), ModelPlans(model).settings()
    needs, costs = Needs(Touches(graph, how)), make_plan(graph, how, ()).counted_costs
    for stages in (cut_graph(graph), *groupings(cut_graph(graph))):
        for stage in stages:
            options = StageOptions(stage, needs, costs, how)
            for option in (*options.saves, options.solo):
                assert possible_reruns(graph, option.reruns) == option.reruns


def test_what_can_be_made_again() -> None:
    graph = TWICE.model().compile()
    made = {node.name: remakable(node) for node in graph.nodes}
    assert made["in"] == () == made["loss"]
    assert made["fc1"] == ("fc1:out0",)
    assert made["norm1"] == ("norm1:out0", "norm1:inv_rms")


def test_statistics_of_a_batch_are_kept() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=(2, 3, 3))
    model.add_layer("batch_normalization", name="norm")
    model.add_layer("activation", name="act", activation="gelu")
    model.add_layer("mse", name="loss")
    model.add_checkpoint_block(("norm", "act"))
    made = {tensor for one in reruns_of(model.make_plan()) for tensor in one.tensors}
    assert made == {"norm:out0"}


@pytest.mark.parametrize(
    "rerun",
    [
        Rerun("loss", "loss", ("loss:out0",)),
        Rerun("loss", "in", ("in:out0",)),
        Rerun("fc1", "fc2", ("fc2:out0",)),
        Rerun("fc2", "fc1", ("fc1:out1",)),
    ],
    ids=["a loss", "an input", "after its update", "no such tensor"],
)
def test_a_rerun_that_cannot_be_is_neither_planned_nor_accepted(rerun: Rerun) -> None:
    graph = TWICE.model().compile()
    good = Rerun("fc2", "fc1", ("fc1:out0",))
    assert possible_reruns(graph, (good, rerun)) == (good,)
    with pytest.raises(AssertionError):
        make_plan(graph, ModelPlans(TWICE.model()).settings(), (good, rerun))


def test_a_plan_that_runs_the_loss_again_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec: ModelSpec = chain(4, "relu", 1)
    graph, how = spec.model().compile(), ModelPlans(spec.model()).settings()
    with monkeypatch.context() as patch:
        patch.setattr(planner, "possible_reruns", lambda graph, reruns: reruns)
        again = (Rerun("loss", "loss", ("loss:out0",)),)
        plan = make_plan(graph, how, again)
    with pytest.raises(PlanMismatchError, match="recomputes"):
        spec.model().initialize(plan=plan)
