"""Rotary positions and masked softmax against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.kernel_calls import assert_same_bits, poison, run_entry, run_python

from arena_ckpt.kernels import heads


def normal(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("t", "n_heads", "width"), [(1, 1, 2), (5, 3, 8), (7, 2, 36)])
def test_rotate_turns_pairs(t: int, n_heads: int, width: int) -> None:
    x = normal(2, t, n_heads, width)
    angles = np.random.default_rng(1).uniform(-3, 3, (t, width // 2))
    turns = np.concatenate([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    y, by_hand, back = (poison(x.size) for _ in range(3))
    in_place = x.ravel().copy()
    sizes = (t, n_heads, width)
    run_entry(heads.rotate, x.ravel(), turns.ravel(), 1.0, y, *sizes)
    run_entry(heads.rotate, in_place, turns.ravel(), 1.0, in_place, *sizes)
    run_python(heads.rotate, x.ravel(), turns.ravel(), 1.0, by_hand, *sizes)
    assert_same_bits(in_place, y)
    assert_same_bits(by_hand, y)
    pairs = x[..., : width // 2] + 1j * x[..., width // 2 :]
    turned = pairs * np.exp(1j * angles)[None, :, None]
    expected = np.concatenate([turned.real, turned.imag], -1)
    np.testing.assert_allclose(y.reshape(x.shape), expected, atol=1e-5)
    run_entry(heads.rotate, y, turns.ravel(), -1.0, back, *sizes)
    np.testing.assert_allclose(back.reshape(x.shape), x, atol=1e-5)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", [None, (1, 1), (1, 3), (2, 1), (2, 3)])
@pytest.mark.parametrize(("t", "s"), [(1, 1), (4, 3), (5, 40)])
def test_masked_softmax(t: int, s: int, mask: Any, causal: int) -> None:
    n, n_heads = 2, 3
    x = 5 * normal(n, n_heads, t, s)
    added = np.zeros((1, 1, t, s), np.float32)
    if mask is not None:
        added = normal(*mask, t, s)
        added[np.random.default_rng(2).random(added.shape) < 0.4] = -np.inf
        added[..., 0, :] = -np.inf
    steps = (0, 0)
    if mask is not None:
        step = t * s
        steps = (mask[1] * step * (mask[0] > 1), step * (mask[1] > 1))
    rest = (n_heads, t, s, *steps, int(mask is not None), causal)
    y, by_hand, in_place = poison(x.size), poison(x.size), x.ravel().copy()
    run_entry(heads.masked_softmax, x.ravel(), added.ravel(), y, *rest)
    run_entry(heads.masked_softmax, in_place, added.ravel(), in_place, *rest)
    run_python(heads.masked_softmax, x.ravel(), added.ravel(), by_hand, *rest)
    assert_same_bits(in_place, y)
    assert_same_bits(by_hand, y)
    scores = x.astype(np.float64) + added
    if causal:
        scores = np.where(np.tri(t, s, dtype=bool), scores, -np.inf)
    most = scores.max(-1, keepdims=True)
    powers = np.exp(scores - np.where(most == -np.inf, 0, most))
    sums = powers.sum(-1, keepdims=True)
    expected = powers / np.where(sums == 0, 1, sums)
    np.testing.assert_allclose(y.reshape(x.shape), expected, atol=1e-6)
    assert not y.reshape(x.shape)[expected == 0].any()
