"""Hypothesis strategies: random models as plain data that can be built many times."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from arena_ckpt import Model
from arena_ckpt.kernels.activations import ACTIVATIONS

LOSSES = ("mse", "cross_softmax", "cross_sigmoid")
OPTIMIZERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sgd", {"learning_rate": 0.01}),
    ("sgd", {"learning_rate": 0.01, "momentum": 0.9}),
    ("sgd", {"learning_rate": 0.01, "momentum": 0.8, "nesterov": True}),
    ("adam", {"learning_rate": 0.01}),
    ("adamw", {"learning_rate": 0.01, "weight_decay": 0.1}),
    ("rmsprop", {"learning_rate": 0.01, "momentum": 0.5, "epsilon": 1e-3}),
    ("rmsprop", {"learning_rate": 0.01, "centered": True, "epsilon": 1e-3}),
)
Shape = tuple[int, int, int]
Given = dict[str, Any]


@dataclass(frozen=True)
class ModelSpec:
    """A model, ready to be built any number of times.

    `layers` are (type, properties), each with a name; `blocks` are tuples of names.
    """

    layers: tuple[tuple[str, Given], ...]
    blocks: tuple[tuple[str, ...], ...] = ()
    properties: Given | None = None
    optimizer: tuple[str, Given] = OPTIMIZERS[0]

    @property
    def batch_size(self) -> int:
        return int((self.properties or {}).get("batch_size", 1))

    def without_blocks(self) -> ModelSpec:
        return replace(self, blocks=())

    def with_properties(self, **properties: object) -> ModelSpec:
        return replace(self, properties={**(self.properties or {}), **properties})

    def model(self) -> Model:
        model = Model(seed=3)
        for type_name, values in self.layers:
            model.add_layer(type_name, **values)
        for block in self.blocks:
            model.add_checkpoint_block(block)
        model.set_property(**(self.properties or {}))
        model.set_optimizer(self.optimizer[0], **self.optimizer[1])
        return model

    def initialized(self, *, debug: bool = False) -> Model:
        model = self.model()
        model.initialize(debug=debug)
        return model

    def batch(self, n: int, seed: int = 0) -> tuple[Any, Any]:
        """Samples by input layer, and labels that fit the loss."""
        generator = np.random.default_rng(seed)
        plan = self.model().make_plan()
        x = {
            layer.name: normal(generator, n, math.prod(layer.output_shape))
            for layer in plan.layers
            if layer.type_name == "input"
        }
        loss = plan.layers[-1]
        elems = math.prod(loss.output_shape)
        if loss.type_name == "mse":
            return x, normal(generator, n, elems)
        if loss.type_name == "cross_softmax" and loss.output_shape[:2] == (1, 1):
            return x, generator.integers(0, elems, n)
        return x, generator.integers(0, 2, (n, elems)).astype(np.float32)


def normal(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return generator.normal(size=shape).astype(np.float32)


def chain(
    *parts: str | int,
    loss: str = "mse",
    width: int = 6,
    blocks: tuple[tuple[str, ...], ...] = (),
    optimizer: tuple[str, Given] = OPTIMIZERS[0],
    **properties: object,
) -> ModelSpec:
    """Numbers are fully connected layers fc1, fc2, …; words are activations act1, …."""
    layers: list[tuple[str, Given]] = [
        ("input", {"name": "in", "input_shape": (1, 1, width)})
    ]
    counts = {"fc": 0, "act": 0}
    for part in parts:
        stem = "fc" if isinstance(part, int) else "act"
        counts[stem] += 1
        name = f"{stem}{counts[stem]}"
        layers.append(
            ("fully_connected", {"name": name, "unit": part})
            if isinstance(part, int)
            else ("activation", {"name": name, "activation": part})
        )
    layers.append((loss, {"name": "loss"}))
    given = {"batch_size": 8, **properties}
    return ModelSpec(tuple(layers), blocks, given, optimizer)


# -- strategies ------------------------------------------------------------------------

activations = st.sampled_from(tuple(ACTIVATIONS))
optimizers = st.sampled_from(OPTIMIZERS)
losses = st.sampled_from(LOSSES)


@st.composite
def fully_connected_values(draw: st.DrawFn, unit: int | None = None) -> Given:
    """Properties of a fully connected layer; most of them are usually absent."""
    values: Given = {"unit": draw(st.integers(1, 9)) if unit is None else unit}
    if draw(st.booleans()):
        values["activation"] = draw(activations)
    rare = draw(st.integers(0, 9))
    if rare == 0:
        values["trainable"] = False
    elif rare == 1:
        values["disable_bias"] = True
    elif rare == 2:
        values["weight_regularizer"] = "l2norm"
        values["weight_regularizer_constant"] = 0.1
    elif rare == 3:
        values |= {"weight_decay": 0.1, "bias_decay": 0.05}
    return values


def unsquashed(values: Given, loss: str) -> Given:
    """Leave out the activation that a loss brings itself, about which models warn."""
    is_twice = loss.startswith("cross_") and values.get("activation") in (
        "softmax",
        "sigmoid",
    )
    return {k: v for k, v in values.items() if not (is_twice and k == "activation")}


@st.composite
def blocks_of(draw: st.DrawFn, names: list[str]) -> tuple[tuple[str, ...], ...]:
    """Disjoint runs of at least two of `names`, which are in forward order."""
    blocks: list[tuple[str, ...]] = []
    place = 0
    while place + 2 <= len(names) and len(blocks) < 3:
        start = draw(st.integers(place, len(names) - 2))
        stop = draw(st.integers(start + 2, len(names)))
        blocks.append(tuple(names[start:stop]))
        place = stop
        if not draw(st.booleans()):
            break
    return tuple(blocks)


@st.composite
def model_properties(draw: st.DrawFn) -> Given:
    batch_size = draw(st.integers(1, 9))
    properties: Given = {"batch_size": batch_size}
    if draw(st.integers(0, 3)) == 0:
        properties["micro_batches"] = draw(st.integers(1, batch_size))
    if draw(st.integers(0, 3)) == 0:
        properties["clip_grad_by_norm"] = draw(st.sampled_from((0.05, 1.0, 1e6)))
    return properties


@st.composite
def chains(draw: st.DrawFn, *, max_layers: int = 8) -> ModelSpec:
    """Multilayer perceptrons with blocks, which may hold input and loss as well."""
    layers: list[tuple[str, Given]] = [
        ("input", {"name": "in", "input_shape": (1, 1, draw(st.integers(1, 9)))})
    ]
    for index in range(draw(st.integers(1, max_layers))):
        if draw(st.booleans()):
            values = draw(fully_connected_values())
            layers.append(("fully_connected", {"name": f"n{index}", **values}))
        else:
            kind = draw(activations)
            layers.append(("activation", {"name": f"n{index}", "activation": kind}))
    values = draw(fully_connected_values(unit=draw(st.integers(1, 4))))
    loss = draw(losses)
    layers.append(("fully_connected", {"name": "out", **unsquashed(values, loss)}))
    layers.append((loss, {"name": "loss"}))
    return ModelSpec(
        tuple(layers),
        draw(blocks_of([values["name"] for _, values in layers])),
        draw(model_properties()),
        draw(optimizers),
    )


@st.composite
def dags(draw: st.DrawFn, *, max_layers: int = 9) -> ModelSpec:
    """Graphs with several readers, residual additions, flattened pictures, two inputs.

    Outputs that nobody reads are brought to one width and added before the loss.
    """
    layers: list[tuple[str, Given]] = []
    shapes: dict[str, Shape] = {}
    unread: dict[str, None] = {}

    def add(kind: str, shape: Shape, sources: list[str], **values: object) -> str:
        name = f"n{len(layers)}"
        given: Given = {"name": name, **values}
        if sources:
            given["input_layers"] = sources
        layers.append((kind, given))
        shapes[name] = shape
        unread[name] = None
        for source in sources:
            unread.pop(source, None)
        return name

    sizes = st.integers(1, 4)
    for _ in range(draw(st.integers(1, 2))):
        shape = draw(st.tuples(st.integers(1, 2), st.integers(1, 2), sizes))
        add("input", shape, [], input_shape=shape)
    for _ in range(draw(st.integers(1, max_layers))):
        source = draw(st.sampled_from(list(shapes)))
        shape = shapes[source]
        kind = draw(st.sampled_from(("fc", "fc", "activation", "flatten", "addition")))
        if kind == "fc":
            values = draw(fully_connected_values())
            out = (*shape[:2], values["unit"])
            add("fully_connected", out, [source], **values)
        elif kind == "activation":
            add("activation", shape, [source], activation=draw(activations))
        elif kind == "flatten":
            add("flatten", (1, 1, math.prod(shape)), [source])
        else:
            same = [name for name, other in shapes.items() if other == shape]
            others = draw(st.lists(st.sampled_from(same), max_size=2))
            add("addition", shape, [source, *others])
    unit = draw(st.integers(1, 4))
    ends = []
    for name in list(unread):
        if shapes[name][:2] != (1, 1):
            name = add("flatten", (1, 1, math.prod(shapes[name])), [name])
        values = draw(fully_connected_values(unit=unit))
        ends.append(add("fully_connected", (1, 1, unit), [name], **values))
    end = add("addition", (1, 1, unit), ends) if len(ends) > 1 else ends[0]
    loss = draw(losses)
    if end == ends[0]:
        layers[-1] = (layers[-1][0], unsquashed(layers[-1][1], loss))
    add(loss, (1, 1, unit), [end])
    return ModelSpec(
        tuple(layers),
        draw(blocks_of([values["name"] for _, values in layers])),
        draw(model_properties()),
        draw(optimizers),
    )
