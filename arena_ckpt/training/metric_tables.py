"""Metrics of the epochs of a training as one array of numbers, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from arena_ckpt.training.records import EpochRecord

_ABSENT, _MADE, _ASKED = 0.0, 1.0, 2.0
"""Whether an epoch has a metric, and whether that was asked for."""


def metric_names(records: Sequence[EpochRecord]) -> tuple[str, ...]:
    """Return the names of the metrics that any epoch has, in the order of their use."""
    found = [of.metrics for record in records if (of := record.validation)]
    return tuple(dict.fromkeys(name for metrics in found for name in metrics))


def to_metric_table(records: Sequence[EpochRecord]) -> npt.NDArray[np.float64]:
    """Return the metrics of epochs, shape (epochs, names, 2).

    Beside the value of each stands whether it is absent, made, or was asked for.
    """
    names = metric_names(records)
    table = np.zeros((len(records), len(names), 2))
    for row, record in zip(table, records, strict=True):
        if (of := record.validation) is None:
            continue
        for place, name in enumerate(names):
            if name in of.metrics:
                state = _ASKED if name in of.asked else _MADE
                row[place] = of.metrics[name], state
    return table


def with_metrics(
    records: tuple[EpochRecord, ...],
    names: Sequence[str],
    table: npt.NDArray[Any] | None,
) -> tuple[EpochRecord, ...]:
    """Return records with the metrics that `to_metric_table` made a table of.

    Raises
    ------
    ValueError
        It is no such table of these epochs and names.
    """
    if table is None and not names:
        return records
    shape = (len(records), len(names), 2)
    if table is None or table.dtype != np.float64 or table.shape != shape:
        found = "none" if table is None else f"{table.dtype} of shape {table.shape}"
        raise ValueError(f"its metrics are {found}, and it names {len(names)}")
    with_them = []
    for record, row in zip(records, table.tolist(), strict=True):
        values = {
            name: (value, state)
            for name, (value, state) in zip(names, row, strict=True)
            if state != _ABSENT
        }
        if any(state not in (_MADE, _ASKED) for _, state in values.values()):
            raise ValueError(f"its metrics of epoch {record.epoch} are {row}")
        of = record.validation
        if of is None:
            if values:
                raise ValueError(f"epoch {record.epoch} has metrics of no validation")
            with_them.append(record)
            continue
        of = replace(
            of,
            metrics={name: value for name, (value, _) in values.items()},
            asked=tuple(n for n, (_, state) in values.items() if state == _ASKED),
        )
        with_them.append(replace(record, validation=of))
    return tuple(with_them)
