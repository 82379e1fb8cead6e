"""Low-rank adaptation: a frozen layer and a product of two narrow ones beside it.

With ``lora_rank=r`` a layer is replaced by parts: the layer itself, frozen, under its
own name, so that its weights lie in `constants`; ``NAME/lora_a`` of width r and
``NAME/lora_b`` behind it, which are trained; and the sum. As b starts from zeros, the
whole starts from the frozen layer.

References
----------
Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena_ckpt.common.properties import POSITIVE_INT, POSITIVE_REAL, Property
from arena_ckpt.layers.arithmetic import Addition, Multiply
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.partial import refuse_part

LORA_PROPERTIES: tuple[Property, ...] = (
    Property(
        "lora_rank",
        POSITIVE_INT,
        None,
        "width of the trained low-rank product beside the weight, which is frozen",
    ),
    Property(
        "lora_alpha", POSITIVE_REAL, 1.0, "the product counts lora_alpha / lora_rank"
    ),
)
"""Properties of layers that `with_lora` can expand."""

PART_A, PART_B = "lora_a", "lora_b"
"""Last parts of the names of the two trained layers."""


def lora_scale(layer: Layer) -> float:
    """Return the factor of the low-rank product of a layer."""
    return float(layer["lora_alpha"] / layer["lora_rank"])


def check_rank(layer: Layer, sizes: tuple[int, int], weight: str = "weight") -> None:
    """Refuse a rank that a weight of these inputs and outputs cannot have.

    Raises
    ------
    ShapeMismatchError
        The rank is larger than the inputs or the outputs.
    """
    rank = layer["lora_rank"]
    if rank > min(sizes):
        raise layer.mismatch(
            f"has lora_rank={rank} and a {weight} of {sizes[0]} inputs and {sizes[1]} "
            f"outputs, whose rank is {min(sizes)} at most; set lora_rank to a fraction "
            "of that",
            lora_rank=rank,
            width=min(sizes),
        )


def with_lora(
    layer: Layer,
    sizes: tuple[int, int],
    narrow: Mapping[str, Any],
    wide: Mapping[str, Any],
) -> tuple[Layer, ...]:
    """Return the parts of a layer with ``lora_rank``, in forward order.

    Parameters
    ----------
    layer : Layer
        Frozen in its part.
    sizes : (int, int)
        Its inputs and outputs.
    narrow, wide : dict
        Properties of the layers of the same type from the inputs to the rank, and from
        the rank to the outputs, beside those of their weights.

    Raises
    ------
    ShapeMismatchError
        The rank is larger than the inputs or the outputs.
    """
    check_rank(layer, sizes)
    refuse_part(layer, "lora_rank, which freezes the weights of the layer")
    name = layer.name
    kind, source = type(layer), layer["input_layers"]
    trained = {
        "trainable": layer.is_trainable,
        "disable_bias": True,
        "weight_decay": layer["weight_decay"],
    }
    base = {k: v for k, v in layer.given.items() if not k.startswith("lora_")}
    base |= {"trainable": False, "activation": "none"}
    a, b, scaled = (f"{name}/{part}" for part in (PART_A, PART_B, "lora_scaled"))
    return (
        kind(base),
        kind(
            {
                **narrow,
                **trained,
                **{"name": a, "input_layers": source},
                "weight_initializer": "lecun_uniform",
            }
        ),
        Multiply({"name": scaled, "input_layers": (a,), "value": lora_scale(layer)}),
        kind(
            {
                **wide,
                **trained,
                **{"name": b, "input_layers": (scaled,)},
                "weight_initializer": "zeros",
            }
        ),
        Addition(
            {
                "name": f"{name}/lora_sum",
                "input_layers": (f"={name}", b),
                "activation": layer["activation"],
            }
        ),
    )
