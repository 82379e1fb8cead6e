"""A dtype is one line of a table, which plans, checks and debug mode ask."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from arena_ckpt import Model
from arena_ckpt.common.dtypes import DTYPES, Dtype, item_bytes, size_bytes
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.engine.arena import Arena
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.layers.base import (
    COMMON_PROPERTIES,
    Layer,
    LayerSpec,
    Shape,
    TensorSpec,
)
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.verification.dataflow import check_dataflow

NEW = (
    Dtype("float16", 2, is_float=True, read_by=("halves",)),
    Dtype("int64", 8, is_float=False, read_by=("integers",)),
    Dtype("uint8", 1, is_float=False, read_by=("octets",)),
)


class Noting(Layer):
    """Saves seventy elements of a dtype for each sample; it is only planned."""

    type_name = "noting"
    properties = COMMON_PROPERTIES
    dtype: ClassVar[str]

    def infer(self, input_shapes: tuple[Shape, ...]) -> LayerSpec:
        lifespan = TensorLifespan.FORWARD_DERIV
        note = TensorSpec("note", (70,), lifespan, dtype=self.dtype)
        return LayerSpec(input_shapes, tensors=(note,), forward_skips_unwanted=True)


def model_of(dtype: str, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setitem(LAYER_TYPES, "noting", Noting)
    monkeypatch.setattr(Noting, "dtype", dtype, raising=False)
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc", unit=6)
    model.add_layer("noting", name="it")
    model.add_layer("fully_connected", name="last", unit=6)
    model.add_layer("mse", name="loss")
    model.add_checkpoint_block(["fc", "it"])
    model.set_property(batch_size=30)
    return model


@pytest.mark.parametrize("new", NEW, ids=lambda new: new.name)
def test_a_dtype_is_one_line_of_the_table(
    new: Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DTYPES, new.name, new)
    model = model_of(new.name, monkeypatch)
    plan = model.make_plan()

    lives = [tensor for tensor in plan.tensors if tensor.name == "it:note"]
    assert [(t.shape, t.dtype, t.size_bytes) for t in lives] == [
        ((30, 70), new.name, 30 * 70 * new.item_bytes)
    ] * 2
    assert MemoryPlan.from_json(plan.to_json()) == plan
    check_dataflow(plan, model.compile())
    assert (
        model.choose_plan(max_overhead=0.5).plan.arena_bytes <= plan.naive_bytes
    )  # stages ask for sizes too


@pytest.mark.parametrize("new", [*DTYPES.values(), *NEW], ids=lambda new: new.name)
def test_dead_bytes_of_every_dtype_are_poisoned(
    new: Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DTYPES, new.name, new)
    arena = Arena(64)
    arena.poison(16, 32, new.name)

    found = arena.view(16, (32 // new.item_bytes,), new.name)
    assert np.isnan(found).all() if new.is_float else (arena.bytes[16:48] == 0xA5).all()
    assert not arena.bytes[:16].any()
    assert not arena.bytes[48:].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_table_says_what_numpy_says(dtype: str) -> None:
    assert item_bytes(dtype) == np.dtype(dtype).itemsize
    assert size_bytes((3, 5), dtype) == np.empty((3, 5), dtype).nbytes
    assert DTYPES[dtype].is_float == (np.dtype(dtype).kind == "f")
    assert DTYPES[dtype].name == dtype
