"""Which weights of a layer are trained: all, the biases, those that are named, none.

A weight that is left out is a frozen one: no gradient, no optimizer state, no update.
What a layer reads in `calc_gradient` follows from `Layer.trains`.
"""

from __future__ import annotations

from dataclasses import replace

from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.common.properties import BOOLEAN, NAMES, Kind, Property
from arena_ckpt.common.wording import nearest, quote
from arena_ckpt.layers.base import BIAS, Layer
from arena_ckpt.layers.spec import LayerSpec

_WORDS: dict[str, bool | str] = {"all": True, "none": False, BIAS: BIAS}


def _parse_trainable(value: object) -> bool | str:
    """Read all, bias or none; true is all and false is none."""
    word = str(value).strip().lower()
    return _WORDS[word] if word in _WORDS else bool(BOOLEAN.parse(value))


def _write_trainable(value: bool | str) -> str:
    return value if isinstance(value, str) else BOOLEAN.write(value)


TRAINABLE = Property(
    "trainable",
    Kind(
        "all (or true), bias or none (or false)",
        _parse_trainable,
        _write_trainable,
    ),
    True,
    "which weights are trained: all (true), bias (what is added) or none (false)",
)
TRAIN = Property(
    "train",
    NAMES,
    None,
    "names of the weights that are trained, in place of trainable: bias",
)


def has_part(layer: Layer) -> bool:
    """Tell whether a layer names a part of its weights, rather than all or none."""
    chosen = layer.get("train")
    return chosen is not None or layer.get("trainable", True) == BIAS


def refuse_part(layer: Layer, why: str) -> None:
    """Refuse a layer that trains a part of its weights, beside what forbids it.

    Raises
    ------
    ShapeMismatchError
    """
    if has_part(layer):
        named = "trainable=bias" if layer.get("train") is None else "train"
        raise layer.mismatch(f"has {named} and {why}; leave one of the two out")


def with_part(layer: Layer, spec: LayerSpec) -> LayerSpec:
    """Return a spec whose weights are frozen where the layer leaves them out.

    Raises
    ------
    ShapeMismatchError
        The layer names a weight that it does not have, has no bias to train, or cannot
        train a part of its weights.
    """
    if not has_part(layer):
        return spec
    given = layer.get("train")
    trainable = [w.name for w in spec.trained_weights]
    whole = quote(trainable) or "none"
    if given is not None and "trainable" in layer.given:
        raise layer.mismatch(
            f"has train={','.join(given)} and trainable="
            f"{_write_trainable(layer['trainable'])}, which both say what is trained; "
            "leave one of the two out",
            train=given,
        )
    for name in given or ():
        if name not in trainable:
            raise layer.mismatch(
                f"has train={','.join(given)}, but no weight {name!r} that can be "
                f"trained{nearest(name, trainable)}; it has {whole}",
                train=given,
                weights=tuple(trainable),
            )
    if not any(layer.trains(name) for name in trainable):
        raise layer.mismatch(
            f"has trainable=bias, but no bias: its weights are {whole}; set "
            "trainable=all or trainable=none, or give it a bias",
            weights=tuple(trainable),
        )
    if all(layer.trains(name) for name in trainable):
        return spec
    if not layer.trains_by_weight:
        raise layer.mismatch(
            "trains all of its weights or none, because one pass backward makes all "
            f"their gradients ({whole}); set trainable=all or trainable=none",
            weights=tuple(trainable),
        )
    weights = tuple(
        replace(w, is_frozen=True, regularizer_constant=0.0)
        if w.is_trained and not layer.trains(w.name)
        else w
        for w in spec.weights
    )
    return replace(spec, weights=weights)


def read_for(layer: Layer, weight: str) -> TensorLifespan:
    """Return the phases that read an input which the gradient of a weight needs."""
    if layer.is_trainable and not layer.trains(weight):
        return TensorLifespan.FORWARD
    return TensorLifespan.FORWARD_GRAD
