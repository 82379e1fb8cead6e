"""The local lower bound holds for every choice of blocks and of sharing."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.strategies import ModelSpec

from arena_ckpt import MemoryPlan, Model
from arena_ckpt.common.names import CONTROL
from arena_ckpt.common.units import align_up
from arena_ckpt.errors import NonFiniteError, PlanFormatError


def flat(*, block: bool) -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:1")
    model.add_layer("fully_connected", name="fc", unit=64)
    model.add_layer("activation", name="act", activation="relu")
    model.add_layer("flatten", name="flat")
    model.add_layer("cross_sigmoid", name="loss")
    model.set_property(batch_size=64)
    if block:
        model.add_checkpoint_block(["fc", "act", "flat"])
    return model


def test_a_block_that_frees_the_last_activation_stays_above_the_bound() -> None:
    without, with_block = flat(block=False).make_plan(), flat(block=True).make_plan()
    assert with_block.arena_bytes < without.arena_bytes
    assert without.local_lower_bound_bytes == with_block.local_lower_bound_bytes
    assert without.local_lower_bound_bytes <= with_block.arena_bytes


@pytest.mark.parametrize("activation", ["relu", "gelu", "softmax", "none"])
def test_no_block_of_a_chain_gets_below_the_bound(activation: str) -> None:
    def chain(first: int, last: int, **properties: object) -> MemoryPlan:
        model = Model()
        model.add_layer("input", name="in", input_shape="1:1:7")
        names = []
        for i in range(4):
            model.add_layer("fully_connected", name=f"fc{i}", unit=24 + 8 * i)
            model.add_layer("activation", name=f"act{i}", activation=activation)
            names += [f"fc{i}", f"act{i}"]
        model.add_layer("mse", name="loss")
        model.set_property(batch_size=48, **properties)
        if last - first >= 2:
            model.add_checkpoint_block(names[first:last])
        return model.make_plan()

    bound = chain(0, 0).local_lower_bound_bytes
    assert chain(0, 0, memory_optimization=False).local_lower_bound_bytes == bound
    for first in range(7):
        for last in range(first + 2, 9):
            plan = chain(first, last)
            assert bound <= plan.arena_bytes, (first, last)


def test_views_of_one_tensor_are_one_to_the_bound() -> None:
    """The sum of a tensor and three views of it is made in the place of the tensor.

    So no step needs more than the loss: the prediction and the labels.
    """
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 64)}),
        ("activation", {"name": "a", "activation": "gelu"}),
        ("identity", {"name": "same", "input_layers": ["a", "a", "a"]}),
        (
            "addition",
            {"name": "sum", "input_layers": ["a", "same", "same(1)", "same(2)"]},
        ),
        ("mse", {"name": "loss"}),
    )
    plan = ModelSpec(layers, (), {"batch_size": 2}).model().make_plan()
    control = next(t for t in plan.tensors if t.name == CONTROL)
    n_bytes = 4 * 2 * 64
    assert plan.local_lower_bound_bytes == align_up(control.size_bytes) + 2 * n_bytes


def test_a_failed_iteration_in_debug_mode_is_not_counted() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:2")
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=2)
    model.set_optimizer("sgd", learning_rate=3e38)
    model.initialize(debug=True)
    before = model.weights()

    with pytest.raises(NonFiniteError, match="apply_gradient"):
        model.train_step(np.ones((2, 2)), np.full((2, 2), 1e3))

    assert model._session is not None
    assert model._session.iteration == 0
    for name, weight in model.weights().items():
        assert np.array_equal(weight, before[name])


@pytest.mark.parametrize("text", [None, 3, "{}", "nothing"])
def test_what_is_no_text_of_a_plan_is_refused(text: object) -> None:
    with pytest.raises(PlanFormatError):
        MemoryPlan.from_json(text)  # type: ignore[arg-type]
