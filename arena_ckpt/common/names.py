"""Names of tensors and of their roles, made and taken apart here and nowhere else.

A *role* says what a tensor is to one step of a layer. The *name* of a tensor is the
layer that owns it, a colon, and its role there. A colon stands neither in the name of a
layer nor in that of a layer's own tensor, so each name has one reading:

=======================  ==================  =========================================
name                     role                tensor
=======================  ==================  =========================================
fc1:out0                 out0, or in0 …      output 0 of fc1, which another layer reads
fc1:out0:grad            out0:grad           derivative of the loss by that output
fc2:in0:grad             in0:grad            the share of it that fc2 makes by itself
fc1:out0:grad            in0:grad:total      what fc2 adds its share to
fc1:weight               weight              a weight, or another tensor of fc1's own
fc1:weight:grad          weight:grad         its gradient
fc1:weight:m             weight:m            the state ``m`` that an optimizer keeps
fc1:gradient_tile        gradient_tile       some rows of a gradient, made at the update
fc1:out0:discarded       out0                a result of a recompute that nobody reads
mse:label                label               what a loss compares the prediction with
model:control                                scalars that change from step to step
=======================  ==================  =========================================

A role is more than a prefix: ``outer`` is a tensor of a layer's own, and no output.
"""

from __future__ import annotations

import re

LABEL = "label"
"""Role of what a loss compares the prediction with."""

TILE = "gradient_tile"
"""Role of the workspace that holds some rows of a gradient during an update."""

CONTROL = "model:control"
"""Name of the float64 scalars that change from step to step (see `Control`)."""

NOT_IN_NAMES = ":/#"
"""Characters that no tensor of a layer's own has in its name.

A colon ends a part of a name, a slash the name of a layer whose part stands behind it,
and a ``#`` stands before the number of a live range.
"""

_NUMBERED = re.compile(r"(in|out)(\d+)")
_GRADIENT, _TOTAL, _DISCARDED = "grad", "total", "discarded"


# -- roles -----------------------------------------------------------------------------


def input_role(index: int) -> str:
    """Return the role of an input: ``"in0"``."""
    return f"in{index}"


def output_role(index: int) -> str:
    """Return the role of an output: ``"out0"``."""
    return f"out{index}"


def input_index(role: str) -> int | None:
    """Return the number of the input that a role stands for, else None."""
    return _index(role, "in")


def output_index(role: str) -> int | None:
    """Return the number of the output that a role stands for, else None.

    The role of an output's derivative, ``"out0:grad"``, is another one.
    """
    return _index(role, "out")


def is_own_name(name: object) -> bool:
    """Tell whether a text can be part of a name, as a layer's own tensors have one."""
    is_text = isinstance(name, str) and name.isprintable() and name != ""
    return is_text and not {*str(name)} & {*NOT_IN_NAMES}


def is_reserved(role: str) -> bool:
    """Tell whether a role is that of an input, output, label or tile of any layer."""
    return bool(_NUMBERED.fullmatch(role)) or role in (LABEL, TILE)


def total_of(role: str) -> str:
    """Return the role of the sum that the share of a derivative is added to."""
    return _part(role, _TOTAL)


def share_of(role: str) -> str | None:
    """Return the role of the share that is added to a sum; None for other roles."""
    share, last = split_last(role)
    return share if share and last == _TOTAL else None


# -- tensors ---------------------------------------------------------------------------


def tensor_name(layer: str, role: str) -> str:
    """Return the name of the tensor that a layer owns in a role: ``"fc1:out0"``."""
    return _part(layer, role)


def layer_of(tensor: str) -> str:
    """Return the layer that a tensor is named after."""
    return tensor.partition(":")[0]


def role_of(tensor: str) -> str:
    """Return the role of a tensor in the layer that it is named after."""
    return tensor.partition(":")[2]


# -- both ------------------------------------------------------------------------------


def gradient_of(whole: str) -> str:
    """Return the gradient or derivative of a tensor, or the role of that of a role."""
    return _part(whole, _GRADIENT)


def state_of(weight: str, state: str) -> str:
    """Return what an optimizer keeps for a weight, or the role of that of its role."""
    return _part(weight, state)


def discarded(whole: str) -> str:
    """Return the name of a result of a recompute that nobody reads."""
    return _part(whole, _DISCARDED)


def weight_of(part: str) -> str:
    """Return the weight that a gradient or a state of an optimizer belongs to."""
    return split_last(part)[0]


def split_first(name: str) -> tuple[str, str]:
    """Split behind the first part: ``"in0"`` and ``"grad:total"``, or ``""``."""
    first, _, others = name.partition(":")
    return first, others


def split_last(name: str) -> tuple[str, str]:
    """Split before the last part: ``"fc1:weight"`` and ``"grad"``; the first or ``""``.

    A name of one part has nothing before it.
    """
    others, _, last = name.rpartition(":")
    return others, last


def _part(whole: str, part: str) -> str:
    return f"{whole}:{part}"


def _index(role: str, kind: str) -> int | None:
    match = _NUMBERED.fullmatch(role)
    return int(match[2]) if match and match[1] == kind else None
