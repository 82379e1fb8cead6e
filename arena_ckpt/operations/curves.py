"""Functions of every element that take two numbers: names, and what backward reads."""

from __future__ import annotations

from arena_ckpt.operations.kernel_names import KernelName, parse_parameters

SAVES: dict[str, str] = {
    "relu6": "output",
    "clamp": "input",
    "hard_sigmoid": "output",
    "hard_swish": "input",
    "exp": "output",
    "log": "input",
    "abs": "input",
    "sigmoid_gelu": "input",
    "sin": "input",
    "cos": "input",
    "tan": "output",
    "leaky_relu": "output",
    "elu": "output",
}
"""Whether the backward pass of each function reads its output or its input."""

_FORWARD = parse_parameters("x: Vector, a: float, b: float, y: Vector")
_BACKWARD = parse_parameters(
    "saved: Vector, a: float, b: float, dy: Vector, dx: Vector"
)


def curve_kernels(name: str) -> tuple[KernelName, KernelName]:
    """Return the names of the forward and the backward kernel of a function."""
    return (
        KernelName("curves", "forward", _FORWARD, (name,)),
        KernelName("curves", "backward", _BACKWARD, (name,)),
    )
