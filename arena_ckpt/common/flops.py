"""How much arithmetic a layer does, as its layer states and its plan keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from arena_ckpt.common.arguments import public_call


@public_call
@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations for one sample; a multiply-add counts two.

    `output` is the part of the forward pass that only makes the outputs: a recompute
    of what is saved for the backward pass leaves it out.
    """

    forward: int = 0
    calc_gradient: int = 0
    calc_derivative: int = 0
    output: int = 0
