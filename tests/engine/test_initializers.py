"""How weights start: range, mean and deviation of each distribution, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.engine.initializers import initialize_weight
from arena_ckpt.layers.spec import WeightSpec

FAN_IN, FAN_OUT = 8, 24
N = 60_000

DEVIATIONS = {
    "lecun_normal": math.sqrt(1 / 8),
    "xavier_normal": math.sqrt(2 / 32),
    "he_normal": math.sqrt(2 / 8),
    "xavier_uniform": math.sqrt(2 / 32),
    "he_uniform": math.sqrt(2 / 8),
    "lecun_uniform": math.sqrt(1 / 8) / math.sqrt(3),
}
LIMITS = {
    "lecun_uniform": math.sqrt(1 / 8),
    "xavier_uniform": math.sqrt(6 / 32),
    "he_uniform": math.sqrt(6 / 8),
}
"""Uniform numbers lie within these, on either side of 0."""


def drawn(initializer: str, name: str = "fc:weight", seed: int = 0) -> np.ndarray:
    weight = np.full(N, np.nan, dtype=np.float32)
    spec = WeightSpec(
        "weight", (N,), initializer, FAN_IN, FAN_OUT, TensorLifespan.FORWARD
    )
    initialize_weight(weight, spec, name, seed)
    return weight


@pytest.mark.parametrize("initializer", DEVIATIONS)
def test_numbers_are_centred_and_have_their_deviation(initializer: str) -> None:
    weight = drawn(initializer)
    deviation = DEVIATIONS[initializer]
    assert abs(weight.mean(dtype=float)) < 0.03 * deviation
    assert weight.std(dtype=float) == pytest.approx(deviation, rel=0.02)


@pytest.mark.parametrize("initializer", LIMITS)
def test_uniform_numbers_fill_their_range(initializer: str) -> None:
    weight, limit = drawn(initializer), LIMITS[initializer]
    assert np.abs(weight).max() <= limit * (1 + 1e-6)
    assert weight.min() < -0.999 * limit < 0.999 * limit < weight.max()


def test_zeros_and_ones() -> None:
    assert (drawn("zeros") == 0).all()
    assert (drawn("ones") == 1).all()


def test_name_and_seed_decide_and_nothing_else() -> None:
    first = drawn("he_normal")
    assert (drawn("he_normal") == first).all()
    others = drawn("he_normal", name="fc:bias"), drawn("he_normal", seed=1)
    for other in (*others, others[0][::-1]):
        assert np.count_nonzero(other == first) < N // 100
    assert np.count_nonzero(others[0] == others[1]) < N // 100
