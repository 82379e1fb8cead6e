"""Ids that an embedding has no row for are refused wherever they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from arena_ckpt import Model
from arena_ckpt.errors import (
    DataError,
    IdRangeError,
    NonFiniteDataError,
    UnknownTypeError,
)

Layers = tuple[tuple[str, dict[str, Any]], ...]
SLICED: Layers = (("slice", {"axis": 2, "end_index": 3}),)
POOLED: Layers = (("pooling2d", {"pooling": "max", "pool_size": (2, 1)}),)


def started(*between: tuple[str, dict[str, Any]], **properties: Any) -> Model:
    """ids 1:1:3 - embedding of 5 rows - what stands between - fc - rows of classes."""
    model = Model(seed=0)
    model.add_layer("input", name="ids", input_shape="1:1:3")
    model.add_layer("embedding", name="rows", in_dim=5, out_dim=4)
    for kind, values in between:
        model.add_layer(kind, **values)
    model.add_layer("fully_connected", name="fc", unit=3)
    model.add_layer("cross_softmax", name="loss", per_token=True)
    if properties.pop("block", False):
        model.add_checkpoint_block(["rows", "fc"])
    debug = properties.pop("debug", False)
    model.set_property(batch_size=4, **properties)
    model.initialize(debug=debug)
    return model


def batch(model: Model, wrong: float) -> tuple[Any, Any]:
    """Only sample 2 is wrong, in a place whose label does not count."""
    x = np.array([[0, 1, 2], [3, 4, 0], [1, 2, wrong], [0, 0, 0]], np.float32)
    y = np.zeros((4, model.plan.layers[-1].output_shape[1]))
    y[2, -1] = -100
    return x, y


def test_ids_are_the_same_of_any_dtype_and_nothing_is_cast() -> None:
    found = []
    for dtype in (np.int64, np.int32, np.uint8, np.float32, np.float64):
        model = started()
        x, y = batch(model, 3)
        found.append(model.compute_gradients(x.astype(dtype), y)[0])
    assert len({*found}) == 1
    with pytest.raises(UnknownTypeError, match=r"cast.*ids are whole numbers.* leave"):
        Model().add_layer("cast", tensor_dtype="int32")
    model = started()
    x, y = batch(model, 2.5)
    with pytest.raises(IdRangeError, match=r"reads 2\.5 in sample 2, place 2"):
        model.train_step(x, y)


CALLS: dict[str, Callable[[Model, Any, Any], object]] = {
    "train_step": lambda model, x, y: model.train_step(x, y),
    "compute_gradients": lambda model, x, y: model.compute_gradients(x, y),
    "evaluate": lambda model, x, y: model.evaluate((x, y)),
    "predict": lambda model, x, y: model.predict(x),
    "train": lambda model, x, y: model.train((x, y), epochs=1, shuffle=False),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "properties",
    [{}, {"micro_batches": 2}, {"debug": True}, {"block": True}],
    ids=str,
)
def test_the_id_is_named_and_no_weight_changes(
    call: str, properties: dict[str, Any]
) -> None:
    """NaN in a row that does not count once reached the weights, and no loss."""
    model = started(**properties)
    before = model.weights()
    x, y = batch(model, 5)
    with pytest.raises(IdRangeError, match=r"layer 'rows' \(embedding\).*5") as caught:
        CALLS[call](model, x, y)
    error = caught.value
    assert isinstance(error, DataError)
    assert (error.layer, error.sample, error.place) == ("rows", 2, 2)
    assert (error.value, error.in_dim) == (5.0, 5)
    for name, weight in model.weights().items():
        assert (weight == before[name]).all()
    x, y = batch(model, 4)
    CALLS[call](model, x, y)


@pytest.mark.parametrize("between", [SLICED, POOLED], ids=["sliced", "pooled"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", [-1.0, 1.5, 1e30])
def test_also_where_nothing_depends_on_it(
    wrong: float, call: str, between: Layers
) -> None:
    model = started(*between)
    with pytest.raises(IdRangeError, match="from 0 to 4"):
        CALLS[call](model, *batch(model, wrong))


def test_nan_is_refused_as_data() -> None:
    model = started()
    for call in CALLS.values():
        with pytest.raises(NonFiniteDataError):
            call(model, *batch(model, np.nan))


def test_a_shuffled_sample_is_named_by_its_number() -> None:
    model = started()
    x, y = (np.tile(array, (5, 1)) for array in batch(model, 4))
    x[13, 1] = 9
    with pytest.raises(IdRangeError) as caught:
        model.train((x, y), epochs=1)
    assert (caught.value.sample, caught.value.place) == (13, 1)
