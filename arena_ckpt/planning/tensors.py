"""Tensors of a training iteration: what they are for, how long they live, their uses.

Frozen data that liveness makes and that plan, program and reports read.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from arena_ckpt.common.dtypes import FLOAT64
from arena_ckpt.common.names import output_index
from arena_ckpt.common.phases import Phase, TensorLifespan

CONTROL_DTYPE = FLOAT64
"""Dtype of the control tensor."""


class Control(enum.IntEnum):
    """Places in the control tensor; hyperparameters of the optimizer fill the end."""

    LOSS = 0
    SCALE = 1
    FRACTION = 2
    SQUARE_NORM = 3
    NONFINITE = 4
    ITERATION = 5
    FIRST_SAMPLE = 6
    HYPER = 8
    LENGTH = 16


class TensorKind(enum.StrEnum):
    """What a tensor is for: the colours of every report."""

    WEIGHT = "weight"
    GRADIENT = "gradient"
    OPTIMIZER_STATE = "optimizer_state"
    ACTIVATION = "activation"
    RECOMPUTED = "recomputed_activation"
    DERIVATIVE = "derivative"
    WORKSPACE = "workspace"
    DATA = "data"


PERSISTENT = (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE)
"""What lasts from one iteration to the next."""


class Access(enum.StrEnum):
    """What an execution does to a tensor; an update reads and writes."""

    READ = "read"
    WRITE = "write"
    UPDATE = "update"

    @property
    def writes(self) -> bool:
        """Tell whether the tensor changes."""
        return self is not Access.READ


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor in a role of one execution; `tensor` indexes the tensor lives."""

    role: str
    tensor: int
    access: Access

    @property
    def is_output(self) -> bool:
        """It is an output of the layer itself: ``"out0"``, not ``"out0:grad"``."""
        return output_index(self.role) is not None


@dataclass(frozen=True, slots=True)
class Execution:
    """A step at which kernels run."""

    step: int
    phase: Phase
    layer: str
    operands: tuple[Operand, ...]

    def operand(self, role: str) -> Operand | None:
        """Return the operand in a role, or None."""
        return next((o for o in self.operands if o.role == role), None)


@dataclass(frozen=True, slots=True)
class LiveRange:
    """One life of a tensor: from when its bytes are written until their last use.

    Attributes
    ----------
    name : str
        ``"fc1:out0"``; all lives of a tensor have one name.
    life : int
        0 for the first, 1 for the recomputed one.
    kind : TensorKind
    layer : str
        The layer that owns it.
    shape : tuple of int
        Elements along each axis, the batch first where there is one.
    per_sample : bool
        The samples of a pass stand in front.
    dtype : str
        One of `arena_ckpt.common.dtypes.DTYPES`.
    size_bytes : int
    start, stop : int
        Steps, half-open.
    lifespan : TensorLifespan
        The phases in which it is touched.
    """

    name: str
    life: int
    kind: TensorKind
    layer: str
    shape: tuple[int, ...]
    per_sample: bool
    dtype: str
    size_bytes: int
    start: int
    stop: int
    lifespan: TensorLifespan
