"""What the twins of a network in PyTorch and JAX begin with, and have to give.

A *reference* is a file with the weights of an example, a batch, the optimizer and the
losses of its first steps. A twin takes the weights and must have the same losses, so
that no other network is timed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RESNETS = {
    # the filters and the residual blocks of each stage
    "resnet8": ((16, 1), (32, 1), (64, 1)),
    "resnet18": ((64, 2), (128, 2), (256, 2), (512, 2)),
}
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
TEXTS = ("gpt", "char_transformer")
"""Examples that read ids of characters."""

NORM_EPSILON = 1e-3
"""What batch normalization adds to a variance."""

LOSS_TOLERANCES = (1e-4, 2e-3)
"""Largest relative difference of the loss of the first step, and of the second, which
also tells other gradients and another optimizer."""


class DifferentNetworkError(Exception):
    """Raised when a twin is not the network whose reference it was given."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A network as the example has it before its first step.

    Attributes
    ----------
    example : str
    weights : dict
        Arrays by name, in the order of the layers, running statistics among them.
    x : numpy.ndarray
        A batch: ids ``(n, length)``, or pictures ``(n, channels, height, width)``.
    y : numpy.ndarray
        Class numbers ``(n,)``, or ``(n, length)``.
    losses : tuple of float
        Of the first steps on this batch; where there is dropout, the one of a forward
        pass of inference.
    has_dropout : bool
    optimizer : dict
        Its ``type`` and properties.
    clip_norm : float
        The norm that gradients are clipped to; 0 where they are not.
    heads, n_layers : int
        Of a transformer; 0 elsewhere.
    """

    example: str
    weights: dict[str, np.ndarray]
    x: np.ndarray
    y: np.ndarray
    losses: tuple[float, ...]
    has_dropout: bool
    optimizer: dict[str, Any]
    clip_norm: float
    heads: int
    n_layers: int

    @property
    def n_parameters(self) -> int:
        """The number of weights that are trained."""
        return sum(w.size for name, w in self.weights.items() if not is_moving(name))


def is_moving(name: str) -> bool:
    """Tell whether an array is a running statistic, which is not trained."""
    return ":moving_" in name


def write_reference(path: Path, name: str, sizes: dict[str, Any]) -> None:
    """Write the reference of an example with these sizes."""
    from arena_ckpt.examples import load_example
    from arena_ckpt.model import without_blocks
    from arena_ckpt.optim.optimizers import OPTIMIZER_SCHEMAS

    example = load_example(name, **sizes)
    model = without_blocks(example.model)
    model.set_learning_rate_scheduler(None)
    model.initialize()
    n = model.get_property("batch_size")
    x, y = example.data.x[:n], example.data.y[:n].astype(np.int64)
    layers = {layer.name: layer for layer in model.layers}
    attention = [v for k, v in layers.items() if k.startswith("mha")]
    has_dropout = any(layer.type_name == "dropout" for layer in layers.values())
    weights = {f"w:{k}": np.array(v) for k, v in model.weights().items()}
    flat = x.reshape(n, -1)
    if has_dropout:
        losses = [model.evaluate((flat, y)).loss]
    else:
        losses = [model.train_step(flat, y) for _ in LOSS_TOLERANCES]
    if name in TEXTS:
        x = flat.astype(np.int64)
    else:
        x = flat.reshape(n, *model.layers[0]["input_shape"]).astype(np.float32)
    optimizer = model.optimizer
    names = [one.name for one in OPTIMIZER_SCHEMAS[optimizer.type_name]]
    facts = {
        "example": name,
        "losses": [float(loss) for loss in losses],
        "has_dropout": has_dropout,
        "optimizer": {"type": optimizer.type_name}
        | {key: optimizer[key] for key in names},
        "clip_norm": float(model.get_property("clip_grad_by_norm") or 0),
        "heads": attention[0]["num_heads"] if attention else 0,
        "n_layers": len(attention),
    }
    np.savez(path, x=x, y=y, facts=np.array(json.dumps(facts)), **weights)


def read_reference(path: Path) -> Reference:
    """Read what `write_reference` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        facts = json.loads(str(arrays["facts"]))
        weights = {k.removeprefix("w:"): arrays[k] for k in arrays if k[:2] == "w:"}
        x, y = arrays["x"], arrays["y"]
    facts["losses"] = tuple(facts["losses"])
    return Reference(weights=weights, x=x, y=y, **facts)


def require_same(
    what: str, n_parameters: int, losses: list[float], reference: Reference
) -> None:
    """Raise `DifferentNetworkError` where a twin has other weights or other losses."""
    if n_parameters != reference.n_parameters:
        raise DifferentNetworkError(
            f"the twin of {reference.example} in {what} trains {n_parameters:,} "
            f"weights, the example {reference.n_parameters:,}; correct the twin"
        )
    pairs = zip(losses, reference.losses, LOSS_TOLERANCES, strict=False)
    for step, (found, wanted, tolerance) in enumerate(pairs, start=1):
        if not abs(found - wanted) <= tolerance * abs(wanted):
            raise DifferentNetworkError(
                f"the twin of {reference.example} in {what} has a loss of {found:.6g} "
                f"in step {step}, the example {wanted:.6g} with the same weights; "
                "correct the twin"
            )


def rounded(filters: float) -> int:
    """Round a number of channels to a multiple of 8, but down by a tenth at most."""
    near = max(8, int(filters + 4) // 8 * 8)
    return near + 8 if near < 0.9 * filters else near


def places(length: int, d: int) -> np.ndarray:
    """Return what a transformer adds to the features of each position."""
    angle = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)
    sines = np.stack([np.sin(angle), np.cos(angle)], -1)
    return sines.reshape(length, d).astype(np.float32)
