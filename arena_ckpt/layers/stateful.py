"""Recurrent layers whose states go on from batch to batch.

The last states of a training step are kept as weights that are not trained, as moving
statistics are, a row for each sample of a batch; the next step begins with them. No
gradient goes from one batch to the one before. A prediction begins with zeros and
changes nothing.
"""

from __future__ import annotations

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import POSITIVE_INT, Property
from arena_ckpt.layers.base import Binding, Call, Layer
from arena_ckpt.layers.spec import WeightSpec
from arena_ckpt.operations.families import elementwise
from arena_ckpt.operations.regions import Region

STATEFUL = Property(
    "stateful",
    POSITIVE_INT,
    None,
    "samples of a batch whose last states begin the next one; at least batch_size",
)
KEPT = ("kept_hidden_state", "kept_cell_state")
"""Names of the weights that keep the states between batches."""

_LAST = ("step_hidden_state", "step_cell_state")
_KEEPS = TensorLifespan.FORWARD | TensorLifespan.CALC_GRADIENT


def check_stateful(layer: Layer, *, has_lengths: bool) -> None:
    """Refuse a layer that keeps states with what that cannot go together with.

    Raises
    ------
    ShapeMismatchError
    """
    problems = {
        "bidirectional=true, whose second direction begins at the end": layer.get(
            "bidirectional"
        ),
        "unroll=true": layer.get("unroll"),
        "lengths as its second input": has_lengths,
        "shared_from, so that two layers would have the same states": layer.get(
            "shared_from"
        ),
        "trainable=false, and states change in training alone": not layer.is_trainable,
    }
    found = [text for text, is_there in problems.items() if is_there]
    if layer.get("stateful") and found:
        raise layer.mismatch(
            f"has stateful={layer['stateful']} and {found[0]}; leave one of them out",
            stateful=layer["stateful"],
        )


def kept_states(layer: Layer, n_states: int) -> list[WeightSpec]:
    """Return the weights that keep the states, where the layer is stateful."""
    rows = layer.get("stateful")
    return [
        WeightSpec(name, (rows, layer["unit"]), "zeros", 1, 1, _KEEPS, is_trained=False)
        for name in KEPT[: n_states if rows else 0]
    ]


def lasts(layer: Layer) -> TensorLifespan:
    """Return the phases in which the states behind the last step are there."""
    return _KEEPS if layer.get("stateful") else TensorLifespan.FORWARD


def continues(layer: Layer, tensors: Binding) -> bool:
    """Return whether a pass begins with the states that were kept."""
    return bool(layer.get("stateful")) and tensors.training


def kept_state(layer: Layer, tensors: Binding, index: int) -> Region:
    """Return the rows of a kept state, of number 0 or 1, that a pass begins with."""
    return tensors.vector(KEPT[index])[: tensors.n_samples * layer["unit"]]


def keep_states(layer: Layer, tensors: Binding, n_states: int) -> list[Call]:
    """Return the calls that keep the last states of a training step."""
    if not continues(layer, tensors) or not tensors.updates_state:
        return []
    return [
        Call(
            elementwise.copy,
            (tensors.vector(_LAST[index]), kept_state(layer, tensors, index)),
        )
        for index in range(n_states)
    ]
