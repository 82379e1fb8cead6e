"""What builds the networks of the examples, layer by layer and block by block."""

from __future__ import annotations

from typing import Any

from arena_ckpt.model import Model


class Builder:
    """Adds layers one after another, and remembers the names for the next block."""

    def __init__(self, seed: int, checkpoint: bool) -> None:
        self.model = Model(seed)
        self.last = ""  # the layer added last
        self._checkpoint = checkpoint
        self._names: list[str] = []

    def add(self, type_name: str, name: str, **values: Any) -> str:
        """Add a layer behind the last one, or the given ones; return its name."""
        self.model.add_layer(type_name, name=name, **values)
        self._names.append(name)
        self.last = name
        return name

    def begin_block(self) -> None:
        """Let the next block begin with the next layer."""
        self._names = []

    def end_block(self, name: str) -> None:
        """Make a block of the layers since its beginning, if blocks are wanted."""
        if self._checkpoint:
            self.model.add_checkpoint_block(self._names, name)
        self._names = []

    def convolve(
        self,
        name: str,
        filters: int,
        kernel: int,
        stride: int = 1,
        *,
        source: str | None = None,
        activation: str | None = "relu",
    ) -> str:
        """Add a convolution without bias, a batch normalization and an activation."""
        given = window(kernel, stride)
        if source is not None:
            given["input_layers"] = source
        self.add("conv2d", f"{name}_conv", filters=filters, **given)
        return self.normalize(name, activation)

    def convolve_depthwise(
        self, name: str, kernel: int, stride: int, activation: str | None = "relu"
    ) -> str:
        """Add a depthwise convolution, a batch normalization and an activation."""
        self.add("depthwiseconv2d", name, **window(kernel, stride))
        return self.normalize(name, activation)

    def normalize(self, name: str, activation: str | None = "relu") -> str:
        """Add a batch normalization and, if one is given, an activation."""
        self.add("batch_normalization", f"{name}_bn", momentum=0.9)
        if activation:
            self.add("activation", f"{name}_act", activation=activation)
        return self.last

    def feed_forward(self, i: int, ff: int, d: int) -> None:
        """Add two linear layers with gelu between them."""
        self.add("fully_connected", f"fc{i}a", unit=ff)
        self.add("activation", f"gelu{i}", activation="gelu")
        self.add("fully_connected", f"fc{i}b", unit=d)

    def classify_pictures(self, classes: int) -> None:
        """Add the mean of each channel, a linear layer and the loss."""
        self.add("pooling2d", "pool", pooling="global_average")
        self.add("flatten", "flat")
        self.add("fully_connected", "logits", unit=classes)
        self.add("cross_softmax", "loss")


def window(kernel: int, stride: int) -> dict[str, Any]:
    """Return properties of a square convolution; only `stride` reduces the size."""
    return {
        "kernel_size": (kernel, kernel),
        "stride": (stride, stride),
        "padding": (kernel // 2, kernel // 2),
        "disable_bias": True,
        "weight_initializer": "he_normal",
    }


def rounded(filters: float) -> int:
    """Round a number of channels to a multiple of 8, but down by a tenth at most."""
    near = max(8, int(filters + 4) // 8 * 8)
    return near + 8 if near < 0.9 * filters else near
