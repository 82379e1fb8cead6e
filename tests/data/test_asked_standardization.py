"""Input layers with ``standardization=true``: the first training takes statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import run

import arena_ckpt as ac
from arena_ckpt.errors import (
    ArenaWarning,
    EmptyDataError,
    InvalidParameterError,
    StateError,
    UnknownPropertyError,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)) * [0.5, 300, 20] + [13, 900, -7]
Y = RNG.integers(0, 3, 40)
INI = """\
[Model]
type = NeuralNetwork
batch_size = 8
[Optimizer]
type = adam
learning_rate = 0.01
[in]
type = input
input_shape = 1:1:3
{asked}
[out]
type = fully_connected
unit = 3
[loss]
type = cross_softmax
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def model_of(asked: str = "standardization = true") -> ac.Model:
    Path("m.ini").write_text(INI.format(asked=asked))
    return ac.load_ini("m.ini")


def means(model: ac.Model) -> Any:
    assert model.standardization is not None
    return model.standardization.inputs["in"].mean


def test_the_first_training_takes_the_statistics_of_its_data() -> None:
    asked, called = model_of(), model_of(asked="")
    called.standardize((X, None))
    for model in (asked, called):
        model.initialize()
        model.train((X, Y), epochs=2, progress=False)
    assert asked.standardization == called.standardization
    assert asked.predict(X).tobytes() == called.predict(X).tobytes()
    asked.train((X * 1.01, Y), epochs=1, progress=False)
    assert asked.standardization == called.standardization, "trained weights keep them"
    asked.save("s.safetensors")
    loaded = ac.load("s.safetensors")
    assert loaded.predict(X).tobytes() == asked.predict(X).tobytes()
    asked.save_ini("again.ini")
    assert "standardization = true" in Path("again.ini").read_text()


def test_statistics_that_were_given_before_are_kept() -> None:
    model = model_of()
    model.standardize((X * 2, None))
    before = means(model)
    model.initialize()
    model.train((X, Y), epochs=1, progress=False)
    assert means(model) == before


def test_nothing_is_loaded_raw_before_there_are_statistics(tmp_path: Path) -> None:
    model = model_of()
    with pytest.raises(StateError, match=r"export_c needs the statistics of 'in'"):
        ac.export_c(model, tmp_path / "c")
    model.initialize()
    for call in (
        lambda: model.predict(X),
        lambda: model.evaluate((X, Y)),
        lambda: model.train_step(X[:8], Y[:8]),
        lambda: model.compute_gradients(X[:8], Y[:8]),
        lambda: model.train(iter([(X[:8], Y[:8])]), epochs=1, progress=False),
    ):
        with pytest.raises(StateError, match=r"needs the statistics of 'in', .*train"):
            call()
    assert ac.verify(model, (X, Y)).passed


def test_a_training_that_does_not_begin_leaves_no_statistics() -> None:
    model = model_of()
    model.set_property(batch_size=64, drop_last=True)
    model.initialize()
    with pytest.raises(EmptyDataError):
        model.train((X, Y), epochs=1, progress=False)
    assert model.standardization is None


def test_ids_cannot_be_asked_for() -> None:
    model = ac.Model()
    model.add_layer("input", name="in", input_shape="1:1:4", standardization=True)
    model.add_layer("embedding", name="embed", in_dim=9, out_dim=2)
    model.add_layer("mse", name="loss")
    model.initialize()
    ids = RNG.integers(0, 9, (8, 4))
    with pytest.raises(InvalidParameterError, match=r"'in' are ids or masks"):
        model.train((ids, np.zeros((8, 8))), progress=False)


def test_of_two_inputs_only_the_one_that_asks_is_standardized() -> None:
    model = ac.Model()
    model.add_layer("input", name="a", input_shape="1:1:3", standardization=True)
    model.add_layer("input", name="b", input_shape="1:1:3")
    model.add_layer("add", name="sum", input_layers="a,b")
    model.add_layer("fully_connected", name="out", unit=3)
    model.add_layer("cross_softmax", name="loss")
    model.initialize()
    model.train(({"a": X, "b": RNG.normal(size=(40, 3))}, Y), epochs=1, progress=False)
    assert model.standardization is not None
    assert [*model.standardization.inputs] == ["a"]


@pytest.mark.parametrize("asked", ["", "normalization = false\nstandardization=false"])
def test_what_nntrainer_leaves_off_is_off(asked: str) -> None:
    model = model_of(asked=asked)
    model.initialize()
    model.predict(X)
    assert model.standardization is None


def test_normalization_by_each_batch_is_left_out_with_advice() -> None:
    said = r"not taken over: \[in\] normalization in line 10 .*each batch.*standardiz"
    with pytest.warns(ArenaWarning, match=said):
        model = model_of(asked="normalization = true")
    model.initialize()
    model.predict(X)
    assert model.standardization is None
    for name in ("standardization", "standardize"):
        with pytest.raises(UnknownPropertyError, match=r"input layer"):
            ac.Model().add_layer("fully_connected", **{name: True})


def test_the_command_line_says_it_and_takes_statistics_of_the_training_part() -> None:
    model_of()
    np.savez("t.npz", x=X, y=Y)
    words = ("train", "m.ini", "--data", "t.npz", "--epochs", "2")
    result = run(*words, "--validation-split", "0.5", "--save", "s.safetensors")
    assert result.exit_code == 0, result.output
    assert "inputs are standardized by the training data: in (3 columns)" in (
        result.stdout
    )
    training, _ = ac.load_npz("t.npz").split(0.5, seed=0)
    x = np.float32(training.x).astype(np.float64)
    assert means(ac.load("s.safetensors")) == pytest.approx(x.mean(axis=0))
    again = run("train", "s.safetensors", "--data", "t.npz", "--epochs", "1")
    assert again.exit_code == 0, again.output
    refused = run("export", "m.ini", "--to", "c", "-o", "c")
    assert refused.exit_code == 1
    assert "standardization=true and was not trained yet" in refused.stderr
