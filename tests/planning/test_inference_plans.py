"""Plans of inference: forward steps alone, every weight a constant, no labels."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from helpers.mixed_graphs import MixedSpec, mixed_graphs
from helpers.strategies import chain
from hypothesis import given, settings
from hypothesis import strategies as st

from arena_ckpt import MemoryPlan, Model, Phase
from arena_ckpt.errors import (
    BudgetError,
    DanglingOutputError,
    InvalidParameterError,
    LossError,
    PlanFormatError,
)
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.lowering.kernel_call import KernelCall
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.settings import INFERENCE
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.verification.dataflow import check_dataflow

FORWARD_KINDS = {
    TensorKind.WEIGHT,
    TensorKind.ACTIVATION,
    TensorKind.WORKSPACE,
    TensorKind.DATA,
}


def without_loss(*last: str) -> Model:
    """Return a model of two dense layers, and perhaps layers behind, without a loss."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc", unit=8, activation="gelu")
    model.add_layer("fully_connected", name="out", unit=4)
    for kind in last:
        model.add_layer(kind, name=kind)
    return model


def names(plan: MemoryPlan, kind: TensorKind) -> list[str]:
    return [tensor.name for tensor in plan.tensors if tensor.kind is kind]


# -- steps and tensors -----------------------------------------------------------------


def test_steps_are_those_of_forward_and_no_layer_has_another_number() -> None:
    plan = (
        chain(8, "relu", 4, blocks=(("fc1", "act1"),))
        .model()
        .make_plan(mode="inference")
    )
    assert [(step.phase, step.layer) for step in plan.steps if step] == [
        (Phase.FORWARD, name) for name in ("in", "fc1", "act1", "fc2", "loss")
    ]
    orders = [tuple(order) for order in plan.execution_order.values()]
    assert orders == [(index, 0, 0, 0, 0) for index in range(5)]
    assert plan.n_forward == plan.n_pass == len(plan.steps)
    assert (plan.mode, plan.is_inference, plan.blocks) == ("inference", True, ())


def test_there_are_neither_labels_nor_gradients_nor_states() -> None:
    spec = chain(8, "gelu", 4, loss="cross_softmax", optimizer=("adam", {}))
    plan = spec.model().make_plan(mode="inference")
    assert {tensor.kind for tensor in plan.tensors} == FORWARD_KINDS
    assert names(plan, TensorKind.DATA) == ["in:out0"]


def test_every_weight_is_a_constant() -> None:
    plan = load_example("resnet8").model.make_plan(mode="inference")
    constants = {b.tensor for b in plan.buffers if b.is_constant}
    assert constants == set(names(plan, TensorKind.WEIGHT))
    assert any(name.endswith("moving_variance") for name in constants)
    in_ram = [b for b in plan.ram_buffers if (b.start, b.stop) == (0, len(plan.steps))]
    assert [b.tensor for b in in_ram] == ["model:control"]


def test_constants_can_lie_in_the_arena() -> None:
    model = load_example("digits_cnn").model
    apart = model.make_plan(mode="inference")
    whole = model.make_plan(mode="inference", constants="arena")
    assert whole.constant_bytes == 0
    assert whole.arena_bytes == apart.arena_bytes + apart.constant_bytes


def test_what_forward_saves_for_backward_lives_in_its_own_step_alone() -> None:
    """Statistics, indices of maxima and gates are written, and then nobody reads."""
    for name in ("digits_cnn", "keyword_gru", "transformer"):
        model = load_example(name).model
        saved = {
            f"{node.name}:{tensor.name}"
            for node in model.compile().nodes
            for tensor in node.spec.tensors
            if tensor.is_saved
        }
        assert saved
        for tensor in model.make_plan(mode="inference").tensors:
            if tensor.name in saved:
                assert tensor.kind is TensorKind.WORKSPACE
                assert tensor.stop == tensor.start + 1


def test_the_input_of_an_activation_is_overwritten() -> None:
    """Training has to keep what gelu reads; the forward pass alone has not."""
    plan = chain(64, "gelu", 64, "gelu", 4).model().make_plan(mode="inference")
    hidden = [b for b in plan.buffers if b.tensor.startswith(("fc1:o", "fc2:o", "act"))]
    assert len(hidden) == 2
    assert plan.proved_optimal


@pytest.mark.parametrize("name", EXAMPLES)
def test_plans_of_the_examples(name: str) -> None:
    model = load_example(name).model
    plan, training = model.make_plan(mode="inference"), model.make_plan()
    graph = model.compile()
    flow = check_dataflow(plan, graph)
    assert flow.n_steps == len(graph.nodes)
    assert plan.proved_optimal
    assert plan.local_lower_bound_bytes <= plan.arena_bytes < training.arena_bytes
    assert MemoryPlan.from_json(plan.to_json()) == plan
    assert make_plan(graph, ModelPlans(model).settings_of(plan)) == plan
    assert {call.step for call in model.kernel_calls(plan)} <= set(
        range(len(graph.nodes))
    )


@settings(derandomize=True, deadline=None, max_examples=60)
@given(mixed_graphs(), st.booleans(), st.sampled_from(["flash", "arena"]))
def test_plans_of_random_graphs(spec: MixedSpec, debug: bool, constants: str) -> None:
    model = spec.model()
    plan = model.make_plan(mode="inference", debug=debug, constants=constants)
    check_dataflow(plan, model.compile())
    assert {tensor.kind for tensor in plan.tensors} <= FORWARD_KINDS
    assert names(plan, TensorKind.DATA) == [
        f"{node.name}:out0"
        for node in model.compile().nodes
        if node.layer.type_name == "input"
    ]
    kept = model.make_plan(debug=debug, constants=constants)
    assert plan.arena_bytes + plan.constant_bytes <= kept.host_bytes
    assert MemoryPlan.from_json(plan.to_json()) == plan


def test_passes_are_as_large_as_in_training() -> None:
    plan = (
        chain(8, 4, batch_size=32, micro_batches=4).model().make_plan(mode="inference")
    )
    assert (plan.batch_size, plan.pass_samples) == (32, 8)
    assert plan.n_pass == len(plan.steps)
    clipped = chain(8, 4, clip_grad_by_norm=0.5).model().make_plan(mode="inference")
    assert clipped == chain(8, 4).model().make_plan(mode="inference")


def test_kernel_calls_have_no_label_and_no_penalty() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer(
        "fully_connected",
        name="fc",
        unit=4,
        weight_regularizer="l2norm",
        weight_regularizer_constant=0.1,
    )
    model.add_layer("mse", name="loss")
    calls = model.kernel_calls(model.make_plan(mode="inference"))
    assert kernels(calls) == ["blas.matmul", "elementwise.add_bias"]
    trained = kernels(model.kernel_calls(model.make_plan()))
    assert {"reductions.l2_penalty", "losses.mse_loss"} <= set(trained)


def kernels(calls: tuple[KernelCall, ...]) -> list[str]:
    return [str(call.kernel) for call in calls]


def test_one_layer_alone() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    plan = model.make_plan(mode="inference")
    assert [tensor.name for tensor in plan.tensors] == ["model:control", "in:out0"]
    assert model.kernel_calls(plan) == ()


# -- models without a loss -------------------------------------------------------------


def test_a_model_without_a_loss_compiles_and_is_planned_for_inference() -> None:
    model = without_loss()
    graph = model.compile()
    assert (graph.has_loss, graph.prediction) == (False, "out:out0")
    assert model.warnings() == ()
    plan = model.make_plan(mode="inference")
    check_dataflow(plan, graph)
    output = next(t for t in plan.tensors if t.name == "out:out0")
    assert output.stop == len(plan.steps)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_without_their_loss_take_as_much(name: str) -> None:
    """Other tools initialize such a model as well, such as a transformer's tower."""
    if name == "multi_head":
        pytest.skip("without its losses it ends in two layers, which is refused")
    whole, tower = load_example(name).model, Model()
    for layer in whole.layers:
        if not layer.is_loss:
            tower.add_layer(layer)
    batch_size = whole.get_property("batch_size")
    tower.set_property(batch_size=batch_size)
    plan, expected = (m.make_plan(mode="inference") for m in (tower, whole))
    assert plan.constant_bytes == expected.constant_bytes
    assert plan.arena_bytes == expected.arena_bytes
    with pytest.raises(LossError):
        tower.make_plan()


def test_what_an_alias_shows_is_kept_to_the_end() -> None:
    model = without_loss("multiout")
    plan = model.make_plan(mode="inference")
    assert model.compile().prediction == "out:out0"
    output = next(t for t in plan.tensors if t.name == "out:out0")
    assert (output.start, output.stop) == (len(plan.steps) - 2, len(plan.steps))


@pytest.mark.parametrize(
    "ask",
    [
        lambda m: m.make_plan(),
        lambda m: m.make_plan(budget="1MiB"),
        lambda m: m.choose_plan(max_overhead=0.1),
        lambda m: m.pareto(),
        lambda m: m.choose_batch_size(budget="1MiB"),
        lambda m: make_plan(m.compile(), ModelPlans(m).settings()),
        lambda m: m.initialize(),
        lambda m: m.initialize(debug=True, mode="train"),
    ],
)
def test_without_a_loss_nothing_is_planned_for_training(ask: Any) -> None:
    with pytest.raises(LossError, match="0 loss layers") as caught:
        ask(without_loss())
    text = str(caught.value)
    assert "needs at least one, for example mse or cross_softmax, as its last" in text
    assert "mode='inference'" in text


def test_several_last_layers_are_refused() -> None:
    model = without_loss()
    model.add_layer("fully_connected", name="other", unit=2, input_layers="fc")
    with pytest.raises(DanglingOutputError, match="'out', 'other'") as caught:
        model.compile()
    assert "add a loss" in str(caught.value)
    assert caught.value.layers == ("out", "other")


def test_a_last_layer_with_several_outputs_is_refused() -> None:
    model = without_loss()
    model.add_layer("split", name="parts", axis=3, split_number=2)
    with pytest.raises(DanglingOutputError, match="reads output 0 of 'parts'"):
        model.make_plan(mode="inference")


def test_what_cannot_train_can_predict() -> None:
    """Ids that a layer makes have no derivative, which inference does not ask for."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="ids", unit=3)
    model.add_layer("embedding", name="table", in_dim=4, out_dim=2)
    plan = model.make_plan(mode="inference")
    check_dataflow(plan, model.compile())


# -- requests --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train ", "Inference", "", None, 5, True, ["train"]])
def test_a_mode_that_there_is_not(mode: Any) -> None:
    for ask in (Model.make_plan, Model.initialize):
        with pytest.raises(InvalidParameterError, match="give 'train', or 'inference'"):
            ask(chain(4).model(), mode=mode)


@pytest.mark.parametrize(
    "request_",
    [
        {"max_overhead": 0.1},
        {"allow": "in_place"},
        {"levels": 1},
        {"measure": True},
        {"keep": ["fc1"]},
        {"drop": ["fc1"]},
    ],
    ids=str,
)
def test_inference_has_nothing_to_choose(request_: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError, match="recomputes nothing; leave it out"):
        chain(8, 4).model().make_plan(mode="inference", **request_)


def test_a_budget_bounds_the_arena() -> None:
    model = chain(64, "gelu", 4, batch_size=16).model()
    plan = model.make_plan(mode="inference")
    assert model.make_plan(mode="inference", budget=plan.arena_bytes) == plan
    with pytest.raises(BudgetError, match="nothing to recompute") as caught:
        model.make_plan(mode="inference", budget=plan.arena_bytes - 1)
    error = caught.value
    assert error.least_bytes == plan.arena_bytes
    size = int(str(error).partition("batch_size=")[2].partition(";")[0])
    model.set_property(batch_size=size)
    assert model.make_plan(mode="inference").arena_bytes < plan.arena_bytes
    model.set_property(batch_size=size + 1)
    assert model.make_plan(mode="inference").arena_bytes > plan.arena_bytes - 1


def test_a_budget_is_no_share_of_what_keeps_all() -> None:
    with pytest.raises(InvalidParameterError, match="inference has none; give bytes"):
        chain(8, 4).model().make_plan(mode="inference", budget="60%")


def test_several_rams_hold_inference() -> None:
    model = load_example("digits_cnn").model
    model.set_property(batch_size=1)
    rams = {"dtcm": "16KiB", "sram": "64KiB"}
    plan = model.make_plan(mode="inference", memories=rams)
    check_dataflow(plan, model.compile())
    assert list(plan.memories) == ["dtcm", "sram", "constants"]
    assert MemoryPlan.from_json(plan.to_json()) == plan
    small = {"dtcm": "4KiB", "sram": "8KiB"}
    with pytest.raises(BudgetError, match="no placement was found"):
        model.make_plan(mode="inference", memories=small)
    pinned = model.make_plan(
        mode="inference", memories=rams, pin={"c0a_conv:filter": "dtcm"}
    )
    filter_ = next(b for b in pinned.buffers if b.tensor == "c0a_conv:filter")
    assert (filter_.memory, filter_.is_constant) == ("dtcm", False)


def test_a_budget_that_no_sample_fits() -> None:
    with pytest.raises(BudgetError, match="Not even one sample fits"):
        chain(8, 4).model().make_plan(mode="inference", budget=128)


def test_a_pass_of_one_sample_is_no_trouble_for_statistics() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("batch_normalization", name="bn")
    model.add_layer("mse", name="loss")
    assert model.make_plan(mode="inference").batch_size == 1


# -- JSON ------------------------------------------------------------------------------


def test_a_plan_of_training_does_not_say_so() -> None:
    model = chain(8, 4).model()
    assert "mode" not in json.loads(model.make_plan().to_json())
    assert json.loads(model.make_plan(mode="inference").to_json())["mode"] == INFERENCE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "predict"}, "the mode is 'predict'"),
        ({"n_forward": 1}, "other steps than forward ones"),
    ],
)
def test_damaged_plans(changes: dict[str, Any], message: str) -> None:
    plan = replace(chain(8, 4).model().make_plan(mode="inference"), **changes)
    with pytest.raises(PlanFormatError, match=message):
        MemoryPlan.from_json(plan.to_json())


def test_a_plan_of_training_is_none_of_inference() -> None:
    plan = replace(chain(8, 4).model().make_plan(), mode=INFERENCE)
    with pytest.raises(PlanFormatError, match="other steps than forward ones"):
        MemoryPlan.from_json(plan.to_json())
