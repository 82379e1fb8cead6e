"""Tensors of a training iteration: their kinds, live ranges and uses.

The data are frozen: `live_ranges` makes them, and plans, engines and reports read them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from arena_ckpt.common.dtypes import FLOAT64
from arena_ckpt.common.names import output_index
from arena_ckpt.common.phases import Phase, TensorLifespan
from arena_ckpt.common.short_repr import brief_repr

CONTROL_DTYPE = FLOAT64
"""Dtype of the control tensor."""


class Control(enum.IntEnum):
    """Places in the control tensor, the optimizer's hyperparameters last."""

    LOSS = 0
    SCALE = 1
    FRACTION = 2
    SQUARE_NORM = 3
    NONFINITE = 4
    ITERATION = 5
    FIRST_SAMPLE = 6
    LEARNING_RATE = 7
    HYPER = 8
    LENGTH = 16


class TensorKind(enum.StrEnum):
    """What a tensor is for; each kind has a colour in reports."""

    WEIGHT = "weight"
    GRADIENT = "gradient"
    OPTIMIZER_STATE = "optimizer_state"
    ACTIVATION = "activation"
    RECOMPUTED = "recomputed_activation"
    DERIVATIVE = "derivative"
    WORKSPACE = "workspace"
    DATA = "data"


PERSISTENT = (TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE)
"""Kinds of tensors that last from one iteration to the next."""


class Access(enum.StrEnum):
    """Whether an execution reads or writes a tensor, or both, as an update does."""

    READ = "read"
    WRITE = "write"
    UPDATE = "update"

    @property
    def writes(self) -> bool:
        """Whether the tensor changes."""
        return self is not Access.READ


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor in a role of one execution; `tensor` is an index of live ranges."""

    role: str
    tensor: int
    access: Access

    __repr__ = brief_repr

    @property
    def is_output(self) -> bool:
        """Whether it is an output of the layer: ``"out0"``, not ``"out0:grad"``."""
        return output_index(self.role) is not None


@dataclass(frozen=True, slots=True)
class Execution:
    """The kernels of one step and the tensors that they use."""

    step: int
    phase: Phase
    layer: str
    operands: tuple[Operand, ...]

    __repr__ = brief_repr

    def operand(self, role: str) -> Operand | None:
        """Return the operand in a role, or None where the role is empty."""
        return next((o for o in self.operands if o.role == role), None)


@dataclass(frozen=True, slots=True)
class LiveRange:
    """A range of steps from when a tensor is written until it is last used.

    Attributes
    ----------
    name : str
        ``"fc1:out0"``; all live ranges of a tensor have one name.
    life : int
        Number of the live range: 0 for the first, 1 after a recompute, and so on.
    kind : TensorKind
    layer : str
        The layer that owns the tensor.
    shape : tuple of int
        Number of elements along each axis.
    per_sample : bool
        Whether the first axis is that of the samples of a pass.
    dtype : str
        One of `arena_ckpt.common.dtypes.DTYPES`.
    size_bytes : int
    start, stop : int
        Steps, half-open.
    lifespan : TensorLifespan
        The phases in which a step uses the tensor.
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

    __repr__ = brief_repr
