"""Architectures as functions of their sizes; each returns an uninitialized model.

Every repeated part of a network is a checkpoint block, unless ``checkpoint=False``; of
a `resnet` those parts whose blocks save bytes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from arena_ckpt.examples.builder import Builder as _Builder
from arena_ckpt.examples.builder import rounded
from arena_ckpt.model import Model
from arena_ckpt.optim.learning_rates import create_schedule

TEXT_CHARACTERS = 2_000_000
"""Number of characters of the text that comes with `char_transformer`; a sample is a
window of `length`."""

EXPANSIONS = (
    # times wider, channels, repeats, stride: Sandler et al., "MobileNetV2", table 2
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def transformer(
    n_layers: int = 2,
    d: int = 512,
    heads: int = 8,
    ff: int = 2048,
    *,
    length: int = 32,
    is_causal: bool = False,
    batch_size: int = 4,
    checkpoint: bool = True,
    seed: int = 0,
) -> Model:
    """Return a chain of attention, normalization and two linear layers, as documented.

    Parameters
    ----------
    n_layers : int
        Times that the six layers are repeated; each is a checkpoint block.
    d : int
        Features of a position.
    heads : int
        Number of heads of the attention.
    ff : int
        Features between the two linear layers.
    length : int
        Positions of a sample.
    is_causal : bool
        A position sees itself and those before it only.
    batch_size : int
    checkpoint : bool
    seed : int
    """
    build = _Builder(seed, checkpoint)
    build.add("input", "in", input_shape=(1, length, d))
    for i in range(n_layers):
        build.begin_block()
        build.add(
            "multi_head_attention", f"mha{i}", num_heads=heads, is_causal=is_causal
        )
        build.add("layer_normalization", f"ln{i}a", axis=3)
        build.feed_forward(i, ff, d)
        build.add("layer_normalization", f"ln{i}b", axis=3)
        build.end_block(f"layer{i}")
    build.add("mse", "loss")
    build.model.set_property(batch_size=batch_size)
    build.model.set_optimizer("adam", learning_rate=1e-4)
    return build.model


def gpt(
    n_layers: int = 6,
    d: int = 256,
    heads: int = 8,
    ff: int = 1024,
    *,
    length: int = 128,
    vocabulary: int = 96,
    dropout: float = 0.0,
    batch_size: int = 8,
    checkpoint: bool = True,
    seed: int = 0,
) -> Model:
    """Return a causal transformer with residual connections and pre-normalization.

    Parameters
    ----------
    n_layers, d, heads, ff, length, batch_size, checkpoint, seed
        As of `transformer`.
    vocabulary : int
        Different ids, and classes of the next one.
    dropout : float
        Share of the elements that is dropped behind attention and linear layers.
    """
    build = _Builder(seed, checkpoint)
    build.add("input", "in", input_shape=(1, 1, length))
    build.add("embedding", "tokens", in_dim=vocabulary, out_dim=d)
    last = build.add("positional_encoding", "places", max_timestep=length)
    for i in range(n_layers):
        build.begin_block()
        build.add("layer_normalization", f"ln{i}a", axis=3, epsilon=1e-5)
        build.add("multi_head_attention", f"mha{i}", num_heads=heads, is_causal=True)
        last = _residual(build, last, f"{i}a", dropout)
        build.add("layer_normalization", f"ln{i}b", axis=3, epsilon=1e-5)
        build.feed_forward(i, ff, d)
        last = _residual(build, last, f"{i}b", dropout)
        build.end_block(f"layer{i}")
    build.add("layer_normalization", "ln", axis=3, epsilon=1e-5)
    build.add("fully_connected", "logits", unit=vocabulary)
    build.add("cross_softmax", "loss", per_token=True)
    build.model.set_property(batch_size=batch_size)
    build.model.set_optimizer("adam", learning_rate=1e-3)
    return build.model


def _residual(build: _Builder, skipped: str, name: str, dropout: float) -> str:
    if dropout:
        build.add("dropout", f"drop{name}", dropout_rate=dropout)
    return build.add("addition", f"add{name}", input_layers=(skipped, build.last))


def char_transformer(
    n_layers: int = 3,
    d: int = 128,
    heads: int = 4,
    *,
    length: int = 64,
    batch_size: int = 16,
    checkpoint: bool = True,
    seed: int = 0,
) -> Model:
    """Return the `gpt` that learns to write Python, a character at a time."""
    model = gpt(
        n_layers,
        d,
        heads,
        4 * d,
        length=length,
        batch_size=batch_size,
        checkpoint=checkpoint,
        seed=seed,
    )
    epochs, n_windows = 2, (TEXT_CHARACTERS - 1) // length
    n_trained = n_windows - n_windows // 20  # the rest is for validation
    model.set_property(epochs=epochs, clip_grad_by_norm=1.0)
    model.set_optimizer("adamw", learning_rate=3e-3, weight_decay=0.01)
    _anneal(model, 1e-4, epochs * -(-n_trained // batch_size))
    return model


def resnet(
    stages: tuple[tuple[int, int], ...],
    *,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    batch_size: int = 32,
    checkpoint: bool = True,
    seed: int = 0,
) -> Model:
    """Return a residual network of basic blocks for small pictures.

    Parameters
    ----------
    stages : tuple of (int, int)
        For each stage its filters and its residual blocks; all but the first halve
        height and width.
    shape : tuple of int
        Channels, height and width of a picture.
    classes, batch_size, checkpoint, seed
        As elsewhere.

    Notes
    -----
    Residual blocks of the first half of the stages are checkpoint blocks, the first one
    together with the stem; each ends with its addition, and the next one begins with
    the activation. Later pictures are small: what their blocks could drop is
    less than what the first backward steps have freed when memory is at its peak.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", 2015.
    """
    build = _Builder(seed, checkpoint)
    build.add("input", "in", input_shape=shape)
    build.begin_block()
    last = build.convolve("stem", stages[0][0], 3)
    width = stages[0][0]
    for number, (filters, repeats) in enumerate(stages):
        for repeat in range(repeats):
            name = f"s{number}b{repeat}"
            stride = 2 if number and not repeat else 1
            skipped = last
            build.convolve(f"{name}a", filters, 3, stride, source=last)
            branch = build.convolve(f"{name}b", filters, 3, activation=None)
            if stride > 1 or filters != width:
                skipped = build.convolve(
                    f"{name}skip", filters, 1, stride, source=last, activation=None
                )
            width = filters
            build.add("addition", f"{name}_add", input_layers=(branch, skipped))
            if number < max(1, len(stages) // 2):
                build.end_block(name)
            last = build.add("activation", f"{name}_act", activation="relu")
    build.classify_pictures(classes)
    build.model.set_property(batch_size=batch_size)
    build.model.set_optimizer("sgd", learning_rate=0.05, momentum=0.9)
    return build.model


resnet8 = partial(resnet, ((16, 1), (32, 1), (64, 1)))
"""The `resnet` of MLPerf Tiny: three stages of one block, 16 to 64 filters.

References
----------
Banbury et al., "MLPerf Tiny Benchmark", 2021.
"""

resnet18 = partial(resnet, ((64, 2), (128, 2), (256, 2), (512, 2)))
"""The `resnet` of 18 layers: stages of two blocks, to 512 filters."""


def mobilenet_v2(
    width: float = 0.35,
    size: int = 96,
    *,
    classes: int = 10,
    batch_size: int = 4,
    checkpoint: bool = True,
    activation: str = "relu6",
    seed: int = 0,
) -> Model:
    """Return a chain of inverted residuals with linear bottlenecks.

    Parameters
    ----------
    width : float
        Multiplies the number of filters, which is then rounded to a multiple of 8.
    size : int
        Height and width of a picture in pixels.
    classes, batch_size, checkpoint, seed
        As elsewhere.
    activation : str
        The function behind every convolution but those that make a block narrow.

    References
    ----------
    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018.
    """
    build = _Builder(seed, checkpoint)
    build.add("input", "in", input_shape=(3, size, size))
    channels = rounded(32 * width)
    last = build.convolve("stem", channels, 3, 2, activation=activation)
    number = 0
    for times, filters, repeats, first_stride in EXPANSIONS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            out, name = rounded(filters * width), f"b{number}"
            build.begin_block()
            skipped = last
            if times > 1:
                build.convolve(
                    f"{name}wide", times * channels, 1, activation=activation
                )
            build.convolve_depthwise(f"{name}_depth", 3, stride, activation)
            last = build.convolve(f"{name}out", out, 1, activation=None)
            if stride == 1 and out == channels:
                last = build.add(
                    "addition", f"{name}_add", input_layers=(last, skipped)
                )
            build.end_block(name)
            channels, number = out, number + 1
    build.convolve("top", rounded(1280 * max(1.0, width)), 1, activation=activation)
    build.classify_pictures(classes)
    build.model.set_property(batch_size=batch_size)
    build.model.set_optimizer("sgd", learning_rate=0.01, momentum=0.9)
    return build.model


def keyword_gru(
    unit: int = 64,
    *,
    steps: int = 49,
    features: int = 10,
    classes: int = 12,
    batch_size: int = 16,
    unroll: bool = False,
    seed: int = 0,
) -> Model:
    """Return a recurrent network for spoken keywords: a GRU over frames of features.

    Parameters
    ----------
    unit : int
        Size of the hidden state.
    steps, features : int
        Frames of a sample, and numbers in a frame.
    classes, batch_size, seed
        As elsewhere.
    unroll : bool
        Let the plan see every time step.

    References
    ----------
    Zhang et al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017.
    """
    model = Model(seed)
    model.add_layer("input", name="in", input_shape=(1, steps, features))
    model.add_layer("gru", name="gru", unit=unit, reset_after=True, unroll=unroll)
    model.add_layer("fully_connected", name="logits", unit=classes)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=batch_size)
    model.set_optimizer("adam", learning_rate=2e-3)
    return model


def lstm_har(
    unit: int = 32,
    *,
    steps: int = 128,
    sensors: int = 9,
    classes: int = 6,
    bidirectional: bool = False,
    batch_size: int = 16,
    unroll: bool = False,
    seed: int = 0,
) -> Model:
    """Return a recurrent network that tells activities by the sensors of a phone.

    Each step goes through a layer of `unit` before two LSTMs, of which the second
    gives its last step.

    Parameters
    ----------
    unit : int
        Size of the hidden states.
    steps, sensors : int
        Steps of a sample (2.56 s at 50 Hz), and numbers in a step: acceleration of the
        body, rotation and total acceleration along three axes.
    classes, batch_size, seed
        As elsewhere.
    bidirectional : bool
        Let the first LSTM read both ways.
    unroll : bool
        Let the plan see every time step.

    References
    ----------
    Anguita et al., "A public domain dataset for human activity recognition using
    smartphones", ESANN 2013.
    """
    model = Model(seed)
    given: dict[str, Any] = {"unit": unit, "unroll": unroll}
    model.add_layer("input", name="in", input_shape=(1, steps, sensors))
    model.add_layer("fully_connected", name="each", unit=unit, activation="relu")
    model.add_layer(
        "lstm",
        name="first",
        return_sequences=True,
        bidirectional=bidirectional,
        **given,
    )
    model.add_layer("lstm", name="second", **given)
    model.add_layer("fully_connected", name="logits", unit=classes)
    model.add_layer("cross_softmax", name="loss")
    model.set_property(batch_size=batch_size, clip_grad_by_norm=1.0)
    model.set_optimizer("adam", learning_rate=2.5e-3)
    return model


def autoencoder(
    *,
    width: int = 640,
    hidden: int = 128,
    code: int = 8,
    batch_size: int = 32,
    checkpoint: bool = True,
    seed: int = 0,
) -> Model:
    """Return the autoencoder of MLPerf Tiny that hears machines fail.

    Parameters
    ----------
    width : int
        Numbers in a sample.
    hidden, code : int
        Units of the four layers on each side, and of the narrowest one.
    batch_size, checkpoint, seed
        As elsewhere.

    References
    ----------
    Banbury et al., "MLPerf Tiny Benchmark", 2021.
    """
    build = _Builder(seed, checkpoint)
    build.add("input", "in", input_shape=(1, 1, width))
    for side, units in (("in", (hidden,) * 4 + (code,)), ("out", (hidden,) * 4)):
        build.begin_block()
        for i, unit in enumerate(units):
            build.add("fully_connected", f"{side}{i}", unit=unit)
            build.normalize(f"{side}{i}")
        build.end_block({"in": "encoder", "out": "decoder"}[side])
    build.add("fully_connected", "restored", unit=width)
    build.add("mse", "loss")
    build.model.set_property(batch_size=batch_size)
    build.model.set_optimizer("adam", learning_rate=1e-3)
    return build.model


def digits_cnn(*, checkpoint: bool = True, seed: int = 0) -> Model:
    """Return a small convolutional network for pictures of 8 × 8 pixels."""
    build = _Builder(seed, checkpoint)
    build.add("input", "in", input_shape=(1, 8, 8))
    for i, filters in enumerate((16, 32)):
        build.begin_block()
        build.convolve(f"c{i}a", filters, 3)
        build.convolve(f"c{i}b", filters, 3)
        build.add(
            "pooling2d", f"pool{i}", pooling="max", pool_size=(2, 2), stride=(2, 2)
        )
        build.end_block(f"stage{i}")
    build.add("flatten", "flat")
    build.add("dropout", "drop", dropout_rate=0.3)
    build.add("fully_connected", "logits", unit=10)
    build.add("cross_softmax", "loss")
    model = build.model
    model.set_property(batch_size=64, epochs=15)
    model.set_optimizer("adam", learning_rate=3e-3)
    _anneal(model, 1e-5, 23 * 15)
    return model


def multi_head(*, checkpoint: bool = True, seed: int = 0) -> Model:
    """Return a body for pictures of 8 × 8 pixels that two losses train.

    ``digit`` says which digit it is, and ``ink`` how much of the picture is dark.
    """
    build = _Builder(seed, checkpoint)
    build.add("input", "in", input_shape=(1, 1, 64))
    build.begin_block()
    for i in range(2):
        build.add("fully_connected", f"fc{i}", unit=64)
        build.add("activation", f"act{i}", activation="relu")
    build.end_block("body")
    build.add("fully_connected", "logits", unit=10)
    build.add("cross_softmax", "digit")
    build.add("fully_connected", "shade", unit=1, input_layers="act1")
    build.add("mse", "ink", weight=4.0)
    model = build.model
    model.set_property(batch_size=32, epochs=10)
    model.set_optimizer("adam", learning_rate=3e-3)
    return model


def _anneal(model: Model, least: float, n_iterations: int) -> None:
    """Let the learning rate fall along a cosine, from the optimizer's."""
    schedule = create_schedule(
        "cosine",
        max_learning_rate=model.optimizer["learning_rate"],
        min_learning_rate=least,
        decay_steps=n_iterations,
    )
    model.set_learning_rate_scheduler(schedule)
