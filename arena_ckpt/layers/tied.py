"""A bias of its own beside a weight that belongs to another layer.

Layers that share weights share all of them. A layer that uses the transposed weight of
another and adds a bias is therefore replaced by parts: the layer itself without a bias,
under its own name; the weight ``NAME/bias``; and the sum.
"""

from __future__ import annotations

from arena_ckpt.layers.arithmetic import Add
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.lone_weights import Weight
from arena_ckpt.layers.partial import refuse_part


def with_own_bias(layer: Layer, unit: int) -> tuple[Layer, ...]:
    """Return the parts of a layer with a bias of its own, in forward order.

    Parameters
    ----------
    layer : Layer
    unit : int
        Number of elements of the bias.
    """
    refuse_part(layer, "transpose=true, which takes the weight of another layer")
    name, bias = layer.name, f"{layer.name}/bias"
    base = {k: v for k, v in layer.given.items() if not k.startswith("bias")}
    return (
        type(layer)({**base, "disable_bias": True, "activation": "none"}),
        Weight(
            {
                **{"name": bias, "dim": (1, 1, unit)},
                "weight_initializer": layer["bias_initializer"],
                "weight_decay": layer["bias_decay"],
                "learning_rate_scale": layer["learning_rate_scale"],
                "trainable": layer.is_trainable,
            }
        ),
        Add(
            {
                "name": f"{name}/bias_sum",
                "input_layers": (f"={name}", bias),
                "activation": layer["activation"],
            }
        ),
    )
