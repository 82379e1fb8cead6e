"""Bundled examples are the networks that their names say: their twins in PyTorch.

Each twin is written with PyTorch's own modules and imported. With equal weights the
import and the example have the same loss and the same gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arena_ckpt as ac

torch = pytest.importorskip("torch", reason="PyTorch is absent")
nn = torch.nn
F = nn.functional

Array = np.ndarray


def _normed(channels: int) -> Any:
    return nn.BatchNorm2d(channels, eps=1e-3)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.one_norm = _normed(filters)
        self.two = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.two_norm = _normed(filters)
        self.skip = None
        if stride > 1:
            self.skip = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), _normed(filters)
            )

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.one_norm(self.one(x)))
        y = self.two_norm(self.two(y))
        return torch.relu(y + (x if self.skip is None else self.skip(x)))


def resnet8() -> Any:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), _normed(16), nn.ReLU()),
        *(ResidualBlock(16, 16, 1), ResidualBlock(16, 32, 2), ResidualBlock(32, 64, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


class Words(nn.Module):
    """The last step of a recurrent layer, and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(10, 64, batch_first=True)
        self.logits = nn.Linear(64, 12)

    def forward(self, x: Any) -> Any:
        return self.logits(self.gru(x)[0][:, -1])


class Activities(nn.Module):
    """A linear layer for each step, and two LSTMs."""

    def __init__(self) -> None:
        super().__init__()
        self.each = nn.Linear(9, 32)
        self.lstm = nn.LSTM(32, 32, num_layers=2, batch_first=True)
        self.logits = nn.Linear(32, 6)

    def forward(self, x: Any) -> Any:
        return self.logits(self.lstm(torch.relu(self.each(x)))[0][:, -1])


class Block(nn.Module):
    """A layer of a transformer with normalization first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_a = nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width) for _ in range(4)
        )
        self.norm_b = nn.LayerNorm(width)
        self.wide, self.narrow = (
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Any) -> Any:
        y = self.norm_a(x)
        split = [
            part(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        ]
        y = F.scaled_dot_product_attention(*split, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.wide(self.norm_b(x))))


class Characters(nn.Module):
    """Ids with places, two layers, and the next id."""

    def __init__(self) -> None:
        super().__init__()
        width, length = 16, 8
        self.tokens = nn.Embedding(96, width)
        step = torch.arange(length)[:, None]
        angle = step * 10000.0 ** (-torch.arange(0, width, 2) / width)
        places = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
        self.register_buffer("places", places)
        self.blocks = nn.Sequential(Block(width, 2), Block(width, 2))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, 96)

    def forward(self, ids: Any) -> Any:
        return self.logits(self.norm(self.blocks(self.tokens(ids) + self.places)))


TINY = {"n_layers": 2, "d": 16, "heads": 2, "length": 8}

TWINS: dict[str, tuple[Callable[[], Any], dict[str, Any], tuple[int, ...], int]] = {
    "resnet8": (resnet8, {}, (3, 32, 32), 10),
    "keyword_gru": (Words, {}, (49, 10), 12),
    "lstm_har": (Activities, {}, (128, 9), 6),
    "char_transformer": (Characters, TINY, (8,), 96),
}
"""The twin of an example, the sizes of the example, the shape of a sample, classes."""


@pytest.mark.parametrize("name", TWINS)
def test_an_example_is_its_twin_in_pytorch(name: str) -> None:
    twin, sizes, shape, classes = TWINS[name]
    rng = np.random.default_rng(0)
    n, is_text = 3, name == "char_transformer"
    torch.manual_seed(0)
    if is_text:
        x = rng.integers(0, classes, (n, *shape))
        y = rng.integers(0, classes, (n, *shape))
        loss: Any = ("cross_softmax", {"per_token": True})
    else:
        x = rng.normal(size=(n, *shape)).astype(np.float32)
        y = rng.integers(0, classes, n)
        loss = "cross_softmax"
    imported = ac.from_torch(twin(), torch.from_numpy(x), loss).model
    example = ac.load_example(name, batch_size=n, **sizes).model
    imported.initialize()
    example.initialize()
    theirs, ours = _trained(imported), _trained(example)
    assert [w.shape for w in theirs.values()] == [w.shape for w in ours.values()]
    example.set_weights(dict(zip(ours, theirs.values(), strict=True)))

    flat = x.reshape(n, -1)
    found = {
        "twin": imported.compute_gradients(flat, y),
        "example": example.compute_gradients(flat, y),
    }
    assert found["example"][0] == pytest.approx(found["twin"][0], rel=1e-6)
    whole = np.sqrt(sum(float((g**2).sum()) for g in found["twin"][1].values()))
    for one, other in zip(theirs, ours, strict=True):
        wanted, gradient = found["twin"][1][one], found["example"][1][other]
        away = float(np.linalg.norm(gradient - wanted))
        assert away < 1e-5 * (float(np.linalg.norm(wanted)) + whole), other


def _trained(model: Any) -> dict[str, Array]:
    """Return the weights that are trained, in the order of the layers."""
    gradients = [
        name
        for name in model.weights()
        if ":moving_" not in name and not name.endswith(":value")
    ]
    return {name: model.weights()[name] for name in gradients}
