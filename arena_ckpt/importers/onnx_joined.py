"""Weights that a file joins out of several initializers before they are read.

PyTorch writes the weights of its recurrent layers as gates that are cut out of one
initializer and joined in another order, and the biases as two initializers behind one
another. A `JoinedTable` remembers where each element comes from, so that a part of it
that comes from one initializer is a `Table` again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from arena_ckpt.definition.weight_links import Step, run_steps
from arena_ckpt.importers.foreign_values import Array, Table


@dataclass(frozen=True, slots=True)
class JoinedTable(Table):
    """Elements of several initializers, or of one in another order.

    Attributes
    ----------
    wholes : tuple of Table
        The initializers.
    owners : array
        For each element the number of the initializer that it comes from.
    places : array
        For each element its place there, row by row.
    """

    wholes: tuple[Table, ...] = ()
    owners: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    places: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def _after(self, kind: str, *numbers: int) -> Table:
        step = Step(kind, tuple(int(number) for number in numbers))
        return replace(
            self,
            array=step(self.array),
            owners=step(self.owners),
            places=step(self.places),
        )


def joined(tables: Sequence[Table], axis: int) -> Table:
    """Return tables behind one another along an axis."""
    parts = [_spread(table) for table in tables]
    wholes: dict[str, Table] = {}
    for part in parts:
        wholes.update({whole.name: whole for whole in part.wholes})
    numbers = {name: i for i, name in enumerate(wholes)}
    owners = [
        np.array([numbers[whole.name] for whole in part.wholes])[part.owners]
        for part in parts
    ]
    return plain(
        JoinedTable(
            name=", ".join(wholes),
            whole_shape=(),
            array=np.concatenate([part.array for part in parts], axis),
            is_trained=any(part.is_trained for part in parts),
            wholes=tuple(wholes.values()),
            owners=np.concatenate(owners, axis),
            places=np.concatenate([part.places for part in parts], axis),
        )
    )


def _spread(table: Table) -> JoinedTable:
    if isinstance(table, JoinedTable):
        return table
    size = int(np.prod(table.whole_shape, dtype=np.int64))
    places = run_steps(table.steps, np.arange(size).reshape(table.whole_shape))
    # Of the whole only its name and shape are asked for again.
    whole = Table.of(table.name, _whole_of(table, places), is_trained=table.is_trained)
    return JoinedTable(
        name=table.name,
        whole_shape=(),
        array=table.array,
        is_trained=table.is_trained,
        wholes=(whole,),
        owners=np.zeros(table.array.shape, np.int64),
        places=places,
    )


def _whole_of(table: Table, places: Array) -> Array:
    whole = np.zeros(table.whole_shape, table.array.dtype)
    whole.reshape(-1)[places.reshape(-1)] = table.array.reshape(-1)
    return whole


def plain(table: Table) -> Table:
    """Return a joined table as a part of the one initializer that it comes from.

    What comes from several is returned as it is.
    """
    if not isinstance(table, JoinedTable) or not table.owners.size:
        return table
    owner = int(table.owners.flat[0])
    if np.any(table.owners != owner):
        return table
    whole = table.wholes[owner]
    shape, flat = table.array.shape, table.places.reshape(-1)
    row = int(np.prod(whole.whole_shape[1:], dtype=np.int64))
    if row > 0 and flat.size % row == 0:
        rows = flat.reshape(-1, row)
        if np.array_equal(rows, rows[:, :1] + np.arange(row)) and not np.any(
            rows[:, 0] % row
        ):
            found = whole.taken(0, rows[:, 0] // row).reshaped(shape)
            return replace(found, array=table.array)
    found = whole.reshaped((whole.array.size,)).taken(0, flat).reshaped(shape)
    return replace(found, array=table.array)
