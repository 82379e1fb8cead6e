"""Values of the right argument but the wrong kind, each refused by an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.strategies import chain

import arena_ckpt as ac
from arena_ckpt import testing
from arena_ckpt.common.arguments import require_callback
from arena_ckpt.errors import (
    ArenaError,
    DataTypeError,
    GoldenFileError,
    InvalidParameterError,
    UnknownLayerError,
)
from arena_ckpt.model_plans import ModelPlans

MODEL = chain(5, 3).model()
PLAN = MODEL.make_plan()
LAST = len(PLAN.steps) - 1
RATE = ac.create_schedule("constant", learning_rate=0.1)
X = np.zeros((4, 3), np.float32)

WRONG: dict[str, tuple[Callable[[], Any], type[ArenaError], str]] = {
    **{
        f"{name} of step {step!r}": (
            lambda name=name, step=step: getattr(PLAN, name)(step),
            InvalidParameterError,
            f"^step=.* is not possible; expected a step of the plan, from 0 to {last}$",
        )
        for name, last in (
            ("describe_step", LAST),
            ("alive_at", LAST + 1),
            ("bytes_by_kind", LAST + 1),
        )
        for step in (-1, last + 1, "3", None, 1.0, True)
    },
    "tensor in a name": (
        lambda: PLAN.tensor_in("fc1:weight", 0),  # type: ignore[arg-type]
        InvalidParameterError,
        "buffer='fc1:weight' is not possible; expected one of the plan's buffers",
    ),
    "tensor at no step": (
        lambda: PLAN.tensor_in(PLAN.buffers[0], LAST + 1),
        InvalidParameterError,
        "step=",
    ),
    "bytes in words": (
        lambda: PLAN.taken_bytes("3"),  # type: ignore[arg-type]
        InvalidParameterError,
        "size_bytes='3' .*at least 0",
    ),
    "bytes below 0": (lambda: PLAN.taken_bytes(-1), InvalidParameterError, "=-1 "),
    "costs as a number": (
        lambda: PLAN.iteration_cost(3.0),  # type: ignore[arg-type]
        InvalidParameterError,
        "costs=3.0 .*expected Costs",
    ),
    "steps of no layer": (
        lambda: PLAN.recompute_steps(f"{PLAN.layers[1].name}x"),
        UnknownLayerError,
        "the plan has no layer .*did you mean",
    ),
    "steps of a number": (
        lambda: PLAN.recompute_steps(3),  # type: ignore[arg-type]
        UnknownLayerError,
        "no layer 3",
    ),
    "rate in words": (
        lambda: RATE.learning_rate_at("3"),  # type: ignore[arg-type]
        InvalidParameterError,
        "iteration '3' is not possible; the first one is 0",
    ),
    "rate at NaN": (
        lambda: RATE.learning_rate_at(float("nan")),  # type: ignore[arg-type]
        InvalidParameterError,
        "iteration nan",
    ),
    **{
        f"{call.__name__} with a number for a title": (
            lambda call=call: call(PLAN, title=3),
            InvalidParameterError,
            "title=3 is not possible; expected a text",
        )
        for call in (ac.plan_html, ac.plan_svg, ac.plan_png)
    },
    "title of before": (
        lambda: ac.plan_html(PLAN, before=PLAN, before_title=None),  # type: ignore[arg-type]
        InvalidParameterError,
        "before_title=None",
    ),
    "front of numbers": (
        lambda: ac.plan_html(PLAN, front=[3]),  # type: ignore[list-item]
        InvalidParameterError,
        "front=.*points of a front, as pareto",
    ),
    "graph of a text": (
        lambda: ModelPlans(MODEL).graph_of("plan.json"),  # type: ignore[arg-type]
        InvalidParameterError,
        "MemoryPlan",
    ),
    "settings of nothing": (
        lambda: ModelPlans(MODEL).settings_of(None),  # type: ignore[arg-type]
        InvalidParameterError,
        "MemoryPlan",
    ),
    **{
        f"command {command!r}": (
            lambda command=command: ac.verify(MODEL, command=command),
            InvalidParameterError,
            "command=.* as a list, for example",
        )
        for command in (3, "python again.py", [], [3])
    },
    "name of a data set": (
        lambda: ac.Dataset(3, X, None),  # type: ignore[arg-type]
        DataTypeError,
        r"name of a data set is a int; .*Dataset\('mine', x, y\)",
    ),
    "variants of nothing": (
        lambda: testing.golden_variants(None),  # type: ignore[arg-type]
        InvalidParameterError,
        "model=None is not possible; expected a Model",
    ),
    "folder in words": (
        lambda: testing.check_folder("no_such_folder", print),  # type: ignore[arg-type]
        GoldenFileError,
        "there are no golden plans in no_such_folder",
    ),
    "folder as a number": (
        lambda: testing.update_folder(3, print),  # type: ignore[arg-type]
        InvalidParameterError,
        "3 is no path",
    ),
    "golden of nothing": (
        lambda: testing.write_golden(None, "x.plan"),  # type: ignore[arg-type]
        InvalidParameterError,
        "MemoryPlan",
    ),
    "source as a number": (
        lambda: testing.write_golden(PLAN, "x.plan", source=3),  # type: ignore[arg-type]
        InvalidParameterError,
        "source=3 .*a dict from str to str",
    ),
    "spec as a number": (
        lambda: testing.add_golden(".", 3, MODEL),  # type: ignore[arg-type]
        InvalidParameterError,
        "spec=3 ",
    ),
    "sizes that no file holds": (
        lambda: testing.add_golden(".", "mine", MODEL, {"a": object()}),
        InvalidParameterError,
        "sizes=.*a dict of the sizes",
    ),
    "a callback without a parameter": (
        lambda: ac.verify(MODEL, on_check=lambda: None),  # type: ignore[misc,arg-type]
        InvalidParameterError,
        "on_check=.* cannot be called so .*give a function that takes a Check",
    ),
    "a callback that is none": (
        lambda: ac.verify(MODEL, on_check="print"),  # type: ignore[arg-type]
        InvalidParameterError,
        "on_check='print' cannot be called; give",
    ),
    "a property as an attribute": (
        lambda: setattr(MODEL, "batch_size", 3),
        InvalidParameterError,
        r"batch_size is a property .*set_property\(batch_size=3\)",
    ),
    "load as a text": (
        lambda: testing.check_folder(Path(), "digits_mlp"),  # type: ignore[arg-type]
        InvalidParameterError,
        "load='digits_mlp' cannot be called",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_value_of_the_wrong_kind_is_refused(what: str) -> None:
    call, error, message = WRONG[what]
    with pytest.raises(error, match=message) as e:
        call()
    assert vars(e.value), "the facts are attributes of the error"


def test_callbacks_of_any_make_are_called() -> None:
    """Also functions written in C, some of which have no signature."""
    checks: list[Any] = []
    for callback in (checks.append, max, print, lambda check, more=1: None):
        require_callback("on_check", callback, "a Check")
    model = chain(5, 3).model()
    model.initialize()
    with pytest.raises(InvalidParameterError, match=r"on_epoch=.*record of an epoch"):
        model.train((X, X), on_epoch=lambda: None)  # type: ignore[misc,arg-type]


def test_values_of_numpy_are_taken() -> None:
    step = np.int64(LAST)
    assert PLAN.describe_step(step) == PLAN.describe_step(LAST)  # type: ignore[arg-type]
    assert PLAN.taken_bytes(np.int64(8)) == PLAN.taken_bytes(8)  # type: ignore[arg-type]
    assert RATE.learning_rate_at(np.int64(3)) == 0.1  # type: ignore[arg-type]
