"""What standardizes samples in an exported program: statistics, and the calls."""

from __future__ import annotations

import math
from collections.abc import Mapping

from arena_ckpt.c_export.literals import float_rows
from arena_ckpt.c_export.templates_of import filled
from arena_ckpt.data.standardization import CHANNEL, Standardization
from arena_ckpt.layers.spec import Shape

HELP = (
    "\n * They are raw: each step and prediction standardizes them there, by the "
    "statistics of\n * the training data."
)
"""What the header says of inputs that are standardized."""


def standardize_code(
    standardization: Standardization,
    inputs: Mapping[str, tuple[str, Shape]],
) -> str:
    """Return C with the statistics of inputs and ``standardize_inputs``.

    Parameters
    ----------
    standardization : Standardization
    inputs : mapping from str to (str, Shape)
        For each input layer a pointer to its samples in C, and the shape of one.
    """
    arrays = []
    lines = [
        "/* Standardizes the samples, which were raw. */",
        "static void standardize_inputs(int32_t n)",
        "{",
    ]
    for row, (name, (at, shape)) in enumerate(inputs.items()):
        one = standardization.inputs.get(name)
        if one is None:
            continue
        mean, factor = one.by_feature()
        for word, values in (("mean", mean), ("factor", factor)):
            arrays += [
                f"static const float input{row}_{word}[{len(values)}] = {{",
                *float_rows(values),
                "};",
                "",
            ]
        run = math.prod(shape[1:]) if one.axis == CHANNEL else 1
        lines += [
            f"    standardize({at}, n * {math.prod(shape)}, input{row}_mean,",
            f"        input{row}_factor, {len(mean)}, {run});",
        ]
    return filled("standardize.c") + "\n".join(["", *arrays, *lines, "}", ""])
