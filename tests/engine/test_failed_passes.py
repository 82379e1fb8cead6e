"""What a pass that fails, or that only looked at ids, leaves behind: nothing."""

from typing import Any

import numpy as np
import pytest

from arena_ckpt import Model
from arena_ckpt.errors import IdRangeError


def with_an_overflowing_row(*, reuse: bool) -> Model:
    """Softmax of the last row of the frozen table is NaN, and no id is wrong."""
    model = Model()
    model.add_layer("input", name="ids", input_shape="1:1:4")
    model.add_layer("embedding", name="e", in_dim=6, out_dim=4, trainable=False)
    model.add_layer("flatten", name="flat")
    model.add_layer("fully_connected", name="fc", unit=4)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=4, memory_optimization=reuse)
    model.initialize()
    table = model.weights()["e:weight"]
    table[5] = 3e38
    model.set_weights({"e:weight": table})
    return model


def test_a_prediction_survives_the_search_for_wrong_ids() -> None:
    x = np.array([[0, 1, 2, 3], [1, 2, 3, 4], [5, 5, 5, 5], [3, 2, 1, 0]] * 2)
    expected, found = (
        with_an_overflowing_row(reuse=reuse).predict(x) for reuse in (False, True)
    )
    np.testing.assert_array_equal(found, expected)
    good = np.isfinite(found).all(axis=(1, 2, 3))
    assert good.tolist() == [True, True, False, True] * 2
    np.testing.assert_allclose(found[good].sum(axis=(1, 2, 3)), 1, rtol=1e-6)


def test_a_later_pass_tells_the_loss_of_the_passes_before() -> None:
    x = np.array([[0, 1, 2, 3], [1, 2, 3, 4]] * 4)
    labels = np.arange(8) % 4
    model = with_an_overflowing_row(reuse=True)
    whole = model.evaluate((x, labels))
    halves = [model.evaluate((x[i : i + 4], labels[i : i + 4])) for i in (0, 4)]
    assert whole.loss == pytest.approx(np.mean([half.loss for half in halves]))
    assert whole.metric == np.mean([half.metric for half in halves])


@pytest.mark.parametrize("debug", [False, True])
def test_a_failed_micro_batch_moves_no_statistics(debug: bool) -> None:
    model = Model()
    model.add_layer("input", name="ids", input_shape="1:1:3")
    model.add_layer("embedding", name="e", in_dim=5, out_dim=4)
    model.add_layer("batch_normalization", name="bn")
    model.add_layer("fully_connected", name="fc", unit=2)
    model.add_layer("mse", name="loss")
    model.set_property(batch_size=8, micro_batches=2)
    model.initialize(debug=debug)
    generator = np.random.default_rng(0)
    x = generator.integers(0, 5, (8, 3))
    y: Any = generator.normal(size=(8, 1, 3, 2))
    before = model.weights()
    x[6, 1] = 9  # in the second micro-batch
    with pytest.raises(IdRangeError, match="sample 6, place 1"):
        model.train_step(x, y)
    for name, value in model.weights().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    x[6, 1] = 4
    model.train_step(x, y)
    assert (model.weights()["bn:moving_mean"] != before["bn:moving_mean"]).any()
