"""Inputs standardized by the training data: statistics, and where they are applied."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac
from arena_ckpt import Dataset, Model
from arena_ckpt.data.standardization import (
    CHANNEL,
    COLUMN,
    InputStatistics,
    Standardization,
    statistics_of,
)
from arena_ckpt.errors import (
    ArenaError,
    InvalidParameterError,
    NonFiniteDataError,
    SavedStateMismatchError,
    StateError,
)
from arena_ckpt.model import copy_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)) * [0.5, 300, 20] + [13, 900, -7]
Y = RNG.integers(0, 3, 40)


def table_model(*, standardized: bool = True, x: Any = X, seed: int = 0) -> Model:
    model = Model(seed=seed)
    model.add_layer("input", name="in", input_shape=(1, 1, 3))
    model.add_layer("fully_connected", name="fc", unit=8, activation="tanh")
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=8)
    model.set_optimizer("adam", learning_rate=0.01)
    if standardized:
        model.standardize((x, None))
    return model


def by_numpy(x: Any, of: Any = X) -> Any:
    """Return samples standardized as the arena does, in float32."""
    of = np.asarray(of, np.float32).astype(np.float64)
    mean, factor = np.float32(of.mean(axis=0)), np.float32(1 / of.std(axis=0))
    return (np.float32(x) - mean) * factor


# -- the statistics --------------------------------------------------------------------


def test_statistics_are_those_of_numpy() -> None:
    found = table_model().standardization
    assert found is not None
    one = found.inputs["in"]
    x = np.float32(X).astype(np.float64)
    assert one.axis == COLUMN
    assert one.mean == pytest.approx(x.mean(axis=0), rel=1e-12)
    assert one.deviation == pytest.approx(x.std(axis=0), rel=1e-12)


@pytest.mark.parametrize("axis", [COLUMN, CHANNEL])
def test_statistics_of_many_parts_are_those_of_the_whole(
    axis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = RNG.normal(size=(50, 2, 3, 4)).astype(np.float32) + np.float32(1e4)
    others = (0, 2, 3) if axis == CHANNEL else (0, 1, 2)
    monkeypatch.setattr("arena_ckpt.data.standardization._PART_ELEMS", 7 * 24)
    found = statistics_of({"in": x.reshape(50, -1)}, {"in": (2, 3, 4)}, {"in": axis})
    one = found.inputs["in"]
    exact = x.astype(np.float64)
    assert one.mean == pytest.approx(exact.mean(axis=others), rel=1e-12)
    assert one.deviation == pytest.approx(exact.std(axis=others), rel=1e-9)


def test_bytes_and_mapped_files_are_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(120, dtype=np.uint8).reshape(40, 3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    data = Dataset("bytes", mapped, Y)
    model = table_model(standardized=False)
    model.standardize(data)
    model.initialize()
    assert data.x.dtype == np.uint8
    plain = table_model(standardized=False)
    plain.initialize()
    expected = plain.predict(by_numpy(mapped, mapped))
    assert model.predict(data.x).tobytes() == expected.tobytes()


def test_a_constant_column_becomes_zero() -> None:
    x = X.copy()
    x[:, 1] = 1 / 3
    model = table_model(x=x)
    assert model.standardization is not None
    assert model.standardization.inputs["in"].deviation[1] == 1
    model.initialize()
    with_another = x.copy()
    with_another[:, 1] = np.float32(1 / 3)
    assert np.isfinite(model.predict(x)).all()
    assert model.predict(x).tobytes() == model.predict(with_another).tobytes()


def test_pictures_have_a_mean_for_each_channel() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=(3, 4, 5))
    model.add_layer("conv2d", name="conv", filters=2, kernel_size=(3, 3))
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="out", unit=2)
    model.add_layer("mse", name="loss")
    x = RNG.integers(0, 256, (10, 3, 4, 5)).astype(np.uint8)
    model.standardize((x, None))
    assert model.standardization is not None
    one = model.standardization.inputs["in"]
    assert one.axis == CHANNEL
    assert one.mean == pytest.approx(x.mean(axis=(0, 2, 3)))
    assert one.deviation == pytest.approx(x.std(axis=(0, 2, 3)))


def test_a_window_of_a_series_has_a_mean_for_each_column() -> None:
    model = Model()
    model.add_layer("input", name="in", input_shape=(1, 6, 2))
    model.add_layer("lstm", name="lstm", unit=3)
    model.add_layer("mse", name="loss")
    model.standardize((RNG.normal(size=(10, 6, 2)), None))
    assert model.standardization is not None
    assert len(model.standardization.inputs["in"].mean) == 2


def test_ids_stay_as_they_are() -> None:
    model = Model()
    model.add_layer("input", name="ids", input_shape=(1, 1, 4))
    model.add_layer("embedding", name="table", in_dim=9, out_dim=2)
    model.add_layer("flatten", name="flat")
    model.add_layer("input", name="in", input_shape=(1, 1, 3))
    model.add_layer("concat", name="both", axis=3, input_layers=["flat", "in"])
    model.add_layer("fully_connected", name="out", unit=2)
    model.add_layer("mse", name="loss")
    x = {"ids": RNG.integers(0, 9, (10, 4)), "in": RNG.normal(size=(10, 3))}
    model.standardize((x, None))
    assert model.standardization is not None
    assert set(model.standardization.inputs) == {"in"}
    model.initialize()
    assert model.predict(x).shape == (10, 1, 1, 2)


def test_ids_alone_are_refused() -> None:
    model = Model()
    model.add_layer("input", name="ids", input_shape=(1, 1, 4))
    model.add_layer("embedding", name="table", in_dim=9, out_dim=2)
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="out", unit=2)
    model.add_layer("mse", name="loss")
    with pytest.raises(InvalidParameterError, match="'ids' are ids or masks"):
        model.standardize((RNG.integers(0, 9, (10, 4)), None))


# -- where they are applied ------------------------------------------------------------


def test_raw_data_train_as_standardized_data_do() -> None:
    model, plain = table_model(), table_model(standardized=False)
    model.initialize()
    plain.initialize()
    x = by_numpy(X)
    for mine, its in ((X, x), (X[:5], x[:5])):
        assert model.predict(mine).tobytes() == plain.predict(its).tobytes()
    gradients = model.compute_gradients(X[:8], Y[:8])
    expected = plain.compute_gradients(x[:8], Y[:8])
    assert gradients[0] == expected[0]
    assert all((gradients[1][n] == expected[1][n]).all() for n in expected[1])
    assert model.train_step(X[:8], Y[:8]) == plain.train_step(x[:8], Y[:8])
    history = model.train((X, Y), validation=(X[:9], Y[:9]), epochs=3, progress=False)
    other = plain.train((x, Y), validation=(x[:9], Y[:9]), epochs=3, progress=False)
    losses = [(r.loss, r.validation) for r in history.epochs]
    assert losses == [(r.loss, r.validation) for r in other.epochs]
    assert model.evaluate((X, Y)) == plain.evaluate((x, Y))


def test_data_can_ask_for_it() -> None:
    """By the samples that are trained on, not by those of the validation."""
    data = ac.Dataset("mine", X, Y).standardize()
    assert "standardized" in repr(data)
    assert data.x.tobytes() == np.float32(X).tobytes()
    training, validation = data.split(0.25, seed=0)
    asked, told = table_model(standardized=False), table_model(standardized=False)
    told.standardize(training)
    for model in (asked, told):
        model.initialize()
        model.train(training, epochs=2, validation=validation)
    assert asked.standardization == told.standardization
    assert (
        asked.weights()["fc:weight"].tobytes() == told.weights()["fc:weight"].tobytes()
    )
    kept = asked.standardization
    asked.train(data, epochs=1)
    assert asked.standardization == kept


def test_data_that_ask_for_it_need_statistics() -> None:
    data = ac.Dataset("mine", X, Y).standardize()
    model = table_model(standardized=False)
    model.initialize()
    with pytest.raises(ac.StateError, match="mine: the data are to be standardized"):
        model.evaluate(data)
    raw = ac.Dataset("raw", by_numpy(X), Y)
    with pytest.raises(ac.StateError, match="train it on data that are standardized"):
        model.train(raw, validation=data)
    model.train(raw, epochs=1)
    with pytest.raises(ac.StateError, match="has no statistics"):
        model.train(data)


def test_batches_that_are_drawn_are_raw_too() -> None:
    def batches(x: Any) -> Iterator[Any]:
        yield from ((x[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8))

    model, plain = table_model(), table_model(standardized=False)
    model.initialize()
    plain.initialize()
    mine = model.train(batches(X), epochs=1, progress=False)
    its = plain.train(batches(by_numpy(X)), epochs=1, progress=False)
    assert mine.epochs[0].loss == its.epochs[0].loss


@pytest.mark.parametrize("debug", [False, True])
def test_a_saved_model_has_its_statistics(tmp_path: Path, debug: bool) -> None:
    model = table_model()
    model.initialize(debug=debug)
    model.train((X, Y), epochs=1, progress=False)
    model.save(tmp_path / "m.safetensors")
    loaded = ac.load(tmp_path / "m.safetensors")
    assert loaded.standardization == model.standardization
    assert loaded.predict(X).tobytes() == model.predict(X).tobytes()
    other = copy_of(loaded)
    other.initialize()
    other.set_weights(loaded.weights())
    assert other.predict(X).tobytes() == model.predict(X).tobytes()
    again = table_model(standardized=False)
    again.initialize()
    again.restore(tmp_path / "m.safetensors")
    assert again.predict(X).tobytes() == model.predict(X).tobytes()


def test_statistics_can_come_after_initialize_and_go_again() -> None:
    model, plain = table_model(standardized=False), table_model(standardized=False)
    model.initialize()
    plain.initialize()
    raw = model.predict(X)
    model.standardize((X, Y))
    assert model.predict(X).tobytes() == plain.predict(by_numpy(X)).tobytes()
    model.standardize(None)
    assert model.standardization is None
    assert model.predict(X).tobytes() == raw.tobytes()


def test_trained_weights_keep_their_statistics() -> None:
    model = table_model()
    model.initialize()
    model.train_step(X[:8], Y[:8])
    before = model.standardization
    model.standardize((X, Y))  # the same
    with pytest.raises(StateError, match="for 1 iterations with other statistics"):
        model.standardize((X[:9], Y))
    assert model.standardization == before


@pytest.mark.filterwarnings("ignore:the columns of the input .in. have unlike")
def test_a_training_is_resumed_with_its_statistics_alone(tmp_path: Path) -> None:
    def run(model: Model, *, epochs: int, resume: bool) -> Model:
        model.initialize()
        model.train(
            (X, Y), epochs=epochs, checkpoint=tmp_path, resume=resume, progress=False
        )
        return model

    run(table_model(), epochs=1, resume=False)
    for model, says in (
        (table_model(standardized=False), "its inputs are standardized"),
        (table_model(x=X[:9]), "standardized by other statistics"),
    ):
        with pytest.raises(SavedStateMismatchError, match=says):
            run(model, epochs=2, resume=True)
    resumed = run(table_model(), epochs=2, resume=True)
    whole = table_model()
    whole.initialize()
    whole.train((X, Y), epochs=2, progress=False)
    assert resumed.predict(X).tobytes() == whole.predict(X).tobytes()


def test_what_verify_and_debug_mode_check_holds() -> None:
    model = table_model()
    result = ac.verify(model, (X, Y))
    assert result.passed


# -- what cannot be --------------------------------------------------------------------


def test_data_with_nan_are_refused(tmp_path: Path) -> None:
    x = np.float32(X)
    x[3, 1] = np.nan
    with pytest.raises(NonFiniteDataError, match=r"x\[3, 1\]"):
        table_model(x=x)
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(NonFiniteDataError, match=r"\[3, 1\]"):
        table_model(x=np.load(tmp_path / "x.npy", mmap_mode="r"))


@pytest.mark.parametrize("data", [X, "x", 3, (X,), (X[:, :2], None)])
def test_other_data_are_refused(data: Any) -> None:
    model = table_model(standardized=False)
    with pytest.raises(ArenaError):
        model.standardize(data)
    assert model.standardization is None


def test_statistics_of_other_inputs_are_refused() -> None:
    model = table_model(standardized=False)
    model.initialize()
    assert model._session is not None
    two = InputStatistics(COLUMN, (0.0, 0.0), (1.0, 1.0))
    for inputs, says in (
        ({"in": two}, "of 2 columns, and it has 3"),
        ({"x": two}, "of the input 'x', and the model has 'in'"),
    ):
        with pytest.raises(InvalidParameterError, match=says):
            model._session.standardize(Standardization(inputs))


@pytest.mark.parametrize(
    ("axis", "mean", "deviation"),
    [
        ("row", (0.0,), (1.0,)),
        (COLUMN, (), ()),
        (COLUMN, (0.0, 1.0), (1.0,)),
        (COLUMN, (float("nan"),), (1.0,)),
        (COLUMN, (0.0,), (0.0,)),
        (COLUMN, (0.0,), (float("inf"),)),
    ],
)
def test_numbers_that_are_no_statistics_are_refused(
    axis: str, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> None:
    with pytest.raises(InvalidParameterError):
        InputStatistics(axis, mean, deviation)


def test_statistics_show_themselves_in_a_line() -> None:
    model = table_model()
    assert repr(model.standardization) == "<Standardization: in 3 columns>"
    assert pickle.loads(pickle.dumps(model)).standardization == model.standardization
