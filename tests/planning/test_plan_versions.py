"""What a plan states of its model, in this version of the format and before."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from helpers.older_plans import older_text
from helpers.strategies import chain

import arena_ckpt as ac
from arena_ckpt import MemoryPlan, Model, create_schedule, load_example
from arena_ckpt.common.properties import Kind, Property
from arena_ckpt.common.version import __version__
from arena_ckpt.errors import PlanFormatError, PlanMismatchError
from arena_ckpt.layers import LAYER_TYPES
from arena_ckpt.layers.dense import FullyConnected
from arena_ckpt.planning.plan import checksum, memory_checksum
from arena_ckpt.planning.training_facts import PlanPart, PlanTraining

SPEC = chain(16, "gelu", 16, "relu", 4, optimizer=("adam", {"learning_rate": 0.01}))

OF_VERSION_5 = {
    "nine_layer_mlp": "fcb65726aa35af96afffbaffe1328a67",
    "keyword_gru": "eb201a9fc49b5b09c3c04b189c2fa4b7",
    "resnet8": "05e9b3ca17c1eb07790dc4ea8452b0d0",
}
"""Beginnings of checksums that plans had in version 5 of the format."""


# -- what is stated --------------------------------------------------------------------


def test_layers_state_the_properties_that_are_not_their_defaults() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:8")
    model.add_layer("fully_connected", name="a", unit=8, activation="gelu")
    model.add_layer("dropout", name="d", dropout_rate=0.25)
    model.add_layer("fully_connected", name="b", unit=8, shared_from="a")
    model.add_layer(
        *("fully_connected", ["unit=3", "trainable=false", "disable_bias=false"]),
        name="c",
    )
    model.add_layer("cross_softmax", name="loss")
    plan = model.make_plan()
    assert {layer.name: layer.properties for layer in plan.layers} == {
        "in": {"input_shape": "1:1:8"},
        "a": {"unit": "8"},
        "a/activation_realized": {"activation": "gelu"},
        "d": {"dropout_rate": "0.25"},
        "b": {"unit": "8", "shared_from": "a"},
        "c": {"unit": "3", "trainable": "false"},
        "loss": {},
    }


def test_what_is_given_as_its_default_is_as_if_it_were_left_out() -> None:
    given, left_out = SPEC.model(), SPEC.model()
    given.set_optimizer("adam", learning_rate=0.01, beta1=0.9)
    assert given.make_plan() == left_out.make_plan()


def test_a_plan_states_how_weights_are_updated() -> None:
    model = SPEC.with_properties(clip_grad_by_norm=0.5, arithmetic="portable").model()
    schedule = create_schedule("step", learning_rate=(0.1, 0.01), iteration=(10,))
    model.set_learning_rate_scheduler(schedule)
    plan = model.make_plan()
    assert plan.arithmetic == "portable"
    assert plan.training == PlanTraining(
        PlanPart(
            "adam",
            {
                **{"learning_rate": "0.01", "beta1": "0.9", "beta2": "0.999"},
                "epsilon": "1e-07",
            },
        ),
        PlanPart("step", {"learning_rate": "0.1, 0.01", "iteration": "10"}),
        0.5,
    )
    assert MemoryPlan.from_json(plan.to_json()) == plan


def test_inference_states_no_updates() -> None:
    plan = SPEC.model().make_plan(mode="inference")
    assert (plan.arithmetic, plan.training) == ("fast", None)
    assert MemoryPlan.from_json(plan.to_json()) == plan


class Scaled(FullyConnected):
    type_name = "scaled_by_hand"
    properties = (
        *FullyConnected.properties,
        Property("note", Kind("a text", str), None, "for people"),
    )


def test_layers_of_ones_own_state_theirs_and_nothing_unprintable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LAYER_TYPES, "scaled_by_hand", Scaled)  # type: ignore[misc]
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:8")
    model.add_layer(Scaled({"name": "own", "unit": 8, "note": "two\nlines"}))
    model.add_layer("mse", name="loss")
    plan = model.make_plan()
    assert plan.layers[1].properties == {"unit": "8", "note": "two\\nlines"}
    assert MemoryPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("layers", 1, "properties", "unit"), "1\n6"),
        (("layers", 1, "properties", "\ud800"), "1"),
        (("training", "optimizer", "type_name"), "ad\0am"),
        (("training", "optimizer", "properties", "beta1"), "\x1b[31m"),
    ],
    ids=str,
)
def test_what_cannot_be_printed_is_refused(place: tuple[Any, ...], value: str) -> None:
    document = json.loads(SPEC.model().make_plan().to_json())
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    document["checksum"] = checksum(document)
    with pytest.raises(PlanFormatError, match="cannot be printed"):
        MemoryPlan.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("arithmetic", "exact", "the arithmetic is 'exact'"),
        ("clip_grad_by_norm", -1.0, "clip_grad_by_norm is -1.0"),
        ("clip_grad_by_norm", float("nan"), "clip_grad_by_norm is nan"),
    ],
)
def test_facts_that_cannot_be_are_refused(key: str, value: object, says: str) -> None:
    document = json.loads(SPEC.model().make_plan().to_json())
    (document if key in document else document["training"])[key] = value
    document["checksum"] = checksum(document)
    with pytest.raises(PlanFormatError, match=f"damaged: {says}"):
        MemoryPlan.from_json(json.dumps(document))


# -- who wrote it ----------------------------------------------------------------------


def test_the_text_names_who_wrote_it_and_the_plan_does_not_depend_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = SPEC.model().make_plan()
    document = json.loads(plan.to_json())
    assert document["written_by"] == f"arena_ckpt {__version__}"
    monkeypatch.setattr("arena_ckpt.planning.plan.__version__", "99.0")
    later = json.loads(plan.to_json())
    assert later["written_by"] == "arena_ckpt 99.0"
    assert later["checksum"] == document["checksum"] == plan.checksum
    assert MemoryPlan.from_json(json.dumps(later)) == plan


def test_a_newer_plan_is_refused_with_the_name_of_its_writer() -> None:
    document = json.loads(SPEC.model().make_plan().to_json())
    document |= {"version": 9, "written_by": "arena_ckpt 7.1"}
    with pytest.raises(PlanFormatError) as caught:
        MemoryPlan.from_json(json.dumps(document))
    assert str(caught.value) == (
        "the plan has version 9 (written by arena_ckpt 7.1), this package reads the "
        "versions 4, 5 and 6; make the plan again with this package: arena-ckpt plan "
        "MODEL -o PLAN.json"
    )


# -- earlier versions ------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 5])
def test_a_plan_of_an_earlier_version_serves_the_model_it_is_of(version: int) -> None:
    model = SPEC.model()
    plan = model.make_plan()
    read = MemoryPlan.from_json(older_text(plan, version))
    assert read != plan
    assert (read.arithmetic, read.training) == (None, None)
    assert {layer.properties for layer in read.layers} == {None}
    bare = tuple(replace(layer, properties=None) for layer in plan.layers)
    assert read == replace(plan, layers=bare, arithmetic=None, training=None)
    assert MemoryPlan.from_json(read.to_json()) == read
    model.initialize(plan=read)
    losses = [model.train_step(*SPEC.batch(8, seed=n)) for n in range(3)]
    again = SPEC.initialized()
    assert losses == [again.train_step(*SPEC.batch(8, seed=n)) for n in range(3)]


@pytest.mark.parametrize("version", [4, 5])
def test_a_plan_of_an_earlier_version_is_refused_by_another_model(version: int) -> None:
    read = MemoryPlan.from_json(older_text(SPEC.model().make_plan(), version))
    other = chain(16, "gelu", 17, "relu", 4, optimizer=SPEC.optimizer).model()
    with pytest.raises(PlanMismatchError, match="not one of this model"):
        other.initialize(plan=read)


def model_of_version_5(name: str) -> Model:
    """Return an example with the checkpoint blocks that it had then."""
    if name != "resnet8":
        return load_example(name).model
    model = load_example(name, checkpoint=False).model
    for block in ("s0b0", "s1b0", "s2b0"):
        names = [layer.name for layer in model.layers if layer.name.startswith(block)]
        model.add_checkpoint_block(names, block)
    return model


@pytest.mark.parametrize("name", OF_VERSION_5)
def test_what_a_device_saved_is_still_known_by_its_checksum(name: str) -> None:
    """The plan's part of the digest is the checksum that version 5 gave the plan."""
    plan = model_of_version_5(name).make_plan()
    assert memory_checksum(plan).startswith(f"sha256:{OF_VERSION_5[name]}")
    assert json.loads(older_text(plan, 5))["checksum"] == memory_checksum(plan)
    assert plan.checksum != memory_checksum(plan)


# -- a plan of another model -----------------------------------------------------------


def of_another(change: str) -> Model:
    """Return a model whose plan has the same sizes and steps as that of SPEC."""
    spec = {
        "activation": chain(16, "swish", 16, "relu", 4, optimizer=SPEC.optimizer),
        "optimizer": replace(SPEC, optimizer=("adamw", {"learning_rate": 0.01})),
        "arithmetic": SPEC.with_properties(arithmetic="portable"),
    }[change]
    return spec.model()


@pytest.mark.parametrize(
    ("change", "what", "says"),
    [
        (
            *("activation", "layers"),
            "activation of layer act1 (activation): in the plan gelu, in the model "
            "swish",
        ),
        (
            "optimizer",
            "training",
            "the optimizer: in the plan adam, in the model",
        ),
        ("arithmetic", "arithmetic", "arithmetic: in the plan fast, in the model port"),
    ],
)
def test_a_plan_of_a_model_that_computes_otherwise_is_refused(
    change: str, what: str, says: str
) -> None:
    other = of_another(change)
    plan = SPEC.model().make_plan()
    assert memory_checksum(plan) == memory_checksum(other.make_plan())
    with pytest.raises(PlanMismatchError) as caught:
        other.initialize(plan=plan)
    assert f"which differs in {says}" in str(caught.value)
    assert caught.value.what == what


def test_a_default_is_named_by_its_value() -> None:
    plan = SPEC.model().make_plan()
    layers = list(SPEC.layers)
    layers[1] = (layers[1][0], {**layers[1][1], "weight_decay": 0.1})
    weighed = replace(SPEC, layers=tuple(layers)).model()
    with pytest.raises(PlanMismatchError) as caught:
        weighed.initialize(plan=plan)
    assert "weight_decay of layer fc1 (fully_connected): in the plan 0.0, in the" in (
        str(caught.value)
    )
    assert (caught.value.layer, caught.value.property) == ("fc1", "weight_decay")


def test_sgd_with_nesterov_is_another_update() -> None:
    momentum = replace(SPEC, optimizer=("sgd", {"momentum": 0.9}))
    nesterov = replace(SPEC, optimizer=("sgd", {"momentum": 0.9, "nesterov": True}))
    with pytest.raises(PlanMismatchError, match=r"nesterov of the optimizer sgd: .*"):
        nesterov.model().initialize(plan=momentum.model().make_plan())


def test_learning_rates_may_change_under_a_plan() -> None:
    """They are numbers that kernels read; a plan chosen before still serves."""
    plan = SPEC.model().make_plan()
    other = replace(SPEC, optimizer=("adam", {"learning_rate": 0.5, "beta1": 0.5}))
    model = other.model()
    model.set_learning_rate_scheduler(create_schedule("constant", learning_rate=0.3))
    assert model.initialize(plan=plan) == plan


def test_a_saved_model_whose_schedule_changed_is_loaded(tmp_path: Any) -> None:
    model = SPEC.initialized()
    model.set_learning_rate_scheduler(create_schedule("constant", learning_rate=0.3))
    model.save(tmp_path / "it")
    assert ac.load(tmp_path / "it").plan == model.plan
