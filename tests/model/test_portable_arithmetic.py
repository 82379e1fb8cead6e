"""Portable arithmetic: the same bits however a model is run, and no workspaces."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from helpers.same_bits import assert_same_bits, outcome
from helpers.scale import how_many
from helpers.strategies import ModelSpec, chain, chains, dags
from hypothesis import given, settings

import arena_ckpt as ac
from arena_ckpt.common.arithmetics import PORTABLE
from arena_ckpt.errors import (
    AfterInitializationError,
    InvalidParameterError,
    PlanMismatchError,
    SavedStateMismatchError,
)
from arena_ckpt.operations.families import chains as products
from arena_ckpt.operations.portable import portable
from arena_ckpt.planning.tensors import TensorKind


def in_portable(spec: ModelSpec) -> ModelSpec:
    return spec.with_properties(arithmetic=PORTABLE)


@settings(derandomize=True, deadline=None, max_examples=how_many(15, 100))
@given(chains())
def test_random_chains(spec: ModelSpec) -> None:
    assert_same_bits(in_portable(spec))


@settings(derandomize=True, deadline=None, max_examples=how_many(15, 100))
@given(dags())
def test_random_graphs(spec: ModelSpec) -> None:
    assert_same_bits(in_portable(spec))


# -- whole models ----------------------------------------------------------------------


def pictures(**properties: Any) -> ac.Model:
    """Convolutions of every kind, with strides, and a product on top."""
    model = ac.Model(seed=1)
    model.add_layer("input", name="in", input_shape=(2, 11, 13))
    model.add_layer("conv2d", filters=6, kernel_size=(3, 3), stride=(2, 1), padding=1)
    model.add_layer("activation", activation="relu")
    model.add_layer("depthwiseconv2d", kernel_size=(3, 5), padding="same")
    model.add_layer("conv2d", filters=9, kernel_size=(1, 1))
    model.add_layer("conv2dtranspose", filters=4, kernel_size=(3, 2), stride=(2, 2))
    model.add_layer("pooling2d", pooling="average", pool_size=(2, 2))
    model.add_layer("flatten")
    model.add_layer("fully_connected", unit=5)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=6, **properties)
    model.set_optimizer("adam", learning_rate=1e-2)
    return model


def wide(**properties: Any) -> ac.Model:
    """A product large enough for BLAS to use threads."""
    model = ac.Model(seed=1)
    model.add_layer("input", name="in", input_shape=(1, 1, 400))
    model.add_layer("fully_connected", unit=500, activation="relu")
    model.add_layer("fully_connected", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=200, **properties)
    return model


def batch(model: ac.Model) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    n = model.get_property("batch_size")
    shape = model.layers[0]["input_shape"]
    x = generator.normal(size=(n, *shape)).astype(np.float32)
    return x, generator.integers(0, 3, n)


def trained(model: ac.Model, n_steps: int = 3, **plan: Any) -> dict[str, bytes]:
    """Return losses and weights after some steps, as bytes."""
    model.initialize(**plan)
    losses = [model.train_step(*batch(model)) for _ in range(n_steps)]
    weights = {name: array.tobytes() for name, array in model.weights().items()}
    return weights | {"losses": np.array(losses).tobytes()}


def test_threads_change_no_bit() -> None:
    models = [wide(arithmetic=PORTABLE, threads=threads) for threads in (1, 2)]
    assert trained(models[0]) == trained(models[1])


def test_a_budget_changes_no_bit() -> None:
    whole, small = pictures(arithmetic=PORTABLE), pictures(arithmetic=PORTABLE)
    assert trained(whole) == trained(small, budget="85%")
    assert small.plan.arena_bytes < whole.plan.arena_bytes


def test_updates_in_tiles_change_no_bit() -> None:
    """A chain is the same whichever rows of a gradient are made together."""
    whole, tiled = wide(arithmetic=PORTABLE), wide(arithmetic=PORTABLE)
    for model in (whole, tiled):
        model.set_optimizer("adam")
    allow = ("in_place", "layerwise_update", "tiled_update")
    expected = trained(whole)
    assert trained(tiled, max_overhead="100%", allow=allow) == expected
    assert "tiled_update" in tiled.plan.ways


def test_convolutions_need_no_workspace() -> None:
    fast, model = pictures(), pictures(arithmetic=PORTABLE)

    def workspaces(plan: ac.MemoryPlan) -> set[str]:
        names = {t.name for t in plan.tensors if t.kind is TensorKind.WORKSPACE}
        return {name for name in names if "pictures" in name or "offsets" in name}

    assert workspaces(fast.make_plan())
    plan = model.make_plan()
    assert not workspaces(plan)
    called = {call.kernel.family for call in model.kernel_calls(plan)}
    assert {"direct", "chains"} <= called
    assert not called & {"blas", "windows", "depthwise"}


def test_results_are_near_those_of_fast_arithmetic() -> None:
    models = [pictures(arithmetic=name) for name in ("fast", PORTABLE)]
    gradients = []
    for model in models:
        model.initialize()
        gradients.append(model.compute_gradients(*batch(model)))
    (loss, some), (other_loss, others) = gradients
    assert math.isclose(loss, other_loss, rel_tol=1e-6)
    for name, gradient in some.items():
        scale = np.abs(gradient).max()
        assert np.abs(gradient - others[name]).max() <= 1e-5 * scale, name


def test_subnormal_numbers_are_kept() -> None:
    a, b = np.full((1, 1), 1e-20, np.float32), np.full((1, 1), 1e-20, np.float32)
    c = np.zeros((1, 1), np.float32)
    from arena_ckpt.kernels.kernel import kernel_of

    kernel_of(products.chain_matmul)(a, b, c)
    assert c.view(np.uint32)[0, 0] == 0x000116C2


# -- the property ----------------------------------------------------------------------


def test_arithmetic_is_part_of_the_plan() -> None:
    model = pictures()
    model.initialize()
    with pytest.raises(AfterInitializationError, match="arithmetic"):
        model.set_property(arithmetic=PORTABLE)
    model.set_property(arithmetic="fast")  # what it is already
    with pytest.raises(InvalidParameterError, match="fast"):
        pictures(arithmetic="exact")


def test_a_change_before_the_plan_is_heard() -> None:
    model = pictures()
    model.compile()
    model.set_property(arithmetic=PORTABLE)
    assert model.compile().arithmetic == PORTABLE
    model.set_property(arithmetic="fast")
    assert model.compile().arithmetic == "fast"


def test_a_plan_of_other_arithmetic_is_refused() -> None:
    plan = pictures().make_plan()
    with pytest.raises(PlanMismatchError):
        pictures(arithmetic=PORTABLE).initialize(plan=plan)


def test_an_ini_file_keeps_it(tmp_path: Any) -> None:
    path = tmp_path / "model.ini"
    pictures(arithmetic=PORTABLE).save_ini(path)
    assert ac.load_ini(path).get_property("arithmetic") == PORTABLE


def test_a_training_resumes_in_its_own_arithmetic_alone(tmp_path: Any) -> None:
    def run(arithmetic: str, resume: bool) -> None:
        model = wide(arithmetic=arithmetic)
        model.set_property(epochs=2 if resume else 1)
        model.initialize()
        folder = tmp_path / "states"
        model.train(batch(model), progress=False, checkpoint=folder, resume=resume)

    run(PORTABLE, False)
    with pytest.raises(SavedStateMismatchError, match="arithmetic"):
        run("fast", True)
    run(PORTABLE, True)


def test_an_own_layer_gets_the_twin_of_a_product_that_it_names() -> None:
    from arena_ckpt.operations.families import blas

    assert portable(blas.matmul) == products.chain_matmul
    assert portable(products.chain_matmul) == products.chain_matmul


def test_dense_layers_have_the_same_plan_in_both() -> None:
    spec = chain(16, "relu", 16, "gelu", 4)
    fast, portable = (s.model().make_plan() for s in (spec, in_portable(spec)))
    assert portable.arithmetic == "portable"
    assert fast == dataclasses.replace(portable, arithmetic=fast.arithmetic)
    assert outcome(spec).weights.keys() == outcome(in_portable(spec)).weights.keys()
