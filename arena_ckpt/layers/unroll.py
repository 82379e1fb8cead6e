"""Unrolling: replaces a recurrent layer by one cell for each step.

The parts of a layer are ``NAME/x``, which splits the sequence into steps; the cells
``NAME/t0``, ``NAME/t1`` and so on, which share the weights of the first; and, where all
steps are returned, ``NAME/sequence``, which joins them. The other direction of a
bidirectional layer has cells ``NAME/r0``, …, of which the one of the last step is the
first to run, and has the weights; ``NAME/both`` joins the directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from arena_ckpt.layers.base import Layer
from arena_ckpt.layers.rearrange import Concat, Split

_HEIGHT, _WIDTH = 2, 3


def unrolled(layer: Layer, cell: type[Layer], steps: int) -> tuple[Layer, ...]:
    """Return the layers that a recurrent layer is replaced by, in forward order.

    Parameters
    ----------
    layer : Layer
        Recurrent layer with the properties of `cell`, ``input_layers`` and
        ``return_sequences``.
    cell : type of Layer
        Class of one step; its inputs are the step, the hidden state, and the cell state
        where it has one.
    steps : int
        Number of steps of the sequence.
    """
    (source,) = layer["input_layers"]
    if steps > 1:
        parts: list[Layer] = [_part(Split, layer, "x", [source], axis=_HEIGHT)]
        inputs = [
            f"{layer.name}/x({t})" if t else f"{layer.name}/x" for t in range(steps)
        ]
    else:
        parts, inputs = [], [source]
    ends = []
    directions = {"t": range(steps)}
    if layer.get("bidirectional"):
        directions["r"] = range(steps - 1, -1, -1)
    for letter, times in directions.items():
        if not layer["return_sequences"]:
            # Only the last step is wanted, which ends or begins a direction.
            times = times[: times.index(steps - 1) + 1]
        cells = list(_cells(layer, cell, letter, times, inputs))
        parts += cells
        if layer["return_sequences"] and steps > 1:
            names = [f"{layer.name}/{letter}{t}" for t in range(steps)]
            suffix = "sequence" if letter == "t" else "reverse_sequence"
            parts.append(_part(Concat, layer, suffix, names, axis=_HEIGHT))
        ends.append(parts[-1].name)
    if len(ends) > 1:
        parts.append(_part(Concat, layer, "both", ends, axis=_WIDTH))
    return tuple(parts)


def _cells(
    layer: Layer, cell: type[Layer], letter: str, times: range, inputs: list[str]
) -> Iterator[Layer]:
    """Yield the cells of one direction, in the order in which they run.

    Parameters
    ----------
    layer, cell
        See `unrolled`.
    letter : str
        First letter of the names of the cells: ``"t"``, or ``"r"`` for reverse.
    times : range
        Steps in the order in which the direction passes them.
    inputs : list of str
        For each step the output that holds it, as ``input_layers`` names it.
    """
    known = {p.name for p in cell.properties} - {"name", "input_layers", "input_shape"}
    given = {name: value for name, value in layer.given.items() if name in known}
    has_cell_state = "return_cell_state" in known
    for t in times:
        name, sources = f"{layer.name}/{letter}{t}", [inputs[t]]
        values = dict(given)
        if t != times[0]:
            before = f"{layer.name}/{letter}{t - times.step}"
            sources += [before, f"{before}(1)"][: 1 + has_cell_state]
            values["shared_from"] = f"{layer.name}/{letter}{times[0]}"
        if has_cell_state:
            values["return_cell_state"] = t != times[-1]
        yield cell({**values, "name": name, "input_layers": tuple(sources)})


def _part(
    kind: type[Layer], layer: Layer, suffix: str, sources: list[str], **values: Any
) -> Layer:
    """Return a part of a layer, named ``LAYER/suffix``."""
    name = f"{layer.name}/{suffix}"
    return kind({**values, "name": name, "input_layers": tuple(sources)})
