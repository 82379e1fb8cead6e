"""The second input of a loss: a weight for each sample.

Each term of a sample counts as much as its weight; the mean is over the same number of
terms as without. The calls of a loss are named sample by sample then, each with a scale
of its own, so every loss can be weighted and none needs to know of it.
"""

from __future__ import annotations

from dataclasses import replace

from arena_ckpt.common.dtypes import FLOAT64
from arena_ckpt.common.phases import TensorLifespan
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.spec import LayerSpec, Shape, TensorSpec, format_shape

LOSS_SCALES, DERIVATIVE_SCALES = "sample_scales", "sample_derivative_scales"
"""Roles of the scale of each sample, for the terms and for their derivatives."""


def with_sample_weights(layer: Layer, spec: LayerSpec, shape: Shape) -> LayerSpec:
    """Return the spec of a loss that also reads a weight for each sample.

    Parameters
    ----------
    layer : Layer
        The loss.
    spec : LayerSpec
        What it needs without weights.
    shape : Shape
        Of the weight of one sample.

    Raises
    ------
    ShapeMismatchError
        It is no single number.
    """
    if shape != (1, 1, 1):
        raise layer.mismatch(
            f"its second input is a weight for each sample, 1:1:1, and has the shape "
            f"{format_shape(shape)}; give an input layer with input_shape=1:1:1, or "
            "name one input only",
            shape=shape,
        )
    of_input = spec.input_lifespan
    first = of_input[0] if isinstance(of_input, tuple) else of_input
    saved = TensorLifespan.FORWARD | TensorLifespan.CALC_DERIVATIVE
    return replace(
        spec,
        input_lifespan=(first, TensorLifespan.FORWARD),
        fixed_inputs=spec.fixed_inputs | {1},
        tensors=(
            *spec.tensors,
            TensorSpec(LOSS_SCALES, (1,), TensorLifespan.FORWARD, dtype=FLOAT64),
            TensorSpec(DERIVATIVE_SCALES, (1,), saved, dtype=FLOAT64),
        ),
    )
