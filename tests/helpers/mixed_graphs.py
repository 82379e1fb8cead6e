"""A hypothesis strategy for graphs in which layers of all families meet."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from arena_ckpt import Model
from arena_ckpt.errors import ModelWarning, ShapeMismatchError
from arena_ckpt.layers import create_layer
from arena_ckpt.planning.batch_statistics import can_train_on
from helpers.strategies import (
    Given,
    ModelSpec,
    Shape,
    blocks_of,
    model_properties,
    normal,
)

VOCABULARY = 7
MOST_ELEMS = 240
"""Of one output of one sample; what would be larger is not added."""

ACTIVATIONS = ("relu", "gelu", "sigmoid", "tanh", "softmax")
OPTIMIZERS: tuple[tuple[str, Given], ...] = (
    ("sgd", {"learning_rate": 1e-3}),
    ("sgd", {"learning_rate": 1e-3, "momentum": 0.9}),
    ("adamw", {"learning_rate": 1e-3, "weight_decay": 0.1}),
    ("rmsprop", {"learning_rate": 1e-3, "alpha": 0.9, "clip_value": 0.1}),
)
ARITHMETIC = (
    *("add", "subtract", "multiply", "divide", "swiglu", "negative"),
    *("pow", "sqrt", "reduce_mean", "reduce_sum", "matmul"),
)
LOSSES = (
    *("mse", "mae", "huber", "cross_softmax", "per_token"),
    *("cross_sigmoid", "kld"),
)
VALUE_LOSSES = ("mse", "mae", "huber")


@dataclass(frozen=True)
class MixedSpec(ModelSpec):
    """A model whose inputs named ``ids…`` hold ids and ``mask…`` masks.

    Those named ``lengths5_…`` hold lengths of 5 steps at most.

    One that deserves a `ModelWarning` (one in 150) has had it when it is built.
    """

    def model(self) -> Model:
        model = super().model()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelWarning)
            model.compile()
        return model

    def batch(self, n: int, seed: int = 0) -> tuple[Any, Any]:
        generator = np.random.default_rng(seed)
        x = {}
        for kind, values in self.layers:
            if kind != "input":
                continue
            name, elems = values["name"], math.prod(values["input_shape"])
            if name.startswith("ids"):
                ids = generator.integers(0, VOCABULARY, (n, elems))
                x[name] = ids.astype(np.float32)
            elif name.startswith("lengths"):
                most = int(name.removeprefix("lengths").partition("_")[0])
                given = generator.integers(1, most + 1, (n, 1))
                x[name] = given.astype(np.float32)
            elif name.startswith("mask"):
                hidden = generator.random((n, elems)) < 0.3
                x[name] = np.where(hidden, -1e9, 0).astype(np.float32)
            else:
                x[name] = normal(generator, n, elems)
        labels = {}
        for node in self.model().compile().nodes:
            if node.layer.is_loss:
                (given,) = (v for _, v in self.layers if v["name"] == node.name)
                shape = node.spec.output_shapes[0]
                kind = node.layer.type_name
                labels[node.name] = labels_of(kind, given, shape, n, generator)
        return x, labels if len(labels) > 1 else next(iter(labels.values()))


def labels_of(
    loss: str, values: Given, shape: Shape, n: int, generator: np.random.Generator
) -> Any:
    """Return labels that fit a loss over outputs of a shape."""
    elems, width = math.prod(shape), shape[values.get("axis", 3) - 1]
    rows = elems // width
    if loss in VALUE_LOSSES:
        return normal(generator, n, elems)
    if values.get("per_token"):
        y = generator.integers(0, width, (n, rows))
        y[generator.random((n, rows)) < 0.3] = -100
        y[0, 0] = 0  # something counts
        return y
    if loss == "kld":
        shares = generator.uniform(0.1, 1, (n, rows, width)).astype(np.float32)
        shares /= shares.sum(axis=-1, keepdims=True)
        return shares.reshape(n, elems)
    if loss == "cross_softmax" and shape[:2] == (1, 1):
        return generator.integers(0, elems, n)
    return generator.integers(0, 2, (n, elems)).astype(np.float32)


class Growing:
    """A graph under construction."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.layers: list[tuple[str, Given]] = []
        self.shapes: dict[str, Shape] = {}  # of outputs: "n3", "n3(1)"
        self.unread: dict[str, None] = {}
        self.sharable: list[tuple[str, str, tuple[Shape, ...], Given]] = []

    # -- choices -----------------------------------------------------------------------

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(0, one_in - 1)) == 0

    def any_of(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def any_output(self, holds: Callable[[Shape], bool] = lambda _: True) -> str | None:
        """Return an output, of the latest ones more often than of others."""
        fitting = [name for name, shape in self.shapes.items() if holds(shape)]
        if not fitting:
            return None
        return self.any_of(*(fitting if self.chance(3) else fitting[-2:]))

    # -- layers ------------------------------------------------------------------------

    def add(self, kind: str, *sources: str, name: str = "", **values: Any) -> str:
        """Add a layer, or give its first source back where it would not fit."""
        name = name or f"n{len(self.layers)}"
        given: Given = {"name": name, **values}
        if sources:
            given["input_layers"] = list(sources)
        shapes = tuple(self.shapes[source] for source in sources)
        try:
            outputs = create_layer(kind, **given).infer(shapes).output_shapes
        except ShapeMismatchError:
            return sources[0]
        if sum(map(math.prod, outputs)) > MOST_ELEMS or len(outputs) > 6:
            return sources[0]
        self.layers.append((kind, given))
        for source in sources:
            self.unread.pop(source, None)
        for index, shape in enumerate(outputs):
            output = f"{name}({index})" if index else name
            self.shapes[output] = shape
            self.unread[output] = None
        if "weight_initializer" in {p.name for p in create_layer(kind).properties}:
            self.sharable.append((kind, name, shapes, values))
        return name

    def trained(self, **values: Any) -> Given:
        """Return values of a layer with weights; most leave everything as it is."""
        rare = self.draw(st.integers(0, 9))
        if rare == 0:
            values["trainable"] = False
        elif rare == 1:
            values |= {"weight_regularizer": "l2norm"}
            values["weight_regularizer_constant"] = 0.1
        elif rare == 2:
            values["weight_decay"] = 0.1
        return values

    def sequence(self) -> str | None:
        """Return an output 1:steps:width, reshaped where there is none."""
        source = self.any_output()
        assert source is not None
        channel, height, width = self.shapes[source]
        if channel == 1:
            return source
        steps = self.any_of((1, channel * height, width), (1, channel, height * width))
        return self.add("reshape", source, target_shape=steps)

    def grow(self) -> None:
        getattr(self, "_" + self.any_of(*GROWTHS))()

    def _dense(self) -> None:
        values = self.trained(unit=self.draw(st.integers(1, 6)))
        if self.chance(3):
            values["activation"] = self.any_of(*ACTIVATIONS)
        if self.chance(6):
            values["disable_bias"] = True
        self.add("fully_connected", self.any_output(), **values)

    def _activation(self) -> None:
        kind = self.any_of(*ACTIVATIONS)
        self.add("activation", self.any_output(), activation=kind)

    def _convolution(self) -> None:
        kind = self.any_of("conv2d", "conv2d", "depthwiseconv2d", "conv2dtranspose")
        pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
        values = self.trained(kernel_size=self.draw(pairs))
        if kind != "depthwiseconv2d":
            values["filters"] = self.draw(st.integers(1, 4))
        if self.chance(2):
            values["padding"] = self.any_of("same", 1, (0, 1), (1, 0, 0, 1))
        if self.chance(3):
            values["stride"] = self.any_of((2, 1), (2, 2), (1, 2))
        if self.chance(4):
            values["dilation"] = self.any_of((2, 1), (2, 2))
        if self.chance(3):
            values["activation"] = self.any_of("relu", "gelu")
        if self.chance(4):
            values["disable_bias"] = True
        source = self.any_output(lambda shape: shape[0] > 1) or self.any_output()
        channels = self.shapes[source][0]
        if kind == "conv2d" and self.chance(3):
            groups = self.any_of(*(g for g in (2, 3, channels) if channels % g == 0))
            values |= {"groups": groups, "filters": groups * self.any_of(1, 2)}
        if kind == "depthwiseconv2d" and self.chance(3):
            values["depth_multiplier"] = 2
        self.add(kind, source, **values)

    def _line(self) -> None:
        source = self.any_output()
        channel, height, width = self.shapes[source]
        line = self.add("reshape", source, target_shape=(channel, 1, height * width))
        values = self.trained(
            filters=self.draw(st.integers(1, 3)), kernel_size=self.any_of(1, 2, 3)
        )
        values["padding"] = self.any_of("same", "causal", "valid", (1, 0))
        self.add("conv1d", line, **values)

    def _pooling(self) -> None:
        kind = self.any_of("max", "max", "average", "global_max", "global_average")
        values: Given = {"pooling": kind}
        if self.chance(5):
            kind = self.any_of("adaptive_max", "adaptive_average")
            size = self.any_of((1, 2), (2, 2), (3, 2))
            self.add("pooling2d", self.any_output(), pooling=kind, output_size=size)
            return
        if not kind.startswith("global"):
            values["pool_size"] = self.any_of((2, 2), (1, 2), (3, 3), (2, 1))
            values["stride"] = self.any_of((1, 1), (2, 2))
            values["padding"] = self.any_of("valid", "same")
        if kind == "average" and self.chance(3):
            values["count_include_pad"] = True
        self.add("pooling2d", self.any_output(), **values)

    def _margins(self) -> None:
        source = self.any_output()
        mode = self.any_of("zero", "reflect", "replicate")
        padding = self.any_of(1, (0, 1), (1, 0, 0, 1))
        if mode == "reflect" and min(self.shapes[source][1:]) < 2:
            mode = "replicate"
        self.add("pad", source, padding=padding, padding_mode=mode)

    def _shuffled(self) -> None:
        source = self.any_output()
        channels = self.shapes[source][0]
        if channels % 4 == 0 and self.chance(2):
            self.add("pixel_shuffle", source, upscale_factor=2)
            return
        groups = self.any_of(*(g for g in (1, 2, 3) if channels % g == 0))
        self.add("channel_shuffle", source, groups=groups)

    def _upsampling(self) -> None:
        kind, size = self.any_of("nearest", "bilinear"), self.any_of((2, 2), (1, 2))
        self.add("upsample2d", self.any_output(), upsample=kind, kernel_size=size)

    def _normalization(self) -> None:
        kind = self.any_of("batch", "layer", "rms", "group")
        source = self.any_output()
        if kind == "group":
            self._group_normalization(source)
            return
        if kind == "rms":
            self.add("rms_norm", source, trainable=not self.chance(6))
        elif kind == "batch":
            values = {"trainable": not self.chance(6), "momentum": 0.5}
            if values["trainable"] and self.chance(4):
                values["statistics"] = "moving"
            self.add("batch_normalization", source, **values)
        else:
            axis = self.any_of((3,), (3,), (1,), (2,), (1, 2), (1, 3), (2, 3))
            values = {"trainable": not self.chance(6), "axis": axis}
            values["affine"] = not self.chance(5)
            self.add("layer_normalization", source, **values)

    def _group_normalization(self, source: str) -> None:
        channels, height, width = self.shapes[source]
        values = {"trainable": not self.chance(6), "affine": not self.chance(4)}
        if height * width > 1 and self.chance(2):
            self.add("instance_normalization", source, **values)
            return
        n = width if (channels, height) == (1, 1) else channels
        size = channels * height * width
        groups = [g for g in (1, 2, 3) if n % g == 0 and size > g]
        if groups:
            values["num_groups"] = self.any_of(*groups)
            self.add("group_normalization", source, **values)

    def _dropout(self) -> None:
        self.add("dropout", self.any_output(), dropout_rate=self.any_of(0.25, 0.5, 0.0))

    def _reshape(self) -> None:
        source = self.any_output()
        channel, height, width = self.shapes[source]
        kind = self.any_of("flatten", "reshape", "permute", "identity", "multiout")
        if kind == "reshape":
            target = self.any_of(
                (height, channel, width), (1, channel, height * width), (-1, 1, width)
            )
            self.add(kind, source, target_shape=target)
        elif kind == "permute":
            self.add(
                kind, source, direction=tuple(self.draw(st.permutations((1, 2, 3))))
            )
        elif kind == "identity" and self.chance(2):
            self.add(kind, source, self.any_output())
        else:
            self.add(kind, source)

    def _parts(self) -> None:
        source, axis = self.any_output(), self.draw(st.integers(1, 3))
        size = self.shapes[source][axis - 1]
        if self.chance(2):
            start = self.draw(st.integers(1, size))
            end = self.draw(st.integers(start + 1, size + 1))
            self.add("slice", source, axis=axis, start_index=start, end_index=end)
        else:
            numbers = [n for n in (2, 3, 4) if size % n == 0]
            if numbers:
                number = self.any_of(*numbers)
                self.add("split", source, axis=axis, split_number=number)

    def _concat(self) -> None:
        source, axis = self.any_output(), self.draw(st.integers(1, 3))
        shape = self.shapes[source]
        others = [
            name
            for name, other in self.shapes.items()
            if all(
                a == b or i == axis
                for i, (a, b) in enumerate(zip(shape, other, strict=True), 1)
            )
        ]
        more = self.draw(st.lists(st.sampled_from(others), max_size=2))
        self.add("concat", source, *more, axis=axis)

    def _addition(self) -> None:
        source = self.any_output()
        shape = self.shapes[source]
        same = [name for name, other in self.shapes.items() if other == shape]
        more = self.draw(st.lists(st.sampled_from(same), max_size=2))
        self.add("addition", source, *more)

    def _arithmetic(self) -> None:
        source = self.any_output()
        shape = self.shapes[source]
        kind = self.any_of(*ARITHMETIC)
        if kind in ("negative", "reduce_mean", "reduce_sum"):
            axis = {} if kind == "negative" else {"axis": self.any_of(1, 2, 3)}
            self.add(kind, source, **axis)
        elif kind == "pow":
            bounded = self.add("activation", source, activation="tanh")
            self.add(kind, bounded, exponent=2.0)
        elif kind == "sqrt":
            positive = self.add("activation", source, activation="sigmoid")
            self.add(kind, positive)
        elif kind == "matmul":
            bounded = self.add("activation", source, activation="tanh")
            turned = self.add("permute", bounded, direction=(1, 3, 2))
            self.add(kind, *self.any_of((bounded, turned), (turned, bounded)))
        else:
            fits = [
                name
                for name, other in self.shapes.items()
                if other == shape
                or (
                    kind != "swiglu"
                    and all(
                        1 in (a, b) or a == b for a, b in zip(shape, other, strict=True)
                    )
                )
            ]
            other = self.any_of(*fits)
            bounded = self.add("activation", other, activation="sigmoid")
            self.add(kind, *self.any_of((source, bounded), (bounded, source)))

    def _table(self) -> None:
        """Let a weight or a constant be read beside samples."""
        source = self.any_output()
        kind = self.any_of(
            *("add", "subtract", "multiply", "divide", "matmul", "maximum", "minimum"),
            *("concat", "expand"),
        )
        channel, height, width = self.shapes[source]
        if kind == "matmul" and channel == 1:
            dim = (1, width, self.draw(st.integers(1, 3)))
        elif kind == "matmul":
            return
        elif kind in ("concat", "expand"):
            dim = (channel, 1, width)
        else:
            dim = tuple(self.any_of(size, size, 1) for size in (channel, height, width))
        values: Given = {"dim": dim, "value": 0.75}
        if self.chance(3):
            values["value"] = [0.5 + i / 10 for i in range(math.prod(dim))]
        table = f"n{len(self.layers)}"
        if self.chance(4):
            self.layers.append(("constant", {"name": table, **values}))
        else:
            self.layers.append(("weight", {"name": table, **self.trained(**values)}))
        pair = (source, table)
        if kind != "matmul" and self.chance(2):
            pair = (table, self.add("activation", source, activation="sigmoid"))
        self.shapes[table] = dim
        for _ in range(self.any_of(1, 1, 2)):
            if kind == "expand":
                self.add("add", pair[0], self.add("expand", table))
            else:
                self.add(kind, *pair, **({"axis": 2} if kind == "concat" else {}))
        del self.shapes[table]

    def _elements(self) -> None:
        """Add a function with numbers, a choice, or a layer along an axis."""
        source, axis = self.any_output(), self.any_of(1, 2, 3)
        shape = self.shapes[source]
        kind = self.any_of(
            *("curve", "number", "maximum", "where", "prelu", "gather", "norm"),
            *("cosine_similarity", "cumsum", "drop_path"),
            *("reduce_max", "reduce_min", "reduce_prod"),
        )
        if kind == "curve":
            text = self.any_of(
                *("relu6", "clamp(-1, 1)", "hard_swish", "sigmoid_gelu", "sin"),
                *("leaky_relu(0.3)", f"softmax(axis={axis})"),
            )
            self.add("activation", source, activation=text)
        elif kind == "number":
            number = {"value": self.any_of(0.5, -2.0)}
            self.add(self.any_of("add", "multiply", "minimum"), source, **number)
        elif kind == "prelu":
            n = shape[0] if shape[0] > 1 else shape[2]
            self.add(kind, source, num_parameters=self.any_of(1, n))
        elif kind in ("cumsum", "drop_path", "reduce_max", "reduce_min", "reduce_prod"):
            values = {"dropout_rate": 0.3} if kind == "drop_path" else {"axis": axis}
            bounded = self.add("activation", source, activation="tanh")
            self.add(kind, bounded, **values)
        elif kind == "gather":
            self._gather()
        elif kind == "norm":
            positive = self.add("activation", source, activation="sigmoid")
            self.add(kind, positive, axis=axis)
        elif kind == "cosine_similarity":
            same = [name for name, other in self.shapes.items() if other == shape]
            pair = (source, self.any_of(*same))
            positive = [self.add("activation", n, activation="sigmoid") for n in pair]
            self.add(kind, *positive, axis=axis)
        else:
            same = [name for name, other in self.shapes.items() if other == shape]
            other = self.any_of(*same)
            condition = [] if kind == "maximum" else [self.any_of(source, other)]
            self.add(kind, *condition, source, other)

    def _gather(self) -> None:
        """Take places that ids name; they name one of `VOCABULARY`."""
        source = self.any_output(lambda shape: max(shape) >= VOCABULARY)
        if source is None:
            source = self.add("fully_connected", self.any_output(), unit=VOCABULARY)
        shape = self.shapes[source]
        if max(shape) >= VOCABULARY:
            name = f"ids{len(self.layers)}"
            ids = self.add("input", name=name, input_shape=(1, 1, 2))
            self.add("gather", source, ids, axis=shape.index(max(shape)) + 1)

    def _attention(self) -> None:
        query = self.sequence()
        if self.shapes[query][0] != 1:
            return
        _, t, width = self.shapes[query]
        heads = self.any_of(*(h for h in (1, 2, 3) if width % h == 0))
        n_inputs = self.draw(st.integers(1, 4))
        rows = [name for name, shape in self.shapes.items() if shape[0] == 1]
        key = self.any_of(query, *rows)
        s = self.shapes[key][1]
        value = self.any_of(*(n for n in rows if self.shapes[n][1] == s))
        sources = [query, key, value][:n_inputs]
        if n_inputs == 4:
            mask = (self.any_of(1, heads), t, s)
            if math.prod(mask) > MOST_ELEMS:
                return
            number = len(self.layers)
            sources.append(self.add("input", name=f"mask{number}", input_shape=mask))
        values = self.trained(num_heads=heads, attention=self.any_of("plain", "tiled"))
        if self.chance(3):
            values["num_heads_kv"] = 1
        if self.chance(5):
            values["lora_rank"] = 1
        if self.chance(3):
            values["is_causal"] = True
        if self.chance(3):
            values["dropout_rate"] = 0.25
        if self.chance(4):
            values["projected_key_dim"] = self.any_of(1, 3)
        if self.chance(4):
            values["projected_value_dim"] = self.any_of(1, 2)
        if self.chance(4):
            values["output_shape"] = self.any_of(2, 5)
        if self.chance(6):
            values["disable_bias"] = True
        self.add("multi_head_attention", *sources, **values)

    def _heads(self) -> None:
        """Attend with given queries, keys and values, which may be turned."""
        query = self.sequence()
        channel, t, width = self.shapes[query]
        if channel != 1:
            return
        heads = self.any_of(*(h for h in (1, 2, 4) if width % h == 0))
        if width // heads % 2 == 0 and self.chance(2):
            query = self.add("rotary_embedding", query, num_heads=heads)
        groups = self.any_of(*(g for g in (1, 2, 4) if heads % g == 0))
        wide = width // heads * groups
        keys = [n for n, (c, _, w) in self.shapes.items() if (c, w) == (1, wide)]
        if not keys:
            keys = [self.add("fully_connected", query, unit=wide)]
        key = self.any_of(*keys)
        s = self.shapes[key][1]
        values = [
            n
            for n, (c, rows, w) in self.shapes.items()
            if (c, rows) == (1, s) and w % groups == 0
        ]
        sources = [query, key, self.any_of(*values)]
        given: Given = {"num_heads": heads, "num_heads_kv": groups}
        if self.chance(3) and heads * t * s <= MOST_ELEMS:
            shape = (self.any_of(1, heads), t, s)
            number = len(self.layers)
            name = f"mask{number}"
            sources.append(self.add("input", name=name, input_shape=shape))
        if self.chance(3):
            given["is_causal"] = True
        if self.chance(3):
            given["dropout_rate"] = 0.25
        self.add("attention", *sources, **given)

    def _positions(self) -> None:
        source = self.sequence()
        if self.shapes[source][0] == 1:
            self.add("positional_encoding", source)

    def _recurrent(self) -> None:
        source = self.sequence()
        channel, steps, _ = self.shapes[source]
        if channel != 1 or steps > 6:
            return
        kind = self.any_of("lstm", "gru", "rnn")
        values = self.trained(unit=self.draw(st.integers(1, 4)))
        values["return_sequences"] = self.any_of(True, False)
        values["unroll"] = self.any_of(True, False)
        if self.chance(3):
            values["bidirectional"] = True
        if kind == "gru" and self.chance(3):
            values["reset_after"] = False
        if self.chance(4):
            values["dropout_rate"] = 0.25
        if self.chance(4):
            values[self.any_of("integrate_bias", "disable_bias")] = True
        self.add(kind, source, *self.lengths(steps, values), **values)

    def lengths(self, steps: int, values: Given) -> list[str]:
        """Return an input with the lengths of sequences, or nothing."""
        if values["unroll"] or not self.chance(3):
            return []
        name = f"lengths{steps}_{len(self.layers)}"
        return [self.add("input", name=name, input_shape=(1, 1, 1))]

    def _cell(self) -> None:
        source = self.any_output(lambda shape: shape[:2] == (1, 1))
        if source is None:
            return
        states = self.draw(st.integers(0, 2))
        kind = self.any_of("rnncell", "grucell", "lstmcell")
        unit = self.draw(st.integers(1, 4))
        fitting = [n for n, shape in self.shapes.items() if shape == (1, 1, unit)]
        states = min(states if kind == "lstmcell" else 1, states) if fitting else 0
        given = [self.any_of(*fitting) for _ in range(states)]
        self.add(kind, source, *given, **self.trained(unit=unit))

    def _embedding(self) -> None:
        steps = self.any_of(2, 3, 5)
        shape = self.any_of((1, 1, steps), (1, steps, 1))
        known = [n for n in self.shapes if n.startswith("ids")]
        if known and self.chance(2):
            source = self.any_of(*known)
        else:
            name = f"ids{len(self.layers)}"
            source = self.add("input", name=name, input_shape=shape)
        if self.chance(3):
            source = self.add("flatten", source)
        width = self.any_of(2, 4)
        values = self.trained(in_dim=VOCABULARY, out_dim=width)
        if self.chance(3):
            values["padding_idx"] = self.any_of(0, 3)
        name = self.add("embedding", source, **values)
        hidden = self.any_output(lambda shape: shape[2] == width)
        if hidden is not None and self.chance(2):
            tied = {"trainable": values.get("trainable", True), "disable_bias": True}
            self.add(
                *("fully_connected", hidden),
                **{"unit": VOCABULARY, "shared_from": name, "transpose": True, **tied},
            )

    def _twin(self) -> None:
        """Use the weights of an earlier layer on inputs of the same shapes."""
        if not self.sharable:
            return
        kind, name, shapes, values = self.any_of(*self.sharable)
        if values.get("unroll") or values.get("shared_from"):
            return
        sources = []
        for index, shape in enumerate(shapes):
            fixed = kind == "embedding" or (
                kind == "multi_head_attention" and index == 3
            )
            known = ("ids", "mask") if fixed else ("",)
            if kind in ("rnn", "lstm", "gru") and index == 1:
                known = (f"lengths{shapes[0][1]}_",)
            fitting = [
                n
                for n, other in self.shapes.items()
                if other == shape and n.startswith(known)
            ]
            if not fitting:
                return
            sources.append(self.any_of(*fitting))
        self.add(kind, *sources, **values, shared_from=name)

    # -- the end -----------------------------------------------------------------------

    def finish(self) -> None:
        """Bring everything that nobody reads to one shape, and add the loss."""
        loss = self.any_of(*LOSSES)
        rows = self.any_of(1, 2, 3) if loss not in VALUE_LOSSES else 1
        unit = self.draw(st.integers(1, 3))
        ends = []
        for output in list(self.unread):
            if self.shapes[output][:2] != (1, 1):
                output = self.add("flatten", output)
            ends.append(self.add("fully_connected", output, unit=rows * unit))
        end = self.add("addition", *ends) if len(ends) > 1 else ends[0]
        if rows > 1:
            end = self.add("reshape", end, target_shape=(1, rows, unit))
        if loss == "kld":
            end = self.add("activation", end, activation="softmax")
        given: Given = {"name": "loss", "input_layers": [end]}
        if loss == "per_token":
            loss, given = "cross_softmax", {**given, "per_token": True}
        has_weights = unit > 1 or loss == "cross_sigmoid"  # one class has no others
        if (
            loss in ("cross_softmax", "cross_sigmoid")
            and has_weights
            and self.chance(3)
        ):
            given |= self._of_classes(loss, unit)
            if rows > 1 and self.chance(2):  # as a picture: classes are channels
                end = self.add("reshape", end, target_shape=(unit, rows, 1))
                given |= {"input_layers": [end], "axis": 1}
        self.layers.append((loss, given))

    def another_loss(self, name: str) -> None:
        """Add a loss with a weight over a head of its own, on any output."""
        source = self.any_output()
        if self.shapes[source][:2] != (1, 1):
            source = self.add("flatten", source)
        end = self.add("fully_connected", source, unit=self.any_of(2, 3))
        loss = self.any_of("mse", "huber", "cross_softmax", "cross_sigmoid")
        weight = self.any_of(0.25, 1.0, 3.0)
        self.layers.append(
            (loss, {"name": name, "input_layers": [end], "weight": weight})
        )

    def _of_classes(self, loss: str, n_classes: int) -> Given:
        weights = [self.any_of(0.5, 1, 3) for _ in range(n_classes)]
        if loss == "cross_sigmoid":
            return {"pos_weight": self.any_of(weights[:1], weights)}
        smoothing = self.any_of(0.0, 0.1)
        return {"class_weight": weights, "label_smoothing": smoothing}


GROWTHS = (
    *("table", "heads"),
    *("dense", "dense", "activation", "convolution", "convolution", "line", "pooling"),
    *("upsampling", "normalization", "normalization", "dropout", "reshape", "parts"),
    *("concat", "addition", "addition", "arithmetic", "arithmetic", "attention"),
    *("attention", "positions", "recurrent", "recurrent", "cell", "embedding", "twin"),
    *("margins", "shuffled", "elements"),
)


@st.composite
def mixed_graphs(
    draw: st.DrawFn, *, max_layers: int = 12, n_losses: int = 1
) -> MixedSpec:
    """Graphs of all layers, with blocks of layers or of parts of layers."""
    graph = Growing(draw)
    for _ in range(draw(st.integers(1, 2))):
        shape = graph.any_of((3, 4, 4), (2, 3, 5), (1, 4, 6), (1, 1, 6), (2, 1, 4))
        graph.add("input", input_shape=shape)
    for _ in range(draw(st.integers(2, max_layers))):
        graph.grow()
    graph.finish()
    for number in range(1, n_losses):
        graph.another_loss(f"loss{number}")
    properties, optimizer = draw(model_properties()), draw(st.sampled_from(OPTIMIZERS))
    if "clip_value" in optimizer[1]:  # the two ways to clip exclude each other
        properties = {k: v for k, v in properties.items() if k != "clip_grad_by_norm"}
    spec = MixedSpec(
        tuple(graph.layers),
        (),
        properties,
        optimizer,
    )
    if "clip_value" in spec.optimizer[1]:  # gradients are clipped in one way alone
        given = spec.properties or {}
        rest = {k: v for k, v in given.items() if k != "clip_grad_by_norm"}
        spec = replace(spec, properties=rest)
    n, micro_batches = spec.batch_size, spec.properties.get("micro_batches", 1)
    if not can_train_on(spec.model().compile(), n, -(-n // micro_batches)):
        spec = spec.with_properties(batch_size=max(n, 2), micro_batches=1)
    names = names_of(spec, draw(st.booleans()))
    blocks = draw(st.one_of(rows_of_blocks(names), blocks_of(names)))
    return replace(spec, blocks=blocks)


@st.composite
def rows_of_blocks(draw: st.DrawFn, names: list[str]) -> tuple[tuple[str, ...], ...]:
    """Blocks one after the other, from the input or soon after it to the end."""
    blocks, place = [], draw(st.integers(0, 2))
    while place + 2 <= len(names):
        stop = place + draw(st.sampled_from((5, 2, 3, 4, 8, 12)))
        blocks.append(tuple(names[place:stop]))
        place = stop + draw(st.sampled_from((0, 0, 1)))
    return tuple(blocks)


def names_of(spec: ModelSpec, by_part: bool) -> list[str]:
    """Return in forward order the names of layers, or those of all their parts."""
    model = spec.model()
    model.compile()
    assert model._graph is not None
    names = [node.name for node in model._graph.nodes]
    if by_part:
        return names
    return list(dict.fromkeys(name.partition("/")[0] for name in names))
