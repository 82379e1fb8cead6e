"""What `Model` shows is what users call, and plans only read the definition."""

from __future__ import annotations

import pickle
from copy import copy

from arena_ckpt import Model
from arena_ckpt.model_plans import ModelPlans

DEFINING = {
    *("add_layer", "add_checkpoint_block", "set_property", "get_property"),
    *("set_optimizer", "set_learning_rate_scheduler", "compile", "summary", "warnings"),
    *("seed", "layers", "blocks", "properties", "optimizer", "schedule"),
    *("save_ini", "classes", "definition", "freeze", "unfreeze", "replace_layer"),
    *("standardization", "column_means"),
}
PLANNING = {
    "make_plan",
    "choose_plan",
    "pareto",
    "profile",
    "step_seconds",
    "kernel_calls",
    "plan",
    "choose_batch_size",
}
TRAINING = {
    *("initialize", "is_initialized", "train", "train_step", "compute_gradients"),
    *("predict", "evaluate", "weights", "set_weights", "save", "restore"),
    *(
        "save_device_state",
        "load_device_state",
        "save_nntrainer_bin",
        "load_nntrainer_bin",
        "merge_lora",
        "start_from",
        "to_state_dict",
        "reset_states",
        "take_weights",
        "standardize",
    ),
}


def small() -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:4")
    model.add_layer("fully_connected", name="fc1", unit=4)
    model.add_layer("fully_connected", name="fc2", unit=2)
    model.add_layer("mse", name="loss")
    return model


def test_a_model_lists_what_users_call() -> None:
    shown = {name for name in dir(Model) if not name.startswith("_")}

    assert shown == DEFINING | PLANNING | TRAINING
    assert shown == {name for name in dir(small()) if not name.startswith("_")}
    assert all(getattr(Model, name).__doc__ for name in shown)


def test_plans_follow_the_definition_that_they_were_handed() -> None:
    model = small()
    plans = ModelPlans(model)
    before = plans.make_plan()
    model.set_property(batch_size=64)

    assert plans.make_plan() == model.make_plan() != before
    assert plans.make_plan().batch_size == 64


def test_a_copy_is_planned_by_itself() -> None:
    model = small()
    for other in (copy(model), pickle.loads(pickle.dumps(model))):
        other.add_checkpoint_block(["fc1", "fc2"])

        assert [len(m.make_plan().blocks) for m in (model, other)] == [0, 1]
