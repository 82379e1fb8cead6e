"""Execution orders: numbers worked out by hand, and NNTrainer's recorded files."""

from pathlib import Path

import pytest

from arena_ckpt import ExecutionOrder, Model, Phase
from arena_ckpt.report.nntrainer import exe_order_text

EXE_ORDER = Path(__file__).parents[3] / "shared/data/nntrainer/exe_order"
needs_recordings = pytest.mark.skipif(
    not EXE_ORDER.is_dir(), reason=f"NNTrainer's recordings are absent: {EXE_ORDER}"
)

WITH_BLOCK = {  # (forward, recompute, gradient, derivative, apply), by hand
    "in": (0, 0, 37, 38, 39),
    "fc1": (1, 21, 34, 35, 36),
    "act_fc1": (2, 22, 31, 32, 33),
    "fc2": (3, 23, 28, 29, 30),
    "act_fc2": (4, 24, 25, 26, 27),
    "fc3": (5, 0, 18, 19, 20),
    "act_fc3": (6, 0, 15, 16, 17),
    "output": (7, 0, 12, 13, 14),
    "mse0": (8, 0, 9, 10, 11),
}
BLOCK = ["fc1", "act_fc1", "fc2", "act_fc2"]


def four_dense_layers(**properties: object) -> Model:
    """Four dense layers whose activations are layers of their own."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    for i in (1, 2, 3):
        model.add_layer("fully_connected", name=f"fc{i}", unit=5)
        model.add_layer("activation", name=f"act_fc{i}", activation="relu")
    model.add_layer("fully_connected", name="output", unit=2)
    model.add_layer("mse", name="mse0")
    model.set_property(**properties)
    return model


def small_model(*, frozen: bool = False, **properties: object) -> Model:
    """in - fc1 - fc2 - loss."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc1", unit=3, trainable=not frozen)
    model.add_layer("fully_connected", name="fc2", unit=2)
    model.add_layer("mse", name="loss")
    model.set_property(**properties)
    return model


def phases(model: Model) -> list[tuple[Phase, str] | None]:
    return [s and (s.phase, s.layer) for s in model.make_plan().steps]


def test_the_orders_of_the_design_with_its_block() -> None:
    model = four_dense_layers()
    model.add_checkpoint_block(BLOCK)

    plan = model.make_plan()

    assert plan.execution_order == WITH_BLOCK
    assert list(plan.execution_order) == list(WITH_BLOCK)  # in forward order
    assert plan.execution_order["fc1"] == ExecutionOrder(
        forward=1, recompute=21, calc_gradient=34, calc_derivative=35, apply_gradient=36
    )
    assert (plan.n_forward, plan.n_pass, len(plan.steps)) == (9, 40, 40)


def test_activations_given_on_layers_have_the_same_orders() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    for i in (1, 2, 3):
        model.add_layer("fully_connected", name=f"fc{i}", unit=5, activation="relu")
    model.add_layer("fully_connected", name="output", unit=2)
    model.add_layer("mse", name="mse0")
    model.add_checkpoint_block(["fc1", "fc2"])

    order = model.make_plan().execution_order

    assert list(order.values()) == list(WITH_BLOCK.values())
    assert order["fc2/activation_realized"] == WITH_BLOCK["act_fc2"]


def test_without_a_block_nothing_is_recomputed() -> None:
    order = four_dense_layers().make_plan().execution_order

    assert {o.recompute for o in order.values()} == {0}
    assert order["mse0"] == (8, 0, 9, 10, 11)
    assert order["in"] == (0, 0, 33, 34, 35)


def test_two_blocks_recompute_each_before_its_own_backward() -> None:
    model = four_dense_layers()
    model.add_checkpoint_block(["fc2", "act_fc2"])
    model.add_checkpoint_block(["fc1", "act_fc1"])

    order = model.make_plan().execution_order

    assert order["act_fc2"] == (4, 22, 23, 24, 25)
    assert order["fc2"] == (3, 21, 26, 27, 28)
    assert order["act_fc1"] == (2, 30, 31, 32, 33)
    assert order["fc1"] == (1, 29, 34, 35, 36)


def test_the_steps_are_what_the_orders_say() -> None:
    model = four_dense_layers()
    model.add_checkpoint_block(BLOCK)
    plan = model.make_plan()

    for name, order in plan.execution_order.items():
        for phase, index in zip(
            (
                Phase.FORWARD,
                Phase.RECOMPUTE,
                Phase.CALC_GRADIENT,
                Phase.CALC_DERIVATIVE,
                Phase.APPLY_GRADIENT,
            ),
            order,
            strict=True,
        ):
            if phase is Phase.RECOMPUTE and name not in BLOCK:
                continue
            step = plan.steps[index]
            assert step is not None
            assert (step.phase, step.layer) == (phase, name)


def test_a_frozen_layer_has_three_equal_numbers() -> None:
    order = small_model(frozen=True).make_plan().execution_order

    assert order == {
        "in": (0, 0, 11, 12, 13),
        "fc1": (1, 0, 10, 10, 10),
        "fc2": (2, 0, 7, 8, 9),
        "loss": (3, 0, 4, 5, 6),
    }


def recorded_model(frozen: int) -> Model:
    """The model of the recordings; 0 freezes nothing."""
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:3")
    for i, (unit, activation) in enumerate(
        [(10, "relu"), (10, "relu"), (2, "sigmoid")], start=1
    ):
        model.add_layer(
            "fully_connected",
            name=f"fc{i}",
            unit=unit,
            activation=activation,
            trainable=i != frozen,
        )
    model.add_layer("mse", name="mse")
    return model


@needs_recordings
@pytest.mark.parametrize(
    ("frozen", "file"),
    [
        (0, "fc3_mse.exegolden"),
        (1, "fc3_mse_nt1.exegolden"),
        (2, "fc3_mse_nt2.exegolden"),
        (3, "fc3_mse_nt3.exegolden"),
    ],
)
def test_nntrainer_recorded_the_same_orders(frozen: int, file: str) -> None:
    recorded = (EXE_ORDER / file).read_text().splitlines()

    text = exe_order_text(recorded_model(frozen).make_plan())

    assert text.splitlines() == recorded


def test_clipping_updates_after_the_backward_pass_of_all_layers() -> None:
    model = small_model(clip_grad_by_norm=1.0)
    plan = model.make_plan()

    assert plan.execution_order == {
        "in": (0, 0, 13, 14, 15),  # its own update never runs
        "fc1": (1, 0, 10, 11, 18),
        "fc2": (2, 0, 7, 8, 17),
        "loss": (3, 0, 4, 5, 6),
    }
    assert phases(model)[15:] == [
        None,
        (Phase.CLIP_GRADIENTS, "loss"),
        (Phase.APPLY_GRADIENT, "fc2"),
        (Phase.APPLY_GRADIENT, "fc1"),
    ]
    assert [i for i, step in enumerate(plan.steps) if step is None] == [6, 9, 12, 15]
    assert plan.n_pass == 16


def test_micro_batches_update_once_without_a_step_for_the_norm() -> None:
    model = small_model(batch_size=4, micro_batches=2)
    plan = model.make_plan()

    assert phases(model)[plan.n_pass :] == [
        (Phase.APPLY_GRADIENT, "fc2"),
        (Phase.APPLY_GRADIENT, "fc1"),
    ]
    assert plan.execution_order["fc1"] == (1, 0, 10, 11, 17)


def test_micro_batches_and_clipping_go_together() -> None:
    model = small_model(batch_size=4, micro_batches=2, clip_grad_by_norm=1.0)
    plan = model.make_plan()

    assert plan.n_pass == 16
    assert [s.phase for s in plan.steps[16:] if s] == [
        Phase.CLIP_GRADIENTS,
        Phase.APPLY_GRADIENT,
        Phase.APPLY_GRADIENT,
    ]


def test_a_frozen_layer_gets_no_deferred_update() -> None:
    model = small_model(frozen=True, clip_grad_by_norm=1.0)

    updated = [s for s in phases(model) if s and s[0] is Phase.APPLY_GRADIENT]

    assert updated == [(Phase.APPLY_GRADIENT, "fc2")]


def test_deferred_updates_keep_the_recomputes_where_they_were() -> None:
    model = four_dense_layers(clip_grad_by_norm=1.0)
    model.add_checkpoint_block(BLOCK)
    order = model.make_plan().execution_order

    for name, expected in WITH_BLOCK.items():
        assert order[name][:4] == expected[:4]
