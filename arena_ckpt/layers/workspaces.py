"""The workspaces of convolutions: padded pictures, and tables of offsets."""

from __future__ import annotations

from typing import Any

from arena_ckpt.common.arithmetics import FAST, PORTABLE
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.layers.base import Binding
from arena_ckpt.layers.spec import TensorSpec
from arena_ckpt.operations.convolution import Workspace


def workspace_specs(
    forward: Workspace, gradient: Workspace, derivative: Workspace
) -> tuple[TensorSpec, ...]:
    """Return the workspaces of each phase: padded pictures, and a table of offsets."""
    lifespans = (
        ("forward", forward, TensorLifespan.FORWARD),
        ("gradient", gradient, TensorLifespan.CALC_GRADIENT),
        ("derivative", derivative, TensorLifespan.CALC_DERIVATIVE),
    )
    return tuple(
        TensorSpec(
            f"{phase}_{name}",
            (elems,),
            lifespan,
            per_sample=False,
            dtype=dtype,
            arithmetic=FAST,
            per_thread=True,
        )
        for phase, needed, lifespan in lifespans
        for name, elems, dtype in (
            ("pictures", needed.elems, "float32"),
            ("offsets", needed.table_elems, "int32"),
        )
    )


def workspace_of(tensors: Binding, phase: str) -> tuple[Any, ...]:
    """Return the workspaces of a phase, if the arithmetic has any.

    The phase is ``"forward"``, ``"gradient"`` or ``"derivative"``.
    """
    if tensors.arithmetic == PORTABLE:
        return ()
    return tensors.vector(f"{phase}_pictures"), tensors.indexes(f"{phase}_offsets")
