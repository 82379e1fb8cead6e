"""Lets layers read tables, which have no axis of samples: weights and constants.

A table is a weight that stands alone. What reads it finds the weight itself, so there
is no copy of it for each sample, and its derivative is the sum over the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from arena_ckpt.common.names import gradient_of, input_role
from arena_ckpt.errors import ShapeMismatchError
from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.spec import LayerSpec


def with_tables(layer: Layer, spec: LayerSpec, is_table: Sequence[bool]) -> LayerSpec:
    """Return the spec of a layer of which some inputs are tables.

    A table has another size than a batch, and is never overwritten: what the layer
    offers to do in place with it falls away.

    Parameters
    ----------
    layer : Layer
    spec : LayerSpec
        What the layer needs if all inputs have samples.
    is_table : sequence of bool
        For each input whether it is a table.

    Raises
    ------
    ShapeMismatchError
        The layer cannot read a table there.
    """
    tables = [index for index, found in enumerate(is_table) if found]
    if layer.repeats_table and not tables:
        raise layer.mismatch(
            "repeats a weight or constant for every sample, and its input has samples "
            "already; leave the layer out"
        )
    if not tables or layer.is_alias:
        return spec
    refused = [index for index in tables if index not in spec.table_inputs]
    if refused or (len(tables) == len(is_table) and not layer.repeats_table):
        raise _refusal(layer, spec, refused or tables)
    results = {gradient_of(input_role(index)) for index in tables}
    operands = {input_role(index) for index in tables}
    offers = tuple(
        replace(offer, operands=tuple(o for o in offer.operands if o not in operands))
        for offer in spec.in_place
        if offer.result not in results
    )
    return replace(spec, in_place=offers)


def _refusal(layer: Layer, spec: LayerSpec, refused: list[int]) -> ShapeMismatchError:
    names = layer["input_layers"] or ()
    name = names[refused[0]].partition("/generated_out_")[0]
    if spec.table_inputs:
        allowed = ", ".join(input_role(index) for index in sorted(spec.table_inputs))
        advice = (
            f"it takes one as {allowed}, and beside it an input with samples: change "
            "the order in input_layers, or put expand between"
        )
    else:
        advice = (
            "add, subtract, multiply, divide, maximum, minimum and concat read one "
            "beside an input with samples, matmul as its second input; put one of "
            "these between, or expand, which repeats it for every sample"
        )
    return layer.mismatch(
        f"reads {name!r} as {input_role(refused[0])}, a weight or constant without an "
        f"axis of samples; {advice}",
        table=name,
    )
