"""A model that is initialized for inference predicts what a trained one predicts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.example_data import prediction_bytes
from helpers.mixed_graphs import MixedSpec, mixed_graphs
from helpers.scale import how_many
from helpers.strategies import ModelSpec, chain, dags
from hypothesis import assume, given, settings

import arena_ckpt
from arena_ckpt import MemoryPlan, Model
from arena_ckpt.errors import (
    AfterInitializationError,
    EmptyDataError,
    IdRangeError,
    InferenceOnlyError,
    InvalidParameterError,
    NotInitializedError,
    OwnLayerError,
    PlanMismatchError,
    SavedStateMismatchError,
    StateError,
)
from arena_ckpt.examples import EXAMPLES, load_example
from arena_ckpt.layers import LAYER_TYPES, Binding, Call, Loss, register_layer
from arena_ckpt.layers.loss import CrossEntropySigmoid, CrossEntropySoftmax
from arena_ckpt.operations.families import losses
from arena_ckpt.verification.batches import make_batches

LARGE = ("resnet18",)
"""Examples whose training takes too long for one test among many."""


def predictions(
    make: Callable[[], Model], x: Any, trained: Model, **values: Any
) -> bytes:
    model = make()
    model.initialize(mode="inference", **values)
    model.set_weights(trained.weights())
    return prediction_bytes(model.predict(x))


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in LARGE])
def test_examples_predict_the_same_bits(name: str) -> None:
    def make() -> Model:
        model = load_example(name).model
        model.set_property(batch_size=2)
        return model

    trained = make()
    trained.initialize()
    (x, y), (more, _) = make_batches(trained.compile(), 2, 2)
    trained.train_step(x, y)
    both = {key: np.concatenate([x[key], more[key]]) for key in x}
    found = trained.predict(both)  # passes of two samples and of one
    expected = prediction_bytes(found)
    assert predictions(make, both, trained) == expected
    assert predictions(make, both, trained, debug=True) == expected
    assert predictions(make, both, trained, constants="arena") == expected
    half = trained.plan.arena_bytes // 2
    rams = {"fast": half, "slow": 2 * half}
    assert predictions(make, both, trained, memories=rams) == expected


@settings(derandomize=True, deadline=None, max_examples=how_many(20, 40))
@given(mixed_graphs())
def test_random_graphs_of_all_layers_predict_the_same_bits(spec: MixedSpec) -> None:
    check_bits(spec)


@settings(derandomize=True, deadline=None, max_examples=how_many(20, 40))
@given(dags())
def test_random_graphs_predict_the_same_bits(spec: ModelSpec) -> None:
    check_bits(spec)


def check_bits(spec: ModelSpec) -> None:
    x, _ = spec.batch(spec.batch_size)
    many = {name: np.concatenate([array, array[:1]]) for name, array in x.items()}
    trained = spec.initialized()
    expected = trained.predict(many)
    assume(np.isfinite(expected).all())  # debug mode refuses what is not
    assert predictions(spec.model, many, trained) == expected.tobytes()
    assert predictions(spec.model, many, trained, debug=True) == expected.tobytes()
    unshared = spec.with_properties(memory_optimization=False)
    assert predictions(unshared.model, many, trained) == expected.tobytes()


@pytest.mark.parametrize("width", [1, 2, 31, 33, 100])
@pytest.mark.parametrize(
    ("loss", "values"),
    [
        ("mse", {}),
        ("kld", {}),
        ("cross_softmax", {}),
        ("cross_softmax", {"per_token": True}),
        ("cross_softmax", {"label_smoothing": 0.1}),
        ("cross_softmax", {"per_token": True, "axis": 2}),
        ("cross_sigmoid", {}),
        ("cross_sigmoid", {"pos_weight": 3}),
        ("huber", {}),
    ],
)
def test_losses_predict_without_a_label(
    loss: str, values: dict[str, Any], width: int
) -> None:
    def make() -> Model:
        model = Model()
        model.add_layer("input", name="in", input_shape=(1, 3, width))
        model.add_layer(loss, name="loss", **values)
        model.set_property(batch_size=2)
        return model

    generator = np.random.default_rng(width)
    x = generator.normal(scale=20, size=(2, 3 * width)).astype(np.float32)
    x[0, 0], x[-1, -1] = 3e38, -3e38  # of which squares and differences overflow
    trained = make()
    trained.initialize()
    plan = make().make_plan(mode="inference")
    assert not [t.name for t in plan.tensors if t.name.endswith(":label")]
    with np.errstate(all="ignore"):
        assert predictions(make, x, trained) == trained.predict(x).tobytes()


# -- losses of one's own ---------------------------------------------------------------


class _Doubled(Loss):
    """A loss that predicts by a kernel, and knows no prediction without a label."""

    type_name = "doubled_sigmoid_of_a_test"

    def term_scale(self, shape: Any, n_terms: int) -> float:
        return 1.0 / n_terms

    def forward(self, tensors: Binding) -> list[Call]:
        arrays = [tensors.vector(role) for role in ("in0", "label", "out0")]
        return [Call(losses.cross_sigmoid_loss, (*arrays, tensors.scale, tensors.loss))]

    def calc_derivative(self, tensors: Binding) -> list[Call]:
        arrays = [tensors.vector(role) for role in ("out0", "label")]
        arguments = (*arrays, tensors.scale, tensors.vector("in0:grad"))
        return [Call(losses.cross_sigmoid_derivative, arguments)]


class _Sharper(CrossEntropySoftmax):
    """A softmax loss whose forward pass is another, as `predict` has to notice."""

    type_name = "sharper_softmax_of_a_test"

    def forward(self, tensors: Binding) -> list[Call]:
        arrays = [tensors.vector(role) for role in ("in0", "label", "out0")]
        return [Call(losses.cross_sigmoid_loss, (*arrays, tensors.scale, tensors.loss))]


@pytest.mark.parametrize("loss", [_Doubled, _Sharper])
def test_a_loss_without_a_prediction_of_its_own_has_a_label_of_zeros(
    loss: type[Loss], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAYER_TYPES, loss.type_name, loss)
    spec = chain(8, "relu", 4, loss=loss.type_name)
    plan = spec.model().make_plan(mode="inference")
    assert [t.name for t in plan.tensors if t.name.endswith(":label")] == ["loss:label"]
    x = spec.batch(8)[0]
    trained = spec.initialized()
    expected = trained.predict(x).tobytes()
    assert predictions(spec.model, x, trained) == expected
    assert predictions(spec.model, x, trained, debug=True) == expected


def test_who_needs_a_label_to_predict() -> None:
    def needs(loss: type[Loss]) -> bool:
        return loss({"name": "loss"}).needs_label_to_predict

    class Own(_Doubled):
        def predict(self, tensors: Binding) -> list[Call]:
            return []

    class Both(CrossEntropySigmoid):
        def forward(self, tensors: Binding) -> list[Call]:
            return []

        def predict(self, tensors: Binding) -> list[Call]:
            return []

    assert [needs(loss) for loss in (_Doubled, _Sharper)] == [True, True]
    assert [needs(loss) for loss in (Own, Both, CrossEntropySoftmax)] == [False] * 3


def test_a_prediction_that_cannot_be_called_is_refused() -> None:
    class Wrong(_Doubled):
        type_name = "wrong_prediction_of_a_test"

        def predict(self) -> list[Call]:  # type: ignore[override]
            return []

    with pytest.raises(InvalidParameterError, match=r"predict .*\(self, tensors\)"):
        register_layer(Wrong)
    assert Wrong.type_name not in LAYER_TYPES


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda: 1 / 0, "predict raised ZeroDivisionError"),
        (lambda: None, "predict returned None"),
    ],
)
def test_a_prediction_that_goes_wrong_is_named(
    result: Callable[[], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(_Doubled):
        type_name = "wrong_prediction_of_a_test"

        def predict(self, tensors: Binding) -> list[Call]:
            found: list[Call] = result()
            return found

    monkeypatch.setitem(LAYER_TYPES, Wrong.type_name, Wrong)
    model = chain(4, loss=Wrong.type_name).model()
    with pytest.raises(OwnLayerError, match=message) as caught:
        model.initialize(mode="inference")
    assert caught.value.layer == "loss"
    assert not model.is_initialized


# -- models without a loss -------------------------------------------------------------


def without_loss(activation: str = "softmax", **properties: Any) -> Model:
    model = Model(seed=3)
    model.add_layer("input", name="in", input_shape="1:1:6")
    model.add_layer("fully_connected", name="fc", unit=5, activation="gelu")
    model.add_layer("fully_connected", name="out", unit=3, activation=activation)
    model.set_property(batch_size=4, **properties)
    return model


def with_loss(activation: str = "softmax") -> Model:
    model = without_loss(activation)
    model.add_layer("mse", name="loss")
    return model


X = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("activation", ["softmax", "none", "relu"])
def test_a_model_without_a_loss_predicts(activation: str, debug: bool) -> None:
    model, trained = without_loss(activation), with_loss(activation)
    trained.initialize()
    model.initialize(mode="inference", debug=debug)
    # The same seed, so the same weights.
    assert model.predict(X).tobytes() == trained.predict(X).tobytes()
    assert model.predict(X).shape == (7, 1, 1, 3)


def test_a_view_as_the_last_layer_is_predicted() -> None:
    model, trained = without_loss(), with_loss()
    model.add_layer("multiout", name="again")
    trained.initialize()
    model.initialize(mode="inference", debug=True)
    assert model.predict(X).tobytes() == trained.predict(X).tobytes()


def test_ids_out_of_range_are_refused() -> None:
    model = Model()
    model.add_layer("input", name="ids", input_shape="1:1:3")
    model.add_layer("embedding", name="table", in_dim=4, out_dim=2)
    model.initialize(mode="inference")
    model.predict([[0, 1, 3]])
    with pytest.raises(IdRangeError, match="reads 4 in sample 0"):
        model.predict([[0, 1, 4]])


# -- what a model for inference can do -------------------------------------------------

TRAINING: dict[str, Callable[[Model], object]] = {
    "train_step": lambda m: m.train_step(X[:4], np.zeros((4, 3))),
    "train": lambda m: m.train((X, np.zeros((7, 3)))),
    "compute_gradients": lambda m: m.compute_gradients(X[:4], np.zeros((4, 3))),
    "evaluate": lambda m: m.evaluate((X, np.zeros((7, 3)))),
    "set_learning_rate_scheduler": lambda m: m.set_learning_rate_scheduler(None),
}


@pytest.mark.parametrize("what", TRAINING)
@pytest.mark.parametrize("make", [without_loss, with_loss])
def test_what_trains_or_needs_labels_is_refused(
    make: Callable[[], Model], what: str
) -> None:
    model = make()
    model.initialize(mode="inference")
    before = model.predict(X).tobytes()
    with pytest.raises(InferenceOnlyError, match=f"{what} needs labels") as caught:
        TRAINING[what](model)
    text = str(caught.value)
    assert isinstance(caught.value, StateError)
    assert caught.value.what == what
    assert ("add a loss as its last layer" in text) is (make is without_loss)
    assert "call initialize() without mode='inference'" in text
    assert model.predict(X).tobytes() == before


@pytest.mark.parametrize(
    "what", [w for w in TRAINING if w != "set_learning_rate_scheduler"]
)
def test_before_initialize_it_is_that_which_is_missing(what: str) -> None:
    with pytest.raises(NotInitializedError, match="initialize"):
        TRAINING[what](without_loss())


def test_nothing_else_can_be_changed_either() -> None:
    model = with_loss()
    model.initialize(mode="inference")
    for change in (
        lambda: model.set_optimizer("adam"),
        lambda: model.add_layer("flatten"),
        lambda: model.set_property(batch_size=9),
        lambda: model.initialize(),
        lambda: model.initialize(mode="inference"),
    ):
        with pytest.raises(AfterInitializationError):
            change()


def test_labels_that_are_missing_are_still_named_in_training() -> None:
    model = with_loss()
    model.initialize()
    with pytest.raises(EmptyDataError, match="no labels"):
        model.train_step(X[:4], None)


def test_plans_are_for_their_mode() -> None:
    model = with_loss()
    training, inference = model.make_plan(), model.make_plan(mode="inference")
    with pytest.raises(PlanMismatchError, match="is for mode='inference'") as caught:
        model.initialize(plan=inference)
    assert (caught.value.what, caught.value.found) == ("mode", "inference")
    with pytest.raises(PlanMismatchError, match="is for mode='train'"):
        model.initialize(plan=training, mode="inference")
    again = MemoryPlan.from_json(inference.to_json())
    assert model.initialize(plan=again, mode="inference") == inference
    assert model.predict(X).shape == (7, 1, 1, 3)


def test_a_plan_of_another_model_is_refused() -> None:
    other = without_loss("relu").make_plan(mode="inference")
    with pytest.raises(PlanMismatchError, match="differs in activation of layer"):
        with_loss().initialize(plan=other, mode="inference")


@pytest.mark.parametrize("debug", [False, True])
def test_weights_of_a_training_go_in_and_come_out(tmp_path: Path, debug: bool) -> None:
    trained = with_loss()
    trained.set_optimizer("adam")
    trained.initialize()
    for _ in range(3):
        trained.train_step(X[:4], np.zeros((4, 3)))
    trained.save(tmp_path / "trained.safetensors")

    model = with_loss()
    model.set_optimizer("adam")
    model.initialize(mode="inference", debug=debug)
    model.restore(tmp_path / "trained.safetensors")  # the states stay in the file
    assert model.predict(X).tobytes() == trained.predict(X).tobytes()
    model.save(tmp_path / "model.safetensors")

    loaded = arena_ckpt.load(tmp_path / "model.safetensors")
    assert loaded.plan == model.plan
    assert loaded.plan.is_inference
    assert loaded.predict(X).tobytes() == trained.predict(X).tobytes()
    with pytest.raises(SavedStateMismatchError, match="fc:weight:first_moment"):
        trained.restore(tmp_path / "model.safetensors")


def test_a_model_without_a_loss_is_saved_and_loaded(tmp_path: Path) -> None:
    model = without_loss()
    model.initialize(mode="inference")
    model.save(tmp_path / "model.safetensors")
    loaded = arena_ckpt.load(tmp_path / "model.safetensors")
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    model.save_ini(tmp_path / "model.ini")
    read = arena_ckpt.load_ini(tmp_path / "model.ini")
    assert read.make_plan(mode="inference") == model.plan


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    trained = chain(8, 4).initialized()
    trained.save(tmp_path / "other.safetensors")
    model = without_loss()
    model.initialize(mode="inference")
    with pytest.raises(SavedStateMismatchError, match="of another model"):
        model.restore(tmp_path / "other.safetensors")


def test_seconds_of_steps_are_measured() -> None:
    model = with_loss()
    plan = model.make_plan(mode="inference")
    seconds = model.step_seconds(plan)
    assert len(seconds) == len(plan.steps)
    assert max(seconds) > 0


def test_predictions_of_two_processes_are_the_same(tmp_path: Path) -> None:
    model = without_loss()
    model.initialize(mode="inference")
    model.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "x.npy", X)
    code = (
        "import sys, numpy, arena_ckpt\n"
        "model = arena_ckpt.load(sys.argv[1] + '/model.safetensors')\n"
        "x = numpy.load(sys.argv[1] + '/x.npy')\n"
        "sys.stdout.buffer.write(model.predict(x).tobytes())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True
    )
    assert done.stdout == model.predict(X).tobytes()


@pytest.mark.parametrize(
    ("unit", "n", "shape"), [(3, 2, (2, 3)), (1, 2, (2,)), (1, 1, (1,)), (3, 1, (1, 3))]
)
def test_squeeze_leaves_out_axes_of_one(unit: int, n: int, shape: tuple[int]) -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape="1:1:2")
    model.add_layer("fully_connected", name="out", unit=unit)
    model.initialize(mode="inference")
    x = np.ones((n, 2))
    found = model.predict(x, squeeze=True)
    assert found.shape == shape
    assert model.predict(x).shape == (n, 1, 1, unit)
    assert found.tobytes() == model.predict(x).tobytes()
    with pytest.raises(InvalidParameterError, match="squeeze=1 is not possible"):
        model.predict(x, squeeze=1)  # type: ignore[arg-type]
