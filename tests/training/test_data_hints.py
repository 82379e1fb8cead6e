"""Warnings about a model and its data: before a training, and about how it ended."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import run

from arena_ckpt import Model, load_example
from arena_ckpt.data.samples import Samples
from arena_ckpt.errors import ModelWarning
from arena_ckpt.examples import EXAMPLES
from arena_ckpt.graph.features import input_shapes
from arena_ckpt.training.data_hints import scale_hints

RNG = np.random.default_rng(0)
UNIT = RNG.normal(size=(40, 3))


def model_of(
    shape: Any = (1, 1, 3), *, loss: str = "mse", rate: float = 1e-4, first: str = ""
) -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape=shape)
    if first:
        model.add_layer(first, name="first")
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="out", unit=2)
    model.add_layer(loss, name="loss")
    model.set_property(batch_size=8)
    model.set_optimizer("sgd", learning_rate=rate)
    return model


def told(model: Model, x: Any, y: Any = None, *, epochs: int = 1) -> list[str]:
    """Return the warnings of a training."""
    if not model.is_initialized:
        model.initialize()
    y = np.zeros((len(x), 2)) if y is None else y
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.train((x, y), epochs=epochs, progress=False)
    assert all(one.category is ModelWarning for one in caught)
    return [str(one.message) for one in caught]


# -- the values of inputs --------------------------------------------------------------


def test_columns_of_unlike_ranges_are_named_once() -> None:
    x = UNIT.copy()
    x[:, 1] = np.linspace(300, 1700, 40)
    x[:, 2] = np.linspace(0.5, 1.5, 40)
    model = model_of(rate=1e-9)
    found = told(model, x)
    assert len(found) == 1
    assert "column 1 goes from 300 to 1700, column 2 from 0.5 to 1.5" in found[0]
    assert "1,400 times less" in found[0]
    assert "--standardize" in found[0]
    assert told(model, x) == []


@pytest.mark.parametrize("x", [UNIT * 300, UNIT + 200, UNIT * 1e-4, UNIT * 100])
def test_values_far_from_unit_scale_are_named(x: Any) -> None:
    (found,) = told(model_of(rate=1e-9), x)
    assert "meant for values of about 1" in found


def test_bytes_of_pictures_are_named() -> None:
    x = RNG.integers(0, 256, (40, 1, 8, 8)).astype(np.uint8)
    (found,) = told(model_of((1, 8, 8), rate=1e-9), x)
    assert "reach 255" in found


def test_nothing_is_said_of_what_is_fine() -> None:
    constant = UNIT.copy()
    constant[:, 0] = 5
    flat = RNG.normal(size=(40, 150)) * np.r_[np.full(20, 0.001), np.ones(130)]
    pixels = RNG.uniform(0, 1, (40, 784)) * (RNG.uniform(size=784) < 0.97)
    pixels[3, :10] = 1e-3
    wide = RNG.normal(size=(40, 3)) * 10
    for x in (UNIT, constant, UNIT * 20, UNIT * 0.05, flat, pixels, wide):
        assert told(model_of((1, 1, x.shape[1])), x) == []


def test_nothing_is_said_of_inputs_that_the_model_scales() -> None:
    x = UNIT * [1, 1000, 1]
    standardized = model_of()
    standardized.standardize((x, None))
    assert told(standardized, x) == []
    for first in ("batch_normalization", "layer_normalization"):
        assert not any("input" in one for one in told(model_of(first=first), x))


def drawn(*batches: Any, labels: Any = 0.0, rate: float = 1e-9) -> list[str]:
    """Return the warnings of a training on batches that a generator gives."""
    model = model_of(rate=rate)
    model.set_property(batch_size=40)
    model.initialize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = ((x, np.full((len(x), 2), labels)) for x in batches)
        model.train(made, epochs=1, progress=False)
    return [str(one.message) for one in caught]


def test_of_batches_that_are_drawn_the_first_is_looked_at() -> None:
    raw = UNIT * [1, 1000, 1]
    (found,) = drawn(raw, UNIT)
    assert "unlike ranges" in found
    assert drawn(UNIT, raw) == []
    (found,) = drawn(UNIT * 300)
    assert "meant for values of about 1" in found
    (found,) = drawn(*[UNIT] * 20, labels=1.0, rate=1.6)
    assert "times that of a model that predicts nothing, about 1" in found


def test_ranges_of_a_few_samples_are_chance() -> None:
    few = np.array([[0.1, 0.2, 0.3], [0.1001, 0.9, -0.8]])
    assert drawn(few) == []
    assert "unlike ranges" in drawn(np.repeat(few, 4, axis=0))[0]


def test_classes_that_are_only_in_the_validation_data_are_named() -> None:
    model = model_of(loss="cross_softmax")
    model.initialize()
    y = np.arange(40) // 20
    with pytest.warns(ModelWarning, match=r"samples of 1, .*--split stratified"):
        model.train((UNIT[:20], y[:20]), validation=(UNIT, y), progress=False)


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_example_has_unlike_inputs(name: str) -> None:
    example = load_example(name)
    if example.data is None:
        return
    graph = example.model.compile()
    samples = Samples.check(
        example.data.x,
        None,
        inputs=input_shapes(graph),
        output_shape=graph.prediction_shape,
        loss=None,
        reading=None,
    )
    assert scale_hints(graph, samples) == []


# -- how a training ended --------------------------------------------------------------


def test_a_loss_far_above_that_of_nothing_is_named() -> None:
    model = model_of(rate=1.6)
    found = told(model, UNIT, np.ones((40, 2)), epochs=20)
    assert len(found) == 1
    assert "it has diverged" in found[0]
    assert "times that of a model that predicts nothing, about 1" in found[0]


def test_a_loss_beyond_float32_is_named() -> None:
    model = model_of(rate=1e-30)
    model.initialize()
    model.set_weights({"out:weight": np.full((3, 2), 1e19)})
    x = np.ones((8, 3))
    (found,) = told(model, x, np.full((8, 2), 1e19))
    assert "beyond float32: it has diverged" in found


def test_a_loss_that_falls_or_is_small_is_not_named() -> None:
    y = RNG.normal(size=(40, 2))
    assert told(model_of(rate=0.05), UNIT, y, epochs=3) == []
    assert told(model_of(rate=0.05), UNIT, y * 1000, epochs=3) == []
    labels = RNG.integers(0, 2, 40)
    assert told(model_of(loss="cross_softmax", rate=0.5), UNIT, labels, epochs=3) == []


def test_the_command_says_it_and_strict_makes_it_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model_of(loss="cross_softmax", rate=0.1).save_ini("m.ini")
    x = UNIT * [1, 1000, 1] + [0, 3000, 0]
    table = np.c_[x, RNG.integers(0, 2, 40)]
    np.savetxt("raw.csv", table, delimiter=",", fmt=["%.3f", "%.1f", "%.3f", "%d"])
    words = ("train", "m.ini", "--data", "raw.csv", "--no-header", "--epochs", "3")
    result = run(*words)
    assert result.exit_code == 0
    assert "unlike ranges" in result.output
    assert "it has diverged" in result.output
    strict = run(*words, "--strict")
    assert strict.exit_code == 2
    assert "unlike ranges" in strict.output
    standardized = run(*words, "--strict", "--standardize", "--save", "s.safetensors")
    assert standardized.exit_code == 0, standardized.output
    assert "inputs are standardized by the training data: in (3 columns)" in (
        standardized.output
    )
    by_those = "inputs are standardized by the statistics in s.safetensors: in (3 col"
    begun = run(*words, "--init", "s.safetensors")
    gone_on = run("train", "s.safetensors", *words[2:5], "--epochs", "4")
    assert by_those in begun.output
    assert by_those in gone_on.output
    anew = run(*words, "--init", "s.safetensors", "--standardize")
    assert "inputs are standardized by the training data" in anew.output


# -- batch normalization ---------------------------------------------------------------


def normalized_model(momentum: float) -> Model:
    model = Model()
    model.add_layer("input", name="in", input_shape=(1, 1, 3))
    model.add_layer("fully_connected", name="fc", unit=16)
    model.add_layer("batch_normalization", name="bn", momentum=momentum)
    model.add_layer("activation", name="act", activation="relu")
    model.add_layer("fully_connected", name="out", unit=2)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=10)
    model.set_optimizer("adam", learning_rate=0.02)
    return model


def test_moving_statistics_that_lag_are_named() -> None:
    x = UNIT * 0.2 + 3  # means and variances far from 0 and 1
    y = (UNIT[:, 0] > 0).astype(int)
    (found,) = told(normalized_model(0.99), x, y, epochs=15)
    assert "'bn' (momentum 0.99) follow the weights too slowly for 60" in found
    assert "momentum=0.9" in found
    assert told(normalized_model(0.5), x, y, epochs=15) == []
