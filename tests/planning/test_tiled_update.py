"""Gradients that never exist whole: plans, bits, gradients, and what is left alone."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from helpers.random_reruns import random_reruns
from helpers.same_bits import Outcome, outcome
from helpers.scale import how_many
from helpers.strategies import OPTIMIZERS, Given, ModelSpec, chain, chains
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from arena_ckpt import MemoryPlan, Model
from arena_ckpt.checkpoint.choose import all_settings
from arena_ckpt.common.names import TILE
from arena_ckpt.common.phases import Phase
from arena_ckpt.errors import BudgetError, NonFiniteError
from arena_ckpt.examples import load_example
from arena_ckpt.layers.spec import WeightSpec
from arena_ckpt.lowering import updates as update_calls
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning import tiled_update as module
from arena_ckpt.planning import touches as uses
from arena_ckpt.planning.costs import BYTE_COST
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.recompute import Reruns
from arena_ckpt.planning.tensors import TensorKind
from arena_ckpt.planning.tiled_update import tile_rows, tiled_weights, tiles

TILED = "tiled_update"


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 2 rows, or of more where they are narrow: small models have some."""
    monkeypatch.setattr(module, "TILE_BYTES", 64)
    monkeypatch.setattr(module, "FEWEST_ROWS", 2)


def tiled_plan(
    model: Model, reruns: Reruns | None = None, *, debug: bool = False
) -> MemoryPlan:
    asked = ModelPlans(model).settings(debug=debug)
    asked = replace(asked, ways=asked.ways | {TILED})
    return make_plan(model.compile(), asked, reruns)


@dataclass(frozen=True)
class Tiled(ModelSpec):
    """A model that updates in tiles; with `n_reruns` it recomputes at random."""

    shares: bool = True
    n_reruns: int | None = None

    @classmethod
    def of(cls, spec: ModelSpec, **changes: Any) -> Tiled:
        given = {f.name: getattr(spec, f.name) for f in fields(ModelSpec)}
        return cls(**given, **changes)

    def initialized(self, *, debug: bool = False) -> Model:
        model = self.model()
        asked = ModelPlans(model).settings(debug=debug)
        ways = asked.ways | {TILED}
        asked = replace(asked, ways=ways, share_memory=self.shares)
        model.set_property(memory_optimization=self.shares)
        reruns = None
        if self.n_reruns is not None:
            reruns = random_reruns(model, self.n_reruns, seed=self.n_reruns)
        plan = make_plan(model.compile(), asked, reruns)
        model.initialize(plan=plan, debug=debug)
        return model


def trained(spec: ModelSpec, n_steps: int = 1) -> tuple[Given, Given]:
    """Return the gradients before and the weights after some steps."""
    model = spec.initialized()
    x, y = spec.batch(spec.batch_size)
    _, gradients = model.compute_gradients(x, y)
    for _ in range(n_steps):
        model.train_step(x, y)
    return gradients, model.weights()


def assert_close(found: Given, expected: Given, relative: float = 1e-6) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        most = max(1e-30, float(np.abs(values).max()))
        np.testing.assert_allclose(
            found[name], values, rtol=relative, atol=relative * most, err_msg=name
        )


# -- tiles -----------------------------------------------------------------------------


def weight_of(rows: int, columns: int) -> WeightSpec:
    spec = chain(columns, width=rows).model().compile().node("fc1").spec
    return spec.weights[0]


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (784, 512, 32),  # 64 KiB
        (784, 10, 784),  # all of it
        (4096, 100, 163),  # 65,200 bytes
        (100, 4096, 32),  # the fewest
        (8, 100_000, 8),
    ],
)
def test_how_many_rows_a_tile_has(rows: int, columns: int, expected: int) -> None:
    weight = weight_of(rows, columns)
    assert tile_rows(weight) == expected
    parts = list(tiles(weight))
    assert [start for start, _ in parts] == list(range(0, rows, expected))
    assert [stop for _, stop in parts] == [start for start, _ in parts[1:]] + [rows]


def big(*more: tuple[str, Given], **values: object) -> ModelSpec:
    """A layer with a gradient of 80 KiB, and what comes behind it."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 1, 80)}),
        ("fully_connected", {"name": "fc", "unit": 256, **values}),
        *more,
        ("fully_connected", {"name": "out", "unit": 4}),
        ("mse", {"name": "loss"}),
    )
    return ModelSpec(layers, (), {"batch_size": 4})


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (big(), {"fc"}),
        (big(trainable=False), set()),
        (
            big(
                ("fully_connected", {"name": "back", "unit": 80}),
                (
                    "fully_connected",
                    {"name": "again", "unit": 256, "shared_from": "fc"},
                ),
            ),
            {"back"},
        ),
        (chain(16, 16, 16), set()),
    ],
    ids=["large", "frozen", "shared", "small"],
)
def test_which_weights_are_updated_in_tiles(spec: ModelSpec, names: set[str]) -> None:
    found = tiled_weights(spec.model().compile())
    assert {name for name, weights in found.items() if weights} == names


# -- plans -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "saved_bytes"), [("adam", 1_442_816), ("sgd", 1_508_352)]
)
def test_the_first_gradient_of_the_example_binds_no_more(
    optimizer: str, saved_bytes: int
) -> None:
    model = load_example("nine_layer_mlp").model
    model.set_optimizer(optimizer)
    whole, tiled = model.make_plan(), tiled_plan(model)
    assert whole.arena_bytes - tiled.arena_bytes == saved_bytes
    assert "fc1:weight:grad" in {t.name for t in whole.tensors}
    names = {t.name for t in tiled.tensors}
    assert not names & {"fc1:weight:grad", "fc2:weight:grad", "fc3:weight:grad"}
    assert {"fc1:bias:grad", "output:weight:grad"} <= names
    assert (f"fc1:{TILE}" in names) == (optimizer == "adam")
    assert tiled.execution_order == whole.execution_order
    assert tiled.proved_optimal
    extra = tiled.iteration_cost(tiled.counted_costs)
    extra /= whole.iteration_cost(whole.counted_costs)
    assert (1 < extra < 1.05) if optimizer == "adam" else (0.7 < extra < 1)


def test_the_factors_live_until_the_update() -> None:
    plan = tiled_plan(big().model(), ())
    life = {t.name: t for t in plan.tensors}
    stop = plan.execution_order["fc"].apply_gradient + 1
    assert life["in:out0"].stop == life["fc:out0:grad"].stop == stop


def test_the_tile_is_the_largest_that_a_weight_of_the_layer_needs() -> None:
    """Of 640 columns 32 rows are more than 64 KiB; of 300 columns 54 rows are less."""
    layers = (
        ("input", {"name": "in", "input_shape": (1, 2, 80)}),
        (
            "multi_head_attention",
            {
                "name": "mha",
                "num_heads": 1,
                "projected_key_dim": 300,
                "projected_value_dim": 640,
                "output_shape": 4,
            },
        ),
        ("flatten", {"name": "flat"}),
        ("fully_connected", {"name": "out", "unit": 4}),
        ("mse", {"name": "loss"}),
    )
    spec = ModelSpec(layers, (), {"batch_size": 4})
    spec = replace(spec, optimizer=("sgd", {"learning_rate": 0.1, "momentum": 0.9}))
    plan = tiled_plan(spec.model())
    shapes = {t.name: t.shape for t in plan.tensors}
    assert {shapes[f"mha:{w}_fc_weight"] for w in ("query", "key", "value")} == {
        (80, 300),
        (80, 640),
    }
    assert shapes[f"mha:{TILE}"] == (32 * 640,)


def test_a_weight_that_is_accumulated_into_needs_no_room_in_the_tile() -> None:
    """With plain SGD only the weight with a decay is made in tiles."""
    spec = big(("fully_connected", {"name": "wide", "unit": 300}), weight_decay=0.1)
    tile = {t.name: t.shape for t in tiled_plan(spec.model()).tensors}
    assert tile[f"fc:{TILE}"] == (64 * 256,)
    assert f"wide:{TILE}" not in tile


def test_what_goes_through_a_tile_costs_its_bytes() -> None:
    """The gradient is written and read, as where it exists whole."""
    spec = replace(big(), optimizer=("sgd", {"learning_rate": 0.1, "momentum": 0.9}))
    plan = tiled_plan(spec.model())
    n_weights, n_biases = 80 * 256, 256
    n_factors = 4 * 80 + 4 * 256
    touched = 2 * n_weights + 3 * n_biases + n_factors + 64 * 256
    through = 2 * n_weights
    cost = plan.counted_costs.step("fc", Phase.APPLY_GRADIENT)
    assert cost == BYTE_COST * 4 * (touched + through)


def test_decay_and_penalty_need_a_tile_with_sgd_too() -> None:
    for values in ({}, {"weight_decay": 0.1}, {"weight_regularizer": "l2norm"}):
        names = {t.name for t in tiled_plan(big(**values).model()).tensors}
        assert (f"fc:{TILE}" in names) == bool(values)
        assert "fc:weight:grad" not in names


@pytest.mark.parametrize(
    "properties", [{"micro_batches": 2}, {"clip_grad_by_norm": 1.0}]
)
def test_gradients_that_are_needed_later_exist_whole(properties: Given) -> None:
    model = big().with_properties(**properties).model()
    assert "fc:weight:grad" in {t.name for t in tiled_plan(model).tensors}
    whole = replace(tiled_plan(model), ways=model.make_plan().ways)
    assert whole == model.make_plan()


def test_it_is_looked_at_where_it_can_be_done() -> None:
    settings = ModelPlans(big().model()).settings()
    allow = ("in_place", "layerwise_update", TILED, "micro_batch")
    found = all_settings(settings, allow, None)
    assert [(s.micro_batches, s.tiles_updates) for s in found] == [
        *((1, False), (1, True)),
        *((2, False), (4, False)),
    ]
    assert not any(s.tiles_updates for s in all_settings(settings, (TILED,), None))


def test_a_plan_from_a_file_can_be_used() -> None:
    plan = tiled_plan(big().model())
    again = MemoryPlan.from_json(plan.to_json())
    assert again == plan
    model = big().model()
    assert model.initialize(plan=again) == plan
    x, y = big().batch(4)
    assert np.isfinite(model.train_step(x, y))


def test_a_budget_that_only_tiles_fit() -> None:
    model = load_example("nine_layer_mlp").model
    least = min(model.make_plan(budget="1GiB").arena_bytes, 8_000_000)
    with pytest.raises(BudgetError, match=f"'{TILED}' in allow"):
        model.make_plan(budget=least)
    allow = {"recompute", "in_place", "layerwise_update", TILED}
    plan = model.make_plan(budget=least, allow=allow)
    assert plan.arena_bytes <= least
    assert TILED in plan.ways


# -- results ---------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "-".join(o[1]))
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"weight_decay": 0.1},
        {"weight_regularizer": "l2norm", "disable_bias": True},
    ],
    ids=["plain", "decay", "penalty"],
)
def test_close_to_whole_gradients(optimizer: tuple[str, Given], values: Given) -> None:
    spec = replace(big(**values), optimizer=optimizer)
    gradients, weights = trained(spec)
    found, after = trained(Tiled.of(spec))
    assert_close(found, gradients)
    assert_close(after, weights)


def one_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is updated in tiles have only one."""
    monkeypatch.setattr(uses, "tile_rows", lambda weight: weight.shape[0])
    monkeypatch.setattr(update_calls, "tiles", lambda weight: [(0, weight.shape[0])])


@pytest.mark.parametrize("optimizer", OPTIMIZERS[1:], ids=lambda o: "-".join(o[1]))
def test_a_tile_as_large_as_the_gradient_gives_its_bits(
    optimizer: tuple[str, Given], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_tile(monkeypatch)
    spec = replace(big(weight_decay=0.1), optimizer=optimizer)
    for found, expected in zip(
        trained(Tiled.of(spec), 3), trained(spec, 3), strict=True
    ):
        for name, values in expected.items():
            assert found[name].tobytes() == values.tobytes(), name


def sequence(kind: str, **values: object) -> ModelSpec:
    layers = (
        ("input", {"name": "in", "input_shape": (1, 5, 6)}),
        (kind, {"name": "layer", **values}),
        ("fully_connected", {"name": "out", "unit": 3}),
        ("mse", {"name": "loss"}),
    )
    return ModelSpec(layers, (), {"batch_size": 3})


FAMILIES = {
    "attention": (
        sequence("multi_head_attention", num_heads=2),
        {"query_fc_weight", "key_fc_weight", "value_fc_weight", "fc_weight"},
    ),
    "tiled attention": (
        sequence("multi_head_attention", num_heads=2, attention="tiled"),
        {"query_fc_weight", "key_fc_weight", "value_fc_weight", "fc_weight"},
    ),
    "rnn": (sequence("rnn", unit=7), {"weight_ih", "weight_hh"}),
    "rnn all": (
        sequence("rnn", unit=7, return_sequences=True),
        {"weight_ih", "weight_hh"},
    ),
    "lstm": (
        sequence("lstm", unit=5, bidirectional=True, return_sequences=True),
        {"weight_ih", "weight_hh", "reverse_weight_ih", "reverse_weight_hh"},
    ),
    "gru": (sequence("gru", unit=5), {"weight_ih"}),
    "unrolled": (sequence("lstm", unit=5, unroll=True), set()),
}


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("optimizer", [OPTIMIZERS[0], OPTIMIZERS[1]], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_whose_gradients_are_products(
    family: str, optimizer: tuple[str, Given]
) -> None:
    spec, names = FAMILIES[family]
    spec = replace(spec, optimizer=optimizer)
    found = tiled_weights(spec.model().compile())
    assert found.get("layer", set()) == names
    gradients, weights = trained(spec)
    tiled_gradients, tiled = trained(Tiled.of(spec))
    assert_close(tiled_gradients, gradients, 2e-6)
    assert_close(tiled, weights, 2e-6)
    expected = outcome(Tiled.of(spec))
    assert expected == outcome(Tiled.of(spec), debug=True)
    assert expected == outcome(Tiled.of(spec, shares=False))


@pytest.mark.usefixtures("small_tiles")
@settings(
    derandomize=True,
    deadline=None,
    max_examples=how_many(20, 40),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(chains(), st.integers(1, 9))
def test_random_chains(spec: ModelSpec, n_reruns: int) -> None:
    """The same bits with and without recomputes, reuse, debug; close to the whole."""
    try:
        whole: Outcome = outcome(spec)
    except NonFiniteError:
        assume(False)
    assume(whole.is_finite)
    tiled = Tiled.of(spec)
    expected = outcome(tiled)
    assert expected == outcome(tiled), "again"
    assert expected == outcome(tiled, debug=True), "debug"
    assert expected == outcome(Tiled.of(spec.without_blocks())), "no blocks"
    assert expected == outcome(Tiled.of(spec, n_reruns=n_reruns)), "reruns"
    assert expected == outcome(Tiled.of(spec, shares=False)), "no reuse"
    gradients, _ = trained(spec, 0)
    assert_close(trained(tiled, 0)[0], gradients, 1e-5)
    plan = tiled_plan(spec.model())
    present = {t.name for t in plan.tensors if t.kind is TensorKind.GRADIENT}
    asked = ModelPlans(spec.model()).settings()
    if not asked.defers_updates:
        tiles_of = tiled_weights(spec.model().compile())
        assert not present & {f"{n}:{w}:grad" for n, ws in tiles_of.items() for w in ws}
    assert plan.execution_order == spec.model().make_plan().execution_order


def test_iterations_are_counted_and_the_last_batch_can_be_smaller() -> None:
    spec = replace(big(), optimizer=("adam", {"learning_rate": 0.001}))
    tiled, whole = Tiled.of(spec).initialized(), spec.initialized()
    x, y = spec.batch(10)
    for model in (tiled, whole):
        model.train((x, y), epochs=2, shuffle=False)
    assert_close(tiled.weights(), whole.weights(), 1e-5)


def test_computing_gradients_changes_nothing() -> None:
    spec = Tiled.of(replace(big(weight_regularizer="l2norm"), optimizer=OPTIMIZERS[3]))
    for debug in (False, True):
        model = spec.initialized(debug=debug)
        x, y = spec.batch(4)
        model.train_step(x, y)
        before = model.weights()
        first, second = (model.compute_gradients(x, y)[1] for _ in range(2))
        after = model.weights()
        for name, values in before.items():
            assert values.tobytes() == after[name].tobytes()
            assert first[name].tobytes() == second[name].tobytes()


def test_a_weight_that_becomes_infinite_in_a_tile_is_rolled_back() -> None:
    spec = big()
    spec = replace(spec, layers=(*spec.layers[:2], *spec.layers[3:]))  # fc is the last
    spec = Tiled.of(replace(spec, optimizer=("sgd", {"learning_rate": 3e38})))
    model = spec.initialized(debug=True)
    x, y = spec.batch(4)
    before = model.weights()
    with pytest.raises(NonFiniteError, match=r"apply_gradient.*into fc:weight"):
        model.train_step(x, 1e3 * y)
    after = model.weights()
    assert all(v.tobytes() == after[n].tobytes() for n, v in before.items())
