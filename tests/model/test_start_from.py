"""Weights that a model is given before it is initialized."""

from __future__ import annotations

import numpy as np
import pytest

from arena_ckpt import Model
from arena_ckpt.errors import (
    AfterInitializationError,
    InvalidParameterError,
    ShapeMismatchError,
)


def small() -> Model:
    model = Model(seed=1)
    model.add_layer("input", name="in", input_shape="1:1:3")
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("fully_connected", name="out", unit=2)
    model.add_layer("mse", name="loss")
    return model


WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_initialize_begins_with_what_was_given() -> None:
    drawn, model = small(), small()
    drawn.initialize(mode="inference")
    model.start_from({"fc:weight": WEIGHT})
    model.start_from({"fc:bias": [1, 2]})
    for copy in (model.definition(), model):
        copy.initialize(mode="inference")
        weights = copy.weights()
        np.testing.assert_array_equal(weights["fc:weight"], WEIGHT)
        np.testing.assert_array_equal(weights["fc:bias"], [1, 2])
        np.testing.assert_array_equal(
            weights["out:weight"], drawn.weights()["out:weight"]
        )


def test_a_layer_that_is_replaced_draws_its_weights_again() -> None:
    model = small()
    model.start_from({"fc:weight": WEIGHT, "out:bias": [3, 4]})
    model.replace_layer("out", unit=5)
    model.initialize(mode="inference")
    np.testing.assert_array_equal(model.weights()["fc:weight"], WEIGHT)
    np.testing.assert_array_equal(model.weights()["out:bias"], np.zeros(5))


def test_what_does_not_fit_is_refused() -> None:
    model = small()
    model.start_from({"fc:weight": WEIGHT.T})
    with pytest.raises(ShapeMismatchError, match="fc:weight"):
        model.initialize(mode="inference")
    assert not model.is_initialized
    model.start_from({"fc:weight": WEIGHT, "gone:weight": WEIGHT})
    with pytest.raises(InvalidParameterError, match="gone:weight"):
        model.initialize(mode="inference")


def test_it_is_too_late_once_initialized() -> None:
    model = small()
    model.initialize(mode="inference")
    with pytest.raises(AfterInitializationError, match="initialize"):
        model.start_from({"fc:weight": WEIGHT})
