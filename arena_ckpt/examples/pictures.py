"""Further networks for pictures, as functions of their sizes."""

from __future__ import annotations

from arena_ckpt.examples.builder import Builder, rounded, window
from arena_ckpt.model import Model

BOTTLENECKS = (
    # kernel, wide channels, channels, squeezes, activation, stride:
    # Howard et al., "Searching for MobileNetV3", table 2
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hard_swish", 2),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 240, 40, True, "hard_swish", 1),
    (5, 120, 48, True, "hard_swish", 1),
    (5, 144, 48, True, "hard_swish", 1),
    (5, 288, 96, True, "hard_swish", 2),
    (5, 576, 96, True, "hard_swish", 1),
    (5, 576, 96, True, "hard_swish", 1),
)


def mobilenet_v3_small(
    width: float = 0.5,
    size: int = 96,
    *,
    classes: int = 10,
    dropout: float = 0.2,
    batch_size: int = 4,
    checkpoint: bool = True,
    seed: int = 0,
) -> Model:
    """Return a chain of inverted residuals that squeeze and excite their channels.

    Parameters
    ----------
    width : float
        Multiplies the number of filters, which is then rounded to a multiple of 8.
    size : int
        Height and width of a picture in pixels.
    dropout : float
        Share of what the last layer reads that is dropped.
    classes, batch_size, checkpoint, seed
        As elsewhere.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", 2019.
    """
    build = Builder(seed, checkpoint)
    build.add("input", "in", input_shape=(3, size, size))
    channels = rounded(16 * width)
    last = build.convolve("stem", channels, 3, 2, activation="hard_swish")
    for number, bottleneck in enumerate(BOTTLENECKS):
        kernel, wide, filters, squeezes, activation, stride = bottleneck
        wide, out, name = rounded(wide * width), rounded(filters * width), f"b{number}"
        build.begin_block()
        skipped = last
        if wide != channels:
            build.convolve(f"{name}wide", wide, 1, activation=activation)
        build.convolve_depthwise(f"{name}_depth", kernel, stride, activation)
        if squeezes:
            _excite(build, name, wide)
        last = build.convolve(f"{name}out", out, 1, activation=None)
        if stride == 1 and out == channels:
            last = build.add("addition", f"{name}_add", input_layers=(last, skipped))
        build.end_block(name)
        channels = out
    build.convolve("top", rounded(576 * width), 1, activation="hard_swish")
    build.add("pooling2d", "pool", pooling="global_average")
    build.add("flatten", "flat")
    build.add("fully_connected", "features", unit=rounded(1024 * width))
    build.add("activation", "features_act", activation="hard_swish")
    build.add("dropout", "drop", dropout_rate=dropout)
    build.add("fully_connected", "logits", unit=classes)
    build.add("cross_softmax", "loss")
    build.model.set_property(batch_size=batch_size)
    build.model.set_optimizer("sgd", learning_rate=0.01, momentum=0.9)
    return build.model


def _excite(build: Builder, name: str, channels: int) -> None:
    """Multiply each channel by what a small network makes of the means of all."""
    source = build.last
    build.add("pooling2d", f"{name}_mean", pooling="global_average")
    for part, filters, activation in (
        ("squeeze", rounded(channels / 4), "relu"),
        ("excite", channels, "hard_sigmoid"),
    ):
        build.add("conv2d", f"{name}_{part}", filters=filters, kernel_size=(1, 1))
        build.add("activation", f"{name}_{part}_act", activation=activation)
    build.add("multiply", f"{name}_scaled", input_layers=(source, build.last))


def unet(
    filters: int = 8,
    depth: int = 3,
    *,
    shape: tuple[int, int, int] = (1, 48, 48),
    classes: int = 2,
    batch_size: int = 4,
    checkpoint: bool = True,
    seed: int = 0,
) -> Model:
    """Return a network that says for each pixel which class it belongs to.

    Parameters
    ----------
    filters : int
        Channels of the first convolutions; each level below has twice as many.
    depth : int
        Times that height and width are halved, and doubled again.
    shape : tuple of int
        Channels, height and width of a picture; 2 to the power `depth` divides both.
    classes : int
        Classes of a pixel; the label is a class number for each.
    batch_size, checkpoint, seed
        As elsewhere.

    Notes
    -----
    With padding, so that a picture keeps its size, and batch normalization.

    References
    ----------
    Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", 2015.
    """
    build = Builder(seed, checkpoint)
    build.add("input", "in", input_shape=shape)
    kept = []
    for level in range(depth):
        kept.append(_convolve_twice(build, f"down{level}", filters << level))
        half = {"pool_size": (2, 2), "stride": (2, 2)}
        build.add("pooling2d", f"pool{level}", pooling="max", **half)
    _convolve_twice(build, "bottom", filters << depth)
    for level in reversed(range(depth)):
        larger = window(2, 2) | {"padding": (0, 0)}
        build.add("conv2dtranspose", f"up{level}", filters=filters << level, **larger)
        sources = (kept[level], build.last)
        build.add("concat", f"join{level}", axis=1, input_layers=sources)
        _convolve_twice(build, f"out{level}", filters << level)
    build.add("conv2d", "logits", filters=classes, kernel_size=(1, 1))
    build.add("permute", "pixels", direction=(2, 3, 1))
    build.add("cross_softmax", "loss", per_token=True)
    build.model.set_property(batch_size=batch_size)
    build.model.set_optimizer("adam", learning_rate=3e-3)
    return build.model


def _convolve_twice(build: Builder, name: str, filters: int) -> str:
    """Add a block of two convolutions; return the name of its output."""
    build.begin_block()
    build.convolve(f"{name}a", filters, 3)
    last = build.convolve(f"{name}b", filters, 3)
    build.end_block(name)
    return last
