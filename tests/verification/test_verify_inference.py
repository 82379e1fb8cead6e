"""`verify` of plans of inference, and what `check_dataflow` finds wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from helpers.plan_surgery import NETS
from helpers.strategies import chain

import arena_ckpt as ac
from arena_ckpt.errors import DataflowError, InvalidParameterError, NonFiniteError
from arena_ckpt.layers.activation import Activation
from arena_ckpt.layers.base import Binding, Call
from arena_ckpt.layers.loss import CrossEntropySoftmax
from arena_ckpt.operations.activations import ACTIVATIONS
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.tensors import Access
from arena_ckpt.verification.dataflow import check_dataflow

NAMES = (
    "layout",
    "dataflow",
    "bounds",
    "memory",
    "reads",
    "bits of debug mode",
    "bits of the plan",
    "bits without recomputing",
    "bits without reuse",
    "bits of training",
    "gradients",
    "processes",
)
LEFT_OUT = {
    "bits without recomputing": "the plan recomputes nothing",
    "bits without reuse": "the plan recomputes nothing: it is the reference",
    "gradients": "inference has no gradients",
}
SPEC = chain(16, "gelu", 16, "relu", 4, loss="cross_softmax")


def without_loss() -> ac.Model:
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc", unit=5, activation="gelu")
    model.set_property(batch_size=4)
    return model


def findings(result: ac.Verification) -> dict[str, str]:
    return {check.name: check.finding for check in result.checks}


def left_out(result: ac.Verification) -> dict[str, str]:
    return {c.name: c.finding for c in result.checks if c.passed is None}


def test_every_check_that_applies_passes() -> None:
    result = ac.verify(SPEC.model(), mode="inference")
    assert tuple(check.name for check in result.checks) == NAMES
    assert result.passed
    assert left_out(result) == LEFT_OUT
    assert result.verdict == "verified: 9 checks passed, 3 left out"
    assert result.data == "made-up samples: 3 batches of 8, the last of 7"
    found = findings(result)
    assert "the constants of 1,856 B" in found["layout"]
    assert "3 predictions in debug mode" in found["memory"]
    assert "predictions and weights are those of a run" in found["bits of the plan"]
    assert found["bits of training"] == "3 predictions are those of a plan that trains"
    assert "planned again it is the same" in found["bounds"]
    assert "and predicts the same bits" in found["processes"]


@pytest.mark.parametrize("net", [n for n in NETS if n != "chosen"])
def test_every_kind_of_network(net: str) -> None:
    result = ac.verify(
        NETS[net].model(), mode="inference", command=("/no/such/program",)
    )
    assert result.passed
    assert left_out(result).keys() - {"processes"} == LEFT_OUT.keys()


def test_a_model_without_a_loss() -> None:
    result = ac.verify(without_loss(), mode="inference")
    assert result.passed
    assert left_out(result) == LEFT_OUT | {
        "bits of training": "the model has no loss, so there is no plan to train"
    }


def test_an_initialized_model_is_verified_in_its_mode() -> None:
    model = without_loss()
    model.initialize(mode="inference", debug=True)
    x = np.random.default_rng(0).normal(size=(9, 6))
    before = model.predict(x).tobytes()
    assert ac.verify(model, (x, None)).passed
    assert ac.verify(model, (x, None), mode="inference").passed
    assert model.predict(x).tobytes() == before
    trained = SPEC.initialized()
    with pytest.raises(InvalidParameterError, match="leave out mode"):
        ac.verify(trained, mode="inference")
    with pytest.raises(InvalidParameterError, match="mode='forward'"):
        ac.verify(SPEC.model(), mode="forward")


def test_a_budget_goes_with_it() -> None:
    plan = SPEC.model().make_plan(mode="inference")
    result = ac.verify(
        SPEC.model(),
        mode="inference",
        budget=plan.arena_bytes,
        command=("/no/such/program",),
    )
    assert result.passed


def test_a_model_that_predicts_nan_is_refused() -> None:
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("sqrt", name="root")
    x = -np.ones((3, 6), np.float32)
    with pytest.raises(NonFiniteError, match="predicts NaN or infinity"):
        ac.verify(model, (x, None), mode="inference")
    assert ac.verify(model, mode="inference", command=("/no/such/program",)).passed


def test_a_prediction_that_training_does_not_make_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The softmax of an activation adds up in another order than that of the loss."""

    def predict(self: CrossEntropySoftmax, tensors: Binding) -> list[Call]:
        arrays = tensors.matrix("in0"), tensors.matrix("out0")
        return [Call(ACTIVATIONS["softmax"].forward, arrays)]

    monkeypatch.setattr(CrossEntropySoftmax, "predict", predict)
    model = chain(40, loss="cross_softmax").model()
    result = ac.verify(model, mode="inference", command=("/no/such/program",))
    failed = {c.name: c.finding for c in result.checks if c.passed is False}
    assert failed.keys() == {"bits of training"}
    assert "the prediction of batch 0 differs" in failed["bits of training"]


def test_a_kernel_that_depends_on_foreign_bytes_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forward(self: Activation, tensors: Binding) -> list[Call]:
        y = tensors.vector("out0")
        return [Call(ACTIVATIONS["relu"].forward, (y, y))]

    monkeypatch.setattr(Activation, "forward", forward)
    spec = chain(8, "relu", 4).with_properties(memory_optimization=False)
    result = ac.verify(spec.model(), mode="inference", command=("/no/such/program",))
    assert "reads" in {c.name for c in result.checks if c.passed is False}


# -- faults in plans -------------------------------------------------------------------


def plan_of(model: ac.Model) -> MemoryPlan:
    return model.make_plan(mode="inference")


def test_a_missing_step_is_found() -> None:
    model = SPEC.model()
    plan = plan_of(model)
    for gone in range(1, len(plan.executions)):
        rest = [e for n, e in enumerate(plan.executions) if n != gone]
        broken = replace(plan, executions=tuple(rest))
        with pytest.raises(DataflowError):
            check_dataflow(broken, model.compile())


def test_a_missing_prediction_is_found_where_no_byte_is_used_twice() -> None:
    """Nobody reads it in the plan, and no other value stands where it should be."""
    model = SPEC.with_properties(memory_optimization=False).model()
    plan = plan_of(model)
    broken = replace(plan, executions=plan.executions[:-1])
    with pytest.raises(DataflowError, match="the forward of loss is missing") as caught:
        check_dataflow(broken, model.compile())
    assert caught.value.rule == "schedule"


def test_a_written_weight_is_found() -> None:
    model = SPEC.model()
    plan = plan_of(model)
    dense = plan.executions[1]
    operands = tuple(
        replace(o, access=Access.UPDATE) if o.role == "weight" else o
        for o in dense.operands
    )
    executions = list(plan.executions)
    executions[1] = replace(dense, operands=operands)
    for constants in ("flash", "arena"):
        given = model.make_plan(mode="inference", constants=constants)
        broken = replace(given, executions=tuple(executions))
        with pytest.raises(DataflowError) as caught:
            check_dataflow(broken, model.compile())
        assert caught.value.rule == ("constant" if constants == "flash" else "version")


@pytest.mark.parametrize("make", [SPEC.model, without_loss])
def test_a_prediction_that_dies_early_is_found(make: Callable[[], ac.Model]) -> None:
    """Debug mode poisons what has died before it can be read."""
    model = make()
    if not model.compile().has_loss:  # a step that only shows the prediction again
        model.add_layer("multiout", name="again")
    plan = plan_of(model)
    name = model.compile().prediction
    index = next(i for i, t in enumerate(plan.tensors) if t.name == name)
    early = replace(plan.tensors[index], stop=len(plan.steps) - 1)
    tensors = [early if i == index else t for i, t in enumerate(plan.tensors)]
    with pytest.raises(DataflowError) as caught:
        check_dataflow(replace(plan, tensors=tuple(tensors)), model.compile())
    assert caught.value.rule == "life"
