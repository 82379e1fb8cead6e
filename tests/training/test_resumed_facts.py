"""Every fact that a resumed training has to share with the one that was saved.

One is changed at a time; each has to be refused by its name, before anything changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.strategies import ModelSpec

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.definition.description import Description
from arena_ckpt.definition.model_definition import MODEL_PROPERTIES
from arena_ckpt.errors import SavedStateMismatchError
from arena_ckpt.model_plans import ModelPlans
from arena_ckpt.planning.plan import MemoryPlan
from arena_ckpt.planning.planner import make_plan
from arena_ckpt.planning.settings import DEFAULT_WAYS, WAYS
from arena_ckpt.training.saved_run import RunDocument, digest

SPEC = ModelSpec(
    (
        ("input", {"name": "in", "input_shape": (1, 1, 4)}),
        ("fully_connected", {"name": "fc", "unit": 600}),
        ("activation", {"name": "act", "activation": "relu"}),
        ("fully_connected", {"name": "wide", "unit": 300}),
        ("fully_connected", {"name": "out", "unit": 3}),
        ("cross_softmax", {"name": "loss"}),
    ),
    blocks=(("fc", "act"),),
    properties={"batch_size": 4},
    optimizer=("sgd", {"learning_rate": 0.1}),
)
ONE_MORE = ("activation", {"name": "more", "activation": "relu"})
RATES = {"learning_rate": 0.1, "decay_rate": 0.5, "decay_steps": 4}
X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1, 2, 0, 1])


@dataclasses.dataclass(frozen=True)
class Training:
    """All that a training is made of."""

    spec: ModelSpec = SPEC
    seed: int = 3
    schedule: tuple[str, dict[str, float]] | None = ("exponential", RATES)
    ways: frozenset[str] = DEFAULT_WAYS
    x: np.ndarray = dataclasses.field(default_factory=lambda: X)
    y: np.ndarray = dataclasses.field(default_factory=lambda: Y)
    shuffle: bool = True
    epochs: int = 1
    callbacks: tuple[Any, ...] = (ac.KeepBest(),)
    validation: tuple[Any, Any] = (X, Y)

    def model(self) -> Model:
        model = Model(seed=self.seed)
        for type_name, values in self.spec.layers:
            model.add_layer(type_name, **values)
        for block in self.spec.blocks:
            model.add_checkpoint_block(block)
        model.set_property(**(self.spec.properties or {}))
        model.set_optimizer(self.spec.optimizer[0], **self.spec.optimizer[1])
        if self.schedule:
            kind, values = self.schedule
            model.set_learning_rate_scheduler(ac.create_schedule(kind, **values))
        model.initialize(plan=self.plan(model))
        return model

    def plan(self, model: Model) -> MemoryPlan | None:
        if self.ways == DEFAULT_WAYS:
            return None
        settings = replace(ModelPlans(model).settings(), ways=self.ways)
        return make_plan(model.compile(), settings)

    def run(self, folder: Path, *, resume: bool) -> None:
        self.model().train(
            (self.x, self.y),
            epochs=self.epochs,
            shuffle=self.shuffle,
            callbacks=self.callbacks,
            validation=self.validation,
            checkpoint=folder,
            resume=resume,
            progress=False,
        )


BEGUN = Training()


def spec(**values: Any) -> Training:
    return replace(BEGUN, spec=replace(SPEC, **values))


def layers(number: int, **values: Any) -> Training:
    """Return the training with one layer of other values."""
    kind, given = SPEC.layers[number]
    changed = (kind, {**given, **values})
    return spec(layers=(*SPEC.layers[:number], changed, *SPEC.layers[number + 1 :]))


def other(array: np.ndarray, place: Any, value: float) -> np.ndarray:
    changed = array.copy()
    changed[place] = value
    return changed


REFUSED: dict[str, tuple[Training, str]] = {
    "Description.seed": (replace(BEGUN, seed=4), "its seed is 3, not 4"),
    "Description.properties": (
        spec(properties={"batch_size": 2}),
        "batch_size is 4, not 2",
    ),
    "Description.layers": (layers(2, activation="gelu"), "its layer 2 is"),
    "Description.optimizer": (
        spec(optimizer=("sgd", {"learning_rate": 0.2})),
        "its optimizer is",
    ),
    "Description.schedule": (
        replace(BEGUN, schedule=("exponential", {**RATES, "decay_rate": 0.25})),
        "its schedule is",
    ),
    "RunDocument.samples": (replace(BEGUN, x=X[::-1].copy()), "other data"),
    "RunDocument.shuffle": (replace(BEGUN, shuffle=False), "shuffle=True"),
    "RunDocument.micro_batches": (
        spec(properties={"batch_size": 4, "micro_batches": 2}),
        "micro_batches",
    ),
    "RunDocument.ways": (
        replace(BEGUN, ways=DEFAULT_WAYS | {"tiled_update"}),
        "no tiles, not 1 and tiled_update",
    ),
    "RunDocument.schedule": (replace(BEGUN, schedule=None), "its schedule is"),
    "RunDocument.callbacks": (replace(BEGUN, callbacks=()), "callbacks are KeepBest"),
    "RunDocument.validation": (
        replace(BEGUN, validation=(X[1:], Y[1:])),
        "other validation data",
    ),
    "batch_size": (spec(properties={"batch_size": 8}), "batch_size is 4, not 8"),
    "micro_batches": (
        spec(properties={"batch_size": 4, "micro_batches": 4}),
        "micro_batches is 1, not 4",
    ),
    "arithmetic": (
        spec(properties={"batch_size": 4, "arithmetic": "portable"}),
        "arithmetic is fast, not portable",
    ),
    "clip_grad_by_norm": (
        spec(properties={"batch_size": 4, "clip_grad_by_norm": 1e9}),
        "clip_grad_by_norm is None, not 1000000000",
    ),
    "drop_last": (
        spec(properties={"batch_size": 4, "drop_last": True}),
        "drop_last is false, not true",
    ),
    "the name of a layer": (layers(3, name="broad"), "its layer 3 is"),
    "what a layer trains": (layers(1, trainable="bias"), "its layer 1 is"),
    "a layer's decay": (layers(1, weight_decay=0.1), "its layer 1 is"),
    "one layer more": (
        spec(layers=(*SPEC.layers[:4], ONE_MORE, *SPEC.layers[4:])),
        "its layer 4 is",
    ),
    "the type of the optimizer": (
        spec(optimizer=("adam", {"learning_rate": 0.1})),
        "its optimizer is sgd",
    ),
    "the type of the schedule": (
        replace(BEGUN, schedule=("constant", {"learning_rate": 0.1})),
        "its schedule is",
    ),
    "one sample": (replace(BEGUN, x=other(X, (7, 3), 0.0)), "other data"),
    "one label": (replace(BEGUN, y=other(Y, 7, 2)), "other data"),
    "the order of the labels": (replace(BEGUN, y=Y[::-1].copy()), "other data"),
    "one sample less": (replace(BEGUN, x=X[:7], y=Y[:7]), "other data"),
    "labels as rows": (replace(BEGUN, y=np.eye(3, dtype=np.float32)[Y]), "other data"),
}
TAKEN: dict[str, Training] = {
    "Description.blocks": spec(blocks=()),
    "RunDocument.progress": replace(BEGUN, epochs=2),
    "epochs": spec(properties={"batch_size": 4, "epochs": 9}),
    "memory_optimization": spec(
        properties={"batch_size": 4, "memory_optimization": False}
    ),
    "threads": spec(properties={"batch_size": 4, "threads": 2}),
}
"""What may be another, because it changes no bit."""


def facts() -> Iterator[str]:
    """Yield everything that a saved state says of its training."""
    for document in (Description, RunDocument):
        for field in dataclasses.fields(document):
            yield f"{document.__name__}.{field.name}"
    for declared in MODEL_PROPERTIES:
        yield declared.name


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    BEGUN.run(folder, resume=False)
    return folder


def test_every_fact_is_changed() -> None:
    assert set(facts()) <= {*REFUSED, *TAKEN}
    assert set(WAYS) - DEFAULT_WAYS == {"tiled_update", "tiled_attention"}


@pytest.mark.parametrize("fact", REFUSED)
def test_a_training_with_another_fact_is_not_resumed(fact: str, saved: Path) -> None:
    training, says = REFUSED[fact]
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(SavedStateMismatchError) as caught:
        training.run(saved, resume=True)
    assert says in str(caught.value)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


@pytest.mark.parametrize("fact", TAKEN)
def test_a_training_that_changes_no_bit_is_resumed(fact: str, saved: Path) -> None:
    state = saved / sorted(path.name for path in saved.iterdir())[-1]
    before = state.read_bytes()
    try:
        TAKEN[fact].run(saved, resume=True)
    finally:
        for path in saved.iterdir():
            path.unlink()
        state.write_bytes(before)


def test_data_are_told_apart_by_names_types_shapes_and_all_values() -> None:
    model = BEGUN.model()
    assert model._session is not None
    samples = model._session.samples(X, Y)
    expected = digest(samples)
    assert digest(model._session.samples(X.copy(), Y.tolist())) == expected
    renamed = replace(samples, inputs={"other": X})
    reshaped = replace(samples, inputs={"in": X.reshape(4, 8)})
    without = replace(samples, labels=None)
    as_floats = replace(samples, labels=Y.astype(np.float64))
    digests = {digest(one) for one in (renamed, reshaped, without, as_floats)}
    assert len(digests | {expected}) == 5
