"""One kernel call: what any engine runs."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arena_ckpt.common.short_repr import short_repr
from arena_ckpt.operations.kernel_names import KernelName
from arena_ckpt.operations.regions import Region

Operand = Region | int | float | npt.NDArray[np.generic]
"""A region, a number, or an array that an own layer keeps beside all memories."""


class Mode(enum.Enum):
    """What kernel calls are run for."""

    TRAIN = "train"
    GRADIENTS = "gradients"
    """As in training, but nothing that lasts is changed."""

    PREDICT = "predict"
    """Forward only, without dropout, by the statistics of the training."""


@dataclass(frozen=True, slots=True)
class KernelCall:
    """A kernel with its operands, at a step of the plan.

    Attributes
    ----------
    step : int
    kernel : KernelName
    operands : tuple
        One for each parameter of the kernel.
    beside : int
        How many calls, from this one on, may run side by side: none writes what another
        one reads or writes. 1 in all but the first of such a group.
    """

    step: int
    kernel: KernelName
    operands: tuple[Operand, ...]
    beside: int = 1

    def __repr__(self) -> str:
        name = str(self.kernel).removeprefix("<kernel ").partition("(")[0]
        operands = ", ".join(_operand_text(operand) for operand in self.operands)
        return short_repr(self, f"step {self.step}", f"{name}({operands})")


def _operand_text(operand: Operand) -> str:
    """Return where an operand lies and its shape, or the number that it is."""
    if isinstance(operand, Region):
        shape = "×".join(map(str, operand.shape))
        return f"{operand.memory}+{operand.offset_bytes} {operand.dtype} {shape}"
    if isinstance(operand, np.ndarray):
        return f"an array {operand.shape}"
    return str(operand)
