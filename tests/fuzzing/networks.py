"""A hypothesis strategy for networks of all layers with all they can be told.

`helpers/mixed_graphs.py` grows graphs of a few properties, which many tests can afford;
here every property is drawn, and optimizers, schedules, and how plans are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from helpers.mixed_graphs import Growing, MixedSpec, names_of, rows_of_blocks
from helpers.strategies import Given, Shape, blocks_of, normal
from hypothesis import strategies as st

import arena_ckpt as ac
from arena_ckpt import Model
from arena_ckpt.checkpoint.choose import ALLOWABLE
from arena_ckpt.graph.nodes import Node
from arena_ckpt.kernels.activations import ACTIVATIONS
from arena_ckpt.kernels.steps import STEP_ACTIVATIONS

_STEP_ACTIVATIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "rnn": tuple((name,) for name in STEP_ACTIVATIONS),
    "lstm": (("tanh", "sigmoid"), ("elu", "tanh")),
    "gru": (("tanh", "sigmoid"), ("selu", "elu")),
}
"""Of states and gates; each pair is compiled on its own, so they are few."""


@dataclass(frozen=True)
class NetworkSpec(MixedSpec):
    """A network, how it trains and how its plans are chosen.

    Attributes
    ----------
    schedule : (str, dict) or None
        Of the learning rate.
    levels : int or None
        Of recomputes within recomputes; 1 takes what blocks can say.
    allow : tuple of str
        Ways that may round differently, allowed beside those that do not.
    share : float or None
        Which plan of the front beside the one of the fewest bytes (0), up to the one of
        the least time (1); None leaves the front out.
    asks : bool
        A budget is asked for as well.
    last : int
        Samples of the last step.
    one_hot : bool
        Classes are given as rows, not as numbers.
    """

    schedule: tuple[str, Given] | None = None
    levels: int | None = None
    allow: tuple[str, ...] = ()
    share: float | None = None
    asks: bool = False
    last: int = 1
    one_hot: bool = False

    def model(self) -> Model:
        model = super().model()
        if self.schedule is not None:
            kind, values = self.schedule
            model.set_learning_rate_scheduler(ac.create_schedule(kind, **values))
        return model

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of each step: the last is the smaller batch at an epoch's end."""
        return self.batch_size, self.batch_size, self.last

    @property
    def leaves_out(self) -> bool:
        """An epoch leaves the last batch out, which has fewer samples."""
        drops = (self.properties or {}).get("drop_last", False)
        return bool(drops) and self.last < self.batch_size

    def begun(self, **settings: Any) -> Model:
        """Return the model, ready, with weights that nothing is too simple for.

        Biases, betas and running statistics begin at 0 and 1, where many a mistake
        would not show.
        """
        model = self.model()
        model.initialize(**settings)
        generator = np.random.default_rng(5)
        changed = {}
        for name, weight in model.weights().items():
            if name.endswith("moving_variance"):
                changed[name] = generator.uniform(0.5, 2, weight.shape)
            elif weight.ndim == 1:
                changed[name] = weight + 0.3 * generator.normal(size=weight.shape)
        model.set_weights(changed)
        return model

    def batch(self, n: int, seed: int = 0) -> tuple[Any, Any]:
        x, y = super().batch(n, seed)
        generator = np.random.default_rng(seed + 100)
        for name, array in x.items():
            if name.startswith("mask"):
                shape = next(
                    v["input_shape"] for _, v in self.layers if v["name"] == name
                )
                array = array.reshape(n, *shape)
                array = np.where(array < 0, np.float32(-np.inf), np.float32(0))
                array += normal(generator, *array.shape) / 2
                x[name] = array.reshape(n, -1)
        loss, given = self.layers[-1]
        ignored = given.get("ignore_label")
        if ignored is not None:
            y = np.where(y == -100, ignored, y)
        if loss == "cross_sigmoid":
            y = generator.random(y.shape).astype(np.float32)
        if loss == "cross_softmax" and y.ndim == 1 and self.one_hot:
            units = self.model().compile().nodes[-1].spec.output_shapes[0][2]
            y = np.eye(units, dtype=np.float32)[y]
        return x, y

    def python(self) -> str:
        """Return a program that builds the model."""
        lines = ["import arena_ckpt as ac", "", "model = ac.Model(seed=3)"]
        for kind, values in self.layers:
            lines.append(f"model.add_layer({kind!r}, **{values!r})")
        for block in self.blocks:
            lines.append(f"model.add_checkpoint_block({list(block)!r})")
        lines.append(f"model.set_property(**{self.properties!r})")
        kind, values = self.optimizer
        lines.append(f"model.set_optimizer({kind!r}, **{values!r})")
        if self.schedule is not None:
            kind, values = self.schedule
            made = f"ac.create_schedule({kind!r}, **{values!r})"
            lines.append(f"model.set_learning_rate_scheduler({made})")
        lines.append("model.initialize()")
        return "\n".join(lines)


class GrowingNetwork(Growing):
    """A graph under construction, in which everything can be told to layers."""

    def trained(self, **values: Any) -> Given:
        rare = self.draw(st.integers(0, 11))
        if rare == 0:
            values["trainable"] = False
        elif rare == 1:
            values["weight_regularizer"] = "l2norm"
            values["weight_regularizer_constant"] = self.any_of(0.1, 1.0)
        elif rare == 2 and "dim" in values:  # a weight that stands alone has no bias
            values["weight_decay"] = 0.1
        elif rare == 2:
            values |= {"weight_decay": 0.1, "bias_decay": 0.05}
        elif rare == 3 and "dim" not in values:  # nor anything but its value at first
            values["weight_initializer"] = self.any_of(
                "he_normal", "lecun_uniform", "xavier_normal"
            )
        return values

    def add(self, kind: str, *sources: str, name: str = "", **values: Any) -> str:
        if kind == "embedding":
            values.pop("bias_decay", None)  # it has none
        return super().add(kind, *sources, name=name, **values)

    def size(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def pair(self, least: int, most: int) -> tuple[int, int]:
        return self.size(least, most), self.size(least, most)

    def kind_of_activation(self) -> str:
        return self.any_of(*ACTIVATIONS, "none")

    def _dense(self) -> None:
        values = self.trained(unit=self.size(1, 6))
        if self.chance(3):
            values["activation"] = self.kind_of_activation()
        if self.chance(6):
            values[self.any_of("disable_bias", "bias")] = True
        self.add("fully_connected", self.any_output(), **values)

    def _wide(self) -> None:
        """Add a weight that an update in tiles takes in parts."""
        if self.chance(2):
            return
        source = self.add("flatten", self.any_output())
        wide = self.add("fully_connected", source, unit=160)
        self.add("fully_connected", wide, unit=self.any_of(120, 160))

    def _activation(self) -> None:
        self.add("activation", self.any_output(), activation=self.kind_of_activation())

    def _convolution(self) -> None:
        kind = self.any_of("conv2d", "conv2d", "depthwiseconv2d", "conv2dtranspose")
        values = self.trained(kernel_size=self.pair(1, 5))
        if kind != "depthwiseconv2d":
            values["filters"] = self.size(1, 5)
        if self.chance(2):
            values["padding"] = self.any_of(
                *("same", "same", "valid", 1, 2, (0, 1), (2, 0)),
                tuple(self.size(0, 2) for _ in range(4)),
            )
        if self.chance(2):
            values["stride"] = self.pair(1, 4)
        if self.chance(3):
            values["dilation"] = self.pair(1, 3)
        if kind == "conv2dtranspose" and self.chance(3):
            values["output_padding"] = self.pair(0, 1)
        if self.chance(4):
            values["activation"] = self.kind_of_activation()
        if self.chance(4):
            values["disable_bias"] = True
        source = self.any_output(lambda shape: shape[1] * shape[2] > 1)
        source = source or self.any_output()
        channels = self.shapes[source][0]
        if kind == "conv2d" and self.chance(4):
            groups = self.any_of(*(g for g in (2, 3, channels) if channels % g == 0))
            values |= {"groups": groups, "filters": groups * self.size(1, 2)}
        if kind == "depthwiseconv2d" and self.chance(4):
            values["depth_multiplier"] = self.size(2, 3)
        self.add(kind, source, **values)

    def _line(self) -> None:
        source = self.any_output()
        channel, height, width = self.shapes[source]
        line = self.add("reshape", source, target_shape=(channel, 1, height * width))
        values = self.trained(filters=self.size(1, 4), kernel_size=self.size(1, 4))
        values["padding"] = self.any_of(
            *("same", "causal", "valid", 1, (self.size(0, 3), self.size(0, 3)))
        )
        if self.chance(3):
            values["stride"] = self.size(1, 5)
        if self.chance(3):
            values["dilation"] = self.size(1, 3)
        self.add("conv1d", line, **values)

    def _pooling(self) -> None:
        kind = self.any_of("max", "max", "average", "global_max", "global_average")
        values: Given = {"pooling": kind}
        if not kind.startswith("global"):
            values["pool_size"] = self.pair(1, 4)
            values["stride"] = self.pair(1, 5)
            values["padding"] = self.any_of(
                *("valid", "same", 1, (0, 1)),
                tuple(self.size(0, 2) for _ in range(4)),
            )
        self.add("pooling2d", self.any_output(), **values)

    def _upsampling(self) -> None:
        kind, size = self.any_of("nearest", "bilinear"), self.pair(1, 3)
        self.add("upsample2d", self.any_output(), upsample=kind, kernel_size=size)

    def _normalization(self) -> None:
        kind = self.any_of("batch", "batch", "layer", "rms", "group")
        source = self.any_output()
        if kind == "group":
            self._group_normalization(source)
            return
        values: Given = {}
        if self.chance(6):
            values["trainable"] = False
        if self.chance(3):
            values["epsilon"] = self.any_of(1e-2, 1e-5)
        if self.chance(6):
            values["weight_decay"] = 0.1
        if kind == "rms":
            self.add("rms_norm", source, **values)
            return
        if self.chance(6):
            values["bias_decay"] = 0.1
        if kind == "batch":
            values["momentum"] = self.any_of(0.5, 0.9, 0.0)
            values["unbiased_variance"] = self.any_of(False, True)
            if values.get("trainable", True) and self.chance(5):
                values["statistics"] = self.any_of("batch", "moving")
            self.add("batch_normalization", source, **values)
        else:
            axes = ((3,), (3,), (1,), (2,), (1, 2), (1, 3), (2, 3), (1, 2, 3))
            values["axis"] = self.any_of(*axes)
            values["affine"] = not self.chance(5)
            self.add("layer_normalization", source, **values)

    def _concat(self) -> None:
        if self.chance(4):  # with the axis that NNTrainer takes
            source = self.any_output()
            shape = self.shapes[source]
            same = [name for name, other in self.shapes.items() if other == shape]
            self.add("concat", source, self.any_of(*same))
            return
        super()._concat()

    def _parts(self) -> None:
        if self.chance(4):
            source, axis = self.any_output(), self.size(1, 3)
            if self.chance(2):
                self.add("split", source, axis=axis)  # into single places
            else:
                start = self.size(1, self.shapes[source][axis - 1])
                self.add("slice", source, axis=axis, start_index=start)
            return
        super()._parts()

    def _arithmetic(self) -> None:
        if self.chance(4):
            exponent = self.any_of(2.0, 3.0, 0.5, -0.5, -1.0, 1.0, 0.0, 1.7, -1.3)
            positive = self.add("activation", self.any_output(), activation="sigmoid")
            self.add("pow", positive, exponent=exponent)
        elif self.chance(4):
            self.add(self.any_of("reduce_mean", "reduce_sum"), self.any_output())
        elif self.chance(6):
            self._product()
        else:
            super()._arithmetic()

    def _product(self) -> None:
        """Add a product of two tensors, one perhaps made for the other."""
        first = self.any_output()
        channel, _, inner = self.shapes[first]
        second = self.any_output(lambda s: s[0] == channel and s[1] == inner)
        if second is not None:
            left = self.add("activation", first, activation="tanh")
            right = self.add("activation", second, activation="softmax")
            self.add("matmul", left, right)

    def _attention(self) -> None:
        super()._attention()
        self._hide_masks()

    def _heads(self) -> None:
        super()._heads()
        self._hide_masks()

    def _hide_masks(self) -> None:
        """Let nothing but attention read a mask, which holds what is no number."""
        for name in [name for name in self.shapes if name.startswith("mask")]:
            del self.shapes[name]
            if self.unread.pop(name, self) is None:  # the attention did not fit
                self.layers = [
                    layer for layer in self.layers if layer[1]["name"] != name
                ]

    def _recurrent(self) -> None:
        source = self.sequence()
        channel, steps, _ = self.shapes[source]
        if channel != 1 or steps > 6:
            return
        kind = self.any_of("lstm", "gru", "rnn")
        values = self._of_steps(kind, self.trained(unit=self.size(1, 4)))
        values["return_sequences"] = self.any_of(True, False)
        values["unroll"] = self.any_of(True, False)
        if self.chance(3):
            values["bidirectional"] = True
        self.add(kind, source, *self.lengths(steps, values), **values)

    def _of_steps(self, kind: str, values: Given) -> Given:
        if self.chance(2):
            names = ("hidden_state_activation", "recurrent_activation")
            pair = self.any_of(*_STEP_ACTIVATIONS[kind.removesuffix("cell")])
            values |= dict(zip(names, pair, strict=False))
        if kind.startswith("gru") and self.chance(3):
            values["reset_after"] = False
        if self.chance(4):
            values["dropout_rate"] = self.any_of(0.25, 0.5)
        if self.chance(4):
            values[self.any_of("integrate_bias", "disable_bias")] = True
        return values

    def _cell(self) -> None:
        source = self.any_output(lambda shape: shape[:2] == (1, 1))
        if source is None:
            return
        kind = self.any_of("rnncell", "grucell", "lstmcell")
        unit = self.size(1, 4)
        fitting = [n for n, shape in self.shapes.items() if shape == (1, 1, unit)]
        most = (2 if kind == "lstmcell" else 1) if fitting else 0
        given = [self.any_of(*fitting) for _ in range(self.size(0, most))]
        values = self._of_steps(kind, self.trained(unit=unit))
        if kind == "lstmcell" and self.chance(2):
            values["return_cell_state"] = False
        self.add(kind, source, *given, **values)

    def _twin(self) -> None:
        """Share weights; penalty and decay are those of the owner all the same."""
        if self.sharable and self.chance(3):
            kind, name, shapes, values = self.sharable[-1]
            dropped = ("weight_decay", "bias_decay", "weight_regularizer")
            values = {k: v for k, v in values.items() if k not in dropped}
            self.sharable.append((kind, name, shapes, values))
        super()._twin()

    def finish(self) -> None:
        """Let the loss read what there is, where that is little and alone."""
        if len(self.unread) == 1 and self.chance(3):
            (end,) = self.unread
            loss = self.any_of("mse", "cross_sigmoid", "cross_softmax", "per_token")
            given: Given = {"name": "loss", "input_layers": [end]}
            if loss == "per_token":
                loss, given = "cross_softmax", {**given, "per_token": True}
            self.layers.append((loss, given))
            return
        super().finish()
        loss, given = self.layers[-1]
        if given.get("per_token") and self.chance(3):
            self.layers[-1] = loss, {**given, "ignore_label": self.any_of(0, -1)}


_ADAM = {"learning_rate": 0.01}
_OPTIMIZERS: tuple[tuple[str, Given], ...] = (
    ("sgd", {"learning_rate": 0.05}),
    ("sgd", {"learning_rate": 0.02, "momentum": 0.9}),
    ("sgd", {"learning_rate": 0.02, "momentum": 0.8, "nesterov": True}),
    ("adam", _ADAM),
    ("adam", {**_ADAM, "beta1": 0.7, "beta2": 0.9, "epsilon": 1e-3}),
    ("adamw", {**_ADAM, "weight_decay": 0.1}),
    ("rmsprop", {**_ADAM, "alpha": 0.9, "epsilon": 1e-3, "momentum": 0.5}),
)
_FALL: Given = {"max_learning_rate": 0.05, "min_learning_rate": 0.01}
_SCHEDULES: tuple[tuple[str, Given] | None, ...] = (
    *(None, None, None, None),
    ("constant", {"learning_rate": 0.03}),
    ("exponential", {"learning_rate": 0.05, "decay_rate": 0.5, "decay_steps": 2}),
    ("step", {"iteration": (0, 1), "learning_rate": (0.05, 0.02, 0.01)}),
    ("linear", {**_FALL, "decay_steps": 2}),
    ("cosine", {**_FALL, "decay_steps": 3}),
)
ROUNDS_DIFFERENTLY = ("tiled_attention", "tiled_update", "micro_batch")
assert set(ROUNDS_DIFFERENTLY) < set(ALLOWABLE)
GROWTHS = (
    *("dense", "dense", "activation", "convolution", "convolution", "line", "pooling"),
    *("upsampling", "normalization", "normalization", "dropout", "reshape", "parts"),
    *("concat", "addition", "addition", "arithmetic", "arithmetic", "attention"),
    *("attention", "positions", "recurrent", "recurrent", "cell", "embedding", "twin"),
    *("wide", "convolution", "twin", "margins", "shuffled", "table", "heads"),
    *("elements", "elements"),
)


@st.composite
def _properties(draw: st.DrawFn) -> Given:
    batch_size = draw(st.sampled_from((1, 2, 3, 4, 5, 7, 8)))
    properties: Given = {"batch_size": batch_size}
    if draw(st.integers(0, 2)) == 0:
        properties["micro_batches"] = draw(st.integers(1, batch_size))
    if draw(st.integers(0, 3)) == 0:
        properties["clip_grad_by_norm"] = draw(st.sampled_from((0.05, 1.0, 1e6)))
    if draw(st.integers(0, 7)) == 0:
        properties["threads"] = 2
    if draw(st.integers(0, 2)) == 0:
        properties["arithmetic"] = "portable"
    if draw(st.integers(0, 3)) == 0:
        properties["drop_last"] = True
    return properties


@st.composite
def networks(draw: st.DrawFn, *, max_layers: int = 12) -> NetworkSpec:
    """Networks of all layers, with plans, optimizers, schedules and batches."""
    graph = GrowingNetwork(draw)
    for _ in range(draw(st.integers(1, 2))):
        graph.add("input", input_shape=_shape(graph))
    for _ in range(draw(st.integers(1, max_layers))):
        getattr(graph, "_" + graph.any_of(*GROWTHS))()
    graph.finish()
    properties = draw(_properties())
    n = properties["batch_size"]
    spec = NetworkSpec(
        tuple(graph.layers),
        (),
        properties,
        draw(st.sampled_from(_OPTIMIZERS)),
        schedule=draw(st.sampled_from(_SCHEDULES)),
        levels=draw(st.sampled_from((None, None, 1))),
        allow=tuple(w for w in ROUNDS_DIFFERENTLY if draw(st.integers(0, 3)) == 0),
        share=draw(st.sampled_from((None, 0.3, None, 0.7))),
        asks=draw(st.integers(0, 2)) == 0,
        last=draw(st.integers(1, n)),
        one_hot=draw(st.booleans()),
    )
    spec = with_normal_statistics(spec)
    names = names_of(spec, draw(st.booleans()))
    blocks = draw(st.one_of(rows_of_blocks(names), blocks_of(names)))
    return replace(spec, blocks=blocks)


def _shape(graph: GrowingNetwork) -> Shape:
    kind = graph.size(0, 2)
    if kind == 0:  # a picture
        return graph.size(1, 4), graph.size(1, 7), graph.size(1, 7)
    if kind == 1:  # a sequence
        return 1, graph.size(1, 6), graph.size(1, 6)
    return 1, 1, graph.size(1, 9)


def with_normal_statistics(spec: NetworkSpec) -> NetworkSpec:
    """Freeze batch normalizations that would see one value of a channel only.

    Such a model is refused, as it would train on nothing.
    """
    micro = (spec.properties or {}).get("micro_batches", 1)
    rows = -(-spec.batch_size // micro)
    least = min(min(rows, n - start) for n in spec.sizes for start in range(0, n, rows))
    shapes = {node.name: node.input_shapes for node in _nodes(spec)}
    layers = []
    for kind, values in spec.layers:
        if kind == "batch_normalization" and values.get("trainable", True):
            ((channel, height, width),) = shapes[values["name"]]
            if least * height * (width if channel > 1 else 1) < 2:
                values = {**values, "trainable": False}
                values.pop("statistics", None)  # the moving ones, as it is frozen
        layers.append((kind, values))
    return replace(spec, layers=tuple(layers))


def _nodes(spec: NetworkSpec) -> Iterator[Node]:
    yield from spec.model().compile().nodes
