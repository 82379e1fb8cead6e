"""Random models of up to twelve layers of which no two take the same bytes and time.

The least that can be said about each is known: they are small enough for `milp`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from helpers.strategies import Given, ModelSpec

MOST_NODES = 12
"""Input and loss among them; an activation of a layer is one of its own."""

WIDTHS = (8, 16, 24, 48, 96, 192)
ACTIVATIONS = ("gelu", "relu", "tanh", "swish")


class _Growing:
    """A model under construction, of rows of numbers or of pictures."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.layers: list[tuple[str, Given]] = []

    def add(self, kind: str, *sources: str, **values: object) -> str:
        name = f"n{len(self.layers)}"
        given: Given = {"name": name, **values}
        if sources:
            given["input_layers"] = list(sources)
        self.layers.append((kind, given))
        return name

    @property
    def left(self) -> int:
        """Layers that can be added before the loss.

        Where an output has several readers a layer hands it on to them.
        """
        read: Counter[str] = Counter()
        for _, given in self.layers:
            read.update(given.get("input_layers", ()))
        n_shared = sum(count > 1 for count in read.values())
        return MOST_NODES - 1 - len(self.layers) - n_shared

    def width(self) -> int:
        return self.random.choice(WIDTHS)

    def dense(self, source: str, width: int | None = None) -> str:
        return self.add("fully_connected", source, unit=width or self.width())

    def cheap(self, source: str) -> str:
        """A layer that takes little time for its bytes."""
        if self.random.random() < 0.25:
            return self.add("layer_normalization", source, axis=3)
        kind = self.random.choice(ACTIVATIONS)
        return self.add("activation", source, activation=kind)

    def done(self) -> ModelSpec:
        self.add("mse", self.layers[-1][1]["name"])
        batch_size = self.random.choice((32, 64, 128))
        return ModelSpec(tuple(self.layers), (), {"batch_size": batch_size})


def _chain(graph: _Growing) -> None:
    source = graph.add("input", input_shape=(1, 1, graph.width()))
    while graph.left:
        source = graph.dense(source)
        for _ in range(min(graph.left, graph.random.choice((0, 1, 1, 2)))):
            source = graph.cheap(source)


def _residual(graph: _Growing) -> None:
    """Blocks around which their input is carried, and added or put beside."""
    source = graph.add("input", input_shape=(1, 1, graph.width()))
    width = graph.width()
    source = graph.dense(source, width)
    while graph.left >= 5:
        inner = source
        if graph.random.random() < 0.5:
            inner = graph.cheap(inner)
        inner = graph.dense(inner)
        if graph.left > 2:
            inner = graph.cheap(inner)
        if graph.random.random() < 0.6:
            inner = graph.dense(inner, width)
            source = graph.add("addition", source, inner)
        else:
            joined = graph.add("concat", source, inner, axis=3)
            source = graph.dense(joined, width)
    if graph.left:
        graph.cheap(source)


def _branches(graph: _Growing) -> None:
    """Two or three ways from one tensor to another, of different lengths."""
    source = graph.add("input", input_shape=(1, 1, graph.width()))
    source = graph.cheap(graph.dense(source))
    n = graph.random.choice((2, 3))
    joins_by_addition = graph.random.random() < 0.5
    width = graph.width()
    ends = []
    for _ in range(n):
        end = graph.dense(source, width if joins_by_addition else None)
        if graph.random.random() < 0.7 and graph.left > 2 * (n - len(ends)):
            end = graph.cheap(end)
        ends.append(end)
    if joins_by_addition:
        source = graph.add("addition", *ends)
    else:
        source = graph.add("concat", *ends, axis=3)
    while graph.left:
        source = graph.cheap(source) if graph.left % 2 else graph.dense(source)


def _pictures(graph: _Growing) -> None:
    """Convolutions; later ones have more channels, and pooling keeps indices."""
    size, n_convolutions = 16, 0
    source = graph.add("input", input_shape=(3, size, size))
    while graph.left:
        n_convolutions += 1
        source = graph.add(
            "conv2d",
            source,
            filters=2 * n_convolutions * graph.random.choice((1, 2, 3)),
            kernel_size=(3, 3),
            padding="same",
        )
        if graph.left:
            kind = graph.random.choice(ACTIVATIONS)
            source = graph.add("activation", source, activation=kind)
        if graph.left and n_convolutions > 1 and graph.random.random() < 0.4:
            size //= 2
            source = graph.add(
                "pooling2d", source, pooling="max", pool_size=(2, 2), stride=(2, 2)
            )


FAMILIES: dict[str, Callable[[_Growing], None]] = {
    "chain": _chain,
    "residual": _residual,
    "branches": _branches,
    "pictures": _pictures,
}


def small_graph(family: str, seed: int) -> ModelSpec:
    """Return a model of one of `FAMILIES`, the same for the same seed."""
    graph = _Growing(seed)
    FAMILIES[family](graph)
    return graph.done()
