"""Networks of the benchmark written with PyTorch's own modules.

The modules stand in the order of the example's layers, so that its weights can be taken
one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from twins import (
    EXPANSIONS,
    NORM_EPSILON,
    RESNETS,
    TEXTS,
    Reference,
    places,
    require_same,
    rounded,
)


def training_step(
    reference: Reference, prepare: Callable[[Any], Any] = lambda net: net
) -> Callable[[], float]:
    """Return one training step of the twin of a network, prepared by a function."""
    torch.manual_seed(0)
    net = _network(reference)
    _take_weights(net, reference.weights)
    x, y = torch.from_numpy(reference.x), torch.from_numpy(reference.y)
    optimizer = _optimizer(net, reference.optimizer)

    def loss_of(out: Any) -> Any:
        return functional.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))

    def step_of(called: Any) -> float:
        optimizer.zero_grad()
        loss = loss_of(called(x))
        loss.backward()
        if reference.clip_norm:
            nn.utils.clip_grad_norm_(net.parameters(), reference.clip_norm)
        optimizer.step()
        return float(loss.detach())

    if reference.has_dropout:
        net.eval()
        with torch.no_grad():
            losses = [float(loss_of(net(x)))]
        net.train()
    else:
        losses = [step_of(net) for _ in reference.losses]
    n_parameters = sum(w.numel() for w in net.parameters())
    require_same("PyTorch", n_parameters, losses, reference)
    prepared = prepare(net)
    return lambda: step_of(prepared)


def _optimizer(net: Any, properties: dict[str, Any]) -> Any:
    rate = properties["learning_rate"]
    if properties["type"] == "sgd":
        momentum = properties["momentum"]
        return torch.optim.SGD(net.parameters(), rate, momentum, fused=True)
    betas = properties["beta1"], properties["beta2"]
    given = {"lr": rate, "betas": betas, "eps": properties["epsilon"], "fused": True}
    if properties["type"] == "adam":
        return torch.optim.Adam(net.parameters(), **given)
    decay = properties["weight_decay"]
    return torch.optim.AdamW(net.parameters(), weight_decay=decay, **given)


def _take_weights(net: Any, weights: dict[str, np.ndarray]) -> None:
    """Set all parameters and running statistics, in the order of the layers."""
    left = iter(weights.values())
    with torch.no_grad():
        for module in net.modules():
            for own, value in _pairs(module, left):
                assert own.shape == value.shape, (module, own.shape, value.shape)
                own.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    assert next(left, None) is None, "the twin has fewer weights than the example"


def _pairs(module: Any, left: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    if isinstance(module, _Projections):
        parts = [(next(left).T, next(left).reshape(-1)) for _ in range(3)]
        yield module.weight, np.concatenate([weight for weight, _ in parts])
        yield module.bias, np.concatenate([bias for _, bias in parts])
    elif isinstance(module, nn.Linear):
        yield module.weight, next(left).T
        yield module.bias, next(left).reshape(-1)
    elif isinstance(module, (nn.Conv2d, nn.Embedding)):
        yield module.weight, next(left)
    elif isinstance(module, nn.BatchNorm2d):
        names = ("running_mean", "running_var", "weight", "bias")
        yield from ((getattr(module, name), next(left)) for name in names)
    elif isinstance(module, nn.LayerNorm):
        yield from ((getattr(module, name), next(left)) for name in ("weight", "bias"))


def _network(reference: Reference) -> Any:
    name, weights = reference.example, reference.weights
    if name in TEXTS:
        vocabulary, d = weights["tokens:weight"].shape
        sizes = reference.n_layers, d, reference.heads, reference.x.shape[1]
        return _Text(vocabulary, *sizes)
    if name in RESNETS:
        return _resnet(RESNETS[name], len(weights["logits:bias"].reshape(-1)))
    return {"mobilenet_v2": _mobilenet_v2, "digits_cnn": _cnn, "digits_mlp": _mlp}[
        name
    ]()


def _convolution(
    source: int,
    out: int,
    kernel: int,
    stride: int = 1,
    *activation: Any,
    groups: int = 1,
) -> Any:
    return nn.Sequential(
        nn.Conv2d(source, out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=NORM_EPSILON),
        *activation,
    )


# -- transformers


class _Projections(nn.Linear):
    """Query, key and value in one product."""


class _Block(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(d)
        self.qkv = _Projections(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.between = nn.LayerNorm(d)
        self.wide = nn.Linear(d, 4 * d)
        self.narrow = nn.Linear(4 * d, d)

    def forward(self, x: Any) -> Any:
        batch, length, d = x.shape
        parts = self.qkv(self.before(x)).reshape(
            batch, length, 3, self.heads, d // self.heads
        )
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, d))
        return x + self.narrow(functional.gelu(self.wide(self.between(x))))


class _Text(nn.Module):
    def __init__(
        self, vocabulary: int, n_layers: int, d: int, heads: int, length: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, d)
        self.register_buffer("places", torch.from_numpy(places(length, d)))
        self.blocks = nn.Sequential(*(_Block(d, heads) for _ in range(n_layers)))
        self.last = nn.LayerNorm(d)
        self.logits = nn.Linear(d, vocabulary)

    def forward(self, ids: Any) -> Any:
        x = self.tokens(ids) + self.places
        return self.logits(self.last(self.blocks(x)))


# -- networks for pictures


class _Residual(nn.Module):
    def __init__(self, source: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(source, out, 3, stride)
        self.second = _convolution(out, out, 3)
        plain = stride == 1 and source == out
        self.skip = nn.Identity() if plain else _convolution(source, out, 1, stride)

    def forward(self, x: Any) -> Any:
        y = functional.relu(self.first(x), inplace=True)
        return functional.relu(self.second(y) + self.skip(x), inplace=True)


def _resnet(stages: tuple[tuple[int, int], ...], classes: int) -> Any:
    width = stages[0][0]
    layers: list[Any] = [_convolution(3, width, 3, 1, nn.ReLU(inplace=True))]
    for number, (filters, repeats) in enumerate(stages):
        for repeat in range(repeats):
            stride = 2 if number and not repeat else 1
            layers.append(_Residual(width, filters, stride))
            width = filters
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
    )


class _Inverted(nn.Module):
    def __init__(self, source: int, out: int, times: int, stride: int) -> None:
        super().__init__()
        wide = times * source
        layers: list[Any] = []
        if times > 1:
            layers.append(_convolution(source, wide, 1, 1, nn.ReLU6(inplace=True)))
        layers += [
            _convolution(wide, wide, 3, stride, nn.ReLU6(inplace=True), groups=wide),
            _convolution(wide, out, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.is_residual = stride == 1 and source == out

    def forward(self, x: Any) -> Any:
        return x + self.layers(x) if self.is_residual else self.layers(x)


def _mobilenet_v2(width: float = 0.35, classes: int = 10) -> Any:
    channels = rounded(32 * width)
    layers: list[Any] = [_convolution(3, channels, 3, 2, nn.ReLU6(inplace=True))]
    for times, filters, repeats, first_stride in EXPANSIONS:
        for repeat in range(repeats):
            out = rounded(filters * width)
            stride = 1 if repeat else first_stride
            layers.append(_Inverted(channels, out, times, stride))
            channels = out
    top = rounded(1280 * max(1.0, width))
    return nn.Sequential(
        *(*layers, _convolution(channels, top, 1, 1, nn.ReLU6(inplace=True))),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(top, classes)),
    )


def _cnn() -> Any:
    layers: list[Any] = []
    for source, filters in ((1, 16), (16, 32)):
        layers += [
            _convolution(source, filters, 3, 1, nn.ReLU(inplace=True)),
            _convolution(filters, filters, 3, 1, nn.ReLU(inplace=True)),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 2 * 2, 10)
    )


def _mlp() -> Any:
    hidden = (layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.GELU()))
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))
