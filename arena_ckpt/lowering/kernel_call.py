"""One kernel call: what any engine runs."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    """

    step: int
    kernel: KernelName
    operands: tuple[Operand, ...]
