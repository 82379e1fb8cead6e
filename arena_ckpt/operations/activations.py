"""The activation functions: the names of their kernels, and what backward reads."""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.operations.kernel_names import KernelName, parse_parameters

_ELEMENTWISE = {
    "forward": "x: Vector, y: Vector",
    "backward": "saved: Vector, dy: Vector, dx: Vector",
    "bias_forward": "x: Matrix, bias: Vector, y: Matrix",
}
_OF_ROWS = {
    "forward": "x: Matrix, y: Matrix",
    "backward": "y: Matrix, dy: Matrix, dx: Matrix",
}


@dataclass(frozen=True, slots=True)
class Activation:
    """The kernels of one activation.

    Attributes
    ----------
    forward : KernelName
        Takes (x, y).
    backward : KernelName
        Takes (saved, dy, dx).
    bias_forward : KernelName or None
        Takes (x, bias, y): adds a bias and applies the function in one pass.
    saves : str
        ``"output"`` or ``"input"``: the first argument of `backward`.
    """

    forward: KernelName
    backward: KernelName
    bias_forward: KernelName | None
    saves: str


def _activation(name: str, saves: str, texts: dict[str, str]) -> Activation:
    named = {
        entry: KernelName("activations", entry, parse_parameters(text), (name,))
        for entry, text in texts.items()
    }
    return Activation(
        named["forward"], named["backward"], named.get("bias_forward"), saves
    )


SAVES: dict[str, str] = {
    "relu": "output",
    "leaky_relu": "output",
    "sigmoid": "output",
    "tanh": "output",
    "gelu": "input",
    "tanh_gelu": "input",
    "swish": "input",
    "elu": "output",
    "selu": "output",
    "softplus": "input",
    "mish": "input",
    "softmax": "output",
}
"""Whether the backward pass of each function reads its output or its input."""

ACTIVATIONS: dict[str, Activation] = {
    name: _activation(name, saves, _OF_ROWS if name == "softmax" else _ELEMENTWISE)
    for name, saves in SAVES.items()
}
"""By NNTrainer's names; softmax works on whole rows."""
