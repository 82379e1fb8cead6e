"""Every wrong input has an error of ours that says what to do, and changes nothing."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.strategies import ModelSpec, chain
from hypothesis import given, settings
from hypothesis import strategies as st

import arena_ckpt
from arena_ckpt import (
    ArenaError,
    Dataset,
    Model,
    create_layer,
    create_optimizer,
    create_schedule,
)
from arena_ckpt.data.loaders import open_data
from arena_ckpt.definition.model_definition import MODEL_PROPERTIES
from arena_ckpt.errors import (
    AfterInitializationError,
    ArenaTooLargeError,
    BlockTooSmallError,
    DataShapeError,
    DataTypeError,
    DuplicateNameError,
    EmptyDataError,
    GraphError,
    InvalidParameterError,
    LabelRangeError,
    LossError,
    NonFiniteDataError,
    PlanMismatchError,
    StateError,
    UnknownLayerError,
    UnknownPropertyError,
    UnknownTypeError,
)
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.optim.learning_rates import SCHEDULE_SCHEMAS
from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS

HUGE = 2**40
ENDLESS = 10**5000
"""An integer that Python refuses to write."""
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 6)).astype(np.float32)
Y = GENERATOR.integers(0, 3, 8)


def classifier(**properties: object) -> ModelSpec:
    return chain(5, "gelu", 3, loss="cross_softmax", **properties)


def bits(model: Model) -> dict[str, bytes]:
    return {name: weight.tobytes() for name, weight in model.weights().items()}


class Raising:
    """Looks like an array and is none."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise RuntimeError("no array today")


# -- configuration ---------------------------------------------------------------------

Calls = dict[str, tuple[Callable[[Model], Any], type[ArenaError], str]]


def fc(**values: Any) -> Callable[[Model], None]:
    return lambda model: model.add_layer("fully_connected", **values)


def setting(*strings: str, **values: Any) -> Callable[[Model], None]:
    return lambda model: model.set_property(strings, **values)


BAD_CONFIGURATIONS: Calls = {
    # types
    "no such layer": (
        lambda m: m.add_layer("fully_conected", unit=2),
        UnknownTypeError,
        r"'fully_conected' \(did you mean 'fully_connected'\?\).*known are activation",
    ),
    "type None": (lambda m: m.add_layer(None), UnknownTypeError, "layer type None"),
    "type list": (lambda m: m.add_layer(["input"]), UnknownTypeError, "did you mean"),
    # whole numbers
    **{
        f"unit {value!r}": (
            fc(unit=value),
            InvalidParameterError,
            rf"unit={re.escape(str(value))} .*whole number from 1 to {HUGE}",
        )
        for value in (0, -1, True, False, 1.5, 2.0, "2.0", "1_0", None, [3], HUGE + 1)
    },
    "unit without a digit": (fc(unit=""), InvalidParameterError, "unit="),
    "unit nan": (fc(unit=float("nan")), InvalidParameterError, "unit=nan"),
    "unit of many digits": (fc(unit="9" * 4999), InvalidParameterError, "unit=9"),
    "unit missing": (
        lambda m: (
            m.add_layer("input", input_shape=3),
            fc(name="fc")(m),
            m.add_layer("mse"),
            m.compile(),
        ),
        GraphError,
        "unit",
    ),
    # shapes
    **{
        f"shape {value!r}": (
            lambda m, value=value: m.add_layer("input", input_shape=value),
            InvalidParameterError,
            "input_shape=.*channel:height:width, for example 1:1:784",
        )
        for value in (
            *("", ":", "0:1:1", "-1:1:1", "1:2:3:4:5", "2:1:1:4", "2**40:1:1", "a"),
            *((), (1.5, 1, 1), (True, 1, 1), None, True, b"1:1:4", 2.5, HUGE + 1),
        )
    },
    # names
    **{
        f"name {name!r}": (fc(unit=2, name=name), InvalidParameterError, "name without")
        for name in ("", "  ", "a,b", "a=b", "[a]", "a:b", "a;b", "#", "a\nb", "a\rb")
    },
    "name taken": (
        lambda m: (fc(unit=2, name="a")(m), fc(unit=2, name=" a ")(m)),
        DuplicateNameError,
        "'a' already exists",
    ),
    "a reader of nothing": (
        fc(unit=2, input_layers=[]),
        InvalidParameterError,
        "input_layers=",
    ),
    "an empty name among readers": (
        fc(unit=2, input_layers="a,,b"),
        InvalidParameterError,
        "separated by commas",
    ),
    # other layer properties
    "units": (fc(units=3), UnknownPropertyError, r"'units' \(did you mean 'unit'\?\)"),
    "activation": (fc(unit=2, activation="rellu"), InvalidParameterError, "relu, "),
    "initializer": (
        fc(unit=2, weight_initializer="xaver"),
        InvalidParameterError,
        "xavier_uniform",
    ),
    "negative decay": (fc(unit=2, weight_decay=-1), InvalidParameterError, "at least"),
    "disable_bias": (fc(unit=2, disable_bias="maybe"), InvalidParameterError, "true"),
    "trainable": (
        fc(unit=2, trainable=2),
        InvalidParameterError,
        r"all \(or true\), bias or",
    ),
    "no equals sign": (
        lambda m: m.add_layer("fully_connected", ["unit"]),
        InvalidParameterError,
        "'unit' is no property; write it as 'key=value'",
    ),
    "twice": (
        lambda m: m.add_layer("fully_connected", ["unit=2", "UNIT=3"]),
        InvalidParameterError,
        "given twice",
    ),
    # the model
    "batchsize": (
        setting(batchsize=3),
        UnknownPropertyError,
        r"'batchsize' \(did you mean 'batch_size'\?\).*are arithmetic, batch_size",
    ),
    "zero batch": (setting(batch_size=0), InvalidParameterError, "batch_size=0"),
    "negative batch": (setting("batch_size=-8"), InvalidParameterError, "=-8"),
    "true batch": (setting(batch_size=True), InvalidParameterError, "whole number"),
    "half an epoch": (setting(epochs=1.5), InvalidParameterError, "epochs=1.5"),
    "no threads": (setting(threads=0), InvalidParameterError, "threads=0"),
    "clip at 0": (setting(clip_grad_by_norm=0), InvalidParameterError, "above 0"),
    "clip at inf": (setting("clip_grad_by_norm=inf"), InvalidParameterError, "=inf"),
    "one good, one bad": (
        setting(epochs=7, batch_size="many"),
        InvalidParameterError,
        "batch_size=many",
    ),
    "get unknown": (
        lambda m: m.get_property("epoch"),
        UnknownPropertyError,
        "did you mean 'epochs'",
    ),
    "get a list": (lambda m: m.get_property([1]), UnknownPropertyError, "known are"),
    # optimizers
    "no such optimizer": (
        lambda m: m.set_optimizer("sdg"),
        UnknownTypeError,
        r"'sdg' \(did you mean 'sgd'\?\); known are sgd, adam, adamw",
    ),
    "optimizer None": (lambda m: m.set_optimizer(None), UnknownTypeError, "None"),
    "lr": (
        lambda m: m.set_optimizer("sgd", lr=1),
        UnknownPropertyError,
        "learning_rate",
    ),
    "change of an optimizer": (
        lambda m: m.set_optimizer(create_optimizer("sgd"), learning_rate=-3),
        InvalidParameterError,
        "learning_rate=-3 .* above 0",
    ),
    **{
        f"{name} {values}": (
            lambda m, name=name, values=values: m.set_optimizer(name, **values),
            InvalidParameterError,
            f"optimizer {name}: {next(iter(values))}=",
        )
        for name, values in (
            ("sgd", {"learning_rate": 0}),
            ("sgd", {"learning_rate": -0.1}),
            ("sgd", {"learning_rate": float("nan")}),
            ("sgd", {"learning_rate": "1e400"}),
            ("sgd", {"learning_rate": True}),
            ("sgd", {"momentum": 1}),
            ("sgd", {"nesterov": True}),
            ("adam", {"beta1": 1}),
            ("adam", {"beta2": -0.1}),
            ("adam", {"epsilon": 0}),
            ("adamw", {"weight_decay": -1}),
        )
    },
    # schedules
    "schedule as text": (
        lambda m: m.set_learning_rate_scheduler("cosine"),
        InvalidParameterError,
        "create_schedule",
    ),
    "an optimizer as schedule": (
        lambda m: m.set_learning_rate_scheduler(create_optimizer("sgd")),
        InvalidParameterError,
        "create_schedule",
    ),
    "no such schedule": (
        lambda m: create_schedule("cosin"),
        UnknownTypeError,
        "did you mean 'cosine'",
    ),
    "schedule without numbers": (
        lambda m: create_schedule("linear", decay_steps=3),
        InvalidParameterError,
        "missing max_learning_rate, min_learning_rate",
    ),
    "as many rates as steps": (
        lambda m: create_schedule("step", iteration="1, 2", learning_rate="3, 4"),
        InvalidParameterError,
        "give 3 learning rates",
    ),
    "descending steps": (
        lambda m: create_schedule("step", iteration="2, 1", learning_rate="3, 2, 1"),
        InvalidParameterError,
        "1 stands after 2",
    ),
    "rising fall": (
        lambda m: create_schedule(
            "cosine", max_learning_rate=1, min_learning_rate=2, decay_steps=3
        ),
        InvalidParameterError,
        "exchange them",
    ),
    # blocks
    "block None": (
        lambda m: m.add_checkpoint_block(None),
        InvalidParameterError,
        "at least two layers",
    ),
    "block 3": (
        lambda m: m.add_checkpoint_block(3),
        InvalidParameterError,
        r"layers=3 .*\['fc1', 'fc2'\]",
    ),
    "block of one": (
        lambda m: m.add_checkpoint_block("fc1"),
        BlockTooSmallError,
        "got 1",
    ),
    "block of strangers": (
        lambda m: m.add_checkpoint_block([1, None]),
        UnknownLayerError,
        "unknown layer '1', 'None'",
    ),
    "block named 3": (
        lambda m: m.add_checkpoint_block(["fc1", "act1"], name=3),
        InvalidParameterError,
        "name=3 .* a text",
    ),
    **{
        f"block named {name!r}": (
            lambda m, name=name: m.add_checkpoint_block(["fc1", "act1"], name=name),
            InvalidParameterError,
            "name=.* can be printed",
        )
        for name in ("a\nb", "a\x0bb", "\udc80")
    },
    # arguments
    **{
        f"{call} buget": (
            lambda m, call=call: getattr(m, call)(buget="1 MiB"),
            InvalidParameterError,
            rf"{call} has no argument 'buget' \(did you mean 'budget'\?\); .*allow",
        )
        for call in ("make_plan", "initialize")
    },
    # values that cannot be written, compared or converted
    "type of many digits": (
        lambda m: m.add_layer(ENDLESS),
        UnknownTypeError,
        "type a int that cannot be written",
    ),
    "name of many digits": (fc(unit=2, name=ENDLESS), InvalidParameterError, "name="),
    "properties of numbers": (
        lambda m: m.add_layer("fully_connected", [ENDLESS]),
        InvalidParameterError,
        "is no property; write it as 'key=value'",
    ),
    "properties in a 0-d array": (
        lambda m: m.add_layer("fully_connected", np.array(3)),
        InvalidParameterError,
        "3 is no list of properties",
    ),
    "optimizer of many digits": (
        lambda m: m.set_optimizer(ENDLESS),
        UnknownTypeError,
        "unknown optimizer a int",
    ),
    "schedule of many digits": (
        lambda m: create_schedule(ENDLESS),
        UnknownTypeError,
        "schedule 'a int",
    ),
    "schedule twice": (
        lambda m: create_schedule(
            "constant", ["learning_rate=1"], learning_rate=ENDLESS
        ),
        InvalidParameterError,
        "given twice",
    ),
    "block of many digits": (
        lambda m: m.add_checkpoint_block([ENDLESS, 1]),
        UnknownLayerError,
        "a int that cannot be written",
    ),
    "block name of many digits": (
        lambda m: m.add_checkpoint_block(["fc1", "act1"], ENDLESS),
        InvalidParameterError,
        "name=a int",
    ),
    **{
        f"{name} {label}": (
            lambda m, name=name, value=value: m.make_plan(
                **{"budget": 9**9, name: value}
            ),
            InvalidParameterError,
            f"{name}",
        )
        for name in ("budget", "max_overhead", "allow", "levels", "keep", "drop")
        for label, value in {
            "of many digits": ENDLESS,
            "array": np.zeros(3),
            "object": object(),
            "complex": 1j,
        }.items()
    },
    # graphs
    "empty model": (lambda m: m.initialize(), GraphError, "add"),
    "no loss": (
        lambda m: (m.add_layer("input", input_shape=3), m.initialize()),
        LossError,
        "loss",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGURATIONS)
def test_a_wrong_configuration_is_refused_with_advice(case: str) -> None:
    call, error, words = BAD_CONFIGURATIONS[case]
    with pytest.raises(error, match=words) as caught:
        call(Model())
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ArenaError)


@pytest.mark.parametrize("case", BAD_CONFIGURATIONS)
def test_a_refused_configuration_changes_nothing(case: str) -> None:
    call, _, _ = BAD_CONFIGURATIONS[case]
    spec = classifier()
    model, untouched = spec.model(), spec.initialized()
    names = {layer.name for layer in model.layers}
    if case in ("name taken", "unit missing", "empty model", "no loss"):
        return  # they add layers or initialize
    with pytest.raises(ArenaError):
        call(model)
    assert {layer.name for layer in model.layers} == names
    assert model.properties == spec.model().properties
    assert not model.blocks
    model.initialize()
    assert model.train_step(X, Y) == untouched.train_step(X, Y)
    assert bits(model) == bits(untouched)


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "ünï-✓",
        "../..",
        "%s{0}",
        "__proto__",
        "a/b",
        "'a'",
        '"',
        "None",
        "x" * 999,
    ],
)
def test_names_with_odd_characters_work(name: str) -> None:
    model = Model()
    model.add_layer("input", name=name, input_shape="1:1:6")
    model.add_layer("fully_connected", name=f"{name} 2", unit=3)
    model.add_layer("activation", name=f"{name} 3", activation="tanh")
    model.add_layer("cross_softmax", name=f"{name} 4")
    model.add_checkpoint_block([f"{name} 2", f"{name} 3"], name=name)
    model.set_property(batch_size=8)
    model.initialize()
    assert model.train_step(X, Y) > 0
    assert f"{name} 2:weight" in model.weights()


@pytest.mark.parametrize(
    "spec",
    [
        {"input_shape": f"{HUGE}:{HUGE}:{HUGE}"},
        {"unit": HUGE},
        {"batch_size": HUGE},
        {"input_shape": f"{HUGE}:{HUGE}:{HUGE}", "unit": HUGE, "batch_size": HUGE},
    ],
    ids=str,
)
@pytest.mark.parametrize("memory_optimization", [True, False])
def test_sizes_beyond_any_machine(
    spec: dict[str, Any], memory_optimization: bool
) -> None:
    model = Model()
    model.add_layer("input", input_shape=spec.get("input_shape", 6))
    model.add_layer("flatten")
    model.add_layer("fully_connected", unit=spec.get("unit", 3))
    model.add_layer("mse")
    model.set_property(
        batch_size=spec.get("batch_size", 1), memory_optimization=memory_optimization
    )
    for _ in range(2):
        with pytest.raises(ArenaTooLargeError, match="GiB") as caught:
            model.initialize()
        assert isinstance(caught.value, MemoryError)
    model.set_property(epochs=2)  # it is still being built


# -- data ------------------------------------------------------------------------------

WITH_NAN = X.copy()
WITH_NAN[3, 4] = np.nan
MASKED = np.ma.masked_array(X, mask=np.arange(48).reshape(8, 6) == 11)
BAD_SAMPLES: dict[str, tuple[Any, type[ArenaError], str]] = {
    "wide": (np.zeros((8, 7)), DataShapeError, r"\(8, 7\); expected \(n, 6\)"),
    "narrow": (np.zeros((8, 1)), DataShapeError, r"\(8, 1\); expected \(n, 6\)"),
    "flat": (X.ravel(), DataShapeError, r"\(48,\); expected \(n, 6\)"),
    "alone": (X[0], DataShapeError, r"\(6,\).*for a single sample, pass x\[None\]"),
    "0-d": (np.float32(3), DataShapeError, "x is a single number"),
    "no rows": (X[:0], EmptyDataError, r"no samples \(shape \(0, 6\)\)"),
    "no columns": (np.zeros((8, 0)), DataShapeError, r"\(8, 0\)"),
    "empty list": ([], EmptyDataError, "no samples"),
    "strings": (X.astype(str), DataTypeError, "real numbers.*x.astype"),
    "bytes": (b"abc", DataTypeError, "x holds .S3"),
    "objects": (X.astype(object), DataTypeError, "x holds object"),
    "complex": (X + 0j, DataTypeError, "complex"),
    "dates": (X.astype("M8[D]"), DataTypeError, "datetime64"),
    "durations": (X.astype("m8[s]"), DataTypeError, "timedelta64"),
    "records": (np.zeros(8, [("a", "f4")]), DataTypeError, "'a'"),
    "ragged": ([[1.0], [1.0, 2.0]], DataTypeError, "same shape.*one NumPy array"),
    "None": (None, DataTypeError, "x is a NoneType; expected an array of numbers"),
    "generator": ((row for row in X), DataTypeError, "x is a generator"),
    "set": ({1.0, 2.0}, DataTypeError, "x is a set"),
    "no array": (Raising(), DataTypeError, "no array today"),
    "masked": (MASKED, DataTypeError, r"1 masked values.*x.filled\(0\)"),
    "masked float64": (MASKED.astype(np.float64), DataTypeError, "masked"),
    "nan": (WITH_NAN, NonFiniteDataError, r"1 values that are NaN.*\[?3, 4\]"),
    "inf": (np.full((8, 6), np.inf), NonFiniteDataError, "48 values"),
    "beyond float32": (
        np.full((8, 6), -1e300),
        NonFiniteDataError,
        "beyond float32",
    ),
    "huge ints": ([[10**400] * 6] * 8, DataTypeError, "x"),
    "unknown input": ({"inn": X}, InvalidParameterError, r"did you mean 'in'\?"),
    "input 1": ({1: X}, InvalidParameterError, "needs exactly 'in'"),
    "no input": ({}, InvalidParameterError, "nothing; the model needs exactly 'in'"),
    "two inputs": ({"in": X, "z": X}, InvalidParameterError, "exactly 'in'"),
}
BAD_LABELS: dict[str, tuple[Any, type[ArenaError], str]] = {
    "None": (None, EmptyDataError, r"no labels; give \(x, y\)"),
    "a number": (3, DataShapeError, "y is a single number"),
    "too few": (Y[:7], DataShapeError, "7 labels for 8 samples"),
    "too many": (np.zeros(9, np.int64), DataShapeError, "9 labels for 8 samples"),
    "too few rows": (np.eye(3)[Y[:7]], DataShapeError, "7 labels for 8 samples"),
    "empty": ([], EmptyDataError, "y has no samples"),
    "wide": (np.zeros((8, 4)), DataShapeError, r"\(8, 4\); expected \(8, 3\)"),
    "above": (Y + 1, LabelRangeError, r"is 3, but the model has 3 classes \(0 to 2\)"),
    "below": (Y - 1, LabelRangeError, r"is -1, but.*\d labels are outside"),
    "far above": (np.full(8, 2**63, np.uint64), LabelRangeError, "9223372036854775808"),
    "far below": (np.full(8, -(2**63)), LabelRangeError, "-9223372036854775808"),
    "above, int8": (np.full(8, 3, np.int8), LabelRangeError, "renumber"),
    "above, list": ([3] * 8, LabelRangeError, "renumber"),
    "between": (Y + 0.5, DataTypeError, "class numbers are whole"),
    "nan": (np.full(8, np.nan), NonFiniteDataError, "8 values"),
    "nan rows": (np.full((8, 3), np.nan, np.float32), NonFiniteDataError, "24 values"),
    "inf rows": (np.full((8, 3), -np.inf), NonFiniteDataError, "24 values"),
    "strings": (Y.astype(str), DataTypeError, "y holds <U"),
    "dict": ({"a": 1}, InvalidParameterError, "y has labels of no loss 'a'"),
    "masked": (np.ma.masked_array(Y, mask=Y == Y[0]), DataTypeError, "masked"),
    "ragged": ([[0, 0, 1]] * 7 + [[1]], DataTypeError, "same shape"),
}
BAD_DATA: dict[str, tuple[Any, Any, type[ArenaError], str]] = {
    **{f"x {case}": (x, Y, *rest) for case, (x, *rest) in BAD_SAMPLES.items()},
    **{f"y {case}": (X, y, *rest) for case, (y, *rest) in BAD_LABELS.items()},
}


@pytest.fixture(scope="module")
def models() -> tuple[Model, Model]:
    """One that meets every wrong input of this file, and one that meets none."""
    return classifier().initialized(), classifier().initialized()


@pytest.mark.parametrize("case", BAD_DATA)
def test_wrong_data_are_refused_with_advice_and_change_nothing(
    case: str, models: tuple[Model, Model]
) -> None:
    x, y, error, words = BAD_DATA[case]
    model, untouched = models
    for call in (
        lambda: model.train_step(x, y),
        lambda: model.compute_gradients(x, y),
        lambda: model.train((x, y)),
        lambda: model.train((X, Y), validation=(x, y)),
        lambda: model.evaluate((x, y)),
        *([lambda: model.predict(x)] if case.startswith("x") else []),
    ):
        with pytest.raises(error, match=words):
            call()
        assert bits(model) == bits(untouched)
    assert model.train_step(X, Y) == untouched.train_step(X, Y)
    assert bits(model) == bits(untouched)


BAD_CALLS: Calls = {
    **{
        f"train {type(data).__name__}": (
            lambda m, data=data: m.train(data),
            InvalidParameterError,
            rf"data is a {type(data).__name__}; expected \(x, y\) or a Dataset",
        )
        for data in (None, 3, X, "digits", {"x": X, "y": Y}, (X,), [X, Y, Y])
    },
    "data without labels": (
        lambda m: m.train(Dataset("mine", X, None)),
        EmptyDataError,
        "no labels",
    ),
    "validation without labels": (
        lambda m: m.train((X, Y), validation=Dataset("mine", X, None)),
        EmptyDataError,
        "no labels",
    ),
    "validation None in a pair": (
        lambda m: m.train((X, Y), validation=(X, None)),
        EmptyDataError,
        "no labels",
    ),
    "validation that is no pair": (
        lambda m: m.train((X, Y), validation=X),
        InvalidParameterError,
        "ndarray; expected",
    ),
    **{
        f"epochs {value!r}": (
            lambda m, value=value: m.train((X, Y), epochs=value),
            InvalidParameterError,
            f"epochs={value} .*whole number from 1",
        )
        for value in (0, -1, 1.5, "three", True, HUGE + 1)
    },
    "shuffle": (
        lambda m: m.train((X, Y), shuffle="perhaps"),
        InvalidParameterError,
        "shuffle=perhaps .*true or false",
    ),
    **{
        f"progress={value}": (
            lambda m, value=value: m.train((X, Y), progress=value),
            InvalidParameterError,
            "progress=.* is not possible; expected true or false",
        )
        for value in ("perhaps", 3, np.arange(2))
    },
    "on_epoch": (
        lambda m: m.train((X, Y), on_epoch=3),
        InvalidParameterError,
        "on_epoch=3 cannot be called",
    ),
    "large batch": (
        lambda m: m.train_step(np.zeros((9, 6)), np.zeros(9, np.int64)),
        DataShapeError,
        "9 samples does not fit.*batch_size=8",
    ),
    "weights None": (
        lambda m: m.set_weights(None),
        InvalidParameterError,
        r"NoneType; give a dict.*weights\(\) returns",
    ),
    "weights in a list": (
        lambda m: m.set_weights([X]),
        InvalidParameterError,
        "a list; give a dict",
    ),
    "weight without a name": (
        lambda m: m.set_weights({1: X}),
        InvalidParameterError,
        "unknown weight 1; the model has fc1:weight",
    ),
    "weight None": (
        lambda m: m.set_weights({"fc1:bias": None}),
        DataTypeError,
        "'fc1:bias' is a NoneType",
    ),
    "weight as number": (
        lambda m: m.set_weights({"fc1:bias": 0}),
        GraphError,
        r"has shape \(5,\), the given array \(\)",
    ),
    "schedule as text": (
        lambda m: m.set_learning_rate_scheduler("step"),
        InvalidParameterError,
        "create_schedule",
    ),
    "another optimizer": (
        lambda m: m.set_optimizer("adam"),
        AfterInitializationError,
        "build a new Model",
    ),
    "a layer too late": (fc(unit=2), AfterInitializationError, "new Model"),
    "a block too late": (
        lambda m: m.add_checkpoint_block("fc1,act1"),
        AfterInitializationError,
        "new Model",
    ),
    "initialize again": (
        lambda m: m.initialize(),
        AfterInitializationError,
        "already initialized",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_wrong_call_is_refused_with_advice_and_changes_nothing(
    case: str, models: tuple[Model, Model]
) -> None:
    call, error, words = BAD_CALLS[case]
    model, untouched = models
    with pytest.raises(error, match=words):
        call(model)
    assert bits(model) == bits(untouched)
    assert model.train_step(X, Y) == untouched.train_step(X, Y)
    assert bits(model) == bits(untouched)


def test_several_inputs_need_a_dict_of_equally_many_samples() -> None:
    model = Model()
    model.add_layer("input", name="left", input_shape="1:1:6")
    model.add_layer("input", name="right", input_shape="1:1:6")
    model.add_layer("addition", name="sum", input_layers=["left", "right"])
    model.add_layer("fully_connected", name="fc", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=8)
    model.initialize()
    before = bits(model)
    for x, error, words in (
        (X, InvalidParameterError, r"2 inputs \(left, right\); give x as a dict"),
        ({"left": X}, InvalidParameterError, "exactly 'left', 'right'"),
        ({"left": X, "rigth": X}, InvalidParameterError, "did you mean 'right'"),
        ({"left": X, "right": X[:7]}, DataShapeError, "'left': 8, 'right': 7"),
        ({"left": X, "right": X[:, :5]}, DataShapeError, r"x\['right'\] has the shape"),
        ({"left": X, "right": WITH_NAN}, NonFiniteDataError, "right"),
    ):
        for call in (model.train_step, model.compute_gradients):
            with pytest.raises(error, match=words):
                call(x, Y)
        with pytest.raises(error, match=words):
            model.predict(x)
    assert bits(model) == before
    assert model.train_step({"right": X, "left": X}, Y) > 0


@pytest.mark.parametrize("loss", ["mse", "cross_sigmoid"])
def test_class_numbers_for_another_loss_are_explained(loss: str) -> None:
    model = chain(3, loss=loss).initialized()
    with pytest.raises(DataShapeError, match=r"cross_softmax.*numpy\.eye\(3\)\[y\]"):
        model.train_step(X, Y)


def test_a_copy_of_a_model_is_another_one() -> None:
    spec = classifier()
    model = spec.model()
    other = copy.copy(model)
    other.add_checkpoint_block(["fc1", "act1"])
    other.set_property(batch_size=9)
    assert not model.blocks
    assert model.get_property("batch_size") == 8
    for each in (model, other):
        each.initialize()
    assert model.train_step(X, Y) == other.train_step(X, Y)
    assert bits(model) == bits(other)


def test_an_initialized_model_is_not_copied() -> None:
    model = classifier().initialized()
    for call in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(
            StateError, match=r"model\.save\(path\).*arena_ckpt\.load\(path\)"
        ):
            call(model)
    assert model.train_step(X, Y) > 0


# -- anything at all -------------------------------------------------------------------

anything: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.integers(-3, 9),
        st.floats(),
        st.text("ab1:,=-.[]# \n\0é", max_size=6),
        st.sampled_from(("relu", "true", "1:1:4", "1, 2", "1e-3", "inf", "nan", "-0")),
        st.binary(max_size=3),
        st.complex_numbers(),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)


# Other work on the machine must not fail a test.
relaxed = settings(deadline=None)


def keys(names: set[str]) -> st.SearchStrategy[str]:
    known = sorted(names - {"properties", "self", "layer", "type_name", "optimizer"})
    return st.sampled_from(known) | st.text("abunit_", max_size=5).filter(
        lambda key: key not in ("properties", "self")
    )


def arguments(names: set[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(keys(names), anything, max_size=3)


strings = st.lists(st.text("ab1=_unit ,:", max_size=9) | anything, max_size=3)
LAYER_KEYS = {p.name for layer in LAYER_TYPES.values() for p in layer.properties}
OPTIMIZER_KEYS = {p.name for schema in OPTIMIZER_SCHEMAS.values() for p in schema}
SCHEDULE_KEYS = {p.name for schema in SCHEDULE_SCHEMAS.values() for p in schema}


def refused(call: Callable[..., Any], *args: Any, **values: Any) -> tuple[bool, Any]:
    """Whether our error came, and the result if it did not; others escape."""
    try:
        return False, call(*args, **values)
    except InvalidParameterError:
        return True, None


@relaxed
@given(st.sampled_from(sorted(LAYER_TYPES)) | anything, strings, arguments(LAYER_KEYS))
def test_only_our_errors_escape_from_add_layer(
    type_name: Any, properties: list[Any], values: dict[str, Any]
) -> None:
    model = Model()
    if refused(model.add_layer, type_name, properties, **values)[0]:
        assert not model.layers
        return
    (layer,) = model.layers
    assert create_layer(layer.type_name, **layer.given).given == layer.given
    # One layer is no model, and what it reads may not exist; compile() documents both.
    with pytest.raises((GraphError, UnknownLayerError)):
        model.compile()


@relaxed
@given(strings, arguments({p.name for p in MODEL_PROPERTIES}))
def test_only_our_errors_escape_from_set_property(
    properties: list[Any], values: dict[str, Any]
) -> None:
    model = Model()
    if refused(model.set_property, properties, **values)[0]:
        assert not model.properties


@relaxed
@given(
    st.sampled_from(sorted(OPTIMIZER_SCHEMAS)) | anything,
    strings,
    arguments(OPTIMIZER_KEYS),
)
def test_only_our_errors_escape_from_create_optimizer(
    type_name: Any, properties: list[Any], values: dict[str, Any]
) -> None:
    failed, made = refused(create_optimizer, type_name, properties, **values)
    if not failed:
        assert np.isfinite(made.hyperparameters(0, 0.1)).all()
        assert create_optimizer(made.type_name, **made.to_properties()) == made


@relaxed
@given(
    st.sampled_from(sorted(SCHEDULE_SCHEMAS)) | anything,
    strings,
    arguments(SCHEDULE_KEYS),
)
def test_only_our_errors_escape_from_create_schedule(
    type_name: Any, properties: list[Any], values: dict[str, Any]
) -> None:
    failed, made = refused(create_schedule, type_name, properties, **values)
    if not failed:
        assert made.learning_rate_at(0) > 0


@relaxed
@given(anything, anything)
def test_only_our_errors_escape_from_add_checkpoint_block(
    layers: Any, name: Any
) -> None:
    model = classifier().model()
    assert refused(model.add_checkpoint_block, layers, name)[0]
    assert not model.blocks


@relaxed
@given(anything, anything)
def test_only_our_errors_escape_from_data(x: Any, y: Any) -> None:
    model = FUZZED
    for call in (
        lambda: model.train_step(x, Y),
        lambda: model.train_step(X, y),
        lambda: model.evaluate((x, y)),
        lambda: model.predict(x),
        lambda: model.train(x),
        lambda: model.set_weights(x or None),
        lambda: model.set_weights({"fc1:bias": x}),
    ):
        with pytest.raises(ArenaError):
            call()


FUZZED = classifier().initialized()


def test_messages_name_a_hundred_layers_at_most() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=6)
    for i in range(3000):
        model.add_layer("activation", name=f"a{i}", activation="relu")
    model.add_layer("mse", name="loss", input_layers="a3000")
    with pytest.raises(UnknownLayerError, match=r"'a98', … 2,902 more$") as caught:
        model.compile()
    assert len(str(caught.value)) < 2000
    with pytest.raises(UnknownLayerError, match="1,900 more") as caught:
        model.add_checkpoint_block([f"b{i}" for i in range(2000)])
    assert len(str(caught.value)) < 5000


class OddPath:
    """Says that it is a path, and is none."""

    def __fspath__(self) -> Any:
        return 3

    def __repr__(self) -> str:
        return "an odd path"  # without an address: names of tests stay the same


@pytest.mark.parametrize(
    "path", [None, 3, 2.5, b"a.ini", ["a.ini"], OddPath(), np.zeros(3)], ids=repr
)
@pytest.mark.parametrize(
    "call",
    [
        *(arena_ckpt.load_ini, arena_ckpt.load_csv, arena_ckpt.load_npz),
        *(arena_ckpt.load_board, arena_ckpt.load, open_data),
        lambda path: arena_ckpt.load_idx(path, path),
        lambda path: classifier().model().save_ini(path),
        lambda path: classifier().initialized().save(path),
    ],
)
def test_what_is_no_path_is_refused(call: Callable[[Any], Any], path: Any) -> None:
    with pytest.raises(InvalidParameterError, match="no path"):
        call(path)


NO_PLANS: dict[str, Callable[[Any], Any]] = {
    "export": lambda plan: arena_ckpt.export_plan(plan, "dot"),
    "ascii": arena_ckpt.plan_ascii,
    "svg": arena_ckpt.plan_svg,
    "png": arena_ckpt.plan_png,
    "html": arena_ckpt.plan_html,
    "before": lambda plan: arena_ckpt.plan_html(
        classifier().model().make_plan(), before=plan or 3
    ),
    "board": lambda plan: arena_ckpt.load_board("rp2350").check(plan),
    "seconds": lambda plan: classifier().model().step_seconds(plan),
    "calls": lambda plan: classifier().model().kernel_calls(plan),
    "profile": lambda plan: classifier().model().profile(plan=plan or 3),
    "initialize": lambda plan: classifier().model().initialize(plan=plan or 3),
}


@pytest.mark.parametrize("case", NO_PLANS)
def test_what_is_no_plan_is_refused(case: str) -> None:
    for plan in (None, 3, "{}", classifier().model()):
        with pytest.raises(InvalidParameterError, match="expected a MemoryPlan"):
            NO_PLANS[case](plan)


def test_steps_of_another_plan_are_not_run() -> None:
    plan = chain(50, "relu", 40).model().make_plan()
    with pytest.raises(PlanMismatchError, match="not one of this model"):
        classifier().model().step_seconds(plan)


def test_other_odd_arguments_are_refused() -> None:
    plan = classifier().model().make_plan()
    for call in (
        lambda: arena_ckpt.export_plan(plan, ENDLESS),
        lambda: arena_ckpt.export_plan(plan, []),
        lambda: arena_ckpt.load_example({}),
        lambda: classifier().model().get_property(ENDLESS),
        lambda: classifier().model().make_plan(debug=np.zeros(3)),
        lambda: arena_ckpt.plan_ascii(plan, columns=2**40),
        lambda: arena_ckpt.plan_ascii(plan, rows=0),
    ):
        with pytest.raises(InvalidParameterError):
            call()


def test_lists_without_end_are_refused() -> None:
    wide = np.broadcast_to(np.int64(1), (2**40,))
    for endless in (wide, itertools.count(1)):
        for call in (
            lambda v: create_layer("fully_connected", v),
            lambda v: create_layer("input", input_shape=v),
            lambda v: create_layer("addition", input_layers=v),
            lambda v: classifier().model().add_checkpoint_block(v),
            lambda v: classifier().model().make_plan(budget=10**6, allow=v),
            lambda v: arena_ckpt.allocate([0], v, [1]),
        ):
            with pytest.raises(InvalidParameterError):
                call(endless)
            endless = itertools.count(1) if endless is not wide else wide
