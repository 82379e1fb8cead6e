"""Networks of the benchmark in plain JAX: forward, gradients and update in one jit.

Functions take their weights one after another, in the order of the example's layers.
Pictures are channels last, which is what XLA's convolutions take on a processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from twins import (
    EXPANSIONS,
    NORM_EPSILON,
    RESNETS,
    TEXTS,
    Reference,
    is_moving,
    places,
    require_same,
)

MOVING_SHARE = 0.9
"""What batch normalization keeps of a running statistic at a step."""


def training_step(reference: Reference) -> tuple[Callable[[], float], int]:
    """Return one training step of the twin of a network, and its peak of bytes.

    The bytes are those of weights, optimizer states, batch and XLA's temporaries.
    """
    trained, moving = _weights(reference.weights)
    forward = _network(reference)
    pictures = reference.example not in TEXTS
    x = jnp.asarray(reference.x.transpose(0, 2, 3, 1) if pictures else reference.x)
    y = jnp.asarray(reference.y)

    def loss_of(trained: Any, moving: Any, key: Any, x: Any, y: Any) -> Any:
        taken = _Taken(iter(trained), iter(moving), key)
        logits = forward(taken, x)
        classes = jax.nn.log_softmax(logits)
        of_label = jnp.take_along_axis(classes, y[..., None], -1)
        return -of_label.mean(), taken.moved

    def step(carried: Any, x: Any, y: Any) -> Any:
        trained, moving, states, count, key = carried
        key, used = jax.random.split(key)
        (loss, moving), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trained, moving, used, x, y
        )
        if reference.clip_norm:
            norm = jnp.sqrt(sum((g**2).sum() for g in gradients))
            share = jnp.minimum(1.0, reference.clip_norm / (norm + 1e-6))
            gradients = [g * share for g in gradients]
        count = count + 1
        trained, states = _update(
            reference.optimizer, trained, gradients, states, count
        )
        return loss, (trained, moving, states, count, key)

    n_states = 1 if reference.optimizer["type"] == "sgd" else 2
    states = [[jnp.zeros_like(w) for w in trained] for _ in range(n_states)]
    carried = (trained, moving, states, jnp.zeros((), jnp.float32), jax.random.key(0))
    losses = []
    if reference.has_dropout:
        losses.append(float(jax.jit(loss_of)(trained, moving, None, x, y)[0]))
    compiled = jax.jit(step, donate_argnums=0).lower(carried, x, y).compile()

    def run() -> float:
        nonlocal carried
        loss, carried = compiled(carried, x, y)
        return float(loss)

    if not reference.has_dropout:
        losses += [run() for _ in reference.losses]
    n_parameters = sum(w.size for w in carried[0])
    require_same("JAX", n_parameters, losses, reference)
    sizes = compiled.memory_analysis()
    n_bytes = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    n_bytes += sizes.temp_size_in_bytes - sizes.alias_size_in_bytes
    return run, n_bytes


def _weights(weights: dict[str, np.ndarray]) -> tuple[list[Any], list[Any]]:
    """Return what is trained and the running statistics; filters as (h, w, in, out)."""
    trained, moving = [], []
    for name, weight in weights.items():
        value = weight.transpose(2, 3, 1, 0) if name.endswith(":filter") else weight
        (moving if is_moving(name) else trained).append(jnp.asarray(value))
    return trained, moving


def _update(
    properties: dict[str, Any], trained: Any, gradients: Any, states: Any, count: Any
) -> Any:
    rate = properties["learning_rate"]
    if properties["type"] == "sgd":
        (velocities,) = states
        share = properties["momentum"]
        pairs = zip(velocities, gradients, strict=True)
        velocities = [share * v + g for v, g in pairs]
        pairs = zip(trained, velocities, strict=True)
        return [w - rate * v for w, v in pairs], [velocities]
    beta1, beta2 = properties["beta1"], properties["beta2"]
    means, squares = states
    pairs = zip(means, gradients, strict=True)
    means = [beta1 * m + (1 - beta1) * g for m, g in pairs]
    pairs = zip(squares, gradients, strict=True)
    squares = [beta2 * s + (1 - beta2) * g * g for s, g in pairs]
    kept = 1 - rate * properties.get("weight_decay", 0.0)
    first, second = 1 - beta1**count, 1 - beta2**count
    epsilon = properties["epsilon"]
    new = [
        kept * w - rate * (m / first) / (jnp.sqrt(s / second) + epsilon)
        for w, m, s in zip(trained, means, squares, strict=True)
    ]
    return new, [means, squares]


@dataclass
class _Taken:
    """Weights and running statistics that are left; without a key it is inference."""

    trained: Iterator[Any]
    moving: Iterator[Any]
    key: Any
    moved: list[Any] = field(default_factory=list)

    def linear(self, x: Any) -> Any:
        return x @ next(self.trained) + next(self.trained).reshape(-1)

    def layer_norm(self, x: Any) -> Any:
        mean = x.mean(-1, keepdims=True)
        variance = jnp.square(x - mean).mean(-1, keepdims=True)
        gamma, beta = next(self.trained), next(self.trained)
        return gamma * (x - mean) * lax.rsqrt(variance + 1e-5) + beta

    def convolve(self, x: Any, stride: int = 1, groups: int = 1) -> Any:
        """Return a convolution without bias and a batch normalization."""
        window = next(self.trained)
        half = window.shape[0] // 2
        x = lax.conv_general_dilated(
            x,
            window,
            (stride, stride),
            [(half, half)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        kept = next(self.moving), next(self.moving)
        gamma, beta = next(self.trained), next(self.trained)
        if self.key is None:
            mean, variance = kept
        else:
            mean = x.mean((0, 1, 2))
            variance = jnp.square(x - mean).mean((0, 1, 2))
            n = x.size // x.shape[-1]
            now = mean, variance * (n / (n - 1))
            self.moved += [
                MOVING_SHARE * old + (1 - MOVING_SHARE) * lax.stop_gradient(new)
                for old, new in zip(kept, now, strict=True)
            ]
        return gamma * (x - mean) * lax.rsqrt(variance + NORM_EPSILON) + beta

    def dropout(self, x: Any, rate: float) -> Any:
        if self.key is None:
            return x
        kept = jax.random.bernoulli(self.key, 1 - rate, x.shape)
        return jnp.where(kept, x / (1 - rate), 0.0)


Forward = Callable[[_Taken, Any], Any]


def _network(reference: Reference) -> Forward:
    name = reference.example
    if name in TEXTS:
        return _text(reference)
    if name in RESNETS:
        return _resnet(RESNETS[name])
    return {"mobilenet_v2": _mobilenet_v2, "digits_cnn": _cnn, "digits_mlp": _mlp}[name]


def _gelu(x: Any) -> Any:
    return jax.nn.gelu(x, approximate=False)


def _text(reference: Reference) -> Forward:
    length, d = reference.x.shape[1], reference.weights["tokens:weight"].shape[1]
    added, heads = jnp.asarray(places(length, d)), reference.heads

    def block(w: _Taken, x: Any) -> Any:
        y = w.layer_norm(x)
        parts = (w.linear(y).reshape(*y.shape[:2], heads, -1) for _ in range(3))
        y = jax.nn.dot_product_attention(*parts, is_causal=True)
        x = x + w.linear(y.reshape(x.shape))
        return x + w.linear(_gelu(w.linear(w.layer_norm(x))))

    def forward(w: _Taken, ids: Any) -> Any:
        x = next(w.trained)[ids] + added
        for _ in range(reference.n_layers):
            x = block(w, x)
        return w.linear(w.layer_norm(x))

    return forward


def _resnet(stages: tuple[tuple[int, int], ...]) -> Forward:
    def forward(w: _Taken, x: Any) -> Any:
        x = jax.nn.relu(w.convolve(x))
        for number, (filters, repeats) in enumerate(stages):
            for repeat in range(repeats):
                stride = 2 if number and not repeat else 1
                y = w.convolve(jax.nn.relu(w.convolve(x, stride)))
                plain = stride == 1 and x.shape[-1] == filters
                x = jax.nn.relu(y + (x if plain else w.convolve(x, stride)))
        return w.linear(x.mean((1, 2)))

    return forward


def _mobilenet_v2(w: _Taken, x: Any) -> Any:
    x = jax.nn.relu6(w.convolve(x, 2))
    for times, _, repeats, first_stride in EXPANSIONS:
        for repeat in range(repeats):
            stride = 1 if repeat else first_stride
            y = jax.nn.relu6(w.convolve(x)) if times > 1 else x
            y = w.convolve(jax.nn.relu6(w.convolve(y, stride, y.shape[-1])))
            x = x + y if stride == 1 and x.shape == y.shape else y
    return w.linear(jax.nn.relu6(w.convolve(x)).mean((1, 2)))


def _cnn(w: _Taken, x: Any) -> Any:
    for _ in range(2):
        x = jax.nn.relu(w.convolve(jax.nn.relu(w.convolve(x))))
        size = (1, 2, 2, 1)
        x = lax.reduce_window(x, -jnp.inf, lax.max, size, size, "VALID")
    flat = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return w.linear(w.dropout(flat, 0.3))


def _mlp(w: _Taken, x: Any) -> Any:
    x = x.reshape(len(x), -1)
    for _ in range(6):
        x = _gelu(w.linear(x))
    return w.linear(x)
